#!/usr/bin/env bash
# cli_reward.sh FT SOURCE – reward models through the program: the same bits however a step is cut, interrupted or run; every kind of
# result is read by score, merge-adapter and inspect; what is no reward model, and what is one where none is wanted, is told.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny
cat > run.json <<EOF
{"model": {"path": "$tiny"}, "method": {"type": "lora", "r": 2},
 "objective": {"type": "reward", "center_rewards_coefficient": 0.01},
 "data": {"train": "$source/data/preference.jsonl", "eval": "p.jsonl", "max_length": 128},
 "optim": {"learning_rate": 5e-3}, "train": {"batch_size": 6, "max_steps": 3, "eval_every": 3, "precision": "f32"},
 "output": {"dir": "out"}}
EOF
head -n 3 "$source/data/preference.jsonl" > p.jsonl
same() { # A B: what two runs made
    cmp "$1/log.jsonl" "$2/log.jsonl" || bad "$2: another log"
    cmp "$1/adapter_model.safetensors" "$2/adapter_model.safetensors" || bad "$2: another adapter"
}

# --- one run, however it is cut
expect 0 "$ft" train run.json -q
for field in accuracy margin min_reward mean_reward max_reward eval_accuracy eval_max_reward; do
    grep -q "\"$field\":" out/log.jsonl || bad "the log has no $field"
done
expect 0 "$ft" train run.json --out cut -q --threads 1 --set train.micro_batch_size=1 --set train.gradient_checkpointing=true
same out cut
killed_within 150 "$ft" train run.json --out part -q --set train.checkpoint_every=1
if [ -d part/checkpoints ]; then go=--resume; else go=--force; fi
expect 0 "$ft" train run.json --out part -q $go --set train.checkpoint_every=1
same out part
expect 0 "$ft" train run.json --out on -q --set method.init_from=out
grep -q '"SEQ_CLS"' on/adapter_config.json && grep -q '"score"' on/adapter_config.json || bad "$(cat on/adapter_config.json)"

# --- kinds of results
reward() { # ARGS: of one text
    echo '{"id": 1, "prompt": "Q: hi", "completion": " yes"}' | "$ft" score "$@" 2> err.txt || bad "score $*: $(cat err.txt)"
}
expect 0 "$ft" merge-adapter out --out merged --type f32 -q
[ "$(reward --adapter out | cut -c1-30)" = "$(reward --model merged | cut -c1-30)" ] || bad "merged: $(reward --model merged)"
expect 0 "$ft" inspect merged
grep -q 'sequence classifier' out.txt || bad "inspect: $(cat out.txt)"
n=0
for method in '{"type": "full"}' '{"type": "bitfit"}' '{"type": "qlora", "r": 2}' '{"type": "ia3"}' \
    '{"type": "bitfit", "save": "delta"}'; do
    n=$((n + 1))
    expect 0 "$ft" train run.json --out "m$n" -q --set "method=$method" --set train.precision=bf16 --set train.max_steps=1
    if [ -f "m$n/model.safetensors" ]; then result=(--model "m$n"); else result=(--model "$tiny" --adapter "m$n"); fi
    reward "${result[@]}" | grep -q '"reward":' || bad "$method: no reward"
done
grep -q 'LlamaForSequenceClassification' m1/config.json && grep -q '"LABEL_0"' m1/config.json || bad "full: $(cat m1/config.json)"
# a reward model is trained on: its head is the one that is there
expect 0 "$ft" train run.json --out further -q --set model.path=merged --set train.max_steps=1
# an adapter of a language model begins one, with a new head
expect 0 "$ft" train run.json --out words -q --set 'objective={"type": "sft"}' --set data.train="$source/data/completion.jsonl" \
    --set data.eval="$source/data/completion.jsonl" --set train.max_steps=1
expect 0 "$ft" train run.json --out begun -q --set method.init_from=words --set train.max_steps=1

# --- lines
cat > lines.jsonl <<'EOF'
{"id": "a", "text": "Q: hi yes<|endoftext|>"}
{"id": "b", "prompt": "Q: hi", "completion": " yes"}
{"id": "c", "prompt": "Q: hi", "completion": " yes<|endoftext|>"}
{"id": "d", "tokens": [5, 6, 7]}
{"id": "e", "tokens": [5, 6, 7, 0, 0]}
EOF
expect 0 "$ft" score --model merged --data lines.jsonl
[ "$(sed 's/.*"reward"://' out.txt | uniq -c | awk '{ printf "%s ", $1 }')" = '3 2 ' ] || bad "lines: $(cat out.txt)"
wrong() { # TEXT LINE
    printf '%s\n' "$2" > w.jsonl
    expect_told 65 "$1" "$ft" score --model merged --data w.jsonl
}
wrong 'both be texts' '{"prompt": "a"}'
wrong 'w.jsonl:1' '{"prompt": "a", "completion": []}'
wrong 'did you mean "completion"' '{"prompt": "a", "completions": "b"}'
wrong 'nothing to reward' '{"tokens": []}'
wrong 'needs one of' '{"context": "a", "continuation": "b"}'
expect_told 64 --per-token "$ft" score --model merged --data lines.jsonl --per-token

# --- a reward model where tokens are wanted, and the other way round
expect_told 65 'is a sequence classifier' "$ft" generate --model merged --prompt x
expect_told 65 'task_type SEQ_CLS' "$ft" generate --adapter out --prompt x
expect_told 65 'is a sequence classifier' "$ft" train run.json --out w -q --set model.path=merged --set 'objective={"type": "dpo"}'
expect_told 65 'task_type SEQ_CLS' "$ft" train run.json --out w -q --set method.init_from=out --set 'objective={"type": "dpo"}'
expect_told 64 'no place in a .gguf' "$ft" convert merged --out w.gguf -q
expect 0 cp -r merged two
sed -i 's/"0": "LABEL_0"/"0": "no", "1": "yes"/' two/config.json
expect_told 65 'has 2 labels (num_labels)' "$ft" score --model two --data lines.jsonl
expect 0 cp -r out headless
sed -i 's/SEQ_CLS/CAUSAL_LM/; s/"score"/"norm"/' headless/adapter_config.json
expect_told 65 score.weight "$ft" score --model "$tiny" --adapter headless --data lines.jsonl

# --- mistakes of a config, and records that are too long
expect_told 78 method.type "$ft" train run.json --out w -q --set 'method={"type": "prompt_tuning"}'
expect_told 78 train.sample_prompts "$ft" train run.json --out w -q --set 'train.sample_prompts=["a"]'
expect_told 78 center_rewards_coefficient "$ft" train run.json --out w -q --set objective.center_rewards_coefficient=-1
expect_told 78 beta "$ft" train run.json --out w -q --set objective.beta=1
expect_told 78 'wants pairs' "$ft" train run.json --out w -q --set data.train="$source/data/completion.jsonl"
expect_told 65 'more than max_length 8' "$ft" train run.json --out w -q --set data.max_length=8
[ -e w ] && bad 'a refused run left a folder'
finish cli_reward
