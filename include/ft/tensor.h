/* tensor.h – storage formats as rows, and the tensor header.
 *
 * A tensor is row-major and contiguous, except that its rows may be read through a permutation
 * (`row_of`), which is how GGUF's reordered q and k rows appear in Hugging Face order without a copy.
 * Gradients and trainable values are f32; frozen weights have any type, and activations that only products
 * read are bf16 where the products are (autograd.h). */
#ifndef FT_TENSOR_H
#define FT_TENSOR_H

#include "ft/base.h"

#include <assert.h>

/* The values of a tensor as they lie in memory. side: what lies beside the codes (absmax, scales,
 * zeros), in a form of the format's own; NULL where the blocks hold all that is needed. */
typedef struct dt_data {
    const void *data, *side;
} dt_data;

/* One row per storage format. Block formats hold `block` elements in `bytes` bytes.
 *
 * Most formats are self-contained blocks that lie along a row: they have `unpack`. A format whose scales
 * lie in another tensor, or whose groups run across the ends of rows (NF4), has `read` instead; block
 * and bytes then speak of the codes alone, and the last block of a tensor may be short. A format with
 * neither is not one we compute with. */
typedef struct dt_type {
    const char *name;    /* "bf16", "q4_k" */
    const char *st_name; /* safetensors dtype, NULL where it has none */
    int gguf_id;         /* ggml type number, −1 where GGUF has none */
    int block, bytes;    /* block ≤ DT_BLOCK_MAX */
    /* n is a multiple of block; src needs no alignment. */
    void (*unpack)(float *dst, const void *src, int64_t n);
    void (*pack)(void *dst, const float *src,
                 int64_t n); /* round to nearest even; NULL: read only */
    /* Values first … first + n of the flattened tensor, any first and n: called once for a piece of a
     * row, by several threads at once. */
    void (*read)(float *dst, const dt_data *src, int64_t first, int64_t n);
    size_t (*side_bytes)(const void *side); /* of the arrays beside the codes; NULL: there are none */
} dt_type;
enum { DT_BLOCK_MAX = 256 };

extern const dt_type dt_f32, dt_f16, dt_bf16; /* other rows by name */
const dt_type *dt_by_name(const char *name);  /* NULL when unknown */
const dt_type *dt_by_st(const char *st_name);
const dt_type *dt_by_gguf(int id);
const dt_type *dt_at(int i); /* all rows in order, NULL past the end */
/* Bytes of n elements; false when n is not a multiple of the block (formats with `read` may end with a
 * short one) or the product overflows. */
bool dt_bytes(const dt_type *type, int64_t n, size_t *bytes);
/* Values first … first + n of the flattened tensor, any first and n ≥ 0, of every format we compute
 * with: by `read`, or by `unpack` and a copy of the blocks that are wanted in part. */
void dt_read(const dt_type *type, float *dst, const dt_data *src, int64_t first, int64_t n);

/* The first of n values (whole blocks of a format without `read`) that is NaN or Inf when it is read; of a block format the
 * first value of its block. −1: none. Formats that are not computed with hold none. */
int64_t dt_find_nonfinite(const dt_type *type, const void *data, int64_t n);
/* How many of n stored numbers are 0, of either sign; −1: of blocks and codes, which are not looked at. */
int64_t dt_count_zeros(const dt_type *type, const void *data, int64_t n);

/* --- bitsandbytes' formats of four bits, "nf4" and "fp4" ---------------------------------------------
 * Two codes a byte, the even element in the high half. Blocks of block_size elements run over the
 * flattened tensor; an element is code[c] · absmax of its block, in f32, rounded to `dtype`. The absmax
 * of a block is an f32, or (double quantisation) map[coded] · nested + offset with codes of eight bits and
 * an f32 for nested_size of them. All arrays are borrowed. */
typedef struct dt_bnb {
    const float *code; /* [16] */
    int64_t block_size, blocks; /* a power of two; ⌈elements / block_size⌉ */
    const dt_type *dtype;       /* f32, f16 or bf16 */
    const float *absmax;        /* [blocks]; NULL: double quantised, by: */
    const uint8_t *coded;       /* [blocks] */
    const float *map, *nested;  /* [256], [⌈blocks / nested_size⌉] */
    int64_t nested_size;
    float offset;
} dt_bnb;
float dt_bnb_absmax(const dt_bnb *b, int64_t block);
/* Those of elements first, first + step, … (n of them). */
void dt_bnb_absmaxes(float *out, const dt_bnb *b, int64_t first, int64_t step, int64_t n);
/* The values of a type's sixteen codes. bound: the midpoints between neighbours in ascending order, and order[i] the
 * code of a value that i of them are below. NULL where the type is another. */
typedef struct dt_bnb_codes {
    float code[16], bound[15];
    uint8_t order[16];
} dt_bnb_codes;
const dt_bnb_codes *dt_bnb_codes_of(const dt_type *type);
/* bitsandbytes' dynamic map of eight bits, ascending: create_dynamic_map(is_signed). map [256] */
void dt_dynamic_map(bool is_signed, float *map);

/* --- whole codes in groups: "int2", "int3", "int4", "int8" (what GPTQ and AWQ make) -------------------------------
 * A matrix [rows, cols] of codes q without sign; a row has a scale and a zero for each group of its columns:
 * value = scale · (q − zero), in f32. Rows of codes lie one behind the other, of 4 bits two a byte and the even one in the
 * high half, of others as one stream of bits that begins in the lowest ones. All arrays are borrowed. */
typedef struct dt_groups {
    int64_t cols, groups;
    int64_t size;         /* columns of a group; the last one may have fewer */
    const int32_t *group; /* [cols] the group of each column; NULL: column / size */
    const dt_type *dtype; /* of the scales: f32, f16 or bf16 */
    const void *scale;    /* [rows, groups] */
    const uint8_t *zero;  /* [rows, groups] without plus, which is added to each: 1 where a file stores zero − 1 */
    int plus;
    int64_t rows;
} dt_groups;
int dt_code_bits(const dt_type *type);  /* 2, 3, 4, 8; 0: no such format */
const dt_type *dt_code_type(int bits);  /* the format; NULL */
/* Codes first … first + n of the flattened matrix, a byte each, from and to how they lie. Of a piece that is put, the bits
 * beside it in its first and last byte stay. */
void dt_codes_get(const dt_type *type, uint8_t *q, const void *src, int64_t first, int64_t n);
void dt_codes_put(const dt_type *type, void *dst, int64_t first, const uint8_t *q, int64_t n);
/* --- a matrix of −1, 0 and 1 times one number, "ternary" ------------------------------------------------
 * value = scale · (code − 1) of codes 0, 1, 2, in f32. A row [cols] is whole blocks of 128 columns in 32 bytes each: byte j of
 * a block holds columns j, j + 32, j + 64 and j + 96 from the lowest bits on, 0 behind the last column. */
typedef struct dt_trits {
    int64_t rows, cols;
    float scale;
} dt_trits;
enum { DT_TRITS_BLOCK = 128 };
extern const dt_type dt_ternary;
int64_t dt_trits_row(int64_t cols); /* bytes of a row */
/* A row of codes from a byte each; codes first … first + n of a row, a byte each. */
void dt_trits_put(uint8_t *row, const uint8_t *code, int64_t cols);
void dt_trits_get(uint8_t *code, const uint8_t *row, int64_t first, int64_t n);
/* --- simulated quantisation, "fake" --------------------------------------------------------------------
 * Value i of numbers of `type`, as whole codes with a step between them would give it back:
 *   step · min(max(round(w · (1 / step)), low), high),  to the nearest even.
 * No file has it: `data` is that of the numbers, which may be trained meanwhile. All arrays are borrowed. */
typedef struct dt_steps {
    const dt_type *type; /* f32, f16 or bf16 */
    float *step;   /* value i of the flattened matrix has step[i / group], or with `cols`: */
    int64_t group;
    int64_t cols;  /* not 0: of rows of so many values, `group` rows share step[row / group · cols + column] */
    float low, high;
} dt_steps;
extern const dt_type dt_fake; /* in no table */

#define TN_MAX_DIMS 4
typedef struct tn_tensor {
    const dt_type *type;
    int nd;
    int64_t dim[TN_MAX_DIMS];
    void *data;            /* not written to unless it is an activation or trainable */
    const void *side;      /* of a format with `read` (dt_data), else NULL */
    const int32_t *row_of; /* NULL, or row i of this tensor is stored at row row_of[i] (nd = 2) */
    float *grad;           /* f32, same shape; NULL until someone asks */
    bool wants_grad;
    /* Of an activation, the tape's: its values lie in the free list; a backward reads them; its op can make them again. */
    bool brief, needed, again;
    bool rounds; /* its gradient is read rounded, by ag_grad_rows, and not otherwise */
} tn_tensor;

int64_t tn_count(const tn_tensor *t); /* elements */
int64_t tn_cols(const tn_tensor *t);  /* last dimension (1 for a scalar) */
int64_t tn_rows(const tn_tensor *t);  /* count / cols */
static inline float *tn_f32(const tn_tensor *t)
{
    assert(t->type == &dt_f32);
    return (float *)t->data;
}
/* Unpacks rows [row0, row0 + n) to f32, following row_of. */
void tn_unpack_rows(float *dst, const tn_tensor *t, int64_t row0, int64_t n);
/* The bytes of one row (following row_of) of a format without `read`, whose rows are whole blocks. */
const void *tn_row(const tn_tensor *t, int64_t row);
#endif
