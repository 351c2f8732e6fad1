/* tool_private.h – what the files of the tool module share and nobody else needs. */
#ifndef FT_TOOL_PRIVATE_H
#define FT_TOOL_PRIVATE_H

#include "ft/tool.h"

/* FT_OK, or FT_ESIGNAL once the program was asked to stop. */
FT_MUST_USE ft_status tool_go_on(void);
/* lm-evaluation-harness keeps the last max_length inputs and the whole continuation: drops ids from the front. */
FT_MUST_USE ft_status tool_cut_left(tool_model *t, const js_doc *d, tok_ids *ids, int64_t *from);
/* Text of ids. Rows of the vocabulary that the tokenizer has no token for give none, as in transformers: a padded model may
 * pick them. */
FT_MUST_USE ft_status tool_decode(const tool_model *t, const int32_t *id, int64_t n, str_buf *out);
/* A string member of a JSON object with its length; absent gives NULL. A wrong type is 65 with line and column. */
FT_MUST_USE ft_status tool_string(const js_doc *d, const cJSON *o, const char *key,
                                  const char **text, size_t *len);
/* JSON string of bytes that need not be UTF-8: what is not becomes U+FFFD. */
void tool_json_text(str_buf *out, const char *text, size_t n);
/* A number for JSON: null when it is not finite. */
void tool_json_number(str_buf *out, double v);
void tool_json_key(str_buf *out, const char *key); /* ,"key": (the comma unless after '{') */
FT_MUST_USE ft_status tool_put(const tool_sink *out, const str_buf *text);
/* The row of --type for an output path; NULL name gives NULL. What cannot be written there is 64 with the list. */
FT_MUST_USE ft_status tool_output_type(const char *name, const char *path, const dt_type **type);
/* The quantiser that writes folders of --type, with its keys (KEY=VALUE, n of them) in *cfg; NULL: no quantiser is called so.
 * 64 for a .gguf, and for keys without one. */
FT_MUST_USE ft_status tool_output_quant(const char *name, const char *path, const char *const *sets,
                                        int n, arena *mem, const model_quant **quant, void **cfg);
/* Is there room for the model? 74 before anything is written. quant may be NULL. */
FT_MUST_USE ft_status tool_check_space(const model *m, const tool_target *t, const dt_type *type,
                                       const model_quant *quant);
#endif
