#!/usr/bin/env bash
# sft-vs-rl.sh [OUT] – "SFT memorizes, RL generalizes" (Chu et al. 2025) on a small scale: sums of three playing cards, of which
# J, Q and K count ten each, or eleven, twelve and thirteen; the prompt says which (data/rules, scripts/make_rules.py).
#
# A model learns both rules a little; from there SFT and GRPO go on with the first rule alone, the same problems, the same number of
# steps. A table says how many unseen problems of either rule each solves: of the rule that went on, and of the one that did not.
#   OUT               default: out/rules; a run that is there is not made again
#   FT=PROGRAM        the ft to use; default: build/release/ft, else the one in PATH
#   STEPS=LIST        what is told of, commas between; default: 50,100,200
set -euo pipefail
case ${1:-} in -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; [ "$1" = --help ]; exit $(($? * 64)) ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/out/rules}
ft=${FT:-$root/build/release/ft}
[ -x "$ft" ] || ft=$(command -v ft) || { echo "sft-vs-rl: no ft; build it, or name it in FT" >&2; exit 66; }
IFS=, read -ra steps <<<"${STEPS:-50,100,200}"
last=${steps[${#steps[@]} - 1]}
mkdir -p "$out"

[ -e "$out/start/summary.json" ] || "$ft" train "$root/configs/rules/start.json" --out "$out/start" -q
for way in sft grpo; do
    [ -e "$out/$way/summary.json" ] || "$ft" train "$root/configs/rules/$way.json" --out "$out/$way" -q \
        --model "$out/start" --set train.max_steps="$last" --set train.checkpoint_every="${steps[0]}" --set train.keep_checkpoints=1000
done

row() { # NAME STEPS MODEL
    local figures
    figures=$("$ft" eval "$root/configs/rules/eval.json" --set model.path="$3" --json -q |
        grep -o '"accuracy":[0-9.]*' | cut -d : -f 2)
    # shellcheck disable=SC2086
    printf '| %-5s | %5s | %8s | %12s |\n' "$1" "$2" $figures
}
{
    printf '|       | steps | its rule | another rule |\n|---|---|---|---|\n'
    row start 0 "$out/start"
    for way in sft grpo; do
        for step in "${steps[@]}"; do row $way "$step" "$out/$way/checkpoints/step-$step"; done
    done
} | tee "$out/table.md"
