#!/usr/bin/env bash
# cli_feedback.sh FT SOURCE – scripts/thought-preference.sh and scripts/zephyr.sh on the embedded model: adapters come of them, one
# begins with the other, and what is there is not made again.
. "$2/tests/support/cli.sh"
export FT=$ft
head -n 12 "$source/data/text/tiny.answers.jsonl" > prompts.jsonl
sed "s#\"../data#\"$source/data#g; s/\"eval_every\": *[0-9]*/\"max_steps\": 2/; s/\"epochs\": *[0-9]*, *//" "$source/configs/dpo.json" > dpo.json
export PROMPTS=$work/prompts.jsonl SAMPLES=4 TOKENS=24 TEMPERATURE=1

# a config that is wrong is told before anything is sampled
sed 's/"dpo"/"grpo"/' dpo.json > wrong.json
expect_told 78 'objective.rewards' bash "$source/scripts/thought-preference.sh" wrong.json 1 "$work/never"
[ -e never/samples-1.jsonl ] && bad 'a wrong config: sampled all the same'
sed 's/"answer"/"right"/' prompts.jsonl > unanswered.jsonl
expect_told 65 'answer' env PROMPTS="$work/unanswered.jsonl" bash "$source/scripts/thought-preference.sh" dpo.json 1 "$work/never"
[ -e never/samples-1.jsonl ] && bad 'prompts that the judge cannot use: sampled all the same'
expect 0 env THOUGHT='Think "hard" & answer/\n.' MARKER= bash "$source/scripts/thought-preference.sh" dpo.json 2 "$work/thoughts"
for round in 1 2; do
    [ -s thoughts/round-$round/adapter_model.safetensors ] || bad "round $round has no adapter"
    grep -q '"chosen":' thoughts/pairs-$round.jsonl || bad "round $round has no pairs"
done
head -n 1 thoughts/pairs-1.jsonl | grep -qF '{"prompt":"Think \"hard\" & answer/\\n.\n\nQuestion: ' || bad "the thought prompt: $(head -n 1 thoughts/pairs-1.jsonl)"
grep -q '"init_from": ".*round-1"' thoughts/round-2/config.resolved.json || bad 'round 2 does not begin with round 1'
sed -n 2p thoughts/round-2/log.jsonl | grep -q '"loss":0.69314' || bad "round 2 is not held to round 1: $(sed -n 2p thoughts/round-2/log.jsonl)"
sum=$(cksum thoughts/*/adapter_model.safetensors)
expect 0 env THOUGHT= MARKER= bash "$source/scripts/thought-preference.sh" dpo.json 2 "$work/thoughts"
[ "$sum" = "$(cksum thoughts/*/adapter_model.safetensors)" ] || bad 'a round that is there was made again'
expect_told 64 rounds bash "$source/scripts/thought-preference.sh" dpo.json
expect_told 65 differ env MARKER='nobody says so' SAMPLES=1 bash "$source/scripts/thought-preference.sh" dpo.json 1 "$work/none"

expect 0 env TRAINING='--set train.max_steps=2' bash "$source/scripts/zephyr.sh" "$work/zephyr"
for file in sft/adapter_model.safetensors dpo/adapter_model.safetensors answers.jsonl pairs.jsonl; do
    [ -s zephyr/$file ] || bad "zephyr.sh leaves no $file"
done
grep -q 'margin [-0-9.e]* to [-0-9.e]*' out.txt || bad "zephyr.sh, in short: $(tail -n 3 out.txt)"
# answers that were interrupted go on, in the midst of a line
mv zephyr/samples.jsonl whole.jsonl
head -c $(($(wc -c < whole.jsonl) * 2 / 5)) whole.jsonl > zephyr/samples.jsonl.part
expect 0 env TRAINING='--set train.max_steps=2' bash "$source/scripts/zephyr.sh" "$work/zephyr"
cmp whole.jsonl zephyr/samples.jsonl || bad 'answers that went on are others'
# what is wrong with a later step is told before the first
echo 'Rate it:' > empty.txt
expect_told 78 objective.rewards env DPO=wrong.json bash "$source/scripts/zephyr.sh" "$work/early"
expect_told 65 completion env TEMPLATE=empty.txt bash "$source/scripts/zephyr.sh" "$work/early"
[ -e early/teacher.jsonl ] && bad 'the teacher was asked all the same'
grep -q '"init_from": ".*sft"' zephyr/dpo/config.resolved.json || bad 'dDPO does not begin with dSFT'
for script in thought-preference zephyr; do
    bash "$source/scripts/$script.sh" --help | grep -q '^.*MODEL=M' || bad "$script.sh --help does not say what it takes"
done
finish cli_feedback
