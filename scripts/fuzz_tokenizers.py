#!/usr/bin/env python3
"""Compares ft with the reference tokenizer library on random hard strings.

usage: fuzz_tokenizers.py FT [-n STRINGS] [-s SEED] zoo | random COUNT | regex COUNT | FOLDER …
  zoo     the small tokenizers of tokenizer_zoo.py
  random  random chains of normalizers and pre-tokenizers over a model that shows every split
  regex   random patterns of the language that the own engine covers
  FOLDER  a folder with tokenizer.json
FT is the program `ft`. Exit status 1 when anything differs.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

import tokenizer_zoo as Z

N, P = normalizers, pre_tokenizers


def run(ft, model, lines, *flags):
    text = "".join(json.dumps(x) + "\n" for x in lines)
    r = subprocess.run([ft, "tokenize", "--model", model, "--json", *flags], input=text.encode(), capture_output=True)
    out = r.stdout.decode().split("\n")[:-1]
    if r.returncode != 0 or len(out) != len(lines):
        return None, r.stderr.decode().strip() or "died with %d after %d lines" % (r.returncode, len(out))
    return [json.loads(x) for x in out], None


def compare(ft, name, tokenizer, folder, strings, decode=True):
    reference = [tokenizer.encode(s, add_special_tokens=True).ids for s in strings]
    got, error = run(ft, folder, strings, "--special")
    if error:
        print("%-20s %s" % (name, error[:300]))
        return 1
    bad = [i for i in range(len(strings)) if got[i] != reference[i]]
    n_dec = 0
    if decode:
        ids = [r for r in reference if r]
        rng = random.Random(7)
        vocab = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
        ids += [[rng.choice(vocab) for _ in range(rng.randint(1, 12))] for _ in range(500)]
        want = [tokenizer.decode(x, skip_special_tokens=False) for x in ids]
        back, error = run(ft, folder, ids, "--decode")
        if error:
            print("%-20s decode: %s" % (name, error[:300]))
            return 1
        wrong = [i for i in range(len(ids)) if back[i] != want[i]]
        n_dec = len(wrong)
        for i in wrong[:2]:
            print("   decode", ids[i][:30], repr(back[i])[:200], "reference", repr(want[i])[:200])
    if bad or n_dec:
        print("%-20s %d of %d strings differ, %d decodings" % (name, len(bad), len(strings), n_dec))
    for i in sorted(bad, key=lambda i: len(strings[i]))[:3]:
        print("  ", ascii(strings[i])[:160], "\n     ft       ", str(got[i])[:200], "\n     reference", str(reference[i])[:200])
    return 1 if bad or n_dec else 0


def save(tokenizer, folder):
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))


def random_normalizer(rng):
    kinds = [N.NFC, N.NFD, N.NFKC, N.NFKD, N.Lowercase, N.StripAccents, N.Nmt,
             lambda: N.Strip(rng.random() < 0.7, rng.random() < 0.7), lambda: N.Prepend(rng.choice(["▁", "ab ", " "])),
             lambda: N.Replace(rng.choice([" ", "a", "  ", "\n", "é"]), rng.choice(["▁", "", "xx"])),
             lambda: N.Replace(Regex(rng.choice([" {2,}", r"\s+", "[aeiou]", r"\p{M}", r"\d{2}"])),
                               rng.choice(["▁", "", "-"])),
             lambda: N.BertNormalizer(*(rng.random() < 0.5 for _ in range(4))), lambda: Z.precompiled_cached(rng.choice(["nmt_nfkc", "nmt_nfkc_cf"]))]
    return N.Sequence([rng.choice(kinds)() for _ in range(rng.randint(1, 3))])


def random_pre(rng):
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    regexes = list(Z.REGEXES.values()) + [r"\s+", r"\w+", r"[^\w\s]+", r"\d", r"(?=a)", r"x*", "^", "$", r"\s+$", r"\S+\s?", r"(?m:.)", r"(\p{L})(\p{N})"]
    kinds = [lambda: P.Split(Regex(rng.choice(regexes)), rng.choice(behaviors), rng.random() < 0.2),
             lambda: P.Split(rng.choice([" ", "a", "the", ".", "\n", "ab"]), rng.choice(behaviors), rng.random() < 0.3),
             lambda: P.Digits(rng.random() < 0.5), lambda: P.Punctuation(rng.choice(behaviors)), P.Whitespace, P.WhitespaceSplit,
             lambda: P.Metaspace(rng.choice("▁_é"), rng.choice(["always", "first", "never"]), rng.random() < 0.7),
             lambda: P.CharDelimiterSplit(rng.choice(" ae")), P.BertPreTokenizer, lambda: P.FixedLength(rng.randint(1, 6)),
             lambda: P.UnicodeScripts(), lambda: P.ByteLevel(rng.random() < 0.5, True, rng.random() < 0.5)]
    return [rng.choice(kinds)() for _ in range(rng.randint(1, 3))]


def random_regex(rng, depth=0):
    atoms = ["a", "b", " ", "'", r"\p{L}", r"\p{N}", r"\s", r"\S", r"\d", r"\w", r"\W", ".", r"[^\s\p{L}\p{N}]", "[a-z]", r"[\r\n]", r"[\p{L}\p{M}]",
             r"\p{Lu}", r"\p{Ll}", r"[^\r\n\p{L}\p{N}]", "é", r"\p{P}", r"[\p{P}\p{S}]", "[一-龥]", r"\P{L}", r"[\S\n]", r"\n", "(?i:s)", "(?i:'ll|'k)", r"[a-c[1-3]]", r"\p{^L}"]
    quantifiers = ["", "", "", "", "?", "*", "+", "{1,3}", "{2}", "{2,}", "?+", "++", "*+", "*?", "+?", "??", "{1,3}?"]

    def piece():
        r = rng.random()
        if r < 0.8 or depth > 0:
            return rng.choice(atoms) + rng.choice(quantifiers)
        if r < 0.84:
            return "(?:" + random_regex(rng, depth + 1) + ")" + rng.choice(["", "", "?", "+", "{1,2}", "?+"])
        if r < 0.92:
            return rng.choice(["(?!", "(?="]) + random_regex(rng, depth + 1) + ")"
        if r < 0.96:
            return "(?>" + random_regex(rng, depth + 1) + ")"
        return rng.choice(["^", "$", r"\A", r"\z", r"\Z", r"\b", r"\B"])

    return "|".join("".join(piece() for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(1, 3)))


def main():
    a = argparse.ArgumentParser()
    a.add_argument("ft")
    a.add_argument("-n", type=int, default=3000)
    a.add_argument("-s", type=int, default=1)
    a.add_argument("what", nargs="+")
    args = a.parse_args()
    strings = Z.hard_strings(args.n, args.s)
    bad = total = 0
    with tempfile.TemporaryDirectory() as tmp:
        if args.what[0] == "zoo":
            for name, make in Z.zoo().items():
                if len(args.what) > 1 and name not in args.what[1:]:
                    continue
                t = make()
                save(t, os.path.join(tmp, name))
                bad += compare(args.ft, name, t, os.path.join(tmp, name), strings)
                total += 1
        elif args.what[0] in ("random", "regex"):
            rng = random.Random(args.s)
            for i in range(int(args.what[1])):
                if args.what[0] == "regex":
                    pattern = random_regex(rng)
                    try:
                        t = Z.probe(None, [P.Split(Regex(pattern), "isolated", False)])
                    except Exception:
                        continue
                    name = pattern
                else:
                    normalizer = random_normalizer(rng) if rng.random() < 0.7 else None
                    t = Z.probe(normalizer, random_pre(rng))
                    name = "%d %s %s" % (i, normalizer, t.pre_tokenizer)
                save(t, os.path.join(tmp, "t"))
                try:
                    r = compare(args.ft, name, t, os.path.join(tmp, "t"), strings, False)
                except BaseException as e:  # the reference panics
                    print("reference:", str(e)[:100], name[:200])
                    continue
                bad += r
                total += 1
        else:
            for folder in args.what:
                t = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
                bad += compare(args.ft, folder, t, folder, strings)
                total += 1
    print("%d tokenizers, %d differ" % (total, bad))
    sys.exit(1 if bad else 0)


main()
