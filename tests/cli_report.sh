#!/usr/bin/env bash
# cli_report.sh FT SOURCE – ft report: the page holds the figures of the logs, refers to nothing outside, and escapes what
# runs hold.
set -u
. "$(dirname "$0")/support/cli.sh"

# The curve of a page, "step value" a line: its box is 66 to 708 wide and 230 to 10 high, and it says what the ends stand for.
curve() { # PAGE RUN SERIES
    perl -e '
        my ($page, $run, $series) = @ARGV;
        open my $f, "<", $page or die;
        while (<$f>) {
            next unless /<polyline data-run="\Q$run\E" data-series="\Q$series\E" (.*)>/;
            my $all = $1;
            my ($x0, $x1) = $all =~ /data-x="(\S+) (\S+)"/;
            my ($y0, $y1) = $all =~ /data-y="(\S+) (\S+)"/;
            my ($points) = $all =~ / points="([^"]*)"/;
            for (split " ", $points) {
                my ($x, $y) = split ",";
                printf "%.9g %.9g %.9g\n", $x0 + ($x - 66) / 642 * ($x1 - $x0), $y0 + (230 - $y) / 220 * ($y1 - $y0), $y1 - $y0;
            }
        }' "$@"
}
logged() { # FILE KEY: "step value" of each line that has it
    perl -ne 'print "$1 $2\n" if /"step":(\d+).*"'"$2"'":([-+.\deE]+)/' "$1"
}
# A curve has a point for each logged step, at its place.
holds() { # PAGE RUN FILE KEY SERIES
    curve "$1" "$2" "$5" > drawn.txt
    logged "$3" "$4" > logged.txt
    [ -s logged.txt ] || bad "$3: no $4"
    paste -d ' ' drawn.txt logged.txt | awk -v n="$(wc -l < logged.txt)" '
        function away(a, b) { return a > b ? a - b : b - a }
        NF != 5 || away($1, $4) > 0.02 || away($2, $5) > 0.001 * $3 + 1e-9 { wrong = $0; exit }
        END { if (wrong != "" || NR != n) { print NR, "of", n, wrong; exit 1 } }' ||
        bad "$1: curve $5 is not what $3 holds"
}
# It refers to nothing outside, holds no script, and every tag that is opened is closed.
sound() { # PAGE
    grep -qiE 'https?:|<script|<link|<img|<iframe|@import|url\(|[[:space:]](src|href|on[a-z]+)=' "$1" &&
        bad "$1: refers outside: $(grep -oiE '.{20}(https?:|<script|<link|src=|href=).{20}' "$1" | head -n 2)"
    perl -0777 -ne '
        my @open;
        while (/<(\/?)([a-z][a-z0-9]*)[^>]*?(\/?)>/g) {
            my ($ends, $tag, $empty) = ($1, $2, $3);
            next if $empty || $tag =~ /^(meta|br|hr)$/;
            if (!$ends) { push @open, $tag } elsif (@open && $open[-1] eq $tag) { pop @open }
            else { print "</$tag> closes ", $open[-1] // "nothing", "\n"; exit 1 }
        }
        if (@open) { print "open: @open\n"; exit 1 }' "$1" || bad "$1: not well formed"
}

# --- a run, and one beside it -------------------------------------------------------------------------------------
ln -s "$source/data" data
cp "$source/configs/lora.json" lora.json
train() { # OUT OPTION…
    expect 0 "$ft" train lora.json --out "$1" -q --set train.max_steps=9 --set train.eval_every=3 \
        --set "train.sample_prompts=[\"<b>&\"]" "${@:2}"
}
sed -i 's#"\.\./data#"data#' lora.json
train one
train two --set optim.learning_rate=0.0005
expect 0 "$ft" report one
[ "$(cat out.txt)" = "one/report.html: 1 run" ] || bad "it says $(cat out.txt)"
page=one/report.html
holds $page one one/log.jsonl loss loss
holds $page one one/log.jsonl learning_rate learning_rate
holds $page one one/log.jsonl grad_norm grad_norm
holds $page one one/log.jsonl eval_loss eval_loss
holds $page one one/time.jsonl tokens_per_s tokens_per_s
sound $page
grep -q '<b>&' $page && bad "a sample is not escaped"
grep -q '&lt;b&gt;&amp;' $page || bad "the samples' prompt is missing"
for word in lora_alpha learning_rate data.train 'Merge proof'; do
    case $word in
    'Merge proof') grep -qF "$word" $page && bad "a proof of no merge" ;;
    *) grep -qF "$word" $page || bad "$word is not told" ;;
    esac
done

# --- again over it, several over each other, as JSON --------------------------------------------------------------
expect 0 "$ft" merge-adapter one --out merged
expect 0 "$ft" report one two --json
grep -qxE '\{"out":"one/report.html","runs":2,"bytes":[0-9]+\}' out.txt ||
    bad "--json says $(cat out.txt)"
for run in one two; do holds $page $run $run/log.jsonl loss loss; done
grep -qF 'Merge proof' $page && grep -qF merged $page || bad "the merge left no proof in the report"
grep -q 'class="differs"' $page || bad "keys that differ are not marked"
sound $page

# --- nothing else is written over ---------------------------------------------------------------------------------
echo mine > mine.html
expect 73 "$ft" report one --out mine.html
[ "$(cat mine.html)" = mine ] || bad "mine.html was written over"
expect 73 "$ft" report one --out one/log.jsonl
expect 66 "$ft" report merged
expect 66 "$ft" report nowhere
expect 66 "$ft" report lora.json
grep -qF 'is a file; a report is of the folder' err.txt || bad "a config: $(cat err.txt)"
expect 64 "$ft" report

# A user's own file of the name that proofs are noted in stays.
printf '{"my": "own"}\n' > two/merges.jsonl
expect 0 "$ft" merge-adapter two --out merged-two
[ "$(cat two/merges.jsonl)" = '{"my": "own"}' ] || bad "a line was added to a file of others"
rm two/merges.jsonl
expect 0 "$ft" merge-adapter two --out merged-two --force
expect 0 "$ft" merge-adapter two --out merged-two --force
[ "$(wc -l < two/merges.jsonl)" = 2 ] || bad "two merges left $(wc -l < two/merges.jsonl) lines"

# Nor is a report.html of the user's a thing of the run's: it stays where a run begins anew.
cp -r two three && echo mine > three/report.html
expect 73 "$ft" report three
expect 0 "$ft" train lora.json --out three -q --set train.max_steps=1 --force
[ "$(cat three/report.html)" = mine ] || bad "train --force removed a report.html of others"

# --- not finished: what summary.json would say comes from the lines, the config from where the run began ------------
cp -r one half && rm half/summary.json half/config.resolved.json half/merges.jsonl half/report.html
sed -i '7,$d' half/log.jsonl && sed -i '7,$d' half/time.jsonl
expect 0 "$ft" report half
page=half/report.html
cell() { # ROW COLUMN: of the first table
    perl -0777 -ne '/<table>(.*?)<\/table>/s or exit; my @r = split /<tr>/, $1; my @c = $r['"$1"'] =~ /<td[^>]*>(.*?)<\/td>/g; print $c['"$2"']' $page
}
[ "$(cell 2 1) $(cell 2 2)" = 'not finished lora' ] || bad "its state: $(cell 2 1) $(cell 2 2)"
steps=$(logged half/log.jsonl loss | tail -n 1)
[ "$(cell 2 3)" = "${steps% *}" ] || bad "its steps: $(cell 2 3), not ${steps% *}"
[ "$(cell 2 4)" = "$(logged half/log.jsonl loss | sed -n '1s/.* //p')" ] || bad "its first loss: $(cell 2 4)"
[ "$(cell 2 5)" = "${steps#* }" ] || bad "its last loss: $(cell 2 5)"
[ "$(cell 2 6)" = "$(logged half/log.jsonl tokens | awk '{ n += $2 } END { print n }')" ] || bad "its tokens: $(cell 2 6)"
for word in lora_alpha learning_rate data.train 'Memory and machine' Evaluation; do
    grep -qF "$word" $page || bad "not finished: $word is not told"
done
sound $page

# --- answers to conversations ----------------------------------------------------------------------------------------
cp -r half talk && printf '%s\n' '{"step":1,"index":0,"messages":[{"role":"system","content":"<s>"},{"role":"user","content":"A & b"}],"text":"c","tokens":1,"stop":"eos"}' > talk/samples.jsonl
expect 0 "$ft" report talk
grep -qF 'user: A &amp; b' talk/report.html && grep -qF 'system: &lt;s&gt;' talk/report.html || bad "the turns of a sample are not told"

# --- cut, long, hostile -------------------------------------------------------------------------------
mkdir -p 'a"b<c' && perl -e '
    for (1 .. 5000) { printf "{\"step\":%d,\"loss\":%.6f,\"<x>\":1}\n", $_, 3 + sin($_ / 50) } print "{\"step\":50"' > 'a"b<c/log.jsonl'
expect 0 "$ft" report 'a"b<c' --out long.html
grep -qF 'a"b<c' long.html && bad "a folder's name is not escaped"
curve long.html 'a&quot;b&lt;c' loss > drawn.txt
[ "$(wc -l < drawn.txt)" = 2000 ] || bad "$(wc -l < drawn.txt) points of 5000 instead of 2000"
awk 'NR == 1 && ($1 < 0.5 || $1 > 3.5) || $1 < last { exit 1 } { last = $1 } END { if ($1 < 4997) exit 1 }' drawn.txt ||
    bad "thinned: first and last are not kept"
sound long.html
mkdir odd # ranges that a step of an axis is lost in, or that are beyond all numbers, and values that are none
for pair in '1e16 1.0000000000000002e16' '-1.7e308 1.7e308' '0 0' '5e-324 1e-323' '1e999 1'; do
    read -r a b <<< "$pair"
    printf '{"step":1,"loss":%s}\n{"step":2,"loss":%s}\n{"step":9007199254740993,"loss":%s}\n' "$a" "$b" "$b" > odd/log.jsonl
    timeout 20 "$ft" report odd > out.txt 2> err.txt
    got=$?
    case $got in
    0) grep -qE '[( ,"]-?(nan|inf)' odd/report.html && bad "losses $pair: a place that is none" ;;
    65) grep -qF odd/log.jsonl err.txt || bad "losses $pair: $(cat err.txt)" ;;
    *) bad "losses $pair gave $got" ;;
    esac
    [ ! -e odd/report.html ] || [ "$(wc -c < odd/report.html)" -lt 100000 ] || bad "losses $pair: a page of $(wc -c < odd/report.html) bytes"
done
mkdir bad && echo '{"step":1,"loss":' > bad/log.jsonl && echo '{"step":2}' >> bad/log.jsonl
expect 65 "$ft" report bad
grep -qF 'bad/log.jsonl' err.txt || bad "the broken log is not named: $(cat err.txt)"
finish cli_report
