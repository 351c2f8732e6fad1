/* tool_private.h – what the files of the tool module share and nobody else needs. */
#ifndef FT_TOOL_PRIVATE_H
#define FT_TOOL_PRIVATE_H

#include "ft/data.h"
#include "ft/tool.h"

/* lm-evaluation-harness keeps the last max_length inputs and the whole continuation: drops ids from the front. */
FT_MUST_USE ft_status tool_cut_left(tool_model *t, const js_doc *d, tok_ids *ids, int64_t *from);
/* Text of ids. Rows of the vocabulary that the tokenizer has no token for give none, as in transformers: a padded model may
 * pick them. */
FT_MUST_USE ft_status tool_decode(const tool_model *t, const int32_t *id, int64_t n, str_buf *out);
/* A string member of a JSON object with its length; absent gives NULL. A wrong type is 65 with line and column. */
FT_MUST_USE ft_status tool_string(const js_doc *d, const cJSON *o, const char *key,
                                  const char **text, size_t *len);
/* --- score_reward.c ------------------------------------------------------------------------------------------ */
extern const char *const tool_reward_keys[]; /* of a line for a reward model, NULL-terminated */
/* The ids of such a line that has no tokens of its own. */
FT_MUST_USE ft_status tool_reward_ids(tool_model *t, const js_doc *d, tok_ids *out);
/* --- text.c: an answer's text as its tokens come ------------------------------------------------------------- */
typedef struct tool_text {
    const tool_model *t;
    char *const *stop; /* [n_stop] strings, none empty */
    int n_stop;
    int64_t begin,
        read; /* ids [0, read) are in the text; decoding starts at begin, for decoders that treat the first
                            token differently */
    str_buf text;    /* whole characters; up to the stop string, once there is one */
    size_t given;    /* bytes that tool_text_put has put */
    bool whole;      /* no more will come */
    const char *hit; /* the stop string that has come; NULL: none */
} tool_text;
/* ids [n]: all that have come. last: no further ones will. After a hit nothing more is read. */
FT_MUST_USE ft_status tool_text_add(tool_text *x, const int32_t *ids, int64_t n, bool last);
/* Puts what is new, but for an end that may become a stop string. */
FT_MUST_USE ft_status tool_text_put(tool_text *x, const tool_sink *out);
void tool_text_free(tool_text *x);

/* --- request.c: a prompt and how it is to be answered --------------------------------------------------------- */
typedef struct tool_request { /* start with { 0 }, s and system */
    str_buf id;               /* JSON text; empty: none */
    str_buf record;     /* with opt->samples: the line's own keys, an object without its end */
    const char *system; /* to be set: the system turn, where the line brings none; NULL: none */
    bool used;          /* it is the system turn */
    tok_ids prompt;
    inf_sampling s;
    char **stop; /* [n_stop], owned */
    int n_stop;
} tool_request;
FT_MUST_USE ft_status tool_request_text(tool_request *q, tool_model *t,
                                        const tool_generate_options *opt, const char *text);
FT_MUST_USE ft_status tool_request_line(tool_request *q, tool_model *t,
                                        const tool_generate_options *opt, const js_doc *d);
FT_MUST_USE ft_status tool_request_messages(tool_request *q, tool_model *t,
                                            const tool_generate_options *opt,
                                            const cJSON *messages);
void tool_request_free(tool_request *q);
/* The line of --json. */
void tool_write_answer(str_buf *out, const tool_request *q, const inf_answer *a, const tool_text *x,
                       const str_buf *text);
/* Appends {"role", "content"}; false: out of memory. */
bool tool_add_turn(cJSON *list, const char *role, const char *text);

/* --- systems.c ------------------------------------------------------------------------------------------------- */
/* How many requests a line makes, if it brings no system turn, and the system turn of the k-th. */
int tool_systems_turns(const tool_generate_options *opt);
const char *tool_systems_turn(const tool_generate_options *opt, uint64_t line, int k);

/* JSON string of bytes that need not be UTF-8: what is not becomes U+FFFD. */
void tool_json_text(str_buf *out, const char *text, size_t n);
/* A number for JSON: null when it is not finite. */
void tool_json_number(str_buf *out, double v);
void tool_json_key(str_buf *out, const char *key); /* ,"key": (the comma unless after '{') */
FT_MUST_USE ft_status tool_put(const tool_sink *out, const str_buf *text);
FT_MUST_USE ft_status
tool_plan_proof(tool_model *a); /* of tool_prove, beside what is set already */
/* Adds the member "memory" to the object at the end of a line, which is open or whole. */
void tool_json_memory(str_buf *line, const inf_plan *p);
/* What it takes to write a model, for that time. */
size_t tool_saving_bytes(const model *m, const char *out, const model_save_options *save);
/* The plan of that, and of looking at what was written. 71 where it does not fit. */
FT_MUST_USE ft_status tool_plan_conversion(inf_plan *p, model *m, size_t saving, size_t written);
/* The row of --type for an output path, of a mixture its base's; NULL name gives NULL. What cannot be written there is 64 with the list. */
FT_MUST_USE ft_status tool_output_type(const char *name, const char *path, const dt_type **type);
/* The quantiser that writes folders of --type, with its keys (KEY=VALUE, n of them) in *cfg; NULL: no quantiser is called so.
 * 64 for a .gguf, and for keys without one. */
FT_MUST_USE ft_status tool_output_quant(const char *name, const char *path, const char *const *sets,
                                        int n, arena *mem, const model_quant **quant, void **cfg);
/* model_save; an input that was changed meanwhile is told before what came of it. */
FT_MUST_USE ft_status tool_save(model *m, const char *path, const model_save_options *save);
/* Warns where a model was trained with steps that what is made of it does not have. */
FT_MUST_USE ft_status tool_tell_steps(const char *dir, arena *mem);
/* Is there room for so many bytes? 74 before anything is written. */
FT_MUST_USE ft_status tool_check_space(double need, const io_target *t);
/* io_target_beside of a file that is `name` in a folder, STEM.name beside STEM.gguf. */
FT_MUST_USE ft_status tool_target_told(io_target *t, const char *name, const char *const *heads,
                                       const char *what);
/* --- merge_text.c ---------------------------------------------------------------------------------------------- */
/* The model of a recipe, JSON, into what is to be t: by way of its work folder. */
FT_MUST_USE ft_status tool_merge_text(const str_buf *recipe, const io_target *t, arena *mem);
/* --- combine.c: several adapters as one ------------------------------------------------------------------------ */
/* Into a folder that it makes. base: what each of them has to fit; NULL: nothing. */
FT_MUST_USE ft_status tool_combine(const pe_combine *c, const char *base, const char *dir,
                                   pe_combined *made);
void tool_combine_json(str_buf *s, const pe_combine *c, const pe_combined *made); /* its members */
FT_MUST_USE ft_status tool_combine_only(const tool_merge_options *opt, const tool_sink *out);
/* tool_convert of a PEFT folder. */
FT_MUST_USE ft_status tool_convert_adapter(const tool_convert_options *opt, const tool_sink *out);
/* --- modelfile.c, go_template.c: for Ollama ------------------------------------------------------------------- */
/* Appends the Modelfile of m, written as `file` beside it (NULL: as the folder it stands in). *template: the name that its
 * chat template has in the table; NULL: none fits, which is told. */
FT_MUST_USE ft_status tool_modelfile(str_buf *out, const model *m, const char *file, arena *mem,
                                     const char **template);
typedef struct tool_go_words {
    const char *bos, *eos; /* "" where there is none */
    bool adds_bos;         /* the tokenizer does it */
    const char *system;    /* where a conversation brings none; NULL: what the template has */
} tool_go_words;
/* A template of chat_names for Ollama, in Go; false: there is none of the name. */
bool tool_go_template(str_buf *out, const char *name, const tool_go_words *w);

#endif
