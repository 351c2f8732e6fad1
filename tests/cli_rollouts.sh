#!/usr/bin/env bash
# cli_rollouts.sh FT SOURCE – objectives over sampled completions through the program: the same bytes whatever the threads, the
# micro-batches and the interruptions, in the midst of a batch too; a run's completions replayed; what is wrong, in one line.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny
for i in 1 2 3 4 5; do echo "{\"prompt\": \"the cat and $i\", \"answer\": \"$i\", \"of\": $i}"; done > p.jsonl
cat > run.json <<EOF
{"model": {"path": "$tiny"}, "method": {"type": "lora", "r": 2, "lora_dropout": 0.1},
 "objective": {"type": "grpo", "num_generations": 3, "max_completion_length": 8, "num_iterations": 2, "beta": 0.1,
   "rewards": [{"type": "length", "max_completion_len": 8, "soft_punish_cache": 7}, {"type": "contains", "weight": 2, "name": "has"}]},
 "data": {"train": "p.jsonl", "max_length": 64},
 "optim": {"learning_rate": 1e-3},
 "train": {"batch_size": 2, "max_steps": 6, "eval_every": 3, "checkpoint_every": 1, "keep_checkpoints": 99, "precision": "f32"},
 "output": {"dir": "out"}}
EOF
same() { # RUN OTHER
    local f
    for f in log.jsonl rollouts.jsonl adapter_model.safetensors; do cmp "$1/$f" "$2/$f" || bad "$2: $f differs"; done
}

# --- the same bytes
seen=(--set data.eval=p.jsonl)
expect 0 "$ft" train run.json -q "${seen[@]}"
[ "$(wc -l < out/rollouts.jsonl)" = 18 ] || bad "$(wc -l < out/rollouts.jsonl) lines for 3 batches of 2 x 3"
head -n 1 out/rollouts.jsonl | grep -q '"batch":1,"group":0,"sample":0,"prompt_ids":\[.*"completion":".*"answer":".","logprobs":\[.*"ref_logprobs":\[.*"rewards":{"length":' ||
    bad "a line: $(head -n 1 out/rollouts.jsonl)"
grep -q '"rewards/has/mean":.*"eval_loss":.*"eval_reward":' out/log.jsonl || bad "the log: $(cat out/log.jsonl)"
expect 0 "$ft" train run.json --out cut -q "${seen[@]}" --threads 1 --set train.micro_batch_size=1 --set train.gradient_checkpointing=true
same out cut
# a sample is what it is, whatever is sampled beside it
said() { grep '"batch":1,.*"sample":[01],' "$1/rollouts.jsonl" | sed 's/,"completion":.*//'; }
expect 0 "$ft" train run.json --out fewer -q --set objective.num_generations=2 --set train.max_steps=1
[ "$(said out)" = "$(said fewer)" ] || bad "samples depend on their number: $(said out) $(said fewer)"
for at in 2 3; do # after a batch, and in the midst of one
    rm -rf part && mkdir -p part && cp -r out/. part/ && rm part/summary.json
    for step in part/checkpoints/step-*; do [ "${step##*-}" -le $at ] || rm -r "$step"; done
    expect_told 0 "going on after step $at" "$ft" train run.json --out part --resume "${seen[@]}"
    same out part
done
for type in rloo grpo; do # killed, too
    expect 0 "$ft" train run.json --out $type -q --set objective.type=$type --set objective.num_iterations=3
    killed_within 400 "$ft" train run.json --out killed -q --set objective.type=$type --set objective.num_iterations=3
    expect 0 "$ft" train run.json --out killed -q --resume --set objective.type=$type --set objective.num_iterations=3
    same $type killed && rm -rf killed
done

# --- replay: with what judged them, or by what their lines say
expect 0 "$ft" train run.json --out again -q "${seen[@]}" --set objective.rollouts=out/rollouts.jsonl
same out again
sed 's/"train": "p.jsonl", //; s/"rewards": \[.*\]/"rollouts": "grpo\/rollouts.jsonl"/; s/"num_iterations": 2/"num_iterations": 3/' run.json > replay.json
expect 0 "$ft" train replay.json --out again2 -q
same grpo again2
sed 's/"rewards":{[^}]*},"reward":[^,]*,//; s/,"epoch_batches.*/}/' grpo/rollouts.jsonl > bare.jsonl # judged anew
expect 0 "$ft" train run.json --out again3 -q --set objective.rollouts=bare.jsonl --set objective.num_iterations=3
cmp grpo/adapter_model.safetensors again3/adapter_model.safetensors || bad 'judged anew: the adapter differs'
expect_told 65 '6 steps need 18 completions (6 a batch), it holds 12' "$ft" train run.json --out w -q --set objective.rollouts=grpo/rollouts.jsonl
expect_told 65 'reward: is missing' "$ft" train replay.json --out w -q --set objective.rollouts=bare.jsonl
wrong() { # TEXT LINE
    { head -n 11 grpo/rollouts.jsonl && echo "$2"; } > w.jsonl
    expect_told 65 "$1" "$ft" train replay.json --out w -q --set objective.rollouts=w.jsonl
}
wrong 'w.jsonl:12:' '{"prompt_ids": [5], "completion_ids": [], "reward": 1}'
wrong 'completion_ids: is empty' '{"prompt_ids": [5], "completion_ids": [], "reward": 1}'
wrong 'must be token ids below' '{"prompt_ids": [5], "completion_ids": [99999], "reward": 1}'
wrong 'reward: must be a number' '{"prompt_ids": [5], "completion_ids": [7], "reward": "much"}'
wrong 'epoch_batches: must be a whole number' '{"prompt_ids": [5], "completion_ids": [7], "reward": 1, "epoch_batches": 1e300}'
expect_told 65 'data.eval: there are no objective.rewards' "$ft" train replay.json --out w -q --set data.eval=p.jsonl
expect_told 65 'data.max_length cuts' "$ft" train replay.json --out w -q --set data.max_length=7
expect_told 65 'wants lines with prompt_ids' "$ft" train run.json --out w -q --set objective.rollouts=p.jsonl
expect_told 66 nowhere "$ft" train run.json --out w -q --set objective.rollouts=nowhere.jsonl

# --- forms of prompts, and what check tells
printf '{"prompt": [{"role": "user", "content": "hi"}], "answer": 3}\n' > chat.jsonl
expect 0 "$ft" check run.json --out w -q --set data.train=chat.jsonl --set data.chat_template=chatml
grep -q 'assistant' out.txt || bad "check shows no prompt: $(cat out.txt)"
# pairs are prompts too, in whatever form
echo '{"prompt": "the cat and"}' > asked.jsonl
echo '{"chosen": "the cat and yes", "rejected": "the cat and no"}' > hh.jsonl
for form in asked hh; do
    expect 0 "$ft" train run.json --out $form -q --set data.train=$form.jsonl --set train.max_steps=2 --set 'objective.rewards=["format"]'
done
same asked hh
echo '{"instruction": "Say it.", "chosen": "a", "rejected": "b"}' > told.jsonl
expect 0 "$ft" check run.json --out w -q --set data.train=told.jsonl --set 'objective.rewards=["format"]'
grep -q 'Say it.*assistant' out.txt || bad "an instruction: $(cat out.txt)"
printf '%s\n' chosen,rejected '"[{""role"": ""user"", ""content"": ""Say it.""}, {""role"": ""assistant"", ""content"": ""a""}]","[{""role"": ""user"", ""content"": ""Say it.""}, {""role"": ""assistant"", ""content"": ""b""}]"' > table.csv
expect 0 "$ft" check run.json --out w -q --set data.train=table.csv --set data.chat_template=chatml --set 'objective.rewards=["format"]'
grep -q 'Say it.*assistant' out.txt && ! grep -q 'role' out.txt || bad "turns in a table: $(cat out.txt)"
echo '{"prompt": null, "chosen": "the cat and yes", "rejected": "the cat and no"}' > null.jsonl
expect 0 "$ft" check run.json --out w -q --set data.train=null.jsonl --set 'objective.rewards=["format"]'
echo '{"chosen": "the cat and yes", "rejected": "the cat and yes"}' > equal.jsonl
expect_told 65 'equal.jsonl:1:1: chosen: and rejected are one text' "$ft" check run.json --out w -q --set data.train=equal.jsonl --set 'objective.rewards=["format"]'
echo '{"prompt": "x"}' > none.jsonl
expect_told 65 'none.jsonl:1: answer: is missing' "$ft" train run.json --out w -q --set data.train=none.jsonl
echo '{"prompt": "x", "answer": "none"}' > odd.jsonl
expect_told 65 'odd.jsonl:1: answer: match last_number' "$ft" check run.json --out w -q --set data.train=odd.jsonl --set 'objective.rewards=["last_number"]'
echo '{"prompt": "x", "answer": {"a": "b"}}' > odd.jsonl
expect_told 65 'odd.jsonl:1: answer: must be a text, a number, or a list of them' "$ft" train run.json --out w -q --set data.train=odd.jsonl
expect_told 66 'cannot be started' "$ft" check run.json --out w -q --set 'objective.rewards=[{"type": "command", "argv": ["./nowhere"]}]'
echo '{"prompt": 3}' > w.jsonl
expect_told 65 'w.jsonl:1:12: prompt: must be a string' "$ft" train run.json --out w -q --set data.train=w.jsonl
expect_told 78 'wants prompts' "$ft" train run.json --out w -q --set "data.train=$source/data/tokens.jsonl"
expect_told 78 'gives prompts' "$ft" train run.json --out w -q --set 'objective={"type": "sft"}'

# --- configs that are wrong
refused() { # TEXT SETS…
    local text=$1 sets=()
    shift
    for set; do sets+=(--set "objective.$set"); done
    expect_told 78 "$text" "$ft" train run.json --out w -q "${sets[@]}"
}
refused 'did you mean "dapo"' loss_type=dap
refused objective.num_generations num_generations=1
refused objective.beta beta=-1
refused objective.rewards 'rewards=[]'
refused objective.reward_weights 'reward_weights=[1]'
refused objective.reward_clip_range type=rloo 'reward_clip_range=[1]'
refused 'objective.delta' type=rloo delta=2
refused 'did you mean "length"' 'rewards=["lenght"]'
expect_told 78 data.eval_split "$ft" train replay.json --out w -q --set data.eval_split=0.5
[ ! -e w ] || bad 'a folder is left'
finish cli_rollouts
