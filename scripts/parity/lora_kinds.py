"""lora_kinds.py - what is made of LoRA (DoRA, LoRA-FA, PiSSA, OLoRA), both ways between ft and PEFT.

    python scripts/parity/lora_kinds.py FT [--only WORD]

As adapter.py, on other shapes: ft trains an adapter for a few steps, PEFT loads it with nothing missing and
nothing unexpected, both score and merge it alike; then PEFT writes a random one and ft scores it as PEFT does.
"""
import argparse
import tempfile

import adapter
from harness import PADDING, Report, ft_logprobs, hf_logprobs, make_model, token_rows, worst_logprob

DORA = {"type": "dora"}
CASES = {
    "dora all-linear": ("llama", {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}, DORA),
    "dora one layer": ("llama-one-layer-tied", {"r": 3, "lora_alpha": 5,
                                                           "target_modules": ["o_proj", "q_proj"]}, DORA),
    "dora wide heads, biases": ("llama-wide-heads", {"r": 1, "lora_alpha": 3, "use_rslora": True, "bias": "all",
                                                     "target_modules": ["q_proj", "v_proj", "o_proj"]}, DORA),
    "dora mlp bias": ("llama-mlp-bias", {"r": 5, "lora_alpha": 3, "rank_pattern": {"up_proj": 2},
                                         "target_modules": ["up_proj", "down_proj"]}, DORA),
    "dora on bf16": ("llama-bf16", {"r": 4, "lora_alpha": 8, "target_modules": ["k_proj", "gate_proj"]}, DORA),
    "dora qwen3": ("qwen3-bias-tied", {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}, DORA),
    "dora gpt2": ("gpt2", {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj", "wpe"]}, DORA),
    "dora with dropout": ("mistral", {"r": 4, "lora_alpha": 8, "lora_dropout": 0.3,
                                      "target_modules": ["q_proj", "k_proj", "down_proj"]}, DORA),
    "lorafa": ("llama", {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}, {"type": "lorafa"}),
    "lorafa gpt2": ("gpt2-relu-inner", {"r": 5, "lora_alpha": 4, "target_modules": ["c_attn", "c_fc"]},
                    {"type": "lorafa"}),
    "pissa": ("llama", {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "init_lora_weights": "pissa"}, {}),
    "pissa patterns": ("qwen3", {"r": 3, "lora_alpha": 2, "target_modules": ["o_proj", "gate_proj"],
                                 "rank_pattern": {"gate_proj": 7}, "alpha_pattern": {"1.self_attn.o_proj": 9},
                                 "init_lora_weights": "pissa"}, {}),
    "pissa gpt2": ("gpt2", {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj"],
                            "init_lora_weights": "pissa"}, {}),
    "pissa one layer, rslora": ("llama-one-layer-tied", {"r": 8, "lora_alpha": 4, "use_rslora": True,
                                                         "target_modules": ["v_proj", "up_proj"],
                                                         "init_lora_weights": "pissa"}, {}),
    "olora": ("qwen2", {"r": 5, "lora_alpha": 2, "target_modules": ["q_proj", "k_proj", "down_proj"],
                        "init_lora_weights": "olora"}, {}),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ft")
    parser.add_argument("--only")
    arguments = parser.parse_args()
    report = Report()
    for name, (base_name, method, ours) in CASES.items():
        if arguments.only and arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as work:
            base = f"{work}/base"
            plain = make_model(base_name, base)
            vocab = plain.config.vocab_size - PADDING
            rows = token_rows(vocab, (12, 31, 2))
            folder = adapter.train(arguments.ft, work, base, {**method, **ours}, vocab)
            model = adapter.load_peft(base, folder, report, name)
            want = hf_logprobs(model, rows)
            worst = worst_logprob(ft_logprobs(arguments.ft, base, rows, folder), want)
            report.line(name + ": score", worst <= 1e-4, f"worst |d logprob| {worst:.2e}")
            adapter.compare_merge(arguments.ft, work, base, folder, model, report, name)
            peft = {k: v for k, v in method.items() if k != "lora_dropout"}
            if ours == DORA:
                peft["use_dora"] = True
            adapter.from_peft(arguments.ft, work, base, peft, rows, report,
                              "gpt2 " + name if base_name.startswith("gpt2") else name)
    report.end()


if __name__ == "__main__":
    main()
