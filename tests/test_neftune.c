/* test_neftune.c – noise on embeddings: its size, what it depends on, and whole runs with it. */
#include "golden.h"
#include "train_fixture.h"

#include "ft/kernel.h"
#include "ft/method.h"

enum { T = 12 };

static const uint64_t keys[T] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static void noise_is_uniform(void **state)
{
    enum { MANY = 400 };
    uint64_t key[MANY];
    float *y = test_alloc((size_t)MANY * 1000 * sizeof *y);
    double sum = 0, square = 0, most = 0, along = 0;
    (void)state;
    for (int i = 0; i < MANY; i++) key[i] = rng_key(7, (uint64_t)i, 0);
    kn_noise(y, 0.5f, MANY, 1000, 99, key);
    for (int i = 0; i < MANY * 1000; i++) {
        double v = (double)y[i];
        sum += v;
        square += v * v;
        most = fmax(most, fabs(v));
        if (i >= 1000) along += v * (double)y[i - 1000];
    }
    assert_true(most <= 0.5 && most > 0.4999);
    assert_true(fabs(sum / (MANY * 1000)) < 2e-3);
    assert_true(fabs(square / (MANY * 1000) - 0.25 / 3) < 5e-4);
    assert_true(fabs(along / (MANY * 1000)) < 1e-3); /* rows are independent */
}

/* The embeddings of some sequences of a model, with or without noise. */
static float *embedded(model *m, int n_seq, const int32_t *len, const int32_t *ids, float alpha,
                       unsigned how, int from, int tokens, const nn_overlay *over)
{
    static const int32_t pos[T] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    ag_tape *t = NULL;
    nn_run r;
    nn_batch b = {.n_seq = n_seq,
                  .len = len,
                  .tokens = tokens,
                  .ids = ids + from,
                  .pos = pos,
                  .row_key = keys + from,
                  .key = 5,
                  .noise = alpha};
    assert_ok(ag_open(&t, (size_t)1 << 26));
    assert_ok(nn_run_open(&r, t, &b, over, how));
    tn_tensor *h = nn_embed(&r, m->embed, r.ids);
    assert_ok(t->status);
    size_t bytes = (size_t)tn_count(h) * sizeof(float);
    float *out = memcpy(test_alloc(bytes), h->data, bytes);
    ag_close(t);
    return out;
}

static void noise_is_of_the_sample(void **state)
{
    static const int32_t len[3] = {7, 1, 4}, ids[T] = {3, 9, 4, 4, 20, 31, 5, 8, 1, 2, 3, 4};
    model *m = NULL;
    (void)state;
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    const int64_t width = m->d.hidden_size;
    float *plain = embedded(m, 3, len, ids, 0, NN_RECORD, 0, T, NULL);
    float *noisy = embedded(m, 3, len, ids, 5, NN_RECORD, 0, T, NULL);
    float *still = embedded(m, 3, len, ids, 5, 0, 0, T, NULL);
    assert_memory_equal(plain, still, (size_t)(T * width) * sizeof(float));
    for (int s = 0, at = 0; s < 3; at += len[s++]) {
        double limit = 5 / sqrt((double)(len[s] * width)), most = 0;
        for (int64_t i = at * width; i < (at + len[s]) * width; i++)
            most = fmax(most, fabs((double)noisy[i] - (double)plain[i]));
        assert_true(most <= limit * (1 + 1e-5) && most > 0.8 * limit);
        float *alone = embedded(m, 1, &len[s], ids, 5, NN_RECORD, at, len[s], NULL);
        assert_memory_equal(alone, noisy + at * width, (size_t)(len[s] * width) * sizeof(float));
    }
    /* Two virtual rows before each sequence of its own: they get none, and change none. */
    const nn_overlay two = {.virtual_tokens = 2};
    float *behind = embedded(m, 1, len, ids, 5, NN_RECORD, 0, len[0], &two);
    for (int64_t i = 0; i < 2 * width; i++) assert_true(behind[i] == 0);
    assert_memory_equal(behind + 2 * width, noisy, (size_t)(len[0] * width) * sizeof(float));
    model_close(m);
}

static void runs_with_noise_keep_their_bits(void **state)
{
    static const char alpha[] = "train.neftune_noise_alpha=5";
    (void)state;
    assert_ok(train((job){.out = "plain"}));
    assert_ok(train((job){
        .out = "noisy", .set = {alpha, "train.checkpoint_every=1", "train.keep_checkpoints=99"}}));
    double before = number_in("plain", "summary.json", "first_loss", NULL, NULL);
    double after = number_in("noisy", "summary.json", "first_loss", NULL, NULL);
    assert_true(before != after && fabs(before - after) < 0.2 * before);
    pool_close();
    assert_ok(pool_open(1));
    assert_ok(train((job){.out = "again", .set = {alpha, "train.micro_batch_size=1"}}));
    assert_same_run("again", "noisy");
    pool_close();
    assert_ok(pool_open(3));
    assert_ok(train((job){.out = "packed",
                          .set = {alpha, "train.micro_batch_size=3", "data.packing=true",
                                  "train.gradient_checkpointing=true"}}));
    assert_same_run("packed", "noisy");
    copy_run("noisy", "half", 5);
    assert_ok(train((job){.out = "half", .resume = true, .set = {alpha}}));
    assert_same_run("half", "noisy");
}

static void assert_same_result(const pe_method *row, const char *a, const char *b)
{
    arena *mem = NULL;
    const char **names;
    int64_t n, compared = 0;
    assert_ok(arena_open(&mem, "names", (size_t)1 << 20));
    assert_ok(dir_list(test_path(a), mem, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        if (!pe_leaves(row, names[i])) continue;
        assert_same_file(a, b, names[i]);
        compared++;
    }
    assert_true(compared > 0);
    assert_same_file(a, b, "log.jsonl");
    arena_close(mem);
}

/* By the example of its row: training hears the noise, and neither packing nor the split is seen in what it leaves. */
static void every_method_takes_it(void **state)
{
    static const char alpha[] = "train.neftune_noise_alpha=5";
    (void)state;
    for (int i = 0; pe_at(i); i++) {
        char plain[64], noisy[64], packed[64];
        const pe_method *row = pe_at(i);
        snprintf(plain, sizeof plain, "%s plain", row->name);
        snprintf(noisy, sizeof noisy, "%s noisy", row->name);
        snprintf(packed, sizeof packed, "%s packed", row->name);
        write_config("each.json", row->example);
        assert_ok(train((job){.config = "each.json", .out = plain}));
        assert_ok(train((job){.config = "each.json", .out = noisy, .set = {alpha}}));
        double before = number_in(plain, "summary.json", "first_loss", NULL, NULL);
        double after = number_in(noisy, "summary.json", "first_loss", NULL, NULL);
        if (!(before != after && fabs(before - after) < 0.2 * before))
            fail_msg("%s: first loss %g, %g with noise", row->name, before, after);
        assert_ok(train((job){.config = "each.json",
                              .out = packed,
                              .set = {alpha, "train.micro_batch_size=3", "data.packing=true",
                                      "train.gradient_checkpointing=true"}}));
        assert_same_result(row, noisy, packed);
    }
}

static int setup(void **state)
{
    (void)state;
    write_train_files();
    write_config("lora.json",
                 "{\"type\":\"lora\",\"r\":4,\"target_modules\":[\"q_proj\",\"embed_tokens\"]}");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_is_uniform),
        cmocka_unit_test(noise_is_of_the_sample),
        cmocka_unit_test(runs_with_noise_keep_their_bits),
        cmocka_unit_test(every_method_takes_it),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, setup, NULL);
    pool_close();
    return failed;
}
