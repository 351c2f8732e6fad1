#!/usr/bin/env python3
"""Golden values of tests/test_optim.c: learning rates from transformers' schedule functions and AdamW with gradient
clipping from PyTorch, written as a C header (tests/golden/optim.h); and of tests/test_optim_rules.c: what the other
rules make of the same gradients, by their reference implementations, as safetensors.

usage: make_golden_optim.py > tests/golden/optim.h
       make_golden_optim.py --rules tests/golden/optim_rules.safetensors

Rules: tensors and gradients follow from names by the generator of scripts/oracle.py's weight rule, u in [-1, 1):
values are u/2, gradients of step s are u^3 of the name "TENSOR.s" (so that they span decades), times 0.01 at step 2.
Peak rate and decay are 0.01 and 0.1 unless the case says otherwise, the schedule is linear over five steps,
gradients are clipped to norm 0.5. Of a case with "ratios", tensor b has four times the rate and no decay, c a peak
rate of 0.001. Kept are CASE.TENSOR, the values after the last step, and of adamw8bit the states as well.
"""
import sys

import numpy as np
import torch
from transformers import optimization as T

S, PEAK = 20, 3e-4


def rates(make):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    sch = make(opt)
    out = []
    for _ in range(S):
        out.append(opt.param_groups[0]["lr"])
        opt.step()
        sch.step()
    return out


CASES = [
    # name, C initialiser of the options, maker
    ("linear", ".warmup_steps = 5", lambda o: T.get_linear_schedule_with_warmup(o, 5, S)),
    ("cosine", ".warmup_steps = 3", lambda o: T.get_cosine_schedule_with_warmup(o, 3, S)),
    ("cosine", ".warmup_ratio = 0.07, .num_cycles = 1.5",
     lambda o: T.get_cosine_schedule_with_warmup(o, 2, S, num_cycles=1.5)),
    ("cosine_with_min_lr", ".warmup_steps = 4, .min_lr = 5e-5",
     lambda o: T.get_cosine_with_min_lr_schedule_with_warmup(o, 4, S, min_lr=5e-5)),
    ("cosine_with_min_lr", ".min_lr_rate = 0.25",
     lambda o: T.get_cosine_with_min_lr_schedule_with_warmup(o, 0, S, min_lr_rate=0.25)),
    ("cosine_with_restarts", ".warmup_steps = 2, .num_cycles = 3",
     lambda o: T.get_cosine_with_hard_restarts_schedule_with_warmup(o, 2, S, num_cycles=3)),
    ("constant", ".warmup_steps = 4", lambda o: T.get_constant_schedule(o)),
    ("constant_with_warmup", ".warmup_steps = 4",
     lambda o: T.get_constant_schedule_with_warmup(o, 4)),
    ("inverse_sqrt", ".warmup_steps = 4", lambda o: T.get_inverse_sqrt_schedule(o, 4)),
    ("inverse_sqrt", ".timescale = 7", lambda o: T.get_inverse_sqrt_schedule(o, 0, timescale=7)),
    ("inverse_sqrt", "", lambda o: T.get_inverse_sqrt_schedule(o, 0)),
    ("polynomial", ".warmup_steps = 3, .power = 2, .lr_end = 1e-6",
     lambda o: T.get_polynomial_decay_schedule_with_warmup(o, 3, S, lr_end=1e-6, power=2.0)),
]
for wt in ("linear", "cosine", "1-sqrt"):
    for dt in ("linear", "cosine", "1-sqrt"):
        CASES.append(("warmup_stable_decay",
                      f'.warmup_steps = 4, .num_decay_steps = 7, .min_lr_ratio = 0.1, .warmup_type = "{wt}", '
                      f'.decay_type = "{dt}"',
                      lambda o, wt=wt, dt=dt: T.get_wsd_schedule(o, 4, 7, S, warmup_type=wt, decay_type=dt,
                                                                 min_lr_ratio=0.1)))


def adamw():
    """Two groups (decay, no decay with another rate), five steps, gradients clipped to norm 0.5."""
    torch.manual_seed(0)
    n = (37, 11)
    w = [torch.nn.Parameter(torch.randn(k)) for k in n]
    start = [p.detach().clone() for p in w]
    opt = torch.optim.AdamW([{"params": [w[0]], "weight_decay": 0.1, "lr": 1e-2},
                             {"params": [w[1]], "weight_decay": 0.0, "lr": 4e-2}],
                            betas=(0.85, 0.99), eps=1e-7, foreach=False)
    grads, norms = [], []
    for step in range(5):
        g = [torch.randn(k) * (0.02 if step == 2 else 1.0) for k in n]  # step 2 is not clipped
        for p, x in zip(w, g):
            p.grad = x.clone()
        norms.append(float(torch.nn.utils.clip_grad_norm_(w, 0.5)))
        opt.step()
        grads.append(torch.cat(g))
    m = torch.cat([opt.state[p]["exp_avg"] for p in w])
    v = torch.cat([opt.state[p]["exp_avg_sq"] for p in w])
    return torch.cat(start), torch.cat(grads), norms, torch.cat([p.detach() for p in w]), m, v


# --- rules -----------------------------------------------------------------------------------------------------------
STEPS = 5
SHAPES = {"a": (7, 93), "b": (37,), "c": (1,), "d": (1, 1), "e": (1, 300), "f": (300, 1)}
LARGE = {"g": (4095,), "h": (4096,), "i": (17, 241), "k": (5, 1000)}


def uniform(name, shape):
    state = 2166136261
    for byte in name.encode("utf-8"):
        state = ((state ^ byte) * 16777619) & 0xFFFFFFFF
    u = np.empty(int(np.prod(shape)))
    for i in range(u.size):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        u[i] = ((state >> 8) - 8388608) / 8388608
    return u.reshape(shape)


def gradient(name, shape, step):
    u = uniform(f"{name}.{step}", shape)
    return torch.from_numpy((u * u * u * (0.01 if step == 2 else 1.0)).astype(np.float32))


def dynamic_map(signed):
    """bitsandbytes' create_dynamic_map: midpoints of equal pieces of [0.1, 1] in seven decades, 0 and 1."""
    data = [0.0, 1.0]
    for e in range(7):
        ends = torch.linspace(0.1, 1, (2 ** e if signed else 2 ** (e + 1)) + 1)
        means = (10 ** (e - 6) * ((ends[:-1] + ends[1:]) / 2)).tolist()
        data += means + ([-x for x in means] if signed else [])
    return np.sort(np.array(data, dtype=np.float32))


class PlainAdamW8bit(torch.optim.Optimizer):
    """The rule of bitsandbytes' CUDA kernel for block-wise 8-bit Adam, with true nearest entries, in numpy."""
    maps = {1: dynamic_map(True), 2: dynamic_map(False)}

    def __init__(self, params, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, betas=betas, eps=eps))

    def load(self, state, k, n):
        if n < 4096:
            return state.setdefault(f"state{k}", np.zeros(n, np.float32))
        codes = state.setdefault(f"state{k}", np.zeros(n, np.uint8))
        absmax = state.setdefault(f"absmax{k}", np.zeros((n + 255) // 256, np.float32))
        return self.maps[k][codes] * np.repeat(absmax, 256)[:n]

    def store(self, state, k, x):
        n, values = x.size, self.maps[k]
        if n < 4096:
            state[f"state{k}"] = x
            return
        middles = (values[:-1] + values[1:]) / np.float32(2)
        for block in range((n + 255) // 256):
            part = x[256 * block:256 * block + 256]
            most = np.abs(part).max()
            state[f"absmax{k}"][block] = most
            codes = np.zeros(part.size, np.int64) if most == 0 else np.searchsorted(middles, part / most)
            if k == 1 and most > 0:
                wrong = np.signbit(values[codes]) != np.signbit(part)
                codes[wrong] += np.where(part[wrong] > 0, 1, -1)
            state[f"state{k}"][256 * block:256 * block + 256] = codes

    @torch.no_grad()
    def step(self):
        f = np.float32
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                t = state["step"] = state.get("step", 0) + 1
                g, w = p.grad.numpy().ravel(), p.detach().numpy().ravel()
                m, v = self.load(state, 1, g.size), self.load(state, 2, g.size)
                v = f(b2) * v + f(1 - b2) * g * g
                m = f(b1) * m + f(1 - b1) * g
                root = (1 - b2 ** t) ** 0.5
                w = w + f(-group["lr"] * root / (1 - b1 ** t)) * (m / (np.sqrt(v) + f(group["eps"] * root)))
                w = w * f(1 - group["lr"] * group["weight_decay"])
                p.copy_(torch.from_numpy(w.reshape(tuple(p.shape))))
                self.store(state, 1, m)
                self.store(state, 2, v)


def rule_cases():
    from bitsandbytes.optim import Lion
    sgd, rms, fac = torch.optim.SGD, torch.optim.RMSprop, T.Adafactor
    fixed = dict(scale_parameter=False, relative_step=False)
    # name, class, options of the class, has a rate and ratios, tensors
    return [
        ("sgd", sgd, {}, True, SHAPES),
        ("sgd_momentum", sgd, dict(momentum=0.9, dampening=0.3), True, SHAPES),
        ("sgd_nesterov", sgd, dict(momentum=0.8, nesterov=True), True, SHAPES),
        ("rmsprop", rms, {}, True, SHAPES),
        ("rmsprop_centered", rms, dict(alpha=0.9, eps=1e-6, momentum=0.7, centered=True), True, SHAPES),
        ("lion", Lion, {}, True, SHAPES),
        ("lion_betas", Lion, dict(betas=(0.95, 0.98)), True, SHAPES),
        ("adafactor", fac, fixed, True, SHAPES),
        ("adafactor_scaled", fac, dict(scale_parameter=True, relative_step=False, beta1=0.9, clip_threshold=0.8,
                                       decay_rate=-0.7, eps=(1e-20, 1e-2)), True, SHAPES),
        ("adafactor_relative", fac, dict(warmup_init=True), False, SHAPES),
        ("adafactor_large", fac, fixed, True, {"m": (600, 700)}),
        ("adamw8bit", PlainAdamW8bit, {}, True, {**SHAPES, **LARGE}),
        ("adamw8bit_betas", PlainAdamW8bit, dict(betas=(0.8, 0.95), eps=1e-6), True, LARGE),
    ]


def run_rule(make, options, rated, shapes, out, name):
    w = {n: torch.nn.Parameter(torch.from_numpy((uniform(n, s) / 2).astype(np.float32))) for n, s in shapes.items()}
    peaks = {n: 0.01 * 4 if n == "b" and rated else 0.001 if n == "c" and rated else 0.01 for n in w}
    groups = [{"params": [p], "weight_decay": 0.0 if n == "b" and rated else 0.1, "name": n} for n, p in w.items()]
    if rated:
        for group in groups:
            group["lr"] = peaks[group["name"]]
        options = dict(options, lr=0.01)
    optimizer = make(groups, weight_decay=0.1, **options)
    for step in range(STEPS):
        for n, p in w.items():
            p.grad = gradient(n, tuple(p.shape), step)
        torch.nn.utils.clip_grad_norm_(list(w.values()), 0.5)
        for group in optimizer.param_groups if rated else []:
            group["lr"] = peaks[group["name"]] * (STEPS - step) / STEPS
        optimizer.step()
    for n, p in w.items():
        every = 1 if p.numel() < 10000 else 97
        out[f"{name}.{n}"] = p.detach().reshape(-1)[::every].clone()
        for key, x in optimizer.state[p].items() if make is PlainAdamW8bit else []:
            if key != "step" and p.numel() >= 4096:
                out[f"{name}.{n}.{key}"] = torch.from_numpy(x)


def make_rules(path):
    from safetensors.torch import save_file
    torch.set_num_threads(1)
    out = {}
    for name, make, options, rated, shapes in rule_cases():
        run_rule(make, options, rated, shapes, out, name)
    save_file(out, path)


if len(sys.argv) > 1:
    make_rules(sys.argv[sys.argv.index("--rules") + 1])
    sys.exit()


def floats(name, values, kind="float"):
    text = ", ".join(repr(float(x)) if kind == "double" else f"{float(x):.9g}" for x in values)
    lines, line = [], ""
    for word in text.split(" "):
        if len(line) + len(word) > 96:
            lines.append("    " + line.rstrip())
            line = ""
        line += word + " "
    lines.append("    " + line.rstrip())
    return f"static const {kind} {name}[] = {{\n" + "\n".join(lines) + "};\n"


print("/* optim.h – made by scripts/make_golden_optim.py from transformers and PyTorch. Not edited by hand. */")
print(f"#define GOLDEN_STEPS {S}\n#define GOLDEN_PEAK {PEAK!r}")
print("static const struct {\n    const char *name;\n    opt_cfg cfg;\n    double rate[GOLDEN_STEPS];\n} golden_rates[] = {")
for name, opts, make in CASES:
    print(f'    {{"{name}", {{GOLDEN_DEFAULTS {opts}}},')
    print("     {" + ",\n      ".join(repr(x) for x in rates(make)) + "}},")
print("};\n")
start, grads, norms, w, m, v = adamw()
print(floats("golden_start", start))
print(floats("golden_grads", grads))
print(floats("golden_norms", norms))
print(floats("golden_w", w))
print(floats("golden_m", m))
print(floats("golden_v", v), end="")
