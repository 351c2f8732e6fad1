#!/usr/bin/env bash
# cli_tour.sh FT SOURCE – the tour of README, its commands as they stand there, from fetching a model to a report; the hub is
# one on the loopback (support/hub/hub.pl), and serves the embedded model under the name that README fetches.
. "$2/tests/support/cli.sh"
command -v perl > /dev/null || { echo "cli_tour: skipped, perl is missing"; exit 0; }
unset HF_TOKEN http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY

awk '/^## A tour/ { on = 1 } on && /^## / && !/tour/ { exit } on && sub(/^\$ ft /, "") { print }' "$source/README.md" > tour.txt
[ "$(wc -l < tour.txt)" = 10 ] || bad "README's tour has $(wc -l < tour.txt) commands, not 10"
for verb in fetch data init check train generate eval merge-adapter convert report; do
    grep -q "^$verb " tour.txt || bad "README's tour has no ft $verb"
done

# What `ft` alone prints is the same tour: the same verbs in the same order, and each of its options is in README's command,
# as are the repository and the folders that one step leaves to the next.
"$ft" help tour > brief.txt
"$ft" 2> err.txt | cmp -s - brief.txt || bad "ft alone prints another tour than ft help tour"
sed 's/ *#.*//; s/^ft //; s/ > .*//' brief.txt | while read -r verb words; do
    line=$(grep "^$verb " tour.txt)
    for word in $words; do
        case $word in --* | out | merged | run.json | */*) [[ " $line " = *" $word "* ]] || echo "$verb: $word is not in README's $line" ;; esac
    done
done > differs.txt
[ ! -s differs.txt ] || bad "$(cat differs.txt)"
cut -d' ' -f1 tour.txt > readme.verbs
sed 's/^ft \([a-z-]*\).*/\1/' brief.txt | cmp -s - readme.verbs || bad "README's tour goes another way than ft's"

name=$(sed -n 's/^fetch \([^ ]*\) .*/\1/p' tour.txt)
mkdir -p "h/repo/$name" data
cp "$source"/data/tiny/* "h/repo/$name"
cp "$source/data/text/tiny.chat.jsonl" data/instructions.jsonl
cp "$source/data/text/tiny.chat.eval.jsonl" data/instructions.eval.jsonl
: > h/mode
perl "$source/tests/support/hub/hub.pl" "$work/h" &
server=$!
trap 'kill $server 2> /dev/null; rm -rf "$work"' EXIT
for _ in $(seq 100); do [ -s h/ports ] && break; sleep 0.05; done
read -r hub _ < h/ports
export HF_ENDPOINT=http://127.0.0.1:$hub

while read -r line; do
    eval "$(printf '%q' "$ft") $line" > out.txt 2> err.txt < /dev/null || bad "ft $line gave $?: $(tail -n 1 err.txt)"
    case $line in # what begins a step says how to go on
    fetch* | data* | init* | check* | train* | eval* | merge* | convert*)
        grep -qE '^next: (ft|ollama create) ' err.txt || bad "ft $line does not say what comes next" ;;
    esac
done < tour.txt
for file in out/adapter_model.safetensors out/report.html merged/model.safetensors junit.xml; do
    [ -s $file ] || bad "the tour left no $file"
done
grep -q 'failures="0"' junit.xml || bad "the gate was missed"
grep -q 'Merge proof' out/report.html || bad "the report holds no proof of the merge"
[ -s Modelfile ] || bad "no Modelfile"
finish cli_tour
