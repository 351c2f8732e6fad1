/* json_tree.c – places of nodes, failures at them, typed getters for model files, making and printing.
 *
 * A node knows nothing of its place: its number in document order is found by walking the tree, which only
 * happens when a message is made. */
#include "cfg_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TREE_DEPTH = 64 };

/* The node behind `at` in document order, NULL at the end; open[] holds the containers around it. */
static const cJSON *next_node(const cJSON *at, const cJSON **open, int *depth)
{
    if (at->child && *depth < TREE_DEPTH) {
        open[(*depth)++] = at;
        return at->child;
    }
    while (!at->next && *depth > 0) at = open[--*depth];
    return *depth > 0 ? at->next : NULL;
}

size_t json_nodes(const cJSON *root, const cJSON **out, size_t cap)
{
    const cJSON *open[TREE_DEPTH];
    int depth = 0;
    size_t n = 0;
    for (const cJSON *at = root; at && n < cap; at = next_node(at, open, &depth)) {
        if (out) out[n] = at;
        n++;
    }
    return n;
}

void js_where(const js_doc *doc, const cJSON *node, int64_t *line, int *col)
{
    const cJSON *open[TREE_DEPTH];
    int depth = 0;
    size_t n = 0;
    *line = doc->line0;
    *col = 1;
    if (!doc->pos || !doc->text || !node) return;
    for (const cJSON *at = doc->root; at && n < doc->n_pos; at = next_node(at, open, &depth), n++) {
        if (at != node) continue;
        json_place(doc, doc->text + doc->pos[n], line, col);
        return;
    }
}

ft_status js_fail(const js_doc *doc, const cJSON *node, ft_status status, const char *key,
                  const char *fmt, ...)
{
    char what[600];
    int64_t line;
    int col;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (!doc->name)
        return ft_fail(status, "%s%s%s", key ? ft_shows(key) : "", key ? ": " : "", what);
    js_where(doc, node, &line, &col);
    return ft_fail(status, "%s:%lld:%d: %s%s%s", doc->name, (long long)line, col,
                   key ? ft_shows(key) : "", key ? ": " : "", what);
}

const char *json_number(char out[32], double v)
{
    bool whole = v == floor(v) && fabs(v) <= JSON_EXACT_INT;
    snprintf(out, 32, whole ? "%.0f" : "%.15g", v);
    return out;
}

const char *json_kind(const cJSON *node)
{
    switch (node->type & 0xff) {
    case cJSON_False:
    case cJSON_True:
        return "true or false";
    case cJSON_NULL:
        return "null";
    case cJSON_Number:
        return "a number";
    case cJSON_String:
        return "a string";
    case cJSON_Array:
        return "a list";
    default:
        return "an object";
    }
}

static const cJSON *present(const cJSON *object, const char *key)
{
    const cJSON *node = js_get(object, key);
    return node && !cJSON_IsNull(node) ? node : NULL;
}

static ft_status wrong_type(const js_doc *d, const cJSON *node, const char *key, const char *wanted)
{
    return js_fail(d, node, FT_EDATA, key, "must be %s, not %s", wanted, json_kind(node));
}

ft_status js_get_int(const js_doc *d, const cJSON *o, const char *key, int64_t def, int64_t low,
                     int64_t high, int64_t *out)
{
    const cJSON *node = present(o, key);
    *out = def;
    if (!node) return FT_OK;
    double v = node->valuedouble;
    if (!cJSON_IsNumber(node)) return wrong_type(d, node, key, "an integer");
    if (node->valuestring || !(fabs(v) <= JSON_EXACT_INT) || v != floor(v))
        return js_fail(d, node, FT_EDATA, key, "must be an integer");
    if ((int64_t)v < low || (int64_t)v > high)
        return js_fail(d, node, FT_EDATA, key, "%lld is not between %lld and %lld", (long long)v,
                       (long long)low, (long long)high);
    *out = (int64_t)v;
    return FT_OK;
}

ft_status js_get_num(const js_doc *d, const cJSON *o, const char *key, double def, double *out)
{
    const cJSON *node = present(o, key);
    *out = def;
    if (!node) return FT_OK;
    if (!cJSON_IsNumber(node)) return wrong_type(d, node, key, "a number");
    if (node->valuestring)
        return js_fail(d, node, FT_EDATA, key, "%s is not a number a double can hold",
                       ft_shows(node->valuestring));
    *out = node->valuedouble;
    return FT_OK;
}

ft_status js_get_bool(const js_doc *d, const cJSON *o, const char *key, bool def, bool *out)
{
    const cJSON *node = present(o, key);
    *out = def;
    if (!node) return FT_OK;
    if (!cJSON_IsBool(node)) return wrong_type(d, node, key, "true or false");
    *out = cJSON_IsTrue(node);
    return FT_OK;
}

ft_status js_get_str(const js_doc *d, const cJSON *o, const char *key, const char *def,
                     const char **out)
{
    const cJSON *node = present(o, key);
    *out = def;
    if (!node) return FT_OK;
    if (!cJSON_IsString(node)) return wrong_type(d, node, key, "a string");
    *out = node->valuestring;
    return FT_OK;
}

/* --- making --------------------------------------------------------------------------------------- */
static bool give_name(cJSON *object, const char *key, cJSON *value)
{
    const size_t n = strlen(key) + 1;
    char *name = object && value ? cJSON_malloc(n) : NULL;
    if (!name) {
        cJSON_Delete(value);
        return false;
    }
    memcpy(name, key, n);
    if (!(value->type & cJSON_StringIsConst)) cJSON_free(value->string);
    value->string = name;
    value->type &= ~cJSON_StringIsConst;
    return true;
}

bool js_add(cJSON *object, const char *key, cJSON *value)
{
    return give_name(object, key, value) && cJSON_AddItemToArray(object, value);
}

bool js_put(cJSON *object, const char *key, cJSON *value)
{
    cJSON *old = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!old) return js_add(object, key, value);
    return give_name(object, key, value) && cJSON_ReplaceItemViaPointer(object, old, value);
}

bool js_refer(cJSON *object, const char *key, const cJSON *node)
{
    cJSON *same = cJSON_CreateNull();
    if (same) {
        *same = *node;
        same->next = same->prev = NULL;
        same->string = NULL;
        same->type |= cJSON_IsReference;
        same->type &= ~cJSON_StringIsConst;
    }
    return js_add(object, key, same);
}

/* --- printing ------------------------------------------------------------------------------------- */
static void print_number(str_buf *out, const cJSON *node)
{
    double v = node->valuedouble;
    if (node->valuestring)
        str_adds(out, node->valuestring);
    else if (!isfinite(v))
        str_adds(out, "null"); /* JSON has no other word */
    else if (v == floor(v) && fabs(v) <= JSON_EXACT_INT)
        str_printf(out, "%.0f", v);
    else
        str_double(out, v);
}

static void print_text(str_buf *out, const char *text)
{
    str_json(out, text ? text : "", text ? strlen(text) : 0);
}

static void new_line(str_buf *out, bool indent, int depth)
{
    if (!indent) return;
    str_addc(out, '\n');
    for (int i = 0; i < depth; i++) str_adds(out, "  ");
}

static void print_scalar(str_buf *out, const cJSON *node)
{
    switch (node->type & 0xff) {
    case cJSON_False:
        str_adds(out, "false");
        break;
    case cJSON_True:
        str_adds(out, "true");
        break;
    case cJSON_Number:
        print_number(out, node);
        break;
    case cJSON_String:
        print_text(out, node->valuestring);
        break;
    case cJSON_Raw:
        str_adds(out, node->valuestring ? node->valuestring : "null");
        break;
    default:
        str_adds(out, "null");
    }
}

/* Without recursion, as reading is; a tree deeper than the reader allows is our mistake. */
void js_print(str_buf *out, const cJSON *root, bool indent)
{
    const cJSON *open[TREE_DEPTH + 1];
    int depth = 0;
    if (js_whole() != FT_OK) out->failed = true;
    for (const cJSON *at = root; at;) {
        bool object = cJSON_IsObject(at);
        if (depth > 0 && cJSON_IsObject(open[depth - 1])) {
            print_text(out, at->string);
            str_adds(out, indent ? ": " : ":");
        }
        if ((object || cJSON_IsArray(at)) && at->child && depth < TREE_DEPTH) {
            str_addc(out, object ? '{' : '[');
            open[depth++] = at;
            at = at->child;
            new_line(out, indent, depth);
            continue;
        }
        if (object || cJSON_IsArray(at))
            str_adds(out, object ? "{}" : "[]");
        else
            print_scalar(out, at);
        while (depth > 0 && !at->next) {
            at = open[--depth];
            new_line(out, indent, depth);
            str_addc(out, cJSON_IsObject(at) ? '}' : ']');
        }
        if (depth == 0) return;
        at = at->next;
        str_addc(out, ',');
        new_line(out, indent, depth);
    }
}
