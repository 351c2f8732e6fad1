#!/usr/bin/env python3
"""bench_peers_worker.py - PyTorch's side of scripts/bench_peers.py: one mode of one work in a process of its own.

    python scripts/bench_peers_worker.py JOB.json

Loads, says {"ready": seconds}, and then answers lines on stdin: "N" does N steps and gives {"seconds": [...], "losses":
[...]}; "end" gives {"peak": bytes}. JOB: work (lora, qlora, full, score), weights and adapter_weights (f32, bf16), autocast
(to bf16), compile, model, adapter, rows (a JSON file: lists of token ids), batch, rate, threads.
"""
import json
import os
import sys
import time

started = time.time()
job = json.load(open(sys.argv[1]))
os.environ["OMP_NUM_THREADS"] = str(job["threads"])
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import AutoModelForCausalLM, logging

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever a library prints is no answer
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(job["threads"])
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def answer(**what):
    print(json.dumps(what), file=answers, flush=True)


def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024


def load():
    how = {"dtype": TYPES[job["weights"]], "attn_implementation": "sdpa"}
    if job["work"] == "qlora":
        from transformers import BitsAndBytesConfig

        how["device_map"] = "cpu"
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=how["dtype"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], **how)
    if job["work"] in ("lora", "qlora"):
        from peft import PeftModel

        # PEFT keeps an adapter in f32 on weights in bf16 unless it is told not to.
        model = PeftModel.from_pretrained(model, job["adapter"], is_trainable=True,
                                          autocast_adapter_dtype=job["adapter_weights"] == "f32")
    return model.train(job["work"] != "score")


def batches():
    rows = json.load(open(job["rows"]))
    at = 0
    while True:
        yield torch.tensor([rows[(at + i) % len(rows)] for i in range(job["batch"])])
        at += job["batch"]


def training(model):
    forward = torch.compile(model) if job["compile"] else model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job["rate"], weight_decay=0.0)

    def step(ids):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=job["autocast"]):
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return loss.item()

    return step


def scoring(model):
    forward = torch.compile(model) if job["compile"] else model

    def step(ids):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=job["autocast"]):
            logits = forward(input_ids=ids, use_cache=False).logits[:, :-1]
            nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(),
                                                    reduction="none")
            return nll.double().mean().item()

    return step


def main():
    model = load()
    step = (scoring if job["work"] == "score" else training)(model)
    data = batches()
    answer(ready=time.time() - started)
    for line in sys.stdin:
        if line.strip() == "end":
            answer(peak=peak())
            return
        seconds, losses = [], []
        for _ in range(int(line)):
            ids = next(data)
            t = time.time()
            losses.append(step(ids))
            seconds.append(time.time() - t)
        answer(seconds=seconds, losses=losses)


main()
