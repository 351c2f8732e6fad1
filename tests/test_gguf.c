/* test_gguf.c – GGUF: the bytes another writer makes, round trips, typed access. */
#include "support.h"

#include "ft/io.h"

/* Written by llama.cpp's Python package: see written_as_llama_cpp_does. */
static const char reference[] =
    "474755460300000002000000000000000700000000000000140000000000000067656e6572616c2e617263686974"
    "6563747572650800000005000000000000006c6c616d610300000000000000782e75040000000700000003000000"
    "00000000782e66060000000000c03f0300000000000000782e6207000000010300000000000000782e7308000000"
    "030000000000000068c3a90300000000000000782e61090000000800000002000000000000000100000000000000"
    "6100000000000000000300000000000000782e690900000005000000030000000000000001000000feffffff0300"
    "00000300000000000000742e61020000000300000000000000020000000000000000000000000000000000000003"
    "00000000000000742e62010000000400000000000000010000002000000000000000000000000000000000000000"
    "00000000803f0000004000004040000080400000a0400000000000000000003c0040004200440000000000000000"
    "00000000000000000000000000000000";

static size_t from_hex(uint8_t *out, const char *hex)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned v = 0;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        out[i] = (uint8_t)v;
    }
    return n;
}

static void written_as_llama_cpp_does(void **state)
{
    (void)state;
    uint8_t want[512];
    size_t n = from_hex(want, reference), got;
    const char *path = test_path("ref.gguf");
    const gguf_str strs[2] = {{"a", 1}, {"", 0}};
    const int32_t ints[3] = {1, -2, 3};
    const float a[6] = {0, 1, 2, 3, 4, 5}, b[4] = {1, 2, 3, 4};
    uint16_t b16[4];
    gguf_writer *w;
    dt_f16.pack(b16, b, 4);

    assert_int_equal(n, 384);
    assert_ok(gguf_write_open(&w, path));
    gguf_put_str(w, "general.architecture", "llama", 5);
    gguf_put_int(w, "x.u", GGUF_U32, 7);
    gguf_put_f32(w, "x.f", 1.5f);
    gguf_put_bool(w, "x.b", true);
    gguf_put_str(w, "x.s", "h\xc3\xa9", 3);
    gguf_put_strs(w, "x.a", strs, 2);
    gguf_put_i32s(w, "x.i", ints, 3);
    gguf_put_tensor(w, "t.a", &dt_f32, 2, (const int64_t[]){2, 3});
    gguf_put_tensor(w, "t.b", &dt_f16, 1, (const int64_t[]){4});
    assert_ok(gguf_write_header(w));
    assert_ok(gguf_write(w, a, 8));
    assert_ok(gguf_write(w, a + 2, 16));
    assert_ok(gguf_write(w, b16, 8));
    assert_ok(gguf_write_close(w));
    const char *file = test_read_file(path, &got);
    assert_int_equal(got, n);
    assert_memory_equal(file, want, n);
}

static void read_as_llama_cpp_does(void **state)
{
    (void)state;
    const float a[6] = {0, 1, 2, 3, 4, 5}, b[4] = {1, 2, 3, 4};
    uint16_t b16[4];
    uint8_t bytes[512];
    const char *path = test_path("read.gguf");
    dt_f16.pack(b16, b, 4);
    test_write_file(path, bytes, from_hex(bytes, reference));

    gguf_file f;
    const char *text;
    int64_t v, *list, count;
    double num;
    bool flag;
    assert_ok(gguf_open(&f, path, test_mem));
    assert_int_equal(f.version, 3);
    assert_int_equal(f.alignment, 32);
    assert_int_equal(f.n_kv, 7);
    assert_int_equal(f.n, 2);
    assert_ok(gguf_text(&f, "general.architecture", test_mem, &text));
    assert_string_equal(text, "llama");
    assert_ok(gguf_text(&f, "x.s", test_mem, &text));
    assert_string_equal(text, "h\xc3\xa9");
    assert_ok(gguf_int(&f, "x.u", 0, 0, 7, &v));
    assert_int_equal(v, 7);
    assert_ok(gguf_num(&f, "x.f", 0, &num));
    assert_true(num == 1.5);
    assert_ok(gguf_bool(&f, "x.b", false, &flag));
    assert_true(flag);
    assert_ok(gguf_ints(&f, "x.i", test_mem, &list, &count));
    assert_true(count == 3 && list[0] == 1 && list[1] == -2 && list[2] == 3);
    const gguf_kv *kv = gguf_get(&f, "x.a");
    assert_true(kv->type == GGUF_ARR && kv->elem == GGUF_STR && kv->count == 2);
    assert_true(kv->strs[0].n == 1 && kv->strs[0].s[0] == 'a' && kv->strs[1].n == 0);
    const io_tensor *t = test_gguf_tensor(&f, "t.a");
    assert_true(t->type == &dt_f32 && t->nd == 2 && t->dim[0] == 2 && t->dim[1] == 3);
    assert_memory_equal(t->data, a, sizeof a);
    assert_memory_equal(test_gguf_tensor(&f, "t.b")->data, b16, sizeof b16);
    assert_null(test_gguf_tensor(&f, "t.c"));
    gguf_close(&f);
}

static void getters_check_type_and_range(void **state)
{
    (void)state;
    gguf_writer *w;
    gguf_file f;
    int64_t v, *ints, n;
    float *floats;
    double num;
    bool flag;
    const char *text, *path = test_path("types.gguf");
    assert_ok(gguf_write_open(&w, path));
    gguf_put_int(w, "i8", GGUF_I8, -5);
    gguf_put_int(w, "u16", GGUF_U16, 65535);
    gguf_put_int(w, "i64", GGUF_I64, INT64_MIN);
    gguf_put_int(w, "u64", GGUF_U64, INT64_MAX);
    const float nan = (float)NAN; /* only a copy can be one */
    gguf_put_copy(w, &(gguf_kv){.key = {"nan", 3},
                                .type = GGUF_F32,
                                .elem = GGUF_F32,
                                .count = 1,
                                .data = (const uint8_t *)&nan});
    gguf_put_str(w, "s", "x\0y", 3);
    gguf_put_f32s(w, "fs", (const float[]){0.5f, -1}, 2);
    gguf_put_strs(w, "none", NULL, 0);
    assert_ok(gguf_write_header(w));
    assert_ok(gguf_write_close(w));
    assert_ok(gguf_open(&f, path, test_mem));

    assert_ok(gguf_int(&f, "i8", 0, -5, 5, &v));
    assert_int_equal(v, -5);
    assert_fails(gguf_int(&f, "i8", 0, -4, 5, &v), FT_EDATA, "\"i8\": -5 is not within -4 to 5");
    assert_fails(gguf_int(&f, "u16", 0, 0, 65534, &v), FT_EDATA, "types.gguf");
    assert_ok(gguf_int(&f, "i64", 0, INT64_MIN, 0, &v));
    assert_true(v == INT64_MIN);
    assert_ok(gguf_int(&f, "absent", 42, 0, 1, &v));
    assert_int_equal(v, 42);
    assert_fails(gguf_int(&f, "nan", 0, 0, 1, &v), FT_EDATA, "is of type f32 where an integer");
    assert_fails(gguf_num(&f, "nan", 0, &num), FT_EDATA, "finite");
    assert_ok(gguf_num(&f, "i8", 0, &num));
    assert_true(num == -5);
    assert_fails(gguf_num(&f, "s", 0, &num), FT_EDATA, "type string");
    assert_fails(gguf_bool(&f, "i8", false, &flag), FT_EDATA, "truth value");
    assert_fails(gguf_text(&f, "s", test_mem, &text), FT_EDATA, "UTF-8");
    assert_fails(gguf_text(&f, "fs", test_mem, &text), FT_EDATA, "an array of f32s where a string");
    assert_ok(gguf_text(&f, "absent", test_mem, &text));
    assert_null(text);
    assert_ok(gguf_floats(&f, "fs", test_mem, &floats, &n));
    assert_true(n == 2 && floats[0] == 0.5f && floats[1] == -1);
    assert_fails(gguf_ints(&f, "fs", test_mem, &ints, &n), FT_EDATA, "list of integers");
    assert_ok(gguf_ints(&f, "u16", test_mem, &ints, &n)); /* a single value is a list of one */
    assert_true(n == 1 && ints[0] == 65535);
    assert_ok(gguf_ints(&f, "absent", test_mem, &ints, &n));
    assert_true(n == 0 && !ints);
    gguf_close(&f);
}

static void copies_keep_every_key(void **state)
{
    (void)state;
    uint8_t bytes[512];
    size_t n = from_hex(bytes, reference), n1, n2;
    gguf_file f;
    gguf_writer *w;
    test_write_file(test_path("first.gguf"), bytes, n);
    assert_ok(gguf_open(&f, test_path("first.gguf"), test_mem));
    assert_ok(gguf_write_open(&w, test_path("second.gguf")));
    for (int64_t i = 0; i < f.n_kv; i++) gguf_put_copy(w, &f.kv[i]);
    for (int64_t i = 0; i < f.n; i++)
        gguf_put_tensor(w, f.tensor[i].name, f.tensor[i].type, f.tensor[i].nd, f.tensor[i].dim);
    assert_ok(gguf_write_header(w));
    for (int64_t i = 0; i < f.n; i++) assert_ok(gguf_write(w, f.tensor[i].data, f.tensor[i].bytes));
    assert_ok(gguf_write_close(w));
    gguf_close(&f);
    const char *one = test_read_file(test_path("first.gguf"), &n1);
    const char *two = test_read_file(test_path("second.gguf"), &n2);
    assert_int_equal(n1, n2);
    assert_memory_equal(one, two, n1);
}

static void every_block_type_survives(void **state)
{
    (void)state;
    gguf_writer *w;
    gguf_file f;
    const char *path = test_path("blocks.gguf");
    const char *data = (const char *)test_uniform(7, 4096, 0, 1);
    assert_ok(gguf_write_open(&w, path));
    for (int i = 0; dt_at(i); i++)
        if (dt_at(i)->gguf_id >= 0)
            gguf_put_tensor(w, dt_at(i)->name, dt_at(i), 3, (const int64_t[]){1, 3, 256});
    assert_ok(gguf_write_header(w));
    for (int i = 0; dt_at(i); i++) {
        size_t bytes;
        if (dt_at(i)->gguf_id < 0) continue;
        assert_true(dt_bytes(dt_at(i), 768, &bytes));
        assert_ok(gguf_write(w, data + i, bytes));
    }
    assert_ok(gguf_write_close(w));
    assert_ok(gguf_open(&f, path, test_mem));
    for (int i = 0; dt_at(i); i++) {
        if (dt_at(i)->gguf_id < 0) continue;
        const io_tensor *t = test_gguf_tensor(&f, dt_at(i)->name);
        assert_ptr_equal(t->type, dt_at(i));
        assert_int_equal(((const uint8_t *)t->data - f.map.data) % 32, 0);
        assert_memory_equal(t->data, data + i, t->bytes);
    }
    gguf_close(&f);
}

static void the_writer_guards_its_callers(void **state)
{
    (void)state;
    static const char long_name[] =
        "0123456789012345678901234567890123456789012345678901234567890123";
    const char *path = test_path("guard.gguf");
    gguf_writer *w;
    for (int i = 0; i < 7; i++) {
        static const char *const messages[] = {"twice", "twice",    "empty",         "fit",
                                               "shape", "63 bytes", "misses 8 bytes"};
        const int64_t dim[2] = {1, 2};
        assert_ok(gguf_write_open(&w, path));
        if (i == 0) gguf_put_bool(w, "k", true), gguf_put_f32(w, "k", 1);
        if (i == 1)
            gguf_put_tensor(w, "t", &dt_f32, 2, dim), gguf_put_tensor(w, "t", &dt_f16, 1, dim);
        if (i == 2) gguf_put_bool(w, "", true);
        if (i == 3) gguf_put_int(w, "k", GGUF_U8, 256);
        if (i == 4) gguf_put_tensor(w, "t", dt_by_name("q8_0"), 2, dim);
        if (i == 5) gguf_put_tensor(w, long_name, &dt_f32, 2, dim);
        if (i == 6) gguf_put_tensor(w, "t", &dt_f32, 2, dim);
        if (i < 6) {
            assert_fails(gguf_write_header(w), FT_EINTERNAL, messages[i]);
            gguf_write_abort(w);
        } else {
            assert_ok(gguf_write_header(w));
            assert_fails(gguf_write(w, dim, 9), FT_EINTERNAL, "9 bytes");
            assert_fails(gguf_write_close(w), FT_EINTERNAL, messages[i]);
        }
        assert_false(file_exists(path));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_as_llama_cpp_does),
        cmocka_unit_test(read_as_llama_cpp_does),
        cmocka_unit_test(getters_check_type_and_range),
        cmocka_unit_test(copies_keep_every_key),
        cmocka_unit_test(every_block_type_survives),
        cmocka_unit_test(the_writer_guards_its_callers),
    };
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
