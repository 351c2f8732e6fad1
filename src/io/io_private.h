/* io_private.h – what the files of this module share. */
#ifndef FT_IO_PRIVATE_H
#define FT_IO_PRIVATE_H

#include "ft/io.h"

#include <sys/stat.h>

/* FT_OK, or a refusal that names the format when the first bytes show a pickle, a zip archive
 * (PyTorch), or another format than the caller expects. Called after a first check has failed: the
 * length field of a sound safetensors file may look like any of these. */
ft_status io_refuse_foreign(const char *path, const file_map *map);
/* Refuses the names PyTorch gives its pickles. */
ft_status io_refuse_pickle_name(const char *path);
/* As gguf_open, of any part of a split model. */
ft_status gguf_open_part(gguf_file *f, const char *path, bool apart, arena *a);
/* As gguf_open and st_open; apart: tensors are not mapped. */
ft_status gguf_open_as(gguf_file *f, const char *path, bool apart, arena *a);
ft_status st_open_as(st_file *f, const char *path, bool apart, arena *a);
/* The name of part i (from 0) of n beside another part of it; NULL when that is not named as parts are. */
const char *gguf_part_name(arena *a, const char *path, int64_t i, int64_t n);
/* Watching a mapping of the file behind fd. */
FT_MUST_USE ft_status io_watch_map(file_map *m, int fd, const char *path);
void io_watch_hash(file_watch *w, const char sha256[65]); /* of all of it */
/* A file of which the first bytes are mapped (map.c). How many they are: all of them where the whole is. */
FT_MUST_USE ft_status io_map_open_head(file_map *m, const char *path, size_t bytes);
size_t io_map_head(const file_map *m);
/* So many of them, then, at another address; nothing else of it may be mapped. */
FT_MUST_USE ft_status io_map_more(file_map *m, size_t bytes);
/* Bytes of such a file; 74 where they are no longer there. */
FT_MUST_USE ft_status io_map_read(const file_map *m, void *out, size_t n, size_t at);
/* What is mapped of it: their number, out may be NULL. */
int64_t io_pieces_ranges(const file_map *m, ft_range *out);

/* stat and lstat that tell absence (*there) from a look that failed, as path_look does. A link in a circle leads nowhere. */
FT_MUST_USE ft_status io_look(const char *path, struct stat *sb, bool *there);
FT_MUST_USE ft_status io_look_link(const char *path, struct stat *sb, bool *there);

/* Writing. The status and message of a failed system call on an output: a full disk says so. */
ft_status io_fail_out(ft_status other, const char *what, const char *path);
/* fsync; what has no syncing is fine. errno when false. */
bool io_synced(int fd);
/* open, made again when a signal cuts it; −1 with errno. A file that is made gets the mode 0666. */
int io_open(const char *path, int flags);
bool io_is_full(int error); /* ENOSPC, EDQUOT */
/* After a failed call: true when the disk is full and a wait for room is over, so that it may be tried again. tries: waits
 * since something last went through. errno stays. */
bool io_wait_for_room(const char *path, int *tries);
/* What file_out_again asks after: a file that differs on disk, or one that found no room when it was synced. */
void io_note_damage(void);
void io_note_full(int error);
/* For the notes that are being taken. */
FT_MUST_USE ft_status io_note_written(const char *path, size_t bytes, const char sha256[65]);
/* The folder that path stands in, to the disk. */
FT_MUST_USE ft_status io_sync_above(const char *path);

#endif
