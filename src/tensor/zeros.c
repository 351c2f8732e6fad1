/* zeros.c – how many stored numbers are exactly 0, by the bits. */
#include "ft/tensor.h"
#include "dtype_rows.h"

#include <string.h>

/* A sum of a run is small, so that the compiler makes it wide. */
#define COUNTER(name, word, value)                                                                 \
    static int64_t name(const uint8_t *p, int64_t n)                                               \
    {                                                                                              \
        enum { RUN = 128 };                                                                        \
        int64_t zeros = 0;                                                                         \
        for (int64_t i = 0; i < n; i += RUN) {                                                     \
            const int64_t some = n - i < RUN ? n - i : RUN;                                        \
            word v[RUN], sum = 0;                                                                  \
            memset(v, 0xff, sizeof v);                                                             \
            memcpy(v, p + i * (int64_t)sizeof *v, (size_t)some * sizeof *v);                       \
            for (int k = 0; k < RUN; k++) sum = (word)(sum + ((v[k] & (value)) == 0));             \
            zeros += (int64_t)sum;                                                                 \
        }                                                                                          \
        return zeros;                                                                              \
    }
COUNTER(count_16, uint16_t, 0x7fff)
COUNTER(count_32, uint32_t, 0x7fffffffu)
COUNTER(count_64, uint64_t, 0x7fffffffffffffffull)

int64_t dt_count_zeros(const dt_type *type, const void *data, int64_t n)
{
    if (type == &dt_f32) return count_32(data, n);
    if (type == &dt_bf16 || type == &dt_f16) return count_16(data, n);
    return type == &dt_f64 ? count_64(data, n) : -1;
}
