#!/usr/bin/env python3
"""bitfit.py - 20 steps on biases alone against a torch loop, on models the goldens do not have; transformers
loads the folder that is left and computes what the loop's model does.

    python scripts/parity/bitfit.py FT [--only NAME]

Where the class has attention_bias and mlp_bias, the reference has both and zero biases to begin with. With
float32 bases the biases of the folder are compared, with bf16 ones as well: they stand in it as they are.
"""
import json
import os
import re

import torch

from harness import PADDING, ft_logprobs, hf_logprobs, make_model, run_cases, run_ft, token_rows, worst_logprob
from train import STEPS, difference, make_rows, reference

CASES = {
    # name: (model, bias_terms, parameters it trains, optim, batch_size, micro_batch_size)
    "llama": ("llama", "all", r".*\.bias", {"learning_rate": 5e-3, "lr_scheduler_type": "linear"}, 4, 1),
    "llama bf16": ("llama-bf16", ["query", "mlp"], r".*\.(q|gate|up|down)_proj\.bias",
                   {"learning_rate": 5e-3, "lr_scheduler_type": "cosine", "warmup_steps": 2}, 4, 3),
    "llama wide heads": ("llama-wide-heads", ["mlp_down", "v_proj", "layers.1.self_attn"],
                         r".*(down_proj|v_proj|\.1\.self_attn\.[qko]_proj)\.bias",
                         {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "weight_decay": 0.1}, 3, 3),
    "llama mlp bias": ("llama-mlp-bias", "all", r".*\.bias",
                       {"learning_rate": 5e-3, "lr_scheduler_type": "linear", "max_grad_norm": 0.3}, 5, 2),
    "llama tied": ("llama-one-layer-tied", ["attention_output"], r".*\.o_proj\.bias",
                   {"learning_rate": 1e-2, "lr_scheduler_type": "constant"}, 2, 2),
    "qwen2": ("qwen2", "all", r".*\.bias", {"learning_rate": 5e-3, "lr_scheduler_type": "linear"}, 4, 4),
    "qwen2 window": ("qwen2-window", ["key"], r".*\.k_proj\.bias",
                     {"learning_rate": 5e-3, "lr_scheduler_type": "linear", "adam_epsilon": 1e-6}, 4, 1),
    "qwen3": ("qwen3", "all", r".*\.bias", {"learning_rate": 5e-3, "lr_scheduler_type": "linear"}, 4, 2),
    "qwen3 biased": ("qwen3-bias-tied", ["query", "value"], r".*\.[qv]_proj\.bias",
                     {"learning_rate": 5e-3, "lr_scheduler_type": "linear"}, 4, 2),
    "gpt2": ("gpt2", "all", r".*\.bias", {"learning_rate": 5e-3, "lr_scheduler_type": "linear"}, 4, 2),
    "gpt2 norms": ("gpt2-relu-inner", ["norm", "mlp_up"], r".*(ln_\w|c_fc)\.bias",
                   {"learning_rate": 5e-3, "lr_scheduler_type": "linear"}, 4, 4),
}


def start(folder, trained, dtype):
    """transformers' model of the base with all biases that its class can have."""
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    for key in ("attention_bias", "mlp_bias"):
        if hasattr(config, key):
            setattr(config, key, True)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
    missing, unexpected = model.load_state_dict(load_file(os.path.join(folder, "model.safetensors")), strict=False)
    assert not unexpected and all(n.endswith(".bias") or n == "lm_head.weight" for n in missing), missing
    model.tie_weights()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(re.fullmatch(trained, name) is not None)
    return model.to(dtype).eval()


def run_case(ft, name, work, report):
    from transformers import AutoModelForCausalLM

    base_name, terms, trained, optim, batch, micro = CASES[name]
    base, out = os.path.join(work, "base"), os.path.join(work, "out")
    vocab = make_model(base_name, base).config.vocab_size - PADDING
    rows = make_rows(vocab, STEPS * batch)
    with open(os.path.join(work, "train.jsonl"), "w", encoding="utf-8") as lines:
        for ids, labels in rows:
            lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    with open(os.path.join(work, "config.json"), "w", encoding="utf-8") as config:
        json.dump({"model": {"path": "base"}, "method": {"type": "bitfit", "bias_terms": terms},
                   "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 64,
                            "shuffle": False},
                   "optim": {"type": "adamw", **optim},
                   "train": {"epochs": 1, "batch_size": batch, "micro_batch_size": micro, "precision": "f32"},
                   "output": {"dir": "out"}}, config)
    run_ft(ft, "train", os.path.join(work, "config.json"), "--quiet")

    model, double = start(base, trained, torch.float32), start(base, trained, torch.float64)
    want = reference(model, rows, optim, batch)
    reference(double, rows, optim, batch)
    saved, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager",
                                                       output_loading_info=True)
    have = dict(saved.eval().named_parameters())
    biases = {n: p for n, p in model.named_parameters() if p.requires_grad}
    weights = max(difference(n, have[n].detach().double(), p.detach().double()) for n, p in biases.items())
    frozen = all(torch.equal(have[n], p) for n, p in model.named_parameters() if n in have and n not in biases)
    noise = max(difference(n, p.detach(), biases[n].detach().double())
                for n, p in double.named_parameters() if n in biases)
    with open(os.path.join(out, "log.jsonl"), encoding="utf-8") as lines:
        log = [row for row in map(json.loads, lines) if "loss" in row]
    loss = max(abs(a["loss"] - b[0]) / b[0] for a, b in zip(log, want))
    norm = max(abs(a["grad_norm"] - b[2]) / b[2] for a, b in zip(log, want))
    probe = token_rows(vocab, (17, 2, 1, 30))
    logprob = worst_logprob(ft_logprobs(ft, out, probe), hf_logprobs(saved, probe))
    whole = not any(info.values())
    good = len(log) == STEPS and loss <= 1e-5 and norm <= 1e-3 and weights <= max(2e-6, 20 * noise)
    report.line(name, good and frozen and whole and logprob <= 1e-4,
                f"{len(biases)} biases, loss {want[0][0]:.3f} -> {want[-1][0]:.3f}: off by {loss:.1e} in losses, "
                f"{norm:.1e} norms, {weights:.1e} biases (noise {noise:.1e}); loaded: {logprob:.1e} in "
                f"log-probabilities" + ("" if whole else f", {info}") + ("" if frozen else ", a frozen value moved"))


if __name__ == "__main__":
    run_cases(CASES, run_case)
