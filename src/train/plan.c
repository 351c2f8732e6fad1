/* plan.c – what a run will need in memory and on disk, told by a dry tape: the builder code of the model runs once on the
 * largest micro-batch with counting arenas and without arithmetic, on a model opened without weights. */
#include "train_private.h"

#include "ft/kernel.h"

#include <stdio.h>
#include <string.h>

/* Panels and tiles that a thread holds inside products and attention, its stack, and what the allocator keeps; arenas start on huge
 * pages of 2 MiB each (measured: plans are 0 to 15 % above the peak of runs from 30 MiB to 2.6 GiB). */
#define THREAD_BYTES ((size_t)5 << 20)
#define SLACK_BYTES ((size_t)14 << 20)

/* What is there already when the plan is made: program, tokenizer, data. Weights that were made at random or quantised lie in
 * memory by then and are counted apart; those of a file are only mapped. */
static size_t resident(const train_session *s)
{
    const model *m = s->m;
    size_t rss = ft_rss(), made = 0;
    if (m && !m->no_weights)
        made = (m->own ? arena_peak(m->own) : 0) + (m->made ? arena_peak(m->made) : 0);
    return rss > made ? rss - made : 0;
}

/* Tokens of the largest micro-batch. concat: rows of max_length are whole. */
static int64_t largest_micro(const train_session *s, int64_t samples)
{
    int64_t n = samples < s->cfg.train.batch_size ? samples : s->cfg.train.batch_size;
    int64_t tokens = data_longest(s->train, n);
    const cJSON *packing = s->cfg.data.packing;
    if (cJSON_IsString(packing) && tokens < s->cfg.data.max_length) tokens = s->cfg.data.max_length;
    return tokens;
}

/* Bytes of activations and their gradients for one pass of n samples with `tokens` tokens together. */
static ft_status dry_pass(const train_session *s, obj_ctx *o, int64_t tokens, int64_t n,
                          unsigned how, size_t *bytes)
{
    ft_status rc;
    ag_tape *t = NULL;
    nn_run r;
    obj_stats stats = {0};
    const int each = o->row->wants & DATA_PAIRS ? 2 : 1; /* sequences of a sample */
    size_t mark = arena_mark(s->batch), count = (size_t)tokens;
    int n_seq = (int)(n * each < tokens ? n * each : tokens);
    int32_t *len = arena_get(s->batch, (size_t)n_seq * sizeof *len);
    int32_t *ids = arena_get(s->batch, count * sizeof *ids);
    int32_t *pos = arena_get(s->batch, count * sizeof *pos);
    uint64_t *key = arena_get(s->batch, count * sizeof *key);
    int32_t *slot = arena_get(s->batch, (size_t)n_seq * sizeof *slot);

    if (!len || !ids || !pos || !key || !slot) return FT_EMEM;
    for (int i = 0; i < n_seq; i++) {
        len[i] = (int32_t)(tokens / n_seq + (i < tokens % n_seq ? 1 : 0));
        slot[i] = i / each;
    }
    data_batch b = {.in = {.n_seq = n_seq,
                           .len = len,
                           .tokens = tokens,
                           .ids = ids,
                           .pos = pos,
                           .label = ids,
                           .first = len,
                           .row_key = key},
                    .supervised = tokens,
                    .seq_slot = slot};
    FT_TRY_OUT(ag_open(&t, 0));
    FT_TRY_OUT(nn_run_open(&r, t, &b.in, o->tuned, how));
    o->tape = t;
    tn_tensor *loss = o->row->loss(o, &r, &b, how & NN_RECORD ? (double)tokens : 0, &stats);
    FT_TRY_OUT(t->status);
    if (how & NN_RECORD) FT_TRY_OUT(ag_backward(t, loss));
    *bytes = ag_peak_bytes(t);
out:
    o->tape = NULL;
    ag_close(t);
    arena_reset(s->batch, mark);
    return rc;
}

/* Bytes of a safetensors file so far, and of the tensors in it. */
typedef struct file_bytes {
    size_t all, data;
} file_bytes;

/* One more tensor: its data and its entry ("NAME":{"dtype":"F32","shape":[…],"data_offsets":[…,…]},). */
static void add_tensor(file_bytes *f, size_t name, const dt_type *type, int nd, const int64_t *dim)
{
    char offsets[64];
    size_t bytes = 0, text = 0;
    int64_t n = 1;
    for (int i = 0; i < nd; i++) {
        n *= dim[i];
        text += (size_t)snprintf(NULL, 0, "%lld,", (long long)dim[i]);
    }
    dt_bytes(type, n, &bytes);
    text += (size_t)snprintf(offsets, sizeof offsets, "[%zu,%zu]", f->data, f->data + bytes);
    f->all += name + strlen(type->st_name) + 46 + text + bytes;
    f->data += bytes;
}

static size_t values_bytes(const nn_store *s, bool states)
{
    file_bytes f = {.all = 64};
    for (int64_t i = 0; i < s->n + (states ? s->n_state : 0); i++) {
        const nn_param *p = i < s->n ? s->param[i] : s->state[i - s->n];
        add_tensor(&f, strlen(p->name), p->t.type, p->t.nd, p->t.dim);
    }
    return f.all;
}

static size_t states_bytes(const train_config *c, const nn_store *s)
{
    file_bytes f = {.all = 64};
    opt_state state[OPT_MAX_STATES];
    for (int64_t i = 0; i < s->n; i++) {
        const nn_param *p = s->param[i];
        int n = c->rule->states(c->rule_cfg, &p->t, state);
        for (int k = 0; k < n; k++)
            add_tensor(&f, strlen(p->name) + 1 + strlen(state[k].name), state[k].type, state[k].nd,
                       state[k].dim);
    }
    return f.all;
}

/* manifest.json and state.json beside the tensors. */
enum { CHECKPOINT_TEXT = 2400, RESULT_TEXT = 8 << 10, LOG_LINE = 180, MODEL_TEXT = 4 << 20 };

/* The arrays of the objective, as they are at the start. */
static ft_status arrays_bytes(const train_session *s, obj_ctx *o, size_t *bytes)
{
    file_bytes f = {.all = 64};
    nn_arrays a = {.mem = s->batch};
    *bytes = 0;
    if (!o->row->state) return FT_OK;
    FT_TRY(o->row->state(o, &a));
    for (int64_t i = 0; i < a.n; i++)
        add_tensor(&f, strlen(a.array[i].name), a.array[i].type, a.array[i].nd, a.array[i].dim);
    *bytes = f.all;
    return FT_OK;
}

/* Trainable values for an adapter, else the whole model with its tokenizer; and the texts beside it. */
static size_t result_bytes(const train_session *s, const model *m, const pe_ctx *pe)
{
    size_t text = RESULT_TEXT + (size_t)(s->total_steps / s->cfg.train.log_every) * LOG_LINE;
    if (pe->result != PE_MODEL) return values_bytes(&pe->store, false) + text;
    return (size_t)model_count(m) * (size_t)(m->dtype ? m->dtype->bytes : 4) + MODEL_TEXT + text;
}

/* Checkpoints on disk at the same time: those that are kept, and the next one while it is written. */
static int64_t checkpoints_at_once(const train_session *s)
{
    const loop_cfg *t = &s->cfg.train;
    int64_t most = (t->keep_checkpoints < 2 ? 2 : t->keep_checkpoints) + 1 + (t->keep_best ? 1 : 0);
    int64_t made = t->checkpoint_every > 0 ? s->total_steps / t->checkpoint_every : 2;
    return made < 2 ? 2 : made < most ? made : most;
}

static void plan_sums(train_session *s, const obj_ctx *o, const pe_ctx *pe)
{
    train_plan *p = &s->plan;
    const nn_store *store = &pe->store;
    p->weights = model_bytes(o->m) + o->bytes;
    p->trainable = (size_t)(store->count + store->state_count) * sizeof(float);
    p->gradients = (size_t)(store->count + store->alias_count) * sizeof(float);
    p->optimizer = opt_bytes(s->cfg.rule, s->cfg.rule_cfg, store);
    p->workspace = p->resident + (size_t)pool_threads() * THREAD_BYTES + SLACK_BYTES;
    p->total =
        p->weights + p->trainable + p->gradients + p->optimizer + p->activations + p->workspace;
    p->limit = ft_memory_limit(&p->limit_name);
    p->trainable_count = 0;
    for (int64_t i = 0; i < store->n; i++) p->trainable_count += tn_count(&store->param[i]->t);
    p->checkpoint_bytes = values_bytes(store, true) + states_bytes(&s->cfg, store) +
                          p->objective_bytes + CHECKPOINT_TEXT;
    p->result_bytes = result_bytes(s, o->m, pe);
    p->checkpoints = checkpoints_at_once(s);
    p->disk_need = (size_t)p->checkpoints * p->checkpoint_bytes + p->result_bytes;
    p->disk_free = s->out && s->out[0] ? dir_free_space(s->out) : SIZE_MAX;
}

/* Virtual rows take positions: where those come from a table, it must reach. */
static ft_status check_positions(const train_session *s, const nn_overlay *over)
{
    const model *m = s->m;
    int64_t eval = s->eval ? train_positions(s, s->eval) : 0,
            longest = train_positions(s, s->train);
    if (eval > longest) longest = eval;
    FT_CHECK(!m->position || longest + nn_virtual(over) <= m->d.max_position, FT_ECONFIG,
             "%s: data.max_length: a sequence has up to %lld tokens behind %lld virtual ones, the "
             "model has %lld positions; lower data.max_length",
             s->opt->config, (long long)longest, (long long)nn_virtual(over),
             (long long)m->d.max_position);
    return FT_OK;
}

static ft_status plan_activations(train_session *s, obj_ctx *o)
{
    train_plan *p = &s->plan;
    size_t step = 0, eval = 0;
    FT_TRY(dry_pass(s, o, p->micro_tokens, p->micro_samples < 1 ? 1 : p->micro_samples,
                    NN_RECORD | (p->checkpointing ? NN_CHECKPOINT : 0), &step));
    if (s->eval) {
        int64_t longest = data_longest(s->eval, 1);
        FT_TRY(dry_pass(s, o, longest > MICRO_TOKENS ? longest : MICRO_TOKENS, 1, 0, &eval));
    }
    p->activations = step > eval ? step : eval;
    return FT_OK;
}

/* "auto": MICRO_TOKENS a micro-batch, halved down to one sample while the plan does not fit. */
static ft_status plan_auto(train_session *s, obj_ctx *o, const pe_ctx *pe)
{
    train_plan *p = &s->plan;
    int64_t longest = largest_micro(s, 1), step = largest_micro(s, s->cfg.train.batch_size);
    for (int64_t budget = MICRO_TOKENS;; budget /= 2) {
        p->micro_tokens = budget < longest ? longest : budget < step ? budget : step;
        /* each sequence has virtual rows of its own; else only tokens count */
        p->micro_samples = nn_virtual(&pe->over) > 0 ? s->cfg.train.batch_size : 1;
        FT_TRY(plan_activations(s, o));
        plan_sums(s, o, pe);
        if (p->total <= p->limit || budget <= longest || budget <= 1) return FT_OK;
    }
}

static ft_status plan_given(train_session *s, obj_ctx *o, const pe_ctx *pe)
{
    train_plan *p = &s->plan;
    int64_t micro = s->cfg.train.micro_batch_size, batch = s->cfg.train.batch_size;
    p->micro_samples = micro < batch ? micro : batch;
    p->micro_tokens = largest_micro(s, p->micro_samples);
    FT_TRY(plan_activations(s, o));
    plan_sums(s, o, pe);
    return FT_OK;
}

ft_status train_plan_make(train_session *s)
{
    ft_status rc;
    model *m = NULL;
    pe_ctx *pe = NULL;
    obj_ctx o = {0};
    bool choose = s->cfg.train.gradient_checkpointing < 0;
    ft_status (*plan)(train_session *, obj_ctx *, const pe_ctx *) =
        s->cfg.train.micro_batch_size == CFG_AUTO ? plan_auto : plan_given;

    s->plan.resident = resident(s);
    FT_TRY_OUT(train_open_model(s, false, &m));
    FT_TRY_OUT(train_attach_method(s, m, &pe));
    s->plan.virtual_rows = nn_virtual(&pe->over);
    FT_TRY_OUT(check_positions(s, &pe->over));
    FT_TRY_OUT(train_open_objective(s, m, pe, false, &o));
    FT_TRY_OUT(arrays_bytes(s, &o, &s->plan.objective_bytes));
    s->plan.checkpointing = s->cfg.train.gradient_checkpointing == 1;
    FT_TRY_OUT(plan(s, &o, pe));
    if (choose && s->plan.total > s->plan.limit) {
        s->plan.checkpointing = true;
        FT_TRY_OUT(plan(s, &o, pe));
    }
out:
    obj_close(&o);
    pe_close(pe);
    model_close(m);
    return rc;
}

ft_status train_plan_memory(const train_session *s)
{
    const train_plan *p = &s->plan;
    FT_CHECK(
        p->total <= p->limit, FT_EMEM,
        "this run needs %s of memory, %s grants %s: weights %s, trainable values %s, gradients "
        "%s, optimizer %s, activations %s, workspace %s; a smaller train.micro_batch_size, "
        "data.max_length or method saves memory",
        ft_bytes_text(p->total), p->limit_name, ft_bytes_text(p->limit), ft_bytes_text(p->weights),
        ft_bytes_text(p->trainable), ft_bytes_text(p->gradients), ft_bytes_text(p->optimizer),
        ft_bytes_text(p->activations), ft_bytes_text(p->workspace));
    return FT_OK;
}

ft_status train_plan_disk(const train_session *s)
{
    const train_plan *p = &s->plan;
    train_found *found;
    int64_t there = 0;
    if (s->run_id[0]) FT_TRY(train_checkpoint_list(s, s->mem, &found, &there)); /* being resumed */
    if (there > p->checkpoints - 1) there = p->checkpoints - 1;
    size_t need = p->disk_need - (size_t)there * p->checkpoint_bytes;
    FT_CHECK(need <= p->disk_free, FT_EIO,
             "%s: this run needs %s of disk space (%lld checkpoints of %s and a result of %s), %s "
             "are free",
             s->out, ft_bytes_text(need), (long long)(p->checkpoints - there),
             ft_bytes_text(p->checkpoint_bytes), ft_bytes_text(p->result_bytes),
             ft_bytes_text(p->disk_free));
    return FT_OK;
}
