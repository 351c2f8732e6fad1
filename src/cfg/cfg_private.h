/* cfg_private.h – what the files of this module share. */
#ifndef FT_CFG_PRIVATE_H
#define FT_CFG_PRIVATE_H

#include "ft/cfg.h"

/* Comments and trailing commas of a .jsonc become spaces, in place; *n may shrink. */
ft_status cfg_jsonc(char *text, size_t *n, const char *name);

#define JSON_EXACT_INT 9007199254740992.0 /* 2^53: beyond it not every integer has a double */

/* Line and column (characters, from 1) of a place in a text whose first line is line0. */
void json_line_col(const char *text, const char *at, int64_t line0, int64_t *line, int *col);
void json_place(const js_doc *d, const char *at, int64_t *line,
                int *col); /* of a document's text */
/* The first `cap` nodes of a tree in document order (out NULL: only counted); returns their number. */
size_t json_nodes(const cJSON *root, const cJSON **out, size_t cap);
/* Shortest text of a bound or value for a message: 1000000, 0.5, 1e-08. */
const char *json_number(char out[32], double v);
const char *json_kind(const cJSON *node); /* "a number" */

/* Where a node came from: a place in the file, or a --set. */
typedef struct cfg_place {
    const cJSON *node;
    int64_t offset;  /* in the file's text, −1: from a --set */
    const char *set; /* its key */
} cfg_place;

typedef struct cfg_state {
    char *text; /* of the file */
    cfg_place *place;
    size_t n_place, cap_place;
    cJSON **kept; /* replaced nodes (addresses must not be used again) and defaults */
    size_t n_kept, cap_kept;
    const char **wrong; /* keys with a recorded mistake */
    size_t n_wrong;
    ft_status fatal; /* a failure that is not a mistake in the config: memory */
} cfg_state;

/* Takes over a tree until cfg_close; deletes it at once when that fails. */
bool cfg_keep(cfg_doc *d, cJSON *tree);
/* Of `key` there is a mistake already: it is not missing. */
void cfg_note_wrong(cfg_doc *d, const char *key);
/* As cfg_fail; at_key: at the name of the member instead of its value. */
void cfg_vfail(cfg_doc *d, const cJSON *node, bool at_key, const char *key, const char *fmt,
               va_list ap);
#endif
