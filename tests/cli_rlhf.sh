#!/usr/bin/env bash
# cli_rlhf.sh FT SOURCE – scripts/rlhf.sh on the embedded model: demonstrations, a reward model, PPO against it; what is there is not
# made again.
. "$2/tests/support/cli.sh"
export FT=$ft
few='--set train.max_steps=2 --set train.batch_size=2 --set train.precision=f32 --set method.r=2 --set data.max_length=128 -q'
export SFT=$few REWARD="$few --set train.max_steps=4 --set train.eval_every=2"
export PPO="$few --set objective.max_completion_length=6 --set objective.num_ppo_epochs=2"
expect 0 bash "$source/scripts/rlhf.sh" out
grep -q 'accuracy on held-out pairs [0-9.]* to [0-9.]*' out.txt || bad "the reward model: $(tail -n 2 out.txt)"
grep -q 'mean reward of its answers [-0-9.e]* to [-0-9.e]*' out.txt || bad "the policy: $(tail -n 2 out.txt)"
for part in sft policy reward ppo; do [ -d "out/$part" ] || bad "no $part"; done
tail -n 2 out.txt > told.txt
expect 0 bash "$source/scripts/rlhf.sh" out
tail -n 2 out.txt | cmp - told.txt || bad 'a second time is another'
# pairs in another form alone: a tenth of them is held out, and what they ask is answered
for i in 1 2 3 4 5 6 7 8 9 10 11; do echo "{\"chosen\": \"The cat $i is small.\", \"rejected\": \"The cat $i no no.\"}"; done > pairs.jsonl
expect 0 env DEMOS= PAIRS="$work/pairs.jsonl" bash "$source/scripts/rlhf.sh" alone
grep -q 'accuracy on held-out pairs [0-9.]* to [0-9.]*' out.txt || bad "pairs alone: $(tail -n 2 out.txt)"
# a later step that would fail is told of before the first
expect_told 78 'wants prompts' env PROMPTS="$source/data/tokens.jsonl" bash "$source/scripts/rlhf.sh" never
expect_told 78 objective.betta env REWARD='--set objective.betta=1' bash "$source/scripts/rlhf.sh" never
[ -e never/sft ] && bad 'what is wrong with a later step is told late'
expect_told 66 'no ft' env PATH=/usr/bin:/bin FT=nowhere bash "$source/scripts/rlhf.sh" out2
expect 64 bash "$source/scripts/rlhf.sh" --gone
finish cli_rlhf
