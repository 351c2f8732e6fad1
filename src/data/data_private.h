/* data_private.h – the inside of the data module, shared by its files. */
#ifndef FT_DATA_PRIVATE_H
#define FT_DATA_PRIVATE_H

#include "ft/data.h"
#include "ft/io.h"

typedef struct data_format data_format;

typedef struct data_source {
    const char *path;                           /* resolved */
    const char *format_name, *name, *separator; /* separator: NULL when there is none */
    double weight;
    int64_t limit; /* records, 0: all */
    const cJSON *node;
    const data_format *format; /* NULL: not known yet (auto) */
    bool named;
    data_source_stats stats;
} data_source;

/* One sample. labels_at < 0: the labels are the ids (text). seq_at < 0: one sequence. */
typedef struct data_row {
    int64_t ids_at, labels_at, seq_at, line;
    int32_t len, n_seq, source, supervised;
} data_row;

struct data_set {
    const tok_tokenizer *tok;
    const chat *chat;
    cfg_doc *cfg;
    arena *mem; /* sources and their strings */
    int64_t max_length, vocab_size;
    bool concat, completion_only, assistant_only, training, weighted;
    data_source *source;
    int n_sources;
    int32_t *ids, *labels, *seq;
    int64_t n_ids, cap_ids, n_labels, cap_labels, n_seq, cap_seq;
    data_row *row;
    int64_t n_rows, cap_rows;
    int32_t max_id;
    bool warned_no_end;
};

/* One record on its way from text to tokens; filled by a worker, taken over in order. */
typedef struct data_item {
    const data_set *d;
    const data_source *src;
    const data_format *format;
    const char *name; /* of the file, for messages */
    const char *text; /* a line of .jsonl, or NULL */
    size_t len;
    int64_t line;
    const js_doc *doc; /* of the record (for .json: of the whole file) */
    const cJSON *rec;
    tok_ids ids;
    int32_t *labels; /* [ids.n], unshifted; NULL: the ids (text) */
    bool no_end;     /* the template gave no end-of-turn token; EOS was added */
    ft_status rc;
    char *error;
} data_item;

/* A row of formats.def: how a record is recognised and rendered. */
struct data_format {
    const char *name;
    const char *const *keys; /* a record that has all of these is of this format */
    ft_status (*render)(data_item *it);
};
const data_format *data_format_find(const char *name);
/* The format of a record; 65 naming its keys when none fits. */
FT_MUST_USE ft_status data_format_detect(const js_doc *doc, const cJSON *rec,
                                         const data_format **out);
bool data_format_is_text(const data_format *f);
extern const char *const data_format_names[]; /* with "auto", NULL-terminated */

/* read.c */
FT_MUST_USE ft_status data_read_source(data_set *d, int source);
/* text.c: ids of a document, tokenised in pieces; the first piece begins with BOS where the tokenizer adds one */
FT_MUST_USE ft_status data_encode_text(const tok_tokenizer *tok, const char *text, size_t n,
                                       bool begins, tok_ids *out);
/* Length of the first piece of a long text, cut where tokens cannot reach across. */
size_t data_piece(const char *text, size_t n);
typedef struct data_stream { /* documents of a text source on their way into rows */
    data_set *d;
    int source;
    int64_t row_at, seq_at; /* where the open row begins in ids and seq */
    int64_t seq_from;       /* where the open sequence begins in ids */
    int64_t documents;
} data_stream;
void data_stream_open(data_stream *s, data_set *d, int source);
FT_MUST_USE ft_status data_stream_document(data_stream *s); /* another document begins */
FT_MUST_USE ft_status data_stream_add(data_stream *s, const tok_ids *ids);
FT_MUST_USE ft_status data_stream_close(data_stream *s);

/* store.c */
FT_MUST_USE ft_status data_store_item(data_set *d, int source, const data_item *it);
FT_MUST_USE ft_status data_store_row(data_set *d,
                                     data_row row); /* counts supervised, keeps stats */
FT_MUST_USE ft_status data_reserve(void *array, int64_t *cap, int64_t need, size_t size);

/* chat_mask.c: messages (a list) to ids and labels; turns before `first` and those of weight 0 are not
 * supervised. `node` is named in messages. */
FT_MUST_USE ft_status data_render_chat(data_item *it, const cJSON *node, const cJSON *messages,
                                       const cJSON *tools, int first);
/* offsets.c: off[k] = byte of text where token k begins, off[n] = len. exact: false when the tokens do not spell
 * the text (a normalizer changed it). */
FT_MUST_USE ft_status data_offsets(const tok_tokenizer *tok, const char *text, size_t len,
                                   const tok_ids *ids, int64_t *off, bool *exact);
bool data_ends_turn(const tok_tokenizer *tok, int32_t id); /* a special token or one that stops */

/* batch.c */
/* First-fit rows of "concat": row_of[i] for each of n samples; returns the number of rows. */
int data_layout(const data_set *d, const int64_t *samples, int n, int *row_of, int64_t *room);
#endif
