/* arrays.c – named arrays of a checkpoint, whichever way they go. */
#include "ft/nn.h"

#include <string.h>

static ft_status note(nn_arrays *a, const nn_array *x)
{
    if (a->n == a->cap) {
        int64_t cap = 2 * a->cap + 8;
        nn_array *more = arena_get(a->mem, (size_t)cap * sizeof *more);
        if (!more) return FT_EMEM;
        if (a->n > 0) memcpy(more, a->array, (size_t)a->n * sizeof *more);
        a->array = more;
        a->cap = cap;
    }
    a->array[a->n++] = *x;
    return FT_OK;
}

ft_status nn_array_of(nn_arrays *a, const char *name, const dt_type *type, int nd, int64_t *dim,
                      void **data)
{
    size_t bytes;
    int64_t n = 1;
    const nn_array *found = NULL;
    if (!a->loading) {
        nn_array x = {.name = name, .type = type, .nd = nd, .data = *data};
        for (int i = 0; i < nd; i++) x.dim[i] = dim[i];
        return note(a, &x);
    }
    for (int64_t i = 0; i < a->n; i++)
        if (strcmp(a->array[i].name, name) == 0) found = &a->array[i];
    FT_CHECK(found, FT_EDATA, "the checkpoint has no \"%s\"", name);
    FT_CHECK(found->type == type && found->nd == nd, FT_EDATA,
             "the checkpoint's \"%s\" has another type or another number of dimensions", name);
    for (int i = 0; i < nd; i++) n *= dim[i] = found->dim[i];
    FT_CHECK(dt_bytes(type, n, &bytes), FT_EDATA, "the checkpoint's \"%s\" is too large", name);
    *data = arena_get(a->mem, bytes > 0 ? bytes : 1);
    if (!*data) return FT_EMEM;
    if (bytes > 0) memcpy(*data, found->data, bytes);
    return FT_OK;
}
