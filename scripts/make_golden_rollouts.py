#!/usr/bin/env python3
"""make_golden_rollouts.py - 20 steps of TRL's GRPO and RLOO trainers (1.16) over given completions, on the embedded model.

    python scripts/make_golden_rollouts.py [--out tests/golden/rollouts]

LoRA on data/tiny from init/, factors that are not zero, against the base as the reference; two prompts a batch with four
completions each, AdamW at a constant rate, clip_grad_norm_ 1.0.

    rollouts.jsonl  the completions and what they are worth
    init/           the adapter to start from
    CASE.json       the run as a config; model.path is a placeholder
    CASE.safetensors
        losses, learning_rates, grad_norms   F32 [20]
        log.NAME                             F32 [20], figures of log.jsonl; NaN: none in that step
        final.NAME                           F32, factors after step 20

Needs what scripts/parity/rollouts.py needs.
"""
import argparse
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "parity"))
from rollouts import LENGTH, STEPS, make_rollouts, run_trl
from runs import save_golden, save_init

BATCH, RATE = 2, 5e-3
LORA = {"type": "lora", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
CASES = {
    "grpo": {"type": "grpo", "num_generations": 4, "beta": 0.04},
    "grpo_again": {"type": "grpo", "num_generations": 4, "beta": 0.2, "num_iterations": 4, "epsilon": 0.02, "delta": 1.05,
                   "loss_type": "grpo", "temperature": 0.8},
    "grpo_delta": {"type": "grpo", "num_generations": 4, "num_iterations": 4, "delta": 0.99},
    "grpo_sequence": {"type": "grpo", "num_generations": 4, "beta": 0.1, "num_iterations": 2, "epsilon": 0.005,
                      "loss_type": "dr_grpo", "importance_sampling_level": "sequence", "scale_rewards": "batch"},
    "grpo_cispo": {"type": "grpo", "num_generations": 4, "loss_type": "cispo", "epsilon_high": 1.02, "num_iterations": 2,
                   "mask_truncated_completions": True},
    "rloo": {"type": "rloo", "num_generations": 4, "num_iterations": 2, "epsilon": 0.05, "reward_clip_range": [-0.5, 0.8]},
}
FIGURES = ("reward", "reward_std", "frac_reward_zero_std", "completions/mean_length", "completions/clipped_ratio", "kl",
           "entropy", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(ROOT, "tests", "golden", "rollouts"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    tiny = os.path.join(ROOT, "data", "tiny")
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    lines = make_rollouts(CASES["grpo"], BATCH, tokenizer.eos_token_id, len(tokenizer))
    with open(os.path.join(out, "rollouts.jsonl"), "w") as to:
        to.writelines(json.dumps(line) + "\n" for line in lines)
    for name, objective in CASES.items():
        with tempfile.TemporaryDirectory() as work:
            model, history = run_trl(tiny, lines, LORA, objective, BATCH, RATE, work)
            save_init(work, out)
        own = dict(objective, rollouts="rollouts.jsonl", max_completion_length=LENGTH)
        if own.get("beta", 0) != 0 or own["type"] == "rloo":
            own["reference"] = "base"
        run = {"model": {"path": "model"}, "method": {"type": "lora", "init_from": "init"}, "objective": own,
               "data": {"max_length": 64},
               "optim": {"learning_rate": RATE, "lr_scheduler_type": "constant", "weight_decay": 0.0},
               "train": {"batch_size": BATCH, "max_steps": STEPS, "micro_batch_size": 3, "precision": "f32"},
               "output": {"dir": "out"}}
        save_golden(out, name, history, FIGURES, model, run)


if __name__ == "__main__":
    main()
