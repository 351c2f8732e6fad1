/* gguf.c – reading GGUF version 2 and 3, little-endian.
 *
 * Every count is compared with the bytes left in the file before anything is allocated or looped
 * over, every product and sum is checked, and every tensor must lie where its predecessors end, as
 * llama.cpp demands. Nothing is copied but tensor names: keys and values stay in the mapping.
 *
 * Our limits: alignment 8 … 4096, strings of 1 MiB (a whole tokenizer.json in one string excepted),
 * 4 dimensions, none of them 0. A tensor of a type that ft cannot read makes the whole file
 * unreadable: a model with a tensor missing is no use to anybody, and its size would have to be
 * guessed. */
#include "ft/io.h"
#include "io_private.h"

#include <stdio.h>
#include <string.h>

enum { STRING_LIMIT = 1 << 20, KEY_LIMIT = 65535, NAME_LIMIT = 63, MAX_DIMS = 4 };

typedef struct reader {
    gguf_file *f;
    arena *mem;
    const uint8_t *p, *end;
    const char *what; /* what is being read, for messages; NULL: the file header */
    size_t what_len;
} reader;

static const uint8_t value_size[] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2,  [GGUF_I16] = 2, [GGUF_U32] = 4,
    [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_STR] = 0, [GGUF_ARR] = 0,
    [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

/* --- cursor ----------------------------------------------------------------------------------- */

static size_t left(const reader *r)
{
    return (size_t)(r->end - r->p);
}

static ft_status fail_at(const reader *r, const char *fmt, ...) FT_PRINTF(2, 3);
static ft_status fail_at(const reader *r, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t at = (size_t)(r->p - r->f->map.data);
    if (!r->what) return ft_fail(FT_EDATA, "%s: byte 0x%zx: %s", r->f->path, at, text);
    return ft_fail(FT_EDATA, "%s: byte 0x%zx: \"%s\": %s", r->f->path, at,
                   ft_show(r->what, r->what_len), text);
}

static ft_status need(const reader *r, size_t n)
{
    if (n <= left(r)) return FT_OK;
    return fail_at(r, "%zu bytes needed where %zu are left; is the download complete?", n, left(r));
}

static ft_status read_u32(reader *r, uint32_t *v)
{
    FT_TRY(need(r, sizeof *v));
    memcpy(v, r->p, sizeof *v);
    r->p += sizeof *v;
    return FT_OK;
}

static ft_status read_u64(reader *r, uint64_t *v)
{
    FT_TRY(need(r, sizeof *v));
    memcpy(v, r->p, sizeof *v);
    r->p += sizeof *v;
    return FT_OK;
}

static ft_status read_string(reader *r, size_t limit, gguf_str *out)
{
    uint64_t n;
    FT_TRY(read_u64(r, &n));
    if (n > left(r))
        return fail_at(r, "a string of %llu bytes where %zu are left", (unsigned long long)n,
                       left(r));
    if (n > limit)
        return fail_at(r, "a string of %llu bytes is beyond the limit of %zu",
                       (unsigned long long)n, limit);
    *out = (gguf_str){(const char *)r->p, (size_t)n};
    r->p += n;
    return FT_OK;
}

/* --- key and value ---------------------------------------------------------------------------- */

static ft_status check_bools(const reader *r, const uint8_t *data, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (data[i] > 1) return fail_at(r, "a truth value that is neither 0 nor 1");
    return FT_OK;
}

static ft_status read_strings(reader *r, gguf_kv *kv)
{
    if (kv->count > left(r) / 8)
        return fail_at(r, "an array of %llu strings where %zu bytes are left",
                       (unsigned long long)kv->count, left(r));
    kv->strs = arena_get(r->mem, ((size_t)kv->count + 1) * sizeof *kv->strs);
    if (!kv->strs) return FT_EMEM;
    for (uint64_t i = 0; i < kv->count; i++) FT_TRY(read_string(r, STRING_LIMIT, &kv->strs[i]));
    return FT_OK;
}

static ft_status read_array(reader *r, gguf_kv *kv)
{
    uint32_t elem;
    size_t bytes;
    FT_TRY(read_u32(r, &elem));
    if (elem >= FT_COUNT_OF(value_size) || elem == GGUF_ARR)
        return fail_at(r, "an array of elements of type %u, which does not exist", elem);
    FT_TRY(read_u64(r, &kv->count));
    kv->elem = (gguf_vtype)elem;
    kv->data = r->p;
    if (kv->elem == GGUF_STR) return read_strings(r, kv);
    if (!ft_mul((size_t)kv->count, value_size[elem], &bytes) || bytes > left(r))
        return fail_at(r, "an array of %llu elements where %zu bytes are left",
                       (unsigned long long)kv->count, left(r));
    if (kv->elem == GGUF_BOOL) FT_TRY(check_bools(r, kv->data, kv->count));
    r->p += bytes;
    return FT_OK;
}

static ft_status read_value(reader *r, gguf_kv *kv)
{
    uint32_t type;
    FT_TRY(read_u32(r, &type));
    if (type >= FT_COUNT_OF(value_size))
        return fail_at(r, "a value of type %u does not exist", type);
    kv->type = kv->elem = (gguf_vtype)type;
    kv->count = 1;
    kv->data = r->p;
    if (kv->type == GGUF_ARR) return read_array(r, kv);
    if (kv->type == GGUF_STR) {
        static const char big[] = "tokenizer.huggingface.json";
        bool whole_file = kv->key.n == sizeof big - 1 && memcmp(kv->key.s, big, kv->key.n) == 0;
        gguf_str s;
        return read_string(r, whole_file ? SIZE_MAX : STRING_LIMIT, &s);
    }
    FT_TRY(need(r, value_size[type]));
    if (kv->type == GGUF_BOOL) FT_TRY(check_bools(r, r->p, 1));
    r->p += value_size[type];
    return FT_OK;
}

static ft_status read_kvs(reader *r, uint64_t n)
{
    /* the shortest pair: a key of one byte and a value of one byte */
    if (n > left(r) / (8 + 1 + 4 + 1))
        return fail_at(r, "%llu keys where %zu bytes are left", (unsigned long long)n, left(r));
    r->f->kv = arena_get(r->mem, ((size_t)n + 1) * sizeof *r->f->kv);
    if (!r->f->kv) return FT_EMEM;
    for (uint64_t i = 0; i < n; i++) {
        gguf_kv *kv = &r->f->kv[i];
        int64_t other;
        r->what = NULL;
        FT_TRY(read_string(r, KEY_LIMIT, &kv->key));
        if (kv->key.n == 0) return fail_at(r, "an empty key");
        r->what = kv->key.s;
        r->what_len = kv->key.n;
        if (map_get(&r->f->kv_index, kv->key.s, kv->key.n, &other))
            return fail_at(r, "the key stands twice");
        FT_TRY(map_put(&r->f->kv_index, kv->key.s, kv->key.n, (int64_t)i));
        FT_TRY(read_value(r, kv));
        r->f->n_kv++;
    }
    r->what = NULL;
    return FT_OK;
}

static ft_status read_alignment(reader *r)
{
    const gguf_kv *kv = gguf_get(r->f, "general.alignment");
    uint32_t v = 32;
    if (kv) {
        r->what = kv->key.s;
        r->what_len = kv->key.n;
        if (kv->type != GGUF_U32) return fail_at(r, "is not a 32-bit unsigned number");
        memcpy(&v, kv->data, sizeof v);
        if (v < 8 || v > 4096 || (v & (v - 1)) != 0)
            return fail_at(r, "an alignment of %u; powers of two from 8 to 4096 are possible", v);
        r->what = NULL;
    }
    r->f->alignment = v;
    return FT_OK;
}

/* --- tensors ---------------------------------------------------------------------------------- */

static ft_status read_type(reader *r, io_tensor *t)
{
    static const struct {
        uint8_t id;
        const char *name;
    } others[] = {{9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
                  {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {29, "IQ1_M"},  {34, "TQ1_0"},
                  {35, "TQ2_0"}, {39, "MXFP4"}, {40, "NVFP4"},   {41, "Q1_0"},   {42, "Q2_0"}};
    uint32_t id;
    FT_TRY(read_u32(r, &id));
    t->type = id <= 255 ? dt_by_gguf((int)id) : NULL;
    if (t->type) return FT_OK;
    for (size_t i = 0; i < FT_COUNT_OF(others); i++)
        if (others[i].id == id)
            return fail_at(r, "the type %s cannot be read; quantise the model to Q8_0 or Q4_K_M",
                           others[i].name);
    return fail_at(r, "a tensor type %u does not exist", id);
}

static ft_status read_dims(reader *r, io_tensor *t)
{
    uint32_t nd;
    size_t count = 1;
    FT_TRY(read_u32(r, &nd));
    if (nd > MAX_DIMS) return fail_at(r, "%u dimensions; at most 4 are possible", nd);
    t->nd = (int)nd;
    for (uint32_t i = 0; i < nd; i++) { /* the file has the fastest one first */
        uint64_t dim;
        FT_TRY(read_u64(r, &dim));
        if (dim == 0) return fail_at(r, "a dimension of 0");
        if (dim > INT64_MAX || !ft_mul(count, (size_t)dim, &count) || count > INT64_MAX)
            return fail_at(r, "more elements than can be counted");
        t->dim[nd - 1 - i] = (int64_t)dim;
    }
    FT_TRY(read_type(r, t));
    int64_t row = nd > 0 ? t->dim[nd - 1] : 1;
    if (row % t->type->block != 0)
        return fail_at(r, "rows of %lld elements are not whole blocks of %d (%s)", (long long)row,
                       t->type->block, t->type->name);
    if (!dt_bytes(t->type, (int64_t)count, &t->bytes))
        return fail_at(r, "more bytes than can be counted");
    return FT_OK;
}

/* Name, dimensions, type and place; *next is where the data of this tensor must begin, and
 * afterwards that of the following one. */
static ft_status read_tensor(reader *r, io_tensor *t, uint64_t *offset, size_t *next)
{
    gguf_str name;
    int64_t other;

    r->what = NULL;
    FT_TRY(read_string(r, NAME_LIMIT, &name));
    if (name.n == 0) return fail_at(r, "a tensor without a name");
    r->what = name.s;
    r->what_len = name.n;
    if (memchr(name.s, '\0', name.n)) return fail_at(r, "a NUL character in a tensor name");
    if (map_get(&r->f->index, name.s, name.n, &other)) return fail_at(r, "the tensor stands twice");
    FT_TRY(map_put(&r->f->index, name.s, name.n, t - r->f->tensor));
    t->name = arena_strn(r->mem, name.s, name.n);
    t->file = r->f->path;
    if (!t->name) return FT_EMEM;
    FT_TRY(read_dims(r, t));
    FT_TRY(read_u64(r, offset));
    if (*offset != *next)
        return fail_at(r, "its data begins at offset %llu instead of %zu",
                       (unsigned long long)*offset, *next);
    size_t up = (size_t)r->f->alignment - 1;
    if (!ft_add(*next, t->bytes, next) || !ft_add(*next, up, next))
        return fail_at(r, "more bytes than can be counted");
    *next &= ~up;
    return FT_OK;
}

static void place(gguf_file *f, io_tensor *t, size_t at)
{
    t->map = &f->map;
    t->at = at;
    t->data = f->map.pieces ? NULL : f->map.data + at;
}

static ft_status read_tensors(reader *r, uint64_t n)
{
    size_t next = 0, start;
    /* the shortest entry: a name of one byte, no dimension, type, offset */
    if (n > left(r) / (8 + 1 + 4 + 4 + 8))
        return fail_at(r, "%llu tensors where %zu bytes are left", (unsigned long long)n, left(r));
    r->f->tensor = arena_get(r->mem, ((size_t)n + 1) * sizeof *r->f->tensor);
    uint64_t *offset = ft_alloc((size_t)n + 1, sizeof *offset);
    if (!r->f->tensor || !offset) {
        ft_free(offset);
        return FT_EMEM;
    }
    ft_status rc = FT_OK;
    for (uint64_t i = 0; i < n && rc == FT_OK; i++)
        rc = read_tensor(r, &r->f->tensor[i], &offset[i], &next);
    if (rc == FT_OK) {
        size_t header = (size_t)(r->p - r->f->map.data), up = (size_t)r->f->alignment - 1;
        start = (header + up) & ~up; /* the header lies in memory, so this cannot wrap */
        for (uint64_t i = 0; i < n && rc == FT_OK; i++) {
            io_tensor *t = &r->f->tensor[i];
            size_t size = r->f->map.size;
            r->what = t->name;
            r->what_len = strlen(t->name);
            if (start > size || offset[i] > size - start || t->bytes > size - start - offset[i])
                rc = fail_at(r,
                             "its data ends after the end of the file; is the download complete?");
            else
                place(r->f, t, start + offset[i]);
        }
        if (rc == FT_OK) r->f->n = (int64_t)n;
    }
    ft_free(offset);
    return rc;
}

/* --- the file --------------------------------------------------------------------------------- */

static ft_status read_head(reader *r, uint64_t *n_tensors, uint64_t *n_kv)
{
    const file_map *map = &r->f->map;
    if (map->size < 4 || memcmp(map->data, "GGUF", 4) != 0) {
        FT_TRY(io_refuse_foreign(r->f->path, map));
        return fail_at(r, "is not a GGUF file");
    }
    r->p += 4;
    FT_TRY(read_u32(r, &r->f->version));
    uint32_t version = r->f->version;
    r->p -= 4;
    if (version != 0 && (version & 0xffff) == 0)
        return fail_at(r, "a big-endian GGUF file cannot be read");
    if (version != 2 && version != 3)
        return fail_at(r, "GGUF version %u; versions 2 and 3 can be read", version);
    r->p += 4;
    FT_TRY(read_u64(r, n_tensors));
    return read_u64(r, n_kv);
}

static ft_status read_all(gguf_file *f, arena *a)
{
    uint64_t n_tensors = 0, n_kv = 0;
    reader r = {.f = f, .mem = a, .p = f->map.data, .end = f->map.data + io_map_head(&f->map)};
    FT_TRY(read_head(&r, &n_tensors, &n_kv));
    FT_TRY(read_kvs(&r, n_kv));
    FT_TRY(read_alignment(&r));
    return read_tensors(&r, n_tensors);
}

/* Where the header ends is not known before it was read: of a file that is not mapped whole, more and more is. */
ft_status gguf_open_part(gguf_file *f, const char *path, bool apart, arena *a)
{
    enum { HEAD = 8 << 20 };
    *f = (gguf_file){0};
    f->path = arena_str(a, path);
    if (!f->path) return FT_EMEM;
    if (apart)
        FT_TRY(io_map_open_head(&f->map, path, HEAD));
    else
        FT_TRY(file_map_open(&f->map, path));
    size_t mark = arena_mark(a), head = io_map_head(&f->map);
    ft_status rc = read_all(f, a);
    while (rc == FT_EDATA && head < f->map.size) {
        arena_reset(a, mark);
        map_free(&f->kv_index);
        map_free(&f->index);
        rc = io_map_more(&f->map, head * 2);
        head = io_map_head(&f->map);
        if (rc == FT_OK) rc = read_all(f, a);
    }
    if (rc != FT_OK) gguf_close(f);
    return rc;
}

const char *gguf_part_name(arena *a, const char *path, int64_t i, int64_t n)
{
    char tail[40];
    const size_t len = strlen(path);
    int tail_len = snprintf(tail, sizeof tail, "-of-%05lld.gguf", (long long)n);
    if (len < (size_t)tail_len + 6 || !str_ends(path, tail)) return NULL;
    const char *no = path + len - tail_len - 5;
    if (no[-1] != '-' || strspn(no, "0123456789") != 5) return NULL;
    return arena_printf(a, "%.*s%05lld%s", (int)(no - path), path, (long long)i + 1, tail);
}

bool gguf_same_model(const char *path, const char *name)
{
    enum { TAIL = sizeof "-of-00000.gguf" - 1, NUMBER = 5 };
    const char *base = path_base(path);
    const size_t n = strlen(base);
    if (n != strlen(name) || n < TAIL + NUMBER || !str_starts(base + n - TAIL, "-of-"))
        return strcmp(base, name) == 0;
    return memcmp(base, name, n - TAIL - NUMBER) == 0 &&
           strcmp(base + n - TAIL, name + n - TAIL) == 0;
}

static ft_status refuse_later_part(const gguf_file *f, arena *a)
{
    int64_t no, n;
    FT_TRY(gguf_int(f, "split.no", 0, 0, UINT16_MAX, &no));
    FT_TRY(gguf_int(f, "split.count", 1, 0, UINT16_MAX, &n));
    if (no == 0) return FT_OK;
    const char *first = gguf_part_name(a, f->path, 0, n);
    return ft_fail(FT_EDATA,
                   "%s: is one of %lld parts of a model, number %lld; name the first one%s%s",
                   f->path, (long long)n, (long long)no + 1, first ? ": " : "", first ? first : "");
}

ft_status gguf_open_as(gguf_file *f, const char *path, bool apart, arena *a)
{
    FT_TRY(gguf_open_part(f, path, apart, a));
    ft_status rc = refuse_later_part(f, a);
    if (rc != FT_OK) gguf_close(f);
    return rc;
}

ft_status gguf_open(gguf_file *f, const char *path, arena *a)
{
    return gguf_open_as(f, path, false, a);
}

void gguf_close(gguf_file *f)
{
    map_free(&f->kv_index);
    map_free(&f->index);
    file_map_close(&f->map);
    *f = (gguf_file){0};
}
