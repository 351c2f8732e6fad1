/* compress.h – models made smaller by what they compute: a walk over the blocks with calibration data, quantisers and pruners
 * as rows, and the folder that comes of it.
 *
 * The walk holds the stream of all calibration samples at one place: in front of block i. A row looks at what the linears of
 * the block read, changes their weights, and the walk takes the stream to the next block: through the block as it is now, or
 * (awq) as it was. So memory is the model's and one stream's, whatever the number of blocks; where even that does not fit, the
 * stream is a file in the work folder of the output.
 *
 * THE SAME BITS: samples pass in the order of the file, cut by their lengths alone; sums over tokens are one chain in that
 * order. What became of a block is written into the work folder as soon as it is done; a walk that goes on reads it back and
 * takes the stream through the blocks that are done, so that it ends in the same bytes.
 *
 * The model is not written to: what changes lies in a hook of the walk's overlay. Equations: GPTQ (Frantar et al. 2022), AWQ
 * (Lin et al. 2023), Wanda (Sun et al. 2023), SparseGPT (Frantar & Alistarh 2023); see each row's file. */
#ifndef FT_COMPRESS_H
#define FT_COMPRESS_H

#include "ft/data.h"
#include "ft/infer.h"
#include "ft/model.h"

/* --- a block at hand ------------------------------------------------------------------------------------------ */
/* A matrix in whole codes, value = scale · (q − zero), f32. Arrays are of the block's mem. */
typedef struct cmp_codes {
    int bits;
    int64_t groups;
    uint8_t *q;      /* [out, in] */
    uint16_t *scale; /* [out, groups] f16 */
    uint8_t *zero;   /* [out, groups] as it is, whatever a file stores */
    int32_t *g_idx;  /* [in] the group of each input */
} cmp_codes;

typedef struct cmp_linear { /* a linear layer of the block */
    nn_site *site;
    bool chosen;     /* to be changed; of the others w is only read */
    float *w;        /* [out, in], whatever the orientation in files: as it is now. Written to, it is what passes read from then on */
    cmp_codes codes; /* out, of a quantiser: whose values w then is. q NULL: none */
    /* out: ‖(W − Ŵ)X‖² and ‖WX‖² of the values before, or without X; whose quotient compress.json tells */
    double lost, whole;
} cmp_linear;

typedef struct cmp_walk cmp_walk;
typedef struct cmp_block {
    cmp_walk *walk;
    model *m;
    int layer;
    cmp_linear *linear; /* [n] in the order of the model's sites */
    int n;
    const nn_group *const *group; /* [n_group] linears that share an input, in the order in which they read it */
    const int *part; /* [n_group] of the layer: 0 attention, 1 feed-forward */
    int n_group;
    arena *mem; /* until the block is done */
} cmp_block;
cmp_linear *cmp_linear_of(const cmp_block *b, const nn_site *s);
/* The linear's values as the model has them: out [out, in]. */
FT_MUST_USE ft_status cmp_original(const cmp_block *b, const cmp_linear *l, float *out);
/* Another parameter of the block (the weight of a norm, a bias): an f32 copy that is read, and saved, in its place. NULL: out
 * of memory. */
float *cmp_vector(cmp_block *b, nn_param *p);

/* --- looking at it ---------------------------------------------------------------------------------------------- */
typedef struct cmp_pass { /* samples [first, first + n) together; rows: their tokens, of which the first is the walk's `at`-th */
    int64_t first, at, rows;
    int n;
    const int32_t *len; /* [n] */
} cmp_pass;
typedef struct cmp_look {
    /* x [p->rows, g->in]: what the linears of g read. Called in the order of the samples on the calling thread, which may use
     * the pool; x is valid during the call. */
    ft_status (*see)(void *ctx, const cmp_pass *p, const nn_group *g, const float *x);
    bool (*wants)(void *ctx, const nn_group *g); /* of which groups; NULL: all of the block */
    void *ctx;
} cmp_look;
/* All samples through the block as it is now; each pass ends at the last group that is wanted. FT_ESIGNAL, FT_ETIME: a stop
 * was asked for. The same group is asked for once, and then seen by one pass after another. */
FT_MUST_USE ft_status cmp_see(cmp_block *b, const cmp_look *look);
/* The linears of the parts before `part` are done: the stream moves on behind them, and later looks begin there. Saves their passes
 * alone. */
FT_MUST_USE ft_status cmp_settle(cmp_block *b, int part);
/* What part k of the block (0: attention, 1: feed-forward) makes of its normed input: x, y [p->rows, hidden], without the
 * residual, with weights and vectors as they are now. */
FT_MUST_USE ft_status cmp_part(cmp_block *b, int k, const cmp_pass *p, const float *x, float *y);
/* Tokens of the walk. */
int64_t cmp_tokens(const cmp_walk *w);
/* h [p->rows, hidden]: the stream in front of each layer 0 … n − 1 and, as layer n, behind the last, of the model as it is. With
 * progress; FT_ESIGNAL and FT_ETIME between passes. */
typedef ft_status (*cmp_stream)(void *ctx, int layer, const cmp_pass *p, const float *h);
FT_MUST_USE ft_status cmp_streams(cmp_walk *w, cmp_stream see, void *ctx);

/* H [in, in] += Σ x xᵀ over the rows of x [rows, in], its lower triangle: chains of f32 over a pass, added up in double. */
FT_MUST_USE ft_status cmp_hessian_add(double *h, const float *x, int64_t rows, int64_t in);
/* out [in, in], both triangles, of H. */
void cmp_hessian_whole(float *out, const double *h, int64_t in);
/* ‖W X‖² = Σ rows w H wᵀ of w [out, in] by that. */
FT_MUST_USE ft_status cmp_hessian_norm(const float *h, const float *w, int64_t out, int64_t in,
                                       double *norm);
/* u [in, in], upper, (H')⁻¹ = Uᵀ U, H' = H + damp · mean(diag H) · I, of H, which is overwritten. perm: rows and columns of H in
 * this order; NULL: as they are. Columns that nothing excites, H_ii = 0, count as 1. Where the factor does not exist damp grows
 * tenfold, up to 1; then 80 naming `name`. */
FT_MUST_USE ft_status cmp_hessian_factor(float *u, double *h, int64_t in, double damp,
                                         const int32_t *perm, const char *name);

/* --- rows ---------------------------------------------------------------------------------------------------------- */
typedef struct cmp_dropped { /* whole layers */
    int *layer;  /* [n] those that go, ascending */
    double *score; /* [n_score] that they were chosen by */
    int n, n_score;
} cmp_dropped;
typedef struct cmp_method { /* a quantiser or a pruner */
    const char *name, *help, *paper;
    const cfg_field *fields; /* keys beside `type`, into cfg of cfg_size bytes */
    size_t cfg_size;
    /* further mistakes of those keys (path: "quantize", "prune"); may be NULL */
    void (*check)(cfg_doc *d, const cJSON *object, const char *path, const void *cfg);
    bool calibrated; /* reads inputs: needs calibration.data, which without it is a mistake (cmp_reads) */
    bool (*spared)(const void *cfg); /* by its keys it reads none all the same; NULL: it does */
    bool steps;      /* goes by those of qat.safetensors, and tells where it does not */
    bool floats;     /* the stream is that of the model as it was */
    /* A quantiser: what the folder's quantization_config says, but for `left`, which the walk sets; and the quant_method
     * whose row of model writes it. NULL: values in the dtype of the base. */
    const char *writes;
    void (*packed)(const void *cfg, model_packed_cfg *out);
    /* 65 naming a chosen site that it cannot change, before anything is done; may be NULL */
    ft_status (*fits)(const void *cfg, const model *m, const nn_site *s);
    /* Before the first block, with cmp_weights; *state goes to block. May be NULL */
    ft_status (*begin)(cmp_walk *w, const void *cfg, void **state);
    ft_status (*block)(cmp_block *b, const void *cfg, void *state);
    /* In place of all this, from fits to block: which layers go, in cmp_mem */
    ft_status (*drop)(cmp_walk *w, const void *cfg, cmp_dropped *out);
    void (*end)(void *state); /* with what begin made, unless that is NULL; may be NULL */
    /* Bytes that block makes at most, of a block without values; NULL: next to nothing */
    size_t (*room)(const cmp_block *b, const void *cfg);
} cmp_method;
const cmp_method *cmp_quantizer_at(int i); /* NULL past the end; quantizers.def */
const cmp_method *cmp_pruner_at(int i);    /* pruners.def */
bool cmp_reads(const cmp_method *m, const void *cfg); /* inputs */
const char *const *cmp_quantizer_names(void); /* NULL-terminated */
const char *const *cmp_pruner_names(void);

/* --- the walk ---------------------------------------------------------------------------------------------------------- */
typedef struct cmp_options {
    inf_ctx *inf; /* the model and a tape; what the walk takes is added to its plan */
    const cmp_method *method;
    const void *cfg;
    bool (*chosen)(void *ctx, const nn_site *s); /* of the linears of the blocks; NULL: all of them */
    void *ctx;
    const tok_ids *sample; /* [n_samples], each one sequence; none where the method reads no inputs */
    int64_t n_samples;
    const char *dir; /* a folder for what is done, that the caller holds: blocks that are there are read instead of made */
} cmp_options;
/* Looks whether the method can change the sites that are chosen, and whether it all fits into memory (71). */
FT_MUST_USE ft_status cmp_walk_open(cmp_walk **out, const cmp_options *o);
FT_MUST_USE ft_status cmp_walk_run(cmp_walk *w); /* all blocks; FT_ESIGNAL between them, too */
void cmp_walk_close(cmp_walk *w);                /* accepts NULL */
/* How the model is saved with what the walk has made, while that is open; of a quantiser m itself holds its codes then. left
 * [n_left]: modules_to_not_convert, which its folder tells. */
FT_MUST_USE ft_status cmp_save_options(cmp_walk *w, const char *const *left, int n_left,
                                       model_save_options *out);
typedef struct cmp_told { /* of a tensor that was changed */
    const char *name;
    double error;    /* NAN: not known */
    double sparsity; /* share of zeros in the values that are written */
} cmp_told;
const cmp_dropped *cmp_dropped_of(const cmp_walk *w); /* of a method that drops layers */
int64_t cmp_told_of(const cmp_walk *w, const cmp_told **told);
/* The same of all together: errors by what was lost of all, zeros by counts. */
cmp_told cmp_told_all(const cmp_walk *w);

/* The sites that are changed, in the order of the model, and their values [out, in]. */
int64_t cmp_chosen(const cmp_walk *w, nn_site *const **site);
FT_MUST_USE ft_status cmp_weights(cmp_walk *w, const nn_site *s, float *out);
arena *cmp_mem(const cmp_walk *w); /* as long as the walk */
#endif
