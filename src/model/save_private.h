/* save_private.h – what the two output formats share: which tensors a saved model has and how their bytes are
 * made. */
#ifndef FT_SAVE_PRIVATE_H
#define FT_SAVE_PRIVATE_H

#include "model_private.h"

/* One tensor of the output. */
typedef struct save_item {
    int64_t param; /* index of m->param; −1: `raw` as it is */
    const nn_param *
        added; /* a bias of the overlay, or a factor of a low-rank change, of the site whose weight is `param`;
                              NULL: `param` itself */
    const char *name;
    const dt_type *type;
    int nd;
    int64_t dim[3];
    const int64_t
        *stack; /* n_stack parameters, one behind the other in this tensor; 0: `param` alone */
    int n_stack;
    int part;             /* of a matrix in a quantiser's codes, from 1; 0: a tensor of numbers */
    bool transpose;       /* the output's matrix is the parameter's, turned */
    const int32_t *order; /* NULL, or output row r is the parameter's row order[r] */
    const io_tensor *raw; /* param −1: copied byte for byte */
    int64_t rank;         /* place in the file, for formats that have an order of their own */
} save_item;

typedef struct save_plan {
    model *m;
    const char *path; /* whose values they are, for messages */
    const model_save_options *opt;
    arena *mem;
    save_item *item;
    int64_t n, cap;
    bool untie;   /* the head is written although the base ties it */
    arena *codes; /* the matrix that was coded last, and its parameter; NULL: none */
    const tn_tensor *coded;
    int64_t coded_param;
} save_plan;

typedef ft_status (*save_put)(void *ctx, const void *data, size_t n);

/* Lists the parameters (head only when it is one of its own); type, order and transpose are the format's. */
FT_MUST_USE ft_status save_plan_open(save_plan *p, model *m, const model_save_options *opt);
void save_plan_close(save_plan *p);
/* The values of one item, folded and rounded once, in the output's layout. */
FT_MUST_USE ft_status save_bytes(save_plan *p, const save_item *it, save_put put, void *ctx);
/* 65 or 80: a tensor that holds what no result may hold. */
ft_status save_refuse(const save_plan *p, const char *name, const char *what);
/* What the overlay trains in the parameter's place, or the parameter itself. */
const tn_tensor *save_value(const save_plan *p, nn_param *q);
/* The adapter computes something of its own at the parameter's site. */
bool save_folds(const save_plan *p, int64_t param);
/* The f32 matrix or bias of a parameter with the adapter's part; *out is ft_alloc'ed. */
FT_MUST_USE ft_status save_folded(const save_plan *p, int64_t param, float **out);
/* A matrix of f32, ft_alloc'ed, becomes its transpose. */
FT_MUST_USE ft_status save_turn(float **w, int64_t rows, int64_t cols);
/* The source of a parameter's values, with the adapter's part folded in: *w is its memory, ft_alloc'ed, or NULL. */
FT_MUST_USE ft_status save_source(const save_plan *p, int64_t param, tn_tensor *src, float **w);
/* What values of a folder in codes stand in otherwise. */
const dt_type *save_quant_dtype(const model *m);
/* Of a parameter that is no codes in a folder; asked for, or as it was. */
const dt_type *save_folder_type(const model *m, int64_t i, const model_save_options *opt);
/* Puts the parts of the matrices that opt->quant means in their place; their bytes. */
FT_MUST_USE ft_status save_quant_items(save_plan *p);
FT_MUST_USE ft_status save_quant_bytes(save_plan *p, const save_item *it, save_put put, void *ctx);
/* The metadata of a GGUF in the making; names go behind "ARCH.". */
typedef struct save_meta {
    gguf_writer *w;
    const save_plan *p;
    const char *arch;
    float *rope_divisors; /* [n_divisors] of llama3 scaling or longrope, or NULL */
    int64_t n_divisors;
} save_meta;
void save_put_u32(const save_meta *k, const char *name, int64_t v);
void save_put_f32(const save_meta *k, const char *name, double v);
void save_put_text(const save_meta *k, const char *name, const char *v);
FT_MUST_USE ft_status save_folder(save_plan *p, const char *path);
FT_MUST_USE ft_status save_gguf(save_plan *p, const char *path);
/* --- save_types.c: which type a tensor of a GGUF is written in ---------------------------------------------------- */
int save_file_type(const dt_type *t, const model_mix *mix); /* general.file_type; mix may be NULL */
/* asked: of the file, or of a mixture its base. */
const dt_type *save_tensor_type(const save_plan *p, const save_item *it, const dt_type *asked);
/* The rows of heads in the order of a GGUF that permutes them: [heads · head_dim]. NULL: out of memory. */
const int32_t *save_gguf_rows(arena *mem, int heads, int head_dim);
/* --- save_folder.c: what lies beside the weights and is copied --------------------------------------------------- */
enum { SAVE_SIDE_FILES = 10 };
extern const char *const save_side_files[SAVE_SIDE_FILES];
#define SAVE_TEMPLATES                                                                             \
    "additional_chat_templates" /* templates by name, as newer folders keep them */
#endif
