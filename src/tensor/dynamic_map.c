/* dynamic_map.c – the map of eight bits that bitsandbytes codes states of optimizers and nested absmax with: midpoints of equal
 * pieces of [0.1, 1], 1 to 64 of them (2 to 128 without a sign) times 10⁻⁶ to 1, with 0 and 1 (Dettmers 2016). */
#include "ft/tensor.h"

#include <math.h>
#include <stdlib.h>

/* Point i of `steps` + 1 from 0.1 to 1, as torch.linspace makes it: from the nearer end, multiplied and added at once. */
static float point(int i, int steps)
{
    const float step = (1.0f - 0.1f) / (float)steps;
    return i < (steps + 1) / 2 ? fmaf(step, (float)i, 0.1f) : fmaf(-step, (float)(steps - i), 1.0f);
}

static int ascending(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

void dt_dynamic_map(bool is_signed, float *map)
{
    static const float decade[] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
    int k = 0;
    for (int e = 0; e < 7; e++) {
        const int steps = is_signed ? 1 << e : 2 << e;
        for (int i = 0; i < steps; i++) {
            float middle = (point(i, steps) + point(i + 1, steps)) / 2.0f * decade[e];
            map[k++] = middle;
            if (is_signed) map[k++] = -middle;
        }
    }
    map[k++] = 0.0f;
    map[k] = 1.0f;
    qsort(map, 256, sizeof *map, ascending);
}
