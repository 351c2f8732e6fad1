/* rounded.c – what an op keeps of its input where products round their operands: a copy in bf16. The forward starts from
 * it whether there will be a backward or not, so that what is scored is what is trained. */
#include "op_private.h"

void op_round_input(ag_tape *t, op_rounded *r, tn_tensor *x, bool rounds)
{
    const int64_t n = tn_count(x);
    const bool records = ag_recording(t, 1, &x);
    if (rounds && records) r->kept = ag_keep(t, (size_t)n * sizeof *r->kept);
    if (rounds && !records) r->floats = (n + 1) / 2;
    if (!rounds && records) x->needed = true;
}

kn_rows op_input(ag_tape *t, const op_rounded *r, const tn_tensor *x, float **buffer)
{
    *buffer = r->floats > 0 ? ag_temp(t, r->floats) : NULL;
    if (!r->kept && r->floats == 0) return ag_rows_of(x);
    const kn_rows rounded = {r->kept ? (void *)r->kept : *buffer, tn_cols(x), true};
    if (rounded.data && x->data) kn_convert_rows(rounded, ag_rows_of(x), tn_rows(x), tn_cols(x));
    return rounded;
}

kn_rows op_kept(const op_rounded *r, const tn_tensor *x)
{
    return r->kept ? (kn_rows){r->kept, tn_cols(x), true} : ag_rows_of(x);
}
