"""gptq_oracle.py - GPTQ and rounding in plain loops of torch, in float64: what ft quantize is held to.

Every column is quantised for itself, with all that was lost before it already in the weights; inputs of a linear layer come
from passes of the whole model. Slow and short."""
import json
import os

import torch
from safetensors.torch import load_file

DEFAULTS = {"type": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False, "static_groups": False,
            "true_sequential": True, "damp_percent": 0.01, "checkpoint_format": "gptq"}


def grid(w, cfg):
    """Scale, as f16 has it, and zero of each row of w [out, group]."""
    top = 2 ** cfg["bits"] - 1
    low, high = w.amin(1).clamp(max=0).float(), w.amax(1).clamp(min=0).float()
    if cfg["sym"]:
        high = torch.maximum(-low, high)
        low = -high if cfg["type"] == "rtn" else torch.where(low < 0, -high, low)  # torchao's int4; GPTQ's quant.py
    empty = (low == 0) & (high == 0)
    low, high = torch.where(empty, -1.0, low), torch.where(empty, 1.0, high)
    step = (high - low) / top
    zero = torch.full_like(step, (top + 1) // 2) if cfg["sym"] else torch.round(-low / step)
    if cfg["checkpoint_format"] == "gptq":
        zero = zero.clamp(min=1)
    return step.half().double(), zero.double()


def code(w, scale, zero, cfg):
    return (torch.round((w.float() / scale.float()).double()) + zero).clamp(0, 2 ** cfg["bits"] - 1)


def gptq(w, h, cfg):
    """w [out, in], h [in, in] → codes [out, in], scales and zeros [out, groups], g_idx [in]."""
    w, h = w.clone(), h.clone()
    out, n = w.shape
    size = cfg["group_size"] if cfg["group_size"] > 0 else n
    q, group = torch.zeros(out, n), torch.arange(n) // size
    scale, zero = torch.zeros(out, n // size).double(), torch.zeros(out, n // size).double()
    dead = torch.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    if cfg["static_groups"]:
        for g in range(n // size):
            scale[:, g], zero[:, g] = grid(w[:, g * size:(g + 1) * size], cfg)
    order = torch.argsort(-torch.diag(h.where(~torch.diag(dead), torch.zeros(()).double())), stable=True)
    perm = order if cfg["desc_act"] else torch.arange(n)
    w, h = w[:, perm], h[perm][:, perm]
    h += cfg["damp_percent"] * torch.diag(h).mean() * torch.eye(n).double()
    u = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)
    for i in range(n):
        g = group[perm[i]] if cfg["static_groups"] else i // size
        if not cfg["static_groups"] and i % size == 0:
            scale[:, g], zero[:, g] = grid(w[:, i:i + size], cfg)
        c = code(w[:, i], scale[:, g], zero[:, g], cfg)
        lost = (w[:, i] - scale[:, g] * (c - zero[:, g])) / u[i, i]
        w[:, i + 1:] -= lost[:, None] * u[i, i + 1:]
        q[:, perm[i]] = c.float()
    if cfg["desc_act"] and not cfg["static_groups"]:
        group = torch.empty_like(group)
        group[perm] = torch.arange(n) // size
    return q, scale, zero, group


def rtn(w, cfg):
    out, n = w.shape
    size = cfg["group_size"] if cfg["group_size"] > 0 else n
    scale, zero = torch.zeros(out, n // size).double(), torch.zeros(out, n // size).double()
    for g in range(n // size):
        scale[:, g], zero[:, g] = grid(w[:, g * size:(g + 1) * size], cfg)
    group = torch.arange(n) // size
    return code(w, scale[:, group], zero[:, group], cfg), scale, zero, group


def value(codes):
    q, scale, zero, group = codes
    return scale[:, group] * (q - zero[:, group])


def stages(model):
    """Of each block the names of its linear layers, by what they read: q, k, v; o; gate, up; down."""
    blocks = {}
    for n, m in model.named_modules():
        if type(m).__name__ not in ("Linear", "Conv1D") or n == "lm_head":
            continue
        words = n.split(".")
        block = int(next(w for w in words if w.isdigit()))
        shared = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1, "gate_proj": 2, "up_proj": 2, "down_proj": 3}
        place = shared.get(words[-1], {"c_attn": 0, "c_fc": 2}.get(words[-1], 1 if "attn" in n else 3))
        blocks.setdefault(block, {}).setdefault(place, []).append(n)
    return [[b[k] for k in sorted(b)] for _, b in sorted(blocks.items())]


def matrix(module):
    w = module.weight.detach().double()
    return w.T.contiguous() if type(module).__name__ == "Conv1D" else w


def put(module, w):
    w = w.T if type(module).__name__ == "Conv1D" else w
    module.weight.data = w.contiguous().to(module.weight.dtype)


def moments(model, names, rows):
    """Σ x xᵀ of the input of each of the layers."""
    modules, h = dict(model.named_modules()), {}

    def see(name):
        def hook(_, args):
            x = args[0].reshape(-1, args[0].shape[-1]).double()
            h[name] = h.get(name, 0) + x.T @ x
        return hook
    hooks = [modules[n].register_forward_pre_hook(see(n)) for n in names]
    with torch.no_grad():
        for row in rows:
            model(input_ids=torch.tensor([row]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return h


def quantise(model, rows, cfg, left=(), given=None):
    """Codes by the name of the layer, and its error; the model is quantised then. given: codes that what comes behind goes
    by, since a single one on the other side of a rounding tie moves all others a little."""
    cfg, modules, codes, error = {**DEFAULTS, **cfg}, dict(model.named_modules()), {}, {}
    for block in stages(model):
        steps = block if cfg["true_sequential"] else [sum(block, [])]
        for step in [[n for n in s if not any(part in n for part in left)] for s in steps]:
            h = moments(model, step, rows) if cfg["type"] == "gptq" and step else {}
            for n in step:
                w = matrix(modules[n])
                codes[n] = gptq(w, h[n], cfg) if h else rtn(w, cfg)
                by = h.get(n, torch.eye(w.shape[1]).double())
                d = w - value(codes[n])
                error[n] = float((d @ by * d).sum() / (w @ by * w).sum())
                put(modules[n], value(given[n] if given else codes[n]))
    return codes, error


def unpack(words, bits, n):
    """Codes along the first dimension of int32 words [n · bits / 32, m]: one stream of bits a column."""
    words = words.long() & 0xffffffff
    at = torch.arange(n) * bits
    words = torch.cat([words, torch.zeros(1, words.shape[1], dtype=torch.long)])
    low, high = words[at // 32], words[at // 32 + 1]
    return ((low >> (at % 32)[:, None]) | (high << (32 - at % 32)[:, None])) & (2 ** bits - 1)


def read_folder(folder):
    """Codes by the name of the layer, as GPTQModel reads them."""
    cfg = json.load(open(os.path.join(folder, "quantize_config.json")))
    t, bits = load_file(os.path.join(folder, "model.safetensors")), cfg["bits"]
    codes = {}
    for key in t:
        if not key.endswith(".qweight"):
            continue
        n = key[:-len(".qweight")]
        q = unpack(t[key], bits, t[n + ".g_idx"].numel()).T
        zero = unpack(t[n + ".qzeros"].T, bits, q.shape[0]) + (cfg["checkpoint_format"] == "gptq")
        codes[n] = (q.float(), t[n + ".scales"].T.double(), zero.double(), t[n + ".g_idx"].long())
    return cfg, codes
