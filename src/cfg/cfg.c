/* cfg.c – a config as a document: the file, the --set values in it, and messages that name either.
 *
 * --set changes the tree, so document order no longer tells where a node stands; each node's place is
 * therefore noted once, before and while the values are put in. */
#include "cfg_private.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MISTAKES = 20,          /* listed at most */
    NOTED = 2 * MISTAKES,   /* each, and the key that a misspelled one means */
    CONFIG_BYTES = 16 << 20 /* longest config file */
};

/* --- growing lists -------------------------------------------------------------------------------- */
void cfg_fatal(cfg_doc *d, ft_status status)
{
    cfg_state *s = d->sets;
    if (s && s->fatal == FT_OK) s->fatal = status;
    d->errors++;
}

static ft_status fatal_of(const cfg_doc *d)
{
    const cfg_state *s = d->sets;
    return s ? s->fatal : FT_OK;
}

bool cfg_keep(cfg_doc *d, cJSON *tree)
{
    cfg_state *s = d->sets;
    if (s->n_kept == s->cap_kept) {
        size_t cap = s->cap_kept ? 2 * s->cap_kept : 16;
        cJSON **more = ft_realloc(s->kept, cap, sizeof *more);
        if (!more) {
            cJSON_Delete(tree);
            cfg_fatal(d, FT_EMEM);
            return false;
        }
        s->kept = more;
        s->cap_kept = cap;
    }
    s->kept[s->n_kept++] = tree;
    return true;
}

/* Notes the places of a whole tree: offsets[i] belongs to node i, or all come from one --set. */
static ft_status note_places(cfg_doc *d, const cJSON *root, const uint32_t *offsets,
                             const char *set)
{
    cfg_state *s = d->sets;
    size_t n = json_nodes(root, NULL, SIZE_MAX);
    const cJSON **nodes = ft_alloc(n, sizeof *nodes);
    if (!nodes) return FT_EMEM;
    json_nodes(root, nodes, n);
    if (s->n_place + n > s->cap_place) {
        size_t cap = 2 * s->cap_place + n;
        cfg_place *more = ft_realloc(s->place, cap, sizeof *more);
        if (!more) {
            ft_free(nodes);
            return FT_EMEM;
        }
        s->place = more;
        s->cap_place = cap;
    }
    for (size_t i = 0; i < n; i++)
        s->place[s->n_place++] =
            (cfg_place){.node = nodes[i], .offset = offsets ? (int64_t)offsets[i] : -1, .set = set};
    ft_free(nodes);
    return FT_OK;
}

static const cfg_place *place_of(const cfg_doc *d, const cJSON *node)
{
    const cfg_state *s = d->sets;
    if (!s || !node) return NULL;
    for (size_t i = s->n_place; i-- > 0;) {
        if (s->place[i].node == node) return &s->place[i];
    }
    return NULL;
}

/* --- messages --------------------------------------------------------------------------------------- */
/* From a value back to the opening quote of its key. */
static size_t key_offset(const char *text, size_t at)
{
    size_t p = at;
    while (p > 0 && text[p - 1] != ':') p--; /* only white space stands between */
    while (p > 0 && text[p - 1] != '"') p--;
    if (p == 0) return at;
    for (p--; p > 0;) { /* p at the closing quote */
        size_t slashes = 0;
        p--;
        if (text[p] != '"') continue;
        while (slashes < p && text[p - 1 - slashes] == '\\') slashes++;
        if (slashes % 2 == 0) return p;
    }
    return at;
}

void cfg_note_wrong(cfg_doc *d, const char *key)
{
    cfg_state *s = d->sets;
    if (!s || !key) return;
    if (!s->wrong) s->wrong = arena_get(d->mem, NOTED * sizeof *s->wrong);
    const char *copy = arena_str(d->mem, key);
    if (s->wrong && copy && s->n_wrong < NOTED) s->wrong[s->n_wrong++] = copy;
}

/* "model" and "model.path" cover "model.path". */
bool cfg_is_wrong(const cfg_doc *d, const char *key)
{
    const cfg_state *s = d->sets;
    for (size_t i = 0; s && i < s->n_wrong; i++) {
        size_t n = strlen(s->wrong[i]);
        if (strncmp(s->wrong[i], key, n) == 0 && (key[n] == 0 || key[n] == '.')) return true;
    }
    return false;
}

/* What a user wrote to set a value: a flag of the verb, or --set. */
static void name_set(const cfg_doc *d, const char *set, char *out, size_t size)
{
    const bool whole = str_starts(set, "--"); /* of cfg_put */
    snprintf(out, size, whole ? "%s: " : d->flags ? "--%s: " : "--set %s: ", ft_shows(set));
    for (char *p = out; d->flags && *p; p++)
        if (*p == '_') *p = '-';
}

void cfg_vfail(cfg_doc *d, const cJSON *node, bool at_key, const char *key, const char *fmt,
               va_list ap)
{
    char what[600], where[400] = "";
    const cfg_place *place = place_of(d, node ? node : d->js.root);

    if (ft_error_starved()) cfg_fatal(d, FT_EMEM);
    if (fatal_of(d) != FT_OK || d->errors++ >= MISTAKES) return;
    cfg_note_wrong(d, key);
    vsnprintf(what, sizeof what, fmt, ap);
    if (place && place->offset < 0) {
        name_set(d, place->set, where, sizeof where);
        if (key && (strcmp(key, place->set) == 0 || (str_starts(place->set, "--") && !at_key)))
            key = NULL;
    } else if (d->js.name) {
        int64_t line = 1;
        int col = 1;
        size_t at = place ? (size_t)place->offset : 0;
        if (at_key && place && !d->js.at_keys) at = key_offset(d->js.text, at);
        if (place) json_line_col(d->js.text, d->js.text + at, 1, &line, &col);
        snprintf(where, sizeof where, "%.300s:%lld:%d: ", d->js.name, (long long)line, col);
    }
    if (d->errors == 1) ft_error_clear();
    ft_fail_more(FT_ECONFIG, "%s%s%s%s", where, key ? ft_shows(key) : "", key ? ": " : "", what);
}

/* The value that a key has when nobody says one. */
static bool is_default(const cfg_field *rows, const char *key, const cJSON *node)
{
    js_doc def = {0};
    while (rows->key && strcmp(rows->key, key) != 0) rows++;
    if (!rows->key || !rows->def ||
        js_parse(&def, rows->def, strlen(rows->def), key, 1, JS_NO_POSITIONS, FT_EINTERNAL) !=
            FT_OK)
        return false;
    const bool same = cJSON_Compare(def.root, node, true);
    js_close(&def);
    return same;
}

void cfg_idle(cfg_doc *d, const cJSON *object, const char *section, const cfg_field *rows,
              const char *key, const char *fmt, ...)
{
    char what[400], where[400] = "", whole[200];
    const cJSON *node = js_get(object, key);
    const cfg_place *place = node ? place_of(d, node) : NULL;
    va_list ap;
    if (!place || is_default(rows, key, node)) return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (place->offset < 0) {
        name_set(d, place->set, where, sizeof where);
    } else {
        int64_t line;
        int col;
        json_line_col(d->js.text, d->js.text + place->offset, 1, &line, &col);
        snprintf(where, sizeof where, "%.300s:%lld:%d: ", d->js.name, (long long)line, col);
    }
    snprintf(whole, sizeof whole, "%s.%s", section, key);
    const bool named = place->offset < 0 && strcmp(place->set, whole) == 0;
    log_warn("%s%s%shas no effect %s", where, named ? "" : whole, named ? "" : ": ", what);
}

void cfg_fail(cfg_doc *d, const cJSON *node, const char *key, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    cfg_vfail(d, node, false, key, fmt, ap);
    va_end(ap);
}

void cfg_missing(cfg_doc *d, const cJSON *node, const char *key, const char *fmt, ...)
{
    va_list ap;
    const cfg_place *place = place_of(d, node ? node : d->js.root);
    if (cfg_is_wrong(d, key)) return;
    va_start(ap, fmt);
    cfg_vfail(d, node, place && place->offset < 0, key, fmt,
              ap); /* --method alone would be what is missing */
    va_end(ap);
}

ft_status cfg_done(const cfg_doc *d)
{
    if (fatal_of(d) != FT_OK) return fatal_of(d);
    if (ft_error_starved()) return FT_EMEM;
    return d->errors ? FT_ECONFIG : FT_OK;
}

/* --- paths -------------------------------------------------------------------------------------------- */
const char *cfg_path(cfg_doc *d, const cJSON *from, const char *value)
{
    const cfg_place *place = place_of(d, from);
    bool from_set = place && place->offset < 0;
    const char *path =
        from_set || value[0] == '/' || !d->dir || !d->dir[0]
            ? arena_str(d->mem, value)
            : arena_printf(d->mem, "%s%s%s", d->dir, str_ends(d->dir, "/") ? "" : "/", value);
    if (!path) cfg_fatal(d, FT_EMEM);
    return path;
}

static ft_status folder_of(cfg_doc *d, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    d->dir = slash && n == 0 ? "/" : arena_strn(d->mem, path, n);
    return d->dir ? FT_OK : FT_EMEM;
}

/* --- --set ---------------------------------------------------------------------------------------------- */
/* The value of a --set: JSON when it parses as JSON, else a string. */
static ft_status set_value(const char *set, const char *text, cJSON **out)
{
    js_doc doc;
    ft_status rc = js_parse(&doc, text, strlen(text), "--set", 1, JS_NO_POSITIONS, FT_ECONFIG);
    *out = doc.root;
    if (rc == FT_OK || rc == FT_EMEM) return rc;
    ft_error_clear();
    FT_CHECK(utf8_valid(text, strlen(text)), FT_EUSAGE, "--set %s: the value is not valid UTF-8",
             ft_shows(set));
    *out = cJSON_CreateString(text);
    return *out ? FT_OK : FT_EMEM;
}

/* Puts `value` (owned by the call) at the end of a path. */
static ft_status put_value(cfg_doc *d, const char *set, const char *const *keys, int n,
                           cJSON *value)
{
    cJSON *at = d->js.root;
    for (int i = 0; i < n; i++) {
        cJSON *next = cJSON_GetObjectItemCaseSensitive(at, keys[i]);
        bool last = i == n - 1;
        if (!cJSON_IsObject(at)) {
            cJSON_Delete(value);
            return ft_fail(FT_ECONFIG, "--set %s: %s is %s, not an object", ft_shows(set),
                           ft_shows(at->string ? at->string : "the config"), json_kind(at));
        }
        if (next && !last) {
            at = next;
            continue;
        }
        cJSON *fresh = last ? value : cJSON_CreateObject();
        if (next) {
            cJSON_DetachItemViaPointer(at, next);
            if (!cfg_keep(d, next)) {
                cJSON_Delete(value);
                return FT_EMEM;
            }
        }
        if (!fresh || !cJSON_AddItemToObject(at, keys[i], fresh)) {
            if (!last) cJSON_Delete(fresh);
            cJSON_Delete(value);
            return FT_EMEM;
        }
        if (!last) {
            ft_status rc = note_places(d, fresh, NULL, set);
            if (rc != FT_OK) {
                cJSON_Delete(value);
                return rc;
            }
        }
        at = fresh;
    }
    return note_places(d, value, NULL, set);
}

static ft_status apply_set(cfg_doc *d, const char *text)
{
    const char *const *keys, *path, *value;
    cJSON *node;
    int n;
    FT_TRY(cfg_set_words(text, d->mem, &keys, &n, &path, &value));
    FT_TRY(set_value(path, value, &node));
    return put_value(d, path, keys, n, node);
}

static ft_status cut_path(const cfg_doc *d, const char *path, const char *const **keys, int *n)
{
    const char *set = arena_printf(d->mem, "%s=", path), *whole, *value;
    return set ? cfg_set_words(set, d->mem, keys, n, &whole, &value) : FT_EMEM;
}

ft_status cfg_put(cfg_doc *d, const char *path, const char *flag, cJSON *value)
{
    const char *const *keys;
    int n;
    ft_status rc = cut_path(d, path, &keys, &n);
    if (rc == FT_OK) return put_value(d, flag, keys, n, value);
    cJSON_Delete(value);
    return rc;
}

ft_status cfg_drop(cfg_doc *d, const char *path)
{
    const char *const *keys;
    int n;
    cJSON *at = d->js.root, *next = NULL;
    FT_TRY(cut_path(d, path, &keys, &n));
    for (int i = 0; i < n; i++) {
        next = cJSON_GetObjectItemCaseSensitive(at, keys[i]);
        if (!next) return FT_OK;
        if (i < n - 1) at = next;
    }
    cJSON_DetachItemViaPointer(at, next);
    return cfg_keep(d, next) ? FT_OK : FT_EMEM;
}

/* --- opening -------------------------------------------------------------------------------------------- */
/* The whole file; the text belongs to the state. */
static ft_status read_text(cfg_state *s, const char *path, size_t *len)
{
    struct stat st;
    size_t cap = 0;
    ft_status rc = FT_OK;
    int fd;

    *len = 0;
    FT_CHECK(stat(path, &st) != 0 || !S_ISDIR(st.st_mode), FT_ENOINPUT,
             "%s: this is a folder, not a config file", path);
    FT_TRY(ft_open(&fd, path, NULL));
    for (;;) {
        if (*len == cap) {
            FT_GUARD(cap < CONFIG_BYTES, FT_ECONFIG, "%s: longer than %d MiB; is this a config?",
                     path, CONFIG_BYTES >> 20);
            cap = cap ? 2 * cap : 1 << 14;
            char *more = ft_realloc(s->text, cap, 1);
            if (!more) rc = FT_EMEM;
            if (!more) goto out;
            s->text = more;
        }
        ssize_t got = read(fd, s->text + *len, cap - *len);
        if (got < 0 && ft_again()) continue;
        if (got < 0) rc = ft_fail_errno(FT_EIO, "%s: cannot read the config", path);
        if (got <= 0) goto out;
        *len += (size_t)got;
    }
out:
    close(fd);
    return rc;
}

static ft_status start(cfg_doc *d, arena *mem)
{
    *d = (cfg_doc){.mem = mem, .dir = ""};
    d->sets = ft_alloc(1, sizeof(cfg_state));
    return d->sets ? FT_OK : FT_EMEM;
}

ft_status cfg_set(cfg_doc *d, const char *const *sets, int n_sets)
{
    for (int i = 0; i < n_sets; i++) FT_TRY(apply_set(d, sets[i]));
    return FT_OK;
}

/* What does not parse as JSON: by its name, or by a first line "word:" or "---". */
static bool is_yaml(const char *name, const char *text, size_t n)
{
    size_t i = 0, word;
    if (str_ends(name, ".yaml") || str_ends(name, ".yml")) return true;
    while (i < n && text[i] == '#') { /* comments before it */
        while (i < n && text[i] != '\n') i++;
        while (i < n && (text[i] == '\n' || text[i] == '\r')) i++;
    }
    if (n - i >= 3 && memcmp(text + i, "---", 3) == 0) return true;
    for (word = i; word < n && (isalnum((unsigned char)text[word]) || text[word] == '_');) word++;
    return word > i && word < n && text[word] == ':';
}

/* The text as a tree, by the name of the file. */
static ft_status parse(cfg_doc *d, const char *name, size_t len, bool yaml)
{
    cfg_state *s = d->sets;
    const bool named = str_ends(name, ".yaml") || str_ends(name, ".yml");
    if (yaml && named) return js_parse_yaml(&d->js, s->text, len, name, FT_ECONFIG);
    if (str_ends(name, ".jsonc")) FT_TRY(cfg_jsonc(s->text, &len, name));
    const ft_status rc = js_parse(&d->js, s->text, len, name, 1, JS_STRICT, FT_ECONFIG);
    if (rc == FT_OK || rc == FT_EMEM || !is_yaml(name, s->text, len)) return rc;
    if (yaml) return ft_fail(FT_ECONFIG, "%s: this is YAML; name the file .yml", name);
    return ft_fail(FT_ECONFIG,
                   "%s: this is YAML; a config of ft is JSON (ft schema prints its schema)", name);
}

static ft_status open_as(cfg_doc *d, const char *path, bool yaml, const char *const *sets,
                         int n_sets, arena *mem)
{
    ft_status rc;
    size_t len;

    FT_TRY(start(d, mem));
    cfg_state *s = d->sets;
    FT_TRY_OUT(read_text(s, path, &len));
    FT_TRY_OUT(folder_of(d, path));
    const char *name = arena_str(mem, path);
    FT_GUARD(name, FT_EMEM, "out of memory");
    FT_TRY_OUT(parse(d, name, len, yaml));
    if (!cJSON_IsObject(d->js.root)) {
        rc = js_fail(&d->js, d->js.root, FT_ECONFIG, NULL, "a config is an object, not %s",
                     json_kind(d->js.root));
        goto out;
    }
    FT_TRY_OUT(note_places(d, d->js.root, d->js.pos, NULL));
    FT_TRY_OUT(cfg_set(d, sets, n_sets));
out:
    if (rc != FT_OK) cfg_close(d);
    return rc;
}

ft_status cfg_open(cfg_doc *d, const char *path, const char *const *sets, int n_sets, arena *mem)
{
    return open_as(d, path, false, sets, n_sets, mem);
}

ft_status cfg_open_yaml(cfg_doc *d, const char *path, const char *const *sets, int n_sets,
                        arena *mem)
{
    return open_as(d, path, true, sets, n_sets, mem);
}

ft_status cfg_open_empty(cfg_doc *d, const char *const *sets, int n_sets, arena *mem)
{
    FT_TRY(start(d, mem));
    d->js.root = cJSON_CreateObject();
    ft_status rc = d->js.root ? cfg_set(d, sets, n_sets) : FT_EMEM;
    if (rc != FT_OK) cfg_close(d);
    return rc;
}

void cfg_close(cfg_doc *d)
{
    cfg_state *s = d->sets;
    js_close(&d->js);
    if (!s) return;
    for (size_t i = 0; i < s->n_kept; i++) cJSON_Delete(s->kept[i]);
    ft_free(s->kept);
    ft_free(s->place);
    ft_free(s->text);
    ft_free(s);
    d->sets = NULL;
}
