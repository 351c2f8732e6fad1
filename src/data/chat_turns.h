/* chat_turns.h – a conversation while it is rendered and masked, shared by the chat_*.c files. */
#ifndef FT_CHAT_TURNS_H
#define FT_CHAT_TURNS_H

#include "data_private.h"

#define TURNS_MARK "\xEE\x80\x80\xEE\x80\x81" /* two private-use characters no template tests for */

typedef struct turns_many turns_many;
typedef struct turns_told turns_told;
typedef struct turns {
    data_item *it;
    const cJSON *node, *messages;
    const chat_input *in;
    int first; /* turns before it are not supervised */
    str_buf full;
    tpl_span *span; /* supervised bytes of full */
    int n;
    turns_many *many; /* NULL: few enough to be found one by one */
    turns_told *told;
    size_t rendered; /* bytes so far, to find turns and what is lost of them */
    ft_status rc;    /* looking had to end: not to be taken for "not found" */
} turns;

/* The first n messages; `changed` (may be NULL) stands in for message `at`. False: the template refuses them. */
bool data_turns_render(turns *t, int n, bool prompt, int at, const cJSON *changed, str_buf *out);
/* Counts bytes that were rendered or tokenized to find turns and what is lost of them; false, and t->rc, once they are too
 * many. */
bool data_turns_spend(turns *t, size_t bytes);
/* t->rc with its message. */
FT_MUST_USE ft_status data_turns_rc(const turns *t);
/* A copy of the message with this text, which it takes over (also where it fails); NULL: out of memory. What does not change
 * stays the message's. */
cJSON *data_turns_with(const cJSON *message, str_buf *content);
/* A copy of the message with the mark before or after its content; NULL: that is no text, or t->rc. */
cJSON *data_turns_marked(turns *t, const cJSON *message, bool before);
bool data_turns_assistant(const cJSON *message);
bool data_turns_unweighted(const cJSON *message); /* of weight 0: not to be learned */
bool data_turns_supervised(const turns *t, int i, const cJSON *message);

/* chat_many.c, for conversations of many turns; nothing is known of others. Where a turn stands, if that follows from those
 * that data_many_learn was given; false there: it contradicts what was told of turns before it, which have to be found
 * again. */
FT_MUST_USE ft_status data_many_open(turns *t);
bool data_many_span(turns *t, int i, const cJSON *message, size_t *begin, size_t *end);
bool data_many_learn(turns *t, int i, const cJSON *message, size_t begin, size_t end);
void data_many_close(turns *t);

/* chat_told.c: what the rendering shows, as far as two renderings with all of it changed tell. `last`: the last turn of the
 * assistant. Of the turns that are learned. */
enum { TURNS_REASONING = 3 };
extern const char *const data_turns_reasoning[TURNS_REASONING]; /* its keys */
typedef enum turns_shown { TURNS_UNKNOWN, TURNS_SHOWN, TURNS_HIDDEN } turns_shown;
bool data_turns_reasons(const cJSON *message, int key); /* it has some under that key */
FT_MUST_USE ft_status data_told_open(turns *t, int last);
turns_shown data_told_reasoning(const turns *t, int i, const cJSON *message, int key, bool last);
bool data_told_call(const turns *t, int i, const cJSON *message, int call,
                    bool arguments); /* false: unknown */
void data_told_close(turns *t);

/* chat_lost.c: what would be learned and is not in `full`. FT_EDATA, or as data.on_loss says in it->lost; counts empty
 * answers. */
FT_MUST_USE ft_status data_turns_lost(turns *t);
#endif
