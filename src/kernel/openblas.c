/* openblas.c – OpenBLAS, opened with dlopen when it is first asked for: all else runs where it is not installed.
 *
 * A serial build is refused because its calls may not run side by side. */
#include "kern.h"
#include "openblas.h"

#include <dlfcn.h>
#include <stdlib.h>

enum { ROOM = 32 << 20 }; /* of address space: its library and Fortran's, and a buffer */

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

/* Its start ends the process, or calls itself without end, where it gets no memory. */
static ft_status look_for_room(void)
{
    void *room = ft_alloc(ROOM, 1);
    if (!room) return FT_EMEM;
    ft_free(room);
    return FT_OK;
}

static const openblas *open_library(void)
{
    static openblas lib;
    const char *told = getenv("OPENBLAS_CORETYPE"), *best = core_for_cpu();
    if (best && !(told && told[0])) setenv("OPENBLAS_CORETYPE", best, 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1); /* it makes none, nor raises SIGINT where it cannot */
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
    return &lib;
}

ft_status kern_openblas_open(const openblas **out)
{
    static const openblas *lib;
    static bool tried;
    if (!tried) {
        FT_TRY(look_for_room());
        lib = open_library();
        tried = true;
    }
    *out = lib;
    return FT_OK;
}

/* The library keeps the number of threads per calling thread in some builds. */
void kern_openblas_one_thread(const openblas *lib)
{
    static _Thread_local bool done;
    if (!done) lib->set_threads(1);
    done = true;
}
