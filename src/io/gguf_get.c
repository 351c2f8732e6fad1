/* gguf_get.c – typed access to the metadata of a GGUF file.
 *
 * Writers differ in the width and sign of the integers they use, so any of them does where the
 * value fits. A value of another kind is a failure, never a default. */
#include "ft/io.h"

#include <math.h>
#include <string.h>

const gguf_kv *gguf_get(const gguf_file *f, const char *key)
{
    int64_t i;
    return map_get(&f->kv_index, key, strlen(key), &i) ? &f->kv[i] : NULL;
}

/* A number of the file: an integer when `is_int`, else in f. */
typedef struct number {
    bool is_int, too_big;
    int64_t i;
    double f;
} number;

#define LOAD(c_type)                                                                               \
    c_type v;                                                                                      \
    memcpy(&v, p + i * sizeof v, sizeof v)
#define INTEGER(name, c_type)                                                                      \
    static number name(const uint8_t *p, uint64_t i)                                               \
    {                                                                                              \
        LOAD(c_type);                                                                              \
        return (number){.is_int = true, .i = (int64_t)v, .f = (double)v};                          \
    }
INTEGER(load_u8, uint8_t)
INTEGER(load_i8, int8_t)
INTEGER(load_u16, uint16_t)
INTEGER(load_i16, int16_t)
INTEGER(load_u32, uint32_t)
INTEGER(load_i32, int32_t)
INTEGER(load_i64, int64_t)

static number load_u64(const uint8_t *p, uint64_t i)
{
    LOAD(uint64_t);
    bool fits = v <= INT64_MAX;
    return (number){
        .is_int = true, .too_big = !fits, .i = fits ? (int64_t)v : INT64_MAX, .f = (double)v};
}

static number load_f32(const uint8_t *p, uint64_t i)
{
    LOAD(float);
    return (number){.f = (double)v};
}

static number load_f64(const uint8_t *p, uint64_t i)
{
    LOAD(double);
    return (number){.f = v};
}

static const struct {
    const char *name;
    number (*load)(const uint8_t *, uint64_t);
    bool is_int;
} types[] = {
    [GGUF_U8] = {"u8", load_u8, true},     [GGUF_I8] = {"i8", load_i8, true},
    [GGUF_U16] = {"u16", load_u16, true},  [GGUF_I16] = {"i16", load_i16, true},
    [GGUF_U32] = {"u32", load_u32, true},  [GGUF_I32] = {"i32", load_i32, true},
    [GGUF_F32] = {"f32", load_f32, false}, [GGUF_BOOL] = {"bool", NULL, false},
    [GGUF_STR] = {"string", NULL, false},  [GGUF_ARR] = {"array", NULL, false},
    [GGUF_U64] = {"u64", load_u64, true},  [GGUF_I64] = {"i64", load_i64, true},
    [GGUF_F64] = {"f64", load_f64, false},
};

static ft_status wrong(const gguf_file *f, const gguf_kv *kv, const char *wanted)
{
    bool array = kv->type == GGUF_ARR;
    return ft_fail(FT_EDATA, "%s: byte 0x%zx: \"%s\": is %s%s%s where %s is needed", f->path,
                   (size_t)(kv->data - f->map.data), ft_show(kv->key.s, kv->key.n),
                   array ? "an array of " : "of type ", types[kv->elem].name, array ? "s" : "",
                   wanted);
}

ft_status gguf_int(const gguf_file *f, const char *key, int64_t def, int64_t low, int64_t high,
                   int64_t *out)
{
    const gguf_kv *kv = gguf_get(f, key);
    *out = def;
    if (!kv) return FT_OK;
    if (kv->type == GGUF_ARR || !types[kv->type].is_int) return wrong(f, kv, "an integer");
    number v = types[kv->type].load(kv->data, 0);
    FT_CHECK(!v.too_big && v.i >= low && v.i <= high, FT_EDATA,
             "%s: byte 0x%zx: \"%s\": %.0f is not within %lld to %lld", f->path,
             (size_t)(kv->data - f->map.data), ft_shows(key), v.f, (long long)low, (long long)high);
    *out = v.i;
    return FT_OK;
}

ft_status gguf_num(const gguf_file *f, const char *key, double def, double *out)
{
    const gguf_kv *kv = gguf_get(f, key);
    *out = def;
    if (!kv) return FT_OK;
    if (kv->type == GGUF_ARR || !types[kv->type].load) return wrong(f, kv, "a number");
    double v = types[kv->type].load(kv->data, 0).f;
    FT_CHECK(isfinite(v), FT_EDATA, "%s: byte 0x%zx: \"%s\": is not a finite number", f->path,
             (size_t)(kv->data - f->map.data), ft_shows(key));
    *out = v;
    return FT_OK;
}

ft_status gguf_bool(const gguf_file *f, const char *key, bool def, bool *out)
{
    const gguf_kv *kv = gguf_get(f, key);
    *out = def;
    if (!kv) return FT_OK;
    if (kv->type != GGUF_BOOL) return wrong(f, kv, "a truth value");
    *out = kv->data[0] != 0;
    return FT_OK;
}

ft_status gguf_text(const gguf_file *f, const char *key, arena *a, const char **out)
{
    const gguf_kv *kv = gguf_get(f, key);
    uint64_t n;
    *out = NULL;
    if (!kv) return FT_OK;
    if (kv->type != GGUF_STR) return wrong(f, kv, "a string");
    memcpy(&n, kv->data, sizeof n);
    const char *text = (const char *)kv->data + sizeof n;
    FT_CHECK(utf8_valid(text, (size_t)n) && !memchr(text, '\0', (size_t)n), FT_EDATA,
             "%s: byte 0x%zx: \"%s\": is not UTF-8 text", f->path, (size_t)(kv->data - f->map.data),
             ft_shows(key));
    *out = arena_strn(a, text, (size_t)n);
    return *out ? FT_OK : FT_EMEM;
}

ft_status gguf_ints(const gguf_file *f, const char *key, arena *a, int64_t **out, int64_t *n)
{
    const gguf_kv *kv = gguf_get(f, key);
    *out = NULL;
    *n = 0;
    if (!kv) return FT_OK;
    if (!types[kv->elem].is_int) return wrong(f, kv, "a list of integers");
    int64_t *list = arena_get(a, ((size_t)kv->count + 1) * sizeof *list);
    if (!list) return FT_EMEM;
    for (uint64_t i = 0; i < kv->count; i++) {
        number v = types[kv->elem].load(kv->data, i);
        FT_CHECK(!v.too_big, FT_EDATA, "%s: \"%s\": element %llu is beyond 2^63", f->path,
                 ft_shows(key), (unsigned long long)i);
        list[i] = v.i;
    }
    *out = list;
    *n = (int64_t)kv->count;
    return FT_OK;
}

ft_status gguf_floats(const gguf_file *f, const char *key, arena *a, float **out, int64_t *n)
{
    const gguf_kv *kv = gguf_get(f, key);
    *out = NULL;
    *n = 0;
    if (!kv) return FT_OK;
    if (!types[kv->elem].load) return wrong(f, kv, "a list of numbers");
    float *list = arena_get(a, ((size_t)kv->count + 1) * sizeof *list);
    if (!list) return FT_EMEM;
    for (uint64_t i = 0; i < kv->count; i++) list[i] = (float)types[kv->elem].load(kv->data, i).f;
    *out = list;
    *n = (int64_t)kv->count;
    return FT_OK;
}
