#!/usr/bin/env bash
# cli_compare.sh FT SOURCE – scripts/compare-methods.sh on the embedded model: its tables, the sweep, what is not made again
# or goes on, what it passes over and what it refuses.
. "$2/tests/support/cli.sh"
script=$source/scripts/compare-methods.sh
export FT=$ft
chat=$source/data/text/tiny.chat
compare() { bash "$script" --model "$source/data/tiny" --data "$chat.jsonl" --eval "$chat.eval.jsonl" --set data.max_length=96 --steps 3 "$@" > out.txt 2> err.txt; }
own() { # NAME METHOD RATE
    echo "{\"model\": {\"path\": \"gone\"}, \"method\": $2, \"data\": {\"train\": \"gone.jsonl\"},
 \"optim\": {\"learning_rate\": $3}, \"train\": {\"batch_size\": 4}, \"output\": {\"dir\": \"gone\"}}" > "$1.json"
}
own mine '{"type": "lora", "r": 2}' 0.001
own all '{"type": "full"}' 1e-4
own words '{"type": "prompt_tuning", "num_virtual_tokens": 3}' 0.03

bash "$script" --help > out.txt 2> err.txt || bad "--help gave $?"
grep -q 'scripts/compare-methods.sh \[OPTION\]' out.txt || bad "--help: $(cat out.txt)"
for wrong in '--gone' '--rates' '--rates much' '--steps none' '--forget x'; do
    # shellcheck disable=SC2086
    bash "$script" $wrong > out.txt 2> err.txt
    got=$?
    [ $got = 64 ] && grep -q -e "${wrong%% *}" err.txt || bad "$wrong gave $got: $(cat err.txt)"
done

compare --forget "$source/data/text/manual.eval.jsonl" --out cmp --rates x0.5,4e-3 mine.json all.json words.json || bad "three methods: $(cat err.txt)"
[ "$(grep -c '^| ' cmp/compare.md)" = 4 ] || bad "no table of three: $(cat cmp/compare.md)"
cmp out.txt cmp/compare.md || bad "the table is not what is printed"
grep -q '^| config | method | learning rate | trainable | peak MiB | tokens/s | seconds | held-out: before | after | other: before | change |$' out.txt || bad "titles: $(head -n 1 out.txt)"
awk -F ' *[|] *' 'NR > 2 && !($5 > 0 && $6 > 5 && $7 > 0 && $9 > $10 && $11 > 0 && $12 != "") { print; wrong = 1 } END { exit wrong }' out.txt || bad "figures"
for run in mine mine-0.0005 mine-4e-3 all-5e-05 words-0.015; do
    [ -e "cmp/$run/summary.json" ] || bad "no run $run: $(ls cmp)"
done
grep -q '"run":"mine-4e-3","learning_rate":0.004,' cmp/compare.json || bad "the sweep is not kept: $(cat cmp/compare.json)"
[ "$(grep -o '"run":' cmp/compare.json | wc -l)" = 12 ] || bad "9 runs and 3 best ones: $(cat cmp/compare.json)"
[ "$(wc -l < cmp/compare.csv)" = 4 ] && grep -q '^all,full,' cmp/compare.csv || bad "csv: $(cat cmp/compare.csv)"
# the row is the best run's: no other of the config ends lower
low=$(awk '/"held-out"/ { inside = 1 } inside && /"last"/ { gsub(/[^0-9.]/, "", $2); print $2; inside = 0 }' cmp/mine*/summary.json | sort -g | head -n 1)
awk -F ' *[|] *' -v low="$low" '$2 == "mine" && $10 != sprintf("%.4f", low) { print $10, low; exit 1 }' out.txt || bad "not the best run"
if command -v python3 > /dev/null; then python3 -c 'import json; json.load(open("cmp/compare.json"))' || bad "no JSON"; fi

# Again: nothing is made anew, and the tables are the same. One that was cut short goes on.
before=$(cat cmp/*/summary.json | cksum)
cp cmp/compare.json first.json
rm cmp/all/summary.json
compare --forget "$source/data/text/manual.eval.jsonl" --out cmp --rates x0.5,4e-3 mine.json all.json words.json || bad "again: $(cat err.txt)"
[ -e cmp/all/summary.json ] || bad "the run that was cut short was not finished"
strip() { sed 's/"\(seconds\|tokens_per_s\|peak_rss_bytes\)":[^,]*,//g' "$1"; }
[ "$(strip cmp/compare.json)" = "$(strip first.json)" ] || bad "other figures: $before"

# What diverges, or asks for too much, is left out, and the others have their rows; a wrong config stops before the first run.
compare --out div --rates 1e-3,1e30 mine.json || bad "a rate that diverges: $(cat err.txt)"
[ "$(grep -c '"run":"mine-1e-3"' div/compare.json)" = 1 ] && ! grep -q '1e30' div/compare.json || bad "diverged: $(cat div/compare.json)"
own bad '{"type": "lora", "rank": 2}' 0.001
compare --out bad mine.json bad.json
got=$?
[ $got = 78 ] && grep -q 'bad.json:.*rank' err.txt && [ ! -e bad/mine ] || bad "a wrong config gave $got: $(cat err.txt)"
compare --out twice mine.json "$PWD/mine.json"
[ $? = 64 ] && grep -q 'two configs are called mine' err.txt || bad "one name twice: $(cat err.txt)"

# The tree's own configs: each is of a method that is there, or is passed over.
for config in "$source"/configs/compare/*.json; do
    name=$(basename "$config" .json)
    "$ft" check "$config" --model "$source/data/tiny" --data "$chat.jsonl" -q > out.txt 2> err.txt && continue
    grep -qE 'method\.(type|init_lora_weights): ' err.txt && [ "$(grep -c '^ft: error: ' err.txt)" = 1 ] || bad "configs/compare/$name.json: $(cat err.txt)"
done
finish cli_compare
