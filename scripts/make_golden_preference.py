#!/usr/bin/env python3
"""make_golden_preference.py - 20 steps of TRL's preference trainers (1.16) on the embedded model, for tests.

    python scripts/make_golden_preference.py [--out tests/golden/preference]

LoRA on data/tiny from init/, factors that are not zero, against the base as the reference; records in file order, 4 a step,
AdamW at a constant rate, clip_grad_norm_ 1.0.

    preference.jsonl, unpaired.jsonl  records
    init/                             the adapter to start from
    CASE.json                         the run as a config; model.path is a placeholder
    CASE.safetensors
        losses, learning_rates, grad_norms   F32 [20]
        log.NAME                             F32 [20], figures of log.jsonl
        final.NAME                           F32, factors after step 20

Needs what scripts/parity/preference.py needs.
"""
import argparse
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "parity"))
from preference import STEPS, make_records, run_trl
from runs import save_golden, save_init

LORA = {"type": "lora", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
CASES = {
    "dpo": {"type": "dpo"},
    "dpo_sorted": {"type": "dpo", "loss_type": ["aot", "sft"], "loss_weights": [1.0, 0.3], "label_smoothing": 0.1},
    "dpo_weighted": {"type": "dpo", "use_weighting": True, "ld_alpha": 0.5, "f_divergence_type": "js_divergence"},
    "kto": {"type": "kto", "undesirable_weight": 1.3},
    "orpo": {"type": "orpo"},
    "simpo": {"type": "simpo"},
    "tpo": {"type": "tpo", "beta": 0.1},
}
# Rewards are small differences of large sums: scripts/parity/preference.py has them, with their slack.
FIGURES = ("logps/chosen", "logps/rejected", "entropy", "nll_loss", "log_odds_ratio")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(ROOT, "tests", "golden", "preference"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    files = {"preference": make_records("tpo", 4 * STEPS), "unpaired": make_records("kto", 4 * STEPS)}
    for name, records in files.items():
        with open(os.path.join(out, name + ".jsonl"), "w") as lines:
            lines.writelines(json.dumps(r) + "\n" for r in records)
    for name, objective in CASES.items():
        kind = objective["type"]
        data = "unpaired" if kind == "kto" else "preference"
        records = [{k: v for k, v in r.items() if kind == "tpo" or k != "reference"} for r in files[data]]
        with tempfile.TemporaryDirectory() as work:
            model, history = run_trl(os.path.join(ROOT, "data", "tiny"), records, LORA, objective, 4, work)
            save_init(work, out)
        own = dict(objective)
        if kind in ("dpo", "kto"):
            own["reference"] = "base"
        run = {"model": {"path": "model"}, "method": {"type": "lora", "init_from": "init"}, "objective": own,
               "data": {"train": data + ".jsonl", "max_length": 64, "shuffle": False},
               "optim": {"learning_rate": 2e-3, "lr_scheduler_type": "constant", "weight_decay": 0.0},
               "train": {"batch_size": 4, "max_steps": STEPS, "micro_batch_size": 3, "precision": "f32"},
               "output": {"dir": "out"}}
        figures = [f for f in FIGURES if all(f in r for r in history) and not (kind == "simpo" and f == "nll_loss")]
        save_golden(out, name, history, figures, model, run)


if __name__ == "__main__":
    main()
