"""awq_oracle.py - AWQ in plain loops of torch, in float64: what ft quantize is held to.

AutoAWQ's search (quantize/quantizer.py, quantize/scale.py) with scales rounded to f16 before codes are taken, all tokens of
all samples in the loss, and at most 512 tokens at an even stride for clipping. Slow and short."""
import torch

from gptq_oracle import matrix, stages

DEFAULTS = {"group_size": 128, "zero_point": True, "duo_scaling": True, "apply_clip": True}


def coded(w, cfg):
    """Codes, scales and zeros by group, and values, of w [out, in]."""
    size = cfg["group_size"] if cfg["group_size"] > 0 else w.shape[1]
    v = w.reshape(w.shape[0], -1, size)
    low, high = v.amin(-1).float(), v.amax(-1).float()
    span, steps = (high - low, 15) if cfg["zero_point"] else (torch.maximum(high, -low), 7)
    scale = (span.clamp(min=1e-5) / steps).half().float()
    zero = (-torch.round(low / scale)).clamp(0, 15) if cfg["zero_point"] else torch.full_like(scale, 8)
    q = (torch.round(v.float() / scale[..., None]) + zero[..., None]).clamp(0, 15)
    value = (scale[..., None] * (q - zero[..., None])).double().reshape(w.shape)
    return (q.reshape(w.shape), scale.double(), zero.double()), value


def seen(model, modules, rows, names):
    """The inputs of modules by name, and the calls of whole parts with their arguments, a list a sample."""
    got = {n: [] for n in names}

    def hook_of(n):
        def hook(module, args, kwargs):
            got[n].append((args, {k: v for k, v in kwargs.items() if "past" not in k and k != "use_cache"}))
        return hook
    hooks = [modules[n].register_forward_pre_hook(hook_of(n), with_kwargs=True) for n in names]
    with torch.no_grad():
        for row in rows:
            model(input_ids=torch.tensor([row]), use_cache=False)
    for h in hooks:
        h.remove()
    return got


def first(out):
    return out[0] if isinstance(out, tuple) else out


def loss_of(module, calls, wanted):
    with torch.no_grad():
        got = [first(module(*a, **k)) for a, k in calls]
    return sum(float((g - w).pow(2).sum()) for g, w in zip(got, wanted))


def put(module, w):
    module.weight.data = (w.T if type(module).__name__ == "Conv1D" else w).contiguous()


def search(whole, calls, linears, x, cfg):
    """The scale of the inputs x of `linears`, by what `whole` gives."""
    size = cfg["group_size"] if cfg["group_size"] > 0 else x.shape[1]
    before = [matrix(m) for m in linears]
    w = torch.cat(before)
    g = w.abs().reshape(-1, size)
    w_mean = (g / (g.amax(1, keepdim=True) + 1e-6)).reshape(w.shape).mean(0)
    x_mean = x.abs().mean(0)
    with torch.no_grad():
        wanted = [first(whole(*a, **k)) for a, k in calls]
    best, least = None, float("inf")
    for k in range(20):
        r = k / 20
        s = x_mean.pow(r) / (w_mean.pow(1 - r) + 1e-4) if cfg["duo_scaling"] else x_mean.pow(r)
        s = s.clamp(min=1e-4)
        s = s / (s.max() * s.min()).sqrt()
        for m, v in zip(linears, before):
            put(m, coded(v * s, cfg)[1] / s)
        loss = loss_of(whole, calls, wanted)
        if loss < least:
            best, least = s, loss
    for m, v in zip(linears, before):
        put(m, v)
    return best


def clipped(w, x, cfg):
    size = cfg["group_size"] if cfg["group_size"] > 0 else w.shape[1]
    step = -(-len(x) // 512)
    x, w = x[::step].reshape(-(-len(x) // step), -1, size), w.clone().reshape(w.shape[0], -1, size)
    for g in range(w.shape[1]):
        v = w[:, g]
        most = v.abs().amax(1, keepdim=True)
        least, limit = torch.full_like(most, float("inf")), most.clone()
        for i in range(10):
            cut = most * (1 - i / 20)
            value = coded(torch.maximum(torch.minimum(v, cut), -cut), {**cfg, "group_size": -1})[1]
            loss = ((value - v) @ x[:, g].T).pow(2).sum(1, keepdim=True)
            better = loss < least
            least, limit = torch.where(better, loss, least), torch.where(better, cut, limit)
        w[:, g] = torch.maximum(torch.minimum(v, limit), -limit)
    return w.reshape(w.shape[0], -1)


def quantise(model, rows, cfg):
    """Codes by the name of the layer; the model, in float64, stays what it was but for its scales."""
    cfg, modules, codes = {**DEFAULTS, **cfg}, dict(model.named_modules()), {}
    for qkv, o, feed, down in stages(model):
        block = qkv[0].split(".self_attn.")[0].split(".attn.")[0]
        gpt2 = ".attn." in qkv[0]
        attention, mlp = block + (".attn" if gpt2 else ".self_attn"), block + ".mlp"
        names = [qkv[0], o[0], feed[0], down[0], attention, mlp]
        got = seen(model, modules, rows, names)
        x = {n: torch.cat([a[0].reshape(-1, a[0].shape[-1]) for a, _ in got[n]]) for n in names[:4]}
        norms = [modules[block + "." + n] for n in (("ln_1", "ln_2") if gpt2 else ("input_layernorm", "post_attention_layernorm"))]
        v, up = modules[qkv[-1]], modules[feed[-1]]
        sets = [(norms[0], qkv, attention), (norms[1], feed, mlp)]
        if gpt2 or v.weight.shape[0] == matrix(modules[o[0]]).shape[1]:
            sets.append((v, o, o[0]))
        if not gpt2:
            sets.append((up, down, down[0]))
        found = [search(modules[whole], got[whole], [modules[n] for n in names_], x[names_[0]], cfg) for _, names_, whole in sets]
        for (back, names_, _), s in zip(sets, found):
            for n in names_:
                put(modules[n], matrix(modules[n]) * s)
            if back in norms:
                back.weight.data /= s
                if getattr(back, "bias", None) is not None:
                    back.bias.data /= s
            else:
                w = matrix(back)
                w[-len(s):] /= s[:, None]
                put(back, w)
                if back.bias is not None:
                    back.bias.data[-len(s):] /= s
            x[names_[0]] = x[names_[0]] / s
        for group in (qkv, o, feed, down):
            for n in group:
                w = matrix(modules[n])
                if cfg["apply_clip"] and not n.endswith(("q_proj", "k_proj", "c_attn")):
                    w = clipped(w, x[group[0]], cfg)
                codes[n] = coded(w, cfg)[0]
    return codes
