/* regex_steps.c – what the patterns may cost in one text, all searches in it together. */
#include "regex_private.h"

/* Steps that any text may take, and per byte of text: quadratic cases of ordinary size pass, and a hostile
 * pattern ends within about a second. */
#define STEPS_FREE 100000000u
#define STEPS_PER_BYTE 100u

tk_steps tk_steps_of(size_t bytes)
{
    return (tk_steps){.bytes = bytes, .limit = STEPS_FREE + (uint64_t)STEPS_PER_BYTE * bytes};
}

ft_status rx_spend(const tk_find *f, uint64_t steps)
{
    f->steps->taken += steps;
    FT_CHECK(f->steps->taken <= f->steps->limit, FT_EDATA,
             "pattern %s: more than %llu steps for a text of %zu bytes (match limit)",
             ft_show(f->re->pattern.s, f->re->pattern.n), (unsigned long long)f->steps->limit,
             f->steps->bytes);
    return ft_stop();
}
