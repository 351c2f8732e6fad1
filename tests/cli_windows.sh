#!/usr/bin/env bash
# cli_windows.sh FT SOURCE – training on text that is read in windows: the same bytes for any threads and micro-batches, killed
# and resumed; as an evaluation source the figures of the text in memory; nothing of it depends on the file being packed.
set -u
ft=$1 source=$2 failed=0
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && cd "$work" || exit 2
bad() {
    echo "FAILED: $*"
    failed=1
}

cat > model.json << 'END'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 32,
 "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
 "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu"}
END
vocab=$(grep -o '"vocab_size": *[0-9]*' "$source/data/tiny/config.json" | grep -o '[0-9]*')
sed -i "s/512/$vocab/" model.json
cp "$source/data/text/tiny.txt" text.txt
gzip -k text.txt
awk 'BEGIN { RS = "" } { gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/\n/, "\\n"); print "{\"text\": \"" $0 "\"}" }' text.txt > text.jsonl
cat > run.json << END
{"model": {"from_config": "model.json", "tokenizer": "$source/data/tiny"},
 "method": {"type": "full"},
 "data": {"train": ["text.txt", {"path": "text.jsonl", "limit": 60}],
          "eval": {"path": "text.jsonl", "limit": 40}, "max_length": 64, "window_tokens": 3000},
 "optim": {"learning_rate": 0.002},
 "train": {"epochs": 1, "batch_size": 16, "checkpoint_every": 5, "eval_every": 20},
 "output": {"dir": "ref"}}
END
same() { cmp "$1/model.safetensors" ref/model.safetensors && cmp "$1/log.jsonl" ref/log.jsonl; }

start=$(date +%s%N)
"$ft" train run.json --threads 2 -q > /dev/null 2> err.txt || { cat err.txt; bad "the undisturbed run: $?"; exit 1; }
span=$((($(date +%s%N) - start) / 1000000))
"$ft" check run.json --out other --json > check.json || bad "check"
grep -q '"windows":' check.json || bad "check does not tell the windows: $(cat check.json)"

"$ft" train run.json --out one --threads 1 -q > /dev/null && same one || bad "one thread"
"$ft" train run.json --out split --set train.micro_batch_size=3 -q > /dev/null && same split || bad "micro-batches of three"
"$ft" train run.json --out gz --set 'data.train=["text.txt.gz", {"path": "text.jsonl", "limit": 60}]' -q > /dev/null &&
    same gz || bad "from .gz"

for i in 1 2 3 4; do # killed, then with other threads
    rm -rf o
    "$ft" train run.json --out o --resume -q > /dev/null 2>&1 &
    pid=$!
    sleep "$(awk -v s="$span" -v r="$RANDOM" 'BEGIN { printf "%.3f", s * r / 32768 / 1000 }')"
    kill -9 $pid 2> /dev/null
    wait $pid 2> /dev/null
    "$ft" train run.json --out o --resume --threads $((1 + i % 3)) -q > /dev/null 2> err.txt || { cat err.txt; bad "kill $i: resume gave $?"; }
    same o || bad "kill $i: the resumed run differs"
done

# The order is another one than in memory, the evaluated samples are the same.
"$ft" train run.json --out memory --set data.window_tokens=auto --set train.max_steps=1 -q > /dev/null || bad "in memory"
"$ft" train run.json --out windows --set train.max_steps=1 -q > /dev/null || bad "in windows"
first() { grep -o '"first":[^,]*' "$1/summary.json"; }
[ -n "$(first windows)" ] && [ "$(first memory)" = "$(first windows)" ] || bad "evaluation: $(first memory), $(first windows)"

[ $failed = 0 ] && echo "cli_windows: fine"
exit $failed
