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

/* A row of text in a store's arrays, all of it learned, which may hold parts of several files. */
typedef struct data_row {
    int64_t ids_at, seq_at;
    int32_t len, n_seq;
} data_row;

/* Samples of one source: the rows of a window in flat arrays, as they come and go; those that stay as bytes (packed.c), and
 * in the arrays only the row of text that is about to become one. */
typedef struct data_store {
    int32_t *ids, *seq;
    int64_t n_ids, cap_ids, n_seq, cap_seq;
    data_row *row;
    int64_t n_rows, cap_rows;
    bool packed;
    uint8_t *bytes, *at; /* at: where each begins */
    int64_t n_bytes, cap_bytes, cap_at;
} data_store;

/* A place in a source where reading can begin: a line of .jsonl, a record of .csv, or a piece of a document. */
typedef struct data_mark {
    int file;          /* of the source's */
    int64_t base;      /* bytes of (decompressed) text in the files before it */
    int64_t byte;      /* of the decompressed text */
    int64_t line;      /* lines before it */
    int64_t records;   /* begun before it, whether they are read or not */
    int64_t documents; /* read and begun before it */
    bool begins;       /* another one begins here */
} data_mark;

/* What the end of a file's name says. */
typedef struct data_kind data_kind;
struct data_reader;
struct data_kind {
    const char *end;
    ft_status (*read)(struct data_reader *r);
    bool anywhere;  /* reading can begin anywhere, so its text can be cut into windows */
    char separator; /* of fields; 0: it has none */
    bool txt, list;
};
const data_kind *data_kind_of(const char *path); /* NULL: no file of data */

typedef struct data_file {
    const char *name; /* its path, for messages */
    const char *path; /* to be opened */
    const data_kind *kind;
    const char *const *header; /* of .csv; NULL: not read yet */
    int n_header;
} data_file;

/* "[from:to]" of a split, in records or percents; negative from the end. */
typedef struct data_range {
    const cJSON *node; /* of the config; NULL: there is none */
    int64_t from, to;
    bool has_from, has_to, percent;
} data_range;

/* Which records of a source are read: [from, to), and of these the ones that are held out for evaluation, or the others. */
typedef struct data_pick {
    int64_t from, to;
    const uint8_t *held; /* a bit a record of [from, to); NULL: none is held out */
    bool rest;           /* those held out */
} data_pick;
static inline bool data_is_picked(const data_pick *p, int64_t record)
{
    int64_t i = record - p->from;
    if (i < 0 || record >= p->to) return false;
    return !p->held || ((p->held[i / 8] >> (i % 8)) & 1) == p->rest;
}

/* A window of a source: window_rows rows, the last one fewer or none. */
typedef struct data_window {
    data_mark from;
    int64_t skip;    /* tokens there that belong to the window before */
    double at;       /* about the byte of its first token */
    bool known;      /* where it begins */
    char sha256[65]; /* of its rows; "": not read yet */
} data_window;

/* A key of ours, and the key or dotted path of a record that it is read from. */
typedef struct data_column {
    const char *ours, *path;
    bool optional; /* of records known by their keys: not in every one of them */
} data_column;
enum { DATA_COLUMNS = 20, DATA_ROLES = 7 };

/* A name that stands in `role` or `from`, and the role it speaks as. */
typedef struct data_speaker {
    const char *name, *role;
    const struct data_speaker *next;
} data_speaker;

typedef struct data_source {
    const char *path;                           /* resolved */
    const char *format_name, *name, *separator; /* separator: NULL when there is none */
    double weight;
    int64_t limit; /* records, 0: all */
    data_range split;
    data_pick pick;
    int64_t n_records; /* of its files; −1: not counted */
    int64_t held;      /* of those picked, held out */
    data_file *file;
    int n_files;
    int index; /* in the set */
    const cJSON *node;
    const char *key;           /* data.train or data.eval, for messages */
    const data_format *format; /* NULL: not known yet (auto) */
    data_column
        column[DATA_COLUMNS]; /* of the config; once the format is known also of that record */
    int n_columns;
    const char *turn_role, *turn_content; /* paths inside a turn; NULL: role, content */
    const data_speaker *speaker;
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
    line_reader *reader;     /* kept open from window to window */
    int reader_file;         /* which of the files it is */
    int64_t read_base;       /* bytes of text in the files before it */
    size_t reading;          /* bytes that reading took beside the window; 0: not known */
    char read_sha256[65];    /* of the windows counted, one by one */
    double estimated_tokens; /* of the whole source: fixed when the set was opened */
    int64_t estimated_samples;
} data_source;

typedef enum data_on_loss { DATA_LOSS_ERROR, DATA_LOSS_WARN, DATA_LOSS_DROP } data_on_loss;

/* A set of hashes, in tables by their first bits, of which one grows at a time. */
enum { DATA_SEEN = 16 };
typedef struct data_seen {
    struct {
        uint64_t *slot; /* 0: none */
        uint32_t n, cap;
    } table[DATA_SEEN];
} data_seen;

struct data_set {
    data_record each; /* of data_records: what is done with a record; NULL: it becomes a sample */
    void *each_ctx;
    const char *const *each_json;
    const tok_tokenizer *tok;
    const char *tokenizer_key, *key;
    const chat *chat;
    cfg_doc *cfg;
    arena *mem;         /* sources and their strings */
    file_watch **watch; /* [n_watch] of all files */
    int64_t n_watch, cap_watch;
    int64_t max_length, vocab_size, window_tokens, limit;
    unsigned wants;
    bool ids, uncut, plain, concat, completion_only, assistant_only, shuffle, training, weighted,
        count_first, count, look;
    data_source *source;
    int n_sources;
    const data_source *all; /* [n_all] as they were found, before any was read or left out */
    int n_all;
    data_order order; /* the epoch that data_take read last */
    data_seen seen;   /* while the data is read */
    data_on_loss on_loss;
    double hold_out;                /* data.eval_split */
    int64_t max_unpacked, unpacked; /* bytes of packed files that may be held, and are */
    bool unpacked_given;            /* the first by its key */
    uint64_t seed;
    arena *held_mem;
    int input; /* 1 + descriptor of what standard input held; 0: it is no source of this set */
    bool warned_no_end, warned_lost, warned_reasoning;
};

/* One record on its way from text to tokens; filled by a worker, taken over in order. */
typedef struct data_item {
    const data_set *d;
    const data_source *src;
    const data_format *format;
    const char *name; /* of the file, for messages */
    const data_file *file;
    const char *text; /* a line of .jsonl, a record of .csv or of a list */
    size_t len;
    int64_t line, col; /* where it begins; characters of its line before it */
    data_mark mark;    /* where reading it began */
    const js_doc *doc; /* of the record */
    const cJSON *rec;  /* the record, or its view (fields.c) */
    const cJSON *raw;  /* the record as it stands in the file */
    cJSON *view;
    const cJSON **origin; /* of the view's members */
    tok_ids ids;
    tok_ids
        border; /* of what is learned: from, to, from, to … (learned.c); text is learned all over */
    int32_t *labels; /* [ids.n], unshifted, where they are other tokens; NULL: none is */
    tok_ids seq;     /* the lengths of the sequences that it holds; empty: it is one */
    bool all;        /* each of them must keep a token to learn */
    bool same;       /* the answers of a pair are equal */
    bool apart;      /* they are samples of their own, the first desirable, the others not */
    double value;    /* as in data_sample */
    char *extra;
    char *unread; /* keys that the format does not read, one after another */
    size_t unread_len;
    uint64_t identity;  /* of the record; never 0 */
    bool chat;          /* rendered by the chat template */
    bool empty, merged; /* an answer of no text; its first token begins in the text before it */
    char
        *lost; /* what the record holds and the rendering does not, with the place; NULL: nothing */
    char *unprinted;   /* a turn that is said to the model and not printed; NULL: none */
    bool no_reasoning; /* the template leaves out the reasoning of earlier turns */
    bool no_end;       /* the template gave no end-of-turn token; EOS was added */
    ft_status rc;
    char *error;
} data_item;

/* A row of formats.def: how a record is recognised and rendered, and what `ft help` shows of it. */
struct data_format {
    const char *name;
    const char *const *keys; /* a record that has all of these is of this format */
    /* the same where that is not said by keys alone; NULL: it is. asked: the objective wants what it gives */
    bool (*fits)(const cJSON *rec, bool asked);
    ft_status (*render)(data_item *it);
    const char *const
        *reads;     /* further keys; of what a chat template renders also those of count.c */
    unsigned gives; /* data_gives; only what gives tokens must have a supervised one */
    const char *const *json;    /* keys that hold more than text: read as JSON in a .csv, */
    const char *const *turns;   /* and these, text or turns, where they hold turns */
    const char *help, *example; /* what is trained on; a record as one line */
};
const data_format *data_format_find(const char *name);
/* Sets the format of a source, and the columns that go with it, by its first record; 65 naming its keys when none fits. */
FT_MUST_USE ft_status data_format_detect(const data_set *d, data_source *s, const js_doc *doc,
                                         const cJSON *rec);
/* `what` of path is text, which is told where there is no tokenizer. */
FT_MUST_USE ft_status data_needs_tokenizer(const data_set *d, const char *path, const char *what);
bool data_format_is_text(const data_format *f);
/* format.c: pieces that several formats share. */
/* it->ids of a text that is to be gone on with, with BOS where the tokenizer adds one; and of what both answers of a pair in
 * whatever form answer. */
FT_MUST_USE ft_status data_prompt_ids(data_item *it, const char *text);
FT_MUST_USE ft_status data_pair_prompt(data_item *it);
bool data_has_pair(const cJSON *rec);
/* "tools" as a list of schemas: a list, or one written as text; bare functions are wrapped as templates expect them. An
 * empty list is a list: it chooses the template for tools. *out stays NULL when nothing is given. */
FT_MUST_USE ft_status data_read_tools(const data_item *it, cJSON **out);
/* What stands beside the turns, of which `first` (may be NULL) is the first: "system" in front of them, then "history". */
FT_MUST_USE ft_status data_turns_before(const data_item *it, cJSON *list, const cJSON *first);
/* "instruction" and "input": Stanford's prompt, or the user's turn after what stands before it. */
FT_MUST_USE ft_status data_alpaca_text(const data_item *it, str_buf *out);
FT_MUST_USE ft_status data_alpaca_turns(const data_item *it, cJSON *list);

/* fields.c: a member of an object by its very key, else by a dotted path; NULL: it is not there */
const cJSON *data_path(const cJSON *object, const char *path);
/* it->rec becomes what the columns of the source make of the record. */
FT_MUST_USE ft_status data_view_open(data_item *it);
void data_view_close(data_item *it);
/* 65 at the place of a node of the record or its view; key: ours. */
ft_status data_fail(const data_item *it, const cJSON *node, const char *key, const char *fmt, ...)
    FT_PRINTF(4, 5);
/* Of a record's numbers for an objective: sums and squares of these are finite in f32 too. */
#define DATA_MOST_NUMBER 1e9
/* Nothing, null, or such a number. */
FT_MUST_USE ft_status data_want_number(const data_item *it, const cJSON *v, const char *key);
const char *data_key_text(const data_source *s, const char *key); /* as the record has it */
/* A member of the record that another one stands for; that a path goes into. */
bool data_is_replaced(const data_item *it, const char *key);
bool data_is_reached(const data_item *it, const char *key);
/* Is the record known by its keys, as one of alpaca's form? Then the source has columns for it. */
bool data_known(data_source *s, const cJSON *rec);
void data_known_text(str_buf *out);
extern const cfg_field data_role_fields[]; /* of cJSON lists, in the order of `given` */
FT_MUST_USE ft_status data_speakers(data_set *d, data_source *s,
                                    const cJSON *const given[DATA_ROLES], const char *key);
/* The role of a speaker, whose name is a string. */
FT_MUST_USE ft_status data_role(const data_item *it, const cJSON *name, const char *key,
                                const char **role);

/* The ids of messages by the chat template, with the record's chat_template_kwargs; prompt: and with what begins an answer.
 * 65 names the record. */
FT_MUST_USE ft_status data_chat_ids(const data_item *it, const cJSON *messages, const cJSON *tools,
                                    bool prompt, tok_ids *out);
/* record_turns.c: appends the messages that the turns of a record are; share: in ShareGPT's form where they show none */
FT_MUST_USE ft_status data_turn_list(const data_item *it, const cJSON *from, bool share,
                                     cJSON *list);
/* A message; its text stays the record's, or (own) is copied. */
bool data_turn_add(cJSON *list, const char *role, const char *text);
bool data_turn_own(cJSON *list, const char *role, const char *text);
cJSON *data_turn_refer(
    const cJSON *message); /* a copy, of members that stay the message's; NULL: out of memory */
bool data_turn_is_system(const data_item *it, const cJSON *turn); /* NULL: it is not */

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
    int file;                      /* that is read */
    int64_t base;                  /* bytes of text in the files before it */
    int64_t unpacked;              /* of the set: bytes of packed files that were read to be held */
    int64_t end;                   /* of the file: its bytes, once it is read */
} data_stream;
void data_stream_open(data_stream *s, const data_set *d, data_source *source,
                      data_source_stats *stats, const data_window *only);
/* The file of the source, from its beginning, or where `only` begins: then it stays open from window to window. */
FT_MUST_USE ft_status data_stream_file(data_stream *s, line_reader **out);
void data_stream_file_close(data_stream *s, line_reader *file);
/* What follows stands at this place and is so long; documents need not be set. */
FT_MUST_USE ft_status data_stream_unit(data_stream *s, const data_mark *at, int64_t bytes);
FT_MUST_USE ft_status data_stream_add(data_stream *s, const tok_ids *ids);
FT_MUST_USE ft_status data_stream_close(data_stream *s);

/* read_text.c: from the stream's window on. count: only the records are counted, into *records */
FT_MUST_USE ft_status data_read_txt(data_stream *s, int64_t *records, bool count);

/* read.c: what the stream asks for, all of a source or a window of it, into the source's store */
typedef enum data_read_what { DATA_READ, DATA_COUNT, DATA_LOOK } data_read_what;
FT_MUST_USE ft_status data_read(data_set *d, data_source *s, data_stream *stream);
/* The records of a source, into n_records; its format by the first record, if it is not known. */
FT_MUST_USE ft_status data_count_records(data_set *d, data_source *s);
FT_MUST_USE ft_status data_look_at_format(data_set *d, data_source *s);

/* files.c: finds the files of a source; 66 where there are none */
FT_MUST_USE ft_status data_files(data_set *d, data_source *s);
bool data_is_input(const char *path); /* standard input */

/* csv.c: records of a .csv or .tsv, as they stand between their line ends */
typedef struct data_csv data_csv;
FT_MUST_USE ft_status data_csv_open(data_csv **out, line_reader *file, const char *name,
                                    char separator, int64_t byte, int64_t line);
void data_csv_close(data_csv *c);
/* The next record, where it begins, and its line from 1; FT_END. Valid until the next call. */
FT_MUST_USE ft_status data_csv_next(data_csv *c, const char **text, size_t *len, int64_t *byte,
                                    int64_t *line);
int64_t data_csv_offset(const data_csv *c); /* where the next one begins */
FT_MUST_USE ft_status data_csv_header(data_file *f, const char *text, size_t len, int64_t line,
                                      arena *mem);
/* An object of strings under the names of the header; its line is that of the record, all over. */
FT_MUST_USE ft_status data_csv_record(const data_file *f, const char *text, size_t len,
                                      int64_t line, js_doc *out);
/* Fields that columns reach into become what their JSON says; then those that the format of the item wants as JSON. */
FT_MUST_USE ft_status data_csv_reach(const data_source *s, const js_doc *doc);
FT_MUST_USE ft_status data_csv_values(const data_item *it);

/* list.c: the records of a .json file, as they stand between the commas of its list */
typedef struct data_list data_list;
typedef struct data_list_record {
    const char *text; /* valid until the next call */
    size_t len;
    int64_t byte, line,
        col; /* where it begins: in the file's text; line from 1; characters before it */
} data_list_record;
FT_MUST_USE ft_status data_list_open(data_list **out, line_reader *file, const char *name);
void data_list_close(data_list *l);                                        /* accepts NULL */
FT_MUST_USE ft_status data_list_next(data_list *l, data_list_record *out); /* FT_END */
int64_t data_list_offset(const data_list *l); /* bytes of text that were handed out */

/* pick.c: reads a split as the config has it; mistakes are recorded */
void data_range_parse(data_set *d, const cJSON *node, const char *key, data_range *out);
/* Which records are read of a source; it is counted where they cannot be told without. */
FT_MUST_USE ft_status data_pick_records(data_set *d, data_source *s);
/* Draws what data.eval_split holds out of the sources of a training set, once their records are picked. */
FT_MUST_USE ft_status data_hold_out(data_set *d);

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
void data_seen_close(data_seen *s);

/* learned.c: tokens [from, to) are learned. */
FT_MUST_USE ft_status data_learn(data_item *it, int64_t from, int64_t to);
/* it->labels as borders, where they can be told so. */
FT_MUST_USE ft_status data_learn_labels(data_item *it);
/* The next part of [at, end) that is learned; false: there is none. */
bool data_learned_next(const data_item *it, int64_t at, int64_t end, int64_t *from, int64_t *to);
int64_t data_learned(const data_item *it, int64_t at, int64_t end); /* tokens of [at, end) */

/* store.c */
FT_MUST_USE ft_status data_store_item(data_source *s, const data_item *it);
FT_MUST_USE ft_status data_store_row(const data_set *d, data_store *to, data_source_stats *st,
                                     data_row row);
void data_store_close(data_store *s);
void data_view(const data_store *st, const data_row *r, data_sample *out); /* pointers into st */
/* packed.c: room for so many. */
FT_MUST_USE ft_status data_reserve(void *array, int64_t *cap, int64_t need, size_t size);
/* A further row. x: as it is met, its sequences one after another from ids on, not cut yet; len, whole: as if each were cut
 * at `most` tokens. it: what is learned of them, from its token `from` on; NULL: all. file: of the source's, -1. */
FT_MUST_USE ft_status data_pack(data_store *to, const data_sample *x, int32_t file, int64_t most,
                                const data_item *it, int64_t from);
FT_MUST_USE ft_status data_unpack(const data_store *st, int64_t row, data_sample *out,
                                  int32_t *file, arena *mem);
/* Without ids: its length, and that of its longest sequence, which may be NULL. */
int64_t data_packed_length(const data_store *st, int64_t row, int64_t *sequence);
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
/* offsets.c: calls `meet` for the tokens in order, with the bytes of text where each stands. exact: false when the tokens do
 * not spell the text (a normalizer changed it); what was met before that is void. */
typedef void (*data_place)(void *ctx, int64_t token, int64_t from, int64_t to);
FT_MUST_USE ft_status data_offsets(const tok_tokenizer *tok, const char *text, size_t len,
                                   const tok_ids *ids, data_place meet, void *ctx, bool *exact);
bool data_ends_turn(const tok_tokenizer *tok, int32_t id); /* a special token or one that stops */

#endif
