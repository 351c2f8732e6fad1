#!/usr/bin/env bash
# cli_qat.sh FT SOURCE – model.qat: whole runs of every type give the same bytes for any threads and micro-batches and after a
# stop, their folders are used as they were trained, and what does not go with it is refused by name.
. "$2/tests/support/cli.sh"

expect_out=said expect_err=err
cat > run.json << END
{"model": {"path": "$source/data/tiny"}, "method": {"type": "full"},
 "data": {"train": "$source/data/text/tiny.chat.jsonl", "eval": "$source/data/text/tiny.chat.eval.jsonl", "max_length": 64},
 "optim": {"learning_rate": 0.001}, "train": {"max_steps": 3, "batch_size": 4, "checkpoint_every": 1, "eval_every": 3},
 "output": {"dir": "out"}}
END
run() { # OUT QAT METHOD MORE...
    local out=$1 qat=$2 method=$3
    shift 3
    expect_told 0 '' "$ft" train run.json --out "$out" --set "model.qat=$qat" --set "method=$method" -q "$@"
}
result() { (cd "$1" && sha256sum model.safetensors adapter_model.safetensors qat.safetensors config.json ft_method.json 2> /dev/null); }
full='{"type":"full"}' lora='{"type":"lora","r":2}'

while read -r name qat method; do
    run "$name" "$qat" "$method" --threads 1 --set train.micro_batch_size=4
    run "$name.cut" "$qat" "$method" --threads 2 --set train.micro_batch_size=1 --set train.gradient_checkpointing=true
    [ "$(result "$name")" = "$(result "$name.cut")" ] || bad "$name: another split gives other bytes"
    cp -r "$name" "$name.on" && (cd "$name.on" && rm -rf summary.json model.safetensors adapter_model.safetensors checkpoints/step-2 checkpoints/step-3)
    run "$name.on" "$qat" "$method" --resume --threads 1 --set train.micro_batch_size=4
    [ "$(result "$name")" = "$(result "$name.on")" ] || bad "$name: a resumed run gives other bytes"
done << END
affine {"type":"affine"} $full
lsq {"type":"lsq","group_size":-1} $full
bitnet {"type":"bitnet"} $full
lora {"type":"lsq"} $lora
END
run later '{"type":"affine","fake_quant_after_n_steps":2}' "$full"
run half '{"type":"affine"}' "$lora" --set train.precision=bf16

# --- folders say what was trained, and are used so
for name in affine lsq; do
    grep -q '"qat": *{"type":"'"$name"'"' "$name/ft_method.json" || bad "$name: $(cat "$name/ft_method.json")"
    [ -s "$name/qat.safetensors" ] || bad "$name: no steps"
done
grep -q '"autobitlinear"' bitnet/config.json && [ ! -e bitnet/ft_method.json ] || bad "bitnet: $(cat bitnet/config.json)"
for eps in -1 1e60 NaN; do
    rm -rf wrong && cp -r bitnet wrong
    sed -i 's/"linear_class"/"rms_norm_eps": '$eps', &/' wrong/config.json
    expect_told 65 'rms_norm_eps: must be a number from 0 on' "$ft" generate --model wrong --prompt One --max-new-tokens 1
done
echo '{"tokens": [5, 6, 7, 8, 9, 10, 11, 12]}' > ids
score() { "$ft" score "$@" < ids | sed -n 's/.*"logprob":\(-[0-9.]*\).*/\1/p'; }
cp -r affine plain && rm plain/ft_method.json
[ "$(score --model affine)" != "$(score --model plain)" ] || bad "a folder of affine is used as it is"
cp -r lora bare && rm bare/ft_method.json
[ "$(score --model "$source/data/tiny" --adapter lora)" != "$(score --model "$source/data/tiny" --adapter bare)" ] ||
    bad "an adapter is laid over a base that was not rounded"
expect_told 0 '' "$ft" merge-adapter lora --base "$source/data/tiny" --out merged --type f32 -q
echo '{"merge_method": "linear", "dtype": "float32", "models": [{"model": "'"$source/data/tiny+$PWD/lora"'", "parameters": {"weight": 1}}]}' > whole.json
expect_told 0 '' "$ft" merge whole.json --out whole -q
cmp merged/model.safetensors whole/model.safetensors || bad "ft merge folds an adapter into a base that was not rounded"
expect_told 0 '' "$ft" generate --model lsq --prompt 'One' --max-new-tokens 3

# --- rounding of the same codes goes by the steps that were trained, and of others by its own
rtn() { # OUT BITS SAYS
    echo '{"model": {"path": "lsq"}, "quantize": {"type": "rtn", "bits": '"$2"', "group_size": -1}}' > r.json
    "$ft" quantize r.json --out "$1" > said 2> err || bad "rtn: $(cat err)"
    grep -c 'scales of 28 layers are the steps of qat.safetensors' err | grep -qx "$3" || bad "rtn of $2 bits: $(cat err)"
}
rtn by-steps 4 1
rtn other-bits 8 0
grep -q 'symmetric codes of 4 bits; codes of 8 bits do not go by them' err || bad "other bits: $(cat err)"
expect_told 0 'asymmetric codes of 4 bits do not go by them' "$ft" quantize r.json --out with-zeros --set quantize.bits=4 --set quantize.sym=false
expect_told 0 'scales of 28 layers are not the steps' "$ft" quantize r.json --out other-groups --set quantize.bits=4 --set quantize.group_size=32
expect_told 0 '' "$ft" quantize r.json --out again --set quantize.bits=4
grep -q 'warning' err && bad "told of steps that are taken: $(cat err)"

# --- what does not take the steps along says so
left='lsq: was trained with model.qat, whose steps (qat.safetensors, ft_method.json) are not taken into the result'
echo '{"model": {"path": "lsq"}, "prune": {"sparsity": 0.5}}' > p.json
echo '{"merge_method": "linear", "models": [{"model": "lsq", "parameters": {"weight": 1}}]}' > m.json
expect_told 0 "$left" "$ft" convert lsq --out lsq-f16 --type f16
expect_told 0 "$left" "$ft" convert lsq --out lsq.gguf
expect_told 0 "$left" "$ft" prune p.json --out lsq-pruned
expect_told 0 "$left" "$ft" merge m.json --out lsq-merged
expect_told 0 'lora: was trained with model.qat' "$ft" convert lora --out lora.gguf --base "$source/data/tiny"
mv lsq/ft_method.json .
rtn by-weights 4 0
mv ft_method.json lsq
cmp -s by-steps/model.safetensors by-weights/model.safetensors && bad "the steps change nothing"

# --- what is refused
no() { # CODE TEXT QAT METHOD MORE...
    local code=$1 text=$2 qat=$3 method=$4
    shift 4
    expect_told "$code" "$text" "$ft" train run.json --out none --set "model.qat=$qat" --set "method=$method" -q "$@"
}
no 78 'model.qat.type' '{"type":"afine"}' "$full"
no 78 'model.qat' '"affine"' "$full"
no 78 'model.qat.group' '{"type":"affine","group":32}' "$full"
no 78 'model.qat.group_size' '{"type":"bitnet","group_size":32}' "$full"
no 78 'model.qat.group_size' '{"type":"lsq","group_size":0}' "$full"
no 78 'model.qat.weight_dtype' '{"type":"affine","weight_dtype":"int3"}' "$full"
no 78 'model.qat.activation_dtype' '{"type":"affine","activation_dtype":"int4"}' "$full"
no 78 'qlora' '{"type":"affine"}' '{"type":"qlora","r":2}'
no 78 'model.quantization' '{"type":"affine"}' "$lora" --set 'model.quantization={"type":"nf4"}'
no 78 'bitfit' '{"type":"affine"}' '{"type":"bitfit"}'
no 65 'no multiple of model.qat.group_size 40' '{"type":"affine","group_size":40}' "$full"
expect_told 65 'is rounded where it is read' "$ft" train run.json --out none --set model.path=bitnet --set "method=$full" -q
expect_told 0 '' "$ft" convert "$source/data/tiny" --out coded --type nf4 -q
no 65 'is quantised already' '{"type":"affine"}' "$lora" --set model.path=coded
echo '{"qat": {"type": "x"}}' > plain/ft_method.json
expect_told 65 'qat.type' "$ft" score --model plain < ids
finish cli_qat
