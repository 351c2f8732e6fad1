#!/usr/bin/env python3
"""make_golden_bottleneck.py - bottleneck adapters written by the real `adapters` library, what they compute, and
training runs.

    python scripts/make_golden_bottleneck.py [--out tests/golden/bottleneck] [--only CASE]

Needs torch and adapters (1.3, with the transformers that it wants). The base models are those of
tests/golden/families; the files of a case are those of make_golden_peft.py (an adapter case has no merged
tensors), but for the adapter's own: adapter_config.json and adapter.safetensors.

The library knows llama, mistral and gpt2. For the other families the adapter is a plain module here, put into
the layers by the formulas alone; that the two agree is checked on llama.
"""
import argparse
import json
import os
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file
from torch import nn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_golden import CASES, sequences
from make_golden_peft import EPOCHS, PER_STEP, forward_rows, train, training_rows
from oracle import build_model, write_json

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = ("llama", "mistral", "gpt2")

# name: (family, name of the adapter, preset, keys)
ADAPTERS = {
    "llama_double": ("llama", "default", "double_seq_bn", {}),
    "llama_seq": ("llama", "task", "seq_bn", {"reduction_factor": {"1": 3, "default": 8}, "non_linearity": "gelu"}),
    "llama_par": ("llama", "default", "par_bn", {}),
    "mistral_seq": ("mistral", "default", "pfeiffer", {"mh_adapter": True, "non_linearity": "tanh", "scaling": 0.5}),
    "mistral_double": ("mistral", "default", "houlsby", {"leave_out": [0], "reduction_factor": 4.5,
                                                         "non_linearity": "gelu_new"}),
    "gpt2_double": ("gpt2", "my-task", "houlsby", {"non_linearity": "leakyrelu", "reduction_factor": 5}),
    "gpt2_par": ("gpt2", "default", "parallel", {"mh_adapter": True, "scaling": 1.0, "reduction_factor": 7}),
    "gpt2_seq": ("gpt2", "default", "seq_bn", {"scaling": 2.5, "reduction_factor": 0.5}),
    "qwen2_double": ("qwen2", "default", "double_seq_bn", {"scaling": 1.5}),
    "qwen2_par": ("qwen2_window", "default", "par_bn", {"output_adapter": False, "mh_adapter": True}),
    "qwen3_seq": ("qwen3", "default", "seq_bn", {"mh_adapter": True, "non_linearity": "swish"}),
}
TRAIN = {
    "train_double": ("llama", "double_seq_bn", {"reduction_factor": 4}, 1e-2, 0.1),
    "train_seq": ("mistral", "seq_bn", {"reduction_factor": 4, "non_linearity": "gelu"}, 1e-2, 0.0),
    "train_par": ("gpt2", "par_bn", {"mh_adapter": True}, 3e-3, 0.01),
    "train_double_qwen3": ("qwen3", "double_seq_bn", {"non_linearity": "tanh", "scaling": 2.0}, 1e-2, 0.01),
    "train_par_qwen2": ("qwen2", "par_bn", {}, 3e-3, 0.1),
}
WARMUP = 3


def base_model(family):
    """By the config in the spelling of transformers 4, which the library wants; it must be the same model."""
    config = dict(CASES[family])
    rope = dict(config.pop("rope_parameters", {"rope_type": "default"}))
    assert rope.pop("rope_type") == "default"
    model = build_model({**config, **rope})
    known = load_file(os.path.join(HERE, "..", "tests", "golden", "families", family, "golden.safetensors"))
    ends = known["lengths"].cumsum(0).tolist()
    rows = [(known["ids"][a:b].tolist(), None) for a, b in zip([0] + ends, ends)]
    assert float((forward_rows(model, rows) - known["logits"]).abs().max()) < 1e-4, family
    return model


class Bottleneck(nn.Module):
    """A, with the library's names of what it trains."""

    def __init__(self, hidden, layer, config):
        super().__init__()
        from transformers.activations import get_activation

        factor = config["reduction_factor"]
        if not isinstance(factor, (int, float)):
            factor = factor.get(str(layer), factor.get("default"))
        width = max(1, int(hidden / factor))
        self.adapter_down = nn.Sequential(nn.Linear(hidden, width))
        self.adapter_up = nn.Linear(width, hidden)
        name = config["non_linearity"]
        self.act = nn.functional.leaky_relu if name == "leakyrelu" else get_activation(name)
        self.scaling, self.before, self.parallel = config["scaling"], config["original_ln_before"], config["is_parallel"]

    def forward(self, h, r):
        x = r if self.parallel else h + r if self.before else h
        return r + h + self.scaling * self.adapter_up(self.act(self.adapter_down(x)))


class Place(nn.Module):
    def __init__(self, name, adapter):
        super().__init__()
        self.adapters = nn.ModuleDict({name: adapter})


def put_plain(model, name, config):
    """Adapters by the formulas, in a decoder of transformers whose layers are norm, attention, norm, mlp."""
    for index, layer in enumerate(model.model.layers):
        def forward(hidden_states, layer=layer, **more):
            attention = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **more)[0]
            h = attend(layer, "attention_adapters", attention, hidden_states)
            return attend(layer, "output_adapters", layer.mlp(layer.post_attention_layernorm(h)), h)

        def attend(layer, place, h, r):
            there = getattr(layer, place, None)
            return there.adapters[name](h, r) if there is not None else h + r

        if index not in config["leave_out"]:
            for place, key in (("attention_adapters", "mh_adapter"), ("output_adapters", "output_adapter")):
                if config[key]:
                    setattr(layer, place, Place(name, Bottleneck(model.config.hidden_size, index, config)))
        layer.forward = forward
    for key, parameter in model.named_parameters():
        parameter.requires_grad = f".adapters.{name}." in key
    return model


def attach(model, family, name, config, plain=False):
    """Adapters with library names in a fresh base, trained alone."""
    if plain or family not in LIBRARY:
        return put_plain(model, name, config)
    import adapters

    adapters.init(model)
    model.add_adapter(name, config=config)
    model.train_adapter(name)
    return model.eval()


def own(model, name):
    return {k: v.detach().clone().contiguous() for k, v in model.state_dict().items() if f".adapters.{name}." in k}


def save_adapter(model, family, name, config, folder):
    os.makedirs(folder, exist_ok=True)
    if family in LIBRARY:
        model.save_adapter(folder, name, with_head=False, use_safetensors=True)
        return
    from adapters.configuration.model_adapters_config import build_full_config

    write_json(os.path.join(folder, "adapter_config.json"),
               build_full_config(config, model.config, model_name="", name=name,
                                 model_class=model.__class__.__name__))
    save_file(own(model, name), os.path.join(folder, "adapter.safetensors"))


def randomise(model, name, seed, size):
    torch.manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if f".adapters.{name}." in key:
                parameter.uniform_(-size, size)


def config_of(preset, keys):
    from adapters import AdapterConfig

    return AdapterConfig.load(preset, **keys)


def check_plain(name, preset, keys, logits, rows, state):
    plain = attach(base_model("llama"), "llama", name, config_of(preset, keys), plain=True)
    missing, unexpected = plain.load_state_dict(state, strict=False)
    assert not unexpected and not [k for k in missing if ".adapters." in k]
    off = float((forward_rows(plain, rows) - logits).abs().max())
    assert off < 2e-5, off
    return off


def make_adapter(case, out):
    family, name, preset, keys = ADAPTERS[case]
    folder = os.path.join(out, case)
    rows = sequences(CASES[family]["vocab_size"], (13, 1, 6))
    base_logits = forward_rows(base_model(family), rows)
    config = config_of(preset, keys)
    model = attach(base_model(family), family, name, config)
    randomise(model, name, len(case), 0.3)
    logits = forward_rows(model, rows)
    save_adapter(model, family, name, config, os.path.join(folder, "adapter"))
    save_file({"lengths": torch.tensor([len(ids) for ids, _ in rows], dtype=torch.int32),
               "ids": torch.tensor([t for ids, _ in rows for t in ids], dtype=torch.int32),
               "logits": logits, "base_logits": base_logits},
              os.path.join(folder, "golden.safetensors"), metadata={"format": "pt"})
    write_json(os.path.join(folder, "golden.json"), {"base": family})
    off = check_plain(name, preset, keys, logits, rows, own(model, name)) if family == "llama" else 0.0
    print(f"  {case:20} logits moved {float((logits - base_logits).abs().max()):.3f}; by the formulas {off:.1e} off")


def make_training(case, out):
    family, preset, keys, rate, decay = TRAIN[case]
    folder = os.path.join(out, case)
    os.makedirs(folder, exist_ok=True)
    rows = training_rows(CASES[family]["vocab_size"])
    with open(os.path.join(folder, "train.jsonl"), "w", encoding="utf-8") as lines:
        for ids, labels in rows:
            lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    spec = {"learning_rate": rate, "weight_decay": decay, "warmup_steps": WARMUP,
            "method": {"type": "adapter", "config": preset, "init_from": "init"}}
    write_json(os.path.join(folder, "config.json"), {
        "model": {"path": "model"}, "method": dict(spec["method"], **keys),
        "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 32, "shuffle": False},
        "optim": {"type": "adamw", "learning_rate": rate, "weight_decay": decay, "lr_scheduler_type": "linear",
                  "warmup_steps": WARMUP, "max_grad_norm": 1.0},
        "train": {"epochs": EPOCHS, "batch_size": PER_STEP, "precision": "f32", "seed": 1},
        "output": {"dir": "out"}})
    config = config_of(preset, keys)
    results = []
    for dtype in (torch.float32, torch.float64):
        model = attach(base_model(family), family, "default", config)
        randomise(model, "default", 7, 0.1)
        if dtype == torch.float32:
            save_adapter(model, family, "default", config, os.path.join(folder, "init"))
        model.load_state_dict(load_file(os.path.join(folder, "init", "adapter.safetensors")), strict=False)
        model = model.to(dtype)
        log = train(model, rows, spec)
        results.append((log, own(model, "default")))
    (log, final), (log64, final64) = results
    tensors = {"losses": torch.tensor(log[0]), "learning_rates": torch.tensor(log[1]), "grad_norms": torch.tensor(log[2])}
    tensors.update({"final." + n: t for n, t in final.items()})
    save_file(tensors, os.path.join(folder, "golden.safetensors"), metadata={"format": "pt"})
    write_json(os.path.join(folder, "golden.json"), {"base": family})
    off = max(float((final64[n] - final[n]).norm() / final64[n].norm()) for n in final)
    print(f"  {case:20} loss {log[0][0]:.4f} -> {log[0][-1]:.4f}; float64 differs by {off:.1e} (relative L2) in "
          f"weights, {max(abs(a - b) for a, b in zip(log[0], log64[0])):.1e} in losses")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "tests", "golden", "bottleneck"))
    parser.add_argument("--only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for cases, make in ((ADAPTERS, make_adapter), (TRAIN, make_training)):
        for case in cases:
            if arguments.only in (None, case):
                shutil.rmtree(os.path.join(arguments.out, case), ignore_errors=True)
                make(case, arguments.out)


if __name__ == "__main__":
    main()
