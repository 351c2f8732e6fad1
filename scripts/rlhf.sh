#!/usr/bin/env bash
# rlhf.sh [OUT] – the three steps of InstructGPT (Ouyang et al. 2022): a model learns demonstrations (SFT), another learns from pairs
# which answers are better (a reward model, begun as the first), and the first learns by PPO what the second rewards.
#
# OUT (default out/rlhf) then holds sft/ (an adapter), policy/ (folded into the model), reward/ and ppo/ (adapters on policy/), and
# what the reward model says of answers before and after.  What is there is not made again: the same command goes on.
#   FT=PROGRAM     the ft to use; default: build/release/ft, else the one in PATH
#   MODEL=M        the model; default: the embedded one, data/tiny
#   DEMOS=FILE     to learn from; default: data/text/tiny.chat.jsonl; empty: MODEL has learned already
#   PAIRS=SOURCE   of the reward model, HELD=SOURCE those it is measured on; default: data/text/tiny.preference.jsonl, [:112] and
#                  [112:] of it; with PAIRS a tenth of them.  A SOURCE is a file, or an object of a config: {"path": FILE, "split":
#                  "[:90%]"}
#   PROMPTS=SOURCE to answer: records with a prompt, or pairs; default: the prompts of the pairs
#   SFT=WORDS REWARD=WORDS PPO=WORDS   more of ft train, as --set train.max_steps=40
set -euo pipefail
case ${1:-} in -*) sed -n '2,/^set -/p' "$0" | sed '$d; s/^# \{0,1\}//'; [ "$1" = --help ] && exit 0; exit 64 ;; esac
complain() { echo "rlhf: $*" >&2; }
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/out/rlhf} model=${MODEL:-$root/data/tiny} pairs=$root/data/text/tiny.preference.jsonl
demos=${DEMOS-$root/data/text/tiny.chat.jsonl}
train=${PAIRS:-"{\"path\": \"$pairs\", \"split\": \"[:112]\"}"} held=(--set data.eval_split=0.1)
[ -n "${PAIRS:-}" ] || held=(--eval "{\"path\": \"$pairs\", \"split\": \"[112:]\"}")
[ -z "${HELD:-}" ] || held=(--eval "$HELD")
read -ra sft <<<"${SFT:-}"
read -ra reward <<<"${REWARD:-}"
read -ra ppo <<<"${PPO:-}"
sft=(--data "$demos" ${sft[@]+"${sft[@]}"})
reward=(--data "$train" "${held[@]}" --set objective.type=reward ${reward[@]+"${reward[@]}"})
ppo=(--data "${PROMPTS:-$train}" --set objective.type=ppo --set objective.max_completion_length=64 ${ppo[@]+"${ppo[@]}"})
ft=${FT:-$root/build/release/ft}
[ -x "$ft" ] || ft=$(command -v ft) || { complain "no ft; build it, or name it in FT"; exit 66; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
step() { printf '\n== %s\n' "$*"; }
look() { # NAME WORDS…: what is wrong with the words of a run that is to come
    local name=$1 said code=0
    shift
    [ -e "$out/$name/summary.json" ] && return
    said=$("$ft" check --out "$out/.check" --method lora --model "$model" "$@" -q 2>&1 >/dev/null) || code=$?
    [ $code = 0 ] || { printf '%s\n' "$said" >&2; complain "step \"$name\" would fail"; exit $code; }
}
run() { # NAME WORDS…: a training run, or what is left of it
    local name=$1
    shift
    [ -e "$out/$name/summary.json" ] || "$ft" train --out "$out/$name" --method lora --resume "$@"
}
figure() { # NAME FIELD: first and last value in a log
    grep -o "\"$2\":[-0-9.e]*" "$out/$1/log.jsonl" | sed -n 's/.*://; 1p; $p' | paste -sd' ' | sed 's/ / to /'
}

# What is wrong with a later step is told before the first: with the model that all begin with, and some reward for what is to be one.
[ -z "$demos" ] || look sft "${sft[@]}"
look reward "${reward[@]}"
look ppo --set 'objective.rewards=["format"]' "${ppo[@]}"

policy=$out/policy
if [ -n "$demos" ]; then
    step "1. a model that has learned the demonstrations"
    run sft --model "$model" "${sft[@]}"
    [ -e "$policy/config.json" ] || "$ft" merge-adapter "$out/sft" --out "$policy" --type f32
else
    policy=$model
fi
step "2. a reward model, from pairs of answers"
run reward --model "$policy" "${reward[@]}"
step "3. PPO: what the reward model rewards"
run ppo --model "$policy" --set "objective.rewards=[{\"type\": \"model\", \"path\": \"$policy\", \"adapter\": \"$out/reward\"}]" \
    "${ppo[@]}"
step "in short"
echo "reward model: accuracy on held-out pairs $(figure reward eval_accuracy)"
echo "policy: mean reward of its answers $(figure ppo objective/scores), KL from where it began $(figure ppo objective/kl)"
