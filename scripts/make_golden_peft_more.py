#!/usr/bin/env python3
"""make_golden_peft_more.py - goldens of the adapters beside LoRA's family: VeRA, IA3, LN tuning.

    python scripts/make_golden_peft_more.py [--out tests/golden/peft] [--only CASE ...]

Cases are those of make_golden_peft.py, which makes them (its text says what stands in them); here are their
configs, and how each begins. Folders of other cases stay as they are.
"""
import argparse
import os

import torch
from safetensors.torch import load_file

import make_golden_peft as golden
from oracle import build_model

ADAPTERS = {
    "llama_vera": ("llama", {"type": "VERA", "r": 6, "target_modules": ["q_proj", "v_proj", "down_proj"],
                             "projection_prng_key": 3}),
    "qwen3_vera": ("qwen3", {"type": "VERA", "r": 5, "target_modules": "all-linear", "layers_to_transform": [1],
                             "d_initial": 0.3, "save_projection": False}),
    "gpt2_vera": ("gpt2", {"type": "VERA", "r": 4, "target_modules": ["c_attn", "c_proj", "c_fc"], "bias": "vera_only",
                           "fan_in_fan_out": True, "projection_prng_key": 4294967295, "save_projection": False}),
    # PEFT's own targets; Conv1D, biases; inputs of one of two layers that share them, a head
    "llama_ia3": ("llama", {"type": "IA3"}),
    "gpt2_ia3": ("gpt2", {"type": "IA3", "fan_in_fan_out": True}),
    "qwen2_ia3": ("qwen2", {"type": "IA3", "target_modules": ["q_proj", "k_proj", "o_proj", "up_proj", "lm_head"],
                            "feedforward_modules": ["k_proj"], "exclude_modules": ["0.self_attn.q_proj"]}),
    "llama_ia3_regex": ("llama_bias_tied", {"type": "IA3", "target_modules": r".*\.(k|o|gate|down)_proj",
                                            "feedforward_modules": r".*\.1\..*(gate|o)_proj",
                                            "modules_to_save": ["norm"]}),
    "llama_ln": ("llama", {"type": "LN_TUNING"}),
    "qwen3_ln": ("qwen3", {"type": "LN_TUNING", "target_modules": r".*\.(q_norm|k_norm|norm|1\.input_layernorm)"}),
    "gpt2_ln": ("gpt2", {"type": "LN_TUNING", "exclude_modules": ["0.ln_1"]}),
}

TRAIN = {
    "train_vera": {"base": "llama", "learning_rate": 2e-2, "weight_decay": 0.01, "warmup_steps": 4,
                   "method": {"type": "vera", "r": 6, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"],
                              "modules_to_save": ["norm"], "init_from": "init"}},
    "train_vera_gpt2": {"base": "gpt2", "learning_rate": 2e-2, "weight_decay": 0.0, "warmup_steps": 0,
                        "method": {"type": "vera", "r": 4, "target_modules": ["c_attn", "mlp.c_proj"],
                                   "save_projection": False, "projection_prng_key": 9, "init_from": "init"}},
    "train_ia3": {"base": "qwen2", "learning_rate": 3e-2, "weight_decay": 0.01, "warmup_steps": 4,
                  "method": {"type": "ia3", "init_from": "init"}},
    "train_ia3_gpt2": {"base": "gpt2", "learning_rate": 2e-2, "weight_decay": 0.0, "warmup_steps": 0,
                       "method": {"type": "ia3", "target_modules": ["c_attn", "c_proj"],
                                  "feedforward_modules": ["c_proj"], "init_from": "init"}},
    "train_ln": {"base": "qwen3", "learning_rate": 3e-2, "weight_decay": 0.1, "warmup_steps": 4,
                 "method": {"type": "ln_tuning", "target_modules": ["q_norm", "post_attention_layernorm", "norm"],
                            "init_from": "init"}},
    "train_ln_gpt2": {"base": "gpt2", "learning_rate": 2e-2, "weight_decay": 0.0, "warmup_steps": 0,
                      "method": {"type": "ln_tuning", "init_from": "init"}},
}


def attach(base, fields):
    """get_peft_model of any type; `type` is that of adapter_config.json."""
    from peft import PeftType, get_peft_model
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    fields = dict(fields)
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(fields.pop("type").upper())]
    model = get_peft_model(base, kind(task_type="CAUSAL_LM", base_model_name_or_path="model", **fields))
    model.base_model.model.name_or_path = "model"
    return model


def start(config, spec, dtype, init):
    """The model of a training case at step 0, a little away from where PEFT begins."""
    from peft import set_peft_model_state_dict

    fields = {k: v for k, v in spec["method"].items() if k != "init_from"}
    if config["model_type"] == "gpt2" and fields["type"] != "ln_tuning":
        fields["fan_in_fan_out"] = True
    torch.manual_seed(7)
    model = attach(build_model(dict(config)), fields)
    if not os.path.isdir(init):
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.empty_like(parameter).uniform_(-0.05, 0.05))
        golden.save_adapter(model, init, False)
    set_peft_model_state_dict(model, load_file(os.path.join(init, "adapter_model.safetensors")))
    return model.to(dtype)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(golden.HERE, "..", "tests", "golden", "peft"))
    parser.add_argument("--only", nargs="*", help="cases to make")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    golden.attach, golden.start = attach, start
    for name, (family, fields) in ADAPTERS.items():
        if not arguments.only or name in arguments.only:
            golden.make_adapter(name, family, fields, arguments.out)
    for name, spec in TRAIN.items():
        if not arguments.only or name in arguments.only:
            golden.make_training(name, spec, arguments.out)


if __name__ == "__main__":
    main()
