/* test_keep.c – method.keep_zeros on a pruned base: gradients of masked changes against differences of the loss, zeros to the
 * bit in every result, what was merged against what is computed, whole runs. */
#include "golden.h"
#include "train_fixture.h"

#include "ft/method.h"

#include <math.h>

static bool is_linear(const nn_site *s)
{
    return s->layer >= 0 && s->role != NN_EMBED && s->role != NN_POSITION;
}

/* --- a base with zeros ------------------------------------------------------------------------------------------- */
typedef struct pruned {
    model *m;
    uint64_t seed;
} pruned;

static bool is_pruned(const model *m, int64_t i)
{
    for (int64_t k = 0; k < m->n_site; k++)
        if (m->site[k].w == &m->param[i]) return is_linear(&m->site[k]);
    return false;
}

/* About half of the weights of the blocks' linears are 0, one in 16 of them −0. */
static ft_status pruned_rows(void *ctx, int64_t i, int64_t row0, int64_t n, float *out)
{
    const pruned *p = ctx;
    const tn_tensor *t = &p->m->param[i].t;
    const int64_t cols = tn_cols(t);
    tn_unpack_rows(out, t, row0, n);
    for (int64_t k = 0; k < n * cols && is_pruned(p->m, i); k++) {
        const uint64_t r = test_u64((uint64_t)i, (uint64_t)(row0 * cols + k));
        if (r % 2 == 0) out[k] = r % 32 == 0 ? -0.0f : 0.0f;
    }
    return FT_OK;
}

static const char *pruned_folder(const char *golden)
{
    pruned p = {0};
    const char *path = test_path("pruned");
    assert_ok(dir_make(path));
    assert_ok(model_open(&p.m, &(model_options){.path = golden_model(golden)}));
    assert_ok(
        model_save(p.m, path, &(model_save_options){.source = {pruned_rows, &p}, .type = &dt_f32}));
    model_close(p.m);
    return path;
}

/* Every linear weight that is 0 in `base` has the same bits in m; the others are not all 0. */
static int64_t check_zeros(const model *base, const model *m)
{
    int64_t zeros = 0;
    for (int64_t i = 0; i < base->n_site; i++) {
        const nn_site *s = &base->site[i];
        const nn_param *p = model_param(m, s->w->name);
        if (!is_linear(s)) continue;
        const int64_t n = tn_count(&s->w->t);
        float *a = test_alloc((size_t)n * sizeof *a), *b = test_alloc((size_t)n * sizeof *b);
        tn_unpack_rows(a, &s->w->t, 0, tn_rows(&s->w->t));
        tn_unpack_rows(b, &p->t, 0, tn_rows(&p->t));
        for (int64_t k = 0; k < n; k++) {
            if (a[k] != 0.0f) continue;
            zeros++;
            assert_memory_equal(&a[k], &b[k], sizeof *a);
        }
    }
    return zeros;
}

/* --- steps ------------------------------------------------------------------------------------------------------------ */
enum { SEQ = 3, LEN = 7, TOKENS = SEQ * LEN };
typedef struct bench {
    arena *mem;
    model *m;
    ag_tape *t;
    pe_ctx *c;
    cfg_doc d;
    int32_t len[SEQ], ids[TOKENS], pos[TOKENS], label[TOKENS];
    uint64_t key[TOKENS];
} bench;

static void open_bench(bench *b, const char *path)
{
    *b = (bench){0};
    assert_ok(arena_open(&b->mem, "bench", (size_t)64 << 20));
    assert_ok(model_open(&b->m, &(model_options){.path = path}));
    assert_ok(ag_open(&b->t, (size_t)1 << 30));
    for (int i = 0; i < TOKENS; i++) {
        b->ids[i] = (int32_t)(test_u64(5, (uint64_t)i) % (uint64_t)b->m->d.vocab_size);
        b->pos[i] = i % LEN;
        b->len[i / LEN] = LEN;
        b->key[i] = (uint64_t)i;
    }
    for (int i = 0; i < TOKENS; i++) b->label[i] = (i + 1) % LEN ? b->ids[i + 1] : -100;
}

static void close_bench(bench *b)
{
    pe_close(b->c);
    ag_close(b->t);
    model_close(b->m);
    cfg_close(&b->d);
    arena_close(b->mem);
}

static void attach(bench *b, const char *method, const char *json)
{
    const pe_method *row = pe_by_name(method);
    void *cfg = method_options(row, json, &b->d, b->mem);
    assert_ok(pe_attach(&b->c, row, cfg, b->m, &(pe_start){.seed = 3, .keep_zeros = true}));
}

static void run_of(bench *b, nn_run *r, unsigned how)
{
    nn_batch in = {.n_seq = SEQ,
                   .len = b->len,
                   .tokens = TOKENS,
                   .ids = b->ids,
                   .pos = b->pos,
                   .label = b->label,
                   .row_key = b->key,
                   .key = 7};
    ag_reset(b->t);
    assert_ok(nn_run_open(r, b->t, &in, &b->c->over, how));
}

static double loss_of(bench *b)
{
    nn_run r;
    float logprob[TOKENS];
    double sum = 0;
    assert_ok(pe_before_step(b->c, 1));
    run_of(b, &r, NN_RECORD);
    nn_store_begin(&b->c->store);
    tn_tensor *loss = model_loss(b->m, &r, model_hidden(b->m, &r), 1.0f, logprob, NULL);
    assert_ok(ag_backward(b->t, loss));
    assert_ok(pe_finish(b->c));
    if (b->c->method->gradients) b->c->method->gradients(b->c);
    for (int i = 0; i < SEQ * (LEN - 1); i++) sum -= (double)logprob[i];
    return sum;
}

static float *logits_of(bench *b)
{
    nn_run r;
    int64_t rows[TOKENS];
    float *out = test_alloc((size_t)(TOKENS * b->m->d.vocab_size) * sizeof *out);
    for (int i = 0; i < TOKENS; i++) rows[i] = i;
    run_of(b, &r, 0);
    assert_ok(model_logits(b->m, &r, model_hidden(b->m, &r), rows, TOKENS, out, false));
    return out;
}

/* The loss changes as the gradients say; trained copies are moved where they may. */
static void check_gradients(bench *b, const char *what)
{
    nn_store *s = &b->c->store;
    const double h = 2e-4;
    float *w = test_alloc((size_t)s->count * sizeof *w), *d = test_uniform(9, s->count, -1, 1);
    double slope = 0, size = 0;
    memcpy(w, s->w, (size_t)s->count * sizeof *w);
    loss_of(b);
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < tn_count(&s->param[i]->t); k++) {
            const int64_t at = s->offset[i] + k;
            if (s->g[at] == 0.0f) d[at] = 0.0f;
            slope += (double)d[at] * (double)s->g[at];
            size += (double)s->g[at] * (double)s->g[at];
        }
    double ends[2];
    for (int e = 0; e < 2; e++) {
        for (int64_t i = 0; i < s->count; i++) s->w[i] = w[i] + (float)(e ? h : -h) * d[i];
        ends[e] = loss_of(b);
    }
    memcpy(s->w, w, (size_t)s->count * sizeof *w);
    const double measured = (ends[1] - ends[0]) / (2 * h);
    if (!(fabs(measured - slope) <= 0.02 * sqrt(size) + 1e-3))
        fail_msg("%s: the loss changes by %g, gradients say %g (norm %g)", what, measured, slope,
                 sqrt(size));
}

static void descend(bench *b)
{
    nn_store *s = &b->c->store;
    loss_of(b);
    for (int step = 0; step < 5; step++) {
        for (int64_t i = 0; i < s->count; i++) s->w[i] -= 0.02f * s->g[i];
        assert_ok(pe_after_update(b->c, &(pe_update){.step = step + 1, .steps = 5}));
        loss_of(b);
    }
}

/* What was saved is opened masked, computes what was trained, and merges into what it computes. */
static void check_result(bench *b, const char *what)
{
    const char *out = test_path("result"), *merged = test_path("merged");
    const size_t bytes = (size_t)(TOKENS * b->m->d.vocab_size) * sizeof(float);
    float *tuned = logits_of(b), *opened = tuned;
    const bool whole = b->c->result == PE_MODEL;
    model *base = b->m, *m;
    assert_ok(dir_make(out));
    assert_ok(dir_make(merged));
    assert_ok(pe_save(b->c, out));
    assert_true(file_exists(test_path("result/ft_method.json")));
    pe_close(b->c);
    b->c = NULL;
    if (!whole) {
        assert_ok(pe_open_adapter(&b->c, base, out));
        assert_true(b->c->keep_zeros);
        opened = logits_of(b);
        if (!(max_abs_diff(opened, tuned, (int64_t)(bytes / sizeof(float))) < 1e-4))
            fail_msg("%s: what was saved computes something else", what);
        assert_ok(model_save(base, merged,
                             &(model_save_options){.over = &b->c->over, .fold = pe_folder(b->c)}));
        pe_close(b->c);
    }
    assert_ok(model_open(&m, &(model_options){.path = whole ? out : merged}));
    assert_true(check_zeros(base, m) > 1000);
    static pe_ctx none;
    b->m = m;
    b->c = &none;
    const double apart = max_abs_diff(logits_of(b), opened, (int64_t)(bytes / sizeof(float)));
    if (!(apart < 1e-5))
        fail_msg("%s: what was merged computes something else, by %g", what, apart);
    b->m = base;
    b->c = NULL;
    model_close(m);
    assert_ok(dir_remove(out));
    assert_ok(dir_remove(merged));
}

static const struct {
    const char *method, *json;
} cases[] = {
    {"full", "{}"},
    {"lora", "{\"r\": 3, \"init_lora_weights\": false}"},
    {"lora", "{\"r\": 2, \"lora_dropout\": 0.3, \"init_lora_weights\": false, \"bias\": \"all\"}"},
    {"lora", "{\"r\": 2, \"init_lora_weights\": false, \"modules_to_save\": [\"mlp\"], "
             "\"target_modules\": \".*(c_attn|q_proj)\"}"},
    {"lora", "{\"r\": 2, \"use_dora\": true, \"init_lora_weights\": false}"},
    {"loraplus", "{\"r\": 2, \"init_lora_weights\": false}"},
    {"dora", "{\"r\": 2, \"init_lora_weights\": false, \"target_modules\": "
             "\".*(c_attn|c_fc|v_proj|down_proj)\"}"},
    {"lorafa", "{\"r\": 3, \"init_lora_weights\": false}"},
    {"adalora", "{\"lora_alpha\": 64, \"total_step\": 100, \"orth_reg_weight\": 0}"},
    {"lotr", "{\"r\": 3, \"lora_alpha\": 0.2}"},
    {"lotr", "{\"r\": 3, \"lora_alpha\": 0.2, \"lotr_share\": \"all\"}"},
    {"delta_lora", "{\"r\": 3, \"delta_start\": 1, \"init_lora_weights\": false}"},
    {"vera", "{\"r\": 8, \"d_initial\": 0.5}"},
    {"vera", "{\"r\": 8, \"d_initial\": 0.5, \"vera_dropout\": 0.2}"},
};

static void zeros_stay_in_every_method(void **state)
{
    static const char *const families[] = {"gpt2", "llama", "qwen2"};
    (void)state;
    for (size_t f = 0; f < FT_COUNT_OF(families); f++) {
        const char *path = pruned_folder(families[f]);
        for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
            bench b;
            char what[300];
            snprintf(what, sizeof what, "%s %s on %s", cases[i].method, cases[i].json, families[f]);
            if (f == 2 && i > 3) continue; /* biases are the difference */
            open_bench(&b, path);
            attach(&b, cases[i].method, cases[i].json);
            /* DoRA takes the lengths as constants in its backward */
            if (!strstr(what, "dora")) check_gradients(&b, what);
            descend(&b);
            check_result(&b, what);
            close_bench(&b);
        }
        assert_ok(dir_remove(path));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeros_stay_in_every_method),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
