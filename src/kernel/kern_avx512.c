/* kern_avx512.c – the vector loops for AVX-512 (F, BW, DQ, VL): 16 lanes. */
#if defined(__AVX512F__)
#define VL 16
#define KERN_NAME "avx512"
#define KERN_TABLE kern_avx512
#define KERN_DOT kern_dot_avx512
#define KERN_REGS 32
/* 28 accumulators, 2 of the panel, 1 of A: 16 loads for 28 multiply-adds */
#define MR 14
#define MR1 14
#define ROWS2(X) UP_TO_14(X)
#define ROWS1(X) UP_TO_14(X)
#include "kern_vec.inc"
#include "kern_formats.inc"
#include "kern_fake.inc"
#include "kern_few.inc"
#include "kern_gemm.inc"
#include "kern_bf16.h"
#define DOT_BLOCK 14
#define DOT_WIDE 2
#define DOT_ROWS(X) UP_TO_14(X)
#include "kern_bf16.inc"
#include "kern_attn.inc"
#include "kern_rows.inc"
#include "kern_table.inc"
#else
typedef int kern_avx512_needs_x86;
#endif
