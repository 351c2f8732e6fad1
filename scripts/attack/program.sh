# program.sh – part of attack.sh: hostile starts, output that breaks off, what is on stdout, two at once.
# shellcheck shell=bash disable=SC2154,SC2034

check_C5() { # stdout has results, JSON is JSON, nothing moves where no terminal is
    json() { # COMMAND...: every line is JSON, with no NaN
        try "$ft" "$@" --json
        if [ $code = 0 ] && [ -s out ] && perl -MJSON::PP -ne 'decode_json($_)' out 2> bad && ! grep -qE '\b(NaN|nan|inf|Infinity)\b' out; then
            pass
        else
            fail "$*: $code $(told) $(head -c 100 bad)"
        fi
    }
    json train run.json
    json check run.json --out fresh
    json merge-adapter a --base b --out n
    json convert b --out n.gguf
    json eval --model b --task perplexity --data e.jsonl
    json score --model b --data e.jsonl
    json generate --model b --prompt Day --max-new-tokens 2
    json inspect b
    json data d.jsonl --model b
    json version
    rm -rf o
    for words in "train run.json" "eval --model b --task perplexity --data e.jsonl" "generate --model b --prompt Day --max-new-tokens 2" "inspect b" "help"; do
        # shellcheck disable=SC2086
        NO_COLOR=1 TERM=dumb try "$ft" $words
        if grep -q $'[\e\r]' out err; then fail "$words: escapes where no terminal is"; else pass; fi
    done
    rm -rf o
    try "$ft" train run.json -q
    if [ $code = 0 ] && [ ! -s out ] && [ ! -s err ]; then pass; else fail "-q prints: $(cat out err | head -c 100)"; fi
    verdict "--json is JSON, no escapes without a terminal, -q is quiet"
}

check_C6() { # descriptors closed, full, broken; few of them; no folder, no home; an odd umask
    local how
    starts() { # HOW, a shell command with the run in it: the adapter, or one line and a code
        rm -rf o
        bash -c "$1" > said 2> err < /dev/null
        code=$?
        if [ $code = 0 ]; then
            if same_run o; then pass; else fail "$1: 0 and another adapter"; fi
        elif documented && [ $code != 64 ]; then
            pass
        else
            fail "$1: $code $(told)"
        fi
    }
    local train="'$ft' train run.json"
    for how in '<&-' '>&-' '2>&-' '<&- >&-' '<&- 2>&-' '>&- 2>&-' '<&- >&- 2>&-' '>/dev/full' '2>/dev/full' '>/dev/full 2>/dev/full' '< /dev/zero' '< .' '2>&1 | true; exit ${PIPESTATUS[0]}' \
        '| true; exit ${PIPESTATUS[0]}'; do
        starts "$train $how"
        starts "$train -q $how"
    done
    starts "ulimit -n 16; $train"
    starts "ulimit -n 8; $train"
    starts "ulimit -n 4; $train"
    starts "ulimit -f 8; $train"
    starts "ulimit -f 0; $train"
    starts "ulimit -s 256; $train"
    starts "ulimit -c 0; env -u HOME -u PATH -u TMPDIR $train"
    starts "TMPDIR=/nowhere $train"
    starts "umask 777; $train"
    starts "umask 000; $train"
    starts "trap '' PIPE XFSZ TERM INT HUP; $train"
    starts "mkdir gone; cd gone; rmdir ../gone; '$ft' train ../run.json"
    starts "nice -n 19 $train"
    rm -rf o
    full() { # COMMAND...: results that cannot be written are 74
        "$ft" "$@" > /dev/full 2> err < /dev/null
        code=$?
        if [ $code = 74 ] && one_line; then pass; else fail "$* > /dev/full: $code $(told)"; fi
    }
    full score --model b --data e.jsonl -q
    full generate --model b --prompt Day --max-new-tokens 2 -q
    full eval --model b --task perplexity --data e.jsonl -q
    full inspect b -q
    full check run.json --json -q
    full schema
    full help
    full version
    verdict "hostile starts: the same adapter, or a documented code; no signal"
}
check_C6_output() { # a folder that may not be written to, as a user that is not root
    need setpriv || { skip "folders that may not be written" "no setpriv"; return; }
    local user=()
    [ "$(id -u)" != 0 ] || { user=(setpriv --reuid 65534 --regid 65534 --clear-groups); chmod 755 "$top" "$top"/*; chmod -R a+rX .; chmod a+w .; }
    "${user[@]}" test -x "$ft" || { skip "folders that may not be written" "another user cannot reach $ft"; return; }
    mkdir locked && chmod 500 locked
    refused() { # COMMAND...: 77
        "${user[@]}" "$ft" "$@" > out 2> err < /dev/null
        code=$?
        if [ $code = 77 ] && one_line; then pass; else fail "$*: $code $(told)"; fi
    }
    [ "$(id -u)" != 0 ] || chown 65534 locked
    refused train run.json --out locked/run
    refused train run.json --out locked
    refused merge-adapter a --base b --out locked/n
    refused convert b --out locked/n.gguf
    refused convert b --out locked/n
    refused eval --model b --task perplexity --data e.jsonl --samples locked/s.jsonl
    refused data d.jsonl --model b --out locked/d.jsonl
    chmod 000 b/model.safetensors
    [ "$(id -u)" != 0 ] || chown root b/model.safetensors
    refused score --model b --data e.jsonl
    chmod 644 b/model.safetensors
    chmod 000 b
    refused score --model b --data e.jsonl
    refused train run.json --out fresh
    chmod 755 b
    chmod 000 d.jsonl
    refused train run.json --out fresh
    chmod 000 run.json
    refused train run.json --out fresh
    verdict "what may not be read or written: 77 and one line"
}

check_C7() { # pairs that start at the same instant
    local i x y one
    for i in $(seq "$(few 15 50)"); do
        rm -rf o
        "$ft" train run.json -q > out1 2> err1 & x=$!
        "$ft" train run.json -q > out2 2> err2 & y=$!
        wait $x
        x=$?
        wait $y
        y=$?
        if [ $((x + y)) = 73 ] && same_run o; then pass; else fail "two at once: $x and $y, $(head -c 200 err1 err2 | tr '\n' ' ')"; fi
    done
    verdict "pairs started at once in one folder: exactly one wins"
    rm -rf o
    "$ft" train run.json -q --set train.max_steps=100000 > out 2> err &
    one=$!
    while [ ! -s o/log.jsonl ]; do sleep 0.02; done
    try "$ft" train run.json
    if [ $code = 73 ] && grep -q "$one" err; then pass; else fail "a folder in use: $code $(told)"; fi
    { kill -9 $one && wait $one; } 2> /dev/null
    try "$ft" train run.json -q --resume --set train.max_steps=100000 --set train.max_seconds=0.5
    if [ $code = 75 ]; then pass; else fail "a lock stayed after kill -9: $code $(told)"; fi
    verdict "a folder in use: 73 with the pid; no lock stays after kill -9"
}

check_C9() { # what train refuses, check refuses, by the same words
    local c
    skeleton
    mkdir cases
    perl "$source/scripts/attack/malformed.pl" "$PWD" cases > kinds
    for c in $(grep -l '^train ' cases/*/cmd | points 40); do
        c=${c%/cmd}
        case_in "$c"
        (cd work && try "$ft" "${words[@]}"; echo $code > status; cp err first; try "$ft" check "${words[@]:1}"; echo $code >> status
            cmp -s <(grep '^ft: error' first) <(grep '^ft: error' err) || echo "other words: $(told)" >> status; [ ! -e fresh ] || echo "wrote something" >> status)
        mapfile -t state < work/status
        if [ "${#state[@]}" = 2 ] && [ "${state[0]}" = "${state[1]}" ]; then pass; else fail "$(basename "$c"): ${state[*]}"; fi
    done
    verdict "check says what train would, and writes nothing"
}

check_C10() { # a bad line of a large file, with the text packed
    local at
    perl -e 'print "{\"text\": \"Day $_ was warm.\"}\n" for 1 .. 100000' > long.jsonl
    for at in 1 50000 100000; do
        sed "${at}s/}/,}/" long.jsonl > bad.jsonl
        gzip -c bad.jsonl > bad2.jsonl.gz
        for file in bad.jsonl bad2.jsonl.gz; do
            try "$ft" train run.json --out fresh -q --set data.train=$file
            if [ $code = 65 ] && one_line && grep -q "$file:$at:" err && [ ! -e fresh ]; then pass; else fail "$file, line $at: $code $(told)"; fi
        done
    done
    verdict "a bad line at 1, 50,000, 100,000, packed or not: named before step 1"
}

check_C11() { # what was stopped says how to go on, and that command does
    local i line
    for i in TERM INT; do
        rm -rf o
        perl -e '$SIG{INT} = "DEFAULT"; exec @ARGV' "$ft" train run.json --set train.max_steps=20 --set train.batch_size=4 > out 2> err &
        pid=$!
        while [ ! -s o/log.jsonl ]; do sleep 0.005; done
        kill -$i $pid 2> /dev/null
        wait $pid 2> /dev/null
        code=$?
        [ $code = 0 ] && { pass; continue; } # it was faster
        line=$(tail -n 1 err | sed -n 's/.*\(ft train .*--resume[^;]*\)$/\1/p')
        [ -n "$line" ] && eval "'$ft' ${line#ft } -q" > out 2> err
        if [ -n "$line" ] && same_run o; then pass; else fail "after SIG$i: '$line' $(told)"; fi
    done
    rm -rf o
    try "$ft" train run.json --set train.max_seconds=0.01
    line=$(tail -n 1 err | sed -n 's/.*\(ft train .*--resume[^;]*\)$/\1/p')
    if [ $code = 75 ] || [ $code = 0 ]; then pass; else fail "a time limit: $code $(told)"; fi
    verdict "a stopped run prints the command that goes on, and it does"
}
