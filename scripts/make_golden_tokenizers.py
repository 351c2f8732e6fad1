#!/usr/bin/env python3
"""Writes tests/golden/tokenizers/: small tokenizers of every kind (NAME.json.gz) and what the reference library
makes of hard strings (cases.tsv.gz: name, text in hex, ids with special tokens, decoded text in hex).

usage: make_golden_tokenizers.py [FOLDER]    (needs the packages tokenizers and sentencepiece)
"""
import gzip
import json
import os
import sys

import tokenizer_zoo as Z

STRINGS = 60  # random ones per tokenizer, beside the fixed


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "tests/golden/tokenizers")
    os.makedirs(folder, exist_ok=True)
    all_of_them = {k: v() for k, v in Z.zoo().items()}
    all_of_them.update(Z.spec_cases())
    probes = Z.probes()
    all_of_them.update(probes)
    lines = []
    for i, (name, t) in enumerate(all_of_them.items()):
        text = json.dumps(json.loads(t.to_str()), ensure_ascii=False, separators=(",", ":"))
        with gzip.GzipFile(os.path.join(folder, name + ".json.gz"), "wb", 9, mtime=0) as f:
            f.write(text.encode())
        strings = Z.hard_strings(len(Z.FIXED) + (STRINGS // 3 if name in probes else STRINGS), 100 + i)
        for s in list(dict.fromkeys(strings + (Z.SPEC_TEXTS if name.startswith("spec") else []))):
            try:
                ids = t.encode(s, add_special_tokens=True).ids
            except BaseException as e:  # the library panics on some empty matches
                if "panic" not in type(e).__name__.lower():
                    raise
                continue
            back = t.decode(ids, skip_special_tokens=False) if ids else ""
            lines.append("\t".join([name, s.encode().hex(), " ".join(map(str, ids)), back.encode().hex()]))
    with gzip.GzipFile(os.path.join(folder, "cases.tsv.gz"), "wb", 9, mtime=0) as f:
        f.write(("\n".join(lines) + "\n").encode())
    print(len(all_of_them), "tokenizers", len(lines), "cases")


main()
