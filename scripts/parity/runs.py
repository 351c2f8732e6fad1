"""runs.py - what parity and golden scripts of whole training runs share: adapters that do not begin at zero, ft's run of the same
config, the distances of what is trained, and the files of a golden."""
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

from harness import run_ft


def begin_elsewhere(model, work):
    """Factors that are not zero, so that each has a gradient from step 1; WORK/init is the adapter, for both to begin from."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B.default" in name or "lora_A.default" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
    model.save_pretrained(os.path.join(work, "init"), selected_adapters=["default"])


def tensors_of(model, adapter):
    if adapter:
        from peft import get_peft_model_state_dict
        return {n: t.detach().double() for n, t in get_peft_model_state_dict(model).items()}
    return {n: p.detach().double() for n, p in model.named_parameters()}


def constant_rate(rate):
    return {"learning_rate": rate, "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "weight_decay": 0.0}


def run_config(ft, work, config):
    """ft's run into WORK/out: the lines of its log."""
    path, out = os.path.join(work, "config.json"), os.path.join(work, "out")
    with open(path, "w") as text:
        json.dump({**config, "output": {"dir": out}}, text)
    run_ft(ft, "train", path, "-q")
    with open(os.path.join(out, "log.jsonl")) as lines:
        return [json.loads(line) for line in lines]


def saved(work, adapter):
    return load_file(os.path.join(work, "out", "adapter_model.safetensors" if adapter else "model.safetensors"))


def weights_apart(final, want):
    """The largest relative distance of tensors; infinite where one is missing. A bias of keys has no gradient but rounding's."""
    worst = 0.0
    for key, value in want.items():
        if key.endswith("c_attn.bias"):
            continue
        if key not in final:
            return float("inf")
        worst = max(worst, float((final[key].double() - value).norm() / value.norm().clamp(min=1e-12)))
    return worst


def figures_apart(log, history, least, but=("step", "epoch", "learning_rate")):
    """The largest difference of each figure that both have, against its size or least(figure)."""
    worst = {}
    for mine, theirs in zip(log, history):
        for key in set(mine) & set(theirs) - set(but):
            a, b = float(mine[key]), float(theirs[key])
            worst[key] = max(worst.get(key, 0.0), abs(a - b) / max(abs(b), least(key)))
    return worst


def told(worst, weights, more=""):
    figures = sorted(worst.items(), key=lambda item: -item[1])[:3]
    return (f"loss {worst['loss']:.1e}  weights {weights:.1e}  {more}worst of {len(worst)}: "
            + ", ".join(f"{k} {v:.1e}" for k, v in figures))


def save_init(work, out):
    """The adapter that a golden begins from."""
    init = os.path.join(out, "init")
    os.makedirs(init, exist_ok=True)
    shutil.copy(os.path.join(work, "init", "adapter_model.safetensors"), init)
    with open(os.path.join(work, "init", "adapter_config.json")) as text:
        config = json.load(text)
    config["base_model_name_or_path"] = "tiny"
    config["target_modules"] = sorted(config["target_modules"])  # PEFT keeps a set
    with open(os.path.join(init, "adapter_config.json"), "w") as text:
        json.dump(config, text, indent=2, sort_keys=True)


def save_golden(out, name, history, figures, model, run, more=None):
    """CASE.safetensors and CASE.json; a figure that a step lacks is NaN."""
    tensors = {"losses": [r["loss"] for r in history], "grad_norms": [r["grad_norm"] for r in history],
               "learning_rates": [r["learning_rate"] for r in history]}
    tensors.update({"log." + f: [r.get(f, float("nan")) for r in history] for f in figures if any(f in r for r in history)})
    tensors = {k: torch.tensor([float(x) for x in v], dtype=torch.float32) for k, v in tensors.items()}
    tensors.update({"final." + k: v.float().contiguous() for k, v in tensors_of(model, True).items()})
    tensors.update(more or {})
    save_file(tensors, os.path.join(out, name + ".safetensors"))
    with open(os.path.join(out, name + ".json"), "w") as text:
        json.dump(run, text, indent=1)
        text.write("\n")
