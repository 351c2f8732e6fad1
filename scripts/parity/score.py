#!/usr/bin/env python3
"""score.py - `ft score` against transformers: random models of every family, and a real model.

    python scripts/parity/score.py FT [--only NAME] [--smollm2 MODEL --reference FOLDER] [--bound 1e-4]

MODEL is what ft opens (a folder or the .gguf); FOLDER holds the same weights for transformers in float32.
"""
import argparse
import os
import tempfile

from harness import (MODELS, Report, ft_logprobs, hf_logprobs, load_model, make_model, token_rows,
                     worst_logprob)

TEXTS = ["The capital of France is Paris.", "int main(void) { return 0; }",
         "Once upon a time there was a fox who lived near a river, and every morning it went to the water to "
         "look at its face. One day the river was gone, and in its place lay a long white road.",
         "Ünïcödé, 12345 and a tab\tin between."]


def compare(report, ft, name, path, model, rows, bound):
    got, want = ft_logprobs(ft, path, rows), hf_logprobs(model, rows)
    worst = worst_logprob(got, want)
    greedy = all(a["greedy"] == b[1] for a, b in zip(got, want) if a["tokens"])
    tokens = sum(len(row) - 1 for row in rows)
    report.line(name, worst <= bound and greedy, f"{tokens} tokens, worst |d logprob| {worst:.2e}"
                + ("" if greedy else ", greedy differs"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ft")
    parser.add_argument("--only")
    parser.add_argument("--smollm2")
    parser.add_argument("--reference")
    parser.add_argument("--bound", type=float, default=1e-4)
    arguments = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        for name, config in MODELS.items():
            if arguments.only and arguments.only not in name:
                continue
            folder = os.path.join(work, name)
            model = make_model(name, folder)
            rows = token_rows(config["vocab_size"], (2, 1, 3, 17, 40, 33))
            compare(report, arguments.ft, name, folder, model, rows, arguments.bound)
    if arguments.smollm2:
        from transformers import AutoTokenizer
        tokenizer = AutoTokenizer.from_pretrained(arguments.reference)
        rows = [tokenizer(text)["input_ids"] for text in TEXTS]
        model = load_model(arguments.reference)
        compare(report, arguments.ft, os.path.basename(arguments.smollm2), arguments.smollm2, model, rows,
                arguments.bound)
    report.end()


if __name__ == "__main__":
    main()
