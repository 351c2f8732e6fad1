/* test_io.c – files, folders, locks, safetensors: round trips, durability, and the reference
 * layout. */
#include "support.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ft/io.h"

/* --- files ------------------------------------------------------------------------------------ */

static void files_are_written_whole_or_not_at_all(void **state)
{
    (void)state;
    const char *path = test_path("durable"), *tmp = test_path("durable.tmp");
    file_out *f;
    assert_ok(file_write(path, "old", 3));

    assert_ok(file_out_open(&f, path));
    assert_ok(file_out_write(f, "new contents", 12));
    assert_int_equal(file_out_size(f), 12);
    assert_true(file_exists(tmp));
    assert_string_equal(test_read_file(path, NULL), "old");
    file_out_abort(f);
    assert_false(file_exists(tmp));
    assert_string_equal(test_read_file(path, NULL), "old");

    test_write_file(tmp, "left by a crash", 15);
    size_t n = 700000;
    char *big = test_alloc(n);
    for (size_t i = 0; i < n; i++) big[i] = (char)test_u64(3, i);
    assert_ok(file_out_open(&f, path));
    for (size_t at = 0, k = 0; at < n; k++) {
        size_t part = test_u64(4, k) % 300000;
        if (part > n - at) part = n - at;
        assert_ok(file_out_write(f, big + at, part));
        at += part;
    }
    assert_ok(file_out_commit(f));
    assert_false(file_exists(tmp));
    size_t got;
    assert_memory_equal(test_read_file(path, &got), big, n);
    assert_int_equal(got, n);
    assert_int_equal(file_size(path), n);
}

static void writing_failures_have_their_status(void **state)
{
    (void)state;
    file_out *f;
    assert_fails(file_write(test_path("no/such/folder"), "", 0), FT_EEXIST, "its folder");
    assert_ok(dir_make(test_path("adir")));
    assert_fails(file_write(test_path("adir"), "", 0), FT_EEXIST, "is a folder");
    if (access("/dev/full", W_OK) == 0) {
        file_log *l;
        assert_fails(file_log_open(&l, "/dev/full", -1), FT_EEXIST, "/dev/full");
    }
    assert_fails(file_out_open(&f, test_path("adir/x/y")), FT_EEXIST, "adir/x/y");
    assert_null(f);
}

static void a_full_disk_leaves_nothing_behind(void **state)
{
    (void)state;
    struct rlimit old, low;
    const char *path = test_path("limited");
    char *data = test_alloc(1 << 20);
    file_log *l;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = 400000; /* stands in for the disk: a write beyond fails half-way */
    signal(SIGXFSZ, SIG_IGN);
    assert_ok(file_write(path, "old", 3));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    assert_fails(file_write(path, data, 1 << 20), FT_EIO, "limited");
    assert_false(file_exists(test_path("limited.tmp")));
    assert_string_equal(test_read_file(path, NULL), "old");
    assert_ok(file_log_open(&l, path, -1));
    assert_fails(file_log_add(l, data, 1 << 20), FT_EIO, "limited");
    file_log_close(l);
    assert_string_equal(test_read_file(path, NULL), "old");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
}

static void reading_failures_have_their_status(void **state)
{
    (void)state;
    file_map m;
    char *text, hex[65];
    size_t n;
    assert_fails(file_map_open(&m, test_path("missing")), FT_ENOINPUT, "missing");
    assert_fails(file_map_open(&m, test_dir()), FT_EDATA, "folder");
    assert_fails(file_read(&text, &n, test_path("missing"), 10), FT_ENOINPUT, "missing");
    assert_fails(file_read(&text, &n, test_dir(), 10), FT_EDATA, "folder");
    assert_fails(file_sha256(test_path("missing"), hex), FT_ENOINPUT, "missing");
    assert_int_equal(mkfifo(test_path("pipe"), 0600), 0);
    assert_fails(file_map_open(&m, test_path("pipe")), FT_EDATA, "pipe"); /* and does not hang */
    if (geteuid() != 0) {
        test_write_file(test_path("secret"), "x", 1);
        chmod(test_path("secret"), 0);
        assert_fails(file_map_open(&m, test_path("secret")), FT_EPERM, "secret");
    }

    test_write_file(test_path("ten"), "0123456789", 10);
    assert_ok(file_read(&text, &n, test_path("ten"), 10));
    assert_int_equal(n, 10);
    assert_string_equal(text, "0123456789");
    ft_free(text);
    assert_fails(file_read(&text, &n, test_path("ten"), 9), FT_EDATA, "9 bytes");
    test_write_file(test_path("empty"), "", 0);
    assert_ok(file_read(&text, &n, test_path("empty"), 9));
    assert_int_equal(n, 0);
    assert_string_equal(text, "");
    ft_free(text);
    assert_ok(file_map_open(&m, test_path("empty")));
    assert_int_equal(m.size, 0);
    assert_non_null(m.data);
    file_map_close(&m);
}

static void copies_and_checksums(void **state)
{
    (void)state;
    char hex[65];
    test_write_file(test_path("abc"), "abc", 3);
    assert_ok(file_copy(test_path("abc"), test_path("abc2")));
    assert_string_equal(test_read_file(test_path("abc2"), NULL), "abc");
    assert_ok(file_sha256(test_path("abc2"), hex));
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_fails(file_copy(test_path("missing"), test_path("abc3")), FT_ENOINPUT, "missing");
    assert_false(file_exists(test_path("abc3")));
}

static void logs_are_cut_back_and_appended(void **state)
{
    (void)state;
    const char *path = test_path("log.jsonl");
    file_log *l;
    assert_ok(file_log_open(&l, path, 0));
    assert_ok(file_log_add(l, "one\ntwo\n", 8));
    file_log_close(l);
    assert_ok(file_log_open(&l, path, 4));
    assert_ok(file_log_add(l, "2\n", 2));
    assert_ok(file_log_sync(l));
    file_log_close(l);
    assert_string_equal(test_read_file(path, NULL), "one\n2\n");
    assert_fails(file_log_open(&l, path, 7), FT_EDATA, "log.jsonl");
    assert_ok(file_log_open(&l, path, -1));
    assert_ok(file_log_add(l, "3", 1));
    file_log_close(l);
    assert_string_equal(test_read_file(path, NULL), "one\n2\n3");
}

static void folders(void **state)
{
    (void)state;
    const char **names;
    int64_t n;
    assert_ok(dir_make(test_path("d/e//f/")));
    assert_ok(dir_make(test_path("d/e/f")));
    assert_true(dir_exists(test_path("d/e/f")));
    test_write_file(test_path("d/b"), "", 0);
    test_write_file(test_path("d/a"), "", 0);
    assert_ok(dir_list(test_path("d"), test_mem, &names, &n));
    assert_int_equal(n, 3);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[1], "b");
    assert_string_equal(names[2], "e");
    assert_fails(dir_make(test_path("d/a/x")), FT_EEXIST, "not a folder");
    assert_fails(dir_list(test_path("zz"), test_mem, &names, &n), FT_ENOINPUT, "zz");

    assert_ok(dir_make(test_path("outside")));
    test_write_file(test_path("outside/kept"), "", 0);
    assert_int_equal(symlink(test_path("outside"), test_path("d/e/link")), 0);
    assert_ok(dir_rename(test_path("d"), test_path("moved")));
    assert_ok(dir_make(test_path("full/x")));
    assert_fails(dir_rename(test_path("moved"), test_path("full")), FT_EEXIST, "exists");
    assert_ok(dir_remove(test_path("moved")));
    assert_false(dir_exists(test_path("moved")));
    assert_true(file_exists(test_path("outside/kept")));
    assert_ok(dir_remove(test_path("moved")));
    assert_true(dir_free_space(test_path("not/yet/made")) > 0);
    assert_true(dir_free_space("relative") < SIZE_MAX);
}

static void paths(void **state)
{
    (void)state;
    assert_string_equal(path_join(test_mem, "a", "b"), "a/b");
    assert_string_equal(path_join(test_mem, "a/", "b"), "a/b");
    assert_string_equal(path_join(test_mem, "", "b"), "b");
    assert_string_equal(path_join(test_mem, "a", "/b"), "/b");
    assert_string_equal(path_dir(test_mem, "a/b/c"), "a/b");
    assert_string_equal(path_dir(test_mem, "/c"), "/");
    assert_string_equal(path_dir(test_mem, "c"), "");
    assert_string_equal(path_base("a/b/c"), "c");
    assert_string_equal(path_base("c"), "c");
}

static void a_folder_is_locked_once(void **state)
{
    (void)state;
    int fd, fd2, status;
    char pid[32];
    assert_ok(dir_make(test_path("locked")));
    assert_ok(dir_lock(test_path("locked"), &fd));
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_fails(dir_lock(test_path("locked"), &fd2), FT_EEXIST, pid);
    dir_unlock(test_path("locked"), fd);
    assert_ok(dir_lock(test_path("locked"), &fd));
    dir_unlock(test_path("locked"), fd);
    assert_false(file_exists(test_path("locked/.lock")));

    /* the lock of a killed process is gone with it */
    pid_t child = fork();
    if (child == 0) {
        if (dir_lock(test_path("locked"), &fd) != FT_OK) _exit(1);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_ok(dir_lock(test_path("locked"), &fd));
    dir_unlock(test_path("locked"), fd);
}

/* --- safetensors ------------------------------------------------------------------------------ */

static void written_as_the_reference_writer_does(void **state)
{
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_"
        "offsets\""
        ":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]},\"b\":{\"dtype\":"
        "\"BF16\",\"shape\":[1,3],\"data_offsets\":[16,22]}}    ";
    static const uint8_t data[22] = {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0x00, 0x00, 0xc0, 0x3f, 0x00, 0x00, 0x80, 0xbe,
                                     0x80, 0x3f, 0x00, 0xc0, 0xab, 0x3e};
    const float a[2] = {1.5f, -0.25f}, b[3] = {1, -2, 0.333984375f};
    const int64_t c = -2;
    uint16_t b16[3];
    const st_decl decl[3] = {{.name = "a", .type = &dt_f32, .nd = 1, .dim = {2}},
                             {.name = "b", .type = &dt_bf16, .nd = 2, .dim = {1, 3}},
                             {.name = "c", .type = dt_by_name("i64")}};
    size_t n;
    dt_bf16.pack(b16, b, 3);
    const char *path = test_path("worked.safetensors");
    assert_ok(st_write_all(path, decl, (const void *const[]){a, b16, &c}, 3, NULL, 0));
    const char *file = test_read_file(path, &n);
    assert_int_equal(n, 230);
    assert_memory_equal(file, "\xc8\0\0\0\0\0\0\0", 8);
    assert_memory_equal(file + 8, header, 200);
    assert_memory_equal(file + 208, data, 22);

    st_file f;
    assert_ok(st_open(&f, path, test_mem));
    assert_int_equal(f.n, 3);
    assert_int_equal(f.n_meta, 1);
    assert_string_equal(f.meta[0], "format");
    assert_string_equal(f.meta[1], "pt");
    const io_tensor *t = st_find(&f, "b");
    assert_non_null(t);
    assert_true(t->type == &dt_bf16 && t->nd == 2 && t->dim[0] == 1 && t->dim[1] == 3);
    assert_int_equal(t->bytes, 6);
    assert_memory_equal(t->data, b16, 6);
    assert_string_equal(t->file, path);
    assert_int_equal(st_find(&f, "c")->nd, 0);
    assert_null(st_find(&f, "d"));
    st_close(&f);
}

static void any_name_and_shape_survives(void **state)
{
    (void)state;
    static const char *const names[] = {"a\"b\\c",          "tab\there", "h\xc3\xa9llo",
                                        "\xf0\x9f\x98\x80", "\1\x1f",    "",
                                        "model.layers.0.x"};
    enum { N = 40 };
    st_decl decl[N] = {0};
    const void *data[N];
    char more[N][16];
    for (int i = 0; i < N; i++) {
        snprintf(more[i], sizeof more[i], "t%d", i);
        decl[i].name = i < (int)FT_COUNT_OF(names) ? names[i] : more[i];
        do
            decl[i].type =
                dt_at((int)(test_u64(9, (uint64_t)i * 100 + (uint64_t)decl[i].nd++) % 15));
        while (!decl[i].type->st_name);
        decl[i].nd = i % 5;
        int64_t n = 1;
        for (int k = 0; k < decl[i].nd; k++) n *= decl[i].dim[k] = (int64_t)(test_u64(i, k) % 4);
        data[i] = test_uniform((uint64_t)i, 2 * n + 2, 0, 1);
    }
    const char *const meta[] = {"zeta", "1", "alpha", "line\nbreak"};
    assert_ok(st_write_all(test_path("many.safetensors"), decl, data, N, meta, 2));
    st_file f;
    assert_ok(st_open(&f, test_path("many.safetensors"), test_mem));
    assert_int_equal(f.n, N);
    assert_int_equal(f.n_meta, 3);
    assert_string_equal(f.meta[0], "alpha");
    assert_string_equal(f.meta[1], "line\nbreak");
    for (int i = 0; i < N; i++) {
        const io_tensor *t = st_find(&f, decl[i].name);
        assert_non_null(t);
        assert_ptr_equal(t->type, decl[i].type);
        assert_int_equal(t->nd, decl[i].nd);
        assert_memory_equal(t->dim, decl[i].dim, sizeof t->dim);
        assert_memory_equal(t->data, data[i], t->bytes);
    }
    st_close(&f);
}

static void the_writer_guards_its_callers(void **state)
{
    (void)state;
    const float x[4] = {0};
    st_decl d[2] = {{.name = "a", .type = &dt_f32, .nd = 1, .dim = {2}},
                    {.name = "b", .type = &dt_f32, .nd = 1, .dim = {0}}};
    st_writer *w;
    const char *path = test_path("guard.safetensors");
    const st_decl twice[2] = {d[0], d[0]}, block = {.name = "q", .type = dt_by_name("q8_0")};
    assert_fails(st_write_all(path, twice, (const void *const[]){x, x}, 2, NULL, 0), FT_EINTERNAL,
                 "twice");
    assert_fails(st_write_all(path, &block, (const void *const[]){x}, 1, NULL, 0), FT_EINTERNAL,
                 "q8_0");
    assert_ok(st_write_open(&w, path, d, 2, NULL, 0));
    assert_ok(st_write(w, x, 4));
    assert_fails(st_write(w, x, 8), FT_EINTERNAL, "\"a\"");
    assert_fails(st_write_close(w), FT_EINTERNAL, "misses 4 bytes");
    assert_false(file_exists(path));
    assert_false(file_exists(test_path("guard.safetensors.tmp")));
    assert_ok(st_write_open(&w, path, d, 2, NULL, 0));
    assert_ok(st_write(w, x, 4));
    assert_ok(st_write(w, x, 4));
    assert_fails(st_write(w, x, 1), FT_EINTERNAL, "(none)");
    assert_ok(st_write_close(w));
    assert_true(file_exists(path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_written_whole_or_not_at_all),
        cmocka_unit_test(writing_failures_have_their_status),
        cmocka_unit_test(a_full_disk_leaves_nothing_behind),
        cmocka_unit_test(reading_failures_have_their_status),
        cmocka_unit_test(copies_and_checksums),
        cmocka_unit_test(logs_are_cut_back_and_appended),
        cmocka_unit_test(folders),
        cmocka_unit_test(paths),
        cmocka_unit_test(a_folder_is_locked_once),
        cmocka_unit_test(written_as_the_reference_writer_does),
        cmocka_unit_test(any_name_and_shape_survives),
        cmocka_unit_test(the_writer_guards_its_callers),
    };
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
