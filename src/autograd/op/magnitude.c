/* magnitude.c – columns of a product brought to trained lengths (DoRA, Liu et al. 2024). With û = u ⊘ n for constant n,
 *   y = m ⊙ û + b,  or in place  y[:, col …] += m ⊙ û − less:
 *   dm = Σ_t dy ⊙ û,  du = dy ⊙ m ⊘ n,  db = Σ_t dy,  d less = −dy.
 * û takes the place of u, so that dm is one chain of additions over a step and no copy is made. */
#include "ft/autograd.h"
#include "op_private.h"

typedef struct magnitude_attr {
    ag_magnitude s[AG_MAX_GROUP];
    int n;
    bool into; /* in place: in[1] is y, and u holds the columns of the one site alone */
    bool less; /* and in[2] is taken off */
} magnitude_attr;

static int64_t width_of(const ag_magnitude *s)
{
    return tn_count(s->m);
}

/* Columns without a site, of the n from column `from` on: where they end. */
static int64_t next_site(const magnitude_attr *a, int64_t from, int64_t cols)
{
    for (int i = 0; i < a->n; i++)
        if (a->s[i].col >= from && a->s[i].col < cols) cols = a->s[i].col;
    return cols;
}

/* y = or += x in the columns without a site. */
static void pass_rest(const magnitude_attr *a, float *y, const float *x, int64_t rows, int64_t cols,
                      bool accumulate)
{
    int64_t from = 0;
    for (int i = 0; i <= a->n; i++) {
        const int64_t end = next_site(a, from, cols);
        if (end > from)
            kn_mul_cols(y + from, cols, x + from, cols, NULL, 1.0f, rows, end - from, accumulate);
        if (i < a->n) from = a->s[i].col + width_of(&a->s[i]);
    }
}

static void forward(ag_tape *t, ag_node *n)
{
    const magnitude_attr *a = n->attr;
    const int64_t rows = tn_rows(n->out), ldy = tn_cols(n->out), ldu = tn_cols(n->in[0]);
    if (t->dry) return;
    for (int i = 0; i < a->n; i++) {
        const ag_magnitude *s = &a->s[i];
        float *y = tn_f32(n->out) + s->col, *u = tn_f32(n->in[0]) + (a->into ? 0 : s->col);
        kn_magnify(y, ldy, u, ldu, s->inverse, tn_f32(s->m), s->b ? tn_f32(s->b) : NULL, rows,
                   width_of(s), a->into);
        if (a->less)
            kn_mul_cols(y, ldy, tn_f32(n->in[2]), ldu, NULL, -1.0f, rows, width_of(s), true);
    }
    if (!a->into) pass_rest(a, tn_f32(n->out), tn_f32(n->in[0]), rows, ldy, false);
}

static void site_backward(ag_tape *t, const ag_node *n, const ag_magnitude *s, float *du,
                          bool fresh)
{
    const bool into = ((const magnitude_attr *)n->attr)->into;
    const int64_t rows = tn_rows(n->out), ldy = tn_cols(n->out), ldu = tn_cols(n->in[0]);
    const int64_t width = width_of(s), at = into ? 0 : s->col;
    const float *dy = n->out->grad + s->col;
    float *dm = ag_grad(t, s->m), *db = s->b ? ag_grad(t, s->b) : NULL;
    if (dm) kn_col_dot_add(dm, dy, ldy, tn_f32(n->in[0]) + at, ldu, rows, width);
    if (db) kn_col_sum_add(db, dy, ldy, rows, width);
    float *c = du ? ag_temp(t, width) : NULL;
    if (!c) return;
    kn_mul_cols(c, width, tn_f32(s->m), width, s->inverse, 1.0f, 1, width, false);
    kn_mul_cols(du + at, ldu, dy, ldy, c, 1.0f, rows, width, !fresh);
    ag_temp_free(t, c, width);
}

static void backward(ag_tape *t, ag_node *n)
{
    const magnitude_attr *a = n->attr;
    const int64_t rows = tn_rows(n->out), cols = tn_cols(n->in[0]);
    bool fresh;
    float *du = ag_grad_fresh(t, n->in[0], &fresh);
    for (int i = 0; i < a->n; i++) site_backward(t, n, &a->s[i], du, fresh);
    if (!a->into && du) pass_rest(a, du, n->out->grad, rows, cols, !fresh);
    float *dless = a->less ? ag_grad_fresh(t, n->in[2], &fresh) : NULL;
    if (dless)
        kn_mul_cols(dless, cols, n->out->grad + a->s[0].col, tn_cols(n->out), NULL, -1.0f, rows,
                    cols, !fresh);
}

static int64_t temp(const ag_node *n)
{
    const magnitude_attr *a = n->attr;
    int64_t most = 0;
    for (int i = 0; i < a->n; i++)
        if (width_of(&a->s[i]) > most) most = width_of(&a->s[i]);
    return most;
}

const ag_op ag_op_magnitude = {.name = "magnitude",
                               .forward = forward,
                               .backward = backward,
                               .by_rows = true,
                               .blind = 1 << 1 | 1 << 2, /* y and less; else parameters */
                               .temp = temp};

static magnitude_attr *attr_of(ag_tape *t, const ag_magnitude *s, int n, bool into)
{
    magnitude_attr *a = ag_meta(t, sizeof *a);
    if (!a || t->status != FT_OK) return NULL;
    a->n = n;
    a->into = into;
    for (int i = 0; i < n; i++) a->s[i] = s[i];
    return a;
}

tn_tensor *ag_magnify(ag_tape *t, tn_tensor *u, const ag_magnitude *s, int n)
{
    tn_tensor *in[1 + 2 * AG_MAX_GROUP] = {u};
    int n_in = 1;
    OP_ASSERT(t, n <= AG_MAX_GROUP);
    magnitude_attr *a = attr_of(t, s, n, false);
    for (int i = 0; a && i < n; i++) {
        OP_ASSERT(t, s[i].col + width_of(&s[i]) <= tn_cols(u));
        in[n_in++] = s[i].m;
        if (s[i].b) in[n_in++] = s[i].b;
    }
    tn_tensor *y = a ? ag_brief(t, tn_rows(u), tn_cols(u), &dt_f32) : NULL;
    return ag_call(t, &ag_op_magnitude, y, a, n_in, in);
}

tn_tensor *ag_magnify_into(ag_tape *t, tn_tensor *y, tn_tensor *u, tn_tensor *less,
                           const ag_magnitude *s)
{
    OP_ASSERT(t, tn_cols(u) == width_of(s) && !s->b);
    OP_ASSERT(t, !less || tn_cols(less) == width_of(s));
    OP_ASSERT(t, tn_rows(u) == tn_rows(y) && s->col + width_of(s) <= tn_cols(y));
    magnitude_attr *a = attr_of(t, s, 1, true);
    if (!a) return y;
    a->less = less != NULL;
    return ag_call(t, &ag_op_magnitude, y, a, 4, (tn_tensor *[]){u, y, less ? less : y, s->m});
}
