#!/usr/bin/env python3
"""prompt.py - prompts, prefixes and prompts of encoders both ways between ft and PEFT.

    python scripts/parity/prompt.py FT [--only NAME]

On models the goldens do not have: ft trains an adapter; PEFT loads it without a missing or unexpected key, both score the
same and continue several prompts together with the same tokens; then PEFT writes one and ft scores it as PEFT does.
Then, here and on every family of tests/golden/families, 20 optimizer steps from one adapter in both: every loss, rate and
norm, and all that is trained at the end.
"""
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

from adapter import load_peft
from harness import (PADDING, ROOT, ft_logprobs, hf_logprobs, load_model, make_model, run_cases, run_ft, token_rows,
                     worst_logprob)

from make_golden import CASES as FAMILIES
from oracle import build_model

STEPS, BATCH = 20, 4
TEXTS = ["a", "The sun is warm and", "Once there was a little boat on the lake. It", "One two three", "What?"]
CASES = {
    "llama": ("llama", {"num_virtual_tokens": 6}),
    "llama text": ("llama-one-layer-tied", {"num_virtual_tokens": 9, "prompt_tuning_init": "TEXT",
                                            "prompt_tuning_init_text": "Say what it is."}),
    "llama yarn": ("llama-rope-yarn", {"num_virtual_tokens": 11}),
    "llama wide heads": ("llama-wide-heads", {"num_virtual_tokens": 1}),
    "mistral window": ("mistral", {"num_virtual_tokens": 10}),
    "qwen2": ("qwen2", {"num_virtual_tokens": 20, "prompt_tuning_init": "SAMPLE_VOCAB"}),
    "qwen2 window": ("qwen2-window", {"num_virtual_tokens": 4}),
    "qwen3": ("qwen3-bias-tied", {"num_virtual_tokens": 3}),
    "gpt2": ("gpt2", {"num_virtual_tokens": 20}),
    "gpt2 inner": ("gpt2-relu-inner", {"num_virtual_tokens": 2, "prompt_tuning_init": "SAMPLE_VOCAB"}),
    "prefix llama": ("llama", {"type": "prefix_tuning", "num_virtual_tokens": 6}),
    "prefix llama bf16": ("llama-bf16", {"type": "prefix_tuning", "num_virtual_tokens": 2}),
    "prefix llama tied": ("llama-one-layer-tied", {"type": "prefix_tuning", "num_virtual_tokens": 9,
                                                   "init_weights": "zero"}),
    "prefix llama yarn": ("llama-rope-yarn", {"type": "prefix_tuning", "num_virtual_tokens": 11}),
    "prefix llama heads": ("llama-wide-heads", {"type": "prefix_tuning", "num_virtual_tokens": 1}),
    "prefix mistral": ("mistral", {"type": "prefix_tuning", "num_virtual_tokens": 10, "prefix_projection": True}),
    "prefix qwen2 window": ("qwen2-window", {"type": "prefix_tuning", "num_virtual_tokens": 4,
                                             "prefix_projection": True, "encoder_hidden_size": 13}),
    "prefix qwen3": ("qwen3-bias-tied", {"type": "prefix_tuning", "num_virtual_tokens": 3}),
    "prefix gpt2": ("gpt2", {"type": "prefix_tuning", "num_virtual_tokens": 20, "prefix_projection": True,
                             "init_weights": "zero"}),
    "prefix gpt2 inner": ("gpt2-relu-inner", {"type": "prefix_tuning", "num_virtual_tokens": 2}),
    "p mlp llama": ("llama", {"type": "p_tuning", "num_virtual_tokens": 6}),
    "p mlp qwen2": ("qwen2", {"type": "p_tuning", "num_virtual_tokens": 20, "encoder_hidden_size": 3}),
    "p mlp gpt2": ("gpt2", {"type": "p_tuning", "num_virtual_tokens": 1, "encoder_hidden_size": 50}),
    "p lstm llama": ("llama-mlp-bias", {"type": "p_tuning", "num_virtual_tokens": 7,
                                        "encoder_reparameterization_type": "LSTM"}),
    "p lstm one layer": ("mistral", {"type": "p_tuning", "num_virtual_tokens": 10, "encoder_num_layers": 1,
                                     "encoder_hidden_size": 17, "encoder_reparameterization_type": "LSTM"}),
    "p lstm one token": ("qwen3", {"type": "p_tuning", "num_virtual_tokens": 1, "encoder_num_layers": 3,
                                   "encoder_hidden_size": 5, "encoder_reparameterization_type": "LSTM"}),
    "p lstm gpt2": ("gpt2", {"type": "p_tuning", "num_virtual_tokens": 12, "encoder_hidden_size": 9,
                             "encoder_reparameterization_type": "LSTM"}),
}
# Of 20 steps alone, on every family of tests/golden/families.
STEP_CASES = {
    "prefix": {"type": "prefix_tuning", "num_virtual_tokens": 3},
    "projected": {"type": "prefix_tuning", "num_virtual_tokens": 2, "prefix_projection": True,
                  "encoder_hidden_size": 7},
    "mlp": {"type": "p_tuning", "num_virtual_tokens": 2, "encoder_hidden_size": 9},
    "lstm": {"type": "p_tuning", "num_virtual_tokens": 3, "encoder_hidden_size": 5,
             "encoder_reparameterization_type": "LSTM"},
}
MODEL_CASES = set(CASES)
CASES.update({f"{family} {kind}": (family, method) for family in FAMILIES for kind, method in STEP_CASES.items()})


def rows_before(method):
    """Rows of logits before those of the text: a prefix has none."""
    return 0 if method.get("type") == "prefix_tuning" else method["num_virtual_tokens"]


def last_rows(model, virtual):
    """A model whose logits are those of its own tokens, for hf_logprobs."""
    def call(input_ids, **more):
        out = model(input_ids=input_ids, **more)
        assert out.logits.shape[1] == virtual + input_ids.shape[1]
        return type(out)(logits=out.logits[:, virtual:])
    return call


def compare_scores(ft, base, adapter, model, virtual, rows, report, name):
    """ft against PEFT in float32; noise is how far that is from float64. Returns PEFT's."""
    want = hf_logprobs(last_rows(model, virtual), rows)
    worst = worst_logprob(ft_logprobs(ft, base, rows, adapter), want)
    exact = hf_logprobs(last_rows(model.double(), virtual), rows)
    model.float()
    noise = max(abs(a - b) for (x, _), (y, _) in zip(want, exact) for a, b in zip(x, y))
    report.line(name, worst <= max(1e-5, 3 * noise), f"worst |d logprob| {worst:.2e} (noise {noise:.1e})")
    return want


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8") as lines:
        for ids, labels in rows:
            lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")


def train_ft(ft, work, method, rows, out, **train):
    write_rows(os.path.join(work, "train.jsonl"), rows)
    config = os.path.join(work, "config.json")
    with open(config, "w", encoding="utf-8") as text:
        json.dump({"model": {"path": "base"}, "method": {"type": "prompt_tuning", **method},
                   "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 40,
                            "shuffle": False},
                   "optim": {"learning_rate": 2e-2, "warmup_steps": 3, "lr_scheduler_type": "linear"},
                   "train": {"epochs": 1, "batch_size": BATCH, "precision": "f32", **train},
                   "output": {"dir": out}}, text)
    run_ft(ft, "train", config, "--quiet")
    return os.path.join(work, out)


def ft_continue(ft, base, adapter, texts, new):
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = run_ft(ft, "generate", "--model", base, "--adapter", adapter, "--json", "--max-new-tokens", new,
                  stdin=lines)
    return [json.loads(line)["token_ids"] for line in done.stdout.splitlines()]


def peft_continue(model, base, texts, new):
    """Greedy, by whole passes: what a cache must equal. A stop token ends ft's answer, not this one."""
    from transformers import AutoTokenizer

    tokenizer, out = AutoTokenizer.from_pretrained(base), []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text)["input_ids"]
            for _ in range(new):
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            out.append(ids[-new:])
    return out


def reference(model, rows, first):
    """first: of the labels that are predicted."""
    from transformers import get_scheduler

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-2, weight_decay=0.0, foreach=False)
    schedule = get_scheduler("linear", optimizer, 3, STEPS)
    log = []
    for step in range(STEPS):
        batch, total, count = rows[step * BATCH:(step + 1) * BATCH], 0.0, 0
        for ids, labels in batch:
            n = sum(label != -100 for label in labels[first:])
            total = total + n * model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]),
                                      use_cache=False).loss
            count += n
        optimizer.zero_grad(set_to_none=True)
        (total / count).backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        log.append((float(total.detach()) / count, schedule.get_last_lr()[0], float(norm)))
        optimizer.step()
        schedule.step()
    return log


def make_rows(vocab, n, least, most):
    rows = []
    lengths = [least + (5 * i + i * i) % (most - least + 1) for i in range(n)]
    for index, ids in enumerate(token_rows(vocab, lengths, seed=17)):
        ids = [ids[t - 2] if t % 3 == 2 else ids[t] for t in range(len(ids))]
        masked = min(index % 4, len(ids) - 1)
        rows.append((ids, [-100] * masked + ids[masked:]))
    return rows


def attach(base, method, dtype=torch.float32):
    import peft

    kinds = {"prompt_tuning": "PromptTuningConfig", "prefix_tuning": "PrefixTuningConfig",
             "p_tuning": "PromptEncoderConfig"}
    fields = {k: v for k, v in method.items() if k not in ("init_from", "type")}
    if fields.get("prompt_tuning_init") == "TEXT":
        fields["tokenizer_name_or_path"] = base
    config = getattr(peft, kinds[method.get("type", "prompt_tuning")])(task_type="CAUSAL_LM", **fields)
    return peft.get_peft_model(load_model(base), config).to(dtype)


def trained_in(model):
    """What an adapter holds, and its encoder where it has one, as ft names them."""
    from peft import get_peft_model_state_dict

    state = {n: t.detach() for n, t in model.prompt_encoder["default"].state_dict().items()}
    return get_peft_model_state_dict(model), state if len(state) > 1 else {}


def compare_training(ft, work, base, method, rows, report, name):
    torch.manual_seed(5)
    model = attach(base, method)
    first = os.path.join(work, "first")
    model.save_pretrained(first)
    if trained_in(model)[1]:
        save_file({n: t.clone() for n, t in trained_in(model)[1].items()},
                  os.path.join(first, "prompt_encoder.safetensors"))
    double = attach(base, method, torch.float64)
    double.prompt_encoder["default"].load_state_dict(model.prompt_encoder["default"].state_dict())
    out = train_ft(ft, work, {**method, "init_from": "first"}, rows, "steps")
    predicted = 0 if rows_before(method) else 1
    want = reference(model, rows, predicted)
    reference(double, rows, predicted)
    with open(os.path.join(out, "log.jsonl"), encoding="utf-8") as lines:
        log = [row for row in map(json.loads, lines) if "loss" in row]
    loss = max(abs(a["loss"] - b[0]) / b[0] for a, b in zip(log, want))
    norm = max(abs(a["grad_norm"] - b[2]) / b[2] for a, b in zip(log, want))
    mine = load_file(os.path.join(out, "adapter_model.safetensors"))
    if trained_in(model)[1]:
        mine.update(load_file(os.path.join(out, "prompt_encoder.safetensors")))
    end, end64 = ({**a, **b} for a, b in (trained_in(model), trained_in(double)))
    complete = mine.keys() == end.keys()
    weights = max(float((mine[n].double() - end[n].double()).norm() / end[n].double().norm()) for n in end if n in mine)
    noise = max(float((end64[n] - end[n].double()).norm() / end[n].double().norm()) for n in end)
    report.line(name + ": 20 steps", complete and len(log) == STEPS and loss <= 1e-5 and norm <= 1e-3
                and weights <= max(1e-5, 3 * noise),
                f"loss {want[0][0]:.3f} -> {want[-1][0]:.3f}: off by {loss:.1e} in losses, {norm:.1e} in norms, "
                f"{weights:.1e} in weights (noise {noise:.1e})")


def family_steps(ft, family, method, work, report, name):
    base, config = os.path.join(work, "base"), FAMILIES[family]
    build_model(dict(config)).save_pretrained(base)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(ROOT, "data", "tiny", file), base)
    least = 1 if rows_before(method) else 2
    most = config.get("n_positions", 24) - method["num_virtual_tokens"]
    # transformers keeps the frequencies of the longest row seen under dynamic scaling
    rows = make_rows(config["vocab_size"], STEPS * BATCH, most if "dynamic" in family else least, most)
    compare_training(ft, work, base, method, rows, report, name)


def run_case(ft, name, work, report):
    base_name, method = CASES[name]
    if name not in MODEL_CASES:
        return family_steps(ft, base_name, method, work, report, name)
    base = os.path.join(work, "base")
    plain = make_model(base_name, base)
    vocab, virtual = plain.config.vocab_size - PADDING, rows_before(method)
    rows = make_rows(vocab, STEPS * BATCH, 1 if virtual else 2, 23)
    tests = token_rows(vocab, (12, 31, 2))

    adapter = train_ft(ft, work, method, rows, "out", max_steps=6)
    model = load_peft(base, adapter, report, name)
    want = compare_scores(ft, base, adapter, model, virtual, tests, report, name + ": score")
    moved = max(abs(a - b) for (x, _), (y, _) in zip(want, hf_logprobs(plain, tests)) for a, b in zip(x, y))
    report.line(name + ": moves", moved > 1e-2, f"log-probabilities by {moved:.2f}")
    answers = ft_continue(ft, base, adapter, TEXTS, 12)
    same = all(a == b[:len(a)] for a, b in zip(answers, peft_continue(model, base, TEXTS, 12)))
    report.line(name + ": generate", same and len(answers) == len(TEXTS),
                f"{len(answers)} texts together, {sum(map(len, answers))} tokens")

    torch.manual_seed(3)
    theirs = attach(base, method)
    theirs.save_pretrained(os.path.join(work, "theirs"))
    compare_scores(ft, base, os.path.join(work, "theirs"), theirs.eval(), virtual, tests, report, name + ": from PEFT")
    compare_training(ft, work, base, method, rows, report, name)


if __name__ == "__main__":
    run_cases(CASES, run_case)
