#!/usr/bin/env bash
# compress.sh – what a model is worth once it is smaller: its size, the perplexity of a text, HellaSwag, and how fast it
# answers, quantised in every way of the tree and pruned, as it comes out and after some steps of training; one table.
#
#   scripts/compress.sh [OPTION]… [ROW…]
#     ROW…               some of the rows that --list prints, in their order there; without: all of them
#     --out DIR          models, figures and the table (out/compress); what is there is not made again
#     --model PATH       a folder in floats, or a .gguf, which is unpacked to OUT/base first (SmolLM2, scripts/fetch-model.sh)
#     --text FILE        the text of the perplexity (data/text/tiny.eval.txt); --windows N of 512 tokens (0: all of it)
#     --choices FILE     records of HellaSwag: the hub's JSON lines, or llama.cpp's six lines a record; --records N (200).
#                        Without it the column is empty
#     --calibration SRC  a source of samples for what is calibrated (data/instructions.jsonl); --samples N (128) of them, of 512 tokens
#     --group N          inputs of a scale, of what is quantised by rounding, GPTQ and AWQ (64: SmolLM2's 576 are no multiple of 128)
#     --recover N        steps of LoRA behind each row, its zeros kept, and the figures after them (0: none)
#     --data SRC         what these learn from (the calibration's), --length N tokens of a sample (512), 4 samples a step
#     --threads N        of every command
#
# Tokens/s are those of one answer of 64 tokens, its first left out; MiB are of the weights as they are stored, of zeros too.
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")/.." && pwd)
ft=${FT:-$here/build/release/ft}
complain() { echo "compress: $*" >&2; }
usage() { complain "$*; --help says more"; exit 64; }

# NAME KIND WORDS: how a row is made of the base
table='base - -
q8_0 convert q8_0
q6_k convert q6_k
q5_k_m convert q5_k_m
q4_k_m convert q4_k_m
q4_0 convert q4_0
nf4 convert nf4
rtn-4 quantize "type":"rtn"
rtn-4-asym quantize "type":"rtn","sym":false
gptq-4 quantize "type":"gptq"
gptq-4-asym quantize "type":"gptq","sym":false,"desc_act":true
awq-4 quantize "type":"awq"
magnitude-50 prune "type":"magnitude","sparsity":0.5
wanda-50 prune "type":"wanda","sparsity":0.5
sparsegpt-50 prune "type":"sparsegpt","sparsity":0.5
magnitude-2:4 prune "type":"magnitude","pattern":"2:4"
wanda-2:4 prune "type":"wanda","pattern":"2:4"
sparsegpt-2:4 prune "type":"sparsegpt","pattern":"2:4"
layers-3 prune "type":"layers","drop":3'

out=out/compress model='' text=$here/data/text/tiny.eval.txt windows=0 choices='' records=200
calibration=$here/data/instructions.jsonl samples=128 recover=0 length=512 group=64 data='' more=() wanted=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
    --list) cut -d' ' -f1 <<<"$table"; exit 0 ;;
    --out | --model | --text | --windows | --choices | --records | --calibration | --samples | --group | --recover | --length | --data | --threads)
        [ $# -gt 1 ] || usage "$1 needs a value"
        case $1 in
        --windows | --records | --samples | --group | --recover | --length)
            [[ $2 =~ ^[0-9]+$ ]] || usage "$1: $2 is no number"
            ;;
        esac
        if [ "$1" = --threads ]; then more+=("$1" "$2"); else printf -v "${1#--}" %s "$2"; fi
        shift
        ;;
    --*) usage "$1 is no option" ;;
    *)
        grep -q "^$1 " <<<"$table" || usage "$1 is no row; --list prints them"
        wanted+=("$1")
        ;;
    esac
    shift
done
[ -x "$ft" ] || { complain "no $ft; build first (scripts/demo.sh does), or name it in FT"; exit 64; }
model=${model:-$here/models/SmolLM2-135M-Instruct.Q4_1.gguf} data=${data:-$calibration}
for file in "$model" "$text" ${choices:+"$choices"}; do
    [ -e "$file" ] || { complain "$file is not there"; exit 66; }
done
mkdir -p "$out/log"
out=$(cd "$out" && pwd)
if [[ $model == *.gguf ]]; then
    [ -e "$out/base/config.json" ] || "$ft" convert "$model" --out "$out/base" --type bf16 -q
    model=$out/base
fi
model=$(realpath "$model")

quoted() { # as JSON: a source that is an object stays one
    [[ $1 == \{* ]] && { printf %s "$1"; return; }
    local s
    s=$(realpath -m "$1")
    s=${s//\\/\\\\}
    printf '"%s"' "${s//\"/\\\"}"
}
# llama.cpp's form, six lines a record: context, which ending is right, four endings
choices_json() {
    awk 'function text(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); gsub(/\t/, "\\t", s); return "\"" s "\"" }
        NR % 6 == 1 { query = $0 } NR % 6 == 2 { gold = $0; list = "" }
        NR % 6 != 1 && NR % 6 != 2 { list = list (list == "" ? "" : ", ") text($0) }
        NR % 6 == 0 { printf "{\"query\": %s, \"choices\": [%s], \"gold\": %s}\n", text(query), list, gold }' "$1"
}
tasks='{"name":"text","type":"perplexity","data":'$(quoted "$text")',"max_length":512,"stride":512,"limit":'$windows'}'
if [ -n "$choices" ]; then
    kind=hellaswag
    if [[ $(head -c 1 "$choices") != \{ ]]; then
        kind=multiple_choice
        choices_json "$choices" >"$out/choices.jsonl"
        choices=$out/choices.jsonl
    fi
    tasks+=',{"name":"choices","type":"'$kind'","data":'$(quoted "$choices")',"limit":'$records'}'
fi
printf '{"model":{"path":%s},"tasks":[%s]}\n' "$(quoted "$model")" "$tasks" >"$out/eval.json"

measure() { # FILE MODEL [--adapter A]: its figures, once
    local file=$1 path=$2
    shift 2
    [ -e "$file" ] && return
    "$ft" eval "$out/eval.json" --set "model.path=$path" "$@" ${more[@]+"${more[@]}"} --json -q >"$file.part"
    [ $# -gt 0 ] || for n in 2 66; do
        "$ft" generate --model "$path" --prompt 'The history of the town' --max-new-tokens $n --temperature 0 \
            ${more[@]+"${more[@]}"} --json -q >>"$file.part"
    done
    mv "$file.part" "$file"
}
make() { # NAME KIND WORDS: prints where it is
    local name=$1 path=$out/$1 config=$out/log/$1.json
    case $2 in
    -) path=$model ;;
    convert)
        [ "$3" = nf4 ] || path=$path.gguf
        [ -e "$path" ] || "$ft" convert "$model" --out "$path" --type "$3" ${more[@]+"${more[@]}"} -q >&2
        ;;
    *)
        local needs=''
        case $3 in
        *'"rtn"'* | *'"magnitude"'*) ;;
        *) needs='"calibration":{"data":'$(quoted "$calibration")',"samples":'$samples',"max_length":512},' ;;
        esac
        local size=''
        [ "$2" = prune ] || size=',"group_size":'$group
        printf '{"model":{"path":%s},%s"%s":{%s%s},"output":{"dir":%s}}\n' "$(quoted "$model")" "$needs" "$2" "$3" "$size" \
            "$(quoted "$path")" >"$config"
        [ -e "$path" ] || "$ft" "$2" "$config" --out "$path" ${more[@]+"${more[@]}"} -q >&2
        ;;
    esac
    printf %s "$path"
}
train() { # NAME KIND PATH: its adapter
    local name=$1 method=lora keep=''
    case $2 in
    convert | quantize) method=qlora ;;
    prune) [[ $name == layers* ]] || keep=',"keep_zeros":true' ;;
    esac
    printf '{"model":{"path":%s},"method":{"type":"%s"%s},"data":{"train":%s,"max_length":%s},"optim":{"learning_rate":0.001,%s},%s}\n' \
        "$(quoted "$3")" $method "$keep" "$(quoted "$data")" "$length" '"warmup_steps":5,"lr_scheduler_type":"cosine"' \
        '"train":{"max_steps":'"$recover"',"batch_size":4,"seed":42}' >"$out/log/$name.train.json"
    [ -e "$out/$name.adapter/summary.json" ] || "$ft" train "$out/log/$name.train.json" --out "$out/$name.adapter" --resume \
        ${more[@]+"${more[@]}"} -q >&2
}
figure() { # FILE TASK KEY
    sed -n "s/^{\"task\":\"$2\".*\"$3\":\([-0-9.e+]*\)[,}].*/\1/p" "$1" | awk 'NR == 1 { printf "%.3f", $1 }'
}
speed() { # tokens behind the first ones, and what they took
    sed -n 's/.*"tokens":\([0-9]*\),.*"seconds":\([0-9.e+-]*\).*/\1 \2/p' "$1" |
        awk 'NR > 0 { n = $1 - last; t = $2 - took; last = $1; took = $2 } END { if (t > 0) printf "%.1f", n / t }'
}
size() {
    if [ -d "$1" ]; then cat "$1"/*.safetensors; else cat "$1"; fi | wc -c | awk '{ printf "%.1f", $1 / 1048576 }'
}
head='| | MiB | perplexity | acc | tokens/s |'
rule='|---|---:|---:|---:|---:|'
if [ "$recover" -gt 0 ]; then
    head+=" after $recover steps: perplexity | acc |"
    rule+='---:|---:|'
fi
printf '%s\n%s\n' "$head" "$rule" >"$out/table.part"
while read -r name kind words; do
    [ ${#wanted[@]} = 0 ] || [[ " ${wanted[*]} " == *" $name "* ]] || continue
    complain "$name"
    path=$(make "$name" "$kind" "$words")
    figures=$out/log/$name.figures
    measure "$figures" "$path"
    row="| $name | $(size "$path") | $(figure "$figures" text perplexity) | $(figure "$figures" choices acc_norm) | $(speed "$figures") |"
    if [ "$recover" -gt 0 ]; then
        train "$name" "$kind" "$path"
        measure "$figures.$recover" "$path" --adapter "$out/$name.adapter"
        row+=" $(figure "$figures.$recover" text perplexity) | $(figure "$figures.$recover" choices acc_norm) |"
    fi
    printf '%s\n' "$row" >>"$out/table.part"
done <<<"$table"
mv "$out/table.part" "$out/compress.md"
cat "$out/compress.md"
