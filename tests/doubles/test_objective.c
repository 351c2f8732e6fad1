/* test_objective.c – the contract of every objective: whole runs give the same bytes however a step is cut and wherever the
 * run was interrupted, the plan of a dry tape holds, the evaluation uses the same loss; and what the double over pairs says
 * against its definition. */
#include "doubles.h"
#include "train_fixture.h"

#include "ft/infer.h"
#include "ft/method.h"
#include "train/train_private.h"

#include <math.h>

/* n records of `low` to `high` tokens that count up by 3, everything supervised. */
static void write_records(const char *name, int n, int low, int high, uint64_t seed)
{
    str_buf s = {0};
    for (int i = 0; i < n; i++) {
        int len = low + (int)(test_u64(seed, (uint64_t)(2 * i)) % (uint64_t)(high - low + 1));
        int first = (int)(test_u64(seed, (uint64_t)(2 * i + 1)) % 40);
        for (int part = 0; part < 2; part++) {
            str_adds(&s, part ? "],\"labels\":[" : "{\"input_ids\":[");
            for (int k = 0; k < len; k++)
                str_printf(&s, "%s%d", k ? "," : "", (first + 3 * k) % 64);
        }
        str_adds(&s, "]}\n");
    }
    test_write_file(test_path(name), s.data, s.len);
    str_free(&s);
}

/* What objectives want beside tokens: the files' name, and their format. */
typedef enum judged { PAIRS, TRIPLES, LABELS, PROMPTS, JUDGED } judged;
static const struct {
    unsigned wants;
    const char *name, *format;
    const char *even, *uneven; /* a record of four words, all alike, or after a prompt */
} kinds[JUDGED] = {
    [PAIRS] = {DATA_PAIRS, "pairs-", "pairs", "{\"better\":\"%s, %s\",\"worse\":\"%s, %s\"}\n",
               "{\"prompt\":\"%s and \",\"better\":\"%s is %s.\",\"worse\":\"%s\"}\n"},
    [TRIPLES] = {DATA_TRIPLES, "triples-", "preference",
                 "{\"prompt\":\"\",\"chosen\":\"%s, a\",\"rejected\":\"%s, b\",\"reference\":\"%s, "
                 "%s\"}\n",
                 "{\"prompt\":\"%s and \",\"chosen\":\"%s is %s.\",\"rejected\":\"%s\","
                 "\"reference\":\"all\"}\n"},
    [LABELS] = {DATA_LABELLED, "labels-", "unpaired",
                "{\"prompt\":\"\",\"completion\":\"%s, %s, %s, and %s\",\"label\":true}\n",
                "{\"prompt\":\"%s and\",\"completion\":\" %s %s %s\",\"label\":false}\n"},
    [PROMPTS] = {DATA_PROMPTS, "prompts-", "prompt", "{\"prompt\":\"%s, %s, %s, %s\"}\n",
                 "{\"prompt\":\"%s and %s %s\",\"of\":\"%s\"}\n"},
};

static int kind_of(unsigned wants) /* JUDGED: tokens */
{
    int k = 0;
    while (k < JUDGED && !(wants & kinds[k].wants)) k++;
    return k;
}

/* Every %s of the form by the next word. */
static void record(char *out, size_t size, const char *form, const char *const *w)
{
    size_t at = 0;
    for (const char *p = form; *p && at + 40 < size; p++) {
        if (strncmp(p, "%s", 2) == 0) {
            at += (size_t)snprintf(out + at, size - at, "%s", *w++);
            p++;
        } else {
            out[at++] = *p;
        }
    }
    out[at] = '\0';
}

/* n records of a short prompt and answers; with `even` all alike, of one length. */
static void write_judged(judged kind, const char *name, int n, bool even, uint64_t seed)
{
    static const char *const words[] = {"the boat", "a small dog", "rain", "stones", "the old man"};
    str_buf s = {0};
    char path[64];
    for (int i = 0; i < n; i++) {
        const char *w[4];
        for (int k = 0; k < 4; k++)
            w[k] = words[even ? 4 : test_u64(seed, (uint64_t)(4 * i + k)) % FT_COUNT_OF(words)];
        char line[400];
        record(line, sizeof line, even ? kinds[kind].even : kinds[kind].uneven, w);
        str_adds(&s, line);
    }
    snprintf(path, sizeof path, "%s%s.jsonl", kinds[kind].name, name);
    test_write_file(test_path(path), s.data, s.len);
    str_free(&s);
}

static const char wide_json[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":640,"
    "\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"max_position_embeddings\":64,\"tie_word_embeddings\":true}";

/* A source of what the objective wants: NAME.jsonl, or pairs-NAME.jsonl and so on. */
static void add_source(str_buf *s, const obj_objective *row, const char *name)
{
    const int k = kind_of(row->wants);
    str_printf(s, "{\"path\":\"%s%s.jsonl\",\"format\":\"%s\"}", k < JUDGED ? kinds[k].name : "",
               name, k < JUDGED ? kinds[k].format : "tokens");
}

static bool has_key(const obj_objective *row, const char *key)
{
    const cfg_field *f = row->fields;
    while (f && f->key && strcmp(f->key, key) != 0) f++;
    return f && f->key;
}

/* Keys that an objective must have, and those that make a run of it short. */
static void add_keys(str_buf *s, const obj_objective *row)
{
    static const struct {
        const char *key, *value;
    } keys[] = {
        {"rewards", "[{\"type\":\"length\",\"max_completion_len\":8,\"soft_punish_cache\":6}]"},
        {"num_generations", "2"},
        {"max_completion_length", "8"},
        {"num_iterations", "2"}};
    for (size_t i = 0; i < FT_COUNT_OF(keys); i++)
        if (has_key(row, keys[i].key)) str_printf(s, ",\"%s\":%s", keys[i].key, keys[i].value);
    if (has_key(row, "teacher")) str_printf(s, ",\"teacher\":\"%s\"", source_path("data/tiny"));
}

/* 37 samples, batches of 8 with a short last one, two epochs, or one in which every batch serves two steps: 10 steps. */
static void write_run(const char *name, const obj_objective *row, const char *train, bool eval)
{
    str_buf s = {0};
    str_printf(&s,
               "{\"model\":{\"from_config\":\"%s\",\"tokenizer\":\"%s\"},"
               "\"method\":{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1},\"data\":{\"train\":",
               kind_of(row->wants) < JUDGED || has_key(row, "teacher") ? "wide.json" : "model.json",
               source_path("data/tiny"));
    add_source(&s, row, train);
    if (eval) {
        str_adds(&s, ",\"eval\":");
        add_source(&s, row, "eval");
    }
    str_printf(&s, "},\"objective\":{\"type\":\"%s\"", row->name);
    add_keys(&s, row);
    str_printf(&s,
               "},\"optim\":{\"learning_rate\":0.01},"
               "\"train\":{\"epochs\":%d,\"batch_size\":8,\"checkpoint_every\":5,"
               "\"eval_every\":3}}",
               row->reuse ? 1 : 2);
    test_write_file(test_path(name), s.data, s.len);
    str_free(&s);
}

static int setup(void **state)
{
    (void)state;
    test_write_file(test_path("model.json"), train_model_json, strlen(train_model_json));
    write_records("train.jsonl", 37, 6, 20, 1);
    write_records("even.jsonl", 16, 20, 20, 4);
    write_records("eval.jsonl", 9, 6, 20, 2);
    test_write_file(test_path("wide.json"), wide_json, strlen(wide_json));
    for (judged k = PAIRS; k < JUDGED; k++) {
        write_judged(k, "train", 37, false, 1);
        write_judged(k, "even", 16, true, 4);
        write_judged(k, "eval", 9, false, 2);
    }
    return 0;
}

/* --- every row ---------------------------------------------------------------------------------------------------- */
static void steps_may_be_cut(const char *run)
{
    static const char *const sets[] = {"train.micro_batch_size=1", "train.micro_batch_size=2",
                                       "train.micro_batch_size=3", "train.micro_batch_size=4",
                                       "train.gradient_checkpointing=true"};
    for (size_t i = 0; i < FT_COUNT_OF(sets); i++) {
        assert_ok(train((job){.config = "run.json",
                              .out = "cut",
                              .force = true,
                              .set = {sets[i], "train.checkpoint_every=0"}}));
        assert_same_run(run, "cut");
    }
}

/* From the checkpoint of step 5, which holds the objective's state beside values and optimizer. */
static void a_run_goes_on(const char *run)
{
    copy_run(run, "part", 5);
    assert_ok(train((job){.config = "run.json", .out = "part", .resume = true}));
    assert_same_run(run, "part");
}

/* What a dry tape says of a step against the high-water mark of the real one, on records of one length. Buffers that an op
 * takes for the time of its own work are counted as workspace, not as activations. */
static void the_plan_holds(const obj_objective *row)
{
    train_session s;
    train_seconds spent = {0};
    const char *set[] = {"train.micro_batch_size=4", "method.lora_dropout=0"};
    train_options o = {
        .config = test_path("even.json"), .sets = set, .n_sets = 2, .out = test_path("plan")};
    write_run("even.json", row, "even", false);
    assert_ok(train_session_config(&s, &o));
    assert_ok(train_session_open(&s, true, false));
    assert_ok(train_plan_make(&s));
    assert_ok(train_session_attach(&s));
    assert_ok(train_step(&s, &spent));
    double planned = (double)s.plan.activations, real = (double)ag_peak_bytes(s.tape);
    if (real > 1.1 * planned || real < 0.9 * planned)
        fail_msg("%s: %.0f bytes were planned, %.0f were taken", row->name, planned, real);
    assert_true(s.objective.bytes == 0 || s.plan.weights > s.objective.bytes);
    train_session_close(&s);
}

static void every_objective_keeps_the_contract(void **state)
{
    (void)state;
    for (int i = 0; obj_at(i); i++) {
        const obj_objective *row = obj_at(i);
        write_run("run.json", row, "train", true);
        const job whole = {.config = "run.json", .out = row->name};
        assert_ok(train(whole));
        steps_may_be_cut(row->name);
        a_run_goes_on(row->name);
        the_plan_holds(row);
    }
}

/* --- pairs ---------------------------------------------------------------------------------------------------------- */

static double field(const char *log, int step, const char *key)
{
    char start[32], name[64];
    snprintf(start, sizeof start, "{\"step\":%d,", step);
    snprintf(name, sizeof name, "\"%s\":", key);
    const char *line = strstr(log, start), *at = line ? strstr(line, name) : NULL;
    const char *end = line ? strchr(line, '\n') : NULL;
    if (!at || at > end) fail_msg("step %d has no %s", step, key);
    return strtod(at + strlen(name), NULL);
}

/* Before the first update the policy is the reference: margins are 0 and, as m is 0, the loss is log 2. Then the margins
 * of what is trained on grow. */
static void pairs_are_told_apart(void **state)
{
    static const char *const rows[] = {"halves", "preference"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) {
        write_run("run.json", obj_by_name(rows[i]), "train", true);
        assert_ok(train((job){.config = "run.json", .out = "pairs", .force = true}));
        const char *log = test_read_file(test_path("pairs/log.jsonl"), NULL);
        assert_true(fabs(field(log, 1, "loss") - 0.69314718) < 1e-6);
        assert_true(field(log, 1, "rewards/margins") == 0);
        assert_true(field(log, 10, "rewards/margins") > 0.01);
        for (int step = 1; step < 10; step += 2) /* a drawn batch serves two steps */
            assert_true(field(log, step, "tokens") == field(log, step + 1, "tokens"));
        assert_true(field(log, 2, "tokens") != field(log, 3, "tokens"));
        assert_true(field(log, 10, "epoch") == 1);
        assert_true(field(log, 10, "rewards/accuracies") > 0.5);
        for (int step = 3; step <= 9; step += 3) {
            assert_true(fabs(field(log, step, "eval_rewards/margins")) > 1e-4);
            assert_true(field(log, step, "eval_loss") > 0);
        }
    }
}

/* The two answers of a pair have positions of their own; what an objective wants is checked against what a source gives. */
static void pairs_fit_the_model(void **state)
{
    static const char gpt2[] =
        "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\",\"vocab_size\":640,"
        "\"n_embd\":32,\"n_layer\":1,\"n_head\":4,\"n_positions\":%d}";
    char text[400], *set = test_alloc(600);
    str_buf s = {0};
    job j = {.config = "fits.json", .out = "fits", .set = {"train.max_steps=1", set}};
    (void)state;
    for (int side = 0; side < 2; side++) {
        str_adds(&s, side ? "\",\"worse\":\"" : "{\"better\":\"");
        for (int i = 0; i < 150; i++) str_addc(&s, "xqzw"[(i * i + side) % 4]);
    }
    str_adds(&s, "\"}\n");
    test_write_file(test_path("pairs-long.jsonl"), s.data, s.len);
    str_free(&s);
    write_run("fits.json", obj_by_name("preference"), "long", false);
    snprintf(set, 600, "model.from_config=%s", test_path("gpt2.json"));
    snprintf(text, sizeof text, gpt2, 160); /* either fits, both together do not */
    test_write_file(test_path("gpt2.json"), text, strlen(text));
    assert_ok(train(j));
    assert_true(number_in("fits", "log.jsonl", "tokens", NULL, NULL) > 160);
    j.out = "no";
    snprintf(text, sizeof text, gpt2, 60);
    test_write_file(test_path("gpt2.json"), text, strlen(text));
    assert_fails(train(j), FT_ECONFIG, "the model has 60 positions");
    j.set[1] = "objective.type=halves";
    assert_fails(train(j), FT_ECONFIG, "gives pairs");
    write_run("fits.json", obj_by_name("halves"), "train", false);
    j.set[1] = "objective.type=preference";
    assert_fails(train(j), FT_ECONFIG, "wants pairs of a chosen");
}

/* --- against a plain reference --------------------------------------------------------------------------------------- */

/* Sum of the log-probabilities of `answer` behind `prompt`: one sequence by itself. */
static double plain_logprob(const inf_ctx *c, const tok_tokenizer *tok, const char *prompt,
                            const char *answer)
{
    tok_ids ids = {0};
    double sum = 0;
    float logprob[64];
    assert_ok(tok_encode(tok, prompt, strlen(prompt), false, &ids));
    int64_t from = ids.n;
    assert_ok(tok_encode(tok, answer, strlen(answer), false, &ids));
    assert_true(from > 0 && ids.n - from <= 64);
    inf_seq s = {.id = ids.id, .n = ids.n, .from = from, .logprob = logprob};
    assert_ok(inf_score(c, &s, 1));
    for (int64_t i = 0; i < ids.n - from; i++) sum += (double)logprob[i];
    tok_ids_free(&ids);
    return sum;
}

/* Mean of −log σ(β(δ − m)) over the pairs of a file, of a run's adapter against its base; *ref: mean of the base's own
 * differences. */
static double plain_loss(const char *file, const char *run, double m, double *ref)
{
    inf_ctx c = {0};
    pe_ctx *pe = NULL;
    tok_tokenizer *tok = NULL;
    double sum = 0;
    int n = 0;
    char *text = test_read_file(test_path(file), NULL);
    *ref = 0;
    assert_ok(
        model_open(&c.m, &(model_options){.from_config = test_path("wide.json"), .seed = 42}));
    assert_ok(tok_open(&tok, source_path("data/tiny")));
    assert_ok(pe_open_adapter(&pe, c.m, test_path(run)));
    assert_ok(ag_open(&c.tape, (size_t)1 << 30));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), n++) {
        js_doc d;
        double delta[2];
        assert_ok(js_parse(&d, line, strlen(line), file, n + 1, JS_STRICT, FT_EDATA));
        for (int tuned = 0; tuned < 2; tuned++) {
            const char *prompt = js_get(d.root, "prompt")->valuestring;
            c.over = tuned ? &pe->over : NULL;
            delta[tuned] = plain_logprob(&c, tok, prompt, js_get(d.root, "better")->valuestring) -
                           plain_logprob(&c, tok, prompt, js_get(d.root, "worse")->valuestring);
        }
        sum += log1p(exp(-0.5 * (delta[1] - delta[0] - m)));
        *ref += delta[0];
        js_close(&d);
    }
    ag_close(c.tape);
    pe_close(pe);
    tok_close(tok);
    model_close(c.m);
    *ref /= n;
    return sum / n;
}

/* All pairs in every step, so that the offset after two of them follows from one mean. What is evaluated after step 2 and
 * trained on in step 3 is the loss of the adapter that step 2 left. */
static void the_loss_is_that_of_plain_passes(void **state)
{
    double ref, none, train_loss, eval_loss, tol = 1e-5;
    job j = {.config = "plain.json",
             .out = "plain",
             .set = {"train.max_steps=2", "train.batch_size=37", "train.eval_every=1",
                     "method.lora_dropout=0", "optim.lr_scheduler_type=constant",
                     "train.micro_batch_size=5"}};
    (void)state;
    write_run("plain.json", obj_by_name("preference"), "train", true);
    assert_ok(train(j));
    train_loss = plain_loss("pairs-train.jsonl", "plain", 0, &ref);
    train_loss = plain_loss("pairs-train.jsonl", "plain", 0.19 * ref, &ref);
    eval_loss = plain_loss("pairs-eval.jsonl", "plain", 0.19 * ref, &none);
    j.set[0] = "train.max_steps=3";
    j.resume = true;
    assert_ok(train(j));
    const char *log = test_read_file(test_path("plain/log.jsonl"), NULL);
    assert_true(fabs(ref) > 0.1 && fabs(train_loss - field(log, 1, "loss")) > 1e-3);
    if (fabs(field(log, 3, "loss") - train_loss) > tol)
        fail_msg("the loss is %.9g, not %.9g", field(log, 3, "loss"), train_loss);
    if (fabs(field(log, 2, "eval_loss") - eval_loss) > tol)
        fail_msg("the loss of the evaluation is %.9g, not %.9g", field(log, 2, "eval_loss"),
                 eval_loss);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_objective_keeps_the_contract),
        cmocka_unit_test(pairs_are_told_apart),
        cmocka_unit_test(the_loss_is_that_of_plain_passes),
        cmocka_unit_test(pairs_fit_the_model),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, setup, NULL);
    pool_close();
    return failed;
}
