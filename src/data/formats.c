/* formats.c – the registry of record formats, and which of them a record is. */
#include "data_private.h"

#include <string.h>

#define X(name) extern const data_format data_format_##name;
#include "formats.def"
#undef X
#define X(name) &data_format_##name,
static const data_format *const rows[] = {
#include "formats.def"
};
#undef X
#define X(name) #name,
const char *const data_format_names[] = {"auto",
#include "formats.def"
                                         NULL};
#undef X

const data_format *data_format_find(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) {
        if (!strcmp(rows[i]->name, name)) return rows[i];
    }
    return NULL;
}

bool data_format_is_text(const data_format *f)
{
    return f == &data_format_text;
}

ft_status data_needs_tokenizer(const data_set *d, const char *path, const char *what)
{
    if (d->tok) return FT_OK;
    FT_CHECK(!d->tokenizer_key, FT_ECONFIG,
             "%s: %s a tokenizer, and %s names none: a folder with tokenizer.json (only records of "
             "format tokens do without)",
             path, what, d->tokenizer_key);
    return ft_fail(FT_ENOINPUT, "%s: %s a tokenizer, and the model has none", path, what);
}

static bool has_all(const cJSON *rec, const char *const *keys)
{
    while (*keys && js_get(rec, *keys)) keys++;
    return !*keys;
}

ft_status data_format_detect(const js_doc *doc, const cJSON *rec, const data_format **out)
{
    str_buf keys = {0};
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) {
        if (!has_all(rec, rows[i]->keys)) continue;
        *out = rows[i];
        return FT_OK;
    }
    int n = 0;
    for (const cJSON *k = rec->child; k && cJSON_IsObject(rec) && n < 8; k = k->next, n++) {
        str_printf(&keys, "%s%s", n ? ", " : "", ft_shows(k->string));
    }
    ft_status rc = js_fail(
        doc, rec, FT_EDATA, NULL,
        "cannot tell the format of this record (keys: %s); known are text, prompt + completion, "
        "messages, instruction + output, conversations, input_ids",
        keys.data ? keys.data : "none");
    str_free(&keys);
    return rc;
}
