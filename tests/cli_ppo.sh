#!/usr/bin/env bash
# cli_ppo.sh FT SOURCE – objective ppo through the program: the same bits however a step is cut and wherever it is interrupted, its
# value head as a file, replays of its own completions, and what is wrong told in one line.
. "$2/tests/support/cli.sh"
model_json 640 > model.json
cat > prompts.jsonl << 'END'
{"prompt": "Question: 1 + 1?", "answer": "2"}
{"prompt": "Where does a frog live?", "answer": "pond"}
{"prompt": "Hi", "answer": "a"}
END
cat > run.json << END
{"model": {"from_config": "model.json", "tokenizer": "$source/data/tiny"}, "method": {"type": "full"},
 "objective": {"type": "ppo", "num_generations": 2, "max_completion_length": 6, "num_mini_batches": 2, "num_ppo_epochs": 2,
  "rewards": [{"type": "length", "max_completion_len": 6, "soft_punish_cache": 6}, {"type": "contains", "weight": 0.5}]},
 "data": {"train": "prompts.jsonl", "max_length": 40},
 "optim": {"learning_rate": 0.003, "lr_scheduler_type": "constant"},
 "train": {"max_steps": 7, "batch_size": 3},
 "output": {"dir": "ref"}}
END
artifacts="model.safetensors value_head.safetensors log.jsonl rollouts.jsonl"
same() { # FOLDER WHAT
    for file in $artifacts; do cmp -s "$1/$file" "ref/$file" || bad "$2: $file differs"; done
}
expect 0 "$ft" train run.json -q
[ "$(wc -l < ref/rollouts.jsonl)" = 12 ] || bad "$(wc -l < ref/rollouts.jsonl) completions in two batches of six"
for key in values advantages returns ref_logprobs; do
    grep -q "\"$key\":" ref/rollouts.jsonl || bad "rollouts.jsonl has no $key"
done
grep -q '"objective/rlhf_reward":' ref/log.jsonl || bad "log.jsonl: $(head -n 1 ref/log.jsonl)"
grep -q '"value_head.safetensors"' ref/summary.json || bad 'the summary does not know the value head'

# however it is cut
expect 0 "$ft" train run.json --out cut -q --threads 1 --set train.micro_batch_size=1 --set train.gradient_checkpointing=true
same cut 'one thread, one completion at a time'
# stopped inside the second batch, after one of its four steps
expect 0 "$ft" train run.json --out on -q --set train.max_steps=5
[ -s on/checkpoints/step-5/value_head.safetensors ] || bad 'a checkpoint has no value head'
expect 0 "$ft" train run.json --out on -q --resume
same on 'resumed inside a batch'
rm -rf killed
for _ in 1 2; do killed_within 400 "$ft" train run.json --out killed --resume -q --set train.checkpoint_every=1; done
expect 0 "$ft" train run.json --out killed --resume -q --set train.checkpoint_every=1
same killed 'killed and resumed'
# its own completions again, without sampling
sed 's/"train": "prompts.jsonl", //' run.json > replay.json
expect 0 "$ft" train replay.json --out again -q --set objective.rollouts=ref/rollouts.jsonl
same again 'replayed'

# a head to go on with, from a folder or a file
expect 0 "$ft" train run.json --out head -q --set objective.value_head=ref --set train.max_steps=1
cmp -s head/value_head.safetensors ref/value_head.safetensors && bad 'the head was not trained'
expect 0 "$ft" train run.json --out head2 -q --set objective.value_head=ref/value_head.safetensors --set train.max_steps=1
cmp -s head/value_head.safetensors head2/value_head.safetensors || bad 'a folder and its file are two heads'
cmp -s head/log.jsonl <(head -n 1 ref/log.jsonl) && bad 'the head given is not read'
for precision in f32 bf16; do
    expect 0 "$ft" train run.json --out $precision -q --set train.precision=$precision --set 'method={"type": "lora", "r": 2}' \
        --set train.max_steps=2
    [ -s $precision/value_head.safetensors ] && [ -s $precision/adapter_model.safetensors ] || bad "$precision: no adapter and head"
done
expect 0 "$ft" check run.json --out new -q --set objective.value_head=ref

# --- what is wrong
wrong() { # CODE TEXT --set…
    local code=$1 text=$2
    shift 2
    expect_told "$code" "$text" "$ft" train run.json --out w -q "$@"
    [ ! -e w ] || bad "$*: something was written"
}
wrong 78 num_mini_batches --set objective.num_mini_batches=7
wrong 78 kl_estimator --set objective.kl_estimator=k2
wrong 78 cliprange --set objective.cliprange=-1
wrong 78 lam --set objective.lam=1.5
wrong 78 num_ppo_epochs --set objective.num_ppo_epochs=0
wrong 78 epsilon --set objective.epsilon=0.2
wrong 66 nowhere --set objective.value_head=nowhere
expect_told 73 value_head "$ft" train run.json --out ref -q --force --set objective.value_head=ref
expect_told 73 value_head "$ft" train run.json --out head -q --force --set objective.value_head=head/value_head.safetensors
wrong 65 v_head.summary.weight --set objective.value_head=ref/model.safetensors
model_json 640 | sed 's/"hidden_size": 32/"hidden_size": 48/' > model.json
wrong 65 'another model' --set objective.value_head=ref
finish cli_ppo
