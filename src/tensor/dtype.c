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
    const bool rest = n % type->block != 0;
    if (n < 0 || (rest && !type->read)) return false;
    return ft_mul((size_t)(n / type->block + rest), (size_t)type->bytes, bytes);
}

void dt_read(const dt_type *type, float *dst, const dt_data *src, int64_t first, int64_t n)
{
    if (type->read) {
        type->read(dst, src, first, n);
        return;
    }
    const int64_t block = type->block;
    while (n > 0) {
        float part[DT_BLOCK_MAX];
        const char *from = (const char *)src->data + first / block * type->bytes;
        const int64_t skip = first % block;
        int64_t take = n / block * block;
        if (skip == 0 && take > 0) {
            type->unpack(dst, from, take);
        } else {
            take = block - skip < n ? block - skip : n;
            type->unpack(part, from, block);
            memcpy(dst, part + skip, (size_t)take * sizeof *dst);
        }
        dst += take;
        first += take;
        n -= take;
    }
}
