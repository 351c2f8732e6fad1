# cli.sh – sourced by tests of the program, cli_NAME.sh FT SOURCE: a folder of their own, what failed, small files.
# shellcheck shell=bash disable=SC2034
set -u
ft=$1 source=$2 failed=0
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && cd "$work" || exit 2

bad() {
    echo "FAILED: $*"
    failed=1
}
has() { # TOOL: or what needs it is left out, aloud
    command -v "$1" > /dev/null && return
    echo "$(basename "$0"): what needs $1 is skipped"
    return 1
}
finish() { # NAME: the last line of a test
    [ $failed = 0 ] && echo "$1: fine"
    exit $failed
}

# A build with a sanitizer is slow, has memory of its own, and is there for faults of memory: chance is tried less often in it.
sanitized=$(grep -qE '__(asan|tsan|msan)_init' "$ft" && echo yes)
often() { [ -n "$sanitized" ] && echo "${2:-}" || echo "$1"; } # WHAT [THERE]
some() { if [ -n "$sanitized" ]; then awk 'NR % 4 == 1'; else cat; fi; } # of many lines, there every fourth

# Where a command finds its input and leaves what it prints, and how long it may take; a test may name others.
expect_in=/dev/null expect_out=out.txt expect_err=err.txt expect_seconds=60
expect() { # CODE COMMAND…
    local code=$1 got limit=(timeout $expect_seconds)
    shift
    [ "$(type -t "$1")" != function ] || limit=() # of the test itself
    "${limit[@]}" "$@" > $expect_out 2> $expect_err < $expect_in
    got=$?
    [ $got = "$code" ] || bad "$*: exit $got instead of $code: $(tail -n 2 $expect_err)"
}
expect_told() { # CODE TEXT COMMAND…: and TEXT stands on stderr; an empty one is not looked for
    local code=$1 text=$2
    shift 2
    expect "$code" "$@"
    grep -qF -- "$text" $expect_err || [ -z "$text" ] || bad "$*: '$text' is not told: $(head -c 300 $expect_err)"
}

model_json() { # VOCABULARY: config.json of a model of two layers
    cat << END
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": $1, "hidden_size": 32,
 "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
 "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu"}
END
}

now_ms() { echo $(($(date +%s%N) / 1000000)); }
killed_within() { # MS COMMAND…: runs it and kills it at a random time
    local span=$1
    shift
    "$@" > /dev/null 2>&1 &
    local pid=$!
    sleep "$(awk -v s="$span" -v r="$RANDOM" 'BEGIN { printf "%.3f", s * r / 32768 / 1000 }')"
    kill -9 $pid 2> /dev/null
    wait $pid 2> /dev/null
}
