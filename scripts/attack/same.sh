# same.sh – part of attack.sh: the same bytes whatever the threads, the split, the load, the clock, the place, the language.
# shellcheck shell=bash disable=SC2154,SC2034

equal_run() { # WHAT COMMAND...: a run into o gives the bytes of a
    local what=$1
    shift
    rm -rf o
    try "$@"
    if [ $code = 0 ] && same_run o; then pass; else fail "$what: $code $(told)"; fi
}

check_D1() { # again, and beside other work
    local i load
    for i in $(seq "$(few 6 20)"); do
        load=
        [ $((i % 2)) = 1 ] || { (while :; do :; done) & load=$!; }
        equal_run "run $i" "$ft" train run.json -q
        [ -z "$load" ] || { kill $load && wait $load; } 2> /dev/null
    done
    verdict "runs in quiet and beside other work: equal"
}
check_D2() {
    local t
    for t in 1 2 3 4 7 8 16; do equal_run "$t threads" "$ft" train run.json -q --threads $t; done
    verdict "1, 2, 3, 4, 7, 8, 16 threads: adapter and log equal"
}
check_D3() { # a step of 8 samples of unequal lengths, the last one short
    local m method
    for method in lora full bitfit; do
        config 11 o | sed 's/"batch_size": 4/"batch_size": 8/; s/"lora", "r": 4, "lora_dropout": 0.1/"'$method'"/' > run.json
        for m in 1 2 3 4 5 8; do
            for blas in '' generic; do
                rm -rf "o$m$blas"
                FT_CPU=$blas try "$ft" train run.json -q --out "o$m$blas" --set train.micro_batch_size=$m
                if [ $code = 0 ] && diff -rq -x time.jsonl -x summary.json -x checkpoints -x config.resolved.json -x README.md "o1$blas" "o$m$blas" > different; then
                    pass
                else
                    fail "$method, 8 samples by $m${blas:+ on the row $blas}: $code $(told) $(head -n 2 different)"
                fi
            done
        done
    done
    verdict "8 samples by 1, 2, 3, 4, 5, 8, two rows of kernels, three methods: equal"
}
check_D4() { # what the fixed order costs is nothing that can be turned off: there is no other way to run
    skip "cost of the fixed order" "no other order is built in; scripts/bench-gemm.sh compares the products with oneDNN's"
}
check_D5() { # resumed with other threads and another split
    local i k
    for i in $(seq "$(few 5 10)"); do
        rm -rf o
        k=$((i * 17 % 60 + 20))
        killed_at "rename:$k" "$ft" train run.json -q --threads 1
        try "$ft" train run.json -q --threads $((i % 4 + 1)) --set train.micro_batch_size=$((i % 3 + 2)) --resume
        if [ $code = 0 ] && same_run o; then pass; else fail "stopped at rename $k: $code $(told)"; fi
    done
    verdict "resumed with other threads and another split: equal"
}
check_D6() { # no time, host, user or place in an artifact
    local i place
    for i in 946684800 2145916800; do
        equal_run "the clock moved by $i s" env SHIM_CLOCK=$((i - $(date +%s))) LD_PRELOAD="$top/shim.so" "$ft" train run.json -q
    done
    equal_run "another environment" env -i PATH="$PATH" HOME=/x TZ=Asia/Tokyo LANG=tr_TR.UTF-8 USER=nobody "$ft" train run.json -q
    equal_run "no environment" env -i "$ft" train run.json -q
    if setarch -R true 2> /dev/null; then equal_run "no ASLR" setarch -R "$ft" train run.json -q; else skip "addresses that stay" "no setarch -R here"; fi
    if unshare -ru true 2> /dev/null; then
        equal_run "another user and host" unshare -ru "$ft" train run.json -q
    else
        skip "another user and host" "no user namespaces here"
    fi
    place="$top/$FUNCNAME/somewhere else/öé"
    mkdir -p "$place" && cp -r b d.jsonl e.jsonl run.json "$place/"
    (cd "$place" && "$ft" train run.json -q --out a && "$ft" merge-adapter a --base b --out n -q > out && "$ft" convert b --out n.gguf -q > out)
    for i in adapter_model.safetensors adapter_config.json README.md log.jsonl tokenizer.json tokenizer_config.json; do
        if cmp -s "$place/a/$i" a/$i; then pass; else fail "another folder: $i"; fi
    done
    if same_tree "$place/n" merged; then pass; else fail "another folder, merge: $(head -n 2 different)"; fi
    if cmp -s "$place/n.gguf" b.gguf; then pass; else fail "another folder, convert"; fi
    named=(-e "$PWD")
    [ -z "$(id -un 2> /dev/null)" ] || named+=(-e "$(id -un)@")
    [ "$(uname -n | wc -c)" -le 5 ] || named+=(-e "$(uname -n)") # a short one may be a word of the text
    if grep -rlF "${named[@]}" a/adapter_* a/README.md merged b.gguf > named; then fail "host, user or place in $(cat named)"; else pass; fi
    verdict "other clock, environment, user, folder, addresses: equal"
}
check_D7() { # languages with another point and other capital letters
    local name
    mkdir locales
    for name in de_DE fr_FR tr_TR; do
        localedef -i $name -f UTF-8 "locales/$name.UTF-8" > /dev/null 2>&1 ||
            { skip "de_DE, fr_FR, tr_TR" "localedef has no sources (package locales)"; return; }
    done
    for name in C de_DE.UTF-8 fr_FR.UTF-8 tr_TR.UTF-8; do
        equal_run "train under $name" env LOCPATH="$PWD/locales" LC_ALL=$name "$ft" train run.json -q
        LOCPATH=$PWD/locales LC_ALL=$name "$ft" score --model b --data e.jsonl > "score.$name" 2> err
        LOCPATH=$PWD/locales LC_ALL=$name "$ft" eval --model b --task perplexity --data e.jsonl --json 2> err | sed 's/"seconds":[^,}]*//; s/"memory":{[^}]*}//' > "eval.$name"
        LOCPATH=$PWD/locales LC_ALL=$name "$ft" schema > "schema.$name"
        for what in score eval schema; do
            if [ -s $what.C ] && cmp -s $what.C "$what.$name"; then pass; else fail "$what under $name"; fi
        done
    done
    verdict "under C, de_DE, fr_FR, tr_TR: train, score, eval, schema equal"
}
check_D8() { # forms of the same text
    sed 's/$/\r/' d.jsonl > crlf.jsonl
    gzip -c d.jsonl > d2.jsonl.gz
    if need zstd; then zstd -qc d.jsonl > d3.jsonl.zst; else skip "a run on .zst" "no zstd"; fi
    mkdir shards && head -n 20 d.jsonl > shards/1.jsonl && tail -n +21 d.jsonl > shards/2.jsonl
    perl -pe 'chomp if eof' d.jsonl > unended.jsonl
    { printf '['; sed '$!s/$/,/' d.jsonl; printf ']'; } > d4.json
    local form
    for form in crlf.jsonl d2.jsonl.gz d3.jsonl.zst unended.jsonl d4.json shards 'shards/*.jsonl'; do
        [ "$form" != d3.jsonl.zst ] || [ -e d3.jsonl.zst ] || continue
        rm -rf o
        try "$ft" train run.json -q --set data.train="$form"
        if [ $code = 0 ] && cmp -s {o,a}/adapter_model.safetensors; then pass; else fail "$form: $code $(told)"; fi
    done
    verdict ".gz, .zst, CRLF, no last line end, a list, a folder of shards: equal"
}
check_D9() { # other rows of kernels: near, and never mixed without a word
    local row reference value
    reference=$(sed -n 's/.*"last": *{[^}]*"loss": *\([0-9.]*\).*/\1/p; s/.*"loss": *\([0-9.]*\).*/\1/p' a/log.jsonl | tail -n 1)
    [ -n "$reference" ] || { row "other rows of kernels" "no loss in log.jsonl" "NOT held"; return; }
    for name in generic avx2 avx512; do
        rm -rf o
        FT_CPU=$name try "$ft" train run.json -q --set train.precision=f32
        [ $code = 0 ] || { grep -q FT_CPU err && continue; fail "FT_CPU=$name: $code $(told)"; continue; }
        value=$(sed -n 's/.*"loss": *\([0-9.]*\).*/\1/p' o/log.jsonl | tail -n 1)
        [ -n "${first:-}" ] || first=$value
        if awk -v a="$first" -v b="$value" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 <= (1e-4 * a) ^ 2) }'; then pass; else fail "FT_CPU=$name: loss $value, not $first"; fi
    done
    interrupted
    FT_CPU=generic try "$ft" train run.json --resume
    if [ $code = 0 ] && grep -q 'warning.*generic' err || [ $code = 78 ]; then pass; else fail "resumed on another row without a word: $code $(told)"; fi
    verdict "rows generic, avx2, avx512: losses within 1e-4, resume tells"
}
