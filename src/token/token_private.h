/* token_private.h – what the files of src/token/ share.
 *
 * A tokenizer is a chain: added tokens → normalizers → pre-tokenizers → model → post-processor, and decoders for
 * the way back.  Each step is a row of a table (tk_kind) with its parser and its function; a step read from
 * tokenizer.json or made from a GGUF's names is a tk_op.  A tokenizer never changes after tok_open, and scratch
 * belongs to one call at a time: that is what makes tok_encode thread-safe. */
#ifndef FT_TOKEN_PRIVATE_H
#define FT_TOKEN_PRIVATE_H

#include "ft/token.h"

#include <string.h>

/* Largest id of a vocabulary: files are hostile, and tables are as long as the largest id. */
#define TK_MAX_ID ((1 << 22) - 1)
#define TK_MAX_STOPS 64 /* ids that end a generation */
#define TK_GGUF_STOPS                                                                              \
    "tokenizer.ggml.eog_token_ids" /* all of them; others than llama.cpp read it */
#define TK_GGUF_NAMES "tokenizer.ggml.special_token_names" /* "bos_token=<s>" …; only ft reads it */
/* Longest token text; a bound on the work per position of a match. */
#define TK_MAX_TOKEN 65535

typedef struct tk_span {
    const char *s;
    size_t n;
} tk_span;
static inline bool tk_same(tk_span a, tk_span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.s, b.s, a.n) == 0);
}

/* --- unicode.c ---------------------------------------------------------------------------------------
 * Classes of the reference library; the order of the bits is that of scripts/make_unicode_tables.py. */
enum {
    TK_LU = 1u << 0,
    TK_LL = 1u << 1,
    TK_LT = 1u << 2,
    TK_LM = 1u << 3,
    TK_LO = 1u << 4,
    TK_M = 1u << 5,
    TK_MN = 1u << 6,
    TK_ND = 1u << 7,
    TK_NL = 1u << 8,
    TK_NO = 1u << 9,
    TK_P = 1u << 10,
    TK_S = 1u << 11,
    TK_Z = 1u << 12,
    TK_C = 1u << 13,
    TK_SPACE = 1u << 14,   /* \s, White_Space */
    TK_WORD = 1u << 15,    /* [\w] of Oniguruma; outside of brackets it has six more */
    TK_HAN = 1u << 16,     /* \p{Han} */
    TK_RWORD = 1u << 17,   /* \w of Rust's regex crate */
    TK_NUMERIC = 1u << 18, /* pre-tokenizer Digits */
    TK_PUNCT = 1u << 19,   /* pre-tokenizers Punctuation, BertPreTokenizer */
    TK_BERT_OTHER = 1u << 20,
    TK_MARK = 1u << 21,    /* normalizer StripAccents */
    TK_BERT_MN = 1u << 22, /* strip_accents of BertNormalizer */
    TK_NEW = 1u << 23      /* utf8proc normalises it, the library does not know it */
};
#define TK_L (TK_LU | TK_LL | TK_LT | TK_LM | TK_LO)
#define TK_N (TK_ND | TK_NL | TK_NO)
typedef struct tk_case_run {
    int32_t first, last, step, delta;
} tk_case_run;
extern const uint32_t tk_kind_flags[], tk_ascii_flags[128];
extern const uint32_t tk_runs[];
extern const int tk_n_runs;
extern const uint16_t tk_pages[];
extern const int tk_n_pages;
extern const tk_case_run tk_lower_runs[];
extern const int tk_n_lower_runs;
extern const uint32_t tk_script_runs[];
extern const int tk_n_script_runs;
uint32_t tk_flags(int32_t cp); /* 0 for −1, an invalid byte */
int32_t tk_lower(int32_t cp);  /* one to one; U+0130 is the caller's */
int tk_script(int32_t cp);     /* of UnicodeScripts; 0 goes with all */
/* Start of the character that ends at `pos` (> 0); an invalid byte is a character of its own. */
size_t tk_prev(const char *s, size_t pos);
typedef enum tk_form { TK_NFC, TK_NFD, TK_NFKC, TK_NFKD } tk_form;
/* Appends the normal form; invalid bytes pass through. */
FT_MUST_USE ft_status tk_normal_form(tk_form form, const char *s, size_t n, str_buf *out);
int tk_char_byte(int32_t cp); /* the byte a character of GPT-2's alphabet stands for, −1 */
void tk_bytes_to_alphabet(str_buf *out, const char *s, size_t n);
/* Appends text with every maximal invalid sequence replaced by U+FFFD. */
void tk_add_lossy(str_buf *out, const char *s, size_t n);

/* --- regex.c, regex_run.c, regex_pcre.c ---------------------------------------------------------------- */
typedef struct tk_regex tk_regex;
/* A pattern of a tokenizer file, with the meaning it has in Oniguruma's Ruby syntax. */
FT_MUST_USE ft_status tk_regex_open(tk_regex **out, tk_span pattern);
FT_MUST_USE ft_status tk_regex_literal(tk_regex **out, tk_span text);
void tk_regex_close(tk_regex *re);
/* What the searches in one text may cost together: it comes in pieces, many of them where tokens or earlier patterns cut it. */
typedef struct tk_steps {
    size_t bytes; /* of the text */
    uint64_t taken, limit;
} tk_steps;
tk_steps tk_steps_of(size_t bytes);
/* All matches from left to right, as the library's find_iter: an empty match right after the last one is
 * skipped. Start with tk_find_open, end with tk_find_close. */
typedef struct tk_find {
    const tk_regex *re;
    tk_steps *steps;
    const char *s;
    size_t n, pos, last_end;
    bool any;
    struct rx_frame *stack;
    size_t depth, cap;
    void *pcre_match;
} tk_find;
FT_MUST_USE ft_status tk_find_open(tk_find *f, const tk_regex *re, const char *s, size_t n,
                                   tk_steps *steps);
FT_MUST_USE ft_status tk_find_next(tk_find *f, size_t *start, size_t *end); /* FT_END */
void tk_find_close(tk_find *f);

/* --- trie.c: byte strings → int32, prefixes ------------------------------------------------------------ */
typedef struct tk_trie {
    uint64_t *key; /* (node << 8 | byte) + 1; 0 is free */
    int32_t *child;
    size_t cap, count;
    int32_t *value; /* [nodes] −1: not an entry */
    size_t nodes, nodes_cap;
    int32_t root[256]; /* node after the first byte, −1 */
    int32_t *fail;     /* [nodes], of tk_trie_link: node of the longest proper end that is one */
    int32_t *out; /* [nodes] the first entry among the node and those its links lead to, −1 */
} tk_trie;
FT_MUST_USE ft_status tk_trie_open(tk_trie *t);
FT_MUST_USE ft_status tk_trie_put(tk_trie *t, const char *s, size_t n, int32_t value);
FT_MUST_USE ft_status tk_trie_put_reversed(tk_trie *t, const char *s, size_t n, int32_t value);
int32_t tk_trie_step(const tk_trie *t, int32_t node, unsigned char byte); /* node 0: root; −1 */
/* After the last entry: then out[node] and so on through out[fail[…]] are the entries that end where a text that was
 * followed from the root does, the longest first. */
FT_MUST_USE ft_status tk_trie_link(tk_trie *t);
int32_t tk_trie_follow(const tk_trie *t, int32_t node, unsigned char byte);
void tk_trie_close(tk_trie *t);

/* --- steps ---------------------------------------------------------------------------------------------- */
typedef enum tk_behavior {
    TK_REMOVED,
    TK_ISOLATED,
    TK_MERGED_WITH_PREVIOUS,
    TK_MERGED_WITH_NEXT,
    TK_CONTIGUOUS
} tk_behavior;
typedef struct tk_charsmap {
    const uint32_t *unit;
    size_t n_units;
    const char *text;
    size_t n_text;
} tk_charsmap;

typedef struct tk_piece {
    size_t from, to; /* in the text it belongs to */
    int32_t id;      /* ≥ 0: an added token, left alone by all later steps */
    uint32_t head;   /* leading bytes that stem from the first character of the whole text */
} tk_piece;
enum { TK_BATCH = 1 << 11 };
/* Text in pieces. What is made of a long text is handed on while it is made, a batch of pieces at a time, so that it takes no
 * more memory than a short one: pieces that were handed on are gone, and a step that writes text of its own begins it anew. */
typedef struct tk_text tk_text;
struct tk_text {
    str_buf own;
    const char *s; /* own.data, or the text that another one holds */
    size_t n;
    tk_piece *piece;
    size_t n_pieces, cap;
    ft_status rc;    /* what failed on the way; the rest is passed over then */
    tk_steps *steps; /* of the patterns that cut it */
    ft_status (*next)(void *ctx, tk_text *t); /* takes the pieces; NULL: they stay */
    void *ctx;
};
void tk_add_piece(tk_text *t, size_t from, size_t to, int32_t id, uint32_t head);
/* The pieces that are there go on; t->rc. */
FT_MUST_USE ft_status tk_hand_on(tk_text *t);
/* Makes own the text of the pieces, after it was written to. */
void tk_own_text(tk_text *t);
void tk_text_free(tk_text *t);

typedef struct tk_list { /* tokens on their way through the decoders */
    str_buf text;
    size_t *end;
    size_t n, cap;
    bool failed;
    bool raw; /* invalid UTF-8 is kept, not replaced by U+FFFD */
    tk_steps *steps;
} tk_list;
void tk_list_add(tk_list *l, const char *s,
                 size_t n);   /* appends to the text and closes the entry */
void tk_list_cut(tk_list *l); /* closes an entry over what was appended to text */
void tk_list_clear(tk_list *l);
void tk_list_free(tk_list *l);
static inline tk_span tk_list_get(const tk_list *l, size_t i)
{
    size_t from = i ? l->end[i - 1] : 0;
    return (tk_span){l->text.data + from, l->end[i] - from};
}

typedef struct tk_op tk_op;
typedef struct tk_src { /* where a step is read from */
    const js_doc *doc;
    arena *mem;
} tk_src;
typedef struct tk_kind {
    const char *name;
    ft_status (*parse)(tk_op *op, const tk_src *src, const cJSON *o); /* NULL: no fields */
    ft_status (*normalize)(const tk_op *op, tk_span in,
                           str_buf *out); /* NULL: tk_replace by a pattern */
    ft_status (*split)(const tk_op *op, tk_text *in, tk_text *out);
    ft_status (*decode)(const tk_op *op, const tk_list *in, tk_list *out);
    void (*bytes)(tk_span token,
                  str_buf *out); /* a decoder that goes token by token: its raw bytes */
} tk_kind;
struct tk_op {
    const tk_kind *kind;
    bool on[4]; /* flags of the kind, in the order of its fields */
    int64_t num[2];
    tk_span a, b;
    tk_span pattern; /* source text of re; pattern_is_regex tells which */
    bool pattern_is_regex;
    tk_regex *re;
    tk_charsmap map;
};
typedef struct tk_ops {
    tk_op *op;
    int n;
} tk_ops;
/* Reads a component (null: none) and flattens its Sequences. */
typedef enum tk_part { TK_NORMALIZE, TK_SPLIT, TK_DECODE } tk_part;
FT_MUST_USE ft_status tk_ops_parse(tk_ops *out, const tk_src *src, const cJSON *o, tk_part part);
/* The same from text of this tree; NULL: none. */
FT_MUST_USE ft_status tk_ops_text(tk_ops *out, arena *mem, const char *json, tk_part part);
void tk_ops_close(tk_ops *ops);
bool tk_ops_equal(const tk_ops *a, const tk_ops *b);
extern const tk_kind tk_normalizers[], tk_pretokenizers[], tk_decoders[];
/* Fields that several kinds have. */
FT_MUST_USE ft_status tk_parse_pattern(tk_op *op, const tk_src *src, const cJSON *o);
FT_MUST_USE ft_status tk_parse_text(const tk_src *src, const cJSON *o, const char *key,
                                    const char *def, tk_span *out);
FT_MUST_USE ft_status tk_parse_bool(const tk_src *src, const cJSON *o, const char *key, int def,
                                    bool *out); /* def −1: required */
FT_MUST_USE ft_status tk_parse_metaspace(tk_op *op, const tk_src *src, const cJSON *o);
FT_MUST_USE ft_status tk_parse_bytelevel(tk_op *op, const tk_src *src, const cJSON *o);
FT_MUST_USE ft_status tk_metaspace_split(const tk_op *op, tk_text *in, tk_text *out);
/* head NULL: nobody asks */
FT_MUST_USE ft_status tk_normalize(const tk_ops *ops, tk_span in, str_buf *out, uint32_t *head,
                                   tk_steps *steps);
FT_MUST_USE ft_status tk_replace(const tk_op *op, tk_span in, str_buf *out, uint32_t *head,
                                 tk_steps *steps);

/* --- models --------------------------------------------------------------------------------------------- */
typedef struct tk_vocab {
    tk_span *by_id; /* [size] NULL text: a hole; NUL-terminated */
    int64_t size;   /* largest id + 1 */
    int64_t entries;
    map_table index;
} tk_vocab;
typedef struct tk_merge { /* slot of the pair table */
    uint64_t key;         /* left << 32 | right, + 1; 0 is free */
    int32_t rank, made;
} tk_merge;
typedef struct tk_pair { /* a merge as listed in the file */
    int32_t left, right;
} tk_pair;
typedef struct tk_scratch { /* of one encode call */
    int32_t *sym;           /* ids at places of a word, see the models */
    size_t sym_cap;
    uint64_t *heap; /* rank << 32 | place */
    size_t heap_n, heap_cap;
    struct tk_best *best;
    size_t best_cap;
    str_buf text;
} tk_scratch;
typedef struct tk_model tk_model;
typedef struct tk_model_kind {
    const char *name;
    ft_status (*parse)(tk_model *m, const tk_src *src, const cJSON *o);
    ft_status (*encode)(const tk_model *m, tk_span word, tk_scratch *x, tok_ids *out);
} tk_model_kind;
struct tk_model {
    const tk_model_kind *kind;
    tk_vocab vocab;
    bool byte_fallback, fuse_unk, ignore_merges;
    int32_t unk;      /* id, −1: none */
    tk_span unk_text; /* as the file has it, s NULL: none */
    tk_span prefix, suffix;
    int32_t byte_id[256]; /* of <0xHH>, −1 */
    int32_t *char_id;     /* [TK_DIRECT] ids of the first characters, −1 */
    tk_merge *merge;      /* pair table */
    size_t merge_cap;
    uint64_t *seam; /* bits of hashed pairs of characters that some merge joins; NULL: not known */
    tk_pair *pairs; /* [n_pairs] in file order */
    int64_t n_pairs;
    double *score; /* Unigram [vocab.size] */
    double min_score;
    tk_trie trie;      /* Unigram; WordPiece: tokens that begin a word */
    tk_trie more;      /* WordPiece: those that go on, turned round, without their prefix */
    int64_t max_chars; /* WordPiece */
};
#define TK_DIRECT 0x800
extern const tk_model_kind tk_model_kinds[];
FT_MUST_USE ft_status tk_vocab_open(tk_vocab *v, arena *mem, int64_t size);
/* text must be NUL-terminated and outlive the vocabulary. */
FT_MUST_USE ft_status tk_vocab_put(tk_vocab *v, tk_span text, int64_t id);
int32_t tk_vocab_id(const tk_vocab *v, const char *s, size_t n); /* −1 */
/* Fills what encoding needs from vocab, pairs and flags. */
FT_MUST_USE ft_status tk_bpe_ready(tk_model *m, arena *mem, const char *name);
FT_MUST_USE ft_status tk_bpe_encode(const tk_model *m, tk_span word, tk_scratch *x, tok_ids *out);
FT_MUST_USE ft_status tk_bpe_parse(tk_model *m, const tk_src *src, const cJSON *o);
FT_MUST_USE ft_status tk_unigram_parse(tk_model *m, const tk_src *src, const cJSON *o);
FT_MUST_USE ft_status tk_unigram_encode(const tk_model *m, tk_span word, tk_scratch *x,
                                        tok_ids *out);
FT_MUST_USE ft_status tk_wordpiece_parse(tk_model *m, const tk_src *src, const cJSON *o);
FT_MUST_USE ft_status tk_wordpiece_encode(const tk_model *m, tk_span word, tk_scratch *x,
                                          tok_ids *out);
FT_MUST_USE ft_status tk_wordlevel_parse(tk_model *m, const tk_src *src, const cJSON *o);
FT_MUST_USE ft_status tk_wordlevel_encode(const tk_model *m, tk_span word, tk_scratch *x,
                                          tok_ids *out);
FT_MUST_USE ft_status tk_parse_vocab(tk_vocab *v, const tk_src *src, const cJSON *o);
void tk_byte_ids(tk_model *m);
void tk_model_close(tk_model *m);
void tk_scratch_free(tk_scratch *x);

/* --- added tokens ----------------------------------------------------------------------------------------- */
typedef struct tk_added {
    tk_span text, normal; /* normal: as the normalizers leave it (normalized tokens only) */
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} tk_added;
typedef struct tk_added_list { /* while a folder is read; ft_alloc'ed */
    tk_added *tok;
    int64_t n, cap;
} tk_added_list;
FT_MUST_USE ft_status tk_added_push(tk_added_list *l, const tk_added *t);
/* content and flags of an object, as AddedToken of the library has them; not the id. */
FT_MUST_USE ft_status tk_parse_added(tk_added *out, const tk_src *src, const cJSON *o);
typedef struct tk_added_set {
    tk_added *tok;
    int64_t n;
    map_table index;     /* text → position */
    tk_trie raw, normal; /* of texts turned round; value: position */
    bool any_raw, any_normal;
    bool plain_special; /* split_special_tokens: the text of a special token is text */
} tk_added_set;
/* Takes over `list` (arena memory, file order) by the library's rules for ids. */
FT_MUST_USE ft_status tk_added_open(tk_added_set *a, tk_added *list, int64_t n, tk_model *m,
                                    const tk_ops *normalizers, arena *mem, const char *name);
void tk_added_close(tk_added_set *a);
/* Splits the piece [from, to) of t->s, appending pieces to `out` (same text). */
void tk_added_split(const tk_added_set *a, bool normalized, const char *s, const tk_piece *p,
                    tk_text *out);

/* --- post-processor --------------------------------------------------------------------------------------- */
typedef struct tk_post {
    int32_t *before, *after;
    int n_before, n_after;
} tk_post;
FT_MUST_USE ft_status tk_post_parse(tk_post *p, const tk_src *src, const cJSON *o);

/* --- templates.c ------------------------------------------------------------------------------------------ */
typedef struct tk_named_list {
    tok_named *v;
    int n, cap;
} tk_named_list;
/* Adds copies; a name that is there gets the new text. */
FT_MUST_USE ft_status tk_add_named(tk_named_list *l, arena *mem, const char *name,
                                   const char *text);
const char *tk_named_text(const tk_named_list *l, const char *name); /* NULL */
/* config: tokenizer_config.json, root NULL where there is none. */
FT_MUST_USE ft_status tk_read_templates(tok_tokenizer *t, const char *dir, const js_doc *config);

/* --- the tokenizer ------------------------------------------------------------------------------------------ */
struct tok_tokenizer {
    arena *mem;
    ft_spare spare; /* of tokenizer.c: what encode calls leave for the next */
    tk_ops normalizers, pretokenizers, decoders;
    tk_model model;
    tk_added_set added;
    tk_span *
        text; /* [size] NUL-terminated vocabulary text by id, added tokens included; s NULL: hole */
    int64_t size;
    tk_post post;
    int32_t bos, eos, pad, unk;
    int32_t stops[TK_MAX_STOPS];
    int n_stops;
    tk_named_list templates, names;
    tk_named_list own_templates; /* while `replaced`, with the number of the stops then */
    int own_stops;
    bool replaced;
    const char *template_file; /* what replaces them was read from, for messages; NULL: none */
    /* Kept for writing: the files as they were read, or else what a tokenizer.json is made of. */
    char *own_json, *own_config;
    size_t own_json_len, own_config_len;
    bool
        beside; /* other files than these two say of tokens or of the post-processor what own_json does not */
    const char *json_normalizer, *json_pretokenizer, *json_decoder; /* GGUF */
    const char *pre_name;                                           /* GGUF, kind gpt2 */
    float *scores;                                                  /* GGUF, kind llama */
    int64_t *types;                                                 /* GGUF */
    int64_t n_types;
    bool add_space_prefix; /* GGUF, kind llama */
    bool wants_head;       /* a Metaspace with scheme "first" asks where the text begins */
};
FT_MUST_USE ft_status tk_load_folder(tok_tokenizer *t, const char *dir);
FT_MUST_USE ft_status tk_load_gguf(tok_tokenizer *t, const char *path);
/* load.c: the text of a tokenizer.json → steps, vocabulary, post-processor; its added tokens go to the list. */
FT_MUST_USE ft_status tk_parse_json(tok_tokenizer *t, const char *text, size_t len,
                                    const char *name, tk_added_list *added);
FT_MUST_USE ft_status tk_finish_added(tok_tokenizer *t, const tk_added_list *added,
                                      const char *name);
/* Texts by id once model and added tokens stand; checks the ids of the post-processor. */
FT_MUST_USE ft_status tk_finish(tok_tokenizer *t, const char *name);
void tk_add_stop(tok_tokenizer *t, int64_t id);
/* Adds the end-of-turn tokens that the chat template writes. */
void tk_template_stops(tok_tokenizer *t);
void tk_text_stops(tok_tokenizer *t);
FT_MUST_USE ft_status tk_set_bos_eos(tok_tokenizer *t, bool bos, bool eos);

/* Types of SentencePiece pieces and of tokenizer.ggml.token_type. */
enum {
    TK_TYPE_NORMAL = 1,
    TK_TYPE_UNKNOWN,
    TK_TYPE_CONTROL,
    TK_TYPE_USER,
    TK_TYPE_UNUSED,
    TK_TYPE_BYTE
};
/* Ranked merges from vocabulary, types and scores, as transformers converts SentencePiece models. */
FT_MUST_USE ft_status tk_merges_from_scores(tok_tokenizer *t);
/* The JSON of normalizer, pre-tokenizer and decoder, by add_space_prefix: in the legacy form the prefix doubles a
 * leading space, otherwise it does not and stands only where the text begins. */
void tk_llama_components(tok_tokenizer *t, bool legacy);
FT_MUST_USE ft_status tk_parse_components(tok_tokenizer *t); /* json_… → the steps */
/* The text of a tokenizer.json made of older files of a folder: tokenizer.model, or vocab.json and merges.txt. */
typedef struct tk_old_files {
    int prefix; /* add_prefix_space; −1: not said */
    bool legacy;
    const char *class_name; /* for messages; NULL: not said */
    const char *preset;     /* steps of vocab.json and merges.txt; NULL: not known for the class */
    bool pieces;            /* tokenizer.model is read for the class */
} tk_old_files;
FT_MUST_USE ft_status tk_legacy_json(const char *dir, arena *mem, const tk_old_files *old,
                                     char **text, size_t *len);

/* keys.c: of tokenizer_config.json, special_tokens_map.json, generation_config.json */
extern const js_key tk_config_keys[], tk_special_keys[], tk_generation_keys[];

/* Pre-tokenizers that GGUF knows by name (presets.c). */
typedef struct tk_preset {
    const char *pre;          /* name in tokenizer.ggml.pre */
    const char *normalizer;   /* JSON */
    const char *pretokenizer; /* JSON */
    bool ignore_merges, add_bos;
} tk_preset;
const tk_preset *tk_preset_find(const char *pre);
bool tk_preset_is(const tk_ops *pretokenizers, const char *pre);
extern const tk_preset tk_presets[];
extern const int tk_n_presets;
#endif
