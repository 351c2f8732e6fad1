#!/usr/bin/env bash
# bench-gemm.sh – ft's matrix products against oneDNN's, alternately on the same random data, in f32 and bf16: the three
# products of training (y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x) at the shapes of SmolLM2-135M and Llama-3.2-1B, LoRA's thin ones
# among them.  Prints Markdown: GFLOP/s (medians), ratios (median, minimum–maximum), and ft's share of what the processor
# multiplies at most, measured in registers.
#
#   scripts/bench-gemm.sh [OPTION]…
#     --rounds N     of ft, oneDNN with W as it is stored, oneDNN with W packed before (5)
#     --seconds S    a side and round (0.05)
#     --threads N    of both (all)
#
# oneDNN is for this comparison only; ft does not use it.  Takes some 4 minutes on two cores and 3 GB.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
complain() { echo "bench-gemm: $*" >&2; exit 1; }
usage() { echo "bench-gemm: $*; --help says more" >&2; exit 64; }

rounds=5 seconds=0.05 threads=0
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
    --rounds | --seconds | --threads) ;;
    *) usage "$1 is no option" ;;
    esac
    [ $# -gt 1 ] || usage "$1 needs a value"
    [[ $2 =~ ^[0-9]+(\.[0-9]+)?$ ]] || usage "$1: $2 is no number"
    declare "${1#--}=$2"
    shift 2
done
[[ $rounds =~ ^[1-9][0-9]?$ ]] || usage "--rounds is 1 to 99"
[[ $threads =~ ^[0-9]+$ ]] || usage "--threads is a whole number"

{ command -v c++ && [ -e /usr/include/oneapi/dnnl/dnnl.hpp ]; } >/dev/null ||
    complain "needs oneDNN and a C++ compiler (Debian: apt-get install libdnnl-dev g++)"
cd "$here"
echo "bench-gemm: building" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ cmake --preset release -DFT_TESTS=OFF -DFT_BENCH_GEMM=ON -B build/bench &&
    cmake --build build/bench -j "$(nproc)" --target bench_gemm; } >"$log" 2>&1 || { tail -n 20 "$log" >&2; complain "the build failed"; }
grep -m 1 '^model name' /proc/cpuinfo | cut -d: -f2 | sed 's/^ *//; s/$/, '"$(date +%F)"'/' || date +%F
build/bench/bench_gemm "$rounds" "$seconds" "$threads"
