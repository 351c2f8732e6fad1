/* regex_run.c – executes the programs of regex.c: a backtracking machine whose stack is on the heap.
 *
 * A greedy run of one class is a single stack entry that steps back character by character, so a run of a million
 * letters costs a million steps and one entry. The steps of all searches in a text are counted together, however many
 * pieces it comes in; a pattern that needs more than the limit ends with an error instead of a hang. */
#include "regex_private.h"

#define STEPS_POLL 0xffffu
#define MAX_FRAMES (1u << 22)

const int32_t rx_word_extra[3][2] = {{0xb2, 0xb3}, {0xb9, 0xb9}, {0xbc, 0xbe}};

bool rx_has(const rx_set *s, int32_t cp)
{
    if (cp >= 0 && cp < 128) return s->ascii[cp >> 6] >> (cp & 63) & 1;
    bool in = false;
    if (s->any || s->n_none) {
        uint32_t flags = tk_flags(cp);
        in = flags & s->any;
        for (int i = 0; i < s->n_none && !in; i++) in = !(flags & s->none[i]);
    }
    for (int i = 0; i < s->n_range && !in; i++) {
        in = cp >= s->range[2 * i] && cp <= s->range[2 * i + 1];
    }
    return in != s->negated;
}

void rx_set_ready(rx_set *s)
{
    for (int cp = 0; cp < 128; cp++) {
        uint32_t flags = tk_flags(cp);
        bool in = flags & s->any;
        for (int i = 0; i < s->n_none; i++) in |= !(flags & s->none[i]);
        for (int i = 0; i < s->n_range; i++) {
            in |= cp >= s->range[2 * i] && cp <= s->range[2 * i + 1];
        }
        if (in != s->negated) s->ascii[cp >> 6] |= (uint64_t)1 << (cp & 63);
    }
}

static ft_status push(tk_find *f, rx_frame frame)
{
    if (f->depth == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 64;
        FT_CHECK(cap <= MAX_FRAMES, FT_EDATA,
                 "pattern %s: more than %u backtracking points in one match (stack limit)",
                 ft_show(f->re->pattern.s, f->re->pattern.n), MAX_FRAMES);
        rx_frame *bigger = ft_realloc(f->stack, cap, sizeof *bigger);
        if (!bigger) return FT_EMEM;
        f->stack = bigger;
        f->cap = cap;
    }
    f->stack[f->depth++] = frame;
    return FT_OK;
}

static bool word_at(const tk_find *f, size_t pos)
{
    int32_t cp;
    utf8_next(f->s + pos, f->n - pos, &cp);
    for (int i = 0; i < 3; i++) {
        if (cp >= rx_word_extra[i][0] && cp <= rx_word_extra[i][1]) return true;
    }
    return tk_flags(cp) & TK_WORD;
}

static bool holds(const tk_find *f, const rx_inst *i, size_t pos)
{
    const char *s = f->s;
    switch (i->op) {
    case RX_BOL:
        return pos == 0 || (s[pos - 1] == '\n' && pos < f->n);
    case RX_EOL:
        return pos == f->n || s[pos] == '\n';
    case RX_BOT:
        return pos == 0;
    case RX_EOT:
        return pos == f->n;
    case RX_EOT_NL:
        return pos == f->n || (pos + 1 == f->n && s[pos] == '\n');
    default: {
        bool before = pos > 0 && word_at(f, tk_prev(s, pos));
        bool after = pos < f->n && word_at(f, pos);
        return (before != after) != (i->mode == 1);
    }
    }
}

/* Runs set i->x from pos; *low is the end after the fewest characters allowed. false: too few. */
static bool span(tk_find *f, const rx_inst *i, size_t pos, size_t *low, size_t *high)
{
    const rx_set *set = &f->re->set[i->x];
    const char *s = f->s;
    int64_t count = 0, max = i->max < 0 ? INT64_MAX : i->max;
    size_t at = pos;
    *low = pos;
    while (at < f->n && count < max) {
        unsigned char c = (unsigned char)s[at];
        if (c < 128) {
            if (!(set->ascii[c >> 6] >> (c & 63) & 1)) break;
            at++;
        } else {
            int32_t cp;
            int len = utf8_next(s + at, f->n - at, &cp);
            if (!rx_has(set, cp)) break;
            at += (size_t)len;
        }
        if (++count == i->min) *low = at;
    }
    f->steps->taken += (uint64_t)count;
    *high = at;
    return count >= i->min;
}

static ft_status attempt(tk_find *f, int pc, size_t pos, size_t *end);

/* Look-ahead and atomic groups call the machine again: as deep as the pattern is nested, which is bounded. */
static ft_status group(tk_find *f, int pc, size_t *pos, bool *ok)
{
    const rx_inst *i = &f->re->code[pc];
    size_t inner = *pos;
    ft_status rc = attempt(f, pc + 1, *pos, &inner);
    if (rc != FT_OK && rc != FT_END) return rc;
    *ok = (rc == FT_OK) != (i->op == RX_LOOK && i->mode == 1);
    if (i->op == RX_ATOM) *pos = inner;
    return FT_OK;
}

static bool one_of(const tk_find *f, const rx_inst *i, size_t *pos)
{
    int32_t cp;
    if (*pos >= f->n) return false;
    size_t len = (size_t)utf8_next(f->s + *pos, f->n - *pos, &cp);
    if (!rx_has(&f->re->set[i->x], cp)) return false;
    *pos += len;
    return true;
}

static bool may_begin(const uint64_t bytes[4], char c)
{
    return bytes[(unsigned char)c >> 6] >> ((unsigned char)c & 63) & 1;
}

/* One attempt at `pos`. FT_END: no match. */
static ft_status attempt(tk_find *f, int pc, size_t pos, size_t *end)
{
    const tk_regex *re = f->re;
    const size_t base = f->depth;
    for (;;) {
        const rx_inst *i = &re->code[pc];
        bool ok = true;
        if (++f->steps->taken > f->steps->limit || (f->steps->taken & STEPS_POLL) == 0)
            FT_TRY(rx_spend(f, 0));
        switch (i->op) {
        case RX_SET:
            ok = one_of(f, i, &pos);
            pc++;
            break;
        case RX_SPAN: {
            size_t low, high;
            ok = span(f, i, pos, &low, &high);
            pc++;
            if (ok && high > low && i->mode == 0) {
                FT_TRY(push(f, (rx_frame){.pc = pc, .span = true, .pos = high, .low = low}));
            }
            pos = high;
            break;
        }
        case RX_SPLIT: {
            bool x = true, y = true;
            if (pos < f->n) {
                x = may_begin(re->lead[pc].x, f->s[pos]);
                y = may_begin(re->lead[pc].y, f->s[pos]);
            }
            ok = x || y;
            if (x && y) FT_TRY(push(f, (rx_frame){.pc = i->y, .pos = pos}));
            pc = x ? i->x : i->y;
            break;
        }
        case RX_JUMP:
            pc = i->x;
            break;
        case RX_LOOK:
        case RX_ATOM:
            FT_TRY(group(f, pc, &pos, &ok));
            pc = i->x;
            break;
        case RX_DONE:
            f->depth = base;
            *end = pos;
            return FT_OK;
        default:
            ok = holds(f, i, pos);
            pc++;
        }
        if (ok) continue;
        if (f->depth == base) return FT_END;
        rx_frame *top = &f->stack[f->depth - 1];
        pc = top->pc;
        pos = top->pos;
        if (top->span) {
            pos = top->pos = tk_prev(f->s, top->pos);
            if (pos <= top->low) f->depth--;
        } else {
            f->depth--;
        }
    }
}

/* Leftmost match at or after `from`. */
static ft_status search(tk_find *f, size_t from, size_t *start, size_t *end)
{
    const tk_regex *re = f->re;
    const rx_inst *first = &re->code[0];
    /* When a pattern begins with an unbounded greedy run and fails, all later starts inside that run would try
     * the same ends again: go on behind it. */
    bool runs = first->op == RX_SPAN && first->max < 0 && first->mode == 0;
    for (size_t at = from; at <= f->n;) {
        if (re->first_known) {
            while (at < f->n && !may_begin(re->first, f->s[at])) at++;
            if (at == f->n) return FT_END;
        }
        f->depth = 0;
        ft_status rc = attempt(f, 0, at, end);
        if (rc == FT_OK) {
            *start = at;
            return FT_OK;
        }
        if (rc != FT_END) return rc;
        if (at == f->n) break;
        size_t low, high = at;
        if (runs) span(f, first, at, &low, &high);
        int32_t cp;
        at = high > at ? high : at + (size_t)utf8_next(f->s + at, f->n - at, &cp);
    }
    return FT_END;
}

ft_status tk_find_open(tk_find *f, const tk_regex *re, const char *s, size_t n, tk_steps *steps)
{
    *f = (tk_find){.re = re, .steps = steps, .s = s, .n = n};
    return re->pcre ? rx_pcre_find_open(f) : FT_OK;
}

ft_status tk_find_next(tk_find *f, size_t *start, size_t *end)
{
    while (f->pos <= f->n) {
        FT_TRY(f->re->pcre ? rx_pcre_search(f, start, end) : search(f, f->pos, start, end));
        if (*start == *end && f->any && f->last_end == *end) {
            int32_t cp;
            f->pos += f->pos < f->n ? (size_t)utf8_next(f->s + f->pos, f->n - f->pos, &cp) : 1;
            continue;
        }
        f->pos = f->last_end = *end;
        f->any = true;
        return FT_OK;
    }
    return FT_END;
}

void tk_find_close(tk_find *f)
{
    if (f->re && f->re->pcre) rx_pcre_find_close(f);
    ft_free(f->stack);
    *f = (tk_find){0};
}
