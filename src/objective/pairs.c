/* pairs.c – losses over judged answers: one pass a micro-batch gives the log-probability of every token of every answer, a row
 * of the objective turns a sample's sums into a loss and its slopes, and these weigh the tokens' gradients.
 *
 * The reference is the model that the policy began as: the base without the adapter, which costs no second copy, or the
 * adapter as it was loaded; of full training the base's own values, which stay mapped. Its log-probabilities are made in
 * `prepare`, once a step, or for all samples before the first; either way by the same passes, whose bits do not depend on how
 * they are cut, so both give the same numbers. Records may carry them, and then no reference is read. */
#include "pairs.h"

#include "ft/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const obj_pairs_references[] = {"base", NULL};

const char *const obj_pairs_metric_names[PAIRS_METRICS] = {
    [PAIRS_REWARD_CHOSEN] = "rewards/chosen",
    [PAIRS_REWARD_REJECTED] = "rewards/rejected",
    [PAIRS_MARGINS] = "rewards/margins",
    [PAIRS_ACCURACIES] = "rewards/accuracies",
    [PAIRS_LOGPS_CHOSEN] = "logps/chosen",
    [PAIRS_LOGPS_REJECTED] = "logps/rejected",
    [PAIRS_ENTROPY] = "entropy",
    [PAIRS_NLL] = "nll_loss",
    [PAIRS_ODDS_RATIO] = "log_odds_ratio",
    [PAIRS_ODDS_CHOSEN] = "log_odds_chosen",
    [PAIRS_KL] = "kl",
};

/* --- what records carry ----------------------------------------------------------------------------------------- */
/* A log-probability of the reference that the record carries. */
static bool carried(const data_sample *d, const char *key, double *out)
{
    char quoted[64];
    if (!d->extra) return false;
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(d->extra, quoted);
    if (at) *out = strtod(at + strlen(quoted), NULL);
    return at != NULL;
}

static bool all_carried(const pairs *p, const data_sample *d, pairs_sample *x)
{
    if (p->kind.asked) return false;
    if (d->n_seq == 1) return carried(d, "ref_logps", &x->side[0].ref);
    return carried(d, "ref_chosen_logps", &x->side[PAIRS_CHOSEN].ref) &&
           carried(d, "ref_rejected_logps", &x->side[PAIRS_REJECTED].ref);
}

/* Every record has all that is asked of the reference. Of a stream that is not known before it is read. */
static ft_status set_carries(const pairs *p, data_set *set, bool *all)
{
    arena *mem = p->c->step_mem;
    for (int i = 0; i < data_sources(set); i++) *all = *all && data_stats(set, i)->whole;
    for (int64_t i = 0; *all && i < data_count(set); i++) {
        const size_t mark = arena_mark(mem);
        data_sample d;
        pairs_sample x = {0};
        double other;
        FT_TRY(data_get(set, i, &d, mem));
        *all =
            all_carried(p, &d, &x) && (!p->kind.mismatched || carried(&d, "ref_KL_logps", &other));
        arena_reset(mem, mark);
    }
    return FT_OK;
}

static ft_status none_needed(const pairs *p, bool *out)
{
    *out = true;
    FT_TRY(set_carries(p, p->c->train, out));
    return p->c->eval ? set_carries(p, p->c->eval, out) : FT_OK;
}

/* --- the reference ---------------------------------------------------------------------------------------------- */
static ft_status open_reference(pairs *p, const pairs_cfg *cfg, bool weights)
{
    bool have;
    const obj_ctx *c = p->c;
    const char *path = obj_other_reference(c, cfg->reference);
    if (!path) return FT_OK;
    FT_TRY(none_needed(p, &have));
    if (have && weights && cfg->reference)
        log_warn("objective.reference has no effect: every record carries the log-probabilities of "
                 "a reference");
    if (have) return FT_OK;
    return obj_other_open(c, "the reference", path, NULL, 0, weights, &p->ref);
}

static size_t table_bytes(const pairs *p)
{
    const obj_ctx *c = p->c;
    const int64_t n = data_count(c->train) + (c->eval ? data_count(c->eval) : 0);
    return ((size_t)n * PAIRS_SIDES + 1) * sizeof *p->table;
}

ft_status obj_pairs_open(obj_ctx *c, bool weights, const pairs_kind *kind)
{
    pairs *p = c->priv = arena_get(c->mem, sizeof *p);
    if (!p) return FT_EMEM;
    p->c = c;
    p->kind = *kind;
    p->ref = obj_other_base(c);
    for (int m = 0; m < PAIRS_METRICS; m++) {
        p->at[m] = -1;
        for (int i = 0; c->row->metrics[i]; i++)
            if (strcmp(c->row->metrics[i], obj_pairs_metric_names[m]) == 0) p->at[m] = i;
    }
    if (!kind->reference) return FT_OK;
    const pairs_cfg *cfg = c->cfg;
    if (weights) p->precision = c->tape->precision;
    if (cfg->precompute_ref_log_probs) c->bytes += table_bytes(p);
    FT_TRY(open_reference(p, cfg, weights));
    c->bytes += p->ref.bytes;
    return FT_OK;
}

void obj_pairs_close(obj_ctx *c)
{
    pairs *p = c->priv;
    if (!p) return;
    obj_other_close(&p->ref);
    ft_free(p->table);
}

/* --- log-probabilities of a run --------------------------------------------------------------------------------- */
/* The rows of a run that are scored. */
typedef struct scored {
    int64_t n;
    int32_t *label;       /* [rows of the run] */
    int32_t *seq, *place; /* [n] its sequence; which token of the answer, −1: of the prompt */
    int32_t *side;        /* [sequences] */
    float *logprob, *entropy, *power, *apart; /* [n] */
} scored;

static bool scored_room(ag_tape *t, const nn_run *r, const pairs *p, scored *s)
{
    const size_t n = (size_t)r->tokens + 1, seqs = (size_t)r->rows->n_seq + 1;
    *s = (scored){.label = ag_meta(t, n * sizeof *s->label),
                  .seq = ag_meta(t, n * sizeof *s->seq),
                  .place = ag_meta(t, n * sizeof *s->place),
                  .side = ag_meta(t, seqs * sizeof *s->side),
                  .logprob = ag_meta(t, n * sizeof *s->logprob),
                  .entropy = ag_meta(t, n * sizeof *s->entropy),
                  .power = p->kind.aligned ? ag_meta(t, n * sizeof *s->power) : NULL,
                  .apart = p->kind.apart ? ag_meta(t, n * sizeof *s->apart) : NULL};
    return t->status == FT_OK;
}

/* Tokens of answers, and of prompts where their cross-entropy counts. */
static bool find_scored(nn_run *r, const data_batch *b, const pairs *p, bool prompts, scored *s)
{
    if (!scored_room(r->t, r, p, s)) return false;
    for (int32_t q = 0, at = 0; q < r->rows->n_seq; q++) {
        const int32_t end = at + r->rows->len[q];
        s->side[q] = q > 0 && b->seq_slot[q] == b->seq_slot[q - 1] ? s->side[q - 1] + 1 : 0;
        const bool all = prompts && p->kind.nll_prompt && s->side[q] == p->kind.nll_side;
        for (int32_t place = 0; at < end; at++) {
            const bool answer = r->label[at] >= 0, next = at + 1 < end && r->ids[at + 1] >= 0;
            s->label[at] = answer ? r->label[at] : all && next ? r->ids[at + 1] : DATA_IGNORE;
            if (s->label[at] < 0) continue;
            s->seq[s->n] = q;
            s->place[s->n++] = answer ? place++ : -1;
        }
    }
    return true;
}

static tn_tensor *score(model *m, nn_run *r, const scored *s, bool figures, const ag_other *other)
{
    tn_tensor *h = model_hidden(m, r);
    const ag_score what = {.head = model_head(m, r),
                           .label = s->label,
                           .logprob = s->logprob,
                           .entropy = figures ? s->entropy : NULL,
                           .power = figures ? s->power : NULL,
                           .other = *other};
    return ag_logprob(r->t, h, &what);
}

/* Of token `place` of an answer, by the lengths of its sample's first two. */
static double weight_of(const pairs *p, const pairs_sample *x, int32_t place)
{
    if (p->kind.tail == 1.0) return 1.0;
    const int64_t a = x->side[0].n, b = x->side[1].n;
    return place < (a < b ? a : b) ? 1.0 : p->kind.tail;
}

/* Adds the rows of a run up, each answer in the order of its tokens. */
static void add_up(const pairs *p, const data_batch *b, const scored *s, pairs_sample *of,
                   bool reference)
{
    for (int64_t i = 0; i < s->n; i++) {
        if (s->place[i] < 0) continue;
        pairs_sample *x = &of[b->seq_slot[s->seq[i]]];
        pairs_side *side = &x->side[s->side[s->seq[i]]];
        const double lp = (double)s->logprob[i], w = weight_of(p, x, s->place[i]) * lp;
        *(reference ? &side->ref : &side->logp) += w;
        if (reference) continue;
        side->plain += lp;
        if (s->power) side->aligned += lp - (double)s->power[i];
        if (s->apart) side->apart += (double)s->apart[i];
    }
}

/* --- passes over a step ----------------------------------------------------------------------------------------- */
static void measure(const data_sample *d, int slot, pairs_sample *x)
{
    *x = (pairs_sample){.n = d->n_seq, .slot = slot, .value = d->value};
    for (int64_t k = 0, at = 0; k < d->n_seq && k < PAIRS_SIDES; at += d->seq_len[k++]) {
        for (int32_t i = 0; i < d->seq_len[k]; i++)
            x->side[k].n += d->labels[at + i] != DATA_IGNORE;
    }
}

/* One micro-batch under the reference, or the policy, without a record. */
static ft_status run_alone(const pairs *p, ag_tape *t, const data_batch *b, bool reference,
                           scored *s)
{
    const obj_ctx *c = p->c;
    nn_run r;
    scored all;
    FT_TRY(nn_run_open(&r, t, &b->in, reference ? p->ref.over : c->tuned, 0));
    if (!find_scored(&r, b, p, false, &all)) return t->status;
    score(reference ? p->ref.m : c->m, &r, &all, !reference, &(ag_other){0});
    all.apart = NULL; /* nothing is asked of both */
    *s = all;
    return t->status;
}

/* Sums of every answer under the reference, or the policy, without a record. */
static ft_status pass(pairs *p, const data_sample *d, int n, const data_split *how, bool reference,
                      pairs_sample *out)
{
    const obj_ctx *c = p->c;
    const nn_overlay *over = reference ? p->ref.over : c->tuned;
    data_split split = *how;
    data_step plan;
    split.virtual_rows = nn_virtual(over);
    split.count_first = over && over->virtual_predict;
    FT_TRY(data_step_plan(d, n, &split, &plan, c->step_mem));
    for (int i = 0; i < plan.n_micro; i++) {
        size_t mark = arena_mark(c->step_mem);
        data_batch b;
        scored s;
        FT_TRY(ft_stop());
        FT_TRY(data_batch_make(d, &plan.micro[i], 0, &b, c->step_mem));
        ag_reset(c->tape);
        FT_TRY(run_alone(p, c->tape, &b, reference, &s));
        add_up(p, &b, &s, out, reference);
        arena_reset(c->step_mem, mark);
    }
    return FT_OK;
}

/* Of the samples whose records do not have them. */
static ft_status pass_reference(pairs *p, const data_sample *d, int n, const data_split *how,
                                pairs_sample *out)
{
    int have = 0;
    for (int i = 0; i < n; i++) have += all_carried(p, &d[i], &out[i]);
    if (have == n) return FT_OK;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < PAIRS_SIDES; k++) out[i].side[k].ref = 0;
    FT_TRY(pass(p, d, n, how, true, out));
    for (int i = 0; i < n; i++) all_carried(p, &d[i], &out[i]);
    return FT_OK;
}

/* --- before step 1 ------------------------------------------------------------------------------------------------ */
static ft_status precompute_set(pairs *p, data_set *set, const data_split *how, double *to)
{
    const obj_ctx *c = p->c;
    const int64_t count = data_count(set);
    for (int64_t first = 0; first < count; first += c->batch_size) {
        const size_t mark = arena_mark(c->step_mem);
        const int n = (int)(count - first < c->batch_size ? count - first : c->batch_size);
        data_sample *d = arena_get(c->step_mem, (size_t)n * sizeof *d);
        pairs_sample *x = arena_get(c->step_mem, (size_t)n * sizeof *x);
        if (!d || !x) return FT_EMEM;
        for (int i = 0; i < n; i++) {
            FT_TRY(data_get(set, first + i, &d[i], c->step_mem));
            measure(&d[i], i, &x[i]);
        }
        FT_TRY(pass_reference(p, d, n, how, x));
        for (int i = 0; i < n; i++)
            for (int k = 0; k < PAIRS_SIDES; k++)
                to[(first + i) * PAIRS_SIDES + k] = x[i].side[k].ref;
        arena_reset(c->step_mem, mark);
        log_progress("log-probabilities of the reference: %lld of %lld samples",
                     (long long)(first + n), (long long)count);
    }
    return FT_OK;
}

static ft_status precompute(pairs *p, const data_split *how)
{
    const obj_ctx *c = p->c;
    const kn_precision now = c->tape->precision;
    double *table = ft_alloc(table_bytes(p), 1);
    if (!table) return FT_EMEM;
    c->tape->precision = p->precision;
    ft_status rc = precompute_set(p, c->train, how, table);
    c->tape->precision = KN_F32;
    if (rc == FT_OK && c->eval)
        rc = precompute_set(p, c->eval, how, table + data_count(c->train) * PAIRS_SIDES);
    c->tape->precision = now;
    if (rc != FT_OK) {
        ft_free(table);
        return rc;
    }
    p->table = table;
    /* which answers meet, the step tells */
    if (!p->kind.mismatched && !p->kind.asked) obj_other_close(&p->ref);
    return FT_OK;
}

static ft_status reference(pairs *p, const obj_step *s)
{
    const pairs_cfg *cfg = p->c->cfg;
    if (cfg->precompute_ref_log_probs && !p->table) FT_TRY(precompute(p, &s->split));
    if (!p->table) return pass_reference(p, s->sample, s->n, &s->split, p->sample);
    const int64_t before = s->step < 0 ? data_count(p->c->train) : 0;
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < PAIRS_SIDES; k++)
            p->sample[i].side[k].ref = p->table[(before + s->sample[i].index) * PAIRS_SIDES + k];
    return FT_OK;
}

/* --- answers of others ---------------------------------------------------------------------------------------------- */
/* Tokens that a sequence may have: what is put together anew may be longer than any of the data. */
static int64_t most_tokens(const pairs *p)
{
    const obj_ctx *c = p->c;
    const model *ref = p->ref.own;
    int64_t most = c->max_length;
    const int64_t mine = c->m->d.max_position - nn_virtual(c->tuned);
    if (c->m->position && mine < most) most = mine;
    if (ref && ref->position && ref->d.max_position < most) most = ref->d.max_position;
    return most;
}

/* The prompt of `d` with the answer of `from`. */
static ft_status mismatch(const pairs *p, const data_sample *d, const data_sample *from,
                          data_sample *out)
{
    const obj_ctx *c = p->c;
    int64_t prompt = 0, skip = 0, n;
    while (prompt < d->len && d->labels[prompt] == DATA_IGNORE) prompt++;
    while (skip < from->len && from->labels[skip] == DATA_IGNORE) skip++;
    n = prompt + from->len - skip;
    if (n > most_tokens(p)) n = most_tokens(p);
    int32_t *ids = arena_get(c->step_mem, (2 * (size_t)n + 2) * sizeof *ids);
    if (!ids) return FT_EMEM;
    int32_t *labels = ids + n, *len = labels + n;
    for (int64_t i = 0; i < n; i++) {
        ids[i] = i < prompt ? d->ids[i] : from->ids[skip + i - prompt];
        labels[i] = i < prompt ? DATA_IGNORE : ids[i];
    }
    *len = (int32_t)n;
    *out = *d;
    out->ids = ids;
    out->labels = labels;
    out->seq_len = len;
    out->len = out->whole = n;
    return FT_OK;
}

static ft_status mismatched(pairs *p, const obj_step *s)
{
    const obj_ctx *c = p->c;
    data_sample *d = arena_get(c->step_mem, (size_t)s->n * sizeof *d);
    p->other = arena_get(c->step_mem, (size_t)s->n * sizeof *p->other);
    if (!d || !p->other) return FT_EMEM;
    for (int i = 0; i < s->n; i++) {
        FT_TRY(mismatch(p, &s->sample[i], &s->sample[i > 0 ? i - 1 : s->n - 1], &d[i]));
        measure(&d[i], i, &p->other[i]);
    }
    int have = 0;
    for (int i = 0; i < s->n; i++)
        have += carried(&s->sample[i], "ref_KL_logps", &p->other[i].side[0].ref);
    if (have < s->n) {
        for (int i = 0; i < s->n; i++) p->other[i].side[0].ref = 0;
        FT_TRY(pass(p, d, s->n, &s->split, true, p->other));
    }
    return pass(p, d, s->n, &s->split, false, p->other);
}

/* Rows of a sample whose cross-entropy counts: what stands before them predicts them. */
static int64_t nll_tokens(const pairs *p, const obj_step *s, const data_sample *d)
{
    int64_t at = 0, n = 0;
    if (p->kind.nll_side >= d->n_seq) return 0;
    for (int k = 0; k < p->kind.nll_side; k++) at += d->seq_len[k];
    for (int32_t i = s->split.count_first ? 0 : 1; i < d->seq_len[p->kind.nll_side]; i++)
        n += p->kind.nll_prompt || d->labels[at + i] != DATA_IGNORE;
    return n;
}

ft_status obj_pairs_prepare(obj_ctx *c, obj_step *s)
{
    pairs *p = c->priv;
    const pairs_kind *kind = &p->kind;
    p->n = s->n;
    p->of = s->sample;
    p->sample = arena_get(c->step_mem, (size_t)s->n * sizeof *p->sample);
    if (!p->sample) return FT_EMEM;
    p->nll_tokens = 0;
    for (int i = 0; i < s->n; i++) {
        measure(&s->sample[i], i, &p->sample[i]);
        p->nll_tokens += (double)nll_tokens(p, s, &s->sample[i]);
    }
    if (kind->reference) FT_TRY(reference(p, s));
    if (kind->mismatched) FT_TRY(mismatched(p, s));
    if (kind->whole) {
        FT_TRY(pass(p, s->sample, s->n, &s->split, false, p->sample));
        if (kind->step) kind->step(p);
        for (int i = 0; i < s->n; i++) {
            for (int k = 0; k < PAIRS_SIDES; k++) {
                pairs_side *side = &p->sample[i].side[k];
                side->logp = side->plain = side->aligned = side->apart = 0;
            }
        }
    } else if (kind->step) {
        kind->step(p);
    }
    return FT_OK;
}

/* --- the loss ---------------------------------------------------------------------------------------------------- */
void obj_pairs_log(const pairs *p, obj_stats *stats, pairs_metric m, double value, double weight)
{
    if (p->at[m] < 0) return;
    stats->metric[p->at[m]].sum += value * weight;
    stats->metric[p->at[m]].weight += weight;
}

void obj_pairs_log_rewards(const pairs *p, obj_stats *stats, double chosen, double rejected)
{
    obj_pairs_log(p, stats, PAIRS_REWARD_CHOSEN, chosen, 1);
    obj_pairs_log(p, stats, PAIRS_REWARD_REJECTED, rejected, 1);
    obj_pairs_log(p, stats, PAIRS_MARGINS, chosen - rejected, 1);
    obj_pairs_log(p, stats, PAIRS_ACCURACIES, chosen > rejected, 1);
}

/* Every sample of the batch once, in its order. */
static void each_sample(pairs *p, const data_batch *b, obj_stats *stats)
{
    for (int q = 0; q < b->in.n_seq; q++) {
        if (q > 0 && b->seq_slot[q] == b->seq_slot[q - 1]) continue;
        pairs_sample *x = &p->sample[b->seq_slot[q]];
        p->kind.each(p, x);
        stats->loss += x->loss;
        stats->units++;
        if (p->kind.log) p->kind.log(p, x, stats);
    }
}

/* Of every scored row: d loss / d log-probability [n], and / d KL [n] where it is asked for. */
static void weigh(pairs *p, const data_batch *b, const scored *s, double units, float *weight,
                  obj_stats *stats)
{
    const pairs_kind *kind = &p->kind;
    for (int64_t i = 0; i < s->n; i++) {
        const pairs_sample *x = &p->sample[b->seq_slot[s->seq[i]]];
        const int32_t side = s->side[s->seq[i]], place = s->place[i];
        const double lp = (double)s->logprob[i];
        double w = 0;
        if (place >= 0 && units > 0) w = x->side[side].slope * weight_of(p, x, place) / units;
        if (place >= 0) obj_pairs_log(p, stats, PAIRS_ENTROPY, (double)s->entropy[i], 1);
        if (kind->nll != 0 && side == kind->nll_side && (place >= 0 || kind->nll_prompt)) {
            if (units > 0) w -= kind->nll / p->nll_tokens;
            stats->more.sum -= kind->nll * lp;
            stats->more.weight++;
            obj_pairs_log(p, stats, PAIRS_NLL, -lp, 1);
        }
        stats->tokens += place >= 0;
        weight[i] = (float)w;
        if (s->apart && place >= 0 && units > 0)
            weight[s->n + i] = (float)(x->side[side].apart_slope / units);
    }
}

static ft_status reference_alone(const void *with, ag_tape *t, const data_batch *b)
{
    scored s;
    return run_alone(with, t, b, true, &s);
}

tn_tensor *obj_pairs_loss(obj_ctx *c, nn_run *r, const data_batch *b, double units,
                          obj_stats *stats)
{
    pairs *p = c->priv;
    ag_other other = {0};
    scored s;
    if (r->t->dry && p->kind.reference) obj_other_count(r, b, reference_alone, p);
    if (!find_scored(r, b, p, true, &s)) return NULL;
    if (p->kind.apart && !obj_other_see(&p->ref, r, b, &other)) return NULL;
    other.divergence = s.apart; /* at beta 0: KL(r ‖ π) */
    float *weight = ag_meta(r->t, (2 * (size_t)s.n + 1) * sizeof *weight);
    tn_tensor *y = score(c->m, r, &s, true, &other);
    if (r->t->status != FT_OK || !weight) return NULL;
    if (!r->t->dry) {
        add_up(p, b, &s, p->sample, false);
        each_sample(p, b, stats);
        weigh(p, b, &s, units, weight, stats);
    }
    return ag_dot_const(r->t, y, weight);
}
