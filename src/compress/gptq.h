/* gptq.h – the keys that GPTQ and rounding share, and the folder that both write. */
#ifndef FT_GPTQ_H
#define FT_GPTQ_H

#include "compress_private.h"

typedef struct gptq_cfg {
    int64_t bits, group_size;
    bool sym, desc_act, static_groups, true_sequential;
    double damp_percent;
    const char *checkpoint_format;
} gptq_cfg;

extern const char *const gptq_formats[];
#define GPTQ_AT(field) offsetof(gptq_cfg, field)
#define GPTQ_FIELDS                                                                                \
    {"bits",                                                                                       \
     CFG_INT,                                                                                      \
     GPTQ_AT(bits),                                                                                \
     .def = "4",                                                                                   \
     .low = 2,                                                                                     \
     .high = 8,                                                                                    \
     .help = "of a code: 2, 3, 4 or 8"},                                                           \
        {"group_size",                                                                             \
         CFG_INT,                                                                                  \
         GPTQ_AT(group_size),                                                                      \
         .def = "128",                                                                             \
         .low = -1,                                                                                \
         .high = 1 << 22,                                                                          \
         .help = "inputs that share a scale; -1: the whole row"},                                  \
        {"sym", CFG_BOOL, GPTQ_AT(sym), .def = "true", .help = "zero in the middle of the codes"}, \
    {                                                                                              \
        "checkpoint_format", CFG_ENUM, GPTQ_AT(checkpoint_format),                                 \
            .def = "\"gptq\"", .choices = gptq_formats,                                            \
            .help = "gptq (zeros stored - 1) or gptq_v2"                                           \
    }

void gptq_check(cfg_doc *d, const cJSON *object, const char *path, const void *cfg);
ft_status gptq_fits(const void *cfg, const model *m, const nn_site *s);
void gptq_packed(const void *cfg, model_packed_cfg *out);
cmp_grid gptq_grid(const gptq_cfg *c);
#endif
