/* clock.c – where the time of a step goes, by op: for `ft bench`. */
#include "ft/autograd.h"

/* The seconds since the last change belong to what was running. */
static void charge(ag_clock *c)
{
    double now = ft_seconds(), spent = now - c->since;
    c->since = now;
    if (c->now == 0) return;
    if (c->back)
        c->row[c->now - 1].backward += spent;
    else
        c->row[c->now - 1].forward += spent;
    if (c->back && !c->outer_back) c->early += spent;
}

/* Past the last row there is none: such an op counts with what stands around it. */
static int row_of(ag_clock *c, const ag_op *op)
{
    for (int i = 0; i < c->n; i++) {
        if (c->row[i].op == op) return i + 1;
    }
    if (c->n == AG_CLOCK_OPS) return c->now;
    c->row[c->n].op = op;
    return ++c->n;
}

ag_lap ag_clock_enter(ag_clock *c, const ag_op *op, bool back)
{
    const ag_lap before = {c->now, c->back};
    const bool outermost = c->now == 0;
    charge(c);
    if (outermost || c->row[c->now - 1].op->part != AG_LOSS) c->now = row_of(c, op);
    if (outermost) c->outer_back = back;
    c->back = back || (!outermost && before.back);
    return before;
}

void ag_clock_leave(ag_clock *c, ag_lap before)
{
    charge(c);
    c->now = before.now;
    c->back = before.back;
}
