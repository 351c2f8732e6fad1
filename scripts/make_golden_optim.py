#!/usr/bin/env python3
"""Golden values of tests/test_optim.c: learning rates from transformers' schedule functions and AdamW with gradient
clipping from PyTorch, written as a C header (tests/golden/optim.h).

usage: make_golden_optim.py > tests/golden/optim.h
"""
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
