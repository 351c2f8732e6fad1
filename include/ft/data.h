/* data.h – from files to batches: sources and formats, chat rendering with loss masks, truncation,
 * mixing by weight, the samples of a step, ragged batches.
 *
 * data_open reads, checks, renders and tokenises everything before step 1, so a bad line is found (with
 * file, line and column) before anything is trained or written. What training sees afterwards is a pure
 * function of (data, config, seed, step): there is no cursor and nothing to save in a checkpoint. */
#ifndef FT_DATA_H
#define FT_DATA_H

#include "ft/base.h"
#include "ft/cfg.h"
#include "ft/nn.h"
#include "ft/template.h"

#define DATA_IGNORE (-100) /* a label that is not trained on */

/* --- options: the "data" table of a training config ---------------------------------------------- */
typedef struct data_cfg {
    const cJSON *train, *eval; /* a source or a list of sources (data_open reads them) */
    double eval_split;         /* held out of train: a share, or a number of records; 0 or NAN: nothing */
    int64_t max_length;
    const cJSON *packing; /* false, true or "concat"; checked by data_open */
    int64_t window_tokens; /* or CFG_AUTO */
    int64_t max_unpacked_bytes; /* or CFG_AUTO, or 0 for the same */
    bool shuffle;
    bool completion_only_loss, assistant_only_loss;
    const char *chat_template; /* for chat_use, by who opens the tokenizer; NULL: its own */
    const char *on_loss; /* "error", "warn", "drop": a template does not print what would be learned */
    int64_t vocab_size; /* no key: of the model, bounds ids of `tokens` sources; 0: the tokenizer's size */
    uint64_t seed;      /* no key: of the run; what eval_split draws by */
    bool count_first;   /* no key: of the method, as in data_split */
    bool count, look;   /* no keys: streams of text are read to their end to count them; only looked at
                           (they are not even then) */
    const char *tokenizer_key; /* no key: the one that would name a tokenizer, for messages; NULL: none would */
    const char *key; /* no key: what the sources are called in messages; NULL: data.train, data.eval */
    int64_t limit;   /* no key: records of each source at most, beside its own limit; 0: all */
    unsigned wants;  /* no key: data_gives that the objective asks for; 0: any */
    bool uncut;          /* no key: of the objective; a record of which a sequence would be cut is left out */
    bool plain;          /* no key: labels play no part, so a record that teaches nothing is one too */
    bool ids;        /* no key: `extra` of a sample is {"id": …} of a record that has one */
} data_cfg;
extern const cfg_field data_fields[];

/* --- samples --------------------------------------------------------------------------------------
 * What a step is made of, whoever made it: a set, a test, a model that answers prompts. A view: it
 * holds no memory of its own. labels are unshifted as in Hugging Face: labels[t] is ids[t] or
 * DATA_IGNORE (the `tokens` format may name other targets); the first of a sequence has no predictor
 * unless a virtual token stands before it. Sequences do not attend to each other. */
typedef struct data_sample {
    const int32_t *ids, *labels; /* [len] */
    const int32_t *seq_len;      /* [n_seq], adds up to len; see data_gives */
    int64_t len;
    int64_t whole; /* tokens before it was cut at max_length */
    int n_seq, source;
    int64_t index;     /* in its set; −1: made otherwise */
    const char *path;  /* of its file; of a row of text that of its source */
    int64_t line;      /* where it stands in its file, from 1; 0 for rows of a text source */
    double value;      /* see data_gives */
    const char *extra; /* JSON object of what a reward wants of the record ("answer"), or NULL */
} data_sample;

/* What the records of a format give, and so what an objective may ask for. Shipped formats give tokens; the others are for
 * objectives over preferences, over answers judged one by one (KTO), and over answers that are sampled while training. */
typedef enum data_gives {
    DATA_TOKENS = 1,   /* tokens to learn, at least one of them supervised. A record is one sequence (one
                          of `tokens` as many as its seq_lengths says), a row of a text source as
                          many as it holds documents */
    DATA_PAIRS = 2,    /* two sequences, chosen first; value: a margin, 0 where there is none */
    DATA_LABELLED = 4, /* one sequence; value: 1 desirable, 0 not */
    DATA_PROMPTS = 8,  /* one sequence, nothing supervised: what is asked */
    DATA_TRIPLES = 16, /* pairs with a third sequence, an answer that is learned */
    DATA_ROLLOUTS = 32 /* prompts with one answer that was sampled before, supervised; value: batches that an epoch
                          had, 0 where that is not said */
} data_gives;

/* --- a data set: the samples of one list of sources, tokenised ------------------------------------
 * A sample is one record, or one row of at most max_length tokens for `text` sources. The samples of a
 * source are contiguous, sources stand in the order of the config. Held in memory: two bytes a token
 * (three of those above 49151) and some ten a sample; while it is read, ten more a record to find equal ones.
 *
 * Text in .txt and .jsonl files that is large (window_tokens "auto": more than 2^24 tokens, or a file of
 * more than 2^27 bytes, 2^26 of .gz), or all of it where window_tokens is a number, is a stream: its rows
 * are counted off into windows of so many tokens (auto: 2^22 for all sources together), of which one at a
 * time is in memory. It is read in the order of the file, each window when its first row is wanted, so a bad
 * line is found (65) when it is reached. data_open reads the first window and estimates the rest by bytes;
 * with `count` it reads a stream to its end, checking and counting, and nothing of it stays in memory.
 * Duplicates are not looked for in streams. */
typedef struct data_set data_set;

typedef struct data_unread {
    const char *key;
    int64_t records; /* that have it, with a value other than null */
} data_unread;

typedef struct data_source_stats {
    const char *name, *path, *format; /* format as found ("messages"), never "auto" */
    data_gives gives;
    int files;              /* that it was read from */
    double weight;          /* share of the tokens of the mix, 0 … 1; 0: no source has a weight */
    int64_t first, samples; /* range of sample indices */
    int64_t records;        /* records (documents of text sources) read */
    int64_t truncated;      /* samples cut at max_length and kept */
    int64_t dropped;        /* left out: truncation removed every supervised token, or text was lost
                               and on_loss is "drop" */
    int64_t lost;           /* records of which a supervised turn, or the tools, are not in the rendering */
    int64_t unprinted;      /* records with a turn that is not learned, and not in the rendering either */
    int64_t duplicates;     /* records equal to an earlier one of the set (not counted in .txt) */
    int64_t empty;          /* records whose completion, assistant turn or text is empty or white space */
    int64_t same;           /* pairs of equal answers */
    int64_t merged_borders; /* records in which the first token learned begins in the text before it */
    const data_unread *unread; /* [n_unread] keys of records that their format does not read, as they
                                  are met; "…": all beyond 63 */
    int n_unread;
    int64_t tokens, supervised; /* of the samples kept; supervised = labels that have a predictor,
                                   first ones too under count_first */
    bool whole;      /* false: a stream of which these counts are what was read so far */
    double share;    /* of the file, by bytes, that they were of when the set was opened */
    int64_t windows; /* of a stream, met so far; 0: the samples are in memory */
    int64_t longest;            /* tokens of the longest sequence before truncation */
    int64_t sequences, most_sequences; /* in all samples, and of one at most */
    int32_t max_id;             /* largest id or label */
    double seen; /* pairs of tokens of a sequence that see each other, each with itself too */
} data_source_stats;

/* A form of records: its name, what of it is trained on, and a record as one line of JSON. False: past the end. */
typedef struct data_form {
    const char *name, *help, *example;
} data_form;
bool data_form_at(int i, data_form *out);
/* What a file holds by the end of its name, packed or not. */
typedef enum data_holds { DATA_HOLDS_OTHER, DATA_HOLDS_TEXT, DATA_HOLDS_RECORDS } data_holds;
data_holds data_holds_of(const char *path);
const char *data_known_at(int i); /* a record known by its keys, as alpaca's are read; NULL: past the end */
extern const char *const data_format_names[]; /* with "auto", NULL-terminated */
extern const char data_file_kinds[];          /* of data: ".jsonl, … (each also …)" */

/* Reads `sources` (a node of cfg, which must outlive the set): config mistakes are recorded and returned
 * as FT_ECONFIG, bad data is FT_EDATA with "FILE:LINE:COL: …", missing files 66. `tok` and `chat` must
 * outlive the set; chat may be NULL (a model without template: `messages` and `sharegpt` are 65 then).
 * No sample left is 65. training: weights and names apply to a mix; otherwise (evaluation) weights are
 * refused. */
FT_MUST_USE ft_status data_open(data_set **out, cfg_doc *cfg, const cJSON *sources,
                                const data_cfg *opt, const tok_tokenizer *tok, const chat *chat,
                                bool training);
void data_close(data_set *d); /* accepts NULL */
/* A record with the columns of its source in place; line: where it begins in its file, whose name is doc's. */
typedef ft_status (*data_record)(void *ctx, const js_doc *doc, const cJSON *rec, int64_t line);
/* Calls `each` for the records of a source or of a list of them, in order, of each at most limit (0: all). Fields of a .csv that
 * `json` names (NULL-terminated; NULL: none) are JSON. What only learning wants of a source (format, roles,
 * document_separator, weight) is a mistake of the config. */
FT_MUST_USE ft_status data_records(cfg_doc *cfg, const cJSON *sources, const char *key,
                                   const char *const *json, int64_t limit, data_record each,
                                   void *ctx);
/* The names that the sources of a list would have in an evaluation, [*n] of mem, without reading any: mistakes of the
 * config are recorded in cfg, and a name may be NULL then. */
FT_MUST_USE ft_status data_names(cfg_doc *cfg, const cJSON *sources, const char *key, arena *mem,
                                 const char *const **names, int *n);
/* The records that eval_split held out of a training set, each of its sources by its name: an evaluation set. `train` must
 * outlive it. */
FT_MUST_USE ft_status data_open_held(data_set **out, const data_set *train, const data_cfg *opt);
/* A word of the command line as the JSON text of a source: an object that is written out, else a path. */
void data_source_text(str_buf *out, const char *word);
/* How many of the sources of a config (a source, or a list of them) are standard input. */
int data_reads_input(const cJSON *sources);
/* The files that the path of a source names: a file, the data files of a folder, or those that a pattern fits, sorted; in `mem`,
 * or `path` itself. Fails with FT_ENOINPUT where there is none. */
FT_MUST_USE ft_status data_list_files(const char *path, arena *mem, const char ***files,
                                      int64_t *n);

/* Ids of a text as records have it, with one BOS where the tokenizer adds it, and (close) EOS. */
FT_MUST_USE ft_status data_plain_ids(const tok_tokenizer *tok, const char *text, size_t n,
                                     bool close, tok_ids *out);
/* What reading on in a stream takes for a while, beside the window in memory, which the next one replaces:
 * 0 where `samples` samples of the set are in what is in memory. */
size_t data_reading_bytes(const data_set *d, int64_t samples);
FT_MUST_USE ft_status data_reads_file(const data_set *d, const char *path,
                                      bool *reads); /* is it one of its files, by whatever name? */
int64_t data_count(const data_set *d); /* samples; of a stream that is not whole, those read so far */
int data_sources(const data_set *d);
const data_source_stats *data_stats(const data_set *d, int source);
int32_t
data_max_id(const data_set *d); /* largest id or label: must be below the model's vocabulary */
/* Tokens of the n longest samples together: the worst micro-batch of n samples. */
int64_t data_longest(const data_set *d, int64_t n);
/* Tokens of the longest sequence, and so the positions that a model must have; with packing "concat" an upper bound of the
 * longest row that n samples are joined to. */
int64_t data_longest_sequence(const data_set *d, int64_t n);
/* Tokens of a source; of a stream that is not whole an estimate by the bytes of its first window. */
double data_tokens(const data_set *d, int source);
/* SHA-256 of what a set is known by: weights, and of each source ids, labels and boundaries; of a stream
 * those of its first window (places hold the rest to what it was). Independent of file names and
 * compression. */
FT_MUST_USE ft_status data_sha256(const data_set *d, char hex[65]);
/* SHA-256 of the windows of a stream that its first pass has read so far: each is hashed behind the hash
 * of those before. NULL for a source in memory. */
const char *data_read_sha256(const data_set *d, int source);

/* Where reading stands in the streams of a set, as a JSON value: with it a set opened anew goes on without
 * reading what stands before. It changes no sample; what it says of a file must be true of it (65: the file
 * has changed), as far as its size, a sample of its bytes, and the window that was in memory can tell. */
FT_MUST_USE ft_status data_places(const data_set *d, str_buf *out);
FT_MUST_USE ft_status data_places_restore(data_set *d, const js_doc *doc, const cJSON *places);

/* Sample 0 … data_count − 1 in the order of the sources, as a view that is valid until `mem` is reset
 * or the set is closed. Of several sources only the last may be a stream that is not whole. */
FT_MUST_USE ft_status data_get(data_set *d, int64_t sample, data_sample *out, arena *mem);

/* A sample for the eye: one line of counts, then its text in pieces of equal supervision, escaped as JSON
 * strings ("  train  \"…\"" or "         \"…\""). The JSON form: source, line, tokens, supervised_tokens,
 * segments [{supervised, text, ids}]; the caller deletes it, NULL when out of memory. */
FT_MUST_USE ft_status data_show(data_set *d, int64_t sample, str_buf *out);
cJSON *data_show_json(data_set *d, int64_t sample);

/* --- the samples of a step ----------------------------------------------------------------------------
 * Length of one epoch in samples. Without weights: data_count, every sample once, in steps of which the
 * last one holds what is left. With weights an epoch is only a measure: as many tokens as all sources hold
 * together. The mix has no ends: every step is full, a source that is used up begins anew in another order
 * (told in a line each time), and at every sample each source has given its share of the tokens within one
 * sample. Where a source is a stream, sources are interleaved too: each by its share of all tokens where
 * there are no weights; if that is not counted but estimated, the mix has no ends either. */
int64_t data_epoch_length(const data_set *d);
/* The samples of optimizer step `step` (from 0): out [batch_size], *n of them; the last step of an epoch
 * may have fewer. A pure function of (d, seed, step, batch_size): steps may be asked for in any order,
 * though each is found fastest after the one before it. The views are valid until `mem` is reset. */
FT_MUST_USE ft_status data_take(data_set *d, uint64_t seed, int64_t step, int64_t batch_size,
                                data_sample *out, int *n, arena *mem);

/* How a step is divided into micro-batches, each of neighbouring samples. A bound of 0 is none; what
 * cannot be divided further (a sample, a row) may exceed one. */
typedef struct data_split {
    int64_t micro_samples, micro_tokens; /* at most, in a micro-batch */
    int64_t virtual_rows; /* that a method puts before every sequence: tokens in the sense of micro_tokens */
    int64_t row_tokens; /* > 0: packing "concat". The samples of the step, those of one sequence, are
                           first joined first-fit into rows of so many tokens, which therefore do not
                           depend on the bounds; a micro-batch holds whole rows */
    bool count_first;   /* virtual tokens stand before every sequence: its first label is predicted */
} data_split;
typedef struct data_micro {
    const int32_t *slot; /* [n] index of each sample in the step */
    const int32_t *row;  /* [n] row of the step it is in: samples in one row are one sequence */
    int n;
} data_micro;
typedef struct data_step {
    data_micro *micro;
    int n_micro;
    int64_t tokens, supervised; /* of the whole step, without virtual rows; supervised is the divisor of the loss */
} data_step;
FT_MUST_USE ft_status data_step_plan(const data_sample *s, int n, const data_split *how,
                                     data_step *out, arena *mem);

/* A ragged batch: sequences one after another, no padding; a token attends to earlier tokens of its own
 * sequence only. What a network is given is for nn to say, so data includes nn's header for that struct;
 * nn knows nothing of data. */
typedef struct data_batch {
    nn_batch in; /* pos from 0 in every sequence; label: the target that position t predicts, or
                    DATA_IGNORE (a sequence's last position predicts nothing); row_key: a pure function
                    of (key, slot of the sample in the step, position in the sample) */
    int64_t supervised;      /* labels that are not DATA_IGNORE */
    const int32_t *seq_slot; /* [n_seq] the (first) sample of each sequence */
    const double *value;     /* [n_seq] of that sample */
} data_batch;
/* The batch of micro-batch m of the step s. key: of (seed, step). All arrays in `mem`. */
FT_MUST_USE ft_status data_batch_make(const data_sample *s, const data_micro *m, uint64_t key,
                                      data_batch *b, arena *mem);
#endif
