#!/usr/bin/env python3
"""bottlenecks.py - bottleneck adapters both ways between ft and the adapters library, on models the goldens do not have.

    python scripts/parity/bottlenecks.py FT [--only NAME]

Wants the library's own Python (adapters 1.3 and its transformers). For each case: 20 optimizer steps from one
adapter in both, every loss and norm, and the adapter at the end; the library loads what ft wrote with nothing
missing and nothing unexpected, and both score the same; then the library writes an adapter and ft scores it.
Families that the library does not know go by the formulas (make_golden_bottleneck.py).
"""
import json
import os

import torch
from safetensors.torch import load_file

from harness import PADDING, ft_logprobs, hf_logprobs, load_model, make_model, run_cases, run_ft, token_rows, \
    worst_logprob
from make_golden_bottleneck import LIBRARY, attach, config_of, own, randomise, save_adapter
from make_golden_peft import train

STEPS, PER_STEP = 20, 3
CASES = {
    "llama double": ("llama", "double_seq_bn", {"reduction_factor": 3}),
    "llama seq": ("llama-wide-heads", "seq_bn", {"reduction_factor": 4.7, "non_linearity": "gelu"}),
    "llama par": ("llama-one-layer-tied", "par_bn", {}),
    "llama par, both": ("llama-mlp-bias", "par_bn", {"mh_adapter": True, "scaling": 1.0}),
    "llama bf16 base": ("llama-bf16", "double_seq_bn", {"scaling": 0.5}),
    "mistral window": ("mistral", "seq_bn", {"mh_adapter": True, "leave_out": [1], "non_linearity": "tanh"}),
    "mistral factors": ("mistral-no-window", "double_seq_bn", {"reduction_factor": {"0": 2, "2": 50, "default": 7}}),
    "gpt2 double": ("gpt2", "double_seq_bn", {"non_linearity": "gelu_new"}),
    "gpt2 par": ("gpt2-relu-inner", "par_bn", {"non_linearity": "leakyrelu"}),
    "gpt2 seq": ("gpt2", "seq_bn", {"scaling": 2.0, "init_weights": "houlsby", "reduction_factor": 2}),
    "qwen2 double": ("qwen2-window", "double_seq_bn", {}),
    "qwen3 seq": ("qwen3-bias-tied", "seq_bn", {"reduction_factor": 5}),
    "qwen3 par": ("qwen3", "par_bn", {"mh_adapter": True, "output_adapter": False}),
}


def worst_relative(have, want):
    return max(float((have[k].double() - want[k].double()).norm() / want[k].double().norm()) for k in want)


def compare_training(ft, work, base, case, report, name):
    model_name, preset, keys = case
    config = config_of(preset, keys)
    model = attach(load_model(base), load_model(base).config.model_type, "default", config)
    family = model.config.model_type
    randomise(model, "default", 7, 0.1)
    save_adapter(model, family, "default", config, os.path.join(work, "init"))
    vocab = model.config.vocab_size - PADDING
    rows = [(ids, [-100] + ids[1:]) for ids in token_rows(vocab, [2 + (7 * i) % 29 for i in range(STEPS * PER_STEP // 2)])]
    with open(os.path.join(work, "train.jsonl"), "w", encoding="utf-8") as lines:
        for ids, labels in rows:
            lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    spec = {"learning_rate": 5e-3, "weight_decay": 0.1, "warmup_steps": 4, "method": {"type": "adapter"}}
    with open(os.path.join(work, "config.json"), "w", encoding="utf-8") as out:
        json.dump({"model": {"path": "base"}, "method": {"type": "adapter", "init_from": "init"},
                   "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 40, "shuffle": False},
                   "optim": {"learning_rate": 5e-3, "weight_decay": 0.1, "warmup_steps": 4,
                             "lr_scheduler_type": "linear", "max_grad_norm": 1.0},
                   "train": {"epochs": 2, "batch_size": PER_STEP, "precision": "f32"}, "output": {"dir": "out"}}, out)
    run_ft(ft, "train", os.path.join(work, "config.json"), "--quiet")
    losses, rates, norms = train(model, rows, spec)
    with open(os.path.join(work, "out", "log.jsonl"), encoding="utf-8") as lines:
        log = [json.loads(line) for line in lines]
    log = [line for line in log if "loss" in line]
    off = max(max(abs(line["loss"] - a) / a, abs(line["grad_norm"] - b) / b)
              for line, a, b in zip(log, losses, norms))
    weights = worst_relative(load_file(os.path.join(work, "out", "adapter.safetensors")), own(model, "default"))
    report.line(name + ": 20 steps", len(log) == STEPS and off < 1e-4 and weights < 1e-4,
                f"losses and norms {off:.1e}, weights {weights:.1e} (relative); loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    return config, family, model


def load_back(base, adapter, family, config, model):
    """What ft wrote, as the library loads it; without the library: into the plain modules."""
    fresh = load_model(base)
    if family not in LIBRARY:
        fresh = attach(fresh, family, "default", config)
        missing, unexpected = fresh.load_state_dict(load_file(os.path.join(adapter, "adapter.safetensors")), strict=False)
        return fresh, [k for k in missing if ".adapters." in k], list(unexpected)
    import adapters

    adapters.init(fresh)
    info = {}
    fresh.load_adapter(adapter, set_active=True, use_safetensors=True, loading_info=info)
    return fresh.eval(), info["missing_keys"], info["unexpected_keys"]


def run_case(ft, name, work, report):
    base = os.path.join(work, "base")
    make_model(CASES[name][0], base)
    config, family, model = compare_training(ft, work, base, CASES[name], report, name)
    vocab = model.config.vocab_size - PADDING
    rows = token_rows(vocab, (12, 31, 2))
    fresh, missing, unexpected = load_back(base, os.path.join(work, "out"), family, config, model)
    want = hf_logprobs(fresh, rows)
    worst = worst_logprob(ft_logprobs(ft, base, rows, os.path.join(work, "out")), want)
    plain = hf_logprobs(load_model(base), rows)
    moved = max(abs(a - b) for (x, _), (y, _) in zip(want, plain) for a, b in zip(x, y))
    report.line(name + ": load and score", worst <= 1e-4 and moved > 1e-2 and not missing and not unexpected,
                f"worst |d logprob| {worst:.1e}, moved {moved:.2f}; missing {missing[:1]}, unexpected {unexpected[:1]}")
    randomise(model, "default", 5, 0.15)
    theirs = os.path.join(work, "theirs")
    save_adapter(model, family, "default", config, theirs)
    worst = worst_logprob(ft_logprobs(ft, base, rows, theirs), hf_logprobs(model, rows))
    report.line(name + ": from the library", worst <= 1e-4, f"worst |d logprob| {worst:.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_cases(CASES, run_case)
