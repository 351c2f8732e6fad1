#!/usr/bin/env python3
"""make_golden_peft_lora.py - goldens of what PEFT makes of LoRA: DoRA, LoRA-FA, PiSSA, OLoRA.

    python scripts/make_golden_peft_lora.py [--out tests/golden/peft] [--only CASE ...]

Cases are those of make_golden_peft.py, which makes them (its text says what stands in them); here are their
configs, and how each begins. Folders of other cases stay as they are. A training case of PiSSA or OLoRA begins
at the decomposition, not at an adapter; its final.* are those of the converted adapter.
"""
import argparse
import os
import tempfile

import torch
from safetensors.torch import load_file

import make_golden_peft as golden
from oracle import build_model

ADAPTERS = {
    "llama_dora": ("llama", {"r": 4, "lora_alpha": 8, "use_dora": True, "target_modules": "all-linear",
                             "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3}}),
    "qwen2_dora": ("qwen2", {"r": 3, "lora_alpha": 5, "use_dora": True, "use_rslora": True,
                             "target_modules": ["q_proj", "v_proj", "o_proj", "up_proj"], "bias": "all"}),
    "gpt2_dora": ("gpt2", {"r": 4, "lora_alpha": 8, "use_dora": True, "fan_in_fan_out": True,
                           "target_modules": ["c_attn", "c_proj", "c_fc", "wte", "wpe"]}),
    "llama_dora_ends": ("llama", {"r": 3, "lora_alpha": 4, "use_dora": True,
                                  "target_modules": ["embed_tokens", "lm_head", "k_proj"]}),
    # not converted: they stand on the base without its first part
    "llama_pissa": ("llama", {"r": 4, "lora_alpha": 6, "init_lora_weights": "pissa",
                              "target_modules": ["q_proj", "k_proj", "down_proj"], "rank_pattern": {"k_proj": 2}}),
    "gpt2_pissa": ("gpt2", {"r": 3, "lora_alpha": 3, "init_lora_weights": "pissa", "fan_in_fan_out": True,
                            "target_modules": ["attn.c_proj", "c_fc"]}),
    "qwen3_olora": ("qwen3", {"r": 4, "lora_alpha": 2, "init_lora_weights": "olora", "use_rslora": True,
                              "target_modules": "all-linear"}),
}

LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}
TRAIN = {
    "train_dora": {"base": "llama", "learning_rate": 1e-2, "weight_decay": 0.01, "warmup_steps": 4,
                   "method": {"type": "dora", **LORA, "init_from": "init",
                              "target_modules": ["q_proj", "v_proj", "down_proj", "embed_tokens"]}},
    "train_dora_gpt2": {"base": "gpt2", "learning_rate": 5e-3, "weight_decay": 0.0, "warmup_steps": 0,
                        # not c_attn: its keys get little gradient but noise
                        "method": {"type": "lora", "use_dora": True, **LORA, "init_from": "init",
                                   "target_modules": ["attn.c_proj", "c_fc"]}},
    "train_dora_loraplus": {"base": "qwen2", "learning_rate": 1e-3, "weight_decay": 0.1, "warmup_steps": 2,
                            "method": {"type": "loraplus", "use_dora": True, **LORA, "init_from": "init",
                                       "target_modules": ["k_proj", "o_proj", "gate_proj", "embed_tokens"]}},
    "train_lorafa": {"base": "llama", "learning_rate": 1e-2, "weight_decay": 0.1, "warmup_steps": 4,
                     "method": {"type": "lorafa", **LORA, "init_from": "init", "alpha_pattern": {"v_proj": 3},
                                "rank_pattern": {"down_proj": 2},
                                "target_modules": ["q_proj", "v_proj", "down_proj"], "modules_to_save": ["lm_head"]}},
    "train_lorafa_gpt2": {"base": "gpt2", "learning_rate": 5e-3, "weight_decay": 0.0, "warmup_steps": 0,
                          "method": {"type": "lorafa", **LORA, "use_rslora": True, "init_from": "init",
                                     "target_modules": ["c_attn", "c_fc"]}},
    "train_pissa": {"base": "llama", "learning_rate": 5e-3, "weight_decay": 0.01, "warmup_steps": 4,
                    "method": {"type": "lora", **LORA, "init_lora_weights": "pissa", "rank_pattern": {"v_proj": 2},
                               "target_modules": ["q_proj", "v_proj", "down_proj"]}},
    "train_pissa_gpt2": {"base": "gpt2", "learning_rate": 2e-3, "weight_decay": 0.0, "warmup_steps": 0,
                         "method": {"type": "lora", **LORA, "init_lora_weights": "pissa", "use_rslora": True,
                                    "target_modules": ["c_attn", "c_fc"]}},
    "train_olora": {"base": "qwen2", "learning_rate": 2e-3, "weight_decay": 0.0, "warmup_steps": 2,
                    "method": {"type": "lora", **LORA, "init_lora_weights": "olora",
                               "target_modules": ["q_proj", "o_proj", "up_proj"]}},
}


def is_residual(fields):
    return isinstance(fields.get("init_lora_weights"), str)


def start(config, spec, dtype, init):
    """The model of a training case at step 0: at the adapter in `init`, or at the decomposition."""
    from peft import set_peft_model_state_dict

    method = spec["method"]
    fields = {k: v for k, v in method.items() if k not in ("type", "init_from", "lora_dropout")}
    if config["model_type"] == "gpt2":
        fields["fan_in_fan_out"] = True
    if method["type"] == "dora":
        fields["use_dora"] = True
    model = golden.attach(build_model(dict(config)), fields)
    if is_residual(fields):
        spec["initial"] = tempfile.mkdtemp()
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(spec["initial"])
        model.peft_config["default"].init_lora_weights = method["init_lora_weights"]
        return model.to(dtype)
    if not os.path.isdir(init):
        torch.manual_seed(7)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_A" in name or "lora_embedding_A" in name:
                    parameter.uniform_(-0.2, 0.2)
                elif "lora_B" in name or "lora_embedding_B" in name:
                    parameter.uniform_(-0.02, 0.02)
        golden.save_adapter(model, init, False)
    set_peft_model_state_dict(model, load_file(os.path.join(init, "adapter_model.safetensors")))
    return model.to(dtype)


plain_optimizer = golden.make_optimizer


def make_optimizer(model, trained, spec):
    if spec["method"]["type"] != "lorafa":
        return plain_optimizer(model, trained, spec)
    from peft.optimizers import lorafa

    lorafa.is_bf16_available = lambda: False  # a projection rounded to bf16 is a matter of the CPU
    return lorafa.create_lorafa_optimizer(model, r=4, lora_alpha=8, lr=spec["learning_rate"],
                                          weight_decay=spec["weight_decay"])


plain_tensors = golden.trained_tensors


def converting(spec):
    """final.* of a decomposed init: what save_pretrained writes with the initial adapter at hand."""
    def tensors(model, is_adapter):
        if not is_residual(spec["method"]):
            return plain_tensors(model, is_adapter)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder, path_initial_model_for_weight_conversion=spec["initial"])
            return {n: t.clone() for n, t in load_file(os.path.join(folder, "adapter_model.safetensors")).items()}
    return tensors


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(golden.HERE, "..", "tests", "golden", "peft"))
    parser.add_argument("--only", nargs="*", help="cases to make")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    golden.start, golden.make_optimizer = start, make_optimizer
    # in f32 the vectors of singular values that are close (those of random weights are) hold noise above 1e-6
    svd = torch.linalg.svd
    torch.linalg.svd = lambda w, **how: tuple(t.to(w.dtype) for t in svd(w.double(), **how))
    for name, (family, fields) in ADAPTERS.items():
        if not arguments.only or name in arguments.only:
            golden.make_adapter(name, family, fields, arguments.out)
    for name, spec in TRAIN.items():
        if not arguments.only or name in arguments.only:
            golden.trained_tensors = converting(spec)
            golden.make_training(name, spec, arguments.out)


if __name__ == "__main__":
    main()
