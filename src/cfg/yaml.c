/* yaml.c – recipes that are written as YAML, as the tree that JSON gives: libyaml finds the events, the nodes are made here.
 *
 * Only what a recipe needs: one document of maps, lists and words. Anchors and aliases, by which a short text stands for a
 * huge tree, tags, merge keys and further documents are refused where they stand. Words without quotes mean what PyYAML, which
 * mergekit reads with, takes them for, but for two: 1e-4 is a number, and what looks like one of another base (0x10, 017,
 * 1_000, 1:30) is a word. Nothing here recurses. */
#include "cfg_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { YAML_DEPTH = 64, YAML_VALUES = 1 << 20 };

typedef struct reader {
    js_doc *doc;
    ft_status status;
    yaml_parser_t parser;
    cJSON *open[YAML_DEPTH];    /* containers around what comes next */
    map_table keys[YAML_DEPTH]; /* of those that are maps */
    int depth;
    char *key; /* read, value still to come; owned */
    uint32_t key_at;
    size_t chars, bytes; /* the same place: libyaml counts characters */
    size_t pos_cap;
} reader;

static ft_status fail(const reader *r, const yaml_mark_t *at, const char *fmt, ...) FT_PRINTF(3, 4);
static ft_status fail(const reader *r, const yaml_mark_t *at, const char *fmt, ...)
{
    str_buf what = {0};
    va_list ap;
    va_start(ap, fmt);
    str_vprintf(&what, fmt, ap);
    va_end(ap);
    ft_status rc = str_ok(&what);
    if (rc == FT_OK)
        rc = ft_fail(r->status, "%s:%zu:%zu: %s", r->doc->name, at->line + 1, at->column + 1,
                     what.data);
    str_free(&what);
    return rc;
}

/* The byte of a place. Places come in order, all but never. */
static uint32_t offset_of(reader *r, const yaml_mark_t *at)
{
    const js_doc *d = r->doc;
    if (at->index < r->chars) r->chars = r->bytes = 0;
    while (r->chars < at->index && r->bytes < d->len) {
        int32_t cp;
        r->bytes += (size_t)utf8_next(d->text + r->bytes, d->len - r->bytes, &cp);
        r->chars++;
    }
    return (uint32_t)r->bytes;
}

/* --- words ------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    int type;
} words[] = {
    {"", cJSON_NULL},       {"~", cJSON_NULL},    {"null", cJSON_NULL},   {"Null", cJSON_NULL},
    {"NULL", cJSON_NULL},   {"true", cJSON_True}, {"True", cJSON_True},   {"TRUE", cJSON_True},
    {"yes", cJSON_True},    {"Yes", cJSON_True},  {"YES", cJSON_True},    {"on", cJSON_True},
    {"On", cJSON_True},     {"ON", cJSON_True},   {"false", cJSON_False}, {"False", cJSON_False},
    {"FALSE", cJSON_False}, {"no", cJSON_False},  {"No", cJSON_False},    {"NO", cJSON_False},
    {"off", cJSON_False},   {"Off", cJSON_False}, {"OFF", cJSON_False}};

/* Is it decimal, [-+] digits with a point and an exponent? *whole: without these. */
static bool is_number(const char *s, bool *whole)
{
    const char *digits = "0123456789";
    if (*s == '-' || *s == '+') s++;
    const size_t before = strspn(s, digits);
    if (before > 1 && s[0] == '0' && !strpbrk(s, ".eE")) return false; /* octal */
    s += before;
    *whole = *s == '\0' && before > 0;
    size_t behind = 0;
    if (*s == '.') behind = strspn(++s, digits), s += behind;
    if (before + behind == 0) return false;
    if (*s != 'e' && *s != 'E') return *s == '\0';
    s++;
    if (*s == '-' || *s == '+') s++;
    const size_t exponent = strspn(s, digits);
    return exponent > 0 && s[exponent] == '\0';
}

static ft_status set_plain(const reader *r, const yaml_mark_t *at, cJSON *node, const char *text)
{
    bool whole;
    for (size_t i = 0; i < FT_COUNT_OF(words); i++) {
        if (strcmp(words[i].text, text) != 0) continue;
        node->type = words[i].type;
        node->valueint = words[i].type == cJSON_True;
        return FT_OK;
    }
    if (is_number(text, &whole)) {
        const double v = strtod(text, NULL);
        if (!isfinite(v)) return fail(r, at, "%s is beyond the range of a double", ft_shows(text));
        if (whole && fabs(v) >= JSON_EXACT_INT)
            return fail(r, at, "%s is beyond 2^53 and would lose digits; write it as a string",
                        ft_shows(text));
        node->type = cJSON_Number | (whole ? 0 : JS_FLOAT_BIT);
        cJSON_SetNumberHelper(node, v);
        return FT_OK;
    }
    node->type = cJSON_String;
    node->valuestring = ft_strdup(text);
    return node->valuestring ? FT_OK : FT_EMEM;
}

/* --- the tree ------------------------------------------------------------------------------------------------ */

static ft_status remember(reader *r, uint32_t at)
{
    js_doc *d = r->doc;
    if (d->n_pos == r->pos_cap) {
        const size_t cap = r->pos_cap ? 2 * r->pos_cap : 64;
        uint32_t *more = ft_realloc(d->pos, cap, sizeof *more);
        if (!more) return FT_EMEM;
        d->pos = more;
        r->pos_cap = cap;
    }
    d->pos[d->n_pos++] = at;
    return FT_OK;
}

/* Hangs a node into the tree at once, so that a failure frees it with the rest. */
static ft_status add(reader *r, const yaml_mark_t *mark, cJSON **out)
{
    cJSON *parent = r->depth > 0 ? r->open[r->depth - 1] : NULL;
    const uint32_t at = r->key ? r->key_at : offset_of(r, mark);
    if (r->doc->n_pos >= YAML_VALUES)
        return fail(r, mark, "more than %d values in one file", YAML_VALUES);
    cJSON *node = ft_alloc(1, sizeof *node);
    *out = node;
    if (!node) return FT_EMEM;
    node->type = cJSON_NULL;
    node->string = r->key;
    r->key = NULL;
    if (!parent) {
        r->doc->root = node;
    } else if (parent->child) {
        cJSON *last = parent->child->prev;
        last->next = node;
        node->prev = last;
        parent->child->prev = node;
    } else {
        parent->child = node->prev = node;
    }
    return remember(r, at);
}

static ft_status refuse_marks(const reader *r, const yaml_event_t *e, const yaml_char_t *anchor,
                              const yaml_char_t *tag)
{
    if (anchor)
        return fail(r, &e->start_mark,
                    "anchors (&%s) are not read; write the value where it is used",
                    ft_shows((const char *)anchor));
    if (tag) return fail(r, &e->start_mark, "tags (!) are not read; remove it");
    return FT_OK;
}

static bool wants_key(const reader *r)
{
    return r->depth > 0 && cJSON_IsObject(r->open[r->depth - 1]) && !r->key;
}

static ft_status take_key(reader *r, const yaml_event_t *e)
{
    map_table *keys = &r->keys[r->depth - 1];
    const char *text = (const char *)e->data.scalar.value;
    if (strcmp(text, "<<") == 0 && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return fail(r, &e->start_mark, "merge keys (<<) are not read; write the keys out");
    if (map_get(keys, text, strlen(text), NULL))
        return fail(r, &e->start_mark, "%s: the key is here twice; remove one", ft_shows(text));
    r->key = ft_strdup(text);
    r->key_at = offset_of(r, &e->start_mark);
    return r->key ? map_put(keys, r->key, strlen(r->key), 0) : FT_EMEM;
}

static ft_status on_scalar(reader *r, const yaml_event_t *e)
{
    const char *text = (const char *)e->data.scalar.value;
    cJSON *node;
    ft_written(text, e->data.scalar.length + 1);
    FT_TRY(refuse_marks(r, e, e->data.scalar.anchor, e->data.scalar.tag));
    if (strlen(text) != e->data.scalar.length)
        return fail(r, &e->start_mark, "\\0 cannot be part of a string");
    if (wants_key(r)) return take_key(r, e);
    FT_TRY(add(r, &e->start_mark, &node));
    if (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return set_plain(r, &e->start_mark, node, text);
    node->type = cJSON_String;
    node->valuestring = ft_strdup(text);
    return node->valuestring ? FT_OK : FT_EMEM;
}

static ft_status on_open(reader *r, const yaml_event_t *e, int type, const yaml_char_t *anchor,
                         const yaml_char_t *tag)
{
    cJSON *node;
    FT_TRY(refuse_marks(r, e, anchor, tag));
    if (wants_key(r)) return fail(r, &e->start_mark, "a key must be a word, no map or list");
    if (r->depth == YAML_DEPTH)
        return fail(r, &e->start_mark, "nested deeper than %d levels", YAML_DEPTH);
    FT_TRY(add(r, &e->start_mark, &node));
    node->type = type;
    r->open[r->depth++] = node;
    return FT_OK;
}

static ft_status on_event(reader *r, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return fail(r, &e->start_mark, "aliases (*%s) are not read; write the value out",
                    ft_shows((const char *)e->data.alias.anchor));
    case YAML_SCALAR_EVENT:
        return on_scalar(r, e);
    case YAML_MAPPING_START_EVENT:
        return on_open(r, e, cJSON_Object, e->data.mapping_start.anchor, e->data.mapping_start.tag);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(r, e, cJSON_Array, e->data.sequence_start.anchor,
                       e->data.sequence_start.tag);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        map_free(&r->keys[--r->depth]);
        return FT_OK;
    case YAML_DOCUMENT_START_EVENT:
        if (r->doc->root)
            return fail(r, &e->start_mark, "a second document begins here; a recipe is one");
        return FT_OK;
    default:
        return FT_OK;
    }
}

/* What libyaml says of a text that is none. */
static ft_status not_yaml(const reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return ft_fail(FT_EMEM, "out of memory for YAML");
    if (p->error == YAML_READER_ERROR)
        return ft_fail(r->status, "%s: byte %zu: %s", r->doc->name, p->problem_offset,
                       p->problem ? p->problem : "this is not UTF-8");
    return fail(r, &p->problem_mark, "%s%s%s", p->problem ? p->problem : "this is not YAML",
                p->context ? " " : "", p->context ? p->context : "");
}

static ft_status read_events(reader *r)
{
    for (bool end = false; !end;) {
        yaml_event_t e;
        const int ok = yaml_parser_parse(&r->parser, &e);
        ft_written(&e, sizeof e);
        if (!ok) return not_yaml(r);
        const ft_status rc = on_event(r, &e);
        end = e.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&e);
        FT_TRY(rc);
    }
    FT_CHECK(r->doc->root, r->status, "%s:1:1: nothing here; expected a map of keys", r->doc->name);
    return FT_OK;
}

ft_status js_parse_yaml(js_doc *out, const char *text, size_t len, const char *name,
                        ft_status status)
{
    reader r = {.doc = out, .status = status};
    *out = (js_doc){.name = name, .text = text, .len = len, .line0 = 1, .at_keys = true};
    FT_CHECK(len < UINT32_MAX, status, "%s: %zu bytes of YAML are too many", name, len);
    FT_CHECK(utf8_valid(text, len) && !memchr(text, 0, len), status, "%s: is not UTF-8 text", name);
    FT_CHECK(yaml_parser_initialize(&r.parser), FT_EMEM, "out of memory for YAML");
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    const ft_status rc = read_events(&r);
    yaml_parser_delete(&r.parser);
    for (int i = 0; i < YAML_DEPTH; i++) map_free(&r.keys[i]);
    ft_free(r.key);
    if (rc != FT_OK) js_close(out);
    return rc;
}
