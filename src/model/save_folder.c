/* save_folder.c – a model as a Hugging Face folder: weights, sharded where they are large, config, tokenizer and
 * generation files.
 *
 * config.json comes last: a folder without one is not taken for a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ft/token.h"
#include "save_private.h"

#define SHARD_BYTES ((size_t)5000000000u) /* transformers 4.x */

/* --- weights ------------------------------------------------------------------------------------------------ */

typedef struct shard {
    int64_t first, n;
    char name[80];
} shard;

static ft_status item_bytes(const save_item *it, size_t *bytes)
{
    int64_t count = it->dim[0] * (it->nd == 2 ? it->dim[1] : 1);
    FT_CHECK(dt_bytes(it->type, count, bytes), FT_EINTERNAL, "\"%s\": size", it->name);
    return FT_OK;
}

/* A vector that the overlay trains or adds. */
static bool is_trained_vector(const save_plan *p, const save_item *it)
{
    const nn_overlay *over = p->opt->over;
    return it->nd == 1 && (it->added || (over && over->own && over->own[it->param]));
}

static ft_status choose_types(save_plan *p)
{
    const model *m = p->m;
    if (p->opt->quant) FT_TRY(save_quant_items(p));
    for (int64_t i = 0; i < p->n; i++) {
        save_item *it = &p->item[i];
        if (it->part > 0) continue;
        it->type = save_folder_type(m, it->param, p->opt);
        if (p->opt->exact_vectors && is_trained_vector(p, it)) it->type = &dt_f32;
        FT_CHECK(it->type->st_name && it->type->pack, FT_EUSAGE,
                 "type %s has no place in a Hugging Face folder; write a .gguf, or use f32, f16 or "
                 "bf16",
                 it->type->name);
        it->transpose = m->param[it->param].hf_turned && !it->added;
        if (it->transpose) {
            it->dim[0] = m->param[it->param].t.dim[1];
            it->dim[1] = m->param[it->param].t.dim[0];
        }
    }
    return FT_OK;
}

/* transformers' rule: walk in order, a new shard where the next tensor would pass the limit. */
static ft_status split(save_plan *p, shard **out, int64_t *n, size_t *total)
{
    size_t limit = p->opt->shard_bytes ? p->opt->shard_bytes : SHARD_BYTES, fill = 0;
    shard *s = arena_get(p->mem, (size_t)(p->n + 1) * sizeof *s);
    if (!s) return FT_EMEM;
    *n = 0;
    *total = 0;
    for (int64_t i = 0; i < p->n; i++) {
        size_t bytes;
        FT_TRY(item_bytes(&p->item[i], &bytes));
        if (*n == 0 || (fill > 0 && fill + bytes > limit)) {
            s[(*n)++] = (shard){.first = i};
            fill = 0;
        }
        s[*n - 1].n++;
        fill += bytes;
        *total += bytes;
    }
    for (int64_t i = 0; i < *n; i++) {
        if (*n == 1)
            snprintf(s[i].name, sizeof s[i].name, "model.safetensors");
        else
            snprintf(s[i].name, sizeof s[i].name, "model-%05lld-of-%05lld.safetensors",
                     (long long)(i + 1), (long long)*n);
    }
    *out = s;
    return FT_OK;
}

static ft_status put_st(void *ctx, const void *data, size_t n)
{
    return st_write(ctx, data, n);
}

static ft_status write_shard_once(save_plan *p, const shard *s, const char *path)
{
    ft_status rc;
    st_writer *w = NULL;
    st_decl *decl = arena_get(p->mem, (size_t)s->n * sizeof *decl);
    if (!decl) return FT_EMEM;
    for (int64_t i = 0; i < s->n; i++) {
        save_item *it = &p->item[s->first + i];
        decl[i] = (st_decl){.name = it->name,
                            .type = it->type,
                            .nd = it->nd,
                            .dim = {it->dim[0], it->dim[1]},
                            .user = it};
    }
    FT_TRY(st_write_open(&w, path, decl, s->n, NULL, 0));
    for (int64_t i = 0; i < s->n; i++) {
        log_progress("writing %s: tensor %lld of %lld", s->name, (long long)(i + 1),
                     (long long)s->n);
        FT_TRY_OUT(save_bytes(p, decl[i].user, put_st, w));
    }
    rc = st_write_close(w);
    w = NULL;
out:
    st_write_abort(w);
    return rc;
}

static ft_status write_shard(save_plan *p, const shard *s, const char *path)
{
    ft_status rc;
    int tries = 0;
    const size_t mark = arena_mark(p->mem);
    do {
        arena_reset(p->mem, mark);
        rc = write_shard_once(p, s, path);
    } while (file_out_again(rc, &tries));
    return rc;
}

static int by_name(const void *a, const void *b)
{
    const save_item *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static ft_status write_index(save_plan *p, const shard *s, int64_t n, size_t total,
                             const char *path)
{
    int64_t parameters = 0;
    str_buf text = {0};
    const save_item **sorted = arena_get(p->mem, (size_t)p->n * sizeof *sorted);
    if (!sorted) return FT_EMEM;
    for (int64_t i = 0; i < p->n; i++) {
        const save_item *it = sorted[i] = &p->item[i];
        parameters += it->dim[0] * (it->nd == 2 ? it->dim[1] : 1);
    }
    qsort(sorted, (size_t)p->n, sizeof *sorted, by_name);
    str_printf(
        &text,
        "{\n  \"metadata\": {\n    \"total_parameters\": %lld,\n    \"total_size\": %zu\n  },\n"
        "  \"weight_map\": {\n",
        (long long)parameters, total);
    for (int64_t i = 0; i < p->n; i++) {
        int64_t index = sorted[i] - p->item, k = n - 1;
        while (s[k].first > index) k--;
        str_adds(&text, "    ");
        str_json(&text, sorted[i]->name, strlen(sorted[i]->name));
        str_printf(&text, ": \"%s\"%s\n", s[k].name, i + 1 < p->n ? "," : "");
    }
    str_adds(&text, "  }\n}\n");
    ft_status rc = str_ok(&text);
    if (rc == FT_OK) rc = file_write(path, text.data, text.len);
    str_free(&text);
    return rc;
}

/* Weights of an earlier save under other names would be read together with, or instead of, these. */
static ft_status remove_stale(save_plan *p, const char *dir, const shard *s, int64_t n)
{
    const char **names;
    int64_t count;
    FT_TRY(dir_list(dir, p->mem, &names, &count));
    for (int64_t i = 0; i < count; i++) {
        bool weights = io_known(names[i]) && str_starts(names[i], "model") &&
                       str_ends(names[i], ".safetensors");
        bool index = strcmp(names[i], "model.safetensors.index.json") == 0;
        bool keep = index && n > 1;
        for (int64_t k = 0; k < n; k++) keep = keep || strcmp(names[i], s[k].name) == 0;
        if ((!weights && !index) || keep) continue;
        const char *path = path_join(p->mem, dir, names[i]);
        FT_CHECK(path && remove(path) == 0, FT_EIO, "%s/%s: cannot be removed", ft_shows(dir),
                 ft_shows(names[i]));
    }
    return FT_OK;
}

static ft_status write_weights(save_plan *p, const char *dir)
{
    shard *s;
    int64_t n;
    size_t total;
    FT_TRY(split(p, &s, &n, &total));
    for (int64_t i = 0; i < n; i++) {
        const char *path = path_join(p->mem, dir, s[i].name);
        if (!path) return FT_EMEM;
        FT_TRY(write_shard(p, &s[i], path));
    }
    if (n > 1) {
        const char *path = path_join(p->mem, dir, "model.safetensors.index.json");
        if (!path) return FT_EMEM;
        FT_TRY(write_index(p, s, n, total, path));
    }
    return remove_stale(p, dir, s, n);
}

/* --- config.json ---------------------------------------------------------------------------------------------- */

static const char *torch_name(const dt_type *type)
{
    if (type == &dt_f16) return "float16";
    return type == &dt_bf16 ? "bfloat16" : "float32";
}

static bool is_text(const cJSON *v, const char *text)
{
    const char *was = cJSON_IsString(v) ? v->valuestring : "";
    if (str_starts(was, "torch.")) was += strlen("torch.");
    return strcmp(was, text) == 0;
}

ft_status model_config_text(const model *m, const dt_type *type, bool untie, str_buf *out)
{
    static const char *const keys[] = {"dtype", "torch_dtype"};
    js_doc d = {0};
    char quoted[32];
    bool named = false;
    FT_TRY(
        js_parse(&d, m->config, strlen(m->config), "config.json", 1, JS_ALLOW_NONFINITE, FT_EDATA));
    str_adds(out, m->config);
    snprintf(quoted, sizeof quoted, "\"%s\"", torch_name(type));
    for (size_t i = 0; i < FT_COUNT_OF(keys); i++) {
        const cJSON *v = js_get(d.root, keys[i]);
        named = named || v;
        if (v && !is_text(v, torch_name(type))) js_set_member(out, keys[i], quoted);
    }
    if (!named)
        js_set_member(out, "torch_dtype", quoted); /* the older name: known to all versions */
    /* Families whose class ties by default need the key; for the others it does no harm. */
    const cJSON *tie = js_get(d.root, "tie_word_embeddings");
    if ((untie || !(m->d.tied || m->scores)) && !cJSON_IsFalse(tie))
        js_set_member(out, "tie_word_embeddings", "false");
    /* What is written is no longer quantised. */
    if (js_get(d.root, "quantization_config")) js_drop_member(out, "quantization_config");
    snprintf(quoted, sizeof quoted, "%lld", (long long)m->d.vocab_size);
    if (m->file_vocabulary > 0) js_set_member(out, "vocab_size", quoted);
    if (m->scores) model_put_labels(m, d.root, out);
    js_close(&d);
    return str_ok(out);
}

/* Biases that the base does not have: the class makes places for them by keys. */
static void put_bias_keys(const save_plan *p, str_buf *config)
{
    for (int64_t i = 0; i < p->n; i++) {
        if (!p->item[i].added) continue;
        js_set_member(config, model_bias_key(p->m, p->m->info[p->item[i].param].site), "true");
    }
}

/* --- the other files ------------------------------------------------------------------------------------------ */

enum { GENERATION = SAVE_SIDE_FILES - 1 }; /* what is no part of the tokenizer comes last */
const char *const save_side_files[SAVE_SIDE_FILES] = {"tokenizer.json",
                                                      "tokenizer_config.json",
                                                      "special_tokens_map.json",
                                                      "added_tokens.json",
                                                      "tokenizer.model",
                                                      "vocab.json",
                                                      "merges.txt",
                                                      "chat_template.jinja",
                                                      "chat_template.json",
                                                      "generation_config.json"};

static ft_status copy_templates(const char *from, const char *to, arena *a)
{
    const char *source = path_join(a, from, SAVE_TEMPLATES),
               *target = path_join(a, to, SAVE_TEMPLATES), **names;
    int64_t n;
    if (!source || !target) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(source, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_make(target));
    FT_TRY(dir_list(source, a, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        if (!str_ends(names[i], ".jinja")) continue;
        const char *one = path_join(a, source, names[i]), *copy = path_join(a, target, names[i]);
        if (!one || !copy) return FT_EMEM;
        FT_TRY(file_copy(one, copy));
    }
    return FT_OK;
}

bool model_is_tokenizer_file(const char *name)
{
    for (int i = 0; i < GENERATION; i++)
        if (strcmp(name, save_side_files[i]) == 0) return true;
    return false;
}

static ft_status copy_side_files(const char *from, const char *to, size_t first, size_t end,
                                 arena *a)
{
    if (first == 0) FT_TRY(copy_templates(from, to, a));
    for (size_t i = first; i < end; i++) {
        const char *source = path_join(a, from, save_side_files[i]);
        const char *target = path_join(a, to, save_side_files[i]);
        if (!source || !target) return FT_EMEM;
        path_kind kind;
        FT_TRY(path_look(source, &kind));
        if (kind == PATH_FILE) FT_TRY(file_copy(source, target));
    }
    return FT_OK;
}

static void generation_config(const tok_tokenizer *t, str_buf *out)
{
    int n;
    const int32_t *stops = tok_stops(t, &n);
    str_adds(out, "{\n  \"_from_model_config\": true");
    if (tok_bos(t) >= 0) str_printf(out, ",\n  \"bos_token_id\": %d", (int)tok_bos(t));
    if (n == 1) str_printf(out, ",\n  \"eos_token_id\": %d", (int)stops[0]);
    if (n > 1) {
        str_adds(out, ",\n  \"eos_token_id\": [");
        for (int i = 0; i < n; i++) str_printf(out, "%s\n    %d", i ? "," : "", (int)stops[i]);
        str_adds(out, "\n  ]");
    }
    if (tok_pad(t) >= 0) str_printf(out, ",\n  \"pad_token_id\": %d", (int)tok_pad(t));
    str_adds(out, "\n}\n");
}

static ft_status write_text(arena *a, const char *dir, const char *name, const str_buf *text)
{
    const char *path = path_join(a, dir, name);
    if (!path) return FT_EMEM;
    FT_TRY(str_ok(text));
    return text->len > 0 ? file_write(path, text->data, text->len) : FT_OK;
}

/* The text of chat_template.jinja. Several stand in tokenizer_config.json: a file would hide them. */
static void add_template(str_buf *out, const tok_tokenizer *t)
{
    int n;
    const tok_named *v = tok_chat_templates(t, &n);
    if (n == 1 && strcmp(v->name, "default") == 0) str_adds(out, v->text);
}

/* only_tokenizer: without generation_config.json, which is no part of it */
static ft_status make_side_files(const tok_tokenizer *t, const char *dir, bool only_tokenizer,
                                 arena *a)
{
    ft_status rc;
    str_buf tokenizer = {0}, config = {0}, generation = {0}, template = {0};
    FT_TRY_OUT(tok_write_json(t, &tokenizer, &config));
    if (!only_tokenizer) generation_config(t, &generation);
    add_template(&template, t);
    FT_TRY_OUT(write_text(a, dir, "tokenizer.json", &tokenizer));
    FT_TRY_OUT(write_text(a, dir, "tokenizer_config.json", &config));
    FT_TRY_OUT(write_text(a, dir, "generation_config.json", &generation));
    rc = write_text(a, dir, "chat_template.jinja", &template);
out:
    str_free(&tokenizer);
    str_free(&config);
    str_free(&generation);
    str_free(&template);
    return rc;
}

static ft_status side_files_of(const char *model_path, const char *dir, bool only_tokenizer)
{
    arena *a = NULL;
    tok_tokenizer *t = NULL;
    gguf_file g = {0};
    FT_TRY(arena_open(&a, "side files", (size_t)1 << 30));
    ft_status rc;
    if (!str_ends(model_path, ".gguf")) {
        rc = copy_side_files(model_path, dir, 0, only_tokenizer ? GENERATION : SAVE_SIDE_FILES, a);
        goto out;
    }
    FT_TRY_OUT(gguf_open(&g, model_path, a));
    const char *kind;
    FT_TRY_OUT(gguf_text(&g, "tokenizer.ggml.model", a, &kind));
    if (!kind || strcmp(kind, "none") == 0) {
        log_warn("%s: holds no tokenizer; the folder has none either", ft_shows(model_path));
        goto out;
    }
    FT_TRY_OUT(tok_open(&t, model_path));
    rc = make_side_files(t, dir, only_tokenizer, a);
out:
    if (t) tok_close(t);
    gguf_close(&g);
    arena_close(a);
    return rc;
}

ft_status model_save_side_files(const char *model_path, const char *dir)
{
    return side_files_of(model_path, dir, false);
}

ft_status model_save_tokenizer(const char *model_path, const char *dir)
{
    return side_files_of(model_path, dir, true);
}

size_t model_tokenizer_bytes(const char *model_path)
{
    const bool before = ft_error_starved();
    size_t sum = 0;
    for (size_t i = 0; i < GENERATION; i++) {
        str_buf path = {0};
        int64_t n = 0;
        str_printf(&path, "%s/%s", model_path, save_side_files[i]);
        if (str_ok(&path) != FT_OK || path_size(path.data, &n) != FT_OK)
            ft_error_clear(); /* what cannot be looked at is told when it is copied */
        if (n > 0) sum += (size_t)n;
        str_free(&path);
    }
    ft_error_forget_since(before);
    return sum;
}

static ft_status drop_config_template(const char *config)
{
    enum { LONGEST = 16 << 20 };
    char *text = NULL;
    size_t n;
    str_buf s = {0};
    path_kind kind;
    FT_TRY(path_look(config, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&text, &n, config, LONGEST));
    str_add(&s, text, n);
    js_drop_member(&s, "chat_template");
    ft_free(text);
    ft_status rc = str_ok(&s);
    if (rc == FT_OK && s.len != n) rc = file_write(config, s.data, s.len);
    str_free(&s);
    return rc;
}

ft_status model_save_template(const char *dir, const char *text)
{
    arena *a;
    FT_TRY(arena_open(&a, "a template", (size_t)1 << 20));
    const char *name[] = {SAVE_TEMPLATES, "chat_template.json", "tokenizer_config.json",
                          "chat_template.jinja"},
               *left;
    ft_status rc = FT_OK;
    path_kind kind = PATH_NONE;
    for (size_t i = 0; i < FT_COUNT_OF(name); i++)
        if (!(name[i] = path_join(a, dir, name[i]))) rc = FT_EMEM;
    if (rc == FT_OK) rc = io_clear_part(name[0], a, &left);
    if (rc == FT_OK) rc = path_look(name[1], &kind);
    if (rc == FT_OK && kind == PATH_FILE && remove(name[1]) != 0)
        rc = ft_fail_errno(FT_EIO, "%s: cannot be removed", name[1]);
    if (rc == FT_OK) rc = drop_config_template(name[2]);
    if (rc == FT_OK) rc = file_write(name[3], text, strlen(text));
    arena_close(a);
    return rc;
}

/* A tokenizer from elsewhere, with what its folder leaves open: the template and how generation ends are the model's. */
static ft_status replace_tokenizer(const char *tokenizer, const char *model_path, const char *dir,
                                   arena *a)
{
    tok_tokenizer *own, *over = NULL;
    str_buf text = {0};
    bool gguf = str_ends(model_path, ".gguf");
    int n;
    FT_TRY(tok_open(&own, tokenizer));
    ft_status rc = tok_open_over(&over, tokenizer, model_path);
    if (rc == FT_OK) rc = copy_side_files(tokenizer, dir, 0, GENERATION, a);
    if (rc == FT_OK && !gguf) rc = copy_side_files(model_path, dir, GENERATION, GENERATION + 1, a);
    if (rc == FT_OK && gguf) {
        generation_config(over, &text);
        rc = write_text(a, dir, save_side_files[GENERATION], &text);
    }
    if (rc == FT_OK && !tok_chat_templates(own, &n)) {
        str_clear(&text);
        add_template(&text, over);
        rc = write_text(a, dir, "chat_template.jinja", &text);
    }
    str_free(&text);
    tok_close(over);
    tok_close(own);
    return rc;
}

static ft_status put_quant_config(const save_plan *p, str_buf *config)
{
    str_buf text = {0};
    const model_quant_writer *w = p->opt->quant->writer;
    w->config(w->of_base ? p->m->quant_cfg : p->opt->quant_cfg, save_quant_dtype(p->m), &text);
    ft_status rc = str_ok(&text);
    if (rc == FT_OK) js_set_member(config, "quantization_config", text.data);
    str_free(&text);
    return rc;
}

ft_status save_folder(save_plan *p, const char *path)
{
    str_buf config = {0};
    const dt_type *type = p->opt->type    ? p->opt->type
                          : p->opt->quant ? save_quant_dtype(p->m)
                                          : p->m->dtype;
    FT_TRY(choose_types(p));
    FT_TRY(dir_make(path));
    FT_TRY(write_weights(p, path));
    /* A model made from a config alone has no files beside it; whoever made it knows its tokenizer. */
    if (p->opt->tokenizer)
        FT_TRY(replace_tokenizer(p->opt->tokenizer, p->m->path, path, p->mem));
    else if (!p->m->own)
        FT_TRY(model_save_side_files(p->m->path, path));
    if (p->opt->template) FT_TRY(model_save_template(path, p->opt->template));
    ft_status rc = model_config_text(p->m, type, p->untie, &config);
    if (rc == FT_OK) put_bias_keys(p, &config);
    if (rc == FT_OK && p->opt->quant) rc = put_quant_config(p, &config);
    if (rc == FT_OK) rc = write_text(p->mem, path, "config.json", &config);
    str_free(&config);
    return rc;
}
