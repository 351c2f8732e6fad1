#!/usr/bin/env python3
"""awq.py - ft quantize, type awq, against plain loops of AutoAWQ's search (scripts/awq_oracle.py), over random models:

    python scripts/parity/awq.py build/release/ft [--only NAME]

Of the codes 99 % are equal, scales and zeros as many, and the folder that ft opens has the log-probabilities of the float
model to what four bits lose. Prints a line a case; status 1 when a bound is exceeded."""
import json
import os
import sys

import torch
from safetensors.torch import load_file

import harness

sys.path.insert(0, os.path.join(harness.HERE, ".."))
import awq_oracle as oracle
import packed
import quantize  # its models

CASES = {
    "awq-gqa": ("q-llama", {"group_size": 32}),
    "awq-mha": ("q-qwen3-mha", {"group_size": 32}),
    "awq-qwen2": ("q-qwen2", {"group_size": 16}),
    "awq-qwen2-mha": ("q-qwen2-mha", {"group_size": 32}),
    "awq-row": ("q-llama", {"group_size": -1}),
    "awq-sym": ("q-llama", {"group_size": 32, "zero_point": False}),
    "awq-not-duo": ("q-llama-mha", {"group_size": 32, "duo_scaling": False}),
    "awq-no-clip": ("q-llama-mha", {"group_size": 32, "apply_clip": False}),
    "awq-mistral": ("q-mistral", {"group_size": 32}),
    "awq-gpt2": ("q-gpt2", {"group_size": 32}),
}
harness.MODELS.update({
    "q-llama-mha": {**quantize.B, "model_type": "llama", "num_key_value_heads": 6},
    "q-qwen2-mha": {**quantize.B, "model_type": "qwen2", "num_key_value_heads": 6},
    "q-qwen3-mha": {**quantize.B, "model_type": "qwen3", "head_dim": 32, "num_key_value_heads": 6},
})


def run(ft, folder, rows, cfg, out):
    data = os.path.join(folder, "calib.jsonl")
    with open(data, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"input_ids": row}) + "\n" for row in rows)
    config = {"model": {"path": folder}, "quantize": {"type": "awq", **cfg},
              "calibration": {"data": data, "samples": len(rows), "max_length": 64}}
    with open(out + ".json", "w", encoding="utf-8") as f:
        json.dump(config, f)
    done = harness.run_ft(ft, "quantize", out + ".json", "--out", out, "--json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def unpack(words):
    """[rows, n / 8] words → [rows, n] codes, eight neighbours a word in AWQ's order."""
    q = (words.long()[:, :, None] >> (4 * torch.arange(8))) & 15
    out = torch.empty_like(q)
    out[:, :, packed.AWQ_ORDER] = q
    return out.reshape(len(words), -1)


def read_folder(folder):
    t = load_file(os.path.join(folder, "model.safetensors"))
    names = [k[:-len(".qweight")] for k in t if k.endswith(".qweight")]
    return {n: (unpack(t[n + ".qweight"]).T, t[n + ".scales"].T.double(), unpack(t[n + ".qzeros"]).T) for n in names}


def equal(a, b):
    return float((a.double() == b.double()).double().mean())


def case(ft, name, work, report):
    model_name, cfg = CASES[name]
    folder, out = os.path.join(work, name), os.path.join(work, name + "-q")
    model = harness.make_model(model_name, folder, seed=len(name))
    rows = harness.token_rows(640, [40, 17, 64, 1, 33, 50, 29, 61, 48, 64, 60, 55, 64, 52], seed=5)
    probe = harness.token_rows(640, [31, 12], seed=9)
    plain = harness.hf_logprobs(model, probe)
    told = run(ft, folder, rows, cfg, out)
    wanted = oracle.quantise(model.double(), rows, cfg)
    codes = read_folder(out)
    assert sorted(codes) == sorted(wanted), (sorted(codes), sorted(wanted))
    share = min(equal(codes[n][0], wanted[n][0]) for n in codes)
    scales = min(equal(codes[n][k], wanted[n][k]) for n in codes for k in (1, 2))
    gap = harness.worst_logprob(harness.ft_logprobs(ft, out, probe), plain)
    report.line(name, share >= 0.99 and scales >= 0.99,
                f"codes {share:.5f}, scales and zeros {scales:.5f}, error {told[-1]['error']:.4g}, from the float model {gap:.2f}")


if __name__ == "__main__":
    harness.run_cases(CASES, case)
