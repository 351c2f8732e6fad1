#!/usr/bin/env bash
# cli_eval.sh FT SOURCE – the task `loss` beside the evaluations of a run, gates against the untuned model, and what `ft eval`
# writes.
. "$2/tests/support/cli.sh"
head -n 30 "$source/data/text/tiny.chat.eval.jsonl" > chat.jsonl
head -n 9 "$source/data/completion.jsonl" > comp.jsonl
head -c 3000 "$source/data/text/tiny.eval.txt" > text.txt
sources='[{"path": "chat.jsonl", "name": "chat"}, "comp.jsonl", {"path": "text.txt", "name": "c.text", "limit": 2}]'
run() { # METHOD
    rm -rf out
    cat > run.json << END
{"model": {"path": "$source/data/tiny"}, "method": $1, "data": {"train": "chat.jsonl", "eval": $sources, "max_length": 48},
 "optim": {"learning_rate": 0.01}, "train": {"max_steps": 2, "batch_size": 2, "precision": "f32"}, "output": {"dir": "out"}}
END
    "$ft" train run.json --quiet 2> err.txt || bad "train $1: $(cat err.txt)"
}
cat > eval.json << END
{"model": {"path": "$source/data/tiny"}, "adapter": "out", "samples": "samples.jsonl",
 "tasks": [{"name": "c.acc", "type": "loss", "max_length": 48, "data": $sources}]}
END
number() { grep -o "\"$2\":[-0-9.e+]*" "$1" | head -n 1 | cut -d: -f2; }
same() { # what the run logged last, to the digits that the log has
    for name in loss loss.chat loss.comp loss.c.text; do
        local logged got
        logged=$(tail -n 1 out/log.jsonl | grep -o "\"eval_$name\":[-0-9.e+]*" | cut -d: -f2)
        got=$(number out.json "$name")
        awk -v a="$logged" -v b="$got" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < 1e-12) }' || bad "$1: $name is $got, the run logged $logged"
    done
}
for method in '{"type": "lora", "r": 4}' '{"type": "prompt_tuning", "num_virtual_tokens": 3}'; do
    run "$method"
    for threads in 1 2; do
        "$ft" eval eval.json --json --threads $threads > out.json 2> err.txt || bad "eval: $(cat err.txt)"
        sed -i 's/,"memory":{[^}]*}//' out.json # what the system grants is another number every time
        same "$method"
        [ $threads = 1 ] && cp samples.jsonl first.jsonl && cp out.json first.json
    done
    cmp -s samples.jsonl first.jsonl && cmp -s out.json first.json || bad "threads change what is evaluated"
done
[ "$(wc -l < samples.jsonl)" = "$(number out.json samples)" ] || bad "a line a sample: $(wc -l < samples.jsonl)"

# --- gates against the untuned model
gate() { # CODE TEXT SET…
    local code=$1 text=$2
    shift 2
    "$ft" eval eval.json --json --junit j.xml --report r.md "$@" > out.json 2> err.txt
    [ $? = "$code" ] || bad "$*: not $code: $(cat err.txt)"
    grep -qF -- "$text" err.txt out.json || bad "$*: no '$text': $(cat err.txt out.json)"
}
gate 0 '"gates":[{"metric":"loss","bound":"max_increase","limit":0.5,"value":' --set 'gates["c.acc.loss"].max_increase=0.5'
grep -q '"base":{"loss":' out.json || bad "no base: $(cat out.json)"
gate 81 'gate c.acc.loss.c.text: ' --set 'gates["c.acc.loss.c.text"].max_ratio=0.01'
grep -q 'failures="1"' j.xml && grep -q 'max_ratio 0.01 | FAIL |$' r.md || bad "a missed gate: $(cat j.xml r.md)"
gate 81 'is above the maximum 0.01' --set 'gates["c.acc.loss"]={"max": 0.01}'
grep -q '"base":' out.json && ! grep -q '"base":null' out.json && bad "the base ran, and nothing asked for it"
gate 0 '"base":{"loss":' --set "baseline=$source/data/tiny"
gate 78 'it has loss, perplexity, tokens, samples, loss.chat, tokens.chat' --set 'gates["c.acc.los"].max=1'
gate 64 'a key in brackets is written ["…"]' --set 'gates[c.acc.loss].max=1'
gate 64 'expected a dot, a bracket or = behind' --set 'gates["c.acc.loss"]max=1'
grep -q . samples.jsonl || bad "the samples of an earlier evaluation are gone"

# --- files that are not written, and inputs that stay
gate 78 'weights mix training sources' --set 'tasks=[{"type": "loss", "data": {"path": "text.txt", "weight": 2}}]'
"$ft" eval eval.json --samples chat.jsonl --set 'tasks=[{"type": "loss", "data": "chat.jsonl"}]' > out.json 2> err.txt
[ $? = 73 ] && [ "$(wc -l < chat.jsonl)" = 30 ] || bad "the data was written over: $(cat err.txt)"
"$ft" eval eval.json --junit absent/j.xml > out.json 2> err.txt && bad "a folder that is not there"
[ -s out.json ] && bad "found out after the evaluation"
"$ft" eval --model "$source/data/tiny" --task loss --data comp.jsonl --limit 4 --max-length 200 --json > out.json 2> err.txt ||
    bad "a task by flags: $(cat err.txt)"
[ "$(number out.json samples)" = 4 ] || bad "--limit: $(cat out.json)"

# --- records of any file are read as such
grep -m 6 . "$source/data/text/tiny.txt" | sed 's/"//g; s/.*/{"text": "&"}/' > r.jsonl
gzip -k r.jsonl
cp text.txt plain0.txt
sed '1s/^/[/; $!s/$/,/; $s/$/]/' r.jsonl > r.json
sed 's/^{"text": //; s/}$//; 1s/^/text\n/' r.jsonl > r.csv
of_records() { "$ft" eval --model "$source/data/tiny" --task perplexity --data "$1" --limit 3 --json 2> err.txt | sed 's/,"memory.*//'; }
want=$(of_records r.jsonl)
for file in r.jsonl.gz r.json r.csv; do [ "$(of_records $file)" = "$want" ] || bad "$file: $(of_records $file), not $want: $(cat err.txt)"; done
"$ft" eval --model "$source/data/tiny" --task loss --data plain0.txt --max-length 48 --limit 1 > /dev/null 2> err.txt
grep -q 'plain0.txt: limit has no effect: this source is one document' err.txt || bad "limit of a text: $(cat err.txt)"

# --- of a plain text the limit is windows: as a text that ends behind the last one
yes 'The day was warm. ' | head -n 200 > plain.txt
windows() { # LIMIT NAME
    "$ft" eval --model "$source/data/tiny" --task perplexity --data plain.txt --max-length 16 --stride 10 --limit "$1" --json 2> err.txt > out.json
    number out.json "$2"
}
all=$(windows 0 tokens)
[ "$(windows 3 tokens)" = 35 ] || bad "three windows: $(windows 3 tokens) tokens"
[ "$(windows 1000000000000000 tokens)" = "$all" ] || bad "more windows than there are: $(cat out.json err.txt)"
[ "$(windows $(((all + 1 - 16 + 9) / 10)) tokens)" -lt "$all" ] || bad "all windows but one"
awk -v three="$(windows 3 bits_per_byte)" -v all="$(windows 0 bits_per_byte)" 'BEGIN { exit !(2 * three > all && three < 2 * all) }' ||
    bad "bits of a byte: $(windows 3 bits_per_byte) of three windows, $(windows 0 bits_per_byte) of all"
ls | grep -q '\.tmp' && bad "a temporary is left: $(ls)"
"$ft" eval --model "$source/data/tiny" --task loss --data - --json < comp.jsonl > out.json 2> err.txt || bad "standard input: $(cat err.txt)"
[ "$(number out.json samples)" -gt 4 ] || bad "standard input: $(cat out.json)"
gate 78 'can be read once' --set 'tasks=[{"type": "loss", "data": "-"}]' --set 'gates["loss.loss"].max_ratio=1' < comp.jsonl

# --- records come through the doors that data.train has
cat > q.jsonl << 'END'
{"query": "Once upon", "choices": ["a time", "zqx"], "gold": 0}
{"query": "The old", "choices": ["man", "xj", "q,\"q\""], "gold": 1}
END
{ echo '['; sed '2s/^/,/' q.jsonl; echo ']'; } > q.json
printf 'query,choices,gold\nOnce upon,"[""a time"", ""zqx""]",0\n"The old","[""man"", ""xj"", ""q,\\""q\\""""]",1\n' > q.csv
mkdir -p many && head -n 1 q.jsonl > many/1.jsonl && tail -n 1 q.jsonl > many/2.jsonl
printf '{"text": "Once upon", "c": {"all": ["a time", "zqx"]}, "gold": 0}\n' > other.jsonl
asked() { # DATA OPTION…: what multiple choice gives over it
    local data=$1
    shift
    "$ft" eval --model "$source/data/tiny" --task multiple_choice --data "$data" --samples s.jsonl --json "$@" > out.json 2> err.txt < q.jsonl || bad "$data: $(cat err.txt)"
    sed 's/"line":[0-9]*//' s.jsonl
}
want=$(asked q.jsonl)
for data in q.json q.csv many 'man?/*.jsonl' -; do
    [ "$(asked "$data")" = "$want" ] || bad "$data gives other records: $(cat s.jsonl), not $want"
done
[ "$(asked q.jsonl --limit 1)" = "$(head -n 1 <<< "$want")" ] || bad "--limit 1: $(cat s.jsonl)"
"$ft" eval eval.json --json --set 'gates={}' --set 'tasks=[{"type": "generate", "data": {"path": "other.jsonl", "columns": {"prompt": "text", "answer": "c.all.0"}}, "max_new_tokens": 2}]' > out.json 2> err.txt ||
    bad "columns: $(cat err.txt)"
grep -q '"prompt":"Once upon","answer":"a time"' samples.jsonl || bad "columns: $(cat samples.jsonl)"
gate 78 'roles is of data that is learned' --set 'tasks=[{"type": "generate", "data": {"path": "q.jsonl", "roles": {"user": ["u"]}}}]'
gate 66 'absent.jsonl' --set 'tasks=[{"type": "piqa", "data": "absent.jsonl"}]'
gate 65 'a text file holds no records' --set 'tasks=[{"type": "piqa", "data": "text.txt"}]'
printf 'query,choices,gold\nOnce upon,a time,0\n' > bad.csv
gate 65 'bad.csv:2:' --set 'tasks=[{"type": "multiple_choice", "data": "bad.csv"}]'

# --- a chat template in place of the model's
loss_of() { # OPTION…
    "$ft" eval --model "$source/data/tiny" --task loss --data chat.jsonl --limit 4 --json "$@" > out.json 2> err.txt || bad "eval $*: $(cat err.txt)"
    number out.json loss
}
own=$(loss_of) named=$(loss_of --chat-template vicuna)
[ "$own" != "$named" ] || bad "--chat-template changes nothing"
[ "$(loss_of --chat-template chatml)" = "$own" ] || bad "the model's own is chatml"
printf "{%% for m in messages %%}{{ m.content }}{%% endfor %%}" > plain.jinja
[ "$(loss_of --chat-template plain.jinja)" != "$own" ] || bad "a file as a template"
cat > chat.json << END
{"model": {"path": "$source/data/tiny"}, "tasks": [
 {"name": "a", "type": "loss", "data": {"path": "chat.jsonl", "limit": 4}, "chat_template": "vicuna"},
 {"name": "b", "type": "loss", "data": {"path": "chat.jsonl", "limit": 4}}]}
END
"$ft" eval chat.json --json > out.json 2> err.txt || bad "eval chat.json: $(cat err.txt)"
[ "$(number out.json loss)" = "$named" ] && [ "$(tail -n 1 out.json > b.json; number b.json loss)" = "$own" ] ||
    bad "each task has its template: $(cat out.json), $named and $own"
"$ft" eval chat.json --chat-template vicuna --json > out.json 2> err.txt
[ "$(tail -n 1 out.json > b.json; number b.json loss)" = "$named" ] || bad "the option is of every task: $(cat out.json)"
"$ft" eval chat.json --chat-template gemma --json 2>&1 > out.json | grep -c 'no tokens of the model' | grep -qx 1 || bad "one warning of tokens that are none"
refused() { # CODE TEXT COMMAND…
    local code=$1 text=$2
    shift 2
    "$ft" "$@" > out.json 2> err.txt < /dev/null
    [ $? = "$code" ] && grep -qF -- "$text" err.txt || bad "$*: not $code and '$text': $(cat err.txt)"
}
refused 66 'did you mean "chatml"?' eval chat.json --chat-template chatlm
refused 64 '--task: "los" is unknown; did you mean "loss"?' eval --model "$source/data/tiny" --task los --data text.txt
refused 64 '--stride: a loss task has no such key' eval --model "$source/data/tiny" --task loss --data text.txt --stride 3
refused 64 'no task renders messages' eval --model "$source/data/tiny" --task perplexity --data text.txt --chat-template chatml
refused 64 'goes with --chat' tokenize --model "$source/data/tiny" --chat-template chatml
refused 66 'none of the names' generate --model "$source/data/tiny" --prompt a --chat --chat-template chatlm
printf '{"model": {"path": "%s/data/tiny"}, "tasks": [{"name": "a\\u001b[31mb", "type": "perplexity", "data": "esc.txt"}]}\n' "$source" > esc.json
printf 'A bee eats nectar.\n' > esc.txt
"$ft" eval esc.json > out.txt 2> err.txt || bad "eval: $(cat err.txt)"
grep -q "$(printf '\033')" out.txt && bad "control characters of a name reach the terminal"
finish cli_eval
