#!/usr/bin/env bash
# cli_inputs.sh FT SOURCE – inputs that are cut or changed while they are in use: one line, the right code, nothing half made.
. "$2/tests/support/cli.sh"

faulty=$(dirname "$ft")/libfaulty.so
[ -e "$faulty" ] || { echo "cli_inputs: no $faulty: left out" && exit 0; }
LD_PRELOAD=$faulty "$ft" version > /dev/null 2>&1 || { echo "cli_inputs: cannot be preloaded (a sanitizer): left out" && exit 0; }
head -n 40 "$source/data/instructions.jsonl" > d.jsonl
fresh() {
    rm -rf m o z*
    cp -r "$source/data/tiny" m
}
fresh
few=(--set data.max_length=64 --set train.max_steps=12 --set train.checkpoint_every=4)
"$ft" train --model m --data d.jsonl --out a "${few[@]}" -q || bad "an adapter"
"$ft" convert m --out m.gguf --type q8_0 > /dev/null || bad "a .gguf"
strike() { # CODE TEXT HOW VICTIM WHEN COMMAND...: the first time a file called WHEN is written
    local want=$1 text=$2 how=$3 victim=$4 when=$5
    shift 5
    FAULTY_HOW=$how FAULTY_VICTIM=$victim FAULTY_PATH=$when FAULTY_TIMES=1 LD_PRELOAD=$faulty "$@" > out 2> err
    local code=$?
    [ $code = "$want" ] || bad "$how $victim: $*: $code, not $want: $(tail -n 2 err)"
    grep -qF -- "$text" err || bad "$how $victim: $*: no '$text': $(cat err)"
    [ $code = 0 ] || [ "$(grep -c '^ft: error:' err)" = 1 ] || bad "$how $victim: $*: not one error: $(cat err)"
    [ -z "$(ls -d z* 2> /dev/null)" ] || bad "$how $victim: $*: left $(ls -d z*)"
}

# --- cut: SIGBUS ------------------------------------------------------------------------------------------------------------
cut='was cut, or can no longer be read'
fresh && strike 74 "m/model.safetensors: $cut" cut m/model.safetensors z "$ft" convert m --out z --type f32
fresh && strike 74 "m/model.safetensors: $cut" cut m/model.safetensors z.gguf "$ft" convert m --out z.gguf --type q8_0
cp m.gguf n.gguf && strike 74 "n.gguf: $cut" cut n.gguf z "$ft" convert n.gguf --out z --type f32
fresh && strike 74 "m/model.safetensors: $cut" cut m/model.safetensors z "$ft" merge-adapter a --base m --out z
fresh && strike 74 "m/model.safetensors: $cut" cut m/model.safetensors z.gguf "$ft" merge-adapter a --base m --out z.gguf --type q8_0
fresh && strike 74 "m/model.safetensors: $cut" cut m/model.safetensors o/checkpoints/step-4 "$ft" train --model m --data d.jsonl --out o "${few[@]}"
fresh && "$ft" train --model m --data d.jsonl --out o "${few[@]}" --resume -q || bad "a run whose base was cut cannot be gone on with"

# --- changed in place ---------------------------------------------------------------------------------------------------------
was='was changed while it was in use'
for file in tokenizer.json tokenizer_config.json config.json generation_config.json; do # copied into results, which are published
    fresh && strike 65 "m/$file: $was" scribble m/$file z "$ft" convert m --out z --type f32
    fresh && strike 65 "m/$file: $was" scribble m/$file z "$ft" merge-adapter a --base m --out z
done
fresh && strike 65 "m/model.safetensors: $was" scribble m/model.safetensors z "$ft" convert m --out z --type f32
fresh && strike 65 "m/model.safetensors: $was" scribble m/model.safetensors z.gguf "$ft" merge-adapter a --base m --out z.gguf --type q8_0
for f in model.safetensors tokenizer.json; do
    fresh && strike 65 "m/$f: $was" scribble m/$f /log.jsonl "$ft" train --model m --data d.jsonl --out o "${few[@]}"
    ls -d o/checkpoints/step-* o/adapter* > /dev/null 2>&1 && bad "$f: a checkpoint of a changed base: $(ls o/checkpoints)"
    fresh && strike 65 "m/$f: $was" scribble m/$f step-8 "$ft" train --model m --data d.jsonl --out o "${few[@]}"
    grep -q 'the checkpoint of step 8 is whole; go on with' err || bad "$f: $(cat err)"
done
cp "$source/README.md" text.txt
fresh && FT_TEST_KEEP_TOKENS=1000 strike 65 "text.txt: $was" scribble text.txt /log.jsonl "$ft" train --model m --data text.txt --out o "${few[@]}"

fresh && rm -f in out && mkfifo in # NaN that came into a base is not the base's
"$ft" score --model m < in > out 2> err &
exec 7> in
echo '{"text": "One warm day."}' >&7
for _ in $(seq 500); do [ -s out ] && break || sleep 0.02; done
[ -s out ] || bad "score answers nothing: $(cat err)"
head -c 500000 /dev/zero | tr '\0' '\377' | dd of=m/model.safetensors bs=1000 seek=150 conv=notrunc 2> /dev/null
echo '{"text": "One warm day."}' >&7
exec 7>&-
wait $!
[ $? = 65 ] && grep -q "m/model.safetensors: $was" err || bad "NaN over a base in use: $(cat err)"

# --- and what is no harm ------------------------------------------------------------------------------------------------------
fresh && cp d.jsonl e.jsonl && strike 0 'e.jsonl: was changed after it had been read' scribble e.jsonl /log.jsonl "$ft" train --model m --data e.jsonl --out o "${few[@]}"
cmp -s o/adapter_model.safetensors a/adapter_model.safetensors || bad "data that was changed after it had been read changed the result"
fresh
"$ft" train --model m --data d.jsonl --out o "${few[@]}" --set train.max_steps=100000 > out 2> err &
pid=$!
for _ in $(seq 500); do [ -d o/checkpoints/step-4 ] && break || sleep 0.02; done
touch m/model.safetensors m/tokenizer.json
cp m/config.json m/other && mv m/other m/config.json
for _ in $(seq 500); do grep -q 'was touched' err && break || sleep 0.02; done
kill -TERM $pid
wait $pid
grep -q 'm/model.safetensors: was touched while it was in use; its bytes are what they were' err && grep -q 'stopped by SIGTERM.*saved' err || bad "touched: $(cat err)"

finish cli_inputs
