#!/usr/bin/env python3
"""Writes tests/golden/folders/: what transformers makes of folders whose side files change ids.

Three bases (BASE/tokenizer.json, BASE/vocab.json + merges.txt, BASE/tokenizer.model), and cases.jsonl: one folder a
line, {"base", "files": {name: text}, "special", "ids": [per text of "texts"]}; {"error": word of the message} where the
folder is refused; "warn" names a word of a warning. The first line holds the texts. Cases in which releases of
transformers disagree are not here: the file they disagree on is said in src/token/from_folder.c.

usage: make_golden_folders.py [FOLDER]    (needs the packages transformers and sentencepiece)
"""
import io
import json
import os
import shutil
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

import tokenizer_zoo as Z

TEXTS = ["hello there", "<|im_start|>user\nhow  many<|im_end|>", " x  y", "  two", "</s> the</s>x", "a<extra>b <pad> c",
         "e\u0301 caf\u00e9 I'M 12345", "<|endoftext|>x", "<s>q", "<tool>x <tool>", "The the", "", "<unk>"]
END = "<|endoftext|>"


def bases(folder):
    specials = [END, "<|im_start|>", "<|im_end|>"]
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    t.train_from_iterator(Z.corpus(), trainer)
    os.makedirs(folder + "/lists", exist_ok=True)
    t.model.save(folder + "/lists")
    t.add_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    os.makedirs(folder + "/bytes", exist_ok=True)
    with open(folder + "/bytes/tokenizer.json", "w") as f:
        json.dump(json.loads(t.to_str()), f, ensure_ascii=False, separators=(",", ":"))
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(Z.corpus()), model_writer=out, model_type="bpe", vocab_size=420,
                                             character_coverage=0.98, byte_fallback=True, add_dummy_prefix=True,
                                             remove_extra_whitespaces=False, normalization_rule_name="identity", minloglevel=2)
    os.makedirs(folder + "/pieces", exist_ok=True)
    with open(folder + "/pieces/tokenizer.model", "wb") as f:
        f.write(out.getvalue())


CASES = []


def case(base, config=None, special=False, error=None, warn=None, like=None, **files):
    """files: added, map, model, generation → the JSON of the file. like: the config whose ids count, where releases disagree."""
    names = {"added": "added_tokens.json", "map": "special_tokens_map.json", "model": "config.json", "generation": "generation_config.json"}
    texts = {"tokenizer_config.json": config} if config is not None else {}
    texts.update({names[k]: v for k, v in files.items()})
    CASES.append(dict(base=base, files={k: json.dumps(v) for k, v in texts.items()}, special=special, error=error, warn=warn, like=like))


def token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True} | flags


GENERIC = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
GPT = {"tokenizer_class": "GPT2TokenizerFast", "eos_token": END}
OLD = {"tokenizer_class": "GPT2Tokenizer", "eos_token": END, "bos_token": END, "unk_token": END}
QWEN = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": END}
LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True,
         "add_eos_token": False, "legacy": False}

# added tokens beside tokenizer.json
case("bytes", GENERIC)
case("bytes", GENERIC, added={"<tool>": 304, "<extra>": 303})
case("bytes", GENERIC | {"additional_special_tokens": ["<extra>"]}, added={"<tool>": 304, "<extra>": 303})
case("bytes", GENERIC, added={"<tool>": 301, "<extra>": 303})
case("bytes", GENERIC | {"extra_special_tokens": ["<extra>", "<tool>"]})
case("bytes", GENERIC | {"extra_special_tokens": {"tool_token": "<tool>"}})
case("bytes", GENERIC | {"image_token": "<tool>", "pad_token": "<pad>"})
case("bytes", GENERIC | {"pad_token": {"__type": "AddedToken"} | token("<pad>", lstrip=True)})
case("bytes", GENERIC | {"pad_token": {"__type": "AddedToken"} | token("the", single_word=True)})
case("bytes", GENERIC, map={"pad_token": token("<pad>", lstrip=True, rstrip=True), "eos_token": "<s>"})
case("bytes", GENERIC, map={"extra_special_tokens": ["<extra>", {"content": "<tool>", "rstrip": True}]})
DECODER = {"303": token("<extra>", lstrip=True), "304": token("<pad>", normalized=True, special=False), "301": token("<|im_start|>", rstrip=True)}
case("bytes", GENERIC | {"added_tokens_decoder": DECODER})
case("bytes", GENERIC | {"added_tokens_decoder": DECODER}, added={"<tool>": 305}, map={"pad_token": "<s>"}, warn="<tool>")
case("bytes", GENERIC | {"split_special_tokens": True})
case("bytes", GENERIC | {"split_special_tokens": True}, added={"<tool>": 303})
case("bytes", GENERIC | {"additional_special_tokens": ["<extra>"], "extra_special_tokens": {}})
PLAIN = {"300": token(END), "301": token("<|im_start|>", lstrip=True, rstrip=True, special=False), "302": token("<|im_end|>")}
case("bytes", GENERIC | {"pad_token": "<|im_start|>", "split_special_tokens": True, "added_tokens_decoder": PLAIN})
# order of new ids, and names that are none
IMAGE = {"__type": "AddedToken"} | token("<tool>", lstrip=True)
case("bytes", GENERIC | {"extra_special_tokens": ["<extra>"], "image_token": "<tool>", "pad_token": "<pad>"})
case("bytes", GENERIC | {"extra_special_tokens": {"x_token": "<extra>"}, "image_token": "<tool>"})
case("bytes", GENERIC | {"model_specific_special_tokens": {"x_token": "<extra>"}, "image_token": "<tool>"})
case("bytes", GENERIC | {"model_specific_special_tokens": {"x_token": "<extra>"}, "image_token": IMAGE})
case("bytes", GENERIC | {"image_token": IMAGE, "video_token": "<pad>", "additional_special_tokens": ["<extra>"]})
case("bytes", GENERIC | {"image_token": token("<tool>")}, warn="image_token")
case("bytes", GENERIC, map={"additional_special_tokens": ["<extra>"], "image_token": token("<tool>"), "pad_token": "<pad>"})
case("bytes", GENERIC | {"extra_special_tokens": ["<tool>"]}, map={"extra_special_tokens": ["<extra>", "<tool>"], "image_token": "<pad>"})
case("bytes", GENERIC | {"additional_special_tokens": []}, map={"additional_special_tokens": ["<extra>"]}, warn="<extra>")
case("bytes", GENERIC | {"extra_special_tokens": {"x_token": "<tool>"}}, map={"additional_special_tokens": ["<extra>"]})
case("bytes", GENERIC, map={"extra_special_tokens": {"x_token": "<tool>"}, "y_token": "<extra>"})
# wrong types
for key, value in [("add_prefix_space", "yes"), ("legacy", 1), ("do_lower_case", "true"), ("fix_mistral_regex", []), ("split_special_tokens", 0),
                   ("add_bos_token", "no"), ("add_eos_token", 1), ("tokenizer_class", 5), ("added_tokens_decoder", [token("<extra>")]),
                   ("bos_token", 3), ("bos_token", ["<s>"]), ("pad_token", {"text": "<pad>"}), ("extra_special_tokens", 5), ("extra_special_tokens", [3]), ("additional_special_tokens", "<extra>"), ("additional_special_tokens", {"x": "<extra>"}),
                   ("model_specific_special_tokens", ["<extra>"]), ("image_token", 7), ("chat_template", 7), ("chat_template", [{"name": "default"}])]:
    case("bytes", GENERIC | {key: value}, error=key)
for key, value, error in [("303", "<extra>", "content"), ("303", {"lstrip": True}, "content"), ("303", token("<extra>", lstrip="no"), "lstrip"),
                          ("-1", token("<extra>"), "-1: is not an id")]:
    case("bytes", GENERIC | {"added_tokens_decoder": {key: value}}, error=error)
case("bytes", GENERIC | {"extra_special_tokens": {"x_token": 3}}, error="x_token")
case("bytes", GENERIC, map={"pad_token": token("<pad>", rstrip=1)}, error="rstrip")
for name in "config", "added", "map", "generation":
    case("bytes", **{name: ["<extra>"]}, error="must be an object")
for value in "304", 1.5, -1, 1 << 40, None, [304]:
    case("bytes", GENERIC, added={"<extra>": value}, error="<extra>")
for key, value in [("bos_token", 3), ("pad_token", {"lstrip": True}), ("additional_special_tokens", "<extra>"),
                   ("additional_special_tokens", [None]), ("extra_special_tokens", 1), ("image_token", 7)]:
    case("bytes", GENERIC, map={key: value}, error=key)
for key, value in [("eos_token_id", "<s>"), ("eos_token_id", [1, "2"]), ("bos_token_id", {}), ("pad_token_id", 1.5), ("eos_token_id", 1e30)]:
    case("bytes", GENERIC, generation={key: value}, error=key)
# steps
case("bytes", QWEN, warn="normalizer", like=GENERIC)
case("bytes", GENERIC, model={"model_type": "qwen2"}, warn="normalizer", like=GENERIC)
case("bytes", GPT | {"add_prefix_space": True}, model={"model_type": "gpt2"})
case("bytes", GPT | {"add_prefix_space": False}, model={"model_type": "gpt2"})
case("bytes", GPT | {"add_prefix_space": True}, added={"<tool>": 303}, model={"model_type": "gpt2"})
case("bytes", GPT, model={"model_type": "gpt2"}, map={"eos_token": "<|im_end|>"})
case("bytes", GENERIC | {"do_lower_case": True}, error="do_lower_case")
case("bytes", GENERIC | {"fix_mistral_regex": True}, error="fix_mistral_regex")
case("bytes", GENERIC | {"sp_model_kwargs": {"alpha": 0.1}}, error="sp_model_kwargs")
case("bytes", GENERIC | {"no_such_key": 1, "neither": None}, warn="no_such_key, neither")
case("bytes", GENERIC | {"from_slow": True}, warn="from_slow")
case("bytes", GENERIC | {"bos_token": "<s>", "add_bos_token": True}, special=True, warn="add_bos_token")
case("bytes", GENERIC, generation={"stop_strings": ["x"]}, warn="stop_strings")
case("bytes", GENERIC | {"added_tokens_decoder": {"x": token("<extra>")}}, error="is not an id")
case("bytes", GENERIC, added={"<tool>": "300"}, error="is not an id")
# vocab.json and merges.txt
MODEL = {"model_type": "gpt2"}
case("lists", OLD, added={"<|im_start|>": 301, END: 300, "<|im_end|>": 302}, model=MODEL)
case("lists", OLD | {"additional_special_tokens": ["<|im_start|>"]}, added={"<|im_start|>": 301, END: 300}, model=MODEL)
case("lists", OLD | {"add_prefix_space": True}, added={END: 300}, model=MODEL)
case("lists", OLD | {"add_bos_token": True}, added={END: 300}, model=MODEL, special=True)
case("lists", OLD | {"add_eos_token": True}, added={END: 300}, model=MODEL, special=True)
case("lists", OLD | {"split_special_tokens": True}, added={END: 300, "<tool>": 301}, model=MODEL)
case("lists", OLD | {"added_tokens_decoder": {"300": token(END), "301": token("<extra>", lstrip=True)}}, model=MODEL)
case("lists", {"eos_token": END}, added={END: 300}, model=MODEL)
case("lists", QWEN, added={END: 300, "<|im_start|>": 301}, model={"model_type": "qwen2"})
case("lists", {"eos_token": END}, added={END: 300, "<|im_start|>": 301}, model={"model_type": "qwen2"})
case("lists", {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|im_end|>"}, model=MODEL)
case("lists", {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<pad>"}, added={"<|im_end|>": 300}, model=MODEL)
case("lists", QWEN | {"eos_token": "<|im_end|>"}, model={"model_type": "qwen2"})
case("lists", QWEN | {"add_prefix_space": True}, added={END: 300}, model={"model_type": "qwen2"})
case("lists", OLD | {"tokenizer_class": "RobertaTokenizer"}, model={"model_type": "roberta"}, error="RobertaTokenizer")
# tokenizer.model
case("pieces", LLAMA)
case("pieces", LLAMA, special=True)
case("pieces", LLAMA | {"add_prefix_space": False})
case("pieces", LLAMA | {"add_prefix_space": False, "legacy": True})
case("pieces", LLAMA | {"add_prefix_space": True})
case("pieces", LLAMA | {"add_eos_token": True}, special=True)
case("pieces", LLAMA | {"add_bos_token": False}, special=True)
case("pieces", LLAMA | {"bos_token": "</s>"}, special=True)
case("pieces", LLAMA | {"bos_token": "<pad>", "add_bos_token": False}, special=True)
case("pieces", LLAMA | {"pad_token": "<pad>"}, added={"<extra>": 420, "<pad>": 421})
case("pieces", LLAMA | {"split_special_tokens": True})
case("pieces", {k: v for k, v in LLAMA.items() if k != "add_bos_token"}, special=True, warn="add_bos_token", like=LLAMA)
case("pieces", LLAMA | {"legacy": True, "add_prefix_space": False})
case("pieces", LLAMA | {"tokenizer_class": "MBartTokenizer"}, error="MBartTokenizer")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "tests/golden/folders")
    os.makedirs(folder, exist_ok=True)
    bases(folder)
    lines = [{"texts": TEXTS}]
    for c in CASES:
        line = {k: v for k, v in c.items() if v and k != "like"}
        with tempfile.TemporaryDirectory() as d:
            for f in os.listdir(os.path.join(folder, c["base"])):
                shutil.copy(os.path.join(folder, c["base"], f), d)
            for name, text in c["files"].items():
                with open(os.path.join(d, name), "w") as f:
                    f.write(text)
            if c["like"]:
                with open(os.path.join(d, "tokenizer_config.json"), "w") as f:
                    json.dump(c["like"], f)
                if "config.json" in c["files"]:
                    os.remove(os.path.join(d, "config.json"))
            if not c["error"]:
                t = AutoTokenizer.from_pretrained(d)
                line["ids"] = [t(x, add_special_tokens=c["special"])["input_ids"] for x in TEXTS]
        lines.append(line)
    with open(os.path.join(folder, "cases.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps(x, ensure_ascii=False, separators=(",", ":")) + "\n" for x in lines)
    print(len(CASES), "cases in", folder)


main()
