#!/usr/bin/env bash
# cli_samples.sh FT SOURCE – data made and judged through the program: personas, records of prompts in all forms, and what a run
# over pairs and labels shows of itself.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny

# --- personas
printf 'You are a pirate.\n\nYou are brief.\r\nA third.\n' > who.txt
cat > ask.jsonl <<'END'
{"id": 7, "prompt": "Once upon", "answer": "x"}
{"prompt": [{"role": "user", "content": "hi"}], "completions": 3}
{"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "hi"}]}
END
gen() { expect 0 "$ft" generate --model "$tiny" --temperature 1 --max-new-tokens 4 --chat --data ask.jsonl "$@"; }
gen --num-samples 2 --systems who.txt
cp out.txt drawn.txt
[ "$(grep -c '"system":"\(You are a pirate.\|You are brief.\|A third.\)","completions"' drawn.txt)" = 2 ] || bad "drawn: $(cat drawn.txt)"
grep -q '^{"messages":\[{"role":"system","content":"own"},[^]]*],"completions"' drawn.txt || bad "a system turn of its own: $(cat drawn.txt)"
gen --num-samples 2 --systems who.txt --threads 1
cmp -s out.txt drawn.txt || bad 'the draw depends on the threads'
gen --num-samples 3 --systems who.txt --cross
[ "$(wc -l < out.txt)" = 7 ] || bad "--cross: $(wc -l < out.txt) records of 3 lines and 3 system turns"
cp out.txt crossed.txt
# an interrupted run goes on: the answers that are left are those that it would have given
gen --num-samples 3 --systems who.txt --cross --skip 4
tail -n 3 crossed.txt | cmp -s - out.txt || bad "--skip: $(cat out.txt)"
gen --num-samples 3 --systems who.txt --cross --skip 7
[ -s out.txt ] && bad "--skip of all: $(cat out.txt)"
cp crossed.txt out.txt
# what was drawn is one of those that --cross gives, and each is what --system gives
sed 's/\("samples":\[{[^}]*},{[^}]*}\).*/\1/' drawn.txt > two.txt
sed 's/"completions":\[[^]]*\]//; s/\("samples":\[{[^}]*},{[^}]*}\).*/\1/' out.txt > three.txt
sed 's/"completions":\[[^]]*\]//' two.txt | grep -vxFf three.txt && bad 'two samples are not the first two of three'
sed -n 2p out.txt > second.txt
gen --num-samples 3 --system 'You are brief.'
[ "$(head -n 1 out.txt)" = "$(cat second.txt)" ] || bad "--system: $(cat out.txt) $(cat second.txt)"
: > none.txt
printf '\377\n' > bytes.txt
while IFS='|' read -r code told options; do
    read -ra words <<< "$options"
    expect_told "$code" "$told" "$ft" generate --model "$tiny" --data ask.jsonl "${words[@]}"
done <<'END'
64|--systems: goes with --chat|--systems who.txt --num-samples 1
64|--systems: goes with --num-samples|--systems who.txt --chat
64|--systems: not together with --system|--systems who.txt --chat --num-samples 1 --system S
64|--cross: goes with --systems|--cross --chat --num-samples 1
64|--skip|--skip -1
65|none.txt: is empty|--systems none.txt --chat --num-samples 1
65|bytes.txt: is not UTF-8|--systems bytes.txt --chat --num-samples 1
66|nowhere|--systems nowhere --chat --num-samples 1
64|"0x1" must be a number|--temperature 0x1
64|"." must be a number|--temperature .
64|"inf" must be a number|--temperature inf
END
gen --num-samples 1 --top-p .5 --min-p .25
cp out.txt short.txt
gen --num-samples 1 --top-p 0.5 --min-p 0.25
cmp -s out.txt short.txt || bad '.5 is not 0.5'

# --- what records are, where nothing says it
shows() { # FORMAT RECORD
    printf '%s\n' "$2" > r.jsonl
    expect 0 "$ft" data r.jsonl --model "$tiny" --chat-template chatml --json -q
    grep -q "\"format\":\"$1\"" out.txt || bad "$2 is no $1: $(head -c 400 out.txt)"
}
turns='[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
shows unpaired '{"prompt": "a", "completion": " b", "label": true}'
shows unpaired "{\"messages\": $turns, \"label\": false}"
shows unpaired '{"instruction": "a", "input": "", "output": "b", "kto_tag": true}'
shows completion '{"prompt": "a", "completion": " b", "label": 3}'
shows messages "{\"messages\": $turns, \"label\": \"news\"}"
shows preference '{"prompt": "a", "chosen": " b", "rejected": " c", "label": true}'
shows preference '{"instruction": "a", "input": "", "output": "b", "chosen": "b", "rejected": "c"}'

# --- a run over labels in the form of LLaMA-Factory, and its page
cat > kto.jsonl <<'END'
{"instruction": "Say yes", "input": "", "output": "yes", "kto_tag": true}
{"instruction": "Say no", "input": "now", "output": "yes", "kto_tag": false}
END
cat > run.json <<END
{"model": {"path": "$tiny"}, "method": {"type": "lora", "r": 2}, "objective": {"type": "kto"},
 "data": {"train": "kto.jsonl", "max_length": 128, "chat_template": "chatml"},
 "train": {"batch_size": 2, "max_steps": 2}, "output": {"dir": "kto"}}
END
expect 0 "$ft" train run.json -q
[ "$(grep -c '"kl":' kto/log.jsonl)" = 2 ] || bad "kto: $(cat kto/log.jsonl)"
printf '{"label": true}\n' > none.jsonl
expect_told 65 'none.jsonl:1:1: completion: is missing' "$ft" train run.json --out w --set 'data.train={"path": "none.jsonl", "format": "unpaired"}'
head -n 6 "$source/data/preference.jsonl" > p.jsonl
expect 0 "$ft" train run.json --out dpo -q --set objective.type=dpo --set data.train=p.jsonl --set data.eval=p.jsonl --set train.eval_every=1
expect 0 "$ft" report dpo
for head in rewards logps; do grep -qF "<h2>Curves: $head</h2>" dpo/report.html || bad "no curves of $head"; done
[ "$(grep -cF '<figcaption>rewards of both answers</figcaption>' dpo/report.html)" = 1 ] || bad 'rewards have no chart of their own'
for series in rewards/chosen eval_rewards/chosen rewards/rejected rewards/margins rewards/accuracies entropy eval_entropy; do
    [ "$(grep -cF "data-series=\"$series\"" dpo/report.html)" = 1 ] || bad "$series is not drawn once"
done
finish cli_samples
