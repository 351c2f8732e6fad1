#!/usr/bin/env python3
"""quantize.py - ft quantize against plain loops of GPTQ and of rounding (scripts/gptq_oracle.py), over random models:

    python scripts/parity/quantize.py build/release/ft [--only NAME]

Each layer is held to the loops over what ft made of those before it. 98 % of the codes are equal (one that falls on the
other side of a rounding tie moves what is behind it in its row), and the error that ft tells is that of the loops to 1 %. The folder
is opened by ft again: its log-probabilities are those of the values it holds. Prints a line a case; status 1 when a bound is exceeded."""
import json
import os
import sys

import torch

import harness

sys.path.insert(0, os.path.join(harness.HERE, ".."))
import gptq_oracle as oracle

B = {"vocab_size": 643, "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 6,
     "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 2}
harness.MODELS.update({
    "q-llama": {**B, "model_type": "llama"},
    "q-llama-bf16": {**B, "model_type": "llama", "dtype": "bfloat16", "tie_word_embeddings": True},
    "q-mistral": {**B, "model_type": "mistral", "sliding_window": 9},
    "q-qwen2": {**B, "model_type": "qwen2"},
    "q-qwen3": {**B, "model_type": "qwen3", "head_dim": 32},
    "q-gpt2": {"model_type": "gpt2", "vocab_size": 643, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64,
               "bos_token_id": 0, "eos_token_id": 0},
})
CASES = {
    "gptq": ("q-llama", {"group_size": 32}),
    "gptq-row": ("q-llama", {"group_size": -1}),
    "gptq-asym": ("q-qwen2", {"group_size": 32, "sym": False}),
    "gptq-asym-v2": ("q-llama", {"group_size": 32, "sym": False, "checkpoint_format": "gptq_v2", "bits": 2}),
    "gptq-2": ("q-llama", {"group_size": 16, "bits": 2, "sym": False}),
    "gptq-3": ("q-qwen3", {"group_size": 32, "bits": 3}),
    "gptq-8": ("q-mistral", {"group_size": 16, "bits": 8, "damp_percent": 0.1}),
    "gptq-desc": ("q-llama", {"group_size": 32, "desc_act": True}),
    "gptq-desc-static": ("q-qwen2", {"group_size": 32, "bits": 3, "desc_act": True, "static_groups": True}),
    "gptq-static": ("q-qwen3", {"group_size": 16, "static_groups": True, "sym": False}),
    "gptq-one-stage": ("q-llama", {"group_size": 32, "true_sequential": False}),
    "gptq-bf16": ("q-llama-bf16", {"group_size": 32}),
    "gptq-gpt2": ("q-gpt2", {"group_size": 32, "desc_act": True}),
    "gptq-left": ("q-llama", {"group_size": 32, "modules_to_not_convert": ["k_proj", "layers.1.mlp"]}),
    "rtn": ("q-llama", {"type": "rtn", "group_size": 32}),
    "rtn-3": ("q-qwen2", {"type": "rtn", "group_size": 16, "bits": 3, "sym": False}),
    "rtn-gpt2": ("q-gpt2", {"type": "rtn", "group_size": -1, "bits": 8}),
}


def run(ft, folder, rows, cfg, out):
    data = os.path.join(folder, "calib.jsonl")
    with open(data, "w") as f:
        f.writelines(json.dumps({"input_ids": row}) + "\n" for row in rows)
    config = {"model": {"path": folder}, "quantize": cfg}
    if cfg.get("type", "gptq") != "rtn":
        config["calibration"] = {"data": data, "samples": len(rows), "max_length": 64}
    with open(out + ".json", "w") as f:
        json.dump(config, f)
    done = harness.run_ft(ft, "quantize", out + ".json", "--out", out, "--json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def equal(a, b):
    return float((a == b).double().mean())


def case(ft, name, work, report):
    model_name, cfg = CASES[name]
    folder, out = os.path.join(work, name), os.path.join(work, name + "-q")
    model = harness.make_model(model_name, folder, seed=len(name))
    rows = harness.token_rows(640, [40, 17, 64, 1, 33, 50, 29, 61, 48, 64], seed=5)
    told = run(ft, folder, rows, cfg, out)
    _, codes = oracle.read_folder(out)
    wanted, error = oracle.quantise(model, rows, cfg, cfg.get("modules_to_not_convert", []), codes)
    assert sorted(codes) == sorted(wanted), (sorted(codes), sorted(wanted))
    share = min(equal(codes[n][0], wanted[n][0].float()) for n in codes)
    scales = min(equal(codes[n][k], wanted[n][k]) for n in codes for k in (1, 2))
    groups = all(torch.equal(codes[n][3], wanted[n][3]) for n in codes)
    off = max(abs(line["error"] / error[line["name"][:-len(".weight")]] - 1) for line in told[:-1])
    probe = harness.token_rows(640, [31, 12], seed=9)
    gap = harness.worst_logprob(harness.ft_logprobs(ft, out, probe), harness.hf_logprobs(model, probe))
    report.line(name, share >= 0.98 and groups and off < 0.01 and gap < 2e-3,
                f"codes {share:.5f}, scales and zeros {scales:.5f}, error {told[-1]['error']:.4g} (off by {off:.1e}), "
                f"log-probabilities {gap:.1e}")


if __name__ == "__main__":
    harness.run_cases(CASES, case)
