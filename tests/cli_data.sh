#!/usr/bin/env bash
# cli_data.sh FT SOURCE – ft data from outside: what it counts and shows, and that a run over the samples it writes is a run
# over the sources.
# shellcheck source=support/cli.sh
. "$(dirname "$0")/support/cli.sh"
tiny=$source/data/tiny pty=$(dirname "$ft")/pty

expect_out=out expect_err=err expect_seconds=600
has() { grep -qF -- "$1" out || bad "stdout lacks '$1': $(head -c 1500 out)"; }

cat > talk.jsonl << 'END'
{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello\nyou"}], "note": 1}
{"messages": [{"role": "user", "content": "What does a bee eat, and why, and where?"}, {"role": "assistant", "content": "Nectar, of flowers, in the garden, all day."}]}
{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello\nyou"}], "note": 1}
{"messages": [{"role": "user", "content": "Say nothing"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "More"}, {"role": "assistant", "content": "no"}]}
END
printf '%s\n' '{"prompt": "a", "completion": "bcd"}' '{"prompt": "Once upon", "completion": " a time there was a dog who ran"}' > pairs.jsonl

# --- what is counted and shown ---------------------------------------------------------------------------------------
expect_told 0 '' "$ft" data talk.jsonl --model "$tiny"
has '4 samples of 4 records'
has '1 duplicates'
has '⟦Hello
you<|im_end|>⟧'
has 'talk.jsonl:2 ('
grep -q $'\033' out && bad "colour where there is no terminal"
expect_told 0 '' "$ft" data talk.jsonl pairs.jsonl --model "$tiny" --json --samples 2
has '"duplicates":1,"empty":1,'
has '"unread_keys":{"note":2}'
has '"shown":[{"source":"talk","path":"talk.jsonl","line":1,'
[ "$(grep -o '"segments"' out | wc -l)" = 2 ] || bad "--samples 2: $(cat out)"
# shares of the tokens are one together; as many lengths as samples, whatever they are cut at
grep -o '"share":[0-9.e-]*' out | cut -d: -f2 | awk '{ s += $1 } END { exit !(NR == 2 && s > 0.999999 && s < 1.000001) }' ||
    bad "shares: $(cat out)"
counts() { sed 's/.*"histogram":\[\([^]]*\)\].*/\1/' out | grep -o '"count":[0-9]*' | cut -d: -f2 | awk '{ s += $1 } END { print s }'; }
[ "$(counts)" = 6 ] || bad "the histogram holds $(counts) of 6: $(cat out)"
lengths=$(sed 's/.*\("lengths":{.*"longest":\[[^]]*\]\).*/\1/' out)
expect_told 0 '' "$ft" data talk.jsonl pairs.jsonl --model "$tiny" --json --samples 2 --max-length 43
[ "$(sed 's/.*\("lengths":{.*"longest":\[[^]]*\]\).*/\1/' out)" = "$lengths" ] || bad "lengths before cutting: $(cat out)"
has '"truncated":2'
# the longest first: their tokens do not rise
sed 's/.*"longest":\[\(.*\)\],"shown.*/\1/' out | grep -o '"tokens":[0-9]*' | cut -d: -f2 | sort -nrc || bad "longest: $(cat out)"
expect_told 0 '' "$ft" data '{"path": "pairs.jsonl", "columns": {"prompt": "completion", "completion": "prompt"}}' --model "$tiny" --json
has '"text":"bcd"'
expect_told 0 '' "$ft" data talk.jsonl --model "$tiny" --chat-template alpaca
has '### Response:'
expect_told 0 '' "$ft" data pairs.jsonl --format completion --model "$tiny" --json
has '"format":"completion"'

# --- a config -------------------------------------------------------------------------------------------------------------
cat > run.json << END
{"model": {"path": "$tiny"}, "data": {"train": ["talk.jsonl", "pairs.jsonl"], "eval": "pairs.jsonl", "max_length": 43, "shuffle": false},
 "optim": {"learning_rate": 0.01}, "train": {"batch_size": 3, "epochs": 2}, "output": {"dir": "one"}}
END
expect_told 0 '' "$ft" data run.json --part eval
has '2 samples of 2 records'
expect_told 0 '' "$ft" data run.json --out run.jsonl --quiet
[ "$(wc -l < run.jsonl)" = 6 ] || bad "--out: $(cat run.jsonl)"
expect_told 73 'run.jsonl: exists already' "$ft" data run.json --out run.jsonl
expect_told 0 '' "$ft" data run.json --out run.jsonl --force
expect_told 64 'must end in .jsonl' "$ft" data run.json --out run.txt
expect_told 0 '' "$ft" train run.json --quiet
expect_told 0 '' "$ft" train run.json --quiet --out two --set 'data.train="run.jsonl"'
strip() { sed 's/"source_tokens":{[^}]*},*//; s/,}/}/' "$1/log.jsonl"; }
cmp -s <(strip one) <(strip two) || bad "a run over the samples has another log: $(strip one | head -n 2) $(strip two | head -n 2)"
cmp -s one/adapter_model.safetensors two/adapter_model.safetensors || bad "a run over the samples has another result"
head -c 3000 "$source/data/text/tiny.eval.txt" > story.txt
expect_told 0 '' "$ft" data story.txt --model "$tiny" --max-length 64 --out story.jsonl
for from in story.txt story.jsonl; do
    expect_told 0 '' "$ft" train --model "$tiny" --data $from --out $from.d --quiet --set data.max_length=64 --set data.shuffle=false --set train.max_steps=3
done
cmp -s story.txt.d/log.jsonl story.jsonl.d/log.jsonl || bad "a run over rows of text has another log"
for i in $(seq 40); do echo "{\"text\": \"$(head -c $((i * 7 % 90 + 1)) story.txt | tr -d '\n\"')\"}"; done > short.jsonl
expect_told 0 '' "$ft" data short.jsonl --model "$tiny" --format text --max-length 64 --out rows.jsonl
grep -q '"seq_lengths":\[[0-9]*,[0-9]' rows.jsonl || bad "no row of several documents: $(head -c 300 rows.jsonl)"
for precision in f32 bf16; do
    for from in short rows; do
        expect_told 0 '' "$ft" train --model "$tiny" --data $from.jsonl --out $from.$precision --quiet --set data.max_length=64 \
            --set data.shuffle=false --set train.max_steps=3 --set train.precision=$precision
    done
    cmp -s short.$precision/log.jsonl rows.$precision/log.jsonl || bad "rows of several documents have another log ($precision)"
done
for wrong in '[3]' '[2,0,2]' '[2,3]' '[1.5,2.5]' '4' '["a"]'; do
    echo "{\"input_ids\": [5, 6, 7, 8], \"seq_lengths\": $wrong}" > wrong.jsonl
    expect_told 65 'seq_lengths: ' "$ft" data wrong.jsonl --model "$tiny"
done

# --- a terminal, and what is wrong ---------------------------------------------------------------------------------------
: > script
TERM=xterm NO_COLOR= "$pty" script "$ft" data talk.jsonl --model "$tiny" --samples 1 > out
has $'\033[32mHello'
TERM=xterm NO_COLOR=1 "$pty" script "$ft" data talk.jsonl --model "$tiny" --samples 1 > out
has '⟦Hello'
cp talk.jsonl before.jsonl && ln talk.jsonl other.jsonl
for f in talk.jsonl other.jsonl; do expect_told 73 'is data that is read' "$ft" data talk.jsonl --model "$tiny" --out "$f" --force; done
cmp -s talk.jsonl before.jsonl || bad "ft data wrote over what it read"
for i in $(seq 200); do echo "{\"text\": \"document $i of a stream\"}"; done > stream.jsonl
expect_told 78 'stream.jsonl is a stream' "$ft" data stream.jsonl --model "$tiny" --max-length 16 --set data.window_tokens=200 --set train.max_steps=1 --out ids-of-it.jsonl
[ ! -e ids-of-it.jsonl ] || bad "a part of a stream was written"
expect_told 78 'splitx: unknown key; did you mean "split"?' "$ft" data '{"path": "talk.jsonl", "splitx": "[:2]"}' --model "$tiny"
expect_told 64 'an argument is missing' "$ft" data --model "$tiny"
expect_told 64 'one CONFIG, or sources with --model' "$ft" data talk.jsonl pairs.jsonl
expect_told 64 'talk.jsonl: a source needs --model' "$ft" data talk.jsonl
expect_told 64 'a source needs --model' "$ft" data '{"path": "talk.jsonl"}'
expect_told 64 '--format' "$ft" data run.json --format text
expect_told 64 '--part eval' "$ft" data talk.jsonl --model "$tiny" --part eval
expect_told 66 'nowhere.jsonl' "$ft" data nowhere.jsonl --model "$tiny"
printf '{"text": "a"}\n' > one.jsonl # nothing was cut
expect_told 65 'there is nothing to learn from in 1 records (a text needs two tokens, a conversation an answer); the longest is of 1 tokens' \
    "$ft" data one.jsonl --model "$tiny"
printf '{"prompt": "a b c d e f g", "completion": " x"}\n' > long.jsonl
expect_told 65 'cutting at max_length 3 removed every supervised token of all 1' "$ft" data long.jsonl --model "$tiny" --max-length 3
expect_told 65 'pairs.jsonl:1:' "$ft" data pairs.jsonl --model "$tiny" --format messages
[ ! -e run.txt ] && [ ! -e out/tiny ] || bad "something was written"

# --- turns of a long conversation are found without rendering it for each: the same ones, and in time ------------------
talk() { # TURNS ANSWER MORE: a line of so many turns; MORE: members of each answer
    awk -v n="$1" -v a="$2" -v more="$3" 'BEGIN { printf "{\"messages\": ["
        for (i = 0; i < n; i++) printf "%s{\"role\": \"%s\", \"content\": \"%s\"%s}", i ? ", " : "",
            i % 2 ? "assistant" : "user", i % 2 ? a : "Hi", i % 2 ? more : ""
        print "]}" }'
}
learned() { # TURNS ANSWER MORE TEMPLATE
    talk "$1" "$2" "$3" > long.jsonl
    "$ft" data long.jsonl --model "$tiny" --chat-template "$4" --max-length 1000000 --samples 0 --json 2> err |
        sed -n 's/.*"total":{[^}]*"supervised_tokens":\([0-9]*\).*/\1/p'
}
for template in chatml llama3 gemma zephyr mistral; do
    for answer in yes ' yes ' '<think>why</think> yes'; do
        few=$(learned 40 "$answer" '' $template) more=$(learned 80 "$answer" '' $template)
        many=$(learned 4000 "$answer" '' $template)
        [ -n "$few" ] && [ "$many" = $((few + 99 * (more - few))) ] ||
            bad "$template, '$answer': $few of 40 turns, $more of 80, $many of 4000: $(cat err)"
    done
done
start=$(now_ms)
learned 12000 yes '' chatml > /dev/null
[ $(($(now_ms) - start)) -le 8000 ] || bad "12000 turns took $(($(now_ms) - start)) ms"

expect_told 64 '--format: "foo" is unknown; ft help formats lists them' "$ft" data "$source/data/completion.jsonl" --model "$source/data/tiny" --format foo
finish cli_data
