#!/usr/bin/env python3
"""check_lm_eval_ft.py - scripts/lm_eval_ft.py against the harness's own `hf` model, on small random models.

usage: check_lm_eval_ft.py [FT] (default build/release/ft).  Needs lm_eval, torch and transformers; not run by the tests.

Models: random ones with the tokenizer of data/tiny; one with more rows than the tokenizer has tokens and a template whose
end of turn is no EOS, one whose tokenizer puts BOS in front. Texts are empty, longer than the positions, with special tokens
and characters of several bytes in them.
"""
import json
import os
import sys
import tempfile

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import LlamaConfig, LlamaForCausalLM

import lm_eval_ft

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "..", "data", "tiny")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def make(folder, seed, rows, bos):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=rows, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=96, initializer_range=0.4, bos_token_id=0,
                         eos_token_id=0, pad_token_id=0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = json.loads(read(os.path.join(TINY, "tokenizer.json")))
    settings = json.loads(read(os.path.join(TINY, "tokenizer_config.json")))
    if bos:
        first = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing", "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}}
        settings.pop("add_bos_token", None)
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    for name, value in (("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(value, f)


def requests(kind, arguments):
    return [Instance(request_type=kind, doc={}, arguments=a, idx=k) for k, a in enumerate(arguments)]


def compare(name, hf, ft, text):
    bad = 0
    pairs = [("Once upon a", " time"), ("Once upon a ", "time"), ("", "Hello there"), ("a", "b"), (text[:3000], " and so on"),
             ("é ✓ ü", "ß 水水"), ("<|endoftext|>", "x"), ("x", "<|im_end|>")]
    asked = requests("loglikelihood", pairs)
    for pair, a, b in zip(pairs, hf.loglikelihood(asked, disable_tqdm=True), ft.loglikelihood(asked, disable_tqdm=True)):
        if abs(a[0] - b[0]) > 1e-3 or a[1] != b[1]:
            bad += 1
            print(f"{name}: loglikelihood of {pair!r:.80}: {a} and {b}")
    texts = ["a", "Once upon a time", text[:5000], text[:700], "<|endoftext|>zz", "é"]
    asked = requests("loglikelihood_rolling", [(t,) for t in texts])
    for t, a, b in zip(texts, hf.loglikelihood_rolling(asked, disable_tqdm=True), ft.loglikelihood_rolling(asked)):
        if abs(a - b) > 1e-5 * abs(a) + 1e-4:
            bad += 1
            print(f"{name}: loglikelihood_rolling of {t!r:.80}: {a} and {b}")
    prompts = [("The", {"until": [".", " the"], "max_gen_toks": 40}), ("The", {"until": [], "max_gen_toks": 16}),
               ("Tom said", {"until": ["zzzz"], "max_gen_toks": 60, "do_sample": False}), ("Hi", {"max_new_tokens": 5}),
               (text[:4000], {"until": ["."], "max_gen_toks": 30})]
    prompts += [(text[37 * k: 38 * k + 20], {"until": ["e", "\n\n"] if k % 2 else ["ing"], "max_gen_toks": 10 + k})
                for k in range(40)]
    asked = requests("generate_until", prompts)
    for p, a, b in zip(prompts, hf.generate_until(asked, disable_tqdm=True), ft.generate_until(asked)):
        if a != b:
            bad += 1
            print(f"{name}: answer to {p!r:.80}: {a!r} and {b!r}")
    print(f"{name}: {len(pairs) + len(texts) + len(prompts)} requests, {bad} differ")
    return bad


def main():
    torch.set_num_threads(1)
    program = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "build", "release", "ft")
    text = read(os.path.join(HERE, "..", "data", "text", "tiny.eval.txt"))
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        for name, seed, rows, bos in (("padded", 3, 700, False), ("turns", 11, 640, False), ("bos", 5, 640, True)):
            folder = os.path.join(work, name)
            make(folder, seed, rows, bos)
            hf = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=1)
            bad += compare(name, hf, lm_eval_ft.FtLM(model=folder, ft=program), text)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
