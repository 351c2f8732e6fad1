#!/usr/bin/env bash
# cli_distill.sh FT SOURCE – distillation, token-level DPO and references that follow the policy through the program: the same
# bytes however a step is cut and after an interruption, teachers of other shapes in the plan, mistakes in one line.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny
model_json 640 > small.json
head -n 12 "$source/data/completion.jsonl" > c.jsonl
head -n 10 "$source/data/preference.jsonl" > p.jsonl
cat > kd.json <<EOF
{"model": {"from_config": "small.json", "tokenizer": "$tiny"}, "method": {"type": "full"},
 "objective": {"type": "kd", "teacher": "$tiny", "kd_ce_alpha": 0.25, "temperature": 1.5},
 "data": {"train": "c.jsonl", "eval": "p2.jsonl", "max_length": 48},
 "optim": {"learning_rate": 3e-3, "lr_scheduler_type": "constant"},
 "train": {"batch_size": 4, "max_steps": 4, "eval_every": 2, "precision": "f32", "checkpoint_every": 2},
 "output": {"dir": "out"}}
EOF
head -n 3 c.jsonl > p2.jsonl
sed 's/"max_position_embeddings": 64/"max_position_embeddings": 8/' small.json > short.json
cat > learned.json <<EOF
{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 640, "n_embd": 16, "n_layer": 1, "n_head": 2,
 "n_positions": 64, "n_ctx": 64, "n_inner": 32, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}
EOF
sed "s|\"from_config\".*\"$tiny\"}, \"method\": {\"type\": \"full\"}|\"path\": \"$tiny\"}, \"method\": {\"type\": \"lora\"}|" kd.json > self.json
same() { # RUN OTHER
    local file
    for file in log.jsonl model.safetensors; do cmp "$1/$file" "$2/$file" || bad "$2: $file differs from that of $1"; done
}

# --- a teacher larger than the student
expect 0 "$ft" train kd.json -q
grep -q '"kd_loss":[0-9.e+-]*,"ce_loss":' out/log.jsonl || bad "the log: $(sed -n 2p out/log.jsonl)"
grep -q '"eval_loss":.*"eval_kd_loss":.*"eval_ce_loss":' out/log.jsonl || bad "the evaluation: $(sed -n 2p out/log.jsonl)"
expect 0 "$ft" train kd.json --out cut -q --threads 1 --set train.micro_batch_size=1 --set train.gradient_checkpointing=true
same out cut
expect 0 "$ft" train kd.json --out on -q --set train.max_steps=2
expect 0 "$ft" train kd.json --out on -q --resume
same out on
expect 0 "$ft" train kd.json --out packed -q --set data.packing=concat --set train.precision=bf16 --set objective.beta=0
expect 0 "$ft" train self.json --out lora -q --set objective.beta=1 --set objective.kd_ce_alpha=0
sed -n 2p lora/log.jsonl | grep -Eq '"loss":(-?[0-9.]+e-|0,)' || bad "from itself it is far: $(sed -n 2p lora/log.jsonl)"
# an adapter of the teacher, or one on the student's own base as the teacher
for set in "teacher=$tiny objective.teacher_adapter=lora" teacher=lora; do
    read -ra sets <<< "$set"
    expect 0 "$ft" train self.json --out of-adapter -q --force --set method.type=prompt_tuning --set "objective.${sets[0]}" \
        --set "${sets[1]:-train.max_steps=2}"
done

# --- completions that the student writes in some of the steps: recorded, and replayed
own=(--set objective.lmbda=0.5 --set objective.max_completion_length=9)
with_lines() { # RUN OTHER
    same "$1" "$2"
    cmp "$1/rollouts.jsonl" "$2/rollouts.jsonl" || bad "$2: rollouts.jsonl differs from that of $1"
}
[ ! -e out/rollouts.jsonl ] || bad 'rollouts.jsonl without any'
expect 0 "$ft" train kd.json --out own -q "${own[@]}"
[ "$(wc -l < own/rollouts.jsonl)" = 16 ] || bad "lines of rollouts: $(wc -l < own/rollouts.jsonl)"
cmp -s own/log.jsonl out/log.jsonl && bad 'the student wrote nothing'
expect 0 "$ft" train kd.json --out own-cut -q --threads 1 "${own[@]}" --set train.micro_batch_size=1
with_lines own own-cut
expect 0 "$ft" train kd.json --out own-on -q "${own[@]}" --set train.max_steps=2
expect 0 "$ft" train kd.json --out own-on -q "${own[@]}" --resume
with_lines own own-on
expect 0 "$ft" train kd.json --out own-replayed -q "${own[@]}" --set objective.rollouts=own/rollouts.jsonl
with_lines own own-replayed
# answers past the positions that the student has, or was made for
echo '{"prompt": "the", "completion": " cat"}' > brief.jsonl
brief=("${own[@]}" --set data.train=brief.jsonl --set data.eval=brief.jsonl)
expect_told 0 'its answer up to 9, and the model was made for 8' "$ft" check kd.json --out w "${brief[@]}" --set model.from_config=short.json
[ "$(grep -c 'its answer' err.txt)" = 1 ] || bad "told not once: $(cat err.txt)"
expect 0 "$ft" check kd.json --out w "${brief[@]}"
grep -q 'its answer' err.txt && bad 'an answer that fits is told of'
expect_told 78 'objective.max_completion_length: a prompt of' "$ft" train kd.json --out w -q "${brief[@]}" --set model.from_config=learned.json \
    --set objective.max_completion_length=90 --set data.max_length=96
expect_told 65 'the model has positions for 8; lower' "$ft" check kd.json --out w -q "${own[@]}" --set model.from_config=short.json
expect_told 65 'need 20' "$ft" train kd.json --out w -q "${own[@]}" --set objective.rollouts=own/rollouts.jsonl --set train.max_steps=5

# --- what is opened beside the policy, and what it computes, is in the plan
of() { # FIELD ARGUMENTS…
    local field=$1
    shift
    "$ft" check "$@" --json -q 2> /dev/null | grep -o "\"$field\": *[0-9]*" | grep -o '[0-9]*$'
}
[ "$(of weights_bytes kd.json)" -gt "$(of weights_bytes kd.json --set 'objective={"type": "sft"}')" ] || bad 'the teacher is not in the plan'
cat > dpo.json <<EOF
{"model": {"path": "out"}, "method": {"type": "full"}, "objective": {"type": "dpo"},
 "data": {"train": "p.jsonl", "eval": "p.jsonl", "max_length": 128},
 "optim": {"learning_rate": 1e-3, "lr_scheduler_type": "constant"},
 "train": {"batch_size": 4, "max_steps": 4, "eval_every": 2, "precision": "f32", "checkpoint_every": 2},
 "output": {"dir": "dpo"}}
EOF
small=(--set method.type=bitfit --set train.micro_batch_size=4)
[ "$(of activations_bytes dpo.json "${small[@]}" --set "objective.reference=$tiny")" -gt "$(of activations_bytes dpo.json "${small[@]}")" ] ||
    bad 'what a larger reference computes is not in the plan'
# and holds where completions are sampled, which the reference reads by itself
sed 's/"hidden_size": [0-9]*/"hidden_size": 160/; s/"intermediate_size": [0-9]*/"intermediate_size": 900/' small.json > broad.json
expect 0 "$ft" train kd.json --out broad -q --set model.from_config=broad.json --set 'objective={"type": "sft"}' --set train.max_steps=1
sed 's/, "eval": "p.jsonl"//; s/, "eval_every": 2//' dpo.json > once.json
for objective in '"grpo", "num_generations": 4, "beta": 0.1' '"rloo", "num_generations": 4' '"ppo", "num_generations": 4'; do
    rm -rf held
    expect 0 "$ft" train once.json --out held -q "${small[@]}" --set train.micro_batch_size=16 --set train.max_steps=2 --set data.max_length=60 \
        --set "objective={\"type\": $objective, \"max_completion_length\": 32, \"reference\": \"broad\", \"rewards\": [\"format\"]}"
    [ -n "$sanitized" ] || awk -F'[:,]' -v name="$objective" '/"peak_rss_bytes"/ { peak = $2 } /"planned_bytes"/ { plan = $2 }
        END { if (!(peak <= plan)) { print name ": peak " peak ", plan " plan; exit 1 } }' held/summary.json > lies.txt ||
        bad "the plan with a larger reference: $(cat lies.txt)"
done

# --- token-level DPO
for loss in tdpo1 tdpo2; do
    expect 0 "$ft" train dpo.json --out $loss -q --set objective.loss_type=$loss
    sed -n 2p $loss/log.jsonl | grep -q '"loss":0.69314' || bad "$loss: $(sed -n 2p $loss/log.jsonl)"
    expect 0 "$ft" train dpo.json --out $loss-cut -q --threads 1 --set objective.loss_type=$loss --set train.micro_batch_size=1 \
        --set objective.precompute_ref_log_probs=true
    same $loss $loss-cut
done
cmp -s tdpo1/log.jsonl tdpo2/log.jsonl && bad 'tdpo2 is tdpo1'

# --- a reference that follows the policy: all of it after every step, and each step begins at log 2
expect 0 "$ft" train dpo.json --out tr -q --set objective.sync_ref_model=true --set objective.ref_model_sync_steps=1 \
    --set objective.ref_model_mixup_alpha=1
[ "$(grep -c '"loss":0.6931' tr/log.jsonl)" = 4 ] || bad "it does not follow: $(cat tr/log.jsonl)"
tr=(--set objective.sync_ref_model=true --set objective.ref_model_sync_steps=2 --set objective.ref_model_mixup_alpha=0.5)
expect 0 "$ft" train dpo.json --out mixed -q "${tr[@]}"
expect 0 "$ft" train dpo.json --out mixed-on -q "${tr[@]}" --set train.max_steps=2
expect 0 "$ft" train dpo.json --out mixed-on -q "${tr[@]}" --resume
same mixed mixed-on
expect 0 "$ft" train dpo.json -q
cmp -s dpo/log.jsonl mixed/log.jsonl && bad 'a reference that follows changes nothing'

# --- mistakes
refused() { # CODE TEXT CONFIG SETS…
    local code=$1 text=$2 config=$3 sets=()
    shift 3
    for set; do sets+=(--set "$set"); done
    expect_told "$code" "$text" "$ft" train "$config" --out w -q "${sets[@]}"
    [ ! -e w ] || bad "$text: a folder is left"
}
refused 78 objective.teacher kd.json 'objective={"type": "kd"}'
refused 78 objective.beta kd.json objective.beta=1.5
refused 78 objective.temperature kd.json objective.temperature=0
refused 78 objective.kd_alpha kd.json objective.kd_alpha=0 objective.kd_ce_alpha=0
refused 78 objective.teacher kd.json objective.type=sft
refused 78 objective.lmbda kd.json objective.lmbda=1.5
refused 66 nowhere kd.json objective.teacher=nowhere
refused 66 nowhere kd.json objective.teacher_adapter=nowhere
model_json 700 > wide.json
expect 0 "$ft" train kd.json --out wide -q --set model.from_config=wide.json --set 'objective={"type": "sft"}' --set train.max_steps=1
refused 65 'wide: the teacher has a vocabulary of 700' kd.json objective.teacher=wide
refused 78 objective.f_divergence_type dpo.json objective.loss_type=tdpo1 objective.f_divergence_type=forward_kl
refused 78 objective.sync_ref_model dpo.json objective.sync_ref_model=true objective.precompute_ref_log_probs=true
refused 78 objective.sync_ref_model dpo.json objective.sync_ref_model=true method.type=lora
refused 78 objective.ref_model_mixup_alpha dpo.json objective.ref_model_mixup_alpha=2
refused 65 objective.sync_ref_model dpo.json objective.sync_ref_model=true "objective.reference=$tiny"
finish cli_distill
