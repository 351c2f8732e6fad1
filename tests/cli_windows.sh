#!/usr/bin/env bash
# cli_windows.sh FT SOURCE – training on text that is read in windows: the same bytes for any threads and micro-batches, killed
# and resumed; as an evaluation source the figures of the text in memory; nothing of it depends on the file being packed.
. "$2/tests/support/cli.sh"

model_json "$(grep -o '"vocab_size": *[0-9]*' "$source/data/tiny/config.json" | grep -o '[0-9]*$')" > model.json
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

start=$(now_ms)
"$ft" train run.json --threads 2 -q > /dev/null 2> err.txt || { cat err.txt; bad "the undisturbed run: $?"; exit 1; }
span=$(($(now_ms) - start))
"$ft" check run.json --out other --json > check.json || bad "check"
grep -q '"windows":' check.json || bad "check does not tell the windows: $(cat check.json)"

"$ft" train run.json --out one --threads 1 -q > /dev/null && same one || bad "one thread"
"$ft" train run.json --out split --set train.micro_batch_size=3 -q > /dev/null && same split || bad "micro-batches of three"
"$ft" train run.json --out gz --set 'data.train=["text.txt.gz", {"path": "text.jsonl", "limit": 60}]' -q > /dev/null &&
    same gz || bad "from .gz"

for i in $(often "1 2 3 4" 2); do # killed, then with other threads
    rm -rf o
    killed_within "$span" "$ft" train run.json --out o --resume -q
    "$ft" train run.json --out o --resume --threads $((1 + i % 3)) -q > /dev/null 2> err.txt || { cat err.txt; bad "kill $i: resume gave $?"; }
    same o || bad "kill $i: the resumed run differs"
done

# The order is another one than in memory, the evaluated samples are the same.
"$ft" train run.json --out memory --set data.window_tokens=auto --set train.max_steps=1 -q > /dev/null || bad "in memory"
"$ft" train run.json --out windows --set train.max_steps=1 -q > /dev/null || bad "in windows"
first() { grep -o '"first":[^,]*' "$1/summary.json"; }
[ -n "$(first windows)" ] && [ "$(first memory)" = "$(first windows)" ] || bad "evaluation: $(first memory), $(first windows)"

# A mix by weight that has no first pass: streams, packed and not, that are used up and begin again; killed on the way.
gzip -k text.jsonl
cat > mix.json << END
{"model": {"from_config": "model.json", "tokenizer": "$source/data/tiny"},
 "method": {"type": "lora"},
 "data": {"train": [{"path": "text.txt.gz", "name": "new", "weight": 0.75},
                    {"path": "text.jsonl.gz", "name": "old", "limit": 30, "weight": 0.25}],
          "max_length": 64, "window_tokens": 3000},
 "train": {"max_steps": 100, "batch_size": 8, "checkpoint_every": 7},
 "output": {"dir": "mix"}}
END
start=$(now_ms)
"$ft" train mix.json > /dev/null 2> err.txt || { cat err.txt; bad "the mix: $?"; }
span=$(($(now_ms) - start))
grep -q 'old: all its [0-9]* samples were used; it begins again in another order (pass 3)' err.txt ||
    bad "a source that is used up is not told: $(cat err.txt)"
tr -d ' \n' < mix/summary.json | grep -q '"name":"old","tokens":[0-9]*,"epochs":[1-9][0-9]*[.][0-9]*,"whole":true' || bad "epochs: $(cat mix/summary.json)"
awk -F'"new":|,"old":|}' '/source_tokens/ { new += $2; all += $2 + $3
    if (new - 0.75 * all > 64 || 0.75 * all - new > 64) { print "step " NR ": " new " of " all; exit 1 } }' mix/log.jsonl ||
    bad "the shares are not met within a row"
for i in $(often "1 2 3" 3); do
    rm -rf o
    killed_within "$span" "$ft" train mix.json --out o --resume -q
    "$ft" train mix.json --out o --resume --threads $i -q > /dev/null 2> err.txt || { cat err.txt; bad "kill $i of the mix: resume gave $?"; }
    cmp o/adapter_model.safetensors mix/adapter_model.safetensors && cmp o/log.jsonl mix/log.jsonl || bad "kill $i of the mix"
done

# The plan holds, of a window that is left and of one that never is (a sanitizer has memory of its own).
for window in $(often "3000 1000000"); do
    "$ft" train mix.json --out "plan$window" --set data.train=text.txt --set data.window_tokens=$window --set train.max_steps=40 \
        --set train.checkpoint_every=0 -q > /dev/null 2> err.txt || bad "a window of $window: $? $(cat err.txt)"
    awk -F'[:,]' '/"peak_rss_bytes"/ { peak = $2 } /"planned_bytes"/ { plan = $2 }
        END { few = 6291456; if (!(peak <= plan && peak >= 0.9 * plan - few)) { print "peak " peak ", plan " plan; exit 1 } }' \
        "plan$window/summary.json" > lies.txt || bad "a window of $window: $(cat lies.txt)"
done

# What lies behind the part that is read is the run's to find: check reads a sample, and says so.
{ head -c 100000 text.txt; printf '\ncaf\351\n'; cat text.txt text.txt; } > late.txt
"$ft" check mix.json --out other --set data.train=late.txt > check.txt 2> err.txt || bad "check of a stream: $(cat err.txt)"
grep -q 'this is a sample, the first .* % of the file' check.txt || bad "check does not say what it did not read: $(cat check.txt)"
"$ft" train mix.json --out late --set data.train=late.txt -q > /dev/null 2> err.txt
[ $? = 65 ] && grep -q 'late.txt:[0-9]*:4: this byte is not UTF-8' err.txt || bad "a bad byte late in a stream: $(cat err.txt)"

finish cli_windows
