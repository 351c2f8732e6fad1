/* ids.c – a growing list of token ids. */
#include "token_private.h"

ft_status tok_ids_push(tok_ids *v, int32_t id)
{
    if (v->n == v->cap) {
        int64_t cap = v->cap ? v->cap * 2 : 64;
        int32_t *bigger = ft_realloc(v->id, (size_t)cap, sizeof *bigger);
        if (!bigger) return FT_EMEM;
        v->id = bigger;
        v->cap = cap;
    }
    v->id[v->n++] = id;
    return FT_OK;
}

void tok_ids_free(tok_ids *v)
{
    ft_free(v->id);
    *v = (tok_ids){0};
}
