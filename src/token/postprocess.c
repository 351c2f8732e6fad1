/* postprocess.c – the special tokens around a text. For one sequence every post-processor comes down to ids in
 * front and ids behind; offsets and types are not our business. */
#include "token_private.h"

typedef struct lists {
    int32_t *before, *after;
    int n_before, n_after;
    bool seen; /* the sequence itself */
} lists;
#define MAX_SPECIALS 64

static ft_status add_id(lists *l, const tk_src *src, const cJSON *at, double id)
{
    if (!(id >= 0 && id <= TK_MAX_ID)) {
        return js_fail(src->doc, at, FT_EDATA, "post_processor", "an id is not in 0 … %d",
                       TK_MAX_ID);
    }
    int *n = l->seen ? &l->n_after : &l->n_before;
    if (*n == MAX_SPECIALS) {
        return js_fail(src->doc, at, FT_EDATA, "post_processor", "more than %d special tokens",
                       MAX_SPECIALS);
    }
    (l->seen ? l->after : l->before)[(*n)++] = (int32_t)id;
    return FT_OK;
}

static const cJSON *special(const cJSON *specials, const char *id)
{
    const cJSON *item;
    if (cJSON_IsObject(specials)) return js_get(specials, id);
    cJSON_ArrayForEach(item, specials)
    {
        const cJSON *name = js_get(item, "id");
        if (cJSON_IsString(name) && strcmp(name->valuestring, id) == 0) return item;
    }
    return NULL;
}

/* {"Sequence": {"id": "A"}} or {"SpecialToken": {"id": "<s>"}} */
static ft_status template_piece(lists *l, const tk_src *src, const cJSON *piece,
                                const cJSON *specials)
{
    const cJSON *seq = js_get(piece, "Sequence"), *tok = js_get(piece, "SpecialToken");
    const cJSON *id = js_get(seq ? seq : tok, "id"), *v;
    if (!cJSON_IsString(id)) {
        return js_fail(src->doc, piece, FT_EDATA, "single",
                       "a piece is neither Sequence nor "
                       "SpecialToken");
    }
    if (seq) {
        if (strcmp(id->valuestring, "A") != 0 || l->seen) {
            return js_fail(src->doc, piece, FT_EDATA, "single", "must hold the sequence A once");
        }
        l->seen = true;
        return FT_OK;
    }
    const cJSON *ids = js_get(special(specials, id->valuestring), "ids");
    if (!cJSON_IsArray(ids)) {
        return js_fail(src->doc, piece, FT_EDATA, "special_tokens", "%s is not defined",
                       ft_shows(id->valuestring));
    }
    cJSON_ArrayForEach(v, ids) FT_TRY(add_id(l, src, v, cJSON_IsNumber(v) ? v->valuedouble : -1));
    return FT_OK;
}

static ft_status parse_template(lists *l, const tk_src *src, const cJSON *o)
{
    const cJSON *single = js_get(o, "single"), *specials = js_get(o, "special_tokens"), *piece;
    if (!cJSON_IsArray(single)) {
        return js_fail(src->doc, o, FT_EDATA, "single", "must be a list");
    }
    cJSON_ArrayForEach(piece, single) FT_TRY(template_piece(l, src, piece, specials));
    if (!l->seen) return js_fail(src->doc, o, FT_EDATA, "single", "does not hold the sequence A");
    return FT_OK;
}

static ft_status parse_cls_sep(lists *l, const tk_src *src, const cJSON *o)
{
    static const char *const keys[] = {"cls", "sep"};
    for (int i = 0; i < 2; i++) {
        const cJSON *pair = js_get(o, keys[i]), *text = cJSON_IsArray(pair) ? pair->child : NULL;
        if (!cJSON_IsString(text) || !cJSON_IsNumber(text->next)) {
            return js_fail(src->doc, o, FT_EDATA, keys[i], "must be [token, id]");
        }
        FT_TRY(add_id(l, src, pair, text->next->valuedouble));
        l->seen = true;
    }
    return FT_OK;
}

static ft_status parse_bytelevel(lists *l, const tk_src *src, const cJSON *o)
{
    (void)l, (void)src, (void)o; /* changes offsets only */
    return FT_OK;
}

static const struct {
    const char *name;
    ft_status (*parse)(lists *l, const tk_src *src, const cJSON *o);
} kinds[] = {{"TemplateProcessing", parse_template},
             {"ByteLevel", parse_bytelevel},
             {"RobertaProcessing", parse_cls_sep},
             {"BertProcessing", parse_cls_sep}};

static ft_status parse_any(tk_post *p, const tk_src *src, const cJSON *o, arena *mem)
{
    const char *type = NULL;
    if (!cJSON_IsObject(o)) {
        return js_fail(src->doc, o, FT_EDATA, "post_processor", "must be an object");
    }
    FT_TRY(js_get_str(src->doc, o, "type", NULL, &type));
    if (type && strcmp(type, "Sequence") == 0) {
        const cJSON *item, *items = js_get(o, "processors");
        if (!cJSON_IsArray(items)) {
            return js_fail(src->doc, o, FT_EDATA, "processors", "must be a list");
        }
        cJSON_ArrayForEach(item, items) FT_TRY(parse_any(p, src, item, mem));
        return FT_OK;
    }
    for (size_t i = 0; type && i < FT_COUNT_OF(kinds); i++) {
        if (strcmp(kinds[i].name, type) != 0) continue;
        lists l = {.before = arena_get(mem, MAX_SPECIALS * sizeof(int32_t)),
                   .after = arena_get(mem, MAX_SPECIALS * sizeof(int32_t))};
        if (!l.before || !l.after) return FT_EMEM;
        FT_TRY(kinds[i].parse(&l, src, o));
        if (l.n_before + l.n_after == 0) return FT_OK;
        if (p->n_before + p->n_after > 0) {
            return js_fail(src->doc, o, FT_EDATA, "post_processor",
                           "more than one step adds special tokens");
        }
        *p = (tk_post){l.before, l.after, l.n_before, l.n_after};
        return FT_OK;
    }
    return js_fail(src->doc, o, FT_EDATA, "post_processor", "unknown type %s",
                   type ? ft_shows(type) : "(none)");
}

ft_status tk_post_parse(tk_post *p, const tk_src *src, const cJSON *o)
{
    *p = (tk_post){0};
    if (!o || cJSON_IsNull(o)) return FT_OK;
    return parse_any(p, src, o, src->mem);
}
