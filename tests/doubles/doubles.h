/* doubles.h – the rows and functions of the doubles that others use. */
#ifndef FT_TEST_DOUBLES_H
#define FT_TEST_DOUBLES_H

#include "ft/autograd.h"

/* y[t, :] = g[t, col] · x[t, :]:  x [T, C], g [T, ·] → y [T, C] */
extern const ag_op ag_op_weigh;
tn_tensor *op_weigh(ag_tape *t, tn_tensor *x, tn_tensor *g, int64_t col);
#endif
