/* grid.c – how a product is cut into tiles. */
#include "grid.h"

enum { MAX_SPLIT = 64 }; /* parts of either dimension */

/* Start of part i of `parts` of n items, in multiples of `unit`. */
static int64_t part_start(int64_t n, int64_t unit, int parts, int64_t i)
{
    int64_t units = kern_ceil_div(n, unit), start = units * i / parts * unit;
    return start < n ? start : n;
}

bool kern_tile_of(kern_tile *t, const kern_grid *g, int64_t tile, int64_t m, int mr, int64_t n,
                  int64_t unit)
{
    const int64_t i = tile / g->n_parts, j = tile % g->n_parts;
    *t = (kern_tile){.m0 = part_start(m, mr, g->m_parts, i),
                     .m1 = part_start(m, mr, g->m_parts, i + 1),
                     .n0 = part_start(n, unit, g->n_parts, j),
                     .n1 = part_start(n, unit, g->n_parts, j + 1)};
    return t->m0 < t->m1 && t->n0 < t->n1;
}

kern_grid kern_grid_for(int64_t m, int64_t n, int64_t k, int mr, int64_t unit, int lanes,
                        double a_cost, double b_cost)
{
    const int threads = pool_threads();
    double best = -1;
    int64_t rows = kern_ceil_div(m, mr), cols = kern_ceil_div(n, unit);
    kern_grid grid = {1, 1};
    if ((double)m * (double)n * (double)k < 3e5) return grid; /* not worth waking anyone */
    for (int mp = 1; mp <= MAX_SPLIT && mp <= rows; mp = mp < 8 ? mp + 1 : mp * 2) {
        for (int np = 1; np <= MAX_SPLIT && np <= cols; np = np < 8 ? np + 1 : np * 2) {
            double tile_m = (double)kern_ceil_div(rows, mp) * mr;
            double tile_n = (double)(kern_ceil_div(cols, np) * unit);
            if (tile_m > (double)m) tile_m = (double)m;
            double each = tile_m * tile_n / (double)lanes + a_cost * tile_m + b_cost * tile_n +
                          200.0 / (double)k;
            double turns = (double)kern_ceil_div((int64_t)mp * np, threads);
            /* several turns let a late thread catch up */
            double cost = each * turns * (turns < 4 ? 1.0 + 0.02 * (4 - turns) : 1.0);
            if (best < 0 || cost < best) {
                best = cost;
                grid = (kern_grid){mp, np};
            }
        }
    }
    return grid;
}
