/* test_open.c – what is wrong with a model's weights is told by file and tensor: missing ones, empty ones as ZeRO-3 leaves
 * them, those of another shape; and every parameter knows the file it came from. */
#include "golden.h"
#include "support.h"

enum { KEEP, LEAVE_OUT, EMPTY, CUT };

/* The golden llama in two shards, split in the middle; one tensor is changed. */
static const char *sharded(const char *name, const char *tensor, int how)
{
    const char *folder = test_path(name);
    st_file f;
    size_t n_text;
    str_buf index = {0};
    assert_ok(dir_make(folder));
    char *config =
        test_read_file(path_join(test_mem, golden_model("llama"), "config.json"), &n_text);
    test_write_file(path_join(test_mem, folder, "config.json"), config, n_text);
    assert_ok(
        st_open(&f, path_join(test_mem, golden_model("llama"), "model.safetensors"), test_mem));
    st_decl *decl = test_alloc((size_t)f.n * sizeof *decl);
    const void **data = test_alloc((size_t)f.n * sizeof *data);
    str_adds(&index, "{\"metadata\":{},\"weight_map\":{");
    for (int s = 0; s < 2; s++) {
        int64_t n = 0;
        for (int64_t i = s * f.n / 2; i < (s + 1) * f.n / 2; i++) {
            const io_tensor *t = &f.tensor[i];
            bool changed = strcmp(t->name, tensor) == 0;
            if (changed && how == LEAVE_OUT) continue;
            decl[n] = (st_decl){.name = t->name, .type = t->type, .nd = t->nd};
            memcpy(decl[n].dim, t->dim, sizeof t->dim);
            if (changed && how == EMPTY) decl[n].nd = 1, decl[n].dim[0] = 0;
            if (changed && how == CUT) decl[n].dim[0]--;
            data[n++] = t->data;
            str_printf(&index, "%s\"%s\":\"s%d.safetensors\"", s || n > 1 ? "," : "", t->name, s);
        }
        const char *path = path_join(test_mem, folder, s ? "s1.safetensors" : "s0.safetensors");
        assert_ok(st_write_all(path, decl, data, n, NULL, 0));
    }
    str_adds(&index, "}}");
    test_write_file(path_join(test_mem, folder, "model.safetensors.index.json"), index.data,
                    index.len);
    str_free(&index);
    st_close(&f);
    return folder;
}

#define WEIGHT "model.layers.1.mlp.up_proj.weight"

static void faults_are_told_by_file_and_tensor(void **state)
{
    (void)state;
    static const struct {
        int how;
        const char *text[3];
    } cases[] = {
        {LEAVE_OUT, {"faulty", WEIGHT, "1 tensors are missing"}},
        {EMPTY, {".safetensors: tensor \"" WEIGHT "\" is empty", "ZeRO-3", "faulty/s"}},
        {CUT, {".safetensors: tensor \"" WEIGHT "\": shape [20, 32]", "[21, 32]", "faulty/s"}},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        model *m = NULL;
        const char *folder = sharded("faulty", WEIGHT, cases[i].how);
        for (int k = 0; k < 3; k++)
            assert_fails(model_open(&m, &(model_options){.path = folder}), FT_EDATA,
                         cases[i].text[k]);
    }
}

static void parameters_know_their_file(void **state)
{
    (void)state;
    model *m = NULL;
    int seen[2] = {0};
    const char *folder = sharded("whole", WEIGHT, KEEP);
    assert_ok(model_open(&m, &(model_options){.path = folder}));
    for (int64_t i = 0; i < m->n_param; i++) {
        const char *file = model_param_file(m, i);
        assert_true(str_starts(file, folder));
        seen[0] += str_ends(file, "/s0.safetensors");
        seen[1] += str_ends(file, "/s1.safetensors");
    }
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[0] + seen[1] == m->n_param);
    model_close(m);
    const char *config = path_join(test_mem, folder, "config.json");
    assert_ok(model_open(&m, &(model_options){.from_config = config}));
    assert_string_equal(model_param_file(m, 0), config);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_are_told_by_file_and_tensor),
        cmocka_unit_test(parameters_know_their_file),
    };
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
