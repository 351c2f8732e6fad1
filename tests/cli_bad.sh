#!/usr/bin/env bash
# cli_bad.sh FT SOURCE – bad inputs through the program: the documented exit code, error lines that name the file, line or
# key, nothing left behind, no signal. One fault is planted in each; everything else is the embedded model.
set -u
ft=$1
source=$2
dir=$(mktemp -d "${TMPDIR:-/tmp}/ft-bad-XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
failures=0
cases=0

# bad CODE TEXT OUTPUT COMMAND…: exit code, TEXT on stderr, stdout empty, and OUTPUT (or OUTPUT.tmp) not
# there. A missed tolerance (81) still prints its proof.
bad() {
    local code=$1 text=$2 output=$3 got
    shift 3
    cases=$((cases + 1))
    timeout 60 "$@" >out 2>err </dev/null
    got=$?
    [ $got -eq "$code" ] || { echo "FAILED: $*: exit $got instead of $code: $(tail -n 1 err)"; failures=$((failures + 1)); }
    grep '^ft: error: ' err | grep -qF -- "$text" ||
        { echo "FAILED: $*: no error line with '$text': $(tail -n 2 err)"; failures=$((failures + 1)); }
    [ ! -s out ] || [ $code -eq 81 ] || { echo "FAILED: $*: results on stdout"; failures=$((failures + 1)); }
    if [ "$output" != - ] && compgen -G "$output*" >/dev/null; then
        echo "FAILED: $*: left $(compgen -G "$output*")"
        failures=$((failures + 1))
        rm -rf "$output"*
    fi
    # what train refuses, check refuses, by the same code and words; only arithmetic it cannot foresee
    [ "$2" = train ] && [ "$code" -ne 80 ] && [ "$code" -ne 64 ] || return
    cp err err.train
    shift 2
    timeout 60 "$ft" check "$@" >out.check 2>err </dev/null
    got=$?
    [ $got -eq "$code" ] || { echo "FAILED: check $*: exit $got instead of $code: $(tail -n 1 err)"; failures=$((failures + 1)); }
    diff <(grep '^ft: error: ' err.train) <(grep '^ft: error: ' err) >difference ||
        { echo "FAILED: train and check $*: $(cat difference)"; failures=$((failures + 1)); }
}

model() { # NAME: a copy of the embedded model
    rm -rf "$1"
    cp -r "$source/data/tiny" "$1"
}
config() { # NAME MODEL TRAIN [MORE]
    printf '{"model": {"path": "%s"}, "method": {"type": "lora", "r": 2}, "data": {"train": "%s", "max_length": 64},
 "train": {"max_steps": 2, "batch_size": 2}, "output": {"dir": "result"}%s}\n' "$2" "$3" "${4:-}" >"$1"
}

printf '{"text": "One warm day."}\n{"text": "Two cold nights."}\n' >good.jsonl
model m
config good.json m good.jsonl

# --- configs: 78, named by file, line, column and key -------------------------------------------------------
bad 66 'none.json' result "$ft" train none.json
printf '{"model": {"path": "m"},}' >c.json
bad 78 'c.json:1:' result "$ft" train c.json
printf '{"model": {"path": "m"}, "model": {}}' >c.json
bad 78 'model' result "$ft" train c.json
config c.json m good.jsonl ', "optim": {"learning_rat": 1}'
bad 78 'did you mean "learning_rate"' result "$ft" train c.json
config c.json m good.jsonl ', "optim": {"learning_rate": "1e-4"}'
bad 78 'optim.learning_rate' result "$ft" train c.json
config c.json m good.jsonl ', "optim": {"lr_scheduler_type": "cosin"}'
bad 78 'did you mean "cosine"' result "$ft" train c.json
bad 78 'method.r' result "$ft" train good.json --set method.r=0
bad 78 'method.lora_dropout' result "$ft" train good.json --set method.lora_dropout=1.5
bad 78 'method.target_modules' result "$ft" train good.json --set 'method.target_modules=["query"]'
bad 78 'regex' result "$ft" train good.json --set 'method.target_modules=(q_proj'
bad 78 'train.keep_best' result "$ft" train good.json --set train.keep_best=true
bad 78 'optim.momentum: unknown key' result "$ft" train good.json --set optim.momentum=0.9
bad 78 'optim.adam_beta1: unknown key' result "$ft" train good.json --set optim.type=sgd --set optim.adam_beta1=0.9
bad 78 'optim.nesterov: needs momentum' result "$ft" train good.json --set optim.type=sgd --set optim.nesterov=true
bad 78 'optim.eps: must be two numbers' result "$ft" train good.json --set optim.type=adafactor --set optim.eps=1e-30
bad 78 'optim.warmup_init: needs relative_step' result "$ft" train good.json --set optim.type=adafactor --set optim.warmup_init=true
bad 78 'optim.learning_rate: relative_step has rates of its own' result "$ft" train good.json --set optim.type=adafactor --set optim.relative_step=true --set optim.learning_rate=1e-3
bad 78 'optim.cooldown_steps: the schedule "rewarm" does not use it' result "$ft" train good.json --set optim.lr_scheduler_type=rewarm --set optim.cooldown_steps=1
bad 78 'optim.anneal_steps: 1, and 2 in the last phase), and the run has 2' result "$ft" train good.json --set optim.lr_scheduler_type=infinite --set optim.cooldown_steps=1 --set optim.anneal_steps=2
bad 78 'objective.type' result "$ft" train good.json --set objective.type=dpoo
bad 64 '--ouput' result "$ft" train good.json --ouput x
printf '\xef\xbb\xbf{}' >c.json
bad 78 'c.json:1:1' result "$ft" train c.json
printf '{"train": {"seed": 9007199254740993}}' >c.json
bad 78 'c.json:1:' result "$ft" train c.json

# vera, ia3
vector() { # METHOD KEYS: good.json of that method
    sed "s/\"type\": \"lora\", \"r\": 2/\"type\": \"$1\"${2:-}/" good.json >c.json
}
for key in r=0 projection_prng_key=-1 projection_prng_key=4294967296 d_initial=0 vera_dropout=1 \
    save_projection=1 bias=lora_only lora_alpha=8; do
    vector vera
    bad 78 "method.${key%=*}" result "$ft" train c.json --set method.$key
done
vector vera ', "target_modules": ["v_proj", "embed_tokens"]'
bad 78 'method.target_modules: "model.embed_tokens" is an embedding' result "$ft" train c.json
vector ia3 ', "target_modules": ["v_proj"], "feedforward_modules": ["v_proj", "up_proj"]'
bad 78 'method.feedforward_modules: "up_proj" is not among target_modules' result "$ft" train c.json
for key in 'feedforward_modules=[1]' 'feedforward_modules=(up' 'bias=none' 'r=8' 'target_modules=["query"]'; do
    vector ia3
    bad 78 "method.${key%%=*}" result "$ft" train c.json --set "method.$key"
done

# a rank that no decomposition has, by the key it came from
vector lora ', "r": 2, "init_lora_weights": "olora", "rank_pattern": {"k_proj": 49}'
bad 78 'method.rank_pattern: 49 is above' result "$ft" train c.json

# --- data: 65, named by file and line, before step 1 -----------------------------------------------------------
bad 66 'nothing.jsonl' result "$ft" train good.json --set data.train=nothing.jsonl
printf '{"text": "fine"}\n{"text": "cut\n' >d.jsonl
bad 65 'd.jsonl:2' result "$ft" train good.json --set data.train=d.jsonl
printf '{"text": "fine"}\n{"txt": "what"}\n' >d.jsonl
bad 65 'd.jsonl:2' result "$ft" train good.json --set data.train=d.jsonl
printf '{"text": "fine"}\n{"text": 3}\n' >d.jsonl
bad 65 'd.jsonl:2' result "$ft" train good.json --set data.train=d.jsonl
printf '{"text": "\xff\xfe"}\n' >d.jsonl
bad 65 'd.jsonl:1' result "$ft" train good.json --set data.train=d.jsonl
: >d.jsonl
bad 65 'd.jsonl' result "$ft" train good.json --set data.train=d.jsonl
printf '{"messages": [{"role": "user", "content": "hi"}]}\n' >d.jsonl
bad 65 'd.jsonl:1' result "$ft" train good.json --set data.train=d.jsonl
printf '{"messages": [{"role": "wizard", "content": 1}]}\n' >d.jsonl
bad 65 'd.jsonl:1' result "$ft" train good.json --set data.train=d.jsonl
printf '{"input_ids": [1, 2, 99999], "labels": [1, 2, 99999]}\n' >d.jsonl
bad 65 'd.jsonl:1' result "$ft" train good.json --set data.train=d.jsonl
printf '{"input_ids": [1, 2], "labels": [1]}\n' >d.jsonl
bad 65 'd.jsonl:1' result "$ft" train good.json --set data.train=d.jsonl
gzip -c good.jsonl | head -c 40 >d.jsonl.gz
bad 65 'd.jsonl.gz' result "$ft" train good.json --set data.train=d.jsonl.gz

# --- models: 65 and 66, named by file and tensor ------------------------------------------------------------------
bad 66 'nowhere' result "$ft" train good.json --set model.path=nowhere
model b && rm b/config.json
bad 66 'config.json' result "$ft" train good.json --set model.path=b
model b && sed -i 's/"llama"/"lama"/' b/config.json
bad 65 'model_type' result "$ft" train good.json --set model.path=b
model b && sed -i 's/"hidden_size": [0-9]*/"hidden_size": 100/' b/config.json
bad 65 'b/' result "$ft" train good.json --set model.path=b
model b && truncate -s -1 b/model.safetensors
bad 65 'b/model.safetensors' result "$ft" train good.json --set model.path=b
model b && printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of=b/model.safetensors conv=notrunc status=none
bad 65 'b/model.safetensors' result "$ft" train good.json --set model.path=b
model b && printf 'garbage!' >b/tokenizer.json
bad 65 'b/tokenizer.json' result "$ft" train good.json --set model.path=b
model b && rm b/tokenizer.json
bad 66 'the model has none' result "$ft" train good.json --set model.path=b
model b && rm b/model.safetensors && printf '\x80\x02' >b/pytorch_model.bin
bad 65 'pytorch_model.bin' result "$ft" train good.json --set model.path=b
printf 'GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0' >b.gguf
bad 65 'b.gguf' result "$ft" train good.json --set model.path=b.gguf
bad 65 'b.gguf' result "$ft" inspect b.gguf
mkdir -p s && cp m/config.json m/tokenizer*.json s/ &&
    printf '{"metadata": {}, "weight_map": {"model.norm.weight": "../m/model.safetensors"}}' >s/model.safetensors.index.json
bad 65 'model.safetensors.index.json' result "$ft" train good.json --set model.path=s

# --- adapters, merging -------------------------------------------------------------------------------------------------
"$ft" train good.json --out a -q >/dev/null 2>&1 || { echo "FAILED: the good config"; failures=$((failures + 1)); }
bad 73 'a' - "$ft" train good.json --out a
bad 66 'gone' merged "$ft" merge-adapter gone --base m --out merged
cp -r a a2 && sed -i 's/"LORA"/"LOHA"/' a2/adapter_config.json
bad 65 'peft_type' merged "$ft" merge-adapter a2 --base m --out merged
rm -rf a2 && cp -r a a2 && sed -i 's/"r": 2/"r": 3/' a2/adapter_config.json
bad 65 'lora_A' merged "$ft" merge-adapter a2 --base m --out merged
rm -rf a2 && cp -r a a2 && truncate -s 100 a2/adapter_model.safetensors
bad 65 'adapter_model.safetensors' merged "$ft" merge-adapter a2 --base m --out merged
bad 81 'tolerance' merged "$ft" merge-adapter a --base m --out merged --tolerance 0
mkdir there
bad 73 'there' - "$ft" merge-adapter a --base m --out there
bad 64 'type' merged "$ft" merge-adapter a --base m --out merged --type q9

# --- one mistake, one line that says which -----------------------------------------------------------------------
once() { # TEXT: the last error was one line with TEXT
    [ "$(grep -c '^ft: error: ' err)" -eq 1 ] && grep -qF -- "$1" err && return
    echo "FAILED: not one line with '$1': $(cat err)"
    failures=$((failures + 1))
}
printf '{"model": {"path": 3}, "data": {"train": "good.jsonl"}, "output": {"dir": "result"}}' >c.json
bad 78 'c.json:1:20: model.path: must be a path, not a number' result "$ft" train c.json
once 'must be a path'
printf '{"model": [], "data": {"train": "good.jsonl"}, "output": {"dir": "result"}}' >c.json
bad 78 'model: must be an object' result "$ft" train c.json
once 'must be an object'
printf '{"model": {"path": "m"}, "data": {"train": "good.jsonl"}, "output": {"dir": []}}' >c.json
bad 78 'output.dir' result "$ft" check c.json
once 'must be a path, not a list'
printf '{"model": {"path": "m"}, "data": {"train": "good.jsonl"}, "output": {"dir": "result.gguf"}}' >c.json
bad 78 'output.dir: a run writes a folder' result.gguf "$ft" train c.json
once 'choose another'
printf '# a run\nmodel:\n  path: m\n' >run.yaml
bad 78 'this is YAML; a config of ft is JSON' result "$ft" train run.yaml
cp run.yaml run.json
bad 78 'this is YAML' result "$ft" check run.json
bad 64 '--model: given twice' - "$ft" score --model m --model m
bad 64 '--threads: given twice' - "$ft" train good.json --threads 1 --threads=2
bad 66 'some-org/Some-Model-1B: no such folder here; if this is a name on a model hub' - \
    "$ft" generate --model some-org/Some-Model-1B --prompt x
config c.json some-org/Some-Model-1B good.jsonl
bad 66 'name on a model hub' result "$ft" train c.json
bad 66 'name on a model hub' - "$ft" inspect some-org/Some-Model-1B
bad 64 'is an adapter, not a model' - "$ft" generate --model a --prompt x
config c.json a good.jsonl
bad 66 'is an adapter, not a model' result "$ft" check c.json
cp -r a bare-adapter && rm bare-adapter/tokenizer* bare-adapter/chat_template.jinja
bad 66 'is an adapter that holds no tokenizer' - "$ft" tokenize --model bare-adapter
# one thing given for another, and names on a hub in each place a path may stand
bad 66 'm: is a model, not an adapter' - "$ft" score --model m --adapter m
bad 66 'm: is a model, not an adapter' mm "$ft" merge-adapter m --out mm
bad 66 'is a file; an adapter is the folder' - "$ft" score --model m --adapter a/adapter_config.json
bad 66 'is one file of a model; give the folder' - "$ft" score --model m/model.safetensors
bad 66 'is one file of a model; give the folder' - "$ft" tokenize --model m/tokenizer.json
bad 66 'holds no adapter_config.json' result "$ft" train good.json --set method.init_from=.
bad 66 'org/adapter: no such folder here; if this is a name on a model hub' - "$ft" score --model m --adapter org/adapter
bad 66 'org/adapter: no such folder here; if this is a name on a model hub' mm "$ft" merge-adapter org/adapter --out mm
bad 66 'org/adapter: no such folder here' result "$ft" train good.json --set method.init_from=org/adapter
for place in https://hub.example/org/name hf://org/name; do
    bad 66 "$place: no such folder here; if this is a name on a model hub" - "$ft" score --model "$place"
done
for place in org/data hf://datasets/org/data; do
    bad 66 "$place: no such file here; if this is a name on a data hub" result "$ft" train good.json --set "data.train=$place"
    bad 66 "$place: no such file here" - "$ft" eval --model m --task perplexity --data "$place"
done
mkdir nothing
bad 66 'nothing: this folder holds no data files' result "$ft" train good.json --set data.train=nothing
# a misspelled key is not missing as well, and what depends on a wrong one waits
for typo in model:modle path:pth data:dat output:outptu dir:dri; do
    sed "s/\"${typo%:*}\"/\"${typo#*:}\"/" good.json >c.json
    bad 78 "${typo#*:}: unknown key" - "$ft" train c.json
    once 'ft: error'
done
config c.json m good.jsonl
bad 78 'data.train.pth: unknown key; did you mean "path"' result "$ft" train c.json --set 'data.train={"pth": "good.jsonl"}'
once 'ft: error'
printf '{"model": {"from_config": 3}, "data": {"train": "good.jsonl"}, "output": {"dir": "result"}}' >c.json
bad 78 'model.from_config: must be a path' result "$ft" train c.json
once 'ft: error'
bad 78 'data.evla: unknown key' result "$ft" train good.json --set data.evla=good.jsonl --set train.keep_best=true --set train.eval_every=1
once 'ft: error'
bad 78 'train.eval_every: must be an integer' result "$ft" train good.json --set data.eval=good.jsonl --set train.keep_best=true --set train.eval_every=x
once 'ft: error'
bad 78 'method.layers_pattern: must be a name' result "$ft" train good.json --set method.layers_pattern=3
once 'ft: error'
bad 78 'the regex "q_proj" matches no module of this llama model; it must match whole paths' result "$ft" train good.json --set method.target_modules=q_proj
mkdir mlx && printf '{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}' >mlx/adapter_config.json
bad 65 'mlx-lm adapter' - "$ft" score --model m --adapter mlx
bad 65 'mlx-lm adapter' result "$ft" train good.json --set method.init_from=mlx
bad 65 'mlx_lm.fuse' - "$ft" score --model m --adapter mlx
golden=$source/tests/golden/peft/llama_lora/adapter
mkdir kind && cp "$golden"/adapter_model.safetensors kind/ && grep -v peft_type "$golden/adapter_config.json" >kind/adapter_config.json
bad 65 'kind/adapter_config.json:1:1: peft_type: this key is missing' - "$ft" score --model m --adapter kind
bad 78 'method.init_from: is an adapter of type LORA, and method.type "prompt_tuning" goes on from PROMPT_TUNING' result \
    "$ft" train good.json --set method.type=prompt_tuning --set method.num_virtual_tokens=2 --set "method.init_from=$golden"
bad 64 '--block-size: must be a power of two from 32 to 4096, not 100' result "$ft" convert m --out result --type nf4 --block-size 100
grep -q -- --set err && { echo "FAILED: a flag is called --set"; failures=$((failures + 1)); }
cp good.jsonl lines.json
bad 65 'lines.json: these are JSON lines' result "$ft" train good.json --set data.train=lines.json
for list in '[{"text": "a b"}]' '[\n{"text": "a b"},\n{"text": "c d"}\n]'; do
    printf "$list" >list.jsonl
    bad 65 'list.jsonl:1:1: this is a list of records' result "$ft" train good.json --set data.train=list.jsonl
done

printf '{\n  "text": "a b"\n}\n' >laid.jsonl
bad 65 'laid.jsonl:1:1: a record begins here and goes on in further lines' result "$ft" train good.json --set data.train=laid.jsonl
for key in target_modules exclude_modules; do
    bad 78 "method.$key: regex \"(q_proj\": missing closing" result "$ft" train good.json --set "method.$key=\"(q_proj\""
    once 'ft: error'
done
bad 78 'method.rank_pattern: regex' result "$ft" train good.json --set 'method.rank_pattern={"q_proj": 2, "(up": 3}'
once 'ft: error'
bad 78 'method.modules_to_save: must be a list of module names, at least one' result "$ft" train good.json --set 'method.modules_to_save=[]'
model renamed && sed -i 's/model\.layers\.1\.mlp\.up_proj\.weight/madel.layers.1.mlp.up_proj.weight/' renamed/model.safetensors
config c.json renamed good.jsonl
bad 65 'it holds "madel.layers.1.mlp.up_proj.weight", which none' result "$ft" train c.json

# --- evaluating, scoring, generating --------------------------------------------------------------------------------------
printf '{"model": {"path": "m"}, "tasks": [{"name": "t", "type": "perplexit", "data": "good.jsonl"}]}' >e.json
bad 78 'perplexity' - "$ft" eval e.json
printf '{"tokens": [1, 2], "start": 0}\n' >s.jsonl
bad 65 's.jsonl:1' - "$ft" score --model m --data s.jsonl
printf 'no json\n' >s.jsonl
bad 65 's.jsonl:1' - "$ft" score --model m --data s.jsonl
bad 65 'list.jsonl:1:1: this is a list of records' - "$ft" score --model m --data list.jsonl
bad 65 'laid.jsonl:1:1: a record begins here' - "$ft" score --model m --data laid.jsonl
bad 65 'list.jsonl:1:1: this is a list of records' - "$ft" generate --model m --data list.jsonl
printf '{"model": {"path": "m"}, "tasks": [{"name": "t", "type": "perplexity", "data": "list.jsonl"}]}' >e.json
bad 65 'list.jsonl:1:1: this is a list of records' - "$ft" eval e.json
bad 64 'temperature' - "$ft" generate --model m --prompt x --temperature -1
bad 66 'nowhere' - "$ft" generate --model nowhere --prompt x
bad 80 'step 2' - "$ft" train good.json --out diverged --set optim.learning_rate=1e30 --set optim.max_grad_norm=0 --set train.max_steps=20 --set optim.lr_scheduler_type=constant
# 80 names what is no number first: the 7th weight of the file, a layer, a trained value
nan() { # FOLDER TENSOR BYTES: overwrites the first values of a bf16 tensor
    model "$1"
    local n=$((0x$(head -c 8 "$1/model.safetensors" | od -An -tx8 | tr -d ' ')))
    local at=$(head -c $((n + 8)) "$1/model.safetensors" | tail -c "$n" |
        sed 's/.*"'"$2"'":{[^}]*"data_offsets":\[\([0-9]*\),.*/\1/')
    printf "$3" | dd of="$1/model.safetensors" bs=1 seek=$((n + 8 + at)) conv=notrunc status=none
}
nan n model.layers.2.mlp.up_proj.weight '\xc0\x7f'
config n.json n good.jsonl
bad 80 'the weight model.layers.2.mlp.up_proj.weight holds NaN (n/model.safetensors)' - "$ft" train n.json --out none
grep -q "get the model's files again" err && ! grep -q 'learning rate' err || { echo "FAILED: advice on a broken base: $(cat err)"; failures=$((failures + 1)); }
printf '{"text": "One warm day."}\n' >one.jsonl
bad 80 'the weight model.layers.2.mlp.up_proj.weight holds NaN (n/model.safetensors)' - "$ft" score --model n --data one.jsonl
bad 80 'the weight model.layers.2.mlp.up_proj.weight holds NaN (n/model.safetensors)' - "$ft" generate --model n --prompt One
# 64 times 3.4e38: each is finite, their products' sums are not
nan n model.layers.1.mlp.up_proj.weight "$(printf '\\x7f\\x7f%.0s' {1..64})"
bad 80 'of layer 1 is' - "$ft" score --model n --data one.jsonl
bad 80 'of layer 1 is' - "$ft" train n.json --out none2 --set train.gradient_checkpointing=true
grep -q 'the model itself gives it' err || { echo "FAILED: advice before the first update: $(cat err)"; failures=$((failures + 1)); }
mkdir locked && chmod 500 locked
if [ "$(id -u)" -ne 0 ]; then bad 77 'locked' - "$ft" train good.json --out locked/run; fi

printf '%d cases: %d passed, %d failed\n' "$cases" $((cases - failures)) "$failures"
[ "$failures" -eq 0 ]
