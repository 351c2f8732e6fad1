#!/usr/bin/env bash
# ci-example.sh [OUT] – a pipeline to copy: a config is checked, trained under a time limit and gone on with, the adapter
# merged with proof, the result held against the untuned model by gates, and what it leaves is hashed.
#
# OUT (default out/ci) then holds junit.xml, report.md, report.html, results.jsonl, adapter/, merged/ and SHA256SUMS. The
# exit status is that of the gates (0, or 81: one is missed), or of the step that failed.
#   FT=PROGRAM        the ft to use; default: build/release/ft, else the one in PATH
#   MODEL=M           the untuned model; default: the embedded one, data/tiny
#   TRAIN=CONFIG EVAL=CONFIG   default: configs/lora.json and configs/ci/eval.json
#   MINUTES=N         time for each part of the training, 0.05 by default; a runner's limit less a minute
set -euo pipefail
case ${1:-} in -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; [ "$1" = --help ]; exit $(($? * 64)) ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/out/ci}
train=${TRAIN:-$root/configs/lora.json} evaluation=${EVAL:-$root/configs/ci/eval.json}
model=${MODEL:-$root/data/tiny}
ft=${FT:-$root/build/release/ft}
[ -x "$ft" ] || ft=$(command -v ft) || { echo "ci-example: no ft; build it, or name it in FT" >&2; exit 66; }
mkdir -p "$out"
seconds=$(awk -v m="${MINUTES:-0.05}" 'BEGIN { print m * 60 }')
step() { printf '\n== %s\n' "$*"; }

go_on=()
[ ! -e "$out/adapter/checkpoints" ] || go_on=(--resume) # a runner before this one ended
step "check: everything that training would refuse, before anything is spent"
"$ft" check "$train" --model "$model" --out "$out/adapter" --set train.max_seconds="$seconds" ${go_on[@]+"${go_on[@]}"}

# 75: the time is up and a checkpoint stands. A runner would end here, and the next one begin with --resume; so does the loop.
step "train, $seconds seconds at a time"
while :; do
    status=0
    "$ft" train "$train" --model "$model" --out "$out/adapter" --set train.max_seconds="$seconds" \
        ${go_on[@]+"${go_on[@]}"} || status=$?
    [ $status = 75 ] || break
    go_on=(--resume)
done
[ $status = 0 ] || exit $status

step "merge, with the proof that the result answers as base and adapter do"
"$ft" merge-adapter "$out/adapter" --base "$model" --out "$out/merged" --force

step "evaluate against the untuned model"
gates=0
"$ft" eval "$evaluation" --set model.path="$out/merged" --set baseline="$model" \
    --junit "$out/junit.xml" --report "$out/report.md" --json >"$out/results.jsonl" || gates=$?
[ $gates = 0 ] || [ $gates = 81 ] || exit $gates
cat "$out/report.md"

step "what is handed on"
"$ft" report "$out/adapter" --out "$out/report.html"
(cd "$out" && find adapter merged junit.xml report.md report.html results.jsonl -type f -not -path '*/checkpoints/*' \
    -not -name .lock -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS && wc -l <SHA256SUMS && sha256sum SHA256SUMS)
exit $gates
