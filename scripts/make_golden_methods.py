#!/usr/bin/env python3
"""make_golden_methods.py - adapters and training runs of methods that need a loop of their own.

    python scripts/make_golden_methods.py [--out tests/golden/peft] [--only CASE ...]

Files and runs are those of make_golden_peft.py, whose cases these stand beside: the same rows, schedule, clipping and
AdamW. What differs is what happens around a step:

    adalora     PEFT's AdaLoRA: its orthogonal term joins the loss once a step, update_and_allocate(step) comes after
                optimizer.step(), with the gradients as they were clipped. log.orth_loss, log.rank of each step
                in golden.safetensors.
    lotr        dW = alpha/r * L G R in a plain loop; L, R shared by a group of modules
    delta_lora  LoRA in a plain loop; after step t > delta_start also W += delta_ratio * s * (B_t A_t - B_t-1 A_t-1)
    lora_drop   LoRA in a plain loop, twice: on a sample, to see which modules matter, and on everything, with one
                pair for those that do not. CASE/base is the model, CASE/lora_drop.json what the sample told

The plain loops begin with ft's own random numbers (Philox, below), as their runs have nothing to begin from.
The script prints how far the same run in float64 ends from this one: the slack a reader may need.
"""
import argparse
import json
import math
import os
import sys
from types import SimpleNamespace

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_golden import CASES, sequences
from make_golden_peft import (EPOCHS, PER_STEP, STEPS, forward_rows, make_optimizer, save_adapter, step_loss,
                              training_rows)
from oracle import build_model, save_folder, write_json

HERE = os.path.dirname(os.path.abspath(__file__))


# --- AdaLoRA: the library ------------------------------------------------------------------------------------------
def adalora_model(config, fields, dtype=torch.float32):
    from peft import AdaLoraConfig, get_peft_model

    fields = {"total_step": STEPS, "lora_alpha": 16, **fields}
    if config["model_type"] == "gpt2":
        fields["fan_in_fan_out"] = True
    return get_peft_model(build_model(dict(config), dtype), AdaLoraConfig(
        task_type="CAUSAL_LM", base_model_name_or_path="model", lora_dropout=0.0, **fields)).to(dtype)


ADAPTERS = {
    "llama_adalora": ("llama", {"init_r": 4, "target_r": 2, "target_modules": ["q_proj", "v_proj", "lm_head"],
                                "modules_to_save": ["model.norm"]}, None),
    # Lists of the pattern: all, some and none of the triplets of a module.
    "qwen3_adalora_cut": ("qwen3", {"init_r": 3, "target_r": 2, "target_modules": ["o_proj", "gate_proj"]},
                          [[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]]),
    "gpt2_adalora_cut": ("gpt2", {"init_r": 5, "target_r": 2, "target_modules": ["c_attn", "mlp.c_proj"],
                                  "bias": "lora_only", "lora_alpha": 7},
                         [[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]),
}


def make_adapter(name, family, fields, pattern, out):
    folder = os.path.join(out, name)
    config = CASES[family]
    rows = sequences(config["vocab_size"], (13, 1, 6))
    base = build_model(dict(config))
    before = {n: p.detach().clone() for n, p in base.named_parameters()}
    base_logits = forward_rows(base, rows)
    model = adalora_model(config, fields).eval()
    torch.manual_seed(len(name))
    factors = [n for n, _ in model.base_model.model.named_parameters() if "lora_E" in n]
    kept = dict(zip(factors, pattern)) if pattern else None
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).uniform_(-0.6, 0.6))
        for n, parameter in model.base_model.model.named_parameters():
            if kept and n in kept:
                parameter.mul_(torch.tensor(kept[n], dtype=torch.float32)[:, None])
    if kept:
        model.peft_config["default"].rank_pattern = {n: [bool(k) for k in v] for n, v in kept.items()}
    logits = forward_rows(model, rows)
    save_adapter(model, os.path.join(folder, "adapter"), False)
    merged = model.merge_and_unload()
    changed = {n: p.detach().contiguous() for n, p in merged.named_parameters() if not torch.equal(p, before[n])}
    tensors = {"lengths": torch.tensor([len(ids) for ids, _ in rows], dtype=torch.int32),
               "ids": torch.tensor([t for ids, _ in rows for t in ids], dtype=torch.int32),
               "logits": logits, "base_logits": base_logits}
    tensors.update({"merged." + n: t.clone() for n, t in changed.items()})
    save_file(tensors, os.path.join(folder, "golden.safetensors"), metadata={"format": "pt"})
    write_json(os.path.join(folder, "golden.json"), {"base": family, "changed": sorted(changed)})
    print(f"  {name:18} {len(changed):3} tensors changed, logits moved "
          f"{float((logits - base_logits).abs().max()):.3f}, merged off by "
          f"{float((forward_rows(merged, rows) - logits).abs().max()):.1e}")


class AdaLora:
    """PEFT's model, from the adapter in `init`, which the first of these makes."""
    metrics = ("orth_loss", "rank")

    def __init__(self, config, spec, dtype, init, _):
        method = {k: v for k, v in spec["method"].items() if k not in ("type", "init_from", "lora_dropout")}
        self.peft = self.model = adalora_model(config, method, dtype)
        if not os.path.isdir(init):
            torch.manual_seed(7)
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    if "lora_E" in name:
                        parameter.uniform_(-0.1, 0.1)
                    elif "lora_" in name:
                        parameter.uniform_(-0.2, 0.2)
            save_adapter(self.model, init, False)
        from peft import set_peft_model_state_dict
        set_peft_model_state_dict(self.model, load_file(os.path.join(init, "adapter_model.safetensors")))
        self.model.to(dtype)
        self.trained = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        self.method, self.gap = method, math.inf

    def extra(self):
        """PEFT adds its term to whatever loss the model inside returns: here 0."""
        inner = self.peft.base_model.model
        inner.forward = lambda: SimpleNamespace(loss=torch.zeros((), dtype=next(inner.parameters()).dtype))
        term = self.peft.base_model.forward().loss
        del inner.forward
        return term

    def after(self, step):
        self.peft.base_model.update_and_allocate(step)
        pattern = self.peft.peft_config["default"].rank_pattern
        self.rank = sum(map(sum, pattern.values())) if pattern else self.peft.base_model.rankallocator.init_bgt

    def log(self, term):
        return {"orth_loss": float(term.detach()), "rank": float(self.rank)}

    def tensors(self):
        from peft import get_peft_model_state_dict
        state = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        return {n: t.detach().clone().contiguous() for n, t in state.items()}


# --- ft's random numbers -------------------------------------------------------------------------------------------
MASK = (1 << 64) - 1


def philox(key, counter):
    a, b = counter, 0
    for _ in range(10):
        product = 0xD2B74407B1CE6E93 * a
        a, b, key = (product >> 64) ^ key ^ b, product & MASK, (key + 0x9E3779B97F4A7C15) & MASK
    return a


def uniforms(seed, name, n):
    text = 0xCBF29CE484222325
    for byte in name.encode("utf-8"):
        text = ((text ^ byte) * 0x100000001B3) & MASK
    key = philox(philox(seed, text) ^ 0x5851F42D4C957F2D, 0)
    return [(philox(key, i) >> 11) * 2.0 ** -53 for i in range(n)]


def kaiming(name, rows, cols, seed=1):
    bound = float(torch.tensor(1.0) / torch.sqrt(torch.tensor(float(cols))))
    values = [-bound + 2 * bound * u for u in uniforms(seed, name, rows * cols)]
    return torch.tensor(values, dtype=torch.float64).float().reshape(rows, cols)


def normal(name, rows, cols, seed=1):
    u = uniforms(seed, name, 2 * rows * cols)
    values = [math.sqrt(-2.0 * math.log(1.0 - u[2 * i])) * math.cos(6.283185307179586 * u[2 * i + 1])
              for i in range(rows * cols)]
    return torch.tensor(values, dtype=torch.float64).float().reshape(rows, cols)


# --- plain loops -----------------------------------------------------------------------------------------------------
def targets(model, names):
    """path: (module, out, in) of the modules whose paths end with one of the names."""
    found = {}
    for path, module in model.named_modules():
        if any(path == name or path.endswith("." + name) for name in names):
            shape = tuple(module.weight.shape)
            found[path] = (module, *(shape[::-1] if type(module).__name__ == "Conv1D" else shape))
    return found


class Loop:
    """A frozen model; change(path, x) of a target is added to what it gives."""
    metrics = ()

    def __init__(self, config, spec, dtype):
        self.model = build_model(dict(config), dtype).requires_grad_(False)
        self.method, self.dtype = spec["method"], dtype
        self.targets = targets(self.model, self.method["target_modules"])
        for path, (module, _, _) in self.targets.items():
            module.forward = lambda x, path=path, old=module.forward: old(x) + self.change(path, x)

    def parameter(self, value):
        return torch.nn.Parameter(value.to(self.dtype))

    def extra(self):
        return torch.zeros((), dtype=self.dtype)

    def after(self, step):
        pass

    def log(self, _):
        return {}


class Lora(Loop):
    def __init__(self, config, spec, dtype, *_):
        super().__init__(config, spec, dtype)
        r = self.method["r"]
        self.scale, self.pairs = self.method["lora_alpha"] / r, {}
        for path, (_, out, size) in self.targets.items():
            key = f"base_model.model.{path}.lora_%s.weight"
            self.pairs[path] = (self.parameter(kaiming(key % "A", r, size)), self.parameter(torch.zeros(out, r)))
        self.list_trained()

    def list_trained(self):
        unique = {id(p): (f"{path}.lora_{k}.weight", p) for path, pair in self.pairs.items() for k, p in zip("AB", pair)}
        self.trained = list(unique.values())

    def change(self, path, x):
        a, b = self.pairs[path]
        return self.scale * ((x @ a.T) @ b.T)

    def tensors(self):
        return {f"base_model.model.{path}.lora_{k}.weight": p.detach().clone()
                for path, pair in self.pairs.items() for k, p in zip("AB", pair)}


class DeltaLora(Lora):
    def __init__(self, config, spec, dtype, *_):
        super().__init__(config, spec, dtype)
        self.products = self.product()

    def product(self):
        return {path: (b @ a).detach() for path, (a, b) in self.pairs.items()}

    def move(self, path, by):
        module = self.targets[path][0]
        module.weight.data += by.T if type(module).__name__ == "Conv1D" else by

    def after(self, step):
        now = self.product()
        for path, new in now.items():
            if step + 1 > self.method["delta_start"]:
                self.move(path, self.method["delta_ratio"] * self.scale * (new - self.products[path]))
        self.products = now

    def tensors(self):
        weights = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        for path, product in self.products.items():
            turned = type(self.targets[path][0]).__name__ == "Conv1D"
            weights[path + ".weight"] += self.scale * (product.T if turned else product)
        return {n: t.contiguous() for n, t in weights.items()}


class Lotr(Loop):
    def __init__(self, config, spec, dtype, *_):
        super().__init__(config, spec, dtype)
        r = self.method["r"]
        self.scale, self.shared, self.cores, self.group = self.method["lora_alpha"] / r, {}, {}, {}
        for path, (_, out, size) in self.targets.items():
            name = "all" if self.method["lotr_share"] == "all" else path.split(".")[-1]
            group = self.group[path] = f"{name}.{out}x{size}"
            if group not in self.shared:
                self.shared[group] = (self.parameter(normal(group + ".lotr_L", out, r)),
                                      self.parameter(normal(group + ".lotr_R", r, size)))
            self.cores[path] = self.parameter(torch.zeros(r, r))
        self.trained = [(f"{g}.lotr_{k}", p) for g, pair in self.shared.items() for k, p in zip("LR", pair)]
        self.trained += [(f"base_model.model.{path}.lotr_G", g) for path, g in self.cores.items()]

    def change(self, path, x):
        left, right = self.shared[self.group[path]]
        return self.scale * (((x @ right.T) @ self.cores[path].T) @ left.T)

    def tensors(self):
        return {n: p.detach().clone() for n, p in self.trained}


class LoraDrop(Lora):
    """Stage 1 is over when this is made."""

    def __init__(self, config, spec, dtype, _, rows):
        super().__init__(config, spec, dtype)
        first = {path: tuple(p.detach().clone() for p in pair) for path, pair in self.pairs.items()}
        sample = rows[:math.ceil(self.method["sample_ratio"] * len(rows))]
        self.losses = self.warm(sample, spec)
        self.importance, self.shared = self.choose(self.look(sample))
        self.pairs = {path: tuple(self.parameter(p) for p in pair) for path, pair in first.items()}
        for paths in self.shared.values():
            for path in paths:
                self.pairs[path] = self.pairs[paths[0]]
        self.list_trained()

    def warm(self, sample, spec):
        optimizer, losses = make_optimizer(self.model, self.trained, spec), []
        for step in range(self.method["sample_steps"]):
            loss = step_loss(self.model, [sample[(step * PER_STEP + i) % len(sample)] for i in range(PER_STEP)], 0)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for _, p in self.trained], 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    def look(self, sample):
        total, plain = dict.fromkeys(self.targets, 0.0), self.change

        def looking(path, x):
            y = plain(path, x)
            total[path] += float((y.detach().double() ** 2).sum())
            return y
        self.change = looking
        forward_rows(self.model, sample)
        self.change = plain
        return total

    def choose(self, total):
        importance, shared = {}, {}
        for name in sorted({path.split(".")[-1] for path in total}):
            paths = [path for path in total if path.split(".")[-1] == name]
            part = {path: total[path] / sum(total[p] for p in paths) for path in paths}
            kept, have = [], 0.0
            for path in sorted(paths, key=lambda p: -part[p]):
                if have < self.method["threshold"]:
                    kept.append(path)
                    have += part[path]
            importance.update(part)
            if len(kept) < len(paths):
                shared[name] = [path for path in paths if path not in kept]
        return importance, shared

    def beside(self):
        return {"lora_drop.json": {"threshold": self.method["threshold"], "losses": self.losses,
                                   "importance": self.importance, "shared": self.shared}}


# --- one run ---------------------------------------------------------------------------------------------------------
ADALORA = {"type": "adalora", "lora_alpha": 16, "lora_dropout": 0.0, "init_from": "init"}
# More layers than the families have, so that modules can share: the folder `base` of the case.
LLAMA = {"model_type": "llama", "vocab_size": 48, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 4,
         "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "tie_word_embeddings": True,
         "bos_token_id": 0, "eos_token_id": 2, "architectures": ["LlamaForCausalLM"]}
GPT2 = {"model_type": "gpt2", "vocab_size": 48, "n_embd": 16, "n_layer": 4, "n_head": 2, "n_inner": 20, "n_positions": 20,
        "bos_token_id": 0, "eos_token_id": 0, "architectures": ["GPT2LMHeadModel"]}
TRAIN = {
    "train_adalora": {"base": "llama", "learning_rate": 3e-3, "weight_decay": 0.01, "warmup_steps": 4, "run": AdaLora,
                      "method": {**ADALORA, "init_r": 6, "target_r": 2, "tinit": 3, "tfinal": 5, "deltaT": 2,
                                 "total_step": 20, "target_modules": ["q_proj", "v_proj", "down_proj"]}},
    "train_adalora_gpt2": {"base": "gpt2", "learning_rate": 1e-3, "weight_decay": 0.0, "warmup_steps": 0,
                           "run": AdaLora,
                           "method": {**ADALORA, "init_r": 4, "target_r": 1, "total_step": 20, "beta1": 0.7,
                                      "beta2": 0.9, "orth_reg_weight": 0.1, "modules_to_save": ["ln_f"],
                                      "target_modules": ["c_attn", "mlp.c_proj"]}},
    "train_lotr": {"base": "llama", "learning_rate": 2e-3, "weight_decay": 0.01, "warmup_steps": 4, "run": Lotr,
                   "method": {"type": "lotr", "r": 3, "lora_alpha": 0.5, "lotr_share": "projection",
                              "target_modules": ["q_proj", "v_proj", "down_proj"]}},
    "train_lotr_gpt2": {"base": "gpt2", "learning_rate": 2e-3, "weight_decay": 0.0, "warmup_steps": 0, "run": Lotr,
                        "method": {"type": "lotr", "r": 2, "lora_alpha": 0.3, "lotr_share": "all",
                                   "target_modules": ["c_attn", "c_proj"]}},
    "train_delta_lora": {"base": "llama", "learning_rate": 5e-3, "weight_decay": 0.01, "warmup_steps": 2,
                         "run": DeltaLora,
                         "method": {"type": "delta_lora", "r": 4, "lora_alpha": 8, "delta_ratio": 2, "delta_start": 5,
                                    "target_modules": ["q_proj", "v_proj", "down_proj"]}},
    "train_delta_lora_gpt2": {"base": "gpt2", "learning_rate": 5e-3, "weight_decay": 0.0, "warmup_steps": 0,
                              "run": DeltaLora,
                              "method": {"type": "delta_lora", "r": 2, "lora_alpha": 3, "delta_ratio": 0.5,
                                         "delta_start": 0, "target_modules": ["c_attn", "mlp.c_proj"]}},
    "train_lora_drop": {"model": LLAMA, "learning_rate": 5e-3, "weight_decay": 0.01, "warmup_steps": 4, "run": LoraDrop,
                        "method": {"type": "lora_drop", "r": 3, "lora_alpha": 6, "threshold": 0.5, "sample_ratio": 0.3,
                                   "sample_steps": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}},
    "train_lora_drop_gpt2": {"model": GPT2, "learning_rate": 5e-3, "weight_decay": 0.0, "warmup_steps": 0,
                             "run": LoraDrop,
                             "method": {"type": "lora_drop", "r": 2, "lora_alpha": 3, "threshold": 0.3,
                                        "sample_ratio": 0.1, "sample_steps": 5, "target_modules": ["c_attn", "c_fc"]}},
}


def train(run, rows, spec):
    from transformers import get_linear_schedule_with_warmup

    optimizer = make_optimizer(run.model, run.trained, spec)
    schedule = get_linear_schedule_with_warmup(optimizer, spec["warmup_steps"], STEPS)
    logs = {key: [] for key in ("losses", "learning_rates", "grad_norms", *("log." + m for m in run.metrics))}
    for step in range(STEPS):
        at = step * PER_STEP % len(rows)
        loss, term = step_loss(run.model, rows[at:at + PER_STEP], 0), run.extra()
        optimizer.zero_grad(set_to_none=True)
        (loss + term).backward()
        logs["grad_norms"].append(float(torch.nn.utils.clip_grad_norm_([p for _, p in run.trained], 1.0)))
        logs["losses"].append(float(loss.detach()))
        logs["learning_rates"].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        run.after(step)
        for key, value in run.log(term).items():
            logs["log." + key].append(value)
    return logs


def make_training(name, spec, out):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    config = spec.get("model") or CASES[spec["base"]]
    if "model" in spec:
        save_folder(build_model(dict(config)), config, os.path.join(folder, "base"))
    rows = training_rows(config["vocab_size"])
    with open(os.path.join(folder, "train.jsonl"), "w", encoding="utf-8") as lines:
        for ids, labels in rows:
            lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    write_json(os.path.join(folder, "config.json"), {
        "model": {"path": "model"}, "method": spec["method"],
        "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 32, "shuffle": False},
        "optim": {"type": "adamw", "learning_rate": spec["learning_rate"], "weight_decay": spec["weight_decay"],
                  "lr_scheduler_type": "linear", "warmup_steps": spec["warmup_steps"], "max_grad_norm": 1.0},
        "train": {"epochs": EPOCHS, "batch_size": PER_STEP, "precision": "f32", "seed": 1},
        "output": {"dir": "out"},
    })
    write_json(os.path.join(folder, "golden.json"), {"base": spec.get("base")})
    init = os.path.join(folder, "init")
    run = spec["run"](config, spec, torch.float32, init, rows)
    first = run.tensors()
    logs, final = train(run, rows, spec), run.tensors()
    double = spec["run"](config, spec, torch.float64, init, rows)
    logs64, final64 = train(double, rows, spec), double.tensors()
    for file, value in getattr(run, "beside", dict)().items():
        write_json(os.path.join(folder, file), value)
    tensors = {key: torch.tensor(values) for key, values in logs.items()}
    tensors.update({"final." + n: t.float() for n, t in final.items()})
    save_file(tensors, os.path.join(folder, "golden.safetensors"), metadata={"format": "pt"})
    moved = max((float((final[n] - first[n]).abs().max()) for n in final if final[n].shape == first[n].shape),
                default=0)
    off = max(float((final64[n] - final[n]).norm() / (final64[n].norm() + 1e-30))
              if final64[n].shape == final[n].shape else math.inf for n in final)  # inf: other triplets were kept
    more = "".join(f"; {key[4:]} {values[0]:.5g} -> {values[-1]:.5g}" for key, values in logs.items() if "log." in key)
    print(f"  {name:20} loss {logs['losses'][0]:.4f} -> {logs['losses'][-1]:.4f}, norms {min(logs['grad_norms']):.2f}.."
          f"{max(logs['grad_norms']):.2f}, weights moved {moved:.3f}{more}; float64 differs by {off:.1e} relative in "
          f"weights, {max(abs(a - b) / a for a, b in zip(logs['losses'], logs64['losses'])):.1e} in losses")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "tests", "golden", "peft"))
    parser.add_argument("--only", nargs="*", help="cases to make; the others stay as they are")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, (family, fields, pattern) in ADAPTERS.items():
        if not arguments.only or name in arguments.only:
            make_adapter(name, family, fields, pattern, arguments.out)
    for name, spec in TRAIN.items():
        if not arguments.only or name in arguments.only:
            make_training(name, spec, arguments.out)
    for folder, _, files in os.walk(arguments.out):
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)


if __name__ == "__main__":
    main()
