/* cfg_private.h – what the files of this module share. */
#ifndef FT_CFG_PRIVATE_H
#define FT_CFG_PRIVATE_H

#include "ft/cfg.h"

#define JSON_EXACT_INT 9007199254740992.0 /* 2^53: beyond it not every integer has a double */

/* Line and column (characters, from 1) of a place in a text whose first line is line0. */
void json_line_col(const char *text, const char *at, int64_t line0, int64_t *line, int *col);
/* Offset of a node's value in the text; false when it is not known. */
bool json_offset(const js_doc *doc, const cJSON *node, size_t *offset);
const char *json_kind(const cJSON *node); /* "a number" */
#endif
