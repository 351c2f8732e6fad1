/* open.c – a model from a folder, a GGUF, or a config with random weights: parameters bound to the mapping, never
 * copied, except vectors (norms, biases), which become f32. */
#include "model_private.h"

#include <stdio.h>
#include <string.h>

static bool is_present(const model *m, model_kind kind)
{
    switch (kind) {
    case T_Q_NORM:
    case T_K_NORM:
        return (m->family->traits & FAM_QK_NORM) != 0;
    default:
        return true;
    }
}

static bool has_bias(const model *m, model_kind kind)
{
    switch (kind) {
    case T_Q:
    case T_K:
    case T_V:
    case T_QKV:
        return m->d.qkv_bias;
    case T_O:
        return m->d.o_bias;
    case T_GATE:
    case T_UP:
    case T_DOWN:
        return m->d.mlp_bias;
    case T_NORM1:
    case T_NORM2:
    case T_FINAL_NORM:
        return (m->family->traits & FAM_LAYER_NORM) != 0;
    default:
        return false;
    }
}

/* Inner sizes of a linear site, or (rows, cols) of a table, or (0, n) of a vector. */
typedef struct shape2 {
    int64_t out, in;
    nn_role role;
    bool linear;
} shape2;

static shape2 shape_of(const model *m, model_kind kind)
{
    const model_dims *d = &m->d;
    int64_t q = (int64_t)d->n_head * d->head_dim, kv = (int64_t)d->n_kv * d->head_dim;
    int64_t e = d->hidden_size, i = d->intermediate_size;
    const shape2 shapes[] = {
        [T_EMBED] = {d->vocab_size, e, NN_EMBED, false},
        [T_POSITION] = {d->max_position, e, NN_POSITION, false},
        [T_NORM1] = {0, e, NN_NORM, false},
        [T_NORM2] = {0, e, NN_NORM, false},
        [T_FINAL_NORM] = {0, e, NN_NORM, false},
        [T_Q_NORM] = {0, d->head_dim, NN_NORM, false},
        [T_K_NORM] = {0, d->head_dim, NN_NORM, false},
        [T_Q] = {q, e, NN_Q, true},
        [T_K] = {kv, e, NN_K, true},
        [T_V] = {kv, e, NN_V, true},
        [T_QKV] = {q + 2 * kv, e, NN_QKV, true},
        [T_O] = {e, q, NN_O, true},
        [T_GATE] = {i, e, NN_GATE, true},
        [T_UP] = {i, e, NN_UP, true},
        [T_DOWN] = {e, i, NN_DOWN, true},
        [T_HEAD] = {d->vocab_size, e, NN_HEAD, false},
    };
    return shapes[kind];
}

/* --- the registry ------------------------------------------------------------------------------------------- */
static bool in_layer(const model_name *n)
{
    return strstr(n->hf, "%d") != NULL;
}

static const char *layer_name(model *m, const char *pattern, int layer, const char *suffix)
{
    const char *at = strstr(pattern, "%d");
    if (!at) return arena_printf(m->mem, "%s%s", pattern, suffix);
    return arena_printf(m->mem, "%.*s%d%s%s", (int)(at - pattern), pattern, layer, at + 2, suffix);
}

static nn_param *add_param(model *m, const model_name *n, int layer, bool bias, nn_site *site)
{
    nn_param *p = &m->param[m->n_param];
    p->index = m->n_param;
    model_tensor *info = &m->info[m->n_param++];
    shape2 s = shape_of(m, n->kind);
    const char *suffix = bias ? ".bias" : ".weight";
    bool in_out = s.linear && (m->family->traits & FAM_CONV1D);
    *info = (model_tensor){
        .kind = n->kind, .layer = layer, .bias = bias, .hf_in_out = in_out, .site = site};
    info->gguf_name = layer_name(m, n->gguf, layer, suffix);
    if (m->family->traits & FAM_GGUF_PERMUTED)
        info->permute = n->kind == T_Q ? m->d.n_head : n->kind == T_K ? m->d.n_kv : 0;
    p->name = layer_name(m, n->hf, layer, suffix);
    p->hyper = (nn_hyper){.lr_ratio = 1.0f, .decay_ratio = bias || s.out == 0 ? 0.0f : 1.0f};
    bool flip = in_out && !m->from_gguf;
    if (bias)
        p->t = (tn_tensor){.nd = 1, .dim = {s.out ? s.out : s.in}};
    else if (s.out == 0)
        p->t = (tn_tensor){.nd = 1, .dim = {s.in}};
    else
        p->t = (tn_tensor){.nd = 2, .dim = {flip ? s.in : s.out, flip ? s.out : s.in}};
    p->t.type = p->file_type = &dt_f32;
    return p;
}

static nn_site *add_site(model *m, const model_name *n, int layer)
{
    nn_site *s = &m->site[m->n_site];
    s->index = m->n_site++;
    shape2 shape = shape_of(m, n->kind);
    s->role = shape.role;
    s->layer = layer;
    s->path = layer_name(m, n->hf, layer, "");
    s->frozen_row = n->kind == T_EMBED ? m->d.pad_row : -1;
    s->in = shape.in;
    s->out = shape.out;
    s->in_out = shape.linear && (m->family->traits & FAM_CONV1D) && !m->from_gguf;
    s->w = add_param(m, n, layer, false, s);
    if (has_bias(m, n->kind)) s->b = add_param(m, n, layer, true, s);
    return s;
}

static void join_group(nn_group *g, nn_site *s)
{
    if (g->n == 0) {
        g->site = s;
        g->in = s->in;
    }
    g->n++;
    g->out += s->out;
}

static void place(model *m, const model_name *n, int layer)
{
    model_layer *l = layer >= 0 ? &m->layer[layer] : NULL;
    nn_param *w, *b;
    shape2 shape = shape_of(m, n->kind);
    if (shape.role != NN_NORM) {
        nn_site *s = add_site(m, n, layer);
        switch (n->kind) {
        case T_EMBED:
            m->embed = s;
            break;
        case T_POSITION:
            m->position = s;
            break;
        case T_HEAD:
            m->head = s;
            break;
        case T_O:
            join_group(&l->o, s);
            break;
        case T_GATE:
        case T_UP:
            join_group(&l->up, s);
            break;
        case T_DOWN:
            join_group(&l->down, s);
            break;
        default:
            join_group(&l->qkv, s);
            break;
        }
        return;
    }
    w = add_param(m, n, layer, false, NULL);
    b = has_bias(m, n->kind) ? add_param(m, n, layer, true, NULL) : NULL;
    switch (n->kind) {
    case T_NORM1:
        l->norm1_w = w, l->norm1_b = b;
        break;
    case T_NORM2:
        l->norm2_w = w, l->norm2_b = b;
        break;
    case T_Q_NORM:
        l->q_norm = w;
        break;
    case T_K_NORM:
        l->k_norm = w;
        break;
    default:
        m->norm_w = w, m->norm_b = b;
        break;
    }
}

static ft_status build_registry(model *m)
{
    enum { PER_LAYER = 32, OUTSIDE = 8 };
    size_t n = (size_t)m->d.n_layer * PER_LAYER + OUTSIDE;
    const model_name *names = m->family->names;
    m->param = arena_get(m->mem, n * sizeof *m->param);
    m->info = arena_get(m->mem, n * sizeof *m->info);
    m->site = arena_get(m->mem, n * sizeof *m->site);
    m->layer = arena_get(m->mem, (size_t)m->d.n_layer * sizeof *m->layer);
    if (!m->param || !m->info || !m->site || !m->layer) return FT_EMEM;
    const model_name *row = names;
    for (; row->hf && !in_layer(row); row++) place(m, row, -1);
    const model_name *first = row;
    for (int i = 0; i < m->d.n_layer; i++) {
        for (row = first; row->hf && in_layer(row); row++) {
            if (is_present(m, row->kind)) place(m, row, i);
        }
    }
    for (; row->hf; row++) place(m, row, -1);
    for (int64_t i = 0; i < m->n_param; i++)
        if (!m->param[i].name || !m->info[i].gguf_name) return FT_EMEM;
    for (int64_t i = 0; i < m->n_site; i++)
        if (!m->site[i].path) return FT_EMEM;
    return FT_OK;
}

/* --- binding to files -------------------------------------------------------------------------------------------- */
const io_tensor *model_find_tensor(const model *m, int64_t i, const char *suffix)
{
    const char *prefix = m->family->prefix;
    char name[512], other[512];
    if (m->from_gguf) return io_find(&m->weights, m->info[i].gguf_name);
    snprintf(name, sizeof name, "%s%s", m->param[i].name, suffix);
    const io_tensor *t = io_find(&m->weights, name);
    if (!t && str_starts(name, prefix)) t = io_find(&m->weights, name + strlen(prefix));
    if (!t) {
        snprintf(other, sizeof other, "%s%s", prefix, name);
        t = io_find(&m->weights, other);
    }
    return t;
}

static const int32_t *permutation(model *m, int heads)
{
    int d = m->d.head_dim;
    int32_t *row = arena_get(m->mem, (size_t)heads * (size_t)d * sizeof *row);
    for (int h = 0; row && h < heads; h++) {
        for (int j = 0; j < 2; j++) {
            for (int i = 0; i < d / 2; i++) row[h * d + j * (d / 2) + i] = h * d + 2 * i + j;
        }
    }
    return row;
}

static const char *shape_text(char *out, size_t size, int nd, const int64_t *dim)
{
    size_t n = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < nd && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (n < size) snprintf(out + n, size - n, "]");
    return out;
}

static ft_status bind(model *m, int64_t i, const io_tensor *t)
{
    nn_param *p = &m->param[i];
    size_t misaligned = t->type->block == 1 ? (uintptr_t)t->data % (size_t)t->type->bytes : 0;
    bool fits = t->nd == p->t.nd;
    for (int k = 0; fits && k < t->nd; k++) fits = t->dim[k] == p->t.dim[k];
    if (!fits) {
        char have[64], want[64];
        return ft_fail(
            FT_EDATA, "%s: tensor \"%s\": shape %s does not fit the config, which says %s",
            ft_shows(t->file), ft_shows(t->name), shape_text(have, sizeof have, t->nd, t->dim),
            shape_text(want, sizeof want, p->t.nd, p->t.dim));
    }
    FT_CHECK(t->type->unpack, FT_EDATA, "%s: tensor \"%s\": dtype %s cannot be computed with",
             ft_shows(t->file), ft_shows(t->name), t->type->name);
    p->t.type = t->type;
    p->t.data = (void *)(uintptr_t)t->data;
    const int32_t *row_of = NULL;
    if (m->from_gguf && m->info[i].permute) {
        row_of = permutation(m, m->info[i].permute);
        if (!row_of) return FT_EMEM;
    }
    p->file_type = t->type;
    if (t->nd == 1) {
        float *copy = arena_get(m->mem, (size_t)t->dim[0] * sizeof(float) + 64);
        float *raw = row_of ? arena_get(m->mem, (size_t)t->dim[0] * sizeof(float)) : copy;
        if (!copy || !raw) return FT_EMEM;
        t->type->unpack(raw, t->data, t->dim[0]);
        for (int64_t k = 0; row_of && k < t->dim[0]; k++) copy[k] = raw[row_of[k]];
        p->t.type = &dt_f32;
        p->t.data = copy;
    } else {
        p->t.row_of = row_of;
        if (misaligned) {
            void *copy = arena_raw(m->mem, t->bytes);
            if (!copy) return FT_EMEM;
            memcpy(copy, t->data, t->bytes);
            p->t.data = copy;
        }
    }
    return FT_OK;
}

static ft_status bind_head(model *m, bool found)
{
    nn_param *head = m->head->w, *embed = m->embed->w;
    FT_CHECK(found || m->d.tied, FT_EDATA,
             "%s: tensor \"%s\" is missing and config.json does not say tie_word_embeddings",
             ft_shows(m->path), head->name);
    if (found && m->d.tied) {
        size_t a = 0, b = 1;
        bool known = dt_bytes(head->t.type, tn_count(&head->t), &a) &&
                     dt_bytes(embed->t.type, tn_count(&embed->t), &b);
        if (known && a == b && head->t.type == embed->t.type && !head->t.side &&
            memcmp(head->t.data, embed->t.data, a) == 0)
            found = false;
        else
            log_warn("%s: config.json says tie_word_embeddings, but \"%s\" differs from the "
                     "embedding: both are kept",
                     ft_shows(m->path), head->name);
    }
    m->d.tied = !found;
    if (!found) {
        nn_hyper hyper = head->hyper;
        const char *name = head->name;
        int64_t index = head->index;
        *head = *embed;
        head->index = index;
        head->name = name;
        head->hyper = hyper;
    }
    return FT_OK;
}

static ft_status bind_all(model *m)
{
    int64_t missing = 0, head = m->head->w - m->param;
    bool found_head = false;
    str_buf list = {0};
    for (int64_t i = 0; i < m->n_param; i++) {
        const io_tensor *t = model_find_tensor(m, i, "");
        bool done = false;
        ft_status rc = FT_OK;
        if (m->quant && m->quant->bind) rc = m->quant->bind(m, i, m->quant_cfg, &done);
        if (rc == FT_OK && t && !done) rc = bind(m, i, t);
        if (rc != FT_OK) {
            str_free(&list);
            return rc;
        }
        done = done || t;
        if (i == head) found_head = done;
        if (done) {
            m->has_blocks = m->has_blocks || m->param[i].file_type->block > 1;
        } else if (i != head && ++missing <= 5) {
            str_printf(&list, "%s\"%s\"", missing > 1 ? ", " : "",
                       m->from_gguf ? m->info[i].gguf_name : m->param[i].name);
        }
    }
    if (missing > 0) {
        ft_status rc =
            ft_fail(FT_EDATA, "%s: %lld tensors are missing: %s%s", ft_shows(m->path),
                    (long long)missing, list.data ? list.data : "", missing > 5 ? ", ..." : "");
        str_free(&list);
        return rc;
    }
    return bind_head(m, found_head);
}

/* --- opening -------------------------------------------------------------------------------------------------------- */
static ft_status read_config_file(model *m, const char *path)
{
    size_t len;
    if (!path) return FT_EMEM;
    FT_TRY(file_read(&m->config, &len, path, (size_t)8 << 20));
    FT_CHECK(strlen(m->config) == len, FT_EDATA, "%s: holds a NUL byte; not a JSON file",
             ft_shows(path));
    return model_read_config(m, m->config, path);
}

static ft_status open_weights(model *m)
{
    FT_TRY(io_model_exists(m->path));
    FT_TRY(io_weights_open(&m->weights, m->path, m->mem));
    m->from_gguf = m->weights.gguf != NULL;
    if (m->from_gguf) {
        str_buf text = {0};
        ft_status rc = model_gguf_config(m->weights.gguf, &text);
        m->config = text.data;
        if (rc != FT_OK) return rc;
        FT_TRY(model_read_config(m, m->config, m->path));
    } else {
        FT_TRY(read_config_file(m, path_join(m->mem, m->path, "config.json")));
    }
    FT_TRY(build_registry(m));
    FT_TRY(bind_all(m));
    m->dtype = m->has_blocks ? &dt_bf16 : m->embed->w->file_type;
    return FT_OK;
}

static ft_status open_random(model *m, const model_options *opt)
{
    FT_TRY(read_config_file(m, m->path));
    FT_TRY(build_registry(m));
    m->dtype = &dt_f32;
    if (opt->no_weights) return m->d.tied ? bind_head(m, false) : FT_OK;
    FT_TRY(model_init_random(m, opt->seed, 0.02));
    return FT_OK;
}

ft_status model_open(model **out, const model_options *opt)
{
    ft_status rc = FT_OK;
    model *m = ft_alloc(1, sizeof *m);
    *out = NULL;
    if (!m) return FT_EMEM;
    FT_TRY_OUT(arena_open(&m->mem, "model", (size_t)1 << 30));
    m->path = arena_str(m->mem, opt->path ? opt->path : opt->from_config);
    FT_GUARD(m->path, FT_EMEM, "out of memory");
    m->no_weights = opt->no_weights;
    rc = opt->path ? open_weights(m) : open_random(m, opt);
    if (rc == FT_OK && opt->make) {
        /* No format takes more bytes than what it is made of, but for the ends of its arrays. */
        size_t bytes = model_bytes(m) + (size_t)m->n_param * 4096;
        FT_TRY_OUT(arena_open(&m->made, "quantised weights", bytes));
        rc = opt->make->make(m, opt->make_cfg);
    }
out:
    if (rc != FT_OK)
        model_close(m);
    else
        *out = m;
    return rc;
}

void model_close(model *m)
{
    if (!m) return;
    io_weights_close(&m->weights);
    ft_free(m->config);
    ft_free(m->resized[0]);
    ft_free(m->resized[1]);
    arena_close(m->own);
    arena_close(m->made);
    arena_close(m->mem);
    ft_free(m);
}

nn_site *model_site(const model *m, const char *path)
{
    for (int64_t i = 0; i < m->n_site; i++) {
        if (strcmp(m->site[i].path, path) == 0) return &m->site[i];
    }
    return NULL;
}

nn_param *model_param(const model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_param; i++) {
        if (strcmp(m->param[i].name, name) == 0) return &m->param[i];
    }
    return NULL;
}

static bool is_alias(const model *m, int64_t i)
{
    return m->d.tied && &m->param[i] == m->head->w;
}

int64_t model_count(const model *m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_param; i++) n += is_alias(m, i) ? 0 : tn_count(&m->param[i].t);
    return n;
}

size_t model_bytes(const model *m)
{
    size_t total = 0, bytes;
    for (int64_t i = 0; i < m->n_param; i++) {
        const tn_tensor *t = &m->param[i].t;
        if (!is_alias(m, i) && dt_bytes(t->type, tn_count(t), &bytes)) total += bytes;
    }
    return total;
}
