#!/usr/bin/env bash
# cli_worth.sh FT SOURCE – what records say that completions are worth: answers of which any is right, rewards that are replayed,
# numbers that are no measure of anything; and what is told before a run makes its folder.
. "$2/tests/support/cli.sh"
cat > run.json <<EOF
{"model": {"path": "$source/data/tiny"}, "method": {"type": "lora", "r": 2},
 "objective": {"type": "grpo", "num_generations": 2, "max_completion_length": 4, "rewards": [{"type": "contains"}]},
 "data": {"train": "p.jsonl", "max_length": 64}, "train": {"batch_size": 1, "max_steps": 2}, "output": {"dir": "out"}}
EOF
sed 's/"train": "p.jsonl", //; s/"rewards": \[.*\]/"rollouts": "r.jsonl"/' run.json > replay.json
now() { "$ft" "$@" --out w -q; }

# --- a list as an answer: the same for training, `ft judge` and `ft eval`
echo '{"prompt": "the cat", "answer": ["", "no such text"]}' > p.jsonl # all text contains the first one
expect 0 now train run.json
grep -q '"answer":\["","no such text"\],.*"rewards":{"contains":1}' w/rollouts.jsonl || bad "a list: $(head -n 1 w/rollouts.jsonl)"
mv w out
expect 0 now train run.json --set objective.rollouts=out/rollouts.jsonl
cmp out/rollouts.jsonl w/rollouts.jsonl || bad 'a list replayed'
rm -rf w
echo '{"prompt": "a", "answer": ["", "x"], "completions": ["b"]}' > c.jsonl
expect 0 "$ft" judge --method match --match contains --data c.jsonl
grep -q '"scores":\[1\]' out.txt || bad "judge: $(cat out.txt)"
expect 0 "$ft" eval --model "$source/data/tiny" --task generate --match contains --data c.jsonl --max-new-tokens 2
grep -q 'accuracy 1' out.txt || bad "eval: $(cat out.txt)"
for answer in '[]' '[{}]' '{"a": 1}'; do
    echo "{\"prompt\": \"a\", \"answer\": $answer, \"completions\": [\"b\"]}" > p.jsonl
    expect_told 65 'p.jsonl:1' now train run.json
    expect_told 65 'p.jsonl:1' "$ft" judge --method match --match contains --data p.jsonl
done

# --- rewards that are replayed: by name, before there is a folder
replays() { # CODE TEXT RECORD…: one a line, the last two wrong
    local code=$1 text=$2
    shift 2
    printf '{"prompt_ids": [5], "completion_ids": [7], %s}\n' '"rewards": {"a": 1}' "$@" > r.jsonl
    expect_told "$code" "$text" now train replay.json --set train.max_steps=1
}
replays 65 'r.jsonl:2: rewards: "a" is weighed and not among them' '"rewards": {"b": 1}'
replays 65 'r.jsonl:2: rewards: "a" is weighed and not among them' '"rewards": {}'
echo '{"prompt_ids": [5], "completion_ids": [7], "rewards": {}}' > r.jsonl
cat r.jsonl r.jsonl > r2.jsonl
expect_told 65 'r2.jsonl:1: rewards: no reward is named' now train replay.json --set objective.rollouts=r2.jsonl --set train.max_steps=1
replays 65 'r.jsonl:2:61: rewards: must be a number between -1e9 and 1e9' '"rewards": {"a": 1e300}'
replays 65 'r.jsonl:2:54: reward: must be a number between' '"reward": -1e999'

# --- numbers of pairs and configs
pairs() { # MEMBER
    echo "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\", $1}" > pairs.jsonl
    expect_told 65 'pairs.jsonl:1:' now train run.json --set 'objective={"type": "reward"}' --set data.train=pairs.jsonl
    grep -qF 'must be a number between' err.txt || bad "$1: $(cat err.txt)"
}
pairs '"margin": 1e300'
pairs '"margin": 1e999'
pairs '"ref_chosen_logps": -1e999, "ref_rejected_logps": 1'
echo '{"prompt": "a", "answer": "b"}' > p.jsonl
expect_told 78 'objective.reward_weights: must be a number between' now check run.json --set 'objective.reward_weights=[1e300]'
expect_told 78 'objective.rewards.weight' now check run.json --set 'objective.rewards=[{"type": "exact", "weight": 1e300}]'

# --- a program that is in no folder of PATH; one that answers without measure
expect_told 66 'in no folder of PATH' now check run.json --set 'objective.rewards=[{"type": "command", "argv": ["no-such-judge"]}]'
[ ! -e w ] || bad 'a folder is left'
expect_told 74 'no number up to 1e9' now train run.json --set 'objective.rewards=[{"type": "command", "argv": ["sh", "-c", "while read -r a; do echo 1e300; done"]}]'
rm -rf w

# --- the plan has the lines of rollouts.jsonl: never less than they are
bytes() { grep -o "\"$1\":[0-9]*" out.txt | tail -n 1 | cut -d: -f2; }
expect 0 "$ft" check run.json --out w --json
lines=$(bytes lines_bytes) is=$(wc -c < out/rollouts.jsonl)
[ "$lines" -ge "$is" ] && [ "$lines" -le $((8 * is)) ] || bad "lines of $is bytes are planned as $lines"
expect 0 "$ft" check run.json --out w --json --set train.max_steps=20
[ "$(bytes lines_bytes)" = $((10 * lines)) ] || bad "of ten times the steps $(bytes lines_bytes), not ten times $lines"

# --- answers past the positions that a model has, or was made for
long=(--set objective.max_completion_length=999 --set data.max_length=512)
expect_told 0 'a prompt has 1 tokens, its answer up to 511, and the model was made for 256' "$ft" check run.json --out w "${long[@]}"
[ "$(grep -c 'made for' err.txt)" = 1 ] || bad "told not once: $(cat err.txt)"
cat > gpt2.json << 'EOF'
{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 1024, "n_embd": 16, "n_layer": 1, "n_head": 2,
 "n_positions": 256, "n_ctx": 256, "n_inner": 32, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}
EOF
learned=(--set "model={\"from_config\": \"gpt2.json\", \"tokenizer\": \"$source/data/tiny\"}" --set 'method={"type": "full"}')
expect 0 now check run.json "${learned[@]}"
expect_told 78 'objective.max_completion_length: a prompt of 1 tokens and an answer of up to 511' now check run.json "${learned[@]}" "${long[@]}"
finish cli_worth
