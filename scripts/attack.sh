#!/usr/bin/env bash
# attack.sh [--short] [--seed N] [--ft PROGRAM] [--list] [GOAL...] – every promise under attack: kills, failing
# allocations and system calls, full disks, damaged files, escapes, time, leaks, the same bits.
#
#   (nothing)       every check, at all of its points: about an hour on two cores
#   --short         ten minutes: points are drawn by a seed, which is printed (scripts/test.sh --all runs this form)
#   --seed N        draws the same points again
#   --ft PROGRAM    what is attacked (default build/release/ft, built first); --asan PROGRAM, --debug PROGRAM: builds with
#                   sanitizers and with assertions, by which F9 and P16 go. Without --short these, and those under TSan and
#                   MSan, are built here; with it F9 goes by build/asan/ft where that stands
#   --list          the goals, and where each is held (docs/goals.md)
#   GOAL            R1, F3, P …: these only, or all that begin with these letters; F1_merge …: one check
#
# A check prints its goal, what was tried, a figure, and held, NOT held or why it was skipped; the table comes at the end.
# Works in a temporary folder, and leaves nothing; two checks run at a time.  Needs strace, perl and a C compiler
# (scripts/install-deps.sh).  Exit status: 0 all held but those that docs/goals.md calls open, 1 another goal is not held, 64
# usage, 70 the attack itself does not run.
set -u
source=$(cd "$(dirname "$0")/.." && pwd)

usage() { sed -n '2,/^set -u/p' "$source/scripts/attack.sh" | sed '/^set -u/d; s/^# \{0,1\}//'; }
short=false seed=$((RANDOM * 32768 + RANDOM)) ft='' asan='' debug='' wanted=()
while [ $# -gt 0 ]; do
    case $1 in
    --short) short=true ;;
    --seed | --ft | --asan | --debug)
        [ $# -gt 1 ] || { echo "attack: $1 needs a value" >&2; exit 64; }
        printf -v "${1#--}" %s "$2"
        shift
        ;;
    --list) sed -n '/^| id/,$p' "$source/docs/goals.md"; exit ;;
    --help | -h) usage; exit ;;
    -* | '') echo "attack: unknown option $1" >&2; exit 64 ;;
    *) wanted+=("$1") ;;
    esac
    shift
done
case $seed in '' | *[!0-9]*) echo "attack: --seed $seed is no number" >&2; exit 64 ;; esac

# shellcheck source=/dev/null
for file in "$source"/scripts/attack/*.sh; do . "$file" || exit 70; done
mapfile -t checks < <(grep -ho '^check_[A-Za-z0-9_]*' "$source"/scripts/attack/*.sh)
of_goal() { local name=${1#check_}; echo "${name%%_*}"; }
chosen=()
for check in "${checks[@]}"; do
    [ ${#wanted[@]} -gt 0 ] || chosen+=("$check")
    for want in ${wanted[@]+"${wanted[@]}"}; do # a check, a goal by its number, or all that begin so
        case $want:$(of_goal "$check"):${check#check_} in
        "$want:$want:"* | *[!0-9]:"$want"*:* | *:"$want") chosen+=("$check"); break ;;
        esac
    done
done
[ ${#chosen[@]} -gt 0 ] || { echo "attack: no check for ${wanted[*]}; see --list" >&2; exit 64; }

for tool in strace perl gcc timeout; do
    command -v $tool > /dev/null || { echo "attack: $tool is missing; see scripts/install-deps.sh" >&2; exit 70; }
done
perl -MJSON::PP -e 1 2> /dev/null || { echo "attack: perl has no JSON::PP; see scripts/install-deps.sh" >&2; exit 70; }
if [ -z "$ft" ]; then
    ft=$source/build/release/ft
    (cd "$source" && cmake --preset release && cmake --build build/release --target ft) > /dev/null ||
        { echo "attack: $ft cannot be built" >&2; exit 70; }
fi
ft=$(realpath "$ft") && [ -x "$ft" ] || { echo "attack: $ft does not run" >&2; exit 70; }

top=$(mktemp -d "${TMPDIR:-/tmp}/ft-attack-XXXXXX") || exit 70
stop() {
    local job
    for job in $(jobs -p); do kill -- "-$job" 2> /dev/null; done
    wait 2> /dev/null
    for job in 1 2 3 4 5; do # what still runs may write between
        chmod -R u+rwx "$top" 2> /dev/null
        rm -rf "$top" 2> /dev/null && break
        sleep 1
    done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
unset OPENBLAS_CORETYPE FT_CPU FT_BF16 FT_TEST_FAIL_AT FT_CGROUP_ROOT LD_PRELOAD MALLOC_PERTURB_
umask 022
mkdir "$top/base" && : > "$top/rows"
gcc -O2 -shared -fPIC "$source/tests/support/attack/shim.c" -o "$top/shim.so" -ldl || exit 70
(cd "$top/base" && make_base) || { echo "attack: the run that is attacked does not work" >&2; exit 70; }

one() { # CHECK: in a folder of its own; what it prints comes out in one piece
    local name=$1 goal begin=$SECONDS
    goal=$(of_goal "$name")
    cp -r "$top/base" "$top/$name"
    (cd "$top/$name" && "$name") > "$top/$name.said" 2>&1
    grep -q $'\t' "$top/$name.said" || (row "$name" "it gave no verdict" "NOT held") >> "$top/$name.said"
    awk -F'\t' -v s=$((SECONDS - begin)) 'NF == 4 { printf "%-4s %-62s %-22s %s (%d s)\n", $1, $2, $3, $4, s; next } { print }' \
        "$top/$name.said"
    chmod -R u+rwx "$top/$name"
    rm -rf "$top/$name"
}
echo "attack: ${#chosen[@]} checks, $($short && echo "sampled by --seed $seed" || echo "all points"), $("$ft" version | head -n 1)"
running=0
for check in "${chosen[@]}"; do
    [ $running -lt 2 ] || { wait -n; running=$((running - 1)); }
    set -m # a group of its own, so that all of it can be ended
    one "$check" &
    set +m
    running=$((running + 1))
done
wait

open=" $(sed -n '/^## Open/,$p' "$source/docs/goals.md" | grep -o '^| [A-Z][0-9]*' | tr -d '|\n')  "
sed -i -E "s/^(($(xargs <<< "$open" | tr ' ' '|')|none)\t.*)NOT held\$/\1NOT held, open/" "$top/rows"
printf '\n%-4s %-62s %-22s %s\n' goal tried figure state
sort -V "$top/rows" | awk -F'\t' '{ printf "%-4s %-62s %-22s %s\n", $1, $2, $3, $4 }'
rows=$(wc -l < "$top/rows") known=$(grep -c 'NOT held, open$' "$top/rows") lost=$(grep -c 'NOT held$' "$top/rows") passed=$(grep -c 'skipped: ' "$top/rows")
echo "attack: $((rows - lost - known - passed)) held, $lost not, $known open (docs/goals.md), $passed skipped, $SECONDS s$($short && echo ", --seed $seed")"
[ "$lost" = 0 ] && [ "$rows" -ge ${#chosen[@]} ]
