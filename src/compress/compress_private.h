/* compress_private.h – what the files of this module share. */
#ifndef FT_COMPRESS_PRIVATE_H
#define FT_COMPRESS_PRIVATE_H

#include "ft/compress.h"

/* --- grid.c: scale and zero of a group, and codes ------------------------------------------------------------- */
typedef struct cmp_grid {
    int bits;
    bool sym;
    bool one_sided; /* sym: without a negative weight the scale is max(w) / (2^bits − 1) */
    bool least_one; /* a zero of 0 cannot be stored: 1 is taken */
} cmp_grid;
/* Of n weights: the scale, rounded to f16, and the zero. */
void cmp_grid_of(const cmp_grid *g, const float *w, int64_t n, uint16_t *scale, uint8_t *zero);
float cmp_scale(uint16_t scale); /* as f32 */
static inline float cmp_value(float scale, int q, int zero)
{
    return scale * (float)(q - zero);
}
int cmp_code(float w, float scale, int zero, int bits);
/* Codes of a linear with `groups` groups, in b->mem; g_idx is i / size. */
FT_MUST_USE ft_status cmp_codes_open(cmp_block *b, cmp_linear *l, int bits, int64_t group_size);

FT_MUST_USE ft_status cmp_codes_check(const cmp_linear *l); /* 80: a scale that f16 cannot hold */

/* --- block.c: a block's values, and what becomes of them in files ------------------------------------------------ */
typedef struct cmp_vectors { /* other parameters that a block changed, the newest first */
    nn_param own, *of;
    struct cmp_vectors *before;
} cmp_vectors;

struct cmp_walk {
    cmp_options o;
    model *m;
    arena *mem, *block_mem;
    void *state;      /* the method's */
    nn_site **chosen; /* [n_chosen] */
    int64_t n_chosen;
    cmp_block *shape; /* [n_layer] without values */
    /* samples */
    cmp_pass *pass; /* [n_pass] */
    int n_pass;
    int64_t tokens, most; /* most: rows of a pass */
    int32_t *ids, *pos;   /* [tokens] */
    float *stream;        /* [tokens, hidden] */
    size_t mapped;        /* bytes of the file that it is; 0: it is memory */
    /* a pass over a block */
    nn_overlay over;
    cmp_block *at;  /* whose values are laid over; NULL: the model's own */
    tn_tensor *own; /* [n_site] of its linears */
    cmp_vectors *vectors;
    const cmp_look *look; /* NULL: nobody looks */
    const cmp_pass *seen;
    bool *wanted;       /* [n_group] of the block */
    int last;           /* of its groups that is wanted */
    int begun;          /* parts of the block that the stream is behind */
    cmp_block *listing; /* a block whose groups are being found; NULL: none */
    /* what is done */
    double *lost, *whole, *zeros; /* [n_chosen] */
    cmp_told *told;               /* [n_chosen] */
    st_file *file;                /* [n_layer] open ones have a path */
    nn_param **saved;             /* [n_param] changed vectors; NULL: none */
    model_packed_cfg packed;
    cmp_dropped dropped;
};

int cmp_group_number(const cmp_block *b, const nn_group *g);  /* −1: none of the block's */
bool cmp_group_chosen(const cmp_block *b, const nn_group *g); /* is anything of it changed? */
void cmp_walk_list(cmp_block *b, const nn_group *g); /* of a dry pass: the groups as they come */
FT_MUST_USE ft_status cmp_block_open(cmp_walk *w, int layer, cmp_block *b);
/* What is done of it: written as a file, or read back from one. */
FT_MUST_USE ft_status cmp_block_save(cmp_block *b);
FT_MUST_USE ft_status cmp_block_load(cmp_block *b);
FT_MUST_USE ft_status cmp_block_done(const cmp_walk *w, int layer, bool *done);
/* The file of a block, once; and what it holds of a linear: codes, or *values in the dtype of the base. */
FT_MUST_USE ft_status cmp_file_open(cmp_walk *w, int layer);
FT_MUST_USE ft_status cmp_linear_load(cmp_walk *w, int layer, cmp_linear *l, const void **values,
                                      arena *mem);
/* Pages of that file, until they are read again. */
void cmp_linear_forget(const cmp_linear *l, const void *values);

extern const nn_hooks cmp_hooks;       /* of walk.c */
FT_MUST_USE ft_status cmp_go_on(void); /* FT_ESIGNAL, FT_ETIME: a stop was asked for */

/* --- columns.c: what changes matrices column by column, and tells what that costs ----------------------------------- */
/* Changes l->w; ctx is the caller's. */
typedef ft_status (*cmp_change)(cmp_block *b, cmp_linear *l, void *ctx);
/* l->whole and l->lost by H as f32, of what `change` makes of l; what it takes of b->mem is given back. */
FT_MUST_USE ft_status cmp_change_linear(cmp_block *b, cmp_linear *l, const float *h,
                                        cmp_change change, void *ctx);
/* Columns of w [out, in] that nothing excites, H_ii = 0, become 0. */
void cmp_drop_dead(float *w, const float *h, int64_t out, int64_t in);
/* Behind columns [from, to) of w: w −= e · U, by lost [out, ld] −e of these columns. */
FT_MUST_USE ft_status cmp_bring_up(float *w, int64_t out, int64_t in, const float *u, int64_t from,
                                   int64_t to, const float *lost, int64_t ld);

/* --- stream.c: room for the stream -------------------------------------------------------------------------------- */
/* In memory, or with in_file as a file of the work folder that has no name. */
FT_MUST_USE ft_status cmp_stream_open(cmp_walk *w, bool in_file);
void cmp_stream_close(cmp_walk *w);
#endif
