/* dtype.c – the table of storage formats and look-ups in it. */
#include "ft/tensor.h"
#include "dtype_rows.h"

#include <string.h>

#define X(name) &dt_##name,
static const dt_type *const rows[] = {
#include "dtypes.def"
};
#undef X

const dt_type *dt_at(int i)
{
    return i >= 0 && (size_t)i < FT_COUNT_OF(rows) ? rows[i] : NULL;
}

const dt_type *dt_by_name(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++)
        if (strcmp(rows[i]->name, name) == 0) return rows[i];
    return NULL;
}

const dt_type *dt_by_st(const char *st_name)
{
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++)
        if (rows[i]->st_name && strcmp(rows[i]->st_name, st_name) == 0) return rows[i];
    return NULL;
}

const dt_type *dt_by_gguf(int id)
{
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++)
        if (id >= 0 && rows[i]->gguf_id == id) return rows[i];
    return NULL;
}

bool dt_bytes(const dt_type *type, int64_t n, size_t *bytes)
{
    if (n < 0 || n % type->block != 0) return false;
    return ft_mul((size_t)(n / type->block), (size_t)type->bytes, bytes);
}
