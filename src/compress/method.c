/* method.c – the registries of quantisers and pruners. */
#include "ft/compress.h"

#define X(name) extern const cmp_method cmp_quantizer_##name;
#include "quantizers.def"
#undef X
#define X(name) &cmp_quantizer_##name,
static const cmp_method *const quantizers[] = {
#include "quantizers.def"
    NULL};
#undef X

#define X(name) extern const cmp_method cmp_pruner_##name;
#include "pruners.def"
#undef X
#define X(name) &cmp_pruner_##name,
static const cmp_method *const pruners[] = {
#include "pruners.def"
    NULL};
#undef X

const cmp_method *cmp_quantizer_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(quantizers) ? quantizers[i] : NULL;
}

bool cmp_reads(const cmp_method *m, const void *cfg)
{
    return m->calibrated && !(m->spared && m->spared(cfg));
}

const cmp_method *cmp_pruner_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(pruners) ? pruners[i] : NULL;
}

const char *const *cmp_quantizer_names(void)
{
    static const char *names[FT_COUNT_OF(quantizers)];
    for (size_t i = 0; quantizers[i]; i++) names[i] = quantizers[i]->name;
    return names;
}

const char *const *cmp_pruner_names(void)
{
    static const char *names[FT_COUNT_OF(pruners)];
    for (size_t i = 0; pruners[i]; i++) names[i] = pruners[i]->name;
    return names;
}
