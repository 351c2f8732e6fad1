#!/usr/bin/env python3
"""make_golden_reward.py - 20 steps of TRL's RewardTrainer (1.16) on the embedded model, for tests.

    python scripts/make_golden_reward.py [--out tests/golden/reward]

LoRA and a head on data/tiny from init/, factors that are not zero; records in file order, 4 a step, AdamW at a constant rate,
clip_grad_norm_ 1.0.

    reward.jsonl   records with margins
    init/          the adapter to start from, with its head
    reward.json    the run as a config; model.path is a placeholder
    reward.safetensors
        losses, learning_rates, grad_norms   F32 [20]
        log.NAME                             F32 [20], figures of log.jsonl
        final.NAME                           F32, factors and head after step 20
        ids, lengths, rewards                I64 [N, LONGEST], I64 [N], F32 [N]: of the base with init/, pad token 0

Needs what scripts/parity/reward.py needs.
"""
import argparse
import json
import os
import sys
import tempfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "parity"))
from reward import STEPS, hf_rewards, load_classifier, rows_of, run_trl, train_records
from runs import save_golden, save_init

LORA = {"type": "lora", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
KEYS = {"center_rewards_coefficient": 0.05}
FIGURES = ("accuracy",)  # rewards and margins are small differences: scripts/parity/reward.py has them


def rewards_of(base, init):
    from peft import PeftModel

    model, _ = load_classifier(base)
    model.config.pad_token_id = 0
    model = PeftModel.from_pretrained(model, init).eval()
    rows = rows_of(640, 0)
    longest = max(len(row) for row in rows)
    return {"ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
            "lengths": torch.tensor([len(row) for row in rows]), "rewards": torch.tensor(hf_rewards(model, rows))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(ROOT, "tests", "golden", "reward"))
    out = parser.parse_args().out
    init, base = os.path.join(out, "init"), os.path.join(ROOT, "data", "tiny")
    os.makedirs(init, exist_ok=True)
    records = train_records(4 * STEPS, True)
    with open(os.path.join(out, "reward.jsonl"), "w") as lines:
        lines.writelines(json.dumps(r) + "\n" for r in records)
    with tempfile.TemporaryDirectory() as work:
        model, history = run_trl(base, records, LORA, KEYS, 4, work)
        save_init(work, out)
    run = {"model": {"path": "model"}, "method": {"type": "lora", "init_from": "init"},
           "objective": {"type": "reward", **KEYS},
           "data": {"train": "reward.jsonl", "max_length": 64, "shuffle": False},
           "optim": {"learning_rate": 2e-3, "lr_scheduler_type": "constant", "weight_decay": 0.0},
           "train": {"batch_size": 4, "max_steps": STEPS, "micro_batch_size": 3, "precision": "f32"},
           "output": {"dir": "out"}}
    save_golden(out, "reward", history, FIGURES, model, run, rewards_of(base, init))


if __name__ == "__main__":
    main()
