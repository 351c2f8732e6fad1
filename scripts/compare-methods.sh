#!/usr/bin/env bash
# compare-methods.sh – the same data and the same number of steps by several methods, and one table of what each trains,
# takes, learns and forgets: compare.md, compare.csv and compare.json, with every run's figures, in the output folder.
#
#   scripts/compare-methods.sh [OPTION]… [CONFIG…]
#     CONFIG…            training configs, a row each; without: configs/compare/*.json, all methods of the tree
#     --out DIR          runs and tables (out/compare); a run that is there is not made again, one that was cut short goes on
#     --rates LIST       learning rates to try, commas between: "1e-4,1e-3" for every config, "x0.3,x3" times its own, which
#                        is tried too.  The row is that of the lowest loss on the first evaluation source
#     --model PATH       in place of the configs' model; a .gguf is unpacked to OUT/base first, for methods that want numbers
#     --data FILE        in place of their training data
#     --eval FILE        in place of their evaluation data: what is to be learned, held out
#     --forget FILE      with --eval: a second text, of what was known before
#     --steps N          in place of their number of steps
#     --set A.B=VALUE    of every run (repeatable)
#     --threads N        of every run
#
# Columns: loss before and after on the first evaluation source, and how much it changed on the others (above 0: forgotten).
# Tokens/s are the median over the steps, memory the peak of the process.  The program is FT, or build/release/ft.  Every config is
# checked before the first run; of the tree's own, methods that this build does not have are passed over.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
ft=${FT:-$here/build/release/ft}
complain() { echo "compare-methods: $*" >&2; }
usage() { complain "$*; --help says more"; exit 64; }

out=out/compare rates='' model='' eval='' forget='' own=true
configs=() more=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
    --out | --rates | --model | --data | --eval | --forget | --steps | --set | --threads)
        [ $# -gt 1 ] || usage "$1 needs a value"
        case $1 in
        --out) out=$2 ;;
        --rates) rates=$2 ;;
        --model) model=$2 ;;
        --data) more+=(--data "$2") ;;
        --eval) eval=$2 ;;
        --forget) forget=$2 ;;
        --steps)
            [[ $2 =~ ^[1-9][0-9]*$ ]] || usage "--steps: $2 is no number of steps"
            more+=(--set "train.max_steps=$2")
            ;;
        *) more+=("$1" "$2") ;;
        esac
        shift
        ;;
    --*) usage "$1 is no option" ;;
    *) configs+=("$1") own=false ;;
    esac
    shift
done
IFS=, read -ra tries <<<"$rates"
for rate in "${tries[@]}"; do
    [[ $rate =~ ^x?[0-9.]+(e-?[0-9]+)?$ ]] || usage "--rates: \"$rate\" is neither a number nor x and a number"
done
[ -z "$forget" ] || [ -n "$eval" ] || usage "--forget needs --eval"
$own && configs=("$here"/configs/compare/*.json)
[ -x "$ft" ] || { complain "no $ft; build first (scripts/demo.sh does), or name it in FT"; exit 64; }
mkdir -p "$out/log"

path() { case $1 in /*) printf %s "$1" ;; *) printf '%s/%s' "$PWD" "$1" ;; esac; }
text() { # as JSON
    local s=${1//\\/\\\\}
    printf '"%s"' "${s//\"/\\\"}"
}
source_of() { printf '{"path":%s,"name":"%s"}' "$(text "$(path "$1")")" "$2"; }
[ -z "$eval" ] || more+=(--set "data.eval=[$(source_of "$eval" held-out)${forget:+,$(source_of "$forget" other)}]")
$own && [ -z "$model" ] && model=$here/models/SmolLM2-135M-Instruct.Q4_1.gguf
if [[ $model == *.gguf ]]; then # every method begins with the same numbers, those that want a folder too
    [ -e "$model" ] || { complain "no $model; scripts/fetch-model.sh fetches the one of the configs"; exit 66; }
    [ -e "$out/base/config.json" ] || "$ft" convert "$model" --out "$out/base" --type bf16 -q
    model=$out/base
fi
[ -z "$model" ] || more+=(--model "$model")

# --- which of them can be run ---------------------------------------------------------------------------------------
rows=() names=()
for config in "${configs[@]}"; do
    name=$(basename "$config")
    name=${name%.json*}
    for other in ${names[@]+"${names[@]}"}; do
        [ "$other" != "$name" ] || usage "two configs are called $name: a row's name is its config's"
    done
    code=0
    "$ft" check "$config" "${more[@]}" --out "$out/$name" --resume -q >/dev/null 2>"$out/log/$name.check" || code=$?
    if [ $code = 78 ] && $own && grep -qE 'method\.(type|init_lora_weights): ' "$out/log/$name.check"; then
        complain "$name is passed over: this build does not have it"
        continue
    fi
    if [ $code != 0 ]; then
        cat "$out/log/$name.check" >&2
        exit $code
    fi
    rows+=("$config") names+=("$name")
done
[ ${#rows[@]} -gt 0 ] || { complain "no config is left"; exit 64; }

# --- the runs: DIR/NAME at the config's own learning rate, DIR/NAME-RATE at others -------------------------------------
# $out/log/RUN.json is its summary in one line. What diverged, or has no memory, has none, and the others go on.
train() { # CONFIG RUN [ARGUMENT…]
    local config=$1 run=$2 code=0
    shift 2
    complain "$run"
    "$ft" train "$config" "${more[@]}" "$@" --out "$out/$run" --resume --json >"$out/log/$run.json" 2>"$out/log/$run.txt" || code=$?
    case $code in
    0) return ;;
    71 | 80) complain "$run: $(tail -n 1 "$out/log/$run.txt")" ;;
    *)
        tail -n 3 "$out/log/$run.txt" >&2
        complain "the same command goes on from here"
        exit $code
        ;;
    esac
    rm -f "$out/log/$run.json"
}
rate_of() { # RUN: what it trained with
    sed -n '/"optim"/,$ s/^ *"learning_rate": \([^,]*\),*$/\1/p' "$out/$1/config.resolved.json" 2>/dev/null | head -n 1
}
for i in "${!rows[@]}"; do
    name=${names[i]}
    runs=()
    if [ -z "$rates" ] || [[ $rates == *x* ]]; then
        train "${rows[i]}" "$name"
        runs+=("$name")
    fi
    for rate in "${tries[@]}"; do
        [[ $rate == x* ]] && rate=$(awk -v a="$(rate_of "$name")" -v b="${rate#x}" 'BEGIN { printf "%.3g", a * b }')
        train "${rows[i]}" "$name-$rate" --set "optim.learning_rate=$rate"
        runs+=("$name-$rate")
    done
    printf '%s\n' "${runs[@]}" >"$out/log/$name.runs"
done

# --- the tables -----------------------------------------------------------------------------------------------------------
# A line a run, cut at tabs: config, run, method, rate, trainable, peak, tokens/s, seconds, steps, tokens, base, data, evaluations as JSON.
number() { sed -n "s/.*[{,]\"$1\":\([^,}]*\)[,}].*/\1/p" "$2" | head -n 1; }
word() { sed -n "s/.*[{,]\"$1\":\"\([^\"]*\)\".*/\1/p" "$2" | head -n 1; }
median() {
    sed -n 's/.*"tokens_per_s":\([^,}]*\).*/\1/p' "$1" | sort -g | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : "null" }'
}
for name in "${names[@]}"; do
    while read -r run; do
        s=$out/log/$run.json
        [ -e "$s" ] || continue
        printf '%s\t' "$name" "$run" "$(word method "$s")" "$(rate_of "$run")" "$(number trainable_parameters "$s")" \
            "$(number peak_rss_bytes "$s")" "$(median "$out/$run/time.jsonl")" "$(number seconds "$s")" "$(number steps "$s")" \
            "$(number tokens "$s")" "$(word base "$s")" "$(word data "$s")"
        sed 's/.*"eval":\({.*}}\),"best":.*/\1/; t; s/.*/{}/' "$s"
    done <"$out/log/$name.runs"
done >"$out/log/runs.tsv"

# Of evaluations {"NAME":{"first":x,"last":y,"change":z},…}: pairs of names and losses, in order.
awk -F '\t' -v out="$out" -v version="$("$ft" version | head -n 1)" '
    function pairs(json, n, part) { # fills source[], first[], last[]
        n = 0
        while (match(json, /"[^"]*":\{[^}]*\}/)) {
            part = substr(json, RSTART, RLENGTH)
            json = substr(json, RSTART + RLENGTH)
            source[++n] = part
            sub(/^"/, "", source[n])
            sub(/":\{.*/, "", source[n])
            first[n] = value(part, "first")
            last[n] = value(part, "last")
        }
        return n
    }
    function value(text, key) {
        if (!match(text, "\"" key "\":[^,}]*")) return ""
        return substr(text, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
    }
    function loss(x) { return x == "" || x == "null" ? "" : sprintf("%.4f", x) }
    function run_json(i) {
        return sprintf("{\"run\":\"%s\",\"learning_rate\":%s,\"trainable_parameters\":%s,\"peak_rss_bytes\":%s,\"tokens_per_s\":%s,\"seconds\":%s,\"steps\":%s,\"tokens\":%s,\"eval\":%s}",
            field[i, 2], field[i, 4], field[i, 5], field[i, 6], field[i, 7], field[i, 8], field[i, 9], field[i, 10], field[i, 13])
    }
    { # the best of each config is that of the lowest first loss, the first of equal ones
        for (k = 1; k <= 13; k++) field[NR, k] = $k
        pairs($13)
        low = last[1]
        if (!($1 in best)) { order[++rows] = $1; best[$1] = NR; least[$1] = low }
        else if (low != "" && (least[$1] == "" || low + 0 < least[$1] + 0)) { best[$1] = NR; least[$1] = low }
        members[$1] = members[$1] " " NR
        if (NR > 1 && $9 != field[1, 9]) differ["steps"]
        if (NR > 1 && $12 != field[1, 12]) differ["data"]
        if (NR > 1 && $11 != field[1, 11]) differ["base"]
    }
    END {
        if (!NR) exit
        md = out "/compare.md"; csv = out "/compare.csv"; json = out "/compare.json"
        n = pairs(field[best[order[1]], 13])
        line = "| config | method | learning rate | trainable | peak MiB | tokens/s | seconds |"
        rule = "|---|---|---:|---:|---:|---:|---:|"
        titles = "config,method,learning_rate,trainable_parameters,peak_rss_bytes,tokens_per_s,seconds"
        for (k = 1; k <= n; k++) {
            line = line (k == 1 ? " " source[k] ": before | after |" : " " source[k] ": before | change |")
            rule = rule "---:|---:|"
            titles = titles "," source[k] "_before," source[k] "_after"
        }
        print line "\n" rule > md
        print titles > csv
        printf("{\"ft\":\"%s\",\"rows\":[", version) > json
        for (r = 1; r <= rows; r++) {
            i = best[order[r]]
            n = pairs(field[i, 13])
            printf("| %s | %s | %.3g | %d | %.0f | %.0f | %.0f |", field[i, 1], field[i, 3], field[i, 4], field[i, 5], field[i, 6] / 1048576, field[i, 7], field[i, 8]) > md
            printf("%s,%s,%s,%s,%s,%s,%s", field[i, 1], field[i, 3], field[i, 4], field[i, 5], field[i, 6], field[i, 7], field[i, 8]) > csv
            for (k = 1; k <= n; k++) {
                printf(" %s | %s |", loss(first[k]), (k == 1 ? loss(last[k]) : sprintf("%+.4f", last[k] - first[k]))) > md
                printf(",%s,%s", first[k], last[k]) > csv
            }
            printf "\n" > md
            printf "\n" > csv
            printf("%s{\"config\":\"%s\",\"method\":\"%s\",\"best\":%s,\"runs\":[", (r > 1 ? "," : ""), field[i, 1], field[i, 3], run_json(i)) > json
            count = split(members[order[r]], member, " ")
            for (k = 1; k <= count; k++) printf("%s%s", (k > 1 ? "," : ""), run_json(member[k])) > json
            printf("]}") > json
        }
        print "]}" > json
        for (what in differ) print "compare-methods: not all runs have the same " what ": their rows are not to be compared" > "/dev/stderr"
    }' "$out/log/runs.tsv"
[ -s "$out/log/runs.tsv" ] || { complain "no run came to its end"; exit 1; }
cat "$out/compare.md"
complain "$out/compare.md, compare.csv and compare.json"
