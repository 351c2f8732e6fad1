/* dtype_rows.h – the rows, one declaration for their definitions and the table. */
#ifndef FT_TENSOR_DTYPE_ROWS_H
#define FT_TENSOR_DTYPE_ROWS_H

#include "ft/tensor.h"

#define X(name) extern const dt_type dt_##name;
#include "dtypes.def"
#undef X

/* The 16 values of iq4_nl and iq4_xs. */
extern const int8_t dt_iq4_table[16];
#endif
