#!/usr/bin/env python3
"""kquants.py - packing of super-blocks (q2_k … q6_k) against llama.cpp's own functions, on values of many kinds.

    python scripts/parity/kquants.py GGML [--seed N] [--blocks N]

GGML as in make_golden_kquants.py. Both are compiled here, without fused multiply-add. Prints for each kind and type the
share of blocks that are equal to the byte and the ratio of the root mean square errors; fails below 99.5 % or beyond 0.1 %."""

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "scripts"))

import make_golden_kquants as ggml  # noqa: E402

NAMES = ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"]


def kinds(rng: np.random.Generator, n: int):
    """Name and values [n, 256]."""
    normal = rng.standard_normal((n, 256)).astype(np.float32)
    yield "normal", normal * 0.02
    yield "bf16", ((normal * 0.02).view(np.uint32) & 0xFFFF0000).view(np.float32)
    yield "scales", normal * np.exp(rng.uniform(-25, 8, (n, 1))).astype(np.float32)
    yield "outliers", rng.standard_t(2, (n, 256)).astype(np.float32)
    groups = np.exp(rng.uniform(-12, 3, (n, 16, 1))).astype(np.float32)
    yield "groups", (normal.reshape(n, 16, 16) * groups).reshape(n, 256)
    yield "sparse", np.where(rng.random((n, 256)) < 0.7, 0, normal).astype(np.float32)
    yield "positive", np.abs(normal)
    yield "negative", -np.abs(normal)
    yield "grid", np.round(normal * 4).astype(np.float32) / 16
    zeros = normal.reshape(n, 16, 16).copy()
    zeros[:, ::3] = 0
    yield "zeros", zeros.reshape(n, 256)
    yield "constant", np.repeat(normal[:, :1], 256, axis=1)
    yield "small", normal * 1e-6
    yield "tiny", normal * 1e-13


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ggml")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=1000)
    args = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        theirs = ggml.build(args.ggml, folder)
        lib = os.path.join(folder, "pack.so")
        subprocess.check_call(["cc", "-O2", "-std=c11", "-D_GNU_SOURCE", "-ffp-contract=off", "-fno-math-errno", "-fPIC",
                               "-shared", f"-I{ROOT}/include", "-o", lib, f"{ROOT}/src/tensor/dtype_k_pack.c", "-lm"])
        ours = ctypes.CDLL(lib)
        for kind, values in kinds(np.random.default_rng(args.seed), args.blocks):
            x = np.ascontiguousarray(values.reshape(-1), np.float32)
            for name in NAMES:
                want = ggml.pack(theirs, name, x)
                got = np.zeros_like(want)
                run = getattr(ours, f"dt_{name}_pack")
                run.restype = None
                run(ggml.at(got), ggml.at(x), ctypes.c_int64(x.size))
                equal = (want == got).reshape(args.blocks, -1).all(axis=1).mean()
                error = [np.sqrt(np.mean((ggml.unpack(theirs, name, b) - x).astype(np.float64) ** 2)) for b in (want, got)]
                ratio = error[1] / error[0] if error[0] else 1.0
                fails = equal < 0.995 or abs(ratio - 1) > 1e-3
                bad += fails
                print(f"{kind:9} {name}: {100 * equal:.2f} % equal, error {ratio:.6f} of llama.cpp's{'  FAILS' if fails else ''}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
