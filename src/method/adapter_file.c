/* adapter_file.c – adapter_model.safetensors: names and shapes are PEFT's, values f32. What does not fit on loading is listed
 * in full: a silently ignored tensor is an adapter without effect.
 *
 * Names are compared without what only some writers leave in: the adapter's name ("lora_A.default.weight"), and the
 * wrappers of saved modules ("embed_tokens.modules_to_save.weight"). */
#include "ft/method.h"
#include "method_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const pe_format pe_format_peft = {.library = "PEFT",
                                  .tag = "peft",
                                  .tensors = "adapter_model.safetensors",
                                  .pickle = "adapter_model.bin",
                                  .safe = "safe_serialization=True",
                                  .wrapped = true};
const pe_format pe_format_adapters = {.library = "adapters",
                                      .tag = "adapter-transformers",
                                      .tensors = "adapter.safetensors",
                                      .pickle = "pytorch_adapter.bin",
                                      .safe = "use_safetensors=True"};
const pe_format *pe_format_of(const pe_method *method)
{
    return method->format ? method->format : &pe_format_peft;
}

const char *const pe_adapter_files[] = {"adapter_config.json", "adapter_model.safetensors", NULL};

/* --- what it holds ---------------------------------------------------------------------------------------------- */
ft_status pe_add_entry(pe_ctx *c, nn_param *p, const char *key, bool transposed)
{
    pe_entries *v = &c->entries;
    if (!p || !key) return FT_EMEM;
    if (v->n == v->cap) {
        int64_t cap = v->cap ? 2 * v->cap : 256;
        pe_entry *more = arena_get(c->mem, (size_t)cap * sizeof *more);
        if (!more) return FT_EMEM;
        if (v->n) memcpy(more, v->entry, (size_t)v->n * sizeof *more);
        v->entry = more;
        v->cap = cap;
    }
    v->entry[v->n++] = (pe_entry){.p = p, .key = key, .transposed = transposed};
    return FT_OK;
}

const char *pe_file_key(pe_ctx *c, const char *path, const char *suffix)
{
    return arena_printf(c->mem, "base_model.model.%s%s", path, suffix);
}

/* --- writing ------------------------------------------------------------------------------------------------ */
ft_status pe_write_entries(const char *dir, const char *name, const pe_entry *e, int64_t n)
{
    ft_status rc = FT_EMEM;
    arena *mem = NULL;
    FT_TRY(arena_open(&mem, "adapter file", (size_t)4 << 30));
    st_decl *decl = arena_get(mem, (size_t)n * sizeof *decl);
    const void **data = arena_get(mem, (size_t)n * sizeof *data);
    const char *path = path_join(mem, dir, name);
    if (!decl || !data || !path) goto out;
    for (int64_t i = 0; i < n; i++) {
        const tn_tensor *t = &e[i].p->t;
        int64_t r = t->dim[0], c = t->nd == 2 ? t->dim[1] : 1;
        decl[i] = (st_decl){.name = e[i].key, .type = &dt_f32, .nd = t->nd, .dim = {r, c}};
        data[i] = t->data;
        const int64_t bad = dt_find_nonfinite(&dt_f32, t->data, r * c);
        FT_GUARD(bad < 0, FT_EDIVERGED,
                 "%s: tensor \"%s\" holds %s at element %lld; nothing was written", path,
                 ft_shows(e[i].key), isnan(tn_f32(t)[bad < 0 ? 0 : bad]) ? "NaN" : "Inf",
                 (long long)bad);
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

/* --- opening ------------------------------------------------------------------------------------------------ */
struct pe_file {
    arena *mem;
    const char *path;
    st_file st;
    map_table index;    /* plain name → tensor */
    const char **plain; /* [st.n] NULL: of no use */
    bool *used;         /* [st.n] taken by an entry, or a second copy of what was */
};

/* The name without the adapter's and without wrappers; false: the frozen original of a saved module, of no use. */
static bool plain_name(const char *name, char *out)
{
    bool needed = true, after = false; /* after: the last element was modules_to_save */
    size_t len = 0;
    while (*name) {
        size_t n = strcspn(name, ".");
        const char *next = name[n] ? name + n + 1 : name + n;
        bool near_end = !strchr(next, '.');
        bool adapter = (near_end || after) && n == 7 && memcmp(name, "default", n) == 0;
        bool saved = n == 15 && memcmp(name, "modules_to_save", n) == 0;
        bool token = n == 13 && memcmp(name, "token_adapter", n) == 0;
        needed = needed && !(n == 15 && memcmp(name, "original_module", n) == 0);
        if (!adapter && !saved && !(token && str_starts(next, "base_layer."))) {
            if (len > 0) out[len++] = '.';
            memcpy(out + len, name, n);
            len += n;
        }
        name = next;
        after = saved;
    }
    out[len] = '\0';
    return needed;
}

/* Plain names as they stand in the file go first: what has to be made plain may be a second copy. */
static ft_status index_names(pe_file *f, bool wrapped, bool as_they_stand)
{
    for (int64_t i = 0; i < f->st.n; i++) {
        const char *name = f->st.tensor[i].name;
        char *plain = arena_get(f->mem, strlen(name) + 1);
        if (!plain) return FT_EMEM;
        bool needed = true;
        if (wrapped)
            needed = plain_name(name, plain);
        else
            memcpy(plain, name, strlen(name) + 1);
        if ((strcmp(plain, name) == 0) != as_they_stand) continue;
        f->used[i] = !needed || map_get(&f->index, plain, strlen(plain), NULL);
        if (f->used[i]) continue;
        f->plain[i] = plain;
        FT_TRY(map_put(&f->index, plain, strlen(plain), i));
    }
    return FT_OK;
}

static ft_status open_at(pe_file **out, const char *dir, const char *name, bool wrapped)
{
    ft_status rc;
    pe_file *f = ft_alloc(1, sizeof *f);
    *out = NULL;
    if (!f) return FT_EMEM;
    FT_TRY_OUT(arena_open(&f->mem, "adapter file", (size_t)4 << 30));
    f->path = path_join(f->mem, dir, name);
    FT_GUARD(f->path, FT_EMEM, "out of memory");
    FT_TRY_OUT(st_open(&f->st, f->path, f->mem));
    f->used = arena_get(f->mem, (size_t)f->st.n + 1);
    f->plain = arena_get(f->mem, ((size_t)f->st.n + 1) * sizeof *f->plain);
    FT_GUARD(f->used && f->plain, FT_EMEM, "out of memory");
    FT_TRY_OUT(index_names(f, wrapped, true));
    rc = index_names(f, wrapped, false);
out:
    if (rc != FT_OK)
        pe_file_close(f);
    else
        *out = f;
    return rc;
}

ft_status pe_file_open_named(pe_file **out, const char *dir, const char *name)
{
    return open_at(out, dir, name, true);
}

ft_status pe_file_open(pe_file **out, const char *dir, const pe_format *format)
{
    path_kind sound, other;
    *out = NULL;
    FT_TRY(path_look_in(dir, format->tensors, &sound));
    FT_TRY(path_look_in(dir, format->pickle, &other));
    FT_CHECK(sound == PATH_FILE || other != PATH_FILE, FT_EDATA,
             "%s: %s is a Python pickle, which ft does not read; save the adapter with %s",
             ft_shows(dir), format->pickle, format->safe);
    return open_at(out, dir, format->tensors, format->wrapped);
}

void pe_file_close(pe_file *f)
{
    if (!f) return;
    map_free(&f->index);
    st_close(&f->st);
    arena_close(f->mem);
    ft_free(f);
}

const io_tensor *pe_file_find(const pe_file *f, const char *key)
{
    int64_t i;
    return map_get(&f->index, key, strlen(key), &i) ? &f->st.tensor[i] : NULL;
}

bool pe_file_at(const pe_file *f, int64_t i, const io_tensor **t, const char **name)
{
    if (i >= f->st.n) return false;
    *t = &f->st.tensor[i];
    *name = f->plain[i];
    return true;
}

void pe_file_pass(pe_file *f, const io_tensor *t)
{
    f->used[t - f->st.tensor] = true;
}

bool pe_file_adapts(const pe_file *f, const char *path)
{
    static const char *const own[] = {".weight", ".bias", ".base_layer.weight", ".base_layer.bias"};
    const char *front = "base_model.model.";
    size_t n = strlen(front), k = strlen(path);
    for (int64_t i = 0; i < f->st.n; i++) {
        const char *name = f->st.tensor[i].name;
        bool others = true;
        if (!str_starts(name, front) || strncmp(name + n, path, k) != 0 || name[n + k] != '.')
            continue;
        for (size_t j = 0; j < FT_COUNT_OF(own); j++)
            others = others && strcmp(name + n + k, own[j]) != 0;
        if (others) return true;
    }
    return false;
}

/* --- reading ------------------------------------------------------------------------------------------------- */
typedef struct problems {
    str_buf text;
    int n;
} problems;

/* The first ten in words, all of them counted; NULL past those. */
static str_buf *problem(problems *p, const char *what, const char *name)
{
    if (++p->n > 10) return NULL;
    str_printf(&p->text, "%s%s \"%s\"", p->n > 1 ? "; " : "", what, ft_shows(name));
    return &p->text;
}

static void put_shape(str_buf *s, int nd, const int64_t *dim)
{
    str_addc(s, '[');
    for (int k = 0; k < nd; k++) str_printf(s, "%s%lld", k ? ", " : "", (long long)dim[k]);
    str_addc(s, ']');
}

static void compare_shape(const pe_entry *e, const io_tensor *t, problems *bad)
{
    const tn_tensor *p = &e->p->t;
    int64_t r = p->dim[0], c = p->nd == 2 ? p->dim[1] : 1;
    int64_t dim[2] = {e->transposed ? c : r, e->transposed ? r : c};
    bool same = t->nd == p->nd && t->type->unpack;
    for (int k = 0; same && k < t->nd; k++) same = t->dim[k] == dim[k];
    str_buf *why = same ? NULL : problem(bad, "wrong shape or type of", t->name);
    if (!why) return;
    if (t->bytes == 0) {
        str_adds(why, " (empty: saved under DeepSpeed ZeRO-3 without gathering it)");
    } else {
        str_printf(why, " (%s ", t->type->name);
        put_shape(why, t->nd, t->dim);
        str_adds(why, " where the base needs ");
        put_shape(why, p->nd, dim);
        str_addc(why, ')');
    }
}

/* n: their number. */
static ft_status check_values(const pe_file *f, const io_tensor *t, const float *v, int64_t n)
{
    const int64_t bad = kn_find_nonfinite(v, n);
    FT_CHECK(bad < 0, FT_EDIVERGED,
             "%s: tensor \"%s\" holds %s: the training that left it had diverged",
             ft_shows(f->path), ft_shows(t->name), isnan(v[bad]) ? "NaN" : "Inf");
    return FT_OK;
}

ft_status pe_file_values(const pe_file *f, const io_tensor *t, float *out)
{
    int64_t n = 1;
    for (int k = 0; k < t->nd; k++) n *= t->dim[k];
    t->type->unpack(out, t->data, n);
    return check_values(f, t, out, n);
}

static ft_status take(const pe_file *f, const pe_entry *e, const io_tensor *t)
{
    const tn_tensor *p = &e->p->t;
    arena *mem = f->mem;
    int64_t n = tn_count(p), r = p->dim[0], c = p->nd == 2 ? p->dim[1] : 1;
    if (!e->transposed) {
        t->type->unpack(p->data, t->data, n);
    } else {
        size_t mark = arena_mark(mem);
        float *flip = arena_get(mem, (size_t)n * sizeof(float));
        if (!flip) return FT_EMEM;
        t->type->unpack(flip, t->data, n);
        for (int64_t k = 0; k < n; k++) tn_f32(p)[k] = flip[k % c * r + k / c];
        arena_reset(mem, mark);
    }
    return check_values(f, t, tn_f32(p), n);
}

ft_status pe_read_entries(pe_file *f, const pe_entry *e, int64_t n, bool dry)
{
    problems bad = {0};
    ft_status rc = FT_OK;
    for (int64_t i = 0; i < n && rc == FT_OK; i++) {
        int before = bad.n;
        const io_tensor *t = pe_file_find(f, e[i].key);
        if (!t && e[i].also) t = pe_file_find(f, e[i].also);
        if (t) f->used[t - f->st.tensor] = true;
        if (t) compare_shape(&e[i], t, &bad);
        if (!t && !e[i].optional) problem(&bad, "missing", e[i].key);
        if (t && bad.n == before && !dry) rc = take(f, &e[i], t);
    }
    for (int64_t i = 0; i < f->st.n && rc == FT_OK; i++) {
        if (!f->used[i]) problem(&bad, "unexpected", f->st.tensor[i].name);
    }
    if (rc == FT_OK && bad.n > 0)
        rc = ft_fail(FT_EDATA,
                     "%s: does not fit the base model: %s%s (%d in all); is the base the "
                     "one it was trained on?",
                     ft_shows(f->path), bad.text.data ? bad.text.data : "",
                     bad.n > 10 ? "; ..." : "", bad.n);
    str_free(&bad.text);
    return rc;
}

ft_status pe_read_tensors(pe_ctx *c)
{
    return pe_read_entries(c->file, c->entries.entry, c->entries.n, c->dry);
}
