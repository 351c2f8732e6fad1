/* data_private.h – the inside of the data module, shared by its files. */
#ifndef FT_DATA_PRIVATE_H
#define FT_DATA_PRIVATE_H

#include "ft/data.h"
#include "ft/io.h"

typedef struct data_format data_format;

/* order.c: where data_take stopped. Only a store of what was worked out already: a set without it gives the same
 * samples. */
typedef struct data_pass {
    int64_t *
        index; /* permutation of the pass that is read, or of its window: [samples] or [window_rows] */
    int64_t shown, window; /* pass and window that `index` is of; −1: none */
    int64_t number, at;    /* pass over the source, and the sample of it, that comes next */
    int64_t left;          /* samples left in this epoch; of a mix by weight: no end */
    double given;          /* tokens so far in this epoch */
} data_pass;
typedef struct data_order {
    uint64_t seed;
    int64_t epoch;   /* −1: nothing is known */
    int64_t at;      /* the sample of the epoch that comes next */
    double given;    /* tokens of all sources so far in this epoch */
    bool quiet;      /* on the way to a step: nothing is told */
    int64_t *index;  /* [samples] the permutation of the epoch, where one serves all sources */
    data_pass *pass; /* [n_sources] where they are interleaved */
} data_order;
void data_order_close(data_set *d);

/* One sample in a store. labels_at < 0: the labels are the ids (text). seq_at < 0: one sequence. */
typedef struct data_row {
    int64_t ids_at, labels_at, seq_at, line;
    double value;
    char *extra; /* owned */
    int32_t len, n_seq;
} data_row;

/* Samples of one source in flat arrays. */
typedef struct data_store {
    int32_t *ids, *labels, *seq;
    int64_t n_ids, cap_ids, n_labels, cap_labels, n_seq, cap_seq;
    data_row *row;
    int64_t n_rows, cap_rows;
} data_store;

/* A place in a file of text where reading can begin: a line of .jsonl, or a piece of a document. */
typedef struct data_mark {
    int64_t byte;      /* of the decompressed text */
    int64_t line;      /* lines before it */
    int64_t documents; /* begun before it */
    bool begins;       /* another one begins here */
} data_mark;

/* A window of a source: window_rows rows, the last one fewer or none. */
typedef struct data_window {
    data_mark from;
    int64_t skip;    /* tokens there that belong to the window before */
    double at;       /* about the byte of its first token */
    bool known;      /* where it begins */
    char sha256[65]; /* of its rows; "": not read yet */
} data_window;

typedef struct data_source {
    const char *path;                           /* resolved */
    const char *format_name, *name, *separator; /* separator: NULL when there is none */
    double weight;
    int64_t limit; /* records, 0: all */
    int index;     /* in the set */
    const cJSON *node;
    const data_format *format; /* NULL: not known yet (auto) */
    bool named;
    data_source_stats stats;
    data_unread *unread; /* of the stats */
    data_store store;    /* windowed: of window `loaded`, −1: none */
    /* a stream (window.c) */
    bool windowed;
    int64_t window_rows;
    data_window *window; /* [full + 1] */
    int64_t cap_windows;
    int64_t
        full; /* windows known to have all their rows; the next one is the frontier, or the last */
    int64_t counted;         /* windows that the stats count */
    int64_t loaded;          /* window in the store; −1: none */
    int64_t wanted;          /* the window asked for last */
    line_reader *file;       /* kept open from window to window */
    size_t reading;          /* bytes that reading took beside the window; 0: not known */
    char read_sha256[65];    /* of the windows counted, one by one */
    double estimated_tokens; /* of the whole source: fixed when the set was opened */
    int64_t estimated_samples;
} data_source;

typedef enum data_on_loss { DATA_LOSS_ERROR, DATA_LOSS_WARN, DATA_LOSS_DROP } data_on_loss;

/* A set of pairs of hashes; the second is never 0 where there is one. */
typedef struct data_seen {
    uint64_t (*slot)[2];
    int64_t n, cap; /* cap: 0 or a power of two */
} data_seen;

struct data_set {
    const tok_tokenizer *tok;
    const char *tokenizer_key, *key;
    const chat *chat;
    cfg_doc *cfg;
    arena *mem; /* sources and their strings */
    int64_t max_length, vocab_size, window_tokens, limit;
    bool ids, concat, completion_only, assistant_only, shuffle, training, weighted, count_first,
        count, look;
    data_source *source;
    int n_sources;
    data_order order; /* the epoch that data_take read last */
    data_seen seen;   /* while the data is read */
    data_on_loss on_loss;
    bool warned_no_end, warned_lost, warned_reasoning;
};

/* One record on its way from text to tokens; filled by a worker, taken over in order. */
typedef struct data_item {
    const data_set *d;
    const data_source *src;
    const data_format *format;
    const char *name; /* of the file, for messages */
    const char *text; /* a line of .jsonl, or NULL */
    size_t len;
    int64_t line, byte, before; /* where reading it began: byte of the file, lines before that */
    const js_doc *doc;          /* of the record (for .json: of the whole file) */
    const cJSON *rec;
    tok_ids ids;
    int32_t *labels;    /* [ids.n], unshifted; NULL: the ids (text) */
    int32_t seq_len[2]; /* of a record of two sequences; 0: it is one */
    double value;       /* as in data_sample */
    char *extra;
    char *unread; /* keys that the format does not read, one after another */
    size_t unread_len;
    uint64_t identity[2]; /* of the record */
    bool chat;            /* rendered by the chat template */
    bool empty, merged;   /* an answer of no text; its first token begins in the text before it */
    char
        *lost; /* what the record holds and the rendering does not, with the place; NULL: nothing */
    char *unprinted;   /* a turn that is said to the model and not printed; NULL: none */
    bool no_reasoning; /* the template leaves out the reasoning of earlier turns */
    bool no_end;       /* the template gave no end-of-turn token; EOS was added */
    ft_status rc;
    char *error;
} data_item;

/* A row of formats.def: how a record is recognised and rendered. */
struct data_format {
    const char *name;
    const char *const *keys; /* a record that has all of these is of this format */
    ft_status (*render)(data_item *it);
    const char *const
        *reads;     /* further keys; of what a chat template renders also those of count.c */
    unsigned gives; /* data_gives; only what gives tokens must have a supervised one */
};
const data_format *data_format_find(const char *name);
/* The format of a record; 65 naming its keys when none fits. */
FT_MUST_USE ft_status data_format_detect(const js_doc *doc, const cJSON *rec,
                                         const data_format **out);
/* `what` of path is text, which is told where there is no tokenizer. */
FT_MUST_USE ft_status data_needs_tokenizer(const data_set *d, const char *path, const char *what);
bool data_format_is_text(const data_format *f);
extern const char *const data_format_names[]; /* with "auto", NULL-terminated */

/* source.c: a source, whole or (text that is too much) its first window */
FT_MUST_USE ft_status data_read_source(data_set *d, data_source *s);

/* text.c: ids of a document, tokenised in pieces; the first piece begins with BOS where the tokenizer adds one */
FT_MUST_USE ft_status data_encode_text(const tok_tokenizer *tok, const char *text, size_t n,
                                       bool begins, tok_ids *out);
enum { DATA_PIECE_MAX = 1 << 20, DATA_LINE_MAX = 4 << 20 };
/* Length of the first piece of a long text, cut where tokens cannot reach across. 0: more of the text must be known
 * (whole false only, then n is at least DATA_PIECE_MAX). */
size_t data_piece(const char *text, size_t n, bool whole);
typedef struct data_stream { /* documents of a text source on their way into rows of its store */
    const data_set *d;
    data_source *source;
    data_source_stats *stats;
    bool windows;            /* reading can begin at any unit */
    const data_window *only; /* the window that is read; NULL: all */
    int64_t until;           /* byte where that is probably complete */
    bool done;               /* it is; or all is too much to be held */
    bool before;             /* the unit at hand was begun in the window before */
    int64_t row_at, seq_at;  /* where the open row begins in ids and seq */
    int64_t seq_from;        /* where the open sequence begins in ids */
    int64_t documents;
    int64_t skip;                  /* tokens to pass over */
    data_mark unit;                /* what is being taken over */
    int64_t unit_bytes, unit_size; /* its length, in tokens 0: not known yet */
    int64_t unit_tokens;           /* of it so far */
    data_window next;              /* what follows `only` */
} data_stream;
void data_stream_open(data_stream *s, const data_set *d, data_source *source,
                      data_source_stats *stats, const data_window *only);
/* The file of the source, from its beginning, or where `only` begins: then it stays open from window to window. */
FT_MUST_USE ft_status data_stream_file(data_stream *s, line_reader **out);
void data_stream_file_close(const data_stream *s, line_reader *file);
/* What follows stands at this place; begins: with another document. */
FT_MUST_USE ft_status data_stream_unit(data_stream *s, int64_t byte, int64_t bytes, int64_t line,
                                       bool begins);
FT_MUST_USE ft_status data_stream_add(data_stream *s, const tok_ids *ids);
FT_MUST_USE ft_status data_stream_close(data_stream *s);

/* read_text.c: from the stream's window on */
FT_MUST_USE ft_status data_read_txt(const data_set *d, data_stream *s);

/* read.c: what the stream asks for, all of a source or a window of it, into the source's store */
FT_MUST_USE ft_status data_read(data_set *d, data_source *s, data_stream *stream);
/* By its name: a file of text? can reading begin anywhere? False: no file of data. */
bool data_kind(const char *path, bool *txt, bool *anywhere);

/* window.c */
/* Text that is read and tokenised at a time, at most, but for longer lines. */
enum { DATA_TXT_BYTES = 4 << 20, DATA_LINES_BYTES = 2 << 20 };
enum { DATA_BEYOND = 1 << 17 }; /* bytes to read on at a time where a window was expected to end */
/* Bytes that reading a window takes, beside the window. */
size_t data_window_reading(const data_set *d, const data_source *s);
/* From here on a stream: its first window is read, or (d->count) all. */
FT_MUST_USE ft_status data_window_open(data_set *d, data_source *s);
/* Window k <= s->full into the store; beyond the end it has no rows. */
FT_MUST_USE ft_status data_window_load(data_set *d, data_source *s, int64_t k);
/* A row of a stream; valid until the next call. */
FT_MUST_USE ft_status data_window_get(data_set *d, data_source *s, int64_t row,
                                      const data_row **out);
void data_window_hash(sha256_state *sha, const data_source *s); /* what the stream is known by */
void data_window_close(data_source *s);
/* count.c: a worker notes, the reader counts */
FT_MUST_USE ft_status data_note_keys(data_item *it);
void data_note_identity(data_item *it);
FT_MUST_USE ft_status data_count_item(data_set *d, data_source *s, const data_item *it);
void data_count_forget(data_source *s); /* nothing was read yet */
void data_count_close(data_set *d);

/* store.c */
FT_MUST_USE ft_status data_store_item(data_source *s, const data_item *it);
FT_MUST_USE ft_status data_store_row(const data_set *d, data_store *to, data_source_stats *st,
                                     data_row row);
void data_store_close(data_store *s);
void data_view(const data_store *st, const data_row *r, data_sample *out); /* pointers into st */
FT_MUST_USE ft_status data_reserve(void *array, int64_t *cap, int64_t need, size_t size);
/* Labels that a token of the same sequence predicts; first: and a virtual one before it. */
int64_t data_supervised(const int32_t *labels, const int32_t *seq_len, int n_seq, bool first);

/* set.c: samples of one source, counted in it */
data_source *data_source_of(const data_set *d, int64_t sample);
int64_t data_row_length(const data_set *d, const data_source *s, int64_t row); /* tokens */
FT_MUST_USE ft_status data_get_row(data_set *d, data_source *s, int64_t row, data_sample *out,
                                   arena *mem);

/* chat_mask.c: messages to ids and labels; turns before `first` and those of weight 0 are not
 * supervised. `node` is named in messages. */
FT_MUST_USE ft_status data_render_chat(data_item *it, const cJSON *node, const chat_input *in,
                                       int first);
/* offsets.c: off[k] = byte of text where token k begins, off[n] = len. exact: false when the tokens do not spell
 * the text (a normalizer changed it). */
FT_MUST_USE ft_status data_offsets(const tok_tokenizer *tok, const char *text, size_t len,
                                   const tok_ids *ids, int64_t *off, bool *exact);
bool data_ends_turn(const tok_tokenizer *tok, int32_t id); /* a special token or one that stops */

#endif
