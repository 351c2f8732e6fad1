#!/usr/bin/env bash
# demo.sh – the main job from nothing: build, fetch SmolLM2-135M-Instruct, fine-tune it with LoRA on
# data/instructions.jsonl, merge with proof, evaluate before and after, let both answer.
# Where no package index is within reach the same job runs on the model that is embedded in data/tiny.
#
#   scripts/demo.sh [--tiny] [--all]
#     --tiny: the embedded model at once (seconds instead of minutes)
#     --all:  instead of the main job, every backend for some steps, and one table of them
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

tiny=false all=false
for word; do
    case $word in
    --tiny) tiny=true ;;
    --all) all=true ;;
    *) echo "usage: scripts/demo.sh [--tiny] [--all]" >&2; exit 64 ;;
    esac
done

scripts/install-deps.sh
step "build"
cmake --preset release -DFT_TESTS=OFF -B build/demo >/dev/null
cmake --build build/demo -j "$(nproc)" --target ft | tail -1
ft=build/demo/ft

model=models/SmolLM2-135M-Instruct.Q4_1.gguf
config=configs/demo/smollm2-lora.json
question='Express 27 minutes in seconds.'
if $tiny; then
    model=data/tiny
else
    step "model"
    scripts/fetch-model.sh || { echo "demo: going on with the embedded model data/tiny"; model=data/tiny; }
fi
if [ "$model" = data/tiny ]; then
    config=configs/lora.json
    question='Where does a frog live?'
fi
out=out/demo
rm -rf "$out"
mkdir -p "$out"

# One line of the table, from the files of a run. tokens/s: the median of the steps.
row() { # NAME FOLDER
    local summary=$2/summary.json
    field() { sed -n "s/^ *\"$1\": \([^,]*\),*$/\1/p" "$summary" | head -n 1; }
    rates() { sed -n 's/.*"tokens_per_s":\([^,}]*\).*/\1/p' "$2/time.jsonl" | sort -g; }
    printf '%-32s %11s %9.0f %9.0f %8.4f %8.4f\n' "$1" "$(field trainable_parameters)" \
        "$(rates "$@" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')" \
        "$(field peak_rss_bytes | awk '{ print $1 / 1048576 }')" "$(field first)" "$(field last)"
}

# Every backend for 20 steps at a rate that suits it: that it learns, what it trains and what it costs.
# Some want an unquantised folder: the same model, converted.
backends() {
    local folder=$out/folder blocks=$model table=$out/table.txt runs=0 name base keys set
    run "$ft" convert "$model" --out "$folder" --type bf16
    if [ "$model" = data/tiny ]; then
        blocks=$out/tiny.gguf
        run "$ft" convert "$model" --out "$blocks" --type q4_1
    fi
    printf '%-32s %11s %9s %9s %8s %8s\n' backend trainable tokens/s 'peak MiB' before after >"$table"
    while IFS='|' read -r name base keys; do
        runs=$((runs + 1))
        set=()
        for key in $keys; do set+=(--set "$key"); done
        step "$name"
        run "$ft" train configs/demo/backends.json --out "$out/run-$runs" --set "model.path=$base" "${set[@]}"
        row "$name" "$out/run-$runs" >>"$table"
    done <<END
lora|$model|method.type=lora optim.learning_rate=1e-3
loraplus|$model|method.type=loraplus optim.learning_rate=3e-4
qlora, blocks of the GGUF|$blocks|method.type=qlora optim.learning_rate=1e-3
qlora, nf4 quantised on load|$folder|method.type=qlora optim.learning_rate=1e-3
bitfit|$folder|method.type=bitfit optim.learning_rate=3e-3
prompt_tuning, 20 virtual tokens|$model|method.type=prompt_tuning method.num_virtual_tokens=20 optim.learning_rate=3e-2
full|$folder|method.type=full optim.learning_rate=1e-4
full, adamw8bit|$folder|method.type=full optim.type=adamw8bit optim.learning_rate=1e-4
full, text with rewarm|$folder|method.type=full optim.lr_scheduler_type=rewarm optim.learning_rate=1e-4 data.train=data/text/tiny.txt data.eval=data/text/tiny.eval.txt
END
    step "all backends, ${model##*/}"
    cat "$table"
}

if $all; then
    backends
    exit
fi

evaluate() { # MODEL: on questions of its own world
    if [ "$model" = data/tiny ]; then
        run "$ft" eval --model "$1" --task generate --data data/text/tiny.answers.jsonl --match contains
    else
        run "$ft" eval configs/demo/eval.json --set "model.path=$1"
    fi
}

step "what this machine can do"
run "$ft" bench
step "evaluate the untuned model"
evaluate "$model"
step "fine-tune"
run "$ft" train "$config" --out "$out/adapter"
step "merge, with proof"
run "$ft" merge-adapter "$out/adapter" --base "$model" --out "$out/merged"
step "evaluate the merged model"
evaluate "$out/merged"
step "the same question to both"
run "$ft" generate --model "$model" --chat --prompt "$question" --max-new-tokens 48
run "$ft" generate --model "$out/merged" --chat --prompt "$question" --max-new-tokens 48
printf '\nThe adapter is in %s/adapter (PEFT), the merged model in %s/merged (Hugging Face).\n' "$out" "$out"
