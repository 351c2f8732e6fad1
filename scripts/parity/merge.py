#!/usr/bin/env python3
"""merge.py - ft merge against mergekit 0.1.5, whose methods are run on the same random models:

    python scripts/parity/merge.py build/release/ft [--only NAME]

needs mergekit==0.1.5 beside torch and transformers. float32 recipes agree to 1e-5 of the largest value of a tensor,
bfloat16 ones to one rounding. Random masks are drawn otherwise than torch's: their share of kept values is looked at,
and the rest of the arithmetic with the mask that ft drew. Prints a line a case; status 1 when a bound is exceeded.
"""
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile

import torch
import yaml
from safetensors.torch import load_file

import harness

logging.disable(logging.WARNING)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

KINDS = {
    "llama": {"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
              "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
              "max_position_embeddings": 64},
    "llama-tied": {"model_type": "llama", "vocab_size": 96, "hidden_size": 24, "intermediate_size": 40,
                   "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1,
                   "max_position_embeddings": 64, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "vocab_size": 80, "hidden_size": 32, "intermediate_size": 36,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                "max_position_embeddings": 64},
    "qwen2": {"model_type": "qwen2", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
              "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
              "max_position_embeddings": 64},
    "qwen3": {"model_type": "qwen3", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 40, "head_dim": 8,
              "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
              "max_position_embeddings": 64},
    "gpt2": {"model_type": "gpt2", "vocab_size": 96, "n_embd": 24, "n_layer": 3, "n_head": 3, "n_positions": 32,
             "bos_token_id": 0, "eos_token_id": 0},
}
NAMES = ["a", "b", "c", "d"]

DARE = {"weight": 1.0, "density": 0.4}
CONDITIONS = [{"filter": "self_attn", "value": [0.2, 1.0]}, {"filter": "mlp", "value": 0.7}, {"value": 0.45}]


def models(*weights, **more):
    """Recipe entries of b, c, d: each with a weight, and further parameters by name, a list of one each."""
    return [{"model": n, "parameters": {"weight": w, **{k: v[i] for k, v in more.items()}}}
            for i, (n, w) in enumerate(zip("bcd", weights))]


def task(method, *weights, parameters=None, **more):
    return {"merge_method": method, "base_model": "a", "models": models(*weights, **more),
            **({"parameters": parameters} if parameters else {})}


CASES = {
    "linear": ("llama", {"merge_method": "linear", "models": models(0.5, 0.25, 2)}),
    "linear-sum": ("qwen3", {"merge_method": "linear", "models": models(0.5, -0.25, 0.3),
                             "parameters": {"normalize": False}}),
    "linear-gradient": ("llama", {"merge_method": "linear", "models": models([0, 0.3, 1], CONDITIONS, 1)}),
    "linear-gpt2": ("gpt2", {"merge_method": "linear", "models": models(0.5, 0.25)}),
    "slerp": ("llama", {"merge_method": "slerp", "base_model": "a", "models": [{"model": "a"}, {"model": "b"}],
                        "parameters": {"t": [{"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
                                             {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]}, {"value": 0.5}]}}),
    "slerp-near": ("near", {"merge_method": "slerp", "base_model": "b", "models": [{"model": "a"}, {"model": "b"}],
                            "parameters": {"t": 0.3}}),
    "nuslerp": ("llama", {"merge_method": "nuslerp", "models": models(0.7, 0.2)}),
    "nuslerp-base": ("mistral", {"merge_method": "nuslerp", "base_model": "a", "models": models(0.7, 0.4)}),
    "nuslerp-rows": ("llama", {"merge_method": "nuslerp", "base_model": "a", "models": models(0.7, 0.4),
                               "parameters": {"nuslerp_flatten": False}}),
    "nuslerp-columns": ("gpt2", {"merge_method": "nuslerp", "models": models(0.7, 0.4),
                                 "parameters": {"nuslerp_flatten": False, "nuslerp_row_wise": True}}),
    "task_arithmetic": ("llama", task("task_arithmetic", 1, 0.5, -0.3, parameters={"lambda": 0.7})),
    "task_arithmetic-normal": ("qwen2", task("task_arithmetic", 1, 0.5, parameters={"normalize": True})),
    "ties": ("llama", task("ties", 1, 0.5, 0.3, density=[0.5, 0.2, [0.1, 0.9]])),
    "ties-lambda": ("gpt2", task("ties", 1, 1, density=[0.33, 1], parameters={"lambda": 1.3, "rescale": True})),
    "ties-zero": ("llama-tied", task("ties", 1, 0.5, density=[0.0001, 0])),
    "ties-one-layer": ("llama", {"merge_method": "ties", "base_model": "a", "slices": [
        {"sources": [{"model": n, "layer_range": [1, 2], "parameters": {"weight": [0.1, 0.9], "density": 0.5}}
                     for n in "abc"]}]}),
    "breadcrumbs": ("llama", task("breadcrumbs", 1, 0.5, density=[0.5, 0.9], gamma=[0.01, 0.2])),
    "breadcrumbs_ties": ("qwen3", task("breadcrumbs_ties", 1, 0.5, 0.2, density=[0.5, 0.9, 0.3],
                                       gamma=[0.01, 0.2, 0.05])),
    "dare-all": ("llama", task("dare_ties", 1, 0.5, density=[1, 1])),
    "della-all": ("llama", task("della", 1, 0.5, density=[1, 1])),
    "model_stock": ("llama", {"merge_method": "model_stock", "base_model": "a",
                              "models": [{"model": n} for n in "bcd"]}),
    "model_stock-rows": ("gpt2", {"merge_method": "model_stock", "base_model": "a",
                                  "models": [{"model": n} for n in "abc"], "parameters": {"filter_wise": True}}),
    "nearswap": ("llama", {"merge_method": "nearswap", "base_model": "a", "models": [{"model": "b"}],
                           "parameters": {"t": 0.02}}),
    "passthrough": ("llama", {"merge_method": "passthrough", "slices": [
        {"sources": [{"model": "a", "layer_range": [0, 3]}]},
        {"sources": [{"model": "b", "layer_range": [1, 3], "parameters": {
            "scale": [{"filter": "o_proj", "value": 0.0}, {"filter": "down_proj", "value": [0.1, 0.3]},
                      {"value": 1}]}}]},
        {"sources": [{"model": "a", "layer_range": [2, 4]}]}]}),
    "slices": ("llama-tied", {"merge_method": "linear", "parameters": {"weight": 0.4}, "slices": [
        {"sources": [{"model": "a", "layer_range": [0, 2], "parameters": {"weight": [0, 1]}},
                     {"model": "b", "layer_range": [1, 3]}]},
        {"sources": [{"model": "c", "layer_range": [0, 3]}, {"model": "d", "layer_range": [0, 3]}],
         "parameters": {"weight": [{"filter": "mlp", "value": 2}]}}]}),
    "bf16-linear": ("llama", {"merge_method": "linear", "models": models(0.5, 0.25, 2), "dtype": "bfloat16"}),
    # what is kept of a tensor is no question of rounding: in bfloat16 many changes are equal, and torch takes any of them
    "bf16-task": ("llama", {**task("task_arithmetic", 1, 0.5), "dtype": "bfloat16"}),
    "bf16-slerp": ("llama", {"merge_method": "slerp", "base_model": "a",
                             "models": [{"model": "a"}, {"model": "b"}], "parameters": {"t": 0.3},
                             "dtype": "bfloat16"}),
    "out-bf16": ("llama", {"merge_method": "linear", "models": models(0.5, 0.25, 2), "out_dtype": "bfloat16"}),
}


def make_models(kind, folder):
    from transformers import AutoConfig, AutoModelForCausalLM

    near = kind == "near"
    config = AutoConfig.for_model(**KINDS["llama" if near else kind])
    for i, name in enumerate(NAMES):
        torch.manual_seed(17 if near else i + 1)
        model = AutoModelForCausalLM.from_config(config)
        torch.manual_seed(i + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * (0.0001 if near else 0.03))
        path = os.path.join(folder, name)
        model.save_pretrained(path)


def placed(node, folder):
    """The recipe with whole paths: mergekit keeps loaders by what models are called."""
    if isinstance(node, dict):
        return {k: os.path.join(folder, v) if v in NAMES and k in ("model", "base_model", "source", "tokenizer_source")
                else placed(v, folder) for k, v in node.items()}
    return [placed(v, folder) for v in node] if isinstance(node, list) else node


def mergekit(recipe, folder, out):
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    run_merge(MergeConfiguration.model_validate(placed(recipe, folder)), out,
              MergeOptions(write_model_card=False, copy_tokenizer=False, quiet=True))


def tensors(folder):
    return load_file(os.path.join(folder, "model.safetensors"))


def bare(name):
    return name[len("transformer."):] if name.startswith("transformer.") else name


def compare(ours, theirs):
    ours = {bare(k): v for k, v in ours.items()}
    theirs = {bare(k): v for k, v in theirs.items()}
    if set(ours) != set(theirs):
        return float("inf"), f"tensors differ: {sorted(set(ours) ^ set(theirs))[:4]}"
    worst, where = 0.0, ""
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return float("inf"), f"{name}: {a.dtype} {tuple(a.shape)}, {b.dtype} {tuple(b.shape)}"
        d = (a.float() - b.float()).abs()
        if a.dtype == torch.bfloat16:
            # in roundings: of the value, or of where its parts are
            d = d / (torch.maximum(a.float().abs(), b.float().abs()) * 2 ** -7 + 2 ** -10)
        else:
            d = d / b.abs().max().clamp(min=1e-3)
        if d.max().item() > worst:
            worst, where = d.max().item(), name
    return worst, where


def run_case(ft, name, kind, recipe, folder):
    for dtype in (["float32"] if not recipe.get("dtype") else [recipe["dtype"]]):
        recipe = {**recipe, "dtype": dtype} if not recipe.get("out_dtype") else recipe
    as_yaml = os.path.join(folder, "recipe.yml")
    with open(as_yaml, "w", encoding="utf-8") as f:
        yaml.safe_dump(recipe, f)
    ours, theirs = os.path.join(folder, "ft-" + name), os.path.join(folder, "mergekit-" + name)
    harness.run_ft(ft, "merge", as_yaml, "--out", ours, "--force")
    mergekit(recipe, folder, theirs)
    worst, where = compare(tensors(ours), tensors(theirs))
    half = recipe["dtype"] == "bfloat16" if "dtype" in recipe else recipe.get("out_dtype") == "bfloat16"
    layers = [json.load(open(os.path.join(f, "config.json"), encoding="utf-8")) for f in (ours, theirs)]
    key = "n_layer" if kind == "gpt2" else "num_hidden_layers"
    same = layers[0][key] == layers[1][key]
    bound = 1.0 if half else 1e-5
    ok = worst <= bound and same
    print(f"{name:26} {kind:11} worst {worst:9.3g} (bound {bound:g}{' roundings' if half else ''}) {where}"
          f"{'' if ok else '   FAILED'}")
    return ok


def magnitudes(x):
    return x.abs().sum()


def run_random(ft, folder):
    """Masks: their share, and what becomes of them, by plain loops with the mask that ft drew."""
    good = True
    for method, density, epsilon in (("dare_linear", 0.4, 0), ("dare_ties", 0.7, 0), ("della_linear", 0.5, 0.3),
                                     ("della", 0.4, 0.2)):
        for rescale in (False, True):
            more = {"epsilon": [epsilon] * 2} if epsilon else {}
            recipe = task(method, 1, 1, density=[density] * 2, parameters={"rescale": rescale, "normalize": False},
                          **more)
            recipe["models"] = recipe["models"][:1]
            path = os.path.join(folder, "random.json")
            with open(path, "w", encoding="utf-8") as f:
                json.dump({**recipe, "seed": 7}, f)
            out = os.path.join(folder, "random")
            harness.run_ft(ft, "merge", path, "--out", out, "--force")
            base, x, y = (tensors(os.path.join(folder, n)) for n in ("a", "b", "random"))
            kept = total = 0
            worst = 0.0
            low = high = 0.0
            for name, b in base.items():
                delta, change = x[name] - b, y[name] - b
                mask = change.abs() > delta.abs() * 0.1
                scale = magnitudes(delta) / magnitudes(delta * mask) if rescale and mask.any() else 1.0
                worst = max(worst, (change - delta * mask * scale).abs().max().item())
                if delta.dim() < 2:
                    continue
                kept += mask.sum().item()
                total += mask.numel()
                if epsilon:
                    order = delta.abs().argsort(dim=1).argsort(dim=1)
                    c = delta.shape[1]
                    low += mask[order < c // 4].float().sum().item() / (delta.shape[0] * (c // 4))
                    high += mask[order >= c - c // 4].float().sum().item() / (delta.shape[0] * (c // 4))
            n = sum(1 for v in base.values() if v.dim() >= 2)
            share = kept / total
            # quarters of the ranks: their mean probability is density -+ epsilon * 3/4
            tilt = abs((high - low) / n - 1.5 * epsilon) if epsilon else 0.0
            ok = abs(share - density) < 0.01 and worst < 1e-6 and tilt < 0.03
            good &= ok
            print(f"{method:13} rescale {str(rescale):5} kept {share:.4f} of {density}, tilt off by {tilt:.3f}, "
                  f"arithmetic {worst:.2g}{'' if ok else '   FAILED'}")
    return good


WORDS = {"a": [], "b": [("<x>", True), ("foo bar", False)], "c": [("<y>", True), ("foo bar", False), ("<x>", True)]}
TOKENS = {
    "union": {"tokenizer_source": "union"},
    "base": {"tokenizer_source": "base"},
    "other": {"tokenizer_source": "b"},
    "detail": {"tokenizer": {"source": "union", "pad_to_multiple_of": 16, "tokens": {
        "<x>": {"source": "c"}, "foo bar": {"source": {"kind": "zero"}, "force": True},
        "<z>": {"source": {"kind": "model_token", "model": "b", "token_id": 7}},
        "<w>": {"source": {"kind": "model_token", "model": "c", "token": "<y>"}, "force": True}}}},
}


def token_models(folder):
    """Three llamas of other vocabularies: tokens of their own, numbers of c's regular ones changed."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with open(os.path.join(harness.ROOT, "data", "tiny", "tokenizer.json"), encoding="utf-8") as f:
        tiny = json.load(f)
    for i, (name, words) in enumerate(WORDS.items()):
        t = json.loads(json.dumps(tiny))
        vocab = t["model"]["vocab"]
        if name == "c":
            special = {e["content"] for e in t["added_tokens"]}
            plain = sorted((v, k) for k, v in vocab.items() if k not in special)
            for (v, _), (_, k) in zip(plain, plain[1:] + plain[:1]):
                vocab[k] = v
        size = max(list(vocab.values()) + [e["id"] for e in t["added_tokens"]]) + 1
        for text, special in words:
            t["added_tokens"].append({"id": size, "content": text, "single_word": False, "lstrip": False,
                                      "rstrip": False, "normalized": not special, "special": special})
            size += 1
        path = os.path.join(folder, name)
        torch.manual_seed(i + 1)
        config = AutoConfig.for_model(**{**KINDS["llama"], "vocab_size": size + (3 if name == "b" else 0)})
        AutoModelForCausalLM.from_config(config).save_pretrained(path)
        with open(os.path.join(path, "tokenizer.json"), "w", encoding="utf-8") as f:
            json.dump(t, f)
        shutil.copy(os.path.join(harness.ROOT, "data", "tiny", "tokenizer_config.json"), path)


def run_tokens(ft, folder):
    """Rows by the text of their tokens: mergekit gives added ones their numbers in the order of a hash table."""
    from transformers import AutoTokenizer

    good = True
    for name, more in TOKENS.items():
        for method in (task("ties", 1, 0.5, density=[0.5, 1]), {"merge_method": "linear", "models": models(1, 0.5)}):
            if name == "base" and "base_model" not in method:
                continue  # mergekit takes any of the models for the base then
            recipe = {**method, **more, "dtype": "float32"}
            recipe["models"] = recipe["models"][:2]
            path = os.path.join(folder, "recipe.yml")
            with open(path, "w", encoding="utf-8") as f:
                yaml.safe_dump(recipe, f)
            case = f"{name}-{method['merge_method']}"
            ours, theirs = os.path.join(folder, "ft-" + case), os.path.join(folder, "mergekit-" + case)
            harness.run_ft(ft, "merge", path, "--out", ours, "--force")
            mergekit(json.loads(json.dumps(recipe)), folder, theirs)
            vocab = [AutoTokenizer.from_pretrained(f).get_vocab() for f in (ours, theirs)]
            x, y = tensors(ours), tensors(theirs)
            keys = sorted(vocab[1])
            same = sorted(vocab[0]) == keys
            worst, where = compare({k: v for k, v in x.items() if "embed" not in k and "head" not in k},
                                   {k: v for k, v in y.items() if "embed" not in k and "head" not in k})
            shapes = True
            for tensor in ("model.embed_tokens.weight", "lm_head.weight"):
                shapes &= x[tensor].shape == y[tensor].shape
                if not same or not shapes:
                    continue
                a = x[tensor][[vocab[0][k] for k in keys] + list(range(len(keys), x[tensor].shape[0]))]
                b = y[tensor][[vocab[1][k] for k in keys] + list(range(len(keys), y[tensor].shape[0]))]
                # what ties keeps of a tensor depends on the order of equal values alone: there are none
                worst = max(worst, ((a - b).abs().max() / b.abs().max()).item())
            ok = same and shapes and worst < 1e-5
            good &= ok
            print(f"tokens {case:20} {len(keys)} tokens, rows {tuple(x['lm_head.weight'].shape)}, worst {worst:.3g}"
                  f"{'' if ok else f'   FAILED {same} {shapes}'}")
    return good


def main():
    parser = harness.parser(__doc__) if hasattr(harness, "parser") else __import__("argparse").ArgumentParser()
    if not any(a.dest == "ft" for a in parser._actions):
        parser.add_argument("ft")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    ft = os.path.abspath(options.ft)
    root = tempfile.mkdtemp(prefix="ft-merge-")
    good = True
    try:
        for kind in {k for k, _ in CASES.values()}:
            folder = os.path.join(root, kind)
            os.mkdir(folder)
            make_models(kind, folder)
        for name, (kind, recipe) in CASES.items():
            if options.only in name:
                good &= run_case(ft, name, kind, recipe, os.path.join(root, kind))
        if options.only in "tokens":
            folder = os.path.join(root, "tokens")
            os.mkdir(folder)
            token_models(folder)
            good &= run_tokens(ft, folder)
        if options.only in "random":
            good &= run_random(ft, os.path.join(root, "llama"))
    finally:
        shutil.rmtree(root)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
