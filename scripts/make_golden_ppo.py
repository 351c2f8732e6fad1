#!/usr/bin/env python3
"""make_golden_ppo.py - 20 steps of the plain loop of scripts/parity/ppo.py on the embedded model, for tests.

    python scripts/make_golden_ppo.py [--out tests/golden/ppo]

LoRA on data/tiny from tests/golden/preference/init, factors that are not zero; four completions a batch in file order, AdamW at a
constant rate, clip_grad_norm_ 1.0. The loop is in float64.

    rollouts.jsonl      what is replayed
    value_head.safetensors  a head to begin with
    CASE.json           the run as a config; model.path is a placeholder
    CASE.safetensors
        log.NAME        F32 [20], loss, grad_norm and figures of log.jsonl
        final.NAME      F32, factors and head after step 20

Needs what scripts/parity/harness.py names.
"""
import argparse
import json
import os
import random
import sys

import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "parity"))
from harness import load_model
from ppo import DEFAULTS, STEPS, make_head, make_rollouts, run_loop, tensors_of

BATCH = 4
CASES = {
    "ppo": {},
    "ppo_whitened": {"kl_estimator": "k3", "kl_coef": 0.3, "whiten_rewards": True, "missing_eos_penalty": 1.0, "temperature": 0.8,
                     "num_generations": 2, "num_ppo_epochs": 2, "num_mini_batches": 2, "gamma": 0.95, "cliprange_value": 0.05,
                     "value_head": "value_head.safetensors"},
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(ROOT, "tests", "golden", "ppo"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    from peft import PeftModel

    lines = make_rollouts(BATCH * 5, random.Random(11))
    with open(os.path.join(out, "rollouts.jsonl"), "w") as text:
        text.writelines(json.dumps(line) + "\n" for line in lines)
    init = os.path.join(ROOT, "tests", "golden", "preference", "init")
    for name, own in CASES.items():
        base = load_model(os.path.join(ROOT, "data", "tiny"))
        model = PeftModel.from_pretrained(base, init, is_trainable=True)
        head = make_head(base.config.hidden_size, os.path.join(out, "value_head.safetensors"), "value_head" in own)
        log, _ = run_loop(model.double(), head, lines, {**DEFAULTS, **own}, BATCH, 2e-3)
        tensors = {"log." + key: torch.tensor([row[key] for row in log], dtype=torch.float32) for key in log[0]}
        trained = {**tensors_of(model, {"type": "lora"}),
                   **{"v_head.summary." + k: p.detach() for k, p in head.named_parameters()}}
        tensors.update({"final." + k: v.float().contiguous() for k, v in trained.items()})
        save_file(tensors, os.path.join(out, name + ".safetensors"))
        run = {"model": {"path": "model"}, "method": {"type": "lora", "init_from": "../preference/init"},
               "objective": {"type": "ppo", "rollouts": "rollouts.jsonl", **own},
               "data": {"max_length": 64},
               "optim": {"learning_rate": 2e-3, "lr_scheduler_type": "constant", "weight_decay": 0.0},
               "train": {"batch_size": BATCH // own.get("num_generations", 1), "max_steps": STEPS, "micro_batch_size": 3,
                         "precision": "f32"},
               "output": {"dir": "out"}}
        with open(os.path.join(out, name + ".json"), "w") as text:
            json.dump(run, text, indent=1)
            text.write("\n")


if __name__ == "__main__":
    main()
