#!/usr/bin/env python3
"""preference.py - 20 optimizer steps of ft's preference objectives against TRL's trainers (1.16), on random models.

    python scripts/parity/preference.py FT [--only NAME]

Needs trl and datasets beside what harness.py names. Compares loss, grad_norm and the logged figures of every step, and the
trained tensors at the end.
"""
import json
import os
import random

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch

from harness import load_model, make_model, run_cases
from runs import begin_elsewhere, constant_rate, figures_apart, run_config, saved, tensors_of, told, weights_apart

STEPS = 20
WORDS = "the cat dog sat on a mat red blue green tree fish swims fast slow old new and with".split()


def dpo(**objective):
    return {"type": "dpo", **objective}


LORA = {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "up_proj"]}
FULL = {"type": "full"}
CASES = {
    # name: (model, method, objective, samples a step, micro-batch)
    "dpo sigmoid lora": ("llama", LORA, dpo(), 4, 2),
    "dpo sigmoid full": ("qwen3", FULL, dpo(beta=0.3), 4, 1),
    "dpo hinge": ("llama", LORA, dpo(loss_type="hinge"), 4, 4),
    "dpo ipo": ("mistral", LORA, dpo(loss_type="ipo"), 4, 2),
    "dpo exo_pair": ("llama", LORA, dpo(loss_type="exo_pair", label_smoothing=0.1), 4, 2),
    "dpo nca_pair": ("llama", LORA, dpo(loss_type="nca_pair"), 4, 2),
    "dpo robust": ("llama", LORA, dpo(loss_type="robust", label_smoothing=0.2), 4, 2),
    "dpo bco_pair": ("llama", LORA, dpo(loss_type="bco_pair"), 4, 2),
    "dpo sppo_hard": ("llama", LORA, dpo(loss_type="sppo_hard"), 4, 2),
    "dpo aot": ("llama", LORA, dpo(loss_type="aot", label_smoothing=0.1), 4, 1),
    "dpo aot_unpaired": ("llama", LORA, dpo(loss_type="aot_unpaired"), 4, 1),
    "dpo apo_zero": ("llama", LORA, dpo(loss_type="apo_zero"), 4, 2),
    "dpo apo_down": ("llama", LORA, dpo(loss_type="apo_down"), 4, 2),
    "dpo discopop": ("llama", LORA, dpo(loss_type="discopop"), 4, 2),
    "dpo sigmoid_norm": ("llama", LORA, dpo(loss_type="sigmoid_norm"), 4, 2),
    "dpo list with sft": ("llama", LORA, dpo(loss_type=["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0]), 4, 4),
    "dpo forward_kl": ("llama", LORA, dpo(f_divergence_type="forward_kl", beta=0.01), 4, 2),
    "dpo js": ("llama", LORA, dpo(f_divergence_type="js_divergence"), 4, 2),
    "dpo alpha": ("llama", LORA, dpo(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.7, beta=0.05), 4, 2),
    "dpo ld_alpha": ("llama", LORA, dpo(ld_alpha=0.4), 4, 2),
    "dpo wpo": ("llama", LORA, dpo(use_weighting=True, beta=2.0), 4, 2),
    "dpo tr": ("qwen3", FULL, dpo(beta=0.3, sync_ref_model=True, ref_model_mixup_alpha=0.4, ref_model_sync_steps=3), 4, 2),
    "dpo tr tied": ("llama-one-layer-tied", FULL, dpo(sync_ref_model=True, ref_model_sync_steps=4), 4, 2),
    "dpo precomputed gpt2": ("gpt2", {"type": "lora", "r": 3, "lora_alpha": 8, "target_modules": ["c_attn", "c_fc"]},
                             dpo(precompute_ref_log_probs=True), 4, 2),
    "kto": ("llama", LORA, {"type": "kto"}, 4, 2),
    "kto weights": ("qwen2", FULL, {"type": "kto", "desirable_weight": 0.7, "undesirable_weight": 1.4, "beta": 0.2}, 4, 3),
    "kto apo": ("llama", LORA, {"type": "kto", "loss_type": "apo_zero_unpaired"}, 4, 2),
    "kto apo weights": ("llama", LORA, {"type": "kto", "loss_type": "apo_zero_unpaired", "desirable_weight": 2.0,
                                        "undesirable_weight": 0.5}, 4, 2),
    "orpo": ("llama", LORA, {"type": "orpo"}, 4, 2),
    "orpo full": ("llama-one-layer-tied", FULL, {"type": "orpo", "beta": 0.5}, 4, 1),
    "cpo": ("llama", LORA, {"type": "cpo"}, 4, 2),
    "cpo hinge": ("llama", LORA, {"type": "cpo", "loss_type": "hinge", "cpo_alpha": 0.3}, 4, 2),
    "cpo ipo": ("llama", LORA, {"type": "cpo", "loss_type": "ipo"}, 4, 2),
    "cpo smoothed": ("llama", LORA, {"type": "cpo", "label_smoothing": 0.1}, 4, 2),
    "simpo": ("llama", LORA, {"type": "simpo"}, 4, 2),
    "cpo alpha": ("llama", LORA, {"type": "cpo", "loss_type": "simpo", "alpha": 0.2, "beta": 2.0, "cpo_alpha": 0.0}, 4, 2),
    "tpo": ("llama", LORA, {"type": "tpo"}, 4, 2),
    "tpo hinge": ("llama", LORA, {"type": "tpo", "loss_type": "hinge", "beta": 0.1}, 4, 2),
    "tpo ipo": ("llama", LORA, {"type": "tpo", "loss_type": "ipo"}, 4, 2),
    "tpo-l": ("llama", LORA, {"type": "tpo", "loss_type": "tpo-l", "beta": 1.0}, 4, 4),
}


def words(draw, low, high):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(low, high)))


def make_records(kind, n):
    draw = random.Random(5)
    out = []
    for _ in range(n):
        record = {"prompt": words(draw, 1, 6)}
        if kind == "kto":
            record.update(completion=" " + words(draw, 1, 7), label=draw.random() < 0.5)
        else:
            record.update(chosen=" " + words(draw, 1, 7), rejected=" " + words(draw, 1, 7))
        if kind == "tpo":
            record["reference"] = " " + words(draw, 1, 7)
        out.append(record)
    return out


def trainer_of(kind):
    if kind == "dpo":
        from trl import DPOConfig, DPOTrainer
        return DPOTrainer, DPOConfig
    if kind == "kto":
        from trl import KTOConfig, KTOTrainer
        return KTOTrainer, KTOConfig
    if kind == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer
        return ORPOTrainer, ORPOConfig
    if kind in ("cpo", "simpo"):
        from trl.experimental.cpo import CPOConfig, CPOTrainer
        return CPOTrainer, CPOConfig
    from trl.experimental.tpo import TPOConfig, TPOTrainer
    return TPOTrainer, TPOConfig


def trl_keys(objective):
    keys = {k: v for k, v in objective.items() if k != "type"}
    if objective["type"] == "simpo":
        keys = {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 1.0, **keys}
    if objective["type"] == "dpo" and isinstance(keys.get("loss_type"), str):
        keys["loss_type"] = [keys["loss_type"]]
    return keys


def run_trl(folder, records, method, objective, batch, work):
    from datasets import Dataset
    from transformers import AutoTokenizer
    from peft import LoraConfig

    torch.manual_seed(0)
    trainer_class, config_class = trainer_of(objective["type"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if objective["type"] in ("orpo", "cpo", "simpo"):
        tokenizer.bos_token = None  # these trainers put one before every prompt; the model's tokenizer does not
    config = config_class(
        output_dir=os.path.join(work, "trl"), per_device_train_batch_size=batch, max_steps=STEPS, learning_rate=2e-3,
        lr_scheduler_type="constant", logging_steps=1, report_to=[], save_strategy="no", max_grad_norm=1.0, bf16=False,
        use_cpu=True, train_sampling_strategy="sequential", gradient_checkpointing=False, max_length=64, weight_decay=0.0,
        seed=1, optim="adamw_torch", disable_tqdm=True, **trl_keys(objective))
    model = load_model(folder)
    peft = None
    if method["type"] == "lora":
        peft = LoraConfig(task_type="CAUSAL_LM", r=method["r"], lora_alpha=method["lora_alpha"],
                          target_modules=method["target_modules"], lora_dropout=0.0)
    trainer = trainer_class(model=model, args=config, train_dataset=Dataset.from_list(records),
                            processing_class=tokenizer, **({"peft_config": peft} if peft else {}))
    if peft:
        begin_elsewhere(trainer.model, work)
    trainer.train()
    return trainer.model, [row for row in trainer.state.log_history if "loss" in row]


def run_case(ft, name, work, report):
    model_name, method, objective, batch, micro = CASES[name]
    folder = os.path.join(work, "model")
    make_model(model_name, folder)
    records = make_records(objective["type"], batch * STEPS)
    data = os.path.join(work, "train.jsonl")
    with open(data, "w") as out:
        out.writelines(json.dumps(r) + "\n" for r in records)
    model, history = run_trl(folder, records, method, objective, batch, work)
    adapter = method["type"] == "lora"
    own = dict(method)
    own_objective = dict(objective)
    if adapter:
        own = {"type": "lora", "init_from": os.path.join(work, "init")}
        if objective["type"] in ("dpo", "kto"):
            own_objective["reference"] = "base"
    log = run_config(ft, work, {
        "model": {"path": folder}, "method": own, "objective": own_objective,
        "data": {"train": data, "max_length": 64, "shuffle": False}, "optim": constant_rate(2e-3),
        "train": {"batch_size": batch, "max_steps": STEPS, "micro_batch_size": micro, "precision": "f32"}})
    worst = figures_apart(log, history, lambda key: 1e-2)
    weights = weights_apart(saved(work, adapter), tensors_of(model, adapter))
    ok = len(log) == len(history) == STEPS and weights < 1e-4 and worst["loss"] < 1e-4
    report.line(name, ok, told(worst, weights))


if __name__ == "__main__":
    run_cases(CASES, run_case)
