/* test_one_method.c – a method that is one file and one row: it trains from a config, resumes to the byte, keeps frozen what it
 * says is frozen, and leaves an adapter that the shipped LoRA reads. */
#include "train_fixture.h"

#include "ft/method.h"

static st_file open_adapter(const char *dir, arena *mem)
{
    st_file f = {0};
    assert_ok(st_open(&f, test_path(in(dir, "adapter_model.safetensors")), mem));
    return f;
}

static void trains_and_resumes(void **state)
{
    arena *mem = NULL;
    (void)state;
    assert_ok(arena_open(&mem, "test", (size_t)1 << 24));
    write_train_files();
    write_config("frozen.json", "{\"type\": \"frozen_a\", \"r\": 3, \"target_modules\": "
                                "[\"q_proj\", \"v_proj\", \"o_proj\"], "
                                "\"modules_to_save\": [\"norm\"]}");
    assert_ok(train((job){.config = "frozen.json", .out = "whole"}));
    copy_run("whole", "cut", 5);
    assert_ok(train((job){.config = "frozen.json", .out = "cut", .resume = true}));
    assert_same_run("whole", "cut");
    assert_int_equal(train((job){.config = "frozen.json", .out = "whole"}), FT_EEXIST);
    assert_ok(train((job){.config = "frozen.json", .out = "one", .set = {"train.max_steps=1"}}));
    st_file whole = open_adapter("whole", mem), one = open_adapter("one", mem);
    int frozen = 0, moved = 0;
    for (int64_t i = 0; i < whole.n; i++) {
        const io_tensor *a = &whole.tensor[i], *b = st_find(&one, a->name);
        assert_non_null(b);
        assert_int_equal(a->bytes, b->bytes);
        bool same = memcmp(a->data, b->data, a->bytes) == 0;
        assert_true(same == str_ends(a->name, ".lora_A.weight"));
        frozen += same;
        moved += !same;
    }
    assert_int_equal(frozen, 6);
    assert_int_equal(moved, 6 + 5); /* and the norms: two a layer, and the last */
    st_close(&whole);
    st_close(&one);
    arena_close(mem);
}

static void shipped_lora_reads_it(void **state)
{
    model *m = NULL;
    pe_ctx *c = NULL;
    (void)state;
    assert_ok(model_open(&m, &(model_options){.from_config = test_path("model.json"), .seed = 1}));
    assert_ok(pe_open_adapter(&c, m, test_path("whole")));
    assert_ptr_equal(c->method, pe_by_name("lora"));
    assert_int_equal(c->entries.n, 12 + 5);
    pe_close(c);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(trains_and_resumes),
                                       cmocka_unit_test(shipped_lora_reads_it)};
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_close();
    return failed;
}
