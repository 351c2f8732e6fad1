#!/usr/bin/env bash
# cli_folder.sh FT SOURCE – results and checkpoints as folders that stand alone, in every verb.
. "$2/tests/support/cli.sh"

head -n 60 "$source/data/instructions.jsonl" > a.jsonl
expect_out=said expect_err=err expect_seconds=600
cp -r "$source/data/tiny" m

steady=(--model m --data a.jsonl --set data.max_length=96 --set optim.lr_scheduler_type=constant -q)
expect 0 "$ft" train "${steady[@]}" --out long --set train.max_steps=6 --set train.checkpoint_every=2
expect 0 "$ft" train "${steady[@]}" --out brief --set train.max_steps=4
point=long/checkpoints/step-4
for f in adapter_model.safetensors adapter_config.json tokenizer.json tokenizer_config.json chat_template.jinja; do
    cmp $point/$f brief/$f || bad "$point/$f is not what 4 steps end with"
done
cmp brief/tokenizer.json m/tokenizer.json || bad "the tokenizer beside the adapter"
head -n 5 brief/README.md | tr '\n' ';' | grep -qF -- '---;base_model: "m";library_name: peft;pipeline_tag: text-generation;tags:;' || bad "the card: $(head -n 5 brief/README.md)"
for word in 'lora_alpha' '`a`' 'AutoPeftModelForCausalLM' 'ft generate --adapter brief' 'ft merge-adapter brief' 'llama-cli'; do
    grep -qF -- "$word" brief/README.md || bad "the card says nothing of $word"
done
# The way to llama.cpp that the card names is one: as a LoRA beside the base, or where that cannot be only folded into it.
grep -qF 'llama-cli -m base.gguf --lora adapter.gguf' brief/README.md || bad "the card has no LoRA for llama.cpp"
eval "$(printf '%q' "$ft") $(sed -n 's/^ft \(convert brief .*\)/\1/p' brief/README.md)" > said 2> err || bad "as the card says: $(cat err)"
[ -s adapter.gguf ] || bad "convert as the card says left no file"
for other in 'method.modules_to_save=["norm"]' 'method.target_modules=["embed_tokens"]'; do
    expect 0 "$ft" train "${steady[@]}" --out other --force --set train.max_steps=1 --set "$other"
    grep -qF -- '--lora' other/README.md && bad "$other: the card promises a LoRA for llama.cpp"
    grep -qF 'ft merge-adapter other' other/README.md || bad "$other: the card has no way to llama.cpp"
    expect 65 "$ft" convert other --out none.gguf
done
expect 0 "$ft" inspect $point
for a in brief $point; do
    "$ft" generate --adapter $a --prompt 'Hello' --max-new-tokens 5 > "said.$(basename $a)" 2> err || bad "generate $a: $(cat err)"
    printf '{"text": "Hello there"}\n' | "$ft" score --adapter $a > "score.$(basename $a)" 2> err || bad "score $a: $(cat err)"
    expect 0 "$ft" merge-adapter $a --out "merged.$(basename $a)" -q
    expect 0 "$ft" train "${steady[@]}" --out "from.$(basename $a)" --set method.init_from=$a --set train.max_steps=1
done
cmp said.brief said.step-4 && cmp score.brief score.step-4 && cmp merged.brief/model.safetensors merged.step-4/model.safetensors &&
    cmp from.brief/adapter_model.safetensors from.step-4/adapter_model.safetensors || bad "a checkpoint is not the adapter"
for f in tokenizer.json tokenizer_config.json generation_config.json; do
    cmp merged.brief/$f m/$f || bad "merged: $f is not the base's"
done
echo changed >> $point/README.md # of no concern to the run
rm -r long/checkpoints/step-6 long/summary.json
expect 0 "$ft" train "${steady[@]}" --out long --set train.max_steps=6 --set train.checkpoint_every=2 --resume
grep -q '"resumed_from": 4' long/summary.json || bad "a changed card spoiled the checkpoint"
expect 0 "$ft" train "${steady[@]}" --method full --out fulllong --set train.max_steps=3 --set train.checkpoint_every=2
expect 0 "$ft" train "${steady[@]}" --method full --out full --set train.max_steps=2
for f in model.safetensors config.json tokenizer.json generation_config.json; do
    cmp fulllong/checkpoints/step-2/$f full/$f || bad "a checkpoint of a whole model: $f"
done
expect 0 "$ft" generate --model fulllong/checkpoints/step-2 --prompt 'Hello' --max-new-tokens 3

# of a .gguf: the tokenizer is written out, and a merge has the file's own
expect 0 "$ft" convert m --out m.gguf -q
expect 0 "$ft" train --model m.gguf --data a.jsonl --set data.max_length=96 --set train.max_steps=3 --out ofgguf -q
for line in 'Hello, world' '<|im_start|>user'; do
    cmp <(echo "$line" | "$ft" tokenize --model m.gguf) <(echo "$line" | "$ft" tokenize --model ofgguf) || bad "the written tokenizer: $line"
done
[ -s ofgguf/chat_template.jinja ] || bad "no template of a .gguf"
expect 0 "$ft" merge-adapter ofgguf --out merged.gguf -q
cmp <("$ft" inspect m.gguf --json | grep -o '"tokenizer.*') <("$ft" inspect merged.gguf --json | grep -o '"tokenizer.*') || bad "the merged .gguf has another tokenizer"

# what the adapter calls its base
expect 0 "$ft" train "${steady[@]}" --out named --set train.max_steps=1 --set model.name=org/base
grep -q '"base_model_name_or_path": "org/base"' named/adapter_config.json && grep -q '^base_model: org/base$' named/README.md || bad "model.name"

finish cli_folder
