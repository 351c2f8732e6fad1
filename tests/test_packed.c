/* test_packed.c – folders of GPTQ and AWQ (tests/golden/packed, made by scripts/make_golden_packed.py): values to the bit, logits,
 * the same tensors when they are written again, products of every level, and folders that are wrong. */
#include "golden.h"
#include "support.h"
#include "verbs.h"

#include "../src/kernel/kern.h"
#include "ft/kernel.h"
#include "ft/model.h"

/* --- a matrix in codes --------------------------------------------------------------------------------------------------- */

typedef struct form {
    int64_t rows, cols;
    int bits;
    int64_t size;
    bool indexed;
    const dt_type *dtype;
    int plus;
} form;

static tn_tensor random_matrix(uint64_t seed, const form *f)
{
    const int64_t groups = (f->cols + f->size - 1) / f->size, n = f->rows * f->cols;
    size_t bytes = 0;
    const dt_type *type = dt_code_type(f->bits);
    assert_true(dt_bytes(type, n, &bytes));
    dt_groups *g = test_alloc(sizeof *g);
    uint8_t *q = test_alloc(bytes), *zero = test_alloc((size_t)(f->rows * groups));
    float *scale = test_uniform(seed, f->rows * groups, 0.01f, 0.2f);
    void *packed = test_alloc((size_t)(f->rows * groups) * sizeof(float));
    int32_t *group = f->indexed ? test_alloc((size_t)f->cols * sizeof *group) : NULL;
    for (size_t i = 0; i < bytes; i++) q[i] = (uint8_t)test_u64(seed + 1, i);
    for (int64_t i = 0; i < f->rows * groups; i++)
        zero[i] = (uint8_t)(test_u64(seed + 2, (uint64_t)i) % (1u << f->bits));
    for (int64_t i = 0; group && i < f->cols; i++)
        group[i] = (int32_t)(test_u64(seed + 3, (uint64_t)i) % (uint64_t)groups);
    f->dtype->pack(packed, scale, f->rows * groups);
    *g = (dt_groups){.cols = f->cols,
                     .groups = groups,
                     .size = f->size,
                     .group = group,
                     .dtype = f->dtype,
                     .scale = packed,
                     .zero = zero,
                     .plus = f->plus,
                     .rows = f->rows};
    return (tn_tensor){.type = type, .nd = 2, .dim = {f->rows, f->cols}, .data = q, .side = g};
}

/* What the codes mean, one by one. */
static float *means(const tn_tensor *t)
{
    const dt_groups *g = t->side;
    const int64_t n = tn_count(t);
    float *v = test_alloc((size_t)n * sizeof *v), *scale = test_alloc((size_t)n * sizeof *scale);
    uint8_t *q = test_alloc((size_t)n);
    dt_codes_get(t->type, q, t->data, 0, n);
    g->dtype->unpack(scale, g->scale, g->rows * g->groups);
    for (int64_t i = 0; i < n; i++) {
        const int64_t col = i % g->cols, group = g->group ? g->group[col] : col / g->size;
        const int64_t at = i / g->cols * g->groups + group;
        v[i] = scale[at] * (float)(q[i] - g->zero[at] - g->plus);
    }
    return v;
}

static void same(const float *a, const float *b, int64_t n, const char *what, size_t at)
{
    if (memcmp(a, b, (size_t)n * sizeof *a) == 0) return;
    print_error("%s, form %zu, %s: other bits\n", kern->name, at, what);
    fail();
}

static const form forms[] = {
    {41, 37, 4, 37, false, &dt_f16, 1},    {24, 704, 4, 128, false, &dt_f16, 1},
    {130, 96, 4, 32, false, &dt_bf16, 0},  {7, 700, 4, 16, false, &dt_f32, 1},
    {9, 4192, 4, 4192, false, &dt_f16, 0}, {3, 8192, 4, 128, false, &dt_bf16, 1},
    {33, 320, 4, 96, false, &dt_f16, 0},   {21, 576, 4, 64, true, &dt_f16, 1},
    {5, 1027, 4, 1, true, &dt_f16, 0},     {5, 1025, 8, 3, true, &dt_f32, 1},
    {19, 333, 8, 111, false, &dt_f16, 1},  {40, 512, 3, 64, false, &dt_bf16, 1},
    {13, 61, 3, 20, false, &dt_f16, 0},    {11, 270, 3, 32, true, &dt_f32, 1},
    {40, 256, 2, 128, false, &dt_f16, 1},  {13, 67, 2, 9, true, &dt_f16, 0},
    {1, 1, 4, 1, false, &dt_f16, 1},       {24, 704, 8, 64, false, &dt_f16, 1},
    {7, 4192, 8, 32, false, &dt_bf16, 0},  {3, 8192, 3, 128, false, &dt_f16, 1},
    {9, 608, 2, 32, false, &dt_f16, 1},    {5, 4192, 3, 4192, false, &dt_f32, 0},
    {21, 576, 8, 64, true, &dt_f16, 1},    {21, 608, 3, 32, true, &dt_f16, 0},
    {5, 96, 2, 32, true, &dt_bf16, 1},     {7, 32, 4, 8, true, &dt_f16, 1},
    {7, 1536, 4, 64, true, &dt_f16, 1},    {5, 640, 8, 4, true, &dt_f16, 0},
};

static void products(const tn_tensor *coded, const float *values, size_t at)
{
    enum { M = 45 };
    const int64_t o = coded->dim[0], k = coded->dim[1];
    const kn_mat a = {
        .type = coded->type, .data = coded->data, .side = coded->side, .rows = o, .cols = k};
    const kn_mat b = {.type = &dt_f32, .data = values, .rows = o, .cols = k};
    float *x = test_uniform(40, M * k, -1, 1), *dy = test_uniform(41, M * o, -1, 1);
    float *y0 = test_alloc((size_t)(M * o) * 4), *y1 = test_alloc((size_t)(M * o) * 4);
    float *dx0 = test_alloc((size_t)(M * k) * 4), *dx1 = test_alloc((size_t)(M * k) * 4);
    for (int few = 1; few <= M; few += few < 4 ? 1 : 9) {
        kn_gemv(y0, o, x, k, &a, few, NULL);
        kn_gemv(y1, o, x, k, &b, few, NULL);
        same(y0, y1, few * o, "a few rows", at);
    }
    for (int precision = 0; precision < 2; precision++) {
        kn_product p = {.precision = precision ? KN_BF16 : KN_F32,
                        .y = {.data = y0, .ld = o},
                        .x = {.data = x, .ld = k},
                        .m = M,
                        .w = &a};
        kn_gemm(&p);
        p.y.data = y1;
        p.w = &b;
        kn_gemm(&p);
        same(y0, y1, M * o, precision ? "y in bf16" : "y", at);
        p = (kn_product){.precision = p.precision,
                         .y = {.data = dx0, .ld = k},
                         .x = {.data = dy, .ld = o},
                         .m = M,
                         .w = &a,
                         .in_out = true};
        kn_gemm(&p);
        p.y.data = dx1;
        p.w = &b;
        kn_gemm(&p);
        same(dx0, dx1, M * k, precision ? "dx in bf16" : "dx", at);
    }
}

static void all_levels_read_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(forms); i++) {
        const tn_tensor coded = random_matrix(10 * i, &forms[i]);
        const int64_t rows = forms[i].rows, cols = forms[i].cols;
        float *want = means(&coded), *got = test_alloc((size_t)(rows * cols + 1) * sizeof *got);
        const kn_mat mat = {
            .type = coded.type, .data = coded.data, .side = coded.side, .rows = rows, .cols = cols};
        kern_src s;
        tn_unpack_rows(got, &coded, 0, rows);
        same(got, want, rows * cols, "rows", i);
        kern_src_of(&s, &mat);
        for (uint64_t k = 0; k < 200; k++) {
            const int64_t row = (int64_t)(test_u64(9, 3 * k) % (uint64_t)rows);
            const int64_t from = (int64_t)(test_u64(9, 3 * k + 1) % (uint64_t)cols);
            const int64_t take = (int64_t)(test_u64(9, 3 * k + 2) % (uint64_t)(cols - from + 1));
            got[take] = 12345.0f;
            kern_src_values(&s, got, row, from, take);
            same(got, want + row * cols + from, take, "a piece", i);
            assert_true(got[take] == 12345.0f);
        }
        products(&coded, want, i);
    }
}

/* Codes go in and out at any place, and leave their neighbours alone. */
static void codes_are_put_anywhere(void **state)
{
    static const int bits[] = {2, 3, 4, 8};
    enum { N = 131 };
    (void)state;
    for (size_t b = 0; b < FT_COUNT_OF(bits); b++) {
        const dt_type *type = dt_code_type(bits[b]);
        uint8_t data[N + 3] = {0}, want[N] = {0}, part[N], got[N];
        assert_int_equal(dt_code_bits(type), bits[b]);
        for (uint64_t k = 0; k < 300; k++) {
            const int64_t first = (int64_t)(test_u64(5, 2 * k) % N);
            const int64_t n = (int64_t)(test_u64(5, 2 * k + 1) % (uint64_t)(N - first + 1));
            for (int64_t i = 0; i < n; i++) {
                part[i] = (uint8_t)(test_u64(k, (uint64_t)i) % (1u << bits[b]));
                want[first + i] = part[i];
            }
            dt_codes_put(type, data, first, part, n);
            dt_codes_get(type, got, data, 0, N);
            assert_memory_equal(got, want, N);
            dt_codes_get(type, got, data, first, n);
            assert_memory_equal(got, part, (size_t)n);
        }
    }
    assert_null(dt_code_type(5));
    assert_int_equal(dt_code_bits(&dt_f16), 0);
}

/* --- folders ---------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *type;
    int coded;
} folders[] = {{"llama_4", "int4", 13},   {"gpt2_8", "int8", 8},   {"qwen2_3", "int3", 14},
               {"mistral_2", "int2", 14}, {"qwen3_4", "int4", 14}, {"llama_awq", "int4", 14},
               {"qwen2_awq", "int4", 14}};

static const char *folder_path(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "packed/%s", name);
    return golden_path(path);
}

static int count_coded(const model *m)
{
    int n = 0;
    for (int64_t i = 0; i < m->n_param; i++) n += dt_code_bits(m->param[i].t.type) > 0;
    return n;
}

static void folders_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(folders); i++) {
        char path[128];
        model *m = NULL, *plan = NULL;
        const model_options opt = {.path = folder_path(folders[i].name)};
        assert_ok(model_open(&m, &opt));
        snprintf(path, sizeof path, "packed/%s/golden.safetensors", folders[i].name);
        const st_file *f = golden_open(path);
        const nn_param *p = golden_last_down(m);
        float *values = test_alloc((size_t)tn_count(&p->t) * sizeof *values);
        assert_string_equal(p->t.type->name, folders[i].type);
        tn_unpack_rows(values, &p->t, 0, p->t.dim[0]);
        const io_tensor *want = golden_tensor(f, "values");
        assert_int_equal(want->bytes, (size_t)tn_count(&p->t) * sizeof *values);
        assert_memory_equal(values, want->data, want->bytes);
        assert_int_equal(count_coded(m), folders[i].coded);
        const int64_t n = 12 * m->d.vocab_size;
        float *got = golden_first_logits(m);
        const double error = rel_l2(got, golden_f32(f, "logits", n), n);
        if (!(error < 5e-6)) fail_msg("%s, %s: logits differ by %g", kern->name, opt.path, error);
        assert_true(m->has_blocks && m->dtype == &dt_bf16);
        /* a plan counts what is there, and makes nothing */
        assert_ok(model_open(&plan, &(model_options){.path = opt.path, .no_weights = true}));
        assert_int_equal(model_bytes(plan), model_bytes(m));
        model_close(plan);
        model_close(m);
    }
}

static void they_become_plain_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(folders); i++) {
        model *m = NULL;
        char name[64], config[600];
        size_t n;
        const model_options coded = {.path = folder_path(folders[i].name)};
        snprintf(name, sizeof name, "plain-%s", folders[i].name);
        const char *folder = test_path(name), *gguf = test_path(strcat(name, ".gguf"));
        assert_ok(model_open(&m, &coded));
        assert_ok(model_save(m, folder, &(model_save_options){.type = &dt_f32}));
        assert_ok(model_save(m, gguf, &(model_save_options){.type = &dt_f32}));
        model_close(m);
        same_logits(&coded, &(model_options){.path = folder}, 0);
        same_logits(&coded, &(model_options){.path = gguf}, 0);
        snprintf(config, sizeof config, "%s/config.json", folder);
        assert_null(strstr(test_read_file(config, &n), "quant"));
    }
}

/* Written again, every tensor has the bytes that it had, and the config says the same. */
static void written_folders_are_the_same(void **state)
{
    static const struct {
        const char *name, *method;
        model_packed_cfg cfg;
    } cases[] = {
        {"llama_4", "gptq", {.bits = 4, .group_size = 16, .sym = true}},
        {"mistral_2", "gptq", {.bits = 2, .group_size = 32, .desc_act = true}},
        {"qwen3_4", "gptq", {.bits = 4, .group_size = 32, .desc_act = true, .v2 = true}},
        {"llama_awq", "awq", {.bits = 4, .group_size = 32, .zero_point = true}},
        {"qwen2_awq", "awq", {.bits = 4, .group_size = 16, .zero_point = true}},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const char *golden = folder_path(cases[i].name), *folder = test_path(cases[i].name);
        const model_quant *quant = model_quant_by_method(cases[i].method);
        arena *mem = NULL;
        model *m = NULL;
        st_file ours = {0}, theirs = {0};
        assert_ok(model_open(&m, &(model_options){.path = golden}));
        assert_ok(model_save(m, folder,
                             &(model_save_options){.quant = quant, .quant_cfg = &cases[i].cfg}));
        model_close(m);
        assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
        test_open_tensors(folder, &ours, mem);
        test_open_tensors(golden, &theirs, mem);
        assert_int_equal(ours.n, theirs.n);
        for (int64_t k = 0; k < theirs.n; k++) {
            const io_tensor *a = &theirs.tensor[k], *b = st_find(&ours, a->name);
            assert_true(b && a->nd == b->nd);
            assert_memory_equal(a->dim, b->dim, (size_t)a->nd * sizeof *a->dim);
            if (!strstr(a->name, ".q") && !strstr(a->name, "scales") && !strstr(a->name, "g_idx"))
                continue;
            assert_int_equal(a->bytes, b->bytes);
            if (memcmp(a->data, b->data, a->bytes) != 0) fail_msg("%s", a->name);
        }
        same_logits(&(model_options){.path = golden}, &(model_options){.path = folder}, 0);
        st_close(&ours);
        st_close(&theirs);
        arena_close(mem);
    }
}

/* The worked examples of the formats. */
static void examples(void **state)
{
    static const uint32_t columns[] = {0x52fc9630, 0xa741eb85, 0xfc9630da, 0x41eb852f,
                                       0x9630da74, 0xeb852fc9, 0x30da741e, 0x852fc963};
    static const uint8_t zeros[] = {8, 7, 8, 9, 8, 8, 3, 15};
    static const struct {
        const char *method;
        bool v2;
        uint32_t zeros;
    } cases[] = {
        {"gptq", false, 0xe2778767}, {"gptq", true, 0xf3889878}, {"awq", true, 0xf8973888}};
    uint8_t q[64];
    uint16_t scale[8];
    arena *mem = NULL;
    (void)state;
    assert_ok(arena_open(&mem, "t", (size_t)1 << 20));
    for (int o = 0; o < 8; o++) {
        scale[o] = 0x3c00;
        for (int i = 0; i < 8; i++) q[o * 8 + i] = (uint8_t)((3 * i + 5 * o) % 16);
    }
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const model_quant_writer *w = model_quant_by_method(cases[i].method)->writer;
        const model_packed_cfg cfg = {.bits = 4, .group_size = -1, .v2 = cases[i].v2};
        const model_codes codes = {.bits = 4,
                                   .out = 8,
                                   .in = 8,
                                   .groups = 1,
                                   .q = q,
                                   .scale = scale,
                                   .zero = zeros,
                                   .size = 8};
        model_quant_part part[MODEL_QUANT_PARTS];
        const void *words, *zero;
        tn_tensor t, out;
        assert_ok(model_packed_tensor(&t, &codes, mem));
        assert_ok(w->code(&cfg, &dt_f16, &t, false, "x", 8, 8, mem, &out));
        assert_int_equal(w->parts(&cfg, &dt_f16, 8, 8, part), i < 2 ? 4 : 3);
        assert_ok(w->data(&out, 0, mem, &words));
        assert_ok(w->data(&out, 1, mem, &zero));
        assert_memory_equal(zero, &cases[i].zeros, sizeof cases[i].zeros);
        if (i < 2)
            assert_memory_equal(words, columns, sizeof columns);
        else
            assert_int_equal(((const uint32_t *)words)[0],
                             0x39f5e4a0); /* 0, 5, 10, 15, 4, 9, 14, 3 */
    }
    arena_close(mem);
}

static void sizes_are_refused(void **state)
{
    const model_quant *gptq = model_quant_by_method("gptq"), *awq = model_quant_by_method("awq");
    const model_packed_cfg four = {.bits = 4, .group_size = 16},
                           three = {.bits = 3, .group_size = -1};
    (void)state;
    assert_ok(model_packed_fits(gptq, &four, "x", 8, 32));
    assert_fails(model_packed_fits(gptq, &four, "a.b", 8, 40), FT_EDATA,
                 "\"a.b\": its 40 inputs are no multiple of group_size 16");
    assert_fails(model_packed_fits(gptq, &four, "a.b", 12, 32), FT_EDATA, "must fill words of 32");
    assert_fails(model_packed_fits(gptq, &three, "a.b", 32, 48), FT_EDATA, "must fill words of 32");
    assert_fails(model_packed_fits(awq, &four, "a.b", 12, 32), FT_EDATA, "a multiple of 8");
}

/* --- folders that are wrong ------------------------------------------------------------------------------------------- */

typedef struct change {
    const char *folder, *tensor; /* end of a name of layer 1's up_proj */
    enum { DROPPED, CUT, INDEX, TYPE, BIAS } what;
    const char *message, *from, *to; /* of config.json, NULL: as it is */
} change;

/* config.json of a folder of goldens, with a piece of its text changed. */
static void copy_config(const char *folder, const char *name, const char *from, const char *to)
{
    char path[600], copy[600];
    snprintf(path, sizeof path, "%s/config.json", folder_path(name));
    snprintf(copy, sizeof copy, "%s/config.json", folder);
    test_change_text(path, copy, from, to);
}

static ft_status open_changed(const change *c)
{
    const char *folder = test_path("changed");
    char path[600];
    arena *mem = NULL;
    st_file f = {0};
    model *m = NULL;
    int64_t n = 0;
    static const int32_t ones[64] = {1, 1, 1, 99};
    assert_ok(dir_make(folder));
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    test_open_tensors(folder_path(c->folder), &f, mem);
    st_decl *decl = test_alloc((size_t)(f.n + 1) * sizeof *decl);
    const void **data = test_alloc((size_t)(f.n + 1) * sizeof *data);
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        const bool it = strstr(t->name, "layers.1.mlp.up_proj") && str_ends(t->name, c->tensor);
        decl[n] = (st_decl){.name = t->name, .type = t->type, .nd = t->nd};
        memcpy(decl[n].dim, t->dim, sizeof decl[n].dim);
        data[n] = it && c->what == INDEX ? ones : t->data;
        if (it && c->what == DROPPED) continue;
        if (it && c->what == CUT) decl[n].dim[0]--;
        if (it && c->what == TYPE) decl[n].type = dt_by_name("u32");
        n++;
    }
    if (c->what == BIAS) {
        decl[n] = (st_decl){.name = "model.layers.1.mlp.up_proj.bias", .type = &dt_f16, .nd = 1};
        decl[n].dim[0] = 64;
        data[n++] = c->message ? (const void *)ones : test_alloc(128);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(st_write_all(path, decl, data, n, NULL, 0));
    copy_config(folder, c->folder, c->from ? c->from : "", c->from ? c->to : "");
    st_close(&f);
    arena_close(mem);
    ft_status rc = model_open(&m, &(model_options){.path = folder});
    model_close(m);
    return rc;
}

static void wrong_folders_are_refused(void **state)
{
    static const change cases[] = {
        {"llama_4", ".scales", DROPPED, .message = "up_proj.scales\" is missing"},
        {"llama_4", ".qweight", DROPPED, .message = "up_proj.qweight\" is missing"},
        {"llama_4", ".qzeros", DROPPED, .message = "up_proj.qzeros\" is missing"},
        {"llama_4", ".qweight", CUT,
         .message = "up_proj.qweight\": its shape does not fit the config, by which it is [4, 64]"},
        {"llama_4", ".qzeros", CUT, .message = "it is [2, 8]"},
        {"llama_4", ".scales", CUT, .message = "it is [2, 64]"},
        {"llama_4", ".g_idx", CUT, .message = "it is [32]"},
        {"llama_4", ".g_idx", INDEX,
         .message = "up_proj.g_idx\": [3] is 99, which is none of the 2 groups"},
        {"llama_4", ".qweight", TYPE, .message = "dtype u32 must be i32"},
        {"llama_4", "", BIAS, .message = "up_proj.bias\": a layer of this family has no bias"},
        {"llama_4", ".g_idx", DROPPED, .message = "up_proj.g_idx\" is missing",
         .from = "act\": false", .to = "act\": true"},
        {"llama_awq", ".scales", DROPPED, .message = "up_proj.scales\" is missing"},
        {"llama_awq", ".qweight", CUT, .message = "it is [32, 8]"},
    };
    static const change read[] = {
        {"llama_4", "nothing", .what = DROPPED},
        {"llama_4", ".g_idx", .what = DROPPED},
        {"llama_4", ".g_idx", DROPPED, NULL, "act\": false",
         "act\": true, \"static_groups\": true"},
        {"qwen3_4", ".g_idx", .what = DROPPED}, /* desc_act, and a group of all inputs */
        {"llama_4", "", .what = BIAS},          /* zeros */
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++)
        assert_fails(open_changed(&cases[i]), FT_EDATA, cases[i].message);
    for (size_t i = 0; i < FT_COUNT_OF(read); i++) assert_ok(open_changed(&read[i]));
}

/* Keys of quantization_config: what cannot be honoured is refused by its name. */
static void keys_are_honoured_or_refused(void **state)
{
    static const struct {
        const char *folder, *from, *to, *message;
    } cases[] = {
        {"llama_4", "\"bits\": 4", "\"bits\": 5", "quantization_config.bits: must be 2, 3, 4 or 8"},
        {"llama_4", "\"bits\": 4,", "", "quantization_config.bits"},
        {"llama_4", "\"bits\": 4", "\"bits\": 8", "qweight\": its shape does not fit"},
        {"llama_4", "\"group_size\": 16", "\"group_size\": 0", "quantization_config.group_size"},
        {"llama_4", "\"group_size\": 16", "\"group_size\": 32", "its shape does not fit"},
        {"llama_4", "\"gptq\",\n  \"d", "\"marlin\",\n  \"d",
         "checkpoint_format \"marlin\" is not read"},
        {"llama_4", "\"bits\"", "\"dynamic\": {\"+:x\": {\"bits\": 8}}, \"bits\"", "dynamic"},
        {"llama_4", "\"bits\"", "\"version\": \"gptq_p\", \"format\": \"x\", \"bits\"", NULL},
        {"qwen3_4", "\"format\": \"gptq_v2\"", "\"format\": \"bitblas\"", "format \"bitblas\""},
        {"llama_awq", "\"gemm\"", "\"gemv\"", "version \"gemv\" is not read"},
        {"llama_awq", "\"gemm\"", "\"GEMM\"", NULL},
        {"llama_awq", "\"bits\": 4", "\"bits\": 3", "quantization_config.bits: must be 4"},
    };
    const char *folder = test_path("keys");
    char path[600], from[600];
    (void)state;
    assert_ok(dir_make(folder));
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        model *m = NULL;
        snprintf(from, sizeof from, "%s/model.safetensors", folder_path(cases[i].folder));
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        assert_ok(file_copy(from, path));
        copy_config(folder, cases[i].folder, cases[i].from, cases[i].to);
        if (cases[i].message)
            assert_fails(model_open(&m, &(model_options){.path = folder}), FT_EDATA,
                         cases[i].message);
        else
            assert_ok(model_open(&m, &(model_options){.path = folder}));
        model_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(all_levels_read_the_same),
        cmocka_unit_test(folders_open),
    };
    const struct CMUnitTest once[] = {
        cmocka_unit_test(codes_are_put_anywhere),
        cmocka_unit_test(they_become_plain_models),
        cmocka_unit_test(written_folders_are_the_same),
        cmocka_unit_test(examples),
        cmocka_unit_test(sizes_are_refused),
        cmocka_unit_test(wrong_folders_are_refused),
        cmocka_unit_test(keys_are_honoured_or_refused),
    };
    int failed = 0;
    for (int i = 0; kern_level_at(i); i++) {
        if (kern_use(kern_level_at(i)->name, kern_level_at(i)->name) != FT_OK) continue;
        failed += cmocka_run_group_tests(all, NULL, NULL);
    }
    return failed + cmocka_run_group_tests(once, NULL, NULL);
}
