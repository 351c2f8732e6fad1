/* qat_affine.c – weights in groups of whole numbers, inputs of eight bits a token: torchao's Int8DynamicActivationInt4Weight
 * (Jacob et al. 2018).
 *
 *   step = max|w| / ((high − low) / 2) of a group, a constant in the backward; the gradient of a weight is 0 where its code
 * was clamped, which the largest of a group is when it is positive. */
#include "qat_private.h"

#include <float.h>

static const cfg_field fields[] = {QAT_INT_FIELDS("\"int8\""), CFG_END};

static void settle(const void *cfg, pe_qat_how *how)
{
    pe_qat_settle_int(cfg, how);
    how->first =
        (kn_first_step){.factor = 1.0f, .divisor = (how->high - how->low) / 2.0f, .least = FLT_MIN};
}

const pe_qat_row pe_qat_affine = {
    .name = "affine",
    .help = "steps by the largest weight of a group, inputs of eight bits: torchao's 8da4w",
    .paper = "Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient "
             "Integer-Arithmetic-Only Inference",
    .fields = fields,
    .cfg_size = sizeof(qat_int),
    .check = pe_qat_check_int,
    .settle = settle,
};
