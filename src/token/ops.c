/* ops.c – the steps of a component: read by the tables of their kinds, compared, closed. */
#include "token_private.h"

enum { MAX_STEPS = 100 }; /* of a component; each goes over the whole text */

static ft_status parse_one(tk_op *op, const tk_src *src, const cJSON *o, const tk_kind *kinds,
                           const char *what)
{
    const char *type = NULL;
    FT_TRY(js_get_str(src->doc, o, "type", NULL, &type));
    if (!type) return js_fail(src->doc, o, FT_EDATA, what, "has no \"type\"");
    for (const tk_kind *k = kinds; k->name; k++) {
        if (strcmp(k->name, type) != 0) continue;
        *op = (tk_op){.kind = k};
        return k->parse ? k->parse(op, src, o) : FT_OK;
    }
    return js_fail(src->doc, o, FT_EDATA, what, "unknown type %s", ft_shows(type));
}

/* Counts or reads the steps below o; nested Sequences are as deep as the JSON reader allows. */
static ft_status walk(tk_ops *out, int *n, const tk_src *src, const cJSON *o, const tk_kind *kinds,
                      const char *list, const char *what)
{
    if (!cJSON_IsObject(o)) return js_fail(src->doc, o, FT_EDATA, what, "must be an object");
    const cJSON *type = js_get(o, "type");
    if (cJSON_IsString(type) && strcmp(type->valuestring, "Sequence") == 0) {
        const cJSON *items = js_get(o, list), *item;
        if (!cJSON_IsArray(items)) return js_fail(src->doc, o, FT_EDATA, list, "must be a list");
        cJSON_ArrayForEach(item, items) FT_TRY(walk(out, n, src, item, kinds, list, what));
        return FT_OK;
    }
    if (out->op) {
        FT_TRY(parse_one(&out->op[*n], src, o, kinds, what));
        out->n = *n + 1;
    }
    ++*n;
    return FT_OK;
}

static const struct {
    const tk_kind *kinds;
    const char *list, *what; /* the array of a Sequence; the key of the component */
} parts[] = {[TK_NORMALIZE] = {tk_normalizers, "normalizers", "normalizer"},
             [TK_SPLIT] = {tk_pretokenizers, "pretokenizers", "pre_tokenizer"},
             [TK_DECODE] = {tk_decoders, "decoders", "decoder"}};

ft_status tk_ops_parse(tk_ops *out, const tk_src *src, const cJSON *o, tk_part part)
{
    const tk_kind *kinds = parts[part].kinds;
    const char *list = parts[part].list, *what = parts[part].what;
    *out = (tk_ops){0};
    if (!o || cJSON_IsNull(o)) return FT_OK;
    int n = 0;
    FT_TRY(walk(out, &n, src, o, kinds, list, what));
    if (n == 0) return FT_OK;
    if (n > MAX_STEPS) return js_fail(src->doc, o, FT_EDATA, what, "more than %d steps", MAX_STEPS);
    out->op = arena_get(src->mem, (size_t)n * sizeof *out->op);
    if (!out->op) return FT_EMEM;
    n = 0;
    ft_status rc = walk(out, &n, src, o, kinds, list, what);
    /* a step whose parser failed may hold a pattern already */
    if (rc != FT_OK) out->n = n + 1 > out->n ? n + 1 : out->n;
    return rc;
}

ft_status tk_ops_text(tk_ops *out, arena *mem, const char *json, tk_part part)
{
    js_doc doc = {0};
    *out = (tk_ops){0};
    if (!json) return FT_OK;
    FT_TRY(js_parse(&doc, json, strlen(json), parts[part].what, 1, JS_NO_POSITIONS, FT_EINTERNAL));
    ft_status rc = tk_ops_parse(out, &(tk_src){&doc, mem}, doc.root, part);
    js_close(&doc);
    return rc;
}

void tk_ops_close(tk_ops *ops)
{
    for (int i = 0; i < ops->n; i++) tk_regex_close(ops->op[i].re);
    *ops = (tk_ops){0};
}

/* The next unit of a pattern: an escape pair, or a character; \n and \r are what they stand for. */
static int pattern_unit(tk_span p, size_t *at)
{
    char c = p.s[(*at)++];
    if (c != '\\' || *at == p.n) return (unsigned char)c;
    char d = p.s[(*at)++];
    return d == 'n' ? '\n' : d == 'r' ? '\r' : 256 + (unsigned char)d;
}

static bool same_pattern(tk_span a, tk_span b)
{
    size_t i = 0, k = 0;
    while (i < a.n && k < b.n) {
        if (pattern_unit(a, &i) != pattern_unit(b, &k)) return false;
    }
    return i == a.n && k == b.n;
}

bool tk_ops_equal(const tk_ops *a, const tk_ops *b)
{
    if (a->n != b->n) return false;
    for (int i = 0; i < a->n; i++) {
        const tk_op *x = &a->op[i], *y = &b->op[i];
        if (x->kind != y->kind || memcmp(x->on, y->on, sizeof x->on) != 0 ||
            memcmp(x->num, y->num, sizeof x->num) != 0 || !tk_same(x->a, y->a) ||
            !tk_same(x->b, y->b) || !same_pattern(x->pattern, y->pattern) ||
            x->pattern_is_regex != y->pattern_is_regex) {
            return false;
        }
    }
    return true;
}
