#!/usr/bin/env bash
# cli_told.sh FT SOURCE – what `ft check` counts of a source, what it and `ft train` say once, and settings that are hardly meant.
. "$2/tests/support/cli.sh"
cat > d.jsonl << 'END'
{"prompt": "the vill", "completion": "age", "id": 1}
{"prompt": "once", "completion": " upon a time", "id": 2}
{"prompt": "once", "completion": " upon a time", "id": 2}
{"prompt": "nothing", "completion": ""}
{"prompt": "there was an old man and he had a house and a horse and a dog and a cat and a", "completion": " bird"}
{"prompt": "a", "completion": " b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h"}
END
cat > run.json << END
{"model": {"path": "$source/data/tiny"}, "data": {"train": "d.jsonl", "max_length": 20},
 "train": {"max_steps": 1, "batch_size": 4}, "output": {"dir": "o"}}
END
"$ft" check run.json --json > out.json 2> err.txt || bad "check: $(cat err.txt)"
counts() {
    python3 - << 'END'
import json
s = json.load(open("out.json"))["data"]["train"][0]
want = {"records": 6, "samples": 5, "dropped": 1, "truncated": 1, "duplicates": 1, "empty": 1, "merged_borders": 1,
        "lost": 0, "unread_keys": {"id": 3}, "windows": 0}
assert {k: s[k] for k in want} == want, {k: s[k] for k in want}
END
}
if has python3; then counts || bad "counts: $(cat out.json)"; fi
[ -s err.txt ] && bad "check --json says something beside: $(cat err.txt)"
"$ft" check run.json > out.txt 2> err.txt || bad "check"
grep -q '"id" (3 records)' out.txt && grep -q '1 duplicates' out.txt || bad "the text of check: $(cat out.txt)"
"$ft" train run.json > out.txt 2> err.txt || bad "train: $(cat err.txt)"
[ "$(grep -c 'warning: d: of 6 records, keys that are not read: "id" (3 records), 1 duplicates, 1 with an empty answer' err.txt)" = 1 ] ||
    bad "train does not tell once: $(cat err.txt)"

says() { # WHAT, then settings: that warning, once, and no other line with "warning"
    local what=$1
    shift
    "$ft" check run.json "$@" > out.txt 2> err.txt || bad "check $*: $(cat err.txt)"
    [ "$(grep -c warning err.txt)" = 1 ] && grep -q "warning: $what" err.txt || bad "check $*: $(cat err.txt)"
}
rm -rf o
says "optim.learning_rate: 0.01 is" --set optim.learning_rate=0.01
says "train.batch_size: a step takes 6 samples, and there are only 5" --set train.batch_size=6
says 'method.alpha_pattern: "qq_proj" matches no target of this llama model' --set 'method.alpha_pattern={"q_proj": 4, "qq_proj": 8}'
says "--threads: 100 threads share" --threads 100
says "a sequence has 20 tokens behind 250 virtual ones, the model was made for 256" --set 'method={"type": "prompt_tuning", "num_virtual_tokens": 250}'
"$ft" check run.json --set 'method={"type": "loraplus", "loraplus_lr_ratio": 0}' > out.txt 2> err.txt
[ $? = 78 ] && grep -q "method.loraplus_lr_ratio: 0 must be between 0 (excluded) and" err.txt || bad "a ratio of 0, B for ever zero: $(cat err.txt)"
"$ft" check run.json --set optim.learning_rate=0.0099 --set train.batch_size=5 --threads 1 > out.txt 2> err.txt || bad "check"
grep -v "^next: ft train run.json " err.txt > other.txt && bad "usual settings: $(cat err.txt)"

# Dropout of the base matters where something is trained, and nowhere else.
model_json 700 | sed 's/}$/, "attention_dropout": 0.1}/' > model.json
"$ft" train run.json --set "model={\"from_config\": \"model.json\", \"tokenizer\": \"$source/data/tiny\"}" --set method.type=full \
    --set data.max_length=64 --out full > out.txt 2> err.txt || bad "full: $(cat err.txt)"
[ "$(grep -c 'warning: model.json: attention_dropout: 0.1: the base is trained without dropout' err.txt)" = 1 ] ||
    bad "dropout is not told of: $(cat err.txt)"
silent() { # COMMAND…: works, and says nothing of dropout
    "$ft" "$@" > out.txt 2> err.txt < in.jsonl || bad "$*: $(cat err.txt)"
    grep -q dropout err.txt && bad "$* tells of dropout: $(cat err.txt)"
}
echo '{"text": "once upon a time"}' > in.jsonl
silent score --model full
silent generate --model full --prompt once --max-new-tokens 2
silent convert full --out full.gguf

finish cli_told
