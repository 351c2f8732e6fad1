#!/usr/bin/env python3
"""qat.py - one optimizer step under model.qat against torchao, transformers' BitNet layers and LSQ by torch autograd.

    python scripts/parity/qat.py FT [--only NAME]

Largest weights of groups stand on rounding ties, so runs part from the reference after a few steps; a single one of SGD
gives every gradient. Compared: the loss, gradients (of trained weights, of adapters, of steps), and per-token
log-probabilities of `ft score` on the result against the same layers over its tensors.

An input of eight bits that stands on a rounding tie may get another code, which changes what follows in its row by a percent:
a case that is off is tried again on other data, and the number of tries is told.
"""
import json
import os

import torch
from safetensors.torch import load_file

from harness import MODELS, ft_logprobs, hf_logprobs, load_model, make_model, run_cases, run_ft, shape, worst_logprob
from qat_layers import simulate
from train import make_rows

RATE = 0.1
MODELS["qat-llama"] = shape("llama", hidden_size=48, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
MODELS["qat-qwen2"] = shape("qwen2", hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
                            tie_word_embeddings=True)
MODELS["qat-qwen3"] = shape("qwen3", hidden_size=40, num_attention_heads=5, num_key_value_heads=5, head_dim=8, intermediate_size=56)
MODELS["qat-gpt2"] = {"model_type": "gpt2", "vocab_size": 643, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64,
                      "bos_token_id": 0, "eos_token_id": 0}
MODELS["qat-mistral"] = shape("mistral", sliding_window=7, hidden_size=36, num_attention_heads=6, num_key_value_heads=2,
                              intermediate_size=60)
LORA = {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
FULL = {"type": "full"}
CASES = {
    "affine llama": ("qat-llama", FULL, {"type": "affine", "group_size": 16}),
    "affine int8 qwen2": ("qat-qwen2", FULL, {"type": "affine", "weight_dtype": "int8"}),
    "affine weights only gpt2": ("qat-gpt2", FULL, {"type": "affine", "group_size": 24, "activation_dtype": None}),
    "affine gpt2": ("qat-gpt2", FULL, {"type": "affine", "group_size": 16}),
    "affine row mistral": ("mistral", FULL, {"type": "affine", "group_size": -1}),
    "affine lora llama": ("qat-llama", LORA, {"type": "affine", "group_size": 16}),
    "affine lora gpt2": ("qat-gpt2", LORA, {"type": "affine", "group_size": 48}),
    "lsq llama": ("qat-llama", FULL, {"type": "lsq", "group_size": 16}),
    "lsq row qwen3": ("qat-qwen3", FULL, {"type": "lsq", "group_size": -1}),
    "lsq int8 with activations gpt2": ("qat-gpt2", FULL, {"type": "lsq", "weight_dtype": "int8", "group_size": 16,
                                                        "activation_dtype": "int8"}),
    "lsq gpt2": ("qat-gpt2", FULL, {"type": "lsq", "group_size": 16}),
    "lsq lora qwen2": ("qat-qwen2", LORA, {"type": "lsq"}),
    "lsq lora gpt2": ("qat-gpt2", LORA, {"type": "lsq", "group_size": 24}),
    "bitnet llama": ("qat-llama", FULL, {"type": "bitnet"}),
    "bitnet norm qwen2": ("qat-qwen2", FULL, {"type": "bitnet", "use_rms_norm": True}),
    "bitnet mistral": ("qat-mistral", FULL, {"type": "bitnet"}),
    "bitnet lora qwen3": ("qat-qwen3", LORA, {"type": "bitnet"}),
}


def loss_of(model, rows):
    from oracle import loss_sum

    total, count = 0.0, 0
    for ids, labels in rows:
        part, n = loss_sum(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0], labels)
        total, count = total + part, count + n
    return total / count


def reference(base, method, qat, adapter):
    model = simulate(load_model(base), qat)
    if method["type"] == "full":
        return model
    from peft import LoraConfig, get_peft_model
    torch.manual_seed(9)
    fields = {k: v for k, v in method.items() if k != "type"}
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0,
                                             fan_in_fan_out="gpt2" in base, **fields))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.uniform_(-0.05, 0.05)
            if "weight_scale" in name:
                parameter.requires_grad = True
    model.save_pretrained(adapter)
    return model


def named(model, is_adapter):
    """Trained parameters by the names that ft's files have."""
    out = {}
    for name, p in model.named_parameters():
        if p.requires_grad and is_adapter and "weight_scale" not in name:
            out[name.replace(".default", "")] = p
        elif p.requires_grad:
            out[name.replace("base_model.model.", "").replace(".base_layer", "") if is_adapter else name] = p
    return out


def run(ft, work, base, method, qat, rows, micro=1):
    with open(os.path.join(work, "train.jsonl"), "w", encoding="utf-8") as lines:
        for ids, labels in rows:
            lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    is_adapter = method["type"] != "full"
    with open(os.path.join(work, "config.json"), "w", encoding="utf-8") as config:
        json.dump({"model": {"path": base, "qat": qat},
                   "method": {**method, "init_from": "first"} if is_adapter else method,
                   "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 64, "shuffle": False},
                   "optim": {"type": "sgd", "momentum": 0, "learning_rate": RATE, "lr_scheduler_type": "constant",
                             "max_grad_norm": 1e9, "weight_decay": 0},
                   "train": {"max_steps": 1, "batch_size": len(rows), "micro_batch_size": micro, "precision": "f32"},
                   "output": {"dir": "out"}}, config)
    run_ft(ft, "train", os.path.join(work, "config.json"), "--quiet", "--force")
    out = os.path.join(work, "out")
    with open(os.path.join(out, "log.jsonl"), encoding="utf-8") as lines:
        log = [row for row in map(json.loads, lines) if "loss" in row]
    stored = load_file(os.path.join(out, "adapter_model.safetensors" if is_adapter else "model.safetensors"))
    if qat["type"] != "bitnet":
        stored.update(load_file(os.path.join(out, "qat.safetensors")))
    return log[0]["loss"], stored


def scored(ft, work, base, method, qat, rows, stored):
    """`ft score` of the result against the layers over its tensors."""
    out = os.path.join(work, "out")
    is_adapter = method["type"] != "full"
    ids = [row for row, _ in rows]
    model = reference(base, method, qat, os.path.join(work, "again"))
    with torch.no_grad():
        for name, p in named(model, is_adapter).items():
            p.copy_(stored[name])
    got = ft_logprobs(ft, base if is_adapter else out, ids, adapter=out if is_adapter else None)
    return worst_logprob(got, hf_logprobs(model, ids))


def run_case(ft, name, work, report):
    kind, method, qat = CASES[name]
    base = os.path.join(work, "gpt2" if "gpt2" in kind else "base")
    make_model(kind, base)
    for tries in range(3):
        rows = make_rows(600, 4 * (tries + 1))[-4:]
        ok, text = compare(ft, work, base, method, qat, rows)
        if ok:
            break
    report.line(name, ok, f"{text}, tries {tries + 1}")


def compare(ft, work, base, method, qat, rows):
    is_adapter = method["type"] != "full"
    model = reference(base, method, qat, os.path.join(work, "first"))
    start = {n: p.detach().clone() for n, p in named(model, is_adapter).items()}
    loss = loss_of(model, rows)
    loss.backward()
    got, stored = run(ft, work, base, method, qat, rows)
    worst, where = 0.0, ""
    for key, p in named(model, is_adapter).items():
        if key.endswith("c_attn.bias"):
            continue
        mine = (start[key] - stored[key]) / RATE if key in stored else torch.full_like(p, float("inf"))
        far = float((mine - p.grad).norm() / p.grad.norm().clamp(min=1e-6))
        worst, where = max((worst, where), (far, key))
    score = scored(ft, work, base, method, qat, rows, stored)
    loss = float(loss.detach())
    return (abs(got - loss) <= 1e-5 * loss and worst <= 2e-3 and score <= 1e-3,
            f"loss {loss:.4f} off by {abs(got - loss):.1e}, gradients {worst:.1e} ({where}), score {score:.1e}")


if __name__ == "__main__":
    run_cases(CASES, run_case)
