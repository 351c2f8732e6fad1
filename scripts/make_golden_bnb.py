#!/usr/bin/env python3
"""Writes tests/golden/bnb: codes and scales of bitsandbytes' nf4 and fp4, and tiny models that transformers
quantised with it, with their logits.

Codes and absmax come from bitsandbytes.functional.quantize_4bit on the CPU, values from the plain PyTorch form of
dequantize_4bit (the vectorised one is wrong where a row is no multiple of a block). Codes of eight bits are made here, by
the nearest entry of bitsandbytes' map, as its CUDA kernels make them; how they are read back is bitsandbytes' own.
Needs: pip install bitsandbytes transformers accelerate safetensors numpy torch."""
import json
import os
import shutil
import sys
import tempfile

os.environ["TORCHDYNAMO_DISABLE"] = "1"
import bitsandbytes.functional as F
import numpy as np
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import oracle

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden")
OUT = os.path.join(ROOT, "bnb")


def dequantise(packed, state, dtype=None):
    absmax = state.absmax
    if state.nested:
        absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
    return _dequantize_4bit_compute(
        packed.reshape(-1).view(torch.uint8), absmax, state.code, state.blocksize, state.shape, dtype or state.dtype
    )


def inputs():
    """Blocks of 64 with ties (absmax 1), zeros, minus zeros, tiny and large numbers, and a short last block."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal(64 * 40).astype(np.float32) * np.float32(0.02)
    bounds = {}
    for kind in ("nf4", "fp4"):
        code, _ = torch.sort(F.get_4bit_type(kind, device="cpu"))
        bounds[kind] = ((code[1:] + code[:-1]) / 2).numpy()
    x[0:15], x[15:30] = bounds["nf4"], bounds["fp4"]
    x[30:45] = np.nextafter(bounds["nf4"], np.float32(2))
    x[45:60] = np.nextafter(bounds["fp4"], np.float32(-2))
    x[60:64] = [1, -1, -0.0, 0.0]
    x[64:128] = 0
    x[128:192] = -0.0
    x[192:256] *= np.float32(1e-40 / 0.02)
    x[256:320] *= np.float32(1e30)
    x[320:384] = np.float32(0.3)
    return torch.from_numpy(x)


def codes():
    tensors = {}
    x = inputs()
    for dtype, name in ((torch.float32, "f32"), (torch.bfloat16, "bf16"), (torch.float16, "f16")):
        for kind in ("nf4", "fp4"):
            for block in (32, 64, 4096):
                for n in (len(x), 64 * 6 + 37, 5):
                    if dtype != torch.float32 and (block != 64 or n == 5):
                        continue
                    part = x[:n].to(dtype)
                    if dtype == torch.float16:
                        part = torch.where(part.abs() > 6e4, torch.tensor(6e4, dtype=dtype), part)
                    packed, state = F.quantize_4bit(part, blocksize=block, quant_type=kind)
                    key = f"{name}.{kind}.{block}.{n}"
                    tensors[key + ".codes"] = packed.reshape(-1)
                    tensors[key + ".absmax"] = state.absmax
                    tensors[key + ".values"] = dequantise(packed, state).float()
            part = x.to(dtype)
            tensors[name + ".x"] = torch.where(part.abs() > 6e4, torch.tensor(6e4, dtype=dtype), part) \
                if dtype == torch.float16 else part
    # scales of scales
    code = F.create_dynamic_map()
    tensors["map.signed"], tensors["map.unsigned"] = code, F.create_dynamic_map(signed=False)
    absmax = tensors["f32.nf4.32.2560.absmax"].clone()
    absmax = torch.cat([absmax[12:]] * 8)[:519]
    offset = torch.tensor(np.float32(absmax.double().mean()))
    middle = (code[1:] + code[:-1]) / 2
    q, scales = [], []
    for i in range(0, len(absmax), 256):
        part = absmax[i:i + 256] - offset
        scale = part.abs().max()
        q.append(torch.bucketize(part * (1 / scale), middle).to(torch.uint8))
        scales.append(scale)
    q, scales = torch.cat(q), torch.stack(scales)
    state2 = F.QuantState(absmax=scales, blocksize=256, code=code, dtype=torch.float32)
    tensors["nested.absmax"], tensors["nested.codes"], tensors["nested.scales"] = absmax, q, scales
    tensors["nested.offset"] = offset.reshape(1)
    tensors["nested.read"] = F.dequantize_blockwise(q, state2) + offset
    save_file(tensors, os.path.join(OUT, "codes.safetensors"))


def folder(name, family, dtype, **how):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.pytorch_utils import Conv1D

    with open(os.path.join(ROOT, "families", family, "config.json")) as f:
        config = json.load(f)
    plain = oracle.build_model(config, dtype)
    out = os.path.join(OUT, name)
    with tempfile.TemporaryDirectory() as source:
        plain.save_pretrained(source)
        made = AutoModelForCausalLM.from_pretrained(
            source, quantization_config=BitsAndBytesConfig(load_in_4bit=True, **how), device_map="cpu", dtype=dtype
        )
    shutil.rmtree(out, ignore_errors=True)
    made.save_pretrained(out)
    for other in ("generation_config.json",):
        if os.path.exists(os.path.join(out, other)):
            os.remove(os.path.join(out, other))
    layers = dict(made.named_modules())
    plain = oracle.build_model(config)  # buffers such as frequencies are f32, weights are rounded
    for parameter in plain.parameters():
        parameter.data = parameter.data.to(dtype).float()
    for path, module in plain.named_modules():
        layer = layers[path]
        if type(layer).__name__ != "Linear4bit":
            continue
        weight = dequantise(layer.weight.data, layer.weight.quant_state).float()
        module.weight.data = weight.T.contiguous() if isinstance(module, Conv1D) else weight
    ids = torch.arange(12).remainder(config["vocab_size"]).unsqueeze(0)
    with torch.no_grad():
        logits = plain(ids).logits[0]
    values = next(m.weight.data for n, m in plain.named_modules() if n.endswith(("layers.1.mlp.down_proj", "h.1.mlp.c_proj")))
    if family == "gpt2":
        values = values.T
    save_file({"logits": logits.contiguous(), "values": values.contiguous()}, os.path.join(out, "golden.safetensors"))


def nested_nearest(absmax):
    """absmax as double quantisation by the nearest entries gives it back."""
    code = F.create_dynamic_map()
    middle = (code[1:] + code[:-1]) / 2
    offset = torch.tensor(np.float32(absmax.double().mean()))
    out = []
    for i in range(0, len(absmax), 256):
        part = absmax[i:i + 256] - offset
        scale = part.abs().max()
        out.append(code[torch.bucketize(part * (1 / scale), middle)] * scale + offset)
    return torch.cat(out)


def train_qlora():
    """Twenty steps of PEFT's LoRA, as tests/golden/peft/train_lora, on the numbers of a base in nf4."""
    import make_golden_peft as peft

    spec = peft.TRAIN["train_lora"]
    config = peft.CASES["llama"]
    model = peft.start(config, spec, torch.float32, os.path.join(ROOT, "peft", "train_lora", "init"))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "layers." in name and "lora_" not in name:
            packed, state = F.quantize_4bit(parameter.data, blocksize=64, quant_type="nf4")
            state.absmax = nested_nearest(state.absmax)
            parameter.data = dequantise(packed, state)
    losses, rates, norms = peft.train(model, peft.training_rows(config["vocab_size"]), spec)
    tensors = {"losses": torch.tensor(losses), "learning_rates": torch.tensor(rates), "grad_norms": torch.tensor(norms)}
    tensors.update({"final." + n: t for n, t in peft.trained_tensors(model, True).items()})
    save_file(tensors, os.path.join(OUT, "train_qlora.safetensors"))
    print(f"  train_qlora: loss {losses[0]:.4f} -> {losses[-1]:.4f}")


def main():
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    codes()
    train_qlora()
    folder("llama_nf4", "llama", torch.float32, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    folder("gpt2_fp4", "gpt2", torch.bfloat16, bnb_4bit_quant_type="fp4")
    folder("qwen2_nf4", "qwen2", torch.float16, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
           bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_quant_storage=torch.float16)


if __name__ == "__main__":
    main()
