#!/usr/bin/env bash
# cli_template.sh FT SOURCE – data.chat_template: which template is used, and that what was used goes along with the result.
. "$2/tests/support/cli.sh"
cat > d.jsonl << 'END'
{"messages": [{"role": "user", "content": "how many boats"}, {"role": "assistant", "content": "two boats"}]}
{"messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "who"}, {"role": "assistant", "content": "the old man"}]}
END
mkdir conf
printf "{%% for m in messages %%}{{ m.role + ': ' + m.content + '\n' }}{%% endfor %%}" > conf/mine.jinja
config() { # METHOD TEMPLATE OUT
    cat > conf/run.json << END
{"model": {"path": "$source/data/tiny"}, "method": $1, "data": {"train": "../d.jsonl", "max_length": 200, "chat_template": "$2"},
 "train": {"max_steps": 1, "batch_size": 2}, "output": {"dir": "../$3"}}
END
    "$ft" train conf/run.json --quiet 2> err.txt || bad "train $1 $2: $(cat err.txt)"
}
lora='{"type": "lora", "r": 2}'
turn() { printf '{"messages": [{"role": "user", "content": "U"}], "add_generation_prompt": true}\n'; }
shown() { turn | "$ft" tokenize --model "$1" --chat --json | "$ft" tokenize --model "$1" --decode --json; } # FOLDER
config "$lora" vicuna named
grep -q ' USER: ' named/chat_template.jinja || bad "the adapter's template: $(cat named/chat_template.jinja)"
grep -q '"chat_template"' named/tokenizer_config.json && bad "two templates in one folder"
grep -q '"chat_template": "vicuna"' named/config.resolved.json || bad "the resolved config has a path for a name"
config "$lora" mine.jinja file
cmp -s conf/mine.jinja file/chat_template.jinja || bad "a template by its path, relative to the config"
config '{"type": "full"}' llama2 whole
grep -q '<<SYS>>' whole/chat_template.jinja || bad "the model's template"
[ "$(shown whole)" = '"<|endoftext|>[INST] U [/INST]"' ] || bad "the model is used with it: $(shown whole)"
"$ft" tokenize --model whole --chat < /dev/null 2> err.txt || bad "tokenize: $(cat err.txt)"
grep -q warning err.txt && bad "a result that is warned of: $(cat err.txt)"
"$ft" train file/config.resolved.json --out again --quiet && cmp -s file/adapter_model.safetensors again/adapter_model.safetensors ||
    bad "the resolved config is another run"

# The option wins over the adapter's, the adapter's over the model's.
ids() { "$ft" generate --model "$source/data/tiny" --prompt U --chat --max-new-tokens 1 --json "$@" 2> /dev/null | grep -o '"prompt_tokens":[0-9]*'; }
[ "$(ids --adapter named)" = "$(ids --chat-template vicuna)" ] || bad "the adapter's template is not used"
[ "$(ids --adapter named)" != "$(ids)" ] || bad "these two do not tell templates apart"
[ "$(ids --adapter named --chat-template chatml)" = "$(ids --chat-template chatml)" ] || bad "--chat-template does not win"
mkdir bare && cp named/adapter_config.json named/adapter_model.safetensors named/chat_template.jinja bare/
[ "$(ids --adapter bare)" = "$(ids --adapter named)" ] || bad "an adapter with a template and no tokenizer"
"$ft" merge-adapter named --out merged --quiet > out.txt 2> err.txt || bad "merge-adapter: $(cat err.txt)"
cmp -s merged/chat_template.jinja named/chat_template.jinja || bad "the merged model has another template"
"$ft" merge-adapter named --out merged.gguf --quiet > out.txt 2> err.txt || bad "merge-adapter: $(cat err.txt)"
[ "$(shown merged.gguf)" = "$(shown merged)" ] || bad "the merged .gguf: $(shown merged.gguf) and $(shown merged)"
"$ft" merge-adapter bare --base "$source/data/tiny" --out merged2 --quiet > out.txt 2> err.txt || bad "merge-adapter: $(cat err.txt)"
cmp -s merged2/chat_template.jinja named/chat_template.jinja || bad "the template of an adapter without a tokenizer is lost"
"$ft" merge-adapter bare --base "$source/data/tiny" --out merged2.gguf --quiet > out.txt 2> err.txt || bad "merge-adapter: $(cat err.txt)"
[ "$(shown merged2.gguf)" = "$(shown merged)" ] || bad "and in a .gguf: $(shown merged2.gguf)"
"$ft" merge-adapter bare --base merged2.gguf --out merged3.gguf --quiet > out.txt 2> err.txt || bad "merge-adapter: $(cat err.txt)"
[ "$(shown merged3.gguf)" = "$(shown merged)" ] || bad "and from a .gguf: $(shown merged3.gguf)"
cat > conf/on.json << END
{"model": {"path": "$source/data/tiny"}, "method": {"type": "lora", "init_from": "../named"}, "data": {"train": "../d.jsonl"},
 "train": {"max_steps": 1, "batch_size": 2}, "output": {"dir": "../on"}}
END
"$ft" train conf/on.json --quiet 2> err.txt || bad "init_from: $(cat err.txt)"
cmp -s on/chat_template.jinja named/chat_template.jinja || bad "what is gone on from has its template"

"$ft" check conf/run.json --set data.chat_template=chatlm > out.txt 2> err.txt
[ $? = 66 ] && grep -q 'did you mean "chatml"' err.txt || bad "a name that is none: $(cat err.txt)"
"$ft" check conf/run.json --out new --set data.chat_template=phi3 > out.txt 2> err.txt || bad "check: $(cat err.txt)"
[ "$(grep -c 'warning: chat template phi3: <|end|>, ' err.txt)" = 1 ] || bad "tokens that are none: $(cat err.txt)"
printf '{%% if %%}' > conf/broken.jinja
"$ft" check conf/run.json --out new --set data.chat_template=conf/broken.jinja > out.txt 2> err.txt
[ $? = 65 ] && grep -q '^ft: error: conf/broken.jinja:1: chat template: ' err.txt || bad "a template that is none: $(cat err.txt)"
printf '{{ raise_exception("no such talk") }}' > conf/raises.jinja
"$ft" check conf/run.json --out new --set data.chat_template=conf/raises.jinja > out.txt 2> err.txt
[ $? = 65 ] && grep -q 'd.jsonl:1:.*conf/raises.jinja:1: ' err.txt || bad "a template that refuses: $(cat err.txt)"
cat > calls.jsonl << 'END'
{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}, {"role": "assistant", "content": "three"}]}
END
for name in chatml llama3 phi3 zephyr; do
    "$ft" check conf/run.json --out new --set data.chat_template=$name --set 'data.train=["calls.jsonl"]' > out.txt 2> err.txt
    [ $? = 65 ] && grep -q 'turn 2: the chat template does not print its call of "f"' err.txt || bad "$name, a turn of calls alone: $(cat err.txt)"
done
finish cli_template
