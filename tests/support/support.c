/* support.c – temporary folder, files, random floats and comparisons for the test programs.
 *
 * Uses malloc and stdio, not the modules under test: a broken ft_alloc must fail its own test, not
 * all. */
#include "support.h"

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

typedef struct kept {
    struct kept *next;
    _Alignas(64) unsigned char data[];
} kept;

static kept *all_kept;
static char temp_dir[512];
static pid_t temp_owner;

static arena *golden_mem;
static st_file golden_file[32];
static int golden_count;

static _Noreturn void give_up(const char *what, const char *name)
{
    fprintf(stderr, "test support: %s %s: %s\n", what, name, strerror(errno));
    exit(99);
}

static int remove_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
    (void)sb, (void)flag, (void)ftw;
    return remove(path);
}

static void clean_up(void)
{
    /* A forked child leaves the folder to its parent. */
    if (temp_dir[0] && getpid() == temp_owner) nftw(temp_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    temp_dir[0] = '\0';
    while (golden_count > 0) st_close(&golden_file[--golden_count]);
    arena_close(golden_mem);
    golden_mem = NULL;
    while (all_kept) {
        kept *next = all_kept->next;
        free(all_kept);
        all_kept = next;
    }
}

static void register_clean_up(void)
{
    static bool registered;
    if (!registered) atexit(clean_up);
    registered = true;
}

void *test_alloc(size_t n)
{
    register_clean_up();
    size_t size = (sizeof(kept) + n + 63) / 64 * 64;
    kept *k = aligned_alloc(64, size);
    if (!k) give_up("allocating", "memory");
    memset(k, 0, size);
    k->next = all_kept;
    all_kept = k;
    return k->data;
}

arena *test_mem;

int test_open_arena(void **state)
{
    (void)state;
    return arena_open(&test_mem, "test", (size_t)1 << 30) == FT_OK ? 0 : -1;
}

int test_close_arena(void **state)
{
    (void)state;
    arena_close(test_mem);
    return 0;
}

const char *test_dir(void)
{
    if (temp_dir[0]) return temp_dir;
    const char *base = getenv("TMPDIR");
    if (!base || !base[0]) base = "/tmp";
    if (snprintf(temp_dir, sizeof temp_dir, "%s/ft-test-XXXXXX", base) >= (int)sizeof temp_dir) {
        errno = ENAMETOOLONG;
        give_up("making a folder in", base);
    }
    if (!mkdtemp(temp_dir)) give_up("making", temp_dir);
    temp_owner = getpid();
    register_clean_up();
    return temp_dir;
}

static const char *join(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 2;
    char *path = test_alloc(n);
    snprintf(path, n, "%s/%s", dir, name);
    return path;
}

const char *test_path(const char *name)
{
    return join(test_dir(), name);
}

const char *source_path(const char *name)
{
    return join(FT_SOURCE_DIR, name);
}

const char *golden_path(const char *name)
{
    return join(FT_SOURCE_DIR "/tests/golden", name);
}

static path_kind kind_of(const char *path)
{
    path_kind kind;
    if (path_look(path, &kind) != FT_OK) give_up("looking at", path);
    return kind;
}

bool file_exists(const char *path)
{
    return kind_of(path) == PATH_FILE;
}

bool dir_exists(const char *path)
{
    return kind_of(path) == PATH_FOLDER;
}

int64_t file_size(const char *path)
{
    int64_t bytes;
    if (path_size(path, &bytes) != FT_OK) give_up("looking at", path);
    return bytes;
}

void test_write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f) give_up("creating", path);
    if (fwrite(data, 1, n, f) != n || fclose(f) != 0) give_up("writing", path);
}

char *test_read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) give_up("opening", path);
    if (fseek(f, 0, SEEK_END) != 0) give_up("reading", path);
    long size = ftell(f);
    if (size < 0 || fseek(f, 0, SEEK_SET) != 0) give_up("reading", path);
    char *data = test_alloc((size_t)size + 1);
    if (fread(data, 1, (size_t)size, f) != (size_t)size) give_up("reading", path);
    fclose(f);
    if (n) *n = (size_t)size;
    return data;
}

/* SplitMix64. */
uint64_t test_u64(uint64_t seed, uint64_t i)
{
    uint64_t z = seed * 0xd1342543de82ef95u + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

float *test_uniform(uint64_t seed, int64_t n, float low, float high)
{
    float *x = test_alloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = low + (high - low) * ((float)(test_u64(seed, (uint64_t)i) >> 40) / 16777216.0f);
    return x;
}

double rel_l2(const float *a, const float *b, int64_t n)
{
    double diff = 0, norm_a = 0, norm_b = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        diff += d * d;
        norm_a += (double)a[i] * (double)a[i];
        norm_b += (double)b[i] * (double)b[i];
    }
    double norm = norm_b > 0 ? norm_b : norm_a;
    if (norm == 0) return sqrt(diff);
    return sqrt(diff / norm);
}

double max_abs_diff(const float *a, const float *b, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (isnan(d)) return d;
        if (d > worst) worst = d;
    }
    return worst;
}

const st_file *golden_open(const char *name)
{
    const char *path = golden_path(name);
    for (int i = 0; i < golden_count; i++)
        if (strcmp(golden_file[i].path, path) == 0) return &golden_file[i];
    errno = 0;
    if (golden_count == (int)FT_COUNT_OF(golden_file)) give_up("too many golden files:", path);
    if (!golden_mem && arena_open(&golden_mem, "golden", (size_t)256 << 20) != FT_OK)
        give_up("memory for", path);
    register_clean_up();
    if (st_open(&golden_file[golden_count], path, golden_mem) != FT_OK)
        give_up(ft_error(), "(golden file)");
    return &golden_file[golden_count++];
}

const io_tensor *golden_tensor(const st_file *f, const char *name)
{
    const io_tensor *t = st_find(f, name);
    errno = 0;
    if (!t) give_up("no golden tensor", name);
    return t;
}

void test_open_tensors(const char *folder, st_file *f, arena *mem)
{
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(st_open(f, path, mem));
}

const io_tensor *test_gguf_tensor(const gguf_file *f, const char *name)
{
    int64_t i;
    return map_get(&f->index, name, strlen(name), &i) ? &f->tensor[i] : NULL;
}

const float *golden_f32(const st_file *f, const char *name, int64_t n)
{
    const io_tensor *t = golden_tensor(f, name);
    errno = 0;
    if (t->type != &dt_f32 || t->bytes != (size_t)n * sizeof(float))
        give_up("golden shape of", name);
    float *copy = test_alloc(t->bytes);
    memcpy(copy, t->data, t->bytes);
    return copy;
}

uint8_t *test_gzip(const void *data, size_t n, size_t *out_n)
{
    z_stream z = {0};
    size_t cap = n + n / 1000 + 200;
    uint8_t *out = test_alloc(cap);
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (unsigned)n;
    z.next_out = out;
    z.avail_out = (unsigned)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    *out_n = z.total_out;
    ft_written(out, *out_n);
    deflateEnd(&z);
    return out;
}

void test_close(const float *have, const double *want, int64_t n, double bound, const char *what)
{
    for (int64_t i = 0; i < n; i++) {
        const bool good = fabs((double)have[i] - want[i]) <= bound * (1 + fabs(want[i]));
        if (!good) print_error("%s %d: %g, not %g\n", what, (int)i, (double)have[i], want[i]);
        assert_true(good);
    }
}
