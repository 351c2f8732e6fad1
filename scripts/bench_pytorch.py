#!/usr/bin/env python3
"""bench_pytorch.py - the work of `ft bench` in PyTorch + PEFT: LoRA r 8 on all linear layers, AdamW, f32.

    python scripts/bench_pytorch.py MODEL [--batch 4] [--length 512] [--steps 3] [--compile]

MODEL is a Hugging Face folder. Random token ids, every token supervised, one batch a step. Prints seconds of each step
(the first one apart), tokens/s of the best, and peak memory. Needs torch, transformers and peft.
"""
import argparse
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--length", type=int, default=512)
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--compile", action="store_true")
    a = p.parse_args()
    start = time.time()
    base = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    forward = torch.compile(model) if a.compile else model
    optim = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-3)
    ids = torch.randint(100, base.config.vocab_size, (a.batch, a.length))
    print(f"start-up {time.time() - start:.1f} s, {torch.get_num_threads()} threads, torch {torch.__version__}")
    best = None
    for step in range(a.steps + 1):
        t = time.time()
        loss = forward(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        optim.zero_grad()
        seconds = time.time() - t
        print(f"step {step}: {seconds:.2f} s, loss {loss.item():.4f}")
        if step > 0:
            best = min(best or seconds, seconds)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{a.batch * a.length / best:.0f} tokens/s, peak {rss:.0f} MiB")


main()
