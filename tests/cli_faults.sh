#!/usr/bin/env bash
# cli_faults.sh FT SOURCE – a disk with faults under the program: damaged writes, no room for a moment, no room for good.
. "$2/tests/support/cli.sh"

faulty=$(dirname "$ft")/libfaulty.so
[ -e "$faulty" ] || { echo "cli_faults: no $faulty: left out" && exit 0; }
LD_PRELOAD=$faulty "$ft" version > /dev/null 2>&1 || { echo "cli_faults: cannot be preloaded (a sanitizer): left out" && exit 0; }
cp -r "$source/data/tiny" m
head -n 40 "$source/data/instructions.jsonl" > d.jsonl
cat > run.json << END
{"model": {"path": "m"}, "method": {"type": "lora", "r": 4}, "data": {"train": "d.jsonl", "max_length": 64},
 "train": {"max_steps": 12, "batch_size": 2, "checkpoint_every": 4}, "output": {"dir": "o", "csv": true, "tensorboard": true}}
END
export FT_TEST_RETRY_SECONDS=0.1
on_disk() { # HOW PATH TIMES COMMAND...: under a disk that strikes files of this name so often
    local how=$1 path=$2 times=$3
    shift 3
    FAULTY_HOW=$how FAULTY_PATH=$path FAULTY_TIMES=$times LD_PRELOAD=$faulty "$@" > out 2> err
}
whole() { # WHAT: the result in o is the undisturbed one's
    local f
    for f in adapter_model.safetensors adapter_config.json log.jsonl log.csv README.md tokenizer.json; do
        cmp -s o/$f ref/$f || bad "$1: $f differs"
    done
    [ -z "$(find o -name '*.tmp')" ] || bad "$1: left $(find o -name '*.tmp')"
}
one_error() { # WHAT
    [ "$(grep -c '^ft: error:' err)" = 1 ] || bad "$1: not one error: $(cat err)"
}
"$ft" train run.json -q || bad "the undisturbed run"
mv o ref

# --- other bytes than were written --------------------------------------------------------------------------------------
for f in params.safetensors manifest.json adapter_config.json; do # of a checkpoint
    rm -rf o
    on_disk flip step-4.tmp/$f 1 "$ft" train run.json || bad "$f: $(cat err)"
    grep -q "step 4: the checkpoint could not be written.*$f: read back, it differs.*trying again" err || bad "$f: no warning: $(cat err)"
    whole "a damaged $f"
    for c in o/checkpoints/step-*; do # none is sealed over damage
        grep -o '"name": "[^"]*", "bytes": [0-9]*, "sha256": "[0-9a-f]*"' "$c/manifest.json" |
            sed 's/"name": "\([^"]*\)".*"sha256": "\([0-9a-f]*\)"/\2  \1/' | (cd "$c" && sha256sum -c --quiet) || bad "$c is damaged"
    done
done
for f in o/adapter_model.safetensors o/tokenizer.json o/summary.json; do # of the result
    rm -rf o
    on_disk flip "$PWD/$f" 1 "$ft" train run.json || bad "$f: $(cat err)"
    grep -q "$f: read back, it differs.*written once more" err || bad "$f: no warning: $(cat err)"
    whole "a damaged $f"
    rm -rf o
    on_disk flip "$PWD/$f" -1 "$ft" train run.json
    [ $? = 74 ] || bad "$f damaged for good: not 74"
    one_error "$f damaged for good"
    [ ! -e "$f" ] || bad "$f is there, and damaged"
    "$ft" train run.json --resume -q || bad "$f: going on"
    whole "gone on after a damaged $f"
done
for f in .nfs0001 tokenizer.json.bak; do # what others put into a checkpoint while it is written
    rm -rf o
    FAULTY_VICTIM=o/checkpoints/step-12.tmp/$f on_disk litter step-12.tmp/state.json 1 "$ft" train run.json || bad "a stray $f: $(cat err)"
    whole "a stray $f"
    [ -e o/checkpoints/step-12/$f ] && ! grep -q "$f" o/checkpoints/step-12/manifest.json || bad "a stray $f: $(ls -a o/checkpoints/step-12)"
done
"$ft" convert m --out ref.gguf --type q8_0 > /dev/null || bad "the undisturbed conversion"
on_disk flip o.gguf 1 "$ft" convert m --out o.gguf --type q8_0 || bad "a damaged .gguf: $(cat err)"
grep -q 'written once more' err && cmp -s ref.gguf o.gguf || bad "a damaged .gguf"
on_disk flip folder 1 "$ft" convert m --out folder --type f16 || bad "a damaged folder: $(cat err)"
grep -q 'written once more' err || bad "a damaged folder: $(cat err)"
on_disk flip none.gguf -1 "$ft" convert m --out none.gguf --type q8_0
[ $? = 74 ] && [ ! -e none.gguf ] && one_error "a .gguf damaged for good" || bad "a .gguf damaged for good: $(cat err)"
ls | grep -q 'none.gguf' && bad "left $(ls)"

# --- a result that is to take the place of another -------------------------------------------------------------------------
cp -r folder former
is_former() { diff -r folder former > diff || bad "$1: the former result is not as it was: $(cat diff; cat err)"; }
on_disk aside x -1 "$ft" convert m --out folder --type f32 --force # it steps aside, and that is not known to be on the disk
[ $? = 74 ] && one_error "a sync in between" || bad "a sync in between: $(cat err)"
is_former "a sync in between"
on_disk stuck folder 1 "$ft" convert m --out folder --type f32 --force # the new one cannot be put in place
[ $? = 74 ] && one_error "no renaming" || bad "no renaming: $(cat err)"
is_former "no renaming"
[ -z "$(ls -d folder.tmp-* 2> /dev/null)" ] || bad "a failed --force left $(ls)"
on_disk stuck folder 2 "$ft" convert m --out folder --type f32 --force # nor the former one back
[ $? = 74 ] && grep -q 'folder.tmp-[0-9]*/.old: is the former result' err && diff -r folder.tmp-*/.old former > /dev/null ||
    bad "no renaming at all: $(cat err; ls -a folder.tmp-*)"
"$ft" convert m --out folder --type f32 2> err > out # the next run puts it back, and finds it in the way
[ $? = 73 ] && grep -q 'put back' err && is_former "put back by the next run" || bad "the next run: $(cat err)"
on_disk stuck nothing 0 "$ft" convert m --out folder --type f32 --force || bad "one after the other: $(cat err)"
"$ft" convert m --out f32 --type f32 -q > /dev/null && diff -r folder f32 > /dev/null || bad "one after the other: $(ls -a folder)"
[ -z "$(ls -d folder.tmp-* 2> /dev/null)" ] || bad "one after the other left $(ls)"
on_disk race two.gguf 1 "$ft" convert m --out two.gguf --type f16 # two writers of one new name
[ $? = 73 ] && grep -q 'two.gguf: was made by somebody else meanwhile' err && [ "$(cat two.gguf)" = GGUF ] || bad "two writers: $(cat err)"

# --- damage that is found later ------------------------------------------------------------------------------------------
hurt() { # FILE: one bit of it
    perl -e 'open my $f, "+<", $ARGV[0] or die; my $n = int((-s $f) / 2); seek $f, $n, 0; read $f, my $c, 1; seek $f, $n, 0; print $f chr(ord($c) ^ 4)' "$1"
}
rm -rf o && cp -r ref o && rm o/summary.json
for f in manifest.json params.safetensors optimizer.safetensors state.json adapter_config.json adapter_model.safetensors tokenizer.json; do
    rm -rf o && cp -r ref o && rm o/summary.json
    hurt o/checkpoints/step-12/$f
    "$ft" train run.json --resume > out 2> err || bad "a checkpoint's damaged $f: $(cat err)"
    grep -q "the checkpoint of step 12 is passed over: .*$f" err && grep -q 'going on after step 8' err || bad "a checkpoint's damaged $f: $(cat err)"
    whole "a checkpoint's damaged $f"
done
hurt o/adapter_model.safetensors # of a finished run
"$ft" train run.json --resume > out 2> err || bad "a damaged result: $(cat err)"
grep -q 'adapter_model.safetensors: damaged: .*written again' err || bad "a damaged result: $(cat err)"
whole "a damaged result"
"$ft" train run.json --resume > out 2> err && grep -q 'nothing to do' err || bad "a whole result: $(cat err)"
rm -r o/checkpoints/step-* o/adapter_config.json
"$ft" train run.json --resume > out 2> err
[ $? = 65 ] && grep -q 'adapter_config.json: is not what the finished run wrote' err || bad "a result that cannot be written again: $(cat err)"

# --- no room ---------------------------------------------------------------------------------------------------------------
for f in step-4.tmp /log.jsonl /log.csv tfevents o/summary.json checkpoints/run.json; do
    rm -rf o
    on_disk full $f 2 "$ft" train run.json || bad "no room for $f: $(cat err)"
    grep -q 'the disk is full' err || bad "no room for $f: no warning: $(cat err)"
    whole "no room for $f"
done
on_disk full later.gguf 3 "$ft" convert m --out later.gguf --type q8_0 || bad "no room for a .gguf: $(cat err)"
cmp -s ref.gguf later.gguf || bad "no room for a .gguf"
for f in checkpoints/step- /log.jsonl o/adapter_model.safetensors; do # for good
    rm -rf o
    on_disk full $f -1 "$ft" train run.json
    [ $? = 74 ] || bad "no room for $f for good: not 74: $(cat err)"
    one_error "no room for $f for good"
    grep -q '^ft: error: .*disk is full' err || bad "no room for $f for good: $(cat err)"
    [ ! -s o/log.jsonl ] || [ -z "$(tail -c 1 o/log.jsonl)" ] || bad "half a line in the log"
    "$ft" train run.json --resume -q || bad "no room for $f: going on"
    whole "gone on after no room for $f"
done
rm -rf o # training goes on while its checkpoint waits
FAULTY_UNTIL=$PWD/room FT_TEST_RETRY_SECONDS=0.2 FAULTY_HOW=full FAULTY_PATH=checkpoints/step- LD_PRELOAD=$faulty \
    "$ft" train run.json > out 2> err --set train.max_steps=2000 --set train.checkpoint_every=1 &
pid=$!
for _ in $(seq 200); do grep -q 'could not be written' err && break || sleep 0.02; done
touch room
for _ in $(seq 200); do ls -d o/checkpoints/step-* 2> /dev/null | grep -qv tmp && break || sleep 0.02; done
kill -TERM $pid
wait $pid
[ $? = 143 ] || bad "the end of a run that had no room for a while: $(tail -n 3 err)"
[ "$(wc -l < o/log.jsonl)" -gt 1 ] && [ "$(sed 's/.*"step":\([0-9]*\),.*/\1/' o/log.jsonl)" = "$(seq "$(wc -l < o/log.jsonl)")" ] ||
    bad "lines are missing: $(head -c 300 o/log.jsonl)"
FT_TEST_RETRY_SECONDS=20 FAULTY_HOW=full FAULTY_PATH=wait.gguf LD_PRELOAD=$faulty "$ft" convert m --out wait.gguf --type q8_0 > out 2> err &
pid=$!
for _ in $(seq 200); do grep -q 'trying again in 20 s' err && break || sleep 0.02; done
start=$(now_ms)
kill -TERM $pid
wait $pid
[ $(($(now_ms) - start)) -lt 2000 ] || bad "a signal during the wait took $(($(now_ms) - start)) ms"
[ -z "$(ls | grep wait.gguf)" ] || bad "left $(ls)"

finish cli_faults
