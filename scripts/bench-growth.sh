#!/usr/bin/env bash
# bench-growth.sh – how ft's speed and memory grow with the length of a sequence, the batch, the adapter's rank, the threads
# and the model: LoRA on all linear layers, every token supervised, one thing changed at a time.  Prints a Markdown table.
#
#   scripts/bench-growth.sh [OPTION]…
#     --quick            a few of the lines
#     --only LIST        of length, batch, rank, threads, size (all of them)
#     --precision T      f32, bf16 or auto (auto)
#     --steps N          measured, after one that is not (2; one where a step has 4,096 tokens, or the model grows)
#     --model PATH       a Hugging Face folder or .gguf (SmolLM2 as scripts/fetch-model.sh gets it)
#   FT=PROGRAM takes that build of ft (one is built in build/bench).
#
# Larger models have random weights, in the shapes of SmolLM2-360M and Llama-3.2-1B; they are written as bf16 folders (2.5 GB
# in TMPDIR at most) and read as such, or quantised to nf4 on loading.  Needs python3 for that.  Takes some 15 minutes on
# two cores, with --quick 4.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
complain() { echo "bench-growth: $*" >&2; exit 1; }
usage() { echo "bench-growth: $*; --help says more" >&2; exit 64; }

quick=false only=length,batch,rank,threads,size precision=auto steps=2 model=''
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
    --quick)
        quick=true
        shift
        continue
        ;;
    --only | --precision | --steps | --model) ;;
    *) usage "$1 is no option" ;;
    esac
    [ $# -gt 1 ] || usage "$1 needs a value"
    declare "${1#--}=$2"
    shift 2
done
[[ $steps =~ ^[1-9][0-9]*$ ]] || usage "--steps: $steps is no number from 1 on"
for name in ${only//,/ }; do
    [[ " length batch rank threads size " == *" $name "* ]] || usage "--only: $name is none of length, batch, rank, threads, size"
done

ft=${FT:-$here/build/bench/ft}
if [ -z "${FT:-}" ]; then
    echo "bench-growth: building ft" >&2
    (cd "$here" && cmake --preset release -DFT_TESTS=OFF -B build/bench >/dev/null &&
        cmake --build build/bench -j "$(nproc)" --target ft >/dev/null) ||
        complain "the build failed; scripts/install-deps.sh gets what it needs"
fi
ft=$(realpath "$ft")
[ -x "$ft" ] || complain "$ft is no program"
if [ -z "$model" ]; then
    "$here/scripts/fetch-model.sh" >&2 || complain "no model: --model takes a Hugging Face folder or a .gguf"
    model=$here/models/SmolLM2-135M-Instruct.Q4_1.gguf
fi
[ -e "$model" ] || complain "$model is not there"
model=$(realpath "$model")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo "bench-growth: $(basename "$model") as a bf16 folder" >&2
"$ft" convert "$model" --out base --type bf16 -q >/dev/null

field() { grep -o "\"$1\":[-+.eE0-9]*" out.json | head -n 1 | cut -d: -f2; } # of the answer
config() { # MODEL: the keys of model, as JSON, into config.json
    cat >config.json <<END
{"model": {$1}, "method": {"type": "lora", "r": $rank, "lora_alpha": 16, "target_modules": "all-linear"},
 "data": {"train": {"path": "rows.jsonl", "format": "tokens"}, "max_length": $length, "shuffle": false},
 "train": {"batch_size": $batch, "precision": "$precision"}, "output": {"dir": "out"}}
END
}
# One line of the table: rows of random ids, each token supervised.
measure() { # WHAT
    local n=$steps
    [ $((batch * length)) -lt 4096 ] && [ "$1" != size ] || n=1
    awk -v rows="$batch" -v length_="$length" 'BEGIN {
        srand(1)
        for (r = 0; r < rows; r++) {
            ids = ""
            for (i = 0; i < length_; i++) ids = ids (i ? "," : "") int(100 + rand() * 500)
            print "{\"input_ids\": [" ids "], \"labels\": [" ids "]}"
        }
    }' >rows.jsonl
    echo "bench-growth: $1: $name, $batch × $length tokens, rank $rank, $threads threads" >&2
    if "$ft" bench config.json --steps "$n" --seconds 0.01 --threads "$threads" --json -q >out.json 2>err.txt; then
        awk -v what="$1" -v name="$name" -v batch="$batch" -v length_="$length" -v rank="$rank" -v threads="$threads" \
            -v rate="$(field tokens_per_s)" -v peak="$(field peak_rss_bytes)" -v planned="$(field planned_bytes)" \
            -v gflops="$(field gflops)" 'BEGIN { printf "| %s | %s | %d × %d | %d | %d | %.0f | %.0f | %.0f | %.0f |\n",
                what, name, batch, length_, rank, threads, rate, gflops, peak / 1048576, planned / 1048576 }'
    else
        printf '| %s | %s | %d × %d | %d | %d | failed: %s | | | |\n' "$1" "$name" "$batch" "$length" "$rank" "$threads" \
            "$(tail -n 1 err.txt | tr '|' '/')"
    fi
}
standard() { name=$(basename "$model" .gguf) batch=4 length=512 rank=8 threads=$cores; }
wanted() { [[ ,$only, == *,$1,* ]]; }
each() { # of QUICK's values with --quick, else of ALL's
    if $quick; then echo "$1"; else echo "$2"; fi
}

cores=$(nproc)
base='"path": "base"'
echo "$("$ft" version --json | sed 's/.*"core":"\([^"]*\)".*"cpu":"\([^"]*\)".*/\2, core \1/'), precision $precision, $(date +%F)."
printf '\n| grows | model | tokens a step | rank | threads | tokens/s | GFLOP/s | peak MiB | planned MiB |\n'
echo '|---|---|---|---|---|---|---|---|---|'
if wanted length; then
    standard
    for length in $(each '128 512 2048' '128 256 512 1024 2048 4096 8192'); do
        batch=$((length < 2048 ? 2048 / length : 1))
        config "$base"
        measure length
    done
fi
if wanted batch; then
    standard
    for batch in $(each '1 8' '1 2 4 8 16 32'); do
        config "$base"
        measure batch
    done
fi
if wanted rank; then
    standard
    for rank in $(each '64' '4 8 16 32 64 128 256'); do
        config "$base"
        measure rank
    done
fi
if wanted threads; then
    standard
    for ((threads = 1; threads <= cores; threads *= 2)); do
        config "$base"
        measure threads
    done
fi

# A folder with random weights of that shape in bf16: a block of values near 0.02, again and again.
random_model() { # FOLDER HIDDEN FEED_FORWARD LAYERS HEADS KV_HEADS VOCABULARY
    mkdir "$1"
    cat >"$1/config.json" <<END
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": $2, "intermediate_size": $3,
 "num_hidden_layers": $4, "num_attention_heads": $5, "num_key_value_heads": $6, "vocab_size": $7, "hidden_act": "silu",
 "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "tie_word_embeddings": true,
 "torch_dtype": "bfloat16"}
END
    python3 - "$1" <<'PYTHON'
import json, random, struct, sys
folder = sys.argv[1]
c = json.load(open(folder + "/config.json"))
hidden, kv = c["hidden_size"], c["hidden_size"] // c["num_attention_heads"] * c["num_key_value_heads"]
linear = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
          "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (c["intermediate_size"], hidden),
          "mlp.up_proj": (c["intermediate_size"], hidden), "mlp.down_proj": (hidden, c["intermediate_size"])}
shapes = {"model.embed_tokens.weight": (c["vocab_size"], hidden), "model.norm.weight": (hidden,)}
for i in range(c["num_hidden_layers"]):
    layer = f"model.layers.{i}."
    shapes.update({layer + name + ".weight": shape for name, shape in linear.items()})
    shapes.update({layer + name + ".weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")})
header, at = {}, 0
for name, shape in shapes.items():
    n = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + n]}
    at += n
random.seed(1)
block = b"".join(struct.pack("<f", random.gauss(0, 0.02))[2:] for _ in range(1 << 20))
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(folder + "/model.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    for left in range(at, 0, -len(block)):
        f.write(block[:left])
PYTHON
}
if wanted size; then
    standard
    config "$base"
    $quick || measure size
    config "$base, \"quantization\": {\"type\": \"nf4\", \"double_quant\": true}"
    name="$name, nf4"
    $quick || measure size
    while read -r title shape; do
        # shellcheck disable=SC2086
        random_model random $shape
        for name in "$title, bf16" "$title, nf4"; do
            batch=1
            quantization=''
            [[ $name == *bf16 ]] || quantization=', "quantization": {"type": "nf4", "double_quant": true}'
            config "\"path\": \"random\"$quantization"
            measure size
        done
        rm -r random
    done < <($quick || echo "360M 960 2560 32 15 5 49152"; echo "1.24B 2048 8192 16 32 8 128256")
fi
