/* test_bnb.c – nf4 and fp4 against bitsandbytes (tests/golden/bnb, made by scripts/make_golden_bnb.py): codes, scales and
 * values to the bit, folders that it quantised, a base quantised on loading, and folders that are wrong. */
#include "golden.h"
#include "support.h"

#include "../src/kernel/kern.h"
#include "../src/model/quant_bnb.h"
#include "ft/kernel.h"

static void same_bytes(const void *a, const io_tensor *t, size_t bytes, const char *what)
{
    assert_int_equal(t->bytes, bytes);
    if (memcmp(a, t->data, bytes) == 0) return;
    print_error("%s: other bytes than bitsandbytes'\n", what);
    fail();
}

/* --- codes, scales and values ---------------------------------------------------------------------------------- */
typedef struct golden_case {
    char dtype[8], kind[8];
    int block;
    long n;
} golden_case;

static bool read_case(const char *name, golden_case *c)
{
    return str_ends(name, ".codes") &&
           sscanf(name, "%7[^.].%7[^.].%d.%ld", c->dtype, c->kind, &c->block, &c->n) == 4;
}

static const io_tensor *part(const st_file *f, const io_tensor *t, const char *suffix)
{
    char name[128];
    snprintf(name, sizeof name, "%.*s.%s", (int)(strlen(t->name) - strlen(".codes")), t->name,
             suffix);
    return golden_tensor(f, name);
}

static void codes_and_values_are_bitsandbytes(void **state)
{
    const st_file *f = golden_open("bnb/codes.safetensors");
    arena *mem = NULL;
    int cases = 0;
    (void)state;
    assert_ok(arena_open(&mem, "t", (size_t)64 << 20));
    for (int64_t i = 0; i < f->n; i++) {
        golden_case c;
        char name[32];
        if (!read_case(f->tensor[i].name, &c)) continue;
        snprintf(name, sizeof name, "%s.x", c.dtype);
        const io_tensor *x = golden_tensor(f, name);
        const bnb_cfg cfg = {.block_size = c.block};
        const tn_tensor src = {
            .type = x->type, .nd = 2, .dim = {1, c.n}, .data = (void *)(uintptr_t)x->data};
        tn_tensor out;
        assert_ok(bnb_quantise(&cfg, dt_by_name(c.kind), x->type, &src, false, "x", 1, c.n, mem,
                               mem, &out));
        const dt_bnb *b = out.side;
        same_bytes(out.data, &f->tensor[i], (size_t)(c.n + 1) / 2, f->tensor[i].name);
        same_bytes(b->absmax, part(f, &f->tensor[i], "absmax"), (size_t)b->blocks * 4,
                   f->tensor[i].name);
        float *values = test_alloc((size_t)c.n * sizeof *values);
        tn_unpack_rows(values, &out, 0, 1);
        same_bytes(values, part(f, &f->tensor[i], "values"), (size_t)c.n * 4, f->tensor[i].name);
        cases++;
    }
    assert_int_equal(cases, 26);
    arena_close(mem);
}

static void the_map_is_bitsandbytes(void **state)
{
    const st_file *f = golden_open("bnb/codes.safetensors");
    float map[256];
    (void)state;
    dt_dynamic_map(true, map);
    same_bytes(map, golden_tensor(f, "map.signed"), sizeof map, "signed map");
    dt_dynamic_map(false, map);
    same_bytes(map, golden_tensor(f, "map.unsigned"), sizeof map, "unsigned map");
}

/* Blocks of a matrix with the golden absmax: its scales are quantised as the golden ones, and read back so. */
static void scales_of_scales(void **state)
{
    enum { BLOCKS = 519, BLOCK = 32 };
    const st_file *f = golden_open("bnb/codes.safetensors");
    const float *absmax = golden_f32(f, "nested.absmax", BLOCKS);
    const float *offset = golden_f32(f, "nested.offset", 1);
    float *x = test_uniform(3, BLOCKS * BLOCK, -1, 1), *read = test_alloc(BLOCKS * sizeof *read);
    arena *mem = NULL;
    tn_tensor out;
    (void)state;
    assert_ok(arena_open(&mem, "t", (size_t)64 << 20));
    for (int i = 0; i < BLOCKS; i++) {
        for (int k = 0; k < BLOCK; k++) x[i * BLOCK + k] *= absmax[i];
        x[i * BLOCK] = absmax[i];
    }
    const bnb_cfg cfg = {.double_quant = true, .block_size = BLOCK};
    const tn_tensor src = {.type = &dt_f32, .nd = 2, .dim = {BLOCKS, BLOCK}, .data = x};
    assert_ok(bnb_quantise(&cfg, dt_by_name("nf4"), &dt_f32, &src, false, "x", BLOCKS, BLOCK, mem,
                           mem, &out));
    const dt_bnb *b = out.side;
    assert_memory_equal(&b->offset, offset, sizeof *offset);
    same_bytes(b->coded, golden_tensor(f, "nested.codes"), BLOCKS, "codes of scales");
    same_bytes(b->nested, golden_tensor(f, "nested.scales"), 3 * sizeof(float), "scales of scales");
    for (int i = 0; i < BLOCKS; i++) read[i] = dt_bnb_absmax(b, i);
    same_bytes(read, golden_tensor(f, "nested.read"), BLOCKS * sizeof *read, "scales");
    assert_int_equal(out.type->side_bytes(b), BLOCKS + 3 * sizeof(float));
    arena_close(mem);
}

/* The worked example of the format: [1, 2] becomes codes 0 and 255 around 1.5. */
static void two_scales(void **state)
{
    float x[128] = {1};
    arena *mem = NULL;
    tn_tensor out;
    (void)state;
    assert_ok(arena_open(&mem, "t", (size_t)1 << 20));
    x[64] = 2;
    const bnb_cfg cfg = {.double_quant = true, .block_size = 64};
    const tn_tensor src = {.type = &dt_f32, .nd = 2, .dim = {2, 64}, .data = x};
    assert_ok(
        bnb_quantise(&cfg, dt_by_name("nf4"), &dt_f32, &src, false, "x", 2, 64, mem, mem, &out));
    const dt_bnb *b = out.side;
    assert_true(b->offset == 1.5f && b->nested[0] == 0.5f && b->coded[0] == 0 &&
                b->coded[1] == 255);
    assert_true(fabsf(dt_bnb_absmax(b, 0) - 1.00351563f) < 1e-8f && dt_bnb_absmax(b, 1) == 2.0f);
    x[3] = NAN;
    assert_fails(
        bnb_quantise(&cfg, dt_by_name("nf4"), &dt_f32, &src, false, "x", 2, 64, mem, mem, &out),
        FT_EDATA, "\"x\" has a value that is no finite number");
    arena_close(mem);
}

/* A few rows times the codes are those rows times the floats that the codes mean, to the bit. */
static void multiplied_as_floats(const kn_mat *mat, const float *values)
{
    enum { M = 3 };
    const kn_mat floats = {.type = &dt_f32, .data = values, .rows = mat->rows, .cols = mat->cols};
    float *x = test_uniform(77, M * mat->cols, -1, 1);
    float *y = test_alloc((size_t)(M * mat->rows) * sizeof *y),
          *want = test_alloc((size_t)(M * mat->rows) * sizeof *want);
    kn_gemv(y, mat->rows, x, mat->cols, mat, M, NULL);
    kn_gemv(want, mat->rows, x, mat->cols, &floats, M, NULL);
    assert_memory_equal(y, want, (size_t)(M * mat->rows) * sizeof *y);
}

/* Every level reads any piece of a row, wherever its blocks begin, as the plain loop does; a transpose is coded as what
 * it is. */
static void all_levels_read_the_same(void **state)
{
    static const struct {
        int64_t rows, cols;
        int block;
        bool nested;
        const dt_type *dtype;
    } shapes[] = {{41, 37, 64, true, &dt_f32},     {7, 701, 64, false, &dt_bf16},
                  {130, 129, 32, true, &dt_f16},   {3, 65, 128, false, &dt_f32},
                  {33, 300, 4096, true, &dt_bf16}, {1, 1, 64, true, &dt_f32},
                  {21, 576, 64, true, &dt_bf16},   {9, 4192, 64, true, &dt_f32},
                  {9, 96, 128, false, &dt_f16},    {3, 8192, 4096, true, &dt_f32}};
    arena *mem = NULL;
    (void)state;
    assert_ok(arena_open(&mem, "t", (size_t)64 << 20));
    for (size_t i = 0; i < FT_COUNT_OF(shapes); i++) {
        const int64_t rows = shapes[i].rows, cols = shapes[i].cols, n = rows * cols;
        float *x = test_uniform(i, n, -3, 3), *t = test_alloc((size_t)n * sizeof *t);
        float *all = test_alloc((size_t)n * sizeof *all), *got = test_alloc((size_t)n * 4);
        const bnb_cfg cfg = {.double_quant = shapes[i].nested, .block_size = shapes[i].block};
        const dt_type *type = dt_by_name(i % 2 ? "fp4" : "nf4");
        const tn_tensor src = {.type = &dt_f32, .nd = 2, .dim = {rows, cols}, .data = x};
        tn_tensor coded, turned;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < cols; c++) t[c * rows + r] = x[r * cols + c];
        const tn_tensor other = {.type = &dt_f32, .nd = 2, .dim = {cols, rows}, .data = t};
        assert_ok(bnb_quantise(&cfg, type, shapes[i].dtype, &src, false, "x", rows, cols, mem, mem,
                               &coded));
        assert_ok(bnb_quantise(&cfg, type, shapes[i].dtype, &other, true, "x", rows, cols, mem, mem,
                               &turned));
        assert_memory_equal(coded.data, turned.data, (size_t)(n + 1) / 2);
        tn_unpack_rows(all, &coded, 0, rows);
        const kn_mat mat = {
            .type = type, .data = coded.data, .side = coded.side, .rows = rows, .cols = cols};
        kern_src s;
        multiplied_as_floats(&mat, all);
        kern_src_of(&s, &mat);
        for (uint64_t k = 0; k < 300; k++) {
            const int64_t row = (int64_t)(test_u64(9, 3 * k) % (uint64_t)rows);
            const int64_t from = (int64_t)(test_u64(9, 3 * k + 1) % (uint64_t)cols);
            const int64_t take = (int64_t)(test_u64(9, 3 * k + 2) % (uint64_t)(cols - from + 1));
            kern_src_values(&s, got, row, from, take);
            if (memcmp(got, all + row * cols + from, (size_t)take * sizeof *got) == 0) continue;
            print_error("%s, shape %zu: row %lld from %lld, %lld values\n", kern->name, i,
                        (long long)row, (long long)from, (long long)take);
            fail();
        }
    }
    arena_close(mem);
}

/* --- folders ------------------------------------------------------------------------------------------------------- */
static const char *const folders[] = {"llama_nf4", "gpt2_fp4", "qwen2_nf4"};

static const char *folder_path(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "bnb/%s", name);
    return golden_path(path);
}

static void folders_of_transformers_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(folders); i++) {
        char path[128];
        model *m = NULL;
        assert_ok(model_open(&m, &(model_options){.path = folder_path(folders[i])}));
        snprintf(path, sizeof path, "bnb/%s/golden.safetensors", folders[i]);
        const st_file *f = golden_open(path);
        const nn_param *p = golden_last_down(m);
        const int64_t n = tn_count(&p->t);
        float *values = test_alloc((size_t)n * sizeof *values), *got = golden_first_logits(m);
        tn_unpack_rows(values, &p->t, 0, p->t.dim[0]);
        same_bytes(values, golden_tensor(f, "values"), (size_t)n * sizeof *values, folders[i]);
        const int64_t k = 12 * m->d.vocab_size;
        assert_true(rel_l2(got, golden_f32(f, "logits", k), k) < 2e-6);
        assert_true(m->has_blocks && strlen(p->t.type->name) == 3);
        model_close(m);
    }
}

/* Written as floats it is another model with the same numbers; as a GGUF too. */
static void they_become_plain_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(folders); i++) {
        model *m = NULL;
        char name[64];
        size_t n;
        const model_options coded = {.path = folder_path(folders[i])};
        snprintf(name, sizeof name, "plain-%s", folders[i]);
        const char *folder = test_path(name), *gguf = test_path(strcat(name, ".gguf"));
        assert_ok(model_open(&m, &coded));
        assert_ok(model_save(m, folder, &(model_save_options){.type = &dt_f32}));
        assert_ok(model_save(m, gguf, &(model_save_options){.type = &dt_f32}));
        model_close(m);
        same_logits(&coded, &(model_options){.path = folder}, 0);
        same_logits(&coded, &(model_options){.path = gguf}, 0);
        char config[600];
        snprintf(config, sizeof config, "%s/config.json", folder);
        assert_null(strstr(test_read_file(config, &n), "quant"));
    }
}

/* The base of a golden folder quantised by ourselves: the codes of bitsandbytes, and its scales where they are plain. */
static void a_base_is_quantised_on_load(void **state)
{
    static const struct {
        const char *family, *folder, *type;
        const dt_type *dtype;
        bool nested;
    } cases[] = {{"llama", "llama_nf4", "nf4", &dt_f32, true},
                 {"gpt2", "gpt2_fp4", "fp4", &dt_bf16, false},
                 {"qwen2", "qwen2_nf4", "nf4", &dt_f16, true}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        model *plain = NULL, *made = NULL, *golden = NULL;
        char name[64];
        snprintf(name, sizeof name, "source-%s", cases[i].family);
        const char *source = test_path(name);
        assert_ok(model_open(&plain, &(model_options){.path = golden_model(cases[i].family)}));
        assert_ok(model_save(plain, source, &(model_save_options){.type = cases[i].dtype}));
        model_close(plain);
        const bnb_cfg cfg = {.double_quant = cases[i].nested, .block_size = 64};
        assert_ok(model_open(&golden, &(model_options){.path = folder_path(cases[i].folder)}));
        assert_ok(model_open(&made, &(model_options){.path = source,
                                                     .make = model_quant_by_type(cases[i].type),
                                                     .make_cfg = &cfg}));
        int coded = 0;
        for (int64_t k = 0; k < made->n_param; k++) {
            const tn_tensor *a = &made->param[k].t, *b = &golden->param[k].t;
            assert_ptr_equal(a->type, b->type);
            if (!a->side) continue;
            const dt_bnb *x = a->side, *y = b->side;
            assert_true(a->dim[0] == b->dim[0] && x->blocks == y->blocks);
            assert_memory_equal(a->data, b->data, (size_t)(tn_count(a) + 1) / 2);
            for (int64_t j = 0; j < x->blocks; j++) {
                float p = dt_bnb_absmax(x, j), q = dt_bnb_absmax(y, j);
                assert_true(cases[i].nested ? fabsf(p - q) < 0.02f * q : p == q);
            }
            coded++;
        }
        assert_int_equal(coded, strcmp(cases[i].family, "gpt2") == 0 ? 8 : 14);
        assert_true(model_bytes(made) < model_bytes(golden) + 64);
        model_close(made);
        /* blocks that are there stay */
        assert_ok(model_open(&made, &(model_options){.path = folder_path(cases[i].folder),
                                                     .make = model_quant_by_type("fp4"),
                                                     .make_cfg = &cfg}));
        assert_ptr_equal(golden_last_down(made)->t.type, golden_last_down(golden)->t.type);
        model_close(made);
        model_close(golden);
    }
}

/* --- writing ------------------------------------------------------------------------------------------------------ */
static void save_coded(const model_options *from, const char *type, bnb_cfg cfg, const char *to)
{
    model *m = NULL;
    assert_ok(model_open(&m, from));
    assert_ok(model_save(
        m, to, &(model_save_options){.quant = model_quant_by_type(type), .quant_cfg = &cfg}));
    model_close(m);
}

/* What transformers and bitsandbytes write of the same weights: every tensor, to the byte; with codes of eight bits all
 * but those. */
static void written_folders_are_those_of_transformers(void **state)
{
    static const struct {
        const char *family, *folder, *type;
        const dt_type *dtype;
        bool nested;
    } cases[] = {{"gpt2", "gpt2_fp4", "fp4", &dt_bf16, false},
                 {"llama", "llama_nf4", "nf4", &dt_f32, true}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const char *source = test_path("as-it-was"), *folder = test_path("coded");
        arena *mem = NULL;
        model *plain = NULL;
        st_file ours = {0}, golden = {0};
        assert_ok(dir_remove(source));
        assert_ok(model_open(&plain, &(model_options){.path = golden_model(cases[i].family)}));
        assert_ok(model_save(plain, source, &(model_save_options){.type = cases[i].dtype}));
        model_close(plain);
        save_coded(&(model_options){.path = source}, cases[i].type,
                   (bnb_cfg){.double_quant = cases[i].nested, .block_size = 64}, folder);
        assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
        test_open_tensors(folder, &ours, mem);
        test_open_tensors(folder_path(cases[i].folder), &golden, mem);
        assert_int_equal(ours.n, golden.n);
        for (int64_t k = 0; k < golden.n; k++) {
            const io_tensor *a = &golden.tensor[k], *b = st_find(&ours, a->name);
            assert_non_null(b);
            assert_true(a->type == b->type && a->nd == b->nd);
            const bool eight =
                cases[i].nested && (strstr(a->name, "absmax") || strstr(a->name, "quant_state"));
            if (eight) continue;
            assert_memory_equal(a->dim, b->dim, (size_t)a->nd * sizeof *a->dim);
            assert_int_equal(a->bytes, b->bytes);
            if (memcmp(a->data, b->data, a->bytes) != 0) print_error("%s\n", a->name);
            assert_memory_equal(a->data, b->data, a->bytes);
        }
        st_close(&ours);
        st_close(&golden);
        arena_close(mem);
    }
}

/* Read back it is the base quantised on loading, with its values cast to what they were; written again, the same file. */
static void written_folders_open(void **state)
{
    static const char *const families[] = {"llama", "gpt2", "qwen2"};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(families); i++) {
        const char *folder = test_path("once"), *again = test_path("twice");
        const bnb_cfg cfg = {.double_quant = i != 1, .block_size = i == 2 ? 128 : 64};
        const model_options plain = {.path = golden_model(families[i])};
        const model_options made = {
            .path = plain.path, .make = model_quant_by_type("nf4"), .make_cfg = &cfg};
        size_t n, k;
        char a[600], b[600];
        save_coded(&plain, "nf4", cfg, folder);
        same_logits(&(model_options){.path = folder}, &made, 0);
        save_coded(&(model_options){.path = folder}, "nf4", cfg, again);
        snprintf(a, sizeof a, "%s/model.safetensors", folder);
        snprintf(b, sizeof b, "%s/model.safetensors", again);
        const char *x = test_read_file(a, &n), *y = test_read_file(b, &k);
        assert_true(n == k && memcmp(x, y, n) == 0);
        snprintf(a, sizeof a, "%s/config.json", folder);
        assert_non_null(strstr(test_read_file(a, &n), "\"quant_method\": \"bitsandbytes\""));
        snprintf(b, sizeof b, "%s/config.json", again);
        assert_string_equal(test_read_file(a, &n), test_read_file(b, &n));
    }
    model *m = NULL;
    const bnb_cfg cfg = {.block_size = 64};
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    assert_fails(
        model_save(m, test_path("no.gguf"),
                   &(model_save_options){.quant = model_quant_by_type("nf4"), .quant_cfg = &cfg}),
        FT_EUSAGE, "type nf4 has no place in a .gguf");
    model_close(m);
}

/* Of a base in bf16 or f16 the codes and scales on loading are those of the folder that `convert` writes; its values are not,
 * where they are no numbers of the base's dtype: those of the folder are rounded to it. */
static void a_folder_rounds_what_loading_does_not(void **state)
{
    static const dt_type *const types[] = {&dt_f32, &dt_bf16, &dt_f16};
    const bnb_cfg cfg = {.double_quant = true, .block_size = 64};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(types); i++) {
        model *m, *loaded, *folder;
        const char *source = test_path(types[i]->name), *coded = test_path("coded");
        int64_t differ = 0;
        assert_ok(model_open(&m, &(model_options){.path = golden_model("qwen2")}));
        assert_ok(model_save(m, source, &(model_save_options){.type = types[i]}));
        model_close(m);
        const model_options load = {
            .path = source, .make = model_quant_by_type("nf4"), .make_cfg = &cfg};
        save_coded(&(model_options){.path = source}, "nf4", cfg, coded);
        assert_ok(model_open(&loaded, &load));
        assert_ok(model_open(&folder, &(model_options){.path = coded}));
        for (int64_t k = 0; k < loaded->n_param; k++) {
            const tn_tensor *a = &loaded->param[k].t, *b = &folder->param[k].t;
            if (!a->side) continue;
            const dt_bnb *x = a->side, *y = b->side;
            assert_memory_equal(a->data, b->data, (size_t)(tn_count(a) + 1) / 2);
            assert_memory_equal(x->coded, y->coded, (size_t)x->blocks);
            assert_true(x->offset == y->offset);
            for (int64_t row = 0; row < tn_rows(a); row++) {
                float p[512], q[512], rounded[512];
                uint8_t packed[512 * sizeof(float)];
                assert_true(tn_cols(a) <= 512);
                tn_unpack_rows(p, a, row, 1);
                tn_unpack_rows(q, b, row, 1);
                types[i]->pack(packed, p, tn_cols(a));
                types[i]->unpack(rounded, packed, tn_cols(a));
                assert_memory_equal(q, rounded, (size_t)tn_cols(a) * sizeof *q);
                for (int64_t c = 0; c < tn_cols(a); c++) differ += p[c] != q[c];
            }
        }
        assert_true(types[i] == &dt_f32 ? differ == 0 : differ > 0);
        model_close(loaded);
        model_close(folder);
    }
}

/* --- folders that are wrong ------------------------------------------------------------------------------------------- */
/* The llama folder with one change: a tensor that is dropped, or cut, or has other text. */
typedef struct change {
    const char *tensor;    /* end of its name */
    const char *from, *to; /* in its bytes; NULL: it is left out */
    int64_t cut;           /* elements fewer in its first dimension */
    const char *message;
} change;

static ft_status open_changed(const change *c)
{
    const char *folder = test_path("changed");
    char path[600];
    arena *mem = NULL;
    st_file f = {0};
    model *m = NULL;
    assert_ok(dir_make(folder));
    assert_ok(arena_open(&mem, "t", (size_t)16 << 20));
    snprintf(path, sizeof path, "%s/model.safetensors", folder_path("llama_nf4"));
    assert_ok(st_open(&f, path, mem));
    st_decl *decl = test_alloc((size_t)f.n * sizeof *decl);
    const void **data = test_alloc((size_t)f.n * sizeof *data);
    int64_t n = 0;
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        decl[n] = (st_decl){.name = t->name, .type = t->type, .nd = t->nd};
        memcpy(decl[n].dim, t->dim, sizeof decl[n].dim);
        data[n] = t->data;
        if (strstr(t->name, "layers.1.mlp.up_proj") && str_ends(t->name, c->tensor)) {
            decl[n].dim[0] -= c->cut;
            if (!c->from && c->cut == 0) continue;
            if (c->from) {
                char *text = test_alloc(t->bytes + 64);
                memcpy(text, t->data, t->bytes);
                char *at = strstr(text, c->from), *rest = at + strlen(c->from);
                str_buf s = {0};
                assert_non_null(at);
                str_add(&s, text, (size_t)(at - text));
                str_adds(&s, c->to);
                str_adds(&s, rest);
                data[n] = memcpy(test_alloc(s.len + 1), s.data, s.len);
                decl[n].dim[0] = (int64_t)s.len;
                str_free(&s);
            }
        }
        n++;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(st_write_all(path, decl, data, n, NULL, 0));
    char config[600];
    snprintf(config, sizeof config, "%s/config.json", folder_path("llama_nf4"));
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_ok(file_copy(config, path));
    st_close(&f);
    arena_close(mem);
    ft_status rc = model_open(&m, &(model_options){.path = folder});
    model_close(m);
    return rc;
}

static void wrong_folders_are_refused(void **state)
{
    static const change cases[] = {
        {".absmax", NULL, NULL, 0, "up_proj.weight.absmax\" is missing"},
        {"weight.absmax", NULL, NULL, 1, "must have 11 values of type u8"},
        {".nested_absmax", NULL, NULL, 0, "must have 11 values of type f32"},
        {".nested_quant_map", NULL, NULL, 0, "nested_quant_map\" is missing"},
        {".quant_map", NULL, NULL, 2, "must have 16 values of type f32"},
        {"__nf4", NULL, NULL, 0, "holds codes, and its quant_state is missing"},
        {"up_proj.weight", NULL, NULL, 1, "has 335 bytes; 21 x 32 codes of four bits take 336"},
        {"up_proj.weight", NULL, NULL, 0, "up_proj.weight\" is missing"},
        {"__nf4", "[21, 32]", "[32, 21]", 0, "shape [32, 21] does not fit the config"},
        {"__nf4", "[21, 32]", "[21.5, 32]", 0, "shape: must be a list of two whole numbers"},
        {"__nf4", "[21, 32]", "[1e300, 32]", 0, "does not fit the config"},
        {"__nf4", "[21, 32]", "[21]", 0, "shape: must be a list of two numbers"},
        {"__nf4", "64", "48", 0, "blocksize: must be a power of two from 32 to 4096"},
        {"__nf4", "64", "8192", 0, "blocksize: must be a power of two"},
        {"__nf4", "\"nf4\"", "\"fp4\"", 0, "quant_type: is not the type in the tensor's name"},
        {"__nf4", "\"dtype\": \"float32\"", "\"dtype\": \"int8\"", 0, "dtype: must be float32"},
        {"__nf4", "\"nested_dtype\": \"float32\"", "\"nested_dtype\": \"float16\"", 0,
         "nested_dtype"},
        {"__nf4", "\"nested_offset\"", "\"offset_of\"", 0, "nested_offset must be numbers"},
        {"__nf4", "\"nested_blocksize\": 256", "\"nested_blocksize\": 0", 0, "nested_blocksize"},
        {"__nf4", "{\"", "{\"\"", 0, "1:"},
        {"__nf4", "}", "", 0, "1:"},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++)
        assert_fails(open_changed(&cases[i]), FT_EDATA, cases[i].message);
    assert_ok(open_changed(&(change){.tensor = "nothing"}));
}

/* Keys of quantization_config: what cannot be honoured is refused by its name. */
static void keys_are_honoured_or_refused(void **state)
{
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"\"load_in_8bit\": false", "\"load_in_8bit\": true", "load_in_8bit"},
        {"\"bnb_4bit_quant_type\": \"nf4\"", "\"bnb_4bit_quant_type\": \"int4\"",
         "bnb_4bit_quant_type: \"int4\" is not nf4 or fp4"},
        {"\"bnb_4bit_quant_type\": \"nf4\"", "\"bnb_4bit_quant_type\": \"fp4\"",
         "quant_type: is not bnb_4bit_quant_type of config.json"},
        {"load_in_4bit\": true", "load_in_4bit\": 4", "load_in_4bit"},
    };
    const char *folder = test_path("keys");
    char path[600], from[600];
    size_t n;
    (void)state;
    assert_ok(dir_make(folder));
    snprintf(from, sizeof from, "%s/model.safetensors", folder_path("llama_nf4"));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(file_copy(from, path));
    snprintf(from, sizeof from, "%s/config.json", folder_path("llama_nf4"));
    snprintf(path, sizeof path, "%s/config.json", folder);
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        model *m = NULL;
        str_buf s = {0};
        const char *text = test_read_file(from, &n), *at = strstr(text, cases[i].from);
        assert_non_null(at);
        str_add(&s, text, (size_t)(at - text));
        str_adds(&s, cases[i].to);
        str_adds(&s, at + strlen(cases[i].from));
        test_write_file(path, s.data, s.len);
        assert_fails(model_open(&m, &(model_options){.path = folder}), FT_EDATA, cases[i].message);
        str_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(codes_and_values_are_bitsandbytes),
        cmocka_unit_test(scales_of_scales),
        cmocka_unit_test(two_scales),
        cmocka_unit_test(all_levels_read_the_same),
        cmocka_unit_test(folders_of_transformers_open),
    };
    const struct CMUnitTest once[] = {
        cmocka_unit_test(the_map_is_bitsandbytes),
        cmocka_unit_test(they_become_plain_models),
        cmocka_unit_test(a_base_is_quantised_on_load),
        cmocka_unit_test(written_folders_are_those_of_transformers),
        cmocka_unit_test(a_folder_rounds_what_loading_does_not),
        cmocka_unit_test(written_folders_open),
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
