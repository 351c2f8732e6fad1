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
expect_told 66 'no ft' env PATH=/usr/bin:/bin FT=nowhere bash "$source/scripts/rlhf.sh" out2
expect 64 bash "$source/scripts/rlhf.sh" --gone
finish cli_rlhf
