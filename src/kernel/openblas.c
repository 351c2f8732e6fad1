/* openblas.c – OpenBLAS, opened with dlopen when it is first asked for: all else runs where it is not installed.
 *
 * A serial build is refused because its calls may not run side by side. */
#include "kern.h"
#include "openblas.h"

#include <dlfcn.h>
#include <stdlib.h>

/* Of its cores the best that this CPU runs and whose rows do not depend on each other. It knows CPUs by their numbers and
 * takes one newer than itself for the oldest. NULL: its choice. */
static const char *core_for_cpu(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return "SkylakeX";
    if (__builtin_cpu_supports("avx")) return "Sandybridge";
    return __builtin_cpu_supports("sse4.2") ? "Nehalem" : "Prescott";
#else
    return NULL;
#endif
}

/* The functions of the library that are there; the others are NULL. */
static void look_up(openblas *lib, void *so)
{
    static const struct {
        const char *name;
        size_t at;
    } wanted[] = {
        {"cblas_sgemm", offsetof(openblas, sgemm)},
        {"openblas_set_num_threads", offsetof(openblas, set_threads)},
        {"dgesdd_", offsetof(openblas, dgesdd)},
        {"dgeqrf_", offsetof(openblas, dgeqrf)},
        {"dorgqr_", offsetof(openblas, dorgqr)},
    };
    for (size_t i = 0; i < FT_COUNT_OF(wanted); i++)
        *(void **)(void *)((char *)lib + wanted[i].at) = dlsym(so, wanted[i].name);
}

const openblas *kern_openblas_open(void)
{
    static openblas lib;
    static bool tried, works;
    if (tried) return works ? &lib : NULL;
    tried = true;
    const char *told = getenv("OPENBLAS_CORETYPE"), *best = core_for_cpu();
    if (best && !(told && told[0])) setenv("OPENBLAS_CORETYPE", best, 1);
    void *so = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!so) return NULL;
    int (*parallel)(void) = (int (*)(void))dlsym(so, "openblas_get_parallel");
    char *(*core)(void) = (char *(*)(void))dlsym(so, "openblas_get_corename");
    char *(*config)(void) = (char *(*)(void))dlsym(so, "openblas_get_config");
    look_up(&lib, so);
    if (!parallel || !core || !lib.sgemm || !lib.set_threads) return NULL;
    if (parallel() == 0) {
        log_warn("OpenBLAS is a build without threads, whose calls may not run side by side; "
                 "not used");
        return NULL;
    }
    lib.set_threads(1);
    lib.core = core();
    lib.config = config ? config() : "OpenBLAS";
    works = true;
    return &lib;
}

/* The library keeps the number of threads per calling thread in some builds. */
void kern_openblas_one_thread(const openblas *lib)
{
    static _Thread_local bool done;
    if (!done) lib->set_threads(1);
    done = true;
}
