#!/usr/bin/env bash
# cli_fetch.sh FT SOURCE – `ft fetch` from an endpoint on the loopback (support/hub/hub.pl) that behaves and misbehaves: what is
# taken, from where, with which token; every kind of failure with its code, nothing half-written, and a later run that goes on.
. "$(dirname "$0")/support/cli.sh"
shopt -s nullglob
command -v perl > /dev/null || { echo "cli_fetch: skipped, perl is missing"; exit 0; }
unset HF_TOKEN http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY
mkdir -p h/repo/org/tiny h/repo/org/sharded h/repo/org/quants h/repo/org/pickled h/repo/datasets/org/rows/data h/repo/datasets/org/packed
cp "$source"/data/tiny/* h/repo/org/tiny
printf 'card\n' > h/repo/org/tiny/README.md
printf 'terms\n' > h/repo/org/tiny/LICENSE
mkdir h/repo/org/tiny/onnx
printf 'other\n' | tee h/repo/org/tiny/onnx/model.onnx h/repo/org/tiny/training_args.bin h/repo/org/tiny/.gitattributes > h/repo/org/tiny/'a file+100%.txt'
tee h/repo/org/sharded/config.json > h/repo/org/quants/config.json < "$source/data/tiny/config.json"
for i in 1 2 3; do head -c 3000 /dev/urandom > h/repo/org/sharded/model-0000$i-of-00003.safetensors; done
head -c 99 /dev/urandom > h/repo/org/sharded/consolidated.safetensors
printf '{"weight_map": {"a": "model-00001-of-00003.safetensors", "b": "model-00002-of-00003.safetensors", "c": "model-00001-of-00003.safetensors", "d": "model-00003-of-00003.safetensors"}}' > h/repo/org/sharded/model.safetensors.index.json
for q in Q4_0 Q8_0; do head -c 5000 /dev/urandom > h/repo/org/quants/m.$q.gguf; done
head -c 100 /dev/urandom > h/repo/org/pickled/pytorch_model.bin
printf '{"prompt": "a", "completion": "b"}\n' | tee h/repo/datasets/org/rows/data/train.jsonl > h/repo/datasets/org/rows/test.jsonl
gzip -c h/repo/datasets/org/rows/test.jsonl > h/repo/datasets/org/rows/more.jsonl.gz
printf 'x' | tee h/repo/datasets/org/rows/image.png > h/repo/datasets/org/packed/train.parquet
: > h/mode
perl "$source/tests/support/hub/hub.pl" "$work/h" &
server=$!
trap 'kill $server 2> /dev/null; rm -rf "$work"' EXIT
for _ in $(seq 100); do [ -s h/ports ] && break; sleep 0.05; done
read -r hub store < h/ports
export HF_ENDPOINT=http://127.0.0.1:$hub FT_TEST_RETRY_SECONDS=2 # pauses of 0.05 s and more; 3 s of silence are too many
out=out err=err jobs_of=()
bad() { # also of a case that runs beside
    echo "FAILED: $*"
    : > failed
}
weights='resolve/.*/model.safetensors$'

mode() { # LINE...: how it misbehaves from here on
    rm -f h/count-* h/requests
    printf '%s\n' "$@" > h/mode
}
# gets CODE PATTERN DIR ARGUMENT...: one line of an error that fits, and every file under its name is whole.
gets() {
    local code=$1 pattern=$2 dir=$3 rc
    shift 3
    timeout 60 "$ft" fetch "$@" --out "$dir" > "$out" 2> "$err" < /dev/null
    rc=$?
    [ $rc = "$code" ] || bad "$*: exit $rc, not $code: $(tail -n 2 "$err")"
    if [ "$code" = 0 ]; then
        grep -q -- "$pattern" "$out" "$err" || bad "$*: not told: $pattern: $(cat "$out" "$err")"
    else
        [ "$(grep -c '^ft: error: ' "$err")" = 1 ] || bad "$*: not one line: $(cat "$err")"
        grep '^ft: error: ' "$err" | grep -qE -- "$pattern" || bad "$*: not told: $pattern: $(cat "$err")"
    fi
    whole "$dir" "${id:-org/tiny}"
}
whole() { # DIR ID
    local f
    [ -d "$1" ] || return
    while read -r f; do
        cmp -s "$1/$f" "h/repo/$2/$f" || bad "$1/$f: is not that of $2"
    done < <(cd "$1" && find . -type f ! -name '.fetch*' | sed 's,^\./,,')
    [ ! -e "$1/.lock" ] || bad "$1: its lock stays"
}
has() { # DIR NAMES: these files and no others, no part
    local found
    found=$(cd "$1" && find . -type f | sed 's,^\./,,' | LC_ALL=C sort | xargs)
    [ "$found" = "$2" ] || bad "$1: holds $found, not $2"
}
parts() { local all=("$1"/.fetch-*.part); [ ${#all[@]} = "$2" ] || bad "$1: ${#all[@]} parts, not $2"; }
asked() { # N REGEX: so many requests fit
    local n
    n=$(grep -cE -- "$2" h/requests)
    [ "$n" = "$1" ] || bad "$n requests for $2, not $1: $(cat h/requests)"
}
status() { sed -n "s/^{\"path\":\"$1\",.*\"status\":\"\([a-z]*\)\"}\$/\1/p" "$out"; }

# --- what is taken
model_files='LICENSE README.md config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json'
mode 'hub:.*safetensors store'
HF_TOKEN=secret gets 0 'next: ft init --model m --data FILE' m org/tiny
has m "$model_files"
asked 0 'store:.*token=.'
asked 8 'hub:.*token=Bearer secret$'
asked 1 'store:.*'
"$ft" check --model m --data h/repo/datasets/org/rows/test.jsonl --set output.dir=run > out 2>&1 || bad "what was fetched is no model: $(tail -n 1 out)"
mode
gets 0 present m org/tiny --json
asked 0 resolve
[ "$(wc -l < out)" = 8 ] && [ "$(grep -c '"status":"present"' out)" = 7 ] || bad "a second run: $(cat out)"
[ "$(status model.safetensors)" = present ] || bad "status: $(cat out)"
grep -q "^{\"path\":\"model.safetensors\",\"size\":$(stat -c %s m/model.safetensors),\"sha256\":\"$(sha256sum < m/model.safetensors | cut -d' ' -f1)\",\"status\":\"present\"}\$" out || bad "a line of a file: $(cat out)"
tail -n 1 out | grep -qE "^\{\"commit\":\"[0-9a-f]{40}\",\"files\":7,\"bytes\":$(cat m/* | wc -c),\"seconds\":[0-9.]+\}\$" || bad "the last line: $(tail -n 1 out)"
printf x >> m/model.safetensors
printf '{"x"' | dd of=m/config.json conv=notrunc status=none
gets 0 'fetched again' m org/tiny # what is no longer whole
has m "$model_files"
mode 'hub:.*revision tree'
gets 0 'at commit' t org/tiny@main # pages
has t "$model_files"
mode 'hub:.*revision names' 'hub:.*tree status 404'
gets 0 'at commit' t2 org/tiny # hashes with the files
has t2 "$model_files"
mode 'hub:.*revision names' 'hub:.*tree status 404' 'hub:.*resolve shout'
gets 0 'at commit' t4 org/tiny # in capitals
has t4 "$model_files"
mode 'hub:.*revision tree' 'hub:.*tree round'
gets 65 'a page is its own next one' t3 org/tiny
asked 1 tree
mode 'hub:.*revision names' 'hub:.*tree status 404' 'hub:.*resolve bare'
gets 65 'states no hash' t3 org/tiny
[ ! -e t3 ] || bad "a folder for nothing"
mode 'hub:.*revision names' 'hub:.*tree status 404' 'hub:.*resolve store'
gets 0 present t2 org/tiny --json
[ "$(grep -c '"status":"present"' out)" = 7 ] || bad "what the first answer states: $(cat out)"
asked 0 store:
id=org/sharded
mode
gets 0 'at commit' s org/sharded --parallel 2
has s 'config.json model-00001-of-00003.safetensors model-00002-of-00003.safetensors model-00003-of-00003.safetensors model.safetensors.index.json'
id=org/quants
gets 64 'several .gguf.*m.Q4_0.gguf \(4.9 KiB\), m.Q8_0.gguf \(4.9 KiB\)' q org/quants
[ ! -e q ] || bad "a folder for nothing"
gets 0 'ft inspect q' q org/quants --include '*.json'
rm h/repo/org/quants/m.Q8_0.gguf
gets 0 'ft init --model q/m.Q4_0.gguf' q org/quants
has q 'config.json m.Q4_0.gguf'
gets 66 'pytorch_model.bin, a pickle' p org/pickled
id=datasets/org/rows
gets 0 'ft data d/' d --dataset org/rows
has d 'data/train.jsonl more.jsonl.gz test.jsonl'
gets 66 'Parquet alone' p --dataset org/packed
id=
gets 0 'at commit' i org/tiny --include 'onnx*' --include '*%*' --include none
has i 'a file+100%.txt onnx/model.onnx'
gets 66 'none of the' i2 org/tiny --include nothing
gets 64 'ORG/NAME' i2 tiny
gets 64 'ORG/NAME' i2 org/../x
for revision in '' . ..; do gets 64 'revision' i2 "org/tiny@$revision"; done
HF_ENDPOINT=ftp://127.0.0.1 gets 64 'HF_ENDPOINT' i2 org/tiny
HF_TOKEN=$'a\nX: b' gets 64 'HF_TOKEN' i2 org/tiny
gets 73 'is a file' err org/tiny
[ ! -e i2 ] || bad "a folder for nothing"

# --- who may
mode 'hub:.*revision status 401 X-Error-Code GatedRepo'
HF_TOKEN=t gets 77 "gated: accept its conditions at $HF_ENDPOINT/org/tiny" x org/tiny
mode "hub:.*$weights status 403"
gets 77 'set HF_TOKEN' x org/tiny
mode 'hub:.*revision status 401'
HF_TOKEN=t gets 77 'HF_TOKEN may not' x org/tiny
mode
gets 66 'org/none@main: no such repository' y org/none
gets 66 'no such repository or revision|no such file' y org/tiny@other
mode "hub:.*$weights status 404"
gets 66 'model.safetensors of org/tiny: no such file' x org/tiny
[ ! -e y ] || bad "a folder for nothing"

# --- where the token goes
mode "hub:.*$weights to http://127.0.0.1:$store/a" "store:/a to http://127.0.0.1:$hub/b" "hub:/b store" 'hub:.*config to /org/tiny/resolve/x' 'hub:.*/x$ text repo/org/tiny/config.json'
HF_TOKEN=secret gets 66 'no such file' x org/tiny --include model.safetensors
asked 1 'hub:/b range= token=$'
HF_TOKEN=secret gets 0 'at commit' xx org/tiny --include config.json
asked 1 'hub:.*/x range= token=Bearer secret$'
mode "hub:.*model.safetensors to http://127.0.0.1:$hub/org/tiny/resolve/model.safetensors"
gets 74 'more than 10 redirects' x org/tiny --include model.safetensors
mode "hub:.*$weights to file:///etc/passwd"
gets 65 'no http or https address' x org/tiny --include model.safetensors
mode "hub:.*$weights to http://user@[::1/"
gets 65 'no http or https address' x org/tiny --include model.safetensors

# --- what comes is not what was stated: a repository a case, all at once
tries() { # NAME CODE PATTERN REQUESTS PARTS: of the weights alone; then a later run, for which there is nothing more in the way
    local out=$1.out err=$1.err id=org/$1
    gets "$2" "$3" "$1" "$id" --include model.safetensors --json
    asked "$4" "hub:/$id/resolve"
    parts "$1" "$5"
    [ "$2" = 0 ] && return
    gets 0 model.safetensors "$1" "$id" --include model.safetensors --json
    has "$1" model.safetensors
    [ "$5" = 0 ] || [ "$(status model.safetensors)" = resumed ] || bad "$1: not gone on: $(cat "$out")"
}
misbehaviours=() cases=()
case_of() { # MODE... -- NAME CODE PATTERN REQUESTS PARTS
    local modes=()
    while [ "$1" != -- ]; do modes+=("$1"); shift; done
    shift
    ln -s tiny "h/repo/org/$1"
    for m in "${modes[@]}"; do misbehaviours+=("/org/$1/$weights $m"); done
    cases+=("$(printf '%q ' "$@")")
}
case_of 'silent*1 5' -- silent 0 'nothing came for' 2 0
case_of 'stop*1 300000 5' -- stops 0 'nothing came for' 2 0
case_of 'wrong*2' -- wrong 65 'SHA-256 is .* twice; nothing of it was kept' 2 0
case_of 'wrong*1' -- wrong-once 0 '"status":"fetched"' 2 0
case_of 'long*2' -- long 65 'sends 939588 bytes where 939584 are stated, twice' 2 0
case_of 'endless*2' -- endless 65 'more than the 939584 bytes' 2 0
case_of 'short*6' -- short 74 'model.safetensors of org/short: .* tried 6 times' 6 1
case_of 'shorter*6' -- shorter 74 '469792 of 939584 bytes came; tried 6 times' 6 1
case_of 'cut*3 300000' -- cut 0 '"status":"fetched"' 4 0
case_of 'cut*1 300000' 'norange*1' -- cut-anew 0 '"status":"fetched"' 2 0 # its 200 starts again
case_of 'cut*1 300000' 'elsewhere*9' -- elsewhere 0 'another part' 3 0
case_of 'status*5 500' -- five 0 '"status":"fetched"' 6 0
case_of 'status*6 503' -- six 74 'answers 503; tried 6 times' 6 0
case_of 'status*1 429 Retry-After 1' -- busy 0 'trying again in 1.0 s' 2 0
case_of "status*1 429 Retry-After $(LC_ALL=C date -u -d '+1 hour' '+%a,_%d_%b_%Y_%H:%M:%S_GMT')" -- date 74 'asks us to wait for 3[56][0-9][0-9] s' 1 0
case_of 'status*1 429 Retry-After 4000' -- asks 74 'asks us to wait for 4000 s' 1 0
case_of 'status*1 418' -- refuses 74 'answers 418' 1 0
case_of 'drip*6' -- drip 74 'tried 6 times' 6 0
case_of 'line*6' -- line 74 'a line of its header does not end; tried 6 times' 6 0
case_of 'slow 100000 0.1' -- slow 0 '"status":"fetched"' 1 0
mode "${misbehaviours[@]}"
for c in "${cases[@]}"; do
    while [ "$(jobs -pr | wc -l)" -gt 6 ]; do wait -n; done # the server is one of them
    eval "tries $c" &
    jobs_of+=($!)
done
wait "${jobs_of[@]}"
asked 1 '/cut/.*range=bytes=600000- '
mode 'hub:.*revision status*1 500' 'hub:.*revision status*1 408'
gets 0 'at commit' x org/tiny
asked 3 'revision'
printf '<html>' > h/page
printf 'SSH-2.0\r\n' > h/ssh
mode 'hub:.*revision text page'
gets 65 'not the JSON of a Hugging Face endpoint' y org/tiny
mode 'hub:.*revision raw ssh'
gets 74 'tried 6 times' y org/tiny
HF_ENDPOINT=http://127.0.0.1:1 gets 74 'cannot be reached' y org/tiny
HF_ENDPOINT=http://no.invalid gets 74 'cannot be reached' y org/tiny
[ ! -e y ] || bad "a folder for nothing"

# --- names
mode 'hub:.*revision evil'
for name in '../x' 'a/../../x' '/etc/x' 'a//x' './x' 'a/' 'a\\\\b' 'a\tb' 'a\u007fb' 'a\u0000b' '' '.lock' '.fetch-x' '.git/hooks/x' 'config.json' 'config.json/x' "$(printf 'd/%.0s' $(seq 40))x" "$(printf 'x%.0s' $(seq 300))"; do
    printf '"%s"' "$name" > h/evil
    gets 65 'nothing was fetched' n org/tiny
done
[ ! -e n ] && [ ! -e x/../x.safetensors ] || bad "a folder for a name that may not be"
mode
mkdir other
ln -s ../other i/onnx2
rm -rf i/onnx && ln -s ../other i/onnx
gets 65 'leads through a link' i org/tiny --include '*'
rm i/onnx && ln -s ../other/none i/config.json
gets 65 'leads through a link' i org/tiny --include '*'
asked 0 'resolve'
rm i/config.json && mkdir i/config.json
gets 73 'is a folder where a file' i org/tiny --include '*'
rmdir i/config.json
other() { # FILE ID ARGUMENT...: one that may be somebody's own
    printf mine > "$1"
    timeout 60 "$ft" fetch "${@:2}" --out i > out 2> err
    [ $? = 73 ] && [ "$(cat "$1")" = mine ] && grep -q "error: $1: is there, and is another file.*--force" err || bad "what is not its own: $(cat err)"
}
other i/README.md org/tiny
gets 0 'at commit' i org/tiny --force
other 'i/a file+100%.txt' org/tiny --include '*.txt'
gets 0 'at commit' i org/tiny --include '*.txt' --force
other i/test.jsonl --dataset org/rows
rm i/test.jsonl
[ -z "$(ls other)" ] || bad "files outside: $(ls other)"

# --- stopped, and at once
mode "$weights slow 20000 0.1"
"$ft" fetch org/tiny --out z > out 2> err & pid=$!
for _ in $(seq 100); do set -- z/.fetch-*.part; [ $# = 1 ] && [ -s "$1" ] && break; sleep 0.02; done
"$ft" fetch org/tiny --out z > out2 2> err2
[ $? = 73 ] && grep -q "in use by process $pid" err2 || bad "a second run: $(cat err2)"
kill -INT $pid
wait $pid
[ $? = 130 ] && grep -q '^ft: error: stopped by SIGINT; what came is kept' err || bad "SIGINT: $(cat err)"
parts z 1
whole z org/tiny
mode
gets 0 resumed z org/tiny --json
[ "$(status model.safetensors)" = resumed ] || bad "after SIGINT: $(cat out)"
asked 1 'range=bytes=[1-9]'
mode "$weights slow 20000 0.02"
for _ in 1 2 3; do
    killed_within 600 "$ft" fetch org/tiny --out k
    rm -f k/.lock
    whole k org/tiny
done
mode
gets 0 'at commit' k org/tiny
has k "$model_files"
(ulimit -f 300 && "$ft" fetch org/tiny --out f > out 2> err)
[ $? = 74 ] || bad "a limit on files: $(cat err)"
gets 0 'at commit' f org/tiny

# --- no room
if unshare -rm true 2> /dev/null; then
    mode "$weights slow 20000 0.1"
    mkdir small large
    unshare -rm bash -c '
        mount -t tmpfs -o size=600k none small && "$0" fetch org/tiny --out small/m > out 2> err
        [ $? = 74 ] && grep -q "disk is full: 9.* are still to come" err || exit 1
        mount -t tmpfs -o size=1200k none large
        "$0" fetch org/tiny --out large/m > out 2> err & pid=$!
        until [ -s "$(echo large/m/.fetch-*.part)" ]; do sleep 0.02; done
        head -c 900000 /dev/zero > large/filler 2> /dev/null
        wait $pid
        [ $? = 74 ] && grep -q "disk is full" err || exit 2
        rm large/filler
        "$0" fetch org/tiny --out large/m --json > out 2> err || exit 3
        grep -q "model.safetensors.*resumed" out' "$ft" || bad "no room ($?): $(cat out err)"
    lib=$(ldconfig -p | sed -n 's/.*libcurl\(-gnutls\)\?\.so\.4 .*=> //p' | xargs)
    unshare -rm bash -c 'for l in $1; do mount --bind /dev/null "$l" || exit 2; done; "$0" fetch org/tiny --out l > out 2> err; [ $? = 71 ] && grep -q "install the package libcurl4" err && "$0" version > out' "$ft" "$lib" || bad "without libcurl: $(cat err)"
else
    echo "cli_fetch: no room and no library were not tried: no namespaces"
fi
[ ! -e failed ] || failed=1
finish cli_fetch
