#!/usr/bin/env python3
"""gguf.py - the .gguf files that ft writes, opened and run by llama.cpp (package llama-cpp-python).

    python scripts/parity/gguf.py FT [--only NAME] [--model MODEL …] [--bound 5e-3] [--types f32,f16,q8_0]

Random models of every family that GGUF can hold are converted to f32; log-probabilities and the ids of some texts
must agree. Real models (--model) are converted to each of --types and continue four prompts greedily: the
tokens must be equal, or differ first where the two best logits lie closer than --gap.

llama.cpp rounds activations to the type of the weights (bf16, q8_0), hence --gap; some of its functions (GELU) are
tables in f16 even for f32 files, hence --bound.
"""
import argparse
import json
import os
import tempfile

import llama_cpp
import numpy as np

from harness import MODELS, Report, ft_logprobs, make_model, run_ft, token_rows

PROMPTS = ["The capital of France is", "Once upon a time", "def main():\n", "1, 2, 3, 4,"]
F32 = 0  # ggml's type number


def open_llama(path, scaling=None):
    own = -1.0  # what the file says, not the package's defaults
    beta = scaling or {}  # llama.cpp reads these two from its command line only
    return llama_cpp.Llama(path, n_ctx=256, verbose=False, n_threads=2, logits_all=True, type_k=F32, type_v=F32,
                           yarn_attn_factor=own, yarn_ext_factor=own, yarn_beta_fast=beta.get("beta_fast", own),
                           yarn_beta_slow=beta.get("beta_slow", own))


def logprobs(llama, row):
    llama.reset()
    llama.eval(row)
    logits = np.array(llama.scores[:len(row)], dtype=np.float64)
    top = logits.max(-1, keepdims=True)
    logprob = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return [logprob[i, row[i + 1]] for i in range(len(row) - 1)]


def random_models(report, arguments, work):
    for name, config in MODELS.items():
        if arguments.only and arguments.only not in name:
            continue
        folder, gguf = os.path.join(work, name), os.path.join(work, name + ".gguf")
        make_model(name, folder)
        done = run_ft(arguments.ft, "convert", folder, "--out", gguf, "--type", "f32", ok=(0, 65))
        if done.returncode == 65:
            report.line(name, "GGUF has no key" in done.stderr, "refused: " + done.stderr.split(": ", 3)[-1].strip())
            continue
        window = "sliding window" in done.stderr
        rows = token_rows(640, (5 if window else 2, 5 if window else 40))
        llama = open_llama(gguf, config.get("rope_scaling"))
        worst = 0.0
        for got, row in zip(ft_logprobs(arguments.ft, folder, rows), rows):
            worst = max([worst] + [abs(a - b) for a, b in zip(got["token_logprobs"], logprobs(llama, row))])
        same = all(llama.tokenize(text.encode(), add_bos=True, special=True) ==
                   [int(i) for i in run_ft(arguments.ft, "tokenize", "--model", gguf, "--special",
                                           stdin=text + "\n").stdout.split()]
                   for text in ("Once upon a time.", "a cat 12 sat"))
        report.line(name, worst <= arguments.bound and same,
                    f"worst |d logprob| {worst:.2e}" + ("" if same else ", ids differ"))


def greedy(llama, ids, count):
    """Tokens and the distance of the two best logits at each; stop tokens are not chosen, as --min-new-tokens has it."""
    llama.reset()
    llama.eval(ids)
    tokens, gaps = [], []
    for _ in range(count):
        logits = np.array(llama.scores[llama.n_tokens - 1])
        logits[llama.token_eos()] = -np.inf
        order = np.argsort(logits)[-2:]
        tokens.append(int(order[1]))
        gaps.append(float(logits[order[1]] - logits[order[0]]))
        llama.eval([tokens[-1]])
    return tokens, gaps


def real_model(report, arguments, model, work):
    for name in arguments.types.split(","):
        gguf = os.path.join(work, f"real-{name}.gguf")
        run_ft(arguments.ft, "convert", model, "--out", gguf, "--type", name, "--force")
        llama = open_llama(gguf)
        for prompt in PROMPTS:
            done = run_ft(arguments.ft, "generate", "--model", gguf, "--prompt", prompt, "--json",
                          "--max-new-tokens", 32, "--min-new-tokens", 32)
            got = json.loads(done.stdout)
            ids = llama.tokenize(prompt.encode(), add_bos=True, special=True)
            want, gaps = greedy(llama, ids, 32)
            equal = next((i for i, (a, b) in enumerate(zip(want, got["token_ids"])) if a != b), 32)
            ok = len(ids) == got["prompt_tokens"] and (equal == 32 or gaps[equal] < arguments.gap)
            report.line(f"{name} {prompt!r}"[:28], ok, f"{equal} of 32 greedy tokens equal" +
                        ("" if equal == 32 else f", then the two best are {gaps[equal]:.2g} apart"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ft")
    parser.add_argument("--only")
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--types", default="f32,f16,bf16,q8_0")
    parser.add_argument("--bound", type=float, default=5e-3)
    parser.add_argument("--gap", type=float, default=0.1)
    arguments = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        random_models(report, arguments, work)
        for model in arguments.model:
            real_model(report, arguments, model, work)
    report.end()


if __name__ == "__main__":
    main()
