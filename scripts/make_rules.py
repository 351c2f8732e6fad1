#!/usr/bin/env python3
"""make_rules.py - data/rules/: sums of three playing cards under two rules, for scripts/sft-vs-rl.sh.

    python scripts/make_rules.py [--out data/rules]

After Chu et al. 2025, "SFT memorizes, RL generalizes": J, Q and K count ten each, or eleven, twelve and thirteen; the prompt says
which. No problem of one file stands in another, under either rule, but in.jsonl and out.jsonl ask the same ones.

    start.jsonl  both rules: the model that both ways begin at learns them, not well
    train.jsonl  the first rule alone: what both ways go on with
    in.jsonl     the first rule, unseen problems
    out.jsonl    the second rule, which no training after the start has
"""
import argparse
import json
import os
import random

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FACES = "JQK"
RULES = {"in": ("10 10 10", (10, 10, 10)), "out": ("11 12 13", (11, 12, 13))}


def record(cards, rule):
    text, faces = RULES[rule]
    value = dict(zip(FACES, faces))
    answer = str(sum(value.get(c, 0) or int(c) for c in cards))
    return {"prompt": f"J Q K: {text}. {' + '.join(cards)} =", "completion": " " + answer, "answer": answer}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(ROOT, "data", "rules"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    draw = random.Random(20)
    symbols = "23456789" + FACES
    problems = [(a, b, c) for a in symbols for b in symbols for c in symbols if any(x in FACES for x in (a, b, c))]
    draw.shuffle(problems)
    take = iter(problems)
    start = [record(next(take), rule) for _ in range(150) for rule in RULES]
    train = [record(next(take), "in") for _ in range(200)]
    unseen = [next(take) for _ in range(200)]
    files = {"start": start, "train": train, **{rule: [record(p, rule) for p in unseen] for rule in RULES}}
    for name, records in files.items():
        with open(os.path.join(out, name + ".jsonl"), "w") as lines:
            lines.writelines(json.dumps(r) + "\n" for r in records)


if __name__ == "__main__":
    main()
