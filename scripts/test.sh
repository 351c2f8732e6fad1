#!/usr/bin/env bash
# test.sh [--all] – builds and tests.  Without arguments: release build with warnings as errors, and the suite.
# --all (what CI runs): also layers and style, the suite under address and undefined-behaviour sanitizers, and a
# build with clang.
set -euo pipefail
cd "$(dirname "$0")/.."

all=false
case ${1:-} in
'') ;;
--all | --ci) all=true ;;
*) echo "usage: scripts/test.sh [--all]" >&2; exit 64 ;;
esac

scripts/install-deps.sh
jobs=$(nproc)
logs=build/logs
mkdir -p $logs
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)

step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

suite() { # PRESET
    step "build $1"
    cmake --preset "$1" -DFT_WERROR=ON ${launcher[@]+"${launcher[@]}"} >$logs/configure-$1.log ||
        { cat $logs/configure-$1.log; return 1; }
    cmake --build "build/$1" -j "$jobs"
    step "suite $1"
    ctest --test-dir "build/$1" --output-on-failure -j "$jobs" 2>&1 | tee "$logs/ctest-$1.log"
}

suite release
if $all; then
    step layers
    scripts/check-layers.sh build/release
    step style
    scripts/check-style.sh build/release
    # Address space is reserved, not used: the sanitizer's own limit would refuse it.
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:allocator_may_return_null=1
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    suite asan
    unset ASAN_OPTIONS UBSAN_OPTIONS
    step "build clang"
    CC=clang cmake -S . -B build/clang -G Ninja -DCMAKE_BUILD_TYPE=Release -DFT_WERROR=ON -DFT_TESTS=OFF \
        ${launcher[@]+"${launcher[@]}"} >$logs/configure-clang.log || { cat $logs/configure-clang.log; exit 1; }
    cmake --build build/clang -j "$jobs"
    for preset in asan release; do
        step "closing lines of $preset"
        sed -n '/tests passed/,$p' "$logs/ctest-$preset.log"
    done
fi
printf '\nAll of it passed in %d s.\n' "$SECONDS"
