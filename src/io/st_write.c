/* st_write.c – writing .safetensors files, byte for byte as the reference writer lays them out.
 *
 * All tensors are declared first, so the header stands before any data and the data streams through
 * without being held: a model larger than memory can be written. */
#include "ft/io.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_LIMIT 100000000u

struct st_writer {
    file_out *out;
    const st_decl *decl;
    int64_t n, current;
    size_t left; /* bytes still missing of the current tensor */
};

/* The reference writer's order of types: this list backwards. */
static int rank(const dt_type *type)
{
    static const char *const names[] = {"BOOL", "U8",  "I8",  "F8_E5M2", "F8_E4M3",
                                        "I16",  "U16", "F16", "BF16",    "I32",
                                        "U32",  "F32", "F64", "I64",     "U64"};
    for (size_t i = 0; i < FT_COUNT_OF(names); i++)
        if (strcmp(names[i], type->st_name) == 0) return (int)i;
    return -1;
}

static int by_rank_and_name(const void *a, const void *b)
{
    const st_decl *x = a, *y = b;
    int rx = rank(x->type), ry = rank(y->type);
    return rx != ry ? ry - rx : strcmp(x->name, y->name);
}

static ft_status decl_bytes(const char *path, const st_decl *d, size_t *bytes)
{
    size_t count = 1;
    FT_CHECK(d->type->st_name, FT_EINTERNAL,
             "%s: tensor \"%s\": type %s has no place in safetensors", path, ft_shows(d->name),
             d->type->name);
    FT_CHECK(d->nd >= 0 && d->nd <= (int)FT_COUNT_OF(d->dim), FT_EINTERNAL,
             "%s: tensor \"%s\": %d dimensions", path, ft_shows(d->name), d->nd);
    for (int i = 0; i < d->nd; i++) {
        if (d->dim[i] < 0 || !ft_mul(count, (size_t)d->dim[i], &count) || count > INT64_MAX)
            return ft_fail(FT_EINTERNAL, "%s: tensor \"%s\": shape out of range", path,
                           ft_shows(d->name));
    }
    FT_CHECK(dt_bytes(d->type, (int64_t)count, bytes), FT_EINTERNAL,
             "%s: tensor \"%s\": shape out of range", path, ft_shows(d->name));
    return FT_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "__metadata__":{…} with sorted keys; format "pt" unless the caller has another. */
static ft_status add_meta(str_buf *s, const char *const *meta, int n_meta)
{
    const char **pairs = ft_alloc((size_t)n_meta + 1, 2 * sizeof *pairs);
    int n = n_meta;
    bool has_format = false;
    if (!pairs) return FT_EMEM;
    for (int i = 0; i < 2 * n_meta; i++) pairs[i] = meta[i];
    for (int i = 0; i < n_meta; i++) has_format = has_format || strcmp(meta[2 * i], "format") == 0;
    if (!has_format) {
        pairs[2 * n] = "format";
        pairs[2 * n++ + 1] = "pt";
    }
    qsort(pairs, (size_t)n, 2 * sizeof *pairs, by_key);
    str_adds(s, "\"__metadata__\":{");
    for (int i = 0; i < n; i++) {
        if (i > 0) str_addc(s, ',');
        str_json(s, pairs[2 * i], strlen(pairs[2 * i]));
        str_addc(s, ':');
        str_json(s, pairs[2 * i + 1], strlen(pairs[2 * i + 1]));
    }
    str_addc(s, '}');
    ft_free(pairs);
    return FT_OK;
}

static ft_status add_decl(str_buf *s, const char *path, const st_decl *d, const st_decl *before,
                          size_t *at)
{
    size_t bytes, end;
    FT_CHECK(utf8_valid(d->name, strlen(d->name)) && strcmp(d->name, "__metadata__") != 0,
             FT_EINTERNAL, "%s: tensor \"%s\": not a possible name", path, ft_shows(d->name));
    FT_CHECK(!before || before->type != d->type || strcmp(before->name, d->name) != 0, FT_EINTERNAL,
             "%s: tensor \"%s\" declared twice", path, ft_shows(d->name));
    FT_TRY(decl_bytes(path, d, &bytes));
    FT_CHECK(ft_add(*at, bytes, &end), FT_EINTERNAL, "%s: more bytes than can be counted", path);
    str_addc(s, ',');
    str_json(s, d->name, strlen(d->name));
    str_printf(s, ":{\"dtype\":\"%s\",\"shape\":[", d->type->st_name);
    for (int i = 0; i < d->nd; i++) str_printf(s, i ? ",%lld" : "%lld", (long long)d->dim[i]);
    str_printf(s, "],\"data_offsets\":[%zu,%zu]}", *at, end);
    *at = end;
    return FT_OK;
}

static ft_status write_header(st_writer *w, const char *path, const char *const *meta, int n_meta)
{
    ft_status rc;
    str_buf s = {0};
    size_t at = 0;

    str_addc(&s, '{');
    FT_TRY_OUT(add_meta(&s, meta, n_meta));
    for (int64_t i = 0; i < w->n; i++)
        FT_TRY_OUT(add_decl(&s, path, &w->decl[i], i ? &w->decl[i - 1] : NULL, &at));
    str_addc(&s, '}');
    while (s.len % 8 != 0 && !s.failed) str_addc(&s, ' ');
    FT_TRY_OUT(str_ok(&s));
    FT_GUARD(s.len <= HEADER_LIMIT, FT_EINTERNAL,
             "%s: a header of %zu bytes is beyond the format's limit", path, s.len);
    uint64_t n = s.len;
    FT_TRY_OUT(file_out_write(w->out, &n, sizeof n));
    rc = file_out_write(w->out, s.data, s.len);
out:
    str_free(&s);
    return rc;
}

/* Makes the next tensor that has any bytes the current one. */
static ft_status advance(st_writer *w)
{
    while (w->left == 0 && ++w->current < w->n)
        FT_TRY(decl_bytes("safetensors", &w->decl[w->current], &w->left));
    return FT_OK;
}

ft_status st_write_open(st_writer **out, const char *path, st_decl *decl, int64_t n,
                        const char *const *meta, int n_meta)
{
    *out = NULL;
    for (int64_t i = 0; i < n; i++)
        FT_CHECK(decl[i].type->st_name, FT_EINTERNAL,
                 "%s: tensor \"%s\": type %s has no place in safetensors", path,
                 ft_shows(decl[i].name), decl[i].type->name);
    if (n > 0) qsort(decl, (size_t)n, sizeof *decl, by_rank_and_name);
    st_writer *w = ft_alloc(1, sizeof *w);
    if (!w) return FT_EMEM;
    w->decl = decl;
    w->n = n;
    w->current = -1;
    ft_status rc = file_out_open(&w->out, path);
    if (rc == FT_OK) rc = write_header(w, path, meta, n_meta);
    if (rc == FT_OK) rc = advance(w);
    if (rc != FT_OK) {
        st_write_abort(w);
        return rc;
    }
    *out = w;
    return FT_OK;
}

ft_status st_write(st_writer *w, const void *data, size_t n)
{
    if (n == 0) return FT_OK;
    FT_CHECK(w->current < w->n && n <= w->left, FT_EINTERNAL,
             "safetensors: %zu bytes given where %zu are missing of tensor \"%s\"", n, w->left,
             w->current < w->n ? ft_shows(w->decl[w->current].name) : "(none)");
    FT_TRY(file_out_write(w->out, data, n));
    w->left -= n;
    return advance(w);
}

ft_status st_write_close(st_writer *w)
{
    if (w->current < w->n) {
        ft_status rc = ft_fail(FT_EINTERNAL, "safetensors: tensor \"%s\" misses %zu bytes",
                               ft_shows(w->decl[w->current].name), w->left);
        st_write_abort(w);
        return rc;
    }
    ft_status rc = file_out_commit(w->out);
    ft_free(w);
    return rc;
}

void st_write_abort(st_writer *w)
{
    if (!w) return;
    file_out_abort(w->out);
    ft_free(w);
}

static ft_status write_all_once(const char *path, const st_decl *decl, const void *const *data,
                                int64_t n, const char *const *meta, int n_meta)
{
    ft_status rc;
    st_writer *w = NULL;
    st_decl *sorted = ft_alloc((size_t)n + 1, sizeof *sorted);

    if (!sorted) return FT_EMEM;
    for (int64_t i = 0; i < n; i++) {
        sorted[i] = decl[i];
        sorted[i].user = (void *)(uintptr_t)data[i];
    }
    FT_TRY_OUT(st_write_open(&w, path, sorted, n, meta, n_meta));
    for (int64_t i = 0; i < n; i++) {
        size_t bytes;
        FT_TRY_OUT(decl_bytes(path, &sorted[i], &bytes));
        FT_TRY_OUT(st_write(w, sorted[i].user, bytes));
    }
    rc = st_write_close(w);
    w = NULL;
out:
    st_write_abort(w);
    ft_free(sorted);
    return rc;
}

ft_status st_write_all(const char *path, const st_decl *decl, const void *const *data, int64_t n,
                       const char *const *meta, int n_meta)
{
    ft_status rc;
    int tries = 0;
    do rc = write_all_once(path, decl, data, n, meta, n_meta);
    while (file_out_again(rc, &tries));
    return rc;
}
