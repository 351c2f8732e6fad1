/* held.c – what an adapter holds of its base: values that replace the base's own (embeddings saved beside the factors,
 * because they were trained, resized, or only in case), and single rows of the embedding (trainable_token_indices).
 *
 * Tables of another length than the base's are of another vocabulary, which the base must be given first.
 * They become trained copies like those of modules_to_save; a tied head follows the embedding, unless the adapter has
 * different values for it. Such an adapter is used and merged; what would be frozen cannot be trained on. */
#include "ft/method.h"
#include "method_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- values of the base ---------------------------------------------------------------------------------------- */
static const char *weight_key(pe_ctx *c, const nn_param *p)
{
    const char *last = strrchr(p->name, '.');
    char *module = arena_strn(c->mem, p->name, (size_t)(last - p->name));
    const nn_site *s = module ? model_site(c->m, module) : NULL;
    const char *plain = pe_file_key(c, p->name, "");
    const char *inner =
        module ? arena_printf(c->mem, "base_model.model.%s.base_layer%s", module, last) : NULL;
    if (!plain || !inner) return NULL;
    if (pe_file_find(c->file, inner) || (s && nn_slot_of(&c->over, s))) return inner;
    return plain;
}

static bool same_values(const tn_tensor *p, bool turned, const io_tensor *t, arena *mem)
{
    bool same = t->nd == p->nd && t->type->unpack && !turned;
    for (int k = 0; same && k < t->nd; k++) same = t->dim[k] == p->dim[k];
    if (!same || !p->data) return false;
    int64_t cols = tn_cols(p), rows = tn_rows(p);
    size_t mark = arena_mark(mem), bytes;
    float *a = arena_get(mem, (size_t)cols * sizeof *a),
          *b = arena_get(mem, (size_t)cols * sizeof *b);
    if (!a || !b || !dt_bytes(t->type, cols, &bytes)) return false;
    for (int64_t r = 0; r < rows && same; r++) {
        tn_unpack_rows(a, p, r, 1);
        t->type->unpack(b, (const char *)t->data + (size_t)r * bytes, cols);
        same = memcmp(a, b, (size_t)cols * sizeof *a) == 0;
    }
    arena_reset(mem, mark);
    return same;
}

typedef struct held {
    nn_param *p;
    const char *key;
    const io_tensor *t; /* NULL: the adapter holds no values of p, or p is trained anyway */
} held;

static ft_status look(pe_ctx *c, nn_param *p, held *h)
{
    *h = (held){.p = p};
    if (*pe_own(c, p)) return FT_OK;
    h->key = weight_key(c, p);
    if (!h->key) return FT_EMEM;
    h->t = pe_file_find(c->file, h->key);
    return FT_OK;
}

static bool differs(pe_ctx *c, const held *h)
{
    return h->t && !same_values(&h->p->t, h->p->hf_turned, h->t, c->mem);
}

static ft_status take_over(pe_ctx *c, const held *h)
{
    FT_CHECK(!c->load_dir, FT_EDATA,
             "%s: \"%s\" replaces values of the base, which training on would have to keep frozen; "
             "ft uses and merges such an adapter, but does not go on from it: merge it, and train "
             "on the merged model",
             ft_shows(c->load_dir), ft_shows(h->t->name));
    FT_TRY(nn_train_copy(&c->store, &c->over, h->p));
    return pe_add_entry(c, *pe_own(c, h->p), h->key, h->p->hf_turned);
}

static ft_status take_or_pass(pe_ctx *c, const held *h)
{
    if (!h->t) return FT_OK;
    if (differs(c, h)) return take_over(c, h);
    pe_file_pass(c->file, h->t);
    return FT_OK;
}

/* The two ends of a tied model are one matrix, whichever of them the adapter holds; the head's values come last. `apart`:
 * the adapter has different rows for them. */
static ft_status attach_tied(pe_ctx *c, bool apart)
{
    held e, h;
    FT_TRY(look(c, c->m->embed->w, &e));
    FT_TRY(look(c, c->m->head->w, &h));
    bool together =
        !apart && !*pe_own(c, e.p) && !*pe_own(c, h.p) && (differs(c, &e) || differs(c, &h));
    if (!together) {
        FT_TRY(take_or_pass(c, &e));
        return take_or_pass(c, &h);
    }
    if (e.t) FT_TRY(take_over(c, &e));
    if (h.t) {
        held head = {.p = e.p, .key = h.key, .t = h.t};
        FT_TRY(take_over(c, &head));
    }
    *pe_own(c, h.p) = *pe_own(c, e.p);
    return FT_OK;
}

static ft_status attach_values(pe_ctx *c, bool apart)
{
    const model *m = c->m;
    for (int64_t i = 0; i < m->n_param; i++) {
        nn_param *p = &m->param[i];
        held h;
        if (m->d.tied && (p == m->embed->w || p == m->head->w)) continue;
        FT_TRY(look(c, p, &h));
        FT_TRY(take_or_pass(c, &h));
    }
    return m->d.tied ? attach_tied(c, apart) : FT_OK;
}

/* --- the vocabulary ------------------------------------------------------------------------------------------------- */
/* Rows of a table that the adapter holds whole; 0: none. */
static int64_t rows_held(const pe_file *f, const nn_site *s, char *key, size_t size)
{
    static const char *const ends[] = {".weight", ".base_layer.weight"};
    for (size_t i = 0; i < FT_COUNT_OF(ends); i++) {
        snprintf(key, size, "base_model.model.%s%s", s->path, ends[i]);
        const io_tensor *t = pe_file_find(f, key);
        if (t && t->nd == 2 && t->dim[1] == s->w->t.dim[1]) return t->dim[0];
    }
    return 0;
}

static ft_status look_at_tables(const pe_file *f, const char *dir, const model *m, int64_t *rows)
{
    char embed_key[300], head_key[300];
    int64_t base = m->d.vocab_size;
    int64_t embed = rows_held(f, m->embed, embed_key, sizeof embed_key);
    int64_t head = m->scores ? 0 : rows_held(f, m->head, head_key, sizeof head_key);
    *rows = embed ? embed : head ? head : base;
    if (*rows == base && (!head || head == base)) return FT_OK;
    FT_CHECK(!embed || !head || embed == head, FT_EDATA,
             "%s: the embedding has %lld tokens (\"%s\"), the head %lld (\"%s\")", ft_shows(dir),
             (long long)embed, embed_key, (long long)head, head_key);
    FT_CHECK(
        m->d.tied || m->scores || (embed && head), FT_EDATA,
        "%s: the adapter is of a vocabulary of %lld tokens, its base has %lld, and the adapter "
        "does not hold the %s, which a model of that vocabulary needs as well; save it with "
        "save_embedding_layers=True",
        ft_shows(dir), (long long)*rows, (long long)base,
        embed ? "head (\"lm_head.weight\")" : "embedding");
    return FT_OK;
}

ft_status pe_adapter_vocabulary(const char *dir, const model *m, int64_t *rows)
{
    pe_file *f;
    ft_status rc = pe_file_open(&f, dir, &pe_format_peft);
    *rows = m->d.vocab_size;
    if (rc == FT_ENOINPUT) { /* what this folder is instead, pe_open_adapter tells by its config */
        ft_error_clear();
        return FT_OK;
    }
    FT_TRY(rc);
    rc = look_at_tables(f, dir, m, rows);
    pe_file_close(f);
    return rc;
}

ft_status pe_check_vocabulary(const pe_ctx *c)
{
    int64_t rows;
    FT_TRY(look_at_tables(c->file, c->load_dir, c->m, &rows));
    FT_CHECK(rows == c->m->d.vocab_size, FT_EDATA,
             "%s: the adapter is of a vocabulary of %lld tokens, the base has %lld; ft uses and "
             "merges such an adapter, but does not go on from it: merge it, and train on the "
             "merged model",
             ft_shows(c->load_dir), (long long)rows, (long long)c->m->d.vocab_size);
    return FT_OK;
}

/* --- rows of the embedding ----------------------------------------------------------------------------------------- */
static ft_status refuse(pe_ctx *c, const cJSON *at, const char *why)
{
    return js_fail(&c->adapter, at, FT_EDATA, "trainable_token_indices", "%s", why);
}

static ft_status check_indices(pe_ctx *c, const cJSON *list)
{
    const cJSON *e;
    if (!cJSON_IsArray(list) || !list->child) return refuse(c, list, "must be a list of token ids");
    cJSON_ArrayForEach(e, list)
    {
        const double id = cJSON_IsNumber(e) ? e->valuedouble : -1;
        if (!(id >= 0 && id < (double)c->m->d.vocab_size) || id != floor(id))
            return refuse(c, e, "is no token of the model's vocabulary");
    }
    return FT_OK;
}

/* A list is of the embedding; an object names modules by the end of their paths. */
static ft_status find_rows(pe_ctx *c, const cJSON *v, const cJSON **embed, const cJSON **head)
{
    const cJSON *e;
    *embed = *head = NULL;
    if (pe_is_null(v)) return FT_OK;
    if (c->load_dir)
        return refuse(c, v,
                      "ft uses and merges an adapter of single tokens, but does not go on "
                      "from it: merge it, and train on the merged model");
    if (!cJSON_IsObject(v)) *embed = v;
    for (e = cJSON_IsObject(v) ? v->child : NULL; e; e = e->next) {
        bool of_embed = str_ends(c->m->embed->path, e->string);
        bool of_head = str_ends(c->m->head->path, e->string);
        if (!of_embed && !of_head)
            return refuse(c, e, "is neither the embedding nor the head of this model");
        if (of_embed) *embed = e;
        if (of_head) *head = e;
    }
    if (*embed) FT_TRY(check_indices(c, *embed));
    if (*head) FT_TRY(check_indices(c, *head));
    return FT_OK;
}

static ft_status attach_rows(pe_ctx *c, const nn_site *s, const cJSON *indices, pe_rows *rows)
{
    const char *key = pe_file_key(c, s->path, ".token_adapter.trainable_tokens_delta");
    if (nn_slot_of(&c->over, s))
        return refuse(c, indices, "names tokens of a module that is adapted as a whole");
    FT_TRY(nn_train_copy(&c->store, &c->over, s->w));
    FT_TRY(
        nn_new_param(&c->store, key, cJSON_GetArraySize(indices), s->w->t.dim[1], &rows->values));
    rows->into = *pe_own(c, s->w);
    rows->indices = indices;
    return pe_add_entry(c, rows->values, key, false);
}

/* With a tied head, what the adapter says of the embedding's rows holds for the head, unless it names other ones there. */
static ft_status attach_tokens(pe_ctx *c, const cJSON *embed, const cJSON *head, bool apart)
{
    model *m = c->m;
    bool tied = m->d.tied && embed && !apart;
    if (embed) FT_TRY(attach_rows(c, m->embed, embed, &c->rows[0]));
    if (head && !tied) FT_TRY(attach_rows(c, m->head, head, &c->rows[1]));
    if (!tied) return FT_OK;
    nn_param **own = pe_own(c, m->head->w);
    if (!*own) *own = *pe_own(c, m->embed->w);
    const char *key = pe_file_key(c, m->head->path, ".token_adapter.trainable_tokens_delta");
    const io_tensor *again = key ? pe_file_find(c->file, key) : NULL;
    if (again) pe_file_pass(c->file, again);
    return key ? FT_OK : FT_EMEM;
}

/* --- both --------------------------------------------------------------------------------------------------------- */
ft_status pe_attach_held(pe_ctx *c, const pe_target *t)
{
    const cJSON *embed, *head;
    if (!c->file) return FT_OK;
    FT_TRY(find_rows(c, t->trainable_token_indices, &embed, &head));
    bool apart = embed && head && !cJSON_Compare(embed, head, true);
    FT_TRY(attach_values(c, apart));
    return attach_tokens(c, embed, head, apart);
}

/* Both ends saved, with the same values (ensure_weight_tying): they are one matrix again, and merge into one. */
static void join_ends(pe_ctx *c)
{
    const model *m = c->m;
    nn_param *e = *pe_own(c, m->embed->w), **h = pe_own(c, m->head->w);
    bool adapted = nn_slot_of(&c->over, m->embed) || nn_slot_of(&c->over, m->head);
    if (!m->d.tied || c->load_dir || !e || !*h || adapted) return;
    size_t bytes = (size_t)tn_count(&e->t) * sizeof(float);
    if (memcmp(e->t.data, (*h)->t.data, bytes) == 0) *h = e;
}

void pe_finish_held(pe_ctx *c)
{
    for (size_t i = 0; i < FT_COUNT_OF(c->rows); i++) {
        const pe_rows *r = &c->rows[i];
        const cJSON *e = r->values ? r->indices->child : NULL;
        for (int64_t k = 0; e; e = e->next, k++) {
            int64_t cols = tn_cols(&r->into->t);
            memcpy(tn_f32(&r->into->t) + (int64_t)e->valuedouble * cols,
                   tn_f32(&r->values->t) + k * cols, (size_t)cols * sizeof(float));
        }
    }
    join_ends(c);
}
