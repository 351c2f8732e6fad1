/* reward.c – the rewards of texts by a model that scores (a sequence classifier of one label), many in a pass. A reward depends
 * on its own text alone; what stands behind the token it is read at (padding) is not run. */
#include "infer_private.h"

/* Rows that a text takes. */
static int64_t rows_of(const inf_ctx *c, const tok_ids *x)
{
    return model_reward_row(c->m, x->id, x->n) + 1;
}

/* How many of the texts go into the next pass, and their rows. */
static int64_t fill(const inf_ctx *c, const tok_ids *seq, int64_t n, int64_t *rows)
{
    int64_t end = 0, taken = 0;
    for (*rows = 0; end < n; end++) {
        const int64_t more = rows_of(c, &seq[end]);
        if (end > 0 && taken + more > INF_PASS_TOKENS) break;
        *rows += more;
        taken += more + nn_virtual(c->over);
    }
    return end;
}

static ft_status make_batch(const inf_ctx *c, const tok_ids *seq, int64_t n, int64_t rows,
                            nn_batch *b, int64_t **last)
{
    ag_tape *t = c->tape;
    ag_reset(t);
    int32_t *ids = ag_meta(t, (size_t)rows * sizeof *ids);
    int32_t *pos = ag_meta(t, (size_t)rows * sizeof *pos);
    int32_t *len = ag_meta(t, (size_t)n * sizeof *len);
    *last = ag_meta(t, (size_t)n * sizeof **last);
    FT_TRY(t->status);
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        len[i] = (int32_t)rows_of(c, &seq[i]);
        for (int32_t k = 0; k < len[i]; k++, at++) {
            ids[at] = seq[i].id[k];
            pos[at] = k;
        }
        (*last)[i] = at - 1;
    }
    *b = (nn_batch){.n_seq = (int)n, .len = len, .tokens = rows, .ids = ids, .pos = pos};
    return FT_OK;
}

static ft_status name_nonfinite(const inf_ctx *c, const tok_ids *seq)
{
    nn_batch b;
    int64_t *last;
    str_buf where = {0};
    ft_status rc = make_batch(c, seq, 1, rows_of(c, seq), &b, &last);
    if (rc == FT_OK) rc = inf_find_nonfinite(c, &b, &where);
    if (rc == FT_OK)
        rc = ft_fail(FT_EDIVERGED, "the reward is not a finite number: %s", where.data);
    str_free(&where);
    return rc;
}

static ft_status run_pass(const inf_ctx *c, const tok_ids *seq, int64_t n, int64_t rows,
                          double *out)
{
    nn_batch b;
    nn_run r;
    int64_t *last;
    FT_TRY(make_batch(c, seq, n, rows, &b, &last));
    FT_TRY(nn_run_open(&r, c->tape, &b, c->over, 0));
    tn_tensor *hidden = model_hidden(c->m, &r);
    float *y = ag_meta(c->tape, (size_t)n * sizeof *y);
    FT_TRY(c->tape->status);
    FT_TRY(model_logits(c->m, &r, hidden, last, n, y, false));
    const int64_t bad = kn_find_nonfinite(y, n);
    for (int64_t i = 0; i < n; i++) out[i] = (double)y[i];
    return bad < 0 ? FT_OK : name_nonfinite(c, &seq[bad]);
}

static ft_status check(const inf_ctx *c, const tok_ids *seq, int64_t n)
{
    FT_CHECK(c->m->scores, FT_EDATA, "%s: is a language model, and gives no reward",
             ft_shows(c->m->path));
    for (int64_t i = 0; i < n; i++) {
        FT_CHECK(seq[i].n > 0, FT_EDATA, "a text without a token has no reward");
        FT_TRY(inf_check_ids(c, seq[i].id, seq[i].n));
    }
    return FT_OK;
}

/* The largest of the passes, in each way. */
static ft_status plan(const inf_ctx *c, const tok_ids *seq, int64_t n)
{
    inf_shape s = {0};
    if (!c->plan) return FT_OK;
    for (int64_t first = 0, k, rows; first < n; first += k) {
        k = fill(c, seq + first, n - first, &rows);
        if (rows > s.rows) s.rows = rows;
        if (k > s.seqs) s.seqs = k;
    }
    s.wanted = s.seqs;
    return inf_plan_for(c, &s);
}

ft_status inf_reward(const inf_ctx *c, const tok_ids *seq, int64_t n, double *out)
{
    FT_TRY(check(c, seq, n));
    FT_TRY(plan(c, seq, n));
    for (int64_t first = 0, k, rows; first < n; first += k) {
        k = fill(c, seq + first, n - first, &rows);
        FT_TRY(inf_go_on());
        FT_TRY(run_pass(c, seq + first, k, rows, out + first));
    }
    return FT_OK;
}
