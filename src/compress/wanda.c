/* wanda.c – Wanda (Sun et al. 2023): of each row the weights go whose |w| times the length of their input, ‖x_j‖ over all tokens
 * of calibration, is least. Those that stay are as they were. */
#include <math.h>

#include "pruner.h"

static const cfg_field fields[] = {PRUNE_FIELDS, CFG_END};

static ft_status prune(cmp_block *b, cmp_linear *l, void *ctx)
{
    const prune_group *p = ctx;
    const int64_t in = l->site->in;
    prune_nm nm;
    float *norm = arena_get(b->mem, (size_t)in * sizeof *norm);
    if (!norm) return FT_EMEM;
    if (!cmp_prune_pattern(p->cfg->pattern, &nm)) return FT_EINTERNAL;
    for (int64_t i = 0; i < in; i++) norm[i] = (float)sqrt(p->square[i]);
    return cmp_prune_rows(l->w, norm, l->site->out, in, (int64_t)(p->cfg->sparsity * (double)in),
                          nm);
}

static ft_status block(cmp_block *b, const void *cfg, void *state)
{
    (void)state;
    return cmp_prune_block(b, cfg, false, prune);
}

const cmp_method cmp_pruner_wanda = {
    .name = "wanda",
    .help = "the smallest weights of a row by |w| times the length of their input",
    .paper = "Sun et al. 2023",
    .fields = fields,
    .cfg_size = sizeof(prune_cfg),
    .check = cmp_prune_check,
    .calibrated = true,
    .fits = cmp_prune_fits,
    .room = cmp_prune_room,
    .block = block,
};
