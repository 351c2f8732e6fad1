/* verb_data.c – `ft data`: what train would see of its data. */
#include "given.h"

#include "ft/io.h"
#include "ft/train.h"

#include <string.h>
#include <unistd.h>

typedef struct options {
    const char *model, *format, *chat_template, *part, *out;
    int64_t max_length, samples;
} options;

static const char *const parts[] = {"train", "eval", NULL};

#define AT(field) offsetof(options, field)
static const cfg_field flags[] = {
    {"model", CFG_PATH, AT(model),
     .help =
         "whose tokenizer and template: Hugging Face folder or .gguf; the arguments are sources"},
    {"format", CFG_STR, AT(format), .choices = data_format_names,
     .help = "of every SOURCE (ft help formats); default: auto"},
    {"max_length", CFG_INT, AT(max_length), .low = 1, .high = 1e9,
     .help = "tokens that samples are cut at; default: data.max_length"},
    {"chat_template", CFG_PATH, AT(chat_template), .choices = chat_names,
     .help = "in place of the model's: the path of a Jinja file, or a name"},
    {"samples", CFG_INT, AT(samples), .def = "3", .low = 0, .high = 1e6, .help = "samples to show"},
    {"part", CFG_ENUM, AT(part), .def = "\"train\"", .choices = parts,
     .help = "of a config's data"},
    {"out", CFG_PATH, AT(out), .help = "FILE.jsonl for every sample as a record of format tokens"},
    CFG_END};

/* A path, or JSON text: as JSON text with the format. */
static const char *with_format(const char *source, const char *format, arena *mem)
{
    str_buf s = {0};
    if (!format) return source;
    if (source[strspn(source, " \t\n")] == '{') {
        str_adds(&s, source);
    } else {
        str_adds(&s, "{\"path\":");
        str_json(&s, source, strlen(source));
        str_addc(&s, '}');
    }
    while (s.len > 0 && s.data[s.len - 1] != '}') s.data[--s.len] = '\0';
    if (s.len > 0) s.len--;
    str_adds(&s, ",\"format\":");
    str_json(&s, format, strlen(format));
    str_addc(&s, '}');
    const char *out = s.failed ? NULL : arena_str(mem, s.data);
    str_free(&s);
    return out;
}

static ft_status add_set(const cli_call *c, const char **sets, int *n, const char *key,
                         const char *value)
{
    str_buf s = {0};
    if (!value) return FT_OK;
    str_printf(&s, "%s=", key);
    str_json(&s, value, strlen(value));
    sets[*n] = s.failed ? NULL : arena_str(c->mem, s.data);
    str_free(&s);
    return sets[(*n)++] ? FT_OK : FT_EMEM;
}

static ft_status fill(const cli_call *c, const options *o, train_options *t)
{
    const char **data = arena_get(c->mem, (size_t)(c->n_arg + 1) * sizeof *data);
    const char **sets = arena_get(c->mem, (size_t)(c->n_sets + 3) * sizeof *sets);
    if (!data || !sets) return FT_EMEM;
    FT_CHECK(o->model || c->n_arg == 1, FT_EUSAGE,
             "one CONFIG, or sources with --model; usage: ft data %s", c->verb->usage);
    FT_CHECK(o->model || (c->arg[0][0] != '{' && !cli_is_data(c->arg[0])), FT_EUSAGE,
             "%s: a source needs --model; usage: ft data %s", ft_shows(c->arg[0]), c->verb->usage);
    FT_CHECK(o->model || !o->format, FT_EUSAGE,
             "--format: of sources with --model; a config's sources say their own");
    bool known = !o->format;
    for (int i = 0; data_format_names[i] && !known; i++)
        known = strcmp(o->format, data_format_names[i]) == 0;
    FT_CHECK(known, FT_EUSAGE, "--format: \"%s\" is unknown; ft help formats lists them",
             ft_shows(o->format));
    *t = (train_options){.sets = sets, .force = c->force, .json = c->json};
    if (o->model) {
        t->given = (train_given){.model = o->model, .data = data};
        for (int i = 0; i < c->n_arg; i++)
            if (!(data[t->given.n_data++] = with_format(c->arg[i], o->format, c->mem)))
                return FT_EMEM;
    } else {
        t->config = c->arg[0];
    }
    for (int i = 0; i < c->n_sets; i++) sets[t->n_sets++] = c->sets[i];
    if (o->max_length != CFG_AUTO &&
        !(sets[t->n_sets++] =
              arena_printf(c->mem, "data.max_length=%lld", (long long)o->max_length)))
        return FT_EMEM;
    return add_set(c, sets, &t->n_sets, "data.chat_template", o->chat_template);
}

/* Of one source a config is begun; several are options of check; a config is checked. */
static ft_status tell_next(const cli_call *c, const options *o)
{
    const char **words = arena_get(c->mem, ((size_t)c->n_arg * 2 + 8) * sizeof *words);
    int n = 0;
    if (!words) return FT_EMEM;
    words[n++] = o->model && c->n_arg == 1 ? "init" : "check";
    if (o->model) words[n++] = "--model";
    if (o->model) words[n++] = o->model;
    for (int i = 0; i < c->n_arg; i++) {
        if (o->model) words[n++] = "--data";
        words[n++] = c->arg[i];
    }
    words[n] = NULL;
    return cli_next_words(c, words);
}

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    train_options t;
    str_buf report = {0};
    const train_look_options how = {.samples = o->samples,
                                    .eval = strcmp(o->part, "eval") == 0,
                                    .colour = cli_colour(STDOUT_FILENO),
                                    .out = o->out};
    FT_TRY(fill(c, o, &t));
    ft_status rc = train_look(&t, &how, &report);
    if (rc == FT_OK) rc = cli_out(report.data, report.len);
    str_free(&report);
    return rc == FT_OK ? tell_next(c, o) : rc;
}

const cli_verb verb_data = {
    .name = "data",
    .help = "what train would see of its data",
    .usage = "SOURCE... --model M [--format F] [--out FILE.jsonl] | CONFIG [--part eval]",
    .more = "A SOURCE is a path (a file, a folder, a pattern), or a source as JSON text. Prints "
            "counts, shares,\n"
            "lengths, the longest records, and samples with what is learned marked, in colour or "
            "in ⟦ ⟧.\n"
            "A run over the file that --out writes (data.shuffle false) is one over the sources.\n",
    .example = "ft data train.jsonl --model model",
    .does = "what a run would see",
    .flags = flags,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 4096,
    .needs = CLI_KERNELS | CLI_CONFIG | CLI_COLOUR,
    .run = run,
};
