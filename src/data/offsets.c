/* offsets.c – where in the text each token stands.
 *
 * The tokenizer gives ids only. Each id is spelled out and matched against the text from left to right; the
 * prefix space some models add or strip is allowed for. A text that a normalizer changed does not match: the
 * caller then compares the ids of prefixes instead. */
#include "data_private.h"

#include <string.h>

bool data_ends_turn(const tok_tokenizer *tok, int32_t id)
{
    int n;
    const int32_t *stops = tok_stops(tok, &n);
    for (int i = 0; i < n; i++) {
        if (stops[i] == id) return true;
    }
    return id == tok_eos(tok) || tok_is_special(tok, id);
}

static bool spells(const char *text, size_t left, const char *s, size_t n, size_t *used)
{
    *used = n;
    if (n <= left && (!n || !memcmp(text, s, n))) return true;
    if (n && s[0] == ' ' && n - 1 <= left &&
        !memcmp(text, s + 1, n - 1)) { /* a prefix space was added */
        *used = n - 1;
        return true;
    }
    if (n + 1 <= left && text[0] == ' ' && !memcmp(text + 1, s, n)) { /* the decoder stripped one */
        *used = n + 1;
        return true;
    }
    return false;
}

ft_status data_offsets(const tok_tokenizer *tok, const char *text, size_t len, const tok_ids *ids,
                       data_place meet, void *ctx, bool *exact)
{
    str_buf s = {0};
    size_t at = 0, used = 0;
    ft_status rc = FT_OK;
    *exact = true;
    for (int64_t i = 0; rc == FT_OK && *exact && i < ids->n; i++) {
        str_clear(&s);
        rc = tok_decode_bytes(tok, &ids->id[i], 1, &s);
        if (rc == FT_OK) rc = str_ok(&s);
        *exact = rc == FT_OK && spells(text + at, len - at, s.data ? s.data : "", s.len, &used);
        if (!*exact) break;
        meet(ctx, i, (int64_t)at, (int64_t)(at + used));
        at += used;
    }
    *exact = *exact && at == len;
    str_free(&s);
    return rc;
}
