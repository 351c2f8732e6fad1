# sanitizers.sh – part of attack.sh: what takes builds of its own, in the long form alone: the verbs as programs under MSan
# (memory never written) and TSan (data races), after scripts/test.sh --msan and --tsan, which build them and run the suite's
# share; and what analyzers find in the sources.
# shellcheck shell=bash disable=SC2154,SC2034

under() { # PRESET WHAT: each verb ends as it should, and the sanitizer says nothing
    local preset=$1 what=$2 program=$source/build/$1/ft
    ! $short || { skip "$what" "long form"; return; }
    if (cd "$source" && scripts/test.sh "--$preset") > said 2>&1; then pass; else fail "scripts/test.sh --$preset: $(tail -n 5 said)"; fi
    verdict "scripts/test.sh --$preset"
    [ $preset = tsan ] || export FT_CPU=generic # its instructions are known to MSan
    export MSAN_OPTIONS=exitcode=99 TSAN_OPTIONS=exitcode=99
    silent() { # COMMAND...
        limit=120 try "$program" "$@"
        if [ $code = 0 ] && ! grep -q Sanitizer err; then pass; else fail "$preset, $1: $code $(grep -m 1 -A 3 Sanitizer err | tr '\n' ' ')"; fi
    }
    silent train run.json --threads 4
    silent train run.json --threads 4 --resume
    silent train run.json --threads 3 --out full --set train.max_steps=4
    silent merge-adapter a --base b --out n --threads 4
    silent convert b --out n.gguf --threads 4
    silent convert b --out nf4 --type nf4 --threads 4
    silent eval --model b --adapter a --task perplexity --data d.jsonl --threads 4
    silent score --model b --data d.jsonl --threads 4
    silent generate --model b --prompt Day --max-new-tokens 8 --num-samples 3 --temperature 1 --threads 4
    silent data d.jsonl --model b --threads 4
    silent check run.json --out fresh --threads 4
    silent inspect b.gguf
    verdict "$what"
}
check_P15() {
    ! $short || { skip "gcc -fanalyzer, clang-tidy, cppcheck" "long form"; return; }
    need clang-tidy cppcheck || { skip "gcc -fanalyzer, clang-tidy, cppcheck" "no $missing"; return; }
    (cd "$source" && cmake --preset release) > said 2>&1
    if (cd "$source" && scripts/check-analyzers.sh) > said 2>&1; then pass; else fail "$(grep -v ' rows, ' said | head -n 3)"; fi
    verdict "gcc -fanalyzer, clang-tidy, cppcheck: nothing without a reason" "$(sed -n 's/^check-analyzers: [a-z]*: \([0-9]*\) rows.*/\1/p' said | paste -sd+) excused"
}
check_D2_tsan() { under tsan "TSan: no data race in any verb"; }
check_P12_msan() { under msan "MSan: no verb reads memory that was never written"; }
