#!/usr/bin/env python3
"""qlora.py - method qlora on folders in 4 bits against transformers, bitsandbytes and PEFT themselves.

    python scripts/parity/qlora.py FT [--only NAME]

The folder is quantised by transformers, or by `ft convert` (then its codes are compared too); 20 optimizer steps of
PEFT's LoRA go through bitsandbytes' own layers, on the CPU, in float32. Needs bitsandbytes and accelerate. Rows of the
matrices are multiples of a block: elsewhere bitsandbytes' vectorised kernel is wrong (0.50).
"""
import json
import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"
import torch
from safetensors.torch import load_file

import harness
from harness import make_model, run_cases, run_ft, shape, token_rows

STEPS, BATCH = 20, 4
harness.MODELS.update({
    "llama-64": shape("llama", hidden_size=64, intermediate_size=192, num_attention_heads=4, num_key_value_heads=2),
    "qwen2-64": shape("qwen2", hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=4,
                      tie_word_embeddings=True),
    "gpt2-64": {"model_type": "gpt2", "vocab_size": 643, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64,
                "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
})
CASES = {
    # name: (model, type, double quantised, made by)
    "llama nf4 double": ("llama-64", "nf4", True, "transformers"),
    "llama nf4 double, by ft": ("llama-64", "nf4", True, "ft"),
    "gpt2 fp4": ("gpt2-64", "fp4", False, "transformers"),
    "gpt2 fp4, by ft": ("gpt2-64", "fp4", False, "ft"),
    "qwen2 nf4": ("qwen2-64", "nf4", False, "transformers"),
    "qwen2 nf4 double, by ft": ("qwen2-64", "nf4", True, "ft"),
}


def quantise(ft, source, folder, kind, double, maker):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if maker == "ft":
        run_ft(ft, "convert", source, "--out", folder, "--type", kind, "--double-quant", "true" if double else "false")
    else:
        how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double)
        made = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, device_map="cpu",
                                                    quantization_config=how)
        made.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            harness.shutil.copy(os.path.join(source, name), folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu")


def other_codes(plain, coded):
    """Bytes of codes that are not those of bitsandbytes.functional.quantize_4bit."""
    import bitsandbytes.functional as F

    layers, wrong = dict(plain.named_modules()), 0
    for name, layer in coded.named_modules():
        if type(layer).__name__ == "Linear4bit":
            weight, state = layers[name].weight.data, layer.weight.quant_state
            weight = weight.T.contiguous() if type(layers[name]).__name__ == "Conv1D" else weight
            want, _ = F.quantize_4bit(weight, blocksize=state.blocksize, quant_type=state.quant_type)
            wrong += int((want != layer.weight.data).sum())
    return wrong


def reference(model, rows):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: max(0.0, (STEPS - s) / STEPS))
    losses = []
    for step in range(STEPS):
        total, count = 0.0, 0
        for ids in [rows[(BATCH * step + i) % len(rows)] for i in range(BATCH)]:
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            total = total + torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")
            count += len(ids) - 1
        optimizer.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(total.detach()) / count)
    return losses


def run_case(ft, name, work, report):
    from peft import LoraConfig, get_peft_model

    kind, quant, double, maker = CASES[name]
    source, folder = os.path.join(work, "source"), os.path.join(work, "coded")
    plain = make_model(kind, source)
    coded = quantise(ft, source, folder, quant, double, maker)
    wrong = other_codes(plain, coded)
    targets = ["c_attn", "c_fc"] if "gpt2" in kind else ["q_proj", "v_proj", "down_proj"]
    model = get_peft_model(coded.train(), LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0,
                                                     target_modules=targets))
    torch.manual_seed(7)
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            parameter.data.uniform_(-0.02, 0.02)
    model.save_pretrained(os.path.join(work, "init"))
    rows = token_rows(640, [8 + (5 * i + i * i) % 30 for i in range(12)])
    want = reference(model, rows)
    model.save_pretrained(os.path.join(work, "peft"))
    with open(os.path.join(work, "train.jsonl"), "w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for ids in rows)
    config = {"model": {"path": "coded"}, "method": {"type": "qlora", "r": 4, "lora_alpha": 8, "init_from": "init",
                                                     "target_modules": targets},
              "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "shuffle": False, "max_length": 64},
              "optim": {"learning_rate": 1e-3, "lr_scheduler_type": "linear"},
              "train": {"max_steps": STEPS, "batch_size": BATCH, "precision": "f32"}, "output": {"dir": "out"}}
    with open(os.path.join(work, "config.json"), "w", encoding="utf-8") as out:
        json.dump(config, out)
    run_ft(ft, "train", os.path.join(work, "config.json"))
    with open(os.path.join(work, "out", "log.jsonl"), encoding="utf-8") as lines:
        have = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    a, b = (load_file(os.path.join(work, d, "adapter_model.safetensors")) for d in ("out", "peft"))
    weights = max(float((a[k] - b[k]).norm() / b[k].norm()) for k in b)
    loss = max(abs(x - y) / y for x, y in zip(have, want))
    report.line(name, len(have) == STEPS and wrong == 0 and a.keys() == b.keys() and loss <= 1e-5 and weights <= 1e-4,
                f"{wrong} codes differ; loss {want[0]:.3f} -> {want[-1]:.3f}: off by {loss:.1e} in losses, "
                f"{weights:.1e} in weights")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_cases(CASES, run_case)
