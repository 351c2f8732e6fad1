#!/usr/bin/env python3
"""Writes tests/golden/kquants.safetensors: values packed by llama.cpp's own quantize_row_*_ref in its super-blocks of 256,
and random ternary blocks with their values.

    python make_golden_kquants.py GGML [OUT]

GGML is the folder `ggml` of llama.cpp's sources (vendor/llama.cpp/ggml in the sdist of llama-cpp-python). Its ggml-quants.c is
compiled here without fused multiply-add. Needs: a C compiler; pip install numpy safetensors."""

import ctypes
import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import save_file

TYPES = {"q2_k": 84, "q3_k": 110, "q4_k": 144, "q5_k": 176, "q6_k": 210, "tq1_0": 54, "tq2_0": 66}
BLOCKS = 20

STUBS = """
#include <stdlib.h>
void ggml_abort(const char *f, int l, const char *m, ...) { (void)f; (void)l; (void)m; abort(); }
size_t ggml_row_size(int t, long n) { (void)t; (void)n; return 0; }
size_t ggml_type_size(int t) { (void)t; return 0; }
const char *ggml_type_name(int t) { (void)t; return ""; }
"""


def build(ggml: str, folder: str) -> ctypes.CDLL:
    stubs, lib = os.path.join(folder, "stubs.c"), os.path.join(folder, "quants.so")
    with open(stubs, "w") as f:
        f.write(STUBS)
    subprocess.check_call(["cc", "-O2", "-w", "-DNDEBUG", "-ffp-contract=off", "-fPIC", "-shared",
                           f"-I{ggml}/include", f"-I{ggml}/src", "-o", lib,
                           f"{ggml}/src/ggml-quants.c", stubs, "-lm"])
    return ctypes.CDLL(lib)


def at(a: np.ndarray) -> ctypes.c_void_p:
    return a.ctypes.data_as(ctypes.c_void_p)


def spelled(name: str) -> str:
    return name[:-1] + "K" if name.endswith("k") else name


def pack(lib: ctypes.CDLL, name: str, x: np.ndarray) -> np.ndarray:
    out = np.zeros(x.size // 256 * TYPES[name], np.uint8)
    run = getattr(lib, f"quantize_row_{spelled(name)}_ref")
    run.restype = None
    run(at(x), at(out), ctypes.c_int64(x.size))
    return out


def unpack(lib: ctypes.CDLL, name: str, data: np.ndarray) -> np.ndarray:
    out = np.zeros(data.size // TYPES[name] * 256, np.float32)
    run = getattr(lib, f"dequantize_row_{spelled(name)}")
    run.restype = None
    run(at(data), at(out), ctypes.c_int64(out.size))
    return out


def values(rng: np.random.Generator) -> np.ndarray:
    """Blocks that differ in what the searches meet: scales, groups of zeros, one sign, outliers, few distinct values."""
    x = rng.standard_normal((BLOCKS, 256)).astype(np.float32)
    x *= np.exp(rng.uniform(-9, 5, (BLOCKS, 1))).astype(np.float32)
    x[0] = 0
    x[1] = np.abs(x[1])
    x[2] = -np.abs(x[2])
    x[3] = -0.375
    x[4] = 0.375
    x[5, :96] = 0
    x[6, ::7] *= 30
    x[7] = np.round(x[7] / np.abs(x[7]).max() * 8) / 16
    x[8].reshape(16, 16)[:] *= np.exp(rng.uniform(-9, 0, (16, 1))).astype(np.float32)
    x[9] *= 1e-7 / np.abs(x[9]).max()
    x[10] = np.sign(x[10]) * 0.02
    x[11, rng.random(256) < 0.7] = 0
    return x.reshape(-1)


def main() -> None:
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(root, "tests/golden/kquants.safetensors")
    rng = np.random.default_rng(20250211)
    x = values(rng)
    tensors = {"pack.input": x}
    with tempfile.TemporaryDirectory() as folder:
        lib = build(sys.argv[1], folder)
        for name in TYPES:
            tensors[f"{name}.packed"] = pack(lib, name, x)
        for name in ("tq1_0", "tq2_0"):
            data = rng.integers(0, 256, (2, TYPES[name]), dtype=np.uint8)
            tensors[f"{name}.blocks"] = data.reshape(-1)
            tensors[f"{name}.values"] = unpack(lib, name, data)
    save_file(tensors, out)


if __name__ == "__main__":
    main()
