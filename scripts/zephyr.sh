#!/usr/bin/env bash
# zephyr.sh [OUT] – Zephyr's recipe (Tunstall et al. 2023): a teacher's answers are learned (dSFT), the student's own are
# marked by a judge (AI feedback), and the best of each prompt is preferred to a random other one (dDPO).
#
# OUT (default out/zephyr) then holds sft/ and dpo/ (adapters, the second begins with the first), answers.jsonl, samples.jsonl
# and pairs.jsonl.  What is there is not made again: the same command goes on.
#   FT=PROGRAM        the ft to use; default: build/release/ft, else the one in PATH
#   MODEL=M           the student; default: the embedded one, data/tiny
#   TEACHER=M JUDGE=M default: the student, and the teacher
#   PROMPTS=FILE      JSON lines with prompt or messages; default: data/text/tiny.answers.jsonl
#   SFT=CONFIG DPO=CONFIG   default: configs/completion.json and configs/dpo.json
#   TEMPLATE=FILE LABELS=LIST   what the judge is asked; default: a mark from 1 to 10
#   SAMPLES=4 TEMPERATURE=1 TOKENS=256   of the student's sampling
#   GENERATE=WORDS JUDGING=WORDS   more of ft generate and ft judge, as --chat
#   TRAINING=WORDS    more of ft train, as --set train.max_steps=20
set -euo pipefail
case ${1:-} in -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; [ "$1" = --help ]; exit $(($? * 64)) ;; esac
complain() { echo "zephyr: $*" >&2; }
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/out/zephyr}
student=${MODEL:-$root/data/tiny}
teacher=${TEACHER:-$student}
judge=${JUDGE:-$teacher}
prompts=${PROMPTS:-$root/data/text/tiny.answers.jsonl}
read -ra generate <<<"${GENERATE:-}"
read -ra judging <<<"${JUDGING:-}"
read -ra training <<<"${TRAINING:-}"
ft=${FT:-$root/build/release/ft}
[ -x "$ft" ] || ft=$(command -v ft) || { complain "no ft; build it, or name it in FT"; exit 66; }
[ -e "$prompts" ] || { complain "$prompts: is not there"; exit 66; }
mkdir -p "$out"
step() { printf '\n== %s\n' "$*"; }
make() { # FILE COMMAND…: its output, once it is whole
    local file=$1
    shift
    [ -e "$file" ] && return
    "$@" >"$file.part"
    mv "$file.part" "$file"
}
template=${TEMPLATE:-$out/template.txt}
[ -n "${TEMPLATE:-}" ] || printf '%s\n\n%s\n%s\n\n%s' 'Rate the answer to the request with a mark from 1 to 10.' \
    'Request: {prompt}' 'Answer: {completion}' 'Mark:' >"$template"

step "the teacher answers, and the student learns it"
make "$out/teacher.jsonl" "$ft" generate --model "$teacher" --data "$prompts" --num-samples 1 \
    --max-new-tokens "${TOKENS:-256}" ${generate[@]+"${generate[@]}"}
make "$out/answers.jsonl" "$ft" judge --method rating --model "$judge" --template "$template" ${LABELS:+--labels "$LABELS"} \
    ${judging[@]+"${judging[@]}"} --to completion --data "$out/teacher.jsonl"
"$ft" train "${SFT:-$root/configs/completion.json}" --model "$student" --out "$out/sft" --resume \
    --set data.train="$out/answers.jsonl" ${training[@]+"${training[@]}"}

step "the student answers ${SAMPLES:-4} times, and the judge marks them"
make "$out/samples.jsonl" "$ft" generate --model "$student" --adapter "$out/sft" --data "$prompts" --num-samples "${SAMPLES:-4}" \
    --temperature "${TEMPERATURE:-1}" --max-new-tokens "${TOKENS:-256}" ${generate[@]+"${generate[@]}"}
make "$out/pairs.jsonl" "$ft" judge --method rating --model "$judge" --template "$template" ${LABELS:+--labels "$LABELS"} \
    ${judging[@]+"${judging[@]}"} --to preference --pairs best-random --data "$out/samples.jsonl"
[ -s "$out/pairs.jsonl" ] || { complain "no two answers to a prompt differ in their marks"; exit 65; }

step "train on $(wc -l <"$out/pairs.jsonl") pairs"
"$ft" train "${DPO:-$root/configs/dpo.json}" --model "$student" --out "$out/dpo" --resume --set data.train="$out/pairs.jsonl" \
    --set method.init_from="$out/sft" ${training[@]+"${training[@]}"}
step "the student is $student with the adapter $out/dpo"
