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
#   SFT=CONFIG DPO=CONFIG   default: configs/completion.json, and configs/dpo.json without its evaluation
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
sft=${SFT:-$root/configs/completion.json} dpo=${DPO:-$out/dpo.json}
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
answer() { # FILE WORDS…: what ft generate says, after the whole lines that an interrupted one has left
    local file=$1
    shift
    [ -e "$file" ] && return
    touch "$file.part"
    local whole
    whole=$(wc -l <"$file.part")
    head -n "$whole" "$file.part" >"$file.whole"
    mv "$file.whole" "$file.part"
    "$ft" generate --data "$prompts" --max-new-tokens "${TOKENS:-256}" --skip "$whole" "$@" \
        ${generate[@]+"${generate[@]}"} >>"$file.part"
    mv "$file.part" "$file"
}
mark() { # WORDS…: of ft judge
    "$ft" judge --method rating --model "$judge" --template "$template" ${LABELS:+--labels "$LABELS"} ${judging[@]+"${judging[@]}"} "$@"
}
learn() { # VERB NAME CONFIG DATA WORDS…: a training run, or a look at it
    local verb=$1 name=$2 config=$3 data=$4
    shift 4
    "$ft" "$verb" "$config" --model "$student" --out "$out/$name" --set data.train="$data" "$@" ${training[@]+"${training[@]}"}
}
figure() { # NAME FIELD: first and last value in a log
    grep -o "\"$2\":[-0-9.e]*" "$out/$1/log.jsonl" | sed -n 's/.*://; 1p; $p' | paste -sd' ' | sed 's/ / to /'
}
template=${TEMPLATE:-$out/template.txt}
[ -n "${TEMPLATE:-}" ] || printf '%s\n\n%s\n%s\n\n%s' 'Rate the answer to the request with a mark from 1 to 10.' \
    'Request: {prompt}' 'Answer: {completion}' 'Mark:' >"$template"
[ -n "${DPO:-}" ] || sed 's/, "eval": {[^}]*}//; s/, "eval_every": [0-9]*//' "$root/configs/dpo.json" >"$dpo"

# What is wrong with a later step is told before the first: on records that stand for those to come.
dummy=$out/.check.jsonl
sed 's/.*/{"prompt": "a", "completion": "b", "chosen": "b", "rejected": "c", "completions": ["b", "c"]}/' "$prompts" >"$dummy"
head -n 1 "$dummy" | mark -q >/dev/null
learn check .check "$sft" "{\"path\": \"$dummy\", \"format\": \"completion\"}" -q >/dev/null
learn check .check "$dpo" "$dummy" -q >/dev/null
rm -f "$dummy"

step "the teacher answers, and the student learns it"
answer "$out/teacher.jsonl" --model "$teacher" --num-samples 1
make "$out/answers.jsonl" mark --to completion --data "$out/teacher.jsonl"
learn train sft "$sft" "$out/answers.jsonl" --resume

step "the student answers ${SAMPLES:-4} times, and the judge marks them"
answer "$out/samples.jsonl" --model "$student" --adapter "$out/sft" --num-samples "${SAMPLES:-4}" --temperature "${TEMPERATURE:-1}"
make "$out/pairs.jsonl" mark --to preference --pairs best-random --data "$out/samples.jsonl"
[ -s "$out/pairs.jsonl" ] || { complain "no two answers to a prompt differ in their marks"; exit 65; }

step "train on $(wc -l <"$out/pairs.jsonl") pairs"
learn train dpo "$dpo" "$out/pairs.jsonl" --set method.init_from="$out/sft" --resume
step "in short"
echo "dSFT: loss $(figure sft loss)"
echo "dDPO: loss $(figure dpo loss), margin $(figure dpo rewards/margins), in the right order $(figure dpo rewards/accuracies)"
echo "the student is $student with the adapter $out/dpo"
