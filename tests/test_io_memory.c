/* test_io_memory.c – every allocation of the io module fails once: the status is FT_EMEM, nothing
 * leaks (the sanitizers look at the exit), and no half-made file remains.
 *
 * The allocator reads FT_TEST_FAIL_AT once a process, so the program starts itself again for each
 * point. */
#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

static const char *const tensor_names[] = {"a", "b", "c"};

static ft_status write_and_read_safetensors(arena *mem, const char *dir)
{
    static const float x[3] = {1, 2, 3};
    st_decl d[3];
    st_file f;
    io_weights w;
    for (int i = 0; i < 3; i++)
        d[i] = (st_decl){.name = tensor_names[i], .type = &dt_f32, .nd = 1, .dim = {1}};
    const char *path = path_join(mem, dir, "model.safetensors");
    if (!path) return FT_EMEM;
    FT_TRY(st_write_all(path, d, (const void *const[]){x, x + 1, x + 2}, 3, NULL, 0));
    FT_TRY(st_open(&f, path, mem));
    st_close(&f);
    FT_TRY(io_weights_open(&w, dir, mem));
    io_weights_close(&w);
    const char *shard = path_join(mem, dir, "s1.safetensors");
    const char *index = path_join(mem, dir, "model.safetensors.index.json");
    if (!shard || !index) return FT_EMEM;
    FT_TRY(file_copy(path, shard));
    if (unlink(path) != 0) return FT_EIO;
    static const char map[] = "{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\","
                              "\"c\":\"s1.safetensors\"}}";
    FT_TRY(file_write(index, map, sizeof map - 1));
    FT_TRY(io_weights_open(&w, dir, mem));
    io_weights_close(&w);
    return FT_OK;
}

static ft_status write_and_read_gguf(arena *mem, const char *dir)
{
    static const float x[3] = {1, 2, 3};
    gguf_writer *g;
    io_weights w;
    const char *path = path_join(mem, dir, "model.gguf");
    if (!path) return FT_EMEM;
    FT_TRY(gguf_write_open(&g, path));
    gguf_put_str(g, "general.architecture", "llama", 5);
    gguf_put_strs(g, "list", &(gguf_str){"x", 1}, 1);
    for (int i = 0; i < 3; i++)
        gguf_put_tensor(g, tensor_names[i], &dt_f32, 1, (const int64_t[]){1});
    ft_status rc = gguf_write_header(g);
    for (int i = 0; i < 3 && rc == FT_OK; i++) rc = gguf_write(g, x + i, 4);
    if (rc != FT_OK) {
        gguf_write_abort(g);
        return rc;
    }
    FT_TRY(gguf_write_close(g));
    FT_TRY(io_weights_open(&w, path, mem));
    io_weights_close(&w);
    return FT_OK;
}

static ft_status read_lines(const char *path)
{
    line_reader *r;
    const char *line;
    char *whole;
    size_t n;
    ft_status rc;
    FT_TRY(lines_open(&r, path));
    while ((rc = lines_next(r, &line, &n)) == FT_OK) {
    }
    lines_close(r);
    if (rc != FT_END) return rc;
    FT_TRY(text_read(&whole, &n, path, 1 << 20));
    ft_free(whole);
    FT_TRY(file_read(&whole, &n, path, 1 << 20));
    ft_free(whole);
    return FT_OK;
}

static ft_status job(const char *dir)
{
    arena *mem;
    const char **names;
    char hex[65];
    int64_t n;
    FT_TRY(arena_open(&mem, "test", (size_t)64 << 20));
    ft_status rc = write_and_read_safetensors(mem, dir);
    const char *zipped = path_join(mem, dir, "text.gz"), *plain = path_join(mem, dir, "text");
    if (rc == FT_OK) rc = write_and_read_gguf(mem, dir);
    if (rc == FT_OK) rc = zipped && plain ? read_lines(zipped) : FT_EMEM;
    if (rc == FT_OK) rc = read_lines(plain);
    if (rc == FT_OK) rc = dir_list(dir, mem, &names, &n);
    if (rc == FT_OK) rc = file_sha256(plain, hex);
    arena_close(mem);
    return rc;
}

/* Runs the job in a process whose k-th allocation fails (0: none) and returns its exit code. */
static int run(const char *dir, int k)
{
    static const uint8_t gz[] = {0x1f, 0x8b, 8, 0, 0,    0,    0,    0,    2, 3, 0x4b, 0xe4,
                                 0x4a, 0xe2, 2, 0, 0x97, 0x2a, 0x57, 0x18, 4, 0, 0,    0};
    char at[16];
    int status;
    assert_ok(dir_remove(dir));
    assert_ok(dir_make(dir));
    char *path = test_alloc(strlen(dir) + 16);
    sprintf(path, "%s/text.gz", dir);
    test_write_file(path, gz, sizeof gz);
    sprintf(path, "%s/text", dir);
    test_write_file(path, "a\nb\n", 4);
    snprintf(at, sizeof at, "%d", k);
    pid_t child = fork();
    if (child == 0) {
        setenv("FT_TEST_FAIL_AT", at, 1);
        execl("/proc/self/exe", "test_io_memory", "job", dir, (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void every_failed_allocation_is_told(void **state)
{
    (void)state;
    const char *dir = test_path("job");
    assert_int_equal(run(dir, 0), FT_OK);
    int k = 1;
    for (; k < 1000; k++) {
        int rc = run(dir, k);
        if (rc == FT_OK) break; /* fewer than k allocations */
        if (rc != FT_EMEM) fail_msg("allocation %d: exit code %d", k, rc);
        arena *mem;
        const char **names;
        int64_t n;
        assert_ok(arena_open(&mem, "names", 1 << 20));
        assert_ok(dir_list(dir, mem, &names, &n));
        for (int64_t i = 0; i < n; i++) assert_false(str_ends(names[i], ".tmp"));
        arena_close(mem);
    }
    assert_true(k > 20 && k < 1000);
    print_message("%d allocations\n", k - 1);
}

int main(int argc, char **argv)
{
    if (argc == 3) return job(argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failed_allocation_is_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
