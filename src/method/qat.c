/* qat.c – model.qat: weights and inputs of the linear layers as whole codes would give them back, for all types alike.
 *
 * The products read the weights through dt_fake, so that no rounded copy of them exists; what is trained and what is saved
 * are the numbers under it. The gradient of a rounded weight adds up over the step in the weight's own place. What depends
 * on it alone, the mask of clamped codes and the gradients of steps, is made once when it is whole, whatever the
 * micro-batches were. */
#include <math.h>
#include <string.h>

#include "method_private.h"
#include "qat_private.h"

#define X(name) extern const pe_qat_row pe_qat_##name;
#include "qats.def"
#undef X
#define X(name) &pe_qat_##name,
static const pe_qat_row *const rows[] = {
#include "qats.def"
};
#undef X

const pe_qat_row *pe_qat_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(rows) ? rows[i] : NULL;
}

const pe_qat_row *pe_qat_by_name(const char *name)
{
    for (size_t i = 0; name && i < FT_COUNT_OF(rows); i++)
        if (strcmp(rows[i]->name, name) == 0) return rows[i];
    return NULL;
}

/* --- keys of affine and lsq ------------------------------------------------------------------------------------------- */
const char *const pe_qat_ints[] = {"int4", "int8", NULL};
const char *const pe_qat_activations[] = {"\"int8\"", "null", NULL};

void pe_qat_check_int(cfg_doc *d, const cJSON *object, const void *cfg)
{
    const qat_int *c = cfg;
    const cJSON *v = c->activation_dtype;
    if (!pe_is_null(v) && !(cJSON_IsString(v) && strcmp(v->valuestring, "int8") == 0))
        cfg_fail(d, v, "model.qat.activation_dtype", "must be \"int8\", or null for none");
    if (c->group_size == 0)
        cfg_fail(d, js_get(object, "group_size"), "model.qat.group_size",
                 "must be above 0, or -1 for a whole row");
}

void pe_qat_settle_int(const void *cfg, pe_qat_how *how)
{
    const qat_int *c = cfg;
    const float half = strcmp(c->weight_dtype, "int4") == 0 ? 8.0f : 128.0f;
    *how = (pe_qat_how){
        .low = -half,
        .high = half - 1.0f,
        .group = c->group_size,
        .codes_input = !pe_is_null(c->activation_dtype),
        .after = c->fake_quant_after_n_steps,
    };
}

/* --- attaching ---------------------------------------------------------------------------------------------------------- */
typedef struct qat_site {
    const nn_site *s;
    nn_fake *fake;
    dt_steps steps;
    nn_param *step; /* [out, groups], of a Conv1D [groups, out] */
    const tn_tensor
        *value; /* what is rounded; as it was where pe_qat_fix puts another in its place */
    tn_tensor plain;
    float *grad; /* of what is given back, over the step; NULL: none */
    bool frozen;
} qat_site;

struct pe_qat {
    pe_qat_use use;
    pe_qat_how how;
    model *m;
    arena *mem;
    nn_store own; /* of one that is opened for use: nobody's store */
    void *cfg;    /* the same; and what it was read from */
    pe_note note;
    cfg_doc doc;
    qat_site *at; /* [n] */
    int64_t n;
    bool made, dry;
};

static bool is_target(const nn_site *s)
{
    return s->layer >= 0 && s->role != NN_EMBED && s->role != NN_POSITION && s->role != NN_NORM &&
           s->role != NN_HEAD;
}

static ft_status check_site(const pe_qat *q, const nn_site *s, const tn_tensor *value,
                            const nn_overlay *over)
{
    const pe_qat_how *how = &q->how;
    const char *type = q->use.row->name;
    const bool own = over->own && over->own[s->w->index];
    FT_CHECK(value->type == &dt_f32 || value->type == &dt_f16 || value->type == &dt_bf16, FT_EDATA,
             "%s: tensor \"%s\" is quantised already (%s): model.qat wants a base in numbers; `ft "
             "convert --type bf16` makes one",
             ft_shows(q->m->path), s->w->name, value->type->name);
    FT_CHECK(!value->row_of, FT_EDATA,
             "%s: tensor \"%s\" has its rows in the order of a .gguf, in which model.qat has no "
             "steps; `ft convert` makes a folder of it",
             ft_shows(q->m->path), s->w->name);
    FT_CHECK(
        !own || value->wants_grad, FT_ECONFIG,
        "method.type: model.qat does not go with a method that moves the base (\"%s\"): what is "
        "saved would be laid over another one",
        s->w->name);
    FT_CHECK(how->group <= 0 || s->in % how->group == 0, FT_EDATA,
             "%s: tensor \"%s\" has %lld inputs, no multiple of model.qat.group_size %lld",
             ft_shows(q->m->path), s->w->name, (long long)s->in, (long long)how->group);
    FT_CHECK(how->out_multiple == 0 || s->out % how->out_multiple == 0, FT_EDATA,
             "%s: tensor \"%s\" has %lld outputs, no multiple of %lld, as the packing of model.qat "
             "\"%s\" wants",
             ft_shows(q->m->path), s->w->name, (long long)s->out, (long long)how->out_multiple,
             type);
    FT_CHECK(!q->use.row->config || !s->in_out, FT_EDATA,
             "%s: tensor \"%s\" is a Conv1D, which transformers' \"%s\" leaves as it is; use "
             "model.qat of type affine or lsq",
             ft_shows(q->m->path), s->w->name, type);
    return FT_OK;
}

/* Values that share a step lie one behind the other, but for a Conv1D's, which stand below one another. */
static void place_steps(qat_site *at, const pe_qat_how *how, int64_t *n_rows, int64_t *n_cols)
{
    const nn_site *s = at->s;
    const int64_t group = how->group > 0 ? how->group : s->in, groups = s->in / group;
    at->steps =
        (dt_steps){.type = at->value->type, .group = group, .low = how->low, .high = how->high};
    if (s->in_out) at->steps.cols = s->out;
    *n_rows = s->in_out ? groups : s->out;
    *n_cols = s->in_out ? s->out : groups;
    if (how->group != 0) return;
    at->steps.group = s->in * s->out;
    *n_rows = *n_cols = 1;
}

static ft_status attach_site(pe_qat *q, qat_site *at, nn_overlay *over, nn_store *store)
{
    const nn_site *s = at->s;
    const bool trains = store != &q->own;
    int64_t n_rows, n_cols;
    at->value = nn_value_of(over, s->w);
    FT_TRY(check_site(q, s, at->value, over));
    at->plain = *at->value;
    at->frozen = !at->value->wants_grad;
    place_steps(at, &q->how, &n_rows, &n_cols);
    const char *name = arena_printf(q->mem, "%s.weight_scale", s->path);
    if (!name) return FT_EMEM;
    FT_TRY(q->how.learns && trains ? nn_new_param(store, name, n_rows, n_cols, &at->step)
                                   : nn_new_followed(store, name, n_rows, n_cols, &at->step));
    at->step->hyper.decay_ratio = 0;
    at->steps.step = at->step->t.data;
    *at->fake = (nn_fake){
        .weighs = true, .w = at->plain, .input = q->how.codes_input ? &q->how.input : NULL};
    if (q->how.learns && trains && at->frozen) {
        nn_param *gradient;
        FT_TRY(nn_new_gradient(store, at->value, &gradient));
        at->fake->w.grad = gradient->t.grad;
        at->fake->w.wants_grad = true;
    }
    at->grad = trains ? at->fake->w.grad : NULL;
    at->fake->w.type = &dt_fake;
    at->fake->w.side = &at->steps;
    return FT_OK;
}

static ft_status attach(pe_qat *q, nn_overlay *over, nn_store *store)
{
    over->fake = arena_get(q->mem, (size_t)q->m->n_site * sizeof *over->fake);
    q->at = arena_get(q->mem, ((size_t)q->m->n_site + 1) * sizeof *q->at);
    if (!over->fake || !q->at) return FT_EMEM;
    for (int64_t i = 0; i < q->m->n_site; i++) {
        const nn_site *s = &q->m->site[i];
        if (!is_target(s)) continue;
        qat_site *at = &q->at[q->n++];
        *at = (qat_site){.s = s, .fake = &over->fake[i]};
        FT_TRY(attach_site(q, at, over, store));
    }
    return FT_OK;
}

static ft_status new_qat(pe_qat **out, model *m)
{
    pe_qat *q = ft_alloc(1, sizeof *q);
    *out = q;
    if (!q) return FT_EMEM;
    q->m = m;
    return arena_open(&q->mem, "model.qat", (size_t)64 << 20);
}

ft_status pe_qat_attach(pe_qat **out, const pe_qat_use *use, model *m, nn_overlay *over,
                        nn_store *store, bool dry)
{
    pe_qat *q;
    *out = NULL;
    ft_status rc = new_qat(&q, m);
    if (rc == FT_OK) {
        q->use = *use;
        q->dry = dry;
        use->row->settle(use->cfg, &q->how);
        rc = attach(q, over, store);
    }
    if (rc != FT_OK)
        pe_qat_close(q);
    else
        *out = q;
    return rc;
}

void pe_qat_close(pe_qat *q)
{
    if (!q) return;
    nn_store_close(&q->own);
    if (q->doc.sets) cfg_close(&q->doc);
    pe_note_close(&q->note);
    arena_close(q->mem);
    ft_free(q);
}

/* --- a step --------------------------------------------------------------------------------------------------------------- */
static void first_steps(void *ctx, int64_t i, int thread)
{
    pe_qat *q = ctx;
    const qat_site *at = &q->at[i];
    (void)thread;
    kn_fake_steps(&at->steps, at->value->data, at->value->dim[0], at->value->dim[1], &q->how.first);
}

/* Updates may not bring a step to 0, or through it. */
static void keep_above(const pe_qat *q, const qat_site *at)
{
    float *step = tn_f32(&at->step->t);
    const int64_t n = tn_count(&at->step->t);
    for (int64_t i = 0; i < n; i++)
        if (step[i] < q->how.first.least) step[i] = q->how.first.least;
}

void pe_qat_ready(pe_qat *q, int64_t step, bool always)
{
    if (!q || q->dry) return;
    const bool untrained = step <= q->how.after + 1; /* no update has moved a learnt step yet */
    bool frozen = true;
    for (int64_t i = 0; i < q->n; i++) {
        q->at[i].fake->on = always || step > q->how.after;
        frozen = frozen && q->at[i].frozen;
    }
    if (q->how.learns ? untrained : !(frozen && q->made)) pool_run(first_steps, q, q->n);
    for (int64_t i = 0; q->how.learns && i < q->n; i++) keep_above(q, &q->at[i]);
    q->made = true;
}

static void hand_on(void *ctx, int64_t i, int thread)
{
    pe_qat *q = ctx;
    const qat_site *at = &q->at[i];
    const float n = (float)at->steps.group;
    (void)thread;
    if (!at->grad || !at->fake->on) return;
    kn_fake_back(at->grad, q->how.learns ? at->step->t.grad : NULL, 1.0f / sqrtf(n * q->how.high),
                 &at->steps, at->value->data, at->value->dim[0], at->value->dim[1], true);
}

void pe_qat_gradients(pe_qat *q)
{
    if (!q || q->dry || (q->how.straight && !q->how.learns)) return;
    pool_run(hand_on, q, q->n);
}

/* --- for use ---------------------------------------------------------------------------------------------------------------- */
size_t pe_qat_bytes(const pe_qat *q)
{
    return q ? (size_t)q->own.derived_count * sizeof(float) : 0;
}

void pe_qat_fix(pe_qat *q)
{
    for (int64_t i = 0; q && i < q->n; i++) {
        qat_site *at = &q->at[i];
        at->s->w->t = at->fake->w;
        at->fake->on = false;
    }
}

/* model.qat of ft_method.json. */
static ft_status read_keys(pe_qat *q, const char *dir)
{
    static const char *const also[] = {"type", NULL};
    const cJSON *type = js_get(q->note.qat, "type");
    const pe_qat_row *row = cJSON_IsString(type) ? pe_qat_by_name(type->valuestring) : NULL;
    if (!row)
        return js_fail(&q->note.doc, type ? type : q->note.qat, FT_EDATA, "qat.type",
                       "is none that ft knows");
    q->use.row = row;
    q->cfg = arena_get(q->mem, row->cfg_size + 1);
    if (!q->cfg) return FT_EMEM;
    FT_TRY(cfg_open_empty(&q->doc, NULL, 0, q->mem));
    q->use.cfg = q->cfg;
    FT_TRY(cfg_read(&q->doc, q->note.qat, "qat", row->fields, q->cfg, also));
    if (row->check) row->check(&q->doc, q->note.qat, q->cfg);
    if (q->doc.errors > 0) {
        char *why = ft_strdup(ft_error());
        ft_error_clear();
        ft_status rc = ft_fail(FT_EDATA, "%s/ft_method.json: %s", ft_shows(dir), why ? why : "");
        ft_free(why);
        return rc;
    }
    row->settle(q->cfg, &q->how);
    q->how.after = 0;
    return FT_OK;
}

/* What a file of steps holds, or is to hold. */
static ft_status entries(const pe_qat *q, arena *mem, pe_entry **out)
{
    *out = arena_get(mem, ((size_t)q->n + 1) * sizeof **out);
    if (!*out) return FT_EMEM;
    for (int64_t i = 0; i < q->n; i++)
        (*out)[i] = (pe_entry){
            .p = q->at[i].step, .key = q->at[i].step->name, .transposed = q->at[i].s->in_out};
    return FT_OK;
}

static ft_status read_steps(pe_qat *q, const char *dir)
{
    pe_entry *e;
    pe_file *f;
    FT_TRY(entries(q, q->mem, &e));
    FT_TRY(pe_file_open_named(&f, dir, PE_QAT_FILE));
    ft_status rc = pe_read_entries(f, e, q->n, false);
    pe_file_close(f);
    for (int64_t i = 0; rc == FT_OK && i < q->n; i++) keep_above(q, &q->at[i]);
    return rc;
}

/* The base's folder says how it is rounded: of one that was trained so, whose weights are codes by now or not. */
static bool rounds_itself(const model *m)
{
    for (int64_t i = 0; i < m->n_site; i++)
        if (m->site[i].fake) return true;
    return false;
}

static ft_status open_noted(pe_qat *q, const char *dir, nn_overlay *over)
{
    FT_TRY(read_keys(q, dir));
    if (q->use.row->config && rounds_itself(q->m)) return FT_OK;
    FT_TRY(nn_store_open_frozen(&q->own, 64));
    FT_TRY(attach(q, over, &q->own));
    if (q->use.row->config)
        pe_qat_ready(q, 1, true);
    else
        FT_TRY(read_steps(q, dir));
    for (int64_t i = 0; i < q->n; i++) q->at[i].fake->on = true;
    return FT_OK;
}

ft_status pe_qat_open(pe_qat **out, const char *dir, model *m, nn_overlay *over)
{
    pe_qat *q;
    *out = NULL;
    ft_status rc = new_qat(&q, m);
    if (rc == FT_OK) rc = pe_note_read(&q->note, dir, q->mem);
    const bool there = rc == FT_OK && q->note.qat;
    if (there) rc = open_noted(q, dir, over);
    if (rc != FT_OK || !there)
        pe_qat_close(q);
    else
        *out = q;
    return rc;
}

/* --- files ------------------------------------------------------------------------------------------------------------------- */
static ft_status save_steps(const pe_qat *q, const char *dir)
{
    arena *mem;
    pe_entry *e = NULL;
    FT_TRY(arena_open(&mem, "steps", (size_t)64 << 20));
    ft_status rc = entries(q, mem, &e);
    if (rc == FT_OK) rc = pe_write_entries(dir, PE_QAT_FILE, e, q->n);
    arena_close(mem);
    return rc;
}

static ft_status note(const pe_qat *q, cJSON **keys)
{
    *keys = cJSON_CreateObject();
    if (!*keys || !cJSON_AddStringToObject(*keys, "type", q->use.row->name)) return FT_EMEM;
    return cfg_resolve(*keys, q->use.row->fields, q->use.cfg);
}

static ft_status save_config(const pe_qat *q, const char *path)
{
    str_buf config = {0}, keys = {0};
    char *text = NULL;
    size_t n;
    FT_TRY(file_read(&text, &n, path, (size_t)16 << 20));
    str_add(&config, text, n);
    ft_free(text);
    q->use.row->config(q->use.cfg, &keys);
    if (!keys.failed) js_set_member(&config, "quantization_config", keys.data);
    ft_status rc = keys.failed ? FT_EMEM : str_ok(&config);
    if (rc == FT_OK) rc = file_write(path, config.data, config.len);
    str_free(&config);
    str_free(&keys);
    return rc;
}

ft_status pe_qat_save(const pe_qat *q, const char *dir, cJSON **keys)
{
    str_buf path = {0};
    path_kind kind = PATH_NONE;
    *keys = NULL;
    if (!q->use.row->config) {
        FT_TRY(save_steps(q, dir));
        return note(q, keys);
    }
    str_printf(&path, "%s/config.json", dir);
    ft_status rc = str_ok(&path);
    if (rc == FT_OK) rc = path_look(path.data, &kind); /* an adapter's folder has none */
    if (rc == FT_OK) rc = kind == PATH_FILE ? save_config(q, path.data) : note(q, keys);
    str_free(&path);
    return rc;
}
