#!/usr/bin/env bash
# cli_help.sh FT SOURCE – what `ft help` says beside verbs and keys: every record that it shows is accepted as it stands, the
# metrics that it names are those that come, and a word that is nobody's is answered with the nearest.
. "$2/tests/support/cli.sh"
model=$source/data/tiny

help() { # WORDS…: into help.txt
    "$ft" help "$@" > help.txt 2> err.txt || bad "help $*: $(cat err.txt)"
    [ -s err.txt ] && bad "help $* says: $(cat err.txt)"
}
records() { grep '^{' help.txt; }
accepted() { # WHAT COMMAND…
    local what=$1
    shift
    "$@" > out.txt 2> err.txt || bad "$what: $? of $*: $(cat err.txt)"
    grep -q 'ft: warning' err.txt && bad "$what: $(cat err.txt)"
}

# --- the overview
help
verbs=$(sed -n '/^verbs:/,/^$/p' help.txt | awk 'NR > 1 && NF { print $1 }')
topics=$(sed -n '/^topics/,/^$/p' help.txt | awk 'NR > 1 && NF { print $1 }')
[ "$(wc -w <<< "$verbs")" -ge 15 ] || bad "verbs: $verbs"
for topic in formats eval gates templates exit-codes paths; do
    grep -qx "$topic" <<< "$topics" || bad "no topic $topic in: $topics"
done
for topic in $topics; do help "$topic"; done

# --- formats: each record by itself, found by its keys and by its name
help formats
records > all.txt
[ "$(wc -l < all.txt)" -ge 11 ] || bad "few records: $(cat all.txt)"
names=$("$ft" help data.train.format | sed -n 's/.*form of the records: auto | //p' | tr -d '|')
[ "$(wc -w <<< "$names")" -ge 6 ] || bad "formats: $names"
while read -r record; do
    echo "$record" > one.jsonl
    accepted "$record" "$ft" data one.jsonl --model "$model" --chat-template chatml --json --set train.batch_size=1
    grep -q '"samples":1' out.txt || bad "$record is no sample: $(cat out.txt)"
    case $record in
    *'"chosen"'*) objective=dpo ;;
    *'"label"'*) objective=kto ;;
    *'"prompt_ids"'* | '{"prompt"'*'"answer"'*) objective='grpo --set objective.rewards=["format"] --set objective.max_completion_length=64' ;;
    *) objective=sft ;;
    esac
    # shellcheck disable=SC2086
    accepted "$record" "$ft" check --model "$model" --data one.jsonl --set data.chat_template=chatml --set train.batch_size=1 \
        --set objective.type=$objective --out o
done < all.txt
for name in $names; do
    help "$name"
    grep -q 'trained on:' help.txt || bad "$name: what is trained on?"
    records | head -n 1 > one.jsonl
    accepted "$name" "$ft" data one.jsonl --model "$model" --format "$name" --chat-template chatml --json \
        --set train.batch_size=1
    grep -q "\"format\":\"$name\"" out.txt || bad "$name is read as $(cat out.txt)"
    help formats "$name"
    records | head -n 1 | cmp -s - one.jsonl || bad "formats $name shows another record"
done

# --- tasks: the record, and the metrics
help eval
grep -c '^{' help.txt > count.txt
tasks=$("$ft" help eval | sed -n 's/.*in place of the config.s tasks: //p' | tr -d '|')
[ "$(wc -w <<< "$tasks")" = "$(cat count.txt)" ] || bad "a record each: $tasks, $(cat count.txt)"
for task in $tasks; do
    help eval "$task"
    records > one.jsonl
    accepted "$task" "$ft" eval --model "$model" --task "$task" --data one.jsonl --json
    for metric in $(sed -n 's/^  metrics: //p' help.txt | tr -d ,); do
        grep -q "\"$metric\":" out.txt || bad "$task has no $metric: $(cat out.txt)"
        grep -q "^  ${metric%_stderr} " help.txt || bad "$task: what is $metric?"
    done
    for metric in $(sed 's/,"memory":.*//' out.txt | grep -o '"[a-z_]*":[0-9]' | cut -d'"' -f2); do
        sed -n 's/^  metrics: //p' help.txt | grep -qw "$metric" || bad "$task gives $metric too"
    done
done

# --- gates: a config as it stands, then one bound after the other as shown
help gates
cp -r "$model" M
cp -r "$model" B
head -c 2000 "$source/data/text/tiny.eval.txt" > wiki.txt
records > gates.json
[ "$(wc -l < gates.json)" = 1 ] || bad "a config: $(cat gates.json)"
accepted gates "$ft" eval gates.json --json --junit j.xml
for bound in $(sed -n '/^bounds:/,/^$/p' help.txt | awk 'NR > 1 && NF { print $1 }'); do
    grep -q "\"bound\":\"$bound\"" out.txt || bad "the config of gates has no $bound: $(cat out.txt)"
done
"$ft" eval gates.json --set 'gates["wiki.nll"].max=0' > out.txt 2> err.txt
[ $? = 81 ] || bad "a gate as shown: $(cat err.txt)"
"$ft" eval gates.json --set 'gates["wiki.nll"].least=0' > out.txt 2> err.txt
{ [ $? = 78 ] && grep -q 'min, max, max_increase, min_gain, max_ratio' err.txt; } || bad "bounds: $(cat err.txt)"

# --- templates, codes, paths
help templates
for name in chatml llama2 llama3 mistral gemma phi3 zephyr alpaca vicuna; do
    grep -q "^$name – " help.txt || bad "no template $name"
    "$ft" help templates $name > out.txt && grep -q '^  "' out.txt || bad "$name: no rendering"
done
grep -qF '"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>assistant\n"' help.txt ||
    bad "chatml: $(cat help.txt)"
help exit-codes
for code in 0 64 65 66 70 71 73 74 75 77 78 80 81 130; do grep -q "^  $code " help.txt || bad "no exit code $code"; done
help paths
for key in model.path data.train output.dir method.init_from tasks.data; do grep -q "^  $key " help.txt || bad "no path $key"; done
grep -q '^  train .*--data .*--out' help.txt || bad "options that are paths: $(cat help.txt)"

# --- keys of a config of ft eval, bounds, options: each of them by itself
for key in $("$ft" help eval | sed -n '/^keys of the config/,$s/^  \([a-z_.]*\) .*/\1/p'); do
    case $key in model | gates) continue ;; esac # a section of a training config, a topic
    help "$key"
    grep -qE "^  (${key##*.}|$key) " help.txt || bad "help $key: $(cat help.txt)"
done
for task in $tasks; do
    for key in $("$ft" help eval "$task" | sed -n '/^keys of the task/,$s/^  \([a-z_]*\) .*/\1/p'); do
        help "tasks.$key"
        grep -q "ft help eval $task)" help.txt || bad "help tasks.$key does not speak of $task: $(cat help.txt)"
    done
done
for bound in $("$ft" help gates | sed -n '/^bounds:/,/^$/s/^  \([a-z_]*\) .*/\1/p'); do
    help "gates.$bound"
    grep -q 'ft help gates' help.txt || bad "help gates.$bound: $(cat help.txt)"
done
for verb in $verbs; do
    for option in $("$ft" help "$verb" | sed -n 's/^  --\([a-z-]*\) .*/\1/p'); do help "$option"; done
done
help max-new-tokens
grep -q 'option of ft generate' help.txt || bad "help max-new-tokens: $(cat help.txt)"

# --- words that are nobody's
told() { # WORDS TEXT
    # shellcheck disable=SC2086
    "$ft" help $1 > out.txt 2> err.txt
    { [ $? = 64 ] && [ ! -s out.txt ] && [ "$(wc -l < err.txt)" = 1 ] && grep -qF -- "$2" err.txt; } || bad "help $1: $(cat err.txt)"
}
told formts 'did you mean "formats"?'
told gate 'did you mean "gates"?'
told exit-code 'did you mean "exit-codes"?'
told chtml 'did you mean "chatml"?'
told hellaswg 'did you mean "hellaswag"?'
told 'formats messags' 'did you mean "messages"?'
told trian 'did you mean "train"?'
told optim.learning_rat 'did you mean "learning_rate"?'
told finetune 'ft help train'
told lr 'ft help optim.learning_rate'
told baselin 'did you mean "baseline"?'
told max_new_token 'did you mean "max_new_tokens"?'
told zzzzzzzzzzzz 'ft help lists them'
finish cli_help
