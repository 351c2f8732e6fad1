/* member.c – edits in the text of a JSON object, so that everything else stays as its writer had it (1e-05, 0.0, order,
 * indent). */
#include "ft/cfg.h"

#include <string.h>

/* The place of a top-level member's value. */
static bool find_value(const char *text, const char *key, size_t *start, size_t *end)
{
    int depth = 0;
    size_t name = 0, name_end = 0, n = strlen(key);
    bool want = false; /* inside the value of `key` */
    for (size_t i = 0; text[i]; i++) {
        char c = text[i];
        if (c == '"') {
            size_t open = i++;
            while (text[i] && text[i] != '"') i += text[i] == '\\' && text[i + 1] ? 2 : 1;
            if (!text[i]) return false;
            if (depth == 1 && !want) name = open + 1, name_end = i;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == ':' && depth == 1 && !want && name_end - name == n &&
                   memcmp(text + name, key, n) == 0) {
            want = true;
            *start = i + 1 + strspn(text + i + 1, " \t\r\n");
        } else if ((c == ',' && depth == 1) || ((c == '}' || c == ']') && --depth == 0)) {
            *end = i;
            while (want && strchr(" \t\r\n", text[*end - 1])) --*end;
            if (want || depth == 0) return want;
        }
    }
    return false;
}

void js_set_member(str_buf *s, const char *key, const char *value)
{
    size_t start = 0, end = 0;
    str_buf out = {0};
    if (s->failed || !s->data) return;
    if (find_value(s->data, key, &start, &end)) {
        str_add(&out, s->data, start);
        str_adds(&out, value);
        str_adds(&out, s->data + end);
    } else {
        size_t close = s->len;
        while (close > 0 && s->data[close - 1] != '}') close--;
        size_t last = close > 0 ? close - 1 : 0;
        while (last > 0 && strchr(" \t\r\n", s->data[last - 1])) last--;
        str_add(&out, s->data, last);
        str_printf(&out, "%s\n  \"%s\": %s\n", s->data[last - 1] == '{' ? "" : ",", key, value);
        str_adds(&out, s->data + (close > 0 ? close - 1 : 0));
    }
    bool failed = out.failed;
    str_free(s);
    *s = out;
    s->failed = failed;
}

void js_drop_member(str_buf *s, const char *key)
{
    size_t start = 0, end = 0;
    str_buf out = {0};
    if (s->failed || !s->data || !find_value(s->data, key, &start, &end)) return;
    while (s->data[start - 1] != ':') start--; /* white space alone stands between */
    while (s->data[start - 1] != '"') start--;
    start -= strlen(key) + 2;
    bool more = s->data[end + strspn(s->data + end, " \t\r\n")] == ',';
    if (more) /* with the comma and white space behind it */
        end += strcspn(s->data + end, ",") + 1, end += strspn(s->data + end, " \t\r\n");
    else /* with those before it, where it is not the only one */
        while (start > 0 && strchr(" \t\r\n,", s->data[start - 1])) start--;
    str_add(&out, s->data, start);
    str_adds(&out, s->data + end);
    bool failed = out.failed;
    str_free(s);
    *s = out;
    s->failed = failed;
}
