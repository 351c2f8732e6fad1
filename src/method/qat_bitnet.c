/* qat_bitnet.c – BitNet b1.58 (Ma et al. 2024): weights −γ, 0 and γ, inputs of eight bits a token.
 *
 *   γ = max(mean|W|, 1e-5) of the whole matrix; ŵ = γ · min(max(round(w / γ), −1), 1); the gradient goes straight through
 * both. The folder says "bitnet", online, so that transformers computes what was trained. use_rms_norm: inputs are divided
 * by their root mean square first; transformers' norm has a gain, which stays 1. */
#include "qat_private.h"

typedef struct bitnet_cfg {
    bool use_rms_norm;
} bitnet_cfg;

static const cfg_field fields[] = {
    {.key = "use_rms_norm",
     .type = CFG_BOOL,
     .offset = offsetof(bitnet_cfg, use_rms_norm),
     .def = "false",
     .help = "an RMSNorm without a gain on the input of every linear layer"},
    CFG_END};

static void settle(const void *cfg, pe_qat_how *how)
{
    const bitnet_cfg *c = cfg;
    *how = (pe_qat_how){
        .low = -1,
        .high = 1,
        .input = {.symmetric = true, .norm = c->use_rms_norm, .eps = PE_BITNET_EPS},
        .codes_input = true,
        .straight = true,
        .out_multiple = 4,
        .first = {.mean = true, .factor = 1.0f, .divisor = 1.0f, .least = 1e-5f},
    };
}

static void config(const void *cfg, str_buf *out)
{
    const bitnet_cfg *c = cfg;
    str_printf(out,
               "{\"quant_method\": \"bitnet\", \"linear_class\": \"autobitlinear\", "
               "\"quantization_mode\": \"online\", \"use_rms_norm\": %s}",
               c->use_rms_norm ? "true" : "false");
}

const pe_qat_row pe_qat_bitnet = {
    .name = "bitnet",
    .help = "weights -1, 0 and 1 times one step a matrix, inputs of eight bits: BitNet b1.58",
    .paper = "Ma et al. 2024, The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits",
    .fields = fields,
    .cfg_size = sizeof(bitnet_cfg),
    .settle = settle,
    .config = config,
};
