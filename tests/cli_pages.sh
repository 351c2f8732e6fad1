#!/usr/bin/env bash
# cli_pages.sh FT SOURCE – man pages and completions hold every verb, every option with its values, and the keys that the schema
# has; bash's is run; `cmake --install` puts all of them in their places.
. "$2/tests/support/cli.sh"

verbs=$("$ft" help | sed -n '/^verbs:/,/^$/p' | awk 'NR > 1 && NF { print $1 }')
[ "$(wc -w <<< "$verbs")" -ge 15 ] || bad "verbs: $verbs"
for shell in bash zsh fish; do
    "$ft" help --completion $shell > c.$shell 2> err.txt || bad "$shell: $(cat err.txt)"
done
"$ft" help --man > ft.1 || bad "the page of ft"
lint() {
    if command -v groff > /dev/null; then groff -ww -man -Tutf8 "$1" 2>&1 > /dev/null | grep . && bad "groff: $1"; fi
    if command -v mandoc > /dev/null; then mandoc -Tlint "$1" && return 0 || bad "mandoc: $1"; fi
}
lint ft.1

# --- bash, as it runs it
bash --norc -n c.bash || bad "bash does not read it"
complete_words() { # WORDS…: what bash offers for the last one, a line each
    # shellcheck disable=SC2016
    bash --norc -c '. ./c.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ft; printf "%s\n" "${COMPREPLY[@]}"' bash "$@"
}
offers() { # WORD WORDS…
    local word=$1
    shift
    complete_words "$@" | grep -qxF -- "$word" || bad "bash does not offer $word for: $*"
}
offers_only() { # LINES WORDS…
    local lines=$1
    shift
    [ "$(complete_words "$@")" = "$lines" ] || bad "bash offers $(complete_words "$@") for: $*"
}

# --- every verb, every option of it, every value
escaped() { sed 's/-/\\-/g' <<< "$1"; }
for verb in $verbs; do
    offers "$verb" ft ''
    grep -q "^        '$verb:" c.zsh || bad "zsh: no verb $verb"
    grep -q "^complete -c ft -n __ft_begins -a $verb -d " c.fish || bad "fish: no verb $verb"
    "$ft" help --man "$verb" > "ft-$verb.1" 2> err.txt || bad "$verb: $(cat err.txt)"
    lint "ft-$verb.1"
    grep -qF "ft\\-$(escaped "$verb")" ft.1 || bad "ft.1 does not name $verb"
    grep -q '^\.SH EXAMPLE' "ft-$verb.1" || bad "ft-$verb.1 has no example"
    complete_words ft "$verb" -- > flags.txt
    sed -n "/^    $verb)/,/;;/p" c.zsh > flags.zsh
    "$ft" help "$verb" | awk '$1 ~ /^--[a-z]/ { print $1 }' | sort -u > flags
    [ -s flags ] || bad "$verb has no options"
    while read -r flag; do
        grep -qxF -- "$flag" flags.txt || bad "bash: $verb has no $flag"
        grep -qE -- "'[*]?$flag(=|\[)" flags.zsh || bad "zsh: $verb has no $flag"
        grep -qE -- "__ft_is $verb' -l ${flag#--}( |$)" c.fish || bad "fish: $verb has no $flag"
        grep -qF "fB\\-\\-$(escaped "${flag#--}")\\fR" "ft-$verb.1" || bad "ft-$verb.1 has no $flag"
    done < flags
    grep -vxFf flags flags.txt | grep -vx -- --help && bad "bash: $verb has more: $(cat flags.txt)"
    # values stand behind the last colon of the help: a | b
    "$ft" help "$verb" | sed -n 's/^  \(--[a-z-]*\) .*: \([a-z0-9_]* |[a-z0-9_| ]*\).*/\1 \2/p' | tr -d '|' > values
    while read -r flag list; do
        complete_words ft "$verb" "$flag" '' > offered.txt
        complete_words ft "$verb" "$flag" = '' | cmp -s - offered.txt || bad "bash: $verb $flag ="
        complete_words ft "$verb" "$flag=" | sed 's/^[^=]*=//' | cmp -s - offered.txt || bad "bash: $verb $flag=, one word"
        for value in $list; do
            grep -qxF -- "$value" offered.txt || bad "bash: $verb $flag has no $value"
            sed -n "/[*]\{0,1\}$flag=/p" flags.zsh | grep -qw -- "$value" || bad "zsh: $verb $flag has no $value"
            grep -- "__ft_is $verb' -l ${flag#--} " c.fish | grep -qw -- "$value" || bad "fish: $verb $flag has no $value"
        done
    done < values
done

# --- files, keys, words of help
touch 'my data.jsonl' run.json
mkdir models
for words in 'train' 'train --out' 'train --data' 'data' 'eval --adapter' 'train --method lora'; do
    # shellcheck disable=SC2086
    [ "$(complete_words ft $words my)" = 'my data.jsonl' ] || bad "no file for: $words"
done
offers models ft convert mo
offers models ft train --model = mo
offers_only '' ft version ''
offers_only '' ft schema ru
offers_only 'optim.lr_scheduler_type=' ft train --set optim.lr_s
offers_only polynomial ft train --set optim.lr_scheduler_type = p
offers cosine_with_min_lr ft train --set = optim.lr_scheduler_type = co
offers optim.lr_scheduler_type=linear ft train --set optim.lr_scheduler_type=
offers gates= ft eval --set ''
offers top_k= ft generate --set ''
for word in train formats messages hellaswag chatml exit-codes method.lora optim.learning_rate data.train; do
    offers $word ft help ''
    "$ft" help $word > /dev/null || bad "offered, and no help: $word"
done

# --- the keys of the schema
if has python3; then
    "$ft" schema --json > schema.json
    python3 - > keys.txt << 'END'
import json
schema = json.load(open("schema.json"))
keys = set()
def walk(node, path, top):
    for part in node.get("oneOf", []) + node.get("anyOf", []) + node.get("allOf", []):
        walk(part, path, top)
    for branch in ("then", "else", "if"):
        if branch in node: walk(node[branch], path, top)
    for key, below in node.get("properties", {}).items():
        if path: keys.add(path + "." + key)
        if top or path + "." + key == "model.quantization": walk(below, (path + "." if path else "") + key, False)
walk(schema, "", True)
print("\n".join(sorted(keys)))
END
    [ "$(wc -l < keys.txt)" -ge 80 ] || bad "keys of the schema: $(wc -l < keys.txt)"
    complete_words ft train --set '' > offered.txt
    while read -r key; do
        grep -qxF "$key=" offered.txt || bad "bash: no key $key"
        grep -qE "^        '$key=" c.zsh || bad "zsh: no key $key"
        grep -qE "^set -g __ft_keys_of_training .*[' ]$key=" c.fish || bad "fish: no key $key"
    done < keys.txt
fi

# --- zsh and fish, where they are
if command -v zsh > /dev/null; then zsh -f -n c.zsh || bad "zsh does not read it"; fi
if command -v fish > /dev/null; then
    fish --no-config -c 'source c.fish; complete -C "ft train --method "' | grep -q '^qlora' || bad "fish: a method"
    fish --no-config -c 'source c.fish; complete -C "ft mer"' | grep -q '^merge-adapter' || bad "fish: a verb"
fi

# --- words that are wrong
for words in '--man nothing' '--man train check' '--completion bash train' '--completion csh'; do
    # shellcheck disable=SC2086
    "$ft" help $words > out.txt 2> err.txt
    { [ $? = 64 ] && [ ! -s out.txt ] && [ "$(wc -l < err.txt)" = 1 ]; } || bad "help $words: $(cat err.txt)"
done

# --- installed
build=$(dirname "$ft")
if [ -f "$build/CMakeCache.txt" ] && [ -w "$build" ] && has cmake; then
    DESTDIR=$PWD/root cmake --install "$build" --prefix /usr > out.txt 2>&1 || bad "cmake --install: $(tail -n 3 out.txt)"
    share=root/usr/share
    cmp ft.1 $share/man/man1/ft.1 || bad "ft.1"
    for verb in $verbs; do cmp "ft-$verb.1" "$share/man/man1/ft-$verb.1" || bad "ft-$verb.1"; done
    cmp c.bash $share/bash-completion/completions/ft || bad "bash"
    cmp c.zsh $share/zsh/site-functions/_ft || bad "zsh"
    cmp c.fish $share/fish/vendor_completions.d/ft.fish || bad "fish"
    [ "$(find $share/man -type f | wc -l)" = $(($(wc -w <<< "$verbs") + 1)) ] || bad "more pages: $(ls $share/man/man1)"
fi
finish cli_pages
