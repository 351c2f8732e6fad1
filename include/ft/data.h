/* data.h – from files to batches: sources and formats, chat rendering with loss masks, truncation,
 * mixing by weight, the order of an epoch, ragged batches.
 *
 * data_open reads, checks, renders and tokenises everything before step 1, so a bad line is found (with
 * file, line and column) before anything is trained or written. What training sees afterwards is a pure
 * function of (data, config, seed, epoch, step): there is no cursor and nothing to save in a checkpoint. */
#ifndef FT_DATA_H
#define FT_DATA_H

#include "ft/base.h"
#include "ft/cfg.h"
#include "ft/template.h"

#define DATA_IGNORE (-100) /* a label that is not trained on */

/* --- options: the "data" table of a training config ---------------------------------------------- */
typedef struct data_cfg {
    const cJSON *train, *eval; /* a source or a list of sources (data_open reads them) */
    int64_t max_length;
    const cJSON *packing; /* false, true or "concat"; checked by data_open */
    bool shuffle;
    bool completion_only_loss, assistant_only_loss;
    int64_t vocab_size; /* no key: of the model, bounds ids of `tokens` sources; 0: the tokenizer's size */
} data_cfg;
extern const cfg_field data_fields[];

/* --- a data set: the samples of one list of sources, tokenised ------------------------------------
 * A sample is one record, or one row of at most max_length tokens for `text` sources. The samples of a
 * source are contiguous, sources stand in the order of the config. Held in memory: 8 bytes a token
 * (id and label; 4 for text sources) and 48 bytes a sample. */
typedef struct data_set data_set;

typedef struct data_source_stats {
    const char *name, *path, *format; /* format as found ("messages"), never "auto" */
    double weight;          /* share of the tokens of the mix, 0 … 1; 0: no source has a weight */
    int64_t first, samples; /* range of sample indices */
    int64_t records;        /* records (documents of text sources) read */
    int64_t truncated;      /* samples cut at max_length and kept */
    int64_t dropped;        /* left out: truncation removed every supervised token */
    int64_t tokens, supervised; /* of the samples kept; supervised = labels that have a predictor */
    int64_t longest;            /* tokens of the longest sample before truncation */
} data_source_stats;

/* Reads `sources` (a node of cfg, which must outlive the set): config mistakes are recorded and returned
 * as FT_ECONFIG, bad data is FT_EDATA with "FILE:LINE:COL: …", missing files 66. `tok` and `chat` must
 * outlive the set; chat may be NULL (a model without template: `messages` and `sharegpt` are 65 then).
 * No sample left is 65. training: weights and names apply to a mix; otherwise (evaluation) weights are
 * refused. */
FT_MUST_USE ft_status data_open(data_set **out, cfg_doc *cfg, const cJSON *sources,
                                const data_cfg *opt, const tok_tokenizer *tok, const chat *chat,
                                bool training);
void data_close(data_set *d); /* accepts NULL */

int64_t data_count(const data_set *d); /* samples held */
int data_sources(const data_set *d);
const data_source_stats *data_stats(const data_set *d, int source);
int32_t
data_max_id(const data_set *d); /* largest id or label: must be below the model's vocabulary */
/* Tokens of the n longest samples together: the worst micro-batch of n samples. */
int64_t data_longest(const data_set *d, int64_t n);
/* SHA-256 of all that training sees: ids, labels, boundaries, weights. Independent of file names and
 * compression. */
void data_sha256(const data_set *d, char hex[65]);

/* One sample as stored. ids [len]; labels [len] unshifted as in Hugging Face (labels[t] is ids[t] or
 * DATA_IGNORE; the `tokens` format may name other targets); seq_len [n_seq] adds up to len: documents of a
 * text row, which do not attend to each other (1 for everything else). Pointers into the set. */
typedef struct data_sample {
    const int32_t *ids, *labels, *seq_len;
    int64_t len;
    int n_seq, source;
    int64_t line; /* where it stands in its file, from 1; 0 for rows of a text source */
} data_sample;
void data_get(const data_set *d, int64_t sample, data_sample *out);

/* A sample for the eye: one line of counts, then its text in pieces of equal supervision, escaped as JSON
 * strings ("  train  \"…\"" or "         \"…\""). The JSON form: source, line, tokens, supervised_tokens,
 * segments [{supervised, text, ids}]; the caller deletes it, NULL when out of memory. */
FT_MUST_USE ft_status data_show(const data_set *d, int64_t sample, str_buf *out);
cJSON *data_show_json(const data_set *d, int64_t sample);

/* --- order ----------------------------------------------------------------------------------------
 * Length of one epoch's order. Without weights: data_count, every sample once. With weights: as many
 * tokens as all sources hold together, divided by weight; source s gives n_s samples an epoch, goes on
 * where its last epoch ended and starts anew (another permutation) when it is used up. */
int64_t data_epoch_length(const data_set *d);
/* Writes data_epoch_length(d) sample indices; a pure function of (d, seed, epoch, shuffle). Sources are
 * interleaved so that after every sample the shares of tokens are as near to the weights as can be. */
FT_MUST_USE ft_status data_order(const data_set *d, uint64_t seed, int64_t epoch, bool shuffle,
                                 int64_t *out);

/* --- one optimizer step ------------------------------------------------------------------------------
 * The samples of a step divided into micro-batches of at most `micro_size` samples. With packing "concat"
 * the samples of the step are first joined first-fit into rows of max_length (so the rows do not depend on
 * micro_size) and a micro-batch holds whole rows: it may then exceed micro_size when one row does. */
typedef struct data_micro {
    const int64_t *sample; /* [n] */
    const int64_t *slot;   /* [n] place of each sample in the step's order */
    int n;
} data_micro;
typedef struct data_step {
    data_micro *micro;
    int n_micro;
    int64_t tokens, supervised; /* of the whole step: supervised is the divisor of the loss */
} data_step;
FT_MUST_USE ft_status data_step_plan(const data_set *d, const int64_t *samples, int n,
                                     int micro_size, data_step *out, arena *mem);

/* A ragged batch: sequences one after another, no padding; a token attends to earlier tokens of its own
 * sequence only. With packing "concat" a sequence is a joined row, otherwise a sample (or a document of
 * a text row). */
typedef struct data_batch {
    int n_seq;
    const int32_t *len; /* [n_seq], adds up to tokens; every len ≥ 1 */
    int64_t tokens;
    const int32_t *ids;    /* [tokens] */
    const int32_t *pos;    /* [tokens] from 0 in every sequence */
    const int32_t *labels; /* [tokens] already shifted: the target that position t predicts, or
                                 DATA_IGNORE; the last position of a sequence predicts nothing */
    const uint64_t
        *row_key;       /* [tokens] key of this token for dropout: a pure function of (key, slot of
                                 the sample in the step, position in the sample) */
    int64_t supervised; /* labels that are not DATA_IGNORE */
    const int64_t *sample_of_seq; /* [n_seq] the (first) sample of each sequence */
    const int64_t *source_tokens; /* [data_sources] tokens of each source in this batch */
} data_batch;
/* slot: as in data_micro; NULL means 0 … n−1. key: of (seed, step). All arrays in `mem`. */
FT_MUST_USE ft_status data_batch_make(const data_set *d, const int64_t *samples,
                                      const int64_t *slot, int n, uint64_t key, data_batch *b,
                                      arena *mem);
#endif
