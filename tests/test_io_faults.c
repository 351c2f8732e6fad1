/* test_io_faults.c – outputs on a disk with faults: full for a moment, other bytes than were written. */
#include "support.h"

#include "ft/io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The disk: this write() takes the place of the C library's in the whole program. */
static enum { SOUND, COUNTED, FLIPS, FULL, BROKEN } disk;
static int strikes;   /* writes that are struck; < 0: all */
static int least = 1; /* smaller ones are let through */
static int struck;

ssize_t write(int fd, const void *data, size_t n);
ssize_t write(int fd, const void *data, size_t n)
{
    if (disk == SOUND || fd < 3 || strikes == 0 || n < (size_t)least)
        return syscall(SYS_write, fd, data, n);
    if (strikes > 0) strikes--;
    struck++;
    if (disk == COUNTED) return syscall(SYS_write, fd, data, n);
    if (disk == FLIPS) {
        uint8_t *copy = test_alloc(n);
        memcpy(copy, data, n);
        copy[n / 2] ^= 0x10;
        return syscall(SYS_write, fd, copy, n);
    }
    if (disk == FULL && n > 1) (void)!syscall(SYS_write, fd, data, n / 2);
    errno = disk == FULL ? ENOSPC : EIO;
    return -1;
}

static int sync_fails; /* fsyncs that fail */
int fsync(int fd);
int fsync(int fd)
{
    if (sync_fails == 0) return (int)syscall(SYS_fsync, fd);
    sync_fails--;
    errno = EIO;
    return -1;
}

static int read_error; /* what reads of files fail with */
ssize_t read(int fd, void *data, size_t n);
ssize_t read(int fd, void *data, size_t n)
{
    if (read_error == 0 || fd < 3) return syscall(SYS_read, fd, data, n);
    errno = read_error;
    return -1;
}

static int look_error; /* what the look after next_look more of them fails with */
static int next_look;
static int looked(int fd, const char *path, struct stat *out, int flags)
{
    if (look_error && next_look-- == 0) {
        errno = look_error;
        return -1;
    }
    return fstatat(fd, path, out, flags);
}

int stat(const char *restrict path, struct stat *restrict out);
int stat(const char *restrict path, struct stat *restrict out)
{
    return looked(AT_FDCWD, path, out, 0);
}

int lstat(const char *restrict path, struct stat *restrict out);
int lstat(const char *restrict path, struct stat *restrict out)
{
    return looked(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}

static void fail_look(int error, int after)
{
    look_error = error;
    next_look = after;
}

static void strike(int how, int times)
{
    disk = how;
    strikes = times;
    struck = 0;
}

static int setup(void **state)
{
    (void)state;
    strike(SOUND, 0);
    file_patience(true);
    return setenv("FT_TEST_RETRY_SECONDS", "0.02", 1);
}

static void a_damaged_write_is_done_once_more(void **state)
{
    (void)state;
    const char *path = test_path("result");
    strike(FLIPS, 1);
    assert_ok(file_write(path, "0123456789", 10));
    assert_int_equal(struck, 1);
    assert_string_equal(test_read_file(path, NULL), "0123456789");
    strike(FLIPS, 2); /* and then given up: the old one stays */
    assert_fails(file_write(path, "abcdefghij", 10), FT_EIO, "differs from what was written");
    strike(SOUND, 0);
    assert_string_equal(test_read_file(path, NULL), "0123456789");
    assert_false(file_exists(test_path("result.tmp")));
    file_patience(false); /* somebody else tries again */
    strike(FLIPS, 1);
    assert_fails(file_write(path, "abcdefghij", 10), FT_EIO, "result");
    assert_int_equal(struck, 1);
}

static void what_cannot_be_read_back_is_not_damaged(void **state)
{
    static const struct {
        int error;
        ft_status status;
        const char *told;
        int writes;
    } cases[] = {{EACCES, FT_EPERM, "cannot be read back: Permission denied", 1},
                 {ENOMEM, FT_EMEM, "cannot be read back", 1},
                 {EIO, FT_EIO, "differs from what was written", 2}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        strike(COUNTED, -1);
        read_error = cases[i].error;
        assert_fails(file_write(test_path("back"), "abc", 3), cases[i].status, cases[i].told);
        read_error = 0;
        assert_int_equal(struck, cases[i].writes);
    }
}

static void what_cannot_be_made_again_is_kept(void **state)
{
    (void)state;
    const char *path = test_path("stream");
    const size_t n = 700000;
    char *data = test_alloc(n);
    file_out *f;
    for (size_t i = 0; i < n; i++) data[i] = (char)(i * 7 + i / 1000);
    for (int kept = 0; kept < 2; kept++) {
        strike(FLIPS, 1);
        assert_ok(file_out_open(&f, path));
        if (kept) file_out_keep(f);
        assert_ok(file_out_write(f, data, n / 2));
        assert_ok(file_out_write(f, data + n / 2, n - n / 2));
        if (kept)
            assert_ok(file_out_commit(f));
        else
            assert_fails(file_out_commit(f), FT_EIO, "stream");
        assert_int_equal(file_exists(path), kept);
    }
    assert_memory_equal(test_read_file(path, NULL), data, n);
}

static void tensors_too(void **state)
{
    (void)state;
    const char *path = test_path("t.safetensors");
    float x[64];
    for (int i = 0; i < 64; i++) x[i] = (float)i;
    const st_decl decl = {.name = "x", .type = &dt_f32, .nd = 1, .dim = {64}};
    const void *data[] = {x};
    strike(FLIPS, 1);
    assert_ok(st_write_all(path, &decl, data, 1, NULL, 0));
    assert_int_equal(struck, 1);
    arena *mem;
    st_file f;
    assert_ok(arena_open(&mem, "test", 1 << 20));
    assert_ok(st_open(&f, path, mem));
    assert_memory_equal(st_find(&f, "x")->data, x, sizeof x);
    st_close(&f);
    arena_close(mem);
}

/* A look that fails is the error; only what is not there is not there. */
static void a_failed_look_is_no_answer(void **state)
{
    (void)state;
    static const struct {
        int error;
        ft_status status;
    } cases[] = {{EIO, FT_EIO},
                 {EACCES, FT_EPERM},
                 {EPERM, FT_EPERM},
                 {ENOMEM, FT_EMEM},
                 {ENAMETOOLONG, FT_ENOINPUT},
                 {EOVERFLOW, FT_EIO},
                 {ESTALE, FT_EIO},
                 {ENOENT, FT_OK},
                 {ENOTDIR, FT_OK}};
    arena *mem;
    path_kind kind;
    int64_t bytes;
    bool is;
    const char *file = test_path("looked/at");
    assert_ok(arena_open(&mem, "looks", (size_t)1 << 20));
    assert_ok(dir_make(test_path("looked/model")));
    test_write_file(file, "1", 1);
    test_write_file(test_path("looked/adapter_config.json"), "{}", 2);
    assert_int_equal(symlink("nowhere", test_path("looked/lost")), 0);
    assert_int_equal(symlink("circle", test_path("looked/circle")), 0);
    const struct {
        const char *path;
        path_kind kind;
    } kinds[] = {{"looked", PATH_FOLDER},    {"looked/at", PATH_FILE},
                 {"looked/none", PATH_NONE}, {"looked/at/x", PATH_NONE},
                 {"looked/lost", PATH_LOST}, {"looked/circle", PATH_LOST}};
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++) {
        assert_ok(path_look(test_path(kinds[i].path), &kind));
        assert_int_equal(kind, kinds[i].kind);
    }
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        const char *left;
        for (int k = 0; k < 2; k++) { /* stat, and of what is not there lstat */
            fail_look(cases[i].error, k);
            assert_int_equal(path_look(test_path("looked/none"), &kind), cases[i].status);
        }
        fail_look(cases[i].error, 0);
        assert_int_equal(path_look_in(test_path("looked"), "at", &kind), cases[i].status);
        fail_look(cases[i].error, 0);
        assert_int_equal(path_size(file, &bytes), cases[i].status);
        fail_look(cases[i].error, 0);
        assert_int_equal(io_is_adapter(test_path("looked"), &is), cases[i].status);
        fail_look(cases[i].error, 0);
        assert_int_equal(io_same_place(file, test_path("x"), &is), cases[i].status);
        fail_look(cases[i].error, 0);
        assert_int_equal(io_out_check(file, NULL, 0), cases[i].status);
        fail_look(cases[i].error, 0);
        assert_int_equal(io_clear(test_path("looked"), 0, mem, &left), cases[i].status);
        assert_true(look_error == 0 || next_look < 0); /* every one of them was met */
        if (cases[i].status == FT_OK) continue;
        fail_look(cases[i].error, 0);
        assert_int_equal(io_model_exists(test_path("looked/model")), cases[i].status);
        fail_look(cases[i].error, 0);
        assert_int_equal(io_data_exists(file), cases[i].status);
        fail_look(cases[i].error, 0);
        assert_int_equal(file_write(file, "2", 1), cases[i].status);
        fail_look(0, 0);
        assert_string_equal(test_read_file(file, NULL), "1");
    }
    arena_close(mem);
}

static void room_is_waited_for(void **state)
{
    (void)state;
    const char *path = test_path("big");
    const size_t n = 1 << 20;
    char *data = test_alloc(n);
    for (size_t i = 0; i < n; i++) data[i] = (char)(i * 31 + i / 4096);
    strike(FULL, 3);
    assert_ok(file_write(path, data, n));
    assert_int_equal(struck, 3);
    assert_memory_equal(test_read_file(path, NULL), data, n);
    strike(FULL, 4);
    assert_fails(file_write(path, "other", 5), FT_EIO, "disk is full");
    assert_int_equal(struck, 4);
    strike(SOUND, 0);
    assert_int_equal(file_size(path), n);
    file_patience(false);
    strike(FULL, 1);
    assert_fails(file_write(path, "other", 5), FT_EIO, "disk is full");
    assert_int_equal(struck, 1);
    strike(BROKEN, 1); /* no room is missing: nothing to wait for */
    file_patience(true);
    assert_fails(file_write(path, "other", 5), FT_EIO, "Input/output");
}

static void a_signal_ends_the_wait(void **state)
{
    (void)state;
    setenv("FT_TEST_RETRY_SECONDS", "20", 1);
    ft_stop_install(NULL);
    strike(FULL, -1);
    const double start = ft_seconds();
    raise(SIGTERM);
    assert_fails(file_write(test_path("late"), "x", 1), FT_EIO, "disk is full");
    assert_true(ft_seconds() - start < 2);
    strike(SOUND, 0);
    errno = EINTR;
    assert_int_equal(ft_fail_errno(FT_EIO, "a call"), FT_ESIGNAL);
}

static void lines_wait_in_memory(void **state)
{
    (void)state;
    file_log *l;
    const char *path = test_path("log");
    setenv("FT_TEST_RETRY_SECONDS", "0.05", 1);
    assert_ok(file_log_open(&l, path, 0));
    assert_ok(file_log_add(l, "first line\n", 11));
    strike(FULL, 2);
    assert_ok(file_log_add(l, "second line\n", 12));
    assert_string_equal(test_read_file(path, NULL), "first line\n"); /* and no half one */
    assert_ok(file_log_add(l, "third line\n", 11));
    assert_int_equal(struck, 1); /* too early for another attempt */
    assert_true(ft_wait(0.06));
    assert_ok(file_log_add(l, "fourth line\n", 12));
    assert_int_equal(struck, 2);
    assert_string_equal(test_read_file(path, NULL), "first line\n");
    assert_ok(file_log_sync(l));
    assert_string_equal(test_read_file(path, NULL),
                        "first line\nsecond line\nthird line\nfourth line\n");
    strike(FULL, -1); /* for good: given up after three more attempts */
    ft_status rc = FT_OK;
    int adds = 0;
    while (rc == FT_OK && adds++ < 100) {
        rc = file_log_add(l, "lost line\n", 10);
        (void)ft_wait(0.01);
    }
    assert_int_equal(rc, FT_EIO);
    assert_int_equal(struck, 4);
    assert_non_null(strstr(ft_error(), "disk is full"));
    file_patience(false);
    assert_fails(file_log_sync(l), FT_EIO, "disk is full");
    file_log_close(l);
    strike(SOUND, 0);
    assert_string_equal(test_read_file(path, NULL),
                        "first line\nsecond line\nthird line\nfourth line\n");
}

static void a_failed_sync_is_not_believed_later(void **state)
{
    (void)state;
    file_log *l;
    const char *path = test_path("synced");
    assert_ok(file_log_open(&l, path, 0));
    assert_ok(file_log_add(l, "one\n", 4));
    assert_ok(file_log_sync(l));
    assert_ok(file_log_add(l, "two\n", 4));
    sync_fails = 1;
    assert_fails(file_log_sync(l), FT_EIO, "synced");
    test_write_file(path, "one\n???", 7); /* the kernel lost it */
    assert_ok(file_log_add(l, "three\n", 6));
    assert_string_equal(test_read_file(path, NULL), "one\ntwo\nthree\n");
    assert_ok(file_log_sync(l));
    file_log_close(l);
    sync_fails = 1;
    assert_fails(file_write(path, "x", 1), FT_EIO, "synced");
    assert_string_equal(test_read_file(path, NULL), "one\ntwo\nthree\n");
}

static void count_changes(void *ctx, log_level level, const char *line)
{
    (void)level;
    *(int *)ctx += strstr(line, "was changed after") != NULL;
}

/* However many checkpoints and other warnings come between. */
static void a_changed_input_is_told_once(void **state)
{
    (void)state;
    int told = 0;
    file_watch *w;
    const char *path = test_path("read");
    test_write_file(path, "one", 3);
    assert_ok(file_watch_open(&w, path, FILE_DONE));
    log_set_sink(count_changes, &told);
    assert_ok(file_inputs_check());
    test_write_file(path, "other", 5);
    for (int i = 0; i < 100; i++) {
        assert_ok(file_inputs_check());
        log_warn("another, %d", i);
    }
    log_set_sink(NULL, NULL);
    file_watch_close(w);
    assert_int_equal(told, 1);
}

static void notes_are_of_memory(void **state)
{
    (void)state;
    file_notes notes;
    const char *path = test_path("abc");
    file_notes_begin(&notes);
    assert_ok(file_write(path, "x", 1));
    assert_ok(file_write(path, "abc", 3));
    assert_null(file_notes_find(&notes, test_path("other")));
    const file_note *n = file_notes_find(&notes, path);
    assert_int_equal(n->bytes, 3);
    assert_string_equal(n->sha256,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    file_notes_end(&notes);
    assert_ok(file_write(path, "abcd", 4));
}

static void the_first_failure_is_told(void **state)
{
    (void)state;
    assert_int_equal(ft_fail(FT_EIO, "the first"), FT_EIO);
    ft_error_keep(true);
    assert_int_equal(ft_fail(FT_EPERM, "of tidying up"), FT_EPERM);
    assert_int_equal(dir_rename(test_path("no"), test_path("where")), FT_ENOINPUT);
    assert_string_equal(ft_error(), "the first");
    ft_error_keep(false);
    assert_fails(ft_fail(FT_EPERM, "the next"), FT_EPERM, "the next");
}

/* What fails after it, by whatever function and for whatever reason it gives, fails for want of memory. */
static void a_refusal_of_memory_is_told(void **state)
{
    arena *mem;
    js_doc doc;
    (void)state;
    assert_null(ft_alloc(SIZE_MAX / 2, 4));
    assert_true(ft_error_starved());
    assert_int_equal(ft_fail(FT_EDATA, "the template prints nothing"), FT_EMEM);
    assert_int_equal(ft_fail_more(FT_ECONFIG, "a key is wrong"), FT_EMEM);
    assert_int_equal(ft_fail_again(FT_EDATA, "of a worker"), FT_EMEM);
    assert_int_equal(dir_rename(test_path("no"), test_path("where")), FT_EMEM);
    assert_int_equal(js_parse(&doc, "{", 1, "x", 1, JS_NO_POSITIONS, FT_EDATA), FT_EMEM);
    assert_int_equal(js_whole(), FT_EMEM);
    ft_error_clear();
    assert_non_null(strstr(ft_error(), "out of memory"));
    ft_error_forget();
    assert_string_equal(ft_error(), "");
    assert_ok(js_whole());
    assert_fails(ft_fail(FT_EDATA, "the next"), FT_EDATA, "the next");
    /* a limit of our own is none */
    assert_ok(arena_open(&mem, "small", 4096));
    assert_null(arena_raw(mem, 8192));
    assert_false(ft_error_starved());
    assert_false(arena_has(mem, 8192));
    assert_true(arena_has(mem, 4096));
    arena_close(mem);
}

static void a_cut_call_is_no_stop(void **state)
{
    (void)state;
    errno = EINTR;
    assert_int_equal(ft_fail_errno(FT_EIO, "a call"), FT_EIO);
}

/* Whatever the format is, and whoever tells it. */
static void a_line_break_of_a_name_is_no_line(void **state)
{
    bool there;
    (void)state;
    ft_fail(FT_EIO, "%s", "a\nb");
    assert_string_equal(ft_error(), "a\\x0ab");
    errno = EIO;
    ft_fail_errno(FT_EIO, "%s", "a\nb");
    assert_string_equal(ft_error(), "a\\x0ab: Input/output error");
    test_write_file(test_path("file"), "x", 1);
    assert_fails(io_out_there(test_path("file/a\nb"), &there), FT_ENOINPUT, "a\\x0ab");
    ft_fail(FT_ECONFIG, "one");
    ft_fail_more(FT_ECONFIG, "%s", "two\nthree");
    char *kept = ft_strdup(ft_error());
    ft_error_forget();
    ft_fail_again(FT_ECONFIG, kept);
    assert_string_equal(ft_error(), "one\ntwo\\x0athree");
    ft_free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_failed_look_is_no_answer, setup),
        cmocka_unit_test_setup(a_damaged_write_is_done_once_more, setup),
        cmocka_unit_test_setup(what_cannot_be_read_back_is_not_damaged, setup),
        cmocka_unit_test_setup(what_cannot_be_made_again_is_kept, setup),
        cmocka_unit_test_setup(tensors_too, setup),
        cmocka_unit_test_setup(room_is_waited_for, setup),
        cmocka_unit_test_setup(lines_wait_in_memory, setup),
        cmocka_unit_test_setup(a_failed_sync_is_not_believed_later, setup),
        cmocka_unit_test_setup(notes_are_of_memory, setup),
        cmocka_unit_test_setup(a_changed_input_is_told_once, setup),
        cmocka_unit_test_setup(the_first_failure_is_told, setup),
        cmocka_unit_test_setup(a_refusal_of_memory_is_told, setup),
        cmocka_unit_test_setup(a_cut_call_is_no_stop, setup),
        cmocka_unit_test_setup(a_line_break_of_a_name_is_no_line, setup),
        cmocka_unit_test_setup(a_signal_ends_the_wait, setup), /* last: it stays stopped */
    };
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
