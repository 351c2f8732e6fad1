/* regex_steps.c – what the patterns may cost in one text. A text comes to them in pieces, many of them where tokens or
 * earlier patterns cut it, so the count is the thread's and not a search's. */
#include "regex_private.h"

/* Steps that any text may take, and per byte of text: quadratic cases of ordinary size pass, and a hostile
 * pattern ends within about a second. */
#define STEPS_FREE 100000000u
#define STEPS_PER_BYTE 100u

_Thread_local rx_text rx_now;

void tk_text_begin(size_t bytes)
{
    rx_now = (rx_text){.bytes = bytes, .limit = STEPS_FREE + (uint64_t)STEPS_PER_BYTE * bytes};
}

ft_status rx_spend(const tk_find *f, uint64_t steps)
{
    rx_now.steps += steps;
    FT_CHECK(rx_now.steps <= rx_now.limit, FT_EDATA,
             "pattern %s: more than %llu steps for a text of %zu bytes (match limit)",
             ft_show(f->re->pattern.s, f->re->pattern.n), (unsigned long long)rx_now.limit,
             rx_now.bytes);
    return ft_stop();
}
