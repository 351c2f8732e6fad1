#!/usr/bin/env python3
"""prune.py - ft prune against plain loops in float64 of magnitude pruning, Wanda (Sun et al. 2023), SparseGPT (Frantar & Alistarh
2023) and layers by block influence and by angles (Men et al. 2024, Gromov et al. 2024), over random models:

    python scripts/parity/prune.py build/release/ft [--only NAME]

A block is held to the loops over inputs that come from what ft made of the blocks before it. Masks are equal but for ties of
rounding (1 in 10,000); weights that stay are the base's to the bit, SparseGPT's to 1e-4. Scores of layers agree to 1e-5, and the
model without them has the log-probabilities of torch's. Prints a line a case; status 1 when a
bound is exceeded."""
import json
import os

import torch
from safetensors.torch import load_file

import harness
import quantize  # its models

harness.MODELS.update({f"p-{name}": {**harness.MODELS[f"q-{name}"], ("n_layer" if name == "gpt2" else "num_hidden_layers"): 5}
                       for name in ("llama", "qwen2", "qwen3", "gpt2")})
CASES = {
    "magnitude": ("q-llama", {"type": "magnitude", "sparsity": 0.37}),
    "magnitude-row": ("q-qwen2", {"type": "magnitude", "sparsity": 0.61, "scope": "row"}),
    "magnitude-global": ("q-mistral", {"type": "magnitude", "sparsity": 0.5, "scope": "global"}),
    "magnitude-1:4": ("q-qwen3", {"type": "magnitude", "pattern": "1:4"}),
    "magnitude-gpt2": ("q-gpt2", {"type": "magnitude", "sparsity": 0.5, "scope": "row"}),
    "wanda": ("q-llama", {"type": "wanda", "sparsity": 0.37}),
    "wanda-2:4": ("q-qwen2", {"type": "wanda", "pattern": "2:4"}),
    "wanda-4:8": ("q-qwen3", {"type": "wanda", "pattern": "4:8"}),
    "wanda-window": ("q-mistral", {"type": "wanda"}),
    "wanda-gpt2": ("q-gpt2", {"type": "wanda", "sparsity": 0.5}),
    "sparsegpt": ("q-llama", {"type": "sparsegpt", "sparsity": 0.5}),
    "sparsegpt-pieces": ("q-qwen2", {"type": "sparsegpt", "sparsity": 0.3, "block_size": 32, "damp_percent": 0.1}),
    "sparsegpt-2:4": ("q-qwen3", {"type": "sparsegpt", "pattern": "2:4"}),
    "sparsegpt-gpt2": ("q-gpt2", {"type": "sparsegpt", "sparsity": 0.5}),
    "layers": ("p-llama", {"type": "layers", "drop": 2}),
    "layers-angular": ("p-qwen2", {"type": "layers", "drop": 2, "importance": "angular"}),
    "layers-gpt2": ("p-gpt2", {"type": "layers", "drop": 3}),
    "layers-named": ("p-qwen3", {"type": "layers", "layers": [3, 0]}),
}


def blocks_of(model):
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def linears_of(block):
    kinds = (torch.nn.Linear,) + tuple(c for c in {type(m) for m in block.modules()} if c.__name__ == "Conv1D")
    return {n: m for n, m in block.named_modules() if isinstance(m, kinds)}


def matrix(module, values):  # [out, in]
    return values.T if type(module).__name__ == "Conv1D" else values


def inputs_of(model, block, rows):
    seen, handles = {}, []
    for name, module in linears_of(block).items():
        def hook(_, args, __, name=name):
            seen.setdefault(name, []).append(args[0].reshape(-1, args[0].shape[-1]).double())
        handles.append(module.register_forward_hook(hook))
    with torch.no_grad():
        for row in rows:
            model(torch.tensor([row]))
    for handle in handles:
        handle.remove()
    return {name: torch.cat(x) for name, x in seen.items()}


def lowest(score, count):  # along the last dimension, the lower index first
    order = torch.sort(score, dim=-1, stable=True)[1][..., :count]
    return torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order, True)


def of_pattern(score, pattern):
    keep, of = (int(x) for x in pattern.split(":"))
    return lowest(score.reshape(score.shape[0], -1, of), of - keep).reshape(score.shape)


def by_row(score, cfg):
    if "pattern" in cfg:
        return of_pattern(score, cfg["pattern"])
    return lowest(score, int(cfg.get("sparsity", 0.5) * score.shape[1]))


def sparsegpt(w, x, cfg):
    w, h, piece = w.clone(), x.T @ x, cfg.get("block_size", 128)
    dead = torch.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h += cfg.get("damp_percent", 0.01) * torch.diag(h).mean() * torch.eye(len(h), dtype=torch.float64)
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    diag = torch.diag(u)
    for first in range(0, w.shape[1], piece):
        end = min(first + piece, w.shape[1])
        lost = torch.zeros(w.shape[0], end - first, dtype=torch.float64)
        mask = torch.zeros(w.shape[0], end - first, dtype=torch.bool)
        if "pattern" not in cfg:
            score = w[:, first:end] ** 2 / diag[first:end] ** 2
            mask = lowest(score.flatten(), int(cfg["sparsity"] * score.numel())).view_as(score)
        for i in range(first, end):
            of = int(cfg["pattern"].split(":")[1]) if "pattern" in cfg else 0
            if of and i % of == 0:
                mask[:, i - first:i - first + of] = of_pattern(w[:, i:i + of] ** 2 / diag[i:i + of] ** 2, cfg["pattern"])
            kept = torch.where(mask[:, i - first], torch.zeros_like(w[:, i]), w[:, i])
            lost[:, i - first] = (w[:, i] - kept) / diag[i]
            w[:, i + 1:end] -= lost[:, i - first, None] * u[None, i, i + 1:end]
            w[:, i] = kept
        w[:, end:] -= lost @ u[first:end, end:]
    return w


def magnitude(model, cfg):
    """The masks of all linears, by block and name."""
    all_of = [(b, n, matrix(m, m.weight.detach()).double().abs()) for b, block in enumerate(blocks_of(model))
              for n, m in linears_of(block).items()]
    scope = cfg.get("scope", "tensor")
    if "pattern" in cfg or scope == "row":
        return {(b, n): by_row(w, cfg) for b, n, w in all_of}
    if scope == "tensor":
        return {(b, n): lowest(w.flatten(), int(cfg["sparsity"] * w.numel())).view_as(w) for b, n, w in all_of}
    flat = torch.cat([w.flatten() for _, _, w in all_of])
    flat = lowest(flat, int(cfg["sparsity"] * flat.numel()))
    masks, at = {}, 0
    for b, n, w in all_of:
        masks[b, n] = flat[at:at + w.numel()].view_as(w)
        at += w.numel()
    return masks


def layer_scores(model, rows, cfg):
    """What the layers are chosen by: cosines of the stream in front of and behind layers, or runs of them."""
    streams, handles, blocks = [], [], blocks_of(model)
    for i, block in enumerate(blocks):
        def hook(_, args, __, i=i):
            streams[-1][i] = args[0][0].double()
        handles.append(block.register_forward_hook(hook))
    def behind(_, __, out):
        streams[-1][len(blocks)] = (out[0] if isinstance(out, tuple) else out).reshape(-1, out[0].shape[-1]).double()
    handles.append(blocks[-1].register_forward_hook(behind))
    with torch.no_grad():
        for row in rows:
            streams.append({})
            model(torch.tensor([row]))
    for handle in handles:
        handle.remove()
    cos = torch.nn.functional.cosine_similarity
    if cfg.get("importance") == "angular":
        n = cfg["drop"]
        return [float(torch.stack([torch.arccos(cos(s[i][-1], s[i + n][-1], dim=0).clamp(-1, 1)) / torch.pi
                                   for s in streams]).mean()) for i in range(len(blocks) - n + 1)]
    return [float(1 - torch.cat([cos(s[i], s[i + 1], dim=-1) for s in streams]).mean()) for i in range(len(blocks))]


def lowest_layers(scores, cfg):
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    if cfg.get("importance") == "angular":
        return list(range(order[0], order[0] + cfg["drop"]))
    return sorted(order[:cfg["drop"]])


def layers_case(ft, name, model, folder, rows, cfg, out, report):
    run(ft, folder, rows, cfg, out)
    with open(os.path.join(out, "compress.json")) as text:
        told = json.load(text)
    want = [] if "layers" in cfg else layer_scores(model, rows, cfg)
    apart = max([abs(a - b) for a, b in zip(told["scores"], want)], default=0.0)
    dropped = sorted(cfg["layers"]) if "layers" in cfg else lowest_layers(want, cfg)
    kept = torch.nn.ModuleList(b for i, b in enumerate(blocks_of(model)) if i not in dropped)
    owner = model.transformer if hasattr(model, "transformer") else model.model
    setattr(owner, "h" if hasattr(model, "transformer") else "layers", kept)
    model.config.num_hidden_layers = len(kept)
    probe = harness.token_rows(640, [31, 12], seed=9)
    model.config.use_cache = False
    gap = harness.worst_logprob(harness.ft_logprobs(ft, out, probe), harness.hf_logprobs(model, probe))
    report.line(name, len(told["scores"]) == len(want) and told["dropped"] == dropped and apart < 1e-5 and gap < 2e-3,
                f"dropped {told['dropped']}, scores {apart:.1e}, log-probabilities {gap:.1e}")


def run(ft, folder, rows, cfg, out):
    data = os.path.join(folder, "calib.jsonl")
    with open(data, "w") as text:
        text.writelines(json.dumps({"input_ids": row}) + "\n" for row in rows)
    config = {"model": {"path": folder}, "prune": cfg}
    if cfg["type"] != "magnitude" and "layers" not in cfg:
        config["calibration"] = {"data": data, "samples": len(rows), "max_length": 64}
    with open(out + ".json", "w") as text:
        json.dump(config, text)
    harness.run_ft(ft, "prune", out + ".json", "--out", out, "-q")
    return load_file(os.path.join(out, "model.safetensors"))


def case(ft, name, work, report):
    model_name, cfg = CASES[name]
    folder, out = os.path.join(work, name), os.path.join(work, name + "-p")
    model = harness.make_model(model_name, folder, seed=len(name))
    rows = harness.token_rows(640, [40, 17, 64, 1, 33, 50, 29, 61, 2, 64], seed=5)
    if cfg["type"] == "layers":
        return layers_case(ft, name, model, folder, rows, cfg, out, report)
    have = run(ft, folder, rows, cfg, out)
    masks = magnitude(model, cfg) if cfg["type"] == "magnitude" else None
    differ, count, apart = 0, 0, 0.0
    for b, block in enumerate(blocks_of(model)):
        x = inputs_of(model, block, rows) if masks is None else None
        for n, module in linears_of(block).items():
            key = next(k for k in have if k.endswith(f".{b}.{n}.weight") or k.startswith(f"h.{b}.{n}.weight"))
            got, w = matrix(module, have[key]).double(), matrix(module, module.weight.detach()).double()
            if cfg["type"] == "sparsegpt":
                want = sparsegpt(w, x[n], cfg)
            else:
                mask = masks[b, n] if masks is not None else by_row(w.abs() * x[n].pow(2).sum(0).sqrt(), cfg)
                want = torch.where(mask, torch.zeros_like(w), w)
            both = (got != 0) & (want != 0)
            differ += int(((got != 0) != (want != 0)).sum())
            count += w.numel()
            apart = max(apart, float((got - want)[both].norm() / want.norm()))
        with torch.no_grad():  # inputs of all linears of a block come from the block as it was
            for n, module in linears_of(block).items():
                key = next(k for k in have if k.endswith(f".{b}.{n}.weight") or k.startswith(f"h.{b}.{n}.weight"))
                module.weight.copy_(have[key].to(module.weight.dtype))
    bound = 1e-4 if cfg["type"] == "sparsegpt" else 0.0
    report.line(name, differ * 10000 <= count and apart <= bound, f"masks differ in {differ} of {count}, weights {apart:.1e}")


if __name__ == "__main__":
    harness.run_cases(CASES, case)
