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
#                  [112:] of it.  A SOURCE is a file, or an object of a config: {"path": FILE, "split": "[:90%]"}
#   PROMPTS=SOURCE to answer; default: the prompts of the pairs
#   SFT=WORDS REWARD=WORDS PPO=WORDS   more of ft train, as --set train.max_steps=40
set -euo pipefail
case ${1:-} in -*) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; [ "$1" = --help ] && exit 0; exit 64 ;; esac
complain() { echo "rlhf: $*" >&2; }
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/out/rlhf} model=${MODEL:-$root/data/tiny} pairs=$root/data/text/tiny.preference.jsonl
demos=${DEMOS-$root/data/text/tiny.chat.jsonl}
train=${PAIRS:-"{\"path\": \"$pairs\", \"split\": \"[:112]\"}"} held=${HELD:-"{\"path\": \"$pairs\", \"split\": \"[112:]\"}"}
prompts=${PROMPTS:-"{\"path\": \"$pairs\", \"format\": \"prompt\", \"split\": \"[:112]\"}"}
read -ra sft <<<"${SFT:-}"
read -ra reward <<<"${REWARD:-}"
read -ra ppo <<<"${PPO:-}"
ft=${FT:-$root/build/release/ft}
[ -x "$ft" ] || ft=$(command -v ft) || { complain "no ft; build it, or name it in FT"; exit 66; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
step() { printf '\n== %s\n' "$*"; }
run() { # NAME WORDS…: a training run, or what is left of it
    local name=$1
    shift
    [ -e "$out/$name/summary.json" ] || "$ft" train --out "$out/$name" --method lora --resume "$@"
}
figure() { # NAME FIELD: first and last value in a log
    grep -o "\"$2\":[-0-9.e]*" "$out/$1/log.jsonl" | sed -n 's/.*://; 1p; $p' | paste -sd' ' | sed 's/ / to /'
}

policy=$out/policy
if [ -n "$demos" ]; then
    step "1. a model that has learned the demonstrations"
    run sft --model "$model" --data "$demos" ${sft[@]+"${sft[@]}"}
    [ -e "$policy/config.json" ] || "$ft" merge-adapter "$out/sft" --out "$policy" --type f32
else
    policy=$model
fi
step "2. a reward model, from pairs of answers"
run reward --model "$policy" --data "$train" --eval "$held" --set objective.type=reward ${reward[@]+"${reward[@]}"}
step "3. PPO: what the reward model rewards"
run ppo --model "$policy" --data "$prompts" --set objective.type=ppo --set "objective.rewards=[{\"type\": \"model\", \
\"path\": \"$policy\", \"adapter\": \"$out/reward\"}]" \
    --set objective.max_completion_length=64 ${ppo[@]+"${ppo[@]}"}
step "in short"
echo "reward model: accuracy on held-out pairs $(figure reward eval_accuracy)"
echo "policy: mean reward of its answers $(figure ppo objective/scores), KL from where it began $(figure ppo objective/kl)"
