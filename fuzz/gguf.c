/* A .gguf: the container, then the model in it, one forward pass over three tokens, its tokenizer. What says split.count stands
 * there as the first and the second part of a model. */
#include "fuzz.h"

#include "ft/tool.h"

static void read_key(const gguf_file *f, const gguf_kv *kv, arena *mem)
{
    const char *key = arena_strn(mem, kv->key.s, kv->key.n), *text;
    int64_t v, n, *ints;
    double number;
    float *floats;
    bool flag;
    if (!key) return;
    fz_status(gguf_int(f, key, 0, INT64_MIN, INT64_MAX, &v));
    fz_status(gguf_num(f, key, 0, &number));
    fz_status(gguf_bool(f, key, false, &flag));
    fz_status(gguf_text(f, key, mem, &text));
    fz_status(gguf_ints(f, key, mem, &ints, &n));
    fz_status(gguf_floats(f, key, mem, &floats, &n));
    for (uint64_t i = 0; kv->strs && i < kv->count; i++) fz_touch(kv->strs[i].s, kv->strs[i].n);
}

static void use(tool_model *t)
{
    int32_t ids[3] = {0, (int32_t)(t->m->d.vocab_size > 1), 0}, best[2];
    float logprob[2];
    inf_seq q = {.id = ids, .n = 3, .from = 1, .logprob = logprob, .best = best};
    char hex[65];
    fz_status(io_weights_sha256(&t->m->weights, hex));
    if (t->m->d.vocab_size < 100000 && model_count(t->m) < 3000000)
        fz_status(inf_score(&t->inf, &q, 1));
    if (!t->tok) return;
    tok_ids got = {0};
    str_buf s = {0};
    ft_status rc = tok_encode(t->tok, "Hello  w\xc3\xb6rld\n<s>x</s>", 22, true, &got);
    fz_status(rc);
    if (rc == FT_OK) fz_status(tok_decode(t->tok, got.id, got.n, &s));
    tok_ids_free(&got);
    str_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gguf_file f = {0};
    tool_model *t = NULL;
    fz_start();
    arena *mem = fz_arena();
    const bool parts = memmem(data, size, "split.count", 11) != NULL;
    const char *path = fz_put(parts ? "a-00001-of-00002.gguf" : "a.gguf", data, size);
    if (parts) fz_put("a-00002-of-00002.gguf", data, size);
    ft_status rc = gguf_open(&f, path, mem);
    fz_status(rc);
    if (rc != FT_OK) return 0;
    for (int64_t i = 0; i < f.n; i++) fz_touch(f.tensor[i].data, f.tensor[i].bytes);
    for (int64_t i = 0; i < f.n_kv; i++) read_key(&f, &f.kv[i], mem);
    gguf_close(&f);
    rc = tool_open(&t, path, NULL, false, NULL);
    fz_status(rc);
    if (rc == FT_OK) use(t);
    tool_close(t);
    return 0;
}
