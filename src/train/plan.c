/* plan.c – what a run will need in memory and on disk, told by a dry tape: the builder code of the model runs once on the
 * largest micro-batch with counting arenas and without arithmetic, on a model opened without weights.
 *
 * The largest micro-batch is looked for in the cuts of the run itself: the samples of its steps are drawn as the loop will
 * draw them. Where samples are not in memory, or an objective puts others in their place, it is as many tokens as fit. */
#include "train_private.h"

#include "ft/kernel.h"

#include <stdio.h>
#include <string.h>

/* The stack of a thread, beside its scratch; what code and allocator take after the plan is made (measured: 0.5 to 2 MiB). */
#define THREAD_BYTES ((size_t)192 << 10)
#define SLACK_BYTES ((size_t)3 << 20)
#define ADDRESS_BYTES ((size_t)32 << 20) /* ends of reservations: huge pages, blocks of arenas */
#define SAVE_BYTES ((size_t)4 << 20)
#define SEAL_BYTES                                                                                 \
    ((size_t)3 << 18)       /* while a checkpoint is written and read back: buffers, code */
#define LOOK_SAMPLES 200000 /* drawn to find the largest micro-batch: 0.1 s */

/* What is there already when the plan is made: program, tokenizer, data. Weights are counted apart, whether they are pages
 * of their files or were made. */
static size_t resident(const train_session *s)
{
    const model *m = s->m;
    size_t rss = ft_rss(), weights = io_weights_rss(&m->weights);
    if (!m->no_weights && m->own) weights += arena_pages(arena_peak(m->own));
    if (!m->no_weights && m->made) weights += arena_pages(arena_peak(m->made));
    weights += pool_scratch_bytes(); /* quantising has taken it; threads are counted apart too */
    return rss > weights ? rss - weights : 0;
}

static bool made(const model *m)
{
    return m->made && arena_peak(m->made) > 0;
}

/* Pages of the files that a step reads: not those of values that were copied to be trained. */
static size_t weight_bytes(const train_session *s, const model *m, const nn_overlay *over)
{
    size_t sum = m->weights.n > 0 && !made(m) ? io_weights_bytes(&m->weights) : model_bytes(m), one;
    for (int64_t i = 0; i < m->n_param; i++) {
        const tn_tensor *t = &m->param[i].t;
        if (train_leaves(s, m, over, i) && dt_bytes(t->type, tn_count(t), &one))
            sum -= one < sum ? one : sum;
    }
    return sum;
}

/* The piece of a model that is written at a time. */
static size_t piece_bytes(const model *m)
{
    size_t most = 0;
    for (int64_t i = 0; i < m->n_param; i++) {
        size_t one = (size_t)tn_count(&m->param[i].t) * sizeof(float);
        if (one > most) most = one;
    }
    return most < SAVE_BYTES ? most : SAVE_BYTES;
}

/* --- the largest micro-batch ----------------------------------------------------------------------------------- */
static bool draws_what_it_trains(const train_session *s, const obj_ctx *o)
{
    for (int i = 0; i < data_sources(s->train); i++)
        if (data_stats(s->train, i)->windows > 0) return false;
    return o->as_drawn || !o->row->prepare;
}

/* Where it is. */
typedef struct largest {
    int64_t step;
    int micro;
    int64_t rows; /* tokens and virtual rows */
} largest;

static void look_at(const data_sample *sample, const data_step *cut, int64_t step,
                    int64_t virtual_rows, largest *out)
{
    for (int i = 0; i < cut->n_micro; i++) {
        int64_t rows = 0;
        for (int k = 0; k < cut->micro[i].n; k++) {
            const data_sample *x = &sample[cut->micro[i].slot[k]];
            rows += x->len + x->n_seq * virtual_rows;
        }
        if (rows > out->rows) *out = (largest){step, i, rows};
    }
}

static ft_status cut_step(const train_session *s, int64_t step, const data_split *split,
                          data_sample *sample, data_step *cut)
{
    int n;
    FT_TRY(data_take(s->train, (uint64_t)s->cfg.train.seed, step, s->cfg.train.batch_size, sample,
                     &n, s->batch));
    return data_step_plan(sample, n, split, cut, s->batch);
}

/* The largest micro-batch of the run, cut as the plan has it, in s->batch. */
static ft_status drawn_batch(const train_session *s, const nn_overlay *over, data_batch *b)
{
    const int64_t batch = s->cfg.train.batch_size, most = LOOK_SAMPLES / batch + 1;
    int64_t steps = (s->total_steps + s->reuse - 1) / s->reuse;
    data_split split = train_split(s, over);
    data_sample *sample = arena_get(s->batch, (size_t)batch * sizeof *sample);
    data_step cut;
    largest at = {0};
    if (!sample) return FT_EMEM;
    for (int64_t k = 0; k < steps && k < most; k++) {
        size_t mark = arena_mark(s->batch);
        FT_TRY(cut_step(s, k, &split, sample, &cut));
        look_at(sample, &cut, k, nn_virtual(over), &at);
        arena_reset(s->batch, mark);
    }
    FT_TRY(cut_step(s, at.step, &split, sample, &cut));
    return data_batch_make(sample, &cut.micro[at.micro], 0, b, s->batch);
}

/* Sequences with `tokens` tokens together, all supervised. */
static ft_status thought_batch(const train_session *s, int64_t tokens, int64_t seqs, data_batch *b)
{
    const int each = s->cfg.objective->wants & DATA_PAIRS ? 2 : 1; /* sequences of a sample */
    size_t count = (size_t)tokens;
    int n_seq = (int)(seqs < tokens ? seqs : tokens);
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
    *b = (data_batch){.in = {.n_seq = n_seq,
                             .len = len,
                             .tokens = tokens,
                             .ids = ids,
                             .pos = pos,
                             .label = ids,
                             .first = len,
                             .row_key = key},
                      .supervised = tokens,
                      .seq_slot = slot};
    return FT_OK;
}

/* Tokens of the `n` largest samples that the objective makes of those of a set, which it may lengthen up to data.max_length. */
static int64_t made_tokens(const train_session *s, const data_set *d, obj_made made, int64_t n)
{
    const int64_t copies = made.copies > 0 ? made.copies : 1, whole = n / copies;
    const int64_t before = whole > 0 ? data_longest(d, whole) : 0;
    const int64_t rest = n % copies ? data_longest(d, whole + 1) - before : 0;
    const int64_t all = copies * before + n % copies * rest + n * made.tokens;
    const int64_t most = n * s->cfg.data.max_length;
    return made.tokens > 0 && all > most ? most : all;
}

/* Sequences of a sample, at most: each has virtual rows of its own. Without those only tokens count, but for pairs. */
static int64_t sequences(const train_session *s, const data_set *d, const nn_overlay *over)
{
    int64_t most = s->cfg.objective->wants & DATA_PAIRS ? 2 : 1;
    for (int i = 0; nn_virtual(over) > 0 && i < data_sources(d); i++)
        if (data_stats(d, i)->most_sequences > most) most = data_stats(d, i)->most_sequences;
    return most;
}

/* One sample of `least` tokens, or what fills `bound` rows, virtual ones with it. */
static ft_status full_batch(const train_session *s, int64_t least, int64_t bound, int64_t seqs,
                            const nn_overlay *over, data_batch *b)
{
    int64_t tokens = bound - seqs * nn_virtual(over);
    return thought_batch(s, tokens > least ? tokens : least, seqs, b);
}

/* Of sequences that the objective lengthens only what it adds is supervised. */
static ft_status label_made(const train_session *s, obj_made made, data_batch *b)
{
    if (made.tokens == 0) return FT_OK;
    int32_t *label = arena_get(s->batch, (size_t)b->in.tokens * sizeof *label);
    if (!label) return FT_EMEM;
    for (int64_t i = 0, at = 0; i < b->in.n_seq; i++)
        for (int32_t k = 0; k < b->in.len[i]; k++)
            label[at++] = k + made.tokens < b->in.len[i] ? DATA_IGNORE : 0;
    b->in.label = label;
    return FT_OK;
}

/* Where nothing can be drawn: tokens of the n longest samples, or of whole rows, cut as the plan has it. */
static ft_status worst_batch(const train_session *s, const obj_ctx *o, data_batch *b)
{
    const nn_overlay *over = o->tuned;
    const int64_t copies = o->made.copies > 0 ? o->made.copies : 1;
    const int64_t batch = s->drawn * copies, given = s->cfg.train.micro_batch_size;
    bool autos = given == CFG_AUTO, joined = cJSON_IsString(s->cfg.data.packing);
    int64_t n = autos || given > batch ? batch : given;
    int64_t tokens = made_tokens(s, s->train, o->made, n),
            least = made_tokens(s, s->train, o->made, 1);
    int64_t seqs = sequences(s, s->train, over), rows;
    if (joined && least < s->cfg.data.max_length) least = s->cfg.data.max_length;
    if (tokens < least) tokens = least;
    rows = tokens + n * seqs * nn_virtual(over);
    if (!autos) {
        FT_TRY(thought_batch(s, tokens, n * seqs, b));
        return label_made(s, o->made, b);
    }
    return full_batch(s, least, rows < s->plan.micro_bound ? rows : s->plan.micro_bound, seqs, over,
                      b);
}

/* --- the dry pass -------------------------------------------------------------------------------------------------- */
/* Bytes of activations and their gradients for one pass. */
static ft_status dry_pass(const train_session *s, obj_ctx *o, const data_batch *b, unsigned how,
                          size_t *bytes, ag_rooms *rooms)
{
    ft_status rc;
    ag_tape *t = NULL;
    nn_run r;
    obj_stats stats = {0};
    FT_TRY_OUT(ag_open(&t, 0));
    t->precision = how & NN_RECORD ? kn_precision_of(s->cfg.train.precision) : KN_F32;
    FT_TRY_OUT(nn_run_open(&r, t, &b->in, o->tuned, how));
    o->tape = t;
    tn_tensor *loss = o->row->loss(o, &r, b, how & NN_RECORD ? (double)b->in.tokens : 0, &stats);
    FT_TRY_OUT(t->status);
    if (how & NN_RECORD) FT_TRY_OUT(ag_backward(t, loss));
    *bytes = ag_peak_bytes(t);
    ag_peak_rooms(t, rooms);
out:
    o->tape = NULL;
    ag_close(t);
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
enum { CHECKPOINT_TEXT = 12 << 10, RESULT_TEXT = 8 << 10, LOG_LINE = 180, MODEL_TEXT = 4 << 20 };

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

/* The adapter's file where it holds more than the trained values: products of shared ones, which stand beside it. */
static size_t products_bytes(const pe_ctx *pe)
{
    size_t floats = 0;
    for (int64_t i = 0; i < pe->entries.n; i++)
        floats += (size_t)tn_count(&pe->entries.entry[i].p->t);
    return floats > (size_t)pe->store.count ? floats * sizeof(float) : 0;
}

/* Trainable values, and what is made of them, for an adapter, else the whole model; and its tokenizer. */
static size_t folder_bytes(const train_session *s, const model *m, const pe_ctx *pe)
{
    const size_t derived = pe->keep_zeros ? 0 : (size_t)pe->store.derived_count * sizeof(float);
    if (pe->result != PE_MODEL)
        return values_bytes(&pe->store, false) + derived + products_bytes(pe) +
               train_folder_text(s);
    return (size_t)model_count(m) * (size_t)(m->dtype ? m->dtype->bytes : 4) + MODEL_TEXT;
}

/* And the texts beside it. */
static size_t result_bytes(const train_session *s, const model *m, const pe_ctx *pe)
{
    size_t text = RESULT_TEXT + (size_t)(s->total_steps / s->cfg.train.log_every) * LOG_LINE;
    return folder_bytes(s, m, pe) + text;
}

/* Checkpoints on disk at the same time: those that are kept, and the next one while it is written. */
static int64_t checkpoints_at_once(const train_session *s)
{
    const loop_cfg *t = &s->cfg.train;
    int64_t most = (t->keep_checkpoints < 2 ? 2 : t->keep_checkpoints) + 1 + (t->keep_best ? 1 : 0);
    int64_t made = t->checkpoint_every > 0 ? s->total_steps / t->checkpoint_every : 2;
    return made < 2 ? 2 : made < most ? made : most;
}

/* What whole pages take beyond what lies in them. */
static size_t page_ends(const train_plan *p, const nn_store *s)
{
    const size_t floats[] = {(size_t)s->count, (size_t)(s->state_count + s->derived_count),
                             (size_t)s->count, (size_t)s->alias_count};
    size_t sum = arena_pages(p->optimizer) - p->optimizer;
    for (size_t i = 0; i < FT_COUNT_OF(floats); i++)
        sum += arena_pages(floats[i] * sizeof(float)) - floats[i] * sizeof(float);
    return sum;
}

/* Where the run leaves the windows that are in memory: one is read at a time. */
static size_t reading_bytes(const train_session *s)
{
    int64_t steps = (s->total_steps + s->reuse - 1) / s->reuse;
    size_t train = data_reading_bytes(s->train, steps * s->cfg.train.batch_size);
    size_t eval = s->eval ? data_reading_bytes(s->eval, data_count(s->eval)) : 0;
    return train > eval ? train : eval;
}

/* What is there when the plan is made, what threads take, the largest batch, and the pieces of checkpoints and of a result
 * that is a model, which are written at a time. */
static size_t workspace(const train_session *s, const pe_ctx *pe)
{
    const train_plan *p = &s->plan;
    size_t piece = pe->result == PE_MODEL ? piece_bytes(pe->m) : 0;
    if (pe->result != PE_MODEL && pe->m->from_gguf) piece = 2 * train_folder_text(s);
    piece += SEAL_BYTES + train_samples_bytes(s) + (pe->tape ? ag_peak_bytes(pe->tape) : 0);
    return p->resident + page_ends(p, &pe->store) + arena_pages(p->batch_bytes) + reading_bytes(s) +
           piece + (size_t)pool_threads() * (kn_scratch_bytes() + THREAD_BYTES) + SLACK_BYTES;
}

static bool fits(const train_plan *p)
{
    return p->grant.need <= p->grant.limit;
}

static void plan_sums(train_session *s, const obj_ctx *o, const pe_ctx *pe)
{
    train_plan *p = &s->plan;
    const nn_store *store = &pe->store;
    p->weights = weight_bytes(s, o->m, &pe->over) + o->bytes;
    p->trainable =
        (size_t)(store->count + store->state_count + store->derived_count) * sizeof(float);
    p->gradients = (size_t)(store->count + store->alias_count) * sizeof(float);
    p->optimizer = opt_bytes(s->cfg.rule, s->cfg.rule_cfg, store);
    p->workspace = workspace(s, pe);
    p->workspace += pe->beside;
    if (pe->folding > p->activations) p->workspace += pe->folding - p->activations;
    if (pe->opening > p->activations) p->workspace += pe->opening - p->activations;
    p->total =
        p->weights + p->trainable + p->gradients + p->optimizer + p->activations + p->workspace;
    /* pages of the weights' files need not stay in memory; what was quantised reads them once */
    const size_t mapped = s->m->weights.n > 0 && !made(o->m) ? p->weights - o->bytes : 0;
    const size_t there = io_weights_rss(&s->m->weights);
    p->grant = ft_memory_ask(
        &(ft_need){p->total, mapped, mapped > there ? mapped - there : 0, ADDRESS_BYTES});
    p->trainable_count = 0;
    for (int64_t i = 0; i < store->n; i++) p->trainable_count += tn_count(&store->param[i]->t);
    p->checkpoint_bytes = values_bytes(store, true) + states_bytes(&s->cfg, store) +
                          p->objective_bytes + folder_bytes(s, o->m, pe) + CHECKPOINT_TEXT;
    p->result_bytes = result_bytes(s, o->m, pe);
    p->checkpoints = checkpoints_at_once(s);
    p->lines_bytes = (size_t)((s->total_steps + s->reuse - 1) / s->reuse) * o->batch_line_bytes;
    p->artifact = o->artifact;
    p->disk_need = (size_t)p->checkpoints * p->checkpoint_bytes + p->result_bytes + p->lines_bytes;
    p->disk_free = s->out && s->out[0] ? dir_free_space(s->out) : SIZE_MAX;
}

/* Virtual rows take positions: where those come from a table, it must reach. Sequences that are too long without them are
 * spoken of where the data is read. */
static ft_status check_positions(const train_session *s, const nn_overlay *over)
{
    const model *m = s->m;
    const int64_t most = m->d.max_position, virtual = nn_virtual(over);
    int64_t eval = s->eval ? train_positions(s, s->eval) : 0,
            longest = train_positions(s, s->train);
    FT_TRY(train_samples_fit(s, virtual));
    if (eval > longest) longest = eval;
    if (virtual == 0 || most <= 0 || longest + virtual <= most) return FT_OK;
    FT_CHECK(!m->position || virtual < most, FT_ECONFIG,
             "%s: method: %lld virtual tokens leave no room for others, the model has %lld "
             "positions; lower their number",
             s->config_name, (long long)virtual, (long long)most);
    FT_CHECK(!m->position, FT_ECONFIG,
             "%s: data.max_length: a sequence has up to %lld tokens behind %lld virtual ones, the "
             "model has %lld positions; lower data.max_length",
             s->config_name, (long long)longest, (long long)virtual, (long long)most);
    if (longest <= most)
        log_warn("a sequence has %lld tokens behind %lld virtual ones, the model was made for %lld",
                 (long long)longest, (long long)virtual, (long long)most);
    return FT_OK;
}

static ft_status plan_step(train_session *s, obj_ctx *o, size_t *bytes)
{
    train_plan *p = &s->plan;
    data_batch b;
    FT_TRY(draws_what_it_trains(s, o) ? drawn_batch(s, o->tuned, &b) : worst_batch(s, o, &b));
    p->micro_tokens = b.in.tokens;
    return dry_pass(s, o, &b, train_recording(s), bytes, &p->rooms);
}

/* A piece of an evaluation: it fills up to MICRO_TOKENS, or is one sample. */
static ft_status plan_evaluation(train_session *s, obj_ctx *o, size_t *bytes)
{
    data_batch b;
    const obj_made made = o->made_of_eval;
    int64_t longest = made_tokens(s, s->eval, made, 1);
    int64_t rows = made_tokens(s, s->eval, made, MICRO_TOKENS);
    for (int i = 0; i < data_sources(s->eval); i++)
        rows += data_stats(s->eval, i)->sequences * nn_virtual(o->tuned);
    FT_TRY(full_batch(s, longest, rows < MICRO_TOKENS ? rows : MICRO_TOKENS,
                      sequences(s, s->eval, o->tuned), o->tuned, &b));
    return dry_pass(s, o, &b, 0, bytes, &s->plan.rooms);
}

static ft_status plan_activations(train_session *s, obj_ctx *o, const pe_ctx *pe)
{
    train_plan *p = &s->plan;
    size_t step = 0, eval = 0, mark = arena_mark(s->batch);
    p->rooms = (ag_rooms){0};
    ft_status rc = plan_step(s, o, &step);
    p->batch_bytes = arena_mark(s->batch) - mark;
    arena_reset(s->batch, mark);
    if (rc == FT_OK && s->eval) rc = plan_evaluation(s, o, &eval);
    arena_reset(s->batch, mark);
    p->activations = step > eval ? step : eval;
    if (o->passes > p->activations) p->activations = o->passes;
    if (rc == FT_OK) plan_sums(s, o, pe);
    return rc;
}

/* "auto": one or two MICRO_TOKENS a micro-batch, halved down to one sample while the plan does not fit. */
static ft_status plan_micro(train_session *s, obj_ctx *o, const pe_ctx *pe)
{
    train_plan *p = &s->plan;
    bool given = s->cfg.train.micro_batch_size != CFG_AUTO;
    p->micro_bound = pe->method->quantization ? MICRO_TOKENS : 2 * MICRO_TOKENS;
    FT_TRY(plan_activations(s, o, pe));
    while (!given && !fits(p) && p->micro_bound > 1 &&
           p->micro_tokens > data_longest(s->train, 1)) {
        p->micro_bound /= 2;
        FT_TRY(plan_activations(s, o, pe));
    }
    return FT_OK;
}

/* Data, or blocks that were made, may have taken more while they were read than the run will take: that is its peak then. */
static void count_opening(train_plan *p)
{
    size_t peak = ft_peak_rss();
    if (peak <= p->total || p->grant.need + (peak - p->total) > p->grant.limit) return;
    p->grant.need += peak - p->total;
    p->workspace += peak - p->total;
    p->total = peak;
}

ft_status train_plan_make(train_session *s)
{
    ft_status rc;
    model *m = NULL;
    pe_ctx *pe = NULL;
    obj_ctx o = {0};
    bool choose = s->cfg.train.gradient_checkpointing < 0;

    s->plan.resident = resident(s);
    FT_TRY_OUT(train_open_model(s, false, &m));
    FT_TRY_OUT(train_attach_method(s, m, &pe));
    s->plan.virtual_rows = nn_virtual(&pe->over);
    FT_TRY_OUT(check_positions(s, &pe->over));
    FT_TRY_OUT(train_open_objective(s, m, pe, false, &o));
    FT_TRY_OUT(arrays_bytes(s, &o, &s->plan.objective_bytes));
    s->plan.checkpointing = s->cfg.train.gradient_checkpointing == 1;
    FT_TRY_OUT(plan_micro(s, &o, pe));
    if (choose && !fits(&s->plan)) {
        s->plan.checkpointing = true;
        FT_TRY_OUT(plan_micro(s, &o, pe));
    }
    count_opening(&s->plan);
out:
    obj_close(&o);
    pe_close(pe);
    model_close(m);
    return rc;
}

/* What saves most, by its key. */
static const char *remedy(const train_session *s)
{
    const train_plan *p = &s->plan;
    if (s->cfg.method->result == PE_MODEL && p->gradients + p->optimizer > p->activations)
        return "method.type \"lora\" or \"qlora\" trains, and keeps gradients and states of, few "
               "values";
    if (p->weights > p->activations)
        return "model.quantization {\"type\": \"nf4\"} (method.type \"qlora\") keeps the frozen "
               "weights in 4 bits";
    if (!p->checkpointing)
        return "train.gradient_checkpointing true, a smaller data.max_length or "
               "train.micro_batch_size saves activations";
    return "a smaller data.max_length or train.micro_batch_size saves activations";
}

ft_status train_plan_memory(const train_session *s)
{
    const train_plan *p = &s->plan;
    FT_CHECK(
        fits(p), FT_EMEM,
        "this run needs %s of memory, %s grants %s: weights %s, trainable values %s, gradients "
        "%s, optimizer %s, activations %s, workspace %s; %s",
        ft_bytes_text(p->grant.need), p->grant.name, ft_bytes_text(p->grant.limit),
        ft_bytes_text(p->weights), ft_bytes_text(p->trainable), ft_bytes_text(p->gradients),
        ft_bytes_text(p->optimizer), ft_bytes_text(p->activations), ft_bytes_text(p->workspace),
        remedy(s));
    return FT_OK;
}

/* Of what the run is to write, that is there already. */
static ft_status written_bytes(const train_session *s, int64_t checkpoints, size_t *out)
{
    const train_plan *p = &s->plan;
    int64_t lines = 0;
    if (s->run_id[0] && p->lines_bytes > 0) {
        const char *path = path_join(s->mem, s->out, p->artifact);
        if (!path) return FT_EMEM;
        FT_TRY(path_size(path, &lines));
    }
    *out = (size_t)checkpoints * p->checkpoint_bytes;
    if (lines > 0) *out += (size_t)lines < p->lines_bytes ? (size_t)lines : p->lines_bytes;
    return FT_OK;
}

ft_status train_plan_disk(const train_session *s)
{
    const train_plan *p = &s->plan;
    train_found *found;
    int64_t there = 0;
    size_t written;
    if (s->run_id[0]) FT_TRY(train_checkpoint_list(s, s->mem, &found, &there)); /* being resumed */
    if (there > p->checkpoints - 1) there = p->checkpoints - 1;
    FT_TRY(written_bytes(s, there, &written));
    const size_t need = p->disk_need - written;
    FT_CHECK(need <= p->disk_free, FT_EIO,
             "%s: this run needs %s of disk space (%lld checkpoints of %s and a result of %s), %s "
             "are free",
             s->out, ft_bytes_text(need), (long long)(p->checkpoints - there),
             ft_bytes_text(p->checkpoint_bytes), ft_bytes_text(p->result_bytes + p->lines_bytes),
             ft_bytes_text(p->disk_free));
    return FT_OK;
}
