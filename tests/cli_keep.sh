#!/usr/bin/env bash
# cli_keep.sh FT SOURCE – what is not ours stays: outputs over inputs and over files of others, --force, links beside a model,
# what is no file, and permission. What needs another user, or a mount, is left out where it cannot be had.
. "$2/tests/support/cli.sh"

expect_out=said expect_err=err expect_seconds=600
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
state() { (cd "$1" && find . -type f -exec sha256sum {} + && find . -type l -printf '%p -> %l\n') | sort; }
cp -r "$source/data/tiny" m
printf '{"text":"One warm day."}\n{"text":"Two cold nights."}\n' > d.jsonl
cat > run.json << 'END'
{"model": {"path": "m"}, "method": {"type": "lora", "r": 2}, "data": {"train": "d.jsonl", "max_length": 64},
 "train": {"max_steps": 2, "batch_size": 2, "checkpoint_every": 1}, "output": {"dir": "run"}}
END
expect_told 0 '' "$ft" train run.json -q
expect_told 0 '' "$ft" convert m --out m.gguf -q
expect_told 0 '' "$ft" convert m --out model -q
expect_told 73 'exists already' "$ft" convert m --out model -q
expect_told 0 '' "$ft" convert m --out model --force -q
expect_told 0 '' "$ft" convert m --out m.gguf --force -q

# --- --force replaces results alone
before=$(state m && state run && cat m.gguf d.jsonl run.json | sha256sum)
mkdir -p home/thesis up notes sub && echo years > home/thesis/text && cp -r m up/m && echo mine > notes/README.md
cp -r model/. sub && mkdir sub/photos && echo x > sub/photos/a
cp -r model inlink && rm inlink/tokenizer.json && ln -s ../d.jsonl inlink/tokenizer.json
cp -r model asdir && rm asdir/vocab.json 2> /dev/null; mkdir asdir/vocab.json
ln -s model linked && ln -s nowhere dangling && ln m.gguf hard.gguf && ln -s m.gguf link.gguf && echo text > text.gguf
mkfifo pipe.gguf
for case in 'home|"thesis"' 'notes|"README.md"' 'sub|"photos"' 'inlink|"tokenizer.json"' 'asdir|"vocab.json"' 'm|is the model' \
    'm/../m|is the model' 'm/model.safetensors|is a file of the model' 'm/config.json|is a file of the model' '.|you are in' \
    '..|you are in' '/|root' 'linked|is a link' 'dangling|is a link' 'link.gguf|is a link' 'text.gguf|not a .gguf' \
    'pipe.gguf|not a regular file' 'd.jsonl|is a file' 'model/../home|"thesis"'; do
    expect_told 73 "${case#*|}" "$ft" convert m --out "${case%%|*}" --force -q
done
expect_told 73 'home folder' env HOME="$PWD/home" "$ft" convert m --out home --force -q
expect_told 73 'holds the model' "$ft" convert up/m --out up --force -q
expect_told 73 'is the model' "$ft" convert m.gguf --out hard.gguf --force -q
expect_told 73 'is the adapter' "$ft" merge-adapter run --out run --force -q
expect_told 73 'holds the adapter' "$ft" merge-adapter run/checkpoints/step-1 --out run --force -q
expect_told 73 'is the base' "$ft" merge-adapter run --base m --out m --force -q
expect_told 73 'is the model' "$ft" train run.json --out m --force -q
expect_told 73 'holds the model' "$ft" train run.json --out up --set model.path=up/m -q
expect_told 73 'you are in' "$ft" train run.json --out "$PWD" --force -q
expect_told 73 'holds the adapter' "$ft" train run.json --set method.init_from=run/checkpoints/step-1 --force -q
[ "$before" = "$(state m && state run && cat m.gguf d.jsonl run.json | sha256sum)" ] || bad "an input was changed"
[ "$(cat home/thesis/text sub/photos/a notes/README.md)" = $'years\nx\nmine' ] || bad "a file of others is gone"
[ -z "$(ls -d -- *.tmp-* *.old-* 2> /dev/null)" ] || bad "leftovers: $(ls)"
expect_told 0 '' "$ft" convert m --out run.copy -q # a run is a result too
cp -r run/. run.copy && expect_told 0 '' "$ft" convert m --out run.copy --force -q
[ ! -e run.copy/checkpoints ] || bad "a run was not replaced as a whole"

# --- what was cut short is put in order by the next one; what others left there, and the living, is not
dead=$(bash -c 'echo $$')
cp -r model "model.old-$dead" && cp -r model "model.tmp-$dead" && mkdir "model.tmp-$dead/x" && mkdir -p "model.old-$$" && cp model/config.json "model.old-$$"
mkdir "gone.tmp-$dead" && cp -r model "gone.tmp-$dead/.old" && cp -r model "gone.tmp-$dead/gone"
expect_told 0 '"x"' "$ft" convert m --out model --force
[ ! -e "model.old-$dead" ] && [ -e "model.tmp-$dead/config.json" ] && [ -e "model.old-$$/config.json" ] || bad "tidying: $(ls)"
expect_told 73 'put back' "$ft" convert m --out gone || true
cmp -s gone/model.safetensors model/model.safetensors && [ ! -e "gone.tmp-$dead" ] || bad "the old result was not put back: $(ls)"

# --- files of others where a run writes
note() { mkdir "$1" && echo mine > "$1/$2"; }
for f in time.jsonl log.jsonl samples.jsonl log.csv summary.json config.resolved.json README.md tokenizer.json adapter_config.json config.json; do
    note "o-$f" "$f"
    expect_told 73 "$f" "$ft" train run.json --out "o-$f" -q
    expect_told 73 "$f" "$ft" train run.json --out "o-$f" --resume -q
    [ "$(ls "o-$f")" = "$f" ] && [ "$(cat "o-$f/$f")" = mine ] || bad "train wrote into o-$f"
done
mkdir l && ln -s ../d.jsonl l/time.jsonl && expect_told 73 'time.jsonl' "$ft" train run.json --out l --force -q
rm l/time.jsonl && mkdir l/log.csv && expect_told 73 'log.csv' "$ft" train run.json --out l --force -q
rmdir l/log.csv && mkfifo l/log.jsonl && expect_told 73 'log.jsonl' "$ft" train run.json --out l --force -q
rm l/log.jsonl && ln d.jsonl l/samples.jsonl && expect_told 73 'is data that the run reads' "$ft" train run.json --out l --force -q
rm l/samples.jsonl && echo mine > l/mine && cp -r l/mine l/model-old.safetensors && expect_told 0 '' "$ft" train run.json --out l -q
mkdir l/notes && echo mine > l/checkpoints/step-1/mine && echo mine > l/checkpoints/step-x && echo mine > l/tokenizer.bin
expect_told 0 '' "$ft" train run.json --out l --force -q
[ "$(cat l/mine l/model-old.safetensors l/checkpoints/step-1*/mine l/checkpoints/step-x l/tokenizer.bin | sort -u)" = mine ] && [ -d l/notes ] || bad "--force took files of others: $(find l)"
expect_told 0 '' "$ft" train l/config.resolved.json --resume -q
expect_told 73 'is the config' "$ft" train l/config.resolved.json --force -q
rm -r l/summary.json l/adapter_* l/README.md l/checkpoints/step-2 l/checkpoints/result-begun && echo notes > l/README.md && rm l/token* l/chat* l/config.r*
expect_told 73 'README.md' "$ft" train run.json --out l --resume -q
rm l/README.md && cp l/log.jsonl log.copy && ln l/log.jsonl log.hard && expect_told 73 'hard link' "$ft" train run.json --out l --resume -q
cmp -s log.copy log.hard || bad "the other name of a log changed"
rm log.hard && expect_told 0 '' "$ft" train run.json --out l --resume -q
cmp -s l/adapter_model.safetensors run/adapter_model.safetensors || bad "the resumed run has another result"

# --- --force over a finished run: its result stays in .former until the new one is whole
cp -r run f && mkdir f/tensorboard && echo mine | tee f/mine f/checkpoints/mine > f/tensorboard/mine
kept() { [ "$(cd "$1" && sha256sum -- *.safetensors *.json *.jsonl)" = "$2" ] || bad "$3: the former result is not in $1: $(ls -A "$1")"; }
former=$(cd f && sha256sum -- *.safetensors *.json *.jsonl)
for again in 1 2; do # a second one that fails takes the place of nothing
    expect_told 80 'the former result is in f/.former' "$ft" train run.json --out f --force --set optim.learning_rate=1e30 --set train.max_steps=9
    kept f/.former "$former" "diverged, $again"
    [ ! -e f/summary.json ] && [ ! -e f/adapter_model.safetensors ] || bad "a run that diverged has a result"
done
expect_told 0 '' "$ft" train run.json --out f --force -q
[ ! -e f/.former ] && cmp -s f/adapter_model.safetensors run/adapter_model.safetensors || bad "the former result stays behind a new one"
[ "$(cat f/mine f/checkpoints/mine f/tensorboard/mine | sort -u)" = mine ] || bad "files of others went with the former result"
# cut short while it was moved, and before the former was removed
former=$(cd f && sha256sum -- *.safetensors *.json *.jsonl)
mkdir -p f/.former/checkpoints && mv f/adapter* f/log.jsonl f/.former && mv f/checkpoints/run.json f/.former/checkpoints && cp -r f f2
expect_told 0 '' "$ft" train run.json --out f --resume -q
kept f "$former" "--resume" && [ ! -e f/.former ] || bad "what was moved is not put back: $(ls -A f)"
expect_told 80 '' "$ft" train run.json --out f2 --force -q --set optim.learning_rate=1e30 --set train.max_steps=9
kept f2/.former "$former" "--force behind a move cut short"
rm -r f2/checkpoints f2/tensorboard && rm f2/*.json* && expect_told 0 '' "$ft" train run.json --out f2 -q && [ ! -e f2/.former ] || bad "a run beside .former"
cp -r run f2/.former && expect_told 0 '' "$ft" train run.json --out f2 --resume -q && [ ! -e f2/.former ] || bad "a finished run keeps .former"
rm -r f2/checkpoints && former=$(cd f2 && sha256sum -- *.safetensors *.json *.jsonl)
expect_told 80 '' "$ft" train run.json --out f2 --force -q --set optim.learning_rate=1e30 --set train.max_steps=9
kept f2/.former "$former" "a run without checkpoints"
rm -r f2/.former && ln -s ../run f2/.former && expect_told 73 '.former' "$ft" train run.json --out f2 --force -q

# --- files that are named for results
echo mine > report.md && echo mine > junit.xml && echo mine > samples.jsonl && echo mine > out.jsonl
ev() { "$ft" eval --model m --task perplexity --data d.jsonl -q "$@"; }
for w in "--report report.md" "--junit junit.xml" "--samples samples.jsonl" "--report m/config.json" "--samples d.jsonl" "--report dangling"; do
    # shellcheck disable=SC2086
    expect_told 73 '' ev $w
done
expect_told 73 'not what ft data' "$ft" data d.jsonl --model m --out out.jsonl --force -q
[ "$(cat report.md junit.xml samples.jsonl out.jsonl | sort -u)" = mine ] || bad "a file of others was written over"
# those of other programs and people that begin as ours do
printf '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n  <testsuite name="pytest" tests="1"/>\n</testsuites>\n' > theirs.xml
printf '{"task": "translate", "line": 3}\n' > theirs.jsonl
printf '# ft eval\n\nA page about it.\n' > theirs.md
cat theirs.jsonl theirs.md theirs.xml > before.all
for w in "--report theirs.md" "--junit theirs.xml" "--samples theirs.jsonl"; do
    # shellcheck disable=SC2086
    expect_told 73 'is not replaced' ev $w
done
cat theirs.jsonl theirs.md theirs.xml | cmp -s - before.all || bad "a file of theirs was written over"
cp -r m m-folder && rm m-folder/tokenizer_config.json && mkdir m-folder/tokenizer_config.json
expect_told 65 'is a folder where a file belongs' "$ft" convert m-folder --out from-folder
echo mine > r2.md.tmp && expect_told 73 'r2.md.tmp' ev --report r2.md && rm r2.md.tmp
expect_told 0 '' ev --report r2.md && expect_told 0 '' ev --report r2.md # its own it may
expect_told 64 'same file' ev --report r2.md --junit ./r2.md

# --- links beside a model
echo 'TOP SECRET' > secret && cp -r m evil && ln -s ../secret evil/added_tokens.json
cp -r m evil2 && mkdir evil2/additional_chat_templates && ln -s ../../secret evil2/additional_chat_templates/a.jinja
cp -r m evil3 && ln -s hop evil3/chat_template.jinja && ln -s ../secret evil3/hop
cp -r m evil4 && mkdir others && ln -s ../others evil4/additional_chat_templates
for e in evil/added_tokens.json evil2/additional_chat_templates/a.jinja evil3/chat_template.jinja evil4/additional_chat_templates; do
    expect_told 65 "$e: is a link out of its folder" "$ft" convert "${e%%/*}" --out pub -q
    expect_told 65 "$e: is a link out of its folder" "$ft" convert "${e%%/*}" --out pub.gguf -q
    expect_told 65 "$e: is a link out of its folder" "$ft" train run.json --set "model.path=${e%%/*}" --out pub -q
    expect_told 65 "$e: is a link out of its folder" "$ft" merge-adapter run --base "${e%%/*}" --out pub -q
done
[ ! -e pub ] && [ ! -e pub.gguf ] || bad "something was written of a model with links"
ln -s gone evil4/vocab.json && expect_told 66 'evil4/vocab.json' "$ft" convert evil4 --out pub -q
expect_told 0 '' "$ft" convert evil2 --out pub --follow-links -q && grep -q SECRET pub/additional_chat_templates/a.jinja || bad "--follow-links"
mkdir -p cache/blobs cache/snapshots/r1 && for f in m/*; do cp "$f" "cache/blobs/x-${f##*/}" && ln -s "../../blobs/x-${f##*/}" "cache/snapshots/r1/${f##*/}"; done
cp -r m inner && mv inner/tokenizer.json inner/t2 && ln -s t2 inner/tokenizer.json && ln -s inner ofmine
mv m/model.safetensors weights && ln -s ../weights m/model.safetensors
for from in cache/snapshots/r1 inner ofmine m; do
    expect_told 0 '' "$ft" convert "$from" --out "of-${from##*/}" -q
    [ ! -L "of-${from##*/}/tokenizer.json" ] && cmp -s "of-${from##*/}/model.safetensors" model/model.safetensors || bad "links of $from"
done

# --- what is no file is refused, and nothing waits for it
mkfifo p.jsonl p.json p.gguf && cp -r m pm && rm pm/tokenizer_config.json && mkfifo pm/tokenizer_config.json
for w in "check run.json --set data.train=p.jsonl" "check p.json" "generate --model p.gguf --prompt x" "generate --model pm --prompt x" \
    "score --model m --data p.jsonl" "generate --model m --data p.jsonl" "train run.json --out q --set train.sample_prompts=p.json" \
    "eval --model m --task perplexity --data p.jsonl" "eval --model m --task loss --data p.jsonl" "eval p.json" "inspect p.gguf" \
    "data p.jsonl --model m" "generate --model m --chat --chat-template p.json --prompt x" "check run.json --set data.chat_template=p.json"; do
    # shellcheck disable=SC2086
    expect_told 65 'is a pipe' timeout -s KILL 10 "$ft" $w
done
expect_told 65 'is a device' "$ft" eval --model m --task perplexity --data /dev/zero

# --- permission is 77
cp "$ft" ft.copy && chmod 755 . ft.copy # its own folder may be closed to others
if as_nobody ./ft.copy version > /dev/null 2>&1; then
     mkdir locked open && chmod 777 open && chmod 700 locked && cp -r m d.jsonl run.json locked
    mkdir unread && cp -rL m unread && chmod 000 unread/m/tokenizer.json unread/m/config.json
    cp -r m.gguf no.gguf && chmod 000 no.gguf && cp d.jsonl no.jsonl && chmod 000 no.jsonl && chmod -R a+rX m
    for w in "train run.json --out locked/x" "check run.json --out locked/x" "train run.json --out run --resume" "convert m --out locked/x" \
        "convert m --out x.gguf" "check locked/run.json" "generate --model locked/m --prompt x" "generate --model unread/m --prompt x" \
        "generate --model no.gguf --prompt x" "check run.json --out open/o --set data.train=no.jsonl" \
        "check run.json --out open/o --set data.train=locked/d.jsonl" "eval --model m --task perplexity --data d.jsonl --report r2.md" \
        "eval --model m --task perplexity --data no.jsonl" "data d.jsonl --model m --out locked/o.jsonl" "merge-adapter locked/m --out open/o" \
        "score --model m --data locked/d.jsonl" "inspect locked/m"; do
        # shellcheck disable=SC2086
        expect_told 77 'ermission denied' as_nobody ./ft.copy $w
    done
    cp -r run sealed && rm sealed/adapter* && chmod -R a+rwX sealed # a checkpoint that cannot be read is not damaged
    for w in manifest.json state.json optimizer.safetensors; do
        w=$(find sealed/checkpoints -path "*/step-*/$w" | sort -V | tail -n 1)
        chmod 000 "$w"
        expect_told 77 "$w: cannot be opened: Permission denied" as_nobody ./ft.copy train run.json --out sealed --resume -q
        chmod 666 "$w"
    done
    cp -r run theirs && chmod -R a+rwX theirs # nothing is moved where not all can be
    for w in . checkpoints checkpoints/step-1; do
        before=$(state theirs)
        chmod 755 theirs/$w
        expect_told 77 'ermission denied' as_nobody ./ft.copy train run.json --out theirs --force -q
        [ "$before" = "$(state theirs | grep -v '\./\.lock$')" ] || bad "theirs was touched: $(ls -A theirs)"
        chmod 777 theirs/$w
    done
else
    echo "cli_keep: no other user can be had; permission was not tried"
fi
finish cli_keep
