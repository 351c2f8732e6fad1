#!/usr/bin/env bash
# cli_scripts.sh FT SOURCE – the scripts that measure: their help, and that they refuse what they do not know before they
# build, download or measure anything.
. "$2/tests/support/cli.sh"

for script in "$source"/scripts/bench-*.sh; do
    name=$(basename "$script")
    bash "$script" --help > out.txt 2> err.txt || bad "$name --help gave $?"
    grep -q "scripts/$name" out.txt || bad "$name --help does not show how it is called"
    [ -s err.txt ] && bad "$name --help says: $(cat err.txt)"
    for words in --gone '--threads' '--threads none'; do
        # shellcheck disable=SC2086
        bash "$script" $words > out.txt 2> err.txt
        got=$?
        [ $got = 64 ] || bad "$name $words gave $got"
        grep -q -e "${words%% *}" err.txt || bad "$name $words says: $(cat err.txt)"
    done
done
if command -v python3 > /dev/null; then
    PYTHONPYCACHEPREFIX=$PWD/cache python3 -m py_compile "$source"/scripts/*.py || bad "a Python script does not compile"
fi
finish cli_scripts
