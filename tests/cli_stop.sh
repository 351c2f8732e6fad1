#!/usr/bin/env bash
# cli_stop.sh FT SOURCE – SIGTERM and SIGINT end every verb in whatever it is doing: waiting for input, reading, tokenising,
# masking, computing, writing. The status is the signal's, one line says so, nothing unfinished stays.
. "$(dirname "$0")/support/cli.sh"
shopt -s nullglob
cp -r "$source/data/tiny" m
awk 'BEGIN { for (i = 0; i < 400000; i++) print "{\"text\": \"record " i " the quick brown fox jumps over the lazy dog\"}" }' > big.jsonl
awk 'BEGIN { for (i = 0; i < 40000; i++) printf "record %d the quick brown fox jumps over the lazy dog ", i; print "" }' > long.txt
head -n 500 big.jsonl > small.jsonl
printf '{"model": {"path": "m"}, "method": {"type": "lora", "r": 2}, "data": {"train": "small.jsonl", "max_length": 64}, "train": {"max_steps": 100000}, "output": {"dir": "run"}}' > run.json
mkfifo silent
sleep 60 > silent & # holds it open and says nothing
holder=$!
trap 'kill $holder 2> /dev/null; rm -rf "$work"' EXIT

# ends NAME SIGNAL STATUS WAIT COMMAND…: the signal comes after so many seconds, or once a file of that name holds
# something; a slow machine has 4 s to obey.
ends() {
    local name=$1 signal=$2 status=$3 wait=$4 from took got
    shift 4
    "$@" <&0 > out 2> err & # a background job has no input of its own
    local pid=$!
    case $wait in
    *[!0-9.]*)
        for _ in $(seq 300); do [ -s "$wait" ] && break || sleep 0.1; done
        [ -s "$wait" ] || bad "$name: $wait does not come"
        ;;
    *) sleep "$wait" ;;
    esac
    kill -0 $pid 2> /dev/null || { bad "$name: was over before the signal: $(tail -n 1 err)"; return; }
    from=$(now_ms)
    kill -"$signal" $pid
    (sleep 8; kill -9 $pid) 2> /dev/null &
    local killer=$!
    wait $pid 2> /dev/null
    got=$?
    took=$(($(now_ms) - from))
    kill $killer 2> /dev/null
    [ $got = "$status" ] || bad "$name: exit $got, not $status: $(tail -n 1 err)"
    [ $took -le 4000 ] || bad "$name: $took ms after $signal"
    [ "$(grep -c '^ft: error: ' err)" = 1 ] || bad "$name: not one line: $(cat err)"
    for left in *.tmp* */*.tmp*; do bad "$name: left $left"; done
}

ends "tokenize, waiting" TERM 143 0.3 "$ft" tokenize --model m < silent
ends "generate, waiting" INT 130 0.3 "$ft" generate --model m < silent
ends "score, waiting" TERM 143 0.3 "$ft" score --model m < silent
ends "generate" TERM 143 0.5 "$ft" generate --model m --prompt "One" --max-new-tokens 1000000 --min-new-tokens 1000000
ends "eval" INT 130 0.5 "$ft" eval --model m --task perplexity --data long.txt --max-length 64 --stride 1
ends "bench" TERM 143 0.5 "$ft" bench --seconds 30
ends "bench of a config" INT 130 0.5 "$ft" bench run.json --steps 100000
ends "train" TERM 143 run/log.jsonl "$ft" train run.json
grep -q 'stopped by SIGTERM after step [0-9]* of 100000, saved; go on with' err || bad "train: nothing was saved: $(cat err)"
expect_told 66 'run: holds no adapter_config.json: its run has not ended' "$ft" generate --adapter run --prompt One
expect_told 66 'run: holds no config.json: its run has not ended' "$ft" generate --model run --prompt One
ends "data, reading" TERM 143 0.3 "$ft" data big.jsonl --model m --threads 1
finish cli_stop
