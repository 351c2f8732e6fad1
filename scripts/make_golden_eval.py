#!/usr/bin/env python3
"""make_golden_eval.py OUT – what lm-evaluation-harness makes of records in the hub's form, on the embedded model.

Writes OUT/hub.jsonl (tests/golden/eval), a line a task: its records, of each what was scored (contexts and
continuations with their log-probabilities, or the prompt), and the results. Needs lm_eval 0.4.13 with torch and
transformers. Nothing comes from the network: the records stand below, with texts that are odd on purpose.
"""
import json
import os
import pathlib
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import lm_eval
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
TASKS = pathlib.Path(lm_eval.__file__).parent / "tasks"

ANATOMY = "mmlu/default/mmlu_anatomy.yaml"
HELLASWAG = [
    {"ind": 24, "activity_label": "Roof shingle removal", "ctx_a": "A man is sitting on a roof.", "ctx_b": "he",
     "ctx": "A man is sitting on a roof. he", "endings": ["is using wrap to wrap a pair of skis.", "is ripping level tiles off.",
     "is holding a rubik's cube.", "starts pulling up roofing on a roof."], "source_id": "activitynet~v_-JhWjGDPHMY",
     "split": "val", "split_type": "indomain", "label": "3"},
    {"ind": 1, "activity_label": "Finance and Business", "ctx_a": "[header] How to open  a bank account [title] Choose a bank. [step] Ask   at",
     "ctx_b": "éCOLE [title]", "ctx": "", "endings": [" [substeps] Walk in. [title] Sit down.", "Go  home [ and stay", "éé [a]\n[b\nc] d", "x [title]"],
     "source_id": "wikihow~1", "split": "val", "split_type": "zeroshot", "label": "0"},
    {"ind": 2, "activity_label": "Baking", "ctx_a": "Then she stirs the bowl", "ctx_b": "", "ctx": "Then she stirs the bowl",
     "endings": ["and eats.", "and sleeps.", "and runs away from the house.", "a"], "source_id": "a", "split": "val",
     "split_type": "indomain", "label": "1"},
    {"ind": 3, "activity_label": "Swimming", "ctx_a": "The boy jumps.", "ctx_b": "éstrange things HAPPEN", "ctx": "",
     "endings": ["He swims.", "He swims to the other side of the pool.", "水水", "He"], "source_id": "b", "split": "val",
     "split_type": "indomain", "label": "2"},
]
WINOGRANDE = [
    {"sentence": "Sarah was a much better surgeon than Maria so _ always got the easier cases.", "option1": "Sarah",
     "option2": "Maria", "answer": "2"},
    {"sentence": "The box did not fit in the bag because the _ was too big.", "option1": "box", "option2": "bag", "answer": "1"},
    {"sentence": "_ lent the book to Ann, and _ read it.  ", "option1": "Tom ", "option2": "Élise", "answer": "2"},
    {"sentence": "The dog chased the cat until it was tired _", "option1": "out", "option2": "of it", "answer": "1"},
]
PIQA = [
    {"goal": "How do I ready a guinea pig cage?", "sol1": "Provide the guinea pig with a cage full of a few inches of bedding.",
     "sol2": "Provide the guinea pig with a cage full of straw.", "label": 0},
    {"goal": "dresser", "sol1": "replace drawer with bobby pin", "sol2": "finish, woodgrain with 'bobby' \"pin\"\\n", "label": 1},
    {"goal": "To dry {{ wet }} hands,", "sol1": "use a towel\nor a cloth.", "sol2": " wait", "label": 1},
]
ARC = [
    {"id": "Mercury_7175875", "question": "An astronomer observes that a planet rotates faster after a meteorite impact.",
     "choices": {"text": ["Density will decrease.", "Years will become longer.", "Days will become shorter.", "Gravity will become stronger."],
                 "label": ["A", "B", "C", "D"]}, "answerKey": "C"},
    {"id": "b", "question": "Which is three?", "choices": {"text": ["1", "2", "3"], "label": ["1", "2", "3"]}, "answerKey": "3"},
    {"id": "c", "question": "Which fits? ", "choices": {"text": ["it's", "a \"b\"", "c", "d", "é"], "label": ["A", "B", "C", "D", "E"]},
     "answerKey": "E"},
]
MMLU = [
    {"question": "A lesion of the facial nerve causes which of the following?\n", "subject": "anatomy",
     "choices": ["paralysis of the muscles", "loss of taste", "all of the above", "1"], "answer": 0},
    {"question": "  What holds blood? ", "subject": "anatomy", "choices": ["a vein", "a bone", "a hair", "a nail"], "answer": 3},
    {"question": "Where is the tibia?", "subject": "anatomy", "choices": ["in the arm", "in the leg", "é", "in the head "], "answer": 1},
]
HISTORY = [
    {"question": "Who crossed the Delaware?", "subject": "high_school_us_history", "choices": ["A", "B", "C", "D"], "answer": 2},
    {"question": "Which came first?", "subject": "high_school_us_history", "choices": ["one", "two", "three", "four"], "answer": 1},
]
LAMBADA = [
    {"text": "the old man had a horse and a dog and a cat, and every day he fed the horse and the dog and the cat"},
    {"text": "once upon a time"},
    {"text": "\"Well,\" she said,  \"there's no  such thing as magic, éclair\""},
    {"text": "Question: How many legs does a bear have?\nAnswer: A bear has four legs."},
    {"text": "word"},
]
CASES = [("hellaswag", "hellaswag/hellaswag.yaml", HELLASWAG), ("winogrande", "winogrande/default.yaml", WINOGRANDE),
         ("piqa", "piqa/piqa.yaml", PIQA), ("arc", "arc/arc_challenge.yaml", ARC), ("mmlu", ANATOMY, MMLU),
         ("mmlu", "mmlu/default/mmlu_high_school_us_history.yaml", HISTORY),
         ("lambada", "lambada/lambada_openai.yaml", LAMBADA)]


def run(lm, path, records, folder):
    data = pathlib.Path(folder) / "records.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in records))
    config = load_yaml(TASKS / path, resolve_func=True)
    for key in ("dataset_name", "training_split", "validation_split", "fewshot_split", "tag", "group", "fewshot_config"):
        config.pop(key, None)
    config.update(dataset_path="json", dataset_kwargs={"data_files": {"test": str(data)}}, test_split="test", num_fewshot=0)
    task = ConfigurableTask(config=config)
    out = evaluate(lm=lm, task_dict={config["task"]: task}, log_samples=True, bootstrap_iters=0)
    samples = sorted(out["samples"][config["task"]], key=lambda s: s["doc_id"])
    return config["task"], samples, out["results"][config["task"]]


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    model = sys.argv[2] if len(sys.argv) > 2 else str(ROOT / "data/tiny")
    lm = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=1)
    with tempfile.TemporaryDirectory() as folder, open(out / "hub.jsonl", "w") as f:
        for name, path, records in CASES:
            folder_of = tempfile.mkdtemp(dir=folder)
            task, samples, results = run(lm, path, records, folder_of)
            lines = []
            for s in samples:
                args = [[a[0], a[1]] for a in (tuple(x.values()) if isinstance(x, dict) else x for x in
                        (s["arguments"].values() if isinstance(s["arguments"], dict) else s["arguments"]))]
                logprobs = [float(r[0] if not isinstance(r[0], (list, tuple)) else r[0][0]) for r in s["resps"]]
                lines.append({"scored": args, "logprob": logprobs,
                              **{k: float(s[k]) for k in ("acc", "acc_norm") if k in s}})
            results = {k.split(",")[0]: v for k, v in results.items() if isinstance(v, float)}
            json.dump({"type": name, "task": task, "records": records, "lines": lines, "results": results}, f,
                      ensure_ascii=False)
            f.write("\n")


if __name__ == "__main__":
    main()
