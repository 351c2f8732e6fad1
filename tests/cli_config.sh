#!/usr/bin/env bash
# cli_config.sh FT SOURCE – every key of a training config from outside: each one-edit typo is refused and the
# right key suggested, each wrong value is refused, JSON that is not strict is refused, all in one go and before
# any model file is opened.
. "$2/tests/support/cli.sh"

echo '{"model": {"path": "none"}, "data": {"train": "none.jsonl"}, "output": {"dir": "o"}}' >base.json
"$ft" check base.json >out 2>err
[ $? -eq 66 ] || bad "a fine config for a model that is not there: $(cat err)"

# --- the keys, from the help: SECTION TYPE KEY KIND, one a line, and "null" where that is a value ------------------------------------------
for section in $("$ft" help | sed -n '/^sections of/,/^$/p' | awk 'NR > 1 && NF { print $1 }'); do
    "$ft" help "$section" | awk -v s="$section" '
        /^[a-z]/ { type = $2 == "–" ? "-" : $2; next }
        index($1, s ".") == 1 { print s, type, $1, $2, /\| null$/ ? "null" : "" }'
done >keys
[ "$(wc -l <keys)" -ge 60 ] || bad "few keys: $(wc -l <keys)"

# --- typos ------------------------------------------------------------------------------------------------
# Delete, swap, double and replace at every place; 15 typos a run, since a run lists 20 mistakes.
awk '
{ n = split($3, part, "."); key = part[n]; path = substr($3, 1, length($3) - length(key)); len = length(key)
  for (i = 1; i <= len; i++) {
      a = substr(key, 1, i - 1); c = substr(key, i, 1); b = substr(key, i + 1)
      print $1, $2, path a b, key
      print $1, $2, path a c c b, key
      print $1, $2, path a (c == "x" ? "y" : "x") b, key
      if (i < len && c != substr(b, 1, 1)) print $1, $2, path a substr(b, 1, 1) c substr(b, 2), key
  } }' keys | awk 'NR == FNR { known[$1 " " $2 " " $3] = 1; next }
    substr($3, length($3)) != "." && !(($1 " " $2 " " $3) in known) && !seen[$1 " " $2 " " $3]++' keys - >all_typos
some <all_typos >typos

# together FILE: lines "SECTION TYPE SET KEY", 15 in a run of one section and type. What runs say goes to `said`, what was
# tried to `tried`, by the number of the run: programs that look at each case by itself would take a minute.
run=0
sets=()
flush() {
    [ ${#sets[@]} -eq 0 ] && return
    run=$((run + 1))
    echo "run $run" >>said
    [ "$2" = - ] || sets+=(--set "$1.type=$2")
    "$ft" check base.json "${sets[@]}" >out 2>>said
    local rc=$?
    [ $rc -eq 78 ] || bad "${sets[*]} gave $rc"
    sets=()
}
together() {
    local section type set key last='- -' n=0
    : >said
    : >tried
    while read -r section type set key; do
        if [ $n -ge 15 ] || [ "$section $type" != "$last" ]; then
            flush $last
            n=0
        fi
        n=$((n + 1)) last="$section $type"
        sets+=(--set "$set")
        echo "$((run + 1)) ${set%%=*} $key" >>tried
    done <"$1"
    flush $last
}
# judged: each line of `tried` with what its run said of it, or nothing
judged() {
    awk 'NR == FNR { if ($1 == "run") run = $2
                     else if (sub(/^ft: error: --set /, "")) { at = index($0, ": "); k = run " " substr($0, 1, at - 1)
                                                                   if (!(k in said)) said[k] = substr($0, at + 2) }
                     next }
         { print $2, $3, said[$1 " " $2] }' said tried
}

awk '{ print $1, $2, $3 "=1", $4 }' typos >cases
together cases
judged >typos.said
while read -r path _; do bad "$path is not refused"; done < <(grep -v '^[^ ]* [^ ]* unknown key' typos.said)
all=$(wc -l <typos.said)
right=$(awk 'index($0, $1 " " $2 " unknown key; did you mean \"" $2 "\"?") == 1' typos.said | wc -l)
echo "cli_config: $right of $all typos get the right key"
[ $((right * 100)) -ge $((all * 95)) ] || bad "less than 95 %"
[ "$(wc -l <all_typos)" -ge 2000 ] || bad "only $(wc -l <all_typos) typos"

# --- values ----------------------------------------------------------------------------------------------
for round in 1 2 3; do # a key once in a run
    awk -v round=$round '
        $4 ~ /^(integer|number|bool|integer\|auto|bool\|auto)$/ { other[2] = "word"; other[3] = "[1]" }
        $4 ~ /^(string|path|choice|table)$/ { other[2] = "7"; other[3] = $4 == "table" ? "" : "{}" }
        { other[1] = $5 == "null" ? "" : "null"; if (other[round] != "") print $1, $2, $3 "=" other[round], $3; other[2] = other[3] = "" }' keys
done >cases
together cases
judged >values.said
while read -r path _ text; do [ -n "$text" ] || bad "a wrong value of $path is not refused"; done <values.said
[ "$(wc -l <values.said)" -ge 200 ] || bad "only $(wc -l <values.said) values tried"

# --- JSON ---------------------------------------------------------------------------------------------------
strict() { # PLACE WHAT TEXT
    printf '%b' "$3" >c.json
    "$ft" check c.json >out 2>err
    [ $? -eq 78 ] || bad "accepted: $3"
    [ "$(grep -c '^ft: error: ' err)" = 1 ] && [ "$(wc -l <err)" = 1 ] || bad "not one line: $3: $(cat err)"
    grep -qF "c.json:$1: " err && grep -qF -- "$2" err || bad "$3: $(cat err)"
}
strict 1:1 'byte order mark' '\0357\0273\0277{}'
strict 1:11 'comments' '{"a": {}} // x'
strict 2:1 'comma' '{"train": {"seed": 1}\n,}'
strict 1:20 'begin with 0' '{"train": {"seed": 01}}'
strict 1:20 'digit behind' '{"train": {"seed": 1.}}'
strict 1:20 'NaN' '{"train": {"seed": NaN}}'
strict 1:20 'range' '{"train": {"seed": 1e999}}'
strict 1:20 '2^53' '{"train": {"seed": 9007199254740993}}'
strict 1:15 'u0000' '{"output": {"d\\u0000ir": "x"}}'
strict 1:14 'UTF-8' '{"output": {"\0377": "x"}}'
strict 2:2 'twice' '{"train": {"seed": 1,\n "seed": 2}}'
strict 1:4 'behind the end' '{} {}'
strict 1:1 'object' '[]'
strict 1:1 'nothing here' ''
printf '{"train": %065d}' 0 | sed 's/0/[/g' >c.json
"$ft" check c.json 2>err
[ $? -eq 78 ] && grep -qF 'nested deeper than 64' err || bad "depth 65: $(cat err)"

# every mistake in one go, in the order of the file
cat >c.json <<'JSON'
{ "model": { "path": "none" },
  "method": { "type": "lora", "r": 0, "lora_alpa": 16 },
  "data": { "train": "none.jsonl", "max_lenght": 8 },
  "optim": { "learning_rate": "fast", "lr_scheduler_type": "cosin" },
  "train": { "epochs": true, "seed": null },
  "outputs": {} }
JSON
"$ft" check c.json >out 2>err
[ $? -eq 78 ] || bad "c.json is accepted"
for text in 'c.json:2:36: method.r: ' 'c.json:2:39: method.lora_alpa: unknown key; did you mean "lora_alpha"?' \
    'c.json:3:36: data.max_lenght: unknown key; did you mean "max_length"?' 'c.json:4:31: optim.learning_rate: ' \
    'c.json:4:60: optim.lr_scheduler_type: ' 'c.json:5:24: train.epochs: ' 'c.json:5:38: train.seed: ' \
    'c.json:6:3: outputs: unknown key; did you mean "output"?'; do
    grep -qF "ft: error: $text" err || bad "not told: $text"
done
[ ! -s out ] || bad "results in spite of mistakes"

echo "cli_config: $(wc -l <keys) keys"
finish cli_config
