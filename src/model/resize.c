/* resize.c – a model of another vocabulary: embedding and head with more rows, or fewer.
 *
 * Tokens added in training give an adapter tables of its own, longer than the base's; a base with rows to spare is cut as
 * often. What an adapter computes with must have its sizes before the adapter is laid over it. */
#include "model_private.h"

#include <string.h>

static ft_status resize(nn_param *p, int64_t rows, void **mem)
{
    size_t row;
    int64_t old = p->t.dim[0];
    FT_CHECK(dt_bytes(p->t.type, p->t.dim[1], &row), FT_EDATA, "\"%s\": rows of odd size", p->name);
    if (rows > old && p->t.data) {
        char *more = ft_alloc((size_t)rows, row); /* zero: rows of tokens that the base never saw */
        if (!more) return FT_EMEM;
        memcpy(more, p->t.data, (size_t)old * row);
        p->t.data = *mem = more;
    }
    p->t.dim[0] = rows;
    return FT_OK;
}

ft_status model_resize_vocabulary(model *m, int64_t rows)
{
    if (rows == m->d.vocab_size) return FT_OK;
    FT_CHECK(rows > 0 && rows <= INT32_MAX, FT_EDATA, "a vocabulary of %lld tokens",
             (long long)rows);
    FT_TRY(resize(m->embed->w, rows, &m->resized[0]));
    if (m->d.tied)
        m->head->w->t = m->embed->w->t;
    else if (!m->scores)
        FT_TRY(resize(m->head->w, rows, &m->resized[1]));
    m->file_vocabulary = m->d.vocab_size;
    m->embed->out = m->d.vocab_size = rows;
    if (!m->scores) m->head->out = rows;
    return FT_OK;
}
