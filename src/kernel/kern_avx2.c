/* kern_avx2.c – the vector loops for AVX2 with FMA and F16C: 8 lanes. */
#if defined(__AVX2__)
#define VL 8
#define KERN_NAME "avx2"
#define KERN_TABLE kern_avx2
#define KERN_DOT kern_dot_avx2
#define KERN_REGS 16
/* 12 accumulators, 2 of the panel, 1 of A; with one vector of columns, 12 rows hide the latency */
#define MR 6
#define MR1 12
#define ROWS2(X) UP_TO_6(X)
#define ROWS1(X) UP_TO_12(X)
#include "kern_vec.inc"
#include "kern_formats.inc"
#include "kern_fake.inc"
#include "kern_few.inc"
#include "kern_gemm.inc"
#include "kern_bf16.h"
#define DOT_BLOCK 4
#define DOT_WIDE 1
#define DOT_ROWS(X) UP_TO_4(X)
#include "kern_bf16.inc"
#include "kern_attn.inc"
#include "kern_rows.inc"
#include "kern_table.inc"
#else
typedef int kern_avx2_needs_x86;
#endif
