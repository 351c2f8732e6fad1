#!/usr/bin/env bash
# cli_out.sh FT SOURCE – what leaves for other programs: an adapter as a LoRA file of llama.cpp.
. "$2/tests/support/cli.sh"

expect() { # CODE WORDS COMMAND...
    local want=$1 words=$2 code
    shift 2
    "$@" > said 2> err < /dev/null
    code=$?
    [ $code = "$want" ] || bad "$* gave $code, not $want: $(tail -n 1 err)"
    [ -z "$words" ] || grep -qF -- "$words" err || bad "$* does not say \"$words\": $(tail -n 1 err)"
}
says() { grep -qF -- "$1" said || bad "stdout lacks '$1': $(head -c 400 said)"; }

cp -r "$source/data/tiny" m
printf '{"text":"One warm day."}\n{"text":"Two cold nights."}\n' > d.jsonl
cat > run.json << 'END'
{"model": {"path": "m"}, "method": {"type": "lora", "r": 3, "init_lora_weights": false},
 "data": {"train": "d.jsonl", "max_length": 64},
 "train": {"max_steps": 2, "batch_size": 2, "checkpoint_every": 1}, "output": {"dir": "run"}}
END
expect 0 '' "$ft" train run.json -q

# --- a LoRA for llama.cpp
expect 0 '' "$ft" convert run --out lora.gguf -q --json
says '"out":"lora.gguf","adapter":"run","base":"' && says '"type":"f32"' && says '"alpha":16' && says '"memory":{'
expect 73 'lora.gguf: exists already' "$ft" convert run --out lora.gguf -q
expect 0 '' "$ft" convert run --out again.gguf -q --threads 1
cmp lora.gguf again.gguf || bad "other threads, other bytes"
expect 0 '' "$ft" convert run --out again.gguf -q --force --base m
cmp lora.gguf again.gguf || bad "written over, other bytes"
for type in f16 bfloat16; do
    expect 0 '' "$ft" convert run --out again.gguf -q --force --type $type
    [ "$(stat -c %s again.gguf)" -lt "$(stat -c %s lora.gguf)" ] || bad "$type is not smaller"
done
expect 0 '' "$ft" convert run/checkpoints/step-2 --out again.gguf -q --force
expect 0 '' "$ft" inspect lora.gguf --no-tensors
for fact in 'LoRA adapter for llama.cpp' 'adapter.lora.alpha' 'modules' 'r  '; do says "$fact"; done

# --- what is no LoRA, and what is asked of one
expect 64 'X.gguf' "$ft" convert run --out folder
expect 64 'f32, f16 or bf16' "$ft" convert run --out x.gguf --type q4_0
expect 64 'are of a model' "$ft" convert run --out x.gguf --block-size 64
expect 64 '--base: is of an adapter' "$ft" convert m --out x.gguf --base m
expect 66 'nowhere' "$ft" convert run --out x.gguf --base nowhere
expect 66 '' "$ft" convert nothing --out x.gguf
expect 73 'is a file of the adapter' "$ft" convert run --out run/adapter_model.safetensors --force
expect 65 'adapter for llama.cpp' "$ft" score --model lora.gguf
expect 66 'PEFT folder' "$ft" score --model m --adapter lora.gguf
expect 66 'PEFT folder' "$ft" merge-adapter lora.gguf --out x
cp -r run dora && sed -i 's/"use_dora": false/"use_dora": true/' dora/adapter_config.json
expect 65 'merge-adapter' "$ft" convert dora --out x.gguf --base m
cp -r run other && sed -i 's/"LORA"/"IA3"/' other/adapter_config.json
expect 65 'merge-adapter' "$ft" convert other --out x.gguf --base m
cp -r run moved && sed -i 's/"base_model_name_or_path": "[^"]*"/"base_model_name_or_path": "gone"/' moved/adapter_config.json
expect 66 '--base' "$ft" convert moved --out x.gguf
[ -z "$(find . -name 'x*' -o -name '*.tmp-*')" ] || bad "left behind: $(find . -name 'x*' -o -name '*.tmp-*')"

finish cli_out
