/* infer.h – what a model says: log-probabilities of given tokens, and new tokens for many prompts at once.
 *
 * It stands below the objectives, so that one may sample and score while it trains: it sees a model, an overlay and a
 * tape, no method and no tokenizer. Every verb that runs a finished model stands on it too, and so gives the same
 * probabilities for the same tokens.
 *
 * THE SAME BITS. The numbers and the answer of a sequence depend on that sequence alone, never on its neighbours in a
 * pass, nor on the pages of its cache: see kernel.h (with the row `openblas` of FT_GEMM too). */
#ifndef FT_INFER_H
#define FT_INFER_H

#include "ft/model.h"
#include "ft/token.h"

/* What the passes take in memory: told by dry ones of the same shape before they are made, and grown with the largest. */
typedef struct inf_plan {
    /* the opener's to set: bytes that it makes beside the passes, at their time and at another; of weights that it will
     * map beside them, and whether passes read them; how many tapes have a pass on them at the same time (0: one) */
    size_t beside, apart, later;
    bool unread, gemm; /* gemm: what it makes apart has products of many rows */
    int tapes;
    size_t values;          /* of what lies over the model; the opener's to set, too */
    size_t weights, mapped; /* of the model; of these, pages of files */
    size_t activations, cache, workspace, total; /* cache: keys and values */
    ft_grant grant;
    /* inside: what was there before, the largest shape, and what it took */
    bool begun;
    size_t resident, buffers, granted; /* granted: the largest total that was */
    int64_t rows, seqs, scored, wanted, few;
    ag_rooms rooms;
} inf_plan;

typedef struct inf_ctx {
    model *m;
    const nn_overlay *over; /* NULL: the base */
    ag_tape *tape;          /* every pass resets it */
    size_t cache_limit;     /* bytes of keys and values at the same time; 0: three quarters of what this process may
                               use (ft_memory_limit), or what the plan leaves */
    inf_plan *plan;         /* NULL: passes are not planned; else what does not fit is 71 before it is begun */
} inf_ctx;
/* The largest pass to come, for whoever makes passes of its own on the tape: rows of n_seq sequences, of which so many
 * are scored; rows whose logits are wanted at a time; bytes of further buffers. */
typedef struct inf_shape {
    int64_t rows, seqs, scored, wanted;
    int64_t few; /* answers that advance together by a token */
    size_t buffers;
    int64_t pages, least; /* of keys and values; of the one answer that needs most */
} inf_shape;
FT_MUST_USE ft_status inf_plan_for(const inf_ctx *c, const inf_shape *shape);

/* --- probabilities ---------------------------------------------------------------------------------------- */
typedef struct inf_seq {
    const int32_t *id; /* [n] */
    int64_t n;
    int64_t from;   /* first scored token, ≥ 1; ≥ n: none */
    float *logprob; /* out [n − from] natural logarithms; NULL: not wanted */
    int32_t *best;  /* out [n − from] arg max; NULL: not wanted */
    float *logits;  /* out [vocab_size] after the last token; NULL: not wanted */
} inf_seq;
#define INF_PASS_TOKENS 2048 /* rows of one forward pass; a longer sequence has a pass to itself */
/* Runs the sequences in passes, in order. An id outside the vocabulary is 65, a number that is none 80. */
FT_MUST_USE ft_status inf_score(const inf_ctx *c, inf_seq *seq, int64_t n);
/* The rewards of texts, at least one token each, by a model that scores (model.h: MODEL_REWARD; 65 by another): out [n]. In
 * passes, in order. An id outside the vocabulary is 65, a reward that is no number 80. */
FT_MUST_USE ft_status inf_reward(const inf_ctx *c, const tok_ids *seq, int64_t n, double *out);
/* Hidden states of one sequence: [n, hidden_size] on the tape (after the overlay's virtual rows, if any; model_logits
 * counts from the first of id), valid until the next pass. */
FT_MUST_USE ft_status inf_hidden(const inf_ctx *c, const int32_t *id, int64_t n, nn_run *run,
                                 tn_tensor **hidden);
/* Appends which weight, trained value or layer of a pass over b (NULL: weights only) is the first to hold NaN or Inf: for
 * the message of one that was met. A pass of its own, which resets the tape. */
FT_MUST_USE ft_status inf_find_nonfinite(const inf_ctx *c, const nn_batch *b, str_buf *out);
/* log Σ exp of a row, in double. */
double inf_lse(const float *logits, int64_t n);

/* --- new tokens --------------------------------------------------------------------------------------------- */
/* How tokens are chosen, in transformers' order: penalties, stop tokens held back; then, unless greedy, temperature,
 * top-k, top-p, min-p. */
typedef struct inf_sampling {
    double repetition_penalty; /* 1: none; of ids of prompt and answer a logit < 0 times it, others divided by it */
    double presence_penalty;   /* 0: none; taken off the logit of each id of the answer, once */
    int64_t min_new, max_new;  /* no stop token before so many; tokens at most */
    double temperature;        /* 0: greedy */
    int64_t top_k;             /* 0: all */
    double top_p;              /* 1: all */
    double min_p; /* 0: all; ids of less than this share of the largest probability are out */
    uint64_t seed;
    uint64_t first;      /* number of the first prompt */
    const int32_t *stop; /* [n_stop] ids that end an answer */
    int n_stop;
    bool logprobs; /* wanted in the answers */
} inf_sampling;
#define INF_SAMPLING_DEFAULT                                                                       \
    ((inf_sampling){.max_new = 256, .top_p = 1.0, .repetition_penalty = 1.0, .seed = 42})

/* Random numbers of an answer: a pure function of these, each token's of its place in the answer as well. */
uint64_t inf_key(uint64_t seed, uint64_t prompt, int copy);

/* One token to be picked from logits [vocab], which stay as they are. */
typedef struct inf_draw {
    const float *logits;
    const inf_sampling *s;
    const int32_t *prompt, *answer; /* [n_prompt], [n_answer] ids so far, for the penalties */
    int64_t n_prompt, n_answer;
    uint64_t key, counter;
    bool hold;      /* no stop token yet */
    int32_t id;     /* out */
    float *logprob; /* out: of id, as the model has it at the temperature (greedy: 1), whatever is penalised or left out;
                       may be NULL */
} inf_draw;
/* Ties go to the smaller id. Logits that are no numbers are 80. */
FT_MUST_USE ft_status inf_sample(inf_draw *d, int64_t n, int64_t vocab);

typedef struct inf_answer {
    tok_ids ids;    /* new tokens, with the stop token that ended them */
    float *logprob; /* [ids.n] as in inf_draw; NULL: not asked for */
    bool stopped;   /* by a stop token, not by the length */
    double seconds; /* from the pass that began with the prompt to the newest token */
} inf_answer;
void inf_answers_free(inf_answer *a, int64_t n);

/* Told of every new token, and with `done` when the answer is complete; the order among answers is the batch's. FT_END
 * ends this answer with the token it has, any other status that is not FT_OK everything. */
typedef ft_status (*inf_each)(void *ctx, int64_t prompt, int copy, const inf_answer *a, bool done);

/* What a generation that is yet to come will take, for who plans it beside other things: n prompts of up to `prompt` tokens,
 * `copies` answers to each, which make sequences of up to `longest`. */
typedef struct inf_room {
    int64_t live;       /* answers that advance together */
    size_t activations; /* of its largest pass */
    size_t cache;       /* for all of them, or a quarter of the memory: others wait then. For inf_ctx.cache_limit */
    size_t logits;
} inf_room;
/* On c->tape, which is dry, unless c->tape is NULL: then without activations. c->plan is not used. */
FT_MUST_USE ft_status inf_generate_room(const inf_ctx *c, int64_t n, int64_t copies, int64_t prompt,
                                        int64_t longest, inf_room *out);

/* Continues n prompts of at least one token each, `copies` times: out [n · copies], those of a prompt side by side. Many
 * advance together; one that is done makes room for the next. Keys and values lie in pages that the copies of a prompt
 * share until they differ, are made when needed and freed with the answer. 71 when a single answer passes the limit, 65
 * for an empty prompt, an id outside the vocabulary or more tokens than the model has positions. After a failure nothing
 * is left in out. each may be NULL. */
FT_MUST_USE ft_status inf_generate(const inf_ctx *c, const tok_ids *prompt, int64_t n, int copies,
                                   const inf_sampling *s, inf_each each, void *ctx,
                                   inf_answer *out);
/* The same with a way of sampling for each prompt: s [n], `first` of each its number. */
FT_MUST_USE ft_status inf_generate_own(const inf_ctx *c, const tok_ids *prompt,
                                       const inf_sampling *s, int64_t n, int copies, inf_each each,
                                       void *ctx, inf_answer *out);
#endif
