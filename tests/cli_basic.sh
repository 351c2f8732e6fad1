#!/usr/bin/env bash
# cli_basic.sh FT SOURCE – the frame of the program from outside: exit codes, messages, JSON lines, closed
# descriptors, full disks, signals, help of every verb and key.
. "$2/tests/support/cli.sh"
expect_out=out expect_err=err expect_seconds=600

# plain CODE TEXT COMMAND…: on failure stdout is empty and stderr has only "ft: error:" lines; without a TEXT it is empty.
plain() {
    local code=$1 text=$2
    expect_told "$@"
    shift 2
    [ -n "$text" ] || [ ! -s err ] || bad "$*: unexpected on stderr: $(head -c 300 err)"
    [ "$code" -ne 0 ] || return 0
    [ ! -s out ] || bad "$*: results in spite of failing: $(head -c 100 out)"
    if grep -qv '^ft: error: ' err; then bad "$*: a line that is no error: $(head -c 300 err)"; fi
}
has() { grep -qF -- "$1" out || bad "stdout lacks '$1': $(head -c 300 out)"; }

json_lines() { # of the file `out`
    local line
    [ -s out ] || bad "no JSON lines: $*"
    if command -v python3 >/dev/null; then
        python3 -c 'import json,sys
for l in open("out", encoding="utf-8"): json.loads(l, parse_constant=lambda c: sys.exit("constant " + c))' ||
            bad "not JSON lines: $*"
    else
        while IFS= read -r line; do [[ $line =~ ^[\{\[\"].*[\}\]\"]$ ]] || bad "no JSON line: $line"; done <out
    fi
}

# --- verbs and options -------------------------------------------------------------------------------
"$ft" >tour 2>err
[ $? -eq 64 ] && [ "$(cat err)" = 'ft: error: which verb? ft help lists them' ] && [ -s tour ] || bad "no verb: $(cat err)"
plain 64 'versio: unknown verb; did you mean "version"?' "$ft" versio
plain 64 'unknown verb; ft help lists them' "$ft" qqqqqqqqqqqq
plain 64 '--jsn: ft version has no such option; did you mean "--json"?' "$ft" version --jsn
plain 64 '--zzzzzzzz: ft version has no such option; ft help version lists them' "$ft" version --zzzzzzzz
plain 64 '-z: unknown option' "$ft" version -z
plain 64 '--threads: "many" must be an integer' "$ft" version --threads many
plain 64 '--threads: "1.5" must be an integer' "$ft" version --threads=1.5
plain 64 '--threads: -1 must be at least 0' "$ft" version --threads -1
plain 64 '--threads: 9999 must be at most 1024' "$ft" version --threads 9999
plain 64 '--threads: a value is missing behind it' "$ft" version --threads
plain 64 '--json: "maybe" must be true or false' "$ft" version --json=maybe
plain 64 'extra: unexpected argument; usage: ft version' "$ft" version extra
plain 64 'extra: unexpected argument' "$ft" version -- extra
plain 64 'an argument is missing; usage: ft inspect PATH' "$ft" inspect
plain 64 '--model is required; usage: ft tokenize' "$ft" tokenize
plain 64 '--model: a value is missing' "$ft" tokenize --model
plain 78 '--set modl: unknown key; did you mean "model"?' "$ft" tokenize --model x --set modl=y
plain 64 '--precision: ft inspect has no such option' "$ft" inspect x --precision f32
plain 66 'nowhere: ' "$ft" inspect nowhere
plain 66 'nowhere' "$ft" tokenize --model nowhere
plain 65 '' true >/dev/null
[ $failed = 1 ] || { echo 'a failure is not noticed' >&2; exit 1; }
failed=0
plain 0 '' "$ft" version
has "ft "
plain 0 '' "$ft" --version
plain 0 '' "$ft" --help
plain 0 '' "$ft" version --help
has 'usage: ft version'
plain 0 '' "$ft" version --json --quiet --force --threads 1
json_lines version
plain 0 '' "$ft" schema
plain 0 '' "$ft" schema --json
json_lines schema
[ "$(wc -l <out)" -eq 1 ] || bad "schema --json is not one line"

# --- help of every verb and every key -----------------------------------------------------------------
plain 0 '' "$ft" help
verbs=$(sed -n '/^verbs:/,/^$/p' out | awk 'NR > 1 && NF { print $1 }')
sections=$(sed -n '/^sections of/,/^$/p' out | awk 'NR > 1 && NF { print $1 }')
[ "$(wc -w <<<"$verbs")" -ge 5 ] || bad "few verbs: $verbs"
for verb in $verbs; do
    plain 0 '' "$ft" help "$verb"
    has "usage: ft $verb"
    plain 0 '' "$ft" "$verb" --help
    # every option named in the help is known to the parser; no verb begins, as the last one is not
    for flag in $(awk '$1 ~ /^--/ { print $1 }' out); do
        said=$("$ft" "$verb" "$flag" --zzzzzzzz --zzzzzzzz 2>&1 </dev/null) && bad "$verb $flag --zzzzzzzz is taken"
        [[ $said != *" $flag: ft $verb has no such option"* ]] || bad "$verb: $flag is in the help only"
    done
done
for section in $sections; do
    plain 0 '' "$ft" help "$section"
    for key in $(awk -v s="$section." 'index($1, s) == 1 { print $1 }' out | sort -u | some); do
        for name in "$key" "${key#*.}"; do
            said=$("$ft" help "$name" 2>&1) && [[ $said == *"$key"* || $name != "$key" ]] || bad "help $name: ${said:0:300}"
        done
    done
done
plain 64 'learning_rat: no verb, topic or config key; did you mean "learning_rate"?' "$ft" help learning_rat
plain 64 'no verb, topic or config key' "$ft" help optim.qqqqqqqqqq
plain 0 '' "$ft" help --json
json_lines help

# --- results that cannot be written --------------------------------------------------------------------
"$ft" help >/dev/full 2>err
[ $? -eq 74 ] || bad "help >/dev/full did not give 74"
grep -q '^ft: error: standard output: cannot write' err || bad "/dev/full: $(cat err)"
# a reader that is gone: an error, no signal
{ "$ft" schema 2>err; echo $? >code; } | true
[ "$(cat code)" -eq 74 ] || [ "$(cat code)" -eq 0 ] || bad "closed pipe gave $(cat code)"
(ulimit -f 0 && "$ft" help >limited 2>/dev/null)
[ $? -eq 74 ] || bad "ulimit -f 0 did not give 74"

# --- closed descriptors: stdout closed is 74, the rest does not matter ------------------------------------
for closed in 0 1 2 3 4 5 6 7; do
    (
        [ $((closed & 1)) -ne 0 ] && exec <&-
        [ $((closed & 4)) -ne 0 ] && exec 2>&-
        if [ $((closed & 2)) -ne 0 ]; then exec >&-; else exec >out; fi
        exec "$ft" version --json
    ) 2>err
    code=$?
    if [ $((closed & 2)) -ne 0 ]; then
        [ $code -eq 74 ] || bad "closed $closed: $code instead of 74"
    else
        [ $code -eq 0 ] || bad "closed $closed: $code"
        json_lines "closed $closed"
    fi
done
# a run in such a world: the same artifact, and its files are not taken for a descriptor
tiny=(train "$source/configs/tiny-from-scratch.json" --set train.max_steps=1 --set data.max_length=32)
plain 0 '' "$ft" "${tiny[@]}" --quiet --out whole
for closed in 1 2 4 7; do
    (
        [ $((closed & 1)) -ne 0 ] && exec <&-
        [ $((closed & 4)) -ne 0 ] && exec 2>&-
        if [ $((closed & 2)) -ne 0 ]; then exec >&-; else exec >out; fi
        exec "$ft" "${tiny[@]}" --out "closed$closed"
    ) 2>err
    code=$?
    [ $code -eq $(((closed & 2) ? 74 : 0)) ] || bad "train, closed $closed: $code"
    cmp -s whole/model.safetensors "closed$closed/model.safetensors" || bad "train, closed $closed: another result"
done
(ulimit -n 16 && "$ft" version >/dev/null) || bad "ulimit -n 16"
mkdir gone && (cd gone && rmdir ../gone && "$ft" version >/dev/null) || bad "in a folder that is gone"
env -i "$ft" version >/dev/null || bad "empty environment"

# --- inspect ------------------------------------------------------------------------------------------------
adapter=$source/tests/golden/peft/llama_lora/adapter
plain 0 '' "$ft" inspect "$adapter"
has 'LORA'
has 'whole'
plain 0 '' "$ft" inspect "$adapter" --json
json_lines inspect
grep -q '"kind":"adapter"' out || bad "inspect --json: $(head -c 200 out)"
[ "$(wc -l <out)" -gt 2 ] || bad "inspect --json lists no tensors"
plain 0 '' "$ft" inspect "$adapter" --json --no-tensors
[ "$(wc -l <out)" -eq 1 ] || bad "inspect --no-tensors lists tensors"
mkdir cut
cp "$adapter/adapter_config.json" cut/
head -c 700 "$adapter/adapter_model.safetensors" >cut/adapter_model.safetensors
plain 65 'adapter_model.safetensors' "$ft" inspect cut
rm cut/adapter_model.safetensors
plain 66 'adapter_model.safetensors' "$ft" inspect cut
printf '\200\002x' >cut/adapter_model.bin
plain 65 'pickle' "$ft" inspect cut
printf '{"a": 1,}' >cut/adapter_config.json
plain 65 'adapter_config.json:1:8: a comma behind the last entry' "$ft" inspect cut
mkdir mlx
printf '{"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 8}}' >mlx/adapter_config.json
printf '\110\0\0\0\0\0\0\0{"q_proj.lora_a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}    }%s' 01234567 >mlx/adapters.safetensors
plain 0 'mlx_lm.fuse' "$ft" inspect mlx
has 'mlx-lm adapter'
has 'q_proj.lora_a'
# a tensor without values: what DeepSpeed ZeRO-3 leaves
cp "$adapter/adapter_config.json" mlx/
printf '\110\0\0\0\0\0\0\0{"lora_A.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}      }' >mlx/adapter_model.safetensors
plain 65 'zero_to_fp32.py' "$ft" inspect mlx
# no values, but two dimensions: a module of which AdaLoRA kept no rank
printf '\110\0\0\0\0\0\0\0{"lora_A":{"dtype":"F32","shape":[0,8],"data_offsets":[0,0]}           }' >mlx/adapter_model.safetensors
plain 0 '' "$ft" inspect mlx
has 'lora_A'
mkdir empty
plain 65 'is this a model folder?' "$ft" inspect empty
printf '\200\002}q' >model.bin
plain 65 'model.bin' "$ft" inspect model.bin
printf 'GGUF\003\000\000\000' >cut.gguf
plain 65 'cut.gguf' "$ft" inspect cut.gguf
# part NO NAME: a part of two without tensors
part() {
    printf 'GGUF\3\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0' >"$2"
    printf '\10\0\0\0\0\0\0\0split.no\2\0\0\0\'"$1"'\0' >>"$2"
    printf '\13\0\0\0\0\0\0\0split.count\2\0\0\0\2\0' >>"$2"
}
part 0 p-00001-of-00002.gguf
plain 65 'p-00002-of-00002.gguf: is missing, one of 2 parts' "$ft" inspect p-00001-of-00002.gguf
plain 66 'p-00002-of-00002.gguf: is missing, one of 2 parts' "$ft" generate --model p-00001-of-00002.gguf --prompt x
part 1 p-00002-of-00002.gguf
plain 0 '' "$ft" inspect p-00001-of-00002.gguf
has 'parts'
for verb in inspect 'tokenize --model' 'generate --prompt x --model' 'convert --out c'; do
    plain 65 'number 2; name the first one: p-00001-of-00002.gguf' "$ft" $verb p-00002-of-00002.gguf
done
ln -s gone gone.gguf
plain 66 'gone.gguf: is a link to gone, which does not exist' "$ft" inspect gone.gguf
plain 66 'gone.gguf: is a link to gone, which does not exist' "$ft" generate --model gone.gguf --prompt x
# a checkpoint, whole and damaged; damaged ones do not make the run's result bad
plain 0 '' "$ft" train "$source/configs/tiny-from-scratch.json" --out run --quiet --set train.max_steps=1 \
    --set data.max_length=32 --set train.checkpoint_every=1
step=run/checkpoints/step-1
plain 0 '' "$ft" inspect $step
has 'kind                     checkpoint'
plain 0 '' "$ft" inspect run --no-tensors
grep -qE 'step-1 +whole' out || bad "inspect of a run: $(tail -n 4 out)"
size=$(stat -c %s $step/params.safetensors)
printf '\001' | dd of=$step/params.safetensors bs=1 seek=$((size - 3)) conv=notrunc 2>/dev/null
plain 65 "$step/params.safetensors: damaged: its SHA-256" "$ft" inspect $step
plain 0 '' "$ft" inspect run --no-tensors
grep -qE 'step-1 +run/checkpoints/step-1/params' out || bad "inspect of a run: $(tail -n 4 out)"
rm $step/params.safetensors
plain 65 "$step/params.safetensors: is missing" "$ft" inspect $step
sed -i 's/"step": 1/"step": 2/' $step/manifest.json
plain 65 "$step/manifest.json: damaged" "$ft" inspect $step
# a tokenizer in older files
mkdir older
cp "$source"/tests/golden/folders/lists/* "$source"/data/tiny/{config.json,model.safetensors} older/
echo '{"tokenizer_class": "GPT2Tokenizer"}' >older/tokenizer_config.json
plain 0 '' "$ft" inspect older --no-tensors
grep -qE '^ *tokens +30[0-9]$' out || bad "inspect of vocab.json and merges.txt: $(tail -n 4 out)"
# names never reach the terminal raw
mkdir "$(printf 'esc\033[31m')"
plain 65 'esc\x1b[31m' "$ft" inspect "$(printf 'esc\033[31m')"

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
    got=$(printf '%b' "$input" | t "$@") || bad "tokenize $*: $(cat err)"
    [ "$got" = "$want" ] || bad "tokenize $* of '$input': '$got' instead of '$want'"
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
    printf '%b' "$input" | t "$@" >out
    got=$?
    [ $got -eq "$code" ] || bad "tokenize $* of '$input' gave $got instead of $code"
    grep -qF -- "$text" err || bad "tokenize $* of '$input': $(cat err)"
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
    got=$(printf '%s\n' "$1" | "$ft" tokenize --model older --chat 2>err | "$ft" tokenize --model older --decode 2>>err)
    [ "$got" = "$2" ] || bad "tokenize --chat of '$1': '$got' instead of '$2': $(cat err)"
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
    echo $line >&"${answers[1]}"
    read -r -t 20 _ <&"${answers[0]}" || bad "no answer to '$line' before the next line"
done
pid=$answers_PID
# stopped by a signal while waiting: the shell sees it
kill -TERM "$pid"
wait "$pid"
code=$?
[ $code -eq 143 ] || bad "SIGTERM gave $code instead of 143"

finish cli_basic
