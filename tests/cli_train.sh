#!/usr/bin/env bash
# cli_train.sh FT SOURCE – ft train as a program: killed at random, stopped by signals, started twice, and every shipped config.
. "$2/tests/support/cli.sh"

model_json 64 > model.json
# n samples that count up by 3
tokens() {
    awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) { ids = ""; labels = ""; len = 5 + i * 7 % 13
        for (k = 0; k < len; k++) { v = (i * 11 + 3 * k) % 64; ids = ids (k ? "," : "") v
            labels = labels (k ? "," : "") (k < 2 ? -100 : v) }
        printf "{\"input_ids\":[%s],\"labels\":[%s]}\n", ids, labels } }'
}
tokens 37 > train.jsonl
tokens 9 > eval.jsonl
cat > run.json << END
{"model": {"from_config": "model.json", "tokenizer": "$source/data/tiny"},
 "method": {"type": "lora", "r": 4, "lora_dropout": 0.1},
 "data": {"train": {"path": "train.jsonl", "format": "tokens"}, "eval": {"path": "eval.jsonl", "format": "tokens"}},
 "optim": {"learning_rate": 0.01},
 "train": {"epochs": 16, "batch_size": 8, "checkpoint_every": 4, "eval_every": 5},
 "output": {"dir": "ref"}}
END

same() {
    cmp "$1/adapter_model.safetensors" ref/adapter_model.safetensors && cmp "$1/log.jsonl" ref/log.jsonl
}
start=$(now_ms)
"$ft" train run.json -q > out.txt 2> err.txt || { cat err.txt; bad "the undisturbed run: $?"; exit 1; }
span=$(($(now_ms) - start))
[ -s err.txt ] && bad "-q is not quiet"

# Killed at random times, some twice; then resumed to the same bytes.
for i in $(seq "$(often 12 3)"); do
    rm -rf o
    for round in 1 $((i % 3)); do
        [ "$round" = 0 ] && continue
        killed_within "$span" "$ft" train run.json --out o --resume -q
    done
    "$ft" train run.json --out o --resume -q > /dev/null 2> err.txt || { cat err.txt; bad "kill $i: resume gave $?"; }
    same o || bad "kill $i: the resumed run differs"
done

# SIGTERM and SIGINT save, tell how to go on, and end as the signal; that command gives the same bytes.
# A background job of a script ignores SIGINT, so the second signal is sent from inside a child shell.
for i in $(often "1 2 3 4" 2); do
    rm -rf o
    "$ft" train run.json --out o > /dev/null 2> err.txt &
    pid=$!
    sleep "$(awk -v s="$span" -v i=$i 'BEGIN { printf "%.3f", s * i / 6 / 1000 }')"
    kill -TERM $pid 2> /dev/null
    wait $pid
    code=$?
    [ $code = 0 ] && continue # it was faster
    [ $code = 143 ] || bad "SIGTERM gave $code"
    tail -n 1 err.txt | grep -q -- "ft train run.json --out o --resume" || bad "no resume command: $(tail -n 1 err.txt)"
    "$ft" train run.json --out o --resume -q > /dev/null || bad "resume after SIGTERM"
    same o || bad "SIGTERM $i: the resumed run differs"
done

# Exit codes.
expect_seconds=600
expect 73 "$ft" train run.json
expect 0 "$ft" train run.json --resume
expect 78 "$ft" train run.json --resume --set method.r=8
expect 78 "$ft" train run.json --set optim.learning_rat=1
grep -q 'did you mean "learning_rate"' err.txt || bad "no suggestion"
expect 66 "$ft" train run.json --out x --set data.train=nowhere.jsonl
[ -e x ] && bad "a refused run made its folder"
expect 80 "$ft" train run.json --out nan --set optim.learning_rate=1e30
expect 75 "$ft" train run.json --out limited --set train.max_seconds=0.001
expect 64 "$ft" train
expect 0 "$ft" check run.json --out fresh --json
[ -e fresh ] && bad "check wrote something"
python3 -c 'import json,sys; json.load(open("out.txt"))' 2> /dev/null || grep -q '^{"config"' out.txt || bad "check --json: no JSON"
expect 0 "$ft" train run.json --out j --json --set train.max_steps=2
[ "$(wc -l < out.txt)" = 1 ] && grep -q '^{"run_id"' out.txt || bad "train --json: $(cat out.txt)"

# Two started at the same instant: exactly one wins.
for i in $(often "1 2 3" 1); do
    rm -rf pair
    "$ft" train run.json --out pair -q > /dev/null 2>&1 &
    a=$!
    "$ft" train run.json --out pair -q > /dev/null 2>&1 &
    b=$!
    wait $a
    x=$?
    wait $b
    y=$?
    [ $((x + y)) = 73 ] || bad "two at once gave $x and $y"
    same pair || bad "two at once: the result differs"
done

# Every shipped training config for two steps. Its plan holds, but for what a system's libraries take, which weighs in runs this
# small. In a build with a sanitizer, which has memory of its own and where methods and objectives have their tests, most are read
# and planned only.
for config in "$source"/configs/*.json; do
    grep -q '"train"' "$config" || continue
    name=$(basename "$config" .json)
    verb=train
    [[ -z $sanitized || $name == @(full|lora|qlora) ]] || verb=check
    "$ft" $verb "$config" --out "all/$name" --set train.max_steps=2 -q > out.txt 2> err.txt || bad "configs/$name.json: $? $(cat err.txt)"
    [ -n "$sanitized" ] && continue
    awk -F'[:,]' -v name="$name" '/"peak_rss_bytes"/ { peak = $2 } /"planned_bytes"/ { plan = $2 }
        END { few = 4194304; if (!(peak <= plan + few && peak >= 0.88 * plan - few)) print name ": peak " peak ", plan " plan }' \
        "all/$name/summary.json" > lies.txt
    [ -s lies.txt ] && bad "the plan of $(cat lies.txt)"
done

# An adapter that was trained on codes of its base is not used on the base itself without a word.
expect 0 "$ft" convert "$source/data/tiny" --out coded --type nf4
for base in "$source/data/tiny" coded; do
    echo '{"tokens": [1, 2, 3]}' | "$ft" score --model "$base" --adapter all/qlora > out.txt 2> err.txt || bad "score on $base: $(cat err.txt)"
    said=$(grep -c 'was trained on its base in nf4, and .* is not quantised' err.txt)
    [ "$said" = "$([ "$base" = coded ] && echo 0 || echo 1)" ] || bad "an adapter of codes on $base: $said warnings"
done
echo '{"tokens": [1, 2, 3]}' | "$ft" score --model "$source/data/tiny" --adapter all/lora > out.txt 2> err.txt
[ -s err.txt ] && bad "an adapter of the base: $(cat err.txt)"

# What checkpoints take while they are written, in the middle of a run, is planned for: the peak grows by no more than the plan
# (a copy of the values or of the moments would be 1.9 MB and more; without one the peaks of two runs are half a MB apart).
for every in 0 1; do
    "$ft" train "$source/configs/full.json" --out "every$every" --set train.checkpoint_every=$every --set train.max_steps=3 -q \
        > out.txt 2> err.txt || bad "checkpoints every $every: $? $(cat err.txt)"
done
[ -n "$sanitized" ] || awk -F'[:,]' '/"peak_rss_bytes"/ { peak[FILENAME] = $2 } /"planned_bytes"/ { plan[FILENAME] = $2 }
    END { more = peak[ARGV[2]] - peak[ARGV[1]]; said = plan[ARGV[2]] - plan[ARGV[1]]
          if (more > said + 1048576) { print "peak grows by " more ", plan by " said; exit 1 } }' \
    every0/summary.json every1/summary.json > lies.txt || bad "checkpoints: $(cat lies.txt)"

# "auto" takes what fits: half way between the plans with and without checkpointing it is turned on, to the same bytes.
if [ -z "$sanitized" ]; then
    plan() { sed -n 's/.*"total_bytes":\([0-9]*\).*/\1/p' out.txt; }
    run=("$source/configs/full.json" --set train.max_steps=2 --set train.micro_batch_size=8)
    expect 0 "$ft" check "${run[@]}" --out fresh --json --set train.gradient_checkpointing=false
    without=$(plan)
    expect 0 "$ft" check "${run[@]}" --out fresh --json --set train.gradient_checkpointing=true
    with=$(plan)
    mkdir cgroup && echo $(((with + without) / 2)) > cgroup/memory.max
    export FT_CGROUP_ROOT=$PWD/cgroup
    expect 0 "$ft" check "${run[@]}" --out fresh --json
    grep -q '"gradient_checkpointing":true' out.txt || bad "auto did not turn checkpointing on: $(cat out.txt)"
    expect 71 "$ft" check "${run[@]}" --out fresh --set train.gradient_checkpointing=false
    expect 0 "$ft" train "${run[@]}" --out small
    grep -q 'checkpointing on (auto' err.txt || bad "the header does not tell: $(cat err.txt)"
    unset FT_CGROUP_ROOT
    cmp small/model.safetensors all/full/model.safetensors || bad "checkpointing changed the result"
fi

# Full training by the library's products has the same bytes however a step is cut, with a head of several chunks.
run=("$source/configs/full.json" --set data.train="$source/data/text/manual.eval.jsonl" --set data.max_length=160
    --set train.max_steps=2 --set train.batch_size=7 --set train.precision=f32)
if FT_GEMM=openblas "$ft" version > out.txt 2> /dev/null; then
    for m in $(often "1 3 7" "1 3"); do
        FT_GEMM=openblas "$ft" train "${run[@]}" --set train.micro_batch_size=$m --out "blas$m" -q > /dev/null 2> err.txt ||
            bad "openblas, micro-batches of $m: $? $(cat err.txt)"
        cmp blas1/model.safetensors "blas$m/model.safetensors" || bad "openblas: micro-batches of $m show"
    done
    # without a word of the user's the library takes the core that suits this CPU, also one it does not know by number
    grep -q '^core .*(Prescott)' out.txt && grep -q ' avx ' /proc/cpuinfo && bad "openblas: $(grep '^core' out.txt)"
fi

# From a config alone, on records of ids: no tokenizer is needed, none is written, and the values that were drawn are not kept
# beside what is trained, or beside their codes.
sed 's/"vocab_size": [0-9]*/"vocab_size": 640/; s/"hidden_size": [0-9]*/"hidden_size": 384/; s/"intermediate_size": [0-9]*/"intermediate_size": 1536/' \
    model.json > wide.json
cat > ids.json << END
{"model": {"from_config": "wide.json"}, "data": {"train": "$source/data/tokens.jsonl", "max_length": 64},
 "train": {"max_steps": 2, "batch_size": 2, "seed": 5}, "output": {"dir": "ids"}}
END
for how in full:adamw full:sgd qlora:adamw; do
    expect 0 "$ft" train ids.json --out "ids-$how" --set "method.type=${how%:*}" --set "optim.type=${how#*:}"
    ls "ids-$how" | grep -q token && bad "$how: a tokenizer was written"
    [ -n "$sanitized" ] && continue
    awk -F'[:,]' -v name="$how" '/"peak_rss_bytes"/ { peak = $2 } /"planned_bytes"/ { plan = $2 }
        END { if (!(peak <= plan && peak >= 0.9 * plan - 2097152)) { print name ": peak " peak ", plan " plan; exit 1 } }' \
        "ids-$how/summary.json" > lies.txt || bad "from_config, $(cat lies.txt)"
done
expect 0 "$ft" check ids.json --json --set method.type=full
weights=$(sed -n 's/.*"weights_bytes":\([0-9]*\).*/\1/p' out.txt)
[ "$weights" = 0 ] || bad "from_config: $weights bytes of weights beside the trained ones"
echo '{"tokens": [1, 2, 3]}' | "$ft" score --model ids-full:adamw > out.txt 2> err.txt && grep -q '"tokens":2' out.txt || bad "score without a tokenizer"
echo '{"text": "abc"}' | "$ft" score --model ids-full:adamw > out.txt 2> err.txt
[ $? = 65 ] && grep -q 'has no tokenizer; give token ids' err.txt || bad "score of text without a tokenizer: $(cat err.txt)"
expect 78 "$ft" check ids.json --set "data.train=$source/data/alpaca.jsonl"
grep -q 'alpaca.jsonl.*: records of format alpaca need a tokenizer, and model.tokenizer names none' err.txt || bad "$(cat err.txt)"

# A folder without weights is planned for, and not trained.
mkdir bare && cp model.json bare/config.json
sed 's/"from_config": "model.json", "tokenizer": "[^"]*"/"path": "bare"/' run.json > bare.json
expect 0 "$ft" check bare.json --out fresh --json
grep -q '"has_weights":false' out.txt || bad "check --json of a bare folder: $(cat out.txt)"
grep -q 'holds no weights' err.txt || bad "a bare folder is not told: $(cat err.txt)"
expect 66 "$ft" train bare.json --out fresh
finish cli_train
