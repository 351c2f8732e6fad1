/* save_gguf.c – a model as one GGUF file that llama.cpp loads: metadata, tokenizer, tensors by llama.cpp's names.
 *
 * From a GGUF base every key and every tensor that ft does not know is kept as it is. From a folder the keys are
 * made from config.json, as llama.cpp's converter makes them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ft/token.h"
#include "save_private.h"

/* --- tensors ------------------------------------------------------------------------------------------------- */

/* Row 2i + j of a head in the file is row j·d/2 + i here. */
const int32_t *save_gguf_rows(arena *mem, int heads, int d)
{
    int32_t *row = arena_get(mem, (size_t)heads * (size_t)d * sizeof *row);
    for (int h = 0; row && h < heads; h++)
        for (int i = 0; i < d / 2; i++)
            for (int j = 0; j < 2; j++) row[h * d + 2 * i + j] = h * d + j * (d / 2) + i;
    return row;
}

/* The experts' matrices of one name become one tensor, at the first one's place. */
static ft_status stack(save_plan *p, save_item *it)
{
    const model *m = p->m;
    const model_tensor *info = &m->info[it->param];
    int64_t *all = arena_get(p->mem, (size_t)info->experts * sizeof *all);
    if (!all) return FT_EMEM;
    for (int64_t i = 0; i < m->n_param; i++)
        if (strcmp(m->info[i].gguf_name, info->gguf_name) == 0) all[m->info[i].expert] = i;
    it->stack = all;
    it->n_stack = info->experts;
    memmove(it->dim + 1, it->dim, (size_t)it->nd * sizeof *it->dim);
    it->dim[0] = info->experts;
    it->nd++;
    return FT_OK;
}

static void drop_stacked(save_plan *p)
{
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const model_tensor *info = &p->m->info[p->item[i].param];
        if (info->experts == 0 || info->expert == 0) p->item[n++] = p->item[i];
    }
    p->n = n;
}

/* "blk.0.attn_q.bias" beside "blk.0.attn_q.weight". */
static const char *bias_name(save_plan *p, const char *weight)
{
    size_t n = strlen(weight) - strlen(".weight");
    return arena_printf(p->mem, "%.*s.bias", (int)n, weight);
}

static ft_status name_item(save_plan *p, save_item *it)
{
    const model *m = p->m;
    const model_tensor *info = &m->info[it->param];
    it->name = it->added ? bias_name(p, info->gguf_name) : info->gguf_name;
    if (!it->name) return FT_EMEM;
    FT_CHECK(!(it->added || info->bias) || !m->family->gguf_no_bias, FT_EDATA,
             "%s: a .gguf of a %s model has no place for biases (\"%s\"); write a folder",
             ft_shows(m->path), m->family->model_type, it->name);
    return FT_OK;
}

static ft_status choose(save_plan *p, const dt_type *type)
{
    const model *m = p->m;
    drop_stacked(p);
    for (int64_t i = 0; i < p->n; i++) {
        save_item *it = &p->item[i];
        const model_tensor *info = &m->info[it->param];
        FT_TRY(name_item(p, it));
        it->transpose = info->hf_in_out && !m->param[it->param].hf_turned && it->nd == 2;
        if (it->transpose) {
            it->dim[0] = m->param[it->param].t.dim[1];
            it->dim[1] = m->param[it->param].t.dim[0];
        }
        it->type = save_tensor_type(p, it, type);
        if (info->experts > 0) FT_TRY(stack(p, it));
        if (info->permute) {
            it->order = save_gguf_rows(p->mem, info->permute, info->head_dim);
            if (!it->order) return FT_EMEM;
        }
    }
    return FT_OK;
}

static bool is_listed(const save_plan *p, const char *name)
{
    for (int64_t i = 0; i < p->n; i++)
        if (strcmp(p->item[i].name, name) == 0) return true;
    return false;
}

/* rope_freqs and the like of a GGUF base. A head that was found equal to the embedding is not one of them. */
static ft_status keep_unknown(save_plan *p)
{
    const io_weights *w = &p->m->weights;
    int64_t room = p->cap - p->n;
    for (int64_t i = 0; i < w->n; i++) {
        const io_tensor *t = &w->tensor[i];
        if (is_listed(p, t->name) || strcmp(t->name, "output.weight") == 0) continue;
        FT_CHECK(room-- > 0 && t->nd <= 2, FT_EDATA,
                 "%s: tensor \"%s\" is none of a %s model and cannot be carried over",
                 ft_shows(p->m->path), ft_shows(t->name), model_family_name(p->m));
        save_item *it = &p->item[p->n++];
        *it = (save_item){.param = -1, .name = t->name, .type = t->type, .nd = t->nd, .raw = t};
        for (int k = 0; k < t->nd; k++) it->dim[k] = t->dim[k];
    }
    return FT_OK;
}

static int by_rank(const void *a, const void *b)
{
    const save_item *x = a, *y = b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* The base's order: a file written in its own types is the same file. A tensor that is new comes last. */
static void order_as_base(save_plan *p)
{
    const io_weights *w = &p->m->weights;
    for (int64_t i = 0; i < p->n; i++) {
        const io_tensor *t = io_find(w, p->item[i].name);
        p->item[i].rank = t ? t - w->tensor : w->n + i;
    }
    qsort(p->item, (size_t)p->n, sizeof *p->item, by_rank);
}

/* --- metadata ------------------------------------------------------------------------------------------------- */

enum { KEY_BYTES = 96 };

static const char *key_of(const save_meta *k, const char *name, char key[KEY_BYTES])
{
    snprintf(key, KEY_BYTES, "%s.%s", k->arch, name); /* both are ours, and short */
    return key;
}

void save_put_u32(const save_meta *k, const char *name, int64_t v)
{
    char key[KEY_BYTES];
    gguf_put_int(k->w, key_of(k, name, key), GGUF_U32, v);
}

void save_put_f32(const save_meta *k, const char *name, double v)
{
    char key[KEY_BYTES];
    gguf_put_f32(k->w, key_of(k, name, key), (float)v);
}

void save_put_text(const save_meta *k, const char *name, const char *v)
{
    char key[KEY_BYTES];
    gguf_put_str(k->w, key_of(k, name, key), v, strlen(v));
}

static void put_key(const save_meta *k, const model_key *key, const void *cfg)
{
    model_key f = family_key(k->p->m->family, key);
    const void *at = (const char *)cfg + f.at;
    if (!f.hf || !f.gguf) return;
    if (f.type == KEY_INT) save_put_u32(k, f.gguf, *(const int64_t *)at);
    if (f.type == KEY_NUM) save_put_f32(k, f.gguf, *(const double *)at);
}

/* The key of a part in use, or of the frame. */
static void put_named(const save_meta *k, const char *name)
{
    const model *m = k->p->m;
    const model_key *key = family_find_key(model_frame_keys, name);
    if (key) put_key(k, key, &m->d);
    for (int i = 0; !key && i < m->n_use; i++) {
        key = family_find_key(m->use[i].row->keys, name);
        if (key) put_key(k, key, m->use[i].cfg);
    }
}

/* The order of llama.cpp's converter; what only a part knows follows. */
static const char *const first[] = {"vocab", "positions", "hidden",  "layers",
                                    "inner", "heads",     "kv_heads"};

static bool is_first(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(first); i++)
        if (strcmp(first[i], name) == 0) return true;
    return false;
}

static ft_status put_arch(save_meta *k, const js_doc *d)
{
    const model *m = k->p->m;
    for (size_t i = 0; i < FT_COUNT_OF(first); i++) put_named(k, first[i]);
    save_put_f32(k, m->family->norm->gguf_eps, m->d.norm_eps);
    for (int i = 0; i < m->n_use; i++) {
        const model_use *u = &m->use[i];
        for (const model_key *key = u->row->keys; key->name; key++)
            if (!is_first(key->name)) put_key(k, key, u->cfg);
        if (u->row->to_gguf) FT_TRY(u->row->to_gguf(k, u->cfg, d));
    }
    return FT_OK;
}

static void put_general(const save_meta *k, const dt_type *type)
{
    const char *name = path_base(k->p->m->path);
    gguf_put_str(k->w, "general.architecture", k->arch, strlen(k->arch));
    gguf_put_str(k->w, "general.type", "model", strlen("model"));
    gguf_put_str(k->w, "general.name", name, strlen(name));
    gguf_put_int(k->w, "general.file_type", GGUF_U32, save_file_type(type, k->p->opt->mix));
    if (type->block > 1) gguf_put_int(k->w, "general.quantization_version", GGUF_U32, 2);
}

static ft_status put_tokenizer(const save_meta *k)
{
    tok_tokenizer *t;
    const model *m = k->p->m;
    const char *other = k->p->opt->tokenizer, *kind = NULL;
    if (m->from_gguf) FT_TRY(gguf_text(m->weights.gguf, "tokenizer.ggml.model", k->p->mem, &kind));
    bool has = m->from_gguf && kind && strcmp(kind, "none") != 0;
    if (!m->from_gguf && !m->own) FT_TRY(tok_in_folder(m->path, &has));
    if (!other && !has) {
        if (!m->from_gguf)
            log_warn("%s: no files of a tokenizer; the .gguf has none", ft_shows(m->path));
        gguf_put_str(k->w, "tokenizer.ggml.model", "none", strlen("none"));
        return FT_OK;
    }
    FT_TRY(other ? tok_open_over(&t, other, m->path) : tok_open(&t, m->path));
    ft_status rc = k->p->opt->template ? tok_use_template(t, k->p->opt->template, NULL) : FT_OK;
    if (rc == FT_OK) rc = tok_write_gguf(t, k->w, m->d.vocab_size);
    tok_close(t);
    return rc;
}

static ft_status put_made(save_meta *k, const dt_type *type)
{
    js_doc d;
    FT_TRY(js_parse(&d, k->p->m->config, strlen(k->p->m->config), "config.json", 1,
                    JS_ALLOW_NONFINITE, FT_EDATA));
    put_general(k, type);
    ft_status rc = put_arch(k, &d);
    js_close(&d);
    return rc == FT_OK ? put_tokenizer(k) : rc;
}

static void put_type_key(const save_meta *k, const dt_type *type, bool version)
{
    if (!version)
        gguf_put_int(k->w, "general.file_type", GGUF_U32, save_file_type(type, k->p->opt->mix));
    else if (type->block > 1)
        gguf_put_int(k->w, "general.quantization_version", GGUF_U32, 2);
}

static bool starts(const gguf_str *s, const char *front)
{
    size_t n = strlen(front);
    return s->n >= n && memcmp(s->s, front, n) == 0;
}

static bool other_vocabulary(const save_plan *p)
{
    return p->opt->tokenizer || p->opt->template || p->m->file_vocabulary > 0;
}

/* A tokenizer from elsewhere, or one for more rows, takes the place of the file's, and so does the number of tokens. */
static bool is_replaced(const save_meta *k, const gguf_str *key)
{
    char size[KEY_BYTES];
    key_of(k, "vocab_size", size);
    return other_vocabulary(k->p) &&
           (starts(key, "tokenizer.") || (key->n == strlen(size) && starts(key, size)));
}

static ft_status put_vocabulary(const save_meta *k)
{
    save_put_u32(k, "vocab_size", k->p->m->d.vocab_size);
    return put_tokenizer(k);
}

static ft_status put_kept(const save_meta *k, const dt_type *type)
{
    static const char *const ours[] = {"general.file_type", "general.quantization_version"};
    const gguf_file *g = k->p->m->weights.gguf;
    bool done[] = {false, false};
    for (int64_t i = 0; i < g->n_kv; i++) {
        const gguf_kv *kv = &g->kv[i];
        bool copy = !starts(&kv->key, "split.") && !is_replaced(k, &kv->key);
        for (size_t j = 0; j < FT_COUNT_OF(ours); j++) {
            if (kv->key.n != strlen(ours[j]) || memcmp(kv->key.s, ours[j], kv->key.n) != 0)
                continue;
            copy = false;
            done[j] = true;
            put_type_key(k, type, j == 1);
        }
        if (copy) gguf_put_copy(k->w, kv);
    }
    for (size_t j = 0; j < FT_COUNT_OF(ours); j++)
        if (!done[j]) put_type_key(k, type, j == 1);
    return other_vocabulary(k->p) ? put_vocabulary(k) : FT_OK;
}

/* --- the file --------------------------------------------------------------------------------------------------- */

static ft_status put_gguf(void *ctx, const void *data, size_t n)
{
    return gguf_write(ctx, data, n);
}

static ft_status write_file(save_plan *p, gguf_writer *w, const dt_type *type)
{
    save_meta k = {.w = w, .p = p, .arch = p->m->family->gguf_arch};
    if (p->m->from_gguf)
        FT_TRY(put_kept(&k, type));
    else
        FT_TRY(put_made(&k, type));
    if (k.rope_divisors) gguf_put_tensor(w, "rope_freqs.weight", &dt_f32, 1, &k.n_divisors);
    for (int64_t i = 0; i < p->n; i++)
        gguf_put_tensor(w, p->item[i].name, p->item[i].type, p->item[i].nd, p->item[i].dim);
    FT_TRY(gguf_write_header(w));
    if (k.rope_divisors)
        FT_TRY(gguf_write(w, k.rope_divisors, (size_t)k.n_divisors * sizeof(float)));
    for (int64_t i = 0; i < p->n; i++) {
        log_progress("writing tensor %lld of %lld", (long long)(i + 1), (long long)p->n);
        FT_TRY(save_bytes(p, &p->item[i], put_gguf, w));
    }
    return FT_OK;
}

static ft_status write_once(save_plan *p, const char *path, const dt_type *type)
{
    gguf_writer *w;
    FT_TRY(gguf_write_open(&w, path));
    ft_status rc = write_file(p, w, type);
    if (rc == FT_OK) return gguf_write_close(w);
    gguf_write_abort(w);
    return rc;
}

ft_status save_gguf(save_plan *p, const char *path)
{
    ft_status rc;
    int tries = 0;
    const dt_type *type = p->opt->type;
    if (!type) type = p->m->has_blocks ? &dt_f16 : p->m->dtype;
    FT_CHECK(type->gguf_id >= 0 &&
                 (type->block > 1 || type == &dt_f32 || type == &dt_f16 || type == &dt_bf16),
             FT_EUSAGE, "type %s has no place in a .gguf", type->name);
    FT_TRY(choose(p, type));
    if (p->m->from_gguf) {
        FT_TRY(keep_unknown(p));
        order_as_base(p);
    }
    do rc = write_once(p, path, type);
    while (file_out_again(rc, &tries));
    return rc;
}
