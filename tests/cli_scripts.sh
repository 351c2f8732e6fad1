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
bash "$source/scripts/attack.sh" --help > out.txt 2> err.txt || bad "attack.sh --help gave $?"
grep -q -e '--short' out.txt || bad "attack.sh --help: $(head -n 2 out.txt)"
for words in --gone --seed '--seed none' R99; do
    # shellcheck disable=SC2086
    bash "$source/scripts/attack.sh" $words > out.txt 2> err.txt
    got=$?
    [ $got = 64 ] || bad "attack.sh $words gave $got: $(head -n 2 err.txt)"
done
# each goal of the scripts stands in the table, and what the table says of the suite is there
bash "$source/scripts/attack.sh" --list > goals.txt
for goal in $(grep -ho '^check_[A-Z][0-9]*' "$source"/scripts/attack/*.sh | sort -u); do
    grep -q "^| ${goal#check_} .*attack" goals.txt || [ "$goal" = check_D4 ] || bad "attack.sh tries ${goal#check_}, docs/goals.md does not say so"
done
for name in $(grep -o '`[a-z_]*`' goals.txt | tr -d '`' | sort -u); do
    grep -rqE "$name" "$source/tests" "$source/CMakePresets.json" || ls "$source/tests/$name".* > ls.txt 2>&1 || bad "docs/goals.md names $name, which is not there"
done
if has python3; then
    PYTHONPYCACHEPREFIX=$PWD/cache python3 -m py_compile "$source"/scripts/*.py || bad "a Python script does not compile"
fi
finish cli_scripts
