#!/usr/bin/env python3
"""make_golden_quantize.py - what plain loops of GPTQ and of rounding (gptq_oracle.py) make of data/tiny.

    python scripts/make_golden_quantize.py [--out tests/golden/quantize]

    CASE.json             the section "quantize" of a config, and the error of every layer
    calib.jsonl           the calibration data, as ids
    golden.safetensors    CASE/LAYER.q (U8 [out, in]), .scale (F16 [out, groups]), .zero (U8), .g_idx (I32) of block 0's
                          k_proj and o_proj

Needs torch and transformers."""
import argparse
import json
import os
import sys

import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gptq_oracle as oracle

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
KEPT = ["model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.o_proj"]
CASES = {
    "gptq": {"type": "gptq", "group_size": 32},
    "gptq_desc": {"type": "gptq", "bits": 3, "group_size": -1, "desc_act": True, "true_sequential": False,
                  "modules_to_not_convert": ["k_proj", "v_proj"]},
    "gptq_static": {"type": "gptq", "bits": 8, "group_size": 16, "desc_act": True, "static_groups": True, "sym": False,
                    "checkpoint_format": "gptq_v2"},
    "rtn": {"type": "rtn", "bits": 2, "group_size": 48, "sym": False, "modules_to_not_convert": ["mlp"]},
    "rtn_sym": {"type": "rtn", "group_size": 4},  # many groups without a negative weight
}


def main():
    from transformers import AutoModelForCausalLM

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=os.path.join(ROOT, "tests", "golden", "quantize"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    generator = torch.Generator().manual_seed(11)
    rows = [torch.randint(0, 640, (n,), generator=generator).tolist() for n in (40, 1, 17, 48, 33)]
    with open(os.path.join(out, "calib.jsonl"), "w") as f:
        f.writelines(json.dumps({"input_ids": row}) + "\n" for row in rows)
    tensors = {}
    for name, cfg in CASES.items():
        model = AutoModelForCausalLM.from_pretrained(os.path.join(ROOT, "data", "tiny"), dtype=torch.float32,
                                                     attn_implementation="eager").eval()
        codes, error = oracle.quantise(model, rows, cfg, cfg.get("modules_to_not_convert", []))
        with open(os.path.join(out, name + ".json"), "w") as f:
            json.dump({"quantize": cfg, "error": error}, f, indent=1)
            f.write("\n")
        for layer in KEPT:
            if layer in codes:
                q, scale, zero, group = codes[layer]
                for key, t in (("q", q.byte()), ("scale", scale.half()), ("zero", zero.byte()), ("g_idx", group.int())):
                    tensors[f"{name}/{layer}.{key}"] = t.contiguous()
    save_file(tensors, os.path.join(out, "golden.safetensors"))


main()
