#!/usr/bin/env bash
# check-analyzers.sh [TOOL...] – what gcc -fanalyzer, clang-tidy and cppcheck find in src (all three without arguments: names
# fanalyzer, tidy, cppcheck). A finding stands in scripts/analyzers.txt with the reason why it is none, or it fails; so does a
# row there that nothing is found for any more. What they are told beforehand is in scripts/analyzers.h. Needs build/release
# (compile_commands.json).
set -euo pipefail
cd "$(dirname "$0")/.."
exceptions=scripts/analyzers.txt
facts=scripts/analyzers.h
jobs=$(nproc)
out=build/logs
mkdir -p $out
tools=("$@")
[ ${#tools[@]} -gt 0 ] || tools=(fanalyzer cppcheck tidy)
libraries=(libcjson libpcre2-8 libutf8proc libedit yaml-0.1 libzstd zlib)
flags=(-std=c11 -Iinclude -Isrc -D_GNU_SOURCE '-DFT_VERSION="x"' -include $facts)
read -ra more < <(pkg-config --cflags "${libraries[@]}")
flags+=("${more[@]}")

# Loops on numbers are one text for every instruction set, full of intrinsics: the suite and its sanitizers look at those.
sources() { find src -name '*.c' -not -name 'kern_*' | sort; }

# Each prints its findings as FILE:LINE:COL: text [check]
run_fanalyzer() { sources | xargs -P "$jobs" -n 4 sh -c 'for f; do gcc -O1 -fanalyzer -c -o /dev/null "$f" $FLAGS; done' sh 2>&1; }
run_tidy() { # one file a process: clang 14 tells every va_list of a second one
    sources | xargs -P "$jobs" -n 1 clang-tidy -p build/release --quiet --extra-arg=-include --extra-arg="$PWD/$facts" 2>/dev/null || true
}
run_cppcheck() {
    sources | xargs -P "$jobs" -n 40 cppcheck -q --std=c11 --enable=warning,portability,performance -D_GNU_SOURCE -DCPPCHECK \
        '-DFT_VERSION="x"' --include=$facts -Iinclude -Isrc --suppress=missingInclude --suppress=missingIncludeSystem \
        --template='{file}:{line}:{column}: {severity}: {message} [{id}]' 2>&1
}
printf -v FLAGS '%s ' "${flags[@]}"
export FLAGS

# FILE CHECK COUNT of a log
findings() {
    sed -nE "s|^$PWD/||; s|^(src/[a-zA-Z0-9_/.]+\|include/[a-zA-Z0-9_/.]+):([0-9]+):([0-9]+: )?.*\[([-a-zA-Z0-9_.,=]+)\]\$|\1:\2 \4|p" "$1" |
        sed -E 's/-Werror=//; s/,-warnings-as-errors//' | sort -u | awk '{ split($1, a, ":"); n[a[1] " " $2]++ } END { for (k in n) print k, n[k] }' | sort
}

bad=0
for tool in "${tools[@]}"; do
    started=$SECONDS
    "run_$tool" >"$out/analyzer-$tool.log" || true
    findings "$out/analyzer-$tool.log" >"$out/analyzer-$tool.txt"
    awk -F'|' -v t="$tool" '$1 ~ "^" t " *$" { split($2, a, " "); print a[1], a[2], a[3] }' $exceptions >"$out/excused-$tool.txt"
    while read -r file check n most; do
        echo "check-analyzers: $tool: $n of $check in $file, $most with a reason: mend it, or say why not in $exceptions" >&2
        grep -E "^($PWD/)?$file:.*$check" "$out/analyzer-$tool.log" | sort -u >&2
        bad=1
    done < <(awk 'FILENAME ~ /excused/ { most[$1 " " $2] = $3; next } $3 > most[$1 " " $2] + 0 { print $0, most[$1 " " $2] + 0 }' \
        "$out/excused-$tool.txt" "$out/analyzer-$tool.txt")
    while read -r file check; do
        echo "check-analyzers: $exceptions: $tool finds no $check in $file any more" >&2
        bad=1
    done < <(awk -v found_in="$out/analyzer-$tool.txt" 'FILENAME == found_in { found[$1 " " $2] = 1; next } !found[$1 " " $2] { print $1, $2 }' \
        "$out/analyzer-$tool.txt" "$out/excused-$tool.txt")
    echo "check-analyzers: $tool: $(wc -l <"$out/analyzer-$tool.txt") rows, $((SECONDS - started)) s"
done
exit $bad
