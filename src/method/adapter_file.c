/* adapter_file.c – adapter_model.safetensors: names and shapes are PEFT's, values f32. What does not fit on loading is listed
 * in full: a silently ignored tensor is an adapter without effect. */
#include "ft/method.h"
#include "method_private.h"

#include <stdio.h>
#include <string.h>

const char *const pe_adapter_files[] = {"adapter_config.json", "adapter_model.safetensors", NULL};

ft_status pe_write_tensors(const char *dir, const pe_entry *e, int64_t n)
{
    ft_status rc = FT_EMEM;
    arena *mem = NULL;
    FT_TRY(arena_open(&mem, "adapter file", (size_t)4 << 30));
    st_decl *decl = arena_get(mem, (size_t)n * sizeof *decl);
    const void **data = arena_get(mem, (size_t)n * sizeof *data);
    const char *path = path_join(mem, dir, "adapter_model.safetensors");
    if (!decl || !data || !path) goto out;
    for (int64_t i = 0; i < n; i++) {
        const tn_tensor *t = &e[i].p->t;
        int64_t r = t->dim[0], c = t->nd == 2 ? t->dim[1] : 1;
        decl[i] = (st_decl){.name = e[i].key, .type = &dt_f32, .nd = t->nd, .dim = {r, c}};
        data[i] = t->data;
        if (!e[i].transposed) continue;
        float *flip = arena_get(mem, (size_t)(r * c) * sizeof(float));
        if (!flip) goto out;
        for (int64_t k = 0; k < r * c; k++) flip[k % c * r + k / c] = tn_f32(t)[k];
        decl[i].dim[0] = c;
        decl[i].dim[1] = r;
        data[i] = flip;
    }
    rc = st_write_all(path, decl, data, n, NULL, 0);
out:
    arena_close(mem);
    return rc;
}

/* "X.lora_A.default.weight" → "X.lora_A.weight": some writers leave the adapter's name in. */
static const io_tensor *find(const st_file *f, const char *key, char *other, size_t size)
{
    const io_tensor *t = st_find(f, key);
    const char *dot = strrchr(key, '.');
    if (t || !dot) return t;
    snprintf(other, size, "%.*s.default%s", (int)(dot - key), key, dot);
    t = st_find(f, other);
    if (t) return t;
    snprintf(other, size, "%s.default", key);
    return st_find(f, other);
}

typedef struct problems {
    str_buf text;
    int n;
} problems;

static void problem(problems *p, const char *what, const char *name)
{
    if (++p->n <= 10)
        str_printf(&p->text, "%s%s \"%s\"", p->n > 1 ? "; " : "", what, ft_shows(name));
}

static bool shape_fits(const pe_entry *e, const io_tensor *t)
{
    const tn_tensor *p = &e->p->t;
    int64_t r = p->dim[0], c = p->nd == 2 ? p->dim[1] : 1;
    if (t->nd != p->nd || !t->type->unpack) return false;
    if (p->nd == 1) return t->dim[0] == r;
    return e->transposed ? t->dim[0] == c && t->dim[1] == r : t->dim[0] == r && t->dim[1] == c;
}

static ft_status take(const pe_entry *e, const io_tensor *t, arena *mem)
{
    const tn_tensor *p = &e->p->t;
    int64_t n = tn_count(p), r = p->dim[0], c = p->nd == 2 ? p->dim[1] : 1;
    if (!e->transposed) {
        t->type->unpack(p->data, t->data, n);
        return FT_OK;
    }
    size_t mark = arena_mark(mem);
    float *flip = arena_get(mem, (size_t)n * sizeof(float));
    if (!flip) return FT_EMEM;
    t->type->unpack(flip, t->data, n);
    for (int64_t k = 0; k < n; k++) tn_f32(p)[k] = flip[k % c * r + k / c];
    arena_reset(mem, mark);
    return FT_OK;
}

static ft_status read_entries(const st_file *f, const char *path, const pe_entry *e, int64_t n,
                              bool (*ignore)(void *ctx, const io_tensor *t), void *ctx, arena *mem,
                              problems *bad)
{
    char other[1024];
    map_table used = {0};
    ft_status rc = FT_OK;
    for (int64_t i = 0; i < n && rc == FT_OK; i++) {
        const io_tensor *t = find(f, e[i].key, other, sizeof other);
        if (!t)
            problem(bad, "missing", e[i].key);
        else if (!shape_fits(&e[i], t))
            problem(bad, "wrong shape or type of", e[i].key);
        else
            rc = take(&e[i], t, mem);
        if (t && rc == FT_OK) rc = map_put(&used, t->name, strlen(t->name), i);
    }
    for (int64_t i = 0; i < f->n && rc == FT_OK; i++) {
        const io_tensor *t = &f->tensor[i];
        if (!map_get(&used, t->name, strlen(t->name), NULL) && !(ignore && ignore(ctx, t)))
            problem(bad, "unexpected", t->name);
    }
    map_free(&used);
    if (rc != FT_OK || bad->n == 0) return rc;
    return ft_fail(
        FT_EDATA,
        "%s: does not fit the base model: %s%s (%d in all); is the base the one it was trained on?",
        ft_shows(path), bad->text.data ? bad->text.data : "", bad->n > 10 ? "; ..." : "", bad->n);
}

ft_status pe_read_tensors(const char *dir, const pe_entry *e, int64_t n,
                          bool (*ignore)(void *ctx, const io_tensor *t), void *ctx)
{
    ft_status rc;
    arena *mem = NULL;
    st_file f = {0};
    problems bad = {0};
    const char *path;
    FT_TRY(arena_open(&mem, "adapter file", (size_t)4 << 30));
    path = path_join(mem, dir, "adapter_model.safetensors");
    FT_GUARD(path, FT_EMEM, "out of memory");
    if (!file_exists(path) && file_exists(path_join(mem, dir, "adapter_model.bin"))) {
        rc = ft_fail(FT_EDATA,
                     "%s: adapter_model.bin is a Python pickle, which ft does not read; save the "
                     "adapter with "
                     "safe_serialization=True",
                     ft_shows(dir));
        goto out;
    }
    FT_TRY_OUT(st_open(&f, path, mem));
    rc = read_entries(&f, path, e, n, ignore, ctx, mem, &bad);
out:
    str_free(&bad.text);
    st_close(&f);
    arena_close(mem);
    return rc;
}
