#!/usr/bin/env python3
"""make_golden_distill.py - 20 steps of distillation and of token-level DPO as plain torch loops on the embedded model, for tests.

    python scripts/make_golden_distill.py [--out tests/golden/distill]

LoRA on data/tiny. The teacher of kd is that model with the factors of tests/golden/preference/init; its student starts from
others, token-level DPO from those.

    tokens.jsonl            records of kd; token-level DPO takes tests/golden/preference/preference.jsonl
    init/                   the adapter that kd starts from
    CASE.json               the run as a config; model.path and objective.teacher are placeholders
    CASE.safetensors        as those of make_golden_preference.py

Needs what scripts/parity/distill.py needs.
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
from distill import STEPS, config_of, run_plain, token_records
from harness import load_model
from preference import make_records
from runs import save_golden, save_init

TINY = os.path.join(ROOT, "data", "tiny")
LORA = {"type": "lora", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
CASES = {
    "kd": {"type": "kd"},
    "kd_forward": {"type": "kd", "beta": 0.0, "temperature": 1.7, "kd_alpha": 0.8, "kd_ce_alpha": 0.3},
    "kd_reverse": {"type": "kd", "beta": 1.0},
    "tdpo1": {"type": "dpo", "loss_type": "tdpo1"},
    "tdpo2": {"type": "dpo", "loss_type": "tdpo2"},
}
FIGURES = ("kd_loss", "ce_loss", "logps/chosen", "logps/rejected")


def main():
    from peft import PeftModel

    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(ROOT, "tests", "golden", "distill"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    preference = os.path.join(ROOT, "tests", "golden", "preference")
    tokens = token_records(4 * STEPS)
    with open(os.path.join(out, "tokens.jsonl"), "w") as lines:
        lines.writelines(json.dumps(r) + "\n" for r in tokens)
    for name, objective in CASES.items():
        kd = objective["type"] == "kd"
        records = tokens if kd else [{k: v for k, v in r.items() if k != "reference"} for r in make_records("tpo", 4 * STEPS)]
        teacher = load_model(TINY)
        if kd:
            teacher = PeftModel.from_pretrained(teacher, os.path.join(preference, "init")).eval()
        with tempfile.TemporaryDirectory() as work:
            model, history = run_plain(TINY, teacher, records, LORA, objective, 4, work, 10 if kd else 9)
            if kd:
                save_init(work, out)
        own = {**objective, "teacher": "../preference/init"} if kd else {**objective, "reference": "base"}
        data = "tokens.jsonl" if kd else "../preference/preference.jsonl"
        run = config_of("model", data, {"type": "lora", "init_from": "init" if kd else "../preference/init"}, own, 4, 3)
        save_golden(out, name, history, FIGURES, model, {**run, "output": {"dir": "out"}})


if __name__ == "__main__":
    main()
