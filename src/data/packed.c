/* packed.c – samples that are held in memory, a row after another in bytes: millions of short ones cost little more than
 * their text. A token takes two bytes below 49152 and three below four million, its label next to nothing where it is the
 * token or ignored; what a sample has of its own, its line, its length, a border, a byte each as a rule. */
#include "data_private.h"

#include <string.h>

enum { AT = 5 }; /* bytes of a place in the bytes: 2^40 */
enum {
    TWO = 0xC000,
    THREE = 0x3F0000,
    ALL = 0xFF
};                                               /* the first ids that take more; a first byte */
enum { LABELS_SAME, LABELS_RUNS, LABELS_GIVEN }; /* the ids; in turn ignored and the ids; others */
enum {
    MANY = 4,
    CUT = 8,
    OF_FILE = 16,
    VALUE = 32,
    EXTRA = 64
}; /* further bits of the first byte */

/* --- bytes ---------------------------------------------------------------------------------------------------------- */
ft_status data_reserve(void *array, int64_t *cap, int64_t need, size_t size)
{
    void **p = array;
    if (need <= *cap) return FT_OK;
    int64_t want = *cap + *cap / 2 + 1024;
    if (want < need) want = need;
    void *more = ft_realloc(*p, (size_t)want, size);
    if (!more) return FT_EMEM;
    *p = more;
    *cap = want;
    return FT_OK;
}

static ft_status room(data_store *to, int64_t n)
{
    return data_reserve(&to->bytes, &to->cap_bytes, to->n_bytes + n, 1);
}

static void put_number(data_store *to, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) to->bytes[to->n_bytes++] = (uint8_t)(v | 0x80);
    to->bytes[to->n_bytes++] = (uint8_t)v;
}

static uint64_t get_number(const uint8_t **p)
{
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        const uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) return v;
    }
}

/* Small in size, of either sign. */
static void put_signed(data_store *to, int64_t v)
{
    put_number(to, v < 0 ? 2 * (uint64_t) - (v + 1) + 1 : 2 * (uint64_t)v);
}

static int64_t get_signed(const uint8_t **p)
{
    const uint64_t v = get_number(p);
    return v & 1 ? -(int64_t)(v / 2) - 1 : (int64_t)(v / 2);
}

static uint8_t *put_id(uint8_t *p, int32_t id)
{
    const uint32_t v = (uint32_t)id;
    if (v < TWO) {
        *p++ = (uint8_t)(v >> 8);
        *p++ = (uint8_t)v;
    } else if (v < THREE) {
        *p++ = (uint8_t)(TWO >> 8 | v >> 16);
        *p++ = (uint8_t)(v >> 8);
        *p++ = (uint8_t)v;
    } else {
        *p++ = ALL;
        for (int k = 24; k >= 0; k -= 8) *p++ = (uint8_t)(v >> k);
    }
    return p;
}

static const uint8_t *get_ids(const uint8_t *p, int32_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t b = p[0];
        if (b < TWO >> 8) {
            out[i] = (int32_t)(b << 8 | p[1]);
            p += 2;
        } else if (b < ALL) {
            out[i] = (int32_t)((b & 0x3f) << 16 | (uint32_t)p[1] << 8 | p[2]);
            p += 3;
        } else {
            out[i] =
                (int32_t)((uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4]);
            p += 5;
        }
    }
    return p;
}

/* --- labels --------------------------------------------------------------------------------------------------------- */
/* The parts of a sample that are learned, each as long as can be. */
typedef struct runs {
    const data_item *it; /* NULL: all is learned */
    const int32_t *seq;  /* [n] before they are cut at `most` */
    int n, s;
    int64_t most, first,
        at;       /* of sequence s: its first token in the item, and the one to go on from */
    int64_t base; /* tokens of the sample before it */
    int64_t from, to;
    bool more; /* [from, to) was met and not given yet */
} runs;

static bool next_part(runs *r)
{
    for (; r->s < r->n; r->first += r->seq[r->s++], r->at = r->first) {
        const int64_t kept = r->seq[r->s] < r->most ? r->seq[r->s] : r->most, end = r->first + kept;
        int64_t from = r->at, to = end;
        if (r->it ? data_learned_next(r->it, r->at, end, &from, &to) : from < end) {
            r->at = to;
            r->from = r->base + from - r->first;
            r->to = r->base + to - r->first;
            return true;
        }
        r->base += kept;
    }
    return false;
}

static bool next_run(runs *r, int64_t *from, int64_t *to)
{
    if (!r->more && !next_part(r)) return false;
    *from = r->from;
    *to = r->to;
    while ((r->more = next_part(r)) && r->from == *to) *to = r->to;
    return true;
}

/* How the labels can be told, and for runs where the one ends and the other begins: so many times. */
static int kind_of(const data_sample *x, runs r, int64_t *turns)
{
    int64_t from, to;
    int kind = LABELS_RUNS;
    *turns = 0;
    if (r.it && r.it->labels) return LABELS_GIVEN;
    while (next_run(&r, &from, &to)) {
        *turns += 1 + (to < x->len);
        if (from == 0 && to == x->len) kind = LABELS_SAME;
    }
    return kind;
}

static void put_runs(data_store *to, const data_sample *x, runs r, int64_t turns)
{
    int64_t last = 0, from, end;
    put_number(to, (uint64_t)turns);
    while (next_run(&r, &from, &end)) {
        put_number(to, (uint64_t)(from - last));
        if (end < x->len) put_number(to, (uint64_t)(end - from));
        last = end;
    }
}

static void get_runs(const uint8_t *p, const data_sample *x, int32_t *labels)
{
    bool learned = false;
    int64_t i = 0;
    for (uint64_t left = get_number(&p);; left--, learned = !learned) {
        const int64_t end = left ? i + (int64_t)get_number(&p) : x->len;
        for (; i < end; i++) labels[i] = learned ? x->ids[i] : DATA_IGNORE;
        if (!left) return;
    }
}

/* --- rows ----------------------------------------------------------------------------------------------------------- */
/* Of an array beside the ids, as far as each sequence is kept. */
static void put_ids(data_store *to, const data_sample *x, int64_t most, const int32_t *id)
{
    uint8_t *p = to->bytes + to->n_bytes;
    for (int s = 0; s < x->n_seq; id += x->seq_len[s++]) {
        const int64_t kept = x->seq_len[s] < most ? x->seq_len[s] : most;
        for (int64_t i = 0; i < kept; i++) p = put_id(p, id[i]);
    }
    to->n_bytes = p - to->bytes;
}

ft_status data_pack(data_store *to, const data_sample *x, int32_t file, int64_t most,
                    const data_item *it, int64_t from)
{
    enum { NUMBER = 10, ID = 5 }; /* bytes at most */
    const runs learned = {
        .it = it, .seq = x->seq_len, .n = x->n_seq, .most = most, .first = from, .at = from};
    const int64_t row = to->n_rows, cut = x->whole - x->len;
    const size_t extra = x->extra ? strlen(x->extra) + 1 : 0;
    int64_t turns;
    const int kind = kind_of(x, learned, &turns);
    FT_TRY(room(to, 1 + 6 * NUMBER + x->n_seq * NUMBER + (int64_t)sizeof x->value + (int64_t)extra +
                        x->len * ID + (kind == LABELS_RUNS ? turns * NUMBER : kind * x->len * ID)));
    FT_TRY(data_reserve(&to->at, &to->cap_at, (row + 1) * AT, 1));
    for (int k = 0; k < AT; k++) to->at[row * AT + k] = (uint8_t)(to->n_bytes >> 8 * k);
    to->bytes[to->n_bytes++] =
        (uint8_t)(kind | (x->n_seq != 1 ? MANY : 0) | (cut ? CUT : 0) | (file ? OF_FILE : 0) |
                  (x->value != 0 ? VALUE : 0) | (extra ? EXTRA : 0));
    put_number(to, (uint64_t)x->len);
    if (x->n_seq != 1) put_number(to, (uint64_t)x->n_seq);
    for (int i = 0; x->n_seq != 1 && i < x->n_seq; i++)
        put_number(to, (uint64_t)(x->seq_len[i] < most ? x->seq_len[i] : most));
    put_signed(to, x->line - row);
    if (cut) put_number(to, (uint64_t)cut);
    if (file) put_signed(to, file);
    if (x->value != 0) {
        memcpy(to->bytes + to->n_bytes, &x->value, sizeof x->value);
        to->n_bytes += (int64_t)sizeof x->value;
    }
    if (extra) memcpy(to->bytes + to->n_bytes, x->extra, extra);
    to->n_bytes += (int64_t)extra;
    put_ids(to, x, most, x->ids);
    if (kind == LABELS_GIVEN) put_ids(to, x, most, it->labels + from);
    if (kind == LABELS_RUNS) put_runs(to, x, learned, turns);
    to->n_rows++;
    return FT_OK;
}

static const uint8_t *row_at(const data_store *st, int64_t row)
{
    int64_t at = 0;
    for (int k = 0; k < AT; k++) at |= (int64_t)st->at[row * AT + k] << 8 * k;
    return st->bytes + at;
}

int64_t data_packed_length(const data_store *st, int64_t row, int64_t *sequence)
{
    const uint8_t *p = row_at(st, row);
    const uint8_t first = *p++;
    const int64_t len = (int64_t)get_number(&p);
    int64_t n = first & MANY ? (int64_t)get_number(&p) : 0;
    if (!sequence) return len;
    for (*sequence = first & MANY ? 0 : len; n > 0; n--) {
        const int64_t one = (int64_t)get_number(&p);
        if (one > *sequence) *sequence = one;
    }
    return len;
}

ft_status data_unpack(const data_store *st, int64_t row, data_sample *out, int32_t *file,
                      arena *mem)
{
    const uint8_t *p = row_at(st, row);
    const uint8_t first = *p++;
    const int kind = first & 3;
    const int64_t len = (int64_t)get_number(&p);
    const int n_seq = first & MANY ? (int)get_number(&p) : 1;
    int32_t *ids =
        arena_raw(mem, ((size_t)len * (kind == LABELS_SAME ? 1 : 2) + (size_t)n_seq) * sizeof *ids);
    if (!ids) return FT_EMEM;
    int32_t *seq = ids + len, *labels = kind == LABELS_SAME ? ids : seq + n_seq;
    *out = (data_sample){.ids = ids, .labels = labels, .seq_len = seq, .len = len, .n_seq = n_seq};
    seq[0] = (int32_t)len;
    for (int i = 0; first & MANY && i < n_seq; i++) seq[i] = (int32_t)get_number(&p);
    out->line = row + get_signed(&p);
    out->whole = len + (first & CUT ? (int64_t)get_number(&p) : 0);
    *file = first & OF_FILE ? (int32_t)get_signed(&p) : 0;
    if (first & VALUE) {
        memcpy(&out->value, p, sizeof out->value);
        p += sizeof out->value;
    }
    if (first & EXTRA) {
        out->extra = (const char *)p;
        p += strlen(out->extra) + 1;
    }
    p = get_ids(p, ids, len);
    if (kind == LABELS_GIVEN) get_ids(p, labels, len);
    if (kind == LABELS_RUNS) get_runs(p, out, labels);
    return FT_OK;
}
