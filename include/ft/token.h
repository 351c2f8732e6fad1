/* token.h – tokenizers.
 *
 * tokenizer.json (byte-level BPE, SentencePiece-like BPE with byte fallback, Unigram, WordPiece) with its
 * normalizers, pre-tokenizers, added tokens, post-processors and decoders; a folder's tokenizer.model, or vocab.json and
 * merges.txt; the tokenizer inside a GGUF (kinds gpt2 and llama). Ids are the reference library's, to the last one. */
#ifndef FT_TOKEN_H
#define FT_TOKEN_H

#include "ft/base.h"
#include "ft/cfg.h"
#include "ft/io.h"

typedef struct tok_tokenizer tok_tokenizer;
typedef struct tok_ids {
    int32_t *id;
    int64_t n, cap;
} tok_ids;
FT_MUST_USE ft_status tok_ids_push(tok_ids *v, int32_t id);
void tok_ids_free(tok_ids *v);

/* From a folder (tokenizer.json, with tokenizer_config.json, special_tokens_map.json, generation_config.json,
 * config.json and chat_template.jinja where present) or a .gguf file. Needs no weights. */
FT_MUST_USE ft_status tok_open(tok_tokenizer **out, const char *model_path);
/* A tokenizer folder that belongs to a model elsewhere, such as an adapter's: its stop ids are added, and what the folder
 * leaves open (bos, eos, pad, the template) is as the model has it. A model without a tokenizer is fine. */
FT_MUST_USE ft_status tok_open_over(tok_tokenizer **out, const char *path, const char *model_path);
FT_MUST_USE ft_status tok_in_folder(const char *dir, bool *is); /* it holds files of a tokenizer */
void tok_close(tok_tokenizer *t);

/* Appends the ids of text (any bytes). special: with what the post-processor adds (BOS, EOS). Added tokens
 * in the text are recognised in both cases. Thread-safe. Linear in len. */
FT_MUST_USE ft_status tok_encode(const tok_tokenizer *t, const char *text, size_t len, bool special,
                                 tok_ids *out);
/* The same ids, as far as they are those of `with`, which must stay as it is; they are not held. */
typedef struct tok_match {
    int64_t n, same; /* ids of the text; of them, from the first on, those that `with` begins with */
    int32_t last;    /* −1: there are none */
} tok_match;
FT_MUST_USE ft_status tok_compare(const tok_tokenizer *t, const char *text, size_t len, bool special,
                                  const tok_ids *with, tok_match *out);
/* Appends the text of ids: skips nothing, cleans up no spaces. An id outside the vocabulary is 65. Valid UTF-8:
 * bytes that make no character become U+FFFD, as in the reference library. */
FT_MUST_USE ft_status tok_decode(const tok_tokenizer *t, const int32_t *ids, int64_t n,
                                 str_buf *out);
/* The same with such bytes as they are: the inverse of tok_encode for byte-level models; for streaming. */
FT_MUST_USE ft_status tok_decode_bytes(const tok_tokenizer *t, const int32_t *ids, int64_t n,
                                       str_buf *out);

int64_t tok_size(const tok_tokenizer *t); /* largest id + 1, added tokens included */
int32_t tok_bos(const tok_tokenizer *t);  /* −1 when there is none */
int32_t tok_eos(const tok_tokenizer *t);
int32_t tok_pad(const tok_tokenizer *t);
bool tok_adds_bos(const tok_tokenizer *t); /* tok_encode(special) puts BOS in front */
int32_t tok_id(const tok_tokenizer *t, const char *text, size_t n); /* of a whole token, −1 */
const char *tok_text(const tok_tokenizer *t, int32_t id); /* as the vocabulary has it; NULL */
bool tok_is_special(const tok_tokenizer *t, int32_t id);
/* Ids that end a generation: eos of tokenizer, config and generation_config, and the end-of-turn token the
 * template uses (GGUF: eos, eot, eom ids). */
const int32_t *tok_stops(const tok_tokenizer *t, int *n);
/* Texts with names. Special tokens as templates see them ("bos_token" …); chat templates ("default", "tool_use" …). */
typedef struct tok_named {
    const char *name, *text;
} tok_named;
const tok_named *tok_names(const tok_tokenizer *t, int *n);
const tok_named *tok_chat_templates(const tok_tokenizer *t, int *n);
/* Another chat template in the place of its own, "default" and the only one; NULL: its own again. Tokens that it ends a
 * turn with stop a generation too. `from`: the file it stands in, for messages; NULL: none. */
FT_MUST_USE ft_status tok_use_template(tok_tokenizer *t, const char *text, const char *from);
const char *tok_template_file(const tok_tokenizer *t); /* that file; NULL: none, or its own template */

/* A complete tokenizer.json / tokenizer_config.json of this tokenizer, whatever it was read from. */
FT_MUST_USE ft_status tok_write_json(const tok_tokenizer *t, str_buf *tokenizer_json,
                                     str_buf *tokenizer_config);
/* An added token, with its flags as tokenizer.json has them. */
typedef struct tok_added {
    const char *text;
    size_t n;
    bool single_word, lstrip, rstrip, normalized, special;
} tok_added;
bool tok_added_at(const tok_tokenizer *t, int32_t id, tok_added *out); /* false: id is none */
/* tok_write_json without the added tokens from id `below` on, and with n others behind the rest, which get the next ids. */
FT_MUST_USE ft_status tok_write_more(const tok_tokenizer *t, int64_t below, const tok_added *more,
                                     int64_t n, str_buf *tokenizer_json,
                                     str_buf *tokenizer_config);
/* The tokenizer.ggml.* keys of this tokenizer (vocabulary padded to vocab_size with unused tokens). 65 with the
 * reason when GGUF cannot hold it. */
FT_MUST_USE ft_status tok_write_gguf(const tok_tokenizer *t, gguf_writer *w, int64_t vocab_size);
#endif
