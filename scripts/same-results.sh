#!/usr/bin/env bash
# same-results.sh [--steps N] OLD NEW – proves that a change of the code changed no number.  OLD and NEW are two
# builds of the program; every config of configs/ is trained with both, a merge, an evaluation, scores and answers
# follow, and the results must be equal byte for byte.  With the model of scripts/fetch-model.sh at hand (models/,
# or FT_MODELS), ten steps of LoRA on it are compared as well.
#
#   --steps N   at most N optimizer steps of each config: a quick look.  Default: whole runs.
#
# Compared: every file of a result but the record of the run (summary.json, config.resolved.json, time.jsonl,
# checkpoints), of log.jsonl and of an evaluation all lines and fields that OLD writes (lines of step 0 and new fields
# are NEW's own), and of a GGUF the tensors: its metadata says what a release knows of tokens.
# A config that OLD refuses is named and passed over.  Exit status: 0 equal, 1 different, 64 usage.
set -euo pipefail

steps=(--set train.precision=f32) # a build that knows bf16 would take it by itself
if [ "${1:-}" = --steps ]; then
    steps+=(--set "train.max_steps=$2")
    shift 2
fi
[ $# -eq 2 ] && [ -x "$1" ] && [ -x "$2" ] || { echo "usage: scripts/same-results.sh [--steps N] OLD NEW" >&2; exit 64; }
old=$(realpath "$1") new=$(realpath "$2")
root=$(cd "$(dirname "$0")/.." && pwd)
model=${FT_MODELS:-$root/models}/SmolLM2-135M-Instruct.Q4_1.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

bad=0 same=0
differs() { echo "same-results: $*" >&2; bad=1; }

run() { # NAME, then the arguments of both programs; @ stands for old or new
    local name=$1 which
    shift
    for which in old new; do
        "${!which}" "${@//@/$which}" >"$name.$which.out" 2>"$name.$which.err" && continue
        if [ $which = old ]; then
            echo "same-results: OLD does not run $name: $(tail -n 1 "$name.old.err")"
            return 1
        fi
        differs "NEW does not run $name: $(tail -n 1 "$name.new.err")"
        return 1
    done
}

text() { # NAME: what the two printed
    if cmp -s "$1.old.out" "$1.new.out"; then same=$((same + 1)); else differs "$1: the output differs"; fi
}

same_log() { # OLD NEW: lines and fields of OLD
    python3 - "$1" "$2" <<'PYTHON'
import json, sys
def lines(path):
    return [json.loads(l, parse_float=str, parse_int=str) for l in open(path)]
old, new = lines(sys.argv[1]), lines(sys.argv[2])
if not any(l["step"] == "0" for l in old):
    new = [l for l in new if l["step"] != "0"]
if len(old) != len(new):
    sys.exit(f"{len(old)} lines, then {len(new)}")
for a, b in zip(old, new):
    for key in a:
        if b.get(key) != a[key]:
            sys.exit(f"step {a['step']}: {key} was {a[key]}, is {b.get(key)}")
PYTHON
}

same_tensors() { # OLD NEW: as NEW reads them
    local which
    for which in "$1" "$2"; do
        rm -rf "$which.folder"
        "$new" convert "$which" --out "$which.folder" --type f32 -q >/dev/null || return 1
    done
    cmp -s "$1.folder/model.safetensors" "$2.folder/model.safetensors"
}

same_fields() { # NAME: JSON lines of OLD and NEW; every field of OLD's is in NEW's
    python3 - "$1.old.out" "$1.new.out" <<'PYTHON'
import json, sys
old, new = ([json.loads(l, parse_float=str) for l in open(p)] for p in sys.argv[1:])
ok = len(old) == len(new) and all(b.get(k) == a[k] for a, b in zip(old, new) for k in a)
sys.exit(0 if ok else "results differ")
PYTHON
}

result() { # NAME: folders NAME/old and NAME/new
    local file why
    while read -r file; do
        case $file in
        summary.json | config.resolved.json | time.jsonl | .lock | checkpoints/*) continue ;;
        *.gguf) same_tensors "$1/old/$file" "$1/new/$file" || { differs "$1: tensors of $file differ"; continue; } ;;
        log.jsonl)
            why=$(same_log "$1/old/$file" "$1/new/$file" 2>&1) || { differs "$1: $file: $why"; continue; }
            ;;
        *) cmp -s "$1/old/$file" "$1/new/$file" || { differs "$1: $file differs"; continue; } ;;
        esac
        same=$((same + 1))
    done < <(cd "$1/old" && find . -type f -printf '%P\n' | sort)
}

for config in "$root"/configs/*.json; do
    name=$(basename "$config" .json)
    if grep -q '"tasks"' "$config"; then
        run "$name" eval "$config" --json || continue
        if same_fields "$name" 2>/dev/null; then same=$((same + 1)); else differs "$name: results differ"; fi
        continue
    fi
    run "$name" train "$config" --out "$name/@" -q ${steps[@]+"${steps[@]}"} && result "$name"
done
tiny=$root/data/tiny
run merge merge-adapter lora/@ --base "$tiny" --out merge/@ -q && result merge
mkdir -p gguf/old gguf/new
run gguf merge-adapter lora/@ --base "$tiny" --out gguf/@/merged.gguf -q && result gguf
run generate generate --model "$tiny" --adapter lora/@ --chat --prompt "Who lives in the village?" \
    --max-new-tokens 24 && text generate
run sample generate --model full/@ --prompt "Once upon" --temperature 0.9 --seed 7 --max-new-tokens 24 && text sample
for words in "The little girl" "Once upon a time there was" "a"; do
    printf '{"text": "%s and the old man went home."}\n{"context": "%s", "continuation": " went home"}\n' "$words" "$words"
done >lines.jsonl
run score score --model "$tiny" --adapter lora/@ --data lines.jsonl --per-token && text score
if [ -e "$model" ]; then
    run smollm2 train "$root/configs/demo/smollm2-lora.json" --set "model.path=$model" --set train.max_steps=10 \
        --set train.eval_every=0 --out smollm2/@ -q && result smollm2
else
    echo "same-results: no $(basename "$model"): SmolLM2 is not compared"
fi
[ $bad -ne 0 ] || echo "same-results: fine ($same results)"
exit $bad
