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

bool data_form_at(int i, data_form *out)
{
    if (i < 0 || i >= (int)FT_COUNT_OF(rows)) return false;
    *out = (data_form){rows[i]->name, rows[i]->help, rows[i]->example};
    return true;
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

static ft_status unknown_format(const data_item *it)
{
    str_buf keys = {0}, known = {0};
    int n = 0;
    for (const cJSON *k = it->rec->child; k && n < 12; k = k->next, n++) {
        str_printf(&keys, "%s%s", n ? ", " : "", ft_shows(k->string));
    }
    data_known_text(&known);
    ft_status rc =
        data_fail(it, it->rec, NULL,
                  "cannot tell the format of this record (keys: %s); known are text, prompt + "
                  "completion, messages, instruction + output, conversations, chosen + rejected, "
                  "input_ids%s; "
                  "\"columns\" of the source says which key is which",
                  keys.data ? keys.data : "none", known.data ? known.data : "");
    str_free(&keys);
    str_free(&known);
    return rc;
}

static bool fits(const data_format *f, const cJSON *rec, bool asked)
{
    return f->fits ? f->fits(rec, asked) : has_all(rec, f->keys);
}

/* What the objective wants is looked for first, the rest so that it can be refused by its name. A prompt alone is what other keys
 * leave, so it comes late where no one asks for it. */
static int turn_of(const data_set *d, const data_format *f)
{
    if (d->wants & f->gives) return 0;
    return d->wants || f->gives == DATA_PROMPTS;
}

/* A record may have the keys of several: what the objective asks for comes first, then records known by their keys. */
ft_status data_format_detect(const data_set *d, data_source *s, const js_doc *doc, const cJSON *rec)
{
    data_item it = {.src = s, .doc = doc, .rec = rec};
    if (!cJSON_IsObject(rec)) return data_fail(&it, rec, NULL, "a record must be an object");
    ft_status rc = data_view_open(&it);
    for (int turn = 0; rc == FT_OK && turn < 2; turn++) {
        for (size_t i = 0; !s->format && i < FT_COUNT_OF(rows); i++)
            if (turn_of(d, rows[i]) == turn && fits(rows[i], it.rec, rows[i]->gives & d->wants))
                s->format = rows[i];
        if (!s->format && data_known(s, it.rec)) s->format = &data_format_alpaca;
    }
    if (rc == FT_OK && !s->format) rc = unknown_format(&it);
    data_view_close(&it);
    return rc;
}
