/* text.c – the text of an answer as its tokens come: in whole characters, since a token may end in the middle of one, and
 * up to the first stop string, which may lie across tokens: what could become one is held back until it is known. */
#include <string.h>

#include "tool_private.h"

void tool_text_free(tool_text *x)
{
    str_free(&x->text);
}

static size_t open_end(const char *s, size_t n)
{
    size_t k = n;
    while (k >= 3 && memcmp(s + k - 3, "\xef\xbf\xbd", 3) == 0) k -= 3;
    return n - k;
}

/* The earliest occurrence, the shorter of two at one place, that begins at `from` or later and ends by `to`. */
static void find_stop(tool_text *x, size_t from, size_t to)
{
    size_t best = SIZE_MAX;
    for (int i = 0; i < x->n_stop; i++) {
        const char *s = x->stop[i];
        const char *at = to > from ? memmem(x->text.data + from, to - from, s, strlen(s)) : NULL;
        size_t start = at ? (size_t)(at - x->text.data) : SIZE_MAX;
        if (!at || start > best || (start == best && strlen(s) >= strlen(x->hit))) continue;
        best = start;
        x->hit = s;
    }
    if (!x->hit) return;
    x->text.len = best;
    x->text.data[best] = '\0';
}

static size_t longest_stop(const tool_text *x)
{
    size_t n = 1;
    for (int i = 0; i < x->n_stop; i++)
        if (strlen(x->stop[i]) > n) n = strlen(x->stop[i]);
    return n;
}

/* The text of ids [read, n) behind what is known; kept once it ends with a whole character. */
static ft_status add_tail(tool_text *x, const char *tail, size_t len, int64_t n, bool last)
{
    const size_t known = x->text.len, back = longest_stop(x) - 1;
    const size_t open = last ? 0 : open_end(tail, len);
    str_add(&x->text, tail, len);
    FT_TRY(str_ok(&x->text));
    find_stop(x, known > back ? known - back : 0, x->text.len - open);
    if (x->hit) return FT_OK;
    if (open > 0) {
        x->text.len = known;
        x->text.data[known] = '\0';
        return FT_OK;
    }
    x->begin = x->read;
    x->read = n;
    return FT_OK;
}

ft_status tool_text_add(tool_text *x, const int32_t *ids, int64_t n, bool last)
{
    ft_status rc;
    str_buf before = {0}, now = {0};
    if (x->hit) return FT_OK;
    FT_TRY_OUT(tool_decode(x->t, ids + x->begin, x->read - x->begin, &before));
    FT_TRY_OUT(tool_decode(x->t, ids + x->begin, n - x->begin, &now));
    FT_TRY_OUT(str_ok(&before));
    FT_TRY_OUT(str_ok(&now));
    if (now.len > before.len)
        rc = add_tail(x, now.data + before.len, now.len - before.len, n, last);
    x->whole = last || x->hit;
out:
    str_free(&before);
    str_free(&now);
    return rc;
}

/* Bytes at the end that a stop string begins with. */
static size_t held_back(const tool_text *x)
{
    size_t held = 0;
    for (int i = 0; i < x->n_stop; i++) {
        const char *s = x->stop[i];
        size_t k = strlen(s) - 1;
        if (k > x->text.len) k = x->text.len;
        while (k > held && memcmp(x->text.data + x->text.len - k, s, k) != 0) k--;
        if (k > held) held = k;
    }
    return held;
}

ft_status tool_text_put(tool_text *x, const tool_sink *out)
{
    size_t ready = x->text.len - (x->whole ? 0 : held_back(x));
    if (ready <= x->given) return FT_OK;
    FT_TRY(out->put(out->ctx, x->text.data + x->given, ready - x->given));
    x->given = ready;
    return FT_OK;
}
