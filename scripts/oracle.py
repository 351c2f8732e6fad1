"""oracle.py - what the golden and parity scripts share: the weight rule, model building, files.

Needs torch, transformers, safetensors and numpy. Nothing here runs in CI or at run time; the C tests
only read the files that these scripts have written.

The weight rule (so that golden models need not be stored). For a parameter with on-disk name N:
    s = FNV-1a, 32 bits, of the UTF-8 bytes of N (offset basis 2166136261, prime 16777619);
    for each element in row-major order:
        s = s * 1664525 + 1013904223            (mod 2^32)
        u = ((s >> 8) - 8388608) / 8388608      (exact in float32; -1 <= u < 1)
    value = 0.5 * u                             rank >= 2
          = (float)(1.0 + 0.25 * u)             rank 1, N ends in ".weight" (norm weights); the sum is
                                                formed in double and rounded once
          = 0.25 * u                            any other rank 1 (biases)
N carries the prefix of the family ("model.", "transformer."); a tied head is not a parameter. Shapes
are those on disk (GPT-2's Conv1D weights are in x out).
"""
import json
import os

import numpy as np
import torch


def hash_values(name, shape):
    """The weight rule as a float32 array of the given shape."""
    state = 2166136261
    for byte in name.encode("utf-8"):
        state = ((state ^ byte) * 16777619) & 0xFFFFFFFF
    count = int(np.prod(shape)) if len(shape) else 1
    u = np.empty(count, dtype=np.float64)
    for i in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        u[i] = ((state >> 8) - 8388608) / 8388608
    if len(shape) >= 2:
        values = 0.5 * u
    elif name.endswith(".weight"):
        values = 1.0 + 0.25 * u
    else:
        values = 0.25 * u
    return values.astype(np.float32).reshape(shape)


def build_model(config, dtype=torch.float32):
    """A transformers model from a config.json dictionary, filled by the weight rule, in eval mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {key: value for key, value in config.items() if key != "architectures"}
    hf = AutoConfig.for_model(**fields)
    hf._attn_implementation = "eager"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(hf, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(hash_values(name, tuple(parameter.shape))))
    model.tie_weights()
    return model.to(dtype).eval()


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(value, out, indent=2, sort_keys=True, ensure_ascii=False)
        out.write("\n")


def save_folder(model, config, folder):
    """A Hugging Face model folder with exactly this config.json (save_pretrained rewrites keys)."""
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    tensors = {name: p.detach().contiguous().clone() for name, p in model.named_parameters()}
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    write_json(os.path.join(folder, "config.json"), config)


def shifted(ids, labels):
    """Positions that enter the loss: (position of the logits, target), first label never used."""
    return [(t - 1, labels[t]) for t in range(1, len(ids)) if labels[t] != -100]


def loss_sum(logits, labels):
    """Sum of cross-entropies over the shifted, supervised positions of one row, and their number."""
    target = torch.tensor(labels[1:], dtype=torch.long)
    valid = target != -100
    if not bool(valid.any()):
        return logits.sum() * 0.0, 0
    log_probs = torch.log_softmax(logits[:-1], dim=-1)
    picked = log_probs[valid].gather(1, target[valid].unsqueeze(1))
    return -picked.sum(), int(valid.sum())
