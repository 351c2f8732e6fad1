/* verb_help.c – help from the tables that the parsers use: verbs with their flags, topics, config keys. */
#include "help.h"

#include "ft/train.h"

#include <stdio.h>
#include <string.h>

enum { NAMES = 1024 };

typedef struct options {
    const char *completion;
    bool man;
} options;

static const cfg_field flags[] = {
    {"man", CFG_BOOL, offsetof(options, man), .def = "false",
     .help = "the page for man(1): of the program, or of a VERB"},
    {"completion", CFG_ENUM, offsetof(options, completion), .choices = cli_shells,
     .help = "the file that completes command lines of ft in a shell"},
    CFG_END};

/* --- verbs ------------------------------------------------------------------------------------------- */
static void verb_help_text(str_buf *out, const cli_verb *v)
{
    str_printf(out, "ft %s – %s\n\nusage: ft %s %s\n", v->name, v->help, v->name, v->usage);
    if (v->more) str_printf(out, "\n%s%s", v->more, str_ends(v->more, "\n") ? "" : "\n");
    if (v->flags && v->flags->key) str_adds(out, "\noptions:\n");
    for (const cfg_field *r = v->flags; r && r->key; r++) cli_help_flag(out, r);
    str_adds(out, "\noptions of every verb:\n");
    for (const cfg_field *r = cli_global_rows(); r->key; r++) {
        if (cli_flag_fits(v, r)) cli_help_flag(out, r);
    }
}

static ft_status overview(str_buf *out, const cli_table *tables, int n, arena *mem)
{
    str_adds(out, "ft – fine-tunes language models on the CPU\n\nusage: ft VERB [ARGUMENTS] "
                  "[OPTIONS]\n\nverbs:\n");
    for (int i = 0; cli_verb_at(i); i++)
        str_printf(out, "  %-15s %s\n", cli_verb_at(i)->name, cli_verb_at(i)->help);
    str_adds(out, "\ntopics (ft help TOPIC; ft help formats FORMAT, eval TASK, templates NAME):\n");
    for (int i = 0; cli_topic_at(i); i++)
        str_printf(out, "  %-15s %s\n", cli_topic_at(i)->name, cli_topic_at(i)->help);
    str_adds(out, "\noptions of every verb (--precision: of those that run a model):\n");
    for (const cfg_field *r = cli_global_rows(); r->key; r++) cli_help_flag(out, r);
    str_adds(out, "\nsections of a training config (ft help SECTION, ft help SECTION.KEY):\n");
    for (int i = 0; i < n; i++) {
        if (i > 0 && strcmp(tables[i].section, tables[i - 1].section) == 0 && tables[i].type)
            continue;
        str_printf(out, "  %-15s %s\n", tables[i].section,
                   tables[i].type ? "by type" : tables[i].help);
    }
    return cli_help_topic(out, NULL, "exit-codes", &n, mem);
}

/* --- words ----------------------------------------------------------------------------------------------- */
/* Every word that has help, NULL-terminated; last: only the last part of dotted keys is told apart. */
static void all_words(const char **names, const cli_table *tables, int n)
{
    int count = 0;
    for (int i = 0; cli_verb_at(i) && count < NAMES; i++) names[count++] = cli_verb_at(i)->name;
    for (int i = 0; cli_topic_at(i); i++) {
        const cli_topic *t = cli_topic_at(i);
        if (count < NAMES) names[count++] = t->name;
        for (int k = 0; t->entry && t->entry(k) && count < NAMES; k++) names[count++] = t->entry(k);
    }
    for (int i = 0; i < n && count + 2 < NAMES; i++) {
        names[count++] = tables[i].section;
        if (tables[i].type) names[count++] = tables[i].type;
        for (const cfg_field *r = tables[i].rows; r && r->key && count < NAMES; r++)
            names[count++] = r->key;
    }
    count += cli_help_rest_words(names + count, NAMES - count);
    names[count] = NULL;
}

static ft_status unknown(const char *word, const cli_table *tables, int n)
{
    const char *names[NAMES + 1];
    const char *dot = strrchr(word, '.');
    cfg_meaning key;
    all_words(names, tables, n);
    const char *near = cfg_nearest(dot ? dot + 1 : word, names);
    const char *meant = cli_verb_meant(word, names);
    if (!meant && train_key_meant(word, &key) && key.path[0]) meant = key.path;
    FT_CHECK(!meant, FT_EUSAGE, "%s: ft has it as %s: ft help %s", ft_shows(word), meant, meant);
    FT_CHECK(!near, FT_EUSAGE, "%s: no verb, topic or config key; did you mean \"%s\"?",
             ft_shows(word), near);
    return ft_fail(FT_EUSAGE, "%s: no verb, topic or config key; ft help lists them",
                   ft_shows(word));
}

/* "train" is a verb and a section, "eval" a verb and a topic, "alpaca" a format and a template. */
static ft_status one_word(str_buf *out, const char *word, const cli_table *tables, int n,
                          arena *mem)
{
    const cli_verb *v = cli_verb_by_name(word);
    int found;
    if (v) verb_help_text(out, v);
    FT_TRY(cli_help_topic(out, NULL, word, &found, mem));
    if (v)
        cli_help_section(out, word, tables, n, mem);
    else
        found += cli_help_key(out, word, tables, n, mem);
    if (!v) found += cli_help_rest(out, word);
    return v || found ? FT_OK : unknown(word, tables, n);
}

/* "formats alpaca" is an entry of a topic, "method lora" is method.lora. */
static ft_status two_words(str_buf *out, const char *first, const char *word,
                           const cli_table *tables, int n, arena *mem)
{
    const char *key = arena_printf(mem, "%s.%s", first, word);
    int found;
    if (!key) return FT_EMEM;
    FT_TRY(cli_help_topic(out, first, word, &found, mem));
    found += cli_help_key(out, key, tables, n, mem);
    return found ? FT_OK : unknown(key, tables, n);
}

static ft_status fill(str_buf *s, const cli_call *c)
{
    const options *o = c->opt; /* NULL: of `ft VERB --help` */
    const cli_table *tables;
    int n;
    if (o && (o->man || o->completion)) {
        FT_CHECK(c->n_arg <= (o->completion ? 0 : 1), FT_EUSAGE,
                 "%s: unexpected argument; usage: ft help %s", ft_shows(c->arg[c->n_arg - 1]),
                 c->verb->usage);
        return o->completion ? cli_completion(s, o->completion, c->mem)
                             : cli_man(s, c->n_arg ? c->arg[0] : NULL, c->mem);
    }
    FT_TRY(cli_tables(&tables, &n, c->mem));
    if (c->n_arg == 0) return overview(s, tables, n, c->mem);
    if (c->n_arg == 1) return one_word(s, c->arg[0], tables, n, c->mem);
    return two_words(s, c->arg[0], c->arg[1], tables, n, c->mem);
}

static ft_status run(const cli_call *c)
{
    str_buf s = {0};
    ft_status rc = fill(&s, c);
    if (rc == FT_OK) rc = str_ok(&s);
    if (rc == FT_OK && c->json) { /* {"help": TEXT}: stdout has JSON lines only */
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "help", s.data);
        rc = o ? cli_out_json(o) : FT_EMEM;
        cJSON_Delete(o);
    } else if (rc == FT_OK) {
        rc = cli_out(s.data, s.len);
    }
    str_free(&s);
    return rc;
}

const cli_verb verb_help = {
    .name = "help",
    .help = "this overview, a verb, a topic, a key of a config, or an option",
    .usage = "[VERB | TOPIC [ENTRY] | SECTION | KEY | OPTION | method TYPE] [--man | --completion "
             "SHELL]",
    .example = "ft help optim.learning_rate",
    .flags = flags,
    .opt_size = sizeof(options),
    .needs = CLI_WORDS,
    .max_args = 2,
    .run = run,
};
