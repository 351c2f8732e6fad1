#!/usr/bin/env python3
"""make_tiny_tokenizer.py - tokenizer and architecture of the embedded model, into data/tiny.

    python scripts/make_tiny_tokenizer.py [--out data/tiny]

A byte-level BPE of 640 entries trained on data/text/tiny.txt with GPT-2's pre-tokenizer regex, three
ChatML-like special tokens and a chat template; and the config.json of a Llama of 467 thousand parameters
(0.9 MB in bfloat16). Its weights come from `ft train configs/tiny-from-scratch.json`.
Also data/tokens.jsonl: chats of data/text/tiny.chat.jsonl already tokenised, with the labels of the answers.
Needs the tokenizers library.
"""
import argparse
import json
import os

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ENTRIES = 640
CONTEXT = 256

TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
            "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|im_start|>assistant\n' }}{% endif %}")

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": ENTRIES, "hidden_size": 96,
    "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 24, "hidden_act": "silu", "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "rope_scaling": None,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "attention_bias": False,
    "attention_dropout": 0.0, "mlp_bias": False, "tie_word_embeddings": True, "initializer_range": 0.05,
    "bos_token_id": 0, "eos_token_id": [0, 2], "pad_token_id": 0, "torch_dtype": "float32",
    "dtype": "float32", "use_cache": True,
}
GENERATION = {"bos_token_id": 0, "eos_token_id": [0, 2], "pad_token_id": 0}


def write_json(path, value, sort=True):
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        json.dump(value, out, indent=2, sort_keys=sort, ensure_ascii=False)
        out.write("\n")


def tokens_rows(tokenizer, path, n):
    """Rows of the `tokens` format: the template's pieces, supervised where an assistant speaks."""
    with open(path, encoding="utf-8") as lines:
        for line in list(lines)[:n]:
            ids, labels = [], []
            for message in json.loads(line)["messages"]:
                head = tokenizer.encode(f"<|im_start|>{message['role']}\n").ids
                body = tokenizer.encode(message["content"] + "<|im_end|>").ids
                tail = tokenizer.encode("\n").ids
                ids += head + body + tail
                supervised = message["role"] == "assistant"
                labels += [-100] * len(head) + (body if supervised else [-100] * len(body)) + [-100] * len(tail)
            yield {"input_ids": ids, "labels": labels}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "data", "tiny"))
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(vocab_size=ENTRIES, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train([os.path.join(HERE, "..", "data", "text", "tiny.txt")], trainer)
    assert tokenizer.get_vocab_size() == ENTRIES
    tokenizer.save(os.path.join(arguments.out, "tokenizer.json"))

    added = {str(i): {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                      "single_word": False, "special": True} for i, text in enumerate(SPECIAL)}
    write_json(os.path.join(arguments.out, "tokenizer_config.json"), {
        "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
        "bos_token": SPECIAL[0], "eos_token": SPECIAL[0], "pad_token": SPECIAL[0], "unk_token": None,
        "additional_special_tokens": SPECIAL[1:], "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False, "model_max_length": CONTEXT,
        "tokenizer_class": "PreTrainedTokenizerFast"})
    write_json(os.path.join(arguments.out, "config.json"), CONFIG)
    write_json(os.path.join(arguments.out, "generation_config.json"), GENERATION)

    texts = os.path.join(HERE, "..", "data", "text")
    with open(os.path.join(HERE, "..", "data", "tokens.jsonl"), "w", encoding="utf-8", newline="\n") as out:
        for row in tokens_rows(tokenizer, os.path.join(texts, "tiny.chat.jsonl"), 32):
            out.write(json.dumps(row) + "\n")

    with open(os.path.join(texts, "tiny.txt"), encoding="utf-8") as lines:
        text = lines.read()
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    print(f"{len(ids)} tokens for {len(text)} characters: {len(text) / len(ids):.2f} characters a token")


if __name__ == "__main__":
    main()
