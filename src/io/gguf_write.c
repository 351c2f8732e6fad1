/* gguf_write.c – writing GGUF version 3.
 *
 * Keys and tensors are collected first (the header stands at the front and holds all offsets), then
 * the data streams through, each tensor padded to the alignment of 32. Mistakes of the caller while
 * declaring are kept and told by gguf_write_header, so declarations need no checking one by one. */
#include "ft/io.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 32, NAME_LIMIT = 63, MAX_DIMS = 4 };

struct gguf_writer {
    file_out *out;
    char *path;
    str_buf kv, tensors, names; /* names: zero-terminated keys and tensor names, for duplicates */
    uint64_t n_kv, n_tensors;
    size_t *bytes; /* of each tensor */
    size_t cap, offset;
    uint64_t current;
    size_t left;
    ft_status failed; /* of a declaration; its message is kept here */
    char message[256];
};

static void put(str_buf *s, const void *data, size_t n)
{
    str_add(s, data, n);
}

static void put_u32(str_buf *s, uint32_t v)
{
    put(s, &v, sizeof v);
}

static void put_u64(str_buf *s, uint64_t v)
{
    put(s, &v, sizeof v);
}

static void put_text(str_buf *s, const char *text, size_t n)
{
    put_u64(s, n);
    put(s, text, n);
}

static void refuse(gguf_writer *w, const char *name, const char *what)
{
    if (w->failed != FT_OK) return;
    w->failed = FT_EINTERNAL;
    snprintf(w->message, sizeof w->message, "\"%s\": %s", ft_shows(name), what);
}

ft_status gguf_write_open(gguf_writer **out, const char *path)
{
    *out = NULL;
    gguf_writer *w = ft_alloc(1, sizeof *w);
    if (!w) return FT_EMEM;
    w->path = ft_strdup(path);
    ft_status rc = w->path ? file_out_open(&w->out, path) : FT_EMEM;
    if (rc != FT_OK) {
        gguf_write_abort(w);
        return rc;
    }
    *out = w;
    return FT_OK;
}

/* --- keys ------------------------------------------------------------------------------------- */

static void begin(gguf_writer *w, const char *key, size_t n, gguf_vtype type)
{
    if (n == 0) refuse(w, key, "an empty key");
    str_addc(&w->names, 'k');
    str_add(&w->names, key, n);
    str_addc(&w->names, '\0');
    put_text(&w->kv, key, n);
    put_u32(&w->kv, type);
    w->n_kv++;
}

void gguf_put_int(gguf_writer *w, const char *key, gguf_vtype type, int64_t v)
{
    static const struct {
        uint8_t bytes;
        int64_t low, high;
    } ranges[] = {
        [GGUF_U8] = {1, 0, UINT8_MAX},   [GGUF_I8] = {1, INT8_MIN, INT8_MAX},
        [GGUF_U16] = {2, 0, UINT16_MAX}, [GGUF_I16] = {2, INT16_MIN, INT16_MAX},
        [GGUF_U32] = {4, 0, UINT32_MAX}, [GGUF_I32] = {4, INT32_MIN, INT32_MAX},
        [GGUF_U64] = {8, 0, INT64_MAX},  [GGUF_I64] = {8, INT64_MIN, INT64_MAX},
    };
    if (type >= FT_COUNT_OF(ranges) || ranges[type].bytes == 0) {
        refuse(w, key, "is not of an integer type");
        return;
    }
    if (v < ranges[type].low || v > ranges[type].high)
        refuse(w, key, "the value does not fit its type");
    begin(w, key, strlen(key), type);
    put(&w->kv, &v, ranges[type].bytes); /* little-endian: the low bytes come first */
}

/* Of a model's config: 1e39 is a number there and none in f32. */
static void check_float(gguf_writer *w, const char *key, float v)
{
    if (isfinite(v)) return;
    refuse(w, key, "is no finite number in f32");
    w->failed = FT_EDIVERGED;
}

void gguf_put_f32(gguf_writer *w, const char *key, float v)
{
    check_float(w, key, v);
    begin(w, key, strlen(key), GGUF_F32);
    put(&w->kv, &v, sizeof v);
}

void gguf_put_bool(gguf_writer *w, const char *key, bool v)
{
    begin(w, key, strlen(key), GGUF_BOOL);
    str_addc(&w->kv, v ? 1 : 0);
}

void gguf_put_str(gguf_writer *w, const char *key, const char *s, size_t n)
{
    begin(w, key, strlen(key), GGUF_STR);
    put_text(&w->kv, s, n);
}

static void begin_array(gguf_writer *w, const char *key, gguf_vtype elem, int64_t n)
{
    begin(w, key, strlen(key), GGUF_ARR);
    put_u32(&w->kv, elem);
    put_u64(&w->kv, (uint64_t)n);
}

void gguf_put_strs(gguf_writer *w, const char *key, const gguf_str *s, int64_t n)
{
    begin_array(w, key, GGUF_STR, n);
    for (int64_t i = 0; i < n; i++) put_text(&w->kv, s[i].s, s[i].n);
}

void gguf_put_i32s(gguf_writer *w, const char *key, const int32_t *v, int64_t n)
{
    begin_array(w, key, GGUF_I32, n);
    put(&w->kv, v, (size_t)n * sizeof *v);
}

void gguf_put_f32s(gguf_writer *w, const char *key, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) check_float(w, key, v[i]);
    begin_array(w, key, GGUF_F32, n);
    put(&w->kv, v, (size_t)n * sizeof *v);
}

void gguf_put_copy(gguf_writer *w, const gguf_kv *kv)
{
    static const uint8_t size[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    static const char alignment[] = "general.alignment"; /* this writer has its own */
    if (kv->key.n == sizeof alignment - 1 && memcmp(kv->key.s, alignment, kv->key.n) == 0) return;
    begin(w, kv->key.s, kv->key.n, kv->type);
    if (kv->type == GGUF_ARR) {
        put_u32(&w->kv, kv->elem);
        put_u64(&w->kv, kv->count);
    }
    if (kv->type == GGUF_STR) {
        uint64_t n;
        memcpy(&n, kv->data, sizeof n);
        put_text(&w->kv, (const char *)kv->data + sizeof n, (size_t)n);
    } else if (kv->elem == GGUF_STR) {
        for (uint64_t i = 0; i < kv->count; i++) put_text(&w->kv, kv->strs[i].s, kv->strs[i].n);
    } else {
        put(&w->kv, kv->data, (size_t)kv->count * size[kv->elem]);
    }
}

/* --- tensors ---------------------------------------------------------------------------------- */

static size_t padding(size_t n)
{
    return (ALIGNMENT - n % ALIGNMENT) % ALIGNMENT;
}

static bool tensor_bytes(const dt_type *type, int nd, const int64_t *dim, size_t *bytes)
{
    size_t count = 1;
    if (nd < 1 || nd > MAX_DIMS || type->gguf_id < 0) return false;
    if (dim[nd - 1] % type->block != 0) return false;
    for (int i = 0; i < nd; i++) {
        if (dim[i] < 1 || !ft_mul(count, (size_t)dim[i], &count) || count > INT64_MAX) return false;
    }
    return dt_bytes(type, (int64_t)count, bytes);
}

void gguf_put_tensor(gguf_writer *w, const char *name, const dt_type *type, int nd,
                     const int64_t *dim)
{
    size_t n = strlen(name), bytes, end;
    if (n == 0 || n > NAME_LIMIT) refuse(w, name, "a tensor name has 1 to 63 bytes");
    if (!tensor_bytes(type, nd, dim, &bytes)) {
        refuse(w, name, "a shape and type that GGUF cannot hold");
        return;
    }
    if (w->n_tensors == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        size_t *more = ft_realloc(w->bytes, cap, sizeof *more);
        if (!more) {
            if (w->failed == FT_OK) {
                w->failed = FT_EMEM;
                snprintf(w->message, sizeof w->message, "out of memory");
            }
            return;
        }
        w->bytes = more;
        w->cap = cap;
    }
    w->bytes[w->n_tensors++] = bytes;
    str_addc(&w->names, 't');
    str_add(&w->names, name, n + 1);
    put_text(&w->tensors, name, n);
    put_u32(&w->tensors, (uint32_t)nd);
    for (int i = nd - 1; i >= 0; i--) put_u64(&w->tensors, (uint64_t)dim[i]);
    put_u32(&w->tensors, (uint32_t)type->gguf_id);
    put_u64(&w->tensors, w->offset);
    if (!ft_add(w->offset, bytes, &end) || !ft_add(end, padding(end), &end))
        refuse(w, name, "more bytes than can be counted");
    w->offset = end;
}

static ft_status check_unique(const gguf_writer *w)
{
    map_table seen = {0};
    ft_status rc = FT_OK;
    const char *p = w->names.data, *end = p ? p + w->names.len : p;
    for (; p < end && rc == FT_OK; p += strlen(p) + 1) {
        int64_t other;
        if (map_get(&seen, p, strlen(p), &other))
            rc = ft_fail(FT_EINTERNAL, "%s: \"%s\": declared twice", w->path, ft_shows(p + 1));
        else
            rc = map_put(&seen, p, strlen(p), 0);
    }
    map_free(&seen);
    return rc;
}

static ft_status pad(gguf_writer *w)
{
    static const uint8_t zeros[ALIGNMENT];
    return file_out_write(w->out, zeros, padding(file_out_size(w->out)));
}

static void begin_tensor(gguf_writer *w)
{
    w->left = w->current < w->n_tensors ? w->bytes[w->current] : 0;
}

ft_status gguf_write_header(gguf_writer *w)
{
    FT_CHECK(w->failed == FT_OK, w->failed, "%s: %s", w->path, w->message);
    FT_TRY(str_ok(&w->kv));
    FT_TRY(str_ok(&w->tensors));
    FT_TRY(str_ok(&w->names));
    FT_TRY(check_unique(w));
    const uint32_t version = 3;
    FT_TRY(file_out_write(w->out, "GGUF", 4));
    FT_TRY(file_out_write(w->out, &version, sizeof version));
    FT_TRY(file_out_write(w->out, &w->n_tensors, sizeof w->n_tensors));
    FT_TRY(file_out_write(w->out, &w->n_kv, sizeof w->n_kv));
    if (w->n_kv > 0) FT_TRY(file_out_write(w->out, w->kv.data, w->kv.len));
    if (w->n_tensors > 0) FT_TRY(file_out_write(w->out, w->tensors.data, w->tensors.len));
    begin_tensor(w);
    return pad(w);
}

ft_status gguf_write(gguf_writer *w, const void *data, size_t n)
{
    if (n == 0) return FT_OK;
    FT_CHECK(n <= w->left, FT_EINTERNAL, "%s: %zu bytes given where %zu are missing of tensor %llu",
             w->path, n, w->left, (unsigned long long)w->current);
    FT_TRY(file_out_write(w->out, data, n));
    w->left -= n;
    if (w->left > 0) return FT_OK;
    w->current++;
    begin_tensor(w);
    return pad(w);
}

ft_status gguf_write_close(gguf_writer *w)
{
    ft_status rc = FT_OK;
    if (w->current < w->n_tensors)
        rc = ft_fail(FT_EINTERNAL, "%s: tensor %llu misses %zu bytes", w->path,
                     (unsigned long long)w->current, w->left);
    if (rc == FT_OK) {
        rc = file_out_commit(w->out);
        w->out = NULL;
    }
    gguf_write_abort(w);
    return rc;
}

void gguf_write_abort(gguf_writer *w)
{
    if (!w) return;
    file_out_abort(w->out);
    str_free(&w->kv);
    str_free(&w->tensors);
    str_free(&w->names);
    ft_free(w->bytes);
    ft_free(w->path);
    ft_free(w);
}
