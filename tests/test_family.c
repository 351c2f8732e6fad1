/* test_family.c – every model family against transformers: logits, loss and every gradient of one step, on ragged packed
 * sequences (tests/golden/families, made by scripts/make_golden.py). */
#include "golden.h"
#include "support.h"

#include "ft/method.h"
#include "ft/model.h"

#include <dirent.h>

typedef struct golden {
    st_file f;
    arena *mem;
    const int32_t *lengths, *ids, *labels;
    const float *logits, *loss;
    int64_t n_seq, tokens, vocab;
    const char *folder;
} golden;

static const io_tensor *need(const golden *g, const char *name)
{
    const io_tensor *t = st_find(&g->f, name);
    assert_non_null(t);
    return t;
}

/* Copies to aligned memory: tensors of a file need not be aligned. */
static const void *values(const io_tensor *t)
{
    return memcpy(test_alloc(t->bytes), t->data, t->bytes);
}

static void open_golden(golden *g, const char *name)
{
    char path[512];
    *g = (golden){0};
    assert_ok(arena_open(&g->mem, "golden", (size_t)64 << 20));
    snprintf(path, sizeof path, "families/%s/golden.safetensors", name);
    assert_ok(st_open(&g->f, golden_path(path), g->mem));
    const io_tensor *logits = need(g, "logits");
    g->n_seq = need(g, "lengths")->dim[0];
    g->tokens = logits->dim[0];
    g->vocab = logits->dim[1];
    g->lengths = values(need(g, "lengths"));
    g->ids = values(need(g, "ids"));
    g->labels = values(need(g, "labels"));
    g->logits = values(logits);
    g->loss = values(need(g, "loss"));
    g->folder = golden_model(name);
}

/* Sequences [first, first + count) as one run. */
typedef struct pass {
    nn_run r;
    int32_t *pos, *labels;
    int64_t row0, supervised;
} pass;

static pass make_pass(const golden *g, ag_tape *t, const nn_overlay *over, unsigned how, int first,
                      int count)
{
    pass p = {0};
    int64_t tokens = 0;
    for (int i = 0; i < first; i++) p.row0 += g->lengths[i];
    for (int i = 0; i < count; i++) tokens += g->lengths[first + i];
    p.pos = test_alloc((size_t)tokens * sizeof *p.pos);
    p.labels = test_alloc((size_t)tokens * sizeof *p.labels);
    int64_t row = 0;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < g->lengths[first + i]; k++, row++) {
            bool last = k + 1 == g->lengths[first + i];
            p.pos[row] = k;
            p.labels[row] = last ? -100 : g->labels[p.row0 + row + 1];
            p.supervised += p.labels[row] >= 0;
        }
    }
    nn_batch b = {.n_seq = count,
                  .len = g->lengths + first,
                  .tokens = tokens,
                  .ids = g->ids + p.row0,
                  .pos = p.pos,
                  .label = p.labels};
    assert_ok(nn_run_open(&p.r, t, &b, over, how));
    return p;
}

static void check_logits(const golden *g, model *m, ag_tape *t)
{
    float *mine = test_alloc((size_t)(g->tokens * g->vocab) * sizeof *mine);
    int64_t *rows = test_alloc((size_t)g->tokens * sizeof *rows);
    for (int64_t i = 0; i < g->tokens; i++) rows[i] = i;
    ag_reset(t);
    pass p = make_pass(g, t, NULL, 0, 0, (int)g->n_seq);
    tn_tensor *h = model_hidden(m, &p.r);
    assert_ok(model_logits(m, &p.r, h, rows, g->tokens, mine, false));
    double worst = max_abs_diff(mine, g->logits, g->tokens * g->vocab);
    if (!(worst < 5e-5)) print_error("%s: logits differ by %g\n", g->folder, worst);
    assert_true(worst < 5e-5);
}

static double run_loss(const golden *g, model *m, pe_ctx *c, ag_tape *t, int first, int count,
                       int64_t total, bool checkpoint)
{
    double sum = 0.0;
    ag_reset(t);
    pass p = make_pass(g, t, &c->over, NN_RECORD | (checkpoint ? NN_CHECKPOINT : 0), first, count);
    float *logprob = test_alloc((size_t)(p.supervised + 1) * sizeof *logprob);
    tn_tensor *h = model_hidden(m, &p.r);
    tn_tensor *loss = model_loss(m, &p.r, h, 1.0f / (float)total, logprob, NULL);
    assert_ok(t->status);
    assert_ok(ag_backward(t, loss));
    for (int64_t i = 0; i < p.supervised; i++) sum -= (double)logprob[i];
    return sum;
}

static void check_gradients(const golden *g, model *m, ag_tape *t)
{
    pe_ctx *c = NULL;
    assert_ok(pe_attach(&c, pe_by_name("full"), NULL, m, &(pe_start){.seed = 1}));
    pass all = make_pass(g, t, NULL, 0, 0, (int)g->n_seq);
    double loss = 0.0;
    char name[256];
    nn_store_begin(&c->store);
    loss = run_loss(g, m, c, t, 0, (int)g->n_seq, all.supervised, false) / (double)all.supervised;
    nn_store_finish(&c->store);
    assert_true(fabs(loss - (double)g->loss[0]) < 1e-5);
    for (int64_t i = 0; i < c->store.n; i++) {
        const nn_param *p = c->store.param[i];
        snprintf(name, sizeof name, "grad.%s", p->name);
        const io_tensor *want = need(g, name);
        double err = rel_l2(p->t.grad, values(want), tn_count(&p->t));
        if (!(err < 2e-5)) print_error("%s: %s: relative L2 %g\n", g->folder, name, err);
        assert_true(err < 2e-5);
    }
    /* the same step in micro-batches of one sequence, one of them checkpointed: the same bits */
    float *whole = test_alloc((size_t)c->store.count * sizeof *whole);
    memcpy(whole, c->store.g, (size_t)c->store.count * sizeof *whole);
    nn_store_begin(&c->store);
    for (int s = 0; s < g->n_seq; s++) run_loss(g, m, c, t, s, 1, all.supervised, s == 1);
    nn_store_finish(&c->store);
    assert_memory_equal(whole, c->store.g, (size_t)c->store.count * sizeof *whole);
    pe_close(c);
}

/* --- samples in one row ------------------------------------------------------------------------------------------ */
/* Sequences first … first + count − 1 of `len`, tokens drawn by their place, every one supervised. */
static int64_t run_lengths(model *m, pe_ctx *c, ag_tape *t, const int32_t *len, int first,
                           int count, unsigned how, float *logprob)
{
    int64_t n = 0, from = 0, at = 0;
    for (int s = 0; s < first; s++) from += len[s];
    for (int s = first; s < first + count; s++) n += len[s];
    int32_t *ids = test_alloc((size_t)n * sizeof *ids), *pos = test_alloc((size_t)n * sizeof *pos);
    int32_t *label = test_alloc((size_t)n * sizeof *label);
    for (int s = first; s < first + count; s++) {
        for (int32_t k = 0; k < len[s]; k++, at++) {
            ids[at] = (int32_t)(rng_u64(9, (uint64_t)(from + at)) % (uint64_t)m->d.vocab_size);
            label[at] = (int32_t)(rng_u64(8, (uint64_t)(from + at)) % (uint64_t)m->d.vocab_size);
            pos[at] = k;
        }
    }
    nn_run r;
    nn_batch b = {
        .n_seq = count, .len = len + first, .tokens = n, .ids = ids, .pos = pos, .label = label};
    ag_reset(t);
    assert_ok(nn_run_open(&r, t, &b, &c->over, how));
    tn_tensor *loss = model_loss(m, &r, model_hidden(m, &r), 0.01f, logprob, NULL);
    assert_ok(t->status);
    if (how & NN_RECORD) assert_ok(ag_backward(t, loss));
    return n;
}

/* The losses of samples are the same bits packed in a row or alone, and the gradients of a step whether they are packed or
 * not, checkpointed or not: odd lengths, 1 and 2 among them. */
static void check_packing(model *m, ag_tape *t)
{
    static const int32_t len[] = {5, 1, 2, 13, 1, 1, 7, 2, 16, 3};
    enum { N = FT_COUNT_OF(len), TOKENS = 51 };
    float packed[TOKENS], alone[TOKENS];
    pe_ctx *c = NULL;
    assert_ok(pe_attach(&c, pe_by_name("full"), NULL, m, &(pe_start){.seed = 1}));
    size_t bytes = (size_t)c->store.count * sizeof(float);
    float *whole = test_alloc(bytes);
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        unsigned how = NN_RECORD | (checkpoint ? NN_CHECKPOINT : 0);
        nn_store_begin(&c->store);
        assert_true(run_lengths(m, c, t, len, 0, N, how, packed) == TOKENS);
        nn_store_finish(&c->store);
        if (checkpoint) assert_memory_equal(whole, c->store.g, bytes);
        memcpy(whole, c->store.g, bytes);
        nn_store_begin(&c->store);
        for (int s = 0, at = 0; s < (int)N; at += len[s++])
            run_lengths(m, c, t, len, s, 1, how, alone + at);
        nn_store_finish(&c->store);
        assert_memory_equal(packed, alone, sizeof packed);
        assert_memory_equal(whole, c->store.g, bytes);
        run_lengths(m, c, t, len, 0, N, 0, alone);
        assert_memory_equal(packed, alone, sizeof packed);
    }
    pe_close(c);
}

/* A dry tape must count what the real one used, to the page. */
static void check_plan(const golden *g, model *m)
{
    size_t peak[2], small[2];
    for (int dry = 0; dry < 2; dry++) {
        for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
            ag_tape *t = NULL;
            pe_ctx *c = NULL;
            assert_ok(ag_open(&t, dry ? 0 : (size_t)1 << 30));
            assert_ok(pe_attach(&c, pe_by_name("full"), NULL, m, &(pe_start){.seed = 1}));
            run_loss(g, m, c, t, 0, (int)g->n_seq, 1, checkpoint == 1);
            (checkpoint ? small : peak)[dry] = ag_peak_bytes(t);
            pe_close(c);
            ag_close(t);
        }
    }
    assert_true(small[0] < peak[0]);
    assert_true(small[1] <= small[0] + 4096 && small[1] + 4096 >= small[0]);
    assert_true(peak[1] <= peak[0] + 4096 && peak[1] + 4096 >= peak[0]);
}

static void check_family(const char *name)
{
    golden g;
    model *m = NULL;
    ag_tape *t = NULL;
    open_golden(&g, name);
    assert_ok(ag_open(&t, (size_t)1 << 30));
    assert_ok(model_open(&m, &(model_options){.path = g.folder}));
    check_logits(&g, m, t);
    check_gradients(&g, m, t);
    check_packing(m, t);
    check_plan(&g, m);
    model_close(m);
    ag_close(t);
    st_close(&g.f);
    arena_close(g.mem);
}

static void every_family(void **state)
{
    const char **names;
    int64_t n;
    arena *mem = NULL;
    (void)state;
    assert_ok(arena_open(&mem, "names", (size_t)1 << 20));
    assert_ok(dir_list(golden_path("families"), mem, &names, &n));
    assert_true(n >= 12);
    for (int64_t i = 0; i < n; i++) check_family(names[i]);
    arena_close(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_family)};
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
