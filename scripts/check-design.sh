#!/usr/bin/env bash
# check-design.sh – docs/design.md speaks of this tree: every name in backticks and every function is in src or
# include, every path is there, a function named with a file is in that file, and the modules are those of
# check-layers.sh.  check-style.sh calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8
page=docs/design.md
bad=0
complain() { echo "check-design: $page: $*" >&2; bad=1; }

[ "$(wc -l <"$page")" -le 290 ] || complain "more than 290 lines"
[ "$(wc -L <"$page")" -le 100 ] || complain "lines of more than 100 columns"

code=$(find src include -type f | sort | xargs cat)
declare -A word call file
while read -r w; do word[$w]=1; done < <(grep -oE '[A-Za-z_][A-Za-z0-9_]*' <<<"$code" | sort -u)
while read -r w; do call[${w%(}]=1; done < <(grep -oE '[A-Za-z_][A-Za-z0-9_]*\(' <<<"$code" | sort -u)
while read -r f; do file[$(basename "$f")]=1; done < <(find src include scripts tests docs -type f)

# --- names in backticks: a path, the name of a file, or identifiers of the code
while read -r name; do
    case $name in
    *' '*/* | -* | 'ft '*) # a command: its program stands in scripts/ or is ft
        [[ $name == scripts/* && ! -e ${name%% *} ]] && complain "no ${name%% *}"
        ;;
    */*)
        [[ $name == *[A-Z][A-Z]* ]] && name=$(dirname "$name")
        [ -e "$name" ] || complain "no $name"
        ;;
    *.c | *.h | *.def | *.inc | *.sh | *.py | *.md) [ -n "${file[$name]:-}" ] || complain "no file $name" ;;
    *)
        for w in $(grep -oE '[A-Za-z_][A-Za-z0-9_]*' <<<"$name"); do
            [ -n "${word[$w]:-}" ] || complain "\"$w\" (of \"$name\") is not in src or include"
        done
        ;;
    esac
done < <(grep -v '^```' "$page" | grep -oE '`[^`]+`' | tr -d '`' | sort -u)

# --- functions, and the files they stand in
while read -r name; do
    [ -n "${call[$name]:-}" ] || complain "$name() is not in src or include"
done < <(grep -oE '[A-Za-z_][A-Za-z0-9_]*\(\)' "$page" | tr -d '()' | sort -u)
while read -r name at; do
    if [ ! -e "src/$at" ]; then
        complain "no src/$at ($name())"
    elif ! grep -qE "\b$name\(" "src/$at"; then
        complain "$name() is not in src/$at"
    fi
done < <(sed -nE 's/^ *([a-z_0-9]+)\(\) +([a-z_0-9/]+\.c)( .*)?$/\1 \2/p' "$page")

# --- the drawing of the modules: a column marked is a module that may be included
columns=$(grep -E '^ {10}ba cf ' "$page" || true)
order=$(sed -n "/^table='/,/^'/s/^\([a-z]*\):.*/\1/p" scripts/check-layers.sh)
[ -n "$columns" ] || complain "the drawing of the modules has no head"
for module in $order; do
    allowed=$(sed -n "/^table='/,/^'/s/^$module: *//p" scripts/check-layers.sh)
    want=$(for m in $order; do [[ " $allowed " == *" $m "* ]] && echo "$m"; done | tr '\n' ' ' || true)
    marks=$(sed -nE "s/^$module +(([x.] +)+).*/\1/p" "$page")
    have=$(paste <(echo "$order" | head -n "$(wc -w <<<"$columns")") <(tr -s ' ' '\n' <<<"${marks% }" | sed '/^$/d') |
        awk '$2 == "x" { print $1 }' | tr '\n' ' ')
    [ -n "$marks" ] && [ "$want" = "$have" ] || complain "the row of $module does not agree with scripts/check-layers.sh"
done
[ $bad -eq 0 ] && echo "check-design: fine"
exit $bad
