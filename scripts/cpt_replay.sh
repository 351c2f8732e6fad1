#!/usr/bin/env bash
# cpt_replay.sh [NEW.txt OLD.txt] – continued pretraining on a new text with 0 %, 5 % and 25 % of its tokens from an old one:
# what is learned of the new domain and what is forgotten of the old one, as a table.
#
# The last 4 KiB of each text are held out; the rest is trained on by configs/demo/cpt.json (MODEL and STEPS of the
# environment stand for its model and number of steps).  Without texts, or without the model of scripts/fetch-model.sh, the
# embedded model learns the project's manual beside its own small world.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
ft=${FT:-$root/build/release/ft}
[ -x "$ft" ] || { echo "cpt_replay: no $ft; build first (scripts/demo.sh does), or name it in FT" >&2; exit 64; }
work=$root/out/cpt
model=${MODEL:-$root/models/SmolLM2-135M-Instruct.Q4_1.gguf}
more=()
mkdir -p "$work"

if [ $# -eq 2 ]; then
    split() { # TEXT NAME: all but the end, and the end from a line on
        local size held=4096
        size=$(wc -c <"$1")
        [ "$size" -gt $((4 * held)) ] || { echo "cpt_replay: $1 is too short" >&2; exit 64; }
        head -c $((size - held)) "$1" | sed '$d' >"$work/$2.txt"
        tail -c $held "$1" | sed 1d >"$work/$2.eval.txt"
    }
    split "$1" new
    split "$2" old
elif [ $# -eq 0 ]; then
    model=$root/data/tiny
    python3 - "$root/data/text" "$work" <<'PYTHON'
import json, sys
source, work = sys.argv[1:]
for part in ("", ".eval"):
    with open(f"{work}/new{part}.txt", "w") as out:
        for line in open(f"{source}/manual{part}.jsonl"):
            out.write(json.loads(line)["text"] + "\n\n")
    with open(f"{work}/old{part}.txt", "w") as out:
        out.write(open(f"{source}/tiny{part}.txt").read())
PYTHON
else
    echo "usage: scripts/cpt_replay.sh [NEW.txt OLD.txt]" >&2
    exit 64
fi
[ -e "$model" ] || { echo "cpt_replay: no $model; scripts/fetch-model.sh fetches it" >&2; exit 66; }
[ -z "${STEPS:-}" ] || more=(--set "train.max_steps=$STEPS")

figure() { # FILE NAME KEY: of summary.json
    python3 -c 'import json, sys; print("%.4f" % json.load(open(sys.argv[1]))["eval"][sys.argv[2]][sys.argv[3]])' "$@"
}
row() { printf '| %-8s | %-10s | %-8s | %-10s | %-8s |\n' "$@"; }
rows=()
for share in 0 5 25; do
    sources='{"path": "'$work'/new.txt", "name": "new"}'
    [ $share = 0 ] || sources='[{"path": "'$work'/new.txt", "name": "new", "weight": '$((100 - share))'},
        {"path": "'$work'/old.txt", "name": "old", "weight": '$share'}]'
    "$ft" train "$root/configs/demo/cpt.json" --out "$work/run-$share" --force --set "model.path=$model" \
        --set "data.train=$sources" "${more[@]}" >/dev/null
    s=$work/run-$share/summary.json
    rows+=("$share %" "$(figure "$s" new last)" "$(figure "$s" new change)" "$(figure "$s" old last)" "$(figure "$s" old change)")
    [ $share != 0 ] || first=("before" "$(figure "$s" new first)" "" "$(figure "$s" old first)" "")
done
row "replayed" "loss: new" "change" "loss: old" "change"
echo '|---|---|---|---|---|'
row "${first[@]}"
row "${rows[@]}"
