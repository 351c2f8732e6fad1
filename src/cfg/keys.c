/* keys.c – what becomes of each key of a file that another program wrote, by a table. */
#include "ft/cfg.h"

#include <stdlib.h>
#include <string.h>

static bool fits(const char *pattern, const char *key)
{
    return *pattern == '*' ? str_ends(key, pattern + 1) : strcmp(pattern, key) == 0;
}

static const js_key *find_row(const js_key *rows, const char *key)
{
    while (rows->key && !fits(rows->key, key)) rows++;
    return rows->key ? rows : NULL;
}

/* One scalar of a row against the value. */
static bool same(const char *text, size_t n, const cJSON *v)
{
    char word[64], *end;
    if (n >= sizeof word) return false;
    memcpy(word, text, n);
    word[n] = 0;
    if (cJSON_IsBool(v)) return strcmp(word, cJSON_IsTrue(v) ? "true" : "false") == 0;
    if (cJSON_IsString(v)) {
        return n >= 2 && word[0] == '"' && strlen(v->valuestring) == n - 2 &&
               memcmp(word + 1, v->valuestring, n - 2) == 0;
    }
    if (!cJSON_IsNumber(v)) return false;
    double number = strtod(word, &end);
    return end != word && !*end && number == v->valuedouble;
}

static bool harmless(const js_key *row, const cJSON *v)
{
    if (cJSON_IsNull(v)) return true;
    if ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child) return true;
    if (cJSON_IsString(v) && !*v->valuestring) return true;
    for (const char *p = row->values; p;) {
        size_t n = strcspn(p, "|");
        if (same(p, n, v)) return true;
        p = p[n] ? p + n + 1 : NULL;
    }
    return false;
}

static ft_status check_one(const js_doc *d, const cJSON *v, const js_key *row, ft_status status)
{
    str_buf text = {0};
    if (row->use == JS_READ || row->use == JS_IDLE || harmless(row, v)) return FT_OK;
    js_print(&text, v, false);
    const char *shown = text.data && text.len < 60 ? text.data
                        : cJSON_IsArray(v)         ? "a list"
                                                   : "its value";
    ft_status rc = FT_OK;
    if (row->use == JS_ONLY)
        rc = js_fail(d, v, status, v->string, "%s: %s", ft_shows(shown), row->why);
    else
        log_warn("%s: %s: %s: %s", d->name, v->string, ft_shows(shown), row->why);
    str_free(&text);
    return rc;
}

ft_status js_check_keys(const js_doc *d, const cJSON *o, const js_key *rows, ft_status status)
{
    enum { SHOWN = 8 };
    str_buf unknown = {0};
    int n = 0;
    ft_status rc = FT_OK;
    for (const cJSON *v = o ? o->child : NULL; v && rc == FT_OK; v = v->next) {
        const js_key *row = find_row(rows, v->string);
        if (row) {
            rc = check_one(d, v, row, status);
        } else if (n++ < SHOWN) {
            str_printf(&unknown, "%s%s", n > 1 ? ", " : "", ft_shows(v->string));
        }
    }
    if (n > SHOWN) str_printf(&unknown, " and %d more", n - SHOWN);
    if (rc == FT_OK) rc = str_ok(&unknown);
    if (rc == FT_OK && n) {
        log_warn("%s: ft does not know the key%s %s; left aside", d->name, n > 1 ? "s" : "",
                 unknown.data);
    }
    str_free(&unknown);
    return rc;
}
