#!/usr/bin/env bash
# demo.sh – the main job from nothing: build, fetch SmolLM2-135M-Instruct, fine-tune it with LoRA on
# data/instructions.jsonl, merge with proof, evaluate before and after, let both answer.
# Where no package index is within reach the same job runs on the model that is embedded in data/tiny.
#
#   scripts/demo.sh [--tiny]     --tiny: the embedded model at once (seconds instead of minutes)
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

scripts/install-deps.sh
step "build"
cmake --preset release -DFT_TESTS=OFF -B build/demo >/dev/null
cmake --build build/demo -j "$(nproc)" --target ft | tail -1
ft=build/demo/ft

model=models/SmolLM2-135M-Instruct.Q4_1.gguf
config=configs/demo/smollm2-lora.json
question='Express 27 minutes in seconds.'
if [ "${1:-}" = --tiny ]; then
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
