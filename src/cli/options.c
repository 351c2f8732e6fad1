/* options.c – the verb table, and the command line read by rows.
 *
 * The same cfg_field rows that describe a config describe flags, so bounds, choices, defaults and help are
 * written once; only the words on the command line are read here. */
#include "cli.h"

#include "ft/kernel.h"
#include "ft/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define X(name) extern const cli_verb verb_##name;
#include "verbs.def"
#undef X
#define X(name) &verb_##name,
static const cli_verb *const verbs[] = {
#include "verbs.def"
};
#undef X

enum { NAMES = 128, NAME_BYTES = 64, ARENA_BYTES = 16 << 20 };

static const char *const colors[] = {"auto", "always", "never", NULL};
static const char *const precisions[] = {"f32", "bf16", "auto", NULL};

/* Options of every verb. `sets` is filled beside the table: it may be repeated. */
typedef struct globals {
    int64_t threads;
    bool json, quiet, force;
    const char *set, *precision, *color;
} globals;
#define SET_ROW 1
static const cfg_field global_rows[] = {
    {"threads", CFG_INT, offsetof(globals, threads), .def = "0", .low = 0, .high = 1024,
     .help = "threads to use; 0: as many as CPUs may be used"},
    {"set", CFG_STR, offsetof(globals, set),
     .help = "A.B=VALUE changes one key of the config (A[\"B.C\"]=VALUE where a key has dots); "
             "repeatable"},
    {"json", CFG_BOOL, offsetof(globals, json), .def = "false", .help = "results as JSON lines"},
    {"quiet", CFG_BOOL, offsetof(globals, quiet), .def = "false",
     .help = "nothing on stderr but errors (-q)"},
    {"force", CFG_BOOL, offsetof(globals, force), .def = "false",
     .help = "write over results that are there; files of others stay, and are an error (73)"},
    {"color", CFG_ENUM, offsetof(globals, color), .def = "\"auto\"", .choices = colors,
     .help = "of messages and samples; auto: on a terminal, unless NO_COLOR is set"},
    {"precision", CFG_ENUM, offsetof(globals, precision), .choices = precisions,
     .help = "of matrix products; the config's, else auto to train and f32 for the rest"},
    CFG_END};

const cli_verb *cli_verb_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(verbs) ? verbs[i] : NULL;
}

const cli_verb *cli_verb_by_name(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(verbs); i++) {
        if (strcmp(verbs[i]->name, name) == 0) return verbs[i];
    }
    return NULL;
}

const cfg_field *cli_global_rows(void)
{
    return global_rows;
}

/* --- one flag --------------------------------------------------------------------------------------------- */
/* key "top_k" ↔ word "top-k" */
static bool names_row(const char *word, size_t n, const char *key)
{
    if (strlen(key) != n) return false;
    for (size_t i = 0; i < n; i++) {
        if (word[i] != (key[i] == '_' ? '-' : key[i])) return false;
    }
    return true;
}

static const cfg_field *find_row(const cfg_field *rows, const char *word, size_t n)
{
    for (; rows && rows->key; rows++) {
        if (names_row(word, n, rows->key)) return rows;
    }
    return NULL;
}

static ft_status bad_value(const char *flag, const char *text, const char *wanted)
{
    return ft_fail(FT_EUSAGE, "%s: \"%s\" must be %s", flag, ft_shows(text), wanted);
}

/* A decimal number, ".5" too. */
static bool is_number(const char *text, double *v)
{
    char *end;
    if (!*text || text[strspn(text, "+-.0123456789eE")]) return false;
    *v = strtod(text, &end);
    return !*end && isfinite(*v);
}

static ft_status read_number(const cfg_field *r, void *to, const char *flag, const char *text)
{
    double v;
    bool whole = r->type != CFG_FLOAT;
    const char *wanted = r->type == CFG_AUTO_INT ? "an integer or auto"
                         : whole                 ? "an integer"
                                                 : "a number";
    if (r->type == CFG_AUTO_INT && strcmp(text, "auto") == 0) {
        *(int64_t *)to = CFG_AUTO;
        return FT_OK;
    }
    if (!is_number(text, &v) || (whole && (v != floor(v) || fabs(v) > 0x1p53)))
        return bad_value(flag, text, wanted);
    if (r->low < r->high) {
        if (v < r->low || (r->low_open && v == r->low))
            return ft_fail(FT_EUSAGE, "%s: %s must be %s %.15g", flag, ft_shows(text),
                           r->low_open ? "greater than" : "at least", r->low);
        FT_CHECK(v <= r->high, FT_EUSAGE, "%s: %s must be at most %.15g", flag, ft_shows(text),
                 r->high);
    }
    if (whole)
        *(int64_t *)to = (int64_t)v;
    else
        *(double *)to = v;
    return FT_OK;
}

static ft_status read_choice(const cfg_field *r, void *to, const char *flag, const char *text)
{
    char wanted[400] = "one of";
    for (int i = 0; r->choices[i]; i++) {
        size_t n = strlen(wanted);
        if (strcmp(r->choices[i], text) == 0) {
            *(const char **)to = r->choices[i];
            return FT_OK;
        }
        snprintf(wanted + n, sizeof wanted - n, "%s %s", i ? "," : "", r->choices[i]);
    }
    const char *near = cfg_nearest(text, r->choices);
    FT_CHECK(!near, FT_EUSAGE, "%s: \"%s\" is unknown; did you mean \"%s\"?", flag, ft_shows(text),
             near);
    return bad_value(flag, text, wanted);
}

static ft_status read_truth(const cfg_field *r, void *to, const char *flag, const char *text)
{
    bool yes = strcmp(text, "true") == 0, no = strcmp(text, "false") == 0;
    if (r->type == CFG_AUTO_BOOL && strcmp(text, "auto") == 0)
        *(int *)to = -1;
    else if (!yes && !no)
        return bad_value(flag, text,
                         r->type == CFG_AUTO_BOOL ? "true, false or auto" : "true or false");
    else if (r->type == CFG_AUTO_BOOL)
        *(int *)to = yes;
    else
        *(bool *)to = yes;
    return FT_OK;
}

static ft_status add_to_list(cfg_list *list, const char *text, arena *mem)
{
    const char **v = arena_get(mem, ((size_t)list->n + 1) * sizeof *v);
    if (!v) return FT_EMEM;
    if (list->n > 0) memcpy(v, list->v, (size_t)list->n * sizeof *v);
    v[list->n++] = text;
    list->v = v;
    return FT_OK;
}

/* text NULL: the flag stands alone. */
static ft_status read_flag(const cfg_field *r, void *opt, const char *flag, const char *text,
                           arena *mem)
{
    void *to = (char *)opt + r->offset;
    if (!text) {
        *(bool *)to = true;
        return FT_OK;
    }
    switch (r->type) {
    case CFG_BOOL:
    case CFG_AUTO_BOOL:
        return read_truth(r, to, flag, text);
    case CFG_INT:
    case CFG_AUTO_INT:
    case CFG_FLOAT:
        return read_number(r, to, flag, text);
    case CFG_ENUM:
        return read_choice(r, to, flag, text);
    case CFG_LIST:
        return add_to_list(to, text, mem);
    default:
        *(const char **)to = text;
        return FT_OK;
    }
}

/* A default is JSON text ("\"f32\"", "8"): strings lose their quotes. */
static ft_status set_default(const cfg_field *r, void *opt, arena *mem)
{
    size_t n = r->def ? strlen(r->def) : 0;
    void *to = (char *)opt + r->offset;
    if (!r->def) {
        if (r->type == CFG_INT || r->type == CFG_AUTO_INT) *(int64_t *)to = CFG_AUTO;
        if (r->type == CFG_FLOAT) *(double *)to = (double)NAN;
        if (r->type == CFG_AUTO_BOOL) *(int *)to = -1;
        return FT_OK;
    }
    const char *text = r->def[0] == '"' ? arena_strn(mem, r->def + 1, n - 2) : r->def;
    return text ? read_flag(r, opt, r->key, text, mem) : FT_EMEM;
}

/* --- the line ------------------------------------------------------------------------------------------------ */
typedef struct line {
    cli_call *call;
    globals global;
    void *opt;
    const char **arg, **behind, **set;
    const char *last;        /* key of the last option with a value, or "" */
    const cfg_field **given; /* rows of the options so far that have a value */
    int n_arg, n_set, n_given;
    bool help;
} line;

/* A key of a training config, given as an option. */
static ft_status key_as_flag(const line *l, const char *typed)
{
    char key[NAME_BYTES];
    cfg_meaning m;
    if (!find_row(l->call->verb->flags, "method", strlen("method"))) return FT_OK;
    snprintf(key, sizeof key, "%s", typed);
    for (char *p = key; *p; p++) *p = *p == '-' ? '_' : *p;
    if (!train_key_meant(key, &m)) return FT_OK;
    FT_CHECK(!m.path[0], FT_EUSAGE, "--%s: no option, but a key of the config: --set %s=VALUE%s%s",
             ft_shows(typed), m.path, m.why ? "; " : "", m.why ? m.why : "");
    return ft_fail(FT_EUSAGE, "--%s: ft %s has no such option; %s", ft_shows(typed),
                   l->call->verb->name, m.why);
}

static ft_status unknown_flag(const line *l, const char *word, size_t n)
{
    const char *names[NAMES + 1];
    char text[NAMES][NAME_BYTES], typed[NAME_BYTES], dashed[NAME_BYTES];
    const cfg_field *tables[] = {l->call->verb->flags, global_rows};
    int count = 0;
    for (size_t t = 0; t < FT_COUNT_OF(tables); t++) {
        for (const cfg_field *r = tables[t]; r && r->key && count < NAMES; r++) {
            if (!cli_flag_fits(l->call->verb, r)) continue;
            cli_flag_word(text[count], NAME_BYTES, r->key);
            names[count] = text[count];
            count++;
        }
    }
    names[count] = NULL;
    snprintf(typed, sizeof typed, "%.*s", (int)(n < NAME_BYTES ? n : NAME_BYTES - 1), word);
    FT_CHECK(strcmp(typed, "config") != 0 || !(l->call->verb->needs & CLI_CONFIG), FT_EUSAGE,
             "--config: a config stands by itself: ft %s CONFIG", l->call->verb->name);
    cli_flag_word(dashed, sizeof dashed, typed);
    const char *meant = cli_option_meant(dashed, names), *near = cfg_nearest(dashed, names);
    FT_CHECK(!meant, FT_EUSAGE, "--%s: ft %s has it as --%s", ft_show(word, n), l->call->verb->name,
             meant);
    FT_TRY(key_as_flag(l, typed));
    FT_CHECK(!near, FT_EUSAGE, "--%s: ft %s has no such option; did you mean \"--%s\"?",
             ft_show(word, n), l->call->verb->name, near);
    FT_CHECK(strcmp(l->call->verb->name, "help") != 0, FT_EUSAGE,
             "--%s: is no option of ft help; without dashes it tells what it is: ft help %s",
             ft_show(word, n), typed);
    return ft_fail(FT_EUSAGE, "--%s: ft %s has no such option; ft help %s lists them",
                   ft_show(word, n), l->call->verb->name, l->call->verb->name);
}

/* A second value would silently replace the first. */
static ft_status take_once(line *l, const cfg_field *row, const char *flag)
{
    for (int i = 0; i < l->n_given; i++)
        FT_CHECK(l->given[i] != row, FT_EUSAGE, "%s: given twice; it takes one value", flag);
    l->given[l->n_given++] = row;
    return FT_OK;
}

/* Words from `i` on: --name, --name value, --name=value. Returns how many were used in *used. */
static ft_status take_flag(line *l, int left, char *const *words, int *used)
{
    const char *word = words[0] + 2, *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    const cli_verb *v = l->call->verb;
    const cfg_field *row = find_row(v->flags, word, n);
    void *opt = l->opt;
    char flag[NAME_BYTES + 2];

    *used = 1;
    if (!row) {
        row = find_row(global_rows, word, n);
        opt = &l->global;
        if (row && !cli_flag_fits(v, row)) row = NULL;
    }
    if (!row) return unknown_flag(l, word, n);
    snprintf(flag, sizeof flag, "--%.*s", (int)n, word);
    const char *text = equals ? equals + 1 : NULL;
    if (!text && row->type != CFG_BOOL) {
        FT_CHECK(left > 1, FT_EUSAGE, "%s: a value is missing behind it", flag);
        text = words[1];
        *used = 2;
    }
    if (text) l->last = row->key;
    if (row == &global_rows[SET_ROW])
        l->set[l->n_set++] = text;
    else if (text && row->type != CFG_LIST)
        FT_TRY(take_once(l, row, flag));
    return read_flag(row, opt, flag, text, l->call->mem);
}

static ft_status read_words(line *l, int n, char *const *words)
{
    bool options = true;
    for (int i = 0, used; i < n; i += used) {
        const char *w = words[i];
        used = 1;
        if (!options || w[0] != '-' || !w[1]) {
            l->behind[l->n_arg] = l->last;
            l->arg[l->n_arg++] = w;
        } else if (strcmp(w, "--") == 0) {
            options = false;
        } else if (strcmp(w, "-h") == 0 || strcmp(w, "--help") == 0) {
            l->help = true;
        } else if (strcmp(w, "-q") == 0) {
            l->global.quiet = true;
        } else if (w[1] == '-') {
            FT_TRY(take_flag(l, n - i, words + i, &used));
        } else {
            return ft_fail(FT_EUSAGE, "%s: unknown option; options are written --name",
                           ft_shows(w));
        }
    }
    return FT_OK;
}

/* For verbs without a config, --set top_k=5 is --top-k 5. */
static ft_status set_to_flag(line *l, const char *set)
{
    const cli_verb *v = l->call->verb;
    const cfg_field *row = v->flags;
    const char *names[NAMES + 1], *const *keys, *path, *value;
    int n, count = 0;
    FT_TRY(cfg_set_words(set, l->call->mem, &keys, &n, &path, &value));
    for (; row && row->key && (n > 1 || strcmp(row->key, keys[0]) != 0); row++)
        if (count < NAMES) names[count++] = row->key;
    names[count] = NULL;
    if (row && row->key)
        return read_flag(row, l->opt, arena_printf(l->call->mem, "--set %s", path), value,
                         l->call->mem);
    const char *near = cfg_nearest(path, names);
    FT_CHECK(!near, FT_ECONFIG, "--set %s: unknown key; did you mean \"%s\"?", ft_shows(path),
             near);
    return ft_fail(FT_ECONFIG, "--set %s: unknown key of ft %s", ft_shows(path), v->name);
}

static ft_status sets_to_flags(line *l)
{
    for (int i = 0; i < l->n_set; i++) FT_TRY(set_to_flag(l, l->set[i]));
    return FT_OK;
}

static ft_status check_required(const line *l)
{
    for (const cfg_field *r = l->call->verb->flags; r && r->key; r++) {
        bool text = r->type == CFG_STR || r->type == CFG_PATH || r->type == CFG_ENUM;
        if (!r->required || !text || *(const char *const *)((const char *)l->opt + r->offset))
            continue;
        char flag[NAME_BYTES];
        cli_flag_word(flag, sizeof flag, r->key);
        return ft_fail(FT_EUSAGE, "--%s is required; usage: ft %s %s", flag, l->call->verb->name,
                       l->call->verb->usage);
    }
    return FT_OK;
}

static ft_status check_args(const line *l)
{
    const cli_verb *v = l->call->verb;
    FT_CHECK(l->n_arg >= v->min_args, FT_EUSAGE, "an argument is missing; usage: ft %s %s", v->name,
             v->usage);
    FT_CHECK(l->n_arg <= v->max_args, FT_EUSAGE, "%s: unexpected argument; usage: ft %s %s",
             ft_shows(l->arg[v->max_args]), v->name, v->usage);
    return check_required(l);
}

static ft_status fill_call(line *l, int n, char *const *words)
{
    cli_call *c = l->call;
    const cli_verb *v = c->verb;
    l->opt = arena_get(c->mem, v->opt_size ? v->opt_size : 1);
    l->arg = arena_get(c->mem, ((size_t)n + 1) * sizeof *l->arg);
    l->behind = arena_get(c->mem, ((size_t)n + 1) * sizeof *l->behind);
    l->set = arena_get(c->mem, ((size_t)n + 1) * sizeof *l->set);
    l->given = arena_get(c->mem, ((size_t)n + 1) * sizeof *l->given);
    if (!l->opt || !l->arg || !l->behind || !l->set || !l->given) return FT_EMEM;
    for (const cfg_field *r = global_rows; r->key; r++) FT_TRY(set_default(r, &l->global, c->mem));
    for (const cfg_field *r = v->flags; r && r->key; r++) FT_TRY(set_default(r, l->opt, c->mem));
    FT_TRY(read_words(l, n, words));
    if (l->help) return FT_OK;
    if (!(v->needs & CLI_CONFIG)) FT_TRY(sets_to_flags(l));
    FT_TRY(check_args(l));
    c->opt = l->opt;
    c->arg = l->arg;
    c->behind = l->behind;
    c->n_arg = l->n_arg;
    c->sets = l->set;
    c->n_sets = l->n_set;
    c->threads = (int)l->global.threads;
    c->json = l->global.json;
    c->quiet = l->global.quiet;
    c->force = l->global.force;
    c->precision = l->global.precision;
    return FT_OK;
}

static ft_status find_verb(const char *word, const cli_verb **out)
{
    const char *names[FT_COUNT_OF(verbs) + 1] = {NULL};
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) word = "help";
    if (strcmp(word, "--version") == 0) word = "version";
    *out = cli_verb_by_name(word);
    if (*out) return FT_OK;
    for (size_t i = 0; i < FT_COUNT_OF(verbs); i++) names[i] = verbs[i]->name;
    const char *meant = cli_verb_meant(word, names), *near = cfg_nearest(word, names);
    FT_CHECK(!meant, FT_EUSAGE, "%s: unknown verb; ft has it as %s: ft help %s", ft_shows(word),
             meant, meant);
    FT_CHECK(!near, FT_EUSAGE, "%s: unknown verb; did you mean \"%s\"?", ft_shows(word), near);
    return ft_fail(FT_EUSAGE, "%s: unknown verb; ft help lists them", ft_shows(word));
}

/* --color holds for mistakes of the line too. */
static const char *color_of(int n, char *const *words)
{
    const char *color = NULL;
    for (int i = 0; i < n && strcmp(words[i], "--") != 0; i++) {
        const char *value = str_starts(words[i], "--color=")                ? words[i] + 8
                            : strcmp(words[i], "--color") == 0 && i + 1 < n ? words[i + 1]
                                                                            : "";
        for (int k = 0; colors[k]; k++)
            if (strcmp(colors[k], value) == 0) color = colors[k];
    }
    return color;
}

/* No verb: what there is, for who comes for the first time, and an error for a script. */
static ft_status tour(const cli_call *c)
{
    const char *word = "tour";
    const cli_call help = {
        .verb = cli_verb_by_name("help"), .arg = &word, .n_arg = 1, .mem = c->mem};
    FT_TRY(help.verb->run(&help));
    FT_TRY(cli_flush());
    return ft_fail(FT_EUSAGE, "which verb? ft help lists them");
}

ft_status cli_run(int n, char *const *words)
{
    cli_call call = {0};
    line l = {.call = &call, .last = ""};

    cli_sink_install(color_of(n, words), false, false);
    if (n > 0) FT_TRY(find_verb(words[0], &call.verb));
    FT_TRY(arena_open(&call.mem, "command line", ARENA_BYTES));
    ft_status rc = n > 0 ? fill_call(&l, n - 1, words + 1) : tour(&call);
    if (rc == FT_OK && l.help) {
        const char *name = call.verb->name;
        call =
            (cli_call){.verb = cli_verb_by_name("help"), .arg = &name, .n_arg = 1, .mem = call.mem};
        rc = call.verb->run(&call);
        goto out;
    }
    if (rc != FT_OK) goto out;
    cli_sink_install(l.global.color, call.quiet, call.json);
    cli_results_are(call.verb->needs, call.json);
    if (call.verb->needs & CLI_KERNELS) {
        FT_TRY_OUT(kn_init());
        FT_TRY_OUT(pool_open(call.threads));
    }
    rc = call.verb->run(&call);
out:
    if (rc == FT_OK && ft_error_starved())
        rc = FT_EMEM; /* something is missing in what it told or wrote */
    arena_close(call.mem);
    return rc;
}
