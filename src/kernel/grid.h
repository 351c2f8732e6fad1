/* grid.h – private to kernel: how a product is cut into tiles. The bits of a product do not depend on it. */
#ifndef FT_KERN_GRID_H
#define FT_KERN_GRID_H

#include "kern.h"

typedef struct kern_grid {
    int m_parts, n_parts;
} kern_grid;

/* The cut of [m, n] that costs least on the threads of the pool: rows stay together in blocks of mr, columns in
 * blocks of `unit`. An element of A costs a_cost multiply-adds of a vector for each part of n, one of B b_cost for
 * each part of m; `lanes` multiply-adds in a vector. The slowest thread counts. */
kern_grid kern_grid_for(int64_t m, int64_t n, int64_t k, int mr, int64_t unit, int lanes,
                        double a_cost, double b_cost);
/* Rows m0 … m1 and columns n0 … n1 of a tile; false: there are none. */
typedef struct kern_tile {
    int64_t m0, m1, n0, n1;
} kern_tile;
bool kern_tile_of(kern_tile *t, const kern_grid *g, int64_t tile, int64_t m, int mr, int64_t n,
                  int64_t unit);
static inline int64_t kern_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
#endif
