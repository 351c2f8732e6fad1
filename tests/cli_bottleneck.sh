#!/usr/bin/env bash
# cli_bottleneck.sh FT SOURCE – adapters of the adapters library with every verb: told apart from PEFT's by their config, their base
# found by its name, over quantised bases and in bf16, refused where nothing can be folded or added.
. "$2/tests/support/cli.sh"

tiny=$source/data/tiny
cat > run.json << END
{"model": {"path": "$tiny"}, "method": {"type": "adapter", "config": "par_bn", "mh_adapter": true},
 "data": {"train": "$source/data/text/tiny.chat.jsonl", "max_length": 96},
 "train": {"max_steps": 2, "batch_size": 4}, "output": {"dir": "out"}}
END
says() { grep -q -- "$1" out.txt err.txt || bad "no \"$1\": $(cat out.txt err.txt)"; }

expect 0 "$ft" check run.json
expect 0 "$ft" train run.json -q
cmp -s out/adapter.safetensors /dev/null && bad "an empty adapter"
grep -q 'library_name: adapter-transformers' out/README.md || bad "the card names another library"
grep -q 'use_safetensors=True' out/README.md || bad "the card does not say how to load it"
expect 0 "$ft" train run.json -q --force
expect 0 "$ft" inspect out --no-tensors
says 'kind  *adapter'
says 'version  *adapters.1.3.0'
says 'is_parallel  *true'
expect 0 "$ft" generate --adapter out --prompt hello --max-new-tokens 3
expect 0 "$ft" eval --adapter out --task loss --data "$source/data/text/tiny.chat.eval.jsonl"
expect 0 "$ft" train run.json -q --out on --set method.init_from=out
expect 65 "$ft" merge-adapter out --out merged
says --adapter
expect 65 "$ft" convert out --out out.gguf
expect 65 "$ft" generate --adapter out=0.5 --prompt hello
says 'stands alone'
expect 65 "$ft" generate --adapter out --adapter out --prompt hello
[ -e merged ] || [ -e out.gguf ] && bad "a refused call left something"

for more in model.quantization.type=nf4 train.precision=bf16; do
    expect 0 "$ft" train run.json -q --out more --force --set $more
done

expect 78 "$ft" train run.json -q --out bad --set method.config=houlsbi
says 'did you mean "houlsby"'
expect 78 "$ft" train run.json -q --out bad --set method.is_paralel=true
says 'did you mean "is_parallel"'
expect 78 "$ft" train run.json -q --out bad --set method.init_from=out --set method.scaling=2
says method.scaling
cp -r out pickle
mv pickle/adapter.safetensors pickle/pytorch_adapter.bin
for verb in inspect "generate --prompt a --adapter" "merge-adapter --out m"; do
    # shellcheck disable=SC2086 # words of the verb
    expect 65 "$ft" $verb pickle
    says use_safetensors=True
done
sed 's/"model_name": "[^"]*"/"model_name": ""/' out/adapter_config.json > pickle/adapter_config.json
expect 65 "$ft" generate --prompt a --adapter pickle
says 'model_name: names no base'
[ -e bad ] && bad "a refused run made its folder"
finish cli_bottleneck
