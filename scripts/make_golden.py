#!/usr/bin/env python3
"""make_golden.py - golden logits, loss and gradients of every model family, from transformers.

    python scripts/make_golden.py [--out tests/golden/families]

One folder a case:

    CASE/config.json          the model, as a Hugging Face folder would have it
    CASE/golden.safetensors   what transformers computes (eager attention, float32, eval mode):
        lengths        I32 [3]       lengths of the three sequences, total N = their sum
        ids            I32 [N]       token ids, one sequence after the other
        labels         I32 [N]       unshifted, as in Hugging Face; -100 = not supervised
        logits         F32 [N, V]    of every position; sequences see nothing of one another and
                                     positions start at 0 in each
        loss           F32 []        mean cross-entropy over all supervised, shifted positions of the
                                     three sequences together (a sequence's first label is never used)
        grad.NAME      F32 [shape]   d loss / d NAME for every parameter NAME, in its on-disk shape

The weights are not stored: the reader makes them from the names and shapes of the grad.* tensors by
the weight rule at the top of scripts/oracle.py, writes CASE/config.json and a model.safetensors with
these float32 tensors into a temporary folder, and loads that.

The script also checks itself: the rule against the published losses of the families (the table
`TABLE`, which has its own independent float64 check behind it), and float32 against float64.
"""
import argparse
import os
import sys

import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oracle import build_model, loss_sum, write_json

HERE = os.path.dirname(os.path.abspath(__file__))
IGNORE = -100

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 64, "hidden_size": 32,
    "intermediate_size": 21, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
    "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False, "bos_token_id": 1,
    "eos_token_id": 2, "torch_dtype": "float32",
}
GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 64, "n_embd": 24,
    "n_layer": 2, "n_head": 4, "n_positions": 16, "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
}


def variant(base, drop=(), **changes):
    config = {key: value for key, value in base.items() if key not in drop}
    config.update(changes)
    return config


def of_type(name, architecture, drop=("attention_bias", "mlp_bias"), **changes):
    return variant(LLAMA, drop, model_type=name, architectures=[architecture], **changes)


# Keys are written in the spellings of several releases on purpose: rope_theta and rope_scaling (4.x),
# rope_parameters (5.x), "type" for "rope_type" (old), torch_dtype and dtype.
CASES = {
    "llama": variant(LLAMA, ("rope_theta", "torch_dtype"), dtype="float32",
                     rope_parameters={"rope_type": "default", "rope_theta": 5000.0}),
    "llama_bias_tied": variant(LLAMA, vocab_size=72, attention_bias=True, mlp_bias=True,
                               tie_word_embeddings=True, intermediate_size=27),
    "llama_head_dim": variant(LLAMA, head_dim=12, num_key_value_heads=1, intermediate_size=19),
    "llama_rope_llama3": variant(LLAMA, max_position_embeddings=512, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}),
    "llama_rope_linear": variant(LLAMA, rope_scaling={"type": "linear", "factor": 4.0}),
    "llama_rope_dynamic": variant(LLAMA, max_position_embeddings=4,
                                  rope_scaling={"type": "dynamic", "factor": 2.0}),
    "llama_rope_yarn_a": variant(LLAMA, max_position_embeddings=256, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
    "llama_rope_yarn_b": variant(LLAMA, ("rope_theta",), max_position_embeddings=8192, rope_parameters={
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 2048}),
    "llama_rope_longrope": variant(LLAMA, max_position_embeddings=64, rope_scaling={
        "rope_type": "longrope", "factor": 1.0, "original_max_position_embeddings": 64,
        "attention_factor": 1.25, "short_factor": [1.5, 0.75, 3.0, 40.0],
        "long_factor": [1.5, 0.75, 3.0, 40.0]}),
    "mistral": of_type("mistral", "MistralForCausalLM", sliding_window=3),
    "qwen2": of_type("qwen2", "Qwen2ForCausalLM", use_sliding_window=False, sliding_window=3,
                     max_window_layers=1),
    "qwen2_window": of_type("qwen2", "Qwen2ForCausalLM", use_sliding_window=True, sliding_window=3,
                            max_window_layers=1, tie_word_embeddings=True),
    "qwen3": of_type("qwen3", "Qwen3ForCausalLM", ("mlp_bias",), head_dim=12, intermediate_size=19),
    "qwen3_layer_types": of_type("qwen3", "Qwen3ForCausalLM", ("mlp_bias",), head_dim=8,
                                 use_sliding_window=True, sliding_window=4,
                                 layer_types=["sliding_attention", "full_attention"],
                                 tie_word_embeddings=True),
    "gpt2": GPT2,
    "gpt2_options": variant(GPT2, n_inner=37, scale_attn_by_inverse_layer_idx=True,
                            tie_word_embeddings=True),
}

# Loss of the published cases: ids 3 1 4 1 5 9 2 6 supervised throughout (vocab 16, 5e-6 tolerance there).
LL = {"vocab_size": 16, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16}
TABLE = [
    (2.587234, {"model_type": "gpt2", "vocab_size": 16, "n_positions": 12, "n_embd": 16, "n_layer": 2,
                "n_head": 4}),
    (4.830417, {"model_type": "llama", **LL}),
    (3.409125, {"model_type": "llama", **LL, "attention_bias": True, "mlp_bias": True,
                "tie_word_embeddings": True}),
    (3.888145, {"model_type": "llama", **LL, "head_dim": 12, "num_key_value_heads": 1}),
    (4.766086, {"model_type": "llama", **LL, "max_position_embeddings": 512, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}),
    (4.525328, {"model_type": "llama", **LL, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    (4.839440, {"model_type": "llama", **LL, "max_position_embeddings": 4,
                "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    (4.906884, {"model_type": "llama", **LL, "max_position_embeddings": 256, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}),
    (4.956118, {"model_type": "llama", **LL, "max_position_embeddings": 8192, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}}),
    (5.144064, {"model_type": "mistral", **LL, "sliding_window": 3}),
    (4.883183, {"model_type": "qwen2", **LL}),
    (4.620990, {"model_type": "qwen2", **LL, "use_sliding_window": True, "sliding_window": 3,
                "max_window_layers": 1}),
    (5.458979, {"model_type": "qwen3", **LL, "head_dim": 12}),
]


def token_rows(vocab, lengths):
    state = 12345
    for length in lengths:
        ids = []
        for _ in range(length):
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            ids.append((state >> 12) % vocab)
        yield ids


def sequences(vocab, lengths):
    """Three rows with gaps in their labels: a supervised first label (never used), runs of -100."""
    rows = []
    for index, ids in enumerate(token_rows(vocab, lengths)):
        length = len(ids)
        labels = list(ids)
        if index == 0:
            labels[0:4] = [IGNORE] * 4
            labels[7] = IGNORE
        elif length > 4:
            labels[2] = IGNORE
        rows.append((ids, labels))
    return rows


def run(model, rows):
    """Logits of every position, token-mean loss, gradients left in the parameters."""
    model.zero_grad(set_to_none=True)
    all_logits, total, count = [], 0.0, 0
    for ids, labels in rows:
        # A fresh forward a row: no padding, no packing, so nothing depends on a mask convention.
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        part, n = loss_sum(logits, labels)
        total, count = total + part, count + n
        all_logits.append(logits.detach())
    loss = total / count
    loss.backward()
    return torch.cat(all_logits), loss.detach()


def check_rule():
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    for want, config in TABLE:
        _, loss = run(build_model(dict(config)), [(ids, ids)])
        print(f"  {config['model_type']:8} published {want:.6f} here {float(loss):.6f}")
        if abs(float(loss) - want) > 2e-5:
            raise SystemExit("the weight rule or the library disagrees with the published loss")


def make(name, config, out):
    # HF keeps the frequencies of the longest row seen under dynamic scaling; rows of equal length make
    # "per row" and "per batch" the same.
    lengths = (11, 11, 11) if "dynamic" in name else (13, 1, 6)
    rows = sequences(config["vocab_size"], lengths)
    model = build_model(dict(config))
    logits, loss = run(model, rows)
    tensors = {
        "lengths": torch.tensor(lengths, dtype=torch.int32),
        "ids": torch.tensor([t for ids, _ in rows for t in ids], dtype=torch.int32),
        "labels": torch.tensor([t for _, labels in rows for t in labels], dtype=torch.int32),
        "logits": logits.contiguous(), "loss": loss,
    }
    gradients = {n: p.grad.detach().clone() for n, p in model.named_parameters()}
    tensors.update({"grad." + n: g.contiguous() for n, g in gradients.items()})

    double = build_model(dict(config), torch.float64)
    logits64, loss64 = run(double, rows)
    off = float((logits64 - logits).abs().max())
    worst = max(float((p.grad - gradients[n]).abs().max() / (p.grad.abs().max() + 1e-12))
                for n, p in double.named_parameters())
    if off > 5e-5 or worst > 5e-5:
        raise SystemExit(f"{name}: float32 and float64 differ by {off:g} in logits, {worst:g} in gradients")

    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, "config.json"), config)
    path = os.path.join(folder, "golden.safetensors")
    save_file(tensors, path, metadata={"format": "pt"})
    parameters = sum(p.numel() for p in model.parameters())
    print(f"  {name:20} {parameters:6} parameters  loss {float(loss):.6f}  {os.path.getsize(path)} bytes"
          f"  f32-f64 logits {off:.1e} gradients {worst:.1e}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "tests", "golden", "families"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    check_rule()
    for name, config in CASES.items():
        make(name, config, arguments.out)


if __name__ == "__main__":
    main()
