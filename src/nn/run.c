/* run.c – the one maker of runs: a batch bound to a tape, with an overlay's virtual rows put before its sequences.
 *
 * Everything it makes lies in the tape's own memory, because the backward reads it: rows, keys, ids. */
#include "ft/nn.h"

#define VIRTUAL_KEY 0x7669727475616cu /* identity of virtual rows' dropout keys: "virtual" */

typedef struct writer {
    int32_t *len, *ids, *pos, *label;
    uint64_t *key;
    int64_t *row_of;
    int64_t at; /* rows written */
} writer;

static bool make_room(writer *w, ag_tape *t, const nn_batch *b, int64_t rows)
{
    size_t n = (size_t)rows + 1;
    *w = (writer){.len = ag_meta(t, (size_t)(b->n_seq + 1) * sizeof *w->len),
                  .ids = ag_meta(t, n * sizeof *w->ids),
                  .pos = ag_meta(t, n * sizeof *w->pos),
                  .label = b->label ? ag_meta(t, n * sizeof *w->label) : NULL,
                  .key = b->row_key ? ag_meta(t, n * sizeof *w->key) : NULL,
                  .row_of = ag_meta(t, (size_t)(b->tokens + 1) * sizeof *w->row_of)};
    return t->status == FT_OK;
}

/* The virtual rows of sequence s, whose own first row in the batch is `from`. */
static void put_virtual(writer *w, const nn_batch *b, const nn_overlay *over, int s, int64_t from)
{
    for (int64_t k = 0; k < over->virtual_tokens; k++, w->at++) {
        bool predicts = over->virtual_predict && k + 1 == over->virtual_tokens && b->first;
        w->ids[w->at] = (int32_t)(-1 - k);
        w->pos[w->at] = (int32_t)k;
        if (w->label) w->label[w->at] = predicts ? b->first[s] : -100;
        if (w->key) w->key[w->at] = rng_key(b->row_key[from], VIRTUAL_KEY, (uint64_t)k);
    }
}

static void put_own(writer *w, const nn_batch *b, int64_t from, int64_t n, int64_t shift)
{
    for (int64_t i = from; i < from + n; i++, w->at++) {
        w->ids[w->at] = b->ids[i];
        w->pos[w->at] = (int32_t)(b->pos[i] + shift);
        if (w->label) w->label[w->at] = b->label[i];
        if (w->key) w->key[w->at] = b->row_key[i];
        w->row_of[i] = w->at;
    }
}

static ft_status insert_virtual(nn_run *r, ag_rows *rows, const nn_batch *b, const nn_overlay *over)
{
    writer w;
    int64_t from = 0;
    if (!make_room(&w, r->t, b, b->tokens + b->n_seq * over->virtual_tokens)) return r->t->status;
    for (int s = 0; s < b->n_seq; from += b->len[s++]) {
        bool begins = b->pos[from] == 0;
        int64_t before = w.at;
        if (begins) put_virtual(&w, b, over, s, from);
        put_own(&w, b, from, b->len[s], begins ? over->virtual_tokens : 0);
        w.len[s] = (int32_t)(w.at - before);
    }
    *rows = (ag_rows){.n = w.at, .n_seq = b->n_seq, .len = w.len, .key = w.key, .mask_key = b->key};
    r->ids = w.ids;
    r->pos = w.pos;
    r->label = w.label;
    r->row_of = w.row_of;
    return FT_OK;
}

ft_status nn_run_open(nn_run *r, ag_tape *t, const nn_batch *b, const nn_overlay *over,
                      unsigned how)
{
    ag_rows *rows = ag_meta(t, sizeof *rows);
    *r = (nn_run){.t = t, .over = over, .ids = b->ids, .pos = b->pos, .label = b->label};
    if (!rows) return t->status;
    t->record = (how & NN_RECORD) != 0;
    t->few = (how & NN_FEW) != 0;
    r->checkpoint = (how & NN_CHECKPOINT) != 0;
    r->noise = t->record ? b->noise : 0.0f;
    r->drops = t->record && !b->calm;
    *rows = (ag_rows){
        .n = b->tokens, .n_seq = b->n_seq, .len = b->len, .key = b->row_key, .mask_key = b->key};
    if (nn_virtual(over) > 0) FT_TRY(insert_virtual(r, rows, b, over));
    r->rows = rows;
    r->tokens = rows->n;
    for (int64_t i = 0; r->label && i < r->tokens; i++) r->supervised += r->label[i] >= 0;
    ag_set_rows(t, rows);
    return t->status;
}
