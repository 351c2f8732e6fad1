# crash.sh – part of attack.sh: what a kill, a second one, unsynced writes and damage leave of checkpoints and results.
# shellcheck shell=bash disable=SC2154,SC2034

changing=openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,rmdir,ftruncate,close
goes_on() { # what is left of a run in o leads to the bytes of the undisturbed one
    try "$ft" "${run[@]}" --resume
    [ $code = 0 ] && same_run o
}

check_R1_train() { # killed at every call that changes a file, then resumed
    local p
    traced log $changing "$ft" "${run[@]}" || return
    for p in $(calls_of log | points 60); do
        rm -rf o
        killed_at "$p" "$ft" "${run[@]}"
        if [ $code != 137 ]; then
            fail "killed at $p: ended with $code instead"
        elif goes_on; then
            pass
        else
            fail "killed at $p: resume gave $code or other bytes: $(told)"
        fi
    done
    verdict "train: kill -9 at every call that changes a file, resume equal"
}

check_R1_random() { # at random times, with both threads
    local i span begin
    rm -rf o
    begin=$(date +%s%N)
    "$ft" train run.json -q > out 2> err
    span=$((($(date +%s%N) - begin) / 1000))
    for i in $(seq "$(few 15 100)"); do
        rm -rf o
        "$ft" train run.json -q > out 2> err &
        sleep "$(awk -v s="$span" -v i="$i" -v seed="$seed" 'BEGIN { srand(seed + i); printf "%.6f", rand() * s / 1e6 }')"
        { kill -9 $! && wait $!; } 2> /dev/null
        if goes_on; then pass; else fail "random kill $i: $code $(told)"; fi
    done
    verdict "train: kill -9 at random times, resume equal"
}

result_kills() { # WHAT FEW OUT REFERENCE COMMAND...: killed at every call, nothing but a whole result has the name
    local what=$1 few=$2 out=$3 reference=$4 p
    shift 4
    rm -rf "$out"
    traced log $changing "$ft" "$@" || { fail "$what: $(told)"; verdict "$what"; return; }
    for p in $(calls_of log | points "$few"); do
        rm -rf "$out" "$out".*
        killed_at "$p" "$ft" "$@"
        if [ $code != 137 ]; then
            fail "$what killed at $p: ended with $code instead"
        elif [ -e "$out" ] && ! same_tree "$out" "$reference"; then
            fail "$what killed at $p: half a result under its name: $(head -n 2 different | tr '\n' ' ')"
        else
            [ ! -e "$out" ] || rm -r "$out"
            try "$ft" "$@" $goes_on_by
            if [ $code != 0 ] || ! same_tree "$out" "$reference"; then
                fail "$what killed at $p: the next run gave $code: $(told)"
            elif [ -n "$(leftovers "$out")" ]; then
                fail "$what killed at $p: the next run leaves $(leftovers "$out" | tr '\n' ' ')"
            else
                pass
            fi
        fi
    done
    verdict "$what: kill -9 at every call, whole or absent, next run equal"
}
check_R1_merge() { result_kills "merge" 25 n merged "${merge[@]}" --out n; }
check_R1_merge_gguf() {
    "$ft" "${merge[@]}" --out merged.gguf > out
    result_kills "merge to .gguf" 15 n.gguf merged.gguf "${merge[@]}" --out n.gguf
}
check_R1_convert() { result_kills "convert to .gguf" 20 n.gguf b.gguf convert b --out n.gguf -q --threads 1; }
check_R1_convert_folder() {
    "$ft" convert b.gguf --out folder -q > out
    result_kills "convert to a folder" 20 n folder convert b.gguf --out n -q --threads 1
}

check_R1_quantize() { make_models && result_kills quantize 20 n quantized "${quantize[@]}" --out n; }
check_R1_prune() { make_models && result_kills prune 15 n pruned "${prune[@]}" --out n; }
check_R1_combine() { make_models && goes_on_by= result_kills "merge of two models" 15 n combined "${combine[@]}" --out n; }

check_R1_force() { # --force over an older result: the old or the new one has the name at any instant
    local p
    "$ft" train run.json -q --out other --set train.seed=7 && "$ft" merge-adapter other --base b -q --out old > out
    cp -r old n
    traced log $changing "$ft" "${merge[@]}" --out n --force || { fail "$(told)"; verdict "merge --force"; return; }
    for p in $(calls_of log | points 25); do
        rm -rf n n.*
        cp -r old n
        killed_at "$p" "$ft" "${merge[@]}" --out n --force
        if [ $code != 137 ]; then
            fail "merge --force killed at $p: ended with $code instead"
        elif ! same_tree n old && ! same_tree n merged; then
            fail "merge --force killed at $p: neither the old nor the new result: $(ls)"
        else
            try "$ft" "${merge[@]}" --out n --force
            if [ $code = 0 ] && same_tree n merged && [ -z "$(leftovers n)" ]; then
                pass
            else
                fail "merge --force killed at $p: then $code, $(told) left: $(leftovers n | tr '\n' ' ')"
            fi
        fi
    done
    verdict "merge --force: killed at every call, the old or the new result stands"
}

check_R1_former() { # train --force over a finished run: killed at every call, the former or the new one is whole, and it goes on
    local p then
    "$ft" train run.json -q --out other --set train.seed=7
    cp -r other o
    traced log $changing "$ft" "${run[@]}" --force || { fail "$(told)"; verdict "train --force"; return; }
    for p in $(calls_of log | points 60); do
        rm -rf o seen
        cp -r other o
        killed_at "$p" "$ft" "${run[@]}" --force
        [ $code = 137 ] || { fail "train --force killed at $p: ended with $code instead"; continue; }
        mkdir seen
        { [ ! -d o/.former ] || cp -rf o/.former/. seen; } && if [ -e o/summary.json ] || [ ! -e o/.former/summary.json ]; then cp -rf o/. seen; fi
        rm -rf seen/.lock seen/.former # the latter may be begun
        if ! cmp -s seen/summary.json other/summary.json || ! same_tree seen other; then
            same_run o && [ -e o/summary.json ] || { fail "train --force killed at $p: neither the old nor the new result: $(ls -A o)"; continue; }
        fi
        then=--force
        [ $((tried % 2)) = 0 ] || [ -e o/summary.json ] || then=--resume
        try "$ft" "${run[@]}" $then
        if [ $code = 0 ] && same_run o && [ ! -e o/.former ]; then
            pass
        else
            fail "train --force killed at $p: then $then gave $code: $(told) $(ls -A o)"
        fi
    done
    verdict "train --force: killed at every call, the old or the new result is whole"
}

check_R2() { # a second kill while it resumes
    local p q
    traced log $changing "$ft" "${run[@]}" || return
    calls_of log | points 20 50 > first
    for p in $(cat first); do
        rm -rf o
        killed_at "$p" "$ft" "${run[@]}"
        q=$(calls_of log | awk -v seed="$seed$tried" 'BEGIN { srand(seed) } rand() * NR < 1 { p = $0 } END { print p }')
        killed_at "$q" "$ft" "${run[@]}" --resume # it may end before that call comes
        if goes_on; then pass; else fail "killed at $p, then at $q while it resumed: $code $(told)"; fi
    done
    verdict "train: a second kill while it resumes, equal"
}

check_R3() { # from each of the steps
    local k
    config 20 o '"keep_checkpoints": 30' | sed 's/"checkpoint_every": 4/"checkpoint_every": 1/' > run.json
    rm -rf a
    "$ft" "${run[@]}" --out a || return
    for k in $(seq 20); do
        rm -rf o
        cp -r a o
        rm -f o/summary.json o/adapter_model.safetensors
        find o/checkpoints -name 'step-*' | awk -F- -v k="$k" '$NF > k' | xargs -r rm -r
        if goes_on; then pass; else fail "resume from step $k: $code $(told)"; fi
    done
    verdict "resume from each of 20 steps, adapter and log equal"
}

# --- order and loss of writes ------------------------------------------------------------------------------------------------
durable=openat,creat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,rmdir,close,linkat,sendfile,copy_file_range
logged() { # LOG COMMAND...: with paths of descriptors and all bytes, for durable.pl
    local log=$1
    shift
    strace -f -y -xx -s 4000000 -o "$log" -e trace=$durable "$@" > out 2> err < /dev/null
}

check_R4() {
    local name
    "$ft" train run.json -q --out other --set train.seed=7
    "$ft" merge-adapter other --base b -q --out old > out
    ordered() { # NAME COMMAND...
        name=$1
        shift
        logged log "$ft" "$@" || { fail "$name: $(told)"; return; }
        if perl "$source/scripts/attack/durable.pl" order log "$PWD" > violations && [ -s log ]; then
            pass
        else
            fail "$name: $(head -n 3 violations | tr '\n' ';')"
        fi
    }
    ordered train "${run[@]}"
    interrupted || fail "no interrupted run to begin with"
    ordered "train --resume" "${run[@]}" --resume
    ordered "train --force" "${run[@]}" --force
    ordered merge "${merge[@]}" --out n
    ordered "merge --force" "${merge[@]}" --out old --force
    ordered "merge to .gguf" "${merge[@]}" --out n.gguf
    ordered "convert to .gguf" convert b --out m.gguf -q
    ordered "convert to a folder" convert b.gguf --out f -q
    ordered "convert to nf4" convert b --out nf4 -q --type nf4
    ordered eval eval --model b --task perplexity --data d.jsonl --samples samples.jsonl --junit j.xml --report r.md -q
    verdict "no rename before its data is synced, folders synced after"
}

replay() { # WHAT FEW OUT REFERENCE COMMAND...: every state that a loss of power may leave
    local what=$1 few=$2 out=$3 reference=$4 state
    shift 4
    rm -rf "$out"
    logged log "$ft" "$@" || { fail "$what: $(told)"; verdict "$what"; return; }
    rm -rf "$out" states
    mkdir states
    perl "$source/scripts/attack/durable.pl" replay log "$PWD" states "$(few "$few" 3000)" "$seed" > replayed ||
        { fail "$what: $(cat replayed)"; verdict "$what"; return; }
    for state in states/*[0-9]; do
        rm -rf "$out" "$out".*
        cp -r "$state"/. .
        if [ "$reference" = run ]; then
            if goes_on; then pass; else fail "$what, $(cat "$state.why"): resume gave $code: $(told)"; fi
        elif [ -e "$out" ] && ! same_tree "$out" "$reference"; then
            fail "$what, state $(basename "$state"): half a result under its name: $(head -n 1 different)"
        else
            [ ! -e "$out" ] || rm -r "$out"
            try "$ft" "$@"
            if [ $code = 0 ] && same_tree "$out" "$reference"; then pass; else fail "$what: then $code: $(told)"; fi
        fi
    done
    verdict "$what: unsynced writes lost or cut at every call, singly and in pairs"
}
check_R5_train() { replay train 100 o run "${run[@]}"; }
check_R5_merge() { replay merge 40 n merged "${merge[@]}" --out n; }
check_R5_convert() { replay "convert to .gguf" 30 n.gguf b.gguf convert b --out n.gguf -q --threads 1; }

# --- damage --------------------------------------------------------------------------------------------------------------------
interrupted() { # o, with the checkpoints of steps 8 and 12, and no result
    local k
    rm -rf o
    k=$(traced log rename "$ft" "${run[@]}" && awk '/step-12\.tmp", / { print n; exit } /rename\(/ { n++ }' log)
    rm -rf o
    killed_at "rename:$((k + 3))" "$ft" "${run[@]}"
    [ -d o/checkpoints/step-12 ] && [ -d o/checkpoints/step-8 ] && [ ! -d o/checkpoints/step-16 ]
}
damaged() { # FILE of the checkpoint of step 12: told by inspect; a run takes step 8 and says so, or ends with 65; the
    # files that stand there for readers, which no run reads, are passed over
    local file=${1##*/}
    try "$ft" inspect o/checkpoints/step-12
    [ $code = 65 ] && grep -q "step-12" err || { echo "inspect says nothing" > err; return 1; }
    try "$ft" "${run[@]}" --resume
    case $file in
    manifest.json | state.json | params.safetensors | optimizer.safetensors) grep -q 'step-12' err || return ;;
    esac
    [ $code = 65 ] || { [ $code = 0 ] && same_run o; }
}
check_R6() {
    local i file size files
    interrupted || { row "damaged checkpoints" "no interrupted run to begin with" "NOT held"; return; }
    mv o kept
    mapfile -t files < <(find kept/checkpoints/step-12 -type f -printf '%P\n' | sort)
    run=(train run.json --threads 1) # its warnings are looked for
    for i in $(seq "$(few 100 1000)"); do
        rm -rf o
        cp -r kept o
        file=o/checkpoints/step-12/${files[i % ${#files[@]}]}
        [ -s "$file" ] || continue
        perl -e 'my ($f, $seed) = @ARGV; srand($seed); open(my $h, "+<", $f) or die; binmode $h; my $n = -s $f;
            my $at = int(rand($n)); seek($h, $at, 0); read($h, my $c, 1); seek($h, $at, 0);
            print $h chr(ord($c) ^ (1 << int(rand(8)))); close $h' "$file" $((seed + i))
        if damaged "$file"; then pass; else fail "a bit of $file (seed $seed, $i): $code $(told)"; fi
    done
    verdict "single bits of a checkpoint turned: noticed, fell back or 65"
    for i in $(seq "$(few 25 200)"); do
        rm -rf o
        cp -r kept o
        file=o/checkpoints/step-12/${files[i % ${#files[@]}]}
        size=$(stat -c %s "$file")
        [ "$size" -gt 0 ] || continue
        truncate -s "$(awk -v n="$size" -v seed="$seed$i" 'BEGIN { srand(seed); print int(rand() * n) }')" "$file"
        if damaged "$file"; then pass; else fail "$file cut (seed $seed, $i): $code $(told)"; fi
    done
    verdict "files of a checkpoint cut: noticed, fell back or 65"
    # damage on the way to the disk, so that what is read back differs from what was meant
    for file in adapter_model optimizer params state; do
        rm -rf o
        limit=120 SHIM_FLIP=step-12.tmp/$file preload=$top/shim.so try "$ft" "${run[@]}"
        if [ $code = 0 ] && same_run o && { [ $file = state ] || grep -q 'warning.*step-12' err; }; then
            pass
        else
            fail "a bit of $file turned while step-12 is written: $code $(told)"
        fi
    done
    verdict "a bit turned while a checkpoint is written: never sealed"
}

check_R7_rotation() { # keep 2 and 3, killed at every call of the pruning: two whole ones stay, and the run goes on
    local keep p n step
    for keep in 2 3; do
        config 20 o "\"keep_checkpoints\": $keep" > run.json
        rm -rf o a
        "$ft" "${run[@]}" --out a
        traced log unlink,unlinkat,rmdir,rename,renameat2 "$ft" "${run[@]}"
        calls_of log > all
        grep -c . all > /dev/null || fail "no call of a pruning was seen"
        for p in $(points 25 < all); do
            rm -rf o
            killed_at "$p" "$ft" "${run[@]}"
            n=0
            for step in o/checkpoints/step-*[0-9]; do
                [ -d "$step" ] && try "$ft" inspect "$step" && [ $code = 0 ] && n=$((n + 1))
            done
            # before the second commit there is one or none
            if goes_on && { [ $n -ge 1 ] || [ ! -d o/checkpoints/step-4 ]; }; then
                pass
            else
                fail "keep $keep, killed at $p: $n whole checkpoints, resume gave $code: $(told)"
            fi
        done
    done
    verdict "rotation with keep 2, 3: killed at every call, one whole one stays"
}

check_R7_layouts() { # what stands in the way is never taken for a checkpoint
    local layout
    interrupted || { row "folders in the way" "no interrupted run to begin with" "NOT held"; return; }
    mv o kept
    for layout in \
        'mkdir step-99' 'mkdir -p step-16.tmp' 'mkdir step-0' 'mkdir step-016' 'mkdir step-' 'mkdir step-x' 'mkdir step--1' \
        'mkdir step-99999999999999999999' 'touch step-16' 'ln -s step-12 step-16' 'ln -s nowhere step-16' \
        'ln -s . step-16' 'cp -r step-12 step-16' 'cp -r step-12 step-99' 'cp -r step-12 step-12.tmp' 'cp -r step-8 step-13' \
        'cp -r step-12 step-16; rm step-16/manifest.json' 'cp -r step-12 step-16; : > step-16/manifest.json' \
        'cp -r step-12 step-16; rm step-16/optimizer.safetensors' 'cp -r step-12 step-16; rm step-16/state.json' \
        'mkdir step-16; cp step-12/manifest.json step-16/' 'mkdir step-16; cp step-12/state.json step-16/' \
        'rm step-12/manifest.json' 'rm step-12/params.safetensors' 'rm step-12/optimizer.safetensors' 'rm step-12/state.json' \
        ': > step-12/state.json' ': > step-12/optimizer.safetensors' 'rm -r step-12; touch step-12' 'rm -r step-12' \
        'rm -r step-8' 'touch step-12' 'touch -d "2001-01-01" step-12' 'mv step-12 step-12.tmp' 'mv step-12 step-11' \
        'mkdir step-12/sub' 'mkfifo step-16' 'echo x > note.txt' 'mkdir "step-16 "' 'mkdir step-16; chmod 0 step-16' \
        'echo {} > step-12/manifest.json' 'cp step-8/manifest.json step-12/'; do
        chmod -R u+rwx o 2> /dev/null
        rm -rf o
        cp -r kept o
        (cd o/checkpoints && eval "$layout")
        if goes_on; then
            pass
        elif { [ $code = 65 ] || [ $code = 73 ]; } && one_line && grep -q 'step-' err; then
            pass # refused by name: damaged, or not ours and in the way
        else
            fail "$layout: $code $(told)"
        fi
    done
    verdict "foreign, stale, empty and half-made folders in the way"
}

check_R8() { # SIGTERM and SIGINT at random times
    local i n signal pid begin took want
    for i in $(seq "$(few 20 100)"); do
        rm -rf o
        signal=TERM want=143
        [ $((i % 2)) = 0 ] && signal=INT want=130
        # a job of a script ignores SIGINT: the program is started by one that does not
        perl -e '$SIG{INT} = "DEFAULT"; exec @ARGV' "$ft" train run.json --set train.max_steps=400 > out 2> err &
        pid=$!
        sleep "$(awk -v i="$i" -v seed="$seed" 'BEGIN { srand(seed + i); printf "%.4f", rand() * 0.7 }')"
        begin=$(date +%s%N)
        kill -$signal $pid 2> /dev/null
        wait $pid 2> /dev/null
        code=$?
        took=$((($(date +%s%N) - begin) / 1000000))
        if [ $code = $want ] || [ $code = 0 ]; then
            [ $took -le 2500 ] || { fail "$signal: gone after $took ms"; continue; }
        else
            fail "$signal: ended with $code: $(told)"
            continue
        fi
        limit=120 try "$ft" train run.json --set train.max_steps=400 -q --resume
        [ -d long ] || "$ft" train run.json --set train.max_steps=400 -q --out long
        if [ $code = 0 ] && cmp -s o/log.jsonl long/log.jsonl && cmp -s {o,long}/adapter_model.safetensors; then
            pass
        else
            fail "$signal: resume gave $code or other bytes: $(told)"
        fi
    done
    verdict "SIGTERM, SIGINT at random times: gone in 2.5 s, resume equal"
}
