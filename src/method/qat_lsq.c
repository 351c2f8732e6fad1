/* qat_lsq.c – LSQ (Esser et al. 2020): the step of a group is trained with its weights.
 *
 *   s₀ = 2 mean|w| / √high;  ∂ŵ/∂s = round(w/s) − w/s, and low or high where the code was clamped; the gradient of s is that
 * sum over the group, times 1 / √(n · high) for its n weights. */
#include "qat_private.h"

#include <math.h>

static const cfg_field fields[] = {QAT_INT_FIELDS(NULL), CFG_END};

static void settle(const void *cfg, pe_qat_how *how)
{
    pe_qat_settle_int(cfg, how);
    how->learns = true;
    how->first =
        (kn_first_step){.mean = true, .factor = 2.0f, .divisor = sqrtf(how->high), .least = 1e-9f};
}

const pe_qat_row pe_qat_lsq = {
    .name = "lsq",
    .help = "steps that are trained with the weights",
    .paper = "Esser et al. 2020, Learned Step Size Quantization",
    .fields = fields,
    .cfg_size = sizeof(qat_int),
    .check = pe_qat_check_int,
    .settle = settle,
};
