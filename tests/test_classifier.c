/* test_classifier.c – reward models: rewards against transformers' classifier with PEFT's adapter (tests/golden/reward), alone and
 * together, before padding; what a folder of a classifier is, and is not; what an adapter of one needs. */
#include "support.h"

#include "ft/infer.h"
#include "ft/io.h"
#include "ft/kernel.h"
#include "ft/method.h"

#include <math.h>

static const char *tiny(void)
{
    return source_path("data/tiny");
}

static const char *init(void)
{
    return golden_path("reward/init");
}

typedef struct scorer {
    inf_ctx inf;
    pe_ctx *adapter;
} scorer;

static void open_scorer(scorer *s)
{
    *s = (scorer){0};
    bool scores;
    assert_ok(pe_adapter_scores(init(), &scores));
    assert_true(scores);
    assert_ok(model_open(&s->inf.m,
                         &(model_options){.path = tiny(), .end = MODEL_NEW_REWARD, .seed = 1}));
    assert_true(s->inf.m->scores && s->inf.m->new_head);
    assert_ok(pe_open_adapter(&s->adapter, s->inf.m, init()));
    s->inf.over = &s->adapter->over;
    model_pad_with(s->inf.m, 0, -1);
    assert_ok(ag_open(&s->inf.tape, (size_t)1 << 32));
}

static void close_scorer(scorer *s)
{
    ag_close(s->inf.tape);
    pe_close(s->adapter);
    model_close(s->inf.m);
}

/* Rows of the golden as ids. */
static tok_ids *golden_rows(const st_file *f, int64_t *n)
{
    const io_tensor *ids = golden_tensor(f, "ids");
    const int64_t *len = golden_tensor(f, "lengths")->data, *id = ids->data;
    *n = ids->dim[0];
    tok_ids *rows = test_alloc((size_t)*n * sizeof *rows);
    for (int64_t i = 0; i < *n; i++) {
        rows[i] = (tok_ids){.id = test_alloc((size_t)len[i] * sizeof(int32_t)), .n = len[i]};
        for (int64_t k = 0; k < len[i]; k++) rows[i].id[k] = (int32_t)id[i * ids->dim[1] + k];
    }
    return rows;
}

static void rewards_are_those_of_transformers(void **state)
{
    scorer s;
    int64_t n;
    (void)state;
    const st_file *f = golden_open("reward/reward.safetensors");
    tok_ids *rows = golden_rows(f, &n);
    const float *want = golden_f32(f, "rewards", n);
    double *have = test_alloc((size_t)n * sizeof *have);
    open_scorer(&s);
    assert_ok(inf_reward(&s.inf, rows, n, have));
    for (int64_t i = 0; i < n; i++) {
        double alone;
        if (!(fabs(have[i] - (double)want[i]) < 1e-5))
            fail_msg("text %lld: %.9g, not %.9g", (long long)i, have[i], (double)want[i]);
        assert_ok(inf_reward(&s.inf, &rows[i], 1, &alone));
        assert_true(alone == have[i]);
    }
    const tok_ids none = {.id = rows[0].id, .n = 0};
    assert_fails(inf_reward(&s.inf, &none, 1, have), FT_EDATA, "without a token");
    close_scorer(&s);
}

/* More texts than one pass holds. */
static void many_texts_give_the_bits_of_each(void **state)
{
    enum { N = 90, LONGEST = 64 };
    scorer s;
    tok_ids rows[N];
    double have[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        rows[i] = (tok_ids){.id = test_alloc(LONGEST * sizeof(int32_t)), .n = 1 + i * 7 % LONGEST};
        for (int64_t k = 0; k < rows[i].n; k++)
            rows[i].id[k] = (int32_t)(test_u64((uint64_t)i, (uint64_t)k) % 640);
    }
    open_scorer(&s);
    assert_ok(inf_reward(&s.inf, rows, N, have));
    for (int i = 0; i < N; i += 11) {
        double alone;
        assert_ok(inf_reward(&s.inf, &rows[i], 1, &alone));
        assert_true(alone == have[i]);
    }
    close_scorer(&s);
}

/* The end of a model is what its opener asks for. */
static void models_end_as_asked_for(void **state)
{
    model *m;
    pe_ctx *c;
    (void)state;
    assert_fails(model_open(&m, &(model_options){.path = tiny(), .end = MODEL_REWARD}), FT_EDATA,
                 "is no reward model (LlamaForCausalLM)");
    assert_ok(model_open(&m, &(model_options){.path = tiny()}));
    assert_false(m->scores);
    assert_fails(pe_open_adapter(&c, m, init()), FT_EDATA, "task_type SEQ_CLS");
    model_close(m);
}

/* A head is drawn by the seed and the config's range, and written under the names of the class. */
static void a_new_head_becomes_a_folder(void **state)
{
    static const char one[] = "\"0\": \"LABEL_0\"", two[] = "\"0\":0, \"1\":1  ";
    const char *dir = test_path("classifier"), *file = test_path("classifier/config.json");
    model *m, *again;
    size_t n;
    (void)state;
    assert_ok(model_open(&m, &(model_options){.path = tiny(), .end = MODEL_NEW_REWARD, .seed = 5}));
    double sum = 0;
    const float *w = tn_f32(&m->head->w->t);
    for (int64_t i = 0; i < m->d.hidden_size; i++) sum += (double)(w[i] * w[i]);
    assert_true(fabs(sqrt(sum / (double)m->d.hidden_size) - 0.05) < 0.012);
    model_pad_with(m, -1, 7);
    assert_ok(model_save(m, dir, &(model_save_options){.type = &dt_f32}));
    assert_fails(model_save(m, "x.gguf", NULL), FT_EUSAGE, "no place in a .gguf");
    char *config = test_read_file(file, &n);
    assert_non_null(strstr(config, "LlamaForSequenceClassification"));
    assert_non_null(strstr(config, "\"pad_token_id\": 7"));
    assert_ok(model_open(&again, &(model_options){.path = dir, .end = MODEL_REWARD}));
    assert_false(again->new_head);
    assert_int_equal(again->pad_token, 7);
    assert_int_equal(again->head->out, 1);
    assert_memory_equal(again->head->w->t.data, w, (size_t)m->d.hidden_size * sizeof *w);
    model_close(again);
    model_close(m);
    assert_fails(model_open(&m, &(model_options){.path = dir}), FT_EDATA,
                 "is a sequence classifier (LlamaForSequenceClassification)");
    char *label = strstr(config, one);
    assert_non_null(label);
    assert_int_equal(strlen(one), strlen(two));
    memcpy(label, two, strlen(two));
    test_write_file(file, config, n);
    assert_fails(model_open(&m, &(model_options){.path = dir, .end = MODEL_ANY}), FT_EDATA,
                 "has 2 labels (num_labels)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewards_are_those_of_transformers),
        cmocka_unit_test(many_texts_give_the_bits_of_each),
        cmocka_unit_test(models_end_as_asked_for),
        cmocka_unit_test(a_new_head_becomes_a_folder),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
