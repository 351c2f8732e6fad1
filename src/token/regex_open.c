/* regex_open.c – a pattern is parsed to a program, or handed to PCRE2 where the own engine does not do it. */
#include "regex_private.h"

/* Bytes a match can begin with; false when it may be empty or looks at more than its first character. */
static bool first_bytes(tk_regex *re, int pc, int depth)
{
    if (depth > 64) return false;
    for (;;) {
        const rx_inst *i = &re->code[pc];
        switch (i->op) {
        case RX_JUMP:
            pc = i->x;
            continue;
        case RX_SPLIT:
            if (!first_bytes(re, i->x, depth + 1)) return false;
            pc = i->y;
            continue;
        case RX_SET:
        case RX_SPAN:
            for (int b = 0; b < 128; b++) {
                if (rx_has(&re->set[i->x], b)) re->first[b >> 6] |= (uint64_t)1 << (b & 63);
            }
            /* beyond ASCII, and stray bytes: any */
            re->first[2] = re->first[3] = UINT64_MAX;
            if (i->op == RX_SET || i->min > 0) return true;
            pc++;
            continue;
        default:
            return false;
        }
    }
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
        re->first_known = first_bytes(re, 0, 0);
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
