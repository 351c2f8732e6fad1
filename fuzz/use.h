/* use.h – a small model opened for use, and a sink for what is said with it: valid UTF-8. */
#ifndef FT_FUZZ_USE_H
#define FT_FUZZ_USE_H

#include "fuzz.h"

#include "ft/tool.h"

static inline ft_status fz_said(void *ctx, const char *text, size_t n)
{
    (void)ctx;
    fz_touch(text, n);
    FZ_CHECK(utf8_valid(text, n));
    return FT_OK;
}
static const tool_sink fz_out = {fz_said, NULL};

static inline tool_model *fz_opened(void)
{
    static tool_model *t;
    if (!t) fz_must(tool_open(&t, fz_model(), NULL, true, NULL));
    return t;
}
#endif
