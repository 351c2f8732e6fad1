#!/usr/bin/env bash
# distill.sh FT [TEACHER STUDENT.json [OUT]] – what a teacher is worth: a small student, from scratch, at equal steps and at equal
# tokens a step, learns the same text from its labels alone, from them and the teacher's distributions (kd), and from text
# that the teacher writes to the same beginnings (sequence distillation). The loss on text that none has seen is told.
#
# TEACHER: a model folder or .gguf, by default the embedded model; STUDENT.json: config.json of a model of its vocabulary.
# In the environment STEPS (150), BATCH (8), LENGTH (128), RATE (0.003), BETA (0), DOCUMENTS (400: what the teacher writes).
set -euo pipefail
case ${1:-} in
-h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
'') echo 'distill: which ft? distill.sh --help says more' >&2; exit 64 ;;
esac
ft=$(realpath "$1")
cd "$(dirname "$0")/.."
teacher=${2:-data/tiny} student=${3:-configs/student/config.json} out=${4:-out/distill}
steps=${STEPS:-150} documents=${DOCUMENTS:-400}
mkdir -p "$out"
teacher=$(realpath "$teacher") student=$(realpath "$student") out=$(realpath "$out") text=$(realpath data/text)

cat > "$out/run.json" <<EOF
{"model": {"from_config": "$student", "tokenizer": "$teacher"}, "method": {"type": "full"},
 "data": {"train": {"path": "$text/tiny.txt", "document_separator": "\n\n"},
          "eval": {"path": "$text/tiny.eval.txt", "document_separator": "\n\n"}, "max_length": ${LENGTH:-128}},
 "optim": {"learning_rate": ${RATE:-0.003}, "lr_scheduler_type": "cosine", "warmup_ratio": 0.05},
 "train": {"max_steps": $steps, "batch_size": ${BATCH:-8}, "seed": 42, "eval_every": 50},
 "output": {"dir": "$out/labels"}}
EOF
run() { # NAME SETS…
    local name=$1
    shift
    [ -e "$out/$name/summary.json" ] || "$ft" train "$out/run.json" --out "$out/$name" --force "$@"
}
last() { # NAME FIELD: of the last evaluation
    grep -o "\"$2\":[0-9.]*" "$out/$1/log.jsonl" | tail -n 1 | cut -d: -f2
}

run labels
run teacher --set "objective={\"type\": \"kd\", \"teacher\": \"$teacher\", \"beta\": ${BETA:-0}, \"kd_ce_alpha\": 0.5, \"kd_alpha\": 0.5}"

# The first words of every document, and what the teacher makes of them.
if [ ! -e "$out/written.jsonl" ]; then
    awk -v RS= -v n="$documents" 'NR <= n { gsub(/[\\"]/, "\\\\&"); printf "{\"prompt\": \"%s %s %s\"}\n", $1, $2, $3 }' \
        "$text/tiny.txt" > "$out/prompts.jsonl"
    "$ft" generate --model "$teacher" --data "$out/prompts.jsonl" --temperature 1 --max-new-tokens "${LENGTH:-128}" --json -q |
        sed 's/^{//' | paste -d '\t' "$out/prompts.jsonl" - > "$out/answers.txt"
    python3 - "$out/answers.txt" > "$out/written.part" <<'EOF'
import json, sys
for line in open(sys.argv[1]):
    prompt, answer = line.rstrip("\n").split("\t")
    print(json.dumps({"text": json.loads(prompt)["prompt"] + json.loads("{" + answer)["text"]}))
EOF
    mv "$out/written.part" "$out/written.jsonl"
fi
run written --set "data.train={\"path\": \"$out/written.jsonl\", \"format\": \"text\"}"

printf '%-40s %s\n' "learned from, $steps steps" "loss on unseen text" "the labels alone" "$(last labels eval_loss)" \
    "and the teacher's distributions" "$(last teacher eval_ce_loss)" "text that the teacher wrote" "$(last written eval_loss)"
