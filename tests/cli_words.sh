#!/usr/bin/env bash
# cli_words.sh FT SOURCE – other programs' names for keys, verbs and options are answered with ours; and ours exist.
set -u
. "$(dirname "$0")/support/cli.sh"

# told CODE WORDS COMMAND…: the command fails so, in one line that holds WORDS.
told() {
    local code=$1 words=$2
    shift 2
    expect "$code" "$@"
    { [ "$(wc -l < err.txt)" = 1 ] && grep -qF -- "$words" err.txt; } || bad "$*: not '$words' but $(cat err.txt)"
}

# Every row of the table of keys, ten in a config: the message names the key of ours, which `ft help` knows, and no other.
rows() { sed -n 's/^    {"\([^"]*\)", \(NULL\|"[^"]*"\),.*/\1 \2/p' "$source/src/train/words.c" | tr -d '"'; }
[ "$(rows | wc -l)" -ge 80 ] || bad "the table of words was not found"
rows | awk '{ print $2 }' | grep -v NULL | sort -u > ours.txt
while read -r key; do
    "$ft" help "$key" > out.txt 2> err.txt || bad "ours is no key: $key"
done < ours.txt
rows | split -l 10 - rows.
for part in rows.*; do
    awk 'BEGIN { print "{" } { print (NR > 1 ? "," : "") "\"" $1 "\": 1" } END { print "}" }' "$part" > words.json
    expect 78 "$ft" check words.json
    while read -r theirs ours; do
        line=$(grep -F ": $theirs: " err.txt) || bad "$theirs: not told"
        case $ours in
        NULL) [[ $line = *"unknown key; "*[a-z]* && $line != *"ft has it as"* ]] ;;
        *) [[ $line = *"unknown key; ft has it as $ours"* ]] ;;
        esac || bad "$theirs: $line"
    done < "$part"
done

# At the place they stand in, and keys of ours in another section; our own names win; what is named is not missed as well.
cat > places.json << END
{"model_name_or_path": "m", "dataset": "d.jsonl", "learning_rate": 1, "optim": {"lr": 1},
 "train": {"max_length": 3, "micro_batch_size": 4}, "method": {"type": "lora", "num_virtual_tokens": 2}, "output_dir": "o"}
END
expect 78 "$ft" check places.json
for line in ":1:2: model_name_or_path: unknown key; ft has it as model.path" "optim.lr: unknown key; ft has it as optim.learning_rate" \
    "learning_rate: unknown key; ft has it as optim.learning_rate" "train.max_length: unknown key; ft has it as data.max_length" \
    "method.num_virtual_tokens: unknown key" "output_dir: unknown key; ft has it as output.dir"; do
    grep -qF -- "$line" err.txt || bad "no line: $line"
done
! grep -q 'micro_batch_size\|required' err.txt || bad "told too much: $(cat err.txt)"
told 78 'ft has it as train.batch_size' "$ft" train --data x.jsonl --out o --set model.path=m --set micro_batch_size=2
grep -q 'the whole step; micro-batches are chosen, unless train.micro_batch_size ' err.txt || bad "no reason: $(cat err.txt)"
told 78 'data.completion_only_loss: the opposite' "$ft" train --data x.jsonl --out o --set model.path=m --set train_on_inputs=false
told 78 'model.path' "$ft" train --data x.jsonl --out o --set model.path=m --set model_name_or_path=m

# Verbs and options; a key of the config as an option; a word that is nobody's.
while read -r theirs ours; do told 64 "ft has it as $ours" "$ft" "$theirs"; done << END
export merge-adapter
finetune train
sft train
fit train
chat generate
infer generate
evaluate eval
test eval
END
told 64 'has it as --out' "$ft" train --output x
told 64 'has it as --out' "$ft" convert m --output-dir x
told 64 'has it as --max-new-tokens' "$ft" generate --max-tokens 3
told 64 'has it as --max-new-tokens' "$ft" generate --max_tokens 3
told 64 'has it as --model' "$ft" train --model_name_or_path m
told 64 'ft train CONFIG' "$ft" train --config x.json
told 64 '--set optim.learning_rate=VALUE' "$ft" train --lr 1e-4
told 64 '--set train.batch_size=VALUE; the whole step' "$ft" train --gradient-accumulation-steps 4
told 64 '--force' "$ft" train --overwrite-output-dir
told 64 'ft help train lists them' "$ft" train --frobnicate
told 64 'ft help lists them' "$ft" frobnicate
finish cli_words
