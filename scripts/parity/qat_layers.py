"""qat_layers.py - linear layers under simulated quantisation, of others: torchao's fake quantisers (affine), a plain autograd
function of LSQ's paper (lsq), transformers' WeightQuant and ActQuant (bitnet). torch.compile is off.

The gradient of torch.clamp at its bounds is 1 in older versions of torch and 0 in 2.15, where the lowest and the highest
code, which no one clamped, would get none. torchao's codes are kept (compared), and the gradient is 1 up to the bounds.
"""
import math
import os

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import torch
from torch.nn import functional as F


class Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, low, high):
        ctx.save_for_backward((x >= low) & (x <= high))
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None, None


def keep_bounds():
    """torchao's rounding to codes with that gradient."""
    from torchao.quantization import quant_primitives as q

    theirs = q._quantize_affine_no_dtype_cast

    def ours(x, block_size, scale, zero_point, low, high):
        shape, axes = q._get_reduction_params(block_size, x.size())
        one = [1 if i in axes else n for i, n in enumerate(shape)]
        codes = q._Round.apply(x.view(shape) * (1.0 / scale.view(one))) + zero_point.view(one)
        codes = Clamp.apply(codes, low, high).view(x.shape)
        assert torch.equal(codes, theirs(x, block_size, scale, zero_point, low, high))
        return codes

    if theirs.__name__ != "ours":
        q._quantize_affine_no_dtype_cast = ours


class Lsq(torch.autograd.Function):
    """w [out, in], s [out, groups]; Esser et al. 2020, equations 1 to 5; clamped is what the rounded code says."""

    @staticmethod
    def forward(ctx, w, s, low, high):
        group = w.shape[1] // s.shape[1]
        v = w.reshape(w.shape[0], -1, group) / s.unsqueeze(-1)
        ctx.save_for_backward(v)
        ctx.low, ctx.high, ctx.group = low, high, group
        return (torch.clamp(torch.round(v), low, high) * s.unsqueeze(-1)).reshape(w.shape)

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        code = torch.round(v)
        small, large = code < ctx.low, code > ctx.high
        inside = ~(small | large)
        grad = g.reshape(v.shape)
        slope = torch.where(inside, code - v, torch.where(small, float(ctx.low), float(ctx.high)))
        ds = (grad * slope).sum(-1) / math.sqrt(ctx.group * ctx.high)
        return (grad * inside).reshape(g.shape), ds, None, None


class FakeWeights:
    """What a layer does to w [out, in] and x."""

    def prepare(self, qat, w):
        from torchao.quantization import PerGroup
        from torchao.quantization.qat import IntxFakeQuantizeConfig
        from torchao.quantization.qat.fake_quantizer import IntxFakeQuantizer

        keep_bounds()
        self.qat = qat
        kind = qat["type"]
        group = qat.get("group_size", 32)
        group = w.shape[1] if group == -1 else group
        bits = {"int4": torch.int4, "int8": torch.int8}[qat.get("weight_dtype", "int4")]
        half = 8 if bits == torch.int4 else 128
        self.bounds = (-half, half - 1)
        activations = qat.get("activation_dtype", "int8" if kind == "affine" else None)
        self.rounds_x = self.rounds_w = None
        if kind != "bitnet" and activations:
            self.rounds_x = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False))
        if kind == "affine":
            self.rounds_w = IntxFakeQuantizer(IntxFakeQuantizeConfig(bits, PerGroup(group), is_symmetric=True))
        if kind == "lsq":
            first = 2 * w.detach().reshape(w.shape[0], -1, group).abs().mean(-1) / math.sqrt(half - 1)
            self.weight_scale = torch.nn.Parameter(first)

    def inputs(self, x):
        if self.qat["type"] == "bitnet":
            from transformers.integrations.bitnet import ActQuant
            if self.qat.get("use_rms_norm"):
                x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
            return ActQuant.apply(x)
        return self.rounds_x(x) if self.rounds_x else x

    def given_back(self, w):
        if self.qat["type"] == "bitnet":
            from transformers.integrations.bitnet import WeightQuant
            return WeightQuant.apply(w)
        return Lsq.apply(w, self.weight_scale, *self.bounds) if self.qat["type"] == "lsq" else self.rounds_w(w)


def simulate(model, qat):
    """Replaces the linear layers of the blocks in place."""
    from transformers.pytorch_utils import Conv1D

    class Linear(FakeWeights, torch.nn.Linear):
        def forward(self, x):
            return F.linear(self.inputs(x), self.given_back(self.weight), self.bias)

    class Turned(FakeWeights, Conv1D):
        def forward(self, x):
            return F.linear(self.inputs(x), self.given_back(self.weight.t()), self.bias)

    for name, module in list(model.named_modules()):
        kind = {torch.nn.Linear: Linear, Conv1D: Turned}.get(type(module))
        if kind and "head" not in name:
            module.__class__ = kind
            module.prepare(qat, module.weight if kind is Linear else module.weight.t())
    return model
