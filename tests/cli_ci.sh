#!/usr/bin/env bash
# cli_ci.sh FT SOURCE – scripts/ci-example.sh: it leaves what it says, its sums hold, and its exit status is the gates'.
. "$2/tests/support/cli.sh"
export FT=$ft

bash "$source/scripts/ci-example.sh" "$work/a" > out.txt 2> err.txt || bad "ci-example.sh gave $?: $(tail -n 2 err.txt)"
grep -q 'tests="3" failures="0"' a/junit.xml || bad "junit.xml: $(head -n 3 a/junit.xml)"
grep -q '^Gates: 3 of 3 passed' a/report.md || bad "report.md: $(head -n 6 a/report.md)"
(cd a && sha256sum --quiet -c SHA256SUMS) || bad "the sums do not hold"
for file in adapter/adapter_model.safetensors merged/model.safetensors junit.xml report.md report.html; do
    grep -q " $file\$" a/SHA256SUMS || bad "$file has no sum"
done

# Once more over it: what is trained is not trained again, and a gate out of reach is 81, told in the same files.
sed 's/"max_ratio": 0.8/"max_ratio": 0.01/' "$source/configs/ci/eval.json" | sed "s#\"../../data#\"$source/data#" > eval.json
EVAL=$work/eval.json bash "$source/scripts/ci-example.sh" "$work/a" > out.txt 2> err.txt
got=$?
[ $got = 81 ] || bad "a missed gate gave $got: $(tail -n 2 err.txt)"
grep -q 'tests="3" failures="1"' a/junit.xml || bad "junit.xml of a missed gate: $(head -n 3 a/junit.xml)"
(cd a && sha256sum --quiet -c SHA256SUMS) || bad "the sums of the second run do not hold"

echo '{"train": {"epoch": 1}}' > wrong.json
TRAIN=$work/wrong.json bash "$source/scripts/ci-example.sh" "$work/b" > out.txt 2> err.txt
got=$?
[ $got = 78 ] || bad "a wrong config gave $got"
bash "$source/scripts/ci-example.sh" --help | grep -q 'SHA256SUMS' || bad "--help does not say what it leaves"
finish cli_ci
