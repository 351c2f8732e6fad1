"""harness.py - what the parity checks share: calling ft, random models in folders, log-probabilities.

The checks are run by hand against a built ft, with torch, transformers, peft and safetensors installed:

    python scripts/parity/score.py   build/release/ft [--smollm2 FOLDER-OR-GGUF --reference FOLDER]
    python scripts/parity/adapter.py build/release/ft
    python scripts/parity/train.py   build/release/ft
    python scripts/parity/prompt.py  build/release/ft
    python scripts/parity/bitfit.py  build/release/ft
    python scripts/parity/qlora.py   build/release/ft
    python scripts/parity/vectors.py build/release/ft
    python scripts/parity/methods.py build/release/ft

Each prints one line a case and ends with status 1 when a difference exceeds its bound.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(HERE, ".."))

# The models' vocabularies are a little larger than the tokenizer's 640 entries, as padded ones are; training
# data may only name what the tokenizer has.
PADDING = 10

# Shapes that the goldens do not have: odd sizes, one layer, many kv groups, wide heads. No pad_token_id: with
# one, torch's embedding gives that row no gradient from the input side, so runs that train on it differ.
BASE = {"vocab_size": 643, "hidden_size": 40, "intermediate_size": 53, "num_hidden_layers": 3,
        "num_attention_heads": 5, "num_key_value_heads": 5, "max_position_embeddings": 128,
        "bos_token_id": 0, "eos_token_id": 2}


def shape(model_type, **changes):
    return {**BASE, "model_type": model_type, **changes}


MODELS = {
    "llama": shape("llama"),
    "llama-one-layer-tied": shape("llama", num_hidden_layers=1, tie_word_embeddings=True,
                                  rope_theta=500.0, rms_norm_eps=1e-4),
    "llama-wide-heads": shape("llama", hidden_size=24, num_attention_heads=3, num_key_value_heads=1,
                              head_dim=20, attention_bias=True),
    "llama-mlp-bias": shape("llama", hidden_size=48, num_attention_heads=6, num_key_value_heads=3,
                            mlp_bias=True, hidden_act="gelu"),
    "llama-rope-llama3": shape("llama", num_key_value_heads=1, max_position_embeddings=1024, rope_scaling={
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16}),
    "llama-rope-linear": shape("llama", rope_scaling={"rope_type": "linear", "factor": 2.5}),
    "llama-rope-yarn": shape("llama", hidden_size=64, num_attention_heads=2, num_key_value_heads=2,
                             rope_theta=1000.0, max_position_embeddings=128, rope_scaling={
                                 "rope_type": "yarn", "factor": 8.0, "beta_fast": 16.0, "beta_slow": 2.0,
                                 "original_max_position_embeddings": 16}),
    "llama-rope-yarn-factor": shape("llama", hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
                                    rope_scaling={"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3,
                                                  "original_max_position_embeddings": 32}),
    "llama-bf16": shape("llama", num_key_value_heads=1, dtype="bfloat16"),
    "mistral": shape("mistral", sliding_window=7, hidden_size=36, num_attention_heads=6, num_key_value_heads=2),
    "mistral-no-window": shape("mistral", sliding_window=None, num_key_value_heads=1, head_dim=14),
    "qwen2": shape("qwen2", hidden_size=32, num_attention_heads=8, num_key_value_heads=2),
    "qwen2-window": shape("qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=2,
                          num_key_value_heads=1, tie_word_embeddings=True),
    "qwen3": shape("qwen3", head_dim=16, num_key_value_heads=1),
    "qwen3-bias-tied": shape("qwen3", hidden_size=28, num_attention_heads=4, num_key_value_heads=2, head_dim=10,
                             attention_bias=True, tie_word_embeddings=True),
    "gpt2": {"model_type": "gpt2", "vocab_size": 643, "n_embd": 35, "n_layer": 3, "n_head": 5, "n_positions": 64,
             "bos_token_id": 0, "eos_token_id": 0},
    "gpt2-relu-inner": {"model_type": "gpt2", "vocab_size": 650, "n_embd": 28, "n_layer": 2, "n_head": 7,
                        "n_positions": 64, "n_inner": 51, "activation_function": "relu",
                        "scale_attn_by_inverse_layer_idx": True, "bos_token_id": 0, "eos_token_id": 0},
}


def make_model(name, folder, seed=1):
    """A random model saved by transformers itself, with the embedded model's tokenizer beside it.
    Returned in float32 from what the file holds, so a bf16 file counts as it is."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = dict(MODELS[name])
    dtype = getattr(torch, config.pop("dtype", "float32"))
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 0.25)
            elif "norm" in key or "ln_" in key:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.normal_(0.0, 0.1)
    model.to(dtype).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(ROOT, "data", "tiny", file), folder)
    return load_model(folder)


def load_model(folder, dtype=torch.float32):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def token_rows(vocab, lengths, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, vocab, (n,), generator=generator).tolist() for n in lengths]


def run_ft(ft, *arguments, stdin=None, ok=(0,)):
    done = subprocess.run([ft, *map(str, arguments)], input=stdin, text=True, capture_output=True, check=False)
    if done.returncode not in ok:
        raise SystemExit(f"ft {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done


def ft_logprobs(ft, folder, rows, adapter=None, precision="f32"):
    """Per-token log-probabilities of tokens 1 ... of each row, as `ft score` prints them."""
    lines = "".join(json.dumps({"id": i, "tokens": row, "start": 1}) + "\n" for i, row in enumerate(rows))
    more = ["--adapter", adapter] if adapter else []
    done = run_ft(ft, "score", "--model", folder, *more, "--per-token", "--precision", precision, stdin=lines)
    out = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["id"] for row in out] == list(range(len(rows))), "order of the rows"
    assert [row["tokens"] for row in out] == [len(row) - 1 for row in rows], "counts"
    for row in out:
        assert abs(row["logprob"] - sum(row["token_logprobs"])) < 1e-3 + 1e-6 * abs(row["logprob"])
    return out


def hf_logprobs(model, rows):
    """The same from transformers, summed in float64, and whether every token is the arg max."""
    out = []
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row]), use_cache=False).logits[0].double()
            logprob = torch.log_softmax(logits[:-1], -1)
            target = torch.tensor(row[1:])
            picked = logprob.gather(1, target.unsqueeze(1)).squeeze(1)
            out.append((picked.tolist(), bool((logprob.argmax(-1) == target).all()) if len(row) > 1 else True))
    return out


def worst_logprob(ft_rows, hf_rows):
    worst = 0.0
    for got, (want, _) in zip(ft_rows, hf_rows):
        for a, b in zip(got["token_logprobs"], want):
            worst = max(worst, abs(a - b))
    return worst


class Report:
    """One line a case; the process ends with 1 when any case failed."""

    def __init__(self):
        self.failed = 0

    def line(self, name, ok, text):
        self.failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {name:28} {text}", flush=True)

    def end(self):
        print(f"{self.failed} failed")
        sys.exit(1 if self.failed else 0)


def run_cases(cases, run_case):
    """The scripts' main: FT [--only PART_OF_A_NAME]; run_case(ft, name, folder, report) for each case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ft")
    parser.add_argument("--only")
    arguments = parser.parse_args()
    report = Report()
    for name in cases:
        if not arguments.only or arguments.only in name:
            with tempfile.TemporaryDirectory() as work:
                run_case(os.path.abspath(arguments.ft), name, work, report)
    report.end()
