/* ceiling.h – what the processor can multiply at most. */
#ifndef BENCH_CEILING_H
#define BENCH_CEILING_H

#include <stdbool.h>

/* GFLOP/s of all threads of the pool, by the widest instruction for the precision (bf16: AMX tiles, vdpbf16ps, else f32's
 * multiply-add) on operands that stay in registers. 0: not known for this processor. */
double ceiling_in_registers(bool bf16, double seconds);

#endif
