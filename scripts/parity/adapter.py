#!/usr/bin/env python3
"""adapter.py - adapters both ways between ft and PEFT, and merging.

    python scripts/parity/adapter.py FT

For each case: ft trains an adapter for a few steps; PEFT loads it without a missing or unexpected key; both
score the same; `ft merge-adapter` gives what PEFT's merge_and_unload gives (1e-5, float32). Then PEFT writes
a random adapter and ft scores it as PEFT does.
"""
import argparse
import json
import os
import tempfile
import warnings

import torch
from safetensors.torch import load_file

from harness import (PADDING, Report, ft_logprobs, hf_logprobs, load_model, make_model, run_ft, token_rows,
                     worst_logprob)

CASES = {
    "llama all-linear": ("llama", {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}),
    "llama patterns": ("llama-wide-heads", {
        "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "use_rslora": True,
        "rank_pattern": {"down_proj": 7}, "alpha_pattern": {r"layers\.0\.self_attn\.q_proj": 3}}),
    "llama regex": ("llama-one-layer-tied", {"r": 3, "lora_alpha": 5,
                                             "target_modules": r"model\.layers\.\d+\.mlp\..*_proj"}),
    "llama saved head": ("llama", {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
                                   "modules_to_save": ["lm_head"]}),
    "llama biases": ("llama-mlp-bias", {"r": 2, "lora_alpha": 4, "target_modules": ["up_proj"], "bias": "all"}),
    "mistral layers": ("mistral", {"r": 4, "lora_alpha": 8, "target_modules": ["k_proj", "o_proj"],
                                   "layers_to_transform": [0, 2]}),
    "qwen2": ("qwen2", {"r": 5, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj", "v_proj"]}),
    "qwen3": ("qwen3", {"r": 4, "lora_alpha": 8, "target_modules": ["o_proj", "gate_proj"]}),
    "gpt2": ("gpt2", {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj", "c_fc"]}),
}


def train(ft, work, base, method, vocab):
    data = os.path.join(work, "train.jsonl")
    with open(data, "w", encoding="utf-8") as lines:
        for row in token_rows(vocab, [9, 14, 5, 21, 8, 12, 30, 7], seed=11):
            lines.write(json.dumps({"input_ids": row, "labels": row}) + "\n")
    config = os.path.join(work, "config.json")
    with open(config, "w", encoding="utf-8") as out:
        json.dump({"model": {"path": base}, "method": {"type": "lora", **method},
                   "data": {"train": {"path": data, "format": "tokens"}, "max_length": 64},
                   "optim": {"learning_rate": 2e-2}, "train": {"epochs": 3, "batch_size": 2, "precision": "f32"},
                   "output": {"dir": os.path.join(work, "out")}}, out)
    run_ft(ft, "train", config, "--quiet")
    return os.path.join(work, "out")


def load_peft(base, adapter, report, name):
    """PEFT's view of an adapter folder; every key must find its place, and every place its key."""
    from peft import PeftModel, get_peft_model_state_dict

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(load_model(base), adapter).eval()
    # PEFT takes AdaLoRA's rank_pattern for LoRA's and warns of it, of its own folders too.
    words = [str(w.message) for w in caught if " key" in str(w.message).lower()
             and not any(own in str(w.message) for own in ("PRNG", "rank_pattern"))]
    stored = load_file(os.path.join(adapter, "adapter_model.safetensors"))
    expected = get_peft_model_state_dict(model)
    missing, unexpected = sorted(set(expected) - set(stored)), sorted(set(stored) - set(expected))
    equal = all(torch.equal(stored[k].float(), expected[k].float()) for k in set(stored) & set(expected))
    report.line(name + ": load", not (missing or unexpected or words) and equal,
                f"{len(stored)} tensors, missing {missing[:2]}, unexpected {unexpected[:2]} {words[:1]}")
    return model


def compare_merge(ft, work, base, adapter, model, report, name):
    out = os.path.join(work, "merged")
    run_ft(ft, "merge-adapter", adapter, "--base", base, "--out", out, "--type", "f32")
    merged = load_model(out).state_dict()
    before = load_model(base).state_dict()
    want = model.merge_and_unload().state_dict()
    moved = max(float((want[k] - before[k]).abs().max()) for k in want if k in before)
    worst = max(float((merged[k].float() - want[k].float()).abs().max()) if k in merged else float("inf")
                for k in want)
    report.line(name + ": merge", worst <= 1e-5 and moved > 1e-3,
                f"worst weight difference {worst:.1e}; merging moved them by {moved:.2f}")


def from_peft(ft, work, base, method, rows, report, name):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(load_model(base), LoraConfig(
        task_type="CAUSAL_LM", fan_in_fan_out=name.startswith("gpt2"), **method)).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).uniform_(-0.1, 0.1))
    adapter = os.path.join(work, "from-peft")
    model.save_pretrained(adapter)
    worst = worst_logprob(ft_logprobs(ft, base, rows, adapter), hf_logprobs(model, rows))
    report.line(name + ": from PEFT", worst <= 1e-4, f"worst |d logprob| {worst:.2e}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ft")
    parser.add_argument("--only")
    arguments = parser.parse_args()
    report = Report()
    for name, (base_name, method) in CASES.items():
        if arguments.only and arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as work:
            base = os.path.join(work, "base")
            plain = make_model(base_name, base)
            vocab = plain.config.vocab_size - PADDING
            rows = token_rows(vocab, (12, 31, 2))
            adapter = train(arguments.ft, work, base, method, vocab)
            model = load_peft(base, adapter, report, name)
            want = hf_logprobs(model, rows)
            worst = worst_logprob(ft_logprobs(arguments.ft, base, rows, adapter), want)
            moved = max(abs(a - b) for (x, _), (y, _) in zip(want, hf_logprobs(plain, rows)) for a, b in zip(x, y))
            report.line(name + ": score", worst <= 1e-4 and moved > 1e-2,
                        f"worst |d logprob| {worst:.2e}; the adapter moved them by {moved:.2f}")
            compare_merge(arguments.ft, work, base, adapter, model, report, name)
            from_peft(arguments.ft, work, base, method, rows, report, name)
    report.end()


if __name__ == "__main__":
    main()
