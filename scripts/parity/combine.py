#!/usr/bin/env python3
"""combine.py - several adapters, between ft and PEFT: merge-adapter's types, and --adapter given twice.

    python scripts/parity/combine.py FT [--only PART_OF_A_NAME]

For each case PEFT writes one to three random adapters and combines them by add_weighted_adapter. The adapter that
`ft merge-adapter --adapter-only` writes loads in PEFT without a missing or unexpected key and changes every module as
PEFT's does (1e-5); the model that `ft merge-adapter` writes is PEFT's merge_and_unload (1e-5 of the largest weight);
`ft score` with all of them is PEFT with all of them active. Types that draw are taken at density 1, where nothing is
dropped; what they drop is tried by tests/test_combine.c.
"""
import os
import sys
import warnings

import torch
from safetensors.torch import load_file

from harness import PADDING, ft_logprobs, hf_logprobs, load_model, make_model, run_cases, run_ft, token_rows, worst_logprob

PLAIN = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]}
OTHER = {"r": 4, "lora_alpha": 9, "target_modules": ["v_proj", "up_proj", "down_proj"], "use_rslora": True,
         "alpha_pattern": {"up_proj": 3}}
UNEQUAL = {"r": 3, "lora_alpha": 5, "target_modules": ["k_proj", "v_proj", "down_proj"],
           "rank_pattern": {"down_proj": 7, r"layers\.0\.self_attn\.v_proj": 1}, "alpha_pattern": {"k_proj": 11}}
LAYERS = {"r": 2, "lora_alpha": 3, "target_modules": ["down_proj", "q_proj"], "layers_to_transform": [0, 2]}
ENDS = {"r": 3, "lora_alpha": 2, "target_modules": ["embed_tokens", "lm_head", "q_proj"]}
ENDS_TOO = {"r": 3, "lora_alpha": 4, "target_modules": ["embed_tokens", "o_proj"], "use_rslora": True}
HEAD = {"r": 2, "lora_alpha": 4, "target_modules": ["o_proj"], "modules_to_save": ["lm_head"]}
GPT2 = {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj", "wte"]}
GPT2_TOO = {"r": 4, "lora_alpha": 5, "target_modules": ["c_attn", "c_fc"], "use_rslora": True}
GPT2_ODD = {"r": 5, "lora_alpha": 5, "target_modules": ["c_proj", "c_fc"], "rank_pattern": {"mlp.c_proj": 2}}
REGEX = {"r": 4, "lora_alpha": 5, "target_modules": r"model\.layers\.\d+\.mlp\..*_proj"}

CASES = {
    "cat": ("llama", [PLAIN, OTHER, UNEQUAL], [1.0, -0.5, 2.0], {"combination_type": "cat"}),
    "cat layers": ("llama-bf16", [PLAIN, LAYERS], [0.25, 1.0], {"combination_type": "cat"}),
    "cat ends": ("llama-one-layer-tied", [ENDS_TOO | {"use_rslora": False}, ENDS_TOO], [0.5, 0.5],
                 {"combination_type": "cat"}),
    "cat regex": ("llama-wide-heads", [REGEX, REGEX | {"r": 2}], [1.0, 1.0], {"combination_type": "cat"}),
    "cat gpt2": ("gpt2", [GPT2, GPT2_TOO, GPT2_ODD], [1.0, 0.5, -1.0], {"combination_type": "cat"}),
    "linear": ("mistral", [PLAIN, OTHER], [0.6, -0.4], {"combination_type": "linear"}),
    "linear gpt2": ("gpt2-relu-inner", [GPT2, GPT2_TOO], [0.6, 0.4], {"combination_type": "linear"}),
    "linear ends": ("llama", [ENDS, ENDS_TOO], [1.5, 0.4], {"combination_type": "linear"}),
    "svd": ("qwen3", [PLAIN, OTHER, UNEQUAL], [1.0, 0.5, -0.25], {"combination_type": "svd"}),
    "svd layers": ("qwen3-bias-tied", [PLAIN, LAYERS], [1.0, 0.5], {"combination_type": "svd", "svd_rank": 2}),
    "svd gpt2": ("gpt2", [GPT2, GPT2_ODD], [1.0, 1.0], {"combination_type": "svd", "svd_rank": 6}),
    "svd ends": ("llama", [ENDS, ENDS_TOO], [1.5, 0.4], {"combination_type": "svd"}),
    "ties": ("qwen2", [PLAIN, OTHER], [1.0, 0.7], {"combination_type": "ties", "density": 0.5}),
    "ties frequency": ("qwen2", [PLAIN, OTHER, PLAIN], [1.0, 0.7, -0.3], {
        "combination_type": "ties", "density": 0.3, "majority_sign_method": "frequency"}),
    "ties_svd": ("llama", [PLAIN, OTHER, UNEQUAL], [1.0, 0.7, 0.2], {"combination_type": "ties_svd", "density": 0.2}),
    "ties_svd gpt2": ("gpt2", [GPT2, GPT2_ODD], [1.0, 0.7], {
        "combination_type": "ties_svd", "density": 0.6, "majority_sign_method": "frequency"}),
    "dare_linear": ("llama", [PLAIN, OTHER], [1.0, 0.7], {"combination_type": "dare_linear", "density": 1.0}),
    "dare_ties": ("llama", [PLAIN, OTHER], [1.0, 0.7], {"combination_type": "dare_ties", "density": 1.0}),
    "dare_linear_svd": ("llama", [PLAIN, UNEQUAL], [1.0, 0.7], {"combination_type": "dare_linear_svd", "density": 1.0}),
    "dare_ties_svd": ("llama", [PLAIN, UNEQUAL], [1.0, 0.7], {"combination_type": "dare_ties_svd", "density": 1.0}),
    "magnitude": ("qwen3", [PLAIN, OTHER], [1.0, -1.0], {"combination_type": "magnitude_prune", "density": 0.7}),
    "magnitude_svd": ("gpt2-relu-inner", [GPT2, GPT2_ODD], [1.0, -1.0], {
        "combination_type": "magnitude_prune_svd", "density": 0.3}),
    "one": ("llama", [UNEQUAL], [-0.7], {"combination_type": "ties", "density": 0.3}),
    "saved head": ("llama", [PLAIN, HEAD], [1.0, 1.0], {"combination_type": "cat"}),
}


def write_adapter(base, fields, gpt2, seed, folder):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = get_peft_model(load_model(base), LoraConfig(task_type="CAUSAL_LM", fan_in_fan_out=gpt2, **fields))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).uniform_(-0.15, 0.15))
    model.save_pretrained(folder, save_embedding_layers=False)


def untie(model):
    ends = [getattr(end, "base_layer", end) for end in (model.get_input_embeddings(), model.get_output_embeddings())]
    if ends[0].weight is ends[1].weight:
        ends[1].weight = torch.nn.Parameter(ends[1].weight.detach().clone())


def changes(model, name):
    """What an adapter adds to each module; PEFT's embeddings have theirs turned."""
    return {path: module.get_delta_weight(name).detach() for path, module in model.named_modules()
            if hasattr(module, "get_delta_weight") and (name in module.lora_A or name in module.lora_embedding_A)}


def relative(a, b):
    return float((a - b).norm() / b.norm().clamp_min(1e-30))


def load_ours(base, folder):
    from peft import PeftModel, get_peft_model_state_dict

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(load_model(base), folder, "ours")
    words = [str(w.message) for w in caught if "missing" in str(w.message) or "unexpected" in str(w.message)]
    stored = set(load_file(os.path.join(folder, "adapter_model.safetensors")))
    expected = set(get_peft_model_state_dict(model, adapter_name="ours", save_embedding_layers=False))
    return model, stored == expected and not words


def run_case(ft, name, work, report):
    from peft import PeftModel

    base_name, adapters, weights, options = CASES[name]
    base = os.path.join(work, "base")
    plain = make_model(base_name, base)
    folders = [os.path.join(work, f"a{i}") for i in range(len(adapters))]
    for i, fields in enumerate(adapters):
        write_adapter(base, fields, base_name.startswith("gpt2"), i, folders[i])
    theirs = PeftModel.from_pretrained(load_model(base), folders[0], "a0")
    for i in range(1, len(adapters)):
        theirs.load_adapter(folders[i], f"a{i}")
    names = [f"a{i}" for i in range(len(adapters))]
    rows = token_rows(plain.config.vocab_size - PADDING, (12, 31, 2))

    theirs.base_model.set_adapter(names)
    both = [word for folder in folders for word in ("--adapter", folder)]
    want = hf_logprobs(theirs.eval(), rows)
    got = ft_logprobs(ft, base, rows, both[1]) if len(adapters) == 1 else ft_logprobs_of(ft, base, rows, both)
    worst = worst_logprob(got, want)
    report.line(name + ": --adapter", worst <= 2e-4, f"worst |d logprob| {worst:.1e}")

    theirs.add_weighted_adapter(names, weights, "sum", **options)
    words = [*folders, "--weights", ",".join(map(str, weights))]
    for key, value in options.items():
        words += ["--" + key.replace("_", "-"), value]
    ours = os.path.join(work, "ours")
    run_ft(ft, "merge-adapter", *words, "--adapter-only", "--out", ours)
    mine, whole = load_ours(base, ours)
    a, b = changes(theirs, "sum"), changes(mine, "ours")
    worst = max(relative(b[path], a[path]) if path in b else float("inf") for path in a)
    report.line(name + ": adapter", whole and worst <= 1e-5 and len(a) == len(b),
                f"{len(a)} modules, worst change off by {worst:.1e}, keys {'match' if whole else 'differ'}")

    merged = os.path.join(work, "merged")
    run_ft(ft, "merge-adapter", *words, "--base", base, "--out", merged, "--type", "f32")
    if "saved" in name:  # PEFT's result has the base's head again: ft keeps what was trained
        have, trained = load_model(merged).state_dict(), load_file(os.path.join(folders[1], "adapter_model.safetensors"))
        off = float((have["lm_head.weight"] - trained["base_model.model.lm_head.weight"]).abs().max())
        report.line(name + ": merge", off == 0, f"the trained head off by {off:.1e}")
        return
    theirs.base_model.set_adapter("sum")
    untie(theirs)
    want = theirs.merge_and_unload().state_dict()
    have = load_model(merged).state_dict()
    worst = max(float((have[k].float() - want[k].float()).abs().max() / want[k].abs().max().clamp_min(1))
                for k in want if k in have)
    report.line(name + ": merge", worst <= 1e-5, f"worst weight difference {worst:.1e}")


def ft_logprobs_of(ft, base, rows, words):
    import json

    lines = "".join(json.dumps({"id": i, "tokens": row, "start": 1}) + "\n" for i, row in enumerate(rows))
    done = run_ft(ft, "score", "--model", base, *words, "--per-token", stdin=lines)
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    run_cases(CASES, run_case)
