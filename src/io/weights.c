/* weights.c – the weights of a model as one list of named tensors: a folder with model.safetensors
 * or with an index and shards, a single .safetensors file, or a .gguf file.
 *
 * An index is somebody else's file: a shard is one plain name in the same folder. Files may be links (a
 * download cache, another disk): weights are parsed, never copied as they stand, so a link gives nothing away. */
#include "ft/io.h"
#include "io_private.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"
#define INDEX_LIMIT ((size_t)64 << 20)
#define PIECE ((size_t)16 << 20)
#define READ ((size_t)1 << 20)

/* --- one list --------------------------------------------------------------------------------- */

static ft_status add_tensors(io_weights *w, const io_tensor *list, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const io_tensor *t = &list[i];
        int64_t other;
        if (map_get(&w->index, t->name, strlen(t->name), &other))
            return ft_fail(FT_EDATA, "%s: tensor \"%s\": stands in %s too", t->file,
                           ft_shows(t->name), w->tensor[other].file);
        w->tensor[w->n] = *t;
        FT_TRY(map_put(&w->index, t->name, strlen(t->name), w->n));
        w->n++;
    }
    return FT_OK;
}

static ft_status gather(io_weights *w, arena *a)
{
    int64_t n = w->gguf ? w->gguf->n : 0;
    for (int i = 0; i < w->n_parts; i++) n += w->part[i].n;
    for (int i = 0; i < w->n_shards; i++) n += w->shard[i].n;
    w->tensor = arena_get(a, ((size_t)n + 1) * sizeof *w->tensor);
    if (!w->tensor) return FT_EMEM;
    if (w->gguf) FT_TRY(add_tensors(w, w->gguf->tensor, w->gguf->n));
    for (int i = 0; i < w->n_parts; i++) FT_TRY(add_tensors(w, w->part[i].tensor, w->part[i].n));
    for (int i = 0; i < w->n_shards; i++) FT_TRY(add_tensors(w, w->shard[i].tensor, w->shard[i].n));
    return FT_OK;
}

static ft_status open_single(io_weights *w, const char *path, arena *a)
{
    w->shard = arena_get(a, sizeof *w->shard);
    if (!w->shard) return FT_EMEM;
    FT_TRY(st_open_as(&w->shard[0], path, w->apart, a));
    w->n_shards = 1;
    return FT_OK;
}

/* --- index and shards ------------------------------------------------------------------------- */

static bool plain_name(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > NAME_MAX || s[0] == '.' || strchr(s, '/') || strchr(s, '\\')) return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f) return false;
    return str_ends(s, ".safetensors");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct shard names of the index, sorted: names[0 … *n). */
static ft_status shard_names(const js_doc *doc, const cJSON *map, const char **names, int *n)
{
    size_t count = 0, kept = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, map)
    {
        if (!cJSON_IsString(item))
            return js_fail(doc, item, FT_EDATA, item->string, "a shard name is a string");
        if (!plain_name(item->valuestring))
            return js_fail(doc, item, FT_EDATA, item->string,
                           "\"%s\" is not the plain name of a .safetensors file",
                           ft_shows(item->valuestring));
        names[count++] = item->valuestring;
    }
    if (count > 0) qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0) names[kept++] = names[i];
    FT_CHECK(kept > 0 && kept <= 100000, FT_EDATA, "%s: weight_map: names %zu shards", doc->name,
             kept);
    *n = (int)kept;
    return FT_OK;
}

static ft_status open_shards(io_weights *w, const char *dir, const char *const *names, int n,
                             arena *a)
{
    w->shard = arena_get(a, (size_t)n * sizeof *w->shard);
    if (!w->shard) return FT_EMEM;
    for (int i = 0; i < n; i++) {
        const char *path = path_join(a, dir, names[i]);
        if (!path) return FT_EMEM;
        path_kind kind;
        FT_TRY(path_look(path, &kind));
        FT_CHECK(kind != PATH_NONE, FT_ENOINPUT,
                 "%s: is missing, though %s/" INDEX " names it; is the download complete?", path,
                 dir);
        FT_TRY(st_open_as(&w->shard[i], path, w->apart, a));
        w->n_shards++;
    }
    return FT_OK;
}

/* Every name of the index is in the shard it points to; more than that in a shard is only odd. */
static ft_status compare(const io_weights *w, const js_doc *doc, const cJSON *map)
{
    const cJSON *item;
    int64_t listed = 0;
    cJSON_ArrayForEach(item, map)
    {
        const io_tensor *t = io_find(w, item->string);
        if (!t) return js_fail(doc, item, FT_EDATA, item->string, "is in none of the shards");
        if (strcmp(path_base(t->file), item->valuestring) != 0)
            return js_fail(doc, item, FT_EDATA, item->string, "is in %s, not in \"%s\"",
                           path_base(t->file), ft_shows(item->valuestring));
        listed++;
    }
    if (listed < w->n)
        log_warn("%s: the shards hold %lld tensors that it does not list", doc->name,
                 (long long)(w->n - listed));
    return FT_OK;
}

static ft_status open_sharded(io_weights *w, const char *dir, const char *index, arena *a)
{
    ft_status rc;
    js_doc doc = {0};
    const char **names = NULL;
    char *text = NULL;
    size_t len;
    int n = 0;

    FT_TRY(file_read(&text, &len, index, INDEX_LIMIT));
    FT_TRY_OUT(js_parse(&doc, text, len, index, 1, JS_STRICT, FT_EDATA));
    const cJSON *map = cJSON_IsObject(doc.root) ? js_get(doc.root, "weight_map") : NULL;
    FT_GUARD(cJSON_IsObject(map), FT_EDATA, "%s: has no weight_map; download it again", index);
    names = ft_alloc((size_t)cJSON_GetArraySize(map) + 1, sizeof *names);
    if (!names) {
        rc = FT_EMEM;
        goto out;
    }
    FT_TRY_OUT(shard_names(&doc, map, names, &n));
    FT_TRY_OUT(open_shards(w, dir, names, n, a));
    FT_TRY_OUT(gather(w, a));
    rc = compare(w, &doc, map);
out:
    js_close(&doc);
    ft_free(names);
    ft_free(text);
    return rc;
}

/* --- folders and files ------------------------------------------------------------------------ */

/* Nothing of ours in the folder: says what there is instead. */
static ft_status no_weights(const char *dir, arena *a)
{
    const char **names;
    int64_t n;
    FT_TRY(dir_list(dir, a, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(names[i], "training_args.bin") == 0) continue;
        const char *path = path_join(a, dir, names[i]);
        if (!path) return FT_EMEM;
        FT_TRY(io_refuse_pickle_name(path));
    }
    for (int64_t i = 0; i < n; i++)
        if (str_ends(names[i], ".gguf"))
            return ft_fail(FT_ENOINPUT, "%s: has no " SINGLE "; give the path of its .gguf file",
                           dir);
    bool adapter;
    FT_TRY(io_is_adapter(dir, &adapter));
    FT_CHECK(!adapter, FT_ENOINPUT,
             "%s: is an adapter, not a model; name its base as the model, and this folder as the "
             "adapter (--adapter; method.init_from to train on)",
             dir);
    return ft_fail(FT_ENOINPUT, "%s: has neither " SINGLE " nor " INDEX, dir);
}

static ft_status open_folder(io_weights *w, const char *dir, arena *a)
{
    const char *single = path_join(a, dir, SINGLE), *index = path_join(a, dir, INDEX);
    if (!single || !index) return FT_EMEM;
    path_kind one, many;
    FT_TRY(path_look(single, &one));
    if (one == PATH_FILE || one == PATH_LOST) {
        FT_TRY(open_single(w, single, a));
        return gather(w, a);
    }
    FT_TRY(path_look(index, &many));
    if (many == PATH_FILE || many == PATH_LOST) return open_sharded(w, dir, index, a);
    return no_weights(dir, a);
}

/* --- GGUF, whole or split ------------------------------------------------------------------------ */

/* Tensors of the first part and of those after it, found by the name that the split was written under. */
static ft_status open_parts(io_weights *w, const char *path, int64_t n, arena *a)
{
    w->part = arena_get(a, (size_t)n * sizeof *w->part);
    if (!w->part) return FT_EMEM;
    for (int64_t i = 1; i < n; i++) {
        int64_t no, count;
        const char *name = gguf_part_name(a, path, i, n);
        FT_CHECK(name, FT_EDATA,
                 "%s: is the first of %lld parts, which are found by its name: it must end in "
                 "-00001-of-%05lld.gguf",
                 path, (long long)n, (long long)n);
        path_kind kind;
        FT_TRY(path_look(name, &kind));
        FT_CHECK(kind != PATH_NONE, FT_ENOINPUT,
                 "%s: is missing, one of %lld parts; is the download complete?", name,
                 (long long)n);
        FT_TRY(gguf_open_part(&w->part[i - 1], name, w->apart, a));
        w->n_parts++;
        FT_TRY(gguf_int(&w->part[i - 1], "split.no", -1, 0, UINT16_MAX, &no));
        FT_TRY(gguf_int(&w->part[i - 1], "split.count", -1, 0, UINT16_MAX, &count));
        FT_CHECK(
            no == i && count == n, FT_EDATA,
            "%s: says that it is part %lld of %lld, its name says %lld of %lld: the parts are not "
            "of one model",
            name, (long long)no + 1, (long long)count, (long long)i + 1, (long long)n);
    }
    return FT_OK;
}

static ft_status open_gguf(io_weights *w, const char *path, arena *a)
{
    int64_t parts, tensors;
    gguf_file *f = arena_get(a, sizeof *f);
    if (!f) return FT_EMEM;
    FT_TRY(gguf_open_as(f, path, w->apart, a));
    w->gguf = f;
    FT_TRY(gguf_int(f, "split.count", 1, 0, UINT16_MAX, &parts));
    FT_TRY(gguf_int(f, "split.tensors.count", -1, 0, INT64_MAX, &tensors));
    if (parts > 1) FT_TRY(open_parts(w, path, parts, a));
    FT_TRY(gather(w, a));
    FT_CHECK(parts <= 1 || tensors < 0 || w->n == tensors, FT_EDATA,
             "%s: the %lld parts hold %lld tensors, the first of them says %lld", path,
             (long long)parts, (long long)w->n, (long long)tensors);
    return FT_OK;
}

/* By name, and where the name tells nothing, by the first bytes. */
static ft_status open_file(io_weights *w, const char *path, arena *a)
{
    file_map m;
    if (str_ends(path, ".gguf")) return open_gguf(w, path, a);
    FT_TRY(io_refuse_pickle_name(path));
    FT_TRY(io_map_open_head(&m, path, 4));
    bool gguf = m.size >= 4 && memcmp(m.data, "GGUF", 4) == 0;
    file_map_close(&m);
    if (gguf) return open_gguf(w, path, a);
    FT_TRY(open_single(w, path, a));
    return gather(w, a);
}

static ft_status open_as(io_weights *w, const char *model_path, bool apart, arena *a)
{
    *w = (io_weights){.apart = apart};
    w->path = arena_str(a, model_path);
    if (!w->path) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(model_path, &kind));
    ft_status rc = kind == PATH_FOLDER ? open_folder(w, w->path, a) : open_file(w, w->path, a);
    if (rc != FT_OK) io_weights_close(w);
    return rc;
}

ft_status io_weights_open(io_weights *w, const char *model_path, arena *a)
{
    return open_as(w, model_path, false, a);
}

ft_status io_weights_open_apart(io_weights *w, const char *model_path, arena *a)
{
    return open_as(w, model_path, true, a);
}

/* The files, in one list. */
static file_map *map_at(const io_weights *w, int i)
{
    if (i < w->n_shards) return &w->shard[i].map;
    i -= w->n_shards;
    if (w->gguf && i-- == 0) return &w->gguf->map;
    return i < w->n_parts ? &w->part[i].map : NULL;
}

ft_status io_weights_widen(io_weights *w)
{
    file_map *m;
    if (!w->apart) return FT_OK;
    for (int i = 0; (m = map_at(w, i)); i++) {
        const io_tensor whole = {.name = "", .file = w->path, .map = m, .at = 0, .bytes = m->size};
        const void *data;
        FT_TRY(io_tensor_map(&whole, &data));
        for (int64_t k = 0; k < w->n; k++)
            if (w->tensor[k].map == m) w->tensor[k].data = (const uint8_t *)data + w->tensor[k].at;
    }
    w->apart = false;
    return FT_OK;
}

const io_tensor *io_find(const io_weights *w, const char *name)
{
    int64_t i;
    return map_get(&w->index, name, strlen(name), &i) ? &w->tensor[i] : NULL;
}

void io_weights_close(io_weights *w)
{
    map_free(&w->index);
    for (int i = 0; i < w->n_shards; i++) st_close(&w->shard[i]);
    if (w->gguf) gguf_close(w->gguf);
    for (int i = 0; i < w->n_parts; i++) gguf_close(&w->part[i]);
    *w = (io_weights){0};
}

/* Never the whole file in memory. */
static ft_status hash_map(const file_map *map, char hex[65])
{
    uint8_t *piece = NULL;
    ft_status rc = FT_OK;
    sha256_state sha;
    sha256_init(&sha);
    if (map->pieces) {
        piece = ft_alloc(READ, 1);
        if (!piece) return FT_EMEM;
    }
    const size_t most = piece ? READ : PIECE;
    for (size_t n, at = 0; rc == FT_OK && at < map->size; at += n) {
        n = map->size - at < most ? map->size - at : most;
        if (piece) rc = io_map_read(map, piece, n, at);
        if (rc == FT_OK) sha256_add(&sha, piece ? piece : map->data + at, n);
        if (!piece) file_map_forget(map->data + at, n);
    }
    ft_free(piece);
    sha256_hex(&sha, hex);
    if (rc == FT_OK && map->watch) io_watch_hash(map->watch, hex);
    return rc;
}

static ft_status hash_line(sha256_state *sha, const file_map *map, const char *path)
{
    char hex[65];
    FT_TRY(hash_map(map, hex));
    sha256_add(sha, hex, 64);
    sha256_add(sha, "  ", 2);
    sha256_add(sha, path_base(path), strlen(path_base(path)));
    sha256_add(sha, "\n", 1);
    return FT_OK;
}

size_t io_weights_bytes(const io_weights *w)
{
    size_t sum = 0;
    const file_map *m;
    for (int i = 0; (m = map_at(w, i)); i++) sum += m->size;
    return sum;
}

size_t io_weights_rss(const io_weights *w)
{
    const file_map *m;
    int64_t n = 0, at = 0;
    for (int i = 0; (m = map_at(w, i)); i++) n += io_pieces_ranges(m, NULL);
    const bool before = ft_error_starved();
    ft_range *range = n > 0 ? ft_alloc((size_t)n, sizeof *range) : NULL;
    ft_error_forget_since(before);
    if (!range) return 0;
    for (int i = 0; (m = map_at(w, i)); i++) at += io_pieces_ranges(m, range + at);
    const size_t sum = ft_rss_of(range, n);
    ft_free(range);
    return sum;
}

ft_status io_weights_sha256(const io_weights *w, char hex[65])
{
    sha256_state sha;
    FT_CHECK(w->gguf || w->n_shards > 0, FT_EINTERNAL, "%s: no weights are open",
             ft_shows(w->path));
    if (w->n_parts == 0 && (w->gguf || w->n_shards == 1)) return hash_map(map_at(w, 0), hex);
    sha256_init(&sha);
    if (w->gguf) FT_TRY(hash_line(&sha, &w->gguf->map, w->gguf->path));
    for (int i = 0; i < w->n_parts; i++) FT_TRY(hash_line(&sha, &w->part[i].map, w->part[i].path));
    for (int i = 0; i < w->n_shards; i++)
        FT_TRY(hash_line(&sha, &w->shard[i].map, w->shard[i].path));
    sha256_hex(&sha, hex);
    return FT_OK;
}
