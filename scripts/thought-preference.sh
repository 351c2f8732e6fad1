#!/usr/bin/env bash
# thought-preference.sh CONFIG ROUNDS [OUT] – thought preference optimisation (Wu et al. 2024): in every round the model writes
# thoughts and a response to each prompt several times, the responses alone are judged, and CONFIG (of objective dpo, or another
# over pairs) trains on the best and the worst as they were written, thoughts included.  The adapter of a round is what the
# next one begins with.
#
# OUT (default out/thoughts) then holds round-N/ (the adapters), samples-N.jsonl and pairs-N.jsonl.  What is there is not
# made again: the same command goes on.
#   FT=PROGRAM        the ft to use; default: build/release/ft, else the one in PATH
#   MODEL=M           the model; default: the embedded one, data/tiny
#   PROMPTS=FILE      JSON lines with prompt or messages, and what the judge needs; default: data/text/tiny.answers.jsonl
#   JUDGE=WORDS       of ft judge; default: --method match --match contains
#   THOUGHT=TEXT      what each prompt begins with; empty: nothing
#   MARKER=TEXT       what a response begins behind; empty: all of a completion is judged
#   SAMPLES=8 TEMPERATURE=0.8 TOKENS=256   of the sampling
#   GENERATE=WORDS    more of ft generate, as --chat
set -euo pipefail
case ${1:-} in -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; [ "$1" = --help ]; exit $(($? * 64)) ;; esac
complain() { echo "thought-preference: $*" >&2; }
[ $# -ge 2 ] && [[ $2 =~ ^[1-9][0-9]*$ ]] || { complain "a config and a number of rounds are needed; --help says more"; exit 64; }
root=$(cd "$(dirname "$0")/.." && pwd)
config=$1 rounds=$2 out=${3:-$root/out/thoughts}
model=${MODEL:-$root/data/tiny} prompts=${PROMPTS:-$root/data/text/tiny.answers.jsonl}
thought=${THOUGHT-Write your thoughts after \"Here is my thought process:\" and your response after \"Here is my response:\".}
marker=${MARKER-Here is my response:}
read -ra judge <<<"${JUDGE:---method match --match contains}"
read -ra generate <<<"${GENERATE:-}"
ft=${FT:-$root/build/release/ft}
[ -x "$ft" ] || ft=$(command -v ft) || { complain "no ft; build it, or name it in FT"; exit 66; }
[ -e "$prompts" ] || { complain "$prompts: is not there"; exit 66; }
mkdir -p "$out"
step() { printf '\n== %s\n' "$*"; }

# The thought prompt stands at the beginning of the first text of a line.
escaped=$(printf %s "$thought" | sed 's/[\\"]/\\&/g; s/[&/\\]/\\&/g')
sed -E "s/\"(prompt|content)\": *\"/&${thought:+$escaped\\\\n\\\\n}/" "$prompts" >"$out/prompts.jsonl"

# What is wrong with CONFIG is told before the first sampling: on as many pairs as there may be.
sed 's/.*/{"prompt": "a", "chosen": "b", "rejected": "c"}/' "$out/prompts.jsonl" >"$out/.check.jsonl"
"$ft" check "$config" --model "$model" --out "$out/.check" --set data.train="$out/.check.jsonl" -q >"$out/.check.txt"
rm -f "$out/.check.jsonl" "$out/.check.txt"
few=1 # of the prompts; all where the judge is no model
[[ " ${judge[*]} " != *" match "* ]] || few=$(wc -l <"$out/prompts.jsonl")
head -n "$few" "$out/prompts.jsonl" | sed 's/} *$/, "completions": ["a"]}/' | "$ft" judge "${judge[@]}" --to scores -q >/dev/null

from=()  # the adapter of the round before
start=() # and as the config's
for ((round = 1; round <= rounds; round++)); do
    samples=$out/samples-$round.jsonl pairs=$out/pairs-$round.jsonl adapter=$out/round-$round
    if [ ! -e "$adapter/summary.json" ]; then
        step "round $round: ${SAMPLES:-8} completions to each prompt"
        if [ ! -e "$samples" ]; then
            touch "$samples.part"
            whole=$(wc -l <"$samples.part") # of an interrupted one
            head -n "$whole" "$samples.part" >"$samples.whole"
            mv "$samples.whole" "$samples.part"
            "$ft" generate --model "$model" ${from[@]+"${from[@]}"} --data "$out/prompts.jsonl" --num-samples "${SAMPLES:-8}" \
                --temperature "${TEMPERATURE:-0.8}" --max-new-tokens "${TOKENS:-256}" --seed "$round" --skip "$whole" \
                ${generate[@]+"${generate[@]}"} >>"$samples.part"
            mv "$samples.part" "$samples"
        fi
        step "round $round: judge the responses, pair the best with the worst"
        "$ft" judge "${judge[@]}" ${marker:+--response-marker "$marker"} --to preference --data "$samples" --out "$pairs" --force
        [ -s "$pairs" ] || { complain "round $round: no two completions differ in their scores"; exit 65; }
        step "round $round: train on $(wc -l <"$pairs") pairs"
        "$ft" train "$config" --model "$model" --out "$adapter" --resume --set data.train="$pairs" \
            ${start[@]+"${start[@]}"}
    fi
    from=(--adapter "$adapter")
    start=(--set "method.init_from=$adapter")
done
step "the last adapter is $out/round-$rounds"
