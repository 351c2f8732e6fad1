/* help_shell.c – completion for bash, zsh and fish, as files that hold every verb, every option of it with its values, and the
 * keys of configs: from the rows that the parser goes by.
 *
 * The files are data and a few lines that look things up in it; none of them runs the program. */
#include "help.h"

#include "ft/tool.h"

#include <stdio.h>
#include <string.h>

/* --- what there is to complete ------------------------------------------------------------------------------ */

typedef void (*each_option)(str_buf *out, const cli_verb *v, const cfg_field *r, const char *flag);

static void options(str_buf *out, const cli_verb *v, each_option each)
{
    const cfg_field *tables[] = {v->flags, cli_global_rows()};
    for (size_t t = 0; t < FT_COUNT_OF(tables); t++)
        for (const cfg_field *r = tables[t]; r && r->key; r++) {
            char flag[64];
            cli_flag_word(flag, sizeof flag, r->key);
            if (cli_flag_fits(v, r)) each(out, v, r, flag);
        }
}

static bool is_set(const cfg_field *r)
{
    return strcmp(r->key, "set") == 0;
}

static bool takes_file(const cfg_field *r)
{
    return r->type == CFG_PATH || r->file;
}

static bool takes_files(const cli_verb *v)
{
    return v->max_args > 0 && !(v->needs & CLI_WORDS);
}

/* Values of a row, with `between` between them. */
static void values(str_buf *out, const cfg_field *r, const char *between)
{
    if (r->type == CFG_BOOL || r->type == CFG_AUTO_BOOL) {
        str_printf(out, "true%sfalse", between);
        if (r->type == CFG_AUTO_BOOL) str_printf(out, "%sauto", between);
        return;
    }
    if (r->type == CFG_AUTO_INT) str_adds(out, "auto");
    if (r->type == CFG_JSON) return; /* its choices are shapes */
    for (int i = 0; cli_value_at(r, i); i++)
        str_printf(out, "%s%s", i ? between : "", cli_value_at(r, i));
}

/* Is the word in the list, by itself or with a = behind it? */
static bool has(const str_buf *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *p = list->data; p && (p = strstr(p, word)); p += n)
        if ((p == list->data || p[-1] == ' ') && (!p[n] || strchr(" =", p[n]))) return true;
    return false;
}

static void add_word(str_buf *list, const char *word)
{
    if (!has(list, word)) str_printf(list, "%s%s", list->len > 0 ? " " : "", word);
}

/* Keys that --set changes, each a word "KEY=VALUES". Those of types of a section that share a key come once. */
static void add_key(str_buf *out, const char *key, const cfg_field *r)
{
    if (has(out, key)) return;
    str_printf(out, "%s%s=", out->len > 0 ? " " : "", key);
    values(out, r, "|");
}

static void add_keys(str_buf *out, const char *section, const cfg_field *rows, arena *mem)
{
    for (const cfg_field *r = rows; r && r->key; r++) {
        const char *key =
            section[0] ? arena_printf(mem, "%s.%s", section, r->key) : arena_str(mem, r->key);
        if (!key) return;
        if (r->type != CFG_TABLE) add_key(out, key, r);
        if (r->sub && r->type == CFG_TABLE) add_keys(out, key, r->sub, mem);
    }
}

/* "type" of a section, whose types follow one another in the tables. */
static void add_type(str_buf *out, const cli_table *t, int n)
{
    str_printf(out, "%s%s.type=", out->len > 0 ? " " : "", t->section);
    for (int i = 0; i < n && strcmp(t[i].section, t->section) == 0; i++)
        str_printf(out, "%s%s", i ? "|" : "", t[i].type);
}

static ft_status training_keys(str_buf *out, arena *mem)
{
    const cli_table *t;
    int n;
    FT_TRY(cli_tables(&t, &n, mem));
    for (int i = 0; i < n; i++) {
        const bool first = i == 0 || strcmp(t[i].section, t[i - 1].section) != 0;
        if (t[i].type && first) add_type(out, &t[i], n - i);
        add_keys(out, t[i].section, t[i].rows, mem);
    }
    return str_ok(out);
}

/* Of the verb: of its config, or its own options. */
static ft_status keys_of(str_buf *out, const cli_verb *v, arena *mem)
{
    if (v->needs & CLI_CONFIG && !v->config) return training_keys(out, mem);
    add_keys(out, "", v->needs & CLI_CONFIG ? v->config : v->flags, mem);
    return str_ok(out);
}

/* Words of `ft help`: verbs, topics and their entries, sections, types, keys. */
static ft_status help_words(str_buf *out, arena *mem)
{
    const cli_table *t;
    str_buf keys = {0};
    int n;
    for (int i = 0; cli_verb_at(i); i++) add_word(out, cli_verb_at(i)->name);
    for (int i = 0; cli_topic_at(i); i++) {
        const cli_topic *topic = cli_topic_at(i);
        add_word(out, topic->name);
        for (int k = 0; topic->entry && topic->entry(k); k++) add_word(out, topic->entry(k));
    }
    FT_TRY(cli_tables(&t, &n, mem));
    for (int i = 0; i < n; i++) {
        add_word(out, t[i].section);
        if (t[i].type) str_printf(out, " %s.%s", t[i].section, t[i].type);
    }
    ft_status rc = training_keys(&keys, mem);
    for (const char *p = rc == FT_OK ? keys.data : ""; *p; p += strspn(p, " ")) {
        str_addc(out, ' ');
        str_add(out, p, strcspn(p, "="));
        p += strcspn(p, " ");
    }
    str_free(&keys);
    return rc == FT_OK ? str_ok(out) : rc;
}

/* Whose keys --set changes, as a part of a name: the verb's own, or of a training config. */
static const char *keys_name(const cli_verb *v, char *out, size_t size)
{
    if (v->needs & CLI_CONFIG && !v->config) return "of_training";
    snprintf(out, size, "%s", v->name);
    for (char *p = out; *p; p++) *p = *p == '-' ? '_' : *p;
    return out;
}

/* Text in single quotes of a shell; what `also` names gets a backslash. */
static void quoted(str_buf *out, const char *text, const char *quote, const char *also)
{
    for (; *text; text++) {
        if (*text == '\'')
            str_adds(out, quote);
        else if (strchr(also, *text))
            str_printf(out, "\\%c", *text);
        else
            str_addc(out, *text);
    }
}

static void head(str_buf *out, const char *first, const char *shell)
{
    str_printf(out, "%s completion of ft %s for %s, generated by ft help --completion %s\n", first,
               FT_VERSION, shell, shell);
}

/* --- bash --------------------------------------------------------------------------------------------------- */

static const char bash_code[] =
    "# What stands behind the = of the word \"$1=…\" of a list.\n"
    "__ft_behind() {\n"
    "    local want=$1 word\n"
    "    shift\n"
    "    for word; do [[ $word == \"$want\"=* ]] && echo \"${word#*=}\" && return 0; done\n"
    "    return 1\n"
    "}\n"
    "\n"
    "__ft_from() { # WORDS: those that begin as what is typed\n"
    "    local word\n"
    "    for word; do [[ $word == \"$cur\"* ]] && COMPREPLY+=(\"$prefix$word\"); done\n"
    "    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2> "
    "/dev/null; "
    "fi\n"
    "    return 0\n"
    "}\n"
    "\n"
    "__ft_files() {\n"
    "    local file\n"
    "    compopt -o filenames 2> /dev/null\n"
    "    while IFS= read -r file; do COMPREPLY+=(\"$prefix$file\"); done < <(compgen -f -- "
    "\"$cur\")\n"
    "}\n"
    "\n"
    "# A value: \"@\" is a file, \"#\" a key of the config, else words with | between them.\n"
    "__ft_value() {\n"
    "    local spec=$1 list\n"
    "    case $spec in\n"
    "    '#')\n"
    "        if [[ $cur == *=* ]]; then\n"
    "            prefix+=${cur%%=*}= list=$(__ft_behind \"${cur%%=*}\" $(__ft_keys \"$verb\")) "
    "cur=${cur#*=}\n"
    "            __ft_from ${list//|/ }\n"
    "        else\n"
    "            for spec in $(__ft_keys \"$verb\"); do __ft_from \"${spec%%=*}=\"; done\n"
    "        fi\n"
    "        ;;\n"
    "    *)\n"
    "        [[ $spec == @* ]] && __ft_files\n"
    "        list=${spec#@}\n"
    "        __ft_from ${list//|/ }\n"
    "        ;;\n"
    "    esac\n"
    "}\n"
    "\n"
    "_ft() {\n"
    "    local cur prefix='' verb spec before list i=$COMP_CWORD IFS=$' \\t\\n'\n"
    "    COMPREPLY=()\n"
    "    cur=${COMP_WORDS[i]}\n"
    "    verb=${COMP_WORDS[1]}\n"
    "    if ((i == 1)); then\n"
    "        __ft_from $__ft_verbs --help --version\n"
    "        return\n"
    "    fi\n"
    "    list=$(__ft_options \"$verb\")\n"
    "    # Where = parts words, what stands before it is a word of its own.\n"
    "    if [[ $cur == '=' ]]; then cur='' i=$((i + 1)); fi\n"
    "    before=${COMP_WORDS[i - 1]}\n"
    "    [[ $before == '=' ]] && before=${COMP_WORDS[i - 2]}\n"
    "    if [[ ${COMP_WORDS[i - 1]} == '=' && $before != --* ]]; then\n"
    "        spec=$(__ft_behind \"$before\" $(__ft_keys \"$verb\")) # --set KEY=\n"
    "        __ft_value \"$spec\"\n"
    "        return\n"
    "    fi\n"
    "    if [[ $cur == --*=* ]]; then\n"
    "        before=${cur%%=*} prefix=${cur%%=*}= cur=${cur#*=}\n"
    "    fi\n"
    "    if [[ $before == --* ]] && spec=$(__ft_behind \"$before\" $list); then\n"
    "        __ft_value \"$spec\"\n"
    "    elif [[ $cur == -* ]]; then\n"
    "        for spec in $list; do [[ $spec == -* ]] && __ft_from \"${spec%%=*}\"; done\n"
    "        __ft_from --help\n"
    "    else\n"
    "        spec=$(__ft_behind '' $list)\n"
    "        __ft_value \"$spec\"\n"
    "    fi\n"
    "}\n"
    "complete -F _ft ft\n";

static void bash_option(str_buf *out, const cli_verb *v, const cfg_field *r, const char *flag)
{
    (void)v;
    str_printf(out, " --%s", flag);
    if (r->type == CFG_BOOL) return;
    str_adds(out, is_set(r) ? "=#" : takes_file(r) ? "=@" : "=");
    values(out, r, "|");
}

static ft_status bash(str_buf *out, arena *mem)
{
    const cli_verb *v;
    ft_status rc;
    str_buf list = {0};
    head(out, "# bash", "bash");
    str_adds(out, "# shellcheck shell=bash disable=SC2046,SC2086,SC2207\n\n__ft_verbs='");
    for (int i = 0; (v = cli_verb_at(i)); i++) str_printf(out, "%s%s", i ? " " : "", v->name);
    str_adds(out,
             "'\n\n# The options of a verb: --NAME, or --NAME=VALUE as __ft_value reads it; =VALUE "
             "of its arguments.\n__ft_options() {\n    case $1 in\n");
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        str_printf(out, "    %s) echo '", v->name);
        if (takes_files(v)) str_adds(out, "=@");
        str_clear(&list);
        if (v->needs & CLI_WORDS && strcmp(v->name, "help") == 0) {
            FT_TRY_OUT(help_words(&list, mem));
            str_addc(out, '=');
            for (const char *p = list.data; *p; p++) str_addc(out, *p == ' ' ? '|' : *p);
        }
        options(out, v, bash_option);
        str_adds(out, "' ;;\n");
    }
    str_adds(out,
             "    esac\n}\n\n# What --set changes: KEY=VALUES.\n__ft_keys() {\n    case $1 in\n");
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        if (v->needs & CLI_CONFIG && !v->config) continue;
        str_clear(&list);
        FT_TRY_OUT(keys_of(&list, v, mem));
        str_printf(out, "    %s) echo '%s' ;;\n", v->name, list.data ? list.data : "");
    }
    str_clear(&list);
    FT_TRY_OUT(training_keys(&list, mem));
    str_printf(out, "    *) echo '%s' ;;\n    esac\n}\n\n%s", list.data, bash_code);
    rc = str_ok(out);
out:
    str_free(&list);
    return rc;
}

/* --- zsh ---------------------------------------------------------------------------------------------------- */

static const char zsh_code[] =
    "# KEY=VALUES of a list: the keys, and behind a = the values of the key before it.\n"
    "__ft_set() {\n"
    "    local -a values\n"
    "    local key word\n"
    "    if compset -P '*='; then\n"
    "        key=${${IPREFIX%=}##*=}\n"
    "        for word; do\n"
    "            [[ ${word%%=*} == $key && -n ${word#*=} ]] && values=(${(s:|:)${word#*=}}) && "
    "compadd -a values\n"
    "        done\n"
    "    else\n"
    "        values=(${@%%=*})\n"
    "        compadd -S = -a values\n"
    "    fi\n"
    "}\n"
    "\n"
    "_ft() {\n"
    "    local curcontext=$curcontext state line ret=1\n"
    "    typeset -A opt_args\n"
    "    _arguments -C '(- *)'{-h,--help}'[show help]' '(- *)--version[show the version]' '1: "
    ":_ft_verbs' '*:: :->args' && ret=0\n"
    "    [[ $state == args ]] || return ret\n"
    "    case $words[1] in\n";

static void zsh_option(str_buf *out, const cli_verb *v, const cfg_field *r, const char *flag)
{
    const bool several = r->type == CFG_LIST || is_set(r);
    str_printf(out, " \\\n            '%s--%s%s[", several ? "*" : "", flag,
               r->type == CFG_BOOL ? "" : "=");
    quoted(out, r->help, "'\\''", "[]\\");
    str_addc(out, ']');
    if (r->type != CFG_BOOL) {
        char name[64];
        str_buf list = {0};
        values(&list, r, " ");
        const char *text = list.data ? list.data : "";
        str_printf(out, ":%s:", cli_value_word(r)[0] ? cli_value_word(r) : "value");
        if (is_set(r))
            str_printf(out, "_ft_keys_%s", keys_name(v, name, sizeof name));
        else if (takes_file(r) && text[0])
            str_printf(out, " _alternative \"names\\:name\\:(%s)\" \"files\\:file\\:_files\"",
                       text);
        else if (takes_file(r))
            str_adds(out, "_files");
        else if (text[0])
            str_printf(out, "(%s)", text);
        str_free(&list);
    }
    str_addc(out, '\'');
}

static void zsh_keys(str_buf *out, const char *name, const char *list)
{
    str_printf(out, "_ft_keys_%s() {\n    __ft_set", name);
    for (const char *p = list; *p; p += strspn(p, " ")) {
        const size_t n = strcspn(p, " ");
        str_printf(out, " \\\n        '%.*s'", (int)n, p);
        p += n;
    }
    str_adds(out, "\n}\n\n");
}

static ft_status zsh(str_buf *out, arena *mem)
{
    char name[64];
    const cli_verb *v;
    ft_status rc;
    str_buf list = {0};
    str_adds(out, "#compdef ft\n");
    head(out, "#", "zsh");
    str_adds(out, "\n_ft_verbs() {\n    local -a verbs\n    verbs=(\n");
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        str_printf(out, "        '%s:", v->name);
        quoted(out, v->help, "'\\''", "\\");
        str_adds(out, "'\n");
    }
    str_adds(out, "    )\n    _describe -t verbs verb verbs\n}\n\n_ft_words() {\n    local -a "
                  "words_of_help\n    words_of_help=(");
    FT_TRY_OUT(help_words(&list, mem));
    str_printf(out, "%s)\n    compadd -a words_of_help\n}\n\n", list.data);
    str_clear(&list);
    FT_TRY_OUT(training_keys(&list, mem));
    zsh_keys(out, "of_training", list.data);
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        if (v->needs & CLI_CONFIG && !v->config) continue;
        str_clear(&list);
        FT_TRY_OUT(keys_of(&list, v, mem));
        zsh_keys(out, keys_name(v, name, sizeof name), list.data ? list.data : "");
    }
    str_adds(out, zsh_code);
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        str_printf(out,
                   "    %s)\n        _arguments -S '(- *)'{-h,--help}'[show help]' "
                   "'-q[nothing on stderr but errors]'",
                   v->name);
        options(out, v, zsh_option);
        if (takes_files(v)) str_adds(out, " \\\n            '*:file:_files'");
        if (strcmp(v->name, "help") == 0) str_adds(out, " \\\n            '*:word:_ft_words'");
        str_adds(out, " && ret=0\n        ;;\n");
    }
    str_adds(out, "    esac\n    return ret\n}\n\n_ft \"$@\"\n");
    rc = str_ok(out);
out:
    str_free(&list);
    return rc;
}

/* --- fish --------------------------------------------------------------------------------------------------- */

static const char fish_code[] = "function __ft_is\n"
                                "    set -l words (commandline -opc)\n"
                                "    test (count $words) -ge 2; and contains -- $words[2] $argv\n"
                                "end\n\n"
                                "function __ft_begins\n"
                                "    test (count (commandline -opc)) -lt 2\n"
                                "end\n\n"
                                "complete -c ft -f\n"
                                "complete -c ft -n __ft_begins -l help -s h -d 'show help'\n"
                                "complete -c ft -n __ft_begins -l version -d 'show the version'\n";

static void fish_text(str_buf *out, const char *text)
{
    str_addc(out, '\'');
    quoted(out, text, "\\'", "\\");
    str_addc(out, '\'');
}

static void fish_option(str_buf *out, const cli_verb *v, const cfg_field *r, const char *flag)
{
    str_printf(out, "complete -c ft -n '__ft_is %s' -l %s", v->name, flag);
    if (strcmp(flag, "quiet") == 0) str_adds(out, " -s q");
    if (r->type != CFG_BOOL) {
        char name[64];
        str_buf list = {0};
        values(&list, r, " ");
        str_adds(out, takes_file(r) ? " -r -F" : " -x");
        if (is_set(r))
            str_printf(out, " -a \"$__ft_keys_%s\"", keys_name(v, name, sizeof name));
        else if (list.len > 0)
            str_printf(out, " -a '%s'", list.data);
        str_free(&list);
    }
    str_adds(out, " -d ");
    fish_text(out, r->help);
    str_addc(out, '\n');
}

/* One word for a key without values, "KEY=VALUE" for each of those of the others. */
static void fish_keys(str_buf *out, const char *name, const char *list)
{
    str_printf(out, "set -g __ft_keys_%s '", name);
    for (const char *p = list; *p; p += strspn(p, " ")) {
        const size_t n = strcspn(p, " "), key = strcspn(p, "=") + 1;
        if (key == n) str_printf(out, "%.*s ", (int)n, p);
        for (size_t at = key; at < n;) {
            const size_t one = strcspn(p + at, "| ");
            str_printf(out, "%.*s%.*s ", (int)key, p, (int)one, p + at);
            at += one + 1;
        }
        p += n;
    }
    str_adds(out, "'\n");
}

static ft_status fish(str_buf *out, arena *mem)
{
    char name[64];
    const cli_verb *v;
    ft_status rc;
    str_buf list = {0};
    head(out, "#", "fish");
    str_addc(out, '\n');
    FT_TRY_OUT(training_keys(&list, mem));
    fish_keys(out, "of_training", list.data);
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        if (v->needs & CLI_CONFIG && !v->config) continue;
        str_clear(&list);
        FT_TRY_OUT(keys_of(&list, v, mem));
        fish_keys(out, keys_name(v, name, sizeof name), list.data ? list.data : "");
    }
    str_printf(out, "\n%s", fish_code);
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        str_printf(out, "complete -c ft -n __ft_begins -a %s -d ", v->name);
        fish_text(out, v->help);
        str_addc(out, '\n');
    }
    for (int i = 0; (v = cli_verb_at(i)); i++) {
        str_printf(out, "\ncomplete -c ft -n '__ft_is %s' -l help -s h -d 'show help'\n", v->name);
        if (takes_files(v)) str_printf(out, "complete -c ft -n '__ft_is %s' -F\n", v->name);
        options(out, v, fish_option);
    }
    str_clear(&list);
    FT_TRY_OUT(help_words(&list, mem));
    str_printf(out, "\ncomplete -c ft -n '__ft_is help' -a '%s'\n", list.data);
    rc = str_ok(out);
out:
    str_free(&list);
    return rc;
}

/* --- by name ------------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    ft_status (*print)(str_buf *out, arena *mem);
} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
const char *const cli_shells[] = {"bash", "zsh", "fish", NULL};

ft_status cli_completion(str_buf *out, const char *shell, arena *mem)
{
    for (size_t i = 0; i < FT_COUNT_OF(shells); i++)
        if (strcmp(shells[i].name, shell) == 0) return shells[i].print(out, mem);
    return ft_fail(FT_EINTERNAL, "no completion for %s", shell);
}
