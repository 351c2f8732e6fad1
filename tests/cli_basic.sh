#!/usr/bin/env bash
# cli_basic.sh FT SOURCE – the frame of the program from outside: exit codes, messages, JSON lines, closed
# descriptors, full disks, signals, help of every verb and key.
set -u
ft=$1
source=$2
dir=$(mktemp -d "${TMPDIR:-/tmp}/ft-cli-XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
failures=0
checks=0

wrong() { echo "FAILED: $*" >&2; failures=$((failures + 1)); }

# expect CODE TEXT COMMAND…: the exit code; TEXT in stderr; on failure stdout is empty and stderr has only
# "ft: error:" lines. An empty TEXT: stderr is empty.
expect() {
    local code=$1 text=$2 got
    shift 2
    checks=$((checks + 1))
    "$@" >out 2>err </dev/null
    got=$?
    [ $got -eq "$code" ] || wrong "$* gave $got instead of $code: $(head -c 300 err)"
    if [ -n "$text" ]; then
        grep -qF -- "$text" err || wrong "$*: stderr lacks '$text': $(head -c 300 err)"
    else
        [ ! -s err ] || wrong "$*: unexpected on stderr: $(head -c 300 err)"
    fi
    if [ "$code" -ne 0 ]; then
        [ ! -s out ] || wrong "$*: results in spite of failing: $(head -c 100 out)"
        if grep -qv '^ft: error: ' err; then wrong "$*: a line that is no error: $(head -c 300 err)"; fi
    fi
}
expect_out() { grep -qF -- "$1" out || wrong "stdout lacks '$1': $(head -c 300 out)"; }

json_lines() { # of the file `out`
    local line
    [ -s out ] || wrong "no JSON lines: $*"
    if command -v python3 >/dev/null; then
        python3 -c 'import json,sys
for l in open("out", encoding="utf-8"): json.loads(l, parse_constant=lambda c: sys.exit("constant " + c))' ||
            wrong "not JSON lines: $*"
    else
        while IFS= read -r line; do [[ $line =~ ^[\{\[\"].*[\}\]\"]$ ]] || wrong "no JSON line: $line"; done <out
    fi
}

# --- verbs and options -------------------------------------------------------------------------------
"$ft" >tour 2>err
[ $? -eq 64 ] && [ "$(cat err)" = 'ft: error: which verb? ft help lists them' ] && [ -s tour ] || wrong "no verb: $(cat err)"
expect 64 'versio: unknown verb; did you mean "version"?' "$ft" versio
expect 64 'unknown verb; ft help lists them' "$ft" qqqqqqqqqqqq
expect 64 '--jsn: ft version has no such option; did you mean "--json"?' "$ft" version --jsn
expect 64 '--zzzzzzzz: ft version has no such option; ft help version lists them' "$ft" version --zzzzzzzz
expect 64 '-z: unknown option' "$ft" version -z
expect 64 '--threads: "many" must be an integer' "$ft" version --threads many
expect 64 '--threads: "1.5" must be an integer' "$ft" version --threads=1.5
expect 64 '--threads: -1 must be at least 0' "$ft" version --threads -1
expect 64 '--threads: 9999 must be at most 1024' "$ft" version --threads 9999
expect 64 '--threads: a value is missing behind it' "$ft" version --threads
expect 64 '--json: "maybe" must be true or false' "$ft" version --json=maybe
expect 64 'extra: unexpected argument; usage: ft version' "$ft" version extra
expect 64 'extra: unexpected argument' "$ft" version -- extra
expect 64 'an argument is missing; usage: ft inspect PATH' "$ft" inspect
expect 64 '--model is required; usage: ft tokenize' "$ft" tokenize
expect 64 '--model: a value is missing' "$ft" tokenize --model
expect 78 '--set modl: unknown key; did you mean "model"?' "$ft" tokenize --model x --set modl=y
expect 64 '--precision: ft inspect has no such option' "$ft" inspect x --precision f32
expect 66 'nowhere: ' "$ft" inspect nowhere
expect 66 'nowhere' "$ft" tokenize --model nowhere
expect 65 '' true 2>/dev/null
[ $failures -gt 0 ] || { echo 'a failure is not noticed' >&2; exit 1; }
failures=0
expect 0 '' "$ft" version
expect_out "ft "
expect 0 '' "$ft" --version
expect 0 '' "$ft" --help
expect 0 '' "$ft" version --help
expect_out 'usage: ft version'
expect 0 '' "$ft" version --json --quiet --force --threads 1
json_lines version
expect 0 '' "$ft" schema
expect 0 '' "$ft" schema --json
json_lines schema
[ "$(wc -l <out)" -eq 1 ] || wrong "schema --json is not one line"

# --- help of every verb and every key -----------------------------------------------------------------
expect 0 '' "$ft" help
verbs=$(sed -n '/^verbs:/,/^$/p' out | awk 'NR > 1 && NF { print $1 }')
sections=$(sed -n '/^sections of/,/^$/p' out | awk 'NR > 1 && NF { print $1 }')
[ "$(wc -w <<<"$verbs")" -ge 5 ] || wrong "few verbs: $verbs"
for verb in $verbs; do
    expect 0 '' "$ft" help "$verb"
    expect_out "usage: ft $verb"
    expect 0 '' "$ft" "$verb" --help
    # every option named in the help is known to the parser
    for flag in $(awk '$1 ~ /^--/ { print $1 }' out); do
        "$ft" "$verb" "$flag" 2>&1 >/dev/null </dev/null | grep -q 'no such option' && wrong "$verb: $flag is in the help only"
    done
done
for section in $sections; do
    expect 0 '' "$ft" help "$section"
    for key in $(awk -v s="$section." 'index($1, s) == 1 { print $1 }' out | sort -u); do
        expect 0 '' "$ft" help "$key"
        expect_out "$key"
        expect 0 '' "$ft" help "${key#*.}"
    done
done
expect 64 'learning_rat: no verb, topic or config key; did you mean "learning_rate"?' "$ft" help learning_rat
expect 64 'no verb, topic or config key' "$ft" help optim.qqqqqqqqqq
expect 0 '' "$ft" help --json
json_lines help

# --- results that cannot be written --------------------------------------------------------------------
checks=$((checks + 1))
"$ft" help >/dev/full 2>err
[ $? -eq 74 ] || wrong "help >/dev/full did not give 74"
grep -q '^ft: error: standard output: cannot write' err || wrong "/dev/full: $(cat err)"
# a reader that is gone: an error, no signal
{ "$ft" schema 2>err; echo $? >code; } | true
[ "$(cat code)" -eq 74 ] || [ "$(cat code)" -eq 0 ] || wrong "closed pipe gave $(cat code)"
(ulimit -f 0 && "$ft" help >limited 2>/dev/null)
[ $? -eq 74 ] || wrong "ulimit -f 0 did not give 74"

# --- closed descriptors: stdout closed is 74, the rest does not matter ------------------------------------
for closed in 0 1 2 3 4 5 6 7; do
    checks=$((checks + 1))
    (
        [ $((closed & 1)) -ne 0 ] && exec <&-
        [ $((closed & 4)) -ne 0 ] && exec 2>&-
        if [ $((closed & 2)) -ne 0 ]; then exec >&-; else exec >out; fi
        exec "$ft" version --json
    ) 2>err
    code=$?
    if [ $((closed & 2)) -ne 0 ]; then
        [ $code -eq 74 ] || wrong "closed $closed: $code instead of 74"
    else
        [ $code -eq 0 ] || wrong "closed $closed: $code"
        json_lines "closed $closed"
    fi
done
# a run in such a world: the same artifact, and its files are not taken for a descriptor
tiny=(train "$source/configs/tiny-from-scratch.json" --set train.max_steps=1 --set data.max_length=32)
expect 0 '' "$ft" "${tiny[@]}" --quiet --out whole
for closed in 1 2 4 7; do
    checks=$((checks + 1))
    (
        [ $((closed & 1)) -ne 0 ] && exec <&-
        [ $((closed & 4)) -ne 0 ] && exec 2>&-
        if [ $((closed & 2)) -ne 0 ]; then exec >&-; else exec >out; fi
        exec "$ft" "${tiny[@]}" --out "closed$closed"
    ) 2>err
    code=$?
    [ $code -eq $(((closed & 2) ? 74 : 0)) ] || wrong "train, closed $closed: $code"
    cmp -s whole/model.safetensors "closed$closed/model.safetensors" || wrong "train, closed $closed: another result"
done
(ulimit -n 16 && "$ft" version >/dev/null) || wrong "ulimit -n 16"
mkdir gone && (cd gone && rmdir ../gone && "$ft" version >/dev/null) || wrong "in a folder that is gone"
env -i "$ft" version >/dev/null || wrong "empty environment"

# --- inspect ------------------------------------------------------------------------------------------------
adapter=$source/tests/golden/peft/llama_lora/adapter
expect 0 '' "$ft" inspect "$adapter"
expect_out 'LORA'
expect_out 'whole'
expect 0 '' "$ft" inspect "$adapter" --json
json_lines inspect
grep -q '"kind":"adapter"' out || wrong "inspect --json: $(head -c 200 out)"
[ "$(wc -l <out)" -gt 2 ] || wrong "inspect --json lists no tensors"
expect 0 '' "$ft" inspect "$adapter" --json --no-tensors
[ "$(wc -l <out)" -eq 1 ] || wrong "inspect --no-tensors lists tensors"
mkdir cut
cp "$adapter/adapter_config.json" cut/
head -c 700 "$adapter/adapter_model.safetensors" >cut/adapter_model.safetensors
expect 65 'adapter_model.safetensors' "$ft" inspect cut
rm cut/adapter_model.safetensors
expect 66 'adapter_model.safetensors' "$ft" inspect cut
printf '\200\002x' >cut/adapter_model.bin
expect 65 'pickle' "$ft" inspect cut
printf '{"a": 1,}' >cut/adapter_config.json
expect 65 'adapter_config.json:1:8: a comma behind the last entry' "$ft" inspect cut
mkdir mlx
printf '{"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 8}}' >mlx/adapter_config.json
printf '\110\0\0\0\0\0\0\0{"q_proj.lora_a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}    }%s' 01234567 >mlx/adapters.safetensors
expect 0 'mlx_lm.fuse' "$ft" inspect mlx
expect_out 'mlx-lm adapter'
expect_out 'q_proj.lora_a'
# a tensor without values: what DeepSpeed ZeRO-3 leaves
cp "$adapter/adapter_config.json" mlx/
printf '\110\0\0\0\0\0\0\0{"lora_A.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}      }' >mlx/adapter_model.safetensors
expect 65 'zero_to_fp32.py' "$ft" inspect mlx
mkdir empty
expect 65 'is this a model folder?' "$ft" inspect empty
printf '\200\002}q' >model.bin
expect 65 'model.bin' "$ft" inspect model.bin
printf 'GGUF\003\000\000\000' >cut.gguf
expect 65 'cut.gguf' "$ft" inspect cut.gguf
# part NO NAME: a part of two without tensors
part() {
    printf 'GGUF\3\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0' >"$2"
    printf '\10\0\0\0\0\0\0\0split.no\2\0\0\0\'"$1"'\0' >>"$2"
    printf '\13\0\0\0\0\0\0\0split.count\2\0\0\0\2\0' >>"$2"
}
part 0 p-00001-of-00002.gguf
expect 65 'p-00002-of-00002.gguf: is missing, one of 2 parts' "$ft" inspect p-00001-of-00002.gguf
expect 66 'p-00002-of-00002.gguf: is missing, one of 2 parts' "$ft" generate --model p-00001-of-00002.gguf --prompt x
part 1 p-00002-of-00002.gguf
expect 0 '' "$ft" inspect p-00001-of-00002.gguf
expect_out 'parts'
for verb in inspect 'tokenize --model' 'generate --prompt x --model' 'convert --out c'; do
    expect 65 'number 2; name the first one: p-00001-of-00002.gguf' "$ft" $verb p-00002-of-00002.gguf
done
ln -s gone gone.gguf
expect 66 'gone.gguf: is a link to gone, which does not exist' "$ft" inspect gone.gguf
expect 66 'gone.gguf: is a link to gone, which does not exist' "$ft" generate --model gone.gguf --prompt x
# a checkpoint, whole and damaged; damaged ones do not make the run's result bad
expect 0 '' "$ft" train "$source/configs/tiny-from-scratch.json" --out run --quiet --set train.max_steps=1 \
    --set data.max_length=32 --set train.checkpoint_every=1
step=run/checkpoints/step-1
expect 0 '' "$ft" inspect $step
expect_out 'kind                     checkpoint'
expect 0 '' "$ft" inspect run --no-tensors
grep -qE 'step-1 +whole' out || wrong "inspect of a run: $(tail -n 4 out)"
size=$(stat -c %s $step/params.safetensors)
printf '\001' | dd of=$step/params.safetensors bs=1 seek=$((size - 3)) conv=notrunc 2>/dev/null
expect 65 "$step/params.safetensors: the contents do not have the checksum" "$ft" inspect $step
expect 0 '' "$ft" inspect run --no-tensors
grep -qE 'step-1 +run/checkpoints/step-1/params' out || wrong "inspect of a run: $(tail -n 4 out)"
rm $step/params.safetensors
expect 65 "$step/params.safetensors: is missing" "$ft" inspect $step
sed -i 's/"step": 1/"step": 2/' $step/manifest.json
expect 65 "$step/manifest.json: damaged" "$ft" inspect $step
# a tokenizer in older files
mkdir older
cp "$source"/tests/golden/folders/lists/* "$source"/data/tiny/{config.json,model.safetensors} older/
echo '{"tokenizer_class": "GPT2Tokenizer"}' >older/tokenizer_config.json
expect 0 '' "$ft" inspect older --no-tensors
grep -qE '^ *tokens +30[0-9]$' out || wrong "inspect of vocab.json and merges.txt: $(tail -n 4 out)"
# names never reach the terminal raw
mkdir "$(printf 'esc\033[31m')"
expect 65 'esc\x1b[31m' "$ft" inspect "$(printf 'esc\033[31m')"

# --- tokenize -------------------------------------------------------------------------------------------------
mkdir tok
cat >tok/tokenizer.json <<'JSON'
{"version": "1.0", "truncation": null, "padding": null,
 "added_tokens": [{"id": 7, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true}],
 "normalizer": null,
 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
 "post_processor": null,
 "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
 "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
           "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
           "vocab": {"a": 0, "b": 1, "ab": 2, "\u0120": 3, "c": 4, "\u0120c": 5, "\u00c3": 6},
           "merges": ["a b", "\u0120 c"]}}
JSON
cat >tok/tokenizer_config.json <<'JSON'
{"bos_token": "<s>", "chat_template": "{% for m in messages %}<s>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}c{% endif %}{% if tools %}{{ raise_exception('no tools') }}{% endif %}"}
JSON
t() { "$ft" tokenize --model tok "$@" 2>err; }
check_t() { # INPUT WANTED ARGS…
    local got input=$1 want=$2
    shift 2
    checks=$((checks + 1))
    got=$(printf '%b' "$input" | t "$@") || wrong "tokenize $*: $(cat err)"
    [ "$got" = "$want" ] || wrong "tokenize $* of '$input': '$got' instead of '$want'"
}
check_t 'abc ab\nab c\n' $'2 4 3 2\n2 5'
check_t 'ab' '2'
check_t 'ab\r\n\nc\n' $'2\n\n4'
check_t '"ab c"\n"<s>a"\n' $'[2,5]\n[7,0]' --json
check_t '2 5\n7 0\n' $'ab c\n<s>a' --decode
check_t '[2,5]\n[6]\n[]\n' $'"ab c"\n"\xef\xbf\xbd"\n""' --decode --json
check_t '[{"role": "user", "content": "ab"}]\n' '7 2' --chat
check_t '{"messages": [{"role": "user", "content": "ab"}], "add_generation_prompt": true}\n' '[7,2,4]' --chat --json
check_t 'ab\n' '2' --set special=true
fails_t() { # CODE TEXT INPUT ARGS…
    local code=$1 text=$2 input=$3 got
    shift 3
    checks=$((checks + 1))
    printf '%b' "$input" | t "$@" >out
    got=$?
    [ $got -eq "$code" ] || wrong "tokenize $* of '$input' gave $got instead of $code"
    grep -qF -- "$text" err || wrong "tokenize $* of '$input': $(cat err)"
}
fails_t 65 'standard input:2:1: ' '"a"\nab\n' --json
fails_t 65 'a line is a JSON string' '[1]\n' --json
fails_t 65 'standard input:1:3: expected ids' '1 x\n' --decode
fails_t 65 'an id is an integer' '[1.5]\n' --decode --json
fails_t 65 '' '[99]\n' --decode --json
fails_t 65 'unknown key; did you mean "messages"?' '{"message": []}\n' --chat
fails_t 65 'standard input:1: ' '{"messages": []}\n' --chat
fails_t 65 'no tools' '{"messages": [{"role": "user", "content": "a"}], "tools": [{"a": 1}]}\n' --chat
fails_t 64 'exclude each other' '' --chat --decode
# what a template prints of tools, variables and numbers is what Python prints, digit by digit
echo '{"tokenizer_class": "GPT2Tokenizer", "chat_template": "{{ tools | tojson }}|{{ messages[0].tool_calls[0].function.arguments | tojson }}|{{ messages[0].tool_calls[0].function.arguments.n }}|{{ mood }} {{ n }}"}' >older/tokenizer_config.json
check_chat() { # INPUT WANTED
    local got
    checks=$((checks + 1))
    got=$(printf '%s\n' "$1" | "$ft" tokenize --model older --chat 2>err | "$ft" tokenize --model older --decode 2>>err)
    [ "$got" = "$2" ] || wrong "tokenize --chat of '$1': '$got' instead of '$2': $(cat err)"
}
call() { echo '{"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"n": '"$1"'}}}]}]'"$2"'}'; }
check_chat "$(call 18446744073709551617 ', "tools": [{"max": 9007199254740993, "min": -9223372036854775809}], "chat_template_kwargs": {"mood": "calm", "n": 1}')" \
    '[{"max": 9007199254740993, "min": -9223372036854775809}]|{"n": 18446744073709551617}|18446744073709551617|calm 1'
check_chat "$(call 1e400 ', "tools": [{"a": 1.0, "b": 12345678901234567890123, "c": 0.1}], "chat_template_kwargs": {"mood": 3, "n": 18446744073709551616}')" \
    '[{"a": 1.0, "b": 12345678901234567890123, "c": 0.1}]|{"n": Infinity}|inf|3 18446744073709551616'
check_chat "$(call '"é"' ', "tools": [], "chat_template_kwargs": {"mood": true, "n": -1}')" '[]|{"n": "é"}|é|True -1'
# an answer for each line as soon as it is there
coproc answers { "$ft" tokenize --model tok; }
for line in ab a b; do
    checks=$((checks + 1))
    echo $line >&"${answers[1]}"
    read -r -t 20 _ <&"${answers[0]}" || wrong "no answer to '$line' before the next line"
done
pid=$answers_PID
# stopped by a signal while waiting: the shell sees it
kill -TERM "$pid"
wait "$pid"
code=$?
[ $code -eq 143 ] || wrong "SIGTERM gave $code instead of 143"

echo "cli_basic: $checks checks, $failures failed"
[ $failures -eq 0 ]
