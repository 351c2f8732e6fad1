#!/usr/bin/env python3
"""make_golden_compress.py - what plain loops of AWQ (awq_oracle.py) and of pruning (parity/prune.py) make of data/tiny.

    python scripts/make_golden_compress.py [--out tests/golden/compress]

    CASE.json             "verb" and "section" of a config; of layers "scores" and "dropped"
    golden.safetensors    CASE/TENSOR: values of some weights, of AWQ those of the codes (F32), of pruning in the dtype of the base

The calibration data is tests/golden/quantize/calib.jsonl.  Needs torch and transformers."""
import argparse
import json
import os
import sys

import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..")
sys.path[:0] = [HERE, os.path.join(HERE, "parity")]
import awq_oracle
import prune

TINY = os.path.join(ROOT, "data", "tiny")
AWQ = {"type": "awq", "group_size": 32}
PRUNED = {
    "wanda": {"type": "wanda", "sparsity": 0.37},
    "sparsegpt": {"type": "sparsegpt", "pattern": "2:4"},
    "magnitude": {"type": "magnitude", "sparsity": 0.3, "scope": "global"},
}
LAYERS = {
    "layers": {"type": "layers", "drop": 2},
    "layers_angular": {"type": "layers", "drop": 2, "importance": "angular"},
}
KEPT = ["model.layers.0.self_attn.k_proj", "model.layers.1.self_attn.k_proj"]


def load():
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32, attn_implementation="eager").eval()


def pruned(model, rows, cfg):
    """All linears of the blocks in place, each block over inputs from those before it."""
    masks = prune.magnitude(model, cfg) if cfg["type"] == "magnitude" else None
    for b, block in enumerate(prune.blocks_of(model)):
        x = prune.inputs_of(model, block, rows) if masks is None else None
        for n, module in prune.linears_of(block).items():
            w = module.weight.detach().double()
            if cfg["type"] == "sparsegpt":
                w = prune.sparsegpt(w, x[n], cfg)
            else:
                w[masks[b, n] if masks else prune.by_row(w.abs() * x[n].pow(2).sum(0).sqrt(), cfg)] = 0
            module.weight.data = w.bfloat16().float()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=os.path.join(ROOT, "tests", "golden", "compress"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(ROOT, "tests", "golden", "quantize", "calib.jsonl")) as lines:
        rows = [json.loads(line)["input_ids"] for line in lines]
    cases, tensors = {"awq": {"verb": "quantize", "section": AWQ}}, {}
    codes = awq_oracle.quantise(load().double(), rows, AWQ)
    for name in KEPT:
        q, scale, zero = codes[name]
        value = scale[..., None] * (q.reshape(*scale.shape, -1) - zero[..., None])
        tensors[f"awq/{name}.weight"] = value.reshape(q.shape).float().contiguous()
    for case, cfg in PRUNED.items():
        cases[case] = {"verb": "prune", "section": cfg}
        modules = dict(pruned(load(), rows, cfg).named_modules())
        for name in KEPT:
            tensors[f"{case}/{name}.weight"] = modules[name].weight.detach().bfloat16().contiguous()
    for case, cfg in LAYERS.items():
        scores = prune.layer_scores(load(), rows, cfg)
        cases[case] = {"verb": "prune", "section": cfg, "scores": scores, "dropped": prune.lowest_layers(scores, cfg)}
    for case, golden in cases.items():
        with open(os.path.join(out, case + ".json"), "w") as text:
            json.dump(golden, text, indent=1)
            text.write("\n")
    save_file(tensors, os.path.join(out, "golden.safetensors"))


main()
