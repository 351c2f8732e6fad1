/* compressing.h – the config of `ft quantize` and `ft prune`, as it was read. */
#ifndef FT_COMPRESSING_H
#define FT_COMPRESSING_H

#include "ft/compress.h"
#include "tool_private.h"

typedef struct compress_head { /* keys of the section of every type */
    const char *type;
    const cJSON *left;   /* quantize.modules_to_not_convert; NULL */
    const cJSON *target; /* prune.target_modules; NULL: all */
} compress_head;

typedef struct compress_config {
    const tool_compress_options *opt;
    cfg_doc doc;
    const char *model, *dir; /* dir: output.dir, NULL */
    const cJSON *data, *section, *left;
    int64_t samples, max_length;
    const cmp_method *method;
    const cfg_field *rows; /* of the section: the head's, then the method's */
    compress_head *head;
    void *cfg;         /* the method's */
    const char **kept; /* [n_kept] modules_to_not_convert */
    int n_kept;
} compress_config;
/* Mistakes are 78, all at once. c->doc is closed by the caller. */
FT_MUST_USE ft_status compress_config_open(compress_config *c, const tool_compress_options *opt,
                                           arena *mem);
/* 78: a name of modules_to_not_convert or of prune.target_modules that matches nothing of m. */
FT_MUST_USE ft_status compress_check_names(const compress_config *c, const model *m);
/* Of the linears of the blocks: cmp_options.chosen with the config as ctx. */
bool compress_is_chosen(void *ctx, const nn_site *s);
/* What a run that goes on must have in common with the one that began, but for its inputs: JSON. */
FT_MUST_USE ft_status compress_identity(const compress_config *c, str_buf *out);
#endif
