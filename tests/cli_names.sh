#!/usr/bin/env bash
# cli_names.sh FT SOURCE – names that would move a cursor, turn text around or break a line are told escaped, on stderr and in
# results, and a command that is printed can be pasted.
. "$2/tests/support/cli.sh"

evil=$'a\e[31m\r\a\u202e\u009b\nz'
raw() { LC_ALL=C grep -P '[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]' "$@"; }
tell() { # CODE COMMAND...: nothing of it reaches a terminal, and an error is one line
    local want=$1 code
    shift
    "$@" > said 2> err < /dev/null
    code=$?
    [ $code = "$want" ] || bad "$* gave $code, not $want: $(tail -n 1 err | cat -v)"
    raw said err > /dev/null && bad "raw: $(printf '%q ' "$@"): $(raw said err | cat -v)"
    [ "$(grep -vc '^ft: \|^[^:]*: [0-9]* data files' err)" = 0 ] || [ $code = 0 ] || bad "a name broke the line of an error: $(cat -v err)"
}
json=$(printf '%s' "$evil" | sed 's/\x1b/\\u001b/; s/\r/\\r/; s/\x07/\\u0007/' | sed ':a;N;$!ba;s/\n/\\n/')
cp -r "$source/data/tiny" m && cp -r m "$evil"
printf '{"text":"One %s day."}\n{"text":"Two %s nights."}\n' "$json" "$json" > d.jsonl && cp d.jsonl "$evil.jsonl"
printf '{"messages":[{"role":"%s","content":"x"}]}\n' "$json" > roles.jsonl
printf '{"%s":"x"}\n' "$json" > keys.jsonl
printf '{"model":{"path":"m"},"%s":1,"method":{"type":"%s"},"data":{"train":"d.jsonl"}}' "$json" "$json" > bad.json
printf '{"model":{"path":"m"},"tasks":[{"name":"%s","type":"perplexity","data":"d.jsonl"}]}' "$json" > eval.json
cp -r m family && printf '{"model_type":"%s","architectures":["%s"]}' "$json" "$json" > family/config.json
cat > run.json << 'END'
{"model": {"path": "m"}, "method": {"type": "lora", "r": 2}, "data": {"train": "d.jsonl", "max_length": 64},
 "train": {"max_steps": 2, "batch_size": 2, "checkpoint_every": 1}, "output": {"dir": "run"}}
END
for how in --quiet --json; do
    tell 0 "$ft" inspect "$evil" $how
    tell 0 "$ft" convert "$evil" --out "made$evil$how" $how
    tell 73 "$ft" convert "$evil" --out "made$evil$how" $how
    tell 0 "$ft" eval eval.json $how
    tell 0 "$ft" data "$evil.jsonl" --model m $how
    tell 0 "$ft" check run.json --set "model.path=$evil" $how
    tell 0 "$ft" init --model "$evil" --data "$evil" $how
    tell 65 "$ft" data roles.jsonl --model m $how
    tell 65 "$ft" check run.json --set data.train=keys.jsonl $how
    tell 65 "$ft" generate --model family --prompt x $how
    tell 78 "$ft" check bad.json $how
    tell 66 "$ft" score --model m --data "no$evil" $how
    tell 66 "$ft" generate --model "no$evil" --prompt x $how
    tell 64 "$ft" train "--$evil" $how
    tell 64 "$ft" "$evil" $how
done
tell 0 "$ft" train run.json --out "out$evil"
tell 73 "$ft" train run.json --out "out$evil"
"$ft" init --model "$evil" > said && perl -MJSON::PP -0777 -CO -e '$j = JSON::PP->new->utf8->decode(<>); print $j->{model}{path}' < said > back 2> /dev/null &&
    [ "$(cat back; echo .)" = "$evil." ] || bad "escapes of JSON are not read back: $(cat -v said back)"
printf 'ab\e[1m\u009bc\n' | "$ft" tokenize --model m > ids && [ "$("$ft" tokenize --model m --decode < ids)" = $'ab\e[1m\u009bc' ] || bad "text that is a result is not as it was"

# --- pasted as it stands
for name in 'two words' "it's" 'a$HOME`id`' '-x' '"q"\' '~' "$evil" $'\xff' '*' 'a;b&c|d' $'tab\there' '!!' '#x'; do
    cp run.json "./$name.json"
    "$ft" train -q --out "to $name" --set train.max_seconds=0.0001 --set "train.seed=7" -- "$name.json" > said 2> err
    [ $? = 75 ] || bad "$name: no stop: $(cat err)"
    command=$(sed -n 's/^ft: error: .*start again with: //p' err)
    [ -n "$command" ] || bad "$name: no command: $(cat err)"
    command=${command/--set train.max_seconds=0.0001/--set train.max_seconds=1000}
    PATH=$(dirname "$ft"):$PATH bash -c "$command" > said 2> err || bad "$name: pasted: $command: $(cat err)"
    [ -s "to $name/summary.json" ] || bad "$name: another folder: $(ls | cat -v)"
done
finish cli_names
