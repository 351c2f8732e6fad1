#!/usr/bin/env bash
# cli_run.sh FT SOURCE – a training run from outside: without a config, from a first one, with comments in it, for a time.
. "$2/tests/support/cli.sh"

tiny=$source/data/tiny
head -n 60 "$source/data/instructions.jsonl" > a.jsonl
tail -n 20 "$source/data/instructions.jsonl" > b.jsonl
head -n 10 "$source/data/instructions.eval.jsonl" > e.jsonl
expect_out=said expect_err=err expect_seconds=600
same() { # A B: adapter and log
    cmp "$1/adapter_model.safetensors" "$2/adapter_model.safetensors" && cmp "$1/adapter_config.json" "$2/adapter_config.json" &&
        cmp "$1/log.jsonl" "$2/log.jsonl" || bad "$1 and $2 differ"
}
cp -r "$tiny" m
few=(--set data.max_length=96 --set train.max_steps=3)

# --- without a config: as with one, and its resolved config is the same run ----------------------------------------------
cat > run.json << END
{"model": {"path": "m"}, "data": {"train": ["a.jsonl", "b.jsonl"], "eval": "e.jsonl", "max_length": 96},
 "train": {"max_steps": 3}, "output": {"dir": "given"}}
END
expect_told 0 '' "$ft" train run.json -q
expect_told 0 '' "$ft" train --model m --data a.jsonl b.jsonl --eval e.jsonl "${few[@]}" -q
same given out
expect_told 0 '' "$ft" train --data a.jsonl --data b.jsonl --model m --out twice --eval '{"path": "e.jsonl"}' "${few[@]}" -q
same given twice
expect_told 0 '' "$ft" train out/config.resolved.json --out again -q
same out again
grep -qF "\"dir\": \"$work/out\"" out/config.resolved.json || bad "the resolved output.dir: $(grep dir out/config.resolved.json)"
expect_told 73 'holds a run' "$ft" train --model m --data a.jsonl
expect_told 0 'nothing to do' "$ft" train --model m --data a.jsonl b.jsonl --eval e.jsonl "${few[@]}" --resume
expect_told 0 '' "$ft" train run.json --data b.jsonl --method full --out other -q # they override
[ -s other/model.safetensors ] && grep -q '"name": "b"' other/summary.json || bad "a config that is overridden: $(ls other)"
expect_told 0 '' "$ft" check run.json --model m --eval a.jsonl --out fresh
for words in "" "--model m" "--data a.jsonl" "run.json run.json" "run.json --method lra --data a.jsonl"; do
    expect_told 64 '' "$ft" train $words
done
grep -qF 'did you mean "lora"' err || bad "--method: $(cat err)"
expect_told 78 '--data: ' "$ft" train run.json --data '{"pth": "a.jsonl"}' --out fresh
expect_told 78 'data.train.limit: train is a string' "$ft" train run.json --data a.jsonl --set data.train.limit=3 --out fresh
expect_told 66 'nowhere' "$ft" train --model m --data nowhere.jsonl --out fresh
[ -e fresh ] && bad "a refused run left a folder"

# --- a config to begin with; comments in one ------------------------------------------------------------------------------
for method in lora loraplus full bitfit prompt_tuning; do
    "$ft" init --model m --data a.jsonl --method $method > first.json || bad "init of $method"
    expect_told 0 '' "$ft" check first.json --out fresh
done
expect_told 64 'did you mean "bitfit"' "$ft" init --method bitfi
cat > run.jsonc << 'END'
// a run
{ "model": {"path": "m"}, /* of two layers: "ü", 'x' */ "data": {
    "train": ["a.jsonl", "b.jsonl", ], // "http://x" is no comment inside a string
    "eval": "e.jsonl", "max_length": 96, /**/ }, "train": {"max_steps": 3,
  }, "output": {"dir": "commented"} }
END
expect_told 0 '' "$ft" train run.jsonc -q
same given commented
cp run.jsonc plain.json
expect_told 78 'plain.json:1:1: comments are not JSON' "$ft" check plain.json
place() { # PLACE TEXT
    printf '%b' "$2" > c.jsonc
    expect_told 78 "c.jsonc:$1: " "$ft" check c.jsonc
    [ "$(wc -l < err)" = 1 ] || bad "not one line: $(cat err)"
}
place 1:14 '/* é */ {"a" 1}'
place 2:19 '{ // x\n  /* ü */ "model" {} }'
place 1:1 '/* {"model": 1}'
place 1:3 '{ , }'
place 1:15 '{"a": [1, 2 , , ] }'
place 2:1 '{"a" // x\n}'
place 1:9 '{"a": 1 # no\n}'

# --- for a time: from the start of the program, to the same bytes ------------------------------------------------------------
long=(--model m --data a.jsonl --eval e.jsonl --set data.max_length=96 --set train.epochs=3 --set train.eval_every=7)
expect_told 75 'before the first step' "$ft" train "${long[@]}" --out short --set train.max_seconds=0.001
expect_told 0 '' "$ft" train "${long[@]}" --out whole -q
for i in $(seq 40); do
    "$ft" train "${long[@]}" --out timed --set train.max_seconds="$(awk -v i="$i" 'BEGIN { print '"$(often 0.25 1.5)"' * i }')" --resume > said 2> err
    code=$?
    [ $code = 75 ] || break
    tail -n 1 err | grep -q 'stopped by train.max_seconds .* --out timed .*--resume$' || bad "the hint: $(tail -n 1 err)"
    [ "$(grep -c -- '--resume' err)" = 1 ] || bad "the hint comes more than once: $(cat err)"
done
[ $code = 0 ] || bad "the last part gave $code: $(tail -n 1 err)"
same whole timed
expect_told 0 '' "$ft" train "${long[@]}" --out unseen --set train.eval_on_start=false -q
cmp <(sed 1d whole/log.jsonl) unseen/log.jsonl || bad "eval_on_start false changed the log"
cmp whole/adapter_model.safetensors unseen/adapter_model.safetensors || bad "eval_on_start false changed the values"
grep -q '"first":' unseen/summary.json && bad "a first loss without a first evaluation"
grep -q '"last":' unseen/summary.json || bad "no last loss"

# --- answers to prompts: what the result says to them ------------------------------------------------------------------------------
mkdir -p deep
printf '%s\n' '"Express 5 kg in grams."' '{"prompt": "Question: 2 + 2\nAnswer:"}' > deep/prompts.jsonl
cat > deep/run.json << END
{"model": {"path": "../m"}, "data": {"train": "../a.jsonl", "eval": "../e.jsonl", "max_length": 96},
 "train": {"max_steps": 3, "sample_prompts": "prompts.jsonl", "sample_max_new_tokens": 12}, "output": {"dir": "../asked"}}
END
expect_told 0 '' "$ft" train deep/run.json
grep -q '^step 3, sample 2: ' err || bad "no sample for the eye: $(cat err)"
[ "$(wc -l < asked/samples.jsonl)" = 4 ] || bad "samples: $(cat asked/samples.jsonl)"
answers() { # a text is a user turn; {"prompt"} stands as it is
    "$ft" generate --model m --adapter asked --max-new-tokens 12 --json --chat --prompt 'Express 5 kg in grams.'
    "$ft" generate --model m --adapter asked --max-new-tokens 12 --json --prompt $'Question: 2 + 2\nAnswer:'
}
cmp <(answers | grep -o '"text":"[^"]*"') <(tail -n 2 asked/samples.jsonl | grep -o '"text":"[^"]*"') || bad "samples: $(tail -n 2 asked/samples.jsonl) but $(answers)"
expect_told 0 '' "$ft" train asked/config.resolved.json --out asked2 -q
cmp asked/samples.jsonl asked2/samples.jsonl || bad "the resolved config has other prompts"

# --- on a terminal: never wider than it, the time left to the last ---------------------------------------------------------------
export TERM=xterm
widest() { # COLUMNS: the widest line of progress, and the first that does not end with the time left once it is known
    rm -rf seen
    script -qec "stty cols $1 && exec '$ft' train --model m --data a.jsonl --eval e.jsonl --set data.max_length=96 --set train.epochs=3 --out seen" \
        typescript > said 2>&1 < /dev/null || bad "a run on a terminal of $1 columns: $(tail -n 2 said)"
    tr '\r' '\n' < said | sed -n 's/^\x1b\[K//p' | awk -v c="$1" '
        /^(step [0-9]+:|before|seen:|ft [0-9])/ { next } # messages, which stay
        { if (length($0) > w) w = length($0); if ($0 ~ /[0-9]:[0-9][0-9]:[0-9][0-9]$/) { n++ } else if (n && $0 ~ /tok/) print "no time: " $0 }
        END { if (n < 10) print n + 0 " lines of progress"; if (w > c) print "a line of " w " columns" }'
}
for columns in $(often "40 12 7" 12); do
    told=$(widest $columns)
    [ -z "$told" ] || bad "$columns columns: $told"
done

# the first signal says at once what happens, the second what is kept
slow=(--model m --data a.jsonl --set data.max_length=256 --set train.batch_size=60 --set train.micro_batch_size=60 --set train.checkpoint_every=1)
first=0 second=0
for i in $(seq 20); do
    "$ft" train "${slow[@]}" --set train.epochs=400 --out stopped --force --threads 1 > said 2> err &
    pid=$!
    while ! grep -q 'checkpoint saved' err; do sleep 0.02; done
    kill -TERM $pid
    kill -INT $pid 2> said # two of the same kind may come as one
    wait $pid
    grep -q '^stopping: ' err && first=1
    grep -q '^stopped at once: the checkpoint of step [0-9]* is kept; go on with: ft train .*--resume$' err && second=1
    [ $((first + second)) = 2 ] && break
done
[ $first = 1 ] || bad "the first signal says nothing: $(tail -n 3 err)"
[ $second = 1 ] || bad "the second signal says nothing: $(tail -n 3 err)"

finish cli_run
