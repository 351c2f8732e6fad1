#!/usr/bin/env bash
# cli_combine.sh FT SOURCE – several adapters from outside: merge-adapter of two and more, what it writes, the same of --adapter
# given twice, its refusals, and that nothing is left of what failed or was killed.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny
config() { # NAME R TARGETS
    cat > "$1.json" << END
{"model": {"path": "$tiny"}, "method": {"type": "lora", "r": $2, "target_modules": $3},
 "data": {"train": "$source/data/text/tiny.chat.jsonl", "max_length": 96},
 "optim": {"learning_rate": 0.01}, "train": {"max_steps": 3, "batch_size": 4, "seed": $2}, "output": {"dir": "$1"}}
END
    expect 0 "$ft" train "$1.json" -q
}
config a 4 '["q_proj", "v_proj"]'
config b 4 '["v_proj", "down_proj"]'
config c 2 '"all-linear"'
expect 0 "$ft" train a.json --out saved -q --set 'method.modules_to_save=["lm_head"]'
expect 0 "$ft" train a.json --out prompt -q --set 'method={"type": "prompt_tuning", "num_virtual_tokens": 2}'

# The model that has them folded in computes what they do together.
for i in 1 2 3 4 5 6 7 8; do echo "{\"tokens\": [$i, 9, 300, $((17 * i)), 5, 77]}"; done > lines.jsonl
logprobs() { "$ft" score "$@" < lines.jsonl 2> err.txt | sed 's/.*"logprob":\([^,}]*\).*/\1/' || bad "score: $(cat err.txt)"; }
close() { paste "$1" "$2" | awk '{ d = $1 - $2; if (d * d > 1e-7) { print; exit 1 } }' || bad "$1 and $2 differ"; }
expect 0 "$ft" merge-adapter a b c --weights 1,-0.5,0.25 --out sum --type f32 --json
grep -q '"adapters":\["a","b","c"\],"weights":\[1,-0.5,0.25\],"combination_type":"cat","r":10,"modules":' out.txt || bad "--json: $(cat out.txt)"
grep -q '"passed":true' out.txt || bad "no proof: $(cat out.txt)"
logprobs --model sum > merged.txt
logprobs --adapter a --adapter b=-0.5 --adapter c=0.25 > together.txt
logprobs --model "$tiny" > base.txt
close merged.txt together.txt
cmp -s merged.txt base.txt && bad "the adapters change nothing"
expect 0 "$ft" merge-adapter a b c --weights 1,-0.5,0.25 --out sum.gguf
# eval and generate take several too
expect 0 "$ft" eval --adapter a --adapter b=-0.5 --adapter c=0.25 --task perplexity --data "$source/data/text/tiny.eval.txt" --limit 1 --json
both=$(sed 's/.*"perplexity":\([0-9.]*\).*/\1/' out.txt)
expect 0 "$ft" eval --model sum --task perplexity --data "$source/data/text/tiny.eval.txt" --limit 1 --json
awk -v a="$both" -v b="$(sed 's/.*"perplexity":\([0-9.]*\).*/\1/' out.txt)" 'BEGIN { exit !(a > 1 && (a - b) / a < 1e-5 && (b - a) / a < 1e-5) }' || bad "eval of several: $both, $(cat out.txt)"
expect 0 "$ft" generate --adapter a --adapter b --prompt 'A duck' --max-new-tokens 4

# The adapter alone: no base needed, with the tokenizer of the first; it is one like any other.
(mkdir far && cp -r a b c far && cd far && for f in a b c; do sed -i 's/"base_model_name_or_path": "[^"]*"/"base_model_name_or_path": "gone"/' $f/adapter_config.json; done)
expect 0 "$ft" merge-adapter far/a far/b far/c --weights=1,-0.5,0.25 --adapter-only --out far/one
grep -q 'far/one: 3 adapters in one (cat): rank 10 on' out.txt || bad "--adapter-only: $(cat out.txt)"
[ -e far/one/tokenizer.json ] || bad "no tokenizer beside the adapter"
logprobs --model "$tiny" --adapter far/one > one.txt
close one.txt together.txt
expect 0 "$ft" merge-adapter far/one --base "$tiny" --out again --type f32
logprobs --model again > again.txt
close again.txt merged.txt
expect 73 "$ft" merge-adapter a b --adapter-only --out far/one
expect 0 "$ft" merge-adapter a b --adapter-only --out far/one --force
expect 73 "$ft" merge-adapter a b --adapter-only --out a --force
expect 73 "$ft" merge-adapter a b --out b --force

# Every type; what draws draws the same for the same seed.
for type in linear svd ties ties_svd dare_linear dare_linear_svd dare_ties dare_ties_svd magnitude_prune magnitude_prune_svd; do
    one() { expect "$1" "$ft" merge-adapter a b --combination-type $type $share --adapter-only --out "$2/$type" "${@:3}"; }
    share='--density 0.5'
    [[ $type != linear && $type != svd ]] || share=
    one 0 t
    one 0 u --threads 1
    cmp "t/$type/adapter_model.safetensors" "u/$type/adapter_model.safetensors" || bad "$type: other bytes"
    # what it reads counts, and what it does not is refused
    reads() { # WHETHER FLAG VALUE
        local code=64
        [[ $1 != yes ]] || code=0
        one $code v "$2" "$3" --force
        [ $code = 0 ] || grep -qF -- "$2: --combination-type $type does not read it" err.txt || bad "$type $2: $(cat err.txt)"
        [ $code = 64 ] || [ "$2" = --majority-sign-method ] || ! cmp -s "t/$type/adapter_model.safetensors" "v/$type/adapter_model.safetensors" || bad "$type: $2 makes no difference"
    }
    reads "$([[ $type == dare* ]] && echo yes)" --seed 7
    reads "$([[ $type == *svd ]] && echo yes)" --svd-rank 2
    reads "$([[ $type == *ties* ]] && echo yes)" --majority-sign-method frequency
    [ "$share" ] || reads no --density 0.5
done
expect 0 "$ft" merge-adapter a c --combination-type svd --svd-rank 3 --adapter-only --out rank
grep -q '"r": 3,' rank/adapter_config.json || bad "--svd-rank: $(grep '"r"' rank/adapter_config.json)"
expect 0 "$ft" merge-adapter a --weights 0.5 --out half --type f32
logprobs --adapter a=0.5 > want.txt
logprobs --model half > have.txt
close have.txt want.txt
expect 0 "$ft" merge-adapter a saved --weights 1,0.5 --out kept
grep -q 'has no weight: it is taken as it is' err.txt || bad "a saved module with a weight: $(cat err.txt)"

# What ft alone knows of the adapters goes along: zeros of a pruned base that stay, a base that is rounded.
cat > prune.json << END
{"model": {"path": "$tiny"}, "prune": {"type": "magnitude", "pattern": "2:4"}, "output": {"dir": "pruned"}}
END
expect 0 "$ft" prune prune.json -q
on_pruned() { expect 0 "$ft" train a.json --out "$1" -q --set model.path=pruned --set "train.seed=$2" --set "method.keep_zeros=$3"; }
on_pruned zero1 1 true
on_pruned zero2 2 true
on_pruned fills 3 false
expect 0 "$ft" merge-adapter zero1 zero2 --out zeros --type f32
zeros() { "$ft" inspect "$1" | grep '^  zeros'; }
[ "$(zeros zeros)" = "$(zeros pruned)" ] || bad "zeros of the base: $(zeros zeros)"
logprobs --adapter zero1 --adapter zero2 > want.txt
logprobs --model zeros > have.txt
close have.txt want.txt
expect 0 "$ft" merge-adapter zero1 zero2 --adapter-only --out zero
cmp zero/ft_method.json zero1/ft_method.json || bad "ft_method.json is not that of the parts"
rounded() { expect 0 "$ft" train a.json --out "$1" -q --set "train.seed=$2" --set "model.qat=$3"; }
rounded int4a 1 '{"type": "affine", "activation_dtype": null}'
rounded int4b 2 '{"type": "affine", "activation_dtype": null}'
rounded int8 3 '{"type": "affine", "activation_dtype": null, "weight_dtype": "int8"}'
rounded learnt1 1 '{"type": "lsq"}'
rounded learnt2 2 '{"type": "lsq"}'
rounded third 3 '{"type": "bitnet"}'
expect 0 "$ft" merge-adapter int4a int4b --adapter-only --out int4
for f in ft_method.json qat.safetensors; do cmp int4/$f int4a/$f || bad "$f is not that of the parts"; done
expect 0 "$ft" merge-adapter int4a --out alone --type f32
expect 0 "$ft" merge-adapter int4a int4b --weights 1,0 --out int4.model --type f32
logprobs --model alone > want.txt
logprobs --model int4.model > have.txt
close have.txt want.txt
expect 0 "$ft" merge-adapter third --weights 2 --adapter-only --out thirds
cmp thirds/ft_method.json third/ft_method.json || bad "ft_method.json of bitnet"

# Refusals: nothing is written.
no() { # CODE WORDS COMMAND…
    local code=$1 words=$2
    shift 2
    expect "$code" "$@" --out no
    grep '^ft: error: ' err.txt | grep -qF -- "$words" || bad "$*: $(cat err.txt)"
    [ "$(grep -c '^ft: error: ' err.txt)" = 1 ] || bad "$*: not one line: $(cat err.txt)"
    compgen -G 'no*' > left.txt && bad "$*: left $(cat left.txt)"
}
merge="$ft merge-adapter"
for more in '' --adapter-only; do
    no 64 '--weights: 1 for 2 adapters' $merge a b --weights 1 $more
    no 64 '--weights: 3 for 2 adapters' $merge a b --weights 1,2,3 $more
    no 64 '--weights: "two" must be a number' $merge a b --weights 1,two $more
    no 64 '--weights: "nan" must be a number' $merge a b --weights nan,1 $more
    no 64 'did you mean "ties_svd"' $merge a b --combination-type ties_sdv $more
    no 64 '--combination-type: "mean" is unknown' $merge a b --combination-type mean $more
    no 64 '--density: "dare_ties" keeps a share' $merge a b --combination-type dare_ties $more
    no 64 '--density: 0 must be greater than 0' $merge a b --combination-type ties --density 0 $more
    no 64 '--density: 1.1 must be at most 1' $merge a b --combination-type ties --density 1.1 $more
    no 64 '--majority-sign-method: "most"' $merge a b --combination-type ties --density 1 --majority-sign-method most $more
    no 64 '--svd-rank: 0 must be at least 1' $merge a b --combination-type svd --svd-rank 0 $more
    no 65 'a has 4, c has 2' $merge a c --combination-type linear $more
    no 65 'prompt: is an adapter of type PROMPT_TUNING' $merge a prompt $more
    no 65 'both hold "base_model.model.lm_head.weight"' $merge saved a saved $more
    no 66 'gone' $merge a gone $more
    no 65 'fills: keeps no zeros (ft_method.json), and zero1 does' $merge zero1 fills $more
    no 65 'zero1: keeps zeros of the base (ft_method.json), and fills does not' $merge fills zero1 $more
    for pair in 'a int4a' 'int4a a' 'int4a int8' 'learnt1 learnt2' 'int4a learnt1'; do
        no 65 "${pair% *} and ${pair#* } are of bases that are rounded in different ways" $merge $pair $more
    done
    no 80 'take smaller weights' $merge a b --weights 1e300,1 $more
done
for flag in '--type f32' '--keep-zeros' '--tolerance 1' '--precision f32'; do
    no 64 "${flag% *}: is of a " $merge a b --adapter-only $flag
done
for flag in '--density 0.5' '--svd-rank 2' '--seed 1' '--majority-sign-method total'; do
    no 64 "${flag% *}: is of several adapters" $merge a $flag
    no 64 "${flag% *}: --combination-type cat does not read it" $merge a b $flag
done
cp -r a wide
model_json 640 > other.json
expect 0 "$ft" train a.json --out others -q --set "model={\"from_config\": \"other.json\", \"tokenizer\": \"$tiny\"}"
no 65 'others/adapter_model.safetensors: does not fit the base' $merge a others --base "$tiny"

# Killed at random: the next one clears up, its adapter in the making too.
start=$(now_ms)
expect 0 "$ft" merge-adapter a b c --out whole
span=$(($(now_ms) - start))
for i in 1 2 3 4 5 6; do
    killed_within "$span" "$ft" merge-adapter a b c --out whole --force
done
expect 0 "$ft" merge-adapter a b c --out whole --force
compgen -G 'whole?*' > left.txt && bad "left: $(cat left.txt)"
finish cli_combine
