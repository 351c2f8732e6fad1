/* cfg_set.c – the path of a --set: keys between dots, or in ["…"] where a key has a dot or another sign of its own
 * (gates["c.acc"].min). What stands in the quotes is a JSON string. */
#include "ft/cfg.h"

#include <string.h>

enum { SET_DEPTH = 32 }; /* keys in one path */

static const char *shown(const char *set) /* without its value */
{
    return ft_show(set, strcspn(set, "="));
}

/* The length of ["…"] at p, with the text of its string; 0: there is none. */
static ft_status quoted(const char *p, arena *mem, const char **key, size_t *len)
{
    js_doc doc;
    size_t n = 2;
    *len = 0;
    if (p[0] != '[' || p[1] != '"') return FT_OK;
    while (p[n] && p[n] != '"') n += p[n] == '\\' && p[n + 1] ? 2 : 1;
    if (!p[n] || p[n + 1] != ']') return FT_OK;
    const ft_status rc = js_parse(&doc, p + 1, n, "--set", 1, JS_NO_POSITIONS, FT_EUSAGE);
    if (rc != FT_OK) return rc == FT_EUSAGE ? FT_OK : rc;
    *key = arena_str(mem, doc.root->valuestring);
    js_close(&doc);
    *len = n + 2;
    return *key ? FT_OK : FT_EMEM;
}

/* One key at *at, which moves behind it and behind the dot that follows. */
static ft_status take_key(const char *set, const char **at, arena *mem, const char **key)
{
    const char *p = *at;
    size_t n;
    FT_TRY(quoted(p, mem, key, &n));
    if (n == 0) {
        FT_CHECK(*p != '[', FT_EUSAGE,
                 "--set %s: a key in brackets is written [\"…\"], in quotes for the shell as well: "
                 "--set 'gates[\"c.acc\"].min=0.2'",
                 shown(set));
        n = strcspn(p, ".[=");
        FT_CHECK(n > 0, FT_EUSAGE, "--set %s: a key is missing beside a dot", shown(set));
        FT_CHECK(utf8_valid(p, n), FT_EUSAGE, "--set %s: this is not a key", shown(set));
        *key = arena_strn(mem, p, n);
    }
    if (!*key) return FT_EMEM;
    p += n;
    FT_CHECK(*p == '.' || *p == '=' || *p == '[', FT_EUSAGE,
             "--set %s: expected a dot, a bracket or = behind %s", shown(set), ft_shows(*key));
    if (*p == '.') p++;
    FT_CHECK(*p != '.' && (*p != '=' || p[-1] != '.'), FT_EUSAGE,
             "--set %s: a key is missing beside a dot", shown(set));
    *at = p;
    return FT_OK;
}

ft_status cfg_set_words(const char *set, arena *mem, const char *const **keys, int *n,
                        const char **path, const char **value)
{
    const char *at = set, *list[SET_DEPTH];
    *n = 0;
    FT_CHECK(strchr(set, '=') && *set != '=', FT_EUSAGE,
             "--set %s: expected KEY=VALUE, as in --set train.epochs=3", ft_shows(set));
    do {
        FT_CHECK(*n < SET_DEPTH, FT_EUSAGE, "--set %s: more than %d keys", shown(set), SET_DEPTH);
        FT_TRY(take_key(set, &at, mem, &list[(*n)++]));
    } while (*at != '=');
    const char **copy = arena_get(mem, (size_t)*n * sizeof *copy);
    *path = arena_strn(mem, set, (size_t)(at - set));
    if (!copy || !*path) return FT_EMEM;
    memcpy(copy, list, (size_t)*n * sizeof *copy);
    *keys = copy;
    *value = at + 1;
    return FT_OK;
}
