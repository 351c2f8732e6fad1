#!/usr/bin/env bash
# cli_quantize.sh FT SOURCE – models in codes from outside: folders that every verb reads, runs that are killed and gone on
# with, and what a wrong config is told.
. "$2/tests/support/cli.sh"
cp -r "$source/data/tiny" a
head -n 12 "$source/data/text/tiny.chat.jsonl" > calib.jsonl
cat > g.json << END
{"model": {"path": "a"}, "calibration": {"data": "calib.jsonl", "samples": 10, "max_length": 48},
 "quantize": {"type": "gptq", "group_size": 32}, "output": {"dir": "g"}}
END
echo '{"model": {"path": "a"}, "quantize": {"type": "rtn", "bits": 8, "group_size": -1}}' > r.json
expect 0 "$ft" quantize g.json --json
[ "$(wc -l < out.txt)" = 29 ] || bad "--json: $(wc -l < out.txt) lines"
grep -q '^{"name":"model.layers.0.self_attn.q_proj.weight","error":0.0' out.txt || bad "--json: $(head -n 1 out.txt)"
tail -n 1 out.txt | grep -q '^{"tensors":28,"error":0.0[0-9]*,"sparsity":0.[0-9]*,"seconds":' || bad "--json: $(tail -n 1 out.txt)"
for f in config.json quantize_config.json compress.json compress_config.json tokenizer.json model.safetensors; do
    [ -e g/$f ] || bad "g has no $f"
done
grep -q '"quant_method": "gptq"' g/config.json || bad "config.json: $(cat g/config.json)"
expect 0 "$ft" generate --model g --prompt 'A duck' --max-new-tokens 4
expect 0 "$ft" inspect g --no-tensors --json
grep -q '"parameters":467808.*"quant_method":"gptq"' out.txt || bad "inspect: $(cat out.txt)"
expect 0 "$ft" quantize g.json --out h --threads 1 -q
cmp g/model.safetensors h/model.safetensors || bad "threads change the codes"
cmp g/compress.json h/compress.json || bad "and what is told of them"
expect 0 "$ft" quantize r.json --out r -q
expect 0 "$ft" quantize g.json --out q -q --set quantize.type=awq
grep -q '"quant_method": "awq"' q/config.json || bad "config.json: $(cat q/config.json)"
expect 0 "$ft" generate --model q --prompt 'A duck' --max-new-tokens 4
expect 0 "$ft" quantize g.json --out q1 -q --set quantize.type=awq --threads 1
cmp q/model.safetensors q1/model.safetensors || bad "threads change the codes of awq"
grep -q '"damp_percent": 0.01' r/quantize_config.json || bad "what transformers refuses: $(cat r/quantize_config.json)"
expect 0 "$ft" generate --model r --prompt 'A duck' --max-new-tokens 4

# Calibration is worth something: rounding to two bits in the same groups is worse.
loss() { # MODEL
    "$ft" eval --model "$1" --task perplexity --data "$source/data/text/tiny.eval.txt" --limit 8 --json 2> err.txt |
        sed -n 's/.*"perplexity":\([0-9.]*\).*/\1/p' | head -n 1
}
expect 0 "$ft" quantize r.json --out n -q --set quantize.bits=2 --set quantize.group_size=32
expect 0 "$ft" quantize g.json --out o -q --set quantize.bits=2 --set calibration.data="$source/data/text/tiny.txt" \
    --set calibration.samples=200 --set calibration.max_length=128
awk -v g="$(loss o)" -v r="$(loss n)" 'BEGIN { exit !(g > 1 && g < r) }' || bad "gptq $(loss o), rtn $(loss n)"

# Every token counts, one of a text alone too.
head -n 3 "$source/data/text/tiny.txt" > lines.txt
expect 0 "$ft" quantize g.json --out one -q --set calibration.data=lines.txt --set calibration.max_length=1
grep -q ', [1-9][0-9]* tokens, ' out.txt || bad "texts of a token: $(cat out.txt)"

# modules_to_not_convert: as they are, and told.
expect 0 "$ft" quantize g.json --out l -q --set 'modules_to_not_convert=["layers.0.", "o_proj", "lm_head", "model.norm"]'
[ "$(grep -c '"name"' l/compress.json)" = 18 ] || bad "left: $(cat l/compress.json)"
grep -q '"modules_to_not_convert"' l/config.json || bad "config.json: $(cat l/config.json)"
expect_told 78 'no layer is chosen' "$ft" quantize g.json --out w --set 'modules_to_not_convert=["model"]'

expect 0 "$ft" quantize "$source/configs/compress/gptq.json" --out c -q
expect 0 "$ft" help compress
grep -q 'quantize.static_groups' out.txt || bad "ft help compress: $(cat out.txt)"

# What was cut short goes on to the same bytes, whenever it was.
for i in 1 2 3 4 5 6; do
    killed_within $(often 500 6000) "$ft" quantize g.json --out k --threads 1
    [ -d k ] && break
    [ ! -e k/config.json ] || bad "killed: a folder"
    [ ! -e k.blocks/blocks.json ] ||
        expect_told 73 'go on with --resume' "$ft" quantize g.json --out k
done
expect 0 "$ft" quantize g.json --out k --resume -q
cmp g/model.safetensors k/model.safetensors || bad "a run that goes on ends in other codes"
cmp g/compress.json k/compress.json || bad "and errors"
[ ! -e k.blocks ] || bad "left: k.blocks"
expect_told 0 'is complete' "$ft" quantize g.json --out k --resume
mv k/compress_config.json made_by.json
expect_told 73 'no compress_config.json' "$ft" quantize g.json --out k --resume
mv made_by.json k/compress_config.json
sed 's/the/teh/' calib.jsonl > other.jsonl
expect_told 78 'k: was begun with another config' "$ft" quantize g.json --out k --resume --set quantize.damp_percent=0.02
expect_told 78 'other data' "$ft" quantize g.json --out k --resume --set calibration.data=other.jsonl
[ "$(find k -newer other.jsonl)" = '' ] || bad "a finished folder was written to"
gzip -k calib.jsonl
expect 0 "$ft" quantize g.json --out y -q --set calibration.data=calib.jsonl.gz
expect_in=calib.jsonl expect 0 "$ft" quantize g.json --out z -q --set calibration.data=-
for o in y z; do cmp g/model.safetensors $o/model.safetensors || bad "packed or piped data give other codes: $o"; done
killed_late() { # SIGNAL: once a block is done
    for _ in 1 2 3 4 5 6 7 8; do
        "$ft" quantize g.json --out m --resume > /dev/null 2>&1 &
        until [ -e m.blocks/block-0.safetensors ] || ! kill -0 $! 2> /dev/null; do sleep 0.01; done
        kill "-$1" $! 2> /dev/null
        wait $! 2> /dev/null
        rc=$?
        [ -e m.blocks/block-0.safetensors ] && return
        rm -rf m m.blocks
    done
}
killed_late INT
if [ -e m.blocks/block-0.safetensors ]; then
    [ $rc = 130 ] || bad "SIGINT: exit $rc"
    expect 0 "$ft" quantize g.json --out m --resume -q
    cmp g/model.safetensors m/model.safetensors || bad "a run that was stopped ends in other codes"
fi
rm -rf m
killed_late KILL
if [ -e m.blocks/block-0.safetensors ]; then
    expect_told 78 'another config' "$ft" quantize g.json --out m --resume --set quantize.damp_percent=0.02
    expect_told 78 'other data' "$ft" quantize g.json --out m --resume --set calibration.data=other.jsonl
    cp -r m.blocks damaged.blocks
    head -c 2000 m.blocks/block-0.safetensors > damaged.blocks/block-0.safetensors
    expect_told 65 'block-0' "$ft" quantize g.json --out damaged --resume
    expect 0 "$ft" quantize g.json --out m --resume -q
    cmp g/model.safetensors m/model.safetensors || bad "a run that goes on ends in other codes"
fi
rm -rf damaged.blocks
expect_told 73 'exists already' "$ft" quantize g.json
expect 0 "$ft" quantize g.json --force -q
mkdir -p x.blocks && echo mine > x.blocks/notes.txt
expect_told 73 'holds something else' "$ft" quantize r.json --out x
[ -e x.blocks/notes.txt ] || bad "a file of somebody's is gone"

# What is wrong is told, and leaves nothing.
wrong() { # CODE TEXT CONFIG SET…
    local code=$1 text=$2 config=$3 sets=()
    shift 3
    for s in "$@"; do sets+=(--set "$s"); done
    expect_told "$code" "$text" "$ft" quantize "$config" --out w "${sets[@]}"
    [ ! -e w ] && [ ! -e w.blocks ] || bad "$text: something was left"
}
wrong 78 'quantize.type' g.json quantize.type=gptk
wrong 78 'quantize.bits: must be 2, 3, 4 or 8' g.json quantize.bits=5
for bits in 2 3 8 0 -4; do wrong 78 'quantize.bits: must be 4' g.json quantize.type=awq quantize.bits=$bits; done
wrong 78 'quantize.group_size' g.json quantize.group_size=0
wrong 78 'quantize.damp_percent' g.json quantize.damp_percent=2
wrong 78 'quantize.damp_percent' g.json quantize.damp_percent=0
wrong 78 'did you mean "group_size"?' g.json quantize.group_sise=4
wrong 78 'quantize.desc_act' r.json quantize.desc_act=true
wrong 78 'calibration.data: missing' r.json quantize.type=gptq
wrong 78 'rtn reads no data' g.json 'quantize={"type": "rtn"}'
wrong 78 'calibration.samples' g.json calibration.samples=0
wrong 78 'model.path' g.json 'model={}'
wrong 78 'must be a list' g.json 'modules_to_not_convert="q_proj"'
wrong 78 'has "q_porj" in its path; linear layers are q_proj, k_proj' g.json 'modules_to_not_convert=["lm_head", "q_porj"]'
wrong 78 'quantize.modules_to_not_convert' r.json 'quantize={"type": "rtn", "modules_to_not_convert": [".weight"]}'
wrong 65 'q_proj.weight' g.json quantize.group_size=40
wrong 65 'model.layers.0.self_attn' g.json quantize.group_size=128
wrong 66 'gone' g.json model.path=gone
wrong 66 'gone' g.json calibration.data=gone.jsonl
wrong 65 'quantised already' r.json model.path=g
: > empty.jsonl
wrong 65 'empty.jsonl' g.json calibration.data=empty.jsonl
echo '{"input_ids": [1, 2, 700000]}' > ids.jsonl
wrong 65 'must be a token id' g.json calibration.data=ids.jsonl
expect_told 64 'no place in a .gguf' "$ft" quantize r.json --out w.gguf
expect_told 64 'no output' "$ft" quantize r.json
expect_told 73 'is the model' "$ft" quantize r.json --out a --force
finish cli_quantize
