/* support.h – helpers shared by the test programs.
 *
 * A test that cannot get its temporary folder or file ends the program: that is not a result.
 * Memory handed out here is released at exit, so that a leak check speaks of the code under test
 * alone. */
#ifndef FT_TEST_SUPPORT_H
#define FT_TEST_SUPPORT_H

/* cmocka.h needs these four in front of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ft/base.h"
#include "ft/io.h"

/* A fresh temporary folder of this program, removed at exit. */
const char *test_dir(void);
/* A path inside it; the result stays valid until exit. */
const char *test_path(const char *name);
/* A path in tests/golden of the source tree, and one from its root. */
const char *golden_path(const char *name);
const char *source_path(const char *name);

/* Is there a file, or a folder, of that name? Its size; −1: no regular file. A look that fails ends the program. */
bool file_exists(const char *path);
bool dir_exists(const char *path);
int64_t file_size(const char *path);

void test_write_file(const char *path, const void *data, size_t n);
/* Whole file, NUL-terminated; *n may be NULL. Ends the program when it cannot be read. */
char *test_read_file(const char *path, size_t *n);

/* One gzip member of n bytes; the result has *out_n bytes. */
uint8_t *test_gzip(const void *data, size_t n, size_t *out_n);

/* Setup and teardown of a group that works in one arena. */
extern arena *test_mem;
int test_open_arena(void **state);
int test_close_arena(void **state);

/* n bytes, zeroed. */
void *test_alloc(size_t n);
/* n floats uniform in [low, high), the same on every machine. */
float *test_uniform(uint64_t seed, int64_t n, float low, float high);
/* Uniform 64-bit numbers: a pure function of (seed, i). */
uint64_t test_u64(uint64_t seed, uint64_t i);

/* ‖a − b‖₂ / ‖b‖₂ (‖a‖₂ when b is 0), and the largest |a − b|. NaN on either side gives NaN. */
double rel_l2(const float *a, const float *b, int64_t n);
double max_abs_diff(const float *a, const float *b, int64_t n);
/* Fails, naming the first of n that is further than bound · (1 + |want|) from what is wanted. */
void test_close(const float *have, const double *want, int64_t n, double bound, const char *what);

/* A safetensors file of tests/golden, open until exit, and a tensor of it (f32: with n elements,
 * aligned). The program ends when there is no such thing. */
const st_file *golden_open(const char *name);
const io_tensor *golden_tensor(const st_file *f, const char *name);
const float *golden_f32(const st_file *f, const char *name, int64_t n);
void test_open_tensors(const char *folder, st_file *f, arena *mem);      /* its model.safetensors */
const io_tensor *test_gguf_tensor(const gguf_file *f, const char *name); /* NULL: none */

/* The call is expected to succeed; shows the recorded message when it does not. */
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        ft_status assert_ok_ = (call);                                                             \
        if (assert_ok_ != FT_OK) {                                                                 \
            print_error("%s: status %d: %s\n", #call, (int)assert_ok_, ft_error());                \
            assert_int_equal(assert_ok_, FT_OK);                                                   \
        }                                                                                          \
    } while (0)
/* The call is expected to fail with `status` and a message that holds `text`. */
#define assert_fails(call, status, text)                                                           \
    do {                                                                                           \
        ft_error_forget();                                                                         \
        ft_status assert_fails_ = (call);                                                          \
        if (assert_fails_ != (status) || !strstr(ft_error(), (text))) {                            \
            print_error("%s: status %d: %s\n", #call, (int)assert_fails_, ft_error());             \
            assert_int_equal(assert_fails_, (status));                                             \
            assert_non_null(strstr(ft_error(), (text)));                                           \
        }                                                                                          \
    } while (0)
#endif
