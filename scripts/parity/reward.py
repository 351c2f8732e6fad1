#!/usr/bin/env python3
"""reward.py - reward models: 20 optimizer steps of ft's objective reward against TRL's RewardTrainer (1.16), and the rewards of
`ft score` against transformers' classifiers and PEFT's adapters, on random models.

    python scripts/parity/reward.py FT [--only NAME]

Compares loss, grad_norm and the logged figures of every step, the trained tensors at the end, and rewards of ids with and
without padding behind them: of the base, of what was trained as ft and as transformers reads it, and of what merge-adapter
makes of it. What transformers or PEFT find missing or unexpected in a folder of ft's fails a case.
"""
import json
import os
import random
import shutil

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch

from harness import MODELS, ROOT, make_model, run_cases, run_ft
from preference import STEPS, make_records
from runs import begin_elsewhere, constant_rate, figures_apart, run_config, saved, tensors_of, weights_apart

LORA = {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "up_proj"]}
GPT2 = {**LORA, "target_modules": ["c_attn", "c_fc"]}
FULL = {"type": "full"}
CASES = {
    # name: (model, method, objective's keys, margins, the model's pad token, pairs a step, micro-batch)
    "llama lora": ("llama", LORA, {}, False, None, 4, 2),
    "llama full": ("llama-one-layer-tied", FULL, {}, False, None, 4, 3),
    "llama wide": ("llama-wide-heads", LORA, {"center_rewards_coefficient": 0.01}, False, 1, 4, 1),
    "llama rope": ("llama-rope-llama3", LORA, {}, True, None, 3, 2),
    "mistral lora": ("mistral", LORA, {}, True, None, 4, 4),
    "mistral full": ("mistral-no-window", FULL, {"center_rewards_coefficient": 0.1}, True, None, 4, 1),
    "qwen2 lora": ("qwen2-window", LORA, {"center_rewards_coefficient": 0.05}, True, None, 4, 2),
    "qwen2 full": ("qwen2", FULL, {}, False, None, 4, 2),
    "qwen3 lora": ("qwen3", LORA, {}, False, 2, 4, 3),
    "qwen3 full": ("qwen3-bias-tied", FULL, {"center_rewards_coefficient": 0.01}, False, None, 2, 1),
    "gpt2 lora": ("gpt2", GPT2, {}, False, None, 4, 2),
    # without the centre a shift of all rewards, GPT-2's last bias, has no gradient but rounding, which Adam scales up
    "gpt2 full": ("gpt2-relu-inner", FULL, {"center_rewards_coefficient": 0.02}, True, None, 4, 2),
}


def make_classifier(name, folder, pad):
    """The classifier that transformers makes of make_model's language model, with a head of its own."""
    from transformers import AutoModelForSequenceClassification

    make_model(name, folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    torch.manual_seed(4)
    with torch.no_grad():
        model.score.weight.normal_(0.0, 0.1)
    shutil.rmtree(folder)
    model.config.pad_token_id = pad
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(ROOT, "data", "tiny", file), folder)


def load_classifier(folder):
    """The model, and what transformers found missing or unexpected."""
    from transformers import AutoModelForSequenceClassification

    model, told = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    return model.eval(), [k for key in ("missing_keys", "unexpected_keys", "mismatched_keys") for k in told[key]]


def run_trl(folder, records, method, keys, batch, work):
    from datasets import Dataset
    from peft import LoraConfig, TaskType
    from transformers import AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = RewardConfig(
        output_dir=os.path.join(work, "trl"), per_device_train_batch_size=batch, max_steps=STEPS, learning_rate=2e-3,
        lr_scheduler_type="constant", logging_steps=1, report_to=[], save_strategy="no", max_grad_norm=1.0, bf16=False,
        use_cpu=True, train_sampling_strategy="sequential", gradient_checkpointing=False, max_length=64, weight_decay=0.0,
        seed=1, optim="adamw_torch", disable_tqdm=True, **keys)
    model, _ = load_classifier(folder)
    peft = None
    if method["type"] == "lora":
        peft = LoraConfig(task_type=TaskType.SEQ_CLS, r=method["r"], lora_alpha=method["lora_alpha"],
                          target_modules=method["target_modules"], lora_dropout=0.0, modules_to_save=["score"])
    trainer = RewardTrainer(model=model, args=config, train_dataset=Dataset.from_list(records), processing_class=tokenizer,
                            **({"peft_config": peft} if peft else {}))
    if peft:
        begin_elsewhere(trainer.model, work)
    trainer.train()
    return trainer.model, [row for row in trainer.state.log_history if "loss" in row]


def train_records(count, margins):
    draw = random.Random(7)
    records = make_records("dpo", count)
    for record in records:
        if draw.random() < 0.3:
            record["chosen"] += "<|endoftext|>"  # EOS stands there once
        if margins:
            record["margin"] = round(draw.uniform(0, 2), 3)
    return records


def rows_of(vocab, pad):
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(3, vocab, (n,), generator=generator).tolist() for n in (1, 2, 5, 9, 17, 30)]
    pad = 0 if pad is None else pad
    return rows + [row + [pad] * k for k, row in enumerate(rows)] + [rows[3][:4] + [pad] + rows[3][4:]]


def ft_rewards(ft, folder, rows, adapter=None):
    lines = "".join(json.dumps({"id": i, "tokens": row}) + "\n" for i, row in enumerate(rows))
    more = ["--adapter", adapter] if adapter else []
    done = run_ft(ft, "score", "--model", folder, *more, "--precision", "f32", stdin=lines)
    out = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["id"] for row in out] == list(range(len(rows))), "order of the rows"
    return [row["reward"] for row in out]


def hf_rewards(model, rows):
    with torch.no_grad():
        return [float(model(input_ids=torch.tensor([row])).logits[0, 0]) for row in rows]


def apart(a, b):
    return max(abs(x - y) / max(1.0, abs(y)) for x, y in zip(a, b))


def judge(ft, folder, out, adapter, pad, vocab):
    """Of what was trained: the largest difference of rewards, and what transformers or PEFT did not find."""
    from peft import PeftModel

    rows = rows_of(vocab, pad)
    if not adapter:
        model, told = load_classifier(out)
        return apart(ft_rewards(ft, out, rows), hf_rewards(model, rows)), told
    base, told = load_classifier(folder)
    base.config.pad_token_id = pad
    model = PeftModel.from_pretrained(base, out).eval()
    loaded = model.load_adapter(out, adapter_name="again")
    told += loaded.unexpected_keys + [k for k in loaded.missing_keys if "again" in k]
    model.set_adapter("default")
    want = hf_rewards(model, rows)
    worst = apart(ft_rewards(ft, folder, rows, out), want)
    merged = os.path.join(os.path.dirname(out), "merged")
    run_ft(ft, "merge-adapter", out, "--base", folder, "--out", merged, "--type", "f32", "-q")
    whole, more = load_classifier(merged)
    worst = max(worst, apart(hf_rewards(whole, rows), want), apart(ft_rewards(ft, merged, rows), want))
    return worst, told + more


def run_case(ft, name, work, report):
    model_name, method, keys, margins, pad, batch, micro = CASES[name]
    vocab = MODELS[model_name]["vocab_size"]
    folder = os.path.join(work, "model")
    make_classifier(model_name, folder, pad)
    rows = rows_of(vocab, pad)
    base = apart(ft_rewards(ft, folder, rows), hf_rewards(load_classifier(folder)[0], rows))
    records = train_records(batch * STEPS, margins)
    data = os.path.join(work, "train.jsonl")
    with open(data, "w") as out:
        out.writelines(json.dumps(r) + "\n" for r in records)
    model, history = run_trl(folder, records, method, keys, batch, work)
    adapter = method["type"] == "lora"
    own = {"type": "lora", "init_from": os.path.join(work, "init")} if adapter else method
    log = run_config(ft, work, {
        "model": {"path": folder}, "method": own, "objective": {"type": "reward", **keys},
        "data": {"train": data, "max_length": 64, "shuffle": False}, "optim": constant_rate(2e-3),
        "train": {"batch_size": batch, "max_steps": STEPS, "micro_batch_size": micro, "precision": "f32"}})
    worst = figures_apart(log, history, lambda key: 0.1 if key == "loss" else 1.0,
                          ("step", "epoch", "learning_rate", "tokens"))
    final, want = saved(work, adapter), tensors_of(model, adapter)
    weights = weights_apart(final, want)
    trained_pad = model.config.pad_token_id
    rewards, told = judge(ft, folder, os.path.join(work, "out"), adapter, trained_pad, vocab)
    ok = (len(log) == len(history) == STEPS and weights < 1e-4 and max(worst.values()) < 1e-4 and base < 1e-5
          and rewards < 1e-5 and not told and sorted(final) == sorted(want))
    key, most = max(worst.items(), key=lambda item: item[1])
    report.line(name, ok, f"loss {worst['loss']:.1e}, {key} {most:.1e}, weights {weights:.1e}; rewards: base {base:.1e}, "
                          f"trained {rewards:.1e}{'; ' + ' '.join(told[:3]) if told else ''}")


if __name__ == "__main__":
    run_cases(CASES, run_case)
