#!/usr/bin/env python3
"""Writes tests/golden/qat: one step of plain SGD under model.qat on the tiny llama of tests/golden/bitnet: the loss and some
gradients, of torchao's layers (affine), of LSQ's equations (lsq) and of transformers' BitNet layers (scripts/parity/qat_layers.py).

An input that stands near a rounding tie gets another code elsewhere, so of many texts the one is taken whose inputs stay
farthest from ties. Needs: torch, torchao, transformers, safetensors, numpy."""
import json
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "parity"))

import numpy as np
import torch
from qat_layers import FakeWeights, simulate
from safetensors.torch import load_file, save_file

GOLDEN = os.path.join(HERE, "..", "tests", "golden")
CASES = {
    "affine": {"type": "affine", "group_size": 8},
    "affine_int8": {"type": "affine", "weight_dtype": "int8", "group_size": -1, "activation_dtype": None},
    "lsq": {"type": "lsq", "group_size": 8},
    "lsq_input": {"type": "lsq", "weight_dtype": "int8", "group_size": -1, "activation_dtype": "int8"},
    "bitnet": {"type": "bitnet"},
    "bitnet_norm": {"type": "bitnet", "use_rms_norm": True},
}
TENSORS = ("0.self_attn.q_proj", "0.self_attn.v_proj", "1.self_attn.o_proj", "1.mlp.down_proj", "1.input_layernorm")
margin = [1.0]


def watch_inputs():
    """Notes how near to a tie an input of eight bits comes."""
    theirs = FakeWeights.inputs

    def ours(self, x):
        v = x.detach()
        if self.qat["type"] == "bitnet":
            if self.qat.get("use_rms_norm"):
                v = v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-6)
            v = v * (127 / v.abs().amax(-1, keepdim=True).clamp(min=1e-5))
        elif self.rounds_x:
            v = v * (255 / (v.amax(-1, keepdim=True).clamp(min=0) - v.amin(-1, keepdim=True).clamp(max=0)))
        else:
            return theirs(self, x)
        margin[0] = min(margin[0], float(((v - v.floor()) - 0.5).abs().min()))
        return theirs(self, x)

    FakeWeights.inputs = ours


def base():
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = os.path.join(GOLDEN, "bitnet", "llama_online")
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    del config["quantization_config"], config["model_type"]
    model = AutoModelForCausalLM.from_config(LlamaConfig(**config), attn_implementation="eager").float()
    model.load_state_dict(load_file(os.path.join(folder, "model.safetensors")), strict=False)
    model.tie_weights()
    return model.eval()


def step(qat, ids):
    model = simulate(base(), qat)
    margin[0] = 1.0
    loss = torch.nn.functional.cross_entropy(model(torch.tensor([ids])).logits[0, :-1], torch.tensor(ids[1:]))
    return model, loss, margin[0]


def farthest(qat):
    rng = np.random.default_rng(5)
    texts = [rng.integers(3, 32, 7).tolist() for _ in range(60)]
    return max(texts, key=lambda ids: step(qat, ids)[2])


def main():
    torch.set_num_threads(1)
    out = os.path.join(GOLDEN, "qat")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    watch_inputs()
    for name, qat in CASES.items():
        ids = farthest(qat)
        model, loss, near = step(qat, ids)
        loss.backward()
        scales = {k: p for k, p in model.named_parameters() if "weight_scale" in k and any(t in k for t in TENSORS)}
        tensors = {f"start.{k}": p.detach().clone() for k, p in scales.items()}
        tensors |= {"loss": loss.detach().reshape(1), "input_ids": torch.tensor(ids, dtype=torch.int32)}
        for key, p in model.named_parameters():
            if any(t in key for t in TENSORS):
                tensors[f"grad.{key}"] = p.grad.contiguous().clone()
        save_file(tensors, os.path.join(out, f"{name}.safetensors"), metadata={"qat": json.dumps(qat)})
        os.chmod(os.path.join(out, f"{name}.safetensors"), 0o644)
        print(name, ids, float(loss), "from a tie:", near)


if __name__ == "__main__":
    main()
