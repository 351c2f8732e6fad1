#!/usr/bin/env bash
# bench-peers.sh – the same work by ft and by PyTorch + PEFT (+ bitsandbytes), alternately in one run: LoRA, QLoRA, full
# training and scoring of SmolLM2-135M, 4 × 512 tokens a step.  Prints Markdown: rates, ratios, peak memory, and whether
# the losses agree (f32 within 1e-4, bf16 within 2e-2: if not, the exit status is 1).
#
#   scripts/bench-peers.sh [OPTION]…
#     --only LIST     of lora, qlora, full, score (all of them)
#     --modes LIST    of PyTorch's modes, e.g. f32-jemalloc,bf16-compiled (all that suit the work; the fastest stay)
#     --rounds N      of ft and PyTorch's best, alternating (3)
#     --steps N       a side and round (2)
#     --threads N     of both (all)
#     --model PATH    a Hugging Face folder or .gguf (SmolLM2 as scripts/fetch-model.sh gets it)
#     --venv DIR      a virtual environment to use; one is made where none is (~/.cache/ft-bench/venv), with torch,
#                     transformers, peft and bitsandbytes from PyPI: some 6 GB where pip takes torch with CUDA
#     --json FILE     all that was measured
#   FT=PROGRAM takes that build of ft (one is built in build/bench).
#
# PyTorch's compiled modes want a C++ compiler and Python's headers (Debian: g++, python3-dev), and jemalloc is preloaded
# where it is installed (libjemalloc2).  A mode that fails is a line of the table.  All of it takes some 40 minutes on two
# cores, most of them PyTorch's in f32 and compiling; needs 16 GB.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
complain() { echo "bench-peers: $*" >&2; exit 1; }
usage() { echo "bench-peers: $*; --help says more" >&2; exit 64; }

venv=${XDG_CACHE_HOME:-$HOME/.cache}/ft-bench/venv model='' more=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
    --only | --modes | --rounds | --steps | --threads | --json | --model | --venv) ;;
    *) usage "$1 is no option" ;;
    esac
    [ $# -gt 1 ] || usage "$1 needs a value"
    case $1 in
    --rounds | --steps | --threads) [[ $2 =~ ^[1-9][0-9]*$ ]] || usage "$1: $2 is no number from 1 on" ;;
    esac
    case $1 in
    --model) model=$2 ;;
    --venv) venv=$2 ;;
    *) more+=("$1" "$2") ;;
    esac
    shift 2
done

ft=${FT:-$here/build/bench/ft}
if [ -z "${FT:-}" ]; then
    echo "bench-peers: building ft" >&2
    (cd "$here" && cmake --preset release -DFT_TESTS=OFF -B build/bench >/dev/null &&
        cmake --build build/bench -j "$(nproc)" --target ft >/dev/null) ||
        complain "the build failed; scripts/install-deps.sh gets what it needs"
fi
[ -x "$ft" ] || complain "$ft is no program"

if [ -z "$model" ]; then
    "$here/scripts/fetch-model.sh" >&2 || complain "no model: --model takes a Hugging Face folder or a .gguf"
    model=$here/models/SmolLM2-135M-Instruct.Q4_1.gguf
fi
[ -e "$model" ] || complain "$model is not there"

if [ ! -x "$venv/bin/python" ]; then
    command -v python3 >/dev/null || complain "needs python3"
    python3 -m venv "$venv" || complain "cannot make a virtual environment in $venv (Debian: python3-venv)"
fi
if ! "$venv/bin/python" -c 'import torch, transformers, peft, bitsandbytes, accelerate' 2>/dev/null; then
    echo "bench-peers: installing torch, transformers, peft and bitsandbytes into $venv" >&2
    "$venv/bin/python" -m pip install --quiet torch transformers peft bitsandbytes accelerate >&2 ||
        complain "pip could not install them; --venv takes an environment that has them"
fi

exec "$venv/bin/python" "$here/scripts/bench_peers.py" --ft "$ft" --model "$model" ${more[@]+"${more[@]}"}
