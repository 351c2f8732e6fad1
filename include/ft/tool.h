/* tool.h – what is done with a finished model: score lines, generate, evaluate with gates, merge an adapter
 * and prove it, convert between formats; and how one comes from a hub.
 *
 * Whatever runs a model stands on one thing, a model opened for use (tool_model), and what it says comes from infer, so that
 * every verb gives the same probabilities for the same tokens. Results leave through a sink that the program gives; nothing
 * here knows about terminals. */
#ifndef FT_TOOL_H
#define FT_TOOL_H

#include "ft/compress.h"
#include "ft/infer.h"
#include "ft/method.h"
#include "ft/model.h"
#include "ft/reward.h"
#include "ft/template.h"

/* --- where results go --------------------------------------------------------- */
typedef struct tool_sink {
    ft_status (*put)(void *ctx, const char *text, size_t n);
    void *ctx;
} tool_sink;

/* --- a model opened for use ---------------------------------------------------------------------------- */
typedef struct tool_model {
    arena *mem; /* what opening made */
    model *m;
    pe_ctx *adapter;    /* NULL: none */
    pe_qat *qat;        /* of the adapter's ft_method.json, or the model's; NULL: none */
    nn_overlay plain;   /* what it is laid over, where there is no adapter */
    tok_tokenizer *tok; /* NULL: the model has none */
    chat *chat;         /* NULL until tool_chat_ids asks */
    const char *chat_end; /* NULL until tool_chat_end asks; "": none */
    const char *chat_template; /* of the adapter's folder, where it has no tokenizer; NULL: none */
    inf_ctx inf;        /* m with the adapter, on a tape of its own */
    inf_plan plan;      /* of its passes */
    size_t opened;      /* bytes that model, tokenizer and templates took beside the weights */
    bool warned_cut;    /* a context was too long: said once */
} tool_model;
/* Of `how`. */
enum {
    TOOL_TOKENIZER = 1, /* a missing tokenizer is an error */
    TOOL_ANY = 2,       /* a reward model too (model.scores); else that is 65 */
    TOOL_REWARD = 4     /* only a reward model: a sequence classifier, or the adapter of one */
};
/* model NULL: the base that the adapter's config names. precision:
 * as kn_precision_of, NULL: f32, so that what judges a model is exact unless it is asked not to be. */
FT_MUST_USE ft_status tool_open(tool_model **out, const char *model_path, const char *adapter,
                                unsigned how, const char *precision);
/* The same with n adapters, whose changes add up. */
FT_MUST_USE ft_status tool_open_adapters(tool_model **out, const char *model_path,
                                         const pe_use *adapter, int n, unsigned how,
                                         const char *precision);
/* Words of --adapter, "DIR" or "DIR=SCALE" (a number behind the last '='). 64: a scale that is not finite. */
FT_MUST_USE ft_status tool_adapter_use(const char *text, arena *mem, pe_use *out);
FT_MUST_USE ft_status tool_adapter_uses(const char *const *text, int n, arena *mem, pe_use **out);
void tool_close(tool_model *t); /* accepts NULL */
/* The base of a PEFT folder: base_model_name_or_path, relative to the folder or to the current one. */
FT_MUST_USE ft_status tool_adapter_base(const char *adapter, arena *a, const char **base);
/* Is this model, or adapter, one of a sequence classifier, by its config? With one label it is a reward model. */
FT_MUST_USE ft_status tool_scores(const char *path, arena *a, bool *scores);

/* Appends the ids of a text as a document begins: with BOS in front where the tokenizer adds one and the text
 * does not begin with it already; never with EOS (lm-evaluation-harness 0.4.11). */
FT_MUST_USE ft_status tool_encode(const tool_model *t, const char *text, size_t len, tok_ids *out);
/* Another chat template (as chat_use), from here on; NULL: that of the adapter's folder, else the model's. */
FT_MUST_USE ft_status tool_use_chat(tool_model *t, const char *given);
/* The chat template in use; NULL: there is none. */
FT_MUST_USE ft_status tool_chat(tool_model *t, const chat **out);
/* Appends the ids of messages rendered by the model's chat template, ready for the assistant to answer. */
FT_MUST_USE ft_status tool_chat_ids(tool_model *t, const chat_input *in, tok_ids *out);
/* The same as a text. */
FT_MUST_USE ft_status tool_chat_text(tool_model *t, const chat_input *in, str_buf *out);
/* What the template ends an assistant's turn with, where it is no token that ends an answer by itself; NULL: it is. */
FT_MUST_USE ft_status tool_chat_end(tool_model *t, const char **end);
/* As lm-evaluation-harness: ids of context + continuation, *from the first scored token. */
FT_MUST_USE ft_status tool_encode_pair(const tool_model *t, const char *context, size_t context_len,
                                       const char *continuation, size_t continuation_len,
                                       tok_ids *out, int64_t *from);
/* The same, with the tokens that the context has alone: what the harness gives a model where a token of the whole text would
 * cross the border. */
FT_MUST_USE ft_status tool_encode_apart(const tool_model *t, const char *context,
                                        const char *continuation, tok_ids *out, int64_t *from);

/* --- score --------------------------------------------------------------------------------------------- */
typedef struct tool_score_options {
    const char *data; /* NULL: standard input */
    bool per_token;
    bool keep_going; /* a wrong line is answered with its id and the error, and the next one read */
    int64_t top;     /* 0: none */
    bool json;       /* the first answer has the plan of memory too */
} tool_score_options;
/* Answers in the order of the lines, as soon as no further one is waiting. */
FT_MUST_USE ft_status tool_score_lines(tool_model *t, const tool_score_options *opt,
                                       const tool_sink *out);

/* --- generate ------------------------------------------------------------------------------------------- */
/* inf_generate with the stop tokens of the model's tokenizer. */
FT_MUST_USE ft_status tool_generate(tool_model *t, const tok_ids *prompt, int64_t n,
                                    const inf_sampling *s, inf_each each, void *ctx,
                                    inf_answer *out);
/* Appends an answer as text, without the stop token that ended it; nothing without a tokenizer. */
FT_MUST_USE ft_status tool_answer_text(const tool_model *t, const inf_answer *a, str_buf *out);
typedef struct tool_generate_options {
    const char *prompt; /* NULL: JSON lines ({"prompt"}, {"messages"} or {"tokens"}, or a string) from data */
    const char *data;   /* NULL: standard input */
    const char *system; /* with chat: the system turn of who brings none; may be NULL */
    const char *const *systems; /* [n_systems] in the place of `system`: a line has one of them, drawn from the seed, or with
                                   `cross` an answer by each in turn; where n_systems > 0 samples are wanted */
    int n_systems;
    bool cross;
    const char *const *stop; /* [n_stop] strings that end an answer, which is what stands before them */
    int n_stop;
    int samples; /* 0: one answer a line; else a JSON line with so many, and the line's own keys; wants
                    sampling.logprobs */
    int64_t skip; /* the first answers are not made; the others are what they would be with them */
    bool chat, json;
    bool stream; /* text in whole UTF-8 sequences as it comes, one line after another; else many lines advance together */
    inf_sampling sampling; /* a line may have another temperature, max_new_tokens, seed, stop, system */
} tool_generate_options;
/* A file of a text a line, those of spaces left out; 65 where there is none. */
FT_MUST_USE ft_status tool_systems_read(tool_generate_options *opt, const char *path, arena *mem);
/* 64 where the options do not go together; before a model is opened. */
FT_MUST_USE ft_status tool_generate_check(const tool_generate_options *opt);
/* Answers in the order of the lines, plain ones each below a line "=== N ===". The number of a line, from 0, is that of
 * its prompt. */
FT_MUST_USE ft_status tool_generate_lines(tool_model *t, const tool_generate_options *opt,
                                          const tool_sink *out);

/* --- judge ------------------------------------------------------------------------------------------------ */
typedef struct tool_judge_options {
    const char *data;   /* NULL: standard input */
    const char *out;    /* NULL: the sink */
    const char *method, *to; /* of the names below */
    const char *match;  /* of rw_match_names; NULL: not given, as all below */
    const char *template, *labels; /* a file; labels with commas between */
    const char *response_marker; /* only what follows its last one is judged */
    const char *pairs;  /* of the names below */
    double min_margin, threshold; /* NAN: not given */
    uint64_t seed;      /* of best-random */
    bool chat;          /* the filled template is a user's turn */
    bool force;
} tool_judge_options;
extern const char *const tool_judge_methods[], *const tool_judge_forms[], *const tool_judge_pairs[];
/* Does it ask a model, and how is that to be opened? */
bool tool_judge_asks(const char *method, unsigned *how);
/* 64 where the options do not go together; before a model is opened. */
FT_MUST_USE ft_status tool_judge_check(const tool_judge_options *opt);
/* Lines with prompt or messages and completions, each with its scores, or what `to` makes of them. t may be NULL where the
 * method asks no model. */
FT_MUST_USE ft_status tool_judge(tool_model *t, const tool_judge_options *opt, const tool_sink *out);

/* --- a conversation ------------------------------------------------------------------------------------- */
typedef struct tool_talk tool_talk;
/* opt->chat: turns are kept, opt->system is the first of them; else each text is continued by itself. */
FT_MUST_USE ft_status tool_talk_open(tool_talk **out, tool_model *t,
                                     const tool_generate_options *opt);
void tool_talk_close(tool_talk *k); /* accepts NULL */
bool tool_talk_has_turns(const tool_talk *k);
/* The answer as it comes (opt->json: as a line), that of a line of `generate` with the whole conversation. One that SIGINT
 * ends (ft_stop_patient) is kept as far as it came; what fails, or has no answer, is taken back. */
FT_MUST_USE ft_status tool_talk_say(tool_talk *k, const char *text, const tool_sink *out);
/* Of a conversation with turns. The system turn, NULL: none. */
FT_MUST_USE ft_status tool_talk_system(tool_talk *k, const char *text);
void tool_talk_reset(tool_talk *k); /* the system turn stays */
/* One messages record into a new file. 73: there is one of that name; 64: nothing was said. */
FT_MUST_USE ft_status tool_talk_save(const tool_talk *k, const char *path);

/* --- eval --------------------------------------------------------------------------------------------------- */
typedef struct tool_eval_options {
    const char *config; /* NULL: flags alone */
    const char *const
        *sets; /* --set strings; the flags below are sets too when a config is given */
    int n_sets;
    const char *const *adapter; /* [n_adapter] as tool_adapter_use */
    int n_adapter;
    const char *model, *baseline, *task, *data, *match,
        *samples;               /* flags; each may be NULL */
    const char *junit, *report; /* files for the results; NULL: none */
    const char *chat_template;  /* of all tasks that render messages; NULL: as each has it */
    int64_t limit, max_length, stride,
        max_new_tokens; /* of the task given by flags; 0: not given */
    const char *precision; /* as tool_open */
    bool json;
    str_buf *next; /* filled with the command that one would go on with; NULL: not asked */
} tool_eval_options;
extern const cfg_field tool_eval_fields[]; /* of the config; offsets mean nothing outside */
/* A kind of task: a record as one line of JSON, names of its metrics, of further ones of each of several sources (NULL:
 * none) as "METRIC.NAME", and the keys of its object in the config. False: past the end. */
typedef struct tool_task {
    const char *name, *help, *example;
    const char *const *metrics, *const *of_source; /* NULL-terminated */
    const cfg_field *fields;
} tool_task;
bool tool_task_at(int i, tool_task *out);
extern const char *const tool_task_names[]; /* NULL-terminated */
/* What a metric is; one that ends in _stderr is the standard error of the one before it. NULL: past the end. */
typedef struct tool_metric {
    const char *name, *help;
    bool lower; /* less is better */
} tool_metric;
const tool_metric *tool_metric_at(int i);
/* A bound of a gate; relative: `base` is the untuned model's value. False: past the end. */
typedef struct tool_bound {
    const char *name, *help;
    bool relative;
} tool_bound;
bool tool_bound_at(int i, tool_bound *out);
/* FT_EGATE when a gate was missed: everything is printed, the message names the missed ones. */
FT_MUST_USE ft_status tool_eval(const tool_eval_options *opt, const tool_sink *out);

/* --- merge and convert ----------------------------------------------------------------------------------------- */
typedef struct tool_proof {
    int64_t tokens;
    double max_logit_diff, max_logprob_diff, mean_kl, top1_agreement;
    double
        effect; /* max |logit with adapter − logit of the base|: 0 means the adapter does nothing */
    int64_t scored;       /* tokens that the perplexities are of: all but the first of each text */
    double perplexity[2]; /* of a, of b, on the texts of the proof; +Inf where a logit is no number */
    bool poisoned;        /* a logit was NaN or Inf: nothing is proved */
} tool_proof;
/* Runs the same tokens through both, `a` with its adapter. Either may be NaN-poisoned: then mean_kl is +Inf. */
FT_MUST_USE ft_status tool_prove(tool_model *a, tool_model *b, tool_proof *out);

typedef struct tool_merge_options {
    const char *adapter, *out;
    const char *base; /* NULL: from the adapter's config */
    const char *type; /* NULL: the base's */
    double tolerance; /* mean KL in nats; < 0: 0.01 for float outputs, none for blocks */
    const char *precision; /* of the proof, as tool_open */
    const pe_combine *combine; /* several in its place, of which `adapter` is the first; NULL: none */
    bool adapter_only;     /* with combine: the result is the adapter that they make; no base is needed */
    bool keep_zeros;       /* linear weights of the blocks that are 0 in the base stay so */
    bool follow_links;     /* as model_check_links */
    bool force, json;
} tool_merge_options;
/* 64 where the options do not go together; before an adapter is opened. */
FT_MUST_USE ft_status tool_combine_check(const pe_combine *c);
FT_MUST_USE ft_status tool_merge_adapter(const tool_merge_options *opt, const tool_sink *out);

const char *tool_type_at(int i); /* types that models are written in; NULL past the end */
typedef struct tool_convert_options {
    const char *model, *out; /* model: or a PEFT folder, which becomes a LoRA of llama.cpp */
    const char *base; /* of that; NULL: from the adapter's config */
    const char *type; /* NULL: the model's; f32 of an adapter */
    const char *const *quant; /* KEY=VALUE of a type that is a quantiser's, n_quant of them */
    int n_quant;
    bool allow_nonfinite; /* NaN and Inf of the model are written, with a warning; else 65 */
    bool follow_links; /* as model_check_links */
    bool modelfile;    /* a Modelfile for Ollama beside it */
    bool force, json;
    str_buf *next; /* of an adapter: filled with the command that one would go on with; NULL: not asked */
} tool_convert_options;
FT_MUST_USE ft_status tool_convert(const tool_convert_options *opt, const tool_sink *out);

/* --- merge whole models -------------------------------------------------------------------------------------- */
typedef struct tool_recipe_options {
    const char *recipe, *out; /* a recipe of ft/merge.h, JSON or YAML; a folder or a .gguf */
    const char *const *sets;  /* [n_sets] --set strings */
    int n_sets;
    const char *precision; /* of evaluations, as tool_open */
    bool follow_links; /* as model_check_links */
    bool resume;       /* of a recipe with a genome: a search goes on */
    bool force, json;
} tool_recipe_options;
/* The result with its merge_recipe.json, which gives the same again; with json a line a tensor. Of a recipe with a genome the
 * best model of a search, with its best_recipe.json, a line an evaluation in evolve.jsonl, and in evolve_config.json whose scores
 * those are. */
FT_MUST_USE ft_status tool_merge(const tool_recipe_options *opt, const tool_sink *out);

/* --- smaller models ------------------------------------------------------------------------------------------- */
typedef struct tool_compress_kind { /* what tells the two verbs apart */
    const char *verb, *section; /* section: of the config, whose `type` picks a row */
    const cfg_field *fields, *head; /* of the config, and of its section beside the row's; offsets mean nothing outside */
    const cmp_method *(*at)(int i); /* the rows */
    const char *const *(*names)(void);
} tool_compress_kind;
extern const tool_compress_kind tool_quantize, tool_prune;
extern const cfg_field tool_quantize_fields[], tool_prune_fields[]; /* their fields */
typedef struct tool_compress_options {
    const tool_compress_kind *kind;
    const char *config, *out; /* out NULL: output.dir of the config */
    const char *const *sets;  /* [n_sets] --set strings */
    int n_sets;
    bool follow_links; /* as model_check_links */
    bool resume;       /* goes on with what a run that was cut short has done */
    bool force, json;
} tool_compress_options;
/* A folder (of a pruner also a .gguf) with its compress.json; with json a line a tensor. */
FT_MUST_USE ft_status tool_compress(const tool_compress_options *opt, const tool_sink *out);

/* --- report ------------------------------------------------------------------------------------------------- */
/* Folders of training runs, finished or not, as one HTML page of inline SVG and tables, which refers to nothing outside of it.
 * Curves are <polyline data-run="FOLDER" data-series="KEY">, a point for each logged step, 2,000 at most. A folder that holds
 * no run is 66. An earlier page is replaced; anything else of that name is 73. */
typedef struct tool_report_options {
    const char *const *dirs; /* [n_dirs] */
    int n_dirs;
    const char *out; /* NULL: report.html in the first folder */
    bool json;
} tool_report_options;
FT_MUST_USE ft_status tool_report(const tool_report_options *opt, const tool_sink *out);

/* --- fetch ------------------------------------------------------------------------------------------------------ */
typedef struct tool_fetch_options {
    const char *name, *out; /* org/name[@revision]; a folder */
    const char *const *include; /* [n_include] patterns over paths, in place of what ft reads; none: that */
    int n_include;
    int64_t parallel;
    bool dataset, force, json;
    str_buf *next; /* filled with the command that one would go on with; NULL: not asked */
} tool_fetch_options;
/* Files of a Hugging Face endpoint (HF_ENDPOINT, HF_TOKEN), each whole and checked or not there. 64: several .gguf to choose
 * from; 65: not what the server states, twice, or a name that may not be; 66: not there; 73: another process is at it, or a
 * file of somebody else stands in the place; 74: no network, or one that does not last, no room; 77: not allowed. */
FT_MUST_USE ft_status tool_fetch(const tool_fetch_options *opt, const tool_sink *out);
#endif
