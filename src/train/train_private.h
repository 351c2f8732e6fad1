/* train_private.h – what the files of the trainer share: the parsed config, the session of one run, its state. */
#ifndef FT_TRAIN_PRIVATE_H
#define FT_TRAIN_PRIVATE_H

#include "ft/train.h"

/* Evaluation aims at batches of so many tokens, and so does micro_batch_size "auto" of a method that is there for its memory
 * (SmolLM2-135M: activations take 0.5 MiB a token). The others aim at twice as many, which is some 5 % faster: a frozen
 * matrix is unpacked once for more rows. */
#define MICRO_TOKENS 512

/* --- config.c ------------------------------------------------------------------------------------------ */
typedef struct model_cfg {
    const char *path, *from_config, *tokenizer, *name;
    const cJSON *quantization;
    const model_quant *quant; /* the row of quantization.type, or NULL, and its keys */
    void *quant_cfg;
    const cJSON *qat_keys;
    pe_qat_use qat; /* row NULL: none */
} model_cfg;

typedef struct loop_cfg {
    double epochs;
    int64_t max_steps; /* 0: by epochs */
    int64_t batch_size, micro_batch_size;
    const char *precision;
    int gradient_checkpointing;
    double neftune_noise_alpha; /* 0: none */
    int64_t seed, log_every, eval_every, checkpoint_every, keep_checkpoints;
    bool eval_on_start, keep_best;
    const cJSON *sample_prompts;
    int64_t sample_max_new_tokens;
    int64_t patience;   /* 0: never */
    double max_seconds; /* 0: none */
} loop_cfg;

typedef struct output_cfg {
    const char *dir;
    bool tensorboard, csv;
} output_cfg;

/* The keys that every method has; the rows of its type follow in the same block of memory (so for objective and optim). */
typedef struct method_head {
    const char *type, *init_from;
    bool keep_zeros;
} method_head;
typedef struct objective_head {
    const char *type;
} objective_head;

typedef struct train_config {
    cfg_doc doc;
    model_cfg model;
    cJSON *implied; /* model.quantization that the method brought, or NULL */
    const pe_method *method;
    method_head *method_head;
    void *method_cfg;
    const cfg_field *method_rows; /* head and type together, offsets from method_head */
    data_cfg data;
    const obj_objective *objective;
    objective_head *objective_head;
    void *objective_cfg;
    const cfg_field *objective_rows;
    const opt_rule *rule;
    opt_cfg *optim;
    void *rule_cfg;
    const cfg_field *optim_rows;
    loop_cfg train;
    output_cfg output;
    const char *base_name; /* model.path or model.from_config as written */
} train_config;
/* Parses and checks everything; all mistakes are reported in one go. Close with train_config_close in any case. */
ft_status train_config_open(train_config *c, const train_options *opt, arena *mem);
void train_config_close(train_config *c);
/* Every default filled in, paths absolute, output.dir the folder in use. The caller deletes it. */
ft_status train_config_resolved(cJSON **out, const train_config *c, const char *dir);
const cfg_field *train_config_rows(const train_config *c, const char *section); /* it was read by */
/* The part of a resolved config that a resumed run may not change, as compact text. */
ft_status train_config_identity(const cJSON *resolved, str_buf *out);
/* Adds "section.key: old → new" for every key that differs in that part; returns their number. A key that an older version
 * did not write counts as its default. */
int train_config_differences(const train_config *c, const cJSON *before, const cJSON *now,
                             str_buf *out);
/* The same of the keys of its schedule, which may change where the rates of the steps that were done do not. */
int train_schedule_differences(const train_config *c, const cJSON *before, const cJSON *now,
                               str_buf *out);

/* --- config_qat.c --------------------------------------------------------------------------------------- */
/* model.qat, once method and model.quantization are read. */
ft_status train_read_qat(train_config *c, arena *mem);

/* --- given.c: options of the command line in the place of keys ------------------------------------------- */
ft_status train_given_put(cfg_doc *d, const train_given *g);
bool train_given_any(const train_given *g);

/* --- state.c: what a checkpoint holds beside values and optimizer states ------------------------- */
typedef struct train_record { /* a step on its way to log.jsonl */
    int64_t step;
    double loss, rate, grad_norm;
    int64_t tokens, supervised;
} train_record;

typedef struct train_state {
    int64_t step; /* optimizer steps done */
    int64_t tokens, supervised;
    int64_t rates; /* of all steps done, hashed (train_rates_add); −1: not known */
    double first_loss, last_loss;
    double best_loss; /* NAN: no evaluation yet */
    int64_t best_step, bad_evals;
    bool finished; /* no further step is wanted: all done, or patience ran out */
    bool pending;  /* `record` is done but not yet evaluated and logged */
    train_record record;
    double seconds; /* of all parts of the run */
    int64_t log_bytes, time_bytes, sample_bytes, artifact_bytes;
    int64_t log_hash; /* of the bytes of log.jsonl; −1: not known */
    int n_sources, n_evals;
    int64_t *source_tokens;         /* [n_sources] of the whole run */
    int64_t *step_sources;          /* [n_sources] of `record` */
    int n_metrics;                  /* of the objective, then of the method */
    double *metric;                 /* [n_metrics] of `record`; NAN: nothing to tell */
    double *eval_first, *eval_last; /* [n_evals]; NAN: none yet */
} train_state;
/* The hash of a run's rates and one more. */
int64_t train_rates_add(int64_t hash, double rate);
ft_status train_state_init(train_state *s, int n_sources, int n_evals, int n_metrics, arena *mem);
/* places: of the training data (data_places). Read: restored where the file has them. */
ft_status train_state_write(const train_state *s, const str_buf *places, const char *path);
ft_status train_state_read(train_state *s, data_set *d, const char *path);
/* JSON text with a seal: its last member is the SHA-256 of what stands before it. body: an object without its closing
 * brace. A file that was changed or cut is 65. */
ft_status train_sealed_write(const char *path, str_buf *body);

/* --- plan.c --------------------------------------------------------------------------------------------------- */
typedef struct train_plan {
    bool checkpointing;   /* of gradients: given, or the only way to fit */
    size_t resident;      /* before values, gradients and activations are made */
    int64_t micro_bound;  /* "auto": tokens that a micro-batch is cut at */
    int64_t micro_tokens; /* of the largest micro-batch */
    size_t batch_bytes;   /* of samples and batch of that one */
    /* trainable: with the method's states; gradients: with those of aliases */
    size_t weights, trainable, gradients, optimizer, activations, workspace, total;
    ag_rooms rooms; /* of the tape */
    ft_grant grant;
    size_t objective_bytes; /* of its arrays in a checkpoint */
    size_t checkpoint_bytes, result_bytes, disk_need, disk_free;
    size_t lines_bytes;   /* of the objective's artifact, at most; */
    const char *artifact; /* its name */
    int64_t checkpoints;  /* at the same time */
    int64_t trainable_count;
    int64_t virtual_rows; /* before every sequence; no count of tokens has them */
} train_plan;

/* --- session.c -------------------------------------------------------------------------------------------------- */
typedef struct train_sample train_sample;
typedef struct train_session {
    const train_options *opt;
    arena *mem;   /* lives as long as the session */
    arena *batch; /* one step or micro-batch */
    train_config cfg;
    tok_tokenizer *tok;
    model_watched watched; /* of which the result has copies */
    chat *chat;
    bool other_template; /* than the model's own */
    model *m;
    data_set *train, *eval;
    pe_ctx *pe;
    obj_ctx objective;
    arena *states;
    opt_optimizer *optimizer;
    ag_tape *tape;
    train_plan plan;
    const char *out, *command; /* output folder; the command that goes on */
    const char
        *config_name; /* for messages: the path of the config, or what there is in its place */
    int lock;
    cJSON *resolved;
    char config_sha[65], data_sha[65], base_sha[65];
    char run_id[33];
    char before_data[65], before_base[65]; /* of the run that is resumed */
    int64_t was_complete; /* steps of the finished run that is asked for another number; 0: none */
    const char
        *damaged; /* a file of the result of a finished run that is no longer what was written */
    const char
        *schedule; /* what is another one than when the run began, of its schedule; NULL: nothing */
    int64_t reuse; /* optimizer steps that one drawn batch serves */
    int64_t drawn; /* samples of one */
    const char *const *metrics; /* [n_own] fields of log.jsonl that the objective adds */
    int n_own;
    int64_t epoch_steps, total_steps;
    train_state state;
    int64_t resumed_from; /* step; −1: afresh */
    bool any_data;        /* data is looked at for itself: whatever it gives */
    int64_t saved_step;   /* of the newest checkpoint on disk that this run may use; −1: none */
    train_sample *sample; /* [n_samples] train.sample_prompts */
    int64_t n_samples;
    ag_tape *sample_tape;                       /* of their answers, made for the first */
    file_log *log, *times, *samples, *artifact; /* NULL: not open; the last is the objective's */
    struct train_follow *follow;                /* log.csv and event files; NULL: none are wanted */
    double started, part_seconds;               /* clock at the start; seconds of earlier parts */
    double step_seconds;                        /* of this part's steps, and their tokens */
    int64_t part_tokens;
    double shown; /* clock of the last line that stays */
} train_session;
/* The config, the output folder's name, and the command that goes on. Close with train_session_close in any case. */
ft_status train_session_config(train_session *s, const train_options *opt);
/* Makes s->command, which goes on with this run; anew: starts it, in the place of the run that stands there. */
ft_status train_session_command(train_session *s, bool anew);
/* Tokenizer, model and data: all that costs seconds; nothing is written. look: streams of text are not read to their end
 * where a run would have to. */
ft_status train_session_open(train_session *s, bool weights, bool look);
/* Trainable values and optimizer, after the plan was made and fits. */
ft_status train_session_attach(train_session *s);
ft_status train_open_model(const train_session *s, bool weights, model **out);
/* Nothing reads the base's values of parameter i: the method trains a copy, and the objective needs no reference. */
bool train_leaves(const train_session *s, const model *m, const nn_overlay *over, int64_t i);
ft_status train_attach_method(const train_session *s, model *m, pe_ctx **out);
/* The objective over a model with its method attached, before the optimizer. obj_close in any case. */
ft_status train_open_objective(const train_session *s, model *m, pe_ctx *pe, bool weights,
                               obj_ctx *out);
/* Positions that the longest sequence of a set takes in a run. */
int64_t train_positions(const train_session *s, const data_set *d);
/* "ft train …" of the options, without --resume and --force. */
void train_add_command(str_buf *text, const train_options *opt);
/* A space and the word, as str_shell. */
void train_add_word(str_buf *s, const char *word, bool first);
void train_session_close(train_session *s);
/* What is told of a source, as an object of check's report; of a set, as lines. */
cJSON *train_source_json(const data_source_stats *d, double tokens);
void train_sources_text(const data_set *d, const char *what, str_buf *out);
ft_status train_plan_make(train_session *s);
ft_status train_plan_memory(const train_session *s); /* FT_EMEM when it does not fit */
ft_status train_plan_disk(const train_session *s);   /* FT_EIO when it does not fit */

/* --- clock.c ---------------------------------------------------------------------------------------------------- */
/* FT_OK, or the status of a stop that was asked for: FT_ESIGNAL, FT_ETIME. */
ft_status train_stop(void);
/* What stopped a run: "SIGINT", "train.max_seconds". */
const char *train_stop_name(ft_status why);
/* What the first and the second signal say from now on. */
void train_stop_notes(const train_session *s);
double train_elapsed(const train_session *s); /* of all parts of the run */

/* --- warn.c ----------------------------------------------------------------------------------------------------- */
/* Unusual settings; what the records hold and the samples do not (check has it in its report). */
void train_warn(const train_session *s);
void train_warn_data(const train_session *s);
/* ", 3 duplicates, …": what a source holds that is not learned as it stands; nothing is nothing. */
void train_told(const data_source_stats *d, str_buf *out);

/* --- pass.c ----------------------------------------------------------------------------------------------------- */
typedef struct train_seconds {
    double data, forward, backward, optimizer;
} train_seconds;
data_split train_split(const train_session *s, const nn_overlay *over);
/* What the objective wants to know before the micro-batches, the cut, and the divisor. */
ft_status train_cut(train_session *s, obj_step *step, data_step *plan);
/* What the micro-batches of a step, an evaluation or a pass before training share. */
typedef struct train_pass {
    const data_sample *sample;
    const nn_overlay *over;
    unsigned how; /* of nn_run_open; NN_RECORD: a backward follows */
    uint64_t key; /* of dropout */
    double units; /* the loss is divided by it; 0: evaluation */
    obj_stats *stats;
    int64_t tokens;      /* out: seen so far */
    train_seconds spent; /* out */
} train_pass;
ft_status train_micro(train_session *s, train_pass *p, const data_micro *micro);
unsigned train_recording(const train_session *s); /* `how` of a pass with gradients */

/* --- loop.c ----------------------------------------------------------------------------------------------------- */
/* One optimizer step: state.step grows by one, the record tells the rest. FT_ESIGNAL and FT_ETIME leave everything as
 * it was before the step. */
ft_status train_step(train_session *s, train_seconds *spent);
/* Trains up to the last step, evaluates, logs, writes checkpoints. */
ft_status train_loop(train_session *s);
/* Saves what is done and makes the message of the stop say how to go on. */
ft_status train_save_and_stop(train_session *s, ft_status why);

/* --- feed.c: the method's phases outside of a step ---------------------------------------------------------------- */
/* The method's prepare, unless a step was done already. */
ft_status train_prepare(train_session *s);
/* The method's before_step, of the step that comes next. */
ft_status train_before_step(train_session *s);
/* The same before an evaluation: model.qat quantises before its time too. */
ft_status train_before_look(train_session *s);

/* --- nonfinite.c --------------------------------------------------------------------------------------------------- */
/* FT_EDIVERGED for a loss ("loss", "eval_loss") of this batch: names the first of trained values, weights and layers that
 * holds NaN or Inf. */
ft_status train_not_finite(const train_session *s, int64_t step, const char *what, double value,
                           const nn_batch *b);

/* --- evaluate.c ----------------------------------------------------------------------------------------------------- */
typedef struct train_eval {
    double *loss;    /* [n_evals] mean per unit of the objective */
    int64_t *tokens; /* [n_evals] supervised */
    double mean;     /* over all sources, by unit */
    int64_t total;
    double *metric; /* [n_metrics] over all sources */
} train_eval;
ft_status train_evaluate(train_session *s, train_eval *out, arena *mem);

/* --- checkpoint.c --------------------------------------------------------------------------------------------------- */
/* Writes, verifies and commits a checkpoint of the state at hand, then prunes older ones. patient: the values are nowhere
 * else, so a disk that is full is waited for, and what differs when it is read back is written once more; else the caller
 * tries again later. */
ft_status train_checkpoint_save(train_session *s, bool patient);
/* Loads values, states and counters of a checkpoint that was found valid. */
ft_status train_checkpoint_load(train_session *s, int64_t step, bool values_only);
/* The hash of the rates of its steps (−1: not known), and the step with the lowest eval_loss so far (0: none). */
ft_status train_checkpoint_facts(const train_session *s, int64_t step, arena *mem, int64_t *rates,
                                 int64_t *best);
/* FT_OK for a whole checkpoint of this run, FT_END for one of another run, else what is wrong with it: names and sizes of
 * the files that a run goes on from; every byte of them; every byte of all files that are there. */
typedef enum train_depth { TRAIN_SIZES, TRAIN_OWN_BYTES, TRAIN_ALL_BYTES } train_depth;
ft_status train_checkpoint_check(const train_session *s, int64_t step, train_depth depth,
                                 arena *mem);
typedef struct train_found { /* a folder step-N that is not another run's */
    int64_t step;
    bool valid;      /* by names and sizes */
    bool held;       /* files of a checkpoint are in it, whole or not */
    const char *why; /* what is wrong with it */
} train_found;
/* By falling step; those of any run while this one has no identity. */
ft_status train_checkpoint_list(const train_session *s, arena *mem, train_found **out, int64_t *n);
ft_status train_checkpoint_clean(const train_session *s); /* removes half-made ones */

/* --- resume.c ------------------------------------------------------------------------------------------------------- */
typedef enum train_start { TRAIN_FRESH, TRAIN_GO_ON, TRAIN_COMPLETE } train_start;
/* Looks at the output folder before anything is loaded: 73 where a run is in the way, 78 with the list of differences. */
ft_status train_resume_look(train_session *s, train_start *as);
/* Once data, base and the number of steps are known: the same as the run began with, or 65; a finished run that is asked
 * for fewer steps is 78, for as many it is complete. */
ft_status train_resume_compare(const train_session *s, train_start *as);
/* That a checkpoint has steps of this run's rates, and no more than are wanted, or 78. For check. */
ft_status train_resume_schedule(train_session *s);
/* Loads the newest valid checkpoint, or starts afresh; then the logs are open. */
ft_status train_resume_load(train_session *s, train_start as);

#define TRAIN_RUN "checkpoints/run.json" /* the identity of the run that stands in a folder */
/* --- place.c: the output folder ------------------------------------------------------------------------------------- */
/* 73 where it is, or holds, what the run reads, or where a name that a run writes is a link; 77. Before anything is loaded. */
ft_status train_place_check(train_session *s);
/* 73 where a file in it that a run writes is read by this one; once the data is open. */
ft_status train_place_inputs(train_session *s);
/* The first file there of a name that a run writes (IO_OF_…); NULL: none. */
ft_status train_place_first(const train_session *s, unsigned of, const char **first);
/* 73 where a run that is gone on with would write over a result that it did not make. */
ft_status train_place_resumed(const train_session *s);
ft_status train_place_begin(const train_session *s); /* the result is being written from here on */
/* Removes the run that stands there, its identity last, so that a removal cut short can be seen; one that is finished is first
 * moved aside, but its checkpoints, and stays until the new one is whole. Files of others stay. */
ft_status train_place_wipe(const train_session *s);
/* Puts back what was being moved aside when that was cut short. */
ft_status train_place_restore(const train_session *s);
void train_place_settle(const train_session *s); /* the new one is whole: removes the former */
void train_place_tell(const train_session *s);   /* where the former is, if there is one */
ft_status train_place_remove(const char *dir, arena *mem); /* a checkpoint's folder */

/* --- samples.c ------------------------------------------------------------------------------------------------------ */
/* Reads train.sample_prompts, once tokenizer and model are there. */
ft_status train_samples_open(train_session *s);
void train_samples_close(train_session *s);
ft_status train_samples_fit(const train_session *s,
                            int64_t virtual_rows);  /* the model's positions */
size_t train_samples_bytes(const train_session *s); /* for the plan */
/* Answers them with the values at hand; a stop leaves nothing written. Uses nothing of s->batch. */
ft_status train_samples_take(train_session *s);

/* --- follow.c: the log in other forms ---------------------------------------------------------------------------------- */
/* Makes log.csv and event files of the log as it stands, which is open. */
ft_status train_follow_open(train_session *s);
/* One line of the log that was written. */
ft_status train_follow_line(train_session *s, const char *line, size_t n);
ft_status train_follow_sync(const train_session *s);
void train_follow_close(train_session *s);

/* --- tensorboard.c: a file of events ------------------------------------------------------------------------------------- */
/* An empty one in the folder, in place of one of ours. */
ft_status train_tb_open(file_log **out, const char *dir, arena *mem);
/* The scalars of a line of the log. */
ft_status train_tb_line(file_log *out, double wall_time, const cJSON *line);

/* --- log.c ---------------------------------------------------------------------------------------------------------- */
ft_status train_log_open(train_session *s); /* cut back to the state's lengths */
void train_log_close(train_session *s);
ft_status train_log_sync(const train_session *s);
/* Lines of samples.jsonl. */
ft_status train_log_samples(train_session *s, const str_buf *lines);
/* What the objective writes of the step that is done. */
ft_status train_log_artifact(train_session *s);
/* The evaluation before step 1, as a line of step 0. */
ft_status train_log_first(train_session *s, const train_eval *eval);
ft_status train_log_step(train_session *s, const train_eval *eval, double seconds, int64_t tokens);

/* --- folder.c ------------------------------------------------------------------------------------------------------- */
/* The values at hand as an adapter or a model for others, into an existing folder; name: where it will be found. */
ft_status train_folder_save(train_session *s, const char *dir, const char *name);
/* Bytes of the tokenizer beside an adapter; of a .gguf about: a tokenizer.json has some 64 for a token and its merge. */
enum { TOKEN_TEXT = 64 };
size_t train_folder_text(const train_session *s);

/* --- card.c --------------------------------------------------------------------------------------------------------- */
ft_status train_card_write(const train_session *s, const char *dir, const char *name);

/* --- report.c ------------------------------------------------------------------------------------------------------- */
void train_show_step(train_session *s, double seconds);
/* "  left H:MM:SS" by the steps of this part, the last detail of a line of progress; "" before the first. */
const char *train_left_text(const train_session *s);
const char *train_checkpointing_text(const train_session *s); /* on or off, and why */
void train_show_header(const train_session *s);
/* "", or what stands before every sequence beside its tokens. */
const char *train_virtual_text(const train_session *s);
ft_status train_write_resolved(const train_session *s, const char *dir); /* config.resolved.json */
/* notes: of the result's files. */
ft_status train_write_summary(train_session *s, const file_notes *notes);
/* What a finished run says: summary.json on one line, or a few lines of text. */
ft_status train_result(train_session *s, str_buf *result);

/* --- words.c ---------------------------------------------------------------------------------------------------------- */
/* What another program calls a key. ours: its path here; NULL: there is none, and why says what to do instead. */
typedef struct train_word {
    const char *theirs, *ours, *why;
} train_word;
const train_word *train_word_of(const char *theirs); /* NULL: not known */

#endif
