/* tool.h – what is done with a finished model: score lines, generate, evaluate with gates, merge an adapter
 * and prove it, convert between formats.
 *
 * All of them stand on one thing, a model opened for use (tool_model), and on one pass over ragged sequences
 * (tool_score), so that every verb gives the same probabilities for the same tokens. Results leave through a
 * sink that the program gives; nothing here knows about terminals. */
#ifndef FT_TOOL_H
#define FT_TOOL_H

#include "ft/method.h"
#include "ft/model.h"
#include "ft/template.h"

/* --- where results go --------------------------------------------------------- */
typedef struct tool_sink {
    ft_status (*put)(void *ctx, const char *text, size_t n);
    void *ctx;
} tool_sink;

/* --- a model opened for use ---------------------------------------------------------------------------- */
typedef struct tool_model {
    arena *mem; /* scratch of the pass under way */
    model *m;
    pe_ctx *adapter;    /* NULL: none */
    tok_tokenizer *tok; /* NULL: the model has none */
    chat *chat;         /* NULL until tool_chat_ids asks */
    ag_tape *tape;      /* does not record */
    bool warned_cut;    /* a context was too long: said once */
} tool_model;
/* model NULL: the base that the adapter's config names. A missing tokenizer is an error only when asked for. */
FT_MUST_USE ft_status tool_open(tool_model **out, const char *model_path, const char *adapter,
                                bool need_tokenizer);
void tool_close(tool_model *t); /* accepts NULL */
/* The base of a PEFT folder: base_model_name_or_path, relative to the folder or to the current one. */
FT_MUST_USE ft_status tool_adapter_base(const char *adapter, arena *a, const char **base);

/* Appends the ids of a text as a document begins: with BOS in front where the tokenizer adds one and the text
 * does not begin with it already; never with EOS (lm-evaluation-harness 0.4.11). */
FT_MUST_USE ft_status tool_encode(const tool_model *t, const char *text, size_t len, tok_ids *out);
/* Appends the ids of messages rendered by the model's chat template, ready for the assistant to answer. */
FT_MUST_USE ft_status tool_chat_ids(tool_model *t, const cJSON *messages, tok_ids *out);
/* As lm-evaluation-harness: ids of context + continuation, *from the first scored token. */
FT_MUST_USE ft_status tool_encode_pair(const tool_model *t, const char *context, size_t context_len,
                                       const char *continuation, size_t continuation_len,
                                       tok_ids *out, int64_t *from);

/* --- probabilities ---------------------------------------------------------------------------------------- */
typedef struct tool_seq {
    const int32_t *id; /* [n] */
    int64_t n;
    int64_t from;   /* first scored token, ≥ 1; ≥ n: none */
    float *logprob; /* out [n − from] natural log; NULL when nothing is scored */
    int32_t *best;  /* out [n − from] arg max; NULL when nothing is scored */
    float *logits;  /* out [vocab_size] after the last token; NULL: not wanted */
} tool_seq;
#define TOOL_PASS_TOKENS 2048 /* rows of one forward pass; a longer sequence has a pass to itself */
/* Runs the sequences in passes, in order. The numbers of a sequence do not depend on its neighbours. */
FT_MUST_USE ft_status tool_score(tool_model *t, tool_seq *seq, int64_t n);
/* Hidden states of one sequence: [n, hidden_size] on the tape, valid until the next pass. bare: without the
 * adapter. */
FT_MUST_USE ft_status tool_hidden(tool_model *t, const int32_t *id, int64_t n, bool bare,
                                  nn_run *run, tn_tensor **hidden);
/* log Σ exp of a row, in double. */
double tool_lse(const float *logits, int64_t n);

/* --- score --------------------------------------------------------------------------------------------- */
typedef struct tool_score_options {
    const char *data; /* NULL: standard input */
    bool per_token;
    int64_t top; /* 0: none */
} tool_score_options;
FT_MUST_USE ft_status tool_score_lines(tool_model *t, const tool_score_options *opt,
                                       const tool_sink *out);

/* --- generate ------------------------------------------------------------------------------------------- */
typedef struct tool_sampling {
    int64_t min_new, max_new;
    double temperature; /* 0: greedy */
    int64_t top_k;      /* 0: all */
    double top_p;       /* 1: all */
    uint64_t seed;
} tool_sampling;
#define TOOL_SAMPLING_DEFAULT                                                                      \
    ((tool_sampling){.max_new = 256, .temperature = 0.0, .top_k = 0, .top_p = 1.0, .seed = 42})
/* Picks a token: HF's order temperature, top-k, top-p; a pure function of its arguments. `banned` ids cannot be
 * picked. logits are overwritten. */
FT_MUST_USE ft_status tool_sample(float *logits, int64_t vocab, const tool_sampling *s,
                                  const int32_t *banned, int n_banned, uint64_t key,
                                  uint64_t counter, int32_t *id);
typedef struct tool_generated {
    tok_ids ids;  /* new tokens, with the stop token that ended them */
    str_buf text; /* without that stop token */
    bool stopped; /* by a stop token, not by the length */
    double seconds;
} tool_generated;
void tool_generated_free(tool_generated *g);
/* Continues a prompt of at least one token. `stream` (may be NULL) gets whole UTF-8 sequences as they come.
 * sample: number of the line, part of the random key. */
FT_MUST_USE ft_status tool_generate(tool_model *t, const int32_t *prompt, int64_t n,
                                    const tool_sampling *s, uint64_t sample,
                                    const tool_sink *stream, tool_generated *out);
typedef struct tool_generate_options {
    const char *prompt; /* NULL: JSON lines ({"prompt"} or {"messages"}, or a string) from data */
    const char *data;   /* NULL: standard input */
    bool chat, json, stream;
    tool_sampling sampling;
} tool_generate_options;
FT_MUST_USE ft_status tool_generate_lines(tool_model *t, const tool_generate_options *opt,
                                          const tool_sink *out);

/* --- eval --------------------------------------------------------------------------------------------------- */
typedef struct tool_eval_options {
    const char *config; /* NULL: flags alone */
    const char *const
        *sets; /* --set strings; the flags below are sets too when a config is given */
    int n_sets;
    const char *model, *adapter, *task, *data, *match; /* flags; each may be NULL */
    int64_t limit, max_length, stride,
        max_new_tokens; /* of the task given by flags; 0: not given */
    bool json;
} tool_eval_options;
extern const cfg_field tool_eval_fields[]; /* top level of the config, for help and schema */
/* FT_EGATE when a gate was missed: everything is printed, the message names the missed ones. */
FT_MUST_USE ft_status tool_eval(const tool_eval_options *opt, const tool_sink *out);

/* How an answer is compared (rows of eval_match.c): exact, contains, regex, last_number. */
typedef struct tool_match {
    const char *name;
    ft_status (*match)(const char *output, size_t n, const char *answer, bool *hit);
} tool_match;
const tool_match *tool_match_by_name(const char *name);
extern const char *const tool_match_names[]; /* NULL-terminated */

/* --- merge and convert ----------------------------------------------------------------------------------------- */
typedef struct tool_proof {
    int64_t tokens;
    double max_logit_diff, max_logprob_diff, mean_kl, top1_agreement;
    double
        effect; /* max |logit with adapter − logit of the base|: 0 means the adapter does nothing */
} tool_proof;
/* Runs the same tokens through both, `a` with its adapter. Either may be NaN-poisoned: then mean_kl is +Inf. */
FT_MUST_USE ft_status tool_prove(tool_model *a, tool_model *b, tool_proof *out);

typedef struct tool_merge_options {
    const char *adapter, *out;
    const char *base; /* NULL: from the adapter's config */
    const char *type; /* NULL: the base's */
    double tolerance; /* mean KL in nats; < 0: 0.01 for float outputs, none for blocks */
    bool force, json;
} tool_merge_options;
FT_MUST_USE ft_status tool_merge_adapter(const tool_merge_options *opt, const tool_sink *out);

typedef struct tool_convert_options {
    const char *model, *out;
    const char *type; /* NULL: the model's */
    bool force, json;
} tool_convert_options;
FT_MUST_USE ft_status tool_convert(const tool_convert_options *opt, const tool_sink *out);

/* A result that must not exist half: a temporary beside `path` that model_save writes to, then a rename. An
 * existing path is 73 unless force. */
typedef struct tool_target {
    arena *mem;
    const char *path, *temp;
    bool force;
} tool_target;
FT_MUST_USE ft_status tool_target_open(tool_target *t, const char *path, bool force, arena *mem);
FT_MUST_USE ft_status tool_target_commit(tool_target *t);
void tool_target_abort(tool_target *t);
#endif
