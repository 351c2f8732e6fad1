/* kern_avx512bf16.c – products in bf16 by vdpbf16ps (AVX512-BF16): 16 words at a time. */
#if defined(__AVX512BF16__)
#define VL 16
/* 28 accumulators, 2 of the panels, 1 of A: 16 loads for 28 instructions */
#define DOT_BLOCK 14
#define DOT_WIDE 2
#define DOT_ROWS(X) UP_TO_14(X)
#include "kern_vec.inc"
#include "kern_bf16.h"
#include "kern_bf16.inc"
const kern_dot kern_dot_avx512bf16 = DOT_TABLE("avx512_bf16");
#else
typedef int kern_avx512bf16_needs_x86;
#endif
