/* virtual_encoder.c – small networks that make the table of virtual tokens while it is trained (P-tuning, Liu et al. 2021;
 * prefix tuning, Li & Liang 2021), with PEFT's names.
 *
 * An encoder sees no text, so it runs once a step on a tape of its own; passes take its result as they take a trained table,
 * and add up that table's gradient. Then its backward runs once: how a step is cut leaves no mark. Files hold the table, which
 * is all that a use of the adapter needs; a further file holds the encoder, to train on. */
#include "virtual_private.h"

#include <math.h>
#include <string.h>

#define ENCODER_KEY 0x656e636f646572u /* identity of its dropout: "encoder" */

static const char file_name[] = "prompt_encoder.safetensors";

enum { LINEAR_PARAMS = 2, LSTM_PARAMS = 8, MOST_PARAMS = LSTM_PARAMS };

typedef struct stage {
    pe_stage is;
    nn_param *p[MOST_PARAMS];
} stage;

struct pe_encoder {
    nn_param *embedding;
    stage *stage;
    int n;
    float dropout;
    ag_rows rows;    /* the virtual tokens, for dropout */
    tn_tensor *made; /* on the tape: the newest table */
    pe_entry *entry; /* of its file */
    int64_t entries;
};

/* --- parameters -------------------------------------------------------------------------------------------------- */
/* cols 0: a bias, which does not decay. */
static ft_status new_param(pe_ctx *c, pe_encoder *e, const char *name, int64_t rows, int64_t cols,
                           nn_param **out)
{
    if (!name) return FT_EMEM;
    FT_TRY(nn_new_param(&c->store, name, rows, cols, out));
    if (cols == 0) (*out)->hyper.decay_ratio = 0.0f;
    e->entry[e->entries++] = (pe_entry){.p = *out, .key = strchr(name, '.') + 1};
    return FT_OK;
}

/* torch's: ± 1/√in of linear layers, biases too, ± 1/√hidden of an LSTM. */
static void init_stage(const pe_ctx *c, const stage *s, int n, int64_t in)
{
    const float bound = 1.0f / sqrtf((float)(s->is.lstm ? s->is.out : in));
    for (int i = 0; i < n; i++)
        rng_fill_uniform(tn_f32(&s->p[i]->t), tn_count(&s->p[i]->t),
                         rng_key_text(c->seed, s->p[i]->name), -bound, bound);
}

static ft_status new_linear(pe_ctx *c, pe_encoder *e, stage *s, int64_t in)
{
    const char *name = s->is.name;
    FT_TRY(new_param(c, e, arena_printf(c->mem, "prompt_encoder.%s.weight", name), s->is.out, in,
                     &s->p[0]));
    return new_param(c, e, arena_printf(c->mem, "prompt_encoder.%s.bias", name), s->is.out, 0,
                     &s->p[1]);
}

/* In the order of ag_lstm; layer: its number in the names. */
static ft_status new_lstm(pe_ctx *c, pe_encoder *e, stage *s, int64_t in, int layer)
{
    static const char *const kinds[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    const int64_t out = 4 * s->is.out, cols[] = {in, s->is.out, 0, 0};
    for (int i = 0; i < LSTM_PARAMS; i++) {
        const char *name = arena_printf(c->mem, "prompt_encoder.%s.%s_l%d%s", s->is.name,
                                        kinds[i % 4], layer, i < 4 ? "" : "_reverse");
        FT_TRY(new_param(c, e, name, out, cols[i % 4], &s->p[i]));
    }
    return FT_OK;
}

static ft_status new_stages(pe_ctx *c, pe_encoder *e, const pe_encoder_plan *plan)
{
    const bool fresh = !c->dry && !c->load_dir;
    int64_t in = plan->dim;
    for (int i = 0; i < e->n; i++) {
        stage *s = &e->stage[i];
        s->is = plan->stage[i];
        FT_TRY(s->is.lstm ? new_lstm(c, e, s, in, i) : new_linear(c, e, s, in));
        if (fresh && !(plan->zero && i + 1 == e->n))
            init_stage(c, s, s->is.lstm ? LSTM_PARAMS : LINEAR_PARAMS, in);
        in = s->is.out * (s->is.lstm ? 2 : 1);
    }
    return FT_OK;
}

static ft_status new_rows(const pe_ctx *c, ag_rows *rows, int64_t tokens)
{
    int32_t *len = arena_get(c->mem, sizeof *len);
    uint64_t *key = arena_get(c->mem, (size_t)tokens * sizeof *key);
    if (!len || !key) return FT_EMEM;
    *len = (int32_t)tokens;
    for (int64_t i = 0; i < tokens; i++) key[i] = (uint64_t)i;
    *rows = (ag_rows){.n = tokens, .n_seq = 1, .len = len, .key = key};
    return FT_OK;
}

/* --- passes of its own ------------------------------------------------------------------------------------------- */
static tn_tensor *run_stage(ag_tape *t, const pe_encoder *e, const stage *s, tn_tensor *x)
{
    tn_tensor *w[MOST_PARAMS];
    if (s->is.lstm) {
        for (int i = 0; i < LSTM_PARAMS; i++) w[i] = &s->p[i]->t;
        const uint64_t layer = (uint64_t)(s - e->stage);
        return ag_lstm(t, x, w, layer > 0 ? e->dropout : 0.0f, layer);
    }
    x = ag_linear(t, x, &(ag_weight){.w = &s->p[0]->t, .b = &s->p[1]->t}, 1, NULL);
    return s->is.act ? ag_act(t, x, kn_act_by_name(s->is.act), &dt_f32) : x;
}

static tn_tensor *encode(pe_ctx *c, pe_encoder *e, bool record, int64_t step)
{
    tn_tensor *x = &e->embedding->t;
    ag_reset(c->tape);
    c->tape->record = record;
    e->rows.mask_key = rng_key(c->seed, ENCODER_KEY, (uint64_t)step);
    ag_set_rows(c->tape, &e->rows);
    for (int i = 0; i < e->n; i++) x = run_stage(c->tape, e, &e->stage[i], x);
    return x;
}

ft_status pe_encoder_run(pe_ctx *c, pe_encoder *e, nn_param *into, bool record, int64_t step)
{
    e->made = encode(c, e, record, step);
    if (c->tape->status == FT_OK)
        memcpy(into->t.data, e->made->data, (size_t)tn_count(&into->t) * sizeof(float));
    return c->tape->status;
}

/* A stop waits: half of a backward is no gradient. */
void pe_encoder_back(pe_ctx *c, const pe_encoder *e, const nn_param *from)
{
    ft_stop_hold(true);
    ag_seed(c->tape, e->made, from->t.grad);
    if (c->tape->status == FT_OK) ag_walk(c->tape);
    ft_stop_hold(false);
}

/* A dry one runs now, to be counted. */
static ft_status open_tape(pe_ctx *c, pe_encoder *e)
{
    FT_TRY(ag_open(&c->tape, c->dry ? 0 : SIZE_MAX / 4));
    if (!c->dry) return FT_OK;
    e->made = encode(c, e, true, 0);
    ag_seed(c->tape, e->made, NULL);
    if (c->tape->status == FT_OK) ag_walk(c->tape);
    return c->tape->status;
}

ft_status pe_encoder_attach(pe_ctx *c, const pe_encoder_plan *plan, int64_t tokens,
                            pe_encoder **out)
{
    pe_encoder *e = *out = arena_get(c->mem, sizeof *e);
    if (!e) return FT_EMEM;
    e->n = plan->n;
    e->dropout = plan->dropout;
    e->stage = arena_get(c->mem, (size_t)e->n * sizeof *e->stage);
    e->entry = arena_get(c->mem, (size_t)(1 + MOST_PARAMS * e->n) * sizeof *e->entry);
    if (!e->stage || !e->entry) return FT_EMEM;
    FT_TRY(new_rows(c, &e->rows, tokens));
    FT_TRY(new_param(c, e, "prompt_encoder.embedding.weight", tokens, plan->dim, &e->embedding));
    if (!c->dry && !c->load_dir)
        rng_fill_normal(tn_f32(&e->embedding->t), tn_count(&e->embedding->t),
                        rng_key_text(c->seed, e->embedding->name), 0.0f, 1.0f);
    FT_TRY(new_stages(c, e, plan));
    return open_tape(c, e);
}

/* --- its file ------------------------------------------------------------------------------------------------------- */
ft_status pe_encoder_save(const pe_encoder *e, const char *dir)
{
    return pe_write_entries(dir, file_name, e->entry, e->entries);
}

ft_status pe_encoder_load(const pe_ctx *c, const pe_encoder *e)
{
    path_kind kind;
    pe_file *f;
    FT_TRY(path_look_in(c->load_dir, file_name, &kind));
    FT_CHECK(
        kind == PATH_FILE, FT_EDATA,
        "%s: %s is missing: the adapter holds what its encoder made, and training goes on from "
        "the encoder, which PEFT does not save; leave method.init_from out",
        ft_shows(c->load_dir), file_name);
    FT_TRY(pe_file_open_named(&f, c->load_dir, file_name));
    const ft_status rc = pe_read_entries(f, e->entry, e->entries, c->dry);
    pe_file_close(f);
    return rc;
}
