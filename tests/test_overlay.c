/* test_overlay.c – what a method may lay over a model: several overlays on one base, virtual rows, each hook by what it must
 * equal exactly. */
#include "golden.h"
#include "train_fixture.h"

#include "ft/method.h"

enum { T = 9, LONG = 5, LAST = 4 };
static const int32_t ids[T] = {3, 17, 5, 40, 8, 2, 33, 12, 9}, lengths[2] = {LONG, LAST};
static const int32_t positions[T] = {0, 1, 2, 3, 4, 0, 1, 2, 3};
static const int32_t labels[T] = {17, 5, 40, 8, -100, 33, 12, 9, -100}, firsts[2] = {3, -100};
static const uint64_t keys[T] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
static const nn_batch batch = {.n_seq = 2,
                               .len = lengths,
                               .tokens = T,
                               .ids = ids,
                               .pos = positions,
                               .label = labels,
                               .first = firsts,
                               .row_key = keys,
                               .key = 7};

typedef struct bench {
    model *m;
    ag_tape *t;
    int64_t vocab;
} bench;

static void open_bench(bench *b, const char *name)
{
    assert_ok(model_open(&b->m, &(model_options){.path = golden_model(name)}));
    assert_ok(ag_open(&b->t, (size_t)1 << 30));
    b->vocab = b->m->d.vocab_size;
}

static void close_bench(bench *b)
{
    ag_close(b->t);
    model_close(b->m);
}

static float *logits_of(bench *b, const nn_batch *in, const nn_overlay *over)
{
    nn_run r;
    int64_t rows[32];
    float *out = test_alloc((size_t)(in->tokens * b->vocab) * sizeof *out);
    for (int64_t i = 0; i < in->tokens; i++) rows[i] = i;
    ag_reset(b->t);
    assert_ok(nn_run_open(&r, b->t, in, over, 0));
    tn_tensor *h = model_hidden(b->m, &r);
    assert_ok(model_logits(b->m, &r, h, rows, in->tokens, out, false));
    return out;
}

/* Loss summed over labelled rows, with its gradients. */
static double loss_of(bench *b, const nn_overlay *over, unsigned how, int64_t *supervised)
{
    nn_run r;
    float logprob[32];
    double sum = 0;
    ag_reset(b->t);
    assert_ok(nn_run_open(&r, b->t, &batch, over, NN_RECORD | how));
    tn_tensor *loss = model_loss(b->m, &r, model_hidden(b->m, &r), 1.0f, logprob, NULL);
    assert_ok(b->t->status);
    assert_ok(ag_backward(b->t, loss));
    for (int64_t i = 0; i < r.supervised; i++) sum -= (double)logprob[i];
    if (supervised) *supervised = r.supervised;
    return sum;
}

static void same(const bench *b, const float *x, const float *y)
{
    assert_memory_equal(x, y, (size_t)(T * b->vocab) * sizeof *x);
}

/* --- several on one model ---------------------------------------------------------------------------------------- */
static void two_overlays_on_one_model(void **state)
{
    (void)state;
    static const char *const json[2] = {"{\"r\": 3, \"init_lora_weights\": false}",
                                        "{\"r\": 5, \"init_lora_weights\": false, "
                                        "\"target_modules\": [\"down_proj\", \"lm_head\"], "
                                        "\"modules_to_save\": [\"norm\"]}"};
    bench b;
    pe_ctx *c[2];
    cfg_doc d[2];
    arena *mem = NULL;
    float *alone[2];
    assert_ok(arena_open(&mem, "options", (size_t)1 << 20));
    open_bench(&b, "llama");
    float *base = logits_of(&b, &batch, NULL);
    const pe_method *lora = pe_by_name("lora");
    void *cfg[2];
    for (int i = 0; i < 2; i++) {
        cfg[i] = method_options(lora, json[i], &d[i], mem);
        assert_ok(pe_attach(&c[i], lora, cfg[i], b.m, &(pe_start){.seed = 3, .base_name = "base"}));
        alone[i] = logits_of(&b, &batch, &c[i]->over);
        pe_close(c[i]);
    }
    for (int i = 0; i < 2; i++)
        assert_ok(pe_attach(&c[i], lora, cfg[i], b.m, &(pe_start){.seed = 3, .base_name = "base"}));
    for (int i = 0; i < 4; i++) same(&b, logits_of(&b, &batch, &c[i % 2]->over), alone[i % 2]);
    same(&b, logits_of(&b, &batch, NULL), base);
    assert_true(max_abs_diff(alone[0], alone[1], T * b.vocab) > 1e-3);
    /* a step of one leaves the other and the base as they are */
    nn_store *s = &c[1]->store;
    nn_store_begin(s);
    loss_of(&b, &c[1]->over, 0, NULL);
    nn_store_finish(s);
    for (int64_t i = 0; i < s->count; i++) s->w[i] -= 0.1f * s->g[i];
    same(&b, logits_of(&b, &batch, &c[0]->over), alone[0]);
    same(&b, logits_of(&b, &batch, NULL), base);
    assert_true(max_abs_diff(logits_of(&b, &batch, &c[1]->over), alone[1], T * b.vocab) > 1e-4);
    pe_close(c[0]);
    assert_true(max_abs_diff(logits_of(&b, &batch, &c[1]->over), alone[1], T * b.vocab) > 1e-4);
    pe_close(c[1]);
    for (int i = 0; i < 2; i++) cfg_close(&d[i]);
    close_bench(&b);
    arena_close(mem);
}

/* --- virtual rows -------------------------------------------------------------------------------------------------- */
enum { VIRTUAL = 2 };

typedef struct prompt {
    tn_tensor rows; /* [VIRTUAL, hidden] */
    bool seen_zero;
} prompt;

/* Soft prompts: the rows of virtual tokens are those of a table of their own. */
static tn_tensor *embed_prompt(nn_run *r, const nn_site *s, tn_tensor *h)
{
    prompt *p = r->over->ctx;
    int32_t *at = ag_meta(r->t, (size_t)r->tokens * sizeof *at);
    if (s->role != NN_EMBED) return h; /* a table of positions */
    for (int64_t i = 0; i < r->tokens; i++) {
        at[i] = r->ids[i] < 0 ? -1 - r->ids[i] : -1;
        if (at[i] == 0) p->seen_zero = tn_f32(h)[i * tn_cols(h)] == 0.0f;
    }
    return ag_add(r->t, h, ag_embed(r->t, &p->rows, at, r->tokens, -1));
}

static prompt new_prompt(const model *m, const int32_t *like)
{
    int64_t c = m->d.hidden_size;
    prompt p = {.rows = {.type = &dt_f32, .nd = 2, .dim = {VIRTUAL, c}, .wants_grad = true}};
    p.rows.data = test_alloc((size_t)(VIRTUAL * c) * sizeof(float));
    p.rows.grad = test_alloc((size_t)(VIRTUAL * c) * sizeof(float));
    for (int k = 0; k < VIRTUAL; k++)
        tn_unpack_rows(tn_f32(&p.rows) + k * c, &m->embed->w->t, like[k], 1);
    return p;
}

static const nn_hooks prompt_hooks = {.embed = embed_prompt};

/* The same sequences behind two real tokens. */
static const int32_t longer[2] = {LONG + VIRTUAL, LAST + VIRTUAL};
static const int32_t real[T + 2 * VIRTUAL] = {21, 6, 3, 17, 5, 40, 8, 21, 6, 2, 33, 12, 9};
static const int32_t pos[T + 2 * VIRTUAL] = {0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5};
static const nn_batch with_tokens = {
    .n_seq = 2, .len = longer, .tokens = T + 2 * VIRTUAL, .ids = real, .pos = pos};

/* Virtual tokens with the embeddings of real ones are those tokens: to the bit, positions and all. */
static void check_virtual(const char *name)
{
    static const int32_t like[VIRTUAL] = {21, 6};
    bench b;
    open_bench(&b, name);
    prompt p = new_prompt(b.m, like);
    const nn_overlay over = {.hooks = &prompt_hooks, .ctx = &p, .virtual_tokens = VIRTUAL};
    float *have = logits_of(&b, &batch, &over), *want = logits_of(&b, &with_tokens, NULL);
    size_t row = (size_t)b.vocab;
    assert_true(p.seen_zero);
    assert_memory_equal(have, want + VIRTUAL * row, LONG * row * sizeof *have);
    assert_memory_equal(have + LONG * row, want + (LONG + 2 * VIRTUAL) * row,
                        LAST * row * sizeof *have);
    close_bench(&b);
}

static void virtual_rows_are_tokens(void **state)
{
    (void)state;
    check_virtual("llama");
    check_virtual("gpt2");
}

/* Rows of a run: keys of their own, labels, and the token that only a virtual row predicts. */
static void virtual_rows_of_a_run(void **state)
{
    (void)state;
    ag_tape *t = NULL;
    nn_run r;
    assert_ok(ag_open(&t, (size_t)1 << 20));
    for (int predict = 0; predict < 2; predict++) {
        const nn_overlay over = {.virtual_tokens = VIRTUAL, .virtual_predict = predict == 1};
        ag_reset(t);
        assert_ok(nn_run_open(&r, t, &batch, &over, NN_RECORD));
        assert_int_equal(r.tokens, T + 2 * VIRTUAL);
        assert_int_equal(r.supervised,
                         7 + predict); /* the second sequence's first is not trained on */
        assert_int_equal(r.label[0], -100);
        assert_int_equal(r.label[1], predict ? 3 : -100);
        assert_int_equal(r.label[LONG + 2 * VIRTUAL - 1], -100);
        assert_int_equal(r.ids[1], -2);
        assert_int_equal(r.row_of[LONG], LONG + 2 * VIRTUAL);
        assert_int_equal(r.rows->len[1], LAST + VIRTUAL);
        for (int64_t i = 0; i < r.tokens; i++) {
            for (int64_t k = 0; k < i; k++) assert_true(r.rows->key[i] != r.rows->key[k]);
        }
        assert_true(r.rows->key[r.row_of[4]] == keys[4]);
    }
    /* a cache is extended: what stands before the sequence stands there already */
    const int32_t one = 1, at = 12;
    const nn_batch more = {.n_seq = 1, .len = &one, .tokens = 1, .ids = ids, .pos = &at};
    const nn_overlay over = {.virtual_tokens = VIRTUAL};
    assert_ok(nn_run_open(&r, t, &more, &over, 0));
    assert_int_equal(r.tokens, 1);
    assert_int_equal(r.pos[0], 12);
    ag_close(t);
}

/* The gradient of a soft prompt against differences, with and without checkpointing. */
static void virtual_rows_have_gradients(void **state)
{
    (void)state;
    static const int32_t like[VIRTUAL] = {21, 6};
    static const double weight[4] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12},
                        at[4] = {-2, -1, 1, 2};
    bench b;
    open_bench(&b, "llama");
    prompt p = new_prompt(b.m, like);
    const nn_overlay over = {
        .hooks = &prompt_hooks, .ctx = &p, .virtual_tokens = VIRTUAL, .virtual_predict = true};
    int64_t n = tn_count(&p.rows), supervised;
    float *saved = memcpy(test_alloc((size_t)n * 4), p.rows.data, (size_t)n * 4);
    float *grad = test_alloc((size_t)n * 4);
    loss_of(&b, &over, 0, &supervised);
    assert_int_equal(supervised, 8);
    memcpy(grad, p.rows.grad, (size_t)n * 4);
    memset(p.rows.grad, 0, (size_t)n * 4);
    loss_of(&b, &over, NN_CHECKPOINT, NULL);
    assert_memory_equal(grad, p.rows.grad, (size_t)n * 4);
    for (uint64_t trial = 0; trial < 3; trial++) {
        float *d = test_uniform(90 + trial, n, -1, 1);
        double got = 0, want = 0, size = 0;
        for (int64_t i = 0; i < n; i++) {
            got += (double)grad[i] * (double)d[i];
            size += fabs((double)grad[i] * (double)d[i]);
        }
        for (int k = 0; k < 4; k++) {
            for (int64_t i = 0; i < n; i++)
                tn_f32(&p.rows)[i] = saved[i] + (float)(at[k] * 0.002) * d[i];
            want += weight[k] * loss_of(&b, &over, 0, NULL) / 0.002;
        }
        memcpy(p.rows.data, saved, (size_t)n * 4);
        if (!(fabs(got - want) < 2e-3 * size)) print_error("%g, differences say %g\n", got, want);
        assert_true(fabs(got - want) < 2e-3 * size);
    }
    close_bench(&b);
}

/* --- hooks ------------------------------------------------------------------------------------------------------------ */
static tn_tensor *halve(nn_run *r, const nn_group *g, tn_tensor *x, tn_tensor *y)
{
    (void)x;
    return g->site->role == NN_O || g->site->role == NN_DOWN ? ag_scale(r->t, y, 0.5f) : y;
}

/* An overlay with copies of the o and down matrices (and biases), halved. */
static nn_overlay halved(const model *m)
{
    nn_overlay over = {.own = test_alloc((size_t)m->n_param * sizeof *over.own)};
    for (int64_t i = 0; i < m->n_site; i++) {
        const nn_site *s = &m->site[i];
        const nn_param *of[2] = {s->w, s->b};
        if (s->role != NN_O && s->role != NN_DOWN) continue;
        for (int k = 0; k < 2 && of[k]; k++) {
            nn_param *p = test_alloc(sizeof *p);
            *p = *of[k];
            p->t.type = &dt_f32;
            p->t.row_of = NULL;
            p->t.data = test_alloc((size_t)tn_count(&p->t) * sizeof(float));
            tn_unpack_rows(tn_f32(&p->t), &of[k]->t, 0, tn_rows(&p->t));
            for (int64_t j = 0; j < tn_count(&p->t); j++) tn_f32(&p->t)[j] *= 0.5f;
            over.own[p->index] = p;
        }
    }
    return over;
}

/* Alone, post sees the layer's own output: scaling it by a power of two is scaling the weights. */
static void post_alone_comes_before_the_residual(void **state)
{
    static const nn_hooks alone = {.post = halve, .alone = true}, after = {.post = halve};
    static const char *const names[] = {"llama", "gpt2"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        bench b;
        open_bench(&b, names[i]);
        const nn_overlay own = halved(b.m), hooked = {.hooks = &alone}, other = {.hooks = &after};
        float *want = logits_of(&b, &batch, &own);
        same(&b, logits_of(&b, &batch, &hooked), want);
        assert_true(max_abs_diff(logits_of(&b, &batch, &other), want, T * b.vocab) > 1e-3);
        close_bench(&b);
    }
}

static tn_tensor *halve_sublayer(nn_run *r, int layer, nn_part part, tn_tensor *x, tn_tensor *y,
                                 tn_tensor *h)
{
    int *calls = r->over->ctx;
    assert_int_equal(tn_cols(x), tn_cols(y));
    assert_int_equal(calls[part], layer);
    calls[part]++;
    return ag_add(r->t, ag_scale(r->t, y, 0.5f), h);
}

/* The hook of sublayers stands between a part and the residual stream. */
static void sublayers_are_between_part_and_stream(void **state)
{
    static const nn_hooks hooks = {.sublayer = halve_sublayer};
    static const char *const names[] = {"llama", "gpt2"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        bench b;
        int calls[2] = {0};
        open_bench(&b, names[i]);
        const nn_overlay own = halved(b.m), hooked = {.hooks = &hooks, .ctx = calls};
        same(&b, logits_of(&b, &batch, &hooked), logits_of(&b, &batch, &own));
        assert_int_equal(calls[NN_MIXER], b.m->d.n_layer);
        assert_int_equal(calls[NN_FEED], b.m->d.n_layer);
        close_bench(&b);
    }
}

typedef struct prefix {
    bool take;         /* or give */
    tn_tensor *kv[16]; /* [2 · VIRTUAL, 2K·d] of each layer */
} prefix;

/* Keys and values of the first rows of both sequences: taken from one run, put into another. */
static tn_tensor *keys_and_values(nn_run *r, int layer, const kn_attn *a, tn_tensor *qkv)
{
    static const int64_t row[2 * VIRTUAL] = {0, 1, LONG + VIRTUAL, LONG + VIRTUAL + 1};
    prefix *p = r->over->ctx;
    int64_t from = (int64_t)a->n_head * a->head_dim, c = (int64_t)2 * a->n_kv * a->head_dim;
    tn_tensor *kv = p->kv[layer];
    assert_int_equal(tn_cols(qkv), from + c);
    if (!p->take) return ag_put_rows(r->t, qkv, kv, row, from);
    *kv = (tn_tensor){.type = &dt_f32, .nd = 2, .dim = {2 * VIRTUAL, c}};
    kv->data = test_alloc((size_t)(2 * VIRTUAL * c) * sizeof(float));
    kn_gather_rows(ag_rows_of(kv), (kn_rows){tn_f32(qkv) + from, tn_cols(qkv), false}, row,
                   2 * VIRTUAL, c);
    return qkv;
}

/* Virtual rows that mean nothing, with the keys and values of real tokens put in: to all that follows they are those. */
static void keys_and_values_of_a_prefix(void **state)
{
    static const nn_hooks hooks = {.qkv = keys_and_values};
    static const char *const names[] = {"llama", "gpt2"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        bench b;
        prefix p = {.take = true};
        for (size_t k = 0; k < FT_COUNT_OF(p.kv); k++) p.kv[k] = test_alloc(sizeof **p.kv);
        open_bench(&b, names[i]);
        const nn_overlay take = {.hooks = &hooks, .ctx = &p};
        const nn_overlay give = {.hooks = &hooks, .ctx = &p, .virtual_tokens = VIRTUAL};
        float *want = logits_of(&b, &with_tokens, &take);
        p.take = false;
        float *have = logits_of(&b, &batch, &give);
        size_t row = (size_t)b.vocab;
        assert_memory_equal(have, want + VIRTUAL * row, LONG * row * sizeof *have);
        assert_memory_equal(have + LONG * row, want + (LONG + 2 * VIRTUAL) * row,
                            LAST * row * sizeof *have);
        close_bench(&b);
    }
}

/* Every matrix in place of the trained one is its rounding to a step of 1/16; gradients go to the trained one. */
static void round_weight(nn_run *r, const nn_site *s, ag_weight *w)
{
    tn_tensor *copy = ag_meta(r->t, sizeof *copy);
    (void)s;
    *copy = *w->w;
    copy->data = ag_meta(r->t, (size_t)tn_count(w->w) * sizeof(float));
    for (int64_t i = 0; i < tn_count(w->w); i++)
        tn_f32(copy)[i] = roundf(tn_f32(w->w)[i] * 16.0f) / 16.0f;
    w->w = copy;
}

/* A substituted weight computes as a model of those weights does, to the bit, and hands its gradient to the trained value. */
static void a_substituted_weight_is_straight_through(void **state)
{
    static const nn_hooks rounding = {.weight = round_weight};
    bench b;
    pe_ctx *c = NULL;
    (void)state;
    open_bench(&b, "llama");
    assert_ok(
        pe_attach(&c, pe_by_name("full"), NULL, b.m, &(pe_start){.seed = 3, .base_name = "base"}));
    nn_overlay over = c->over;
    nn_store *s = &c->store;
    size_t bytes = (size_t)s->count * sizeof(float);
    float *trained = memcpy(test_alloc(bytes), s->w, bytes), *grad = test_alloc(bytes);
    over.hooks = &rounding;
    nn_store_begin(s);
    double loss = loss_of(&b, &over, 0, NULL);
    double again = loss_of(&b, &over, NN_CHECKPOINT, NULL);
    nn_store_finish(s);
    assert_true(loss == again);
    for (int64_t i = 0; i < s->count; i++) grad[i] = s->g[i] / 2.0f;
    assert_memory_equal(s->w, trained, bytes);
    for (int64_t i = 0; i < b.m->n_site; i++) {
        const nn_site *site = &b.m->site[i];
        if (site->role == NN_EMBED) continue;
        tn_tensor *w = nn_value_of(&over, site->w);
        for (int64_t j = 0; j < tn_count(w); j++)
            tn_f32(w)[j] = roundf(tn_f32(w)[j] * 16.0f) / 16.0f;
    }
    assert_true(memcmp(s->w, trained, bytes) != 0);
    nn_store_begin(s);
    assert_true(loss_of(&b, &c->over, 0, NULL) == loss);
    nn_store_finish(s);
    assert_true(rel_l2(grad, s->g, s->count) < 1e-6);
    pe_close(c);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_overlays_on_one_model),
        cmocka_unit_test(virtual_rows_are_tokens),
        cmocka_unit_test(virtual_rows_of_a_run),
        cmocka_unit_test(virtual_rows_have_gradients),
        cmocka_unit_test(post_alone_comes_before_the_residual),
        cmocka_unit_test(sublayers_are_between_part_and_stream),
        cmocka_unit_test(keys_and_values_of_a_prefix),
        cmocka_unit_test(a_substituted_weight_is_straight_through),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
