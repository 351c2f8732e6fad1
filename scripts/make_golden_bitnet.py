#!/usr/bin/env python3
"""Writes tests/golden/bitnet: a tiny llama and a tiny qwen2 in each form that transformers has of BitNet, with the logits of its
layers (BitLinear, AutoBitLinear); and single steps of quantisation-aware training, for model.qat.

online/ holds the numbers (qwen2: use_rms_norm), packed/ what they round to in bits (bitlinear), auto/ the same with the
step itself for weight_scale (autobitlinear, offline), values/ that with −1, 0, 1 as numbers. torch.compile is off.

Needs: torch, transformers, accelerate, safetensors, numpy."""
import json
import os
import shutil

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import torch
from safetensors.torch import save_file

import oracle

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "bitnet")
CONFIG = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2,
          "tie_word_embeddings": True, "dtype": "float32"}
# a row of down_proj ends inside a block of codes
FAMILIES = {"llama": ({"intermediate_size": 136}, {}), "qwen2": ({"intermediate_size": 24}, {"use_rms_norm": True, "rms_norm_eps": 1e-5})}
FORMS = {"online": ("autobitlinear", "online"), "packed": ("bitlinear", "offline"), "auto": ("autobitlinear", "offline"),
         "values": ("autobitlinear", "offline")}


def write(folder, config, quantization, tensors):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    oracle.write_json(os.path.join(folder, "config.json"), {**config, "quantization_config": quantization})


def tensors_of(model, form):
    from transformers.integrations.bitnet import pack_weights

    out = {}
    for name, p in model.named_parameters():
        w = p.detach().clone().contiguous()
        if form == "online" or w.ndim != 2 or "embed" in name:
            out[name] = w
            continue
        step = w.abs().mean().clamp(min=1e-5)
        codes = (w * (1.0 / step)).round().clamp(-1, 1)
        out[name] = codes if form == "values" else pack_weights(codes.clone()).contiguous()
        scale = step if form != "packed" else 1.0 / step
        out[name[: -len("weight")] + "weight_scale"] = scale.reshape(1)
    return out


def folders():
    from transformers import AutoModelForCausalLM

    for family, (shape, more) in FAMILIES.items():
        config = {**CONFIG, **shape, "model_type": family}
        model = oracle.build_model(config)
        for form, (kind, mode) in FORMS.items():
            if family == "qwen2" and form in ("auto", "values"):  # refused: transformers scales their biases
                continue
            folder = os.path.join(OUT, f"{family}_{form}")
            quantization = {"quant_method": "bitnet", "linear_class": kind, "quantization_mode": mode,
                            "modules_to_not_convert": None, **more}
            write(folder, config, quantization, tensors_of(model, form))
            made = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
            for module in made.modules():  # the gain of a norm is none of the file's
                if getattr(module, "rms_norm", None) is not None:
                    module.rms_norm.weight.data.fill_(1.0)
            with torch.no_grad():
                logits = made(torch.arange(12).unsqueeze(0)).logits[0]
            save_file({"logits": logits.contiguous().clone()}, os.path.join(folder, "golden.safetensors"))
            print(family, form, {type(m).__name__ for m in made.modules() if "Bit" in type(m).__name__}, float(logits.norm()))


def main():
    torch.set_num_threads(1)
    folders()


if __name__ == "__main__":
    main()
