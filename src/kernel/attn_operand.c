/* attn_operand.c – operands of attention's products: packing queries, keys, values and scores, in f32 or bf16. */
#include "attn.h"
#include "kern_bf16.h"

#include <string.h>

_Static_assert(ATTN_UNIT % DOT_UNIT == 0 && ATTN_UNIT % (2 * DOT_NR) == 0, "fits every row");

static const uint16_t zeros[KN_HEAD_DIM_MAX + ATTN_UNIT];

int64_t kern_attn_panel_floats(int64_t n, int64_t k)
{
    const int64_t f32 = attn_round_up(k * (n + 2 * kern->nr), 16);
    const int64_t bf16 = attn_round_up(k, ATTN_UNIT) * attn_round_up(n, ATTN_UNIT) / 2;
    return f32 > bf16 ? f32 : bf16;
}

int64_t kern_attn_k(bool bf16, int64_t k)
{
    return bf16 ? attn_round_up(k, ATTN_UNIT) : k;
}

int64_t kern_attn_columns(bool bf16, int64_t keys, int64_t nk)
{
    if (bf16) return attn_round_up(keys, ATTN_UNIT);
    return attn_min(attn_round_up(keys, kern->nr), attn_round_up(nk, kern->lanes));
}

attn_rows kern_attn_rows_of(kn_rows x, int64_t row, int64_t column)
{
    attn_rows r = {.ld = x.ld};
    if (x.bf16)
        r.bf16 = (const uint16_t *)x.data + row * x.ld + column;
    else
        kern_src_f32(&r.f32, (const float *)x.data + row * x.ld + column, x.ld);
    return r;
}

/* Row i of x over d values and their filling: where it lies, or in copy. */
static const uint16_t *filled(const attn_rows *x, int64_t i, int64_t d, uint16_t *copy)
{
    const int64_t all = kern_attn_k(true, d);
    const uint16_t *row = x->bf16 + i * x->ld;
    if (d == all) return row;
    memcpy(copy, row, (size_t)d * sizeof *copy);
    memset(copy + d, 0, (size_t)(all - d) * sizeof *copy);
    return copy;
}

void kern_attn_pack_t(float *panel, const attn_rows *x, int64_t r0, int64_t n, int64_t d,
                      float *tmp)
{
    if (!x->bf16) {
        kern->pack_t(panel, &x->f32, r0, n, 0, d, tmp);
        return;
    }
    const int64_t kc = kern_attn_k(true, d);
    uint16_t *to = (uint16_t *)(void *)panel, *copy = (uint16_t *)(void *)tmp;
    for (int64_t j = 0; j < attn_round_up(n, ATTN_UNIT); j += DOT_NR, to += DOT_NR * kc) {
        const uint16_t *row[DOT_NR];
        for (int64_t i = 0; i < DOT_NR; i++)
            row[i] = j + i < n ? filled(x, r0 + j + i, d, copy + i * kc) : zeros;
        kern_dot_row->pack_t(to, row, kc);
    }
}

void kern_attn_pack_n(float *panel, const attn_rows *x, int64_t r0, int64_t n, int64_t d,
                      float *tmp)
{
    if (!x->bf16) {
        kern->pack_n(panel, &x->f32, 0, d, r0, n, tmp);
        return;
    }
    const int64_t kc = kern_attn_k(true, n);
    uint16_t *to = (uint16_t *)(void *)panel;
    for (int64_t k = 0; k < kc; k += 2) {
        const uint16_t *even = k < n ? x->bf16 + (r0 + k) * x->ld : zeros;
        const uint16_t *odd = k + 1 < n ? x->bf16 + (r0 + k + 1) * x->ld : zeros;
        kern_dot_row->pack_n(to + k * DOT_NR, kc * DOT_NR, even, odd, d);
    }
}

attn_a kern_attn_of_rows(const attn_rows *x, int64_t r0, int64_t n, int64_t d, float *copy)
{
    uint16_t *to = (uint16_t *)(void *)copy;
    if (!x->bf16) {
        const float *from = (const float *)(const void *)kern_src_row(&x->f32, r0);
        kern->copy_rows(copy, from, x->ld, n, d);
        return (attn_a){.at = copy};
    }
    if (d % ATTN_UNIT == 0) return (attn_a){.at = x->bf16 + r0 * x->ld, .ld = x->ld, .bf16 = true};
    for (int64_t i = 0; i < n; i++) filled(x, r0 + i, d, to + i * KERN_KS);
    return (attn_a){.at = copy, .ld = KERN_KS, .bf16 = true};
}

attn_a kern_attn_of_scores(bool bf16, const float *s, int64_t n, int64_t cols, float *copy)
{
    uint16_t *to = (uint16_t *)(void *)copy;
    if (!bf16) return (attn_a){.at = s};
    for (int64_t i = 0; i < n; i++) kern_dot_row->round(to + i * KERN_KS, s + i * KERN_KS, cols);
    return (attn_a){.at = copy, .ld = KERN_KS, .bf16 = true};
}

attn_a kern_attn_of_scores_t(bool bf16, const float *s, int64_t n, int64_t cols, float *copy,
                             float *turned)
{
    const int64_t kc = kern_attn_k(true, n), ld = kc + ATTN_UNIT;
    if (!bf16) return (attn_a){.at = s, .columns = true};
    const uint16_t *rows = kern_attn_of_scores(bf16, s, n, cols, copy).at;
    uint16_t *to = (uint16_t *)(void *)turned, *panel = to + attn_round_up(cols, DOT_NR) * ld;
    for (int64_t k = 0; k < kc; k += 2)
        kern_dot_row->pack_n(panel + k * DOT_NR, kc * DOT_NR, k < n ? rows + k * KERN_KS : zeros,
                             k + 1 < n ? rows + (k + 1) * KERN_KS : zeros, cols);
    for (int64_t j = 0; j < cols; j += DOT_NR)
        kern_dot_row->turn(to + j * ld, ld, panel + j * kc, kc);
    return (attn_a){.at = to, .ld = ld, .bf16 = true};
}

/* In blocks of the level's height. */
static void product_f32(float *c, int64_t ldc, const attn_a *a, int64_t rows, const float *panel,
                        int64_t packed, int64_t kc, int64_t n, bool load)
{
    const int64_t height = n <= kern->lanes ? kern->mr1 : kern->mr;
    const int64_t blocks = (rows + height - 1) / height;
    for (int64_t i = 0; i < blocks; i++) {
        const int64_t r0 = rows * i / blocks, r1 = rows * (i + 1) / blocks;
        const float *from = (const float *)a->at + (a->columns ? r0 : r0 * KERN_KS);
        kern->panels(c + r0 * ldc, ldc, from, a->columns ? KERN_KS : 0, (int)(r1 - r0), panel,
                     packed, kc, n, load, NULL, (kern_ahead){0});
    }
}

void kern_attn_product(float *c, int64_t ldc, const attn_a *a, int64_t rows, const float *panel,
                       int64_t packed, int64_t kc, int64_t n, bool load)
{
    if (!a->bf16) {
        product_f32(c, ldc, a, rows, panel, packed, kc, n, load);
        return;
    }
    const kern_dot *dot = kern_dot_row;
    const uint16_t *words = (const uint16_t *)(const void *)panel;
    const int64_t k = kern_attn_k(true, kc), all = kern_attn_k(true, packed);
    const int64_t blocks = (rows + dot->mr - 1) / dot->mr;
    for (int64_t i = 0; i < blocks; i++) {
        const int64_t r0 = rows * i / blocks, r1 = rows * (i + 1) / blocks;
        dot->panels(c + r0 * ldc, ldc, (const uint16_t *)a->at + r0 * a->ld, a->ld, (int)(r1 - r0),
                    words, all, k, n, load, NULL);
    }
}

void kern_attn_end(bool bf16)
{
    if (bf16 && kern_dot_row->end) kern_dot_row->end();
}
