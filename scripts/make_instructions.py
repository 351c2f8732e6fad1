#!/usr/bin/env python3
"""make_instructions.py - the instruction set shipped in data/, from hand-written and computed examples.

    python scripts/make_instructions.py [--out data]

Writes
    instructions.jsonl        training examples as messages, some with a system turn, some of several turns
                              (a source has one format, so the other formats stand in files of their own)
    instructions.eval.jsonl   the held-out tail: HELD_OUT examples
    instructions.unseen.jsonl   questions of the kinds trained on, none of them a training example, with the
                              exact answer expected, for the `generate` task of `ft eval`
    alpaca.jsonl, sharegpt.jsonl, completion.jsonl      LINES examples each in one format, for the configs

The hand-written examples stand in scripts/instructions/*.txt: "! " system, "> " user, "< " assistant, a turn
goes on until the next marker, "%%" ends an example. The computed ones come from the tables of
make_instruction_tasks.py; every number in an answer is worked out, none is typed. The order is shuffled
with a fixed seed. Needs the standard library only.
"""
import argparse
import glob
import json
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_instruction_tasks as tasks

HERE = os.path.dirname(os.path.abspath(__file__))
HELD_OUT = 48
LINES = 32
ROLES = {"! ": "system", "> ": "user", "< ": "assistant"}


def parse(path):
    """Hand-written examples as lists of {"role", "content"}."""
    with open(path, encoding="utf-8") as lines:
        blocks = lines.read().rstrip("\n").split("\n%%\n")
    for block in blocks:
        turns = []
        for line in block.split("\n"):
            # Inside an answer a line may begin with "> " (a quotation) only after an escape; none does.
            if line[:2] in ROLES:
                turns.append({"role": ROLES[line[:2]], "content": line[2:]})
            else:
                turns[-1]["content"] += "\n" + line
        users = [turn["role"] for turn in turns if turn["role"] != "system"]
        if users != ["user", "assistant"] * (len(users) // 2) or len(users) < 2:
            raise SystemExit(f"{path}: turns out of order: {turns[0]['content'][:60]}")
        yield turns


def as_messages(turns):
    return {"messages": turns}


def as_alpaca(turns, split=None):
    question, answer = turns[-2]["content"], turns[-1]["content"]
    instruction, given = split if split else (question, "")
    return {"instruction": instruction, "input": given, "output": answer}


def as_completion(turns):
    return {"prompt": f"Question: {turns[-2]['content']}\nAnswer:", "completion": " " + turns[-1]["content"]}


def as_sharegpt(turns):
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[t["role"]], "value": t["content"]} for t in turns]}


def collect(rng):
    """All examples as (turns, alpaca split or None), shuffled; a question stands there once."""
    examples = []
    for path in sorted(glob.glob(os.path.join(HERE, "instructions", "*.txt"))):
        examples += [(turns, None) for turns in parse(path)]
    written = len(examples)
    seen = {turns[-2]["content"] for turns, _ in examples}
    for instruction, given, answer in tasks.all_tasks(rng):
        question = f"{instruction}\n\n{given}" if given else instruction
        if question in seen:
            continue
        seen.add(question)
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        examples.append((turns, (instruction, given)))
    rng.shuffle(examples)
    print(f"{written} hand-written, {len(examples) - written} computed")
    return examples


def answer_rows(rng, seen):
    for instruction, given, answer in tasks.unseen(rng):
        question = f"{instruction}\n\n{given}" if given else instruction
        if question not in seen:
            yield {"messages": [{"role": "user", "content": question}], "answer": answer}


def write(folder, name, rows):
    rows = list(rows)
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    kinds = {}
    for row in rows:
        kinds[next(iter(row))] = kinds.get(next(iter(row)), 0) + 1
    print(f"{name}: {len(rows)} lines, {os.path.getsize(path)} bytes, {kinds}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "data"))
    arguments = parser.parse_args()
    rng = random.Random(20240)
    examples = collect(rng)
    rows = [as_messages(turns) for turns, _ in examples]
    write(arguments.out, "instructions.jsonl", rows[:-HELD_OUT])
    write(arguments.out, "instructions.eval.jsonl", rows[-HELD_OUT:])

    seen = {turns[-2]["content"] for turns, _ in examples}
    write(arguments.out, "instructions.unseen.jsonl", answer_rows(random.Random(7), seen))

    # The single-format files must fit the 256 positions of the embedded model, so: short examples first.
    single = [e for e in examples[:-HELD_OUT] if len(e[0]) == 2]
    short = [e for e in single if len(e[0][0]["content"]) + len(e[0][1]["content"]) < 220]
    chats = [e for e in examples[:-HELD_OUT] if len(e[0]) > 2]
    write(arguments.out, "alpaca.jsonl", (as_alpaca(*e) for e in short[:LINES]))
    write(arguments.out, "completion.jsonl", (as_completion(e[0]) for e in short[LINES:2 * LINES]))
    write(arguments.out, "sharegpt.jsonl",
          (as_sharegpt(e[0]) for e in (chats[:LINES // 2] + short[2 * LINES:])[:LINES]))


if __name__ == "__main__":
    main()
