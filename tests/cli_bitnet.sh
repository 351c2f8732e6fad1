#!/usr/bin/env bash
# cli_bitnet.sh FT SOURCE – a BitNet model from its training to ternary codes, which every verb reads: the same bytes and answers
# for any threads, adapters on codes, training that goes on from its own folder, and what is refused.
. "$2/tests/support/cli.sh"

expect_out=said expect_err=err
tiny=$source/data/tiny
cat > run.json << END
{"model": {"path": "$tiny"}, "method": {"type": "lora", "r": 2},
 "data": {"train": "$source/data/text/tiny.chat.jsonl", "max_length": 64},
 "optim": {"learning_rate": 0.001}, "train": {"max_steps": 2, "batch_size": 2, "seed": 3}, "output": {"dir": "out"}}
END
full='method={"type":"full"}' qat='model.qat={"type":"bitnet"}'
train() { # OUT MORE...
    expect_told 0 '' "$ft" train run.json --out "$1" -q "${@:2}"
}
train online --set "$full" --set "$qat"

# --- packed, by any number of threads
expect_told 0 '' "$ft" convert online --out packed --type bitnet --threads 1 -q
expect_told 0 '' "$ft" convert online --out again --type bitnet --threads 2 -q
cmp packed/model.safetensors again/model.safetensors || bad "threads change the codes"
expect_told 0 '' "$ft" convert packed --out twice --type bitnet -q
cmp packed/model.safetensors twice/model.safetensors || bad "codes that are packed again are others"
grep -q '"linear_class": "bitlinear"' packed/config.json && grep -q '"offline"' packed/config.json || bad "$(cat packed/config.json)"
expect 0 "$ft" inspect packed --no-tensors --json
grep -q '"u8":28.*"quant_method":"bitnet"' said || bad "inspect: $(cat said)"

# --- the same model: scores, answers, perplexity
echo '{"tokens": [5, 6, 7, 8, 9, 10, 11, 12]}' > ids
score() { "$ft" score "$@" < ids | sed -n 's/.*"logprob":\(-[0-9.]*\).*/\1/p'; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a < 0 && d * d < 1e-6) }'; }
near "$(score --model packed)" "$(score --model online)" || bad "packed $(score --model packed), online $(score --model online)"
[ "$(score --model packed --threads 1)" = "$(score --model packed --threads 2)" ] || bad "threads change a score"
answer() { "$ft" generate --model "$1" --prompt 'A duck' --max-new-tokens 12 --threads "$2" -q; }
answer packed 1 > one
answer packed 2 > two
cmp one two && [ -s one ] || bad "threads change an answer"
echo '{"model": {"path": "packed"}, "tasks": [{"type": "perplexity", "data": "'"$source"'/data/text/tiny.eval.txt", "limit": 4}]}' > eval.json
expect_told 0 '' "$ft" eval eval.json -q

# --- adapters over codes
train adapter --set model.path=packed
train qlora --set model.path=packed --set method.type=qlora
cmp adapter/adapter_model.safetensors qlora/adapter_model.safetensors || bad "qlora does not keep the codes that are there"
train adapter1 --set model.path=packed --threads 1 --set train.micro_batch_size=1
cmp adapter/adapter_model.safetensors adapter1/adapter_model.safetensors || bad "another split gives other bytes"
expect_told 0 '' "$ft" generate --model packed --adapter adapter --prompt 'A duck' --max-new-tokens 3
expect_told 0 '' "$ft" merge-adapter adapter --base packed --out merged --type f32 -q
grep -q quantization_config merged/config.json && bad "merged: $(cat merged/config.json)"

# --- numbers, and a .gguf
for type in f32 bf16; do expect_told 0 '' "$ft" convert packed --out "as-$type" --type "$type" -q; done
grep -q quantization_config as-f32/config.json && bad "as-f32: $(cat as-f32/config.json)"
for type in f16 tq1_0 tq2_0; do
    expect_told 0 '' "$ft" convert packed --out "$type.gguf" --type "$type" -q
    [ -n "$(score --model "$type.gguf")" ] || bad "$type.gguf is not read"
done

# --- training goes on from its own folder, and an adapter is laid over it
train further --set "$full" --set "$qat" --set model.path=online
grep -q '"autobitlinear"' further/config.json || bad "further: $(cat further/config.json)"
train over --set "$qat" --set model.path=online
near "$(score --model online --adapter over)" "$(score --model packed --adapter over)" || bad "an adapter over codes is another"

# --- what is refused
expect_told 65 'is no BitNet model' "$ft" convert "$tiny" --out none --type bitnet
expect_told 64 'has no place in a .gguf' "$ft" convert online --out none.gguf --type bitnet
expect_told 64 'are of --type nf4 and fp4' "$ft" convert online --out none --type bitnet --block-size 64
expect_told 64 'has no place in ternary codes' "$ft" merge-adapter adapter --base packed --out none --type bitnet
expect_told 65 'is in ternary codes' "$ft" train run.json --out none --set "$full" --set model.path=packed -q
expect_told 65 'is quantised already' "$ft" train run.json --out none --set 'model.qat={"type":"affine"}' --set model.path=packed -q
expect_told 65 'is quantised already' "$ft" train run.json --out none --set 'model.qat={"type":"affine"}' --set model.path=online -q
finish cli_bitnet
