/* dispatch.c – picks the instruction set and the row of matrix products, once, before the pool starts.
 *
 * By CPUID and environment only, never by timing: a timed choice would change bits between runs. Until kn_init
 * the generic level is in force, so that no call can fail. */
#include "kern.h"
#include "kern_bf16.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* clang 14 has no name for this in __builtin_cpu_supports. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

const kern_table *kern = &kern_generic;
const kern_dot *kern_dot_row = &kern_dot_generic;
static const kern_gemm *row = &kern_gemm_own;
static char core_name[96] = "generic", core_name_bf16[160];

const kern_table *kern_level_at(int i)
{
    const kern_table *can[3] = {&kern_generic, NULL, NULL};
#if defined(__x86_64__)
    int n = 1;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() &&
        __builtin_cpu_supports("bmi2")) {
        can[n++] = &kern_avx2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            can[n++] = &kern_avx512;
    }
#elif defined(__aarch64__)
    can[1] = &kern_neon; /* part of the architecture */
#endif
    return i >= 0 && i < 3 ? can[i] : NULL;
}

/* Eight columns (LoRA's thin products) leave half of 16 lanes idle; AVX2's products have the same bits. */
const kern_table *kern_for_width(int64_t n)
{
#if defined(__x86_64__)
    if (kern == &kern_avx512 && n <= kern_avx2.lanes) return &kern_avx2;
#endif
    (void)n;
    return kern;
}

#if defined(__x86_64__)
/* Intel's cores before AMX do vdpbf16ps at half the rate of f32 multiply-adds. */
static bool is_amd(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx;
}

static bool has_avx512bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVX512BF16) != 0;
}

#if defined(FT_HAS_AMX)
/* The tiles of AMX: the CPU has them, the system saves them, and grants them to this process when asked. A container
 * or an older kernel may refuse. */
static bool has_amx(void)
{
    enum {
        CPU_BF16 = 1 << 22,
        CPU_TILES = 1 << 24,
        XSAVE_TILES = 3 << 17,
        REQUEST = 0x1023,
        TILE_DATA = 18
    };
    unsigned a, b, c, d, state, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if ((d & CPU_BF16) == 0 || (d & CPU_TILES) == 0) return false;
    __asm__ volatile("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
    if ((state & XSAVE_TILES) != XSAVE_TILES) return false;
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#endif
#endif

const kern_dot *kern_dot_at(int i)
{
#if defined(__x86_64__)
    const kern_dot *can[2] = {NULL, NULL};
    int n = 0;
    if (kern_level_at(2) == &kern_avx512 && has_avx512bf16()) {
#if defined(FT_HAS_AMX)
        if (has_amx()) can[n++] = &kern_dot_amx;
#endif
        can[n++] = &kern_dot_avx512bf16;
    }
    if (i >= 0 && i < n) return can[i];
#endif
    (void)i;
    return NULL;
}

/* The row for a level: with an instruction for it where that gains, else the level's own. */
static const kern_dot *pick_dot(const kern_table *level)
{
#if defined(__x86_64__)
    for (int i = 0; level == &kern_avx512 && kern_dot_at(i); i++)
        if (kern_dot_at(i) != &kern_dot_avx512bf16 || is_amd()) return kern_dot_at(i);
#endif
    return level->dot;
}

/* The row that FT_BF16 names. */
static ft_status force_dot(const char *name)
{
    char known[64] = "";
#if defined(__x86_64__)
    for (int i = 0; kern == &kern_avx512 && kern_dot_at(i); i++) {
        const kern_dot *r = kern_dot_at(i);
        const size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s, ", r->name);
        if (strcmp(name, r->name) != 0) continue;
        kern_dot_row = r;
        return FT_OK;
    }
#endif
    FT_CHECK(strcmp(name, "portable") == 0, FT_EUSAGE,
             "FT_BF16: this machine at level %s has no products in bf16 called %s; use %sportable",
             kern->name, ft_shows(name), known);
    kern_dot_row = kern->dot;
    return FT_OK;
}

void kern_dot_use(const kern_dot *r)
{
    kern_dot_row = r ? r : kern->dot;
}

kn_precision kn_precision_of(const char *name)
{
    if (strcmp(name, "auto") == 0) return kern_dot_row != kern->dot ? KN_BF16 : KN_F32;
    return strcmp(name, "bf16") == 0 ? KN_BF16 : KN_F32;
}

static ft_status pick_level(const char *name, const kern_table **out)
{
    static const char *const known[] = {"generic", "avx2", "avx512", "neon"};
    const kern_table *best = NULL;
    bool is_known = !name;
    for (size_t i = 0; name && i < FT_COUNT_OF(known); i++)
        if (strcmp(name, known[i]) == 0) is_known = true;
    FT_CHECK(is_known, FT_EUSAGE, "FT_CPU: %s is not a level; use generic, avx2, avx512 or neon",
             ft_shows(name));
    for (int i = 0; kern_level_at(i); i++) {
        best = kern_level_at(i);
        if (name && strcmp(name, best->name) == 0) break;
    }
    if (name && strcmp(name, best->name) != 0)
        log_warn("FT_CPU: this machine has no %s; using %s", name, best->name);
    *out = best;
    return FT_OK;
}

ft_status kern_use(const char *level, const char *gemm)
{
    const kern_table *table = NULL;
    const kern_gemm *found = &kern_gemm_own;
    FT_TRY(pick_level(level, &table));
    const bool forced = gemm && strcmp(gemm, "openblas") == 0;
    if (forced || (!gemm && table == &kern_generic)) {
        found = kern_openblas();
        FT_CHECK(found || !forced, FT_EUSAGE,
                 "FT_GEMM: OpenBLAS cannot be used here: it is not installed (the package "
                 "libopenblas0-pthread), built without threads, or chooses a core that is unfit; "
                 "unset FT_GEMM");
        if (!found) found = &kern_gemm_own;
    }
    FT_CHECK(!gemm || forced || strcmp(gemm, table->name) == 0, FT_EUSAGE,
             "FT_GEMM: %s is not a row of level %s; use %s or openblas", ft_shows(gemm),
             table->name, table->name);
    kern = table;
    kern_dot_row = pick_dot(table);
    row = found;
    if (row == &kern_gemm_own)
        snprintf(core_name, sizeof core_name, "%s", table->name);
    else
        snprintf(core_name, sizeof core_name, "%s+openblas(%s)", table->name, kern_openblas_core());
    return FT_OK;
}

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

ft_status kn_init(void)
{
    FT_TRY(kern_use(env("FT_CPU"), env("FT_GEMM")));
    return env("FT_BF16") ? force_dot(env("FT_BF16")) : FT_OK;
}

const char *kn_level(void)
{
    return kern->name;
}

size_t kn_scratch_bytes(void)
{
    return row->scratch + ((size_t)2 << 20); /* and that of attention */
}

const char *kn_gemm_name(void)
{
    return row == &kern_gemm_own ? kern->name : row->name;
}

const char *kn_library(void)
{
    static char name[40];
    const char *config = kern_openblas_config();
    if (row == &kern_gemm_own) return NULL;
    size_t n = strcspn(config, " ");
    if (config[n])
        n += 1 + strcspn(config + n + 1, " "); /* name and version; then how it was built */
    snprintf(name, sizeof name, "%.*s", (int)n, config);
    return name;
}

const char *kn_core_name(kn_precision precision)
{
    if (precision == KN_F32) return core_name;
    snprintf(core_name_bf16, sizeof core_name_bf16, "%s+%s", core_name, kern_dot_row->name);
    return core_name_bf16;
}

static void plain_product(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w,
                          int64_t m, const float *bias, bool accumulate, bool in_out)
{
    row->wx(&(kn_product){.y = {y, ldy, false},
                          .x = {(float *)x, ldx, false},
                          .m = m,
                          .w = w,
                          .in_out = in_out,
                          .accumulate = accumulate,
                          .bias = bias});
}

void kn_gemm_nt(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w, int64_t m,
                const float *bias, bool accumulate)
{
    plain_product(y, ldy, x, ldx, w, m, bias, accumulate, false);
}

void kn_gemm_nn(float *y, int64_t ldy, const float *x, int64_t ldx, const kn_mat *w, int64_t m,
                const float *bias, bool accumulate)
{
    plain_product(y, ldy, x, ldx, w, m, bias, accumulate, true);
}

void kn_gemm_tn(float *c, int64_t ldc, const float *a, int64_t lda, int64_t m, const float *b,
                int64_t ldb, int64_t n, int64_t t, const int32_t *seg, int n_seg)
{
    row->tn(c, ldc, a, lda, m, b, ldb, n, t, seg, n_seg);
}

void kn_gemm(const kn_product *p)
{
    const kn_term *term = p->term;
    kn_product of = *p;
    if (term && (term->in_out ? term->w->rows : term->w->cols) == 0) of.term = NULL;
    (p->precision == KN_BF16 ? kern_bf16_product : row->wx)(&of);
}

void kn_gemm_grad(kn_precision precision, float *c, int64_t ldc, kn_rows a, int64_t m, kn_rows b,
                  int64_t n, int64_t t, const int32_t *seg, int n_seg)
{
    if (precision == KN_BF16)
        kern_bf16_grad(c, ldc, a, m, b, n, t, seg, n_seg);
    else
        row->tn(c, ldc, a.data, a.ld, m, b.data, b.ld, n, t, seg, n_seg);
}
