/* window_load.c – a window read again, from its place alone: it must be what was read when the data was checked. */
#include "data_private.h"

#include <string.h>

static int64_t window_of(const data_source *s, int64_t row)
{
    int64_t lo = 0, hi = s->n_windows - 1;
    while (lo < hi) {
        int64_t mid = (lo + hi + 1) / 2;
        if (s->window[mid].first <= row)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

ft_status data_window_load(data_set *d, data_source *s, int64_t row, const data_row **out)
{
    int64_t k = window_of(s, row);
    const data_window *w = &s->window[k];
    if (s->loaded != k) {
        char sha256[65];
        s->loaded = -1;
        s->store.n_ids = s->store.n_seq = s->store.n_rows = 0;
        FT_TRY(data_read_window(d, s, k));
        data_hash_rows(&s->store, 0, s->store.n_rows, sha256);
        FT_CHECK(s->store.n_rows == w->rows && !strcmp(sha256, w->sha256), FT_EDATA,
                 "%s: changed while it was in use: what stands at byte %lld is not what was read "
                 "at first",
                 s->path, (long long)w->from.byte);
        s->loaded = k;
    }
    *out = &s->store.row[row - w->first];
    return FT_OK;
}
