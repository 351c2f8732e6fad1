# parsers.sh – part of attack.sh: files of others that are damaged, huge, packed to burst, or point elsewhere.
# shellcheck shell=bash disable=SC2154,SC2034

skeleton() { # what a case lies over
    mkdir skeleton && cp -r b a d.jsonl e.jsonl run.json b.gguf skeleton/
}
case_in() { # CASE: in work, over a copy of the skeleton; its words in words
    rm -rf work
    cp -r skeleton work
    [ ! -d "$1/files" ] || cp -r "$1/files/." work/
    while read -r name; do rm -rf "work/$name"; done < "$1/gone"
    read -ra words < "$1/cmd"
}

check_P4() { # with P11: the messages hold no control bytes
    local c kind last='' total=0 begin
    skeleton
    mkdir cases
    perl "$source/scripts/attack/malformed.pl" "$PWD" cases > kinds || { row "malformed files" "they cannot be made" "NOT held"; return; }
    for c in cases/*/; do
        c=${c%/}
        case_in "$c"
        begin=$(date +%s%N)
        (cd work && try "$ft" "${words[@]}"; echo $code > status)
        took=$((($(date +%s%N) - begin) / 1000000)) code=$(cat work/status)
        cp work/err work/out .
        what="$(basename "$c") ($(head -n 1 "$c/fault" | head -c 80)): exit $code"
        case $code in 65 | 66 | 78) ;; *) fail "$what: $(told)"; continue ;; esac
        if ! one_line; then
            fail "$what: not one line: $(told)"
        elif ! grep '^ft: error: ' err | grep -qE "$(cat "$c/names")"; then
            fail "$what: names no $(cat "$c/names"): $(told)"
        elif [ -s out ]; then
            fail "$what: words on stdout"
        elif [ $took -gt 5000 ]; then # a second in quiet
            fail "$what: took $took ms"
        elif [ -e work/fresh ]; then
            fail "$what: left a result"
        elif LC_ALL=C grep -q '[^[:print:][:space:]]' <(LC_ALL=C tr -d '\200-\377' < err); then
            fail "$what: control bytes in the message"
        else
            pass
        fi
    done
    verdict "$(wc -l < kinds) kinds of malformed files: one line, the file named, 65/66/78"
}

check_P5() { # the last value that is taken and the first that is refused, of every number of every config
    local file key value want task verb
    "$ft" schema > schema.json
    for task in $("$ft" help eval | sed -n 's/^\([a-z_]*\) – .*/\1/p'); do "$ft" help eval "$task" | sed "s/^/$task: /"; done > tasks
    perl "$source/scripts/attack/limits.pl" schema.json . < tasks > twins || fail "the limits cannot be told from the schema"
    for key in model. method. objective. optim. data. train. tasks.; do # a section whose limits no longer are found is no section held
        grep -q " $key" twins || fail "no limit of a number in $key*"
    done
    while read -r file key value want; do
        case $key in tasks.*) verb=eval ;; *) verb=check ;; esac
        try "$ft" $verb "$file" -q
        if [ $want = refused ]; then
            if [ $code = 78 ] && one_line && grep -q " $key: .*must be" err; then pass; else fail "$key = $value: $code $(told)"; fi
        elif [ $code -lt 124 ] && ! grep -q " $key: .*must be" err; then
            pass
        else
            fail "$key = $value is a limit, and refused: $code $(told)"
        fi
    done < <(points 160 < twins)
    verdict "both sides of the limits of numbers in configs" "$tried/$tried of $(wc -l < twins)"
}

check_P6() { # 40 GiB of nothing behind a bad header
    local name
    cp -r b big
    truncate -s 40G big/model.safetensors sparse.gguf sparse.jsonl.gz sparse.safetensors
    printf '\377\377\377\377\377\000\000\000' | dd of=big/model.safetensors conv=notrunc status=none
    printf '\000\000\000\000\002\000\000\000{' | dd of=sparse.safetensors conv=notrunc status=none
    printf 'GGUF\003\000\000\000\000\000\000\000\001\000\000\000\000\000\000\000\001' | dd of=sparse.gguf conv=notrunc status=none
    printf '\037\213\010\000' | dd of=sparse.jsonl.gz conv=notrunc status=none
    cp -r b wordy && truncate -s 40G wordy/tokenizer.json
    cp -r b telling && truncate -s 40G telling/config.json
    quick() { # COMMAND...: refused, soon, in little memory: addresses are no memory, so the peak is measured
        local begin
        rm -f peak
        begin=$(date +%s%N)
        SHIM_PEAK=$PWD/peak preload=$top/shim.so limit=20 try "$ft" "$@"
        took=$((($(date +%s%N) - begin) / 1000000))
        if { [ $code = 65 ] || [ $code = 66 ] || [ $code = 78 ]; } && one_line && [ $took -lt 2500 ] && [ "$(cat peak)" -le $((base + 65536)) ]; then
            pass
        else
            fail "$*: $code after $took ms, $(cat peak) KiB: $(told)"
        fi
    }
    SHIM_PEAK=$PWD/peak LD_PRELOAD=$top/shim.so "$ft" score --model b --data e.jsonl > out
    base=$(cat peak)
    quick score --model big --data e.jsonl
    quick inspect sparse.safetensors
    quick inspect sparse.gguf
    quick score --model sparse.gguf --data e.jsonl
    quick train run.json --out fresh --set data.train=sparse.jsonl.gz
    quick score --model wordy --data e.jsonl
    quick score --model telling --data e.jsonl
    cp -r a heavy && truncate -s 40G heavy/adapter_config.json
    quick score --model b --adapter heavy --data e.jsonl
    truncate -s 40G run40.json
    quick train run40.json
    verdict "40 GiB sparse files with bad headers: refused at once, in 64 MiB"
}

check_P7() { # packed data: cut, followed by bytes, in two members, bursting
    local n size packer
    for i in $(seq 60); do cat d.jsonl; done > many.jsonl
    for packer in gzip zstd; do
        need $packer || { skip "data packed by $packer" "no $packer"; continue; }
        [ $packer = gzip ] && suffix=gz || suffix=zst
        $packer -qc many.jsonl > "whole.jsonl.$suffix"
        size=$(stat -c %s "whole.jsonl.$suffix")
        for n in $(seq 0 $((size / 200 + 1)) $((size - 1)) | points 40); do
            head -c "$n" "whole.jsonl.$suffix" > "cut.jsonl.$suffix"
            try "$ft" train run.json --out fresh -q --set "data.train=cut.jsonl.$suffix"
            if [ $code = 65 ] && one_line && grep -q "cut.jsonl.$suffix" err; then pass; else fail "$suffix cut at $n of $size: $code $(told)"; fi
        done
        cat "whole.jsonl.$suffix" "whole.jsonl.$suffix" > "twice.jsonl.$suffix"
        cat many.jsonl many.jsonl > twice.jsonl
        "$ft" data "twice.jsonl.$suffix" --model b --out x.jsonl -q --force > out 2> err
        "$ft" data twice.jsonl --model b --out y.jsonl -q --force > out 2> err
        if cmp -s x.jsonl y.jsonl; then pass; else fail "$suffix: two members are not their texts: $(told)"; fi
    done
    verdict "packed data cut at 200 places is noticed; members follow each other"
    # a burst of 400 MB from 400 KB is ended, or costs little; a text that repeats itself is read
    perl -e 'print "{\"text\": \""; print "a" x 1048576 for 1 .. 400; print "\"}\n"' | gzip -c > burst.jsonl.gz
    (ulimit -v 1000000; limit=60 try "$ft" train run.json --out fresh -q --set data.train=burst.jsonl.gz; echo $code > status)
    code=$(cat status)
    if { [ "$code" = 65 ] || [ "$code" = 71 ]; } && one_line; then pass; else fail "a line of 400 MB in .gz: $code $(told)"; fi
    yes '[0],[0],[0],[0],[0],[0],[0],[0],' | head -c 100000000 | { printf '['; cat; printf '[0]]'; } | gzip -c > burst.json.gz
    (ulimit -v 1500000; limit=60 try "$ft" train run.json --out fresh -q --set data.train=burst.json.gz; echo $code > status)
    code=$(cat status)
    if { [ "$code" = 65 ] || [ "$code" = 71 ]; } && one_line; then pass; else fail "a list of 100 MB in .gz: $code $(told)"; fi
    verdict "packed bombs: 65 or 71 and one line"
}

# --- P8: nothing outside ----------------------------------------------------------------------------------------------------------
check_P8_names() { # names and links that lead out of a folder
    local name
    refuses() { # FOLDER: the model there
        try "$ft" convert "$1" --out taken -q
        if { [ $code = 65 ] || [ $code = 66 ] || [ $code = 77 ]; } && one_line && [ ! -e taken ]; then
            pass
        elif [ $code = 0 ] && [ -n "${idle:-}" ] && [ ! -e "taken/$idle" ]; then
            pass # a file that is not read, and not taken
        else fail "$what: $code $(told) $(ls taken 2> /dev/null | tr '\n' ' ')"
        fi
        rm -rf taken
    }
    echo secret > outside
    mkdir -p elsewhere && cp b/model.safetensors elsewhere/
    for name in ../elsewhere/model.safetensors "$PWD/elsewhere/model.safetensors" /dev/zero /dev/stdin /proc/self/mem ./../b/model.safetensors \
        sub/../../elsewhere/model.safetensors '..' '.' '' 'model\u0000.safetensors' '//etc/passwd' 'C:\\x' '~/x' 'file:///etc/passwd' '%2e%2e/x'; do
        rm -rf x
        cp -r b x
        rm x/model.safetensors
        printf '{"metadata": {}, "weight_map": {"model.norm.weight": "%s"}}' "$name" > x/model.safetensors.index.json
        what="shard named $name" refuses x
    done
    for name in tokenizer_config.json generation_config.json chat_template.jinja special_tokens_map.json added_tokens.json merges.txt vocab.json \
        tokenizer.json config.json vocab.txt; do
        rm -rf x
        cp -r b x
        [ ! -e x/$name ] || cp x/$name elsewhere/
        [ -e elsewhere/$name ] || echo '{}' > elsewhere/$name
        rm -f x/$name
        ln -s ../elsewhere/$name x/$name
        idle=$([ $name = vocab.txt ] && echo $name) what="$name is a link out of the folder" refuses x
        rm -f x/$name
        ln -s "$PWD/outside" x/$name
        idle=$([ $name = vocab.txt ] && echo $name) what="$name is a link to a file that is no part" refuses x
    done
    for name in config.json tokenizer.json tokenizer_config.json model.safetensors; do
        rm -rf x
        cp -r b x
        rm -f x/$name
        mkfifo x/$name
        limit=5
        what="$name is a FIFO" refuses x
        rm -f x/$name
        ln -s /dev/zero x/$name
        what="$name is a device" refuses x
    done
    verdict "shards, side files, links, FIFOs that lead elsewhere: refused"
}
check_P8_opened() { # what the verbs open, against a list
    local log=opened
    rm -rf o
    opens() { # COMMAND...
        strace -f -e trace=open,openat,openat2,creat -o one "$ft" "$@" > out 2> err < /dev/null
        cat one >> $log
        grep -ohE '(open|openat|openat2|creat)\((AT_FDCWD, )?"[^"]*".* = [0-9]+' one | sed 's/^[^"]*"//; s/".*//' | sort -u |
            grep '^/' | grep -vE "^(/lib|/usr/lib|/etc/ld\\.so|/usr/share/zoneinfo|/proc/(self|meminfo|cpuinfo|mounts|[0-9]+)|/sys/(devices/system|fs/cgroup|kernel/mm)|/dev/(null|tty|urandom)|$PWD|$top)" > strange
        if [ -s strange ]; then fail "ft $1 opens $(head -n 3 strange | tr '\n' ' ')"; else pass; fi
    }
    opens train run.json -q
    opens train run.json -q --resume
    opens check run.json --out fresh
    opens merge-adapter a --base b --out n -q
    opens merge-adapter a --base b --out n.gguf -q
    opens convert b --out c.gguf -q
    opens convert b.gguf --out c -q
    opens eval --model b --task perplexity --data e.jsonl -q
    opens score --model b --data e.jsonl
    opens generate --model b --prompt Day --max-new-tokens 2
    opens tokenize --model b
    opens inspect b
    opens data d.jsonl --model b
    opens bench --help
    opens version
    opens schema
    verdict "files opened outside of what was named and the system's libraries: 0"
}

check_P9() { # no network, no other program
    rm -rf o
    alone() { # COMMAND...
        strace -f -e trace=socket,connect,bind,sendto,execve,execveat,fork,vfork -o log "$ft" "$@" > out 2> err < /dev/null
        if [ "$(grep -cE '(socket|connect|bind|sendto|execve|execveat|v?fork)\(' log)" = 1 ]; then pass; else fail "ft $1: $(grep -E '(socket|exec|fork)' log | sed -n 2p)"; fi
    }
    alone "${run[@]}"
    alone "${merge[@]}" --out n
    alone convert b --out n.gguf -q
    alone eval --model b --task perplexity --data e.jsonl -q
    alone generate --model b --prompt Day --max-new-tokens 2
    alone data d.jsonl --model b
    HF_ENDPOINT=http://127.0.0.1:1 strace -f -e trace=connect,execve,execveat,fork,vfork -o log "$ft" fetch org/name --out f > out 2> err < /dev/null
    if [ $? = 74 ] && ! grep connect log | grep -v 'sin_port=htons(1), sin_addr=inet_addr("127.0.0.1")' | grep -q INET && [ "$(grep -cE '(execve|execveat|v?fork)\(' log)" = 1 ]; then pass; else fail "ft fetch: $(grep -E '(connect|exec|fork)' log | sed -n 2p)"; fi
    if ! unshare -rn true 2> /dev/null; then
        skip "a run without a network" "no user namespaces here"
    else
        rm -rf o
        if unshare -rn "$ft" "${run[@]}" > out 2> err && same_run o; then pass; else fail "without a network: $(told)"; fi
    fi
    verdict "no socket, no other program; the same without a network"
}

check_P10() { # pickles by name and by what they hold
    local name magic
    for name in pytorch_model.bin pytorch_model.pt model.pth pytorch_model-00001-of-00002.bin consolidated.00.pth model.ckpt model.pkl; do
        rm -rf x
        cp -r b x
        rm x/model.safetensors
        printf '\200\002}q\000.' > x/$name
        try "$ft" score --model x --data e.jsonl
        if { [ $code = 65 ] || [ $code = 66 ]; } && one_line; then pass; else fail "$name: $code $(told)"; fi
    done
    for magic in '\200\002' '\200\004\225' 'PK\003\004'; do
        rm -rf x
        cp -r b x
        printf "$magic}q\000.aaaaaaaaaaaaaaaaaaaaaaaa" > x/model.safetensors
        try "$ft" score --model x --data e.jsonl
        if [ $code = 65 ] && one_line && grep -qiE 'pickle|zip|PyTorch' err; then pass; else fail "magic $magic as .safetensors: $code $(told)"; fi
        printf "$magic}q\000.aaaaaaaaaaaaaaaaaaaaaaaa" > x.gguf
        try "$ft" inspect x.gguf
        if [ $code = 65 ] && one_line; then pass; else fail "magic $magic as .gguf: $code $(told)"; fi
        rm -rf y
        cp -r a y
        printf "$magic}q\000.aaaaaaaaaaaaaaaaaaaaaaaa" > y/adapter_model.safetensors
        try "$ft" "${merge[@]:0:1}" y --base b --out n
        if [ $code = 65 ] && one_line; then pass; else fail "magic $magic as an adapter: $code $(told)"; fi
    done
    verdict "pickles: refused by name and by magic"
}

check_P11() { # names with control bytes and marks that turn the writing
    local name
    raw() { # the messages so far hold no control bytes; ⟨U+202E⟩ and others neither
        perl -ne 'exit 1 if /[\x00-\x08\x0b-\x1f\x7f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]|\xc2[\x80-\x9f]/' err out
    }
    for name in $'a\e[31mred' $'a\rb' $'a\ab' $'a\177b' $'a\xe2\x80\xaeb' $'a\xe2\x81\xa6b' $'a\tb' $'a\nb' $'a\xc2\x9bb'; do # bytes: what \u gives depends on the language of the shell
        rm -rf x
        cp -r b "$name"
        for words in "score --model" "inspect" "convert --out n" "train"; do
            # shellcheck disable=SC2086
            try "$ft" $words "$name" < /dev/null
            if raw; then pass; else fail "$words of $(printf %q "$name"): raw bytes: $(told | cat -v)"; fi
        done
        echo "{\"$name\": 1}" > x.json
        try "$ft" train x.json
        if raw; then pass; else fail "key $(printf %q "$name")"; fi
        printf '{"text": 3, "%s": 1}\n' "$name" > x.jsonl
        try "$ft" train run.json --out fresh --set data.train=x.jsonl
        if raw; then pass; else fail "key of a record $(printf %q "$name")"; fi
        try "$ft" train run.json --out "$name"/o
        if raw; then pass; else fail "--out $(printf %q "$name")"; fi
        try "$ft" train run.json --set "$name=1"
        if raw; then pass; else fail "--set $(printf %q "$name")"; fi
        try "$ft" "$name"
        if raw; then pass; else fail "verb $(printf %q "$name")"; fi
        rm -rf "$name" n
    done
    verdict "control bytes and marks of direction never reach the terminal"
}

check_P12() { # a heap that is filled with something: the same bytes
    local byte
    for byte in 165 90 255; do
        rm -rf n n.gguf o
        MALLOC_PERTURB_=$byte try "$ft" "${merge[@]}" --out n
        if [ $code = 0 ] && same_tree n merged; then pass; else fail "merge, heap of $byte: $code $(told)"; fi
        MALLOC_PERTURB_=$byte try "$ft" convert b --out n.gguf -q
        if [ $code = 0 ] && cmp -s n.gguf b.gguf; then pass; else fail "convert, heap of $byte: $code $(told)"; fi
        MALLOC_PERTURB_=$byte try "$ft" "${run[@]}"
        if [ $code = 0 ] && same_run o; then pass; else fail "train, heap of $byte: $code $(told)"; fi
    done
    verdict "train, merge, convert with a poisoned heap: equal"
}

# --- P13: time -----------------------------------------------------------------------------------------------------------------------
spent() { # COMMAND...: CPU seconds in `cpu`
    local TIMEFORMAT='%U %S' t
    t=$({ time timeout -k 1 60 "$@" > out 2> err; } 2>&1)
    cpu=$(awk '{ print $1 + $2 }' <<< "${t##*$'\n'}")
}
check_P13() { # the same bytes as sixteen lines of 64 KiB and as one of 1 MiB
    local kind unit many one best model
    for model in "$source"/tests/golden/tokenizers/*.json.gz; do # a folder with each tokenizer of the golden tests
        name=models/$(basename "$model" .json.gz)
        mkdir -p "$name" && gzip -dc "$model" > "$name/tokenizer.json" && cp m/config.json "$name/"
    done
    for model in "$source/data/tiny" models/*; do
        for kind in letter space word cjk digits special mixed; do
            $short && [ "$model" != "$source/data/tiny" ] && [ $((($(cksum <<< "$model$kind$seed" | cut -d' ' -f1)) % 6)) != 0 ] && continue
            case $kind in
            letter) unit=a ;; space) unit=' ' ;; word) unit='the cat ' ;; cjk) unit='漢字' ;; digits) unit=7 ;;
            special) unit='<|im_end|>' ;; mixed) unit='Aa1 .-_é' ;;
            esac
            perl -e 'my ($u, $n) = @ARGV; my $s = $u x (1 + $n / length $u); print substr($s, 0, int($n / length $u) * length $u), "\n"' "$unit" 1048576 > one
            perl -e 'my ($u, $n) = @ARGV; my $s = $u x (1 + $n / length $u); print substr($s, 0, int($n / length $u) * length $u), "\n" for 1 .. 16' "$unit" 65536 > many
            spent "$ft" tokenize --model "$model" --threads 1 < many
            many=$cpu
            spent "$ft" tokenize --model "$model" --threads 1 < one
            one=$cpu
            if awk -v a="$many" -v b="$one" 'BEGIN { exit !(b <= 4 * a + 0.1 && b < 20) }'; then pass; else fail "$(basename "$model"), $kind: $many s as 16 lines, $one s as one"; fi
        done
    done
    verdict "tokenising 1 MiB in one line costs at most 4 times 16 lines"
    # a vocabulary of 128,000, 40,000 special tokens, 12,000 turns, a prompt of 600 KB
    perl -e 'print "{\"version\":\"1.0\",\"added_tokens\":[],\"model\":{\"type\":\"BPE\",\"vocab\":{"; print join ",", map { sprintf "\"w%06d\":%d", $_, $_ } 0 .. 127999; print "},\"merges\":[]}}"' > wide.json
    mkdir wide && cp wide.json wide/tokenizer.json && cp m/config.json wide/
    spent "$ft" tokenize --model wide < /dev/null
    if awk -v c="$cpu" 'BEGIN { exit !(c <= 2) }'; then pass; else fail "a vocabulary of 128,000: $cpu s"; fi
    cp -r b special && perl -0pi -e 's/"additional_special_tokens": *\[.*?\]/"\"additional_special_tokens\": [" . join(",", map { sprintf "\"%05x\"", $_ } 0 .. 39999) . "]"/se' special/tokenizer_config.json
    spent "$ft" tokenize --model special < /dev/null
    if awk -v c="$cpu" 'BEGIN { exit !(c <= 3) }'; then pass; else fail "40,000 special tokens: $cpu s"; fi
    perl -e 'print "{\"messages\":[", join(",", map { sprintf "{\"role\":\"%s\",\"content\":\"a\"}", $_ % 2 ? "assistant" : "user" } 0 .. 11999), "]}\n"' > turns.jsonl
    spent "$ft" check run.json --out fresh --set data.train=turns.jsonl --set data.max_length=100
    if awk -v c="$cpu" 'BEGIN { exit !(c <= 10) }'; then pass; else fail "a conversation of 12,000 turns: $cpu s"; fi
    perl -e 'print "{\"prompt\":\"", "word " x 120000, "\"}\n"' > prompt.jsonl
    spent "$ft" generate --model b --data prompt.jsonl --max-new-tokens 1
    if awk -v c="$cpu" 'BEGIN { exit !(c <= 10) }'; then pass; else fail "a prompt of 600 KB: $cpu s"; fi
    verdict "128,000 words, 40,000 special tokens, 12,000 turns, a prompt of 600 KB"
}

check_P14() { # how the program is built
    local words
    words=$(readelf -hldW "$ft" 2>&1)
    has() { if grep -qE "$2" <<< "$words"; then pass; else fail "$1"; fi; } # WHAT PATTERN
    hasnt() { if grep -qE "$2" <<< "$words"; then fail "$1"; else pass; fi; }
    has "no PIE" 'Type: +DYN'
    has "no RELRO" 'GNU_RELRO'
    has "lazy binding" 'BIND_NOW|FLAGS.*NOW'
    has "an executable stack" 'GNU_STACK.* RW '
    hasnt "a path of libraries" 'RPATH|RUNPATH'
    hasnt "text relocations" 'TEXTREL'
    hasnt "writable code" 'LOAD.* RWE '
    words=$(nm -D "$ft")
    has "no stack protector" '__stack_chk_fail'
    has "no FORTIFY" '_chk(@|$)'
    hasnt "gets, system, popen" ' U (gets|system|popen|exec[lv].*|fork)(@|$)'
    words=$(cat "$source/CMakeLists.txt")
    hasnt "-ffast-math" 'ffast-math|-Ofast'
    verdict "PIE, RELRO, canary, FORTIFY, no executable stack, no RPATH"
}

check_P16() { # with assertions and without, the same verdict on every damaged file
    local c
    if [ -z "$debug" ]; then
        ! $short || { skip "verdicts with NDEBUG on and off" "long form"; return; }
        build debug
        debug=$source/build/debug/ft
    fi
    skeleton
    mkdir cases
    perl "$source/scripts/attack/malformed.pl" "$PWD" cases > kinds
    for c in $(find cases -mindepth 1 -maxdepth 1 | sort | points 80); do
        case_in "$c"
        (cd work && try "$ft" "${words[@]}"; echo $code > status; cp err first; limit=60 try "$debug" "${words[@]}"; echo $code >> status
            diff <(grep '^ft: error' first) <(grep '^ft: error' err | sed 's/ (src[^)]*)$//') > difference || echo "$(head -n 4 difference)" >> status)
        mapfile -t state < work/status
        if [ "${state[0]}" = "${state[1]}" ]; then pass; else fail "$(basename "$c"): ${state[*]}"; fi
    done
    verdict "verdicts with NDEBUG on and off"
}
