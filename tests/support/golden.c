/* golden.c – see golden.h. */
#include "golden.h"
#include "support.h"

#include "ft/io.h"

/* The weight rule: an LCG seeded with the FNV-1a hash of the name; matrices 0.5·u, norm weights 1 + 0.25·u, else 0.25·u. */
static void fill_by_rule(float *out, int64_t n, const char *name, int nd)
{
    uint32_t s = 2166136261u;
    for (const char *c = name; *c; c++) s = (s ^ (unsigned char)*c) * 16777619u;
    for (int64_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        float u = (float)((double)(int32_t)((s >> 8) - 8388608u) / 8388608.0);
        out[i] = nd >= 2 ? 0.5f * u : str_ends(name, ".weight") ? 1.0f + 0.25f * u : 0.25f * u;
    }
}

static void write_weights(const st_file *f, const char *folder)
{
    st_decl *decl = test_alloc((size_t)f->n * sizeof *decl);
    const void **data = test_alloc((size_t)f->n * sizeof *data);
    int64_t n = 0;
    char path[512];
    for (int64_t i = 0; i < f->n; i++) {
        const io_tensor *t = &f->tensor[i];
        if (!str_starts(t->name, "grad.")) continue;
        int64_t count = 1;
        decl[n] = (st_decl){.name = t->name + 5, .type = &dt_f32, .nd = t->nd};
        for (int k = 0; k < t->nd; k++) count *= decl[n].dim[k] = t->dim[k];
        float *w = test_alloc((size_t)count * sizeof *w);
        fill_by_rule(w, count, t->name + 5, t->nd);
        data[n++] = w;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(st_write_all(path, decl, data, n, NULL, 0));
}

const char *golden_model(const char *name)
{
    char from[512], to[512];
    size_t n;
    arena *mem = NULL;
    st_file f = {0};
    const char *folder = test_path(name);
    if (dir_exists(folder)) return folder;
    assert_ok(dir_make(folder));
    snprintf(from, sizeof from, "families/%s/config.json", name);
    char *text = test_read_file(golden_path(from), &n);
    snprintf(to, sizeof to, "%s/config.json", folder);
    test_write_file(to, text, n);
    assert_ok(arena_open(&mem, "golden", (size_t)16 << 20));
    snprintf(from, sizeof from, "families/%s/golden.safetensors", name);
    assert_ok(st_open(&f, golden_path(from), mem));
    write_weights(&f, folder);
    st_close(&f);
    arena_close(mem);
    return folder;
}

float *golden_logits_of(model *m, const int32_t *ids, int n)
{
    enum { MOST = 64 };
    ag_tape *t = NULL;
    nn_run r;
    int32_t pos[MOST], len = n;
    int64_t rows[MOST];
    assert_true(n <= MOST);
    assert_ok(ag_open(&t, (size_t)1 << 30));
    for (int i = 0; i < n; i++) {
        pos[i] = i;
        rows[i] = i;
    }
    float *out = test_alloc((size_t)(n * m->d.vocab_size) * sizeof *out);
    nn_batch b = {.n_seq = 1, .len = &len, .tokens = n, .ids = ids, .pos = pos};
    assert_ok(nn_run_open(&r, t, &b, NULL, 0));
    tn_tensor *h = model_hidden(m, &r);
    assert_ok(t->status);
    assert_ok(model_logits(m, &r, h, rows, n, out, false));
    ag_close(t);
    return out;
}

float *golden_first_logits(model *m)
{
    static const int32_t ids[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    return golden_logits_of(m, ids, (int)FT_COUNT_OF(ids));
}

const nn_param *golden_last_down(const model *m)
{
    const nn_param *p = model_param(m, "model.layers.1.mlp.down_proj.weight");
    return p ? p : model_param(m, "transformer.h.1.mlp.c_proj.weight");
}

float *golden_logits(const model_options *opt, int64_t *n)
{
    enum { TOKENS = 16 };
    model *m = NULL;
    int32_t ids[TOKENS];
    assert_ok(model_open(&m, opt));
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(test_u64(7, (uint64_t)i) % (uint64_t)m->d.vocab_size);
    *n = TOKENS * m->d.vocab_size;
    float *out = golden_logits_of(m, ids, TOKENS);
    model_close(m);
    return out;
}

void same_logits(const model_options *a, const model_options *b, double limit)
{
    int64_t n, k;
    float *x = golden_logits(a, &n), *y = golden_logits(b, &k);
    assert_int_equal(n, k);
    double d = max_abs_diff(x, y, n);
    if (!(d <= limit)) print_error("%s and %s differ by %g\n", a->path, b->path, d);
    assert_true(d <= limit);
}
