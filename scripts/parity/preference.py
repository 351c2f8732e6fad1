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
from safetensors.torch import load_file

from harness import load_model, make_model, run_cases, run_ft

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
    if peft:  # both begin at factors that are not zero
        generator = torch.Generator().manual_seed(9)
        with torch.no_grad():
            for name, p in trainer.model.named_parameters():
                if "lora_B.default" in name or "lora_A.default" in name:
                    p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
        trainer.model.save_pretrained(os.path.join(work, "init"), selected_adapters=["default"])
    trainer.train()
    return trainer.model, [row for row in trainer.state.log_history if "loss" in row]


def tensors_of(model, adapter):
    if adapter:
        from peft import get_peft_model_state_dict
        return {n: t.detach().double() for n, t in get_peft_model_state_dict(model).items()}
    return {n: p.detach().double() for n, p in model.named_parameters()}


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
    config = {"model": {"path": folder}, "method": own, "objective": own_objective,
              "data": {"train": data, "max_length": 64, "shuffle": False},
              "optim": {"learning_rate": 2e-3, "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "weight_decay": 0.0},
              "train": {"batch_size": batch, "max_steps": STEPS, "micro_batch_size": micro, "precision": "f32"},
              "output": {"dir": os.path.join(work, "out")}}
    path = os.path.join(work, "config.json")
    with open(path, "w") as out:
        json.dump(config, out)
    run_ft(ft, "train", path, "-q")
    with open(os.path.join(work, "out", "log.jsonl")) as lines:
        log = [json.loads(line) for line in lines]
    worst = {}
    for mine, theirs in zip(log, history):
        for key in mine:
            if key not in theirs or key in ("step", "epoch", "learning_rate"):
                continue
            a, b = float(mine[key]), float(theirs[key])
            worst[key] = max(worst.get(key, 0.0), abs(a - b) / max(abs(b), 1e-2))
    final = load_file(os.path.join(work, "out", "adapter_model.safetensors" if adapter else "model.safetensors"))
    weights = 0.0
    for key, want in tensors_of(model, adapter).items():
        if key in final and not (model_name == "gpt2" and key.endswith("c_attn.bias")):
            weights = max(weights, float((final[key].double() - want).norm() / want.norm().clamp(min=1e-12)))
    ok = len(log) == len(history) == STEPS and weights < 1e-4 and worst["loss"] < 1e-4
    figures = sorted(worst.items(), key=lambda item: -item[1])[:3]
    report.line(name, ok, f"loss {worst['loss']:.1e}  weights {weights:.1e}  worst of {len(worst)}: "
                + ", ".join(f"{k} {v:.1e}" for k, v in figures))


if __name__ == "__main__":
    run_cases(CASES, run_case)
