/* test_method.c – adapters: those of the real PEFT are read, compute and merge as PEFT says (tests/golden/peft); and the
 * contract every row of methods.def keeps. */
#include "golden.h"
#include "train_fixture.h"

#include "ft/method.h"

typedef struct bench {
    arena *mem;
    st_file f;
    js_doc js;
    model *m;
    ag_tape *t;
    const int32_t *lengths, *ids;
    int64_t n_seq, tokens;
    int32_t *pos;
} bench;

static const void *values(const bench *b, const char *name)
{
    const io_tensor *t = st_find(&b->f, name);
    assert_non_null(t);
    return memcpy(test_alloc(t->bytes), t->data, t->bytes);
}

static void open_bench(bench *b, const char *dir)
{
    char path[512];
    size_t n;
    *b = (bench){0};
    assert_ok(arena_open(&b->mem, "bench", (size_t)64 << 20));
    snprintf(path, sizeof path, "%s/golden.safetensors", dir);
    assert_ok(st_open(&b->f, path, b->mem));
    snprintf(path, sizeof path, "%s/golden.json", dir);
    char *text = test_read_file(path, &n);
    assert_ok(js_parse(&b->js, text, n, "golden.json", 1, JS_STRICT, FT_EDATA));
    assert_ok(model_open(
        &b->m, &(model_options){.path = golden_model(js_get(b->js.root, "base")->valuestring)}));
    assert_ok(ag_open(&b->t, (size_t)1 << 30));
    b->lengths = values(b, "lengths");
    b->ids = values(b, "ids");
    b->n_seq = st_find(&b->f, "lengths")->dim[0];
    b->tokens = st_find(&b->f, "ids")->dim[0];
    b->pos = test_alloc((size_t)b->tokens * sizeof *b->pos);
    for (int64_t s = 0, row = 0; s < b->n_seq; s++) {
        for (int32_t k = 0; k < b->lengths[s]; k++) b->pos[row++] = k;
    }
}

static void close_bench(bench *b)
{
    ag_close(b->t);
    model_close(b->m);
    js_close(&b->js);
    st_close(&b->f);
    arena_close(b->mem);
}

/* The bench's sequences through the model under an overlay (NULL: the base). */
static float *logits_of(bench *b, const nn_overlay *over)
{
    int64_t v = b->m->d.vocab_size;
    float *out = test_alloc((size_t)(b->tokens * v) * sizeof *out);
    int64_t *rows = test_alloc((size_t)b->tokens * sizeof *rows);
    nn_run r;
    nn_batch in = {.n_seq = (int)b->n_seq,
                   .len = b->lengths,
                   .tokens = b->tokens,
                   .ids = b->ids,
                   .pos = b->pos};
    for (int64_t i = 0; i < b->tokens; i++) rows[i] = i;
    ag_reset(b->t);
    assert_ok(nn_run_open(&r, b->t, &in, over, 0));
    tn_tensor *h = model_hidden(b->m, &r);
    assert_ok(model_logits(b->m, &r, h, rows, b->tokens, out, false));
    return out;
}

static void check_merged(bench *b, pe_ctx *c)
{
    const cJSON *e;
    char name[256];
    cJSON_ArrayForEach(e, js_get(b->js.root, "changed"))
    {
        nn_param *p = model_param(b->m, e->valuestring);
        const nn_site *s = NULL;
        assert_non_null(p);
        for (int64_t i = 0; i < b->m->n_site; i++) {
            if (b->m->site[i].w == p || b->m->site[i].b == p) s = &b->m->site[i];
        }
        const tn_tensor *now = nn_value_of(&c->over, p);
        int64_t n = tn_count(now);
        float *w = test_alloc((size_t)n * sizeof *w);
        tn_unpack_rows(w, now, 0, tn_rows(now));
        bool is_bias = s && s->b == p;
        float *other = s ? test_alloc((size_t)(s->in * s->out) * sizeof *other) : NULL;
        if (s && nn_slot_of(&c->over, s))
            assert_ok(
                pe_folder(c).fold(pe_folder(c).ctx, s, is_bias ? other : w, is_bias ? w : NULL));
        snprintf(name, sizeof name, "merged.%s", e->valuestring);
        double worst = max_abs_diff(w, values(b, name), n);
        if (!(worst <= 1e-6)) print_error("%s differs by %g\n", name, worst);
        assert_true(worst <= 1e-6);
    }
}

/* What PEFT stores twice, or stores of the base unchanged. */
static bool is_copy(const char *name)
{
    return str_ends(name, ".base_layer.weight") || strstr(name, ".original_module.") ||
           strstr(name, ".modules_to_save.") || str_starts(name, "base_model.model.lm_head.token_");
}

/* What ft writes for this adapter has exactly PEFT's names, shapes and values. */
static void check_written(bench *b, pe_ctx *c, const char *dir)
{
    st_file mine = {0}, theirs = {0};
    char path[600];
    int64_t seen = 0;
    (void)b;
    const char *out = test_path("written");
    assert_ok(dir_make(out));
    assert_ok(c->method->save(c, out));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", out);
    assert_ok(st_open(&mine, path, b->mem));
    snprintf(path, sizeof path, "%s/adapter/adapter_model.safetensors", dir);
    assert_ok(st_open(&theirs, path, b->mem));
    for (int64_t i = 0; i < theirs.n; i++) {
        const io_tensor *want = &theirs.tensor[i], *have = st_find(&mine, want->name);
        if (!have) assert_true(is_copy(want->name));
        if (!have) continue;
        seen++;
        assert_int_equal(have->nd, want->nd);
        for (int k = 0; k < want->nd; k++) assert_int_equal(have->dim[k], want->dim[k]);
        assert_int_equal(have->bytes, want->bytes);
        assert_memory_equal(have->data, want->data, want->bytes);
    }
    for (int64_t i = 0; i < mine.n; i++) {
        bool known = st_find(&theirs, mine.tensor[i].name);
        assert_true(known || is_copy(mine.tensor[i].name));
        seen -= known;
    }
    assert_int_equal(seen, 0);
    st_close(&mine);
    st_close(&theirs);
    assert_ok(dir_remove(out));
}

static void check_adapter(const char *name)
{
    bench b;
    pe_ctx *c = NULL;
    char dir[512], adapter[600];
    snprintf(dir, sizeof dir, "%s/%s", golden_path("peft"), name);
    snprintf(adapter, sizeof adapter, "%s/adapter", dir);
    open_bench(&b, dir);
    int64_t rows;
    assert_ok(pe_adapter_vocabulary(adapter, b.m, &rows));
    assert_ok(model_resize_vocabulary(b.m, rows));
    int64_t n = b.tokens * b.m->d.vocab_size;
    float *untouched = logits_of(&b, NULL);
    assert_ok(pe_open_adapter(&c, b.m, adapter));
    double on = max_abs_diff(logits_of(&b, &c->over), values(&b, "logits"), n);
    double off = max_abs_diff(untouched, values(&b, "base_logits"), n);
    if (!(on < 5e-5 && off < 5e-5)) print_error("%s: adapter on %g, off %g\n", name, on, off);
    assert_true(on < 5e-5);
    assert_true(off < 5e-5);
    assert_memory_equal(logits_of(&b, NULL), untouched, (size_t)n * sizeof(float));
    check_merged(&b, c);
    check_written(&b, c, dir);
    pe_close(c);
    close_bench(&b);
}

static void adapters_of_peft(void **state)
{
    const char **names;
    int64_t n, seen = 0;
    arena *mem = NULL;
    (void)state;
    assert_ok(arena_open(&mem, "names", (size_t)1 << 20));
    assert_ok(dir_list(golden_path("peft"), mem, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        if (str_starts(names[i], "train_")) continue;
        check_adapter(names[i]);
        seen++;
    }
    assert_true(seen >= 6);
    arena_close(mem);
}

/* On the same base as a GGUF, where Conv1D weights stand the other way round, the file is the same. */
static void files_are_of_peft_on_a_gguf_base(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt2_saved_mlp", "gpt2_patterns", "llama_saved_norms"};
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        bench b;
        pe_ctx *c = NULL;
        char dir[512], adapter[600];
        const char *gguf = test_path("base.gguf");
        snprintf(dir, sizeof dir, "%s/%s", golden_path("peft"), names[i]);
        snprintf(adapter, sizeof adapter, "%s/adapter", dir);
        open_bench(&b, dir);
        assert_ok(model_save(b.m, gguf, &(model_save_options){.type = &dt_f32}));
        model_close(b.m);
        assert_ok(model_open(&b.m, &(model_options){.path = gguf}));
        assert_ok(pe_open_adapter(&c, b.m, adapter));
        int64_t n = b.tokens * b.m->d.vocab_size;
        assert_true(max_abs_diff(logits_of(&b, &c->over), values(&b, "logits"), n) < 5e-5);
        check_written(&b, c, dir);
        pe_close(c);
        close_bench(&b);
        assert_int_equal(remove(gguf), 0);
    }
}

static double step_loss(bench *b, pe_ctx *c)
{
    int64_t supervised = 0;
    int32_t *label = test_alloc((size_t)b->tokens * sizeof *label);
    uint64_t *key = test_alloc((size_t)b->tokens * sizeof *key);
    float *logprob = test_alloc((size_t)(b->tokens + 1) * sizeof *logprob);
    double sum = 0.0;
    for (int64_t s = 0, row = 0; s < b->n_seq; s++) {
        for (int32_t k = 0; k < b->lengths[s]; k++, row++) {
            label[row] = k + 1 < b->lengths[s] ? b->ids[row + 1] : -100;
            supervised += label[row] >= 0;
            key[row] = (uint64_t)row;
        }
    }
    ag_reset(b->t);
    if (c->method->before_step) assert_ok(c->method->before_step(c, 1));
    nn_run r;
    nn_batch in = {.n_seq = (int)b->n_seq,
                   .len = b->lengths,
                   .tokens = b->tokens,
                   .ids = b->ids,
                   .pos = b->pos,
                   .label = label,
                   .row_key = key,
                   .key = 7};
    if (c->method->before_step) assert_ok(c->method->before_step(c, 1));
    assert_ok(nn_run_open(&r, b->t, &in, &c->over, NN_RECORD));
    nn_store_begin(&c->store);
    tn_tensor *h = model_hidden(b->m, &r);
    tn_tensor *loss = model_loss(b->m, &r, h, 1.0f / (float)supervised, logprob, NULL);
    assert_ok(ag_backward(b->t, loss));
    nn_store_finish(&c->store);
    if (c->method->gradients) c->method->gradients(c);
    for (int64_t i = 0; i < supervised; i++) sum -= (double)logprob[i];
    return sum / (double)supervised;
}

/* What these save is a product or a sum of what they train. */
static void assert_same_logits(const pe_method *method, const float *a, const float *b, int64_t n)
{
    if (strcmp(method->name, "lotr") == 0 || strcmp(method->name, "delta_lora") == 0)
        assert_true(max_abs_diff(a, b, n) < 1e-4);
    else
        assert_memory_equal(a, b, (size_t)n * sizeof *a);
}

/* The contract: training changes only the method's own parameters, a run without overlay stays the base to the bit, the loss falls,
 * what was saved computes the same when it is opened again. */
static void check_contract(const pe_method *method, const char *family, const char *json)
{
    bench b;
    pe_ctx *c = NULL, *again = NULL;
    cfg_doc d = {0};
    char dir[512];
    snprintf(dir, sizeof dir, "%s/%s", golden_path("peft"), family);
    open_bench(&b, dir);
    const int64_t n = b.tokens * b.m->d.vocab_size;
    size_t bytes = (size_t)n * sizeof(float);
    float *base = logits_of(&b, NULL);
    void *cfg = method_options(method, json, &d, b.mem);
    assert_ok(pe_attach(&c, method, cfg, b.m, &(pe_start){.seed = 3, .base_name = "base"}));
    assert_true(c->store.count > 0);
    double first = step_loss(&b, c), loss = first;
    for (int step = 0; step < 30; step++) {
        double squares = 0;
        for (int64_t i = 0; i < c->store.count; i++)
            squares += (double)c->store.g[i] * (double)c->store.g[i];
        const float rate = (float)(0.5 / fmax(1.0, sqrt(squares))); /* a step is 0.5 long at most */
        for (int64_t i = 0; i < c->store.count; i++) c->store.w[i] -= rate * c->store.g[i];
        loss = step_loss(&b, c);
    }
    if (!(loss < 0.95 * first))
        print_error("%s on %s: loss %g -> %g\n", method->name, family, first, loss);
    assert_true(loss < 0.95 * first);
    assert_memory_equal(logits_of(&b, NULL), base, bytes);
    float *tuned = logits_of(&b, &c->over);
    assert_true(memcmp(tuned, base, bytes) != 0);
    const char *out = test_path("contract");
    assert_ok(dir_make(out));
    if (c->result != PE_MODEL) {
        assert_ok(method->save(c, out));
        pe_close(c);
        assert_memory_equal(logits_of(&b, NULL), base, bytes);
        assert_ok(pe_open_adapter(&again, b.m, out));
        const float *opened = logits_of(&b, &again->over);
        if (strstr(json, "\"pissa") || strstr(json, "\"olora")) /* other products of the same sum */
            assert_true(max_abs_diff(opened, tuned, n) < 1e-4);
        else
            assert_same_logits(method, opened, tuned, n);
        pe_close(again);
    } else {
        model *saved = NULL, *mine = b.m;
        assert_ok(method->save(c, out));
        pe_close(c);
        assert_ok(model_open(&saved, &(model_options){.path = out}));
        b.m = saved;
        assert_same_logits(method, logits_of(&b, NULL), tuned, n);
        b.m = mine;
        model_close(saved);
    }
    assert_ok(dir_remove(out));
    cfg_close(&d);
    close_bench(&b);
}

static const struct {
    const char *method, *family, *json; /* family NULL: all of them */
} contracts[] = {
    {"full", NULL, "{}"},
    {"lora", NULL, "{}"},
    {"lora", NULL,
     "{\"r\": 3, \"lora_alpha\": 9, \"use_rslora\": true, \"lora_dropout\": 0.2, "
     "\"init_lora_weights\": \"gaussian\"}"},
    {"lora", "llama",
     "{\"target_modules\": [\"lm_head\", \"embed_tokens\"], \"modules_to_save\": [\"norm\"]}"},
    {"lora", "llama", "{\"target_modules\": [\"q_proj\"], \"modules_to_save\": [\"mlp\"]}"},
    {"lora", "gpt2",
     "{\"target_modules\": [\"lm_head\", \"wte\"], \"modules_to_save\": [\"ln_f\"]}"},
    {"lora", NULL, "{\"target_modules\": \".*(o_proj|c_proj)\", \"bias\": \"lora_only\"}"},
    {"loraplus", NULL, "{}"},
    {"loraplus", "llama",
     "{\"target_modules\": [\"q_proj\", \"embed_tokens\"], \"modules_to_save\": [\"norm\"], "
     "\"loraplus_lr_ratio\": 4}"},
    {"qlora", NULL, "{\"r\": 4}"},
    {"adalora", NULL, "{\"lora_alpha\": 1024, \"total_step\": 100}"},
    {"adalora", "gpt2",
     "{\"init_r\": 3, \"target_r\": 3, \"lora_alpha\": 1024, \"total_step\": 100, "
     "\"target_modules\": [\"c_attn\"], \"bias\": \"lora_only\"}"},
    {"dora", NULL, "{}"},
    {"dora", NULL,
     "{\"r\": 3, \"lora_dropout\": 0.2, \"use_rslora\": true, \"init_lora_weights\": false, "
     "\"bias\": \"all\"}"},
    {"dora", "llama", "{\"target_modules\": [\"lm_head\", \"embed_tokens\", \"k_proj\"]}"},
    {"lora", "gpt2",
     "{\"use_dora\": true, \"lora_dropout\": 0.1, \"target_modules\": [\"c_attn\", \"wte\"]}"},
    {"loraplus", NULL, "{\"use_dora\": true}"},
    {"qlora", NULL, "{\"use_dora\": true}"},
    {"lora", NULL, "{\"init_lora_weights\": \"pissa\", \"r\": 4, \"lora_dropout\": 0.1}"},
    {"lora", NULL, "{\"init_lora_weights\": \"pissa_niter_3\", \"r\": 4, \"use_rslora\": true}"},
    {"loraplus", NULL,
     "{\"init_lora_weights\": \"olora\", \"r\": 3, \"lora_alpha\": 2, "
     "\"loraplus_lr_ratio\": 2}"},
    {"lora", "llama",
     "{\"init_lora_weights\": \"olora\", \"lora_alpha\": 1, \"target_modules\": [\"lm_head\", "
     "\"embed_tokens\"]}"},
    {"lorafa", NULL, "{}"},
    {"lorafa", "llama",
     "{\"lora_dropout\": 0.2, \"target_modules\": [\"o_proj\", \"embed_tokens\"]}"},
    {"lotr", NULL, "{\"r\": 3, \"lora_alpha\": 0.2}"},
    {"lotr", "llama",
     "{\"r\": 2, \"lora_alpha\": 0.1, \"lotr_share\": \"all\", \"modules_to_save\": [\"norm\"], "
     "\"target_modules\": [\"q_proj\", \"o_proj\", \"lm_head\"]}"},
    {"delta_lora", NULL, "{}"},
    {"delta_lora", "llama", "{\"target_modules\": [\"lm_head\", \"embed_tokens\", \"q_proj\"]}"},
    {"delta_lora", "gpt2", "{\"target_modules\": [\"wte\", \"c_fc\"], \"use_rslora\": true}"},
    {"lora_drop", NULL, "{\"threshold\": 0.5}"},
    {"bitfit", NULL, "{}"},
    {"bitfit", NULL, "{\"save\": \"delta\"}"},
    {"bitfit", NULL, "{\"bias_terms\": [\"query\", \"mlp\"]}"},
    {"bitfit", NULL, "{\"bias_terms\": [\"mlp_down\", \"value\"], \"save\": \"delta\"}"},
    {"bitfit", "gpt2", "{\"bias_terms\": [\"norm\", \"attn.c_proj\"]}"},
    {"vera", NULL, "{\"r\": 16, \"d_initial\": 0.5}"},
    {"vera", "llama",
     "{\"r\": 8, \"save_projection\": false, \"vera_dropout\": 0.2, \"exclude_modules\": "
     "[\"q_proj\"], \"bias\": \"all\"}"},
    {"vera", "gpt2", "{\"r\": 8, \"modules_to_save\": [\"ln_f\"], \"layers_to_transform\": 1}"},
    {"ln_tuning", NULL, "{}"},
    {"ln_tuning", "llama",
     "{\"target_modules\": [\"norm\", \"input_layernorm\"], \"layers_to_transform\": 1, "
     "\"modules_to_save\": [\"lm_head\"]}"},
    {"ia3", NULL, "{}"},
    {"ia3", "llama",
     "{\"target_modules\": \"all-linear\", \"layers_to_transform\": [0], "
     "\"modules_to_save\": [\"norm\"]}"},
    {"ia3", "gpt2",
     "{\"target_modules\": [\"c_fc\", \"attn.c_proj\"], \"feedforward_modules\": []}"},
    {"adapter", NULL, "{\"reduction_factor\": 4}"},
    {"adapter", NULL, "{\"config\": \"double_seq_bn\", \"scaling\": 2, \"dropout\": 0.1}"},
    {"adapter", NULL, "{\"config\": \"par_bn\", \"mh_adapter\": true, \"leave_out\": [1]}"},
    {"prompt_tuning", NULL, "{\"num_virtual_tokens\": 3}"},
    {"prompt_tuning", "gpt2",
     "{\"num_virtual_tokens\": 1, \"prompt_tuning_init\": \"SAMPLE_VOCAB\"}"},
    {"prefix_tuning", NULL, "{\"num_virtual_tokens\": 3}"},
    {"prefix_tuning", NULL,
     "{\"num_virtual_tokens\": 2, \"prefix_projection\": true, \"encoder_hidden_size\": 7}"},
    {"prefix_tuning", "llama", "{\"num_virtual_tokens\": 1, \"init_weights\": \"zero\"}"},
    {"p_tuning", NULL, "{\"num_virtual_tokens\": 3}"},
    {"p_tuning", NULL,
     "{\"num_virtual_tokens\": 3, \"encoder_reparameterization_type\": \"LSTM\", "
     "\"encoder_hidden_size\": 9, \"encoder_dropout\": 0.1}"},
};

static void contract_of_every_method(void **state)
{
    static const char *const cases[] = {"llama_lora", "llama_bias_all", "gpt2_lora"};
    (void)state;
    for (int i = 0; pe_at(i); i++) {
        bool found = false;
        for (size_t k = 0; k < FT_COUNT_OF(contracts); k++) {
            if (strcmp(contracts[k].method, pe_at(i)->name) != 0) continue;
            found = true;
            for (size_t f = 0; f < FT_COUNT_OF(cases); f++) {
                if (!contracts[k].family || str_starts(cases[f], contracts[k].family))
                    check_contract(pe_at(i), cases[f], contracts[k].json);
            }
        }
        assert_true(found);
    }
}

/* A name that matches nothing, or means what cannot be: the message says which one. */
static const struct {
    const char *json, *says;
} wrong_names[] = {
    {"{\"target_modules\": [\"query\"]}", "\"query\""},
    {"{\"target_modules\": [\"query\"]}", "it has embed_tokens, q_proj"},
    {"{\"target_modules\": [\"q_proj\", \"v_porj\", \"o_proj\"]}", "\"v_porj\""},
    {"{\"target_modules\": [\"mlp\"]}", "\"mlp\""},
    {"{\"target_modules\": \".*q_projection\"}", "\".*q_projection\""},
    {"{\"target_modules\": \".*mlp.*\"}", "\"model.layers.0.mlp\" too"},
    {"{\"modules_to_save\": [\"norm\", \"lm_head.weight\"]}", "\"lm_head.weight\""},
    {"{\"modules_to_save\": [\"score\"]}", "input_layernorm"},
    {"{\"target_modules\": [\"q_proj\"], \"modules_to_save\": [\"proj\"]}", "\"proj\" takes"},
    {"{\"target_modules\": [\"q_proj\"], \"modules_to_save\": [\"attn\"]}", "\"attn\" takes"},
    {"{\"target_modules\": [\"o_proj\"], \"modules_to_save\": [\"mlp\", \"up_proj\"]}",
     "\"up_proj\" more exactly"},
    {"{\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [0, 7]}", "no layer 7"},
    {"{\"target_modules\": [\"q_proj\"], \"exclude_modules\": [\"self_attn.q_proj\"]}",
     "leave no module"},
};

/* Adapters that are used and merged, but tell of something that training on could not keep. */
static void what_is_not_gone_on_from(void **state)
{
    static const char *const cases[][2] = {{"qwen2_tied_pair", "ensure_weight_tying"},
                                           {"llama_tied_held", "replaces values of the base"},
                                           {"llama_tokens", "trainable_token_indices"},
                                           {"llama_grown", "vocabulary"}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        bench b;
        cfg_doc d = {0};
        pe_ctx *c = NULL;
        char dir[512], adapter[600];
        snprintf(dir, sizeof dir, "%s/%s", golden_path("peft"), cases[i][0]);
        snprintf(adapter, sizeof adapter, "%s/adapter", dir);
        open_bench(&b, dir);
        void *cfg = method_options(pe_by_name("lora"), "{}", &d, b.mem);
        assert_fails(pe_attach(&c, pe_by_name("lora"), cfg, b.m,
                               &(pe_start){.seed = 3, .load_dir = adapter}),
                     FT_EDATA, cases[i][1]);
        assert_non_null(strstr(ft_error(), "does not go on from it"));
        cfg_close(&d);
        close_bench(&b);
    }
}

/* A value that is no number is told with its tensor and file when an adapter is opened. */
static void a_nan_in_an_adapter_is_told(void **state)
{
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors"};
    const float none = NAN;
    bench b;
    pe_ctx *c = NULL;
    char dir[512], path[600];
    (void)state;
    snprintf(dir, sizeof dir, "%s/llama_lora", golden_path("peft"));
    open_bench(&b, dir);
    const char *copy = test_path("nan");
    assert_ok(dir_make(copy));
    for (int i = 0; i < 2; i++) {
        size_t n;
        snprintf(path, sizeof path, "%s/adapter/%s", dir, files[i]);
        char *data = test_read_file(path, &n);
        if (i == 1) memcpy(data + n - sizeof none, &none, sizeof none);
        snprintf(path, sizeof path, "%s/%s", copy, files[i]);
        test_write_file(path, data, n);
    }
    assert_fails(pe_open_adapter(&c, b.m, copy), FT_EDIVERGED, "holds NaN");
    assert_non_null(
        strstr(ft_error(), "nan/adapter_model.safetensors: tensor \"base_model.model."));
    close_bench(&b);
}

static void names_that_match_nothing(void **state)
{
    bench b;
    pe_ctx *c = NULL;
    char dir[512];
    (void)state;
    snprintf(dir, sizeof dir, "%s/llama_lora", golden_path("peft"));
    open_bench(&b, dir);
    for (size_t i = 0; i < FT_COUNT_OF(wrong_names); i++) {
        cfg_doc d = {0};
        void *cfg = method_options(pe_by_name("lora"), wrong_names[i].json, &d, b.mem);
        assert_fails(pe_attach(&c, pe_by_name("lora"), cfg, b.m, &(pe_start){.seed = 3}),
                     FT_ECONFIG, wrong_names[i].says);
        cfg_close(&d);
    }
    close_bench(&b);
}

/* How many values train: PEFT's own counts for the same config on the same model. */
static const struct {
    const char *base, *json;
    int64_t values;
} counts[] = {
#include "golden/peft_counts.h"
};

static void as_many_values_as_peft(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(counts); i++) {
        model *m = NULL;
        pe_ctx *c = NULL;
        cfg_doc d = {0};
        arena *mem = NULL;
        int64_t values = 0;
        assert_ok(arena_open(&mem, "options", (size_t)1 << 20));
        assert_ok(model_open(&m, &(model_options){.path = golden_model(counts[i].base)}));
        void *cfg = method_options(pe_by_name("lora"), counts[i].json, &d, mem);
        assert_ok(pe_attach(&c, pe_by_name("lora"), cfg, m, &(pe_start){.seed = 3}));
        for (int64_t k = 0; k < c->store.n; k++) values += tn_count(&c->store.param[k]->t);
        if (values != counts[i].values)
            print_error("%s %s: %lld values\n", counts[i].base, counts[i].json, (long long)values);
        assert_int_equal(values, counts[i].values);
        pe_close(c);
        model_close(m);
        cfg_close(&d);
        arena_close(mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_of_peft),
        cmocka_unit_test(files_are_of_peft_on_a_gguf_base),
        cmocka_unit_test(contract_of_every_method),
        cmocka_unit_test(names_that_match_nothing),
        cmocka_unit_test(what_is_not_gone_on_from),
        cmocka_unit_test(a_nan_in_an_adapter_is_told),
        cmocka_unit_test(as_many_values_as_peft),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
