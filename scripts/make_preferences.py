#!/usr/bin/env python3
"""make_preferences.py - pairs of a right answer and that to another question, from the answers that are there.

    python scripts/make_preferences.py

data/preference.jsonl is of data/completion.jsonl, as text; data/text/tiny.preference.jsonl of the questions about the small
world in data/text/tiny.chat.jsonl, as messages. Deterministic.
"""
import json
import os

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")


def read(name):
    with open(os.path.join(DATA, name), encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(name, records):
    with open(os.path.join(DATA, name), "w", encoding="utf-8") as out:
        out.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def another(answers, at):
    """The answer three places on, or the next one that is another."""
    step = 3
    while answers[(at + step) % len(answers)] == answers[at]:
        step += 1
    return answers[(at + step) % len(answers)]


def main():
    rows = read("completion.jsonl")
    answers = [row["completion"] for row in rows]
    write("preference.jsonl", [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": another(answers, i)}
                               for i, row in enumerate(rows)])
    rows = [row["messages"] for row in read("text/tiny.chat.jsonl") if len(row["messages"]) == 2][:128]
    answers = [row[1]["content"] for row in rows]
    write("text/tiny.preference.jsonl",
          [{"prompt": row[:1], "chosen": row[1:], "rejected": [{"role": "assistant", "content": another(answers, i)}]}
           for i, row in enumerate(rows)])


if __name__ == "__main__":
    main()
