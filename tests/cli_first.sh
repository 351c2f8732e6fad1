#!/usr/bin/env bash
# cli_first.sh FT SOURCE – `ft` alone: ten lines, each of which does what it says, one after the other; colours of messages, and
# what turns while a large file is read: on a terminal alone.
. "$2/tests/support/cli.sh"
pty=$(dirname "$ft")/pty
esc=$'\e'

# --- the tour, on the embedded model in place of a fetched one
"$ft" > tour.txt 2> err.txt
{ [ $? = 64 ] && [ "$(cat err.txt)" = 'ft: error: which verb? ft help lists them' ]; } || bad "ft alone: $(cat err.txt)"
[ "$(wc -l < tour.txt)" = 10 ] || bad "ten lines: $(cat tour.txt)"
"$ft" help tour | cmp - tour.txt || bad "ft help tour"
head -n 1 tour.txt | grep -q '^ft fetch ' || bad "it begins with $(head -n 1 tour.txt)"
cp -r "$source/data/tiny" model
head -n 40 "$source/data/completion.jsonl" > train.jsonl
tail -n 10 "$source/data/completion.jsonl" > test.jsonl
mkdir bin && ln -s "$ft" bin/ft
while read -r line; do
    [[ $line = 'ft fetch '* ]] && continue
    PATH=$PWD/bin:$PATH bash -c "$line" > out.txt 2> err.txt < /dev/null || bad "$line: $? $(cat err.txt)"
    grep -q 'ft: error' err.txt && bad "$line: $(cat err.txt)"
done < tour.txt
for file in run.json out/adapter_model.safetensors out/report.html merged/model.safetensors merged.gguf; do
    [ -s $file ] || bad "the tour leaves no $file"
done

# --- colours
coloured() { # FILE
    grep -qF "${esc}[1;31mft: error:${esc}[0m " "$1"
}
"$ft" check nowhere.json 2> err.txt
grep -qF "$esc" err.txt && bad "colours in a file: $(cat -v err.txt)"
"$ft" check nowhere.json --color always 2> err.txt
coloured err.txt || bad "--color always: $(cat -v err.txt)"
"$ft" check nowhere.json --color=always --no-such-option 2> err.txt
coloured err.txt || bad "a mistake of the line: $(cat -v err.txt)"
NO_COLOR=1 "$ft" check nowhere.json --color always 2> err.txt
coloured err.txt || bad "what is asked for wins: $(cat -v err.txt)"
"$ft" version --color sometimes > out.txt 2> err.txt
{ [ $? = 64 ] && [ ! -s out.txt ]; } || bad "--color sometimes: $(cat err.txt)"
"$ft" data train.jsonl --model model --color always > out.txt 2> err.txt && grep -qF "$esc" out.txt || bad "samples in colour"
"$ft" data train.jsonl --model model > out.txt 2> err.txt && ! grep -qF "$esc" out.txt || bad "colours in a file"
"$ft" version --json > out.txt && grep -q '^{"version":"[0-9.]*",.*"core":".*"simd":".*"threads":[0-9]*}$' out.txt || bad "version: $(cat out.txt)"
if [ -x "$pty" ]; then
    on_terminal() { # ENVIRONMENT COMMAND…: what a terminal showed, in out.txt
        local how=$1
        shift
        # shellcheck disable=SC2086
        env TERM=xterm $how "$pty" /dev/null "$@" > out.txt
    }
    on_terminal NO_COLOR= "$ft" check nowhere.json
    coloured out.txt || bad "no colours on a terminal: $(cat -v out.txt)"
    for how in NO_COLOR=1 TERM=dumb TERM=; do
        on_terminal "$how" "$ft" check nowhere.json
        grep -qF "$esc" out.txt && bad "$how: $(cat -v out.txt)"
    done
    on_terminal NO_COLOR= "$ft" check nowhere.json --color never
    grep -qF "$esc" out.txt && bad "--color never: $(cat -v out.txt)"

    # --- what turns, once a second has gone by; all at once, since most of it is waiting
    slowly() { # FILE ENVIRONMENT SECONDS OPTIONS…
        local file=$1 how=$2 seconds=$3
        shift 3
        # shellcheck disable=SC2016
        env TERM=xterm "$how" "$pty" /dev/null bash -c \
            '{ sleep "$1"; cat train.jsonl; } | "$2" check --model model --data - --out o "${@:3}"' slowly "$seconds" "$ft" "$@" \
            > "$file" &
    }
    slowly turns NO_COLOR= 1.5
    slowly soon NO_COLOR= 0.1
    slowly quiet NO_COLOR= 1.5 -q
    slowly json NO_COLOR= 1.5 --json
    slowly plain NO_COLOR=1 1.5
    slowly dumb TERM=dumb 1.5
    { sleep 1.3; cat train.jsonl; } | "$ft" check --model model --data - --out o --color always > pipe 2>&1
    wait
    grep -qF '| reading standard input' turns || bad "nothing turns: $(cat -v turns)"
    for file in turns soon plain dumb pipe; do grep -q 'memory' $file || bad "$file: no result: $(cat -v $file)"; done
    for file in soon quiet json plain dumb pipe; do
        grep -qF 'reading standard input' $file && bad "it turns, $file: $(cat -v $file)"
    done
fi
finish cli_first
