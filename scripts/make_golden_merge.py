#!/usr/bin/env python3
"""make_golden_merge.py - recipes, and what mergekit 0.1.5 makes of them.

    python scripts/make_golden_merge.py [--out tests/golden/merge]

The models a, b and c have the shape of the llama of tests/golden/families. a has its weights; to each weight of b and c
a quarter of the weight rule of "NAME." + letter is added. Needs torch, transformers, mergekit==0.1.5.

    CASE.yml              the recipe, beside folders a, b, c
    golden.safetensors    CASE/TENSOR, F32: three tensors of each result
"""
import argparse
import json
import logging
import os
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oracle import hash_values, write_json

KEPT = ["model.layers.1.self_attn.k_proj.weight", "model.layers.0.input_layernorm.weight", "model.norm.weight"]
FLOAT = "dtype: float32\n"
TASK = """merge_method: %s
base_model: a
models:
  - model: b
    parameters: {weight: 1, density: 0.5%s}
  - model: c
    parameters:
      weight:
        - {filter: self_attn, value: [0.25, 0.75]}
        - value: 0.5
      density: [0.9, 2e-1]
"""
CASES = {
    "linear": """merge_method: linear
models:
  - model: a
    parameters: {weight: 0.3}
  - model: b
    parameters: {weight: [0, 1]}
""",
    "slerp": """merge_method: slerp
base_model: a
models: [{model: a}, {model: b}]
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - value: 0.25
""",
    "nuslerp": """merge_method: nuslerp
base_model: a
models:
  - {model: b, parameters: {weight: 0.7}}
  - {model: c, parameters: {weight: 0.2}}
""",
    "nuslerp_rows": """merge_method: nuslerp
models:
  - {model: a, parameters: {weight: 0.7}}
  - {model: b, parameters: {weight: 0.2}}
parameters: {nuslerp_flatten: false}
""",
    "nuslerp_columns": """merge_method: nuslerp
base_model: a
models:
  - {model: b, parameters: {weight: 0.7}}
  - {model: c, parameters: {weight: 0.2}}
parameters: {nuslerp_flatten: false, nuslerp_row_wise: true}
""",
    "task_arithmetic": TASK % ("task_arithmetic", "") + "parameters: {lambda: 0.7, normalize: true}\n",
    "ties": TASK % ("ties", ""),
    "breadcrumbs": TASK % ("breadcrumbs", ", gamma: 0.1"),
    "breadcrumbs_ties": TASK % ("breadcrumbs_ties", ", gamma: 0.6") + "parameters: {rescale: true}\n",
    "dare_ties": (TASK % ("dare_ties", "")).replace("0.5}", "1}").replace("[0.9, 2e-1]", "1"),
    "della": (TASK % ("della", "")).replace("0.5}", "1}").replace("[0.9, 2e-1]", "0"),
    "model_stock": """merge_method: model_stock
base_model: a
models: [{model: b}, {model: c}]
""",
    "model_stock_rows": """merge_method: model_stock
base_model: a
models: [{model: b}, {model: c}]
parameters: {filter_wise: true}
""",
    "nearswap": """merge_method: nearswap
base_model: a
models: [{model: b}]
parameters: {t: 0.01}
""",
    "passthrough": """merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 1]}]
  - sources:
      - model: b
        layer_range: [0, 2]
        parameters:
          scale: [{filter: k_proj, value: 0.5}, {value: 1.0}]
""",
}


def make_models(folder):
    from transformers import AutoConfig, AutoModelForCausalLM

    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "families", "llama")
    with open(os.path.join(root, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**{k: v for k, v in config.items() if k != "architectures"}))
    for letter in "abc":
        tensors = {}
        for name, p in model.named_parameters():
            shape = tuple(p.shape)
            value = torch.from_numpy(hash_values(name, shape))
            if letter != "a":
                value = value + 0.25 * torch.from_numpy(hash_values(name + "." + letter, shape))
            tensors[name] = value
        os.mkdir(os.path.join(folder, letter))
        save_file(tensors, os.path.join(folder, letter, "model.safetensors"), metadata={"format": "pt"})
        write_json(os.path.join(folder, letter, "config.json"), config)


def main():
    import yaml
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "merge"))
    out = os.path.abspath(parser.parse_args().out)
    os.makedirs(out, exist_ok=True)
    golden = {}
    with tempfile.TemporaryDirectory() as folder:
        make_models(folder)
        os.chdir(folder)
        for name, text in CASES.items():
            with open(os.path.join(out, name + ".yml"), "w", encoding="utf-8") as f:
                f.write(text + FLOAT)
            run_merge(MergeConfiguration.model_validate(yaml.safe_load((text + FLOAT).replace("2e-1", "0.2"))),
                      os.path.join(folder, "out-" + name),
                      MergeOptions(write_model_card=False, copy_tokenizer=False, quiet=True))
            result = load_file(os.path.join(folder, "out-" + name, "model.safetensors"))
            golden.update({f"{name}/{key}": result[key] for key in KEPT})
    save_file(golden, os.path.join(out, "golden.safetensors"))


if __name__ == "__main__":
    main()
