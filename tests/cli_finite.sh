#!/usr/bin/env bash
# cli_finite.sh FT SOURCE – what the verbs do with a model or an adapter that holds NaN, Inf, or more than a type can hold.
. "$2/tests/support/cli.sh"

poke() { # FILE TENSOR HEX: the first bytes of a tensor of a .safetensors file
    perl -e 'my ($f, $name, $hex) = @ARGV; open my $h, "+<:raw", $f or die; read $h, my $n, 8; $n = unpack "Q<", $n; read $h, my $head, $n;
        $head =~ /"\Q$name\E":\{[^}]*"data_offsets":\[(\d+),/ or die "no $name"; seek $h, 8 + $n + $1, 0; print $h pack "H*", $hex' "$@" || bad "no $2 in $1"
}
expect_out=out expect_err=err expect_seconds=600
refuses() { # CODE TEXT COMMAND...: in one line, and leaves nothing
    local code=$1
    expect_told "$@"
    [ "$code" = 0 ] || [ "$(grep -c '^ft: error:' err)" = 1 ] || bad "$*: not one error: $(cat err)"
    [ "$code" = 0 ] || [ -z "$(ls -d z* 2> /dev/null)" ] || bad "$*: left $(ls -d z*)"
    rm -rf z*
}
w=model.layers.1.mlp.down_proj.weight

cp -r "$source/data/tiny" nan && poke nan/model.safetensors $w c07f # bf16
for type in f32 bf16 f16; do
    refuses 65 "tensor \"$w\" holds NaN at [0, 0]" "$ft" convert nan --out z --type $type
    refuses 0 'holds NaN at [0, 0], and is written so' "$ft" convert nan --out z --type $type --allow-nonfinite
done
refuses 65 'holds NaN at [0, 0]' "$ft" convert nan --out z
refuses 65 'holds NaN at [0, 0]' "$ft" convert nan --out z.gguf --type q8_0
refuses 0 'is written so' "$ft" convert nan --out z.gguf --type q8_0 --allow-nonfinite
refuses 65 'no finite number' "$ft" convert nan --out z --type nf4
"$ft" convert nan --out nan.gguf --type q8_0 --allow-nonfinite > out 2>&1 || bad "--allow-nonfinite: $(cat out)"
refuses 65 'holds NaN at [0, 0]' "$ft" convert nan.gguf --out z.gguf --type q8_0 # the blocks as they are
for kind in rtn gptq awq; do # codes have no place for it
    group='"group_size": 8' calib='"calibration": {"data": "cal.jsonl", "samples": 2, "max_length": 32},'
    [ $kind != rtn ] || calib=''
    echo "{\"model\": {\"path\": \"nan\"}, $calib \"quantize\": {\"type\": \"$kind\", $group}}" > q.json
    head -n 4 "$source/data/text/tiny.chat.jsonl" > cal.jsonl
    refuses 65 "the weight $w holds NaN (nan/model.safetensors)" "$ft" quantize q.json --out z -q
done
for kind in magnitude wanda sparsegpt; do
    [ $kind != magnitude ] || sed 's/"calibration.*"quantize.*/"prune": {"type": "magnitude", "sparsity": 0.5}}/' q.json > p.json
    [ $kind = magnitude ] || sed "s/\"quantize.*/\"prune\": {\"type\": \"$kind\", \"sparsity\": 0.5}}/" q.json > p.json
    refuses 65 "the weight $w holds NaN (nan/model.safetensors)" "$ft" prune p.json --out z -q
done
cp -r "$source/data/tiny" inf && poke inf/model.safetensors $w 807f
refuses 65 "holds Inf at [0, 0]" "$ft" convert inf --out z

cp -r "$source/data/tiny" large && poke large/model.safetensors $w 6e4e # 1e9
"$ft" convert large --out z --type f32 > out 2> err || bad "1e9 in f32: $(cat err)"
rm -rf z
for to in "z --type f16" "z.gguf --type q8_0" "z.gguf --type q4_0" "z.gguf --type q4_1" "z.gguf --type f16"; do
    refuses 80 'is beyond the range of' "$ft" convert large --out $to
done
"$ft" convert "$source/data/tiny" --out most --type f32 > out 2>&1 && poke most/model.safetensors $w 0000c07f
poke most/model.safetensors $w 9fcc7f7f # 3.4e38
refuses 80 "tensor \"$w\": 3.40016e+38 at [0, 0] is beyond the range of bf16; use --type f32" "$ft" convert most --out z --type bf16

# --- what cannot be written has the name that was asked for, not that of the place where it was made
for to in z z.gguf; do
    name=$to && [ $to = z ] && name=z/model.safetensors
    refuses 74 "ft: error: $name: cannot be written: File too large" bash -c 'ulimit -f 100; exec "$@"' _ "$ft" convert "$source/data/tiny" --out $to -q
done

# --- adapters ---------------------------------------------------------------------------------------------------------------
cp -r "$source/data/tiny" m
head -n 20 "$source/data/instructions.jsonl" > d.jsonl
"$ft" train --model m --data d.jsonl --out a --set train.max_steps=2 --set data.max_length=64 --set method.r=2 -q || bad "train"
b=base_model.model.model.layers.0.mlp.down_proj.lora_B.weight
cp -r a anan && poke anan/adapter_model.safetensors $b 0000c07f
for to in z z.gguf "z.gguf --type q8_0" "z --type nf4"; do
    refuses 80 'holds NaN' "$ft" merge-adapter anan --base m --out $to
done
cp -r a amost && poke amost/adapter_model.safetensors $b 9fcc7f7e && poke amost/adapter_model.safetensors ${b/lora_B/lora_A} 0000807f
refuses 80 '' "$ft" merge-adapter amost --base m --out z.gguf --type q8_0
cp -r a alarge && poke alarge/adapter_model.safetensors $b 6e6e6e6e # finite, and large: the sum is no number of the type
for to in "z --type f16" "z.gguf --type q8_0" "z.gguf --type q4_0"; do
    refuses 80 'is beyond the range of' "$ft" merge-adapter alarge --base m --out $to
done
refuses 80 'm with alarge: tensor' "$ft" merge-adapter alarge --base m --out z --type f16 # the sum is not the base's fault
cp -r a ascale && sed -i 's/"lora_alpha": *[0-9.]*/"lora_alpha": 1e300/' ascale/adapter_config.json
for verb in "merge-adapter ascale --base m" "convert ascale --base m"; do
    # shellcheck disable=SC2086
    refuses 65 'lora_alpha: 1e+300 is beyond the range of f32' "$ft" $verb --out z.gguf
done
refuses 80 'NaN' "$ft" merge-adapter a --base nan --out z # of the base
refuses 80 'NaN' "$ft" merge-adapter a --base nan --out z.gguf --type q8_0
refuses 80 'holds NaN' "$ft" train --model m --data d.jsonl --out d --set method.init_from=anan --set train.max_steps=2
refuses 80 'NaN' "$ft" train --model nan --data d.jsonl --out d --set train.max_steps=2
for method in full lora; do # a value that diverges
    rm -rf d
    "$ft" train --model m --data d.jsonl --method $method --out d --set optim.learning_rate=1e30 --set optim.max_grad_norm=0 --set train.max_steps=4 -q 2> err
    [ $? = 80 ] || bad "$method with a rate of 1e30: $(cat err)"
    ls d/*.safetensors > /dev/null 2>&1 && bad "$method with a rate of 1e30 left a result"
done

finish cli_finite
