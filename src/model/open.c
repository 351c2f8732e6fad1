/* open.c – a model from a folder, a GGUF, or a config with random weights: parameters bound to the mapping, never
 * copied, except vectors (norms, biases), which become f32. */
#include "model_private.h"

#include <stdio.h>
#include <string.h>

/* --- binding to files -------------------------------------------------------------------------------------------- */
static const int32_t *permutation(model *m, int heads, int d)
{
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

static ft_status copy_vector(model *m, nn_param *p, const io_tensor *t, const int32_t *row_of)
{
    const void *data;
    float *copy = arena_get(m->mem, (size_t)t->dim[0] * sizeof(float) + 64);
    float *raw = row_of ? arena_get(m->mem, (size_t)t->dim[0] * sizeof(float)) : copy;
    if (!copy || !raw) return FT_EMEM;
    FT_TRY(io_tensor_map(t, &data));
    t->type->unpack(raw, data, t->dim[0]);
    io_tensor_unmap(t, data);
    for (int64_t k = 0; row_of && k < t->dim[0]; k++) copy[k] = raw[row_of[k]];
    p->t.type = &dt_f32;
    p->t.data = copy;
    return FT_OK;
}

/* Are the values of matrix i left in the file? Those that are quantised are read then, the others by whoever computes. */
static bool is_left(const model *m, int64_t i)
{
    return m->apart && (!m->make || m->make->means(m, i));
}

static ft_status take_matrix(model *m, nn_param *p, const io_tensor *t)
{
    const void *data;
    FT_TRY(io_tensor_map(t, &data));
    p->t.data = (void *)(uintptr_t)data;
    if (!model_misaligned(t, data)) return FT_OK;
    p->t.data = arena_raw(m->mem, t->bytes);
    if (p->t.data) memcpy(p->t.data, data, t->bytes);
    io_tensor_unmap(t, data);
    return p->t.data ? FT_OK : FT_EMEM;
}

static ft_status bind(model *m, int64_t i, const io_tensor *t)
{
    nn_param *p = &m->param[i];
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
    const int32_t *row_of = NULL;
    if (m->from_gguf && m->info[i].permute) {
        row_of = permutation(m, m->info[i].permute, m->info[i].head_dim);
        if (!row_of) return FT_EMEM;
    }
    p->file_type = t->type;
    if (t->nd == 1) return copy_vector(m, p, t, row_of);
    p->t.row_of = row_of;
    return is_left(m, i) ? FT_OK : take_matrix(m, p, t);
}

static ft_status bind_part(model *m, int64_t i, const io_tensor *t)
{
    char have[64];
    io_tensor part;
    FT_CHECK(model_part_of(m, i, t, &part), FT_EDATA,
             "%s: tensor \"%s\": shape %s does not fit the config, which says %d experts",
             ft_shows(t->file), ft_shows(t->name), shape_text(have, sizeof have, t->nd, t->dim),
             m->info[i].experts);
    return bind(m, i, &part);
}

static ft_status bind_tensor(model *m, int64_t i, const io_tensor *t)
{
    FT_CHECK(t->bytes > 0, FT_EDATA,
             "%s: tensor \"%s\" is empty, as DeepSpeed ZeRO-3 leaves it when the weights are not "
             "gathered on saving; make the whole of them with its zero_to_fp32.py",
             ft_shows(t->file), ft_shows(t->name));
    return bind_part(m, i, t);
}

static ft_status same_values(model *m, size_t bytes, bool *same)
{
    const int64_t at[] = {m->head->w - m->param, m->embed->w - m->param};
    model_lent lent[2] = {0};
    ft_status rc = model_lend(m, at[0], &lent[0]);
    if (rc == FT_OK) rc = model_lend(m, at[1], &lent[1]);
    if (rc == FT_OK) *same = memcmp(m->head->w->t.data, m->embed->w->t.data, bytes) == 0;
    for (int i = 0; i < 2; i++) model_lend_end(m, at[i], &lent[i]);
    return rc;
}

static ft_status bind_head(model *m, bool found)
{
    nn_param *head = m->head->w, *embed = m->embed->w;
    if (m->scores && m->new_head) {
        m->new_head = !found;
        return FT_OK;
    }
    FT_CHECK(found || !m->scores, FT_EDATA,
             "%s: tensor \"%s\" is missing, which gives the reward of a sequence classifier",
             ft_shows(m->path), head->name);
    FT_CHECK(found || m->d.tied, FT_EDATA,
             "%s: tensor \"%s\" is missing and config.json does not say tie_word_embeddings",
             ft_shows(m->path), head->name);
    if (found && m->d.tied) {
        size_t a = 0, b = 1;
        bool known = dt_bytes(head->t.type, tn_count(&head->t), &a) &&
                     dt_bytes(embed->t.type, tn_count(&embed->t), &b);
        bool same = false;
        if (known && a == b && head->t.type == embed->t.type && !head->t.side)
            FT_TRY(same_values(m, a, &same));
        if (same)
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

/* A tensor of the files that is no parameter's, for the message: names that begin otherwise, another family's. */
static const char *stranger(const model *m)
{
    for (int64_t k = 0; k < m->weights.n && k < 1000; k++) {
        const char *name = m->weights.tensor[k].name;
        bool ours = false;
        for (int64_t i = 0; i < m->n_param && !ours; i++) {
            const io_tensor *t = model_find_tensor(m, i, "");
            ours = t && strcmp(t->name, name) == 0;
        }
        if (!ours) return name;
    }
    return NULL;
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
        if (rc == FT_OK && t && !done) rc = bind_tensor(m, i, t);
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
        const char *other = stranger(m);
        ft_status rc =
            ft_fail(FT_EDATA, "%s: %lld tensors are missing: %s%s%s%s%s", ft_shows(m->path),
                    (long long)missing, list.data ? list.data : "", missing > 5 ? ", ..." : "",
                    other ? "; it holds \"" : "", other ? ft_shows(other) : "",
                    other ? "\", which none of the family's is called" : "");
        str_free(&list);
        return rc;
    }
    return bind_head(m, found_head);
}

/* --- opening -------------------------------------------------------------------------------------------------------- */
static ft_status read_config_file(model *m, const char *path, model_end end)
{
    size_t len;
    if (!path) return FT_EMEM;
    FT_TRY(file_read(&m->config, &len, path, (size_t)8 << 20));
    FT_CHECK(strlen(m->config) == len, FT_EDATA, "%s: holds a NUL byte; not a JSON file",
             ft_shows(path));
    return model_read_config(m, m->config, path, end);
}

ft_status model_is_bare(const char *path, arena *mem, bool *bare)
{
    static const char *const ends[] = {
        ".safetensors", ".gguf", ".bin",        ".pt",
        ".pth",         ".h5",   ".index.json", "adapter_config.json"};
    const char **names;
    int64_t n;
    path_kind kind;
    *bare = false;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(path_look_in(path, "config.json", &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(dir_list(path, mem, &names, &n));
    *bare = true;
    for (int64_t i = 0; i < n; i++)
        for (size_t k = 0; k < FT_COUNT_OF(ends); k++)
            if (str_ends(names[i], ends[k])) *bare = false;
    return FT_OK;
}

/* The type that config.json says the weights are stored in. */
static ft_status config_type(const model *m, const dt_type **type)
{
    static const struct {
        const char *name;
        const dt_type *type;
    } types[] = {{"bfloat16", &dt_bf16}, {"float16", &dt_f16}};
    js_doc d = {0};
    FT_TRY(js_parse(&d, m->config, strlen(m->config), m->path, 1, JS_ALLOW_NONFINITE, FT_EDATA));
    const cJSON *v = js_get(d.root, "dtype");
    if (!cJSON_IsString(v)) v = js_get(d.root, "torch_dtype");
    *type = &dt_f32;
    for (size_t i = 0; cJSON_IsString(v) && i < FT_COUNT_OF(types); i++)
        if (str_ends(v->valuestring, types[i].name)) *type = types[i].type;
    js_close(&d);
    return FT_OK;
}

static ft_status open_bare(model *m, model_end end)
{
    FT_TRY(read_config_file(m, path_join(m->mem, m->path, "config.json"), end));
    FT_CHECK(!m->quant, FT_ENOINPUT,
             "%s: holds no weights, and what its quantization_config makes of them cannot be told "
             "without them; plan with the unquantised config.json and model.quantization",
             ft_shows(m->path));
    FT_TRY(model_build(m));
    FT_TRY(config_type(m, &m->dtype));
    for (int64_t i = 0; i < m->n_param; i++) {
        m->param[i].file_type = m->dtype;
        if (m->param[i].t.nd == 2) m->param[i].t.type = m->dtype;
    }
    m->bare = true;
    return m->d.tied ? bind_head(m, false) : FT_OK;
}

/* Matrices stay in the file until they are quantised, where they will be, or are not read at all. */
static ft_status leave_apart(model *m)
{
    m->apart = !m->quant && !(m->make && model_has_blocks(m, m->make));
    return m->apart || m->borrows ? FT_OK : io_weights_widen(&m->weights);
}

static ft_status open_weights(model *m, const model_options *opt)
{
    const model *of = opt->weights_of;
    FT_TRY(io_model_exists(m->path));
    m->borrows = of && of->weights.n > 0;
    if (m->borrows)
        m->weights = of->weights;
    else if (opt->make || opt->unread)
        FT_TRY(io_weights_open_apart(&m->weights, m->path, m->mem));
    else
        FT_TRY(io_weights_open(&m->weights, m->path, m->mem));
    m->from_gguf = m->weights.gguf != NULL;
    if (m->from_gguf) {
        str_buf text = {0};
        ft_status rc = model_gguf_config(&m->weights, &text);
        m->config = text.data;
        if (rc != FT_OK) return rc;
        FT_TRY(model_read_config(m, m->config, m->path, opt->end));
    } else {
        FT_TRY(read_config_file(m, path_join(m->mem, m->path, "config.json"), opt->end));
    }
    FT_TRY(model_build(m));
    if (m->weights.apart) FT_TRY(leave_apart(m));
    FT_TRY(bind_all(m));
    if (m->quant && m->quant->bound) FT_TRY(m->quant->bound(m, m->quant_cfg));
    m->dtype = m->has_blocks ? &dt_bf16 : m->embed->w->file_type;
    return m->new_head && !m->no_weights ? model_init_head(m, opt->seed) : FT_OK;
}

static ft_status open_random(model *m, const model_options *opt)
{
    FT_TRY(read_config_file(m, m->path, opt->end));
    FT_TRY(model_build(m));
    m->dtype = &dt_f32;
    if (opt->no_weights) return m->d.tied ? bind_head(m, false) : FT_OK;
    return model_init_open(m, opt->seed, 0.02);
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
    m->trained = opt->trained;
    m->make = opt->make;
    bool bare = false;
    log_busy("reading %s", ft_shows(m->path));
    if (opt->path && opt->may_be_bare && opt->no_weights)
        FT_TRY_OUT(model_is_bare(m->path, m->mem, &bare));
    if (bare)
        rc = open_bare(m, opt->end);
    else
        rc = opt->path ? open_weights(m, opt) : open_random(m, opt);
    if (rc == FT_OK && opt->make) {
        /* No format takes more bytes than what it is made of, but for the ends of its arrays. */
        size_t bytes = model_bytes(m) + (size_t)m->n_param * 4096;
        if (!m->made) FT_TRY_OUT(arena_open(&m->made, "quantised weights", bytes));
        rc = model_quantise(m, opt->make, opt->make_cfg);
    }
    for (int64_t i = 0; rc == FT_OK && i < m->n_param; i++) rc = model_init_values(m, i);
out:
    log_idle();
    if (rc != FT_OK)
        model_close(m);
    else
        *out = m;
    return rc;
}

void model_close(model *m)
{
    if (!m) return;
    if (!m->borrows) io_weights_close(&m->weights);
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

double model_flop(const model *m, double context, double *weights)
{
    double other = 0;
    *weights = 0;
    for (int i = 0; i < m->d.n_layer; i++) {
        for (int k = 0; k < m->layer[i].n_sub; k++) {
            const model_use *u = m->layer[i].sub[k].use;
            model_flop_count f = u->row->flop(m, u->cfg, context);
            *weights += f.weights;
            other += f.other;
        }
    }
    return other;
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
        if (is_alias(m, i) || !dt_bytes(t->type, tn_count(t), &bytes)) continue;
        total += bytes + (t->type->side_bytes ? t->type->side_bytes(t->side) : 0);
    }
    return total;
}
