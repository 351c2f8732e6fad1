/* regex_open.c – a pattern is parsed to a program, or handed to PCRE2 where the own engine does not do it. */
#include "regex_private.h"

/* Bytes that a match of the program from pc on can begin with; false when it may be empty, looks at more than its first
 * character, or has too many ways (*left) to look at all. */
static bool first_bytes(const tk_regex *re, int pc, uint64_t first[4], int *left)
{
    while (--*left > 0) {
        const rx_inst *i = &re->code[pc];
        switch (i->op) {
        case RX_JUMP:
            pc = i->x;
            continue;
        case RX_SPLIT:
            if (!first_bytes(re, i->x, first, left)) return false;
            pc = i->y;
            continue;
        case RX_SET:
        case RX_SPAN:
            for (int k = 0; k < 2; k++) first[k] |= re->set[i->x].ascii[k];
            /* beyond ASCII, and stray bytes: any */
            first[2] = first[3] = UINT64_MAX;
            if (i->op == RX_SET || i->min > 0) return true;
            pc++;
            continue;
        default:
            return false;
        }
    }
    return false;
}

enum { WAYS = 256 }; /* instructions looked at for one answer; each recursion is one of them */

static bool lead_of(const tk_regex *re, int pc, uint64_t bytes[4])
{
    int left = WAYS;
    if (first_bytes(re, pc, bytes, &left)) return true;
    memset(bytes, 0xff, 4 * sizeof *bytes);
    return false;
}

static ft_status look_ahead(tk_regex *re)
{
    re->first_known = lead_of(re, 0, re->first);
    re->lead = ft_alloc((size_t)re->n_code, sizeof *re->lead);
    if (!re->lead) return FT_EMEM;
    for (int pc = 0; pc < re->n_code; pc++) {
        const rx_inst *i = &re->code[pc];
        rx_lead *l = &re->lead[pc];
        if (i->op != RX_SPLIT) continue;
        lead_of(re, i->x, l->x);
        lead_of(re, i->y, l->y);
    }
    return FT_OK;
}

static tk_regex *new_regex(tk_span pattern)
{
    tk_regex *re = ft_alloc(1, sizeof *re);
    if (!re) return NULL;
    re->pattern_own = ft_alloc(pattern.n + 1, 1);
    if (!re->pattern_own) {
        ft_free(re);
        return NULL;
    }
    if (pattern.n) memcpy(re->pattern_own, pattern.s, pattern.n);
    re->pattern = (tk_span){re->pattern_own, pattern.n};
    return re;
}

static void drop_program(tk_regex *re)
{
    for (int i = 0; i < re->n_set; i++) ft_free(re->set[i].range);
    ft_free(re->set);
    ft_free(re->code);
    ft_free(re->lead);
    re->lead = NULL;
    re->set = NULL;
    re->code = NULL;
    re->n_set = re->n_code = re->cap_set = re->cap_code = 0;
}

ft_status tk_regex_open(tk_regex **out, tk_span pattern)
{
    bool unsupported = false;
    tk_regex *re = new_regex(pattern);
    if (!re) return FT_EMEM;
    ft_status rc = rx_parse(re, re->pattern, &unsupported);
    if (rc == FT_OK && unsupported) {
        drop_program(re);
        rc = rx_pcre_open(re);
    } else if (rc == FT_OK) {
        rc = look_ahead(re);
    }
    if (rc != FT_OK) {
        tk_regex_close(re);
        return rc;
    }
    *out = re;
    return FT_OK;
}

ft_status tk_regex_literal(tk_regex **out, tk_span text)
{
    str_buf escaped = {0};
    for (size_t i = 0; i < text.n; i++) {
        if (strchr("\\.+*?()|[]{}^$#&-~", text.s[i]) && text.s[i]) str_addc(&escaped, '\\');
        str_addc(&escaped, text.s[i]);
    }
    ft_status rc = str_ok(&escaped);
    if (rc == FT_OK) rc = tk_regex_open(out, (tk_span){escaped.data, escaped.len});
    str_free(&escaped);
    return rc;
}

void tk_regex_close(tk_regex *re)
{
    if (!re) return;
    rx_pcre_close(re);
    drop_program(re);
    ft_free(re->pattern_own);
    ft_free(re);
}
