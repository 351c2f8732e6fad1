#!/usr/bin/env bash
# cli_talk.sh FT SOURCE – generate from outside: penalties, stop strings, system turns, what a line wants otherwise, several
# samples; score that is kept open.
# shellcheck source=support/cli.sh
. "$(dirname "$0")/support/cli.sh"
tiny=$source/data/tiny

expect_in=in expect_out=out expect_err=err expect_seconds=600
is() { # WANTED: all of stdout
    [ "$(cat out)" = "$1" ] || bad "stdout is not '$1': $(head -c 400 out)"
}
has() { grep -qF -- "$1" out || bad "stdout lacks '$1': $(head -c 400 out)"; }
field() { sed -n "${2:-1}p" out | sed 's/.*"'"$1"'":\([^,}]*\).*/\1/'; }
gen() { expect_told 0 '' "$ft" generate --model "$tiny" "$@"; }
: > in

# --- choices ----------------------------------------------------------------------------------------------------
gen --prompt 'Tom Tom Tom' --max-new-tokens 30 --min-new-tokens 30 --json
cp out plain
for penalty in --repetition-penalty=1.8 --presence-penalty=4 '--repetition-penalty 0.2' --presence-penalty=-9; do
    # shellcheck disable=SC2086
    gen --prompt 'Tom Tom Tom' --max-new-tokens 30 --min-new-tokens 30 --json $penalty
    [ "$(sed 's/,"seconds.*//' out)" != "$(sed 's/,"seconds.*//' plain)" ] || bad "$penalty changes nothing"
done
gen --prompt 'Tom Tom Tom' --max-new-tokens 30 --min-new-tokens 30 --json --temperature 5 --min-p 1
[ "$(sed 's/,"seconds.*//' out)" = "$(sed 's/,"seconds.*//' plain)" ] || bad "min-p 1 is not greedy"
expect_told 64 '--repetition-penalty: 0 must be greater than 0' "$ft" generate --model "$tiny" --prompt a --repetition-penalty 0
expect_told 64 '--min-p: 1.5 must be at most 1' "$ft" generate --model "$tiny" --prompt a --min-p 1.5
expect_told 64 '--top-k: given twice' "$ft" generate --model "$tiny" --prompt a --top-k 1 --top-k 2
expect_told 64 '--chat: given twice' "$ft" generate --model "$tiny" --prompt a --chat=true --chat=false

# --- stop strings -------------------------------------------------------------------------------------------------
gen --prompt 'Once upon a time' --max-new-tokens 40 --min-new-tokens 40
text=$(cat out)
stop=${text:9:4}
gen --prompt 'Once upon a time' --max-new-tokens 40 --stop 'no such text' --stop "$stop" --json
has "\"text\":\"${text%%"$stop"*}\""
has "\"stop\":\"string\",\"stop_string\":\"$stop\""
tokens=$(field tokens)
[ "$tokens" -lt 40 ] || bad "a stop string did not end the answer"
gen --prompt 'Once upon a time' --max-new-tokens "$tokens" --stop "$stop" --json
has '"stop":"string"'
gen --prompt 'Once upon a time' --max-new-tokens $((tokens - 1)) --stop "$stop" --json
has '"stop":"length"'
gen --prompt 'Once upon a time' --max-new-tokens 40 --stop "$stop"
is "${text%%"$stop"*}"
expect_told 64 '--stop: must not be empty' "$ft" generate --model "$tiny" --prompt a --stop ''
expect_told 64 'is not UTF-8' "$ft" generate --model "$tiny" --prompt a --stop $'\xff'

# the end of a turn that is no token of the model ends an answer of --chat
cp -r "$tiny" dotted
printf '%s' '{% for m in messages %}{% if m.role == "assistant" %}{{ m.content + ".\n" }}{% else %}{{ m.content + "\n" }}{% endif %}{% endfor %}' \
    > dotted/chat_template.jinja
expect_told 0 '' "$ft" generate --model dotted --chat --prompt 'Once upon a time' --max-new-tokens 60 --json
has '"stop":"string","stop_string":"."'
expect_told 0 '' "$ft" generate --model dotted --prompt 'Once upon a time' --max-new-tokens 60 --json
grep -qF '"stop":"string"' out && bad "a plain prompt ended at the template's end of turn"

# --- turns ------------------------------------------------------------------------------------------------------------
printf '%s' '{% for m in messages %}{{ m.role + ": " + m.content + "\n" }}{% endfor %}' > dotted/chat_template.jinja
printf '%s\n' '{"messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi"}]}' > in
expect_told 0 '' "$ft" generate --model dotted --max-new-tokens 6 --json
cp out turns
same() { # WHAT COMMAND…: the answer is that of the messages, from as many prompt tokens
    expect_told 0 '' "${@:2}"
    [ "$(sed 's/,"seconds.*//' out)" = "$(sed 's/,"seconds.*//' turns)" ] || bad "$1: $(cat out)"
}
same '--system before a prompt' "$ft" generate --model dotted --max-new-tokens 6 --json --chat --system Be. --prompt Hi
same 'a system turn of its own' "$ft" generate --model dotted --max-new-tokens 6 --json --chat --system Other
printf '%s\n' '{"messages": [{"role": "user", "content": "Hi"}]}' > in
same '--system before messages' "$ft" generate --model dotted --max-new-tokens 6 --json --chat --system Be.
printf '%s\n' '{"prompt": "Hi", "system": "Be."}' > in
same "a line's system" "$ft" generate --model dotted --max-new-tokens 6 --json --chat --system Other
expect_told 65 'standard input:1:28: system: goes with messages, or with --chat' "$ft" generate --model dotted
expect_told 64 '--system: goes with --chat' "$ft" generate --model dotted --prompt a --system b
printf '%s\n' '{"system": "a", "messages": [{"role": "system", "content": "b"}, {"role": "user", "content": "c"}]}' > in
expect_told 65 'a system turn of their own' "$ft" generate --model dotted

# --- lines ------------------------------------------------------------------------------------------------------------
cat > in << 'END'
"Once upon"

{"prompt": "Once upon", "max_new_tokens": 3, "temperature": 1.5, "seed": 7}
{"prompt": "Once upon", "temperature": 1.5}
END
gen --max-new-tokens 5 --min-new-tokens 1 --seed 7 --json
[ "$(field tokens 1) $(field tokens 2) $(field tokens 3)" = '5 3 5' ] || bad "max_new_tokens of a line: $(cat out)"
cp out lines
printf '%s\n' '"a"' '{"prompt": "Once upon", "max_new_tokens": 3}' > in
gen --temperature 1.5 --seed 7 --max-new-tokens 5 --min-new-tokens 1 --json
[ "$(sed -n '2s/,"seconds.*//p' out)" = "$(sed -n '2s/,"seconds.*//p' lines)" ] || bad "a line's seed and temperature"
# ids are a prompt to which nothing is added
printf '%s\n' '"Once upon"' "{\"tokens\": $("$ft" tokenize --model "$tiny" --json <<< '"Once upon"')}" > in
gen --max-new-tokens 5 --json
[ "$(sed -n '1s/,"seconds.*//p' out)" = "$(sed -n '2s/,"seconds.*//p' out)" ] || bad "tokens of a line: $(cat out)"
cat > in << 'END'
{"prompt": "Once upon a time", "max_new_tokens": 4, "stop": null}

{"prompt": "There was", "max_new_tokens": 2}
END
gen
[ "$(grep -n '^=== ' out | cut -d: -f2 | tr '\n' ' ')" = '=== 1 === === 2 === ' ] || bad "numbers of lines: $(cat out)"
printf '%s\n' "{\"prompt\": \"Once upon a time\", \"stop\": [\"$stop\"]}" > in
gen --max-new-tokens 40 --stop Once
is "=== 1 ===
${text%%"$stop"*}"
while IFS='|' read -r line message; do
    printf '%s\n' '"a"' "$line" > in
    expect_told 65 "standard input:2:$message" "$ft" generate --model "$tiny" --max-new-tokens 2 --min-new-tokens 2
done << 'END'
{"prompt": "a", "stop": [""]}|26: stop: must be a list of strings
{"prompt": "a", "stop": [1]}|26: stop: must be a list of strings
{"prompt": "a", "max_new_tokens": 0}|35: max_new_tokens
{"prompt": "a", "max_new_tokens": 1}|35: max_new_tokens: is less than --min-new-tokens (2)
{"prompt": "a", "temperature": -1}|32: temperature: must be 0
{"prompt": "a", "temperature": "hot"}|32: temperature
{"prompt": "a", "seed": 1.5}|25: seed
{"prompt": "a", "system": "b"}|27: system
{"tokens": [1, 640]}|16: tokens: not a token id of this model
{"tokens": []}|1: an empty prompt
{"token": [1]}|1: needs one of prompt, messages and tokens
END

# --- samples ----------------------------------------------------------------------------------------------------------
cat > in << 'END'
{"id": 12345678901234567890, "prompt": "Once upon", "samples": 1, "answer": [1.5, "é"]}
"There was"
END
gen --num-samples 4 --temperature 1 --max-new-tokens 5 --chat --system 'Be brief.'
[ "$(wc -l < out)" = 2 ] || bad "--num-samples: $(wc -l < out) lines"
has '{"id":12345678901234567890,"prompt":"Once upon","answer":[1.5,"é"],"system":"Be brief.","completions":["'
has '{"prompt":"There was","system":"Be brief.","completions":["'
cp out four
gen --num-samples 2 --temperature 1 --max-new-tokens 5 --threads 1 --chat --system 'Be brief.'
first() { sed 's/.*"samples":\(\[{[^}]*},{[^}]*}\).*/\1/' "$1"; }
[ "$(first out)" = "$(first four)" ] || bad "two samples are not the first two of four"
grep -oE '"token_ids":\[[0-9,]*\]' four | sort | uniq -d | grep -q . && bad "two samples are the same"
head -n 1 in > one
gen --num-samples 1 --max-new-tokens 5 --data one
ids=$(sed 's/.*"token_ids":\[\([0-9,]*\)\].*/\1/' out)
logprobs=$(sed 's/.*"logprobs":\[\([^]]*\)\].*/\1/' out)
prompt=$("$ft" tokenize --model "$tiny" --json <<< '"Once upon"')
start=$(tr -cd , <<< "$prompt" | wc -c)
printf '{"tokens": [%s,%s], "start": %d}\n' "$(tr -d '[]' <<< "$prompt")" "$ids" $((start + 1)) > ask
"$ft" score --model "$tiny" --per-token --data ask > scored
paste -d' ' <(tr , '\n' <<< "$logprobs") <(sed 's/.*logprobs":\[\([^]]*\)\].*/\1/' scored | tr , '\n') |
    awk '{ d = $1 - $2; n++ } d > 1e-5 || d < -1e-5 { exit 1 } END { exit n != 5 }' ||
    bad "logprobs of a greedy sample: $logprobs, score: $(cat scored)"
expect_told 64 '--num-samples: 0 must be at least 1' "$ft" generate --model "$tiny" --prompt a --num-samples 0

# --- adapters that add up -----------------------------------------------------------------------------------------------
cat > lora.json << END
{"model": {"path": "$tiny"}, "method": {"type": "lora", "r": 2, "init_lora_weights": false},
 "data": {"train": "$source/data/text/tiny.chat.jsonl", "max_length": 32},
 "optim": {"learning_rate": 0.01}, "train": {"max_steps": 1, "batch_size": 1}, "output": {"dir": "a"}}
END
expect_told 0 '' "$ft" train lora.json --quiet
expect_told 0 '' "$ft" train lora.json --quiet --out b=1 --set method.r=3 --set 'method.target_modules=["q_proj", "down_proj"]'
printf '%s\n' '{"text": "Once upon a time"}' > in
logprob() { expect_told 0 '' "$ft" score "$@" && field logprob; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a - b < 1e-4 && b - a < 1e-4) }'; }
base=$(logprob --model "$tiny") a=$(logprob --adapter a) both=$(logprob --adapter a --adapter b=1=1)
near "$base" "$(logprob --adapter a=0)" || bad "a=0 is not the base"
near "$a" "$(logprob --adapter a=0.25 --adapter a=.75)" || bad "a quarter and three are not one"
near "$both" "$(logprob --adapter b=1=1 --model "$tiny" --adapter a)" || bad "the order of two adapters"
near "$a" "$both" && bad "the second adapter adds nothing"
expect_told 0 '' "$ft" generate --adapter a=0.5 --adapter b=1=-1 --prompt Once --max-new-tokens 3
printf 'Once upon a time there was a dog.' > text.txt
expect_told 0 '' "$ft" eval --model "$tiny" --adapter a --adapter b=1=1 --task perplexity --data text.txt
cp out by_flags
printf '%s' '{"model": {"path": "tiny"}, "adapter": ["a", "b=1=1"], "tasks": [{"type": "perplexity", "data": "text.txt"}]}' > eval.json
ln -s "$tiny" tiny
expect_told 0 '' "$ft" eval eval.json
cmp -s out by_flags || bad "adapters of a config and of options: $(cat out by_flags)"
expect_told 0 '' "$ft" eval eval.json --adapter a
cmp -s out by_flags && bad "--adapter does not take the place of the config's"
expect_told 64 'a=inf": "inf" must be finite' "$ft" score --adapter a=inf
expect_told 64 'is an adapter, not a model; give it with --adapter' "$ft" generate --model a --prompt b
expect_told 66 'nowhere' "$ft" score --model "$tiny" --adapter nowhere=2
printf '%s' '{"model": {"path": "tiny"}, "adapter": ["a", 1], "tasks": [{"type": "perplexity", "data": "text.txt"}]}' > eval.json
expect_told 78 'eval.json:1:46: adapter: must be a folder' "$ft" eval eval.json

# --- score, kept open ---------------------------------------------------------------------------------------------------
# whatever stands behind a whole line (nothing, an empty line, half of the next one), the line is answered
mkfifo ask.in answer.in
expect_told 65 'ask.in: is a pipe' "$ft" score --model "$tiny" --data ask.in
exec 3<> ask.in 4<> answer.in
"$ft" score --model "$tiny" < ask.in > answer.in 2> err 3>&- 4>&- &
child=$!
answered() { # ID
    IFS= read -r -t 20 reply <&4 || bad "no answer to line $1"
    [[ $reply == "{\"id\":$1,"* ]] || bad "answer to line $1: $reply"
}
printf '{"id": 1, ' >&3
printf '"tokens": [5, 6]}\n' >&3
answered 1
printf '{"id": 2, "tokens": [5, 6]}\n\n' >&3
answered 2
printf '{"id": 3, "tokens": [5, 6]}\n  \n{"id": 4, "tok' >&3
answered 3
printf 'ens": [5]}\n{"id": 5, ' >&3
answered 4
printf '"tokens": [5]}' >&3
exec 3>&-
answered 5
exec 4<&-
wait $child || bad "score ended with $?: $(cat err)"

printf '%s\n' '{"id": "a", "tokens": [1, 2]}' '{"id": 2, "tokens": [1, 99999]}' '{"id": {"k": 3}, "txt": "a"}' \
    '{"id": 4, "text"' '[1]' '7' '' '{"id": 5, "context": "a"}' '{"id": 6, "text": "Once upon a time"}' > in
expect_told 65 'standard input:2:' "$ft" score --model "$tiny"
[ "$(wc -l < out)" = 1 ] || bad "lines before a wrong one: $(cat out)"
expect_told 0 '6 lines were answered with an error' "$ft" score --model "$tiny" --keep-going
[ "$(cut -d, -f1 out | tr '\n' ' ')" = '{"id":"a" {"id":2 {"id":{"k":3} {"id":null {"id":null {"id":null {"id":5 {"id":6 ' ] ||
    bad "order of --keep-going: $(cat out)"
has '{"id":2,"error":"standard input:2:25: tokens: not a token id of this model'
has '{"id":{"k":3},"error":"standard input:3:'
[ "$(sed -n 8p out)" = "$(tail -n 1 in | "$ft" score --model "$tiny")" ] || bad "a line behind wrong ones: $(cat out)"

finish cli_talk
