#!/usr/bin/env python3
"""distill.py - 20 optimizer steps of ft's objective kd, and of dpo's token-level losses, against plain torch loops on random
models.

    python scripts/parity/distill.py FT [--only NAME]

Divergences are TRL's own (1.16, generalized_jsd_loss of its GKD trainer); token-level DPO is the code of its paper. Needs
trl beside what harness.py names. Compares loss, grad_norm and the logged figures of every step, and the trained tensors at the end.
"""
import json
import os
import random

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from trl.experimental.gkd import GKDTrainer

from harness import load_model, make_model, run_cases
from preference import make_records
from runs import constant_rate, figures_apart, run_config, saved, tensors_of, told, weights_apart

STEPS = 20
LORA = {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "up_proj"]}
HEAD = {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "lm_head"]}
GPT2 = {"type": "lora", "r": 3, "lora_alpha": 8, "target_modules": ["c_attn", "c_fc"]}
FULL = {"type": "full"}


def kd(**objective):
    return {"type": "kd", **objective}


def tdpo(number, **objective):
    return {"type": "dpo", "loss_type": f"tdpo{number}", **objective}


CASES = {
    # name: (model, teacher, method, objective, samples a step, micro-batch)
    "kd": ("llama", "llama-wide-heads", LORA, kd(), 4, 2),
    "kd forward": ("llama", "qwen3", LORA, kd(beta=0.0), 4, 1),
    "kd reverse": ("mistral", "llama", LORA, kd(beta=1.0), 4, 4),
    "kd near forward": ("llama", "mistral", LORA, kd(beta=0.05), 4, 3),
    "kd temperature": ("llama", "llama-wide-heads", LORA, kd(temperature=2.5), 4, 2),
    "kd sharp": ("llama", "llama-wide-heads", LORA, kd(temperature=0.6, beta=0.0), 4, 2),
    "kd with labels": ("qwen2", "llama", LORA, kd(kd_alpha=0.7, kd_ce_alpha=0.4, temperature=1.5, beta=0.3), 4, 2),
    "kd labels alone": ("llama", "llama-wide-heads", LORA, kd(kd_alpha=0.0, kd_ce_alpha=1.0), 4, 2),
    "kd full": ("qwen3", "llama-wide-heads", FULL, kd(beta=0.9, kd_ce_alpha=0.5), 4, 1),
    "kd full tied": ("llama-one-layer-tied", "llama", FULL, kd(beta=0.0, temperature=2.0), 4, 2),
    "kd trained head": ("llama", "llama-mlp-bias", HEAD, kd(kd_ce_alpha=0.2), 4, 2),
    "kd gpt2": ("gpt2", "llama", GPT2, kd(), 4, 2),
    "kd bf16 teacher": ("llama", "llama-bf16", LORA, kd(beta=1.0, temperature=1.5), 4, 2),
    "tdpo1": ("llama", None, LORA, tdpo(1), 4, 2),
    "tdpo1 full": ("qwen3", None, FULL, tdpo(1, beta=0.5), 4, 1),
    "tdpo2": ("llama", None, LORA, tdpo(2), 4, 4),
    "tdpo2 alpha": ("mistral", None, LORA, tdpo(2, tdpo_alpha=1.3, beta=0.3), 4, 3),
    "tdpo2 trained head": ("llama", None, HEAD, tdpo(2, beta=0.4), 4, 2),
}


def token_records(n, vocab=640):
    """Records of ids whose first few are not learned."""
    draw = random.Random(8)
    out = []
    for _ in range(n):
        ids = [draw.randrange(vocab) for _ in range(draw.randint(4, 14))]
        start = draw.randint(1, len(ids) - 2)
        out.append({"input_ids": ids, "labels": [-100] * start + ids[start:]})
    return out


def add_factors(model, method, work, seed):
    """LoRA whose factors are not zero, saved for ft to start from; only they train."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=method["r"], lora_alpha=method["lora_alpha"],
                                             target_modules=method["target_modules"], lora_dropout=0.0))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
    model.save_pretrained(os.path.join(work, "init"), save_embedding_layers=False)
    return model


def logits_of(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def kd_step(model, teacher, records, objective):
    """The loss of a step, and what is logged of it."""
    far = ce = count = 0
    for record in records:
        labels = torch.tensor([record["labels"][1:]])
        student = logits_of(model, record["input_ids"])[None, :-1]
        with torch.no_grad():
            other = logits_of(teacher, record["input_ids"])[None, :-1].float()
        far = far + GKDTrainer.generalized_jsd_loss(student, other, labels=labels, beta=objective.get("beta", 0.5),
                                                    temperature=objective.get("temperature", 1.0), reduction="sum")
        ce = ce + torch.nn.functional.cross_entropy(student[0], labels[0], reduction="sum", ignore_index=-100)
        count += int((labels != -100).sum())
    far, ce = far / count, ce / count
    loss = objective.get("kd_alpha", 1.0) * far + objective.get("kd_ce_alpha", 0.0) * ce
    return loss, {"kd_loss": float(far), "ce_loss": float(ce)}


def answer_sums(model, reference, ids, start):
    """log pi, log r and Σ KL(r || pi) over the answer's tokens."""
    target = torch.tensor(ids[start:])
    own = torch.log_softmax(logits_of(model, ids)[start - 1:-1], -1)
    with torch.no_grad():
        other = torch.log_softmax(logits_of(reference, ids)[start - 1:-1], -1)
    picked = [x.gather(1, target[:, None]).sum() for x in (own, other)]
    return *picked, (other.exp() * (other - own)).sum()


def tdpo_step(model, reference, records, objective, tokenizer):
    beta, alpha = objective.get("beta", 0.1), objective.get("tdpo_alpha", 0.5)
    losses, rewards, logps = [], [], []
    for record in records:
        start = len(tokenizer(record["prompt"]).input_ids)
        sides = []
        for key in ("chosen", "rejected"):
            ids = tokenizer(record["prompt"] + record[key] + tokenizer.eos_token).input_ids
            sides.append(answer_sums(model, reference, ids, start))
        (w, rw, kw), (l, rl, kl) = sides
        apart = kl - kw if objective["loss_type"] == "tdpo1" else alpha * (kl - kw.detach())
        losses.append(-torch.nn.functional.logsigmoid(beta * ((w - rw) - (l - rl) - apart)))
        rewards.append([float(beta * (w - rw + kw)), float(beta * (l - rl + kl))])
        logps.append([float(w), float(l)])
    r, p = torch.tensor(rewards).mean(0), torch.tensor(logps).mean(0)
    return torch.stack(losses).mean(), {
        "rewards/chosen": float(r[0]), "rewards/rejected": float(r[1]), "rewards/margins": float(r[0] - r[1]),
        "logps/chosen": float(p[0]), "logps/rejected": float(p[1])}


def run_plain(folder, teacher, records, method, objective, batch, work, seed=9, rate=2e-3):
    """20 steps of AdamW over the records in order; the model and a dict a step."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load_model(folder)
    if method["type"] == "lora":
        model = add_factors(model, method, work, seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    history = []
    for step in range(STEPS):
        part = records[step * batch:(step + 1) * batch]
        if objective["type"] == "kd":
            loss, figures = kd_step(model, teacher, part, objective)
        else:
            loss, figures = tdpo_step(model, teacher, part, objective, tokenizer)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        history.append({"loss": float(loss), "grad_norm": float(norm), "learning_rate": rate, **figures})
    return model, history


def config_of(folder, data, method, objective, batch, micro, rate=2e-3):
    return {"model": {"path": folder}, "method": method, "objective": objective,
            "data": {"train": data, "max_length": 64, "shuffle": False},
            "optim": constant_rate(rate),
            "train": {"batch_size": batch, "max_steps": STEPS, "micro_batch_size": micro, "precision": "f32"}}


def run_case(ft, name, work, report):
    model_name, teacher_name, method, objective, batch, micro = CASES[name]
    folder, data = os.path.join(work, "model"), os.path.join(work, "train.jsonl")
    make_model(model_name, folder)
    own_method, own_objective = dict(method), dict(objective)
    rate = 2e-3 if method["type"] == "lora" else 1e-3
    if objective["type"] == "kd":
        own_objective["teacher"] = os.path.join(work, "teacher")
        teacher = make_model(teacher_name, own_objective["teacher"], seed=4)
        records = token_records(batch * STEPS)
    else:
        teacher = load_model(folder)
        records = make_records("dpo", batch * STEPS)
        own_objective["reference"] = "base"
    with open(data, "w") as out:
        out.writelines(json.dumps(r) + "\n" for r in records)
    model, history = run_plain(folder, teacher, records, method, objective, batch, work, rate=rate)
    if method["type"] == "lora":
        own_method = {"type": "lora", "init_from": os.path.join(work, "init")}
    lora = method["type"] == "lora"
    log = run_config(ft, work, config_of(folder, data, own_method, own_objective, batch, micro, rate))
    # rewards are small differences of large sums
    worst = figures_apart(log, history, lambda key: 1.0 if key.startswith("rewards/") else 1e-2, ())
    weights = weights_apart(saved(work, lora), tensors_of(model, lora))
    ok = len(log) == STEPS and weights < 1e-4 and max(worst.values()) < 1e-4
    report.line(name, ok, told(worst, weights))


if __name__ == "__main__":
    run_cases(CASES, run_case)
