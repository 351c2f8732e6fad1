/* kern_generic.c – the vector loops for any machine: 4 lanes, and on x86 without fused multiply-add. */
#define VL 4
#define KERN_NAME "generic"
#define KERN_TABLE kern_generic
#define KERN_DOT kern_dot_generic
#define KERN_REGS 16
/* 8 accumulators, 2 of the panel, 1 of A, products: the 16 registers of SSE2 */
#define MR 4
#define MR1 8
#define ROWS2(X) UP_TO_4(X)
#define ROWS1(X) UP_TO_8(X)
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
