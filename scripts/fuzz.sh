#!/usr/bin/env bash
# fuzz.sh HOURS [TARGET...] | --short [SECONDS [TARGET...]] | --coverage | --integer – fuzzing of all that reads what others wrote.
# HOURS (0.5 is half an hour) are divided among the targets, two at a time; what they found is kept, with a table of executions
# a target, then the coverage of parser files by the corpora. --short is what CI runs: replays every corpus, then fuzzes each
# target for SECONDS (20); the first thing found ends it with exit 1 and the path of the input. Both under address and
# undefined-behaviour sanitizers. --integer: the corpora again, where unsigned sums that wrap and conversions that lose bits are
# faults too. --coverage: lines of the parsers that the corpora reach. An input is tried again with build/fuzz/fuzz_TARGET FILE.
# FT_FUZZ_WORK (default build/fuzz/work): corpora, logs, what was found. fuzz/README.md tells the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${FT_FUZZ_WORK:-build/fuzz/work}
jobs=$(nproc)
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)

usage() { sed -n '2,8s/^# //p' "$0" >&2; exit 64; }

build() { # PRESET
    mkdir -p build/logs
    cmake --preset "$1" ${launcher[@]+"${launcher[@]}"} >"build/logs/configure-$1.log" ||
        { cat "build/logs/configure-$1.log"; exit 1; }
    cmake --build "build/$1" -j "$jobs" >"build/logs/build-$1.log" || { tail -n 40 "build/logs/build-$1.log"; exit 1; }
}

all_targets() { for f in fuzz/*.c; do basename "$f" .c; done; }

# Seeds made of the tree, what is packed in fuzz/corpus, and what was found once.
corpora() { # PRESET
    rm -rf "$work/seeds"
    mkdir -p "$work/seeds" "$work/found" "$work/logs"
    "build/$1/seeds" "$work/seeds"
    for a in fuzz/corpus/*.tar.xz; do
        [ ! -e "$a" ] || tar -C "$work/seeds" -xJf "$a"
    done
    [ ! -d fuzz/found ] || cp -r fuzz/found/. "$work/seeds/"
    for t in $(all_targets); do mkdir -p "$work/seeds/$t" "$work/corpus/$t"; done
}

dictionary() {
    case $1 in
    template | chat) echo jinja ;;
    regex | match) echo regex ;;
    gguf | gguf_tok) echo gguf ;;
    *) echo json ;;
    esac
}

# TARGET SECONDS [OPTION...]: the log in $work/logs/TARGET.
fuzz_one() {
    local t=$1 seconds=$2 length=16384
    shift 2
    case $t in gguf | gguf_tok | tokenizer | safetensors | model | adapter) length=65536 ;; esac
    ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
        "build/fuzz/fuzz_$t" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=$length \
        -dict="fuzz/dict/$(dictionary "$t").dict" -artifact_prefix="$work/found/$t-" -print_final_stats=1 "$@" \
        "$work/corpus/$t" "$work/seeds/$t" >"$work/logs/$t" 2>&1
}

executions() { # of a log, forked or not
    [ -e "$work/logs/$1" ] || { echo 0; return; } # one before it ended all
    awk '/^#[0-9]+:/ { n = substr($1, 2) + 0 } /stat::number_of_executed_units/ { n = $2 } END { print n + 0 }' "$work/logs/$1"
}

table() {
    local total=0 n
    printf '%-14s %12s %8s %6s\n' target executions inputs found
    for t in "$@"; do
        n=$(executions "$t")
        total=$((total + n))
        printf '%-14s %12d %8d %6d\n' "$t" "$n" "$(find "$work/corpus/$t" "$work/seeds/$t" -type f | wc -l)" \
            "$(find "$work/found" -name "$t-*" | wc -l)"
    done
    printf '%-14s %12d\n' together "$total"
}

short() {
    local seconds=$1 bad=0
    shift
    build fuzz
    rm -rf "$work"
    corpora fuzz
    export -f fuzz_one dictionary
    export work
    # Stops at the first that fails: 255 tells xargs so. One seed: a change is judged by itself, chance by the long runs.
    printf '%s\n' "$@" | xargs -P "$jobs" -I{} bash -c "fuzz_one {} $seconds -seed=1 || { echo {} >>\"$work/failed\"; exit 255; }" || bad=1
    table "$@"
    [ $bad -eq 0 ] && [ ! -e "$work/failed" ] && return
    for t in $(cat "$work/failed"); do
        grep -vE '^(#|INFO|stat::|[0-9x ,\\]*$)' "$work/logs/$t" | head -n 40
        echo "fuzz.sh: $t: $(find "$PWD/$work/found" -name "$t-*" | head -n 1)"
        echo "    again: build/fuzz/fuzz_$t that file"
    done
    exit 1
}

long() { # HOURS TARGET...
    local hours=$1 each
    shift
    each=$(awk -v h="$hours" -v j="$jobs" -v n=$# 'BEGIN { printf "%d", h * 3600 * j / n }')
    [ "$each" -ge 10 ] || { echo "fuzz.sh: that is $each s a target: too little" >&2; exit 64; }
    build fuzz
    corpora fuzz
    export -f fuzz_one dictionary
    export work
    printf '%s\n' "$@" | xargs -P "$jobs" -I{} bash -c \
        "fuzz_one {} $each -fork=1 -ignore_crashes=1 -ignore_timeouts=1 -ignore_ooms=1 || true"
    table "$@"
    find "$work/found" -type f | sort | sed 's/^/found: /'
    coverage "$work/corpus"
    [ -z "$(find "$work/found" -type f)" ]
}

# Files that read what others wrote.
parsers() {
    ls src/io/{bytes,gguf,gguf_get,lines,safetensors,weights}.c src/cfg/*.c src/template/*.c src/token/*.c \
        src/data/{chat_lost,chat_mask,chat_turns,config,csv,fields,format,format_preference,format_prompt,offsets}.c \
        src/data/{read,read_text,record_turns}.c src/merge/{recipe,refs,setting,tokens}.c \
        src/method/{adapter_config,adapter_file,match,target}.c src/model/{config,gguf_config,keys}.c \
        src/model/quant{,_awq,_bitnet,_bnb,_gptq,_packed}.c src/objective/rollouts_file.c src/reward/{match,pattern}.c \
        src/tool/{compress_config,eval_config,evolve_genome,fetch_list,fetch_pick,judge,judge_match,report_run}.c \
        src/tool/{request,score}.c src/train/{config,state}.c |
        grep -vE '_(tab)\.c$'
}

# [FOLDER]: lines that are reached by the inputs of the tree alone, or by those of FOLDER/TARGET too. The second figure of all leaves
# out lines that stand for memory and system calls that fail: a line that says FT_EMEM, "out of memory", or hands errno on.
# build/logs/uncovered.txt has each line that is not reached.
coverage() {
    local out=build/fuzz-coverage objects=() more=() profdata cov t
    profdata=$(command -v llvm-profdata || command -v llvm-profdata-14)
    cov=$(command -v llvm-cov || command -v llvm-cov-14)
    build fuzz-coverage
    corpora fuzz-coverage
    rm -f $out/*.profraw
    for t in $(all_targets); do
        objects+=(${objects[0]:+-object} "$out/fuzz_$t") # the first one stands alone
        more=(${1:+"$1/$t"})
        LLVM_PROFILE_FILE=$out/$t.profraw "$out/fuzz_$t" -runs=0 -timeout=60 -max_len=1048576 "$work/seeds/$t" \
            ${more[@]+"${more[@]}"} >"build/logs/coverage-$t.log" 2>&1 ||
            echo "fuzz.sh: $t: see build/logs/coverage-$t.log"
    done
    "$profdata" merge -sparse -o $out/all.profdata $out/*.profraw
    "$cov" export -format=lcov "${objects[@]}" -instr-profile=$out/all.profdata >build/logs/coverage.info
    awk -v names="$(parsers | tr '\n' ' ')" -v left=build/logs/uncovered.txt '
        function row(name, lines, hit) { printf "%-38s %6d lines %7.2f%%\n", name, lines, lines ? 100 * hit / lines : 0 }
        BEGIN { printf "" >left; n = split(names, each, " "); for (i = 1; i <= n; i++) parser[each[i]] = 1 }
        /^SF:/ {
            name = $0; sub(/.*\/src\//, "src/", name); split("", text); lines = hit = n = 0
            while (name in parser && (getline line <name) > 0) text[++n] = line
            close(name)
        }
        !(name in parser) { next }
        /^DA:/ {
            split(substr($0, 4), a, ",")
            failing = text[a[1]] ~ /FT_EMEM|out of memory|no_memory\(|_errno\(/
            lines++; all++; usual += !failing
            if (a[2] > 0) { hit++; all_hit++; usual_hit += !failing } else print name ":" a[1] ": " text[a[1]] >left
        }
        /^end_of_record/ { row(name, lines, hit) }
        END { row("together", all, all_hit); row("without failing memory and system", usual, usual_hit) }' build/logs/coverage.info
}

integer() {
    local bad=0 log
    build fuzz-integer
    [ -d "$work/seeds" ] || corpora fuzz-integer
    for t in $(all_targets); do
        log=build/logs/integer-$t.log
        UBSAN_OPTIONS=print_stacktrace=1 "build/fuzz-integer/fuzz_$t" -runs=0 -timeout=60 -artifact_prefix="$work/found/$t-" \
            "$work/corpus/$t" "$work/seeds/$t" >"$log" 2>&1 && continue
        echo "fuzz.sh: $t:"
        grep -E 'runtime error|ERROR' -A 6 "$log" | head -n 12
        bad=1
    done
    [ $bad -eq 0 ] && echo "fuzz.sh: no sum wraps and no conversion loses bits, but where FT_WRAPS says so"
    return $bad
}

case ${1:-} in
--short)
    shift
    seconds=${1:-20}
    [ $# -eq 0 ] || shift
    # shellcheck disable=SC2046
    if [ $# -eq 0 ]; then set -- $(all_targets); fi
    short "$seconds" "$@"
    ;;
--coverage) coverage ;;
--integer) integer ;;
'' | -*) usage ;;
*)
    hours=$1
    shift
    [[ $hours =~ ^[0-9]*\.?[0-9]+$ ]] || usage
    # shellcheck disable=SC2046
    if [ $# -eq 0 ]; then set -- $(all_targets); fi
    long "$hours" "$@"
    ;;
esac
