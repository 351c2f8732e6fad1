/* learned.c – which tokens of a record are learned: borders where what is learned begins and ends, instead of a label beside
 * every token. Labels are made of them where a sample is taken. */
#include "data_private.h"

/* Parts come about in order; one that reaches back into those before it is joined with them. */
ft_status data_learn(data_item *it, int64_t from, int64_t to)
{
    tok_ids *b = &it->border;
    if (from >= to) return FT_OK;
    for (; b->n > 0 && b->id[b->n - 1] >= from; b->n -= 2) {
        if (b->id[b->n - 2] < from) from = b->id[b->n - 2];
        if (b->id[b->n - 1] > to) to = b->id[b->n - 1];
    }
    FT_TRY(tok_ids_push(b, (int32_t)from));
    return tok_ids_push(b, (int32_t)to);
}

/* The first part that ends behind `at`. */
static int64_t part_behind(const data_item *it, int64_t at)
{
    int64_t low = 0, high = it->border.n / 2;
    while (low < high) {
        const int64_t mid = (low + high) / 2;
        if (it->border.id[2 * mid + 1] > at)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

bool data_learned_next(const data_item *it, int64_t at, int64_t end, int64_t *from, int64_t *to)
{
    const int64_t k = part_behind(it, at);
    if (at >= end || 2 * k >= it->border.n || it->border.id[2 * k] >= end) return false;
    *from = it->border.id[2 * k] > at ? it->border.id[2 * k] : at;
    *to = it->border.id[2 * k + 1] < end ? it->border.id[2 * k + 1] : end;
    return true;
}

int64_t data_learned(const data_item *it, int64_t at, int64_t end)
{
    int64_t n = 0, from, to;
    if (it->labels) {
        for (; at < end; at++) n += it->labels[at] != DATA_IGNORE;
        return n;
    }
    for (; data_learned_next(it, at, end, &from, &to); at = to) n += to - from;
    return n;
}

ft_status data_learn_labels(data_item *it)
{
    int64_t from = 0;
    for (int64_t i = 0; i < it->ids.n; i++)
        if (it->labels[i] != DATA_IGNORE && it->labels[i] != it->ids.id[i]) return FT_OK;
    for (int64_t i = 0; i < it->ids.n; i++) {
        if (it->labels[i] != DATA_IGNORE) continue;
        FT_TRY(data_learn(it, from, i));
        from = i + 1;
    }
    FT_TRY(data_learn(it, from, it->ids.n));
    ft_free(it->labels);
    it->labels = NULL;
    return FT_OK;
}
