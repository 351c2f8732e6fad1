/* io.h – files: mapping, durable writing, text lines (plain, .gz, .zst), safetensors, GGUF, and the weights
 * of a model folder or file seen as one list of named tensors.
 *
 * Every file is treated as hostile: sizes are multiplied with overflow checks, offsets bounded by the file,
 * counts bounded by the bytes left. Messages: "FILE: byte 0x1a4: tensor "name": what" (FT_EDATA). */
#ifndef FT_IO_H
#define FT_IO_H

#include "ft/base.h"
#include "ft/cfg.h"
#include "ft/tensor.h"

/* --- files ------------------------------------------------------------------------------------------- */
typedef struct file_watch file_watch;
typedef struct file_pieces file_pieces;
typedef struct file_map {
    const uint8_t *data;
    size_t size; /* of the file */
    file_watch *watch;
    file_pieces *pieces; /* NULL: all of it is mapped */
} file_map;
/* Maps a regular file read-only, and watches it. 66 missing, 77 permission, 65 not a regular file. */
FT_MUST_USE ft_status file_map_open(file_map *m, const char *path);
void file_map_close(file_map *m);
/* Bytes of a mapping are not needed for now: whole pages of them leave the memory of the process, and come back when they
 * are read. */
void file_map_forget(const void *data, size_t bytes);
/* --- inputs that change while they are in use ---
 * Size, times, inode and the hash of some pages are taken when a file is mapped, or watched by name. */
typedef enum file_use {
    FILE_MAPPED, /* by file_map_open */
    FILE_COPIED, /* small, read at the start, and copied into the result: its whole text is hashed */
    FILE_STREAM, /* read piece by piece */
    FILE_DONE    /* was read into memory: a change harms nothing but what comes after, and is told */
} file_use;
FT_MUST_USE ft_status file_watch_open(file_watch **out, const char *path, file_use use);
void file_watch_close(file_watch *w); /* accepts NULL */
/* Before a result is written: 65 naming the first watched file whose bytes are no longer what they were. Another file of the
 * same name leaves a mapping as it was. A file that was only touched is told: all of it is hashed again where
 * its hash is known (io_weights_sha256), otherwise a mapped one is taken as changed, for nothing else can tell. */
FT_MUST_USE ft_status file_inputs_check(void);
/* Whole file into ft_alloc'ed, NUL-terminated memory; 65 beyond `limit` bytes. */
FT_MUST_USE ft_status file_read(char **out, size_t *len, const char *path, size_t limit);
FT_MUST_USE ft_status file_sha256(const char *path, char hex[65]);
/* What stands at a path, links followed. Only where the system says that nothing is there (ENOENT, ENOTDIR) is that the
 * answer; a look that fails for another reason answers nothing, and is the error: 77, 71, else 74. */
typedef enum path_kind {
    PATH_NONE,
    PATH_LOST, /* a link that leads nowhere: opening it says so */
    PATH_FILE, /* or whatever else is no folder */
    PATH_FOLDER
} path_kind;
FT_MUST_USE ft_status path_look(const char *path, path_kind *kind);
FT_MUST_USE ft_status path_look_in(const char *dir, const char *name, path_kind *kind);
FT_MUST_USE ft_status path_size(const char *path, int64_t *bytes); /* −1: no regular file */
const char *path_join(arena *a, const char *dir, const char *name);
const char *path_dir(arena *a, const char *path); /* "" for a bare name */
const char *path_base(const char *path);

/* Durable writing: into NAME.tmp beside the target; commit = fsync, read back and compared by SHA-256 with what was handed
 * over, rename, fsync of the folder. Nothing under the final name unless it is whole and on the disk as it was in memory.
 * A disk that is full is waited for (below). Failures are 74 (disk full says so), 77, 73. */
typedef struct file_out file_out;
FT_MUST_USE ft_status file_out_open(file_out **out, const char *path);
FT_MUST_USE ft_status file_out_write(file_out *f, const void *data, size_t n);
FT_MUST_USE ft_status file_out_commit(file_out *f); /* closes in any case */
void file_out_abort(file_out *f);                   /* accepts NULL; removes the temporary */
size_t file_out_size(const file_out *f);
/* After a file was made, or was not: is it to be made once more from its beginning? True, with a warning, where it differed
 * when it was read back (once), and where the disk was found full only by syncing (after a wait). tries starts with 0:
 *     do rc = make(path); while (file_out_again(rc, &tries)); */
bool file_out_again(ft_status rc, int *tries);
/* For what cannot be made once more: up to 64 MiB of it stay in memory, from which the commit writes again. Before the first
 * write. */
void file_out_keep(file_out *f);
FT_MUST_USE ft_status file_write(const char *path, const void *data,
                                 size_t n); /* open, write, commit; again if need be */
FT_MUST_USE ft_status file_copy(const char *from, const char *to);

/* A full disk is tried again three times, after 20 s each (FT_TEST_RETRY_SECONDS changes that in tests); SIGINT and SIGTERM
 * end the wait. Without patience the first failure counts, and a file that differs when it is read back is not written
 * again: for a caller that has other work meanwhile. Returns what it was before. */
bool file_patience(bool on);
double file_retry_seconds(void);
enum { FILE_RETRIES = 3 };

/* Append-only text (log.jsonl): opened at a given length (the rest is cut off; −1: keep all). What finds no room on the
 * disk stays in memory, is tried again when something is added 20 s later or more, and is given up as 74 after three more
 * attempts over a minute. No part of an addition ever stays in the file. */
typedef struct file_log file_log;
FT_MUST_USE ft_status file_log_open(file_log **out, const char *path, int64_t keep_bytes);
FT_MUST_USE ft_status file_log_add(file_log *l, const void *text, size_t n);
/* All of it on the disk; waits for room, without patience 74. NULL: nothing. */
FT_MUST_USE ft_status file_log_sync(file_log *l);
void file_log_close(file_log *l); /* accepts NULL; what waits is tried once more */

/* What was committed from begin to end, a file's last time: SHA-256 and size of what was handed over, in memory. */
typedef struct file_note {
    char *path;
    size_t bytes;
    char sha256[65];
} file_note;
typedef struct file_notes {
    file_note *note;
    int64_t n, cap;
} file_notes;
void file_notes_begin(file_notes *t); /* one at a time */
const file_note *file_notes_find(const file_notes *t, const char *path);
void file_notes_end(file_notes *t); /* frees them */

FT_MUST_USE ft_status dir_make(const char *path); /* with parents; fine when it exists */
/* Could it be made, and files in it? 77 where permission is missing; nothing is made. */
FT_MUST_USE ft_status dir_may_make(const char *path);
FT_MUST_USE ft_status dir_sync(const char *path);
FT_MUST_USE ft_status dir_remove(const char *path); /* a tree; fine when it does not exist */
FT_MUST_USE ft_status dir_rename(const char *from, const char *to); /* and syncs the parent */
/* Names in a folder (without . and ..), sorted; arena-owned. */
FT_MUST_USE ft_status dir_list(const char *path, arena *a, const char ***names, int64_t *n);
/* flock on PATH/.lock; 73 with the owner's pid when another process holds it. */
FT_MUST_USE ft_status dir_lock(const char *path, int *fd);
void dir_unlock(const char *path, int fd); /* removes the file while it is still ours */
size_t dir_free_space(const char *path); /* of the nearest existing parent; SIZE_MAX: not known */

/* --- what may be replaced --------------------------------------------------------------------------------
 * One table (known.c) of what belongs in a folder of results: all that ft writes there, and what transformers and PEFT
 * give the folder of a model or an adapter. What bears such a name and is a link, or a folder where a file belongs, is
 * foreign as everything else. */
enum { IO_OF_RUN = 1, IO_OF_RESULT = 2 };
/* Who writes a file of this name into an output folder: a run beside its result, or it is part of a result; 0: nobody. */
unsigned io_known(const char *name);
/* The first entry that is foreign ("NAME", "FOLDER/NAME"), NULL: none. whole: an entry of a folder that nothing tells to be
 * of a model, an adapter or a run is foreign too. */
FT_MUST_USE ft_status io_foreign(const char *dir, bool whole, arena *a, const char **foreign);
/* Removes what is known (of: IO_OF_…, and leaves the folder; 0: all, and the folder if nothing else is in it). *left: the
 * first path that stays because it is foreign; NULL. */
FT_MUST_USE ft_status io_clear(const char *dir, unsigned of, arena *a, const char **left);
/* The same of a folder inside, by its name: checkpoints/step-4, additional_chat_templates. */
FT_MUST_USE ft_status io_clear_part(const char *path, arena *a, const char **left);
/* Moves a run and its result, but not its checkpoints, from a folder into another (made where need be), over what bears the
 * same names there; renames alone, summary.json last: where it stands, a move that was cut short began. */
FT_MUST_USE ft_status io_move(const char *dir, const char *to, arena *a);
/* 77 where a folder in it, or it, may not be changed: nothing of it could be moved, or removed. */
FT_MUST_USE ft_status io_may_move(const char *dir, arena *a);
#define IO_FORMER ".former" /* in the folder of a run: the finished one that it takes the place of */
/* The first entry that bears a known name and is not what it says: a link, a folder where a file belongs, a device. */
FT_MUST_USE ft_status io_misfit(const char *dir, arena *a, const char **name);

typedef struct io_input { /* what a result is made from */
    const char *what;     /* "the model" */
    const char *path;     /* NULL: there is none */
    bool may_lie_in;      /* the folder of the result */
} io_input;
/* 73, whatever --force says: the root, home, the folder we are in, or one above it; an input, a file of one, or a folder
 * above one. By device and inode: links, "..", hard links make no difference. */
FT_MUST_USE ft_status io_out_check(const char *out, const io_input *in, int n);
FT_MUST_USE ft_status io_same_place(const char *a, const char *b,
                                    bool *same); /* one file, be it there or not */
FT_MUST_USE ft_status io_out_there(const char *path, bool *there); /* also a link to nowhere */
/* 73 where something stands that is no result: of a file, what does not begin with one of the heads (NULL-terminated) and is
 * not empty; a folder with something foreign; links, devices, mount points, a folder that a run works in. */
FT_MUST_USE ft_status io_out_file(const char *path, const char *const *heads, const char *what);
FT_MUST_USE ft_status io_out_result(const char *path, arena *a);
/* Or is empty. Of a head: at most 1 KiB; '*' is any text inside a line. */
bool io_begins(const char *path, const char *const *heads);

/* A result that must not exist half: `temp`, in a locked folder beside `path`, then a rename. What stands at `path` is 73
 * unless force, and then unless it is a result; it goes once the new one is in place. */
typedef struct io_target {
    arena *mem;
    const char *path, *temp;
    const char *work; /* the folder beside path, also for other temporaries; NULL: not made */
    bool force, placed;
    int lock;
    const char *beside, *beside_temp; /* of io_target_beside, else NULL */
    const char *const *beside_heads;
    const char *beside_what;
} io_target;
#define IO_TARGET_ADAPTER "adapter" /* in `work`: an adapter that the result is made of */
#define IO_TARGET_MERGED "merged"   /* config and tokenizer of models that become one */
/* Removes what dead processes left beside path. */
FT_MUST_USE ft_status io_target_open(io_target *t, const char *path, bool force, const io_input *in,
                                     int n_in, arena *mem);
/* What a Modelfile and a report that ft wrote begin with; NULL-terminated. */
extern const char *const io_modelfile[], *const io_report[];
/* A small file `name` goes along, in the folder or beside the file: to be written as t->beside_temp before the commit, t->beside
 * thereafter. What stands there is 73 as above; a result is what begins with one of heads, and is `what`, which outlive t. */
FT_MUST_USE ft_status io_target_beside(io_target *t, const char *name, const char *const *heads,
                                       const char *what);
FT_MUST_USE ft_status io_target_commit(io_target *t);
void io_target_close(io_target *t); /* in any case: removes what is not in place; accepts { 0 } */

/* --- text lines ---------------------------------------------------------------------------------------
 * Plain, gzip or zstd (by magic), member by member, trailer required, trailing bytes refused; line cap 16 MiB;
 * CR before LF is dropped. Numbers are of the decompressed text. */
typedef struct line_reader line_reader;
/* path NULL: standard input, plain; a request to stop while it waits is FT_ESIGNAL. */
FT_MUST_USE ft_status lines_open(line_reader **out, const char *path);
/* A file that messages call by another name. */
FT_MUST_USE ft_status lines_open_as(line_reader **out, const char *path, const char *name);
/* All of standard input in a temporary file (in TMPDIR, or /tmp) that has no name any more and goes with its descriptor. */
FT_MUST_USE ft_status lines_spool(int *fd);
FT_MUST_USE ft_status lines_next(line_reader *r, const char **text, size_t *len); /* FT_END */
/* The same, passing over lines of spaces. */
FT_MUST_USE ft_status lines_next_filled(line_reader *r, const char **text, size_t *len);
bool lines_blank(const char *text, size_t len);
/* 65 for a line that no JSON record stands on: a whole list begins (no record does so with a bracket), or a record that is
 * laid out over lines (a brace alone). remedy: behind either message. */
FT_MUST_USE ft_status lines_record(const line_reader *r, const char *text, size_t len,
                                   const char *remedy);
/* Is another line, or the end, there without waiting? Always for files. What lines_next gave is gone then. */
bool lines_ready(line_reader *r);
const char *lines_name(const line_reader *r); /* the path, "standard input": for messages */
bool lines_packed(const line_reader *r);      /* it is compressed */
int64_t lines_number(const line_reader *r);   /* of the line last returned, from 1 */
/* The same file by bytes of its (decompressed) text: where the next line begins; to go on at a byte that
 * `number` lines stand before (of what is compressed by reading up to it, from the beginning if it is more than
 * 8 MiB back: so many bytes are kept from the first seek on); up to `room` bytes as they are, *n = 0 at
 * the end. */
int64_t lines_offset(const line_reader *r);
FT_MUST_USE ft_status lines_share(const line_reader *r,
                                  double *share); /* of the bytes of a file on disk, how much was read */
FT_MUST_USE ft_status lines_seek(line_reader *r, int64_t byte, int64_t number);
FT_MUST_USE ft_status lines_read(line_reader *r, void *out, size_t room, size_t *n);
void lines_close(line_reader *r);             /* accepts NULL */
/* A whole text file, decompressed; 65 beyond limit. ft_alloc'ed, NUL-terminated. */
FT_MUST_USE ft_status text_read(char **out, size_t *len, const char *path, size_t limit);

/* --- named tensors ------------------------------------------------------------------------------------- */
typedef struct io_tensor {
    const char *name;
    const dt_type *type;
    int nd;
    int64_t dim[8];   /* outermost first (GGUF's order is reversed on reading) */
    const void *data; /* in the mapping; NULL: not mapped (io_weights_open_apart) */
    size_t bytes;
    const char *file; /* for messages */
    file_map *map;    /* that file, and where in it the data begins */
    size_t at;
} io_tensor;
/* The values of a tensor: where they are not mapped, a piece of the file that is, until it is dropped or the file is closed.
 * One thread. */
FT_MUST_USE ft_status io_tensor_map(const io_tensor *t, const void **data);
void io_tensor_unmap(const io_tensor *t, const void *data);

/* safetensors */
typedef struct st_file {
    file_map map;
    const char *path;
    io_tensor *tensor;
    int64_t n;
    map_table index;
    const char **meta; /* key, value, key, value … */
    int n_meta;
} st_file;
FT_MUST_USE ft_status st_open(st_file *f, const char *path, arena *a);
const io_tensor *st_find(const st_file *f, const char *name);
void st_close(st_file *f);

/* Writing: declare all tensors, then hand over the data of each in the order of `order` (the reference
 * writer's: dtype size descending, then name). Metadata {"format":"pt"} plus `meta` pairs. */
typedef struct st_decl {
    const char *name;
    const dt_type *type;
    int nd;
    int64_t dim[8];
    void *user; /* the caller's */
} st_decl;
typedef struct st_writer st_writer;
FT_MUST_USE ft_status st_write_open(st_writer **out, const char *path, st_decl *decl, int64_t n,
                                    const char *const *meta, int n_meta); /* sorts decl in place */
/* Appends bytes of the current tensor; moves on when it is complete. */
FT_MUST_USE ft_status st_write(st_writer *w, const void *data, size_t n);
FT_MUST_USE ft_status st_write_close(st_writer *w); /* checks completeness, commits */
void st_write_abort(st_writer *w);                  /* accepts NULL */
/* All in one call for small files: data[i] belongs to decl[i] as passed (f32 in memory is not converted). */
FT_MUST_USE ft_status st_write_all(const char *path, const st_decl *decl, const void *const *data,
                                   int64_t n, const char *const *meta, int n_meta);

/* GGUF v2/v3 little-endian */
typedef enum gguf_vtype {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STR,
    GGUF_ARR,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
} gguf_vtype;
typedef struct gguf_str {
    const char *s; /* in the mapping, not terminated */
    size_t n;
} gguf_str;
typedef struct gguf_kv {
    gguf_str key;
    gguf_vtype type, elem; /* elem: of an array */
    uint64_t count;        /* of an array, else 1 */
    const uint8_t *data;   /* first value; strings are length-prefixed */
    gguf_str *strs;        /* array of strings: count entries */
} gguf_kv;
typedef struct gguf_file {
    file_map map;
    const char *path;
    gguf_kv *kv;
    int64_t n_kv;
    io_tensor *tensor;
    int64_t n;
    map_table kv_index, index;
    uint32_t version;
    uint64_t alignment;
} gguf_file;
/* A later part of a split model is 65: the message names the first one. */
FT_MUST_USE ft_status gguf_open(gguf_file *f, const char *path, arena *a);
void gguf_close(gguf_file *f);
const gguf_kv *gguf_get(const gguf_file *f, const char *key); /* NULL when absent */
/* Typed getters: any integer type fits an int when in range; absent gives def; a wrong type is 65. */
FT_MUST_USE ft_status gguf_int(const gguf_file *f, const char *key, int64_t def, int64_t low,
                               int64_t high, int64_t *out);
FT_MUST_USE ft_status gguf_num(const gguf_file *f, const char *key, double def, double *out);
FT_MUST_USE ft_status gguf_bool(const gguf_file *f, const char *key, bool def, bool *out);
FT_MUST_USE ft_status gguf_text(const gguf_file *f, const char *key, arena *a,
                                const char **out); /* NULL absent */
FT_MUST_USE ft_status gguf_ints(const gguf_file *f, const char *key, arena *a, int64_t **out,
                                int64_t *n);
FT_MUST_USE ft_status gguf_floats(const gguf_file *f, const char *key, arena *a, float **out,
                                  int64_t *n);

/* Writing GGUF v3: keys and tensors are declared first, then the data of each tensor in declaration order. */
typedef struct gguf_writer gguf_writer;
FT_MUST_USE ft_status gguf_write_open(gguf_writer **out, const char *path);
void gguf_put_int(gguf_writer *w, const char *key, gguf_vtype type, int64_t v);
void gguf_put_f32(gguf_writer *w, const char *key, float v);
void gguf_put_bool(gguf_writer *w, const char *key, bool v);
void gguf_put_str(gguf_writer *w, const char *key, const char *s, size_t n);
void gguf_put_strs(gguf_writer *w, const char *key, const gguf_str *s, int64_t n);
void gguf_put_i32s(gguf_writer *w, const char *key, const int32_t *v, int64_t n);
void gguf_put_f32s(gguf_writer *w, const char *key, const float *v, int64_t n);
void gguf_put_copy(gguf_writer *w, const gguf_kv *kv); /* as it stands in another file */
void gguf_put_tensor(gguf_writer *w, const char *name, const dt_type *type, int nd,
                     const int64_t *dim);
FT_MUST_USE ft_status gguf_write_header(gguf_writer *w);
FT_MUST_USE ft_status gguf_write(gguf_writer *w, const void *data, size_t n); /* as st_write */
FT_MUST_USE ft_status gguf_write_close(gguf_writer *w);
void gguf_write_abort(gguf_writer *w);
/* Is `name` another part of the split model at path, or that file itself? */
bool gguf_same_model(const char *path, const char *name);

/* The weights of a model: a folder (model.safetensors, or the index and its shards), a single
 * .safetensors file, or a .gguf file, whole or the first part of a split one (the others lie beside it; a
 * missing one is 66). Any of them may be a link. */
typedef struct io_weights {
    io_tensor *tensor;
    int64_t n;
    map_table index;
    st_file *shard; /* folder */
    int n_shards;
    gguf_file *gguf; /* .gguf, else NULL; of a split one the first part, which has the metadata */
    gguf_file *part; /* the other parts */
    int n_parts;
    const char *path;
    bool apart; /* no tensor is mapped */
} io_weights;
/* 66 where nothing stands at a path given as a model, as an adapter's folder or as a file of data, or another of these
 * does; a name on a hub is told as such. What is there may still be damaged. */
FT_MUST_USE ft_status io_model_exists(const char *path);
FT_MUST_USE ft_status io_adapter_exists(const char *path);
FT_MUST_USE ft_status io_data_exists(const char *path);
FT_MUST_USE ft_status io_is_adapter(const char *dir, bool *is); /* it holds an adapter_config.json */
FT_MUST_USE ft_status io_is_adapter_alone(const char *dir,
                                          bool *is); /* and no config.json, so it is no model as well */
/* Refuses pickle files by name and magic with the remedy. */
FT_MUST_USE ft_status io_weights_open(io_weights *w, const char *model_path, arena *a);
/* The same without their values, for those who read them once, one after another, or not at all: the files need not fit into
 * the address space. io_weights_widen maps all of them after all. */
FT_MUST_USE ft_status io_weights_open_apart(io_weights *w, const char *model_path, arena *a);
FT_MUST_USE ft_status io_weights_widen(io_weights *w);
const io_tensor *io_find(const io_weights *w, const char *name);
void io_weights_close(io_weights *w);
size_t io_weights_bytes(const io_weights *w); /* of its files */
size_t io_weights_rss(const io_weights *w);   /* of their mappings, in memory now */
/* As sha256sum prints it for one file; of several shards or parts: of the lines sha256sum prints for
 * them, sorted by name. */
FT_MUST_USE ft_status io_weights_sha256(const io_weights *w, char hex[65]);
#endif
