/* test_weights.c – the weights of a model: folders, indexes, links, pickles. */
#include "support.h"

#include <sys/stat.h>
#include <unistd.h>

#include "ft/io.h"

static char last_warning[512];

static void keep_warning(void *ctx, log_level level, const char *line)
{
    (void)ctx;
    if (level == LOG_WARN) snprintf(last_warning, sizeof last_warning, "%s", line);
}

static int setup(void **state)
{
    log_set_sink(keep_warning, NULL);
    return test_open_arena(state);
}

static const char *in(const char *dir, const char *name)
{
    return path_join(test_mem, dir, name);
}

static const char *folder(const char *name)
{
    const char *path = test_path(name);
    assert_ok(dir_remove(path));
    assert_ok(dir_make(path));
    return path;
}

static void put_tensors(const char *path, const char *a, const char *b)
{
    const float x[2] = {1, 2};
    const st_decl d[2] = {{.name = a, .type = &dt_f32, .nd = 1, .dim = {2}},
                          {.name = b, .type = &dt_f32, .nd = 1, .dim = {1}}};
    assert_ok(st_write_all(path, d, (const void *const[]){x, x}, b ? 2 : 1, NULL, 0));
}

/* A folder with two shards (a, b and c) and the given index. */
static const char *sharded(const char *index)
{
    const char *dir = folder("sharded");
    put_tensors(in(dir, "s1.safetensors"), "a", "b");
    put_tensors(in(dir, "s2.safetensors"), "c", NULL);
    test_write_file(in(dir, "model.safetensors.index.json"), index, strlen(index));
    return dir;
}

#define MAP(pairs) "{\"metadata\":{\"total_size\":20},\"weight_map\":{" pairs "}}\n"

static void folders_and_files_give_one_list(void **state)
{
    (void)state;
    io_weights w;
    char hex[65], hex2[65];
    const char *dir =
        sharded(MAP("\"c\":\"s2.safetensors\",\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\""));
    last_warning[0] = '\0';
    assert_ok(io_weights_open(&w, dir, test_mem));
    assert_string_equal(last_warning, "");
    assert_int_equal(w.n, 3);
    assert_int_equal(w.n_shards, 2);
    assert_string_equal(path_base(io_find(&w, "c")->file), "s2.safetensors");
    assert_true(((const float *)io_find(&w, "a")->data)[1] == 2);
    assert_null(io_find(&w, "d"));
    assert_ok(io_weights_sha256(&w, hex));
    io_weights_close(&w);

    /* with both, the single file counts, as in the reference library */
    put_tensors(in(dir, "model.safetensors"), "x", NULL);
    assert_ok(io_weights_open(&w, dir, test_mem));
    assert_int_equal(w.n, 1);
    assert_ok(io_weights_sha256(&w, hex2));
    assert_ok(file_sha256(in(dir, "model.safetensors"), hex));
    assert_string_equal(hex, hex2);
    io_weights_close(&w);
    assert_ok(io_weights_open(&w, in(dir, "s1.safetensors"), test_mem));
    assert_int_equal(w.n, 2);
    io_weights_close(&w);

    gguf_writer *g;
    assert_ok(gguf_write_open(&g, in(dir, "m.gguf")));
    gguf_put_tensor(g, "t", &dt_f32, 1, (const int64_t[]){1});
    assert_ok(gguf_write_header(g));
    assert_ok(gguf_write(g, "abcd", 4));
    assert_ok(gguf_write_close(g));
    assert_ok(io_weights_open(&w, in(dir, "m.gguf"), test_mem));
    assert_non_null(w.gguf);
    assert_memory_equal(io_find(&w, "t")->data, "abcd", 4);
    io_weights_close(&w);
    assert_ok(file_copy(in(dir, "m.gguf"), in(dir, "no-suffix")));
    assert_ok(io_weights_open(&w, in(dir, "no-suffix"), test_mem));
    assert_non_null(w.gguf);
    io_weights_close(&w);
}

static void wrong_indexes_are_refused(void **state)
{
    (void)state;
#define GOOD "\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\""
    static const struct {
        const char *index, *message;
        ft_status status;
    } cases[] = {
        {MAP(GOOD ",\"c\":\"../s2.safetensors\""), "plain name", FT_EDATA},
        {MAP(GOOD ",\"c\":\"/etc/x.safetensors\""), "plain name", FT_EDATA},
        {MAP(GOOD ",\"c\":\"./s2.safetensors\""), "plain name", FT_EDATA},
        {MAP(GOOD ",\"c\":\"d/s2.safetensors\""), "plain name", FT_EDATA},
        {MAP(GOOD ",\"c\":\"d\\\\s2.safetensors\""), "plain name", FT_EDATA},
        {MAP(GOOD ",\"c\":\"..\""), "plain name", FT_EDATA},
        {MAP(GOOD ",\"c\":\"\""), "plain name", FT_EDATA},
        {MAP(GOOD ",\"c\":\"s2\\n.safetensors\""), "plain name", FT_EDATA},
        {MAP(GOOD ",\"c\":\"s2.safetensors\\u0000.x\""), "index.json:1:", FT_EDATA},
        {MAP(GOOD ",\"c\":\"s2.bin\""), "plain name", FT_EDATA},
        {MAP(GOOD ",\"c\":7"), "string", FT_EDATA},
        {MAP(GOOD ",\"c\":\"s3.safetensors\""), "s3.safetensors: is missing", FT_ENOINPUT},
        {MAP(GOOD ",\"c\":\"s1.safetensors\""), "in none of the shards", FT_EDATA},
        {MAP("\"a\":\"s2.safetensors\",\"b\":\"s1.safetensors\",\"c\":\"s2.safetensors\""),
         "is in s1.safetensors", FT_EDATA},
        {MAP(GOOD ",\"c\":\"s2.safetensors\",\"c\":\"s2.safetensors\""), "index.json:1:", FT_EDATA},
        {MAP(""), "names 0 shards", FT_EDATA},
        {"{}", "no weight_map", FT_EDATA},
        {"[]", "no weight_map", FT_EDATA},
        {"{\"weight_map\":[]}", "no weight_map", FT_EDATA},
        {"", "index.json", FT_EDATA},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\"}", "index.json:1:", FT_EDATA},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        io_weights w;
        const char *dir = sharded(cases[i].index);
        assert_fails(io_weights_open(&w, dir, test_mem), cases[i].status, cases[i].message);
        assert_non_null(strstr(ft_error(), dir));
    }
    io_weights w;
    const char *dir = sharded(MAP("\"a\":\"s1.safetensors\",\"c\":\"s2.safetensors\""));
    assert_ok(io_weights_open(&w, dir, test_mem)); /* b is there, unlisted */
    assert_non_null(strstr(last_warning, "1 tensors"));
    assert_int_equal(w.n, 3);
    io_weights_close(&w);
    put_tensors(in(dir, "s2.safetensors"), "c", "b");
    assert_fails(io_weights_open(&w, dir, test_mem), FT_EDATA, "\"b\": stands in");
}

/* Shards on another disk, the blobs of a download cache; what a link leads to is parsed like any file. */
static void links_are_followed(void **state)
{
    (void)state;
    io_weights w;
    const char *index =
        MAP("\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\",\"c\":\"s2.safetensors\"");
    const char *dir = sharded(index), *cache = folder("cache");
    const char *snapshot = in(cache, "snapshots/abc");
    static const char secret[] = "{\"password\": 1, \"key\": 2}";
    assert_int_equal(rename(in(dir, "s2.safetensors"), test_path("elsewhere.safetensors")), 0);
    assert_int_equal(symlink(test_path("elsewhere.safetensors"), in(dir, "s2.safetensors")), 0);
    assert_ok(io_weights_open(&w, dir, test_mem));
    assert_int_equal(w.n, 3);
    io_weights_close(&w);
    assert_int_equal(unlink(in(dir, "s2.safetensors")), 0);
    assert_int_equal(symlink("/dev/zero", in(dir, "s2.safetensors")), 0);
    assert_fails(io_weights_open(&w, dir, test_mem), FT_EDATA,
                 "s2.safetensors: is a device, not a file");
    assert_int_equal(unlink(in(dir, "s2.safetensors")), 0);
    test_write_file(test_path("secret"), secret, strlen(secret));
    assert_int_equal(symlink(test_path("secret"), in(dir, "s2.safetensors")), 0);
    assert_fails(io_weights_open(&w, dir, test_mem), FT_EDATA, "s2.safetensors");
    assert_null(strstr(ft_error(), "passw")); /* nothing of it is shown */
    assert_int_equal(unlink(in(dir, "s2.safetensors")), 0);
    assert_int_equal(mkfifo(in(dir, "s2.safetensors"), 0600), 0);
    assert_fails(io_weights_open(&w, dir, test_mem), FT_EDATA, "is a pipe");

    /* everything of a snapshot is a link, the index too */
    assert_ok(dir_make(snapshot));
    assert_ok(dir_make(in(cache, "blobs")));
    put_tensors(in(cache, "blobs/1111"), "a", "b");
    put_tensors(in(cache, "blobs/2222"), "c", NULL);
    test_write_file(in(cache, "blobs/3333"), index, strlen(index));
    assert_int_equal(symlink("../../blobs/3333", in(snapshot, "model.safetensors.index.json")), 0);
    assert_int_equal(symlink("../../blobs/1111", in(snapshot, "s1.safetensors")), 0);
    assert_int_equal(symlink("../../blobs/2222", in(snapshot, "s2.safetensors")), 0);
    assert_ok(io_weights_open(&w, snapshot, test_mem));
    assert_int_equal(w.n, 3);
    io_weights_close(&w);
}

/* A cache that was cleaned up half: the link is there, what it leads to is not. */
static void links_to_nowhere_are_told(void **state)
{
    (void)state;
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "s2.safetensors"};
    io_weights w;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        const char *dir = sharded(
            MAP("\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\",\"c\":\"s2.safetensors\""));
        unlink(in(dir, names[i]));
        assert_int_equal(symlink("../../blobs/4444", in(dir, names[i])), 0);
        assert_fails(io_weights_open(&w, dir, test_mem), FT_ENOINPUT,
                     "is a link to ../../blobs/4444, which does not exist");
        assert_non_null(strstr(ft_error(), names[i]));
    }
    assert_int_equal(symlink("nothing", test_path("dangling.gguf")), 0);
    assert_fails(io_weights_open(&w, test_path("dangling.gguf"), test_mem), FT_ENOINPUT,
                 "dangling.gguf: is a link to nothing, which does not exist");
}

static void pickles_are_never_read(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t n;
    } cases[] = {
        {"pytorch_model.bin", "x", 1},
        {"model.pt", "x", 1},
        {"model.pth", "x", 1},
        {"model.ckpt", "x", 1},
        {"model.pkl", "x", 1},
        {"model.safetensors", "PK\3\4\24\0\0\0\10\10", 10},
        {"model.safetensors", "\x80\2}q\1X\4\0\0\0", 10},
        {"model.safetensors", "\x80\4\x95\x10\0\0\0\0\0\0\0}", 12},
        {"model.gguf", "PK\3\4\24\0\0\0\10\10", 10},
        {"no-suffix", "\x80\2}q\1X\4\0\0\0", 10},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        io_weights w;
        const char *dir = folder("pickled"), *path = in(dir, cases[i].name);
        test_write_file(path, cases[i].bytes, cases[i].n);
        assert_fails(io_weights_open(&w, path, test_mem), FT_EDATA, "pickle");
        assert_non_null(strstr(ft_error(), cases[i].name));
        if (str_ends(cases[i].name, ".bin") || str_ends(cases[i].name, ".safetensors"))
            assert_fails(io_weights_open(&w, dir, test_mem), FT_EDATA, "safe_serialization");
    }
    io_weights w;
    assert_fails(io_weights_open(&w, folder("void"), test_mem), FT_ENOINPUT, "has neither");
    assert_fails(io_weights_open(&w, test_path("nowhere"), test_mem), FT_ENOINPUT, "nowhere");
    const char *dir = folder("lfs");
    test_write_file(in(dir, "model.safetensors"), "version https://git-lfs.github.com/spec/v1\n",
                    43);
    assert_fails(io_weights_open(&w, dir, test_mem), FT_EDATA, "git lfs pull");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_and_files_give_one_list),
        cmocka_unit_test(wrong_indexes_are_refused),
        cmocka_unit_test(links_are_followed),
        cmocka_unit_test(links_to_nowhere_are_told),
        cmocka_unit_test(pickles_are_never_read),
    };
    return cmocka_run_group_tests(tests, setup, test_close_arena);
}
