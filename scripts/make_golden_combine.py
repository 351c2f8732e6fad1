#!/usr/bin/env python3
"""make_golden_combine.py - LoRA adapters of PEFT, and what its add_weighted_adapter makes of them.

    python scripts/make_golden_combine.py [--out tests/golden/combine]

The base is the llama of tests/golden/families. Needs torch, transformers, peft.

    NAME/adapter_config.json, adapter_model.safetensors   the adapters, as PEFT saved them
    golden.safetensors      CASE.KEY, F32: the combined factors under the keys of an adapter's file
    cases.txt               a line a case: NAME RANK ARGUMENTS, as ft merge-adapter takes them
"""
import argparse
import os
import sys

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_golden import CASES as FAMILIES
from make_golden_peft import save_adapter
from oracle import build_model

# The first has a plain scale: PEFT's result would take over use_rslora from it, and another scale with it.
ADAPTERS = {
    "one": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    "two": {"r": 4, "lora_alpha": 8, "target_modules": ["v_proj", "o_proj"], "layers_to_transform": [1],
            "use_rslora": True, "alpha_pattern": {"o_proj": 3}},
    "three": {"r": 2, "lora_alpha": 3, "target_modules": ["v_proj", "down_proj"], "layers_to_transform": [1],
              "rank_pattern": {"down_proj": 3}, "alpha_pattern": {"v_proj": 5}},
    "four": {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
}
OF_ONE_RANK = (["one", "two", "four"], [0.7, -1.3, 1.0])
ALL = (["one", "two", "three"], [1.0, 0.5, -2.0])
CASES = {
    "cat": (*ALL, {}),
    "cat_negative": (*OF_ONE_RANK, {"combination_type": "cat"}),
    "linear": (*OF_ONE_RANK, {"combination_type": "linear"}),
    "linear_one": (["two"], [-0.5], {"combination_type": "svd"}),
    "svd": (*ALL, {"combination_type": "svd"}),
    "svd_rank": (*OF_ONE_RANK, {"combination_type": "svd", "svd_rank": 3}),
    "ties": (*OF_ONE_RANK, {"combination_type": "ties", "density": 0.4}),
    "ties_frequency": (*OF_ONE_RANK, {"combination_type": "ties", "density": 0.75,
                                      "majority_sign_method": "frequency"}),
    "ties_svd": (*ALL, {"combination_type": "ties_svd", "density": 0.5}),
    "magnitude": (*OF_ONE_RANK, {"combination_type": "magnitude_prune", "density": 0.3}),
    "magnitude_svd": (*ALL, {"combination_type": "magnitude_prune_svd", "density": 0.35, "svd_rank": 5}),
    "dare_linear": (*OF_ONE_RANK, {"combination_type": "dare_linear", "density": 1.0}),
    "dare_ties": (*OF_ONE_RANK, {"combination_type": "dare_ties", "density": 1.0}),
    "dare_linear_svd": (*ALL, {"combination_type": "dare_linear_svd", "density": 1.0}),
    "dare_ties_svd": (*ALL, {"combination_type": "dare_ties_svd", "density": 1.0,
                             "majority_sign_method": "frequency"}),
}


def make_adapters(out):
    from peft import LoraConfig, get_peft_model

    for seed, (name, fields) in enumerate(ADAPTERS.items()):
        torch.manual_seed(seed)
        model = get_peft_model(build_model(dict(FAMILIES["llama"])), LoraConfig(task_type="CAUSAL_LM", **fields))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.uniform_(-0.3, 0.3)
        save_adapter(model, os.path.join(out, name))


def combined(out, names, weights, options):
    from peft import PeftModel, get_peft_model_state_dict

    model = PeftModel.from_pretrained(build_model(dict(FAMILIES["llama"])), os.path.join(out, names[0]), names[0])
    for name in names[1:]:
        model.load_adapter(os.path.join(out, name), name)
    model.add_weighted_adapter(names, weights, "sum", **{"combination_type": "cat", **options})
    return model.peft_config["sum"].r, get_peft_model_state_dict(model, adapter_name="sum")


def main():
    parser = argparse.ArgumentParser()
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--out", default=os.path.join(here, "..", "tests", "golden", "combine"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    make_adapters(out)
    tensors, lines = {}, []
    for case, (names, weights, options) in CASES.items():
        rank, state = combined(out, names, weights, options)
        tensors.update({f"{case}.{key}": value.detach().contiguous() for key, value in state.items()})
        words = [*names, "--weights", ",".join(map(str, weights))]
        for key, value in options.items():
            words += ["--" + key.replace("_", "-"), str(value)]
        lines.append(" ".join([case, str(rank), *words]))
    save_file(tensors, os.path.join(out, "golden.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(out, "cases.txt"), "w", encoding="utf-8") as text:
        text.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
