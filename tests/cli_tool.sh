#!/usr/bin/env bash
# cli_tool.sh FT SOURCE – score, generate, eval, merge-adapter and convert from outside, on a model and an adapter that
# ft itself made.
. "$2/tests/support/cli.sh"
expect_in=in expect_out=out expect_err=err expect_seconds=600
out_has() { grep -qF -- "$1" out || bad "stdout lacks '$1': $(head -c 300 out)"; }
lines() { [ "$(wc -l <out)" -eq "$1" ] || bad "$(wc -l <out) lines instead of $1: $(head -c 300 out)"; }
field() { sed -n "${2:-1}p" out | sed 's/.*"'"$1"'":\([^,}]*\).*/\1/'; }
: >in

# --- a model, an adapter ---------------------------------------------------------------------------------------
cat >base.json <<END
{"model": {"from_config": "$source/data/tiny/config.json", "tokenizer": "$source/data/tiny"},
 "method": {"type": "full"}, "data": {"train": "$source/data/text/tiny.txt", "max_length": 64},
 "optim": {"learning_rate": 0.003}, "train": {"max_steps": 2, "batch_size": 4}, "output": {"dir": "base"}}
END
expect_told 0 '' "$ft" train base.json --quiet
for f in tokenizer.json tokenizer_config.json generation_config.json; do
    cmp -s "$source/data/tiny/$f" "base/$f" || bad "the tokenizer did not go along: $f"
done
cat >lora.json <<END
{"model": {"path": "base"}, "method": {"type": "lora", "r": 4, "init_lora_weights": false},
 "data": {"train": "$source/data/text/tiny.chat.jsonl", "max_length": 64},
 "optim": {"learning_rate": 0.01}, "train": {"max_steps": 2, "batch_size": 2}, "output": {"dir": "adapter"}}
END
expect_told 0 '' "$ft" train lora.json --quiet

# --- score -------------------------------------------------------------------------------------------------------
cat >in <<'END'
{"id": "é\"", "context": "Once upon a", "continuation": " time"}

{"id": 7, "text": "Once upon a time"}
{"tokens": [5, 6, 7, 8], "start": 2}
END
expect_told 0 '' "$ft" score --model base --per-token --top 2
lines 3
out_has '"id":"é\"","tokens":'
out_has '"token_logprobs":['
out_has '"top":[['
[ "$(field tokens 3)" = 2 ] || bad "start 2 of 4 tokens"
cp out first
expect_told 0 '' "$ft" score --model base --per-token --top 2 --threads 1
cmp -s out first || bad "score depends on the threads"
printf '%s\n' '{"id":["\u0000",12345678901234567890123],"text":"a\u0000b"}' >big
expect_told 0 '' "$ft" score --model base --data big
out_has '{"id":["\u0000",12345678901234567890123],"tokens":'
head -n 1 in >one
expect_told 0 '' "$ft" score --model base --per-token --top 2 --data one
cmp -s out <(head -n 1 first) || bad "score depends on the other lines"
gzip -k in
expect_told 0 '' "$ft" score --model base --per-token --top 2 --data in.gz
cmp -s out first || bad "score of a .gz differs"
expect_told 0 '' "$ft" score --adapter adapter
[ "$(field logprob)" != "$(sed -n 1p first | sed 's/.*"logprob":\([^,]*\),.*/\1/')" ] ||
    bad "the adapter changes nothing"
printf '{"text": "a"}\n{"txt": "a"}\n' >in
expect_told 65 'standard input:2:' "$ft" score --model base
lines 1
printf '{"text": "a\xff"}\n' >in
expect_told 65 'standard input:1:' "$ft" score --model base
: >in
expect_told 0 '' "$ft" score --model base
lines 0
expect_told 66 'nowhere' "$ft" score --model nowhere
expect_told 64 'no model' "$ft" score
expect_told 64 '--top' "$ft" score --model base --top 641

# a harness that asks line by line gets its answer before it asks again
mkfifo ask answer
"$ft" score --model base <ask >answer 2>err &
child=$!
exec 3>ask 4<answer
for i in 1 2 3; do
    echo "{\"id\": $i, \"tokens\": [1, 2, $i]}" >&3
    IFS= read -r -t 20 reply <&4 || bad "no answer to line $i"
    [[ $reply == *"\"id\":$i,"* ]] || bad "answer to line $i: $reply"
done
exec 3>&- 4<&-
wait $child || bad "score ended with $?"

# --- generate -----------------------------------------------------------------------------------------------------
expect_told 0 '' "$ft" generate --model base --prompt 'Once upon' --max-new-tokens 8 --min-new-tokens 8 --json
lines 1
[ "$(field tokens)" = 8 ] || bad "8 new tokens: $(cat out)"
out_has '"token_ids":['
out_has '"seconds":'
cp out first
expect_told 0 '' "$ft" generate --model base --prompt 'Once upon' --max-new-tokens 8 --min-new-tokens 8 --threads 1 --json
[ "$(sed 's/"seconds.*//' out)" = "$(sed 's/"seconds.*//' first)" ] || bad "greedy text depends on the threads"
printf '{"prompt": "Once"}\n"There"\n{"id": 3, "messages": [{"role": "user", "content": "Hi"}]}\n' >in
expect_told 0 '' "$ft" generate --model base --max-new-tokens 3 --min-new-tokens 3 --temperature 1 --seed 5 --json
lines 3
cp out first
expect_told 0 '' "$ft" generate --model base --max-new-tokens 3 --min-new-tokens 3 --temperature 1 --seed 5 --json
[ "$(sed 's/"seconds.*//' out)" = "$(sed 's/"seconds.*//' first)" ] || bad "the seed does not decide the text"
printf '{"promt": "Once"}\n' >in
expect_told 65 'standard input:1:' "$ft" generate --model base
: >in
expect_told 0 '' "$ft" generate --model base --prompt Hi --chat --max-new-tokens 2
expect_told 64 '--min-new-tokens' "$ft" generate --model base --prompt a --max-new-tokens 2 --min-new-tokens 3
expect_told 64 '--top-p' "$ft" generate --model base --prompt a --top-p 0
expect_told 64 '--data' "$ft" generate --model base --prompt a --data in

# --- eval ----------------------------------------------------------------------------------------------------------
head -c 2000 "$source/data/text/tiny.eval.txt" >text.txt
head -n 4 "$source/data/text/tiny.choices.jsonl" >choices.jsonl
head -n 2 "$source/data/text/tiny.answers.jsonl" >answers.jsonl
cat >eval.json <<'END'
{"model": {"path": "base"}, "adapter": "adapter",
 "tasks": [{"name": "t", "type": "perplexity", "data": "text.txt", "max_length": 64, "stride": 32},
           {"name": "c", "type": "multiple_choice", "data": "choices.jsonl", "limit": 3},
           {"name": "g", "type": "generate", "data": "answers.jsonl", "match": "contains", "max_new_tokens": 4}],
 "gates": {"t.perplexity": {"max": 1e9}, "c.acc": {"min": 0}}}
END
expect_told 0 '' "$ft" eval eval.json --json
lines 3
out_has '{"task":"t","type":"perplexity","perplexity":'
[ "$(field n 2)" = 3 ] || bad "limit 3: $(cat out)"
expect_told 0 '' "$ft" eval eval.json
out_has 'bits_per_byte'
sed 's/"max": 1e9/"max": 1.5/' eval.json >gated.json
expect_told 81 'gate t.perplexity' "$ft" eval gated.json --json
lines 3
sed 's/"stride"/"strde"/' eval.json >typo.json
expect_told 78 'typo.json:2:86: tasks.strde: unknown key; did you mean "stride"?' "$ft" eval typo.json
expect_told 0 '' "$ft" eval --model base --task multiple_choice --data choices.jsonl --json
lines 1
expect_told 64 'neither a config nor a task' "$ft" eval
expect_told 66 'absent.txt' "$ft" eval --model base --task perplexity --data absent.txt
# acc_norm divides by characters, acc_bytes by bytes: the same choices, judged by hand from their log-probabilities
choices=(zqxjkv 水水水水 QZXW 'éé é')
for c in "${choices[@]}"; do printf '{"context": "how many boats", "continuation": " %s"}\n' "$c"; done >each.jsonl
"$ft" score --model "$source/data/tiny" --data each.jsonl | sed 's/.*"logprob":\([-0-9.e]*\).*/\1/' >logprobs
best() { paste logprobs - | awk 'NR == 1 || $1 / $2 > top { top = $1 / $2; at = NR - 1 } END { print at }'; }
by_char=$(printf '6\n4\n4\n4\n' | best) by_byte=$(printf '6\n12\n4\n7\n' | best)
[ "$by_char" != "$by_byte" ] || bad "these choices do not tell characters from bytes"
printf '{"query": "how many boats", "choices": ["zqxjkv", "水水水水", "QZXW", "éé é"], "gold": %s}\n' \
    "$by_char" >judged.jsonl
expect_told 0 '' "$ft" eval --model "$source/data/tiny" --task multiple_choice --data judged.jsonl --json
[ "$(field acc_norm)" = 1 ] && [ "$(field acc_bytes)" = 0 ] || bad "by characters $by_char, by bytes $by_byte: $(cat out)"
printf '{"query": "a", "choices": ["b", "c"], "gold": 2}\n' >wrong.jsonl
expect_told 65 'wrong.jsonl:1:' "$ft" eval --model base --task multiple_choice --data wrong.jsonl

# --- merge-adapter --------------------------------------------------------------------------------------------------
expect_told 0 '' "$ft" merge-adapter adapter --out merged --json
out_has '"top1_agreement":1,'
[ "$(field tokens)" -ge 16 ] || bad "a proof over $(field tokens) tokens"
expect_told 73 'merged: exists already' "$ft" merge-adapter adapter --out merged
expect_told 0 '' "$ft" merge-adapter adapter --out merged --force
MALLOC_PERTURB_=165 "$ft" merge-adapter adapter --out merged1 --type bf16 --quiet >out 2>err || bad "merge: $(cat err)"
MALLOC_PERTURB_=90 "$ft" merge-adapter adapter --out merged2 --type bf16 --threads 1 --quiet >out 2>err || bad "merge"
diff -r merged1 merged2 >out || bad "two merges differ: $(cat out)"
expect_told 0 '' "$ft" merge-adapter adapter --out merged.gguf --type q8_0
out_has 'damage of rounding to q8_0'
expect_told 81 'not written' "$ft" merge-adapter adapter --out no.gguf --type q8_0 --tolerance 0 --json
out_has '"passed":false'
expect_told 64 'has no place' "$ft" merge-adapter adapter --out no --type q8_0
cp -r adapter damaged
head -c 2000 adapter/adapter_model.safetensors >damaged/adapter_model.safetensors
expect_told 65 'adapter_model.safetensors' "$ft" merge-adapter damaged --out no
sed -i 's/"base_model_name_or_path": "[^"]*"/"base_model_name_or_path": "gone"/' damaged/adapter_config.json
expect_told 66 '--base' "$ft" merge-adapter damaged --out no
expect_told 66 'no such' "$ft" merge-adapter nowhere --out no
for leftover in no no.gguf ./*.tmp-* ./*.old-*; do [ ! -e "$leftover" ] || bad "left behind: $leftover"; done
# the base is looked for from the adapter's folder upwards, wherever ft runs
mkdir elsewhere runs && cp -r adapter runs/one
(cd elsewhere && "$ft" merge-adapter ../runs/one --out there --quiet) >out 2>err || bad "base above the adapter: $(cat err)"
# another base of the same shape: it fits, and that is said
cp -r base other && cp merged/model.safetensors other/
expect_told 0 'is not the file this adapter was trained on' "$ft" merge-adapter adapter --base other --out two
# the merged model alone is what base and adapter were
printf '{"text": "Once upon a time there was"}\n' >in
expect_told 0 '' "$ft" score --adapter adapter
a=$(field logprob)
expect_told 0 '' "$ft" score --model merged
b=$(field logprob)
awk -v a="$a" -v b="$b" 'BEGIN { exit !(a - b < 1e-3 && b - a < 1e-3) }' || bad "merged $b, adapter on $a"

# --- convert ----------------------------------------------------------------------------------------------------------
expect_told 0 '' "$ft" convert base --out f16.gguf --type f16 --json
out_has '"type":"f16"'
expect_told 0 '' "$ft" convert f16.gguf --out back --type f32
for f in config.json model.safetensors tokenizer.json tokenizer_config.json generation_config.json; do
    [ -s "back/$f" ] || bad "convert made no $f"
done
expect_told 0 '' "$ft" generate --model base --prompt 'Once upon' --max-new-tokens 6 --min-new-tokens 6 --json
a=$(sed 's/,"prompt.*//' out)
expect_told 0 '' "$ft" generate --model back --prompt 'Once upon' --max-new-tokens 6 --min-new-tokens 6 --json
b=$(sed 's/,"prompt.*//' out)
[ "$a" = "$b" ] || bad "there and back: $a and $b"
expect_told 64 '"q9_0" cannot be written; a .gguf holds f32' "$ft" convert base --out x.gguf --type q9_0
expect_told 66 'nowhere' "$ft" convert nowhere --out x
expect_told 64 '"nf4" has no place in a .gguf' "$ft" convert base --out x.gguf --type nf4
expect_told 64 '--block-size: must be a power of two' "$ft" convert base --out x --type nf4 --block-size 65
expect_told 64 'are of --type nf4 and fp4' "$ft" convert base --out x --type bf16 --double-quant true
expect_told 0 '' "$ft" convert base --out fp4 --type fp4 --double-quant false --json
out_has '"type":"fp4"'
expect_told 0 '' "$ft" generate --model fp4 --prompt a --max-new-tokens 2
expect_told 0 '' "$ft" inspect fp4 --json
out_has '"quant_method":"bitsandbytes"'
a=$(field parameters)
expect_told 0 '' "$ft" inspect base --json
[ "$a" = "$(field parameters)" ] || bad "inspect counts $a parameters of the coded base, $(field parameters) of the plain one"
[ ! -e x ] && [ ! -e x.gguf ] || bad "convert left something behind"

# --- no memory: exit 71 and nothing left, or the same result --------------------------------------------------------
starve() { # NAME STEP LAST COMMAND…: every STEP-th allocation fails in turn, from $first on; results under the name `starved`
    local name=$1 step=$2 last=$3 n got
    shift 3
    "$@" >good 2>/dev/null </dev/null || bad "$name fails on its own"
    for n in $(seq "${first:-1}" "$step" "$last"); do
        rm -rf starved*
        FT_TEST_FAIL_AT=$n "$@" >out 2>err </dev/null
        got=$?
        case $got in
        0) cmp -s out good || bad "$name, allocation $n: another result" ;;
        71) for f in starved*; do [ ! -e "$f" ] || bad "$name, allocation $n: left $f"; done ;;
        *) bad "$name, allocation $n: $got $(head -c 200 err)" ;;
        esac
    done
}
allocations() { # COMMAND…: how many a run makes
    local low=0 high=65536 mid
    while [ $((high - low)) -gt 1 ]; do
        mid=$(((low + high) / 2))
        if FT_TEST_FAIL_AT=$mid "$@" >out 2>err </dev/null; then high=$mid; else low=$mid; fi
    done
    echo $low
}
starve score 23 900 "$ft" score --adapter adapter --data one --per-token --top 2
starve convert 19 600 "$ft" convert f16.gguf --out starved --type bf16
starve gguf 29 700 "$ft" convert base --out starved.gguf --type q8_0
starve merge 61 1900 "$ft" merge-adapter adapter --out starved --json
starve eval 31 900 "$ft" eval eval.json --json
starve init 1 160 "$ft" init --model base --data one # a tree that parts are read for while it grows
printf '{"model": {"path": "base"}, "prune": {"type": "magnitude", "sparsity": 0.5}}' >prune.json
starve prune 1 60 "$ft" prune prune.json --out starved # a default that is not there is not looked at
starve nf4 3 420 "$ft" convert base --out starved --type nf4 # the text beside the codes is whole, or there is none
cat >talk.jsonl <<'END'
{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {"role": "assistant", "content": "", "reasoning_content": "think", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}, {"role": "tool", "content": "3"}, {"role": "assistant", "content": "x"}], "tools": "[{\"name\": \"f\"}]"}
END
cat >share.jsonl <<'END'
{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"}, {"from": "observation", "value": "3"}, {"from": "gpt", "value": "b"}]}
END
cat >tools.jinja <<'END'
{%- if tools %}T {{ tools | tojson }}{% endif %}{%- for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{% endif %}</s>{% endfor %}
END
first=$(allocations "$ft" tokenize --model base) # behind those of the tokenizer, no error but that of memory is told of a record
for f in talk share; do
    look=("$ft" data $f.jsonl --model base --chat-template tools.jinja -q)
    starve $f 17 "$(allocations "${look[@]}")" "${look[@]}"
done

finish cli_tool
