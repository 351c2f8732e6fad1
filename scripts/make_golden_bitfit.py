#!/usr/bin/env python3
"""make_golden_bitfit.py - training runs that freeze everything but biases.

    python scripts/make_golden_bitfit.py [--out tests/golden/bitfit]

The models are those of tests/golden/families (weights by the rule of scripts/oracle.py), as transformers
builds them, where the class needs it with attention_bias and mlp_bias and those biases zero. Twenty steps
of the loop of make_golden_peft.py (AdamW without decay on biases, linear schedule, clipping) with
requires_grad on the chosen biases alone.

Softmax does not see what all keys have in common: with rotary positions the gradient of a bias of keys is
small, without them it is rounding alone, which AdamW would blow up to whole steps. Hence the epsilons.

    train.jsonl                 rows in the `tokens` format, of every case
    CASE.json                   the run as a config; model.path names the family case
    CASE.safetensors
        losses, learning_rates, grad_norms   F32 [20], norms before clipping
        final.NAME              F32, the trained biases after step 20
The script prints how far the same run in float64 ends from this one.
"""
import argparse
import json
import os
import re
import sys

import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_golden import CASES as FAMILIES
from make_golden_peft import EPOCHS, PER_STEP, train, training_rows
from oracle import build_model, write_json

HERE = os.path.dirname(os.path.abspath(__file__))
ADDED = {"attention_bias": True, "mlp_bias": True}

# name: (family case, keys that make room for biases, config of the method, which parameters it trains,
#        parts of a bias for q | k | v that stay frozen, adam_epsilon)
CASES = {
    "llama_all": ("llama", ADDED, "all", r".*\.bias", (), 1e-4),
    "llama_terms": ("llama", ADDED, ["query", "mlp"], r".*\.(q_proj|up_proj|gate_proj|down_proj)\.bias", (), 1e-8),
    "qwen2_all": ("qwen2", {}, "all", r".*\.bias", (), 1e-4),
    "qwen3_all": ("qwen3_layer_types", {"attention_bias": True}, "all", r".*\.bias", (), 1e-5),
    "gpt2_all": ("gpt2", {}, "all", r".*\.bias", (), 1e-4),
    "gpt2_terms": ("gpt2", {}, ["query", "value", "mlp_down", "ln_1"],
                   r".*(c_attn|mlp\.c_proj|ln_1)\.bias", (1,), 1e-8),
}
RATE, WARMUP = 2e-2, 3


def freeze_parts(parameter, frozen):
    mask = torch.ones_like(parameter)
    n = parameter.numel() // 3
    for part in frozen:
        mask[part * n:(part + 1) * n] = 0
    parameter.register_hook(lambda gradient: gradient * mask)


def start(name, dtype):
    family, added, _, trained, frozen, _ = CASES[name]
    base = FAMILIES[family]
    has = {n for n, _ in build_model(dict(base)).named_parameters()}
    model = build_model(dict(base, **added), dtype)
    for n, p in model.named_parameters():
        if n not in has:
            p.data.zero_()
        p.requires_grad_(re.fullmatch(trained, n) is not None)
        if p.requires_grad and "c_attn" in n and frozen:
            freeze_parts(p, frozen)
    return model


def run(name, dtype, rows):
    model = start(name, dtype)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    result = train(model, rows, {"learning_rate": RATE, "weight_decay": 0.1, "warmup_steps": WARMUP,
                                 "adam_epsilon": CASES[name][-1]})
    return result, {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}, before


def make(name, out):
    family, _, terms, _, _, epsilon = CASES[name]
    rows = training_rows(min(c["vocab_size"] for c in FAMILIES.values()))
    with open(os.path.join(out, "train.jsonl"), "w", encoding="utf-8") as lines:
        for ids, labels in rows:
            lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    write_json(os.path.join(out, name + ".json"), {
        "model": {"path": family},
        "method": {"type": "bitfit", "bias_terms": terms, "save": "delta"},
        "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 32, "shuffle": False},
        "optim": {"type": "adamw", "learning_rate": RATE, "weight_decay": 0.1, "lr_scheduler_type": "linear",
                  "warmup_steps": WARMUP, "max_grad_norm": 1.0, "adam_epsilon": epsilon},
        "train": {"epochs": EPOCHS, "batch_size": PER_STEP, "precision": "f32", "seed": 1},
        "output": {"dir": "out"},
    })
    (losses, rates, norms), final, before = run(name, torch.float32, rows)
    (losses64, _, _), final64, _ = run(name, torch.float64, rows)
    tensors = {"losses": torch.tensor(losses), "learning_rates": torch.tensor(rates),
               "grad_norms": torch.tensor(norms)}
    tensors.update({"final." + n: t.contiguous() for n, t in final.items()})
    save_file(tensors, os.path.join(out, name + ".safetensors"), metadata={"format": "pt"})
    off = max(float((final64[n] - final[n]).norm() / final64[n].norm()) for n in final)
    moved = min(float((final[n] - before[n]).abs().max()) for n in final)
    os.chmod(os.path.join(out, name + ".safetensors"), 0o644)
    print(f"  {name:12} {len(final):3} biases, loss {losses[0]:.4f} -> {losses[-1]:.4f}, each moved {moved:.3f} at "
          f"least; float64 differs by {off:.1e} relative in biases, "
          f"{max(abs(a - b) / a for a, b in zip(losses, losses64)):.1e} in losses")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "tests", "golden", "bitfit"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(arguments.out, exist_ok=True)
    for name in CASES:
        make(name, arguments.out)


if __name__ == "__main__":
    main()
