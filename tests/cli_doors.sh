#!/usr/bin/env bash
# cli_doors.sh FT SOURCE – sources of a run: a folder, a pattern, standard input, .csv and .zst give the run of one .jsonl file; what
# data.eval_split holds out is the same for any threads, killed and resumed; standard input must come again with --resume.
. "$2/tests/support/cli.sh"

for i in $(seq 0 59); do echo "{\"question\": \"what is $i\", \"answer\": \"it is $((i * 7 % 60))\"}"; done > all.jsonl
{ echo question,answer; sed 's/.*"question": "\([^"]*\)", "answer": \("[^"]*"\).*/\1,\2/' all.jsonl; } > all.csv
mkdir parts
head -n 20 all.jsonl > parts/1.jsonl
{ head -n 1 all.csv; sed -n 22,41p all.csv; } > parts/2.csv
tail -n 20 all.jsonl > parts/3.jsonl
zstd -q all.jsonl 2> /dev/null || true
cat > run.json << END
{"model": {"path": "$source/data/tiny"}, "method": {"r": 2},
 "data": {"train": "all.jsonl", "max_length": 64, "eval_split": 0.1},
 "optim": {"lr_scheduler_type": "constant"},
 "train": {"max_steps": 6, "batch_size": 4, "checkpoint_every": 2, "eval_every": 3}, "output": {"dir": "ref"}}
END
"$ft" train run.json -q > /dev/null 2> err.txt || { cat err.txt; bad "the run: $?"; exit 1; }
same() { cmp "$1/adapter_model.safetensors" ref/adapter_model.safetensors && cmp "$1/log.jsonl" ref/log.jsonl; }
as() { # NAME SOURCE
    "$ft" train run.json --out "$1" --set "data.train=$2" -q > /dev/null 2> err.txt < all.jsonl && same "$1" || bad "$1: $(cat err.txt)"
}
as csv all.csv
as folder parts
as pattern 'part?/[1-3].*'
as stdin -
as named '{"path": "-", "split": "[0%:100%]"}'
[ -e all.jsonl.zst ] && as zst all.jsonl.zst
as columns '{"path": "all.jsonl", "columns": {"instruction": "question", "output": "answer"}}'

"$ft" train run.json --out one --threads 1 --set train.micro_batch_size=1 -q > /dev/null && same one || bad "one thread"
rm -rf o
"$ft" train run.json --out o --set train.max_steps=4 -q > /dev/null 2> err.txt || bad "four steps: $(cat err.txt)"
"$ft" train run.json --out o --resume -q > /dev/null 2> err.txt && same o || bad "resumed: $(cat err.txt)"
"$ft" train run.json --out o --resume --set data.eval_split=0.2 -q > /dev/null 2> err.txt
[ $? = 78 ] && grep -q 'data.eval_split' err.txt || bad "another split on resume: $(cat err.txt)"

# The same bytes must come again.
"$ft" train run.json --out in --set data.train=- --set train.max_steps=4 -q > /dev/null 2> err.txt < all.jsonl ||
    bad "four steps from standard input: $(cat err.txt)"
tail -n 59 all.jsonl | "$ft" train run.json --out in --set data.train=- --resume -q > /dev/null 2> err.txt
[ $? = 65 ] && grep -q 'the data, or how it is tokenised, changed' err.txt || bad "other bytes on resume: $(cat err.txt)"
"$ft" train run.json --out in --set data.train=- --resume -q > /dev/null 2> err.txt < all.jsonl && same in || bad "the same bytes on resume: $(cat err.txt)"
[ -e in/config.resolved.json ] && grep -q '"train": "-"' in/config.resolved.json || bad "- in the resolved config"

refused() { # STATUS WORDS SETTINGS…
    local status=$1 words=$2
    shift 2
    "$ft" check run.json "$@" > /dev/null 2> err.txt < all.jsonl
    [ $? = "$status" ] && grep -qF -- "$words" err.txt || bad "$*: $(cat err.txt)"
}
refused 78 'data.eval: "-" is in data.train already' --set data.train=- --set 'data.eval="-"' --set data.eval_split=null
refused 78 'data.eval_split: data.eval is given too' --set data.eval=all.jsonl
refused 78 'data.eval_split: 60 takes 60 of the 60 records' --set data.eval_split=60
refused 78 'run.json' --set data.eval_split=1.5
refused 78 'split [50:70] goes beyond the 60 records' --set 'data.train={"path": "all.csv", "split": "[50:70]"}'
refused 66 'no file fits this pattern' --set 'data.train=parts/*.tsv'
echo '{"question": "x"' > late.jsonl
cat all.jsonl late.jsonl | "$ft" check run.json --set data.train=- > /dev/null 2> err.txt
[ $? = 65 ] && grep -q 'standard input:61:' err.txt || bad "a bad line of standard input: $(cat err.txt)"

"$ft" check run.json --out new --json --set 'data.train=["parts", {"path": "all.csv", "name": "again", "limit": 10}]' > out.json 2> err.txt || bad "check: $(cat err.txt)"
tr -d ' \n' < out.json | grep -q '"train":\[{"name":"parts","path":"parts","format":"alpaca","files":3,"records":54,.*"name":"again",.*"records":9,' ||
    bad "counts: $(cat out.json)"
tr -d ' \n' < out.json | grep -q '"eval":\[{"name":"parts",.*"records":6,.*"name":"again",.*"records":1,' || bad "evaluation: $(cat out.json)"

"$ft" check run.json --set data.train=- > /dev/null 2> err.txt < /dev/null
[ $? = 65 ] && grep -q 'standard input: holds no records' err.txt || bad "nothing on standard input: $(cat err.txt)"
# A word behind another option than --data is not trained on.
refused_train() { # WORDS ARGUMENTS…
    local words=$1
    shift
    "$ft" train "$@" --out none > /dev/null 2> err.txt
    [ $? = 64 ] && grep -qF -- "$words" err.txt && [ ! -e none ] || bad "train $*: $(cat err.txt)"
}
refused_train 'all.csv: a data file that is not behind --data' --model "$source/data/tiny" --data all.jsonl --eval parts/1.jsonl all.csv
refused_train 'all.csv: a data file that is not behind --data' --model "$source/data/tiny" --data all.jsonl --set train.epochs=1 all.csv
refused_train 'all.csv: a data file that is not behind --data' all.csv --model "$source/data/tiny" --data all.jsonl
"$ft" check --model "$source/data/tiny" --data parts/1.jsonl parts/2.csv --json > out.json 2> err.txt && tr -d ' \n' < out.json |
    grep -q '"path":"parts/2.csv"' || bad "two files behind --data: $(cat err.txt)"

# A name that is given goes before one made of a path.
"$ft" check --model "$source/data/tiny" --json --data parts/1.jsonl --data '{"path": "all.csv", "name": "1"}' > out.json 2> err.txt || bad "names: $(cat err.txt)"
tr -d ' \n' < out.json | grep -q '"train":\[{"name":"1-2",.*{"name":"1",' || bad "names: $(cat out.json)"

# Until --force has taken the old run away, the command that starts again has it too.
cp -r ref kept
"$ft" train run.json --out kept --force --set train.max_seconds=0.000001 -q > /dev/null 2> err.txt
[ $? = 75 ] && grep -q -- '--force$' err.txt && same kept || bad "--force without time for a step: $(cat err.txt)"
"$ft" train run.json --out fresh --force --set train.max_seconds=0.000001 -q > /dev/null 2> err.txt
[ $? = 75 ] && grep -q -- '--resume$' err.txt || bad "no time for a step: $(cat err.txt)"

"$ft" help data.train > out.txt && grep -q 'data.train.columns.prompt  *string' out.txt && grep -q 'data.train.roles.user .*human, prompter' out.txt ||
    bad "help of a source: $(cat out.txt)"
"$ft" schema | tr -d ' \n' | grep -q '"eval_split":{"type":"number"' || bad "the schema of eval_split"
"$ft" schema | tr -d ' \n' | grep -q '"train":{"description":[^[]*"anyOf":\[{"type":"string"},{"type":"object","properties":{"path":' || bad "the schema of a source"

finish cli_doors
