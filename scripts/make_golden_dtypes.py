#!/usr/bin/env python3
"""Writes tests/golden/dtypes.safetensors: blocks of every GGUF format with their values, and packed
input, from llama.cpp's Python package. Needs: pip install gguf numpy safetensors."""

import os
import sys

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

UNPACK = "q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs".split()
PACK = "q8_0 q4_0 q4_1 q5_0 q5_1".split()
ELEMENTS = 2048


def main() -> None:
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "tests/golden/dtypes.safetensors")
    rng = np.random.default_rng(20240817)
    np.seterr(all="ignore")
    tensors = {}
    for name in UNPACK:
        kind = gguf.GGMLQuantizationType[name.upper()]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        # Random bytes are blocks too; some of their scales are subnormal, infinite or NaN.
        data = rng.integers(0, 256, (ELEMENTS // block, size), dtype=np.uint8)
        tensors[f"{name}.blocks"] = data.reshape(-1)
        tensors[f"{name}.values"] = dequantize(data, kind).astype(np.float32).reshape(-1)

    x = rng.standard_normal((ELEMENTS // 32, 32)).astype(np.float32)
    x *= rng.choice(np.array([1e-9, 1e-4, 0.02, 1, 300], np.float32), (len(x), 1))
    x[0] = 0
    x[1] = np.abs(x[1])
    x[2] = -np.abs(x[2])
    x[3] = 1
    tensors["pack.input"] = x.reshape(-1)
    for name in PACK:
        packed = quantize(x, gguf.GGMLQuantizationType[name.upper()])
        tensors[f"{name}.packed"] = packed.view(np.uint8).reshape(-1)
    save_file(tensors, out)


if __name__ == "__main__":
    main()
