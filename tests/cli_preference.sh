#!/usr/bin/env bash
# cli_preference.sh FT SOURCE – preference objectives through the program: a reference that is computed beforehand changes no bit,
# files of several forms, and what is wrong in a config or a record is told in one line.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny
cat > run.json <<EOF
{"model": {"path": "$tiny"}, "method": {"type": "lora", "r": 2},
 "objective": {"type": "dpo"},
 "data": {"train": "$source/data/preference.jsonl", "eval": "p.jsonl", "max_length": 128},
 "optim": {"learning_rate": 1e-3}, "train": {"batch_size": 8, "max_steps": 3, "eval_every": 2, "precision": "f32"},
 "output": {"dir": "out"}}
EOF
head -n 6 "$source/data/preference.jsonl" > p.jsonl

# --- the reference
expect 0 "$ft" train run.json -q
expect 0 "$ft" train run.json --out early -q --set objective.precompute_ref_log_probs=true
cmp out/log.jsonl early/log.jsonl || bad 'precomputed: the log differs'
cmp out/adapter_model.safetensors early/adapter_model.safetensors || bad 'precomputed: the adapter differs'
expect 0 "$ft" train run.json --out base -q --set objective.reference=base
cmp out/log.jsonl base/log.jsonl || bad 'reference base is not the base'
expect 0 "$ft" train run.json --out model -q --set "objective.reference=$tiny"
cmp out/log.jsonl model/log.jsonl || bad 'the base as a folder of its own is not the base'
# steps in bf16, evaluations exact: each reads the reference as it reads the policy
expect 0 "$ft" train run.json --out half -q --set train.precision=bf16
expect 0 "$ft" train run.json --out half2 -q --set train.precision=bf16 --set objective.precompute_ref_log_probs=true
cmp half/log.jsonl half2/log.jsonl || bad 'precomputed in bf16: the log differs'
# kto's mismatched answers need the reference at every step
for early in false true; do
    expect 0 "$ft" train run.json --out kto-$early -q --set objective.type=kto --set objective.reference=out --set objective.precompute_ref_log_probs=$early
done
cmp kto-false/log.jsonl kto-true/log.jsonl || bad 'kto, precomputed: the log differs'
# what is opened beside the policy is in the plan
weights() { "$ft" check run.json --json -q "$@" 2> /dev/null | grep -o '"weights_bytes": *[0-9]*' | grep -o '[0-9]*$'; }
[ "$(weights --set objective.reference="$tiny")" -gt "$(weights)" ] || bad 'a reference of its own is not in the plan'
# records that carry what the reference would say need none
cat > carry.jsonl <<EOF
{"prompt": "", "chosen": "a", "rejected": "b", "ref_chosen_logps": -3.5, "ref_rejected_logps": -2}
{"prompt": "Q: hi", "chosen": " yes", "rejected": " no", "ref_chosen_logps": -3, "ref_rejected_logps": -2.25}
EOF
expect 0 "$ft" train run.json --out carry -q --set data.train=carry.jsonl --set data.eval=carry.jsonl --set objective.reference=nowhere
expect_told 66 nowhere "$ft" train run.json --out w -q --set data.train=carry.jsonl --set objective.reference=nowhere
# going on from an adapter: it is the reference as it was, and so the first loss is log 2
expect 0 "$ft" train run.json --out on -q --set method.type=lora --set method.init_from=out --set method.r=2
sed -n 2p on/log.jsonl | grep -q '"loss":0.69314' || bad "on: $(sed -n 2p on/log.jsonl)"
expect 0 "$ft" train run.json --out on2 -q --set method.init_from=out --set method.r=2 --set objective.reference=base
sed -n 2p on2/log.jsonl | grep -q '"loss":0.69314' && bad "on2: $(sed -n 2p on2/log.jsonl)"
expect 0 "$ft" train run.json --out full -q --set 'method={"type": "full"}'
sed -n 2p full/log.jsonl | grep -q '"loss":0.69314' || bad "full: $(sed -n 2p full/log.jsonl)"

# --- forms of records: each gives the same pair
one() { # NAME RECORD
    printf '%s\n' "$2" > "$1.jsonl"
    expect 0 "$ft" data "$1.jsonl" --model "$tiny" --json -q --samples 1 --chat-template chatml --set train.batch_size=1
    grep -o '"segments":.*' out.txt > "$1.txt"
    [ -s "$1.txt" ] || bad "$1: no sample"
}
one a '{"prompt": [{"role": "user", "content": "hi"}], "chosen": [{"role": "assistant", "content": "yes"}], "rejected": [{"role": "assistant", "content": "no"}]}'
one b '{"chosen": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}], "rejected": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "no"}]}'
one c '{"instruction": "hi", "input": "", "chosen": "yes", "rejected": "no"}'
one d '{"conversations": [{"from": "human", "value": "hi"}], "chosen": {"from": "gpt", "value": "yes"}, "rejected": {"from": "gpt", "value": "no"}}'
for form in b c d; do cmp -s a.txt $form.txt || bad "$form is another pair: $(cat a.txt $form.txt)"; done
one e '{"prompt": "Q: hi A:", "chosen": " yes", "rejected": " no"}'
one f '{"chosen": "Q: hi A: yes", "rejected": "Q: hi A: no"}'
cmp -s e.txt f.txt || bad "what two texts begin with is no prompt: $(cat e.txt f.txt)"
# tables: text stays text, turns are turns, and what pandas calls True is true
cat > t.csv <<'EOF'
prompt,chosen,rejected,margin,ref_chosen_logps
hi, yes,[1] no,1.5,-2
"[{""role"": ""user"", ""content"": ""hi""}]","[{""role"": ""assistant"", ""content"": ""yes""}]","[{""role"": ""assistant"", ""content"": ""no""}]",,
EOF
expect 0 "$ft" train run.json --out table -q --set data.train=t.csv --set data.chat_template=chatml
printf 'prompt,completion,label\nhi, yes,True\n,no,false\n' > k.csv
expect 0 "$ft" train run.json --out labels -q --set objective.type=kto --set data.train=k.csv
expect 0 "$ft" train run.json --out kto -q --set objective.type=kto
grep -q '"kl":' kto/log.jsonl || bad 'kto takes pairs'

# --- records that are wrong
wrong() { # TEXT RECORD [OBJECTIVE]
    printf '%s\n%s\n' "$(head -n 1 p.jsonl)" "$2" > w.jsonl
    expect_told 65 "$1" "$ft" train run.json --out w -q --set data.train=w.jsonl --set objective.type="${3:-dpo}"
    [ ! -e w ] || bad "$2 left a folder"
}
wrong 'w.jsonl:2:1: rejected: is missing' '{"prompt": "a", "chosen": "b", "rejected": null}'
wrong 'w.jsonl:2:' '{"prompt": "a", "chosen": "b"}'
echo '{"prompt": "a", "chosen": "b"}' > half.jsonl # in the first line, too
expect_told 65 'half.jsonl:1:1: rejected: is missing' "$ft" train run.json --out w -q --set data.train=half.jsonl
wrong 'texts go with texts' '{"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]}'
wrong 'texts go with texts' '{"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"}'
wrong 'margin: must be a number' '{"prompt": "a", "chosen": "b", "rejected": "c", "margin": "d"}'
wrong 'reference: is missing' '{"prompt": "a", "chosen": "b", "rejected": "c"}' tpo
wrong 'must end with an answer' '{"messages": [], "label": true}' kto
wrong 'must be a list of turns' '{"conversations": "a", "chosen": "b", "rejected": "c"}'
wrong 'prompt: must be a string or a list' '{"prompt": 3, "chosen": "b", "rejected": "c"}'
printf '{"prompt": "a", "chosen": "b", "rejected": "b"}\n' > w.jsonl
expect_told 65 'equal to rejected in every record' "$ft" train run.json --out w -q --set data.train=w.jsonl
printf '{"prompt": "a", "completion": "b", "label": "yes"}\n' > w.jsonl
expect_told 65 'label: must be true or false' "$ft" train run.json --out w -q --set data.train=w.jsonl --set objective.type=kto
# --- weights of good and bad answers are of both losses of kto: twice of both is twice the loss
for loss in kto apo_zero_unpaired; do
    for w in 1 2; do
        expect 0 "$ft" train run.json --out weighed$w --force -q --set objective.type=kto --set objective.loss_type=$loss --set objective.desirable_weight=$w \
            --set objective.undesirable_weight=$w --set train.max_steps=1
        first=$(sed -n 's/.*"step":1,.*"loss":\([0-9.e-]*\).*/\1/p' weighed$w/log.jsonl | head -n 1)
        [ $w = 1 ] && once=$first
    done
    awk -v once="$once" -v twice="$first" 'BEGIN { d = twice - 2 * once; exit !(once > 0 && d < 1e-6 && -d < 1e-6) }' || bad "$loss: $once, and twice the weights $first"
done

# --- a key that the loss does not take, and dropout, which is off: told, with their places
sed 's/"type": "dpo"/"type": "dpo", "label_smoothing": 0.2/' run.json > idle.json
"$ft" check idle.json --out idle --set method.lora_dropout=0.1 --set objective.ref_model_sync_steps=4 \
    --set 'method.exclude_modules=["q_porj"]' > idle.out 2>&1 || bad "check: $(cat idle.out)"
for told in 'idle.json:.*: objective.label_smoothing: has no effect with this loss_type' \
    'method.exclude_modules: "q_porj" has no effect: no module of this llama model matches it' \
    '--set method.lora_dropout: has no effect with objective.type "dpo", which trains without dropout' \
    '--set objective.ref_model_sync_steps: has no effect without sync_ref_model'; do
    grep -q -e "$told" idle.out || bad "not told: $told: $(cat idle.out)"
done
"$ft" check idle.json --out idle --set objective.loss_type=robust 2>&1 | grep 'no effect' && bad "robust takes label_smoothing"

expect_told 78 'those are for objective.type "dpo" and its like' "$ft" train run.json --out w -q --set objective.type=sft
expect_told 78 'gives tokens to learn; objective.type "dpo" wants pairs' "$ft" train run.json --out w -q --set "data.train=$source/data/completion.jsonl"

# --- configs that are wrong
refused() { # TEXT SETS…
    local text=$1 sets=()
    shift
    for set; do sets+=(--set "objective.$set"); done
    expect_told 78 "$text" "$ft" train run.json --out w -q "${sets[@]}"
}
refused 'did you mean "sigmoid"' loss_type=sigmod
refused 'must be a list of 2 numbers' 'loss_type=["sigmoid", "sft"]' 'loss_weights=[1]'
refused objective.beta beta=0
refused objective.label_smoothing label_smoothing=0.5
refused objective.label_smoothing loss_type=exo_pair
refused objective.f_divergence_type loss_type=nca_pair f_divergence_type=forward_kl
refused objective.use_weighting loss_type=aot use_weighting=true
refused objective.simpo_gamma simpo_gamma=1
refused objective.loss_type type=cpo loss_type=exo_pair
refused objective.reference type=orpo reference=base
expect_told 66 nowhere "$ft" train run.json --out w -q --set objective.reference=nowhere
[ ! -e w ] || bad 'a folder is left'
finish cli_preference
