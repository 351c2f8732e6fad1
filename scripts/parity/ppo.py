#!/usr/bin/env python3
"""ppo.py - 20 optimizer steps of ft's objective ppo against a plain torch loop of its formulas, on random models.

    python scripts/parity/ppo.py FT [--only NAME]

Both replay the same completions (objective.rollouts), so nothing is sampled. Compares loss, grad_norm and the logged figures of
every step, what rollouts.jsonl says of every token, and the trained tensors and the value head at the end. The loop is in
float64; mini-batches are those of ft, told by its permutation.
"""
import copy
import json
import math
import os
import random

import torch
from safetensors.torch import load_file, save_file

from harness import load_model, make_model, run_cases
from runs import constant_rate, run_config, saved, told as told_of, weights_apart

STEPS = 20
EOS = 2
LORA = {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "up_proj"]}
GPT2 = {"type": "lora", "r": 3, "lora_alpha": 8, "target_modules": ["c_attn", "c_fc"]}
FULL = {"type": "full"}
DEFAULTS = {"kl_coef": 0.05, "kl_estimator": "k1", "cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 0.1, "gamma": 1.0,
            "lam": 0.95, "num_ppo_epochs": 4, "num_mini_batches": 1, "whiten_rewards": False, "missing_eos_penalty": None,
            "temperature": 1.0, "num_generations": 1, "mask_truncated_completions": False}
CASES = {
    # name: (model, method, objective, prompts a batch, micro-batch)
    "lora": ("llama", LORA, {}, 4, 2),
    "full": ("qwen3", FULL, {"kl_coef": 0.2}, 4, 1),
    "full tied": ("llama-one-layer-tied", FULL, {"num_ppo_epochs": 2, "whiten_rewards": True}, 3, 3),
    "bitfit": ("qwen2", {"type": "bitfit"}, {"gamma": 0.9, "lam": 0.8}, 4, 3),
    "k3": ("mistral", LORA, {"kl_estimator": "k3", "kl_coef": 0.5}, 4, 2),
    "k3 full": ("mistral-no-window", FULL, {"kl_estimator": "k3", "num_ppo_epochs": 1, "kl_coef": 1.0}, 4, 2),
    "gpt2": ("gpt2", GPT2, {"vf_coef": 0.5, "cliprange_value": 0.05}, 4, 2),
    "clipped": ("llama", LORA, {"cliprange": 0.02, "cliprange_value": 0.01, "num_ppo_epochs": 10}, 5, 2),
    "temperature": ("llama-wide-heads", LORA, {"temperature": 0.7}, 4, 4),
    "missing eos": ("llama", LORA, {"missing_eos_penalty": 1.5, "whiten_rewards": True}, 4, 2),
    "truncated": ("llama", LORA, {"mask_truncated_completions": True}, 4, 2),
    "generations": ("qwen3-bias-tied", LORA, {"num_generations": 3}, 2, 2),
    "head": ("llama-mlp-bias", LORA, {"value_head": True, "num_ppo_epochs": 2}, 4, 2),
    "mini-batches": ("llama", LORA, {"num_mini_batches": 2, "num_ppo_epochs": 2}, 5, 2),
    "mini-batches full": ("qwen2-window", FULL, {"num_mini_batches": 5, "num_ppo_epochs": 2, "lam": 1.0}, 7, 3),
    "one token": ("llama", LORA, {"num_ppo_epochs": 2, "longest": 1}, 4, 2),
}

# --- ft's permutation --------------------------------------------------------------------------------------------
WORD = (1 << 64) - 1


def random_u64(key, counter):
    a, b = counter, 0
    for _ in range(10):
        product = 0xD2B74407B1CE6E93 * a
        a, b = (product >> 64) ^ key ^ b, product & WORD
        key = (key + 0x9E3779B97F4A7C15) & WORD
    return a


def random_key(seed, a, b):
    return random_u64(random_u64(seed, a) ^ 0x5851F42D4C957F2D, b)


def permutation(n, seed, batch, epoch):
    key = random_key(random_key(seed, 0x70706F, batch), epoch, 0)
    out = list(range(n))
    for i in range(n - 1, 0, -1):
        j = random_u64(key, i) * (i + 1) >> 64
        out[i], out[j] = out[j], out[i]
    return out


# --- the loop ------------------------------------------------------------------------------------------------------
def make_rollouts(n, draw, longest=9):
    """Lines of a rollouts file: two in three completions end with EOS."""
    out = []
    for _ in range(n):
        prompt = [draw.randrange(3, 600) for _ in range(draw.randint(1, 6))]
        completion = [draw.randrange(3, 600) for _ in range(draw.randint(1, longest))]
        if draw.random() < 0.67:
            completion[-1] = EOS
        out.append({"prompt_ids": prompt, "completion_ids": completion, "reward": round(draw.gauss(0.3, 1.0), 3)})
    return out


def look(model, head, line, temperature):
    """Log-probabilities, entropies and values of a completion's tokens."""
    ids, n = line["prompt_ids"] + line["completion_ids"], len(line["completion_ids"])
    out = model(input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True)
    logp = torch.log_softmax(out.logits[0, -n - 1:-1] / temperature, -1)
    values = head(out.hidden_states[-1][0, -n - 1:-1]).squeeze(-1)
    picked = logp.gather(1, torch.tensor(line["completion_ids"]).unsqueeze(1)).squeeze(1)
    return picked, -(logp.exp() * logp).sum(-1), values


def whiten(x, keep_mean=False):
    mean, var = x.mean(), x.var() if len(x) > 1 else torch.zeros(())
    white = (x - mean) * torch.rsqrt(var + 1e-8)
    return white + mean if keep_mean else white


def advantages_of(rewards, values, gamma, lam):
    out, last = torch.zeros_like(values), 0.0
    for t in reversed(range(len(values))):
        following = values[t + 1] if t + 1 < len(values) else 0.0
        last = rewards[t] + gamma * following - values[t] + gamma * lam * last
        out[t] = last
    return out


def judge(lines, old, ref, values, cfg):
    """What a batch's completions are worth, before its first step: a dict a completion."""
    out, kept = [], []
    for line, o, r, v in zip(lines, old, ref, values):
        x = r - o
        kl = -x if cfg["kl_estimator"] == "k1" else torch.exp(x) - 1 - x
        score, whole = line["reward"], line["completion_ids"][-1] == EOS
        if cfg["missing_eos_penalty"] is not None and not whole:
            score -= cfg["missing_eos_penalty"]
        rewards = -cfg["kl_coef"] * kl
        out.append({"line": line, "old": o, "ref": r, "values": v, "kl": kl.sum(), "score": score,
                    "rlhf": rewards.sum() + score})
        rewards = rewards.clone()
        rewards[-1] += score
        out[-1]["rewards"] = rewards
        if whole or not cfg["mask_truncated_completions"]:
            kept.append(out[-1])
    if cfg["whiten_rewards"]:
        white = whiten(torch.cat([y["rewards"] for y in kept]), True).split([len(y["rewards"]) for y in kept])
        for y, rewards in zip(kept, white):
            y["rewards"] = rewards
    for y in kept:
        y["advantages"] = advantages_of(y["rewards"], y["values"], cfg["gamma"], cfg["lam"])
        y["returns"] = y["advantages"] + y["values"]
    white = whiten(torch.cat([y["advantages"] for y in kept])).split([len(y["old"]) for y in kept])
    for y, advantages in zip(kept, white):
        y["advantages"] = advantages
    return out


def loss_of(model, head, part, cfg):
    figures = {"objective/kl": torch.stack([y["kl"] for y in part]).mean(),
               "objective/scores": sum(y["score"] for y in part) / len(part),
               "objective/rlhf_reward": torch.stack([y["rlhf"] for y in part]).mean()}
    part = [y for y in part if "returns" in y]
    seen = [look(model, head, y["line"], cfg["temperature"]) for y in part]
    logp, entropy, v = (torch.cat(x) for x in zip(*seen))
    old, values, advantages, returns = (torch.cat([y[k] for y in part]) for k in ("old", "values", "advantages", "returns"))
    ratio = torch.exp(logp - old)
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - cfg["cliprange"], 1 + cfg["cliprange"])
    policy = torch.maximum(plain, clipped).mean()
    near = torch.maximum(torch.minimum(v, values + cfg["cliprange_value"]), values - cfg["cliprange_value"])
    far, held = (v - returns) ** 2, (near - returns) ** 2
    value = 0.5 * torch.maximum(far, held).mean()
    figures.update({"loss/policy_avg": policy, "loss/value_avg": value,
                    "policy/clipfrac_avg": (clipped > plain).double().mean(),
                    "val/clipfrac_avg": (held > far).double().mean(),
                    "policy/approxkl_avg": 0.5 * ((logp - old) ** 2).mean(), "policy/entropy_avg": entropy.mean()})
    return policy + cfg["vf_coef"] * value, figures


def run_loop(model, head, lines, cfg, batch, lr):
    """One line a step, and what rollouts.jsonl should say."""
    reference = copy.deepcopy(model)
    trained = [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0, foreach=False)
    log, told, at = [], [], 0
    while len(log) < STEPS:
        some = lines[at * batch:(at + 1) * batch]
        with torch.no_grad():
            seen = [look(model, head, line, cfg["temperature"]) for line in some]
            ref = [look(reference, head, line, cfg["temperature"])[0] for line in some]
        worth = judge(some, [s[0] for s in seen], ref, [s[2] for s in seen], cfg)
        told += worth
        for epoch in range(cfg["num_ppo_epochs"]):
            order, many = permutation(batch, 42, at, epoch), cfg["num_mini_batches"]
            for k in range(many):
                if len(log) == STEPS:
                    break
                part = [worth[i] for i in order[k * batch // many:(k + 1) * batch // many]]
                loss, figures = loss_of(model, head, part, cfg)
                optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                log.append({k: torch.as_tensor(x).item() for k, x in {"loss": loss, "grad_norm": norm, **figures}.items()})
        at += 1
    return log, told


def with_method(model, method, work):
    """The model to train, with factors that are not zero, written to `init`."""
    if method["type"] != "lora":
        for name, p in model.named_parameters():
            p.requires_grad_(method["type"] == "full" or name.endswith("bias"))
        return model
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0,
                                             **{k: v for k, v in method.items() if k != "type"}))
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B.default" in name or "lora_A.default" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
    model.save_pretrained(os.path.join(work, "init"))
    return model


def hidden_of(config):
    return getattr(config, "hidden_size", None) or config.n_embd


def make_head(size, path, given):
    head = torch.nn.Linear(size, 1)
    torch.manual_seed(4)
    with torch.no_grad():
        head.weight.normal_(0.0, 0.1 if given else 0.0)
        head.bias.fill_(0.2 if given else 0.0)
    if given:
        save_file({"v_head.summary.weight": head.weight.detach(), "v_head.summary.bias": head.bias.detach()}, path)
    return head.double()


def tensors_of(model, method):
    if method["type"] == "lora":
        from peft import get_peft_model_state_dict
        return {n: t.detach().double() for n, t in get_peft_model_state_dict(model).items()}
    return {n: p.detach().double() for n, p in model.named_parameters() if p.requires_grad}


def off(a, b, least=1e-2):
    return abs(a - b) / max(abs(b), least)


def worst_told(path, told):
    """The largest difference of figures by token in rollouts.jsonl, and whether the lines are those that were given."""
    keys = {"logprobs": "old", "ref_logprobs": "ref", "values": "values", "advantages": "advantages", "returns": "returns"}
    worst = 0.0
    with open(path) as lines:
        rows = [json.loads(line) for line in lines]
    same = len(rows) == len(told)
    for row, y in zip(rows, told):
        same = same and row["completion_ids"] == y["line"]["completion_ids"] and row["prompt_ids"] == y["line"]["prompt_ids"]
        for ours, theirs in keys.items():
            if theirs in y:
                same = same and len(row[ours]) == len(y[theirs])
                worst = max([worst, *(off(a, b, 0.1) for a, b in zip(row[ours], y[theirs].tolist()))])
    return worst, same


def run_case(ft, name, work, report):
    model_name, method, own, batch, micro = CASES[name]
    cfg = {**DEFAULTS, **own}
    size = batch * cfg["num_generations"]
    batches = math.ceil(STEPS / (cfg["num_ppo_epochs"] * cfg["num_mini_batches"]))
    lines = make_rollouts(size * batches, random.Random(7), own.get("longest", 9))
    folder, file, given = (os.path.join(work, x) for x in ("model", "rollouts.jsonl", "value_head.safetensors"))
    with open(file, "w") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)
    model = with_method(make_model(model_name, folder), method, work)
    head = make_head(hidden_of(model.config), given, own.get("value_head"))
    log, told = run_loop(model.double(), head, lines, cfg, size, 2e-3)
    objective = {"type": "ppo", "rollouts": file, **{k: v for k, v in own.items() if k not in ("value_head", "longest")}}
    if own.get("value_head"):
        objective["value_head"] = given
    config = {"model": {"path": folder}, "objective": objective,
              "method": {"type": "lora", "init_from": os.path.join(work, "init")} if method["type"] == "lora" else method,
              "data": {"max_length": 64}, "optim": constant_rate(2e-3),
              "train": {"batch_size": batch, "max_steps": STEPS, "micro_batch_size": micro, "precision": "f32"}}
    mine = run_config(ft, work, config)
    worst = {key: max(off(a[key], b[key]) for a, b in zip(mine, log)) for key in log[0]}
    told_off, same = worst_told(os.path.join(work, "out", "rollouts.jsonl"), told)
    final = saved(work, method["type"] == "lora")
    final.update(load_file(os.path.join(work, "out", "value_head.safetensors")))
    weights = weights_apart(final, {**tensors_of(model, method),
                                    **{f"v_head.summary.{k}": p.detach() for k, p in head.named_parameters()}})
    ok = len(mine) == STEPS and same and weights < 1e-4 and told_off < 1e-4 and worst["loss"] < 1e-4
    report.line(name, ok, told_of(worst, weights, f"tokens {told_off:.1e}  "))


if __name__ == "__main__":
    run_cases(CASES, run_case)
