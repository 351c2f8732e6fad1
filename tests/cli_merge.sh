#!/usr/bin/env bash
# cli_merge.sh FT SOURCE – whole models as one from outside: recipes as YAML and JSON, layers stacked, an adapter folded in,
# vocabularies that differ, what a wrong recipe is told, and that nothing is left of what failed or was killed.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny
train() { # NAME MODEL METHOD
    cat > "$1.json" << END
{"model": $2, "method": $3, "data": {"train": "$source/data/text/tiny.chat.jsonl", "max_length": 48},
 "optim": {"learning_rate": 0.01}, "train": {"max_steps": 1, "batch_size": 1}, "output": {"dir": "$1"}}
END
    expect 0 "$ft" train "$1.json" -q
}
cp -r "$tiny" a
train b '{"path": "a"}' '{"type": "full"}'
train l '{"path": "a"}' '{"type": "lora", "r": 2, "target_modules": ["q_proj", "down_proj"]}'
cat > c.json << END
{"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 3}},
 {"model": "b", "parameters": {"weight": {"filter": "mlp", "value": -2}}}], "parameters": {"weight": 1}}
END
expect 0 "$ft" merge c.json --out c -q

cat > ties.yml << END
merge_method: ties # as mergekit reads it
base_model: a
models:
  - model: b
    parameters:
      weight: 1
      density: [1e-1, 0.9]
  - model: c
    parameters: {weight: {filter: mlp, value: 0.5}, density: 0.3}
parameters: {weight: 0.25}
END
expect 0 "$ft" merge ties.yml --out m --json
grep -q '"name":"model.embed_tokens.weight","models":\["b","c","a"\],"norm":' out.txt || bad "--json: $(head -c 300 out.txt)"
for f in config.json tokenizer.json merge_recipe.json model.safetensors; do [ -e m/$f ] || bad "m has no $f"; done
expect 0 "$ft" merge m/merge_recipe.json --out n --threads 1
cmp m/model.safetensors n/model.safetensors || bad "its recipe gives another model"
cmp m/merge_recipe.json n/merge_recipe.json || bad "and another recipe"
expect 0 "$ft" generate --model m --prompt 'A duck' --max-new-tokens 4
expect_told 73 'exists already' "$ft" merge ties.yml --out m
expect 0 "$ft" merge ties.yml --out m --force
expect_told 73 'is a model of the recipe' "$ft" merge ties.yml --out b --force
expect 0 "$ft" merge ties.yml --out m.gguf --set out_dtype=float16
[ -e m.merge_recipe.json ] || bad "no recipe beside the .gguf"

# layers on top of each other; an adapter becomes part of the model before
layers=$(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' a/config.json)
cat > deep.yml << END
merge_method: passthrough
slices:
- sources: [{model: a, layer_range: [0, $layers]}]
- sources: [{model: b, layer_range: [1, $layers]}]
END
expect 0 "$ft" merge deep.yml --out deep
grep -q "\"num_hidden_layers\": *$((2 * layers - 1))" deep/config.json || bad "layers: $(cat deep/config.json)"
expect 0 "$ft" generate --model deep --prompt 'A duck' --max-new-tokens 2
train k '{"path": "a"}' '{"type": "lora", "r": 2, "target_modules": ["v_proj"], "modules_to_save": ["lm_head"]}'
for k in l k; do
    echo "{\"merge_method\": \"linear\", \"models\": [{\"model\": \"a+$k\"}], \"parameters\": {\"weight\": 1}, \"dtype\": \"float32\"}" > lora.json
    expect 0 "$ft" merge lora.json --out folded --force
    expect 0 "$ft" merge-adapter $k --base a --out merged --type f32 --force
    cmp folded/model.safetensors merged/model.safetensors || bad "a+$k is not what merge-adapter makes"
done
expect 0 "$ft" merge "$source/configs/merge.yml" --out half --set 'models=[{"model": "a+l", "parameters": {"weight": 1}}]' \
    --set base_model=a

# What is wrong is told where it stands, and leaves nothing.
wrong() { # CODE TEXT [SED…]: ties.yml, changed
    local code=$1 text=$2
    shift 2
    sed "$@" ties.yml > w.yml
    expect_told "$code" "$text" "$ft" merge w.yml --out w
    [ ! -e w ] || bad "$text: something was written"
}
wrong 78 'w.yml:1:1: merge_method: "tis" is unknown; did you mean "ties"?' 's/ties/tis/'
wrong 78 'models[0].parameters.densty: ties has no such parameter; did you mean "density"?' '0,/density/s//densty/'
wrong 78 'w.yml:2:1: base_modell: unknown key' 's/base_model/base_modell/'
wrong 78 'base_model: missing; ties needs one' '/base_model/d'
wrong 78 'weight: missing; ties needs it of c' '/^parameters/d'
wrong 78 'must be a number, a list of them, or {filter, value}' 's/weight: 1$/weight: one/'
wrong 78 'is no parameter that a model may have' 's/weight: 1$/lambda: 1/'
wrong 78 'weight: 1e+39 is beyond the numbers of f32' 's/weight: 1$/weight: 1e39/'
wrong 78 'weight: -1e+39 is beyond' 's/weight: 1$/weight: [1, -1e39, one]/'
for gap in 0.6 -0.6 -0.5; do
    wrong 78 'must lie between 0 and 1' -e 's/ties/della/;s/density: \[.*/density: 0.5/' -e "s/weight: 1\$/&\\n      epsilon: $gap/"
done
wrong 78 'gamma is a share' -e 's/ties/breadcrumbs/' -e 's/weight: 1$/&\n      gamma: -5/'
wrong 78 'modules: is of models with several modules' 's/^models/modules/'
wrong 78 'anchors (&x) are not read' 's/weight: 1$/weight: \&x 1/'
wrong 78 'the same model is here twice' 's/model: c/model: b/'
wrong 78 'dtype: "int8" is no type of a merge' '$a dtype: int8'
wrong 78 'either models or slices' '$a slices: []'
wrong 78 'model_stock takes at least 3 models' -e 's/ties/model_stock/;/- model: c/,+1d' -e '/parameters/,/density/d;$d'
expect_told 64 'ft merge-adapter folds it' "$ft" merge l --out w
wrong 66 'gone: no such model' 's/model: c/model: gone/'
sed 's/\[1, /[0, /; s/\[0, [0-9]*\]/[0, 99]/' deep.yml > w.yml
expect_told 78 'layer_range: a has' "$ft" merge w.yml --out w
sed 's/passthrough/linear/; s/^- sources: \[{model: b/- sources: [{model: c, layer_range: [0, 1]}, {model: b/' deep.yml > w.yml
expect_told 78 'sources of a slice have the same number' "$ft" merge w.yml --out w
sed 's/"vocab_size": 640/"vocab_size": 704/' "$tiny/config.json" > wider.json
train wide "{\"from_config\": \"wider.json\", \"tokenizer\": \"a\"}" '{"type": "full"}'
wrong 65 'tokenizer_source: union, base, or a model' 's/model: c/model: wide/'
sed 's/model: c/model: wide/; $a tokenizer_source: base' ties.yml > w.yml
expect 0 "$ft" merge w.yml --out narrow --set 'dtype=float32'
grep -q '"vocab_size": *640' narrow/config.json || bad "vocabulary: $(cat narrow/config.json)"
# special tokens are those of the tokenizer, in the config too
cp -r wide odd && sed -i 's/"bos_token_id": 0/"bos_token_id": 699/; s/"pad_token_id": 0/"pad_token_id": 700/' odd/config.json
sed 's/model: c/model: a/; s/base_model: a/base_model: odd/; $a tokenizer_source: a' ties.yml > w.yml
ids() { tr -d ' \n' < "$1/config.json" | grep -o '"[a-z]*_token_id":\(\[[^]]*\]\|[^,}]*\)' | sort; }
sed 's/model: c/model: odd/; $a tokenizer_source: c' ties.yml > x.yml # none of the models that are merged
for recipe in w x; do
    expect 0 "$ft" merge $recipe.yml --out ids --force
    [ "$(ids ids)" = "$(ids a)" ] || bad "$recipe: special tokens: $(ids ids)"
done
sed 's/model: c/model: odd/; s/base_model: a/base_model: odd/; $a tokenizer_source: base' ties.yml > w.yml
expect 0 "$ft" merge w.yml --out ids --force
[ "$(ids ids)" = "$(ids a | grep eos)" ] || bad "ids that are no tokens: $(ids ids)"
sed 's/"model_type": "llama"/"model_type": "mistral"/; s/Llama/Mistral/' a/config.json > x.json
cp -r a other && cp x.json other/config.json
wrong 65 'models of one family are merged' 's/model: c/model: other/'

# A search: the start is the first line, the best gives the same bytes again, and what was cut short goes on as it would have.
cat > search.json << END
{"genome": {"models": ["b", "c"], "merge_method": "task_arithmetic", "base_model": "a", "layer_granularity": 2,
            "filters": ["mlp"]},
 "tasks": [{"type": "perplexity", "data": "text.txt", "limit": 1, "weight": 2}], "max_fevals": 8, "population_size": 4,
 "seed": 5}
END
head -c 300 "$source/data/text/tiny.eval.txt" > text.txt
echo '{"query": 1}' > data.jsonl
expect 0 "$ft" merge search.json --out s --json
grep -q '"evaluations":8,"best_score":' out.txt || bad "search: $(cat out.txt)"
head -n 1 s/evolve.jsonl | grep -q '^{"evaluation":1,"generation":0,"genotype":\[0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5\],"score":' ||
    bad "the start: $(head -n 1 s/evolve.jsonl)"
[ "$(wc -l < s/evolve.jsonl)" = 8 ] || bad "lines: $(wc -l < s/evolve.jsonl)"
expect 0 "$ft" merge s/best_recipe.json --out best
cmp s/model.safetensors best/model.safetensors || bad "best_recipe.json gives another model"
mkdir t u && cp s/evolve_config.json t && cp s/evolve_config.json u && head -n 6 s/evolve.jsonl > t/evolve.jsonl && printf '{"evaluation":7,"gen' >> t/evolve.jsonl
expect 0 "$ft" merge search.json --out t --resume
cmp s/evolve.jsonl t/evolve.jsonl || bad "a search that goes on has other lines"
cmp s/model.safetensors t/model.safetensors || bad "and another result"
expect 0 "$ft" merge search.json --out t --resume --set max_fevals=9
[ "$(wc -l < t/evolve.jsonl)" = 9 ] && [ "$(head -n 8 t/evolve.jsonl)" = "$(cat s/evolve.jsonl)" ] || bad "one more evaluation: $(cat t/evolve.jsonl)"
# scores are of the same recipe, models and data alone
others() { # WHAT COMMAND…
    local what=$1 was
    shift
    was=$(cat t/* | sha256sum)
    expect_told 78 'another recipe, other models or other data' "$@" "$ft" merge search.json --out t --resume
    [ "$(cat t/* | sha256sum)" = "$was" ] || bad "$what: the search was changed"
}
with() { # FILE BY COMMAND…: FILE is another one for so long
    local file=$1 by=$2 rc
    shift 2
    mv "$file" was.bin && cp "$by" "$file"
    "$@"
    rc=$?
    mv was.bin "$file"
    return $rc
}
sed 's/"limit": 1/"limit": 2/' search.json > limit.json
sed 's/"seed": 5/"seed": 6/' search.json > seed.json
sed 's/"models": \["b", "c"\]/"models": ["c", "b"]/' search.json > turned.json
sed 's/rms_norm_eps": 1e-05/rms_norm_eps": 1e-04/' b/config.json > eps.json
head -c 200 text.txt > short.txt
for by in limit seed turned; do others $by with search.json $by.json; done
others data with text.txt short.txt
others model with b/model.safetensors c/model.safetensors
others base with a/model.safetensors c/model.safetensors
others config with b/config.json eps.json
expect_told 78 'another recipe' "$ft" merge search.json --out t --resume --set dtype=bfloat16
expect_told 78 'another recipe' "$ft" merge search.json --out t --resume --precision bf16
mkdir old && cp s/evolve.jsonl old && expect_told 73 'has no evolve_config.json' "$ft" merge search.json --out old --resume
cp s/evolve_config.json old && sed -i '1s/0.5/0.25/' old/evolve.jsonl
expect_told 65 'is of another recipe' "$ft" merge search.json --out old --resume
for score in '' ',"score":"1"' ',"score":[1]'; do
    sed "1s/,\"score\".*/$score}/" s/evolve.jsonl > u/evolve.jsonl
    expect_told 65 'line 1 has no score' "$ft" merge search.json --out u --resume
done
expect_told 73 'exists already' "$ft" merge search.json --out t
expect_told 66 'no search to go on with' "$ft" merge search.json --out new --resume
expect_told 64 '--resume' "$ft" merge ties.yml --out new --resume
expect_told 78 'genome.base_model: missing' "$ft" merge search.json --out new --set 'genome={"models": ["a", "b"], "merge_method": "ties"}'
long=$(printf 'n%.0s' {1..300}) # no name of a file
for where in models base_model tokenizer_source; do
    [ $where = models ] && value="[\"$long\", \"b\"]" || value="\"$long\""
    expect_told 78 "name too long" "$ft" merge search.json --out new --set "genome.$where=$value"
done
expect_told 78 'genome.models: the same model is here twice' "$ft" merge search.json --out new --set 'genome.models=["b", "c", "./b"]'
expect_told 78 'does not divide' "$ft" merge search.json --out new --set genome.layer_granularity=3
expect_told 78 'tasks.metric' "$ft" merge search.json --out new --set 'tasks=[{"type": "perplexity", "data": "text.txt", "metric": "acc"}]'

# A recipe that fails takes nothing away, and leaves nothing.
kept=$(cat s/evolve.jsonl s/best_recipe.json s/model.safetensors | sha256sum)
fails() { # CODE TEXT SET
    local out
    for out in s new; do
        expect_told "$1" "$2" "$ft" merge search.json --out $out --force --set "$3"
        [ "$(wc -l < err.txt)" = 1 ] && ! grep -q '\.tmp-' err.txt || bad "$3: $(cat err.txt)"
    done
    [ "$(cat s/evolve.jsonl s/best_recipe.json s/model.safetensors | sha256sum)" = "$kept" ] || bad "$3: the earlier result is gone"
    [ ! -e new ] || bad "$3: something was written"
}
fails 66 'gone: no such model' 'genome.models=["b", "gone"]'
fails 66 'gone' 'genome.models=["b", "c+gone"]'
fails 66 'gone: no such model' 'genome.base_model=gone'
fails 66 'gone: no such model' 'genome.tokenizer_source=gone'
fails 78 'dtype: "int64" is no type of a merge' dtype=int64
for data in '"gone.txt"' '["text.txt", "gone.txt"]' '{"path": "gone*.txt"}'; do
    fails 66 'gone' "tasks=[{\"type\": \"loss\", \"metric\": \"loss\", \"data\": $data}]"
done
fails 78 'can be read once' 'tasks=[{"type": "loss", "metric": "loss", "data": "-"}]'
fails 65 'data.jsonl:1' 'tasks=[{"type": "multiple_choice", "data": "data.jsonl"}]'
fails 78 'sources of a slice have the same number' 'genome={"models": ["b", "deep"], "merge_method": "linear", "smooth": true}'

# A mean has config and tokenizer of its base, which is no source of it.
mean='{"models": ["b", "c"], "merge_method": "linear", "base_model": "odd", "tokenizer_source": "base"}'
expect 0 "$ft" merge search.json --out mean --set "genome=$mean" --set max_fevals=1
grep -q '"base_model": ".*/odd"' mean/best_recipe.json || bad "base of a mean: $(cat mean/best_recipe.json)"
[ "$(grep -c '/odd"' mean/best_recipe.json)" = 1 ] || bad "the base is a source: $(cat mean/best_recipe.json)"
expect 0 "$ft" merge mean/best_recipe.json --out mean.again
cmp mean/model.safetensors mean.again/model.safetensors || bad "best_recipe.json of a mean gives another model"
fails 78 'genome.base_model: is none of the models' "genome=${mean%\}}, \"smooth\": true}"

# A search that is stopped goes on to the same.
"$ft" merge search.json --out stopped > /dev/null 2>&1 &
until [ -s stopped/evolve.jsonl ] || ! kill -0 $! 2> /dev/null; do sleep 0.01; done
kill -INT $! 2> /dev/null
wait $!
rc=$?
if [ $rc = 130 ]; then
    expect 0 "$ft" merge search.json --out stopped --resume
    cmp s/model.safetensors stopped/model.safetensors || bad "a search that was stopped ends elsewhere"
else
    [ $rc = 0 ] || bad "a search that is stopped: exit $rc"
fi

# Sums that no float holds: the recipe is what is wrong.
much() { # DTYPE WEIGHT
    echo '{"merge_method": "linear", "out_dtype": "'$1'", "parameters": {"normalize": false, "weight": '$2'}, "models": [{"model": "a"}, {"model": "b"}]}' > much.json
}
much float32 3e38
expect_told 80 'much.json: tensor "model.layers.0.input_layernorm.weight" holds Inf at [0]; nothing was written' "$ft" merge much.json --out much
much float16 1e5
expect_told 80 'is beyond the range of f16; use out_dtype bf16 or f32' "$ft" merge much.json --out much
[ ! -e much ] || bad "a sum that overflows is written"

# Codes are read as the values that they mean.
cp -r "$source/data/tiny" tiny
echo '{"model": {"path": "tiny"}, "quantize": {"type": "rtn", "group_size": 32}}' > rtn.json
expect 0 "$ft" quantize rtn.json --out gptq -q
expect 0 "$ft" convert tiny --out k.gguf --type q4_k_m -q
expect 0 "$ft" convert tiny --out nf4 --type nf4 -q
for m in gptq k.gguf nf4; do
    expect 0 "$ft" convert $m --out plain --type f32 -q --force
    for from in $m plain; do
        echo '{"merge_method": "linear", "dtype": "float32", "models": [{"model": "tiny", "parameters": {"weight": 0.3}},
              {"model": "'$from'", "parameters": {"weight": 0.7}}]}' > codes.json
        expect 0 "$ft" merge codes.json --out "sum-${from%.gguf}" -q --force
    done
    cmp "sum-${m%.gguf}/model.safetensors" sum-plain/model.safetensors || bad "$m is read as something else"
done

# Killed at any time, nothing is there but what was.
before=$(sha256sum m/model.safetensors)
for _ in 1 2 3 4; do
    killed_within 60 "$ft" merge ties.yml --out m --force --set seed=5
    [ "$(sha256sum m/model.safetensors)" = "$before" ] || bad "killed: another model"
done
expect 0 "$ft" merge ties.yml --out m --force
[ -z "$(find . -maxdepth 1 -name '*.tmp-*')" ] || bad "left: $(ls -d ./*.tmp-*)"
finish cli_merge
