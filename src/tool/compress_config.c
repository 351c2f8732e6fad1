/* compress_config.c – the config of `ft quantize` and `ft prune`: a model, calibration data, and a section whose `type` picks a
 * quantiser or a pruner, whose keys stand beside it. */
#include <string.h>

#include "compressing.h"

#define AT(field) offsetof(compress_config, field)
static const char *const shapes[] = {"path", "a source", "list of them", NULL};
static const char *const name_shapes[] = {"list of names", NULL};
static const char *const target_shapes[] = {"all-linear", "regex", "list of names", NULL};

static const cfg_field model_rows[] = {
    {"path", CFG_PATH, AT(model), .required = true, .help = "folder or .gguf, not quantised"},
    CFG_END};
static const cfg_field calibration_rows[] = {
    {"data", CFG_JSON, AT(data), .choices = shapes,
     .help = "texts that the model runs over, as data.train of a training config; every token "
             "counts"},
    {"samples", CFG_INT, AT(samples), .def = "128", .low = 1, .high = 1e9,
     .help = "the first so many"},
    {"max_length", CFG_INT, AT(max_length), .def = "2048", .low = 1, .high = 1 << 24,
     .help = "tokens of a sample at most"},
    CFG_END};
static const cfg_field output_rows[] = {
    {"dir", CFG_PATH, AT(dir), .help = "where the result goes, unless --out says"}, CFG_END};

#define LEFT_HELP "parts of module paths: what has one in its path stays as it is"
#define COMMON_ROWS                                                                                \
    {"model", CFG_TABLE, 0, .required = true, .sub = model_rows, .help = "what is read"},          \
        {"calibration", CFG_TABLE, 0, .sub = calibration_rows,                                     \
         .help = "inputs that are looked at"},                                                     \
    {                                                                                              \
        "output", CFG_TABLE, 0, .sub = output_rows, .help = "the result"                           \
    }
const cfg_field tool_quantize_fields[] = {
    COMMON_ROWS,
    {"quantize", CFG_JSON, AT(section), .help = "a type, and its keys: ft help compress"},
    {"modules_to_not_convert", CFG_JSON, AT(left), .choices = name_shapes, .help = LEFT_HELP},
    CFG_END};
const cfg_field tool_prune_fields[] = {
    COMMON_ROWS,
    {"prune", CFG_JSON, AT(section), .help = "a type, and its keys: ft help compress"},
    CFG_END};

#define HEAD_AT(field) offsetof(compress_head, field)
static const cfg_field quantize_head[] = {
    {"type", CFG_ENUM, HEAD_AT(type), .def = "\"gptq\"", .help = "how"},
    {"modules_to_not_convert", CFG_JSON, HEAD_AT(left), .choices = name_shapes, .help = LEFT_HELP},
    CFG_END};
static const cfg_field prune_head[] = {
    {"type", CFG_ENUM, HEAD_AT(type), .def = "\"magnitude\"", .help = "how"},
    {"target_modules", CFG_JSON, HEAD_AT(target), .choices = target_shapes,
     .help = "what is pruned, in PEFT's forms; default: all linear layers of the blocks"},
    CFG_END};

const tool_compress_kind tool_quantize = {.verb = "quantize",
                                          .section = "quantize",
                                          .fields = tool_quantize_fields,
                                          .head = quantize_head,
                                          .at = cmp_quantizer_at,
                                          .names = cmp_quantizer_names};
const tool_compress_kind tool_prune = {.verb = "prune",
                                       .section = "prune",
                                       .fields = tool_prune_fields,
                                       .head = prune_head,
                                       .at = cmp_pruner_at,
                                       .names = cmp_pruner_names};
enum { HEAD = 64 }; /* bytes in front of the method's own */
_Static_assert(sizeof(compress_head) <= HEAD, "the head fits");

/* --- the section ------------------------------------------------------------------------------------------------- */
static size_t count(const cfg_field *rows)
{
    size_t n = 0;
    while (rows && rows[n].key) n++;
    return n;
}

static const cfg_field *join(const tool_compress_kind *k, const cmp_method *m, arena *mem)
{
    const size_t n = count(k->head), own = m ? count(m->fields) : 0;
    cfg_field *rows = arena_get(mem, (n + own + 1) * sizeof *rows);
    if (!rows) return NULL;
    memcpy(rows, k->head, n * sizeof *rows);
    rows[0].choices = k->names();
    for (size_t i = 0; i < own; i++) {
        rows[n + i] = m->fields[i];
        rows[n + i].offset += HEAD;
    }
    return rows;
}

/* Of an unknown type its keys are nobody's mistake. */
static const char *const *all_keys(const cJSON *object, arena *mem)
{
    size_t n = 0;
    const cJSON *first = cJSON_IsObject(object) ? object->child : NULL;
    for (const cJSON *e = first; e; e = e->next) n++;
    const char **keys = arena_get(mem, (n + 1) * sizeof *keys);
    n = 0;
    for (const cJSON *e = first; keys && e; e = e->next) keys[n++] = e->string;
    return keys;
}

static ft_status read_section(compress_config *c, arena *mem)
{
    const tool_compress_kind *k = c->opt->kind;
    const cJSON *type = cJSON_IsObject(c->section) ? js_get(c->section, "type") : NULL;
    for (int i = 0; k->at(i) && !c->method; i++)
        if (type ? cJSON_IsString(type) && strcmp(type->valuestring, k->at(i)->name) == 0 : i == 0)
            c->method = k->at(i);
    char *all = arena_get(mem, HEAD + (c->method ? c->method->cfg_size : 0));
    c->rows = join(k, c->method, mem);
    const char *const *also = c->method ? NULL : all_keys(c->section, mem);
    if (!all || !c->rows || (!c->method && !also)) return FT_EMEM;
    c->head = (compress_head *)(void *)all;
    c->cfg = all + HEAD;
    FT_TRY(cfg_read(&c->doc, c->section, k->section, c->rows, all, also));
    if (c->method && c->method->check) c->method->check(&c->doc, c->section, k->section, c->cfg);
    return FT_OK;
}

/* --- names of modules ----------------------------------------------------------------------------------------------- */
static bool is_names(const cJSON *v)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, v) if (!cJSON_IsString(e) || !*e->valuestring) return false;
    return cJSON_IsArray(v);
}

static ft_status take_left(compress_config *c, arena *mem)
{
    const cJSON *own = c->head->left, *list = own ? own : c->left, *e;
    const char *key = own ? "quantize.modules_to_not_convert" : "modules_to_not_convert";
    if (own && c->left)
        cfg_fail(&c->doc, c->left, "modules_to_not_convert", "stands in quantize, too; keep one");
    if (!list || cJSON_IsNull(list)) return FT_OK;
    if (!is_names(list)) {
        cfg_fail(&c->doc, list, key, "must be a list of parts of module paths");
        return FT_OK;
    }
    c->kept = arena_get(mem, (size_t)(cJSON_GetArraySize(list) + 1) * sizeof *c->kept);
    if (!c->kept) return FT_EMEM;
    cJSON_ArrayForEach(e, list) c->kept[c->n_kept++] = e->valuestring;
    return FT_OK;
}

static void check_target(compress_config *c)
{
    const cJSON *t = c->head->target;
    if (!t || cJSON_IsNull(t)) return;
    if (c->method && c->method->drop) {
        cfg_fail(&c->doc, t, "prune.target_modules", "%s takes whole layers; leave this out",
                 c->method->name);
        return;
    }
    if (is_names(t) && cJSON_GetArraySize(t) > 0) return;
    if (!cJSON_IsString(t) || !*t->valuestring) {
        cfg_fail(&c->doc, t, "prune.target_modules",
                 "must be \"all-linear\", a regex, or a list of module names, at least one");
    } else if (strcmp(t->valuestring, "all-linear") != 0 && pe_match_full(t->valuestring, "") < 0) {
        const char *why = arena_str(c->doc.mem, ft_error());
        ft_error_clear();
        cfg_fail(&c->doc, t, "prune.target_modules", "%s", why ? why : "");
    }
}

static bool is_target(const cJSON *t, const char *path)
{
    const cJSON *e;
    if (!t || cJSON_IsNull(t)) return true;
    if (cJSON_IsString(t))
        return strcmp(t->valuestring, "all-linear") == 0 || pe_match_full(t->valuestring, path) > 0;
    cJSON_ArrayForEach(e, t) if (pe_match_suffix(e->valuestring, path)) return true;
    return false;
}

bool compress_is_chosen(void *ctx, const nn_site *s)
{
    const compress_config *c = ctx;
    for (int i = 0; i < c->n_kept; i++)
        if (strstr(s->path, c->kept[i])) return false;
    return is_target(c->head->target, s->path);
}

/* Has a module of m that, or is it part of its path? */
static bool is_part(const model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_param; i++) {
        const char *path = m->param[i].name, *at = strstr(path, name);
        if (at && at + strlen(name) <= strrchr(path, '.')) return true;
    }
    return m->head && strstr(m->head->path, name);
}

static bool is_linear(const nn_site *s)
{
    return s->layer >= 0 && s->role != NN_NORM;
}

static bool is_target_name(const model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_site; i++)
        if (is_linear(&m->site[i]) && pe_match_suffix(name, m->site[i].path)) return true;
    return false;
}

/* "q_proj, k_proj, …": the linears of the first block. */
static const char *linears_of(const model *m, arena *mem)
{
    const char *list = NULL;
    for (int64_t i = 0; i < m->n_site; i++) {
        const nn_site *s = &m->site[i];
        const char *dot = strrchr(s->path, '.');
        if (s->layer != 0 || !is_linear(s) || !dot) continue;
        list = list ? arena_printf(mem, "%s, %s", list, dot + 1) : arena_str(mem, dot + 1);
    }
    return list ? list : "none";
}

ft_status compress_check_names(const compress_config *c, const model *m)
{
    const cJSON *t = c->head->target, *e;
    for (int i = 0; i < c->n_kept; i++)
        FT_CHECK(is_part(m, c->kept[i]), FT_ECONFIG,
                 "%s%s: no module of this %s model has \"%s\" in its path; linear layers are %s",
                 c->head->left ? "quantize." : "", "modules_to_not_convert", model_family_name(m),
                 ft_shows(c->kept[i]), linears_of(m, c->doc.mem));
    if (!cJSON_IsArray(t)) return FT_OK;
    cJSON_ArrayForEach(e, t)
        FT_CHECK(is_target_name(m, e->valuestring), FT_ECONFIG,
                 "prune.target_modules: no linear layer of the blocks of this %s model matches "
                 "\"%s\"; they are %s",
                 model_family_name(m), ft_shows(e->valuestring), linears_of(m, c->doc.mem));
    return FT_OK;
}

/* --- all of it ------------------------------------------------------------------------------------------------------- */
static void check_calibration(compress_config *c)
{
    const cJSON *object = js_get(c->doc.js.root, "calibration");
    const bool reads = c->method && cmp_reads(c->method, c->cfg);
    if (c->method && !reads && object)
        cfg_fail(&c->doc, object, "calibration", "%s reads no data%s; leave it out",
                 c->method->name, c->method->calibrated ? " with these keys" : "");
    if (reads && !c->data)
        cfg_missing(&c->doc, object ? object : c->doc.js.root, "calibration.data",
                    "missing; %s looks at the inputs of the layers", c->method->name);
}

ft_status compress_config_open(compress_config *c, const tool_compress_options *opt, arena *mem)
{
    *c = (compress_config){.opt = opt};
    cfg_doc *d = &c->doc;
    FT_TRY(cfg_open(d, opt->config, opt->sets, opt->n_sets, mem));
    FT_TRY(cfg_read(d, d->js.root, "", c->opt->kind->fields, c, NULL));
    FT_TRY(read_section(c, mem));
    FT_TRY(take_left(c, mem));
    check_target(c);
    check_calibration(c);
    FT_TRY(cfg_done(d));
    if (!c->dir) c->dir = opt->out;
    if (opt->out) c->dir = opt->out;
    FT_CHECK(c->dir, FT_EUSAGE, "no output given; use --out DIR");
    return FT_OK;
}

ft_status compress_identity(const compress_config *c, str_buf *out)
{
    cJSON *o = cJSON_CreateObject(), *section = cJSON_AddObjectToObject(o, c->opt->kind->section);
    ft_status rc = section ? cfg_resolve(section, c->rows, c->head) : FT_EMEM;
    if (rc == FT_OK && cmp_reads(c->method, c->cfg)) {
        const cJSON *max = cJSON_AddNumberToObject(o, "max_length", (double)c->max_length);
        if (!cJSON_AddNumberToObject(o, "samples", (double)c->samples) || !max) rc = FT_EMEM;
    }
    cJSON *kept = cJSON_AddArrayToObject(o, "modules_to_not_convert");
    for (int i = 0; rc == FT_OK && i < c->n_kept; i++)
        if (!kept || !cJSON_AddItemToArray(kept, cJSON_CreateString(c->kept[i]))) rc = FT_EMEM;
    if (rc == FT_OK) js_print(out, o, false);
    cJSON_Delete(o);
    return rc == FT_OK ? str_ok(out) : rc;
}
