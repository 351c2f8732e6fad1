/* verb_init.c – `ft init`: a small config to begin with. The values are the defaults of the parser's own tables, so what it
 * prints and what a key left out means are the same. */
#include "given.h"

#include "ft/io.h"
#include "ft/model.h"

#include <math.h>
#include <string.h>

typedef struct init_flags {
    const char *model, *data, *method;
} init_flags;
static const cfg_field flags[] = {
    {"model", CFG_PATH, offsetof(init_flags, model), .def = "\"model\"",
     .help = "Hugging Face folder or .gguf file"},
    {"data", CFG_STR, offsetof(init_flags, data), .file = true, .def = "\"train.jsonl\"",
     .help = "training data, or a source as JSON"},
    {"method", CFG_STR, offsetof(init_flags, method), .value = pe_name_at, .def = "\"lora\"",
     .help = "what is trained (ft help method)"},
    CFG_END};

/* Keys that one changes, of those that a section has; they are printed with their defaults. */
static const char *const method_keys[] = {"r",
                                          "lora_alpha",
                                          "lora_dropout",
                                          "target_modules",
                                          "loraplus_lr_ratio",
                                          "num_virtual_tokens",
                                          "bias_terms",
                                          "save",
                                          NULL};
static const char *const optim_keys[] = {"learning_rate", "lr_scheduler_type", "warmup_ratio",
                                         NULL};
static const char *const data_keys[] = {"max_length", NULL};
static const char *const train_keys[] = {"epochs", "batch_size", "seed", "checkpoint_every", NULL};

static bool is_listed(const char *const *list, const char *key)
{
    while (*list && strcmp(*list, key) != 0) list++;
    return *list != NULL;
}

/* Those keys of a table that have a default; the others are the method's to choose. */
static ft_status add_keys(cJSON *object, const cfg_field *rows, const char *const *keys)
{
    for (; rows && rows->key; rows++) {
        js_doc doc = {0};
        if (!rows->def || !is_listed(keys, rows->key) || js_get(object, rows->key)) continue;
        FT_TRY(js_parse(&doc, rows->def, strlen(rows->def), rows->key, 1, JS_NO_POSITIONS,
                        FT_EINTERNAL));
        js_add(object, rows->key, doc.root);
        doc.root = NULL;
        js_close(&doc);
    }
    return FT_OK;
}

static const cfg_field *rows_of(const char *section)
{
    for (const train_section *s = train_sections; s->key; s++)
        if (strcmp(s->key, section) == 0) return s->rows;
    return NULL;
}

/* Where positions come from a table, rows may not be longer than it. */
static ft_status cut_length(cJSON *data, const cJSON *method, const char *path)
{
    model *m;
    const cJSON *virtual = js_get(method, "num_virtual_tokens");
    cJSON *length = cJSON_GetObjectItemCaseSensitive(data, "max_length");
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (kind == PATH_NONE || kind == PATH_LOST) return FT_OK;
    FT_TRY(model_open(&m, &(model_options){.path = path, .no_weights = true, .may_be_bare = true}));
    const double most = m->position ? (double)m->d.max_position : (double)INFINITY,
                 left = most - (virtual ? virtual->valuedouble : 0);
    model_close(m);
    if (length && length->valuedouble > left) cJSON_SetNumberValue(length, left > 2 ? left : 2);
    return FT_OK;
}

static ft_status put_source(cJSON *data, const char *text)
{
    js_doc doc = {0};
    if (text[0] != '{' && text[0] != '[') {
        cJSON_AddStringToObject(data, "train", text);
        return FT_OK;
    }
    FT_TRY(js_parse(&doc, text, strlen(text), "--data", 1, JS_NO_POSITIONS, FT_EUSAGE));
    js_add(data, "train", doc.root);
    doc.root = NULL;
    js_close(&doc);
    return FT_OK;
}

static ft_status fill(cJSON *root, const init_flags *f, const pe_method *method)
{
    cJSON_AddStringToObject(cJSON_AddObjectToObject(root, "model"), "path", f->model);
    cJSON *o = cJSON_AddObjectToObject(root, "method"), *kind = o;
    cJSON_AddStringToObject(o, "type", method->name);
    FT_TRY(add_keys(o, method->fields, method_keys));
    for (const cfg_field *r = method->fields; r && r->key; r++) /* some methods have no default */
        if (strcmp(r->key, "num_virtual_tokens") == 0 && !js_get(o, r->key))
            cJSON_AddNumberToObject(o, r->key, 20);
    o = cJSON_AddObjectToObject(root, "data");
    FT_TRY(put_source(o, f->data));
    FT_TRY(add_keys(o, rows_of("data"), data_keys));
    FT_TRY(cut_length(o, kind, f->model));
    o = cJSON_AddObjectToObject(root, "optim");
    cJSON_AddNumberToObject(o, "learning_rate", method->learning_rate);
    FT_TRY(add_keys(o, rows_of("optim"), optim_keys));
    FT_TRY(add_keys(cJSON_AddObjectToObject(root, "train"), rows_of("train"), train_keys));
    cJSON_AddStringToObject(cJSON_AddObjectToObject(root, "output"), "dir", "out");
    return FT_OK;
}

static ft_status run(const cli_call *c)
{
    const init_flags *f = c->opt;
    str_buf text = {0};
    FT_TRY(cli_check_method(f->method));
    FT_CHECK(utf8_valid(f->model, strlen(f->model)) && utf8_valid(f->data, strlen(f->data)),
             FT_EUSAGE, "a path that is not valid UTF-8 has no place in a config");
    cJSON *root = cJSON_CreateObject();
    if (!root) return FT_EMEM;
    ft_status rc = fill(root, f, pe_by_name(f->method));
    js_print(&text, root, !c->json);
    str_addc(&text, '\n');
    if (rc == FT_OK) rc = str_ok(&text);
    if (rc == FT_OK) rc = cli_out(text.data, text.len);
    if (rc == FT_OK) rc = cli_next(c, "ft check run.json, with this in run.json");
    cJSON_Delete(root);
    str_free(&text);
    return rc;
}

const cli_verb verb_init = {
    .name = "init",
    .help = "print a small config to begin with",
    .usage = "[--model M] [--data F] [--method T] > config.json",
    .more = "Holds the keys that one changes, with their defaults; ft help SECTION has all of "
            "them.\n`ft check` says what a run would make of it.\n",
    .example = "ft init --model model --data train.jsonl > run.json",
    .does = "a config to edit",
    .flags = flags,
    .opt_size = sizeof(init_flags),
    .needs = CLI_JSON,
    .run = run,
};
