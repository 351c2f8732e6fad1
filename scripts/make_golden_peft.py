#!/usr/bin/env python3
"""make_golden_peft.py - adapters written by the real PEFT, what they compute, and training runs.

    python scripts/make_golden_peft.py [--out tests/golden/peft]

The base models are those of tests/golden/families (config.json there, weights by the weight rule of
scripts/oracle.py); `base` in golden.json names the case.

An adapter case:

    CASE/adapter/adapter_config.json, adapter_model.safetensors     as PEFT saved them
    CASE/golden.json            {"base": family case, "changed": [names of merged tensors]}; a prompt has none
    CASE/golden.safetensors
        lengths, ids            I32, as in the family goldens
        logits                  F32 [N, V], adapter on (of virtual tokens: none)
        base_logits             F32 [N, V], adapter off
        merged.NAME             F32, base weight NAME after merge_and_unload, where it changed
    ../peft_counts.h            how many values PEFT trains for configs with far-reaching names

A training case (train_*): 20 optimizer steps of torch.optim.AdamW, of LoRA+ as peft.optimizers makes it, linear schedule with
warm-up, clip_grad_norm_ 1.0, two epochs over 30 ragged rows in file order, 3 rows a step, loss = token
mean over the supervised positions of the whole step, no dropout.

    CASE/train.jsonl            rows in the `tokens` format
    CASE/config.json            the run as a config; model.path is a placeholder ("model")
    CASE/init/                  of adapters: the one to start from (method.init_from); of one with an encoder also that
    CASE/encoder.safetensors    of an encoder: its final.NAME, beside the prompt it makes in golden.safetensors
    CASE/golden.json            {"base": family case}
    CASE/golden.safetensors
        losses, learning_rates, grad_norms   F32 [20], norms before clipping
        final.NAME              F32, trained tensors after step 20 (names as in the result's file)
prompt_text.safetensors, beside these folders: prompts that PEFT begins with on data/tiny for the texts and
lengths of PROMPT_TEXTS.

The script prints how far the same run in float64 ends from this one: the slack a reader may need.
"""
import argparse
import json
import os
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_golden import CASES, IGNORE, sequences, token_rows
from oracle import build_model, loss_sum, write_json

HERE = os.path.dirname(os.path.abspath(__file__))

ADAPTERS = {
    "llama_lora": ("llama", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    "llama_patterns": ("llama", {
        "r": 4, "lora_alpha": 8, "target_modules": "all-linear", "use_rslora": True,
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.down_proj": 6},
        "alpha_pattern": {"o_proj": 3, "model.layers.0.mlp.up_proj": 16}}),
    "llama_saved_head": ("llama", {"r": 4, "lora_alpha": 8, "target_modules": ["o_proj", "gate_proj"],
                                   "modules_to_save": ["lm_head"]}),
    "llama_bias_all": ("llama_bias_tied", {"r": 4, "lora_alpha": 8, "bias": "all",
                                           "target_modules": ["q_proj", "down_proj"]}),
    "qwen2_layers": ("qwen2", {"r": 4, "lora_alpha": 6, "target_modules": ["k_proj", "up_proj"],
                               "layers_to_transform": [1]}),
    "gpt2_lora": ("gpt2", {"r": 4, "lora_alpha": 8, "fan_in_fan_out": True,
                           "target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "gpt2_patterns": ("gpt2", {"r": 4, "lora_alpha": 8, "fan_in_fan_out": True, "use_rslora": True,
                               "target_modules": ["c_attn", "mlp.c_proj"], "rank_pattern": {"c_attn": 3},
                               "alpha_pattern": {"h.1.mlp.c_proj": 12}}),
    "llama_saved_norms": ("llama", {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
                                    "modules_to_save": ["norm"]}),
    "qwen3_saved_norms": ("qwen3", {"r": 2, "lora_alpha": 4, "target_modules": ["v_proj"],
                                    "exclude_modules": r".*\.0\..*", "modules_to_save": ["norm"]}),
    "gpt2_saved_mlp": ("gpt2", {"r": 2, "lora_alpha": 4, "fan_in_fan_out": True, "bias": "all",
                                "target_modules": ["c_attn"], "modules_to_save": ["1.mlp"]}),
    "mistral_layers_pattern": ("mistral", {"r": 2, "lora_alpha": 4, "layers_to_transform": [0],
                                           "layers_pattern": "(model\\.layers|h)",
                                           "target_modules": ["v_proj", "model.layers.1.mlp.up_proj"],
                                           "exclude_modules": ["0.self_attn.q_proj"]}),
    # Ranks that are odd, or one; both ends of a model, with rules of their own.
    "mistral_odd": ("mistral", {"r": 5, "lora_alpha": 3, "target_modules": "all-linear"}),
    "qwen3_rank_one": ("qwen3", {"r": 1, "lora_alpha": 3, "target_modules": "all-linear"}),
    "llama_ends": ("llama", {"r": 3, "lora_alpha": 4, "target_modules": ["embed_tokens", "lm_head", "k_proj"],
                             "use_rslora": True, "alpha_pattern": {"embed_tokens": 7}}),
    # Embeddings that lie beside the factors: saved in case, or changed; a head tied to them or not.
    "llama_held": ("llama", {"r": 2, "lora_alpha": 4, "target_modules": ["o_proj"], "changed_base": True}),
    "llama_tied_held": ("llama_bias_tied", {"r": 2, "lora_alpha": 4, "target_modules": ["o_proj"],
                                            "changed_base": True}),
    "qwen2_tied_pair": ("qwen2_window", {"r": 2, "lora_alpha": 4, "ensure_weight_tying": True,
                                         "target_modules": ["o_proj", "embed_tokens"]}),
    # Vocabularies that grew (new rows of the base: zero) or were cut to the tokenizer's size.
    "llama_grown": ("llama", {"r": 2, "lora_alpha": 4, "target_modules": ["o_proj"], "grow": 2,
                              "modules_to_save": ["embed_tokens", "lm_head"], "changed_base": True}),
    "llama_tied_shrunk": ("llama_bias_tied", {"r": 2, "lora_alpha": 4, "target_modules": ["o_proj", "embed_tokens"],
                                              "grow": -3, "changed_base": True}),
    "gpt2_grown_tokens": ("gpt2", {"r": 2, "lora_alpha": 4, "target_modules": ["c_attn", "wpe"], "grow": 2,
                                   "changed_base": True, "trainable_token_indices": [64, 65]}),
    "llama_tokens": ("llama", {"r": 2, "lora_alpha": 4, "target_modules": ["o_proj"],
                               "trainable_token_indices": {"embed_tokens": [3, 17, 5], "lm_head": [17, 60]}}),
    "qwen3_tied_tokens": ("qwen3_layer_types", {"r": 2, "lora_alpha": 4, "target_modules": ["o_proj"],
                                                "trainable_token_indices": [3, 17, 5]}),
    # Prompts: options of PromptTuningConfig. Windows, learned positions and frequencies that go by the length
    # all count virtual tokens.
    "llama_prompt": ("llama", {"prompt": {"num_virtual_tokens": 4}}),
    "qwen2_prompt_window": ("qwen2_window", {"prompt": {"num_virtual_tokens": 5,
                                                        "prompt_tuning_init": "SAMPLE_VOCAB"}}),
    "qwen3_prompt_one": ("qwen3", {"prompt": {"num_virtual_tokens": 1}}),
    "gpt2_prompt_full": ("gpt2", {"prompt": {"num_virtual_tokens": 3}}),
    "llama_prompt_dynamic": ("llama_rope_dynamic", {"prompt": {"num_virtual_tokens": 2}}),
    # Prefixes: options of PrefixTuningConfig. As many keys as values, in heads of their own; windows, positions.
    "llama_prefix": ("llama_head_dim", {"prefix": {"num_virtual_tokens": 4}}),
    "mistral_prefix_projected": ("mistral", {"prefix": {"num_virtual_tokens": 5, "prefix_projection": True,
                                                        "encoder_hidden_size": 9}}),
    "qwen2_prefix_window": ("qwen2_window", {"prefix": {"num_virtual_tokens": 3}}),
    "qwen3_prefix": ("qwen3_layer_types", {"prefix": {"num_virtual_tokens": 1}}),
    "gpt2_prefix_zero": ("gpt2_options", {"prefix": {"num_virtual_tokens": 3, "init_weights": "zero"}}),
    "llama_prefix_dynamic": ("llama_rope_dynamic", {"prefix": {"num_virtual_tokens": 2}}),
    # Prompts that an encoder made: options of PromptEncoderConfig.
    "llama_p_mlp": ("llama_bias_tied", {"p_tuning": {"num_virtual_tokens": 3}}),
    "gpt2_p_lstm": ("gpt2", {"p_tuning": {"num_virtual_tokens": 2, "encoder_hidden_size": 5, "encoder_dropout": 0.1,
                                          "encoder_reparameterization_type": "LSTM"}}),
}

# How many values a config trains, with names that reach further than they seem to.
COUNTS = [
    ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
    ("qwen3", {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
    ("qwen3", {"target_modules": ["v_proj"], "modules_to_save": ["layernorm", "1.self_attn.k_norm"]}),
    ("mistral", {"target_modules": ["q_proj"], "modules_to_save": ["mlp"]}),
    ("llama_bias_tied", {"target_modules": ["up_proj"], "modules_to_save": ["attn", "head"], "bias": "all"}),
    ("llama", {"target_modules": ["q_proj", "up_proj"], "modules_to_save": ["0"]}),
    ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["ln_1", "f"], "bias": "lora_only"}),
    ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["mlp", "te"]}),
    ("qwen2", {"target_modules": "all-linear", "exclude_modules": ["proj"]}),
    ("qwen2", {"target_modules": "all-linear", "exclude_modules": ["1.mlp.up_proj", "q_proj"]}),
    ("qwen2", {"target_modules": ["q_proj", "embed_tokens"], "exclude_modules": r".*\.1\..*"}),
    ("qwen2_window", {"target_modules": ["q_proj", "lm_head"], "layers_to_transform": 1}),
    ("llama", {"target_modules": ["q_proj", "model.layers.0.mlp.up_proj"], "layers_to_transform": [1],
               "layers_pattern": ["blocks", "layers"]}),
    ("gpt2", {"target_modules": ["c_fc", "c_attn"], "layers_to_transform": [0], "layers_pattern": "h"}),
    ("mistral", {"target_modules": r"model\.layers\.[01]\.(mlp|self_attn)\.(up|q)_proj"}),
    ("llama", {"target_modules": ["q_proj", "up_proj"], "r": 4, "rank_pattern": {"1.mlp.up_proj": 6, "q_proj": 3}}),
    ("llama", {"target_modules": ["q_proj", "up_proj"], "r": 4,
               "rank_pattern": {r"model\.layers\.0\..*": 5, "proj": 9, "up_proj": 2}}),
]

STEPS, PER_STEP, EPOCHS = 20, 3, 2
TRAIN = {
    "train_lora": {"learning_rate": 1e-2, "weight_decay": 0.01, "warmup_steps": 4,
                   "method": {"type": "lora", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0,
                              "target_modules": ["q_proj", "v_proj", "down_proj"], "init_from": "init"}},
    "train_full": {"learning_rate": 3e-3, "weight_decay": 0.1, "warmup_steps": 3,
                   "method": {"type": "full"}},
    "train_prompt": {"base": "llama", "learning_rate": 3e-2, "weight_decay": 0.01, "warmup_steps": 4,
                     "method": {"type": "prompt_tuning", "num_virtual_tokens": 5, "init_from": "init"}},
    "train_prompt_qwen2": {"base": "qwen2_window", "learning_rate": 3e-2, "weight_decay": 0.0, "warmup_steps": 2,
                           "method": {"type": "prompt_tuning", "num_virtual_tokens": 1, "init_from": "init"}},
    "train_prompt_gpt2": {"base": "gpt2", "learning_rate": 1e-2, "weight_decay": 0.0, "warmup_steps": 0,
                          "method": {"type": "prompt_tuning", "num_virtual_tokens": 2, "init_from": "init"}},
    "train_prefix": {"base": "qwen2_window", "learning_rate": 1e-2, "weight_decay": 0.05, "warmup_steps": 2,
                     "method": {"type": "prefix_tuning", "num_virtual_tokens": 3, "init_from": "init"}},
    "train_prefix_projected": {"base": "gpt2", "learning_rate": 5e-3, "weight_decay": 0.1, "warmup_steps": 0,
                               "method": {"type": "prefix_tuning", "num_virtual_tokens": 2, "prefix_projection": True,
                                          "encoder_hidden_size": 7, "init_from": "init"}},
    "train_p_mlp": {"base": "llama", "learning_rate": 3e-3, "weight_decay": 0.1, "warmup_steps": 4,
                    "method": {"type": "p_tuning", "num_virtual_tokens": 4, "encoder_hidden_size": 11,
                               "init_from": "init"}},
    "train_p_lstm": {"base": "qwen3", "learning_rate": 5e-3, "weight_decay": 0.1, "warmup_steps": 2,
                     "method": {"type": "p_tuning", "num_virtual_tokens": 5, "encoder_hidden_size": 6,
                                "encoder_reparameterization_type": "LSTM", "init_from": "init"}},
    "train_smooth": {"base": "qwen2", "learning_rate": 3e-3, "weight_decay": 0.0, "warmup_steps": 2,
                     "objective": {"type": "sft", "label_smoothing_factor": 0.15},
                     "method": {"type": "lora", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0,
                                "target_modules": ["k_proj", "up_proj", "lm_head"], "init_from": "init"}},
    "train_loraplus": {"learning_rate": 1e-3, "weight_decay": 0.1, "warmup_steps": 4,
                       "method": {"type": "loraplus", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0,
                                  "target_modules": ["q_proj", "v_proj", "down_proj", "embed_tokens"],
                                  "modules_to_save": ["norm", "lm_head"], "init_from": "init"}},
    "train_loraplus_gpt2": {"base": "gpt2", "learning_rate": 2e-3, "weight_decay": 0.0, "warmup_steps": 2,
                            "method": {"type": "loraplus", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0,
                                       # keys' biases get no gradient but noise
                                       "target_modules": ["attn.c_proj", "c_fc", "wte", "wpe"], "bias": "lora_only",
                                       "modules_to_save": ["ln_f"], "loraplus_lr_ratio": 8,
                                       "loraplus_lr_embedding": 5e-3, "loraplus_weight_decay": 0.2,
                                       "init_from": "init"}},
}

# Longer than the prompt, shorter (repeated), and as PEFT repeats it once too often before it cuts.
PROMPT_TEXTS = [("Answer the question in one short sentence.", 5), ("Translate: ", 9), ("a", 3)]


def forward_rows(model, rows):
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -len(ids):]
                          for ids, _ in rows]).contiguous()


def attach(base, fields):
    from peft import LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model

    virtual = {"prompt": PromptTuningConfig, "prefix": PrefixTuningConfig, "p_tuning": PromptEncoderConfig}
    for kind in fields.keys() & virtual.keys():
        return get_peft_model(base, virtual[kind](task_type="CAUSAL_LM", base_model_name_or_path="model",
                                                  **fields[kind]))
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path="model",
                                            lora_dropout=0.0, **fields))
    model.base_model.model.name_or_path = "model"
    return model


def embeddings(model):
    ends = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [ends[0]] if ends[0] is ends[1] else list(ends)


def resize(model, vocab):
    old = model.config.vocab_size
    model.resize_token_embeddings(vocab, mean_resizing=False)
    with torch.no_grad():
        for weight in embeddings(model):
            weight[old:] = 0


def untie(model):
    """Merging into a matrix that two modules share would add both of their updates to it: each gets its own."""
    ends = [getattr(end, "base_layer", end) for end in (model.get_input_embeddings(), model.get_output_embeddings())]
    adapted = [hasattr(end, "base_layer") for end in (model.get_input_embeddings(), model.get_output_embeddings())]
    if any(adapted) and ends[0].weight is ends[1].weight:
        ends[1].weight = torch.nn.Parameter(ends[1].weight.detach().clone())


def save_adapter(model, folder, embedding_layers="auto"):
    model.peft_config["default"].base_model_name_or_path = "model"
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=embedding_layers)
    for name in os.listdir(folder):
        if name not in ("adapter_config.json", "adapter_model.safetensors"):
            os.remove(os.path.join(folder, name))
    # PEFT writes a set in whatever order it hashes to; sorted, the file is the same every time.
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as lines:
        config = json.load(lines)
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key].sort()
    write_json(path, config)


def make_adapter(name, family, fields, out):
    folder = os.path.join(out, name)
    config = CASES[family]
    # as in make_golden.py: transformers keeps the frequencies of the longest row seen under dynamic scaling
    lengths = (11, 11, 11) if "dynamic" in name else (13, 1, 6)
    rows = sequences(config["vocab_size"], lengths)
    base = build_model(dict(config))
    fields = dict(fields)
    grow = fields.pop("grow", 0)
    if grow:
        resize(base, config["vocab_size"] + grow)
        rows = sequences(base.config.vocab_size, lengths)
    before = {n: p.detach().clone() for n, p in base.named_parameters()}
    base_logits = forward_rows(base, rows)

    torch.manual_seed(len(name))
    changed = fields.pop("changed_base", False)
    if changed:
        with torch.no_grad():
            for weight in embeddings(base):
                weight.add_(torch.empty_like(weight).uniform_(-0.3, 0.3))
    model = attach(base, fields).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).uniform_(-0.3, 0.3))
    logits = forward_rows(model, rows)
    save_adapter(model, os.path.join(folder, "adapter"), changed or "auto")

    changed, merged_logits = {}, logits
    if not fields.keys() & {"prompt", "prefix", "p_tuning"}:
        untie(model)
        merged = model.merge_and_unload()
        merged_logits = forward_rows(merged, rows)
        # A head that was tied to the embedding and saved apart shows up as a parameter of its own.
        changed = {n: p.detach().contiguous() for n, p in merged.named_parameters()
                   if n not in before or not torch.equal(p, before[n])}
    tensors = {
        "lengths": torch.tensor([len(ids) for ids, _ in rows], dtype=torch.int32),
        "ids": torch.tensor([t for ids, _ in rows for t in ids], dtype=torch.int32),
        "logits": logits, "base_logits": base_logits,
    }
    tensors.update({"merged." + n: t.clone() for n, t in changed.items()})
    save_file(tensors, os.path.join(folder, "golden.safetensors"), metadata={"format": "pt"})
    write_json(os.path.join(folder, "golden.json"), {"base": family, "changed": sorted(changed)})
    print(f"  {name:18} {len(changed):3} tensors changed, logits moved "
          f"{float((logits - base_logits).abs().max()):.3f}, merged off by "
          f"{float((merged_logits - logits).abs().max()):.1e}")


def training_rows(vocab):
    lengths = [3 + (7 * i + i * i) % 12 for i in range(STEPS * PER_STEP // EPOCHS)]
    rows = []
    for index, ids in enumerate(token_rows(vocab, lengths)):
        # Learnable: every third token repeats one seen two places before.
        ids = [ids[t - 2] if t % 3 == 2 else ids[t] for t in range(len(ids))]
        prompt = min(1 + index % 4, len(ids) - 1)
        rows.append((ids, [IGNORE] * prompt + ids[prompt:]))
    return rows


def prompt_rows(vocab, most):
    """Of 1 to `most` tokens; in every other one the first token is learned too, which only a virtual one predicts."""
    lengths = [1 + (5 * i + i * i) % most for i in range(STEPS * PER_STEP // EPOCHS)]
    rows = []
    for index, ids in enumerate(token_rows(vocab, lengths)):
        ids = [7 + index % 2 if t % 2 == 0 else ids[t] for t in range(len(ids))]
        masked = 0 if index % 2 == 0 or len(ids) == 1 else 1
        rows.append((ids, [IGNORE] * masked + ids[masked:]))
    return rows


def step_loss(model, rows, virtual, smoothing=0.0):
    total, count = 0.0, 0
    for ids, labels in rows:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        part, n = loss_sum(logits, [IGNORE] * virtual + labels)
        if smoothing:
            from transformers.trainer_pt_utils import LabelSmoother

            part = n * LabelSmoother(smoothing)([logits[None]], torch.tensor([labels]), shift_labels=True)
        if virtual:  # PEFT's own loss over the same labels, whatever it does to them
            own = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]), use_cache=False).loss
            assert abs(float(own.detach()) * n - float(part.detach())) < 1e-5 * n
        total, count = total + part, count + n
    return total / count


def make_optimizer(model, trained, spec):
    method = spec["method"]
    common = dict(lr=spec["learning_rate"], betas=(0.9, 0.999), eps=1e-8, foreach=False)
    if method["type"] == "loraplus":
        from peft.optimizers import create_loraplus_optimizer

        return create_loraplus_optimizer(
            model, torch.optim.AdamW, loraplus_lr_ratio=method.get("loraplus_lr_ratio", 16),
            loraplus_lr_embedding=method.get("loraplus_lr_embedding", 1e-6),
            loraplus_weight_decay=method.get("loraplus_weight_decay", spec["weight_decay"]), **common)
    no_decay = [p for n, p in trained if "norm" in n or "bias" in n]
    decay = [p for n, p in trained if not ("norm" in n or "bias" in n)]
    return torch.optim.AdamW([{"params": decay, "weight_decay": spec["weight_decay"]},
                              {"params": no_decay, "weight_decay": 0.0}], **common)


def virtual_rows(method):
    """Rows before the logits of the text: a prefix has none."""
    return 0 if method["type"] == "prefix_tuning" else method.get("num_virtual_tokens", 0)


def train(model, rows, spec):
    from transformers import get_linear_schedule_with_warmup

    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = make_optimizer(model, trained, spec)
    schedule = get_linear_schedule_with_warmup(optimizer, spec["warmup_steps"], STEPS)
    losses, rates, norms = [], [], []
    for step in range(STEPS):
        at = step * PER_STEP % len(rows)
        loss = step_loss(model, rows[at:at + PER_STEP], virtual_rows(spec["method"]),
                         spec.get("objective", {}).get("label_smoothing_factor", 0.0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_([p for _, p in trained], 1.0)))
        losses.append(float(loss.detach()))
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return losses, rates, norms


def encoder_of(model):
    """What makes a prompt, where it is not a table that is trained itself."""
    state = getattr(model, "prompt_encoder", {"default": torch.nn.Module()})["default"].state_dict()
    return {n: t.detach().clone().contiguous() for n, t in state.items()} if len(state) > 1 else {}


def trained_tensors(model, is_adapter):
    if is_adapter:
        from peft import get_peft_model_state_dict
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
        return {n: t.detach().clone().contiguous() for n, t in state.items()}
    return {n: p.detach().clone().contiguous() for n, p in model.named_parameters()}


def start(config, spec, dtype, init):
    """The model of a training case at step 0; `init` is the folder of its first adapter, or None."""
    model = build_model(dict(config), dtype)
    if init is None:
        return model
    fields = {k: v for k, v in spec["method"].items()
              if k not in ("type", "init_from", "lora_dropout") and not k.startswith("loraplus")}
    virtual = {"prompt_tuning": "prompt", "prefix_tuning": "prefix", "p_tuning": "p_tuning"}
    if spec["method"]["type"] in virtual:
        fields = {virtual[spec["method"]["type"]]: fields}
    elif config["model_type"] == "gpt2":
        fields["fan_in_fan_out"] = True
    model = attach(model, fields)
    if not os.path.isdir(init):
        torch.manual_seed(7)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_A" in name:
                    parameter.uniform_(-0.2, 0.2)
                elif "lora_B" in name:
                    parameter.uniform_(-0.02, 0.02)
                elif "prompt_encoder" in name:
                    parameter.uniform_(-0.5, 0.5)
        save_adapter(model, init, False)
        if encoder_of(model):
            save_file(encoder_of(model), os.path.join(init, "prompt_encoder.safetensors"), metadata={"format": "pt"})
    if encoder_of(model):
        state = load_file(os.path.join(init, "prompt_encoder.safetensors"))
        model.prompt_encoder["default"].load_state_dict(state)
    else:
        from peft import set_peft_model_state_dict
        set_peft_model_state_dict(model, load_file(os.path.join(init, "adapter_model.safetensors")))
    return model.to(dtype)


def make_training(name, spec, out):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    base = spec.get("base", "llama")
    config = CASES[base]
    virtual = virtual_rows(spec["method"])
    most = config.get("n_positions", 20) - virtual
    rows = prompt_rows(config["vocab_size"], most) if virtual else training_rows(config["vocab_size"])
    with open(os.path.join(folder, "train.jsonl"), "w", encoding="utf-8") as lines:
        for ids, labels in rows:
            lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    is_adapter = spec["method"]["type"] != "full"
    init = os.path.join(folder, "init") if is_adapter else None
    run = {
        "model": {"path": "model"}, "method": spec["method"],
        "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "max_length": 32,
                 "shuffle": False},
        "optim": {"type": "adamw", "learning_rate": spec["learning_rate"],
                  "weight_decay": spec["weight_decay"], "lr_scheduler_type": "linear",
                  "warmup_steps": spec["warmup_steps"], "max_grad_norm": 1.0},
        "train": {"epochs": EPOCHS, "batch_size": PER_STEP, "precision": "f32", "seed": 1},
        "output": {"dir": "out"},
    }
    if "objective" in spec:
        run["objective"] = spec["objective"]
    write_json(os.path.join(folder, "config.json"), run)
    model = start(config, spec, torch.float32, init)
    first = trained_tensors(model, is_adapter)
    losses, rates, norms = train(model, rows, spec)
    final = trained_tensors(model, is_adapter)

    double = start(config, spec, torch.float64, init)
    losses64, _, _ = train(double, rows, spec)
    final64 = trained_tensors(double, is_adapter)
    tensors = {"losses": torch.tensor(losses), "learning_rates": torch.tensor(rates),
               "grad_norms": torch.tensor(norms)}
    tensors.update({"final." + n: t for n, t in final.items()})
    save_file(tensors, os.path.join(folder, "golden.safetensors"), metadata={"format": "pt"})
    if encoder_of(model):
        save_file({"final." + n: t for n, t in encoder_of(model).items()}, os.path.join(folder, "encoder.safetensors"),
                  metadata={"format": "pt"})
    write_json(os.path.join(folder, "golden.json"), {"base": base})
    moved = max(float((final[n] - first[n]).abs().max()) for n in final)
    off = max(float((final64[n] - final[n]).abs().max()) for n in final)
    print(f"  {name:18} loss {losses[0]:.4f} -> {losses[-1]:.4f}, norms {min(norms):.2f}..{max(norms):.2f}, "
          f"weights moved {moved:.3f}; float64 differs by {off:.1e} in weights, "
          f"{max(abs(a - b) for a, b in zip(losses, losses64)):.1e} in losses")


def write_prompt_texts(path):
    from transformers import AutoModelForCausalLM

    tiny = os.path.join(HERE, "..", "data", "tiny")
    tensors = {}
    for text, n in PROMPT_TEXTS:
        base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
        model = attach(base, {"prompt": {"num_virtual_tokens": n, "prompt_tuning_init": "TEXT",
                                         "prompt_tuning_init_text": text, "tokenizer_name_or_path": tiny}})
        tensors[text] = model.prompt_encoder["default"].embedding.weight.detach().clone()
    save_file(tensors, path, metadata={"format": "pt"})


def c_string(value):
    return '"' + json.dumps(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def count(base, fields):
    model = attach(build_model(dict(CASES[base])), dict(fields, r=fields.get("r", 8)))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def write_counts(path):
    with open(path, "w", encoding="utf-8") as out:
        out.write("/* made by scripts/make_golden_peft.py: base, config of method lora, values that PEFT trains */\n")
        for base, fields in COUNTS:
            out.write(f"{{\"{base}\",\n {c_string(fields)},\n {count(base, fields)}}},\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "tests", "golden", "peft"))
    parser.add_argument("--only", nargs="*", help="cases to make; the others stay as they are")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.only:
        shutil.rmtree(arguments.out, ignore_errors=True)
    write_counts(os.path.join(arguments.out, "..", "peft_counts.h"))
    write_prompt_texts(os.path.join(arguments.out, "..", "prompt_text.safetensors"))
    for name, (family, fields) in ADAPTERS.items():
        if arguments.only and name not in arguments.only:
            continue
        make_adapter(name, family, fields, arguments.out)
    for name, spec in TRAIN.items():
        if not arguments.only or name in arguments.only:
            make_training(name, spec, arguments.out)


if __name__ == "__main__":
    main()
