/* evolve_data.c – the files that a search reads for each of its candidates: they are looked for before the first one, and what
 * is in them, with the recipe, tells whose scores evolve.jsonl holds. */
#include <string.h>

#include "evolve_private.h"

/* The lines of sha256sum; without sha it is only looked whether the file is there. */
static ft_status add_file(sha256_state *sha, const char *path)
{
    char hex[65];
    FT_TRY(io_data_exists(path));
    if (!sha) return FT_OK;
    FT_TRY(file_sha256(path, hex));
    sha256_add(sha, hex, 64);
    sha256_add(sha, "  ", 2);
    sha256_add(sha, path_base(path), strlen(path_base(path)));
    sha256_add(sha, "\n", 1);
    return ft_stop();
}

/* --- data ---------------------------------------------------------------------------------------------------------- */

static ft_status add_source(sha256_state *sha, const eval_task *task, const cJSON *source)
{
    const cJSON *given = cJSON_IsObject(source) ? js_get(source, "path") : source;
    const char **file;
    int64_t n;
    if (!cJSON_IsString(given)) return FT_OK; /* told where it is read */
    const char *path = cfg_path(task->doc, given, given->valuestring);
    if (!path) return FT_EMEM;
    FT_TRY(data_list_files(path, task->mem, &file, &n));
    for (int64_t i = 0; i < n; i++) FT_TRY(add_file(sha, file[i]));
    return FT_OK;
}

static ft_status add_data(sha256_state *sha, const eval_task *task)
{
    const cJSON *all = js_get(task->node, "data"), *source;
    FT_CHECK(data_reads_input(all) == 0, FT_ECONFIG,
             "task %s: data: standard input (\"-\") can be read once, and a search reads it for "
             "each candidate; give a file",
             ft_shows(task->name));
    if (!cJSON_IsArray(all)) return add_source(sha, task, all);
    cJSON_ArrayForEach(source, all) FT_TRY(add_source(sha, task, source));
    return FT_OK;
}

ft_status evolve_data_exists(const eval_task *task)
{
    return add_data(NULL, task);
}

/* --- whose scores they are ----------------------------------------------------------------------------------------- */

/* What of a folder changes what a model computes, beside its weights. */
static const char *const parts[] = {"config.json",
                                    "generation_config.json",
                                    "tokenizer.json",
                                    "tokenizer.model",
                                    "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "chat_template.jinja",
                                    "adapter_config.json",
                                    "adapter_model.safetensors",
                                    "adapter.safetensors",
                                    "lotr.safetensors",
                                    PE_METHOD_FILE,
                                    PE_QAT_FILE};

static ft_status add_parts(sha256_state *sha, const char *dir, arena *mem)
{
    for (size_t i = 0; i < FT_COUNT_OF(parts); i++) {
        path_kind kind;
        const char *path = path_join(mem, dir, parts[i]);
        if (!path) return FT_EMEM;
        FT_TRY(path_look(path, &kind));
        if (kind == PATH_FILE) FT_TRY(add_file(sha, path));
    }
    return FT_OK;
}

static ft_status add_model(sha256_state *sha, const merge_ref *ref, arena *mem)
{
    io_weights w;
    char hex[65];
    FT_TRY(io_weights_open(&w, ref->path, mem));
    const ft_status rc = io_weights_sha256(&w, hex);
    io_weights_close(&w);
    if (rc != FT_OK) return rc;
    sha256_add(sha, hex, 64);
    FT_TRY(add_parts(sha, ref->path, mem));
    return ref->adapter ? add_parts(sha, ref->adapter, mem) : FT_OK;
}

static ft_status add_task(sha256_state *sha, const eval_task *task)
{
    path_kind kind;
    FT_TRY(add_data(sha, task));
    if (!task->chat_template) return FT_OK;
    FT_TRY(path_look(task->chat_template, &kind));
    return kind == PATH_FILE ? add_file(sha, task->chat_template) : FT_OK; /* or it is a name */
}

static ft_status put_recipe(const cJSON *root, str_buf *out)
{
    cJSON *copy = cJSON_Duplicate(root, true);
    if (!copy) return FT_EMEM;
    cJSON_DeleteItemFromObjectCaseSensitive(copy, "max_fevals");
    js_print(out, copy, false);
    cJSON_Delete(copy);
    return js_whole();
}

ft_status evolve_identity(const merge_recipe *refs, const eval_config *e, const char *precision,
                          str_buf *out)
{
    sha256_state sha;
    char models[65], data[65];
    sha256_init(&sha);
    for (int i = 0; i < refs->n_ref; i++) FT_TRY(add_model(&sha, &refs->ref[i], e->mem));
    sha256_hex(&sha, models);
    sha256_init(&sha);
    for (int i = 0; i < e->n_task; i++) FT_TRY(add_task(&sha, &e->task[i]));
    sha256_hex(&sha, data);
    str_printf(out, "{\"models_sha256\":\"%s\",\"data_sha256\":\"%s\",\"precision\":", models,
               data);
    if (precision)
        str_json(out, precision, strlen(precision));
    else
        str_adds(out, "null");
    str_adds(out, ",\"recipe\":");
    FT_TRY(put_recipe(e->doc.js.root, out));
    str_adds(out, "}\n");
    return str_ok(out);
}
