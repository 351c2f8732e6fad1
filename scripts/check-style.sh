#!/usr/bin/env bash
# check-style.sh [BUILD] – what a compiler does not check: format, sizes, forbidden calls, prefixes of exported
# symbols (with the object files of a build folder, default build/release), and what docs/design.md names.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}

file_lines=800     # of one file
# Lines of a module (src/MODULE and its header) at most, and what they buy.  Raise one in a commit that says why.
budgets='
base       2610  memory, text, errors, threads, random numbers: small because libc has the rest
cfg        2960  one table a struct: parsing, --set and its paths, help, schema, resolved configs; strict JSON with positions, trees that are made, YAML as the same tree
tensor     2000  a row a storage format: floats, blocks of GGUF read and written, whole codes, simulated ones
kernel     7750  every loop on numbers, once, for each instruction set, in f32 and bf16
io         6100  files of others, read as hostile, packed or not, mapped whole or in pieces, watched while in use; files of ours, written whole, read back, or not at all; what may be replaced
autograd   3600  the tape, and an operation a file
token      8500  frozen: tokenizers of the reference library to the letter; changes when a real model fails, or hostile input has no bound
template   6300  frozen: Jinja as chat templates use it, and nine templates by name; changes when a real template fails
nn         1100  parameters, overlays, runs, the one linear layer
model      8050  families and block parts as rows; opening, forward, saving, quantisers (bitsandbytes, GPTQ, AWQ, BitNet), longrope, LoRA files of llama.cpp
method    10900  a file a method; zeros that are kept, simulated quantisation; targets and adapter files as PEFT has them
infer      1700  scoring and generating many sequences, below objectives
reward     1500  a file a reward: comparisons, patterns, lengths, reward models, programs of the user
data       8400  sources of every kind to samples and records: files, columns, splits; checks, streams of windows, mixes, batches
objective  5200  a file a loss: of tokens, of judged answers, of completions that are sampled
optim      1800  a file an update rule, schedules and the keys each goes by
train      7350  the loop, checkpoints, resume, plan, reports
compress   4000  the walk over blocks with calibration data, resumable between them; quantisers and pruners as rows
merge      2980  whole models as one: recipes, a file a method, tiles over the inputs, vocabularies by tokens
tool      13640  the verbs that are not training; of an evaluation tasks, gates, benchmarks of the hub, reports; runs as a page; conversations; what leaves for llama.cpp and Ollama; judging and searching of recipes; transfers from a hub that is not believed
cli        6650  words to structs and results to text; help, man pages and completion from the tables; the chat of a terminal; what stands in the place of a config
'
bad=0
complain() { echo "check-style: $*" >&2; bad=1; }
sources() { find src include tests fuzz -name '*.[ch]' -not -path 'tests/golden/*' 2>/dev/null | sort; }
generated() { head -n 3 "$1" | grep -qi 'generated'; }

# --- format
if command -v clang-format >/dev/null; then
    # include/ is laid out by hand: columns of comments are part of the manual
    while read -r f; do
        complain "$f: run clang-format -i on it"
    done < <(sources | grep -v '^include/' | while read -r f; do generated "$f" || echo "$f"; done |
        xargs -P "$(nproc)" -n 8 sh -c 'for f; do clang-format --dry-run -Werror "$f" 2>/dev/null || echo "$f"; done' sh)
else
    complain "clang-format is missing"
fi

# --- sizes
declare -A lines
total=0
while read -r f; do
    n=$(wc -l <"$f")
    generated "$f" && continue
    [ "$n" -le $file_lines ] || complain "$f: $n lines; a file has at most $file_lines"
    case $f in
    src/*) module=${f#src/} module=${module%%/*} ;;
    include/*) module=$(basename "$f" .h) ;;
    *) continue ;;
    esac
    lines[$module]=$((${lines[$module]:-0} + n))
    total=$((total + n))
done < <(sources; find src -name '*.inc' -o -name '*.def')
for module in "${!lines[@]}"; do
    budget=$(awk -v m="$module" '$1 == m { print $2 }' <<<"$budgets")
    [ -n "$budget" ] || complain "$module has no budget of lines"
    [ "${lines[$module]}" -le "${budget:-0}" ] || complain "$module has ${lines[$module]} lines; its budget is $budget"
done

# --- forbidden calls: MODULES THAT MAY : CALLS
rules='
base:malloc|calloc|realloc|free|strdup|strndup|asprintf|vasprintf|aligned_alloc|posix_memalign|reallocarray
cli:printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror
template train:time|localtime|gmtime
base cli:exit|_exit|_Exit|abort|quick_exit
reward:posix_spawn|posix_spawnp
none:setlocale|system|popen|fork|vfork|execv|execve|execvp|execl|execlp|gets|strcpy|strcat|sprintf|vsprintf|rand|srand|random|alloca
cfg:cJSON_Parse|cJSON_ParseWithLength|cJSON_ParseWithOpts|cJSON_Print|cJSON_PrintUnformatted|cJSON_PrintBuffered|cJSON_Minify
none:cJSON_GetObjectItem|cJSON_HasObjectItem|cJSON_DeleteItemFromObject|cJSON_ReplaceItemInObject
'
plain() { # FILE: -fpreprocessed only removes comments; strings go too, so that messages may say anything
    gcc -fpreprocessed -dD -E -P -x c "$1" 2>/dev/null | sed 's/"\([^"\\]\|\\.\)*"//g' || true
}
while read -r f; do
    module=$(cut -d/ -f2 <<<"$f") code=$(plain "$f")
    while IFS=: read -r may calls; do
        [ -n "$calls" ] || continue
        [[ " $may " == *" $module "* ]] && continue
        call="(^|[^A-Za-z0-9_.>])($calls)[[:space:]]*[(]"
        [[ $code =~ $call ]] || continue
        complain "$f: may not call ${BASH_REMATCH[2]}"
    done <<<"$rules"
done < <(find src -name '*.c' | sort)

# --- exported symbols carry a prefix of their module (the later ones: names shared inside it)
prefixes='
base:ft_|arena_|str_|map_|rng_|log_|pool_|sha256_|sha1_|utf8_
cfg:cfg_|js_|json_
tensor:dt_|tn_
kernel:kn_|kern
io:file_|dir_|path_|lines_|text_|st_|gguf_|io_
autograd:ag_|op_
token:tok_|tk_|rx_
template:tpl_|chat_
nn:nn_
model:model_|family_|part_|norm_|rope_|save_|bnb_|packed_
method:pe_
reward:rw_
data:data_
objective:obj_
optim:opt_
train:train_
compress:cmp_|gptq_
merge:merge_
tool:tool_|eval_|evolve_|fetch_|report_|judge_|compress_
cli:cli_|verb_
'
objects=$build/CMakeFiles/ft_core.dir/src
if [ -d "$objects" ]; then
    while IFS=: read -r module prefix; do
        [ -n "$prefix" ] && [ -d "$objects/$module" ] || continue
        while read -r o; do
            c=${o#"$objects"/}
            [ -e "src/${c%.o}" ] || continue # left over from an older tree
            names=$(nm --defined-only -g "$o" | awk '{ print $3 }' | grep -vE "^($prefix)|^__asan|^__odr_asan" || true)
            [ -z "$names" ] || complain "src/${c%.o}: exported without a prefix of $module:" $names
        done < <(find "$objects/$module" -name '*.o' | sort)
    done <<<"$prefixes"
else
    echo "check-style: no build in $build: exported symbols are not checked"
fi
# --- the page on design
scripts/check-design.sh || bad=1

[ $bad -eq 0 ] && echo "check-style: fine ($total lines in ${#lines[@]} modules)"
exit $bad
