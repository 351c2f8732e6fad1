#!/usr/bin/env python3
"""lm_eval_ft.py - ft as a model of lm-evaluation-harness (lm_eval 0.4.13).

Imported, it registers the model "ft"; run, it is lm_eval's own command line with that model:

    scripts/lm_eval_ft.py --model ft --model_args model=M,adapter=A,ft=build/release/ft,threads=8 --tasks piqa

Arguments: model (folder or .gguf; default: the adapter's base), adapter (A or A=SCALE, several with "+" between), ft (the
program; default "ft"), threads, precision, max_length (default: the model's positions), max_gen_toks (256), prefix_token_id
(what an empty context is; default: BOS, else EOS).

Texts become ids by ft's tokenizer. One `ft score` process answers all log-probabilities of a run; it stays open, as do those
that tokenise and generate.
"""
import json
import os
import subprocess
import sys
import threading

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text


class Process:
    """A verb of ft that is kept open: lines in, as many lines out, in their order."""

    def __init__(self, command):
        self.command = command
        self.child = None

    def ask(self, lines):
        lines = list(lines)
        if not lines:
            return []
        if self.child is None:
            self.child = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        failed = []

        def feed():
            try:
                for line in lines:
                    self.child.stdin.write(line.encode() + b"\n")
                self.child.stdin.flush()
            except OSError as error:  # it has ended, and has said why
                failed.append(error)

        writer = threading.Thread(target=feed, daemon=True)
        writer.start()
        out = [self.child.stdout.readline() for _ in lines]
        writer.join()
        if failed or not out[-1]:
            raise RuntimeError(f"{' '.join(self.command)}: ended with {self.child.wait()}")
        return [json.loads(line) for line in out]

    def close(self):
        if self.child is not None:
            self.child.stdin.close()
            self.child.wait()
            self.child = None


def read_json(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            return json.load(f)
    except OSError:
        return {}


@register_model("ft")
class FtLM(TemplateLM):
    def __init__(self, model=None, adapter=None, ft="ft", threads=None, precision=None, max_length=None,
                 max_gen_toks=256, prefix_token_id=None, batch_size=None, device=None, max_batch_size=None):
        super().__init__()
        adapters = str(adapter).split("+") if adapter else []
        if model is None:
            if not adapters:
                raise ValueError("ft: needs model=… or adapter=…")
            base = adapters[0]
            if not os.path.isdir(base):
                base = base.rpartition("=")[0]
            name = read_json(base, "adapter_config.json").get("base_model_name_or_path") or ""
            model = next((p for p in (os.path.join(base, *[".."] * k, name) for k in range(6)) if os.path.exists(p)), name)
        self.path = str(model)
        run = ["--model", self.path]
        for one in adapters:
            run += ["--adapter", one]
        shared = ["--quiet"] + (["--threads", str(threads)] if threads else [])
        run += shared + (["--precision", str(precision)] if precision else [])
        self.score = Process([ft, "score", *run])
        self.generate = Process([ft, "generate", *run, "--json"])
        self.encode = Process([ft, "tokenize", "--model", self.path, "--json", *shared])
        self.encode_special = Process([ft, "tokenize", "--model", self.path, "--json", "--special", *shared])
        self.decode = Process([ft, "tokenize", "--model", self.path, "--json", "--decode", *shared])
        facts = json.loads(subprocess.run([ft, "inspect", self.path, "--json", "--quiet"], check=True,
                                          stdout=subprocess.PIPE).stdout.splitlines()[0])
        self._max_length = int(max_length or facts.get("max_position_embeddings") or 2048)
        self._max_gen_toks = int(max_gen_toks)
        self._tokens = int(facts.get("tokens") or 1 << 31)
        self._find_tokens(prefix_token_id)

    # --- tokens ------------------------------------------------------------------------------------------------

    def _find_tokens(self, prefix):
        """BOS where the tokenizer adds it, what stands for an empty context, and the tokens that no text shows."""
        plain, = self.encode.ask([json.dumps("a")])
        special, = self.encode_special.ask([json.dumps("a")])
        self.bos_added = special[0] if special[: len(plain)] != plain else None
        config = read_json(self.path, "tokenizer_config.json")
        config = {**read_json(self.path, "special_tokens_map.json"), **config}
        tokenizer = read_json(self.path, "tokenizer.json")
        ends = read_json(self.path, "generation_config.json").get("eos_token_id")
        if ends is None:
            ends = read_json(self.path, "config.json").get("eos_token_id")
        self.ends = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
        self.hidden = {t["id"] for t in tokenizer.get("added_tokens", []) if t.get("special")}
        named = {}
        for key in ("bos_token", "eos_token"):
            text = config.get(key)
            text = text.get("content") if isinstance(text, dict) else text
            if text:
                ids, = self.encode.ask([json.dumps(text)])
                if len(ids) == 1:
                    named[key] = (ids[0], text)
        self.eos_text = named.get("eos_token", (None, None))[1]
        if prefix is None:
            prefix = self.bos_added
        if prefix is None and named:
            prefix = (named.get("bos_token") or named["eos_token"])[0]
        self._prefix = None if prefix is None else int(prefix)
        self.bos_text = named.get("bos_token", (None, None))[1]

    @property
    def eot_token_id(self):
        return self._prefix

    @property
    def prefix_token_id(self):
        if self._prefix is None:
            raise ValueError("ft: the tokenizer has neither BOS nor EOS; give prefix_token_id=…")
        return self._prefix

    @property
    def max_length(self):
        return self._max_length

    @property
    def max_gen_toks(self):
        return self._max_gen_toks

    @property
    def tokenizer_name(self):
        return self.path.replace("/", "__")

    def _begin(self, text, ids):
        begins = self.bos_text and text.startswith(self.bos_text)
        return ids if self.bos_added is None or begins else [self.bos_added] + ids

    def _encode_all(self, texts):
        """As a document begins: with BOS where the tokenizer adds one, never with EOS."""
        ids = self.encode.ask(json.dumps(t) for t in texts)
        return [self._begin(t, i) for t, i in zip(texts, ids)]

    def tok_encode(self, string, add_special_tokens=None, **kwargs):
        ids, = self.encode.ask([json.dumps(string)])
        return ids if add_special_tokens is False else self._begin(string, ids)

    # --- log-probabilities ---------------------------------------------------------------------------------------

    def _loglikelihood_tokens(self, requests, disable_tqdm=False, **kwargs):
        lines = []
        for _, context, continuation in requests:
            if not 0 < len(continuation) <= self.max_length:
                raise ValueError(f"ft: a continuation of {len(continuation)} tokens; the model holds {self.max_length}")
            ids = (context + continuation)[-(self.max_length + 1):]
            lines.append(json.dumps({"tokens": ids, "start": len(ids) - len(continuation)}))
        answers = self.score.ask(lines)
        out = [(a["logprob"], a["greedy"]) for a in answers]
        for (key, _, _), answer in zip(requests, out):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, answer)
        return out

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        texts = [r.args[0] for r in requests]
        windows, owner = [], []
        for k, ids in enumerate(self._encode_all(texts)):
            for pair in utils.get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1):
                windows.append((None, *utils.make_disjoint_window(pair)))
                owner.append(k)
        out = [0.0] * len(requests)
        for k, (logprob, _) in zip(owner, self._loglikelihood_tokens(windows)):
            out[k] += logprob
        for text, logprob in zip(texts, out):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), logprob)
        return out

    def _shown(self, i):
        """Neither a special token nor one that a padded vocabulary has and the tokenizer lacks."""
        return i < self._tokens and i not in self.hidden

    # --- answers ------------------------------------------------------------------------------------------------------

    def _greedy(self, lines):
        """The ids of each answer. ft also ends where the chat template ends a turn; transformers goes on there."""
        out = [[] for _ in lines]
        going = list(range(len(lines)))
        while going:
            answers = self.generate.ask(json.dumps(lines[k]) for k in going)
            again = []
            for k, answer in zip(going, answers):
                ids = answer["token_ids"]
                out[k] += ids
                lines[k]["tokens"] = lines[k]["tokens"] + ids
                lines[k]["max_new_tokens"] -= len(ids)
                if answer["stop"] == "token" and self.ends and ids[-1] not in self.ends and lines[k]["max_new_tokens"] > 0:
                    again.append(k)
            going = again
        return out

    def generate_until(self, requests, disable_tqdm=False):
        contexts = self._encode_all([r.args[0] for r in requests])
        lines, stops = [], []
        for ids, request in zip(contexts, requests):
            kwargs = normalize_gen_kwargs(request.args[1], self.max_gen_toks)
            until = handle_stop_sequences(kwargs.pop("until", None), eos=self.eos_text)
            new = int(kwargs.pop("max_gen_toks"))
            if kwargs.get("do_sample") or kwargs.get("temperature"):
                raise ValueError("ft: generate_until is greedy here; do_sample and temperature are not done")
            if new >= self.max_length:
                raise ValueError(f"ft: max_gen_toks {new} leaves no room for a context in {self.max_length} tokens")
            lines.append({"tokens": ids[-(self.max_length - new):], "max_new_tokens": new, "temperature": 0,
                          "stop": [s for s in until if s]})
            stops.append(until)
        ids = self._greedy(lines)
        texts = self.decode.ask(json.dumps([i for i in one if self._shown(i)]) for one in ids)
        out = [postprocess_generated_text(t, s, None) for t, s in zip(texts, stops)]
        for request, text in zip(requests, out):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return out


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    sys.exit(cli_evaluate())
