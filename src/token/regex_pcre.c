/* regex_pcre.c – PCRE2 for the rare patterns that the own engine does not do.
 *
 * Differences from Oniguruma are few in practice: PCRE2 10.42 knows Unicode 14 instead of 16, and \h is another
 * class. Every limit of a match is set: these patterns come out of files.
 *
 * A text is looked through for invalid UTF-8 once, not at each match, which would be quadratic: no match reaches over a
 * byte that is no part of a character, and what lies between two such bytes is a subject of its own. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "regex_private.h"

#include <pcre2.h>

#define MATCH_FIRST 1024u /* a match of an ordinary pattern needs less */
#define MATCH_LIMIT 20000000u
#define MATCH_WINDOW 63u /* bytes: matches are looked for in so many beginnings at a time */
#define MATCH_STEPS 10u  /* of the own engine take as long as one of PCRE2's */
#define DEPTH_LIMIT 200000u
#define HEAP_LIMIT_KIB 65536u

static void *give(PCRE2_SIZE n, void *ctx)
{
    (void)ctx;
    return ft_alloc(1, n);
}

static void take(void *p, void *ctx)
{
    (void)ctx;
    ft_free(p);
}

ft_status rx_pcre_open(tk_regex *re)
{
    ft_status rc = FT_OK;
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *how = NULL;
    pcre2_general_context *mem = pcre2_general_context_create(give, take, NULL);
    FT_GUARD(mem, FT_EMEM, "out of memory for a pattern");
    how = pcre2_compile_context_create(mem);
    FT_GUARD(how, FT_EMEM, "out of memory for a pattern");
    pcre2_set_newline(how, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(how, 100);
    re->pcre = pcre2_compile((PCRE2_SPTR)re->pattern.s, re->pattern.n,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
                                 PCRE2_USE_OFFSET_LIMIT | PCRE2_NO_START_OPTIMIZE,
                             &code, &at, how);
    if (!re->pcre) {
        PCRE2_UCHAR text[128] = "";
        pcre2_get_error_message(code, text, sizeof text);
        rc = ft_fail(FT_EDATA, "pattern %s: %s at byte %zu", ft_show(re->pattern.s, re->pattern.n),
                     (const char *)text, (size_t)at);
    }
out:
    pcre2_compile_context_free(how);
    pcre2_general_context_free(mem);
    return rc;
}

void rx_pcre_close(tk_regex *re)
{
    pcre2_code_free(re->pcre);
    re->pcre = NULL;
}

typedef struct pcre_state {
    pcre2_match_data *data;
    pcre2_match_context *ctx;
    pcre2_general_context *mem;
    size_t from, to; /* the stretch of valid text that is being searched */
} pcre_state;

/* From the first character at or after `from` on. */
static void next_stretch(const tk_find *f, pcre_state *m, size_t from)
{
    int32_t cp = -1;
    while (from < f->n && (utf8_next(f->s + from, f->n - from, &cp), cp < 0)) from++;
    m->from = m->to = from;
    while (m->to < f->n) {
        size_t len = (size_t)utf8_next(f->s + m->to, f->n - m->to, &cp);
        if (cp < 0) break;
        m->to += len;
    }
}

ft_status rx_pcre_find_open(tk_find *f)
{
    pcre_state *m = ft_alloc(1, sizeof *m);
    if (!m) return FT_EMEM;
    f->pcre_match = m;
    m->mem = pcre2_general_context_create(give, take, NULL);
    if (m->mem) m->data = pcre2_match_data_create_from_pattern(f->re->pcre, m->mem);
    if (m->mem) m->ctx = pcre2_match_context_create(m->mem);
    if (!m->data || !m->ctx) {
        rx_pcre_find_close(f);
        return ft_fail(FT_EMEM, "out of memory for a match");
    }
    next_stretch(f, m, 0);
    pcre2_set_depth_limit(m->ctx, DEPTH_LIMIT);
    pcre2_set_heap_limit(m->ctx, HEAP_LIMIT_KIB);
    return FT_OK;
}

void rx_pcre_find_close(tk_find *f)
{
    pcre_state *m = f->pcre_match;
    if (!m) return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->ctx);
    pcre2_general_context_free(m->mem);
    ft_free(m);
    f->pcre_match = NULL;
}

/* The first match that begins at `pos` or up to *within bytes behind it (0 where that took too long). The limit, which is one of each beginning, starts
 * low; what it is raised by is counted as steps of the text. */
static ft_status match(const tk_find *f, const pcre_state *m, size_t pos, size_t *within, int *rc)
{
    uint32_t how =
        PCRE2_NO_UTF_CHECK | (m->from > 0 ? PCRE2_NOTBOL : 0u) | (m->to < f->n ? PCRE2_NOTEOL : 0u);
    for (uint32_t limit = MATCH_FIRST;; limit *= 4) {
        pcre2_set_match_limit(m->ctx, limit < MATCH_LIMIT ? limit : MATCH_LIMIT);
        pcre2_set_offset_limit(m->ctx, pos - m->from + *within);
        *rc = pcre2_match(f->re->pcre, (PCRE2_SPTR)f->s + m->from, m->to - m->from, pos - m->from,
                          how, m->data, m->ctx);
        if (*rc != PCRE2_ERROR_MATCHLIMIT || limit >= MATCH_LIMIT) return FT_OK;
        if (*within > 0) { /* one of them alone */
            *within = 0;
            limit /= 4;
            continue;
        }
        FT_TRY(rx_spend(f, (uint64_t)MATCH_STEPS * limit));
    }
}

/* In the stretch at hand, from `pos` on; PCRE2_ERROR_NOMATCH. */
static ft_status search(const tk_find *f, const pcre_state *m, size_t pos, int *rc)
{
    int32_t cp;
    *rc = PCRE2_ERROR_NOMATCH;
    while (pos <= m->to && *rc == PCRE2_ERROR_NOMATCH) {
        size_t within = MATCH_WINDOW;
        FT_TRY(match(f, m, pos, &within, rc));
        for (const size_t end = pos + within; pos <= end;)
            pos += pos < m->to ? (size_t)utf8_next(f->s + pos, m->to - pos, &cp) : 1;
    }
    return FT_OK;
}

ft_status rx_pcre_search(tk_find *f, size_t *start, size_t *end)
{
    pcre_state *m = f->pcre_match;
    int rc = PCRE2_ERROR_NOMATCH;
    if (f->pos > m->to) next_stretch(f, m, f->pos);
    for (size_t pos = f->pos > m->from ? f->pos : m->from;; pos = m->from) {
        FT_TRY(search(f, m, pos, &rc));
        if (rc != PCRE2_ERROR_NOMATCH) break;
        if (m->to == f->n) return FT_END;
        next_stretch(f, m, m->to);
    }
    const char *which = rc == PCRE2_ERROR_MATCHLIMIT   ? "match limit"
                        : rc == PCRE2_ERROR_DEPTHLIMIT ? "depth limit"
                        : rc == PCRE2_ERROR_HEAPLIMIT  ? "heap limit"
                                                       : NULL;
    FT_CHECK(!which, FT_EDATA, "pattern %s: %s reached in a text of %zu bytes",
             ft_show(f->re->pattern.s, f->re->pattern.n), which, f->n);
    FT_CHECK(rc != PCRE2_ERROR_NOMEMORY, FT_EMEM, "out of memory in a match");
    FT_CHECK(rc >= 0, FT_EDATA, "pattern %s: PCRE2 error %d",
             ft_show(f->re->pattern.s, f->re->pattern.n), rc);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);
    *start = m->from + at[0];
    *end = m->from + (at[1] < at[0] ? at[0] : at[1]); /* \K in a look-ahead can turn them around */
    FT_CHECK(*start >= f->pos && *end <= f->n, FT_EDATA, "pattern %s: a match before its start",
             ft_show(f->re->pattern.s, f->re->pattern.n));
    return FT_OK;
}
