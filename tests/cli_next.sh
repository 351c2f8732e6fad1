#!/usr/bin/env bash
# cli_next.sh FT SOURCE – the way from data to a merged model by nothing but the commands that each verb prints.
. "$2/tests/support/cli.sh"

cp -r "$source/data/tiny" "a model" && cp "$source/data/text/tiny.chat.jsonl" chats.jsonl
told() { sed -n 's/^next: ft //p' err.txt; }
step() { # WORDS OF A COMMAND LINE, as a shell would read them
    eval "$(printf '%q' "$ft") $1" > out.txt 2> err.txt < /dev/null || bad "ft $1 gave $?: $(tail -n 1 err.txt)"
    [ "$(told | wc -l)" = 1 ] || bad "ft $1: no next step, or several: $(cat err.txt)"
    next=$(told)
}

step "data chats.jsonl --model 'a model'"
[ "$next" = "init --model 'a model' --data chats.jsonl" ] || bad "data: $next"
step "$next"
cp out.txt run.json
[ "$next" = "check run.json, with this in run.json" ] || bad "init: $next"
step "check run.json"
step "$next --set train.max_steps=2"
[ "$next" = "generate --adapter out --chat, or ft merge-adapter out --out PATH" ] || bad "train: $next"
step "${next##*or ft }"
[ -s PATH/model.safetensors ] || bad "nothing was merged"
cp "$source/data/text/tiny.eval.txt" FILE
eval "$(printf '%q' "$ft") $next" > out.txt 2> err.txt || bad "ft $next gave $?"
step "convert PATH --out x.gguf"
eval "$(printf '%q' "$ft") $next" > out.txt 2> err.txt || bad "ft $next gave $?"
step "eval --adapter out --task loss --data chats.jsonl"
[ "$next" = "merge-adapter out --out PATH" ] || bad "eval: $next"
"$ft" convert out --out lora.gguf > out.txt 2> err.txt || bad "convert of an adapter gave $?"
grep -qxF "next: ft convert 'out/../a model' --out MODEL.gguf, then llama-cli -m MODEL.gguf --lora lora.gguf" err.txt ||
    bad "convert of an adapter: $(cat err.txt)"
"$ft" check run.json --out new -q > out.txt 2> err.txt || bad "check -q"
[ -s err.txt ] && bad "-q: $(cat err.txt)"
"$ft" check run.json --out new --json > out.txt 2> err.txt || bad "check --json"
grep -q '^next' err.txt out.txt && bad "--json: $(cat err.txt)"
finish cli_next
