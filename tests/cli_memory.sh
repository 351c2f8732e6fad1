#!/usr/bin/env bash
# cli_memory.sh FT SOURCE – memory as a limit: address space that is short, what a plan says against what is taken, lists that
# are read record by record, packed files that are more than they seem, and allocations that fail from some point on.
. "$2/tests/support/cli.sh"
cp -r "$source/data/tiny" m
printf '{"text":"One warm day."}\n{"text":"Two cold nights."}\n' > d.jsonl
printf '{"prompt":"One warm","completion":" day."}\n{"prompt":"Two cold","completion":" nights."}\n' > p.jsonl
for i in 1 2 3 4 5; do for j in 1 2 3 4 5 6 7 8; do echo "{\"text\": \"$(yes "a warm day $i and a cold night $j" | head -n 9 | tr '\n' ' ')\"}"; done; done > long.jsonl
cat > run.json << 'END'
{"model": {"path": "m"}, "method": {"type": "lora", "r": 2}, "data": {"train": "p.jsonl", "max_length": 32},
 "train": {"max_steps": 2, "batch_size": 2}, "output": {"dir": "o"}}
END
"$ft" train run.json -q || bad "train"
sanitized=$(nm -D "$ft" 2> /dev/null | grep -c __asan) # its shadow is address space, too

# --- every verb with 300 MB of address space: the models here take some ten
few() { # WHAT COMMAND…: under the limit, as without it
    local what=$1
    shift
    (ulimit -v 300000 && "$@" > few.out 2> few.err) || bad "$what under ulimit -v: $(cat few.err)"
}
if [ "$sanitized" = 0 ]; then
    few train "$ft" train run.json --out few
    cmp -s o/adapter_model.safetensors few/adapter_model.safetensors || bad "train under ulimit -v is another result"
    few check "$ft" check run.json --out none
    few generate "$ft" generate --model m --adapter o --prompt One --max-new-tokens 4
    few score "$ft" score --model m --adapter o --data d.jsonl
    few eval "$ft" eval --model m --task loss --data d.jsonl
    few merge "$ft" merge-adapter o --base m --out merged
    few convert "$ft" convert m --out c.gguf --type q8_0
    few inspect "$ft" inspect c.gguf
    few tokenize "$ft" tokenize --model c.gguf < d.jsonl
    few data "$ft" data d.jsonl --model m
fi

# --- the plan against what was taken
near() { # WHAT COMMAND…: whose JSON says memory
    local what=$1
    shift
    /usr/bin/time -f %M -o rss "$@" --json > near.out 2> near.err || bad "$what: $(cat near.err)"
    python3 - "$what" << 'END' || bad "the plan of $what"
import json, re, sys
total = json.loads(re.search(r'"memory":(\{[^}]*\})', open("near.out").read()).group(1))["total_bytes"]
peak = int(open("rss").read().split()[-1]) * 1024
if not peak <= total <= 1.2 * peak + (1 << 21):
    sys.exit("%s: planned %d, took %d" % (sys.argv[1], total, peak))
END
}

# --- files that are larger than the address space that is left: a base that is quantised on load is read matrix by matrix, and
# what was converted is looked at without its values
if [ "$sanitized" = 0 ]; then
    mkdir wide
    sed 's/"hidden_size": [0-9]*/"hidden_size": 512/; s/"intermediate_size": [0-9]*/"intermediate_size": 4096/
         s/"num_hidden_layers": [0-9]*/"num_hidden_layers": 3/' m/config.json > wide/config.json
    cat > wide.json << 'END'
{"model": {"from_config": "wide/config.json", "tokenizer": "m"}, "method": {"type": "full"},
 "data": {"train": "p.jsonl", "max_length": 32}, "train": {"max_steps": 1, "batch_size": 1}, "output": {"dir": "base"}}
END
    cat > coded.json << 'END'
{"model": {"path": "base", "quantization": {"type": "nf4"}}, "method": {"type": "qlora", "r": 2},
 "data": {"train": "p.jsonl", "max_length": 32}, "train": {"max_steps": 2, "batch_size": 2}, "output": {"dir": "coded"}}
END
    "$ft" train wide.json -q || bad "a model of 80 MB"
    if has python3 && has /usr/bin/time; then # what is done of blocks is not in memory beside the model
        echo '{"model": {"path": "base"}, "quantize": {"type": "rtn", "bits": 8, "group_size": 32}}' > codes.json
        echo '{"model": {"path": "base"}, "prune": {"sparsity": 0.5}}' > zeros.json
        near quantize "$ft" quantize codes.json --out codes
        near prune "$ft" prune zeros.json --out zeros
    fi
    "$ft" train coded.json -q || bad "qlora"
    (ulimit -v 150000 && "$ft" train coded.json --out coded2 -q) 2> few.err || bad "qlora with 150 MB: $(cat few.err)"
    cmp -s coded/adapter_model.safetensors coded2/adapter_model.safetensors || bad "qlora under ulimit -v is another result"
    "$ft" convert base --out base.gguf --type f16 -q > /dev/null || bad "to f16"
    sed -i 's/"base"/"base.gguf"/' coded.json
    (ulimit -v 165000 && "$ft" train coded.json --out coded3 -q) 2> few.err || bad "qlora on a .gguf with 165 MB: $(cat few.err)"
    (ulimit -v 180000 && "$ft" convert base.gguf --out again --type f32 -q) > /dev/null 2> few.err || bad "convert with 180 MB: $(cat few.err)"
    rm -rf wide base base.gguf coded* again codes zeros
fi

# --- too little: one line with both numbers, at once, and nothing left
short() { # WHAT COMMAND…: 71
    local what=$1
    shift
    FT_CGROUP_ROOT=$PWD/group "$@" > short.out 2> short.err
    [ $? = 71 ] && [ "$(wc -l < short.err)" = 1 ] && grep -q "needs .* cgroup memory.max grants 5.0 MiB" short.err ||
        bad "$what with 5 MiB: $(cat short.err)"
}
mkdir group && echo 5242880 > group/memory.max && echo 0 > group/memory.current
if ! grep -q ':memory:' /proc/self/cgroup || grep -q '^0::/$' /proc/self/cgroup; then
    short train "$ft" train run.json --out short
    short generate "$ft" generate --model m --prompt One
    short score "$ft" score --model m --data d.jsonl
    short eval "$ft" eval --model m --task loss --data d.jsonl
    short merge "$ft" merge-adapter o --base m --out short
    short convert "$ft" convert m --out short
    yes '{"prompt":"a warm day","completion":"b"}' | head -n 30000 > many.jsonl
    short records "$ft" data many.jsonl --model m
    [ -e short ] && bad "something is left where memory was short"
fi

# --- the plan against what was taken, of other verbs
if [ "$sanitized" = 0 ] && has python3 && has /usr/bin/time; then
    near generate "$ft" generate --model m --prompt One --max-new-tokens 8
    near score "$ft" score --model m --data long.jsonl
    near eval "$ft" eval --model m --task loss --data long.jsonl
    near convert "$ft" convert m --out near
    near merge "$ft" merge-adapter o --base m --out near2
    for i in 1 2 3; do cat long.jsonl; done > calib.jsonl
    for type in quantize:gptq prune:wanda prune:sparsegpt; do # activations of the data, a block at a time
        echo '{"model": {"path": "m"}, "calibration": {"data": "calib.jsonl", "samples": 120},
               "'${type%:*}'": {"type": "'${type#*:}'"}}' | sed 's/"gptq"/"gptq", "group_size": 32/' > calib.json
        near "${type#*:}" "$ft" "${type%:*}" calib.json --out "near-${type#*:}"
    done
fi

# --- data in memory: at most five times its text, unpacked, and 64 MiB
costs() { # FILE [CODE]: what it takes to open it
    printf '{"model": {"path": "m"}, "data": {"train": "%s", "max_length": 64}, "output": {"dir": "n"}}' "$1" > costs.json
    local text limit peak
    case $1 in *.gz) text=$(gzip -dc "$1" | wc -c) ;; *) text=$(wc -c < "$1") ;; esac
    limit=$((5 * text / 1024 + 65536))
    /usr/bin/time -q -f %M -o rss "$ft" check costs.json > costs.out 2>&1
    [ $? = "${2:-0}" ] || bad "$1: $(tail -n 1 costs.out)"
    peak=$(tail -n 1 rss)
    [ "$peak" -le $limit ] || bad "$1: $text bytes of text take $peak KiB of memory, more than $limit"
    rm -f "$1"
}
filled() { # BYTES TEXT: so much of it, over and over, on one line
    yes "$2" | head -n $(($1 / (${#2} + 1))) | tr '\n' ' '
}
if [ "$sanitized" = 0 ] && has /usr/bin/time; then
    long=$(filled 9000000 'the warm day and a cold night were over before it came')
    printf '{"prompt": "a", "completion": "%s"}\n' "$long" > text.jsonl && costs text.jsonl
    printf '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "%s"}]}\n' "$long" > answer.jsonl && costs answer.jsonl
    printf '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "a"}]}\n' "$long" > question.jsonl && costs question.jsonl 65
    printf '[{"prompt": "a", "completion": "%s"}]' "$long" > list.json && gzip list.json && costs list.json.gz
    printf '{"prompt": "a", "completion": "%s"}\n' "$(filled 9000000 a)" > letters.jsonl && costs letters.jsonl
    printf '{"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "%s"}]}\n' "$(filled 9000000 a)" > letters.jsonl && costs letters.jsonl
    printf '{"prompt": "a", "completion": "%s"}\n' "$(filled 9000000 abcdefghijklmnopqrstuvwxyz | tr -d ' ')" > word.jsonl && costs word.jsonl
    printf '{"prompt": "a", "completion": "%s"}\n' "$(filled 9000000 a | tr ' ' a)" > word.jsonl && costs word.jsonl
    turn=$(filled 500 'before it was over a day came')
    turns=$(yes "{\"role\": \"user\", \"content\": \"$turn\"}, {\"role\": \"assistant\", \"content\": \"$turn\"}, " | head -n 8000 | tr -d '\n')
    printf '{"messages": [%s]}\n' "${turns%, }" > turns.jsonl && costs turns.jsonl 65
    short=$(yes '{"from":"human","value":"a day"},{"from":"gpt","value":"came"},' | head -n 23200 | tr -d '\n')
    printf '{"conversations": [%s]}\n' "${short%,}" > short.jsonl && costs short.jsonl
    printf '{"conversations": [%s%s]}\n' "$short" "${short%,}" > short.jsonl && costs short.jsonl 65 # so many are refused
    { printf '['; yes '{"prompt": "One", "completion": " warm day."},' | head -n 200000 | tr -d '\n'; printf '{"prompt": "a", "completion": "b"}]'; } | gzip > short.json.gz && costs short.json.gz
    unset long turn turns short
fi

# --- lists, record by record
same_samples() { # FILE: the samples of it are those of pairs.jsonl
    "$ft" data "$1" --model m --out got.jsonl -q > /dev/null 2> err.txt || bad "$1: $(cat err.txt)"
    cmp -s got.jsonl want.jsonl || bad "$1 is read as something else"
    rm -f got.jsonl
}
tells() { # TEXT WHAT: of a .json file of this text
    printf "$1" > t.json
    "$ft" data t.json --model m > /dev/null 2> err.txt
    [ $? = 65 ] && grep -q "t.json:$2" err.txt || bad "$1: $(cat err.txt)"
}
cat > pairs.jsonl << 'END'
{"prompt": "a", "completion": "b\"]}"}
{"prompt": "[c", "completion": "d"}
END
"$ft" data pairs.jsonl --model m --out want.jsonl -q > /dev/null || bad "data"
printf '[%s,\n  %s]\n' "$(sed -n 1p pairs.jsonl)" "$(sed -n 2p pairs.jsonl)" > pairs.json
same_samples pairs.json
gzip -k pairs.json && same_samples pairs.json.gz
tells '[{"promt": "a"}' "1:2: "
tells '[{"prompt": "a", "completion": "b"}\n' "2:1: expected ',' or ']', found the end of the text"
tells '[{"prompt": "a", "completion": "b"},\n ]' "1:36: a comma behind the last entry"
tells '[{"prompt": "a", "completion": "b"}\n {}]' "2:2: expected ',' or ']', found {"
tells '[{"prompt": "a", "completion": "b"},\n {"prompt": "\\x"}]' "2:14: .*not an escape"
tells '[{"prompt": "a", "completion": "b"}] 1' "1:38: text behind the end of the document: 1"
tells '[{"prompt": "a", "completion": "b"}, {"prompt": "a"' "1:52: expected ',' or '}', found the end of the text"
tells '[1, 2]' "1:2: "
tells '{"prompt": "a", "completion": "b"}' "1:1: a .json source is a list"
tells 'x' "1:1: expected a value"

# --- a packed file that is more than it seems, and one that is what it says
{ printf '['; yes '{"prompt":"a","completion":"b"},' | head -n 200000 | tr -d '\n'; printf '{"prompt":"a","completion":"b"}]'; } | gzip > b.json.gz
"$ft" data b.json.gz --model m > /dev/null 2> err.txt || bad "a file of one record over and over: $(cat err.txt)"
cat > bomb.json << 'END'
{"model": {"path": "m"}, "data": {"train": "b.json.gz", "max_unpacked_bytes": 1000000}, "output": {"dir": "n"}}
END
"$ft" check bomb.json > /dev/null 2> err.txt
[ $? = 65 ] && [ "$(wc -l < err.txt)" = 1 ] && grep -q 'b.json.gz.*1000000 bytes.*data.max_unpacked_bytes' err.txt ||
    bad "more than may be unpacked: $(cat err.txt)"

# --- no memory from some point on: one line, whatever the verb
gone() { # COMMAND…
    local k rc
    for k in 1 2 3 5 9 20 60 150 400 1000; do
        FT_TEST_FAIL_AT=$k+ "$@" > gone.out 2> gone.err
        rc=$?
        [ $rc = 0 ] || { [ $rc = 71 ] && [ "$(wc -l < gone.err)" = 1 ] && grep -q '^ft: error: ' gone.err; } ||
            bad "$* without memory from request $k on: $rc, $(cat gone.err)"
    done
}
gone "$ft" check run.json --out none
gone "$ft" generate --model m --prompt One --max-new-tokens 2
gone "$ft" score --model m --data d.jsonl
gone "$ft" merge-adapter o --base m --out gone
gone "$ft" convert m --out gone --force
ls -d gone*tmp* > left.txt 2> /dev/null && bad "without memory this was left: $(cat left.txt)"
gone "$ft" tokenize --model m < d.jsonl
gone "$ft" inspect m
gone "$ft" train run.json --out gone2 --force
finish cli_memory
