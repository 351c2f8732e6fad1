#!/usr/bin/env bash
# check-layers.sh [BUILD] – a module includes only the headers of the modules its row names, and private headers
# only of its own folder.  That keeps the graph free of cycles and every module testable with what stands above it.
# With the object files of a build folder (BUILD): the files of a module do not call each other in a circle.  Tables of rows are no calls: a registry that lists a row knows its file, that file
# may ask the registry.
set -euo pipefail
cd "$(dirname "$0")/.."

# module: what it may include besides its own header
table='
base:
cfg:       base
tensor:    base
kernel:    base tensor
io:        base cfg tensor
autograd:  base tensor kernel
token:     base cfg io
template:  base cfg io token
nn:        base tensor kernel autograd
model:     base cfg tensor kernel io autograd token nn
infer:     base tensor kernel autograd token nn model
method:    base cfg tensor kernel io autograd token nn model
reward:    base cfg tensor kernel io autograd token nn model infer method
data:      base cfg io token template nn
objective: base cfg tensor kernel io autograd token nn model infer method reward data
optim:     base cfg tensor kernel nn
train:     base cfg tensor kernel io autograd token template nn model infer method reward data objective optim
compress:  base cfg tensor kernel io autograd token nn model infer method data template
merge:     base cfg tensor io token template nn model method
tool:      base cfg tensor kernel io autograd token template nn model infer method reward data objective optim train compress merge
cli:       base cfg tensor kernel io autograd token template nn model infer method reward data objective optim train compress merge tool
'
bad=0
complain() { echo "check-layers: $*" >&2; bad=1; }

check_file() { # MODULE FILE
    local module=$1 file=$2 allowed header
    allowed=" $module $(sed -n "s/^$module: *//p" <<<"$table") "
    while read -r header; do
        case $header in
        ft/*.h)
            header=${header#ft/}
            [[ $allowed == *" ${header%.h} "* ]] || complain "$file: $module may not include ft/$header"
            ;;
        *)
            [[ $header != *..* && -e $(dirname "$file")/$header || -e src/$module/$header ]] ||
                complain "$file: \"$header\" is not a header of src/$module"
            ;;
        esac
    done < <(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file")
}

for dir in src/*/; do
    module=$(basename "$dir")
    if ! grep -q "^$module:" <<<"$table"; then
        complain "src/$module has no row in the table"
        continue
    fi
    while read -r file; do check_file "$module" "$file"; done < <(find "$dir" -name '*.[ch]' -o -name '*.inc' | sort)
done
for file in include/ft/*.h; do
    module=$(basename "$file" .h)
    if grep -q "^$module:" <<<"$table"; then check_file "$module" "$file"; else complain "$file: no such module"; fi
done

# --- circles of calls inside a module
# module: files that may call each other, and why it cannot be otherwise
circles='
base: error memory str: an error is text, text takes memory, memory that is not there is an error
method: dora lora residual: options of LoRA make it a DoRA, or take its first part out of the base; both are LoRA in all else
template: arith filter func print str value: a value finds its methods by name, methods, filters and tests take values
'
calls() { # FOLDER: "caller callee function", a line each, by the names of files without .c
    find "$1" -name '*.c.o' | sort | while read -r o; do
        file=${o#"$1"/}
        nm -g "$o" | awk -v file="${file%.c.o}" '$2 == "T" || $1 == "U" { print $1 == "U" ? "U" : "T", $NF, file }'
    done | awk '$1 == "T" { at[$2] = $3 } $1 == "U" { use[$3 " " $2] }
        END { for (k in use) { split(k, u, " "); if ((u[2] in at) && at[u[2]] != u[1]) print u[1], at[u[2]], u[2] } }'
}
build=${1:-}
objects=$build/CMakeFiles/ft_core.dir/src
if [ -n "$build" ] && [ -d "$objects" ]; then
    for dir in "$objects"/*/; do
        module=$(basename "$dir")
        # objects that a file left behind are no part of the tree
        all=$(calls "${dir%/}" | while read -r a b f; do
            [ -e "src/$module/$a.c" ] && [ -e "src/$module/$b.c" ] && echo "$a $b $f"
        done || true)
        inherent=$(sed -n "s/^$module: *\([^:]*\):.*/\1/p" <<<"$circles")
        loop=$(awk -v inherent="$inherent" 'BEGIN { n = split(inherent, f, " "); for (i = 1; i <= n; i++) may[f[i]] }
            !(($1 in may) && ($2 in may)) { print $1, $2 }' <<<"$all" | sort -u | tsort 2>&1 >/dev/null |
            sed -n 's/^tsort: \([^- ].*\)/\1/p' | sort -u | tr '\n' ' ' || true)
        [ -z "$loop" ] || complain "src/$module: files that call each other in a circle: $loop"
    done
elif [ -n "$build" ]; then
    complain "$build has no object files"
fi
[ $bad -eq 0 ] && echo "check-layers: fine"
exit $bad
