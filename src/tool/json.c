/* json.c – small helpers of the verbs that answer in JSON lines. */
#include <math.h>
#include <string.h>

#include "tool_private.h"

ft_status tool_string(const js_doc *d, const cJSON *o, const char *key, const char **text,
                      size_t *len)
{
    FT_TRY(js_get_str(d, o, key, NULL, text));
    *len = *text ? js_nul((char *)(uintptr_t)*text, strlen(*text)) : 0;
    return FT_OK;
}

void tool_json_text(str_buf *out, const char *text, size_t n)
{
    if (utf8_valid(text, n)) {
        str_json(out, text, n);
        return;
    }
    str_buf clean = {0};
    for (size_t i = 0; i < n;) {
        int32_t c;
        int k = utf8_next(text + i, n - i, &c);
        if (c < 0)
            str_adds(&clean, "\xef\xbf\xbd");
        else
            str_add(&clean, text + i, (size_t)k);
        i += (size_t)k;
    }
    if (clean.failed) out->failed = true;
    str_json(out, clean.data ? clean.data : "", clean.len);
    str_free(&clean);
}

void tool_json_number(str_buf *out, double v)
{
    if (isfinite(v))
        str_double(out, v);
    else
        str_adds(out, "null");
}

void tool_json_key(str_buf *out, const char *key)
{
    if (out->len > 0 && out->data[out->len - 1] != '{') str_addc(out, ',');
    str_json(out, key, strlen(key));
    str_addc(out, ':');
}

ft_status tool_put(const tool_sink *out, const str_buf *text)
{
    FT_TRY(str_ok(text));
    return text->len > 0 ? out->put(out->ctx, text->data, text->len) : FT_OK;
}
