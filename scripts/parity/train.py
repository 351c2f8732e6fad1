#!/usr/bin/env python3
"""train.py - 20 optimizer steps of ft against torch and PEFT, on models and settings the goldens do not have.

    python scripts/parity/train.py FT [--only NAME]

Compares every loss, learning rate and gradient norm of log.jsonl and the trained tensors at the end. The
reference also runs in float64; the printed `noise` is how far float32 torch itself is from that.
"""
import json
import os

import torch
from safetensors.torch import load_file

from harness import PADDING, load_model, make_model, run_cases, run_ft, token_rows

STEPS = 20
CASES = {
    # name: (model, method, optim, batch_size, micro_batch_size)
    "lora llama linear": ("llama", {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
                          {"learning_rate": 5e-3, "lr_scheduler_type": "linear", "warmup_steps": 4}, 4, 4),
    "lora gpt2 cosine": ("gpt2", {"type": "lora", "r": 3, "lora_alpha": 8, "target_modules": ["c_attn", "c_fc"]},
                         {"learning_rate": 5e-3, "lr_scheduler_type": "cosine", "warmup_steps": 2,
                          "weight_decay": 0.05}, 3, 1),
    "lora qwen3 constant": ("qwen3", {"type": "lora", "r": 4, "lora_alpha": 4, "use_rslora": True,
                                      "target_modules": ["q_proj", "k_proj", "up_proj"]},
                            {"learning_rate": 3e-3, "lr_scheduler_type": "constant"}, 5, 2),
    "full llama tied": ("llama-one-layer-tied", {"type": "full"},
                        {"learning_rate": 1e-3, "lr_scheduler_type": "linear", "warmup_steps": 3,
                         "weight_decay": 0.1}, 4, 2),
    "full gpt2": ("gpt2", {"type": "full"},
                  {"learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 3, "weight_decay": 0.1,
                   "max_grad_norm": 0.5}, 4, 3),
    "full qwen2 window": ("qwen2-window", {"type": "full"},
                          {"learning_rate": 1e-3, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5,
                           "adam_beta2": 0.95}, 6, 6),
    "full mistral": ("mistral", {"type": "full"},
                     {"learning_rate": 1e-3, "lr_scheduler_type": "linear", "adam_epsilon": 1e-6}, 2, 1),
    "full qwen3 sgd": ("qwen3", {"type": "full"},
                       {"type": "sgd", "momentum": 0.9, "nesterov": True, "learning_rate": 0.02,
                        "lr_scheduler_type": "linear", "weight_decay": 0.1}, 3, 2),
    "full mistral rmsprop": ("mistral", {"type": "full"},
                             {"type": "rmsprop", "alpha": 0.95, "eps": 1e-4, "momentum": 0.5, "learning_rate": 1e-3,
                              "lr_scheduler_type": "cosine", "weight_decay": 0.05}, 4, 1),
    "full llama lion": ("llama", {"type": "full"},
                        {"type": "lion", "learning_rate": 3e-4, "lr_scheduler_type": "linear", "warmup_steps": 2,
                         "weight_decay": 0.1}, 4, 4),
    "full llama tied adafactor": ("llama-one-layer-tied", {"type": "full"},
                                  {"type": "adafactor", "learning_rate": 2e-3, "lr_scheduler_type": "linear",
                                   "weight_decay": 0.05}, 4, 3),
    "full mistral adafactor scaled": ("mistral", {"type": "full"},
                                      {"type": "adafactor", "scale_parameter": True, "beta1": 0.8,
                                       "learning_rate": 1e-2, "lr_scheduler_type": "constant"}, 3, 1),
    "loraplus llama": ("llama", {"type": "loraplus", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
                       {"learning_rate": 5e-4, "lr_scheduler_type": "linear", "weight_decay": 0.1}, 4, 2),
    "loraplus gpt2": ("gpt2", {"type": "loraplus", "r": 3, "lora_alpha": 6, "target_modules": ["c_attn", "c_fc"]},
                      {"learning_rate": 5e-4, "lr_scheduler_type": "cosine"}, 3, 1),
    "loraplus qwen3 sgd": ("qwen3", {"type": "loraplus", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"]},
                           {"type": "sgd", "momentum": 0.8, "learning_rate": 0.01, "lr_scheduler_type": "linear"}, 3, 2),
}
LORAPLUS_RATIO = 16  # the default of ft


def make_rows(vocab, n):
    rows = []
    for index, ids in enumerate(token_rows(vocab, [4 + (5 * i + i * i) % 23 for i in range(n)], seed=17)):
        ids = [ids[t - 2] if t % 3 == 2 else ids[t] for t in range(len(ids))]
        prompt = index % 4
        rows.append((ids, [-100] * prompt + ids[prompt:]))
    return rows


def schedule_of(optimizer, optim):
    from transformers import get_scheduler

    return get_scheduler(optim["lr_scheduler_type"], optimizer, optim.get("warmup_steps", 0), STEPS)


def rule_of(optim):
    """The class of an update rule, and its options by the config's."""
    from bitsandbytes.optim import Lion
    from transformers.optimization import Adafactor

    kind = optim.get("type", "adamw")
    own = {k: v for k, v in optim.items()
           if k not in ("type", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm")
           and not k.startswith("adam_")}
    if kind == "adamw":
        own.update(betas=(0.9, optim.get("adam_beta2", 0.999)), eps=optim.get("adam_epsilon", 1e-8), foreach=False)
    if kind == "adafactor":
        own = {"scale_parameter": False, "relative_step": False, **own}
    return {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop, "lion": Lion,
            "adafactor": Adafactor}[kind], own


def reference(model, rows, optim, batch, plus=False):
    from oracle import loss_sum

    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]

    def plain(name):  # norm weights and biases are not decayed
        return "norm" in name or "ln_" in name or name.endswith("bias")

    rule, own = rule_of(optim)
    decay = optim.get("weight_decay", 0.0)
    if plus:
        from peft.optimizers import create_loraplus_optimizer

        optimizer = create_loraplus_optimizer(model, rule, lr=optim["learning_rate"], loraplus_lr_ratio=LORAPLUS_RATIO,
                                              loraplus_weight_decay=decay, **own)
    else:
        optimizer = rule([{"params": [p for n, p in trained if not plain(n)], "weight_decay": decay},
                          {"params": [p for n, p in trained if plain(n)], "weight_decay": 0.0}],
                         lr=optim["learning_rate"], **own)
    schedule = schedule_of(optimizer, optim)
    log = []
    for step in range(STEPS):
        total, count = 0.0, 0
        for ids, labels in rows[step * batch:(step + 1) * batch]:
            part, n = loss_sum(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0], labels)
            total, count = total + part, count + n
        optimizer.zero_grad(set_to_none=True)
        (total / count).backward()
        norm = torch.nn.utils.clip_grad_norm_([p for _, p in trained], optim.get("max_grad_norm", 1.0))
        log.append((float(total.detach()) / count, schedule.get_last_lr()[0], float(norm)))
        optimizer.step()
        schedule.step()
    return log


def tensors_of(model, is_adapter):
    if is_adapter:
        from peft import get_peft_model_state_dict
        return {n: t.detach().double() for n, t in get_peft_model_state_dict(model).items()}
    return {n: p.detach().double() for n, p in model.named_parameters()}


def difference(name, a, b):
    """Largest difference. The key part of GPT-2's c_attn.bias is left out: without rotary positions it shifts
    all scores of a query alike, so its gradient is rounding noise, which Adam blows up to full steps."""
    if name.endswith("attn.c_attn.bias"):
        a, b = a.clone(), b.clone()
        third = a.numel() // 3
        a[third:2 * third] = b[third:2 * third]
    return float((a - b).abs().max())


def first_adapter(base, method, folder):
    from peft import LoraConfig, get_peft_model

    fields = {k: v for k, v in method.items() if k != "type"}
    model = get_peft_model(load_model(base), LoraConfig(
        task_type="CAUSAL_LM", lora_dropout=0.0, fan_in_fan_out="c_attn" in fields["target_modules"], **fields))
    torch.manual_seed(9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.uniform_(-0.05, 0.05)
    model.save_pretrained(folder)


def start(base, method, adapter, dtype):
    model = load_model(base).to(dtype)
    if method["type"] == "full":
        return model
    from peft import PeftModel
    return PeftModel.from_pretrained(model, adapter, is_trainable=True).to(dtype)


def run_case(ft, name, work, report):
    base_name, method, optim, batch, micro = CASES[name]
    is_adapter, plus = method["type"] != "full", method["type"] == "loraplus"
    base, adapter, out = (os.path.join(work, part) for part in ("base", "first", "out"))
    vocab = make_model(base_name, base).config.vocab_size - PADDING
    rows = make_rows(vocab, STEPS * batch)
    method = dict(method)
    if is_adapter:
        first_adapter(base, method, adapter)
    with open(os.path.join(work, "train.jsonl"), "w", encoding="utf-8") as lines:
        for ids, labels in rows:
            lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    with open(os.path.join(work, "config.json"), "w", encoding="utf-8") as config:
        json.dump({"model": {"path": "base"},
                   "method": {**method, "init_from": "first"} if is_adapter else method,
                   "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 64,
                            "shuffle": False},
                   "optim": {"type": "adamw", **optim},
                   "train": {"epochs": 1, "batch_size": batch, "micro_batch_size": micro, "precision": "f32"},
                   "output": {"dir": "out"}}, config)
    run_ft(ft, "train", os.path.join(work, "config.json"), "--quiet")

    model = start(base, method, adapter, torch.float32)
    want = reference(model, rows, optim, batch, plus)
    final = tensors_of(model, is_adapter)
    double = start(base, method, adapter, torch.float64)
    reference(double, rows, optim, batch, plus)
    final64 = tensors_of(double, is_adapter)

    with open(os.path.join(out, "log.jsonl"), encoding="utf-8") as lines:
        log = [row for row in map(json.loads, lines) if "loss" in row]
    loss = max(abs(a["loss"] - b[0]) for a, b in zip(log, want))
    rate = max(abs(a["learning_rate"] - b[1]) for a, b in zip(log, want)) / optim["learning_rate"]
    norm = max(abs(a["grad_norm"] - b[2]) / b[2] for a, b in zip(log, want))
    stored = load_file(os.path.join(out, "adapter_model.safetensors" if is_adapter else "model.safetensors"))
    weights = max(difference(n, stored[n].double(), t) if n in stored else float("inf")
                  for n, t in final.items())
    noise = max(difference(n, final64[n], t) for n, t in final.items())
    bound = max(1e-4, 20 * noise)
    report.line(name, len(log) == STEPS and loss <= 1e-4 and rate <= 1e-6 and norm <= 1e-3 and weights <= bound,
                f"{len(log)} steps, loss {want[0][0]:.3f} -> {want[-1][0]:.3f}: off by {loss:.1e} in losses, "
                f"{rate:.0e} rates, {norm:.1e} norms, {weights:.1e} weights (noise {noise:.1e})")


if __name__ == "__main__":
    run_cases(CASES, run_case)
