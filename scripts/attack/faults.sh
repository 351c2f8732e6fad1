# faults.sh – part of attack.sh: memory, threads, system calls and disks that fail, transfers that fall short, what leaks.
# shellcheck shell=bash disable=SC2154,SC2034

config_of_three() { # three steps, with a checkpoint and an evaluation
    config 3 o | sed 's/"checkpoint_every": 4, "eval_every": 5/"checkpoint_every": 2, "eval_every": 2/' > run.json
    rm -rf a
    "$ft" "${run[@]}" --out a || fail "a run of three steps"
}
eval_words=(eval --model b --adapter a --task perplexity --data e.jsonl -q --threads 1)
score_words=(score --model b --data e.jsonl -q --threads 1)
generate_words=(generate --model b --prompt Day --max-new-tokens 3 -q --threads 1)

# What a command is to leave: run (o as a), a file or folder (equal to a reference), or its words on stdout.
reference=
sound_after() { # OUT: nothing, or the right thing
    local out=$1
    case $out in
    run) [ ! -e o/adapter_model.safetensors ] || same_run o ;;
    -) cmp -s out reference.out ;;
    none) ;; # its words tell of the machine at that moment
    *) [ ! -e "$out" ] || same_tree "$out" "$reference" ;;
    esac
}
next_works() { # OUT COMMAND...: the next run
    local out=$1
    shift
    case $out in
    none) ;;
    run) [ ! -d o ] || { try "$ft" "${run[@]}" --resume; [ $code = 0 ] && same_run o; } ;;
    -) ;;
    *)
        rm -rf "$out"
        [ -z "$(leftovers "$out")" ] && return
        try "$ft" "$@" $goes_on_by
        [ $code = 0 ] && same_tree "$out" "$reference" && [ -z "$(leftovers "$out")" ]
        ;;
    esac
}
reset() { # OUT
    case $1 in run) rm -rf o ;; - | none) ;; *) rm -rf "$1" "$1".* ".$1"* ;; esac
}
judge() { # WHAT OUT COMMAND...: of a run with a fault in it, whose status is in code
    local what=$1 out=$2 first
    shift 2
    first="$code $(told)"
    if [ $code -ge 124 ]; then
        fail "$what: a signal or a hang, $first"
    elif [ $code = 0 ]; then
        if { [ "$out" = run ] && ! same_run o; } || { [ "$out" != run ] && [ "$out" != - ] && [ "$out" != none ] && [ ! -e "$out" ]; } || ! sound_after "$out"; then
            fail "$what: ended with 0 and a wrong or missing result"
        else
            pass
        fi
    elif ! documented; then
        fail "$what: $first"
    elif ! one_line && ! { [ ! -s err ] && [[ $what = *:write:*+:* ]]; }; then # when no write goes, stderr's goes neither
        fail "$what: not one line: $first"
    elif [ "$out" != - ] && ! sound_after "$out"; then
        fail "$what: half a result under its name; $first"
    elif ! next_works "$out" "$@"; then
        fail "$what: $first; the next run gave $code: $(told) $(leftovers "$out" | head -n 2 | tr '\n' ' ')"
    else
        pass
    fi
}

# --- F1: allocations ----------------------------------------------------------------------------------------------------------
torture() { # WHAT OUT FEW COMMAND...: every allocation fails, once and from then on
    local what=$1 out=$2 few=$3 p
    shift 3
    reset "$out"
    SHIM_STACKS=stacks LD_PRELOAD=$top/shim.so "$ft" "$@" > reference.out 2> err < /dev/null || fail "$what: $(told)"
    # all of them up to 3000, else the first and last of each chain of calls, and 1000 more
    awk '{ if (!($2 in first)) first[$2] = $1; last[$2] = $1; all[NR] = $1 }
         END { if (NR <= 3000) for (i in all) print all[i]
               else { for (s in first) { print first[s]; print last[s] }; for (i = 1; i <= NR; i += NR / 1000) print int(i) } }' stacks |
        sort -nu | awk '{ print; print $1 "+" }' | points "$few" 4000 > at
    for p in $(cat at); do
        reset "$out"
        SHIM_ALLOC=$p preload=$top/shim.so try "$ft" "$@"
        if [ $code != 0 ] && [ $code != 71 ]; then
            fail "$what: allocation $p: $code $(told)"
        else
            judge "$what: allocation $p" "$out" "$@"
        fi
    done
    verdict "$what: failing allocations, once and from then on" "$tried/$tried of $(($(wc -l < stacks) * 2))"
}
check_F1_train() {
    config_of_three
    torture "train" run 120 "${run[@]}"
}
check_F1_resume() {
    config_of_three
    "$ft" "${run[@]}" --out kept && rm -r kept/checkpoints/step-3 kept/summary.json kept/adapter_model.safetensors
    reset() { rm -rf o && cp -r kept o; }
    torture "resume" run 60 "${run[@]}" --resume
}
check_F1_merge() {
    reference=merged
    torture merge n 60 "${merge[@]}" --out n
}
check_F1_convert() {
    reference=b.gguf
    torture convert n.gguf 40 convert b --out n.gguf -q --threads 1
}
check_F1_eval() { torture eval - 40 "${eval_words[@]}"; }
check_F1_score() { torture score - 30 "${score_words[@]}"; }
check_F1_generate() { torture generate - 30 "${generate_words[@]}"; }
check_F1_inspect() { torture inspect - 20 inspect b -q; }
check_F1_check() { torture check none 20 check run.json --out fresh -q; }

check_F1_quantize() { make_models && reference=quantized torture quantize n 40 "${quantize[@]}" --out n; }
check_F1_prune() { make_models && reference=pruned torture prune n 30 "${prune[@]}" --out n; }
check_F1_combine() { make_models && goes_on_by= reference=combined torture "merge of two models" n 30 "${combine[@]}" --out n; }
check_F1_data() {
    torture data - 15 data d.jsonl --model b -q
    cat > talk.jsonl << 'END'
{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "", "reasoning_content": "think", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}, {"role": "tool", "content": "3"}, {"role": "assistant", "content": "x"}], "tools": "[{\"name\": \"f\"}]"}
END
    cat > tools.jinja << 'END'
{%- if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.reasoning_content }}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}</s>{% endfor %}
END
    torture "data of conversations" - 25 data talk.jsonl --model b --chat-template tools.jinja -q
}
check_F1_report() { reference=page.html && "$ft" report a --out page.html -q && torture report n.html 20 report a --out n.html -q; }
check_F1_judge() {
    printf '{"prompt": "Day", "answer": "2", "completions": ["1", "2"]}\n' > c.jsonl
    torture judge - 20 judge --method match --match last_number --data c.jsonl --to preference -q
}
check_F1_words() {
    torture tokenize - 10 tokenize --model b -q # no line is given: the tokenizer alone
    torture init - 10 init --model b --data d.jsonl -q
}

check_F2() { # threads that cannot be made
    local n
    rm -rf o
    for n in 1 2 3 1+ 2+ 3+; do
        rm -rf o
        SHIM_THREAD=$n preload=$top/shim.so try "$ft" train run.json --threads 4 -q
        if [ $code = 0 ] && same_run o; then
            pass
        elif [ $code = 71 ] && one_line; then
            pass
        else
            fail "thread $n: $code $(told)"
        fi
    done
    verdict "threads that cannot be made: fewer of them, or 71"
}

# --- F3, F4, F5: system calls -----------------------------------------------------------------------------------------------------
errors_of() { # CALL
    case $1 in
    openat) echo EMFILE EACCES ENOSPC ;;
    read | pread64 | newfstatat | fstat | statx | lseek | getdents64) echo EIO ;;
    write | pwrite64 | ftruncate | fallocate) echo ENOSPC EIO ;;
    fsync | fdatasync) echo EIO ENOSPC ;;
    rename | renameat | renameat2) echo EACCES EIO ENOSPC ;;
    mkdir | mkdirat) echo EACCES ENOSPC ;;
    unlink | unlinkat | rmdir) echo EACCES EIO ;;
    mmap) echo ENOMEM ;;
    close) echo EIO ;;
    flock) echo ENOLCK EAGAIN ;;
    statfs | getcwd | readlink) echo EACCES ;;
    esac
}
filed=openat,read,pread64,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,close,mmap,lseek,fstat,newfstatat,statx,flock,getdents64,statfs,getcwd,readlink
system_calls() { # WHAT OUT FEW COMMAND...: every call on files fails, once and from then on
    local what=$1 out=$2 few=$3 p call k error
    shift 3
    reset "$out"
    traced log $filed "$ft" "$@" || fail "$what: $(told)"
    cp out reference.out
    calls_of log | while IFS=: read -r call k; do
        for error in $(errors_of "$call"); do echo "$call:$k:$error" "$call:$k+:$error"; done
    done | tr ' ' '\n' | points "$few" 3000 > at
    for p in $(cat at); do
        IFS=: read -r call k error <<< "$p"
        reset "$out"
        { timeout -k 1 60 strace -f --seccomp-bpf -o /dev/null -e trace="$call" -e inject="$call:error=$error:when=$k" \
            "$ft" "$@" > out 2> err < /dev/null; } 2> /dev/null
        code=$?
        if [ "$call" = close ] || [ "$error" = EAGAIN ] || [ "$out" != - ] || [ $code != 0 ]; then
            judge "$what:$p" "$out" "$@"
        elif cmp -s out reference.out; then
            pass
        else
            fail "$what: $p: ended with 0 and other words"
        fi
    done
    verdict "$what: every call on files fails, once and from then on" "$tried/$tried of $(calls_of log | wc -l) calls"
}
retried() { # an fsync that failed is not done again on the same open file
    awk '/fsync\(/ { match($0, /fsync\([0-9]+/); fd = substr($0, RSTART, RLENGTH)
                     if (fd in gone) print "again: " $0; if (/= -1/) gone[fd] = 1 }
         /close\(/ { match($0, /close\([0-9]+/); delete gone["fsync" substr($0, RSTART + 5, RLENGTH - 5)] }' injected > again
}
check_F3_train() { config_of_three && system_calls train run 150 "${run[@]}"; }
check_F3_resume() {
    config_of_three
    "$ft" "${run[@]}" --out kept && rm -r kept/checkpoints/step-3 kept/summary.json kept/adapter_model.safetensors
    reset() { rm -rf o && cp -r kept o; }
    system_calls resume run 60 "${run[@]}" --resume
}
check_F3_merge() { reference=merged system_calls merge n 80 "${merge[@]}" --out n; }
check_F3_convert() { reference=b.gguf system_calls convert n.gguf 50 convert b --out n.gguf -q --threads 1; }
check_F3_quantize() { make_models && reference=quantized system_calls quantize n 60 "${quantize[@]}" --out n; }
check_F3_prune() { make_models && reference=pruned system_calls prune n 40 "${prune[@]}" --out n; }
check_F3_combine() { make_models && goes_on_by= reference=combined system_calls "merge of two models" n 40 "${combine[@]}" --out n; }
check_F3_report() { reference=page.html && "$ft" report a --out page.html -q && system_calls report n.html 20 report a --out n.html -q; }
check_F3_eval() { system_calls eval - 40 "${eval_words[@]}"; }
check_F3_score() { system_calls score - 40 "${score_words[@]}"; }
check_F3_generate() { system_calls generate - 30 "${generate_words[@]}"; }

eintr() { # WHAT OUT FEW COMMAND...: interrupted calls are done again
    local what=$1 out=$2 few=$3 p call k
    shift 3
    reset "$out"
    traced log read,write,pread64,pwrite64,openat,fsync,fdatasync,flock,ftruncate,fallocate,statfs,close "$ft" "$@"
    for p in $(calls_of log | points "$few"); do
        call=${p%:*} k=${p#*:}
        reset "$out"
        try strace -f --seccomp-bpf -o injected -e trace="$call" -e inject="$call:error=EINTR:when=$k" "$ft" "$@"
        if [ $code = 0 ] && case $out in run) same_run o ;; *) same_tree "$out" "$reference" ;; esac then pass; else fail "EINTR at $p: $code $(told)"; fi
    done
    verdict "$what: EINTR at every call that waits: equal"
}
check_F4_train() { config_of_three && eintr train run 60 "${run[@]}"; }
check_F4_merge() { reference=merged eintr merge n 30 "${merge[@]}" --out n; }
check_F4_convert() { reference=b.gguf eintr convert n.gguf 30 convert b --out n.gguf -q --threads 1; }
check_F4_short() { # transfers of one byte to half
    local i
    for i in $(seq "$(few 3 12)"); do
        rm -rf o n n.gguf
        SHIM_SHORT=$((seed % 100000 + i)) preload=$top/shim.so try "$ft" "${run[@]}"
        if [ $code = 0 ] && same_run o; then pass; else fail "short transfers, train: $code $(told)"; fi
        SHIM_SHORT=$((seed % 100000 + i)) preload=$top/shim.so try "$ft" "${merge[@]}" --out n
        if [ $code = 0 ] && same_tree n merged; then pass; else fail "short transfers, merge: $code $(told)"; fi
        SHIM_SHORT=$((seed % 100000 + i)) preload=$top/shim.so try "$ft" convert b --out n.gguf -q
        if [ $code = 0 ] && cmp -s n.gguf b.gguf; then pass; else fail "short transfers, convert: $code $(told)"; fi
    done
    verdict "short reads and writes always: train, merge, convert equal"
}
check_F5() {
    local p call k
    config_of_three
    traced log fsync,fdatasync "$ft" "${run[@]}"
    for p in $(calls_of log | points 60); do
        call=${p%:*} k=${p#*:}
        rm -rf o
        timeout -k 1 60 strace -f --seccomp-bpf -o injected -e trace=fsync,close -e inject="$call:error=EIO:when=$k" \
            "$ft" "${run[@]}" > out 2> err < /dev/null
        retried
        if [ -s again ]; then fail "$p: $(head -n 1 again)"; else pass; fi
    done
    verdict "an fsync that failed is never done again on the same file"
}

# --- F6, C8: disks ------------------------------------------------------------------------------------------------------------
small_disk() { # KIB: runs into disk/o, resumes with room given back; code, err of the first, then `equal`
    in_tmpfs "$1" "'$ft' train run.json -q --threads 1 --out disk/o 2> err > out < /dev/null; echo \$? > status
        if [ -d disk/o ]; then for f in disk/o/adapter_model.safetensors; do [ ! -e \$f ] || cmp -s \$f a/adapter_model.safetensors || echo half >> status; done; fi
        mount -o remount,size=64m disk && '$ft' train run.json -q --threads 1 --out disk/o --resume > out.again 2> err.again < /dev/null
        echo \$? >> status; cmp -s disk/o/adapter_model.safetensors a/adapter_model.safetensors && cmp -s disk/o/log.jsonl a/log.jsonl && echo equal >> status"
}
disk_sizes() { # FEW BYTES: from 4 KiB to one and a half of it
    local n
    n=$(few "$1" 64)
    seq 0 $((n - 1)) | awk -v n="$n" -v most="$(($2 * 3 / 2048))" '{ print 4 + 4 * int($1 * most / n / 4) }'
}
check_F6_train() {
    local size
    can_mount || { skip "train on disks of 64 sizes" "no user namespaces here"; return; }
    for size in $(disk_sizes 20 "$(du -sb a | cut -f1)"); do
        small_disk "$size"
        mapfile -t state < status
        code=${state[0]}
        if [ "${state[*]}" = "0 0 equal" ] || { [ "${state[*]}" = "74 0 equal" ] && one_line; }; then
            pass
        else
            fail "$size KiB: ${state[*]}: $(told) $(head -c 200 err.again)"
        fi
    done
    verdict "train on small disks: 74, nothing half, equal with room given back"
}
full_results() { # WHAT OUT REFERENCE COMMAND...: OUT lies in disk/
    local what=$1 out=$2 reference=$3 size words
    shift 3
    can_mount || { skip "$what on disks of 64 sizes" "no user namespaces here"; return; }
    printf -v words '%q ' "$ft" "$@"
    for size in $(disk_sizes 15 "$(du -sb "$reference" | cut -f1)"); do
        in_tmpfs "$size" "$words > out 2> err < /dev/null; echo \$? > status
            if [ -e $out ]; then diff -rq $out $reference > /dev/null && echo whole >> status || echo half >> status; fi
            ls -A disk | grep -v '^$(basename "$out")$' >> status"
        mapfile -t state < status
        code=${state[0]}
        if [ "${state[*]}" = "0 whole" ] || { [ "${state[*]}" = 74 ] && one_line; }; then
            pass
        else
            fail "$what, $size KiB: ${state[*]}: $(told)"
        fi
    done
    verdict "$what on small disks: 74 and nothing left, or whole"
}
check_F6_merge() { full_results merge disk/n merged "${merge[@]}" --out disk/n; }
check_F6_convert() { full_results "convert" disk/n.gguf b.gguf convert b --out disk/n.gguf -q; }
check_F6_eval() {
    "$ft" "${eval_words[@]}" --samples samples.ref > out
    full_results "eval --samples" disk/s samples.ref "${eval_words[@]}" --samples disk/s
}

check_F7() { # a disk that is full and gets room again: what could not be written is tried again, the run ends well
    local when
    can_mount || { skip "room given back while a run goes on" "no user namespaces here"; return; }
    config 300 o > run.json
    rm -rf a
    "$ft" "${run[@]}" --out a
    for when in 1 20 60; do
        FT_TEST_RETRY_SECONDS=2 in_tmpfs 3000 "'$ft' train run.json --out disk/o 2> err > out < /dev/null & pid=\$!
            while kill -0 \$pid && [ \"\$(cat disk/o/log.jsonl | wc -l)\" -lt $when ]; do sleep 0.001; done 2> /dev/null
            head -c 64M /dev/zero > disk/filler 2> /dev/null; df disk | tail -n 1 > room
            sleep 1; rm disk/filler; wait \$pid; echo \$? > status
            cmp -s disk/o/adapter_model.safetensors a/adapter_model.safetensors && cmp -s disk/o/log.jsonl a/log.jsonl && echo equal >> status"
        mapfile -t state < status
        if [ "${state[*]}" = "0 equal" ]; then pass; else fail "full from step $when on, for a second: ${state[*]}: $(tail -n 2 err | tr '\n' ' ')"; fi
    done
    verdict "a disk full for a second: the run waits, goes on, equal"
}

check_C8() { # what a run will write is told before step 1
    local need wrote
    can_mount || { skip "a disk one KiB short" "no user namespaces here"; return; }
    in_tmpfs 64 "'$ft' train run.json -q --out disk/o 2> err > out < /dev/null; echo \$? > status; ls -A disk >> status"
    mapfile -t state < status
    need=$(sed -n 's/.* needs \([0-9]*\) KiB of disk space.* [0-9.]* [KM]iB are free.*/\1/p' err)
    if [ "${state[0]}" = 74 ] && [ -n "$need" ]; then pass; else fail "64 KiB: ${state[*]}: $(cat err)"; fi
    # three checkpoints while one is replaced, and the result; a page is the unit of a file system
    wrote=$(find a -type f -printf '%s\n' | awk '{ s += int(($1 + 4095) / 4096) * 4 } END { print s }')
    if [ "${need:-0}" -ge "$((wrote * 9 / 10))" ] && [ "${need:-0}" -le $((wrote * 2)) ]; then pass; else fail "need ${need:-none} KiB, $wrote KiB stand at the end"; fi
    verdict "disk preflight: need and room named, 74 before step 1" "need ${need:-?} KiB, $wrote KiB left"
}

# --- F8: memory ---------------------------------------------------------------------------------------------------------------
check_F8() { # 40 limits of address space, every verb: done, or 71 and one line; nothing killed
    local kib verb i
    rm -rf n o
    for i in $(seq 1 "$(few 10 40)"); do
        kib=$((i * 400000 / $(few 10 40) + 10000))
        for verb in train merge eval score generate convert; do
            rm -rf o n n.gguf
            case $verb in
            train) words=("${run[@]}") ;;
            merge) words=("${merge[@]}" --out n) ;;
            eval) words=("${eval_words[@]}") ;;
            score) words=("${score_words[@]}") ;;
            generate) words=("${generate_words[@]}") ;;
            convert) words=(convert b --out n.gguf -q) ;;
            esac
            [ $((i % 2)) = 0 ] || words=("${words[@]/#1/4}") # --threads 4: a stack for each of them is address space, too
            (ulimit -v $kib -t 20; exec timeout -k 1 120 "$ft" "${words[@]}" > out 2> err < /dev/null)
            code=$?
            # below what the libraries take the loader speaks
            if [ $code = 0 ]; then
                pass
            elif [ $kib -ge 330000 ]; then # 1.3 times the plan of this run and 256 MiB are less
                fail "ulimit -v $kib, $verb: there is room, and it ends with $code: $(told)"
            elif { [ $code = 71 ] && one_line; } || [ $code = 127 ]; then
                pass
            else
                fail "ulimit -v $kib, $verb: $code $(told)"
            fi
        done
    done
    verdict "limits of address space, six verbs: done or 71, never killed"
}

# --- F9: what is left ------------------------------------------------------------------------------------------------------------
check_F9_descriptors() {
    local words
    rm -rf o
    left() { # COMMAND...
        rm -f left
        SHIM_LEFT=$PWD/left preload=$top/shim.so try "$ft" "$@"
        if grep -v -e ' pipe:' -e ' /dev/null' -e "$top/.*said" left | grep -q .; then fail "$*: open at the end: $(head -n 2 left)"; else pass; fi
    }
    left "${run[@]}"
    left "${run[@]}" --resume
    left "${merge[@]}" --out n
    left convert b --out n.gguf -q
    left "${eval_words[@]}"
    left "${score_words[@]}"
    left "${generate_words[@]}"
    left inspect b.gguf
    left inspect a
    left check run.json --out fresh
    left "${run[@]}" --out a
    left "${merge[@]}" --out merged
    left train nowhere.json
    : > b/tokenizer.json
    left "${generate_words[@]}"
    truncate -s 1000 b.gguf
    left inspect b.gguf
    verdict "descriptors that are open at the end"
}
check_F9_memory() { # LSan, with allocations that fail inside ft
    local n words at
    if [ -z "$asan" ]; then
        asan=$source/build/asan/ft
        $short || build asan
        [ -x "$asan" ] || { skip "leaks by LSan" "long form, or where build/asan stands"; return; }
    fi
    export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:exitcode=99 UBSAN_OPTIONS=halt_on_error=1:exitcode=98
    config_of_three
    clean() { # FAIL_AT COMMAND...
        local at=$1
        shift
        rm -rf o n n.gguf
        FT_TEST_FAIL_AT=$at limit=60 try "$asan" "$@"
        if grep -q -e Sanitizer -e 'runtime error' err || [ $code -ge 98 ]; then
            fail "allocation $at of $*: $code $(grep -m 2 -e Sanitizer -e '#[1-4] ' err | tr '\n' ' ')"
        else
            pass
        fi
    }
    for words in "${run[*]}" "${merge[*]} --out n" "convert b --out n.gguf -q" "${eval_words[*]}" "${score_words[*]}" "${generate_words[*]}" \
        "inspect b" "check run.json --out fresh"; do
        # shellcheck disable=SC2086
        clean 0 $words
        for n in $(seq "$(few 8 200)"); do
            at=$(awk -v n="$n" -v seed="$seed" 'BEGIN { srand(seed * 1000 + n); print 1 + int(exp(rand() * 7.5)) }')
            # shellcheck disable=SC2086
            clean "$at" $words
        done
    done
    verdict "leaks by LSan, with failing allocations"
}

check_F10() { # a long run: nothing grows
    local steps pid first last
    steps=$(few 3000 20000)
    config "$steps" o '"log_every": 50' | sed 's/"checkpoint_every": 4, "eval_every": 5/"checkpoint_every": 20/' > run.json
    "$ft" train run.json -q --threads 2 > out 2> err &
    pid=$!
    : > seen
    while kill -0 $pid 2> /dev/null; do
        awk -v fds="$(ls /proc/$pid/fd 2> /dev/null | wc -l)" -v at="$(grep -c . o/time.jsonl 2> /dev/null)" \
            '/^VmRSS/ { rss = $2 } /^Threads/ { print rss, $2, fds, at }' /proc/$pid/status >> seen 2> /dev/null
        sleep 0.2
    done
    wait $pid
    code=$?
    [ $code = 0 ] || fail "soak: $code $(told)"
    # after the first third nothing grows by a MiB; threads and descriptors stay (one more while a file is written)
    awk 'NF == 4 { n++; rss[n] = $1; t[n] = $2; fd[n] = $3 }
         END { if (n < 6) { print "seen " n + 0 " times only"; exit }
               for (i = int(n / 3); i <= n - 1; i++) { if (rss[i] > most) most = rss[i]; if (fd[i] > files) files = fd[i] }
               for (i = 2; i < n / 3; i++) { if (rss[i] > early) early = rss[i]; if (fd[i] > few) few = fd[i] }
               if (most > early + 1024) print "RSS grew from " early " to " most " KiB"
               if (files > few + 1) print "descriptors grew from " few " to " files
               if (t[n - 1] != t[3]) print "threads " t[3] ", then " t[n - 1] }' seen > grown
    if [ -s grown ]; then fail "$(cat grown)"; else pass; fi
    verdict "soak: $steps steps, $((steps / 20)) checkpoints: memory, descriptors, threads" "$(wc -l < seen) looks"
}
