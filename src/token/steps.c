/* steps.c – the small containers that steps work on, and the fields that several kinds have. */
#include "token_private.h"

void tk_add_piece(tk_text *t, size_t from, size_t to, int32_t id, uint32_t head)
{
    if (t->rc != FT_OK || (from == to && id < 0)) return;
    if (t->n_pieces == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        tk_piece *bigger = ft_realloc(t->piece, cap, sizeof *bigger);
        if (!bigger) {
            t->rc = FT_EMEM;
            return;
        }
        t->piece = bigger;
        t->cap = cap;
    }
    t->piece[t->n_pieces++] = (tk_piece){.from = from, .to = to, .id = id, .head = head};
    if (t->n_pieces >= TK_BATCH && t->next) t->rc = tk_hand_on(t);
}

ft_status tk_hand_on(tk_text *t)
{
    if (t->rc == FT_OK && t->own.failed) t->rc = str_ok(&t->own);
    if (t->rc == FT_OK && t->n_pieces > 0 && t->next) {
        t->rc = t->next(t->ctx, t);
        t->n_pieces = 0;
    }
    return t->rc;
}

void tk_own_text(tk_text *t)
{
    t->s = t->own.data;
    t->n = t->own.len;
}

void tk_text_free(tk_text *t)
{
    str_free(&t->own);
    ft_free(t->piece);
    *t = (tk_text){0};
}

void tk_list_cut(tk_list *l)
{
    if (l->failed) return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        size_t *bigger = ft_realloc(l->end, cap, sizeof *bigger);
        if (!bigger) {
            l->failed = true;
            return;
        }
        l->end = bigger;
        l->cap = cap;
    }
    l->end[l->n++] = l->text.len;
}

void tk_list_add(tk_list *l, const char *s, size_t n)
{
    str_add(&l->text, s, n);
    tk_list_cut(l);
}

void tk_list_clear(tk_list *l)
{
    str_clear(&l->text);
    l->n = 0;
}

void tk_list_free(tk_list *l)
{
    str_free(&l->text);
    ft_free(l->end);
    *l = (tk_list){0};
}

/* --- parsing ---------------------------------------------------------------------------------------------- */
ft_status tk_parse_text(const tk_src *src, const cJSON *o, const char *key, const char *def,
                        tk_span *out)
{
    const char *text = NULL;
    FT_TRY(js_get_str(src->doc, o, key, def, &text));
    if (!text) return js_fail(src->doc, o, FT_EDATA, key, "missing");
    size_t n = strlen(text);
    char *copy = arena_strn(src->mem, text, n);
    if (!copy) return FT_EMEM;
    *out = (tk_span){copy, js_nul(copy, n)};
    return FT_OK;
}

ft_status tk_parse_bool(const tk_src *src, const cJSON *o, const char *key, int def, bool *out)
{
    const cJSON *v = js_get(o, key);
    if (!v && def < 0) return js_fail(src->doc, o, FT_EDATA, key, "missing");
    return js_get_bool(src->doc, o, key, def > 0, out);
}

ft_status tk_parse_pattern(tk_op *op, const tk_src *src, const cJSON *o)
{
    const cJSON *pattern = js_get(o, "pattern");
    const cJSON *regex = js_get(pattern, "Regex"), *text = js_get(pattern, "String");
    const cJSON *v = regex ? regex : text;
    if (!cJSON_IsObject(pattern) || !cJSON_IsString(v)) {
        return js_fail(src->doc, pattern ? pattern : o, FT_EDATA, "pattern",
                       "must be {\"String\": …} or {\"Regex\": …}");
    }
    size_t n = strlen(v->valuestring);
    op->pattern = (tk_span){arena_strn(src->mem, v->valuestring, n), n};
    op->pattern_is_regex = regex != NULL;
    if (!op->pattern.s) return FT_EMEM;
    ft_status rc =
        regex ? tk_regex_open(&op->re, op->pattern) : tk_regex_literal(&op->re, op->pattern);
    return rc == FT_EDATA ? js_fail(src->doc, v, rc, "pattern", "%s", ft_error()) : rc;
}
