/* qat_private.h – what the types of model.qat share: keys that more than one of them has, and how they are read. */
#ifndef FT_METHOD_QAT_PRIVATE_H
#define FT_METHOD_QAT_PRIVATE_H

#include "ft/method.h"

/* Keys of affine and lsq; only their defaults differ. */
typedef struct qat_int {
    const char *weight_dtype;
    int64_t group_size;
    const cJSON *activation_dtype; /* "int8", or null: none */
    int64_t fake_quant_after_n_steps;
} qat_int;
#define QAT_AT(member) .key = #member, .offset = offsetof(qat_int, member)
#define QAT_INT_FIELDS(activations)                                                                \
    {QAT_AT(weight_dtype), .type = CFG_ENUM, .def = "\"int4\"", .choices = pe_qat_ints,            \
     .help = "whole numbers that weights are rounded to, times a step"},                           \
        {QAT_AT(group_size), .type = CFG_INT,                                                      \
         .def = "32",        .low = -1,                                                            \
         .high = 1e9,        .help = "inputs of a row that share a step; -1: all of them"},        \
        {QAT_AT(activation_dtype), .type = CFG_JSON, .def = activations,                           \
         .choices = pe_qat_activations,                                                            \
         .help = "of the inputs, a step for each token; null: they stay as they are"},             \
    {                                                                                              \
        QAT_AT(fake_quant_after_n_steps), .type = CFG_INT, .def = "0", .low = 0, .high = 1e12,     \
                                          .help = "plain steps before the first that quantises "   \
                                                  "(evaluations do from the start)"                \
    }
extern const char *const pe_qat_ints[], *const pe_qat_activations[];
void pe_qat_check_int(cfg_doc *d, const cJSON *object, const void *cfg);
void pe_qat_settle_int(const void *cfg, pe_qat_how *how);
#endif
