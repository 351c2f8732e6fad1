/* io_private.h – what the files of this module share. */
#ifndef FT_IO_PRIVATE_H
#define FT_IO_PRIVATE_H

#include "ft/io.h"

/* FT_OK, or a refusal that names the format when the first bytes show a pickle, a zip archive
 * (PyTorch), or another format than the caller expects. Called after a first check has failed: the
 * length field of a sound safetensors file may look like any of these. */
ft_status io_refuse_foreign(const char *path, const file_map *map);
/* Refuses the names PyTorch gives its pickles. */
ft_status io_refuse_pickle_name(const char *path);
/* As gguf_open, of any part of a split model. */
ft_status gguf_open_part(gguf_file *f, const char *path, arena *a);
/* The name of part i (from 0) of n beside another part of it; NULL when that is not named as parts are. */
const char *gguf_part_name(arena *a, const char *path, int64_t i, int64_t n);
#endif
