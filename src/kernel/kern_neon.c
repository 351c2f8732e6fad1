/* kern_neon.c – the vector loops for aarch64: 4 lanes, fused multiply-add by a lane, 32 registers. */
#if defined(__aarch64__)
#define VL 4
#define KERN_NEON
#define KERN_NAME "neon"
#define KERN_TABLE kern_neon
#define KERN_DOT kern_dot_neon
#define KERN_REGS 32
/* 16 accumulators, which keep four units of latency 4 busy, 8 of A (4 steps of k each), 2 of the panel */
#define MR 8
#define MR1 12
#define ROWS2(X) UP_TO_8(X)
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
typedef int kern_neon_needs_aarch64;
#endif
