#!/usr/bin/env python3
"""rollouts.py - 20 optimizer steps of ft's objectives over completions against TRL's GRPO and RLOO trainers (1.16), whose
completions are forced: both replay the same ids with the same rewards, on random models.

    python scripts/parity/rollouts.py FT [--only NAME]

Needs trl and datasets beside what harness.py names. Compares loss, grad_norm and the logged figures of every step, and the
trained tensors at the end.
"""
import json
import os
import random

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch

from harness import load_model, make_model, run_cases
from runs import begin_elsewhere, constant_rate, figures_apart, run_config, saved, tensors_of, told, weights_apart

STEPS = 20
LENGTH = 12  # tokens of a completion, at most
LORA = {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "up_proj"]}
GPT2 = {"type": "lora", "r": 3, "lora_alpha": 8, "target_modules": ["c_attn", "c_fc"]}
FULL = {"type": "full"}


def grpo(**objective):
    return {"type": "grpo", "num_generations": 4, **objective}


def rloo(**objective):
    return {"type": "rloo", "num_generations": 4, **objective}


CASES = {
    # name: (model, method, objective, prompts a batch, micro-batch, learning rate)
    "grpo dapo": ("llama", LORA, grpo(), 2, 3, 2e-3),
    "grpo dapo full": ("qwen3", FULL, grpo(), 2, 4, 1e-3),
    "grpo dapo beta": ("mistral", LORA, grpo(beta=0.04), 2, 3, 2e-3),
    "grpo loss grpo": ("llama", LORA, grpo(loss_type="grpo", beta=0.1), 2, 3, 2e-3),
    "grpo bnpo": ("llama", LORA, grpo(loss_type="bnpo"), 2, 8, 2e-3),
    "grpo dr_grpo": ("llama", LORA, grpo(loss_type="dr_grpo", scale_rewards="none"), 2, 3, 2e-3),
    "grpo cispo": ("llama", LORA, grpo(loss_type="cispo", epsilon_high=1.5, num_iterations=2), 2, 3, 2e-3),
    "grpo iterations": ("llama", LORA, grpo(num_iterations=4, epsilon=0.05), 2, 3, 2e-2),
    "grpo iterations beta": ("llama", LORA, grpo(num_iterations=2, beta=0.2, epsilon_high=0.28), 2, 3, 1e-2),
    "grpo no bias correction": ("llama", LORA, grpo(num_iterations=2, beta=0.2, use_bias_correction_kl=False), 2, 3, 1e-2),
    "grpo sequence": ("llama", LORA, grpo(importance_sampling_level="sequence", num_iterations=4, epsilon=3e-3, beta=0.1), 2, 3, 1e-2),
    "grpo delta": ("llama", LORA, grpo(num_iterations=4, delta=1.05, epsilon=0.02), 2, 3, 2e-2),
    "grpo low delta": ("llama", LORA, grpo(num_iterations=4, delta=0.99, epsilon=0.2), 2, 3, 2e-2),
    "grpo batch": ("llama", LORA, grpo(scale_rewards="batch"), 3, 5, 2e-3),
    "grpo masked": ("llama", LORA, grpo(mask_truncated_completions=True, beta=0.1), 2, 3, 2e-3),
    "grpo masked sequence": ("llama", LORA, grpo(mask_truncated_completions=True, num_iterations=2, epsilon=1e-3,
                                                 importance_sampling_level="sequence"), 2, 3, 1e-2),
    "grpo temperature": ("llama", LORA, grpo(temperature=0.7, num_iterations=2), 2, 3, 2e-3),
    "grpo gpt2": ("gpt2", GPT2, grpo(temperature=1.4, beta=0.1), 2, 3, 2e-3),
    "grpo bitfit": ("qwen2", {"type": "bitfit"}, grpo(beta=0.1), 2, 3, 2e-3),
    "rloo": ("llama", LORA, rloo(), 2, 3, 2e-3),
    "rloo pairs full": ("llama-one-layer-tied", FULL, rloo(num_generations=2, beta=0.2), 3, 2, 1e-3),
    "rloo without reference": ("llama", LORA, rloo(beta=0.0), 2, 3, 2e-3),
    "rloo iterations": ("llama", LORA, rloo(num_iterations=4, epsilon=0.05), 2, 3, 1e-2),
    "rloo normalized": ("llama", LORA, rloo(normalize_advantages=True, temperature=1.3), 2, 3, 2e-3),
    "rloo clipped": ("llama", LORA, rloo(reward_clip_range=[-0.3, 0.6]), 2, 3, 2e-3),
}


def make_rollouts(objective, batch, eos, vocab, even=False):
    """Lines of rollouts.jsonl, as far as a replay needs them: `batch` prompts by turns, most of them ended; even: prompts of
    one length, where positions are learned, as TRL counts them from the padding on."""
    draw = random.Random(7)
    lines = []
    for _ in range(STEPS // objective.get("num_iterations", 1)):
        for _ in range(batch):
            prompt = [draw.randrange(3, vocab) for _ in range(4 if even else draw.randint(1, 6))]
            for _ in range(objective["num_generations"]):
                ids = [draw.randrange(3, vocab) for _ in range(draw.randint(1, LENGTH - 1))]
                ids = [i if i != eos else 3 for i in ids]
                ended = draw.random() < 0.7
                lines.append({"prompt_ids": prompt, "completion_ids": ids + ([eos] if ended else []),
                              "reward": round(draw.uniform(-1, 1), 3), "finished": ended})
    return lines


def forced(trainer_class, kind):
    """The trainer, which takes its completions from `self.lines` in order."""
    class Forced(trainer_class):
        lines, at = None, 0

        def take(self, n):
            lines = self.lines[self.at:self.at + n]
            self.at += n
            return lines

        if kind == "rloo":
            def _tokenize_prompts(self, prompts):
                self.now = self.take(len(prompts))
                return [line["prompt_ids"] for line in self.now], None, {}

            def _generate_single_turn(self, *args, **kwargs):
                return [line["completion_ids"] for line in self.now]
    return Forced


def trl_keys(objective):
    keys = {k: v for k, v in objective.items() if k not in ("type", "num_generations")}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in keys.items()}


def run_trl(folder, lines, method, objective, batch, rate, work):
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    torch.manual_seed(0)
    kind = objective["type"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    generations = objective["num_generations"]
    config = (GRPOConfig if kind == "grpo" else RLOOConfig)(
        output_dir=os.path.join(work, "trl"), per_device_train_batch_size=batch * generations, max_steps=STEPS,
        learning_rate=rate, lr_scheduler_type="constant", logging_steps=1, report_to=[], save_strategy="no",
        max_grad_norm=1.0, bf16=False, use_cpu=True, gradient_checkpointing=False, weight_decay=0.0, seed=1,
        optim="adamw_torch", disable_tqdm=True, num_generations=generations, max_completion_length=LENGTH,
        shuffle_dataset=False, **trl_keys(objective))
    model = load_model(folder)
    for p in model.modules():
        if isinstance(p, torch.nn.Dropout):
            p.p = 0.0
    peft, given = None, {}
    if method["type"] == "lora":
        peft = LoraConfig(task_type="CAUSAL_LM", r=method["r"], lora_alpha=method["lora_alpha"],
                          target_modules=method["target_modules"], lora_dropout=0.0)
    if method["type"] == "bitfit":
        for name, p in model.named_parameters():
            p.requires_grad_(name.endswith(".bias"))
    rewards = iter([line["reward"] for line in lines])

    def worth(completions, **_):
        return [next(rewards) for _ in completions]

    if kind == "grpo":
        def rollout(prompts, trainer):
            now = trainer.take(len(prompts))
            return {"prompt_ids": [line["prompt_ids"] for line in now],
                    "completion_ids": [line["completion_ids"] for line in now],
                    "logprobs": [[0.0] * len(line["completion_ids"]) for line in now]}
        given["rollout_func"] = rollout
    trainer = forced(GRPOTrainer if kind == "grpo" else RLOOTrainer, kind)(
        model=model, args=config, reward_funcs=worth, processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": "x"}] * (batch * STEPS)),
        **given, **({"peft_config": peft} if peft else {}))
    trainer.lines = lines
    if peft:
        begin_elsewhere(trainer.model, work)
    trainer.train()
    return trainer.model, [row for row in trainer.state.log_history if "loss" in row]


def ft_config(folder, data, method, objective, batch, micro, rate, work):
    """The same run; from adapters TRL begins as the base without them."""
    own, adapter = dict(objective), method["type"] == "lora"
    own.update(rollouts=data, max_completion_length=LENGTH)
    if adapter:
        method = {"type": "lora", "init_from": os.path.join(work, "init")}
        if own.get("beta", 0.05) != 0:
            own["reference"] = "base"
    return {"model": {"path": folder}, "method": method, "objective": own, "data": {"max_length": 64},
            "optim": constant_rate(rate),
            "train": {"batch_size": batch, "max_steps": STEPS, "micro_batch_size": micro, "precision": "f32"}}


def run_case(ft, name, work, report):
    from transformers import AutoConfig, AutoTokenizer
    model_name, method, objective, batch, micro, rate = CASES[name]
    folder = os.path.join(work, "model")
    make_model(model_name, folder)
    lines = make_rollouts(objective, batch, AutoTokenizer.from_pretrained(folder).eos_token_id,
                          AutoConfig.from_pretrained(folder).vocab_size, even=model_name == "gpt2")
    data = os.path.join(work, "rollouts.jsonl")
    with open(data, "w") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)
    model, history = run_trl(folder, lines, method, objective, batch, rate, work)
    adapter = method["type"] == "lora"
    log = run_config(ft, work, ft_config(folder, data, method, objective, batch, micro, rate, work))
    worst = figures_apart(log, history, lambda key: 1e-2, ("step", "epoch", "learning_rate", "tokens"))
    weights = weights_apart(saved(work, adapter), tensors_of(model, adapter))
    ok = len(log) == len(history) == STEPS and weights < 1e-4 and worst["loss"] < 1e-4
    report.line(name, ok, told(worst, weights))


if __name__ == "__main__":
    run_cases(CASES, run_case)
