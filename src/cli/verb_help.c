/* verb_help.c – help from the tables that the parsers use: verbs with their flags, config keys. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 128, NAMES = 512 };

static const char exit_codes[] =
    "exit codes:\n"
    "  0 ok   64 command line   65 bad data, model or checkpoint   66 input missing   70 internal\n"
    "  71 memory   73 output exists or is locked   74 read, write or full disk   75 stopped at its "
    "time limit\n"
    "  77 permission   78 config   80 diverged   81 a gate or tolerance was not met   130, 143 "
    "stopped by a signal\n";

/* --- verbs ------------------------------------------------------------------------------------------- */
static const char *value_word(const cfg_field *r)
{
    static const char *const words[] = {
        [CFG_INT] = " N",  [CFG_AUTO_INT] = " N|auto", [CFG_FLOAT] = " X",
        [CFG_STR] = " S",  [CFG_PATH] = " PATH",       [CFG_AUTO_BOOL] = " true|false",
        [CFG_ENUM] = " T", [CFG_JSON] = " JSON",       [CFG_TABLE] = "",
        [CFG_LIST] = " S",
    };
    const char *w = r->type < FT_COUNT_OF(words) ? words[r->type] : NULL;
    return w ? w : "";
}

static void flag_line(str_buf *out, const cfg_field *r)
{
    char flag[KEY_BYTES];
    snprintf(flag, sizeof flag, "--%s%s", r->key, value_word(r));
    for (char *p = flag; *p && *p != ' '; p++) *p = *p == '_' ? '-' : *p;
    str_printf(out, "  %-26s %s", flag, r->help ? r->help : "");
    for (int i = 0; r->choices && r->choices[i]; i++)
        str_printf(out, "%s%s", i ? " | " : ": ", r->choices[i]);
    if (r->type == CFG_LIST)
        str_adds(out, " (repeatable)");
    else if (r->required)
        str_adds(out, " (required)");
    else if (r->def && r->type != CFG_BOOL)
        str_printf(out, " (default %s)", r->def);
    str_addc(out, '\n');
}

static void verb_help_text(str_buf *out, const cli_verb *v)
{
    str_printf(out, "ft %s – %s\n\nusage: ft %s %s\n", v->name, v->help, v->name, v->usage);
    if (v->more) str_printf(out, "\n%s%s", v->more, str_ends(v->more, "\n") ? "" : "\n");
    if (v->flags && v->flags->key) str_adds(out, "\noptions:\n");
    for (const cfg_field *r = v->flags; r && r->key; r++) flag_line(out, r);
    str_adds(out, "\noptions of every verb:\n");
    for (const cfg_field *r = cli_global_rows(); r->key; r++) {
        if (strcmp(r->key, "precision") == 0 && (v->needs & CLI_MODEL) != CLI_MODEL) continue;
        flag_line(out, r);
    }
}

static void overview(str_buf *out, const cli_table *tables, int n)
{
    str_adds(out, "ft – fine-tunes language models on the CPU\n\nusage: ft VERB [ARGUMENTS] "
                  "[OPTIONS]\n\nverbs:\n");
    for (int i = 0; cli_verb_at(i); i++)
        str_printf(out, "  %-15s %s\n", cli_verb_at(i)->name, cli_verb_at(i)->help);
    str_adds(out, "\noptions of every verb:\n");
    for (const cfg_field *r = cli_global_rows(); r->key; r++) flag_line(out, r);
    str_adds(out, "\nsections of a training config (ft help SECTION, ft help SECTION.KEY):\n");
    for (int i = 0; i < n; i++) {
        if (i > 0 && strcmp(tables[i].section, tables[i - 1].section) == 0 && tables[i].type)
            continue;
        str_printf(out, "  %-15s %s\n", tables[i].section,
                   tables[i].type ? "by type" : tables[i].help);
    }
    str_printf(out, "\n%s", exit_codes);
}

/* --- keys of the config -------------------------------------------------------------------------------- */
static void table_title(str_buf *out, const cli_table *t)
{
    str_printf(out, "%s%s%s – %s\n", t->section, t->type ? " " : "", t->type ? t->type : "",
               t->help ? t->help : "");
}

/* One row of a table, found by its path below the section ("quantization.type"); NULL. */
static const cfg_field *row_at(const cfg_field *rows, const char *path)
{
    size_t n = strcspn(path, ".");
    for (; rows && rows->key; rows++) {
        if (strlen(rows->key) != n || memcmp(rows->key, path, n) != 0) continue;
        if (!path[n]) return rows;
        return rows->sub ? row_at(rows->sub, path + n + 1) : NULL;
    }
    return NULL;
}

static void one_row(str_buf *out, const cli_table *t, const cfg_field *row, const char *path,
                    bool shared)
{
    char prefix[2 * KEY_BYTES];
    cfg_field rows[] = { *row, CFG_END };
    size_t n = strlen(path) - strlen(row->key);
    snprintf(prefix, sizeof prefix, "%s.%.*s", t->section, (int)n, path);
    if (shared)
        str_printf(out, "%s – keys of every type\n", t->section);
    else
        table_title(out, t);
    cfg_help(out, rows, prefix);
    if (row->type != CFG_JSON || !row->sub) return;
    size_t end = strlen(prefix);
    snprintf(prefix + end, sizeof prefix - end, "%s.", row->key);
    str_adds(out, "keys where it is an object:\n");
    cfg_help(out, row->sub, prefix);
}

static void keys(str_buf *out, const cli_table *t, const cfg_field *rows)
{
    char prefix[KEY_BYTES];
    snprintf(prefix, sizeof prefix, "%s.", t->section);
    if (rows) cfg_help(out, rows, prefix);
}

/* The whole section: the keys of every type once, then each type with its own. */
static void whole_section(str_buf *out, const cli_table *t, bool first, arena *mem)
{
    if (t->type && first && t->n_shared > 0) {
        cfg_field *shared = arena_get(mem, ((size_t)t->n_shared + 1) * sizeof *shared);
        if (!shared) return;
        memcpy(shared, t->rows, (size_t)t->n_shared * sizeof *shared);
        str_printf(out, "%s – keys of every type\n", t->section);
        keys(out, t, shared);
    }
    table_title(out, t);
    keys(out, t, t->rows ? t->rows + t->n_shared : NULL);
}

/* What stands behind the name of the section in a key, or behind the last word of that name; else the key. */
static const char *below(const char *section, const char *key)
{
    const char *dot = strchr(section, '.'), *name = section;
    for (;; name = dot + 1, dot = NULL) {
        size_t n = strlen(name);
        if (strncmp(key, name, n) == 0 && key[n] == '.') return key + n + 1;
        if (!dot) return key;
    }
}

/* "optim", "method.lora", "optim.learning_rate", "learning_rate", "method.r". */
static int key_help(str_buf *out, const char *key, const cli_table *tables, int n, arena *mem)
{
    int found = 0;
    for (int i = 0; i < n; i++) {
        const cli_table *t = &tables[i];
        bool first = i == 0 || strcmp(t->section, tables[i - 1].section) != 0;
        const char *rest = below(t->section, key);
        const cfg_field *row = row_at(t->rows, rest);
        bool shared = row >= t->rows && row < t->rows + t->n_shared;
        found++;
        bool types = t->type && rest != key && strcmp(rest, "type") == 0;
        if (strcmp(key, t->section) == 0 || types) {
            whole_section(out, t, first, mem);
        } else if (t->type && strcmp(rest, t->type) == 0) {
            table_title(out, t);
            keys(out, t, t->rows);
        } else if (row && (first || !shared)) {
            one_row(out, t, row, rest, shared);
        } else {
            found--;
        }
    }
    return found;
}

/* A word may name a verb and a section: "train". */
static void section_help(str_buf *out, const char *word, const cli_table *tables, int n, arena *mem)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(tables[i].section, word) != 0) continue;
        str_adds(out, "\nsection of a training config:\n");
        key_help(out, word, tables, n, mem);
        return;
    }
}

static ft_status unknown(const char *word, const cli_table *tables, int n)
{
    const char *names[NAMES + 1];
    int count = 0;
    const char *dot = strrchr(word, '.');
    for (int i = 0; cli_verb_at(i) && count < NAMES; i++) names[count++] = cli_verb_at(i)->name;
    for (int i = 0; i < n && count + 2 < NAMES; i++) {
        names[count++] = tables[i].section;
        if (tables[i].type) names[count++] = tables[i].type;
        for (const cfg_field *r = tables[i].rows; r && r->key && count < NAMES; r++)
            names[count++] = r->key;
    }
    names[count] = NULL;
    const char *near = cfg_nearest(dot ? dot + 1 : word, names);
    FT_CHECK(!near, FT_EUSAGE, "%s: no verb and no config key; did you mean \"%s\"?",
             ft_shows(word), near);
    return ft_fail(FT_EUSAGE, "%s: no verb and no config key; ft help lists both", ft_shows(word));
}

static ft_status run(const cli_call *c)
{
    str_buf s = {0};
    ft_status rc = FT_OK;
    const char *word = c->n_arg > 0 ? c->arg[0] : NULL;
    const cli_verb *v = word ? cli_verb_by_name(word) : NULL;
    const cli_table *tables;
    int n;
    FT_TRY(cli_tables(&tables, &n, c->mem));
    if (c->n_arg == 2) { /* "method lora" is method.lora */
        word = arena_printf(c->mem, "%s.%s", c->arg[0], c->arg[1]);
        if (!word) return FT_EMEM;
        v = NULL;
    }
    if (!word) {
        overview(&s, tables, n);
    } else if (v) {
        verb_help_text(&s, v);
        section_help(&s, word, tables, n, c->mem);
    } else if (key_help(&s, word, tables, n, c->mem) == 0) {
        rc = unknown(word, tables, n);
    }
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
    .help = "this overview, a verb, or a key of the config",
    .usage = "[VERB | SECTION | KEY | method TYPE] [--json]",
    .max_args = 2,
    .run = run,
};
