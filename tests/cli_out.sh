#!/usr/bin/env bash
# cli_out.sh FT SOURCE – what leaves for other programs: an adapter as a LoRA file of llama.cpp, Modelfiles for Ollama.
. "$2/tests/support/cli.sh"

expect_out=said expect_err=err expect_seconds=600
says() { grep -qF -- "$1" said || bad "stdout lacks '$1': $(head -c 400 said)"; }

cp -r "$source/data/tiny" m
printf '{"text":"One warm day."}\n{"text":"Two cold nights."}\n' > d.jsonl
cat > run.json << 'END'
{"model": {"path": "m"}, "method": {"type": "lora", "r": 3, "init_lora_weights": false},
 "data": {"train": "d.jsonl", "max_length": 64},
 "train": {"max_steps": 2, "batch_size": 2, "checkpoint_every": 1}, "output": {"dir": "run"}}
END
expect_told 0 '' "$ft" train run.json -q

# A .gguf has no window of attention: where that is what a proof misses, no type or tolerance is named as the remedy.
cp -r m window
sed -i 's/"LlamaForCausalLM"/"MistralForCausalLM"/; s/"model_type": "llama"/"model_type": "mistral", "sliding_window": 3/' window/config.json
expect_told 0 '' "$ft" train run.json --out slid --set model.path=window -q
expect_told 81 'no sliding window, and that of ' "$ft" merge-adapter slid --out slid.gguf --tolerance 1e-5
grep -q 'is 3 tokens; write a folder' err && [ ! -e slid.gguf ] || bad "a lost window: $(cat err)"
expect_told 0 '' "$ft" merge-adapter slid --out slid.model --tolerance 1e-5 -q --type f32

# --- a LoRA for llama.cpp
expect_told 0 '' "$ft" convert run --out lora.gguf -q --json
says '"out":"lora.gguf","adapter":"run","base":"' && says '"type":"f32"' && says '"alpha":16' && says '"memory":{'
expect_told 73 'lora.gguf: exists already' "$ft" convert run --out lora.gguf -q
expect_told 0 '' "$ft" convert run --out again.gguf -q --threads 1
cmp lora.gguf again.gguf || bad "other threads, other bytes"
expect_told 0 '' "$ft" convert run --out again.gguf -q --force --base m
cmp lora.gguf again.gguf || bad "written over, other bytes"
for type in f16 bfloat16; do
    expect_told 0 '' "$ft" convert run --out again.gguf -q --force --type $type
    [ "$(stat -c %s again.gguf)" -lt "$(stat -c %s lora.gguf)" ] || bad "$type is not smaller"
done
expect_told 0 '' "$ft" convert run/checkpoints/step-2 --out again.gguf -q --force
expect_told 0 '' "$ft" inspect lora.gguf --no-tensors
for fact in 'LoRA adapter for llama.cpp' 'adapter.lora.alpha' 'modules' 'r  '; do says "$fact"; done

# --- what is no LoRA, and what is asked of one
expect_told 64 'X.gguf' "$ft" convert run --out folder
expect_told 64 'f32, f16 or bf16' "$ft" convert run --out x.gguf --type q4_0
expect_told 64 'are of a model' "$ft" convert run --out x.gguf --block-size 64
expect_told 64 '--base: is of an adapter' "$ft" convert m --out x.gguf --base m
expect_told 66 'nowhere' "$ft" convert run --out x.gguf --base nowhere
expect_told 66 '' "$ft" convert nothing --out x.gguf
expect_told 73 'is a file of the adapter' "$ft" convert run --out run/adapter_model.safetensors --force
expect_told 65 'adapter for llama.cpp' "$ft" score --model lora.gguf
expect_told 66 'PEFT folder' "$ft" score --model m --adapter lora.gguf
expect_told 66 'PEFT folder' "$ft" merge-adapter lora.gguf --out x
cp -r run dora && sed -i 's/"use_dora": false/"use_dora": true/' dora/adapter_config.json
expect_told 65 'lora_magnitude_vector' "$ft" convert dora --out x.gguf --base m
cp -r run other && sed -i 's/"LORA"/"BOFT"/' other/adapter_config.json
expect_told 65 'merge-adapter' "$ft" convert other --out x.gguf --base m
cp -r run moved && sed -i 's/"base_model_name_or_path": "[^"]*"/"base_model_name_or_path": "gone"/' moved/adapter_config.json
expect_told 66 '--base' "$ft" convert moved --out x.gguf
[ -z "$(find . -name 'x*' -o -name '*.tmp-*')" ] || bad "left behind: $(find . -name 'x*' -o -name '*.tmp-*')"

# --- a Modelfile for Ollama
has() { grep -qxF -- "$2" "$1" || bad "$1 lacks the line '$2'"; }
"$ft" convert m --out plain.gguf -q > said 2> err || bad "$(cat err)"
mkdir o && expect_told 0 '' "$ft" convert m --out o/tiny.gguf --modelfile --json
says '"modelfile":"o/Modelfile","template":"chatml","memory":{'
cmp plain.gguf o/tiny.gguf || bad "--modelfile changed the .gguf"
has o/Modelfile 'FROM ./tiny.gguf' && has o/Modelfile 'PARAMETER stop "<|im_end|>"'
grep -q '^TEMPLATE """' o/Modelfile || bad 'no template'
expect_told 73 'o/Modelfile: exists already' "$ft" convert m --out o/other.gguf --modelfile
[ ! -e o/other.gguf ] || bad 'a .gguf without its Modelfile'
expect_told 0 '' "$ft" convert m --out o/other.gguf --modelfile --force -q
has o/Modelfile 'FROM ./other.gguf'
cp -r m s && printf '{"eos_token_id": [0, 1], "temperature": 0.7, "top_p": 0.9}' > s/generation_config.json
echo '{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}' > s/chat_template.jinja
expect_told 0 'has no TEMPLATE' "$ft" convert s --out folder --modelfile
has folder/Modelfile 'FROM .' && has folder/Modelfile 'PARAMETER temperature 0.7' && has folder/Modelfile 'PARAMETER top_p 0.9'
grep -q '^# No TEMPLATE' folder/Modelfile || bad 'not a word of the template'
! grep -q '^TEMPLATE' folder/Modelfile || bad 'a template of nobody'
expect_told 73 'folder: exists already' "$ft" convert m --out folder --modelfile
expect_told 0 '' "$ft" convert m --out folder --modelfile --force -q
grep -q '^TEMPLATE """' folder/Modelfile || bad 'the old Modelfile is there'
expect_told 0 '' "$ft" convert m --out folder --force -q
[ ! -e folder/Modelfile ] || bad 'the Modelfile of another result is still there'
expect_told 0 '' "$ft" generate --model folder --prompt a --max-new-tokens 2
# one that somebody wrote stays
for place in o folder; do echo 'FROM llama3' > $place/Modelfile; done
expect_told 73 'o/Modelfile: is not replaced' "$ft" convert m --out o/tiny.gguf --modelfile --force
expect_told 73 '"Modelfile"' "$ft" convert m --out folder --force
has o/Modelfile 'FROM llama3' && has folder/Modelfile 'FROM llama3'
rm o/Modelfile && ln -s ../d.jsonl o/Modelfile
expect_told 73 'is a link' "$ft" convert m --out o/tiny.gguf --modelfile --force
rm o/Modelfile && mkdir o/Modelfile
expect_told 73 'is a folder' "$ft" convert m --out o/tiny.gguf --modelfile --force
rmdir o/Modelfile
expect_told 64 '--modelfile: is of a model' "$ft" convert run --out x.gguf --modelfile
mkdir 'a b' && expect_told 0 '' "$ft" convert m --out 'a b/t i.gguf' --modelfile -q
has 'a b/Modelfile' 'FROM ./t i.gguf'
for i in 1 2 3 4 5 6; do killed_within 120 "$ft" convert m --out o/tiny.gguf --modelfile --force; done
expect_told 0 '' "$ft" convert m --out o/tiny.gguf --modelfile --force -q
[ -z "$(find . -name 'x*' -o -name '*.tmp*')" ] || bad "left behind: $(find . -name 'x*' -o -name '*.tmp*')"

finish cli_out
