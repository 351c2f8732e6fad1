/* reward.h – what a completion is worth: rewards by rows of rewards.def, one file each, and comparisons with an answer.
 *
 * A reward is a function of one completion, its prompt and the record it was made for, to a number. A set of them, as the
 * list `rewards` of an objective names it, judges many completions together; their weighted sum is the objective's to make.
 * It stands below the objectives and knows no rollout: whoever has completions asks it. */
#ifndef FT_REWARD_H
#define FT_REWARD_H

#include "ft/cfg.h"
#include "ft/infer.h"

/* One completion. On a dry tape only n_prompt, n_ids and tokens are read. */
typedef struct rw_item {
    const char *text;   /* the completion without special tokens, valid UTF-8 */
    int64_t tokens;     /* of the completion, its EOS among them */
    const char *const *answers; /* of the record, NULL-terminated: any of them is right; NULL: it has none */
    bool listed;                /* the record has them as a list */
    const char *extra;  /* the record, as the text of a JSON object; NULL: none */
    const char *prompt_text; /* for programs, where the record has no `prompt`; NULL: unknown */
    const int32_t *prompt, *ids; /* [n_prompt], [n_ids] */
    int64_t n_prompt, n_ids;
    bool finished; /* it ends with EOS, not by its length */
    int64_t line;  /* where it stands among completions or records, from 1, for messages; 0: nowhere */
} rw_item;

/* --- the list of a config ---------------------------------------------------------------------------------------- */
typedef struct rw_list rw_list; /* of d->mem, as what it points to */
/* Reads `list` (NULL: none is given) with `weights` (a list in place of their own; NULL: none) and records mistakes with
 * cfg_fail; `key`: what it stands at ("objective.rewards"). Paths in the nodes become absolute, so a resolved config is
 * valid wherever it is put. Always gives a list. */
FT_MUST_USE ft_status rw_read(rw_list **out, cfg_doc *d, const cJSON *list, const cJSON *weights,
                              const char *key);
bool rw_wants_answer(const rw_list *list); /* an item without one is 65 */
/* 65: one of them cannot compare with one of these answers (NULL-terminated). */
FT_MUST_USE ft_status rw_check_answers(const rw_list *list, const char *const *answers);
int rw_count(const rw_list *list);
const char *rw_name(const rw_list *list, int i);
double rw_weight(const rw_list *list, int i);
/* The i-th of the files and folders that its rewards read; NULL: there are no more. */
const char *rw_path_at(const rw_list *list, int i);
/* For help: a row's name, what it is, its keys; NULL past the end. help, fields may be NULL. */
const char *rw_type_at(int i, const char **help, const cfg_field **fields);
extern const char *const rw_shapes[]; /* of the value, NULL-terminated */
/* Rows of an objective, for its members of type const cJSON *. */
#define RW_ROWS(rewards_at, weights_at)                                                            \
    {.key = "rewards",                                                                             \
     .type = CFG_JSON,                                                                             \
     .offset = rewards_at,                                                                         \
     .choices = rw_shapes,                                                                             \
     .help = "what completions are worth: a list of {type, weight, name, …}"},                     \
    {                                                                                              \
        .key = "reward_weights", .type = CFG_JSON, .offset = weights_at,                           \
        .help = "a weight for each reward of the list, in place of its own"                        \
    }

#define RW_MOST 1e9 /* the largest reward, and weight, of either sign: sums and squares of them are finite in f32 too */

/* In the folder of a run: what its programs write to standard error. */
#define RW_ERRORS "rewards.stderr"

/* --- judging ------------------------------------------------------------------------------------------------------ */
typedef struct rw_ctx {
    arena *mem;        /* of the run */
    const char *dir;   /* a folder that is there, for what programs say; NULL: it goes to stderr */
    const model *policy; /* the ids of items are its; NULL: no reward that reads ids */
    const tok_tokenizer *tok; /* likewise; may be NULL */
    ag_tape *tape;     /* for passes of reward models, each of which resets it; dry: for the plan */
    bool dry;          /* nothing is read or started: models without weights */
    size_t bytes;      /* out: what lies in memory beside the passes */
} rw_ctx;
typedef struct rw_set rw_set;
/* 65, 66 naming the path: a reward model that does not fit or is not there. The context outlives the set. */
FT_MUST_USE ft_status rw_open(rw_set **out, const rw_list *list, rw_ctx *c);
/* out [n, count], the rewards without weights. 65: an answer that cannot be compared with; 74, naming the line: a program
 * that fails; 80: a reward that is no number up to RW_MOST; FT_ESIGNAL once a stop was asked for. */
FT_MUST_USE ft_status rw_judge(rw_set *s, const rw_item *item, int64_t n, double *out);
void rw_close(rw_set *s); /* accepts NULL; programs are ended */

/* --- comparisons with an answer ------------------------------------------------------------------------------------- */
/* Rows of match.c: exact, contains, regex, last_number. */
typedef struct rw_match {
    const char *name;
    ft_status (*match)(const char *output, size_t n, const char *answer, bool *hit);
} rw_match;
const rw_match *rw_match_by_name(const char *name);
extern const char *const rw_match_names[]; /* NULL-terminated */
/* A pattern of PCRE2 under limits of work, as data files may bring any. */
typedef struct rw_pattern rw_pattern;
/* whole: it has to match all of a text, and the dot matches line breaks. A pattern that does not compile is `status`. */
FT_MUST_USE ft_status rw_pattern_open(rw_pattern **out, const char *pattern, bool whole,
                                      ft_status status);
FT_MUST_USE ft_status rw_pattern_match(const rw_pattern *p, const char *text, size_t n, bool *hit);
void rw_pattern_close(rw_pattern *p); /* accepts NULL */
#endif
