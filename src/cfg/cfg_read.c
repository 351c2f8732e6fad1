/* cfg_read.c – from JSON objects to structs and back, by the rows of a table.
 *
 * Reading goes on after a mistake so that one run lists them all; null is no value, a key that is not
 * wanted is left out. */
#include "cfg_private.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { KEY_BYTES = 256, NAMES = 128 };

/* What a row's reader gets: the value, and where it belongs. */
typedef struct slot {
    cfg_doc *d;
    const cJSON *node;
    const char *key; /* full path */
    const cfg_field *row;
    void *to;
} slot;

static void mistake(const slot *s, const char *fmt, ...) FT_PRINTF(2, 3);
static void mistake(const slot *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    cfg_vfail(s->d, s->node, false, s->key, fmt, ap);
    va_end(ap);
}

static void wrong_type(const slot *s, const char *wanted)
{
    if (cJSON_IsString(s->node))
        mistake(s, "must be %s, not the string \"%s\"", wanted, ft_shows(s->node->valuestring));
    else if (cJSON_IsNull(s->node))
        mistake(s, "must be %s, not null; leave the key out to get the default", wanted);
    else
        mistake(s, "must be %s, not %s", wanted, json_kind(s->node));
}

static bool in_range(const slot *s, double v)
{
    const cfg_field *r = s->row;
    char value[32], low[32], high[32];
    if (!(r->low < r->high)) return true;
    if (v <= r->high && (r->low_open ? v > r->low : v >= r->low)) return true;
    json_number(value, v);
    json_number(low, r->low);
    json_number(high, r->high);
    if (r->high >= JSON_EXACT_INT)
        mistake(s, "%s must be %s %s", value, r->low_open ? "greater than" : "at least", low);
    else if (r->low <= -JSON_EXACT_INT)
        mistake(s, "%s must be at most %s", value, high);
    else
        mistake(s, "%s must be between %s%s and %s", value, low, r->low_open ? " (excluded)" : "",
                high);
    return false;
}

static void read_bool(const slot *s)
{
    if (!cJSON_IsBool(s->node)) return wrong_type(s, "true or false");
    *(bool *)s->to = cJSON_IsTrue(s->node);
}

static void read_integer(const slot *s, const char *wanted)
{
    double v = s->node->valuedouble;
    if (!cJSON_IsNumber(s->node)) return wrong_type(s, wanted);
    if (!(fabs(v) <= JSON_EXACT_INT) || v != floor(v))
        return mistake(s, "%.15g must be %s", v, wanted);
    if (in_range(s, v)) *(int64_t *)s->to = (int64_t)v;
}

static void read_int(const slot *s)
{
    read_integer(s, "an integer");
}

static void read_float(const slot *s)
{
    if (!cJSON_IsNumber(s->node)) return wrong_type(s, "a number");
    if (in_range(s, s->node->valuedouble)) *(double *)s->to = s->node->valuedouble;
}

static void read_str(const slot *s)
{
    if (!cJSON_IsString(s->node)) return wrong_type(s, "a string");
    const char *copy = arena_str(s->d->mem, s->node->valuestring);
    if (!copy) cfg_fatal(s->d, FT_EMEM);
    *(const char **)s->to = copy;
}

static const char *choice_of(const cfg_field *row, const char *word)
{
    for (int i = 0; row->choices && row->choices[i]; i++)
        if (strcmp(row->choices[i], word) == 0) return row->choices[i];
    return NULL;
}

static void read_path(const slot *s)
{
    if (!cJSON_IsString(s->node)) return wrong_type(s, "a path");
    if (!s->node->valuestring[0]) return mistake(s, "the path is empty");
    const char *word = choice_of(s->row, s->node->valuestring);
    *(const char **)s->to = word ? word : cfg_path(s->d, s->node, s->node->valuestring);
}

static void add_choices(str_buf *out, const char *const *choices, const char *between)
{
    for (int i = 0; choices && choices[i]; i++) {
        if (i) str_adds(out, between);
        str_adds(out, choices[i]);
    }
}

static void read_enum(const slot *s)
{
    str_buf all = {0};
    const char *word = s->node->valuestring;
    const char *known = cJSON_IsString(s->node) ? choice_of(s->row, word) : NULL;
    if (known) {
        *(const char **)s->to = known;
        return;
    }
    str_adds(&all, "one of ");
    add_choices(&all, s->row->choices, ", ");
    if (str_ok(&all) != FT_OK) {
        cfg_fatal(s->d, FT_EMEM);
    } else if (!cJSON_IsString(s->node)) {
        wrong_type(s, all.data);
    } else {
        const char *near = cfg_nearest(word, s->row->choices);
        if (near)
            mistake(s, "\"%s\" is unknown; did you mean \"%s\"?", ft_shows(word), near);
        else
            mistake(s, "\"%s\" is unknown; must be %s", ft_shows(word), all.data);
    }
    str_free(&all);
}

/* null is no value, but where it is one of the shapes. */
static void read_json(const slot *s)
{
    bool taken = !cJSON_IsNull(s->node);
    for (const char *const *c = s->row->choices; c && *c && !taken; c++)
        taken = strcmp(*c, "null") == 0;
    if (!taken) return wrong_type(s, "a value");
    *(const cJSON **)s->to = s->node;
}

static void read_auto_int(const slot *s)
{
    if (cJSON_IsString(s->node) && strcmp(s->node->valuestring, "auto") == 0)
        *(int64_t *)s->to = CFG_AUTO;
    else
        read_integer(s, "an integer or \"auto\"");
}

static void read_auto_bool(const slot *s)
{
    if (cJSON_IsString(s->node) && strcmp(s->node->valuestring, "auto") == 0)
        *(int *)s->to = -1;
    else if (cJSON_IsBool(s->node))
        *(int *)s->to = cJSON_IsTrue(s->node) ? 1 : 0;
    else
        wrong_type(s, "true, false or \"auto\"");
}

static void read_table(const slot *s)
{
    const ft_status rc = cfg_read(s->d, s->node, s->key, s->row->sub, s->to, NULL);
    if (rc != FT_OK) cfg_fatal(s->d, rc);
}

static void (*const readers[])(const slot *s) = {
    [CFG_BOOL] = read_bool,   [CFG_INT] = read_int,           [CFG_FLOAT] = read_float,
    [CFG_STR] = read_str,     [CFG_PATH] = read_path,         [CFG_ENUM] = read_enum,
    [CFG_JSON] = read_json,   [CFG_AUTO_INT] = read_auto_int, [CFG_AUTO_BOOL] = read_auto_bool,
    [CFG_TABLE] = read_table,
};

static const char *join_key(char out[KEY_BYTES], const char *path, const char *key)
{
    snprintf(out, KEY_BYTES, "%s%s%s", path ? path : "", path && path[0] ? "." : "", key);
    return out;
}

static void read_default(cfg_doc *d, const char *key, const cfg_field *row, void *to)
{
    js_doc doc;
    ft_status rc =
        js_parse(&doc, row->def, strlen(row->def), key, 1, JS_NO_POSITIONS, FT_EINTERNAL);
    if (rc != FT_OK) {
        cfg_fatal(d, FT_EMEM);
        return;
    }
    slot s = {.d = d, .node = doc.root, .key = key, .row = row, .to = to};
    readers[row->type](&s);
    if (row->type == CFG_JSON)
        cfg_keep(d, doc.root);
    else
        js_close(&doc);
}

/* Members that no key was given for. In a table that may be left out, required keys are not missed
 * (`owner` NULL); else they are reported at `owner`. */
static void fill_absent(cfg_doc *d, const cJSON *object, const cJSON *owner, const char *path,
                        const cfg_field *rows, void *out)
{
    char key[KEY_BYTES];
    for (const cfg_field *r = rows; r->key; r++) {
        void *to = (char *)out + r->offset;
        if (object && js_get(object, r->key)) continue;
        join_key(key, path, r->key);
        if (r->type == CFG_TABLE)
            fill_absent(d, NULL, r->required ? owner : NULL, key, r->sub, to);
        else if (r->def)
            read_default(d, key, r, to);
        else if (r->required && owner)
            cfg_missing(d, owner, key, "this key is required");
    }
}

static const cfg_field *find_row(const cfg_field *rows, const char *key)
{
    for (; rows->key; rows++) {
        if (strcmp(rows->key, key) == 0) return rows;
    }
    return NULL;
}

static void fail_unknown(cfg_doc *d, const cJSON *node, const char *key, const char *fmt, ...)
    FT_PRINTF(4, 5);
static void fail_unknown(cfg_doc *d, const cJSON *node, const char *key, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    cfg_vfail(d, node, true, key, fmt, ap);
    va_end(ap);
}

/* Another program's name for a key, or one that stands in another section. */
static bool key_of_elsewhere(cfg_doc *d, const cJSON *node, const char *path, const char *key)
{
    cfg_meaning m;
    if (!d->meant || (path && strchr(path, '.')) || !d->meant(node->string, &m)) return false;
    if (strcmp(m.path, key) == 0) return false; /* a key of another type of this section */
    if (m.path[0])
        fail_unknown(d, node, key, "unknown key; ft has it as %s%s%s", m.path, m.why ? ": " : "",
                     m.why ? m.why : "");
    else
        fail_unknown(d, node, key, "unknown key; %s", m.why);
    if (m.path[0]) cfg_note_wrong(d, m.path);
    return true;
}

/* A misspelled key is not missing as well. */
static void unknown_key(cfg_doc *d, const cJSON *node, const char *path, const char *key,
                        const cfg_field *rows, const char *const *also)
{
    const char *names[NAMES + 1];
    int n = 0;
    if (key_of_elsewhere(d, node, path, key)) return;
    for (; rows->key && n < NAMES; rows++) names[n++] = rows->key;
    for (; also && *also && n < NAMES; also++) names[n++] = *also;
    names[n] = NULL;
    const char *near = cfg_nearest(node->string, names);
    if (!near) return fail_unknown(d, node, key, "unknown key");
    fail_unknown(d, node, key, "unknown key; did you mean \"%s\"?", near);
    char meant[KEY_BYTES];
    cfg_note_wrong(d, join_key(meant, path, near));
}

static bool listed(const char *const *names, const char *key)
{
    for (; names && *names; names++) {
        if (strcmp(*names, key) == 0) return true;
    }
    return false;
}

ft_status cfg_read(cfg_doc *d, const cJSON *object, const char *path, const cfg_field *rows,
                   void *out, const char *const *also)
{
    char key[KEY_BYTES];
    const cJSON *owner = object ? object : d->js.root;
    if (object && !cJSON_IsObject(object)) {
        slot s = {.d = d, .node = object, .key = path && path[0] ? path : NULL};
        wrong_type(&s, "an object");
        object = owner = NULL;
    }
    for (const cJSON *node = object ? object->child : NULL; node; node = node->next) {
        const cfg_field *row = find_row(rows, node->string);
        join_key(key, path, node->string);
        slot s = {.d = d, .node = node, .key = key, .row = row};
        if (row) {
            s.to = (char *)out + row->offset;
            readers[row->type](&s);
        } else if (!listed(also, node->string)) {
            unknown_key(d, node, path, key, rows, also);
        }
    }
    fill_absent(d, object, owner, path, rows, out);
    return cfg_done(d) == FT_ECONFIG ? FT_OK : cfg_done(d);
}

/* --- the resolved config ---------------------------------------------------------------------------- */
ft_status cfg_absolute(str_buf *out, const char *path)
{
    char cwd[PATH_MAX];
    if (path[0] != '/') {
        if (!getcwd(cwd, sizeof cwd))
            return ft_fail_errno(FT_EIO, "the current folder cannot be told");
        str_printf(out, "%s%s", cwd, str_ends(cwd, "/") ? "" : "/");
    }
    str_adds(out, path);
    return str_ok(out);
}

static ft_status absolute_path(const char *path, cJSON **out)
{
    str_buf text = {0};
    const ft_status rc = cfg_absolute(&text, path);
    *out = rc == FT_OK ? cJSON_CreateString(text.data) : NULL;
    str_free(&text);
    return rc;
}

/* A table that was left out although it has required keys. */
static bool table_absent(const cfg_field *rows, const void *values)
{
    for (; rows->key; rows++) {
        bool text = rows->type == CFG_STR || rows->type == CFG_PATH || rows->type == CFG_ENUM ||
                    rows->type == CFG_JSON;
        const void *at = (const char *)values + rows->offset;
        if (rows->required && text && !*(const void *const *)at) return true;
    }
    return false;
}

/* Nothing there, and no default that would come back when the key is left out. */
static bool value_absent(const cfg_field *r, const void *at)
{
    switch (r->type) {
    case CFG_BOOL:
        return !r->def && !*(const bool *)at;
    case CFG_INT:
        return (!r->def && *(const int64_t *)at == 0) || *(const int64_t *)at == CFG_AUTO;
    case CFG_AUTO_INT:
        return !r->def && *(const int64_t *)at == 0;
    case CFG_FLOAT:
        return (!r->def && *(const double *)at == 0) || !isfinite(*(const double *)at);
    case CFG_AUTO_BOOL:
        return false;
    case CFG_TABLE:
        return table_absent(r->sub, at);
    default:
        return !*(const void *const *)at;
    }
}

/* *out is NULL where memory failed. */
static ft_status resolved(const cfg_field *r, const void *at, cJSON **out)
{
    ft_status rc = FT_OK;
    *out = NULL;
    switch (r->type) {
    case CFG_BOOL:
        *out = cJSON_CreateBool(*(const bool *)at);
        break;
    case CFG_INT:
        *out = cJSON_CreateNumber((double)*(const int64_t *)at);
        break;
    case CFG_AUTO_INT:
        *out = *(const int64_t *)at == CFG_AUTO ? cJSON_CreateString("auto")
                                                : cJSON_CreateNumber((double)*(const int64_t *)at);
        break;
    case CFG_FLOAT:
        *out = cJSON_CreateNumber(*(const double *)at);
        break;
    case CFG_STR:
    case CFG_ENUM:
        *out = cJSON_CreateString(*(const char *const *)at);
        break;
    case CFG_PATH:
        if (!choice_of(r, *(const char *const *)at))
            return absolute_path(*(const char *const *)at, out);
        *out = cJSON_CreateString(*(const char *const *)at);
        break;
    case CFG_JSON:
        *out = cJSON_Duplicate(*(const cJSON *const *)at, true);
        break;
    case CFG_AUTO_BOOL:
        *out =
            *(const int *)at < 0 ? cJSON_CreateString("auto") : cJSON_CreateBool(*(const int *)at);
        break;
    case CFG_TABLE:
        *out = cJSON_CreateObject();
        if (*out) rc = cfg_resolve(*out, r->sub, at);
        break;
    case CFG_LIST: /* in no config */
        break;
    }
    return rc;
}

ft_status cfg_resolve(cJSON *object, const cfg_field *rows, const void *values)
{
    for (; rows->key; rows++) {
        const void *at = (const char *)values + rows->offset;
        if (value_absent(rows, at)) continue;
        cJSON *node;
        const ft_status rc = resolved(rows, at, &node);
        if (rc != FT_OK || !node) {
            cJSON_Delete(node);
            return rc != FT_OK ? rc : FT_EMEM;
        }
        cJSON_DeleteItemFromObjectCaseSensitive(object, rows->key);
        if (!cJSON_AddItemToObject(object, rows->key, node)) {
            cJSON_Delete(node);
            return FT_EMEM;
        }
    }
    return FT_OK;
}
