/* quant_bnb.h – what the files of bitsandbytes' four-bit formats share: keys of model.quantization, quantising a matrix. */
#ifndef FT_MODEL_QUANT_BNB_H
#define FT_MODEL_QUANT_BNB_H

#include "model_private.h"

enum { BNB_NESTED = 256 }; /* absmax of one scale */

typedef struct bnb_cfg {
    bool double_quant;
    int64_t block_size;
} bnb_cfg;

/* Is there such a block? One of bitsandbytes' sizes. */
bool bnb_is_block_size(int64_t n);
/* A matrix [rows, cols] in codes of cfg and `type`, its values cast to dtype: out, its arrays in `mem` and the rest in `small`
 * (apart, so that a plan, which leaves the arrays alone, touches no page of them). From `src`, or with `turned`
 * from its transpose; src NULL: types and shapes alone. The codes are those of bitsandbytes.functional.quantize_4bit on
 * the CPU; codes of eight bits are the nearest entries. 65 when a value is not finite, 80 when one is beyond the range of
 * dtype (name: for the message). */
FT_MUST_USE ft_status bnb_quantise(const bnb_cfg *cfg, const dt_type *type, const dt_type *dtype,
                                   const tn_tensor *src, bool turned, const char *name,
                                   int64_t rows, int64_t cols, arena *mem, arena *small,
                                   tn_tensor *out);
/* A linear layer of the blocks. */
bool bnb_is_meant(const model *m, int64_t i);
extern const model_quant_writer bnb_writer_nf4, bnb_writer_fp4;
#endif
