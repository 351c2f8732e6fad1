#!/usr/bin/env python3
"""bench_peers.py - the same work by `ft` and by PyTorch + PEFT (+ bitsandbytes), alternately in one run. Called by
scripts/bench-peers.sh, which gets what it needs.

A work (lora, qlora, full, score) has modes of PyTorch; first each of them does a few steps, and the fastest in f32 and in
bf16 stay. Then rounds follow: ft in f32, PyTorch's best in f32, ft in bf16, PyTorch's best in bf16. Whatever else the
machine does hits all of them, so a ratio is taken round by round. Both sides have one model, the same token ids (all of
them supervised), the same initial adapter (PEFT's), AdamW at the same rate; that the losses agree shows it. (bitsandbytes
0.50 unpacks NF4 wrongly on a CPU where rows are no multiple of 64 values: no QLoRA on such a model agrees.)
"""
import argparse
import datetime
import glob
import importlib.metadata
import json
import os
import platform
import re
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BATCH, LENGTH = 4, 512
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRECISIONS = ("f32", "bf16")
TOLERANCE = {"f32": 1e-4, "bf16": 2e-2}  # of a loss, relative
RATES = {"lora": 1e-3, "qlora": 1e-3, "full": 2e-5, "score": 0.0}
NAMES = {"lora": "LoRA r 8, all-linear", "qlora": "QLoRA r 8, NF4", "full": "full", "score": "scoring"}
PATIENCE = 900  # seconds for an answer; compiling is the longest

# Modes of PyTorch: name: (precision, keys of the worker's job). jemalloc is preloaded where the name says so and in
# the compiled modes, where it is installed.
ALL_BF16 = {"weights": "bf16", "adapter_weights": "bf16"}
MODES = {
    "f32": ("f32", {}),
    "f32-jemalloc": ("f32", {"jemalloc": True}),
    "f32-compiled": ("f32", {"jemalloc": True, "compile": True}),
    "bf16-peft": ("bf16", {"weights": "bf16"}),  # as PEFT has it: weights bf16, adapter f32
    "bf16": ("bf16", ALL_BF16),
    "bf16-jemalloc": ("bf16", {**ALL_BF16, "jemalloc": True}),
    "bf16-compiled": ("bf16", {**ALL_BF16, "jemalloc": True, "compile": True}),
    "autocast-jemalloc": ("bf16", {"weights": "bf16", "autocast": True, "jemalloc": True}),
    "autocast-compiled": ("bf16", {"weights": "bf16", "autocast": True, "jemalloc": True, "compile": True}),
    "autocast-f32-jemalloc": ("bf16", {"autocast": True, "jemalloc": True}),  # f32 weights, as full training keeps them
    "autocast-f32-compiled": ("bf16", {"autocast": True, "jemalloc": True, "compile": True}),
}
F32 = ["f32", "f32-jemalloc", "f32-compiled"]
WORKS = {
    "lora": F32 + ["bf16-peft", "bf16-jemalloc", "autocast-jemalloc", "bf16-compiled", "autocast-compiled"],
    "qlora": F32[1:] + ["bf16-peft", "bf16-jemalloc", "bf16-compiled"],
    "full": F32[1:] + ["bf16-jemalloc", "autocast-f32-jemalloc", "bf16-compiled", "autocast-f32-compiled"],
    "score": F32[1:] + ["bf16", "bf16-jemalloc", "bf16-compiled"],
}


def say(text):
    print("bench-peers:", text, file=sys.stderr, flush=True)


def fail(text):
    sys.exit("bench-peers: " + text)


def jemalloc():
    found = glob.glob("/usr/lib/*/libjemalloc.so.2") + glob.glob("/usr/lib*/libjemalloc.so.2")
    return found[0] if found else None


# --- what both work on --------------------------------------------------------------------------------------------------
class Bench:
    def __init__(self, options):
        self.o = options
        self.dir = tempfile.mkdtemp(prefix="ft-bench-")
        self.env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LD_PRELOAD")}
        self.model, self.adapter = self.path("model"), self.path("adapter")

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def run(self, *words, **more):
        """(stdout, peak memory in bytes)"""
        words = [str(w) for w in words]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(words, stdout=out, stderr=err, env={**self.env, "HF_HUB_OFFLINE": "1"}, **more)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            if process.returncode != 0:
                fail(f"{' '.join(words[:4])} gave {process.returncode}: {err.read().strip()[-600:]}")
            return out.read(), usage.ru_maxrss * 1024

    def prepare(self):
        """One bf16 folder of the model, rows of token ids, and an adapter with PEFT's initial values."""
        self.run(self.o.ft, "convert", self.o.model, "--out", self.model, "--type", "bf16")
        self.make_rows()
        code = ("import sys, torch; from transformers import AutoModelForCausalLM; from peft import LoraConfig, get_peft_model\n"
                "torch.manual_seed(0)\n"
                "m = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)\n"
                "get_peft_model(m, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules='all-linear', "
                "task_type='CAUSAL_LM')).save_pretrained(sys.argv[2])")
        self.run(sys.executable, "-c", code, self.model, self.adapter)

    def make_rows(self):
        with open(os.path.join(ROOT, "data/instructions.jsonl"), encoding="utf-8") as f:
            texts = ["\n".join(m["content"] for m in json.loads(line)["messages"]) + "\n" for line in f]
        with open(self.path("texts"), "w") as f:
            f.writelines(json.dumps(t) + "\n" for t in texts)
        with open(self.path("texts")) as f:
            out, _ = self.run(self.o.ft, "tokenize", "--model", self.model, "--json", stdin=f)
        ids = [i for line in out.splitlines() for i in json.loads(line)]
        self.rows = [ids[i:i + LENGTH] for i in range(0, len(ids) - LENGTH + 1, LENGTH)]
        if len(self.rows) < BATCH:
            fail("data/instructions.jsonl has too few tokens for one batch")
        with open(self.path("rows.json"), "w") as f:
            json.dump(self.rows, f)
        with open(self.path("rows.jsonl"), "w") as f:
            f.writelines(json.dumps({"input_ids": row, "labels": row}) + "\n" for row in self.rows)


# --- ft's side ----------------------------------------------------------------------------------------------------------
class Ft:
    """Each call is a run of the program: `ft train` with a step before that is not counted, `ft score` with its start-up."""

    def __init__(self, bench, work, precision):
        self.bench, self.work, self.precision = bench, work, precision
        self.peak, self.losses, self.rounds = 0, [], []
        method = {"type": work}
        if work != "full":
            method.update(r=8, lora_alpha=16, target_modules="all-linear", init_from=bench.adapter)
        self.config = {
            "model": {"path": bench.model},
            "method": method,
            "data": {"train": {"path": bench.path("rows.jsonl"), "format": "tokens"}, "max_length": LENGTH, "shuffle": False},
            "optim": {"type": "adamw", "learning_rate": RATES[work], "lr_scheduler_type": "constant", "weight_decay": 0.0,
                      "max_grad_norm": 1.0},
            "train": {"batch_size": BATCH},
            "output": {"dir": bench.path("out")},
        }

    def steps(self, n):
        self.rounds.append(self.score(n) if self.work == "score" else self.train(n))

    def run(self, *words):
        out, peak = self.bench.run(self.bench.o.ft, *words, "-q", "--precision", self.precision,
                                   "--threads", self.bench.o.threads)
        self.peak = max(self.peak, peak)
        return out

    def train(self, n):
        b, out = self.bench, self.bench.path("out")
        shutil.rmtree(out, ignore_errors=True)
        with open(b.path("train.json"), "w") as f:
            json.dump(self.config, f)
        self.run("train", b.path("train.json"), "--set", f"train.max_steps={n + 1}")
        with open(os.path.join(out, "log.jsonl")) as f:
            log = [json.loads(line) for line in f]
        with open(os.path.join(out, "time.jsonl")) as f:
            seconds = [json.loads(line)["seconds"] for line in f]
        self.losses = [line["loss"] for line in log if line["step"] > 0]
        return seconds[1:]

    def score(self, n):
        b = self.bench
        with open(b.path("score.jsonl"), "w") as f:
            f.writelines(json.dumps({"tokens": b.rows[i % len(b.rows)]}) + "\n" for i in range(n * BATCH))
        began = time.time()
        out = self.run("score", "--model", b.model, "--data", b.path("score.jsonl"))
        seconds = time.time() - began
        lines = [json.loads(line) for line in out.splitlines()]
        parts = [lines[i:i + BATCH] for i in range(0, len(lines), BATCH)]
        self.losses = [-sum(a["logprob"] for a in part) / sum(a["tokens"] for a in part) for part in parts]
        return [seconds / n] * n


# --- PyTorch's side -----------------------------------------------------------------------------------------------------
class Failed(Exception):
    pass


class Worker:
    def __init__(self, bench, work, name):
        self.name, self.rounds, self.losses, self.peak = name, [], [], 0
        self.precision, keys = MODES[name]
        job = {"work": work, "weights": "f32", "adapter_weights": "f32", "autocast": False, "compile": False,
               "model": bench.model, "adapter": bench.adapter, "rows": bench.path("rows.json"), "batch": BATCH,
               "rate": RATES[work], "threads": bench.o.threads, **keys}
        env = dict(bench.env)
        if keys.get("jemalloc") and jemalloc():
            env["LD_PRELOAD"] = jemalloc()
            env["MALLOC_CONF"] = ("oversize_threshold:1,background_thread:true,metadata_thp:auto,"
                                  "dirty_decay_ms:9000000000,muzzy_decay_ms:9000000000")
        with open(bench.path("job.json"), "w") as f:
            json.dump(job, f)
        self.errors = open(bench.path(f"worker-{name}.log"), "w+")
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "scripts/bench_peers_worker.py"), bench.path("job.json")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=env, text=True)
        try:
            self.loading = self.answer()["ready"]
            self.first = self.ask(1)[0]
            self.trial = self.ask(bench.o.steps)
        except Failed:
            self.end()
            raise

    def answer(self):
        wait = selectors.DefaultSelector()
        wait.register(self.process.stdout, selectors.EVENT_READ)
        if not wait.select(PATIENCE):
            raise Failed(f"no answer within {PATIENCE} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            said = [t.strip() for t in self.errors.read().splitlines() if t.strip()]
            raise Failed(f"ended with {self.process.returncode}: {said[-1][:160] if said else 'no message'}")
        return json.loads(line)

    def ask(self, n):
        self.say(str(n))
        got = self.answer()
        self.losses += got["losses"]
        return got["seconds"]

    def say(self, text):
        try:
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its answer will say why

    def steps(self, n):
        self.rounds.append(self.ask(n))

    def end(self):
        """Ends the process; its peak memory is known then."""
        try:
            self.say("end")
            self.peak = self.answer()["peak"]
        except Failed:
            pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.errors.close()


def trials(bench, work, failures):
    """Every mode does a few steps: (the fastest worker of each precision, a row a mode)."""
    best, rows = {}, []
    for name in bench.modes(work):
        say(f"{NAMES[work]}: PyTorch {name} ...")
        try:
            worker = Worker(bench, work, name)
        except Failed as why:
            failures.append({"work": work, "mode": name, "why": str(why)})
            say(f"{NAMES[work]}: PyTorch {name} {why}")
            continue
        row = {"mode": name, "precision": worker.precision, "seconds": worker.trial, "load_seconds": worker.loading,
               "first_seconds": worker.first, "worker": worker}
        rows.append(row)
        loser, other = worker, best.get(worker.precision)
        if not other or min(worker.trial) < min(other.trial):
            best[worker.precision], loser = worker, other
        if loser:
            loser.end()
    return best, rows


def contest(bench, work, failures):
    """One work: the trials of PyTorch's modes, then rounds of ft and the best of them."""
    o = bench.o
    best, rows = trials(bench, work, failures)
    mine = {p: Ft(bench, work, p) for p in PRECISIONS if p in best}
    lost = {}
    for r in range(o.rounds):
        for p, worker in best.items():
            say(f"{NAMES[work]}: round {r + 1} of {o.rounds}, {p}")
            mine[p].steps(o.steps)
            try:
                worker.steps(o.steps)
            except Failed as why:
                lost[p] = str(why)
        for p in lost:
            if p in best:
                failures.append({"work": work, "mode": best.pop(p).name, "why": lost[p]})
    for row in rows:
        worker = row.pop("worker")
        if worker.process.poll() is None:
            worker.end()
        row.update(peak=worker.peak, rounds=worker.rounds, losses=worker.losses)
        row["off"] = [abs(a - b) / abs(b) for a, b in zip(mine[row["precision"]].losses, worker.losses)]
        row["agrees"] = all(off <= TOLERANCE[row["precision"]] for off in row["off"])
    return {"work": work, "modes": rows,
            "ft": {p: {"rounds": f.rounds, "peak": f.peak, "losses": f.losses} for p, f in mine.items()}}


# --- what comes out -----------------------------------------------------------------------------------------------------
def rate(seconds):
    return BATCH * LENGTH / statistics.median(seconds)


def spread(values, form="{:.0f}"):
    return " / ".join(form.format(v) for v in (min(values), statistics.median(values), max(values)))


def summaries(results):
    """ft in f32 stands against PyTorch's best in f32, ft in bf16 against its best of all."""
    out = []
    for result in results:
        for p, own in result["ft"].items():
            peers = [m for m in result["modes"] if m["rounds"] and (p == "bf16" or m["precision"] == p)]
            if not peers:
                continue
            peer = max(peers, key=lambda m: statistics.median(map(rate, m["rounds"])))
            ratios = [rate(a) / rate(b) for a, b in zip(own["rounds"], peer["rounds"])]
            out.append({"work": result["work"], "precision": p, "ft_tokens_per_s": [rate(s) for s in own["rounds"]],
                        "ft_peak": own["peak"], "mode": peer["mode"], "tokens_per_s": [rate(s) for s in peer["rounds"]],
                        "peak": peer["peak"], "ratios": ratios, "ratio": statistics.median(ratios)})
    return out


def machine(bench):
    with open("/proc/cpuinfo") as f:
        info = f.read()
    with open("/proc/meminfo") as f:
        total = int(re.search(r"MemTotal:\s+(\d+)", f.read())[1]) / 2**20
    name = re.search(r"model name\s*:\s*(.*)", info)
    flags = re.search(r"(?:flags|Features)\s*:\s*(.*)", info)
    marks = ("avx2", "avx512", "amx", "fma", "bf16", "i8mm")
    versions = {p: importlib.metadata.version(p) for p in ("torch", "transformers", "peft", "bitsandbytes")}
    return {"cpu": name[1] if name else platform.processor(), "threads": bench.o.threads, "memory_gib": total,
            "flags": " ".join(sorted(f for f in (flags[1].split() if flags else []) if any(m in f for m in marks))),
            "ft": json.loads(bench.run(bench.o.ft, "version", "--json")[0]), "python": platform.python_version(),
            "versions": versions, "jemalloc": jemalloc(), "date": datetime.date.today().isoformat()}


def print_tables(info, results, failures, o):
    v, f = info["versions"], info["ft"]
    print(f"`ft` {f['version']}, core {f['core']}, against PyTorch {v['torch']} (transformers {v['transformers']}, PEFT "
          f"{v['peft']}, bitsandbytes {v['bitsandbytes']}), {info['date']}.\n{f['cpu']}, {info['threads']} threads each, "
          f"{info['memory_gib']:.0f} GiB; {info['flags']}.\n{os.path.basename(o.model)} as a bf16 folder, {BATCH} × {LENGTH} "
          f"tokens a step, all supervised, AdamW; {o.rounds} rounds of {o.steps} steps, alternating; warm-up\nand compiling "
          "are not counted. Rates and ratios: minimum / median / maximum of the rounds. ft in bf16 stands against "
          "PyTorch's best\nof all modes, in f32 against its best in f32.\n")
    print("| work | ft in | ft, tokens/s | PyTorch's best | tokens/s | ratio | peak memory, MiB: ft / PyTorch |")
    print("|---|---|---|---|---|---|---|")
    for s in summaries(results):
        print(f"| {NAMES[s['work']]} | {s['precision']} | {spread(s['ft_tokens_per_s'])} | {s['mode']} "
              f"| {spread(s['tokens_per_s'])} | **{s['ratio']:.2f}** ({spread(s['ratios'], '{:.2f}')}) "
              f"| {s['ft_peak'] / 2**20:.0f} / {s['peak'] / 2**20:.0f} |")
    print("\nEvery mode of PyTorch, before the rounds:\n")
    print("| work | mode | tokens/s | peak memory, MiB | loading + first step, s | losses against ft's |")
    print("|---|---|---|---|---|---|")
    for result in results:
        for m in result["modes"]:
            print(f"| {NAMES[result['work']]} | {m['mode']} | {BATCH * LENGTH / min(m['seconds']):.0f} | {m['peak'] / 2**20:.0f} "
                  f"| {m['load_seconds']:.0f} + {m['first_seconds']:.0f} "
                  f"| {'agree' if m['agrees'] else '**differ**'}: {len(m['off'])} within {max(m['off']):.1e} |")
    for m in failures:
        print(f"| {NAMES[m['work']]} | {m['mode']} | failed: {m['why'].replace('|', '/')} | | | |")
    if not info["jemalloc"]:
        print("\njemalloc is not installed (Debian: libjemalloc2): PyTorch ran without it.")


def options():
    p = argparse.ArgumentParser(prog="bench-peers.sh", add_help=False)
    p.add_argument("--ft", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--only", default=",".join(WORKS))
    p.add_argument("--modes", default="")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--json", default="")
    o = p.parse_args()
    o.only, o.modes = o.only.split(","), [m for m in o.modes.split(",") if m]
    for given, known in ((o.only, WORKS), (o.modes, MODES)):
        for name in given:
            if name not in known:
                fail(f"{name}: one of {', '.join(known)}")
    o.ft, o.model = os.path.abspath(o.ft), os.path.abspath(o.model)
    return o


def main():
    o = options()
    began, bench = time.time(), Bench(o)
    bench.modes = lambda work: [m for m in WORKS[work] if not o.modes or m in o.modes]
    results, failures = [], []
    try:
        bench.prepare()
        info = machine(bench)
        for work in o.only:
            results.append(contest(bench, work, failures))
    finally:
        shutil.rmtree(bench.dir, ignore_errors=True)
    print_tables(info, results, failures, o)
    if o.json:
        with open(o.json, "w") as f:
            json.dump({"machine": info, "ratios": summaries(results), "results": results, "failed": failures,
                       "seconds": time.time() - began}, f, indent=1)
    wrong = [(r["work"], m["mode"]) for r in results for m in r["modes"] if not m["agrees"]]
    for work, mode in wrong:
        say(f"{NAMES[work]}: the losses of PyTorch {mode} and ft differ: not the same work")
    return 1 if wrong or not summaries(results) else 0


sys.exit(main())
