#!/usr/bin/env bash
# test.sh [--all | --arm | --msan | --tsan] – builds and tests.  Without arguments: release build with warnings as errors, and the suite.
# --all (what CI runs): also layers and style, the suite under address and undefined-behaviour sanitizers, the .deb, a build
# of everything with clang and some minutes of fuzzing by it, and the short form of scripts/attack.sh.
# --msan: what reads files, and a short training, with clang's MemorySanitizer. --tsan: training, reading of data and the pool
# under ThreadSanitizer. scripts/attack.sh runs both.
# --arm: a cross build for aarch64 and, under qemu-user, the tests of kernels, formats, gradients, golden results and
# one whole training run. Says SKIPPED, and succeeds, where the packages for it cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

all=false
arm=false
sanitizer=
case ${1:-} in
'') ;;
--all | --ci) all=true ;;
--arm) arm=true ;;
--msan | --tsan) sanitizer=${1#--} ;;
*) echo "usage: scripts/test.sh [--all | --arm | --msan | --tsan]" >&2; exit 64 ;;
esac

jobs=$(nproc)
logs=build/logs
mkdir -p $logs
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)

arm_tests='test_kernel|test_kernel_rows|test_kernel_attn|test_kernel_bf16|test_dtype|test_bnb|test_gradcheck'
arm_tests+='|test_bitnet|test_optim|test_optim_rules|test_train_golden|test_gguf_split'
msan_tests='test_json|test_cfg|test_io|test_lines|test_zstd|test_gguf|test_gguf_split|test_hostile|test_template|test_chat'
msan_tests+='|test_bitnet|test_data|test_data_fields|test_folders|test_weights|test_open|test_adapters|test_tokenizer|test_fuzzed|test_train'
# What tries a script of this folder, measures time, or asks whole runs for the same bytes of windows (test_data_window reads
# them) finds no fault of memory that the others do not find.
not_asan='cli_windows|cli_ci|cli_run|cli_compare|cli_tour|cli_feedback|cli_rlhf|cli_bench|test_time'
tsan_tests='test_data|test_data_files|test_infer|test_lines|test_prompt|test_follow|test_fuzzed|test_train'

step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

suite() { # PRESET [CTEST OPTION...]
    step "build $1"
    cmake --preset "$1" -DFT_WERROR=ON ${launcher[@]+"${launcher[@]}"} >$logs/configure-$1.log ||
        { cat $logs/configure-$1.log; return 1; }
    cmake --build "build/$1" -j "$jobs"
    step "suite $1"
    ctest --test-dir "build/$1" --output-on-failure -j "$jobs" "${@:2}" 2>&1 | tee "$logs/ctest-$1.log"
}

# A short training run of the program itself, up to the adapter on disk.
arm_run() {
    local out=build/arm64/run
    rm -rf $out
    qemu-aarch64 -cpu max -L build/arm64-root build/arm64/ft train configs/lora.json --out $out -q \
        --set train.max_steps=8 --set train.precision=f32
    qemu-aarch64 -cpu max -L build/arm64-root build/arm64/ft version
    [ -s $out/adapter_model.safetensors ]
}

if $arm; then
    if ! scripts/install-deps.sh --arm >$logs/install-arm.log 2>&1; then
        tail -n 3 $logs/install-arm.log
        echo "SKIPPED: the cross compiler, qemu-user or the arm64 libraries cannot be installed here"
        exit 0
    fi
    step "build arm64"
    cmake --preset arm64 ${launcher[@]+"${launcher[@]}"} >$logs/configure-arm64.log ||
        { cat $logs/configure-arm64.log; exit 1; }
    cmake --build build/arm64 -j "$jobs"
    step "tests under qemu-aarch64"
    ctest --test-dir build/arm64 --output-on-failure -j "$jobs" -R "^($arm_tests)\$"
    step "training under qemu-aarch64"
    arm_run
    printf '\nAll of it passed in %d s.\n' "$SECONDS"
    exit 0
fi

if [ -n "$sanitizer" ]; then
    scripts/install-deps.sh
    export MSAN_OPTIONS=halt_on_error=1 TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
    # MemorySanitizer knows nothing of what OpenBLAS writes, and the loops for newer processors are built without it.
    [ "$sanitizer" = tsan ] || export FT_CPU=generic
    tests=${sanitizer}_tests
    suite "$sanitizer" -R "^(${!tests})\$"
    step "training under $sanitizer"
    rm -rf "build/$sanitizer/run"
    "build/$sanitizer/ft" train configs/lora.json --out "build/$sanitizer/run" -q --threads 4 \
        --set train.max_steps=4 --set train.checkpoint_every=2 --set data.max_length=64
    printf '\nAll of it passed in %d s.\n' "$SECONDS"
    exit 0
fi

scripts/install-deps.sh
suite release
if $all; then
    step layers
    scripts/check-layers.sh build/release
    step style
    scripts/check-style.sh build/release
    # Address space is reserved, not used: the sanitizer's own limit would refuse it.
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:allocator_may_return_null=1
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    suite asan -E "^($not_asan)\$"
    unset ASAN_OPTIONS UBSAN_OPTIONS
    step "package"
    scripts/package.sh
    step "build with clang, fuzzing" # all of src, warnings as errors
    scripts/fuzz.sh --short 6 # longer runs still find something new now and then: they are scripts/fuzz.sh HOURS
    # One tree has one verdict: the points are the same each time. By hand other ones are drawn, and the long form has all.
    step "attack"
    scripts/attack.sh --short --seed 1 --ft build/release/ft
    for preset in asan release; do
        step "closing lines of $preset"
        sed -n '/tests passed/,$p' "$logs/ctest-$preset.log"
    done
fi
printf '\nAll of it passed in %d s.\n' "$SECONDS"
