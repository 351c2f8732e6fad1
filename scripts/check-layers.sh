#!/usr/bin/env bash
# check-layers.sh – a module includes only the headers of the modules its row names, and private headers only
# of its own folder.  That keeps the graph free of cycles and every module testable with what stands above it.
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
template:  base cfg token
nn:        base cfg tensor kernel io autograd
model:     base cfg tensor kernel io autograd token nn
infer:     base tensor kernel autograd token nn model
method:    base cfg tensor kernel io autograd token nn model
data:      base cfg io token template nn
objective: base cfg tensor kernel io autograd token nn model infer data
optim:     base cfg tensor kernel nn
train:     base cfg tensor kernel io autograd token template nn model infer method data objective optim
tool:      base cfg tensor kernel io autograd token template nn model infer method data objective optim train
cli:       base cfg tensor kernel io autograd token template nn model infer method data objective optim train tool
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
[ $bad -eq 0 ] && echo "check-layers: fine"
exit $bad
