/* chat_turns.h – a conversation while it is rendered and masked, shared by the chat_*.c files. */
#ifndef FT_CHAT_TURNS_H
#define FT_CHAT_TURNS_H

#include "data_private.h"

#define TURNS_MARK "\xEE\x80\x80\xEE\x80\x81" /* two private-use characters no template tests for */

typedef struct turns {
    data_item *it;
    const cJSON *node, *messages;
    const chat_input *in;
    int first; /* turns before it are not supervised */
    str_buf full;
    tpl_span *span; /* supervised bytes of full */
    int n;
    ft_status rc; /* out of memory while looking: not to be taken for "not found" */
} turns;

/* The first n messages; `changed` (may be NULL) stands in for message `at`. False: the template refuses them. */
bool data_turns_render(turns *t, int n, bool prompt, int at, const cJSON *changed, str_buf *out);
/* A copy of the message with the mark before or after its content; NULL: that is no text, or t->rc. */
cJSON *data_turns_marked(turns *t, const cJSON *message, bool before);
bool data_turns_assistant(const cJSON *message);
bool data_turns_unweighted(const cJSON *message); /* of weight 0: not to be learned */
bool data_turns_supervised(const turns *t, int i, const cJSON *message);

/* chat_lost.c: what would be learned and is not in `full`. FT_EDATA, or as data.on_loss says in it->lost; counts empty
 * answers. */
FT_MUST_USE ft_status data_turns_lost(turns *t);
#endif
