# lib.sh – sourced by scripts/attack.sh and its groups: the small run that is attacked, points and how many of them, what
# counts as held.  A check is a function check_GOAL or check_GOAL_PART; it runs in a folder of its own, which begins as a
# copy of $top/base, tries its points, and ends with `verdict`.
# shellcheck shell=bash disable=SC2034,SC2154

# --- the verdict of a check ----------------------------------------------------------------------------------------------
tried=0 broken=0
pass() { tried=$((tried + 1)); }
fail() { # TEXT: a point that does not hold; the first few are told
    tried=$((tried + 1)) broken=$((broken + 1))
    [ $broken -gt "${ATTACK_TOLD:-5}" ] || echo "   $goal: $*"
}
row() { # WHAT FIGURE STATE
    printf '%s\t%s\t%s\t%s\n' "$goal" "$1" "$2" "$3" | tee -a "$top/rows"
}
verdict() { # WHAT [FIGURE]: of the points so far; the next verdict of the same check begins anew
    if [ $tried = 0 ]; then
        row "$1" "0 points" "NOT held"
    elif [ $broken = 0 ]; then
        row "$1" "${2:-$tried/$tried}" held
    else
        row "$1" "$((tried - broken))/$tried" "NOT held"
    fi
    tried=0 broken=0
}
skip() { row "$1" - "skipped: $2"; } # WHAT WHY

# --- points --------------------------------------------------------------------------------------------------------------
points() { # FEW [MANY]: of the lines of standard input at most FEW (--short) or MANY, drawn by the seed, in their order
    local most=${2:-1000000}
    $short && most=$1
    awk -v most="$most" -v seed="$seed" '
        { line[NR] = $0 }
        END { srand(seed)
              for (i = 1; i <= NR; i++) { left = NR - i + 1; if (rand() * left < most - taken) { taken++; print line[i] } } }'
}
few() { $short && echo "$1" || echo "$2"; } # SHORT FULL: how many

# --- the run that is attacked ------------------------------------------------------------------------------------------------
# Two layers, width 32, LoRA of rank 4 with dropout, 20 steps of 4 samples, a checkpoint every 4 and an evaluation every 5:
# about 0.1 s. One thread, so that the calls of a run come in the same order each time.
run=(train run.json -q --threads 1)
merge=(merge-adapter a --base b -q --threads 1)
export FT_TEST_RETRY_SECONDS=0

config() { # STEPS OUT [MORE KEYS OF train]
    cat << END
{"model": {"path": "b"}, "method": {"type": "lora", "r": 4, "lora_dropout": 0.1},
 "data": {"train": "d.jsonl", "eval": "e.jsonl", "max_length": 32}, "optim": {"learning_rate": 0.005},
 "train": {"max_steps": $1, "batch_size": 4, "micro_batch_size": 1, "checkpoint_every": 4, "eval_every": 5${3:+, $3}},
 "output": {"dir": "$2"}}
END
}

make_base() { # in $top/base: b the model, run.json, d.jsonl, e.jsonl; a its adapter, merged and b.gguf the results
    cp -r "$source/data/tiny" m
    cat > model.json << 'END'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 640, "hidden_size": 32,
 "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
 "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu"}
END
    awk 'BEGIN { for (i = 0; i < 37; i++) { t = "Day " i; for (k = 0; k < i * 7 % 11; k++) t = t " was warm"
                 printf "{\"text\": \"%s.\"}\n", t } }' > d.jsonl
    head -n 3 d.jsonl > e.jsonl
    printf '{"model": {"from_config": "model.json", "tokenizer": "m"}, "method": {"type": "full"}, "data": {"train": "d.jsonl",
 "max_length": 32}, "train": {"max_steps": 2}, "output": {"dir": "first"}}' > first.json
    config 20 o > run.json
    "$ft" train first.json -q && mkdir b && cp first/{config.json,model.safetensors,tokenizer.json,tokenizer_config.json} b/ &&
        "$ft" "${run[@]}" --out a > said && "$ft" "${merge[@]}" --out merged > said && "$ft" convert b --out b.gguf -q > said &&
        rm -r first first.json model.json said
}

# Verbs that make a model of models: in the folder of a check, what they read and what they are to give.
goes_on_by= # the option by which the next run goes on with what one that was cut short has done
quantize=(quantize q.json -q --threads 1)
prune=(prune p.json -q --threads 1)
combine=(merge r.yml -q --threads 1)
make_models() { # q.json, p.json, r.yml; quantized, pruned, combined
    goes_on_by=--resume
    printf '{"model": {"path": "b"}, "calibration": {"data": "d.jsonl", "samples": 6, "max_length": 32},
 "quantize": {"type": "gptq", "bits": 4, "group_size": 16}}' > q.json
    printf '{"model": {"path": "b"}, "calibration": {"data": "d.jsonl", "samples": 6, "max_length": 32},
 "prune": {"type": "wanda", "sparsity": 0.5}}' > p.json
    printf 'merge_method: slerp\nbase_model: b\nmodels:\n  - model: b\n  - model: merged\nparameters:\n  t: 0.3\n' > r.yml
    "$ft" "${quantize[@]}" --out quantized > said && "$ft" "${prune[@]}" --out pruned > said && "$ft" "${combine[@]}" --out combined > said ||
        fail "the models of models: $(cat said)"
}

# What must be equal: all but the record of how a run went.
same_tree() { # A B
    diff -rq -x time.jsonl -x summary.json -x checkpoints -x config.resolved.json "$1" "$2" > different 2>&1
}
same_run() { # OUT: the adapter and the log of the undisturbed run
    cmp -s "$1/adapter_model.safetensors" a/adapter_model.safetensors && cmp -s "$1/log.jsonl" a/log.jsonl
}
leftovers() { # NAME: what stands beside it under a name that only ft gives
    compgen -G "$1.tmp*" || compgen -G "$1.old*" || compgen -G "$1.blocks*" || compgen -G ".$1*"
}

# Runs a command with a limit of time; its words are in out and err, its status in code.
try() { # COMMAND...; preload=LIBRARY before it: with that in the program alone, not in timeout
    { timeout -k 1 "${limit:-60}" ${preload:+env "LD_PRELOAD=$preload"} "$@" > out 2> err < /dev/null; } 2> /dev/null
    code=$?
}
one_line() { [ "$(grep -c '^ft: error: ' err)" = 1 ] && ! grep -qv '^ft: ' err; } # warnings may stand before it
documented() { case $code in 64 | 65 | 66 | 71 | 73 | 74 | 75 | 77 | 78 | 80 | 81) ;; *) return 1 ;; esac; }
told() { head -c 160 err | tr '\n' ' '; }

# --- tools -----------------------------------------------------------------------------------------------------------------
build() { # PRESET: build/PRESET/ft, of what the tree holds now
    (cd "$source" && cmake --preset "$1" && cmake --build "build/$1" -j "$(nproc)" --target ft) > said 2>&1 ||
        fail "build/$1: $(grep -m 2 -e 'error' -e FAILED said | tr '\n' ' ')"
}
need() { # TOOL...: or the check is skipped
    local tool
    for tool; do
        command -v "$tool" > /dev/null || { missing=$tool; return 1; }
    done
}
traced() { # LOG CALLS COMMAND...: the calls of a whole run
    local log=$1 calls=$2
    shift 2
    strace -f -o "$log" -e trace="munmap,$calls" "$@" > out 2> err < /dev/null
}
# Calls of the loader come before the first munmap, that of ld.so.cache: they are no business of ft.
calls_of() { # LOG: "call:k" for each call of the program itself
    awk '{ sub(/^[0-9]+ +/, ""); if (!match($0, /^[a-z_0-9]+\(/)) next
           call = substr($0, 1, RLENGTH - 1); n[call]++
           if (call == "munmap") main = 1
           if (main && call != "munmap") print call ":" n[call] }' "$1"
}
killed_at() { # CALL:K COMMAND...
    local call=${1%:*} k=${1#*:}
    shift
    { strace -f -o /dev/null -e trace="$call" -e inject="$call:signal=KILL:when=$k" "$@" > out 2> err < /dev/null; } 2> /dev/null
    code=$? # braces: the shell's own word on the kill is no news
}
# A file system of some size, also for a user that is not root.
in_tmpfs() { # KIB COMMANDS: shell commands that see a folder disk which holds so much; nobody else sees it
    mkdir -p disk
    unshare -rm bash -c "mount -t tmpfs -o size=$1k tmpfs disk || exit 9
        $2"
}
can_mount() { mkdir -p disk && unshare -rm mount -t tmpfs tmpfs disk 2> /dev/null; }
