/* method_private.h – shared by the methods: trained copies, and PEFT's adapter files. */
#ifndef FT_METHOD_PRIVATE_H
#define FT_METHOD_PRIVATE_H

#include "ft/method.h"

extern const pe_method pe_lora;

/* Makes the tied head use the embedding's trained values, with a gradient of its own (nn_alias). */
FT_MUST_USE ft_status pe_tie_head(pe_ctx *c);

/* adapter_model.safetensors of the entries: f32. */
FT_MUST_USE ft_status pe_write_tensors(const char *dir, const pe_entry *e, int64_t n);
/* Reads values into the entries; every missing, extra or wrongly shaped tensor is listed (65). Keys that `ignore`
 * accepts are skipped. */
FT_MUST_USE ft_status pe_read_tensors(const char *dir, const pe_entry *e, int64_t n,
                                      bool (*ignore)(void *ctx, const io_tensor *t), void *ctx);
/* Does some entry of a JSON list of strings (or one string) satisfy match? NULL or JSON null: no. */
bool pe_list_has(const cJSON *list, const char *path,
                 bool (*match)(const char *entry, const char *path));
#endif
