#!/usr/bin/env python3
"""Writes tests/golden/packed: tiny folders of GPTQ and AWQ in each of their forms, with the logits of transformers on the
float model that they mean.

The tensors are packed by scripts/packed.py. Needs: torch, transformers, safetensors, numpy."""
import os
import shutil

import numpy as np
import torch
from safetensors.torch import save_file

import oracle
import packed

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "packed")

BASE = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2,
        "tie_word_embeddings": True, "dtype": "float16"}
GPT2 = {"model_type": "gpt2", "vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "n_inner": 64,
        "bos_token_id": 0, "eos_token_id": 0, "dtype": "bfloat16"}
CASES = {
    # name: (config, method, bits, group_size, how)
    "llama_4": ({**BASE, "model_type": "llama", "num_key_value_heads": 2}, "gptq", 4, 16, {"sym": True, "float": "1.self_attn.o_proj"}),
    "gpt2_8": (GPT2, "gptq", 8, 32, {"v2": True, "act": True, "scales": torch.float32}),
    "qwen2_3": ({**BASE, "model_type": "qwen2", "dtype": "bfloat16"}, "gptq", 3, -1, {"index": False, "scales": torch.bfloat16}),
    "mistral_2": ({**BASE, "model_type": "mistral", "sliding_window": None}, "gptq", 2, 32, {"act": True, "random": True}),
    "qwen3_4": ({**BASE, "model_type": "qwen3", "head_dim": 8}, "gptq", 4, 32, {"act": True, "v2": True}),
    "llama_awq": ({**BASE, "model_type": "llama", "num_key_value_heads": 2}, "awq", 4, 32, {}),
    "qwen2_awq": ({**BASE, "model_type": "qwen2", "num_key_value_heads": 2}, "awq", 4, 16, {"random": True}),
}


def linears(model):
    from transformers.pytorch_utils import Conv1D

    for path, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, Conv1D)) and "lm_head" not in path:
            yield path, module, isinstance(module, Conv1D)


def coded(w, bits, group, how, v2, rng):
    if not how.get("random"):
        return packed.quantise(w, bits, group, how.get("sym", False), how.get("scales", torch.float16), 0 if v2 else 1)
    groups, top = int(group.max()) + 1, 2**bits
    scale = packed.rounded(rng.uniform(0.01, 0.3, (len(w), groups)).astype(np.float32), torch.float16)
    low = 0 if v2 else 1  # a field of all ones is the zero 2^bits in v1
    return rng.integers(0, top, w.shape), scale, rng.integers(low, top + low, (len(w), groups))


def folder(name):
    config, method, bits, size, how = CASES[name]
    rng = np.random.default_rng(len(name))
    v2 = how.get("v2", False) or method == "awq"
    dtype = getattr(torch, config["dtype"])
    model = oracle.build_model({**config, "dtype": "float32"})
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    coded_names, tensors = set(), {}
    for path, module, turned in linears(model):
        if how.get("float") and how["float"] in path:
            continue
        w = module.weight.data.numpy()
        w = w.T if turned else w
        group = np.arange(w.shape[1]) // (w.shape[1] if size < 0 else size)
        if how.get("act"):
            group = rng.permutation(group)
        q, scale, zero = coded(w, bits, group, how, v2, rng)
        index = group if how.get("index", True) and method == "gptq" else None
        tensors.update(packed.tensors(path, method, bits, q, scale, zero, index, v2, how.get("scales", torch.float16)))
        made = torch.from_numpy(packed.values(q, scale, zero, group))
        module.weight.data = made.T.contiguous() if turned else made
        coded_names.add(path + ".weight")
    tensors.update({k: p.detach().to(dtype).clone() for k, p in model.named_parameters() if k not in coded_names})
    quantization = {"quant_method": method, "bits": bits, "group_size": size}
    if method == "awq":
        quantization.update({"zero_point": True, "version": "gemm"})
    else:
        quantization.update({"desc_act": how.get("act", False), "sym": how.get("sym", False), "damp_percent": 0.01,
                             "format" if how.get("act") else "checkpoint_format": "gptq_v2" if v2 else "gptq"})
    out = os.path.join(OUT, name)
    shutil.rmtree(out, ignore_errors=True)
    packed.write_folder(out, config, quantization, tensors)
    ids = torch.arange(12).unsqueeze(0)
    with torch.no_grad():
        logits = model(ids).logits[0]
    last = next(m.weight.data.T if t else m.weight.data for n, m, t in linears(model) if "1.mlp.down_proj" in n or "1.mlp.c_proj" in n)
    save_file({"logits": logits.contiguous(), "values": last.contiguous().clone()}, os.path.join(out, "golden.safetensors"))


def main():
    torch.set_num_threads(1)
    for name in CASES:
        folder(name)


if __name__ == "__main__":
    main()
