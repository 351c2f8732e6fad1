#!/usr/bin/env python3
"""vectors.py - adapters that are vectors (VeRA, IA3, LN tuning) both ways between ft and PEFT, and merging.

    python scripts/parity/vectors.py FT [--only PART_OF_A_NAME]

For each case: ft trains an adapter for a few steps; PEFT loads it without a missing or unexpected key or a key
of the config that it does not know; both score the same; `ft merge-adapter` gives what PEFT's merge_and_unload
gives (1e-5, float32). VeRA's frozen matrices are those of PEFT to the bit. Then PEFT writes an adapter with
random values, and ft scores it as PEFT does.
"""
import json
import os

import torch
from safetensors.torch import load_file

from adapter import compare_merge, load_peft
from harness import PADDING, ft_logprobs, hf_logprobs, load_model, make_model, run_cases, run_ft, token_rows, worst_logprob

CASES = {
    "vera llama": ("llama", {"type": "vera", "r": 16, "d_initial": 0.5}),
    "vera one layer tied": ("llama-one-layer-tied", {"type": "vera", "r": 1, "projection_prng_key": 4294967295,
                                                     "save_projection": False, "d_initial": 0.5}),
    "vera odd": ("llama-wide-heads", {"type": "vera", "r": 33, "projection_prng_key": 77, "bias": "vera_only",
                                      "target_modules": ["q_proj", "v_proj", "down_proj"], "save_projection": False}),
    "vera biases": ("llama-mlp-bias", {"type": "vera", "r": 8, "bias": "all", "exclude_modules": ["q_proj"],
                                       "modules_to_save": ["model.norm"]}),
    "vera bf16": ("llama-bf16", {"type": "vera", "r": 24, "layers_to_transform": [0, 2]}),
    "vera qwen3": ("qwen3-bias-tied", {"type": "vera", "r": 12, "target_modules": r".*\.(o|up)_proj"}),
    "vera gpt2": ("gpt2", {"type": "vera", "r": 20, "target_modules": ["c_attn", "c_proj"]}),
    "ia3 llama": ("llama", {"type": "ia3"}),
    "ia3 one layer tied": ("llama-one-layer-tied", {"type": "ia3", "target_modules": ["o_proj", "v_proj"],
                                                    "feedforward_modules": ["v_proj"]}),
    "ia3 biases": ("llama-mlp-bias", {"type": "ia3", "target_modules": "all-linear"}),
    "ia3 layers": ("llama-wide-heads", {"type": "ia3", "layers_to_transform": 1, "modules_to_save": ["lm_head"]}),
    "ia3 bf16": ("llama-bf16", {"type": "ia3", "target_modules": ["q_proj", "mlp.down_proj"]}),
    "ia3 mistral": ("mistral", {"type": "ia3", "target_modules": r".*\.(k|o|down)_proj"}),
    "ia3 qwen2": ("qwen2", {"type": "ia3"}),
    "ia3 qwen3": ("qwen3-bias-tied", {"type": "ia3", "exclude_modules": ["0.self_attn.q_proj"]}),
    "ia3 gpt2": ("gpt2", {"type": "ia3"}),
    "ia3 gpt2 all": ("gpt2-relu-inner", {"type": "ia3", "target_modules": "all-linear",
                                         "feedforward_modules": r".*c_proj"}),
    "ln_tuning llama": ("llama", {"type": "ln_tuning"}),
    "ln_tuning layers": ("llama-mlp-bias", {"type": "ln_tuning", "layers_to_transform": [0, 2],
                                            "target_modules": ["input_layernorm"]}),
    "ln_tuning qwen3": ("qwen3-bias-tied", {"type": "ln_tuning", "target_modules": r".*(_norm|\.1\..*layernorm)"}),
    "ln_tuning gpt2": ("gpt2-relu-inner", {"type": "ln_tuning", "exclude_modules": ["ln_f"]}),
}

# What adapter_config.json may say beside the keys of the config's class.
BESIDE = {"peft_type"}
LACKING = {"vera": {"exclude_modules"}, "ln_tuning": {"layers_to_transform"},
           "ia3": {"bias", "layers_to_transform", "layers_pattern"}}


def config_class(kind):
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind.upper())]


def train(ft, work, base, method, vocab, precision):
    with open(os.path.join(work, "train.jsonl"), "w", encoding="utf-8") as lines:
        for row in token_rows(vocab, [9, 14, 5, 21, 8, 12, 30, 7], seed=11):
            lines.write(json.dumps({"input_ids": row, "labels": row}) + "\n")
    config, out = os.path.join(work, "config.json"), os.path.join(work, "out")
    with open(config, "w", encoding="utf-8") as text:
        json.dump({"model": {"path": base}, "method": method,
                   "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 64},
                   "optim": {"learning_rate": 2e-2},
                   "train": {"epochs": 3, "batch_size": 2, "micro_batch_size": 1, "precision": precision},
                   "output": {"dir": out}}, text)
    run_ft(ft, "train", config, "--quiet")
    return out


def from_peft(ft, work, base, method, rows, report, name):
    from peft import get_peft_model

    fields = {k: v for k, v in method.items() if k != "type" and k not in LACKING[method["type"]]}
    if "gpt2" in name and method["type"] != "ln_tuning":
        fields["fan_in_fan_out"] = True
    model = get_peft_model(load_model(base), config_class(method["type"])(task_type="CAUSAL_LM", **fields)).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).uniform_(-0.1, 0.1))
    adapter = os.path.join(work, "from-peft")
    model.save_pretrained(adapter)
    worst = worst_logprob(ft_logprobs(ft, base, rows, adapter), hf_logprobs(model, rows))
    report.line(name + ": from PEFT", worst <= 1e-4, f"worst |d logprob| {worst:.2e}")


def run_case(ft, name, work, report):
    base_name, method = CASES[name]
    base = os.path.join(work, "base")
    plain = make_model(base_name, base)
    vocab = plain.config.vocab_size - PADDING
    rows = token_rows(vocab, (12, 31, 2))
    adapter = train(ft, work, base, method, vocab, "bf16" if "bf16" in name else "f32")
    with open(os.path.join(adapter, "adapter_config.json"), encoding="utf-8") as text:
        unknown = sorted(set(json.load(text)) - set(config_class(method["type"]).__dataclass_fields__) - BESIDE)
    report.line(name + ": keys", not unknown, f"unknown to PEFT: {unknown}")
    model = load_peft(base, adapter, report, name)
    if method["type"] == "vera":
        _, own = model.base_model.vera_A["default"], model.base_model.vera_B["default"]
        fresh = config_class("vera").from_pretrained(adapter)
        from peft import get_peft_model

        drawn = get_peft_model(load_model(base), fresh).base_model
        stored = load_file(os.path.join(adapter, "adapter_model.safetensors"))
        same = all(torch.equal(stored.get("base_model." + key, getattr(drawn, key)["default"]),
                               getattr(drawn, key)["default"]) for key in ("vera_A", "vera_B"))
        report.line(name + ": drawn", same and torch.equal(own, drawn.vera_B["default"]), "frozen matrices are PEFT's")
    want = hf_logprobs(model, rows)
    worst = worst_logprob(ft_logprobs(ft, base, rows, adapter), want)
    moved = max(abs(a - b) for (x, _), (y, _) in zip(want, hf_logprobs(plain, rows)) for a, b in zip(x, y))
    report.line(name + ": score", worst <= 1e-4 and moved > 1e-2,
                f"worst |d logprob| {worst:.2e}; the adapter moved them by {moved:.2f}")
    compare_merge(ft, work, base, adapter, model, report, name)
    from_peft(ft, work, base, method, rows, report, name)


if __name__ == "__main__":
    run_cases(CASES, run_case)
