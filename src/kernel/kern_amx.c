/* kern_amx.c – products in bf16 by tiles (AMX-BF16): blocks of 2 × 2 tiles, each 16 × 16 sums that take in 32 k at a
 * time.
 *
 * A tile of W is 16 word rows of a panel, a tile of A 16 rows of 32 values: both are read where they lie. Rows and
 * columns that do not fill a block get smaller tiles; their sums take the same k in the same order, so that a row's
 * bits do not depend on the block it falls into, and nothing is read or written beside it. tdpbf16ps adds the even
 * and the odd products of its 32 k in a chain each, then both to the sum, with denormals as zero (Intel's manual,
 * TDPBF16PS).
 *
 * The instructions are assembly: the intrinsics of gcc 12 tell the compiler of 8 of the 64 bytes that a configuration
 * has. tests/support compiles this file again with KERN_TILES, a header that defines them in C. */
#if defined(FT_HAS_AMX) || defined(KERN_TILES)
#ifndef VL
#define VL 16
#endif
#include "kern_vec.inc"
#include "kern_bf16.h"
#include "kern_pack.inc"

#ifdef KERN_TILES
#include KERN_TILES
#else
#define KERN_AMX kern_dot_amx
#define TILE_CONFIGURE(config) __asm__ volatile("ldtilecfg %0" ::"m"(*(config)))
#define TILE_RELEASE() __asm__ volatile("tilerelease")
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define TILE_LOAD(t, p, ld)                                                                        \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(p), "r"((int64_t)(ld)) : "memory")
#define TILE_STORE(t, p, ld)                                                                       \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(p), "r"((int64_t)(ld)) : "memory")
#define TILE_DOT(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#endif

enum {
    SIDE = 16,           /* rows of a tile; columns of sums */
    BLOCK = 2 * SIDE,    /* rows and columns of a block */
    STEP = 32,           /* k of a tile */
    WORD_ROW = 4 * SIDE, /* bytes of a panel's word row, and of a row of A in a tile */
    TILE = SIDE * WORD_ROW,
    LINE = 64,
};

/* Tiles 0 … 3 are the sums [row of tiles][column of tiles], 4 and 5 those of W, 6 and 7 those of A. */
enum { TILE_W = 4, TILE_A = 6, TILES = 8 };
typedef struct tile_config { /* as ldtilecfg reads it */
    uint8_t palette, start_row, zero[14];
    uint16_t bytes[16]; /* of a row of each tile */
    uint8_t rows[16];
} tile_config;
_Static_assert(sizeof(tile_config) == 64, "the instruction reads 64 bytes");
_Static_assert((int)SIDE == DOT_NR && (int)BLOCK <= DOT_MR && (int)DOT_UNIT % STEP == 0,
               "one panel a tile");

static _Thread_local struct {
    int rows, cols;
} shape; /* that this thread's tiles are configured for */

/* Tiles for a block of `rows` × `cols`. A tile without rows or columns does not exist. */
static void configure(int rows, int cols)
{
    tile_config t = {.palette = 1};
    if (shape.rows == rows && shape.cols == cols) return;
    shape.rows = rows;
    shape.cols = cols;
    for (int i = 0; i < 2; i++) {
        const int r = rows - i * SIDE < SIDE ? rows - i * SIDE : SIDE;
        for (int j = 0; j < 2; j++) {
            const int w = cols - j * SIDE < SIDE ? cols - j * SIDE : SIDE;
            if (r <= 0 || w <= 0) continue;
            t.rows[2 * i + j] = t.rows[TILE_A + i] = (uint8_t)r;
            t.bytes[2 * i + j] = t.bytes[TILE_W + j] = (uint16_t)(4 * w);
            t.bytes[TILE_A + i] = WORD_ROW;
            t.rows[TILE_W + j] = SIDE;
        }
    }
    TILE_CONFIGURE(&t);
}

static void end(void)
{
    TILE_RELEASE();
    shape.rows = 0;
}

/* What the blocks of a call share, and what they fetch ahead in each step of k. */
typedef struct call {
    int64_t c_step, a_step, panel; /* bytes from row to row, from panel to panel */
    int64_t kc;
    bool load;
    int c_each; /* rows of c, of `c_rows` */
    int x_each; /* rows that follow, ld bytes apart; `both`: two lines of each */
    int64_t x_ld, x_step;
    bool both;
} call;

static call start_call(int64_t ldc, int64_t lda, int rows, int64_t packed, int64_t kc, int64_t n,
                       bool load, const kern_next *next)
{
    enum { MOST = 8 }; /* rows in a step, so that loads of the step itself find their way */
    const int64_t steps = kc / STEP, blocks = (n + BLOCK - 1) / BLOCK;
    call o = {.c_step = ldc * (int64_t)sizeof(float),
              .a_step = lda * (int64_t)sizeof(uint16_t),
              .panel = packed * DOT_NR * (int64_t)sizeof(uint16_t),
              .kc = kc,
              .load = load};
    if (steps > 0) o.c_each = (int)((rows + steps - 1) / steps);
    if (!next || steps <= 0) return o;
    const int64_t each = next->bytes > 0 ? (next->rows + blocks - 1) / blocks : 0;
    o.x_each = each < MOST ? (int)each : MOST;
    o.x_ld = next->ld;
    o.both = next->bytes > steps * LINE;
    o.x_step = o.both ? 2 * LINE : LINE;
    return o;
}

/* One block of sums; `low` and `right`: it has a second row and a second column of tiles. Meanwhile it fetches c_rows
 * rows of c from c_next on, which are written next, and rows of x from x_next on. */
INLINE void block(bool low, bool right, const call *o, char *c, const char *a, const char *b,
                  const char *c_next, int c_rows, const char *x_next)
{
    const int64_t c_step = o->c_step, a_step = o->a_step, x_ld = o->x_ld, x_step = o->x_step;
    const int c_each = o->c_each, x_each = o->x_each;
    const bool both = o->both;
    const char *a1 = a + SIDE * a_step, *b1 = b + o->panel, *end = b + o->kc * WORD_ROW / 2;
    char *c1 = c + SIDE * c_step;
    if (o->load) {
        TILE_LOAD(0, c, c_step);
        if (right) TILE_LOAD(1, c + WORD_ROW, c_step);
        if (low) TILE_LOAD(2, c1, c_step);
        if (low && right) TILE_LOAD(3, c1 + WORD_ROW, c_step);
    } else {
        TILE_ZERO(0);
        if (right) TILE_ZERO(1);
        if (low) TILE_ZERO(2);
        if (low && right) TILE_ZERO(3);
    }
    for (; b != end; b += TILE, b1 += TILE) {
        TILE_LOAD(4, b, WORD_ROW);
        TILE_LOAD(6, a, a_step);
        if (right) TILE_LOAD(5, b1, WORD_ROW);
        if (low) TILE_LOAD(7, a1, a_step);
        TILE_DOT(0, 6, 4);
        if (right) TILE_DOT(1, 6, 5);
        if (low) TILE_DOT(2, 7, 4);
        if (low && right) TILE_DOT(3, 7, 5);
        a += WORD_ROW;
        a1 += WORD_ROW;
        if (c_rows > 0) {
            for (int i = 0; i < c_each; i++, c_next += c_step) {
                __builtin_prefetch(c_next, 1, 3);
                if (right) __builtin_prefetch(c_next + LINE, 1, 3);
            }
            c_rows -= c_each;
        }
        const char *x = x_next;
        for (int i = 0; i < x_each; i++, x += x_ld) {
            __builtin_prefetch(x, 0, 2);
            if (both) __builtin_prefetch(x + LINE, 0, 2);
        }
        x_next += x_step;
    }
    TILE_STORE(0, c, c_step);
    if (right) TILE_STORE(1, c + WORD_ROW, c_step);
    if (low) TILE_STORE(2, c1, c_step);
    if (low && right) TILE_STORE(3, c1 + WORD_ROW, c_step);
}

/* Functions of their own, so that the loop's places are in registers. */
typedef void (*block_fn)(const call *o, char *c, const char *a, const char *b, const char *c_next,
                         int c_rows, const char *x_next);
#define BLOCK_FN(low, right)                                                                       \
    static __attribute__((noinline)) void block_##low##right(                                      \
        const call *o, char *c, const char *a, const char *b, const char *c_next, int c_rows,      \
        const char *x_next)                                                                        \
    {                                                                                              \
        block(low, right, o, c, a, b, c_next, c_rows, x_next);                                     \
    }
BLOCK_FN(0, 0)
BLOCK_FN(0, 1)
BLOCK_FN(1, 0)
BLOCK_FN(1, 1)
static const block_fn block_fns[2][2] = {{block_00, block_01}, {block_10, block_11}};

/* A block that was loaded is in cache when it is stored: meanwhile the one to the right is fetched, at the end of the
 * row of blocks the first one of the next. */
static void panels(float *c, int64_t ldc, const uint16_t *a, int64_t lda, int rows,
                   const uint16_t *b, int64_t packed, int64_t kc, int64_t n, bool load,
                   const kern_next *next)
{
    const call o = start_call(ldc, lda, rows, packed, kc, n, load, next);
    const char *panel = (const char *)b, *x = next ? next->at : NULL;
    const int after = next ? next->rows : 0;
    for (int64_t j = 0; j < n; j += BLOCK, panel += 2 * o.panel) {
        const int cols = n - j < BLOCK ? (int)(n - j) : BLOCK;
        const bool last = j + BLOCK >= n;
        const float *to = !load ? c + j : last ? c + rows * ldc : c + j + BLOCK;
        configure(rows, cols);
        block_fns[rows > SIDE][cols > SIDE](&o, (char *)(c + j), (const char *)a, panel,
                                            (const char *)to, load && last ? after : rows, x);
        if (x) x += o.x_each * o.x_ld;
    }
}

/* Measured on a CPU with 48 KB of L1 and 2 MB of L2 a core: k in one block up to 2048, else in blocks of 512; 256 tokens
 * of a weight gradient; 1 MB of panels. Packing takes the time of 2 of its 22 G vector multiply-adds a second. */
const kern_dot KERN_AMX = {
    .name = "amx",
    .mr = BLOCK,
    .k_unit = STEP,
    .row_unit = SIDE,
    .k_most = 2048,
    .panel_values = 512 << 10,
    .tokens = 256,
    .grad_rows = 128,
    .round_cost = 2.0,
    .pack_cost = 2.0,
    .end = end,
    .panels = panels,
    DOT_PACKING,
};
#else
typedef int kern_amx_needs_x86;
#endif
