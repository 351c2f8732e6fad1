/* train.h – the training config, and the one training loop: accumulation, evaluation, checkpoints, resume.
 *
 * A run is a pure function of its config, its data and its base: checkpoints hold values, optimizer states and counters,
 * never a cursor or a generator, and a resumed run gives the bytes of an undisturbed one. */
#ifndef FT_TRAIN_H
#define FT_TRAIN_H

#include "ft/cfg.h"
#include "ft/data.h"
#include "ft/method.h"
#include "ft/objective.h"
#include "ft/optim.h"

/* The sections of a training config, for parsing, help and schema. For "method" and "objective" rows holds
 * the keys that every type has; those of a type are its own (pe_at, obj_at). */
typedef struct train_section {
    const char *key;
    const cfg_field *rows;
    const char *help;
} train_section;
extern const train_section train_sections[]; /* ends with key NULL */
/* What an unknown key of a training config may have meant: another program's name ("lr"), or a key of ours in another place. */
bool train_key_meant(const char *key, cfg_meaning *out);

/* Values that stand beside a config, or are all there is of one; they win over it, and --set over them. NULL: not given. */
typedef struct train_given {
    const char *model, *method;
    const char *const *data; /* [n_data] paths, or sources as JSON text */
    int n_data;
    const char *eval; /* likewise */
} train_given;
typedef struct train_options {
    const char *config; /* path; NULL: what is given, and output.dir "out" */
    train_given given;
    const char *const *sets;
    int n_sets;
    const char *out; /* --out, or NULL */
    bool resume, force, json;
    bool follow_links; /* as model_check_links: no key of a config, for it changes no result */
    str_buf *next;     /* filled with the command that one would go on with; NULL: not asked */
} train_options;
/* `ft train`: trains, saves the result, and writes a summary (text, or one JSON line) into `result`. FT_ESIGNAL after a
 * saved stop, FT_ETIME at max_seconds; the message then ends with the command that goes on. */
FT_MUST_USE ft_status train_run(const train_options *opt, str_buf *result);
/* `ft check`: everything train would refuse, nothing written; text or JSON report into `result`. */
FT_MUST_USE ft_status train_check(const train_options *opt, str_buf *result);
/* `ft data`: what a run would see of its data, as text or one JSON line. */
typedef struct train_look_options {
    int64_t samples; /* to show */
    bool eval;       /* the evaluation's data, not the training's */
    bool colour;     /* what is learned is marked by it, else by ⟦ ⟧ */
    const char *out; /* file for every sample as a record of format tokens; NULL: none */
} train_look_options;
FT_MUST_USE ft_status train_look(const train_options *opt, const train_look_options *how,
                                 str_buf *result);
/* `ft bench CONFIG`: one step to warm up, then `steps` measured ones; nothing is written and no output folder is needed. */
enum { TRAIN_BENCH_SHAPES = 12 };
typedef struct train_bench_result {
    int steps;
    double tokens_per_s, tokens_per_step;
    double seconds;                            /* a step, by the clock */
    double data, forward, backward, optimizer; /* of them */
    ag_clock clock;                            /* of forward and backward, by op */
    double flop_per_token, gflops;             /* by the count in bench.c */
    size_t planned_bytes, peak_rss_bytes;
    int64_t trainable, micro_tokens;
    kn_shape shape[TRAIN_BENCH_SHAPES]; /* of its products, each once, over a micro-batch */
    int shapes;
    bool trains_weights;   /* so that there are gradients of matrices besides */
    kn_precision precision; /* of its products */
} train_bench_result;
FT_MUST_USE ft_status train_bench(const train_options *opt, int steps, train_bench_result *result);
/* A sealed JSON file of a checkpoint (its last member is the SHA-256 of what stands before it), e.g. manifest.json. One
 * that was changed or cut is 65. The caller ends with js_close(doc) and ft_free(*text). */
FT_MUST_USE ft_status train_sealed_read(js_doc *doc, char **text, const char *path);
/* A file that a manifest lists, against its bytes (−1: any) and SHA-256 (NULL: its size alone); 65, or 77. */
FT_MUST_USE ft_status train_checkpoint_file(const char *path, int64_t bytes, const char *sha256);
#endif
