#!/usr/bin/env bash
# cli_prune.sh FT SOURCE – pruning from outside: counts of zeros, the same bytes with any threads, recovery that keeps zeros, what
# merging an adapter says of them, what a wrong config is told.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny
text=$source/data/text/tiny.chat.jsonl
config() { # NAME PRUNE [CALIBRATION]
    echo "{\"model\": {\"path\": \"$tiny\"}, ${3:+\"calibration\": ${3-},} \"prune\": $2}" > "$1.json"
}
calib="{\"data\": \"$text\", \"samples\": 8, \"max_length\": 64}"
config mag '{"sparsity": 0.5}'
config glob '{"scope": "global", "sparsity": 0.3}'
config nm '{"pattern": "2:4"}'
config wanda '{"type": "wanda", "pattern": "4:8"}' "$calib"
config sgpt '{"type": "sparsegpt", "sparsity": 0.25, "block_size": 16}' "$calib"
for k in mag:0.5 glob:0.29999 nm:0.5 wanda:0.5 sgpt:0.25; do
    name=${k%:*}
    expect 0 "$ft" prune $name.json --out $name --json --threads 1
    tail -1 out.txt | grep -q "\"sparsity\":${k#*:}" || bad "$name: $(tail -1 out.txt)"
    expect 0 "$ft" prune $name.json --out $name.2 -q --threads 2
    cmp $name/model.safetensors $name.2/model.safetensors || bad "$name: threads change it"
    [ -e $name/compress.json ] || bad "$name has no compress.json"
done
config third '{"type": "sparsegpt", "pattern": "1:3", "target_modules": ["q_proj", "v_proj"]}' "$calib"
expect 0 "$ft" prune third.json --out third --json # 128 is no multiple of 3: blocks of 126
tail -1 out.txt | grep -q '"sparsity":0.6666' || bad "sparsegpt 1:3: $(tail -1 out.txt)"
expect 0 "$ft" generate --model wanda --prompt 'A duck' --max-new-tokens 2
expect 0 "$ft" prune mag.json --out mag.gguf -q
cmp mag.compress.json mag/compress.json || bad "what is told beside a .gguf"
expect_told 73 'exists already' "$ft" prune mag.json --out mag.gguf
expect 0 "$ft" prune mag.json --out mag.gguf -q --force
expect_told 0 'is complete' "$ft" prune mag.json --out mag --resume
expect_told 78 'mag: was begun with another config' "$ft" prune glob.json --out mag --resume
for m in mag mag.gguf; do # half of the blocks' linears, none of the embedding
    expect 0 "$ft" inspect $m --no-tensors --json
    grep -q '"zeros":0.4342' out.txt || bad "inspect $m: $(cat out.txt)"
done

# recovery keeps zeros: they are what pruning the result by the same share finds again
train() { # NAME METHOD
    cat > "$1.json" << END
{"model": {"path": "nm"}, "method": $2, "data": {"train": "$text", "max_length": 48},
 "optim": {"learning_rate": 0.01, "weight_decay": 0.1}, "train": {"max_steps": 2, "batch_size": 2}, "output": {"dir": "$1"}}
END
    expect 0 "$ft" train "$1.json" -q
}
zeros() { # MODEL: what pruning it 2:4 again loses
    echo "{\"model\": {\"path\": \"$1\"}, \"prune\": {\"pattern\": \"2:4\"}}" > again.json
    expect 0 "$ft" prune again.json --out again --json --force
    tail -1 out.txt | grep -o '"error":[^,]*'
}
train full '{"type": "full", "keep_zeros": true}'
train lora '{"type": "lora", "r": 2, "keep_zeros": true}'
train plain '{"type": "lora", "r": 2}'
[ "$(cat lora/ft_method.json)" = '{"keep_zeros": true}' ] || bad "ft_method.json: $(cat lora/ft_method.json)"
expect 0 "$ft" merge-adapter lora --out merged --type f32
grep -q 'keep-zeros' err.txt && bad "told of zeros that stay"
expect 0 "$ft" merge-adapter plain --out lost --type f32
grep -q '50.0 % of the weights that the adapter changes are 0' err.txt || bad "not told: $(cat err.txt)"
expect_told 65 'lora: keeps the zeros of its base' "$ft" convert lora --out lora.gguf
expect 0 "$ft" convert plain --out plain.gguf
expect 0 "$ft" merge-adapter plain --out kept --type f32 --keep-zeros
for m in full merged kept; do
    [ "$(zeros $m)" = '"error":0' ] || bad "$m lost zeros: $(zeros $m)"
done
[ "$(zeros lost)" = '"error":0' ] && bad "nothing was lost without --keep-zeros"

# whole layers: the same ones by their scores and by name, the same bytes with any threads
for how in block_influence angular; do
    config $how '{"type": "layers", "drop": 2, "importance": "'$how'"}' "$calib"
    expect 0 "$ft" prune $how.json --out $how --threads 1 --json
    list=$(sed -n 's/.*"dropped":\(\[[0-9],[0-9]\]\)}/\1/p' $how/compress.json)
    [ "$(head -n 1 out.txt)" = "$(cat $how/compress.json)" ] || bad "$how: told $(head -n 1 out.txt), written $(cat $how/compress.json)"
    config named '{"type": "layers", "layers": '"$list"'}'
    expect 0 "$ft" prune named.json --out $how.2 -q
    cmp $how/model.safetensors $how.2/model.safetensors || bad "$how: those that are named are others"
    grep -q '"num_hidden_layers": 2' $how/config.json || bad "$how: $(cat $how/config.json)"
done
expect 0 "$ft" generate --model angular --prompt 'A duck' --max-new-tokens 2

wrong() { # PRUNE TEXT [CALIBRATION]
    config wrong "$1" "${3-}"
    expect_told 78 "$2" "$ft" prune wrong.json --out w
}
wrong '{"type": "layers"}' 'prune.drop' "$calib"
wrong '{"type": "layers", "drop": 1}' 'calibration.data: missing'
wrong '{"type": "layers", "drop": 1, "layers": [1]}' 'leave one out'
wrong '{"type": "layers", "layers": [1, 1]}' 'each once'
wrong '{"type": "layers", "layers": [1]}' 'reads no data with these keys' "$calib"
wrong '{"type": "layers", "layers": [1], "target_modules": ["q_proj"]}' 'whole layers'
wrong '{"type": "layers", "drop": 1, "sparsity": 0.5}' 'prune.sparsity' "$calib"
wrong '{"pattern": "4:2"}' 'N from 1 to M - 1'
for pattern in ' 2: 4' '+2:+4' '2:4 ' '2:' ':4' '2:4:8' '0:4' '2:0x4' '-2:4' '1:1000000001'; do
    wrong '{"pattern": "'"$pattern"'"}' 'N of M weights kept'
done
wrong '{"pattern": "2:4", "sparsity": 0.5}' 'leave this out'
wrong '{"pattern": "2:4", "scope": "global"}' 'prune.scope: the pattern 2:4'
wrong '{"type": "sparsegpt", "pattern": "2:3", "block_size": 128}' 'prune.block_size: must be a multiple of 3' "$calib"
wrong '{"target_modules": ["q_proj", "k_porj"]}' 'matches "k_porj"; they are q_proj, k_proj'
wrong '{"target_modules": ["q_proj", "lm_head"]}' 'matches "lm_head"'
wrong '{"sparsity": 1}' 'must be below 1'
wrong '{"type": "wanda"}' 'looks at the inputs'
wrong '{"sparsity": 0.5}' 'reads no data' "$calib"
wrong '{"type": "magnitud"}' 'magnitude'
config odd '{"pattern": "2:5"}'
expect_told 65 'no whole runs of 5' "$ft" prune odd.json --out w
[ -e w ] && bad "w was left"
expect 0 "$ft" prune "$source/configs/compress/wanda.json" --out c -q
finish cli_prune
