/* doubles.h – the rows and functions of the doubles that others use. */
#ifndef FT_TEST_DOUBLES_H
#define FT_TEST_DOUBLES_H

#include "ft/autograd.h"

/* y[t, :] = g[t, col] · x[t, :]:  x [T, C], g [T, ·] → y [T, C] */
extern const ag_op ag_op_weigh;
tn_tensor *op_weigh(ag_tape *t, tn_tensor *x, tn_tensor *g, int64_t col);

/* Codes of four bits with scales of groups beside them. */
enum { NIBBLE_GROUP = 64 };
typedef struct nibble_side {
    const float *absmax; /* [ceil(count / NIBBLE_GROUP)] */
} nibble_side;
extern const dt_type dt_nibble;
/* n values → codes [(n + 1) / 2] and absmax [ceil(n / NIBBLE_GROUP)]. */
void nibble_quantise(uint8_t *codes, float *absmax, const float *x, int64_t n);

/* Which phases the method "phased" was called for: p, b STEP, g, t, a STEP. */
extern str_buf phased_calls;
#endif
