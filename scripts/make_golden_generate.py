#!/usr/bin/env python3
"""Golden values of tests/test_penalties.c: greedy answers of transformers' generate() under penalties, on the models of
tests/golden/families, written as a C header (tests/golden/generate.h).

usage: make_golden_generate.py > tests/golden/generate.h

The presence penalty, which transformers lacks, is a processor of our own, put behind its repetition penalty.
"""
import json
import os
import sys

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from oracle import build_model

HERE = os.path.dirname(os.path.abspath(__file__))

NEW = 24
CASES = [
    # model, prompt, repetition, presence, tokens before a stop, stop ids
    ("llama", [1, 9, 30, 7], 1.0, 0.0, 0, []),
    ("llama", [1, 9, 30, 7], 1.3, 0.0, 0, []),
    ("llama", [5], 1.05, 0.0, 0, []),
    ("llama", [5, 5, 5, 9, 9, 2], 0.6, 0.0, 0, []),
    ("llama", [1, 9, 30, 7], 1.0, 0.4, 0, []),
    ("llama", [1, 9, 30, 7], 1.0, -0.7, 0, []),
    ("mistral", [3, 14, 15], 1.2, 0.3, 0, []),
    ("qwen2", [8, 8, 40, 2, 17], 2.5, 1.5, 6, [4, 11, 20, 33]),
    ("qwen2", [8, 8, 40, 2, 17], 1.0, 3.0, 6, [4, 11, 20, 33]),
]


class Presence(LogitsProcessor):
    def __init__(self, penalty, prompt):
        self.penalty, self.prompt = penalty, prompt

    def __call__(self, ids, scores):
        scores = scores.clone()
        scores[0, list(set(ids[0, self.prompt:].tolist()))] -= self.penalty
        return scores


def answer(model, prompt, repetition, presence, min_new, stops):
    from transformers import MinNewTokensLengthLogitsProcessor, RepetitionPenaltyLogitsProcessor

    processors = LogitsProcessorList()
    if repetition != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(repetition))
    processors.append(Presence(presence, len(prompt)))
    if min_new:
        processors.append(MinNewTokensLengthLogitsProcessor(len(prompt), min_new, stops))
    ids = torch.tensor([prompt])
    while ids.shape[1] < len(prompt) + NEW:
        scores = processors(ids, model(ids, use_cache=False).logits[:, -1].float())
        ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], 1)
        if ids[0, -1].item() in stops:
            break
    mine = ids[0, len(prompt):].tolist()
    if presence == 0.0:
        full = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=NEW, pad_token_id=0,
                              repetition_penalty=repetition, min_new_tokens=min_new or None,
                              eos_token_id=stops or None, attention_mask=torch.ones(1, len(prompt)))
        if full[0, len(prompt):].tolist() != mine:
            raise SystemExit("generate() answers otherwise")
    return mine


def numbers(values):
    return "{" + ", ".join(str(v) for v in values) + "}"


def main():
    torch.set_num_threads(1)
    models = {}
    print("/* generate.h – made by scripts/make_golden_generate.py from transformers. Not edited by hand. */")
    print(f"#define GOLDEN_NEW {NEW}")
    print("static const struct {\n    const char *model;\n    int n_prompt, n_answer, n_stop, min_new;\n"
          "    double repetition, presence;\n    int32_t prompt[8], stop[4], answer[GOLDEN_NEW];\n} golden_answers[] = {")
    for name, prompt, repetition, presence, min_new, stops in CASES:
        if name not in models:
            with open(os.path.join(HERE, "..", "tests", "golden", "families", name, "config.json")) as f:
                models[name] = build_model(json.load(f))
        ids = answer(models[name], prompt, repetition, presence, min_new, stops)
        print(f'    {{"{name}", {len(prompt)}, {len(ids)}, {len(stops)}, {min_new}, {repetition}, {presence},\n'
              f'     {numbers(prompt)}, {numbers(stops or [0])},\n     {numbers(ids)}}},')
    print("};")


if __name__ == "__main__":
    sys.exit(main())
