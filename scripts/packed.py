"""packed.py - GPTQ's and AWQ's tensors of a matrix from codes, scales and zeros, in plain numpy; and what they mean.

For whole codes q [out, in], scales [out, groups] and zeros [out, groups], W[o, i] = scale[o, g] * (q[o, i] - zero[o, g]), g the
group of input i. Used by make_golden_packed.py and parity/packed.py."""
import json
import os

import numpy as np
import torch

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def stream(codes, bits):
    """The codes of each row as one stream of bits, the first in the lowest: words of 32 bits [rows, n * bits / 32]."""
    rows, n = codes.shape
    ones = (codes[:, :, None].astype(np.int64) >> np.arange(bits)) & 1
    words = ones.reshape(rows, n * bits // 32, 32) << np.arange(32)
    return words.sum(-1).astype(np.uint32).view(np.int32)


def in_awq_order(codes):
    rows, n = codes.shape
    return codes.reshape(rows, n // 8, 8)[:, :, AWQ_ORDER].reshape(rows, n)


def tensors(module, method, bits, q, scale, zero, g_idx=None, v2=False, dtype=torch.float16):
    """The tensors of `module` as numpy's and torch's contiguous arrays, by name."""
    if method == "awq":
        made = {"qweight": stream(in_awq_order(q.T), bits), "qzeros": stream(in_awq_order(zero.T), bits)}
    else:
        stored = zero if v2 else zero - 1
        made = {"qweight": np.ascontiguousarray(stream(q, bits).T), "qzeros": stream(stored.T & (2**bits - 1), bits)}
        if g_idx is not None:
            made["g_idx"] = g_idx.astype(np.int32)
    out = {f"{module}.{name}": torch.from_numpy(np.ascontiguousarray(value)) for name, value in made.items()}
    out[f"{module}.scales"] = torch.from_numpy(np.ascontiguousarray(scale.T)).to(dtype)
    return out


def values(q, scale, zero, group):
    """The float matrix, each product rounded to f32 once."""
    return scale.astype(np.float32)[:, group] * (q - zero[:, group]).astype(np.float32)


def rounded(scale, dtype):
    return torch.from_numpy(np.ascontiguousarray(scale)).to(dtype).float().numpy()


def quantise(w, bits, group, sym, dtype=torch.float16, least_zero=0):
    """Round to nearest by groups of the columns in `group` (their indices): codes, scales in dtype, zeros."""
    top, groups = 2**bits - 1, int(group.max()) + 1
    scale = np.empty((len(w), groups), np.float32)
    zero = np.empty((len(w), groups), np.int64)
    for g in range(groups):
        part = w[:, group == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        if sym:
            high = np.maximum(-low, high)
            low = np.where(low < 0, -high, low)
        low, high = np.where(high == low, -1, low), np.where(high == low, 1, high)
        scale[:, g] = rounded((high - low) / np.float32(top), dtype)
        zero[:, g] = (top + 1) // 2 if sym else np.maximum(np.round(-low / scale[:, g]), least_zero)
    q = np.clip(np.round(w / scale[:, group]) + zero[:, group], 0, top).astype(np.int64)
    return q, scale, zero


def write_folder(folder, config, quantization, tensors_of_file):
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    save_file(tensors_of_file, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump({**config, "quantization_config": quantization}, out, indent=1, sort_keys=True)
        out.write("\n")
