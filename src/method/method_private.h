/* method_private.h – shared by the methods: PEFT's adapter files. */
#ifndef FT_METHOD_PRIVATE_H
#define FT_METHOD_PRIVATE_H

#include "ft/method.h"

#include <strings.h>

extern const pe_method pe_lora, pe_dora, pe_full;

#define PE_SCORES "SEQ_CLS" /* task_type of an adapter of a sequence classifier */

/* Nothing, in one of the ways in which a key says it. */
static inline bool pe_is_empty(const cJSON *v)
{
    return pe_is_null(v) || (cJSON_IsArray(v) && !v->child) ||
           (cJSON_IsString(v) && !v->valuestring[0]);
}

static inline bool pe_is_all_linear(const cJSON *v)
{
    return cJSON_IsString(v) && strcasecmp(v->valuestring, "all-linear") == 0;
}

/* The trained copy of a parameter of the model; *: NULL where there is none. */
static inline nn_param **pe_own(pe_ctx *c, const nn_param *p)
{
    return &c->over.own[p->index];
}

/* adapter_config.json of a folder into c->adapter: of whatever kind. */
FT_MUST_USE ft_status pe_read_config(pe_ctx *c, const char *dir);
/* The same file with the keys of every adapter of PEFT's and of `own`, which is freed (NULL: out of memory). */
FT_MUST_USE ft_status pe_write_config(const pe_ctx *c, cJSON *own, const char *dir);
/* A file of tensors of these entries: f32. */
FT_MUST_USE ft_status pe_write_entries(const char *dir, const char *name, const pe_entry *e,
                                       int64_t n);
/* The adapter's own, and adapter_config.json of these keys alone; o is freed (NULL: out of memory). */
FT_MUST_USE ft_status pe_write_folder(const pe_ctx *c, cJSON *o, const char *dir);

/* Is p the head of a sequence classifier that this adapter has values of? So has every one that is trained on such a model, and
 * every folder that says SEQ_CLS. */
bool pe_trains_head(const pe_ctx *c, const nn_param *p);
/* Trains it, under `key` in the file. An adapter of a language model that is gone on from has none yet. */
FT_MUST_USE ft_status pe_train_head(pe_ctx *c, nn_param *p, const char *key);

/* An adapter's file, open while it is attached and loaded. */
typedef struct pe_file pe_file;
FT_MUST_USE ft_status pe_file_open(pe_file **out, const char *dir, const pe_format *format);
FT_MUST_USE ft_status pe_file_open_named(pe_file **out, const char *dir, const char *name);
void pe_file_close(pe_file *f); /* accepts NULL */
/* A tensor by an entry's key: without the names of adapters and wrappers that some writers leave in; NULL. */
const io_tensor *pe_file_find(const pe_file *f, const char *key);
/* Reads values into the entries (a dry one: none); every missing, extra or wrongly shaped tensor is listed (65). */
FT_MUST_USE ft_status pe_read_tensors(pe_ctx *c);
FT_MUST_USE ft_status pe_read_entries(pe_file *f, const pe_entry *e, int64_t n, bool dry);
/* The i-th tensor, and its name as pe_file_find has it (NULL: a second copy, of no use). False: past the end. */
bool pe_file_at(const pe_file *f, int64_t i, const io_tensor **t, const char **name);
/* A tensor's values as floats; 80 where one is NaN or Inf. */
FT_MUST_USE ft_status pe_file_values(const pe_file *f, const io_tensor *t, float *out);
void pe_file_pass(pe_file *f, const io_tensor *t); /* a tensor that is not needed */
/* Is there a tensor of a module beside its own weight and bias? */
bool pe_file_adapts(const pe_file *f, const char *path);

/* After all else is attached: what the adapter's file holds of the base. After loading: its rows go where they belong. */
FT_MUST_USE ft_status pe_attach_held(pe_ctx *c, const pe_target *t);
void pe_finish_held(pe_ctx *c);
/* An adapter that is to be trained on has the vocabulary of its base. */
FT_MUST_USE ft_status pe_check_vocabulary(const pe_ctx *c);

/* method.keep_zeros (keep.c): after a method is attached; the adapter's part of a site, masked; the hooks of the method
 * itself. */
FT_MUST_USE ft_status pe_keep_attach(pe_ctx *c);
FT_MUST_USE ft_status pe_keep_fold(const pe_ctx *c, const nn_site *s, float *w, float *b);
/* Rows [row0, row0 + n) of w, a copy of the site's weight, += M ⊙ change [n, columns]. */
void pe_keep_add(const pe_ctx *c, const nn_site *s, float *w, const float *change, int64_t row0,
                 int64_t n);
const nn_hooks *pe_keep_method_hooks(const pe_ctx *c);
void pe_keep_close(struct pe_keep *keep); /* accepts NULL */
/* What PE_METHOD_FILE of an adapter's folder says, where there is one. */
FT_MUST_USE ft_status pe_read_method(pe_ctx *c, const char *dir);
FT_MUST_USE ft_status pe_note_write(bool keep_zeros, const cJSON *qat, const char *dir);
/* --- combine_note.c: the same of all adapters that are combined, else 65; and what the result in dir says */
FT_MUST_USE ft_status pe_combine_notes_check(const pe_combine *how, arena *mem);
FT_MUST_USE ft_status pe_combine_note_write(const pe_combine *how, const char *dir, arena *mem);
/* `unfold` of methods whose hook `weight` gives a low-rank term. */
FT_MUST_USE ft_status pe_low_rank_unfold(pe_ctx *c, const nn_site *s, const float *w, float *dw);

/* Does some entry of a JSON list of strings (or one string) satisfy match? NULL or JSON null: no. */
bool pe_list_has(const cJSON *list, const char *path,
                 bool (*match)(const char *entry, const char *path));
#endif
