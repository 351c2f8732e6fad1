#!/usr/bin/env bash
# cli_typed.sh FT SOURCE – what ft shows can be typed: next steps after every kind of result, wherever it lies, the configs of
# `ft help OBJECTIVE`, standard input as a file; what `ft check` shows of a pair; texts that are read again.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny
line="'$ft'"
head -n 4 "$source/data/text/tiny.preference.jsonl" > pairs.jsonl
echo '{"text": "a b c"}' > LINES
head -c 1000 "$source/data/text/tiny.eval.txt" > FILE
typed() { # WORDS of a command line: it, and what it leads to, each alternative
    local words=$1 part next
    while [ -n "$words" ]; do
        part=${words%%, or ft *}
        [ "$part" = "$words" ] && words= || words=${words#*, or ft }
        rm -rf PATH
        eval "$line $part" > out.txt 2> err.txt < /dev/null || bad "ft $part gave $?: $(tail -n 1 err.txt)"
        next=$(sed -n 's/^next: ft //p' err.txt)
        [ -z "$next" ] || eval "$line $next" > out.txt 2> err.txt < /dev/null || bad "ft $next, after ft $part: $(tail -n 1 err.txt)"
    done
}
led=
made() { # NEXT WORDS of ft train: what it says next begins so, and goes
    local want=$1
    shift
    rm -rf 'else where'
    "$ft" train --out 'else where' --set train.max_steps=1 "$@" > out.txt 2> err.txt < /dev/null || bad "train $*: $(tail -n 1 err.txt)"
    led=$(sed -n 's/^next: ft //p' err.txt)
    [[ $led == "$want"* ]] || bad "train $*: next is $led"
    typed "$led"
}
reward='objective={"type": "reward"}'
made "score --adapter 'else where' --data LINES, or ft merge-adapter 'else where'" --model "$tiny" --data pairs.jsonl --set "$reward"
made "score --model 'else where' --data LINES" --model "$tiny" --data pairs.jsonl --set "$reward" --method bitfit
rm -rf rm && expect 0 "$ft" convert 'else where' --out rm
[ "$(sed -n 's/^next: //p' err.txt)" = 'ft score --model rm --data LINES' ] || bad "convert: $(cat err.txt)"
made "generate --adapter 'else where' --chat, or ft merge-adapter" --model "$tiny" --data pairs.jsonl --set 'objective={"type": "dpo"}'
made "generate --adapter 'else where' --chat" --model "$tiny" --data pairs.jsonl --set 'objective={"type": "orpo"}' --set 'method={"type": "prompt_tuning", "num_virtual_tokens": 2}'
model_json 64 > config.json
echo '{"input_ids": [1, 2, 3]}' > ids.jsonl
echo '{"tokens": [1, 2, 3]}' > LINES
made "score --model 'else where' --data LINES" --data ids.jsonl --set model.from_config=config.json --method full # no tokenizer

# --- a config for each objective
ln -s "$tiny" model && ln -s "$tiny" teacher
for objective in grpo rloo ppo kd dpo kto reward; do
    "$ft" help $objective > help.txt
    grep '^{"model"' help.txt > $objective.json || bad "help $objective has no config"
    file=$(sed -n 's/^a line of \(.*\):$/\1/p' help.txt)
    sed -n '/^a line of/,$p' help.txt | grep '^{' > "$file" || bad "help $objective has no record"
    expect 0 "$ft" train $objective.json -q --set train.max_steps=1 --set train.batch_size=1 --force
done

# --- standard input where a file is named
expect_in=LINES
expect 0 "$ft" score --model "$tiny" --data -
grep -q '"logprob"' out.txt || bad "score --data -: $(cat out.txt)"
expect 0 "$ft" generate --model "$tiny" --data - --max-new-tokens 2
echo '{"prompt": "a", "answer": "b", "completions": ["b"]}' > c.jsonl
expect_in=c.jsonl
expect 0 "$ft" judge --method match --match exact --data -
grep -q '"scores":\[1\]' out.txt || bad "judge --data -: $(cat out.txt)"
expect 0 "$ft" eval --model "$tiny" --task generate --match exact --data - --max-new-tokens 2
expect_in=FILE
expect_told 78 'perplexity is of a text: write it to a file' "$ft" eval --model "$tiny" --task perplexity --data -
expect_in=/dev/null

# --- check shows both sides of a pair with what is learned of them
echo '{"prompt": "Q:", "chosen": " yes", "rejected": " never"}' > one.jsonl
expect 0 "$ft" check --model "$tiny" --data one.jsonl --out w --set 'objective={"type": "dpo"}' --set train.batch_size=1
sed -n '/^ chosen/,$p' out.txt > shown.txt
printf '%s\n' ' chosen' '         "Q:"' '  train  " yes<|endoftext|>"' ' rejected' '         "Q:"' '  train  " never<|endoftext|>"' | cmp -s - shown.txt ||
    bad "check shows a pair as $(cat out.txt)"
expect 0 "$ft" check --model "$tiny" --data one.jsonl --out w --set 'objective={"type": "dpo"}' --set train.batch_size=1 --json
grep -q '{"side":"chosen","supervised":false,"text":"Q:",.*{"side":"rejected","supervised":false,"text":"Q:"' out.txt || bad "as JSON: $(cat out.txt)"
expect 0 "$ft" data one.jsonl --model "$tiny"
[ "$(tail -n 4 out.txt | tr -d '\n')" = 'chosen:Q:⟦ yes<|endoftext|>⟧rejected:Q:⟦ never<|endoftext|>⟧' ] || bad "data shows $(tail -n 5 out.txt)"

# --- answers that are all the same are told, once; a NUL is U+FFFD in what is read again
asks=("$ft" generate --model "$tiny" --num-samples 2 --max-new-tokens 3)
printf '%s\n' '{"prompt": "a"}' '{"prompt": "b"}' > two.jsonl
expect_told 0 'at temperature 0 the 2 answers' "${asks[@]}" --data two.jsonl
[ "$(grep -c warning err.txt)" = 1 ] || bad "told not once: $(cat err.txt)"
expect 0 "${asks[@]}" --data two.jsonl --temperature 1
grep -q warning err.txt && bad "warned of nothing: $(cat err.txt)"
# and cuts of a draw that is none
cuts=("$ft" generate --model "$tiny" --max-new-tokens 1 --top-k 3)
expect_told 0 'have no effect at temperature 0' "${cuts[@]}" --data two.jsonl
[ "$(grep -c warning err.txt)" = 1 ] || bad "cuts are told not once: $(cat err.txt)"
printf '%s\n' '{"prompt": "a", "temperature": 1}' > draw.jsonl
expect 0 "${cuts[@]}" --data draw.jsonl
grep -q warning err.txt && bad "warned of a draw: $(cat err.txt)"
expect 0 "$ft" generate --model "$tiny" --prompt a --num-samples 40 --max-new-tokens 60 --temperature 1e6
tr -d '\n' < out.txt | grep -q 'u0000' && bad 'a NUL among completions'
cp out.txt many.jsonl && sed -i 's/^{/{"answer": "a",/' many.jsonl
expect 0 "$ft" judge --method match --match exact --data many.jsonl
finish cli_typed
