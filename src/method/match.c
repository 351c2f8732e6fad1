/* match.c – PEFT's rules of which module a pattern means. Regexes are PCRE2 (Python's re for all that occurs in adapter
 * configs), bounded in matching steps, depth and heap. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "ft/method.h"
#include "method_private.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum { MATCH_LIMIT = 200000, DEPTH_LIMIT = 1000, HEAP_KIB = 4096 };

static int group_number(pcre2_match_data *data, int64_t *number)
{
    PCRE2_UCHAR text[20];
    PCRE2_SIZE n = sizeof text;
    if (pcre2_substring_copy_byname(data, (PCRE2_SPTR) "idx", text, &n) != 0) return 0;
    *number = strtoll((const char *)text, NULL, 10);
    return 1;
}

/* 1, 0, −1, −2; with `number`, a match must have digits in the group "idx", which it holds then. */
static int match_at(const char *regex, const char *path, uint32_t options, int64_t *number)
{
    int error, result = -1;
    PCRE2_SIZE offset;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, options, &error, &offset, NULL);
    pcre2_match_data *data = code ? pcre2_match_data_create_from_pattern(code, NULL) : NULL;
    pcre2_match_context *ctx = pcre2_match_context_create(NULL);
    if (!code && error == PCRE2_ERROR_HEAP_FAILED) {
        result = -2;
    } else if (!code) {
        PCRE2_UCHAR text[120];
        pcre2_get_error_message(error, text, sizeof text);
        ft_fail(FT_ECONFIG, "regex \"%s\": %s at offset %zu", ft_shows(regex), (const char *)text,
                (size_t)offset);
    } else if (data && ctx) {
        pcre2_set_match_limit(ctx, MATCH_LIMIT);
        pcre2_set_depth_limit(ctx, DEPTH_LIMIT);
        pcre2_set_heap_limit(ctx, HEAP_KIB);
        int n = pcre2_match(code, (PCRE2_SPTR)path, strlen(path), 0, 0, data, ctx);
        if (n >= 0)
            result = number ? group_number(data, number) : 1;
        else if (n == PCRE2_ERROR_NOMATCH)
            result = 0;
        else if (n == PCRE2_ERROR_NOMEMORY)
            result = -2;
        else
            ft_fail(FT_ECONFIG, "regex \"%s\" takes too many steps on \"%s\"", ft_shows(regex),
                    ft_shows(path));
    } else {
        result = -2;
    }
    if (result == -2) ft_fail(FT_EMEM, "out of memory for the regex \"%s\"", ft_shows(regex));
    pcre2_match_context_free(ctx);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return result;
}

int pe_match_full(const char *regex, const char *path)
{
    return match_at(regex, path, PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, NULL);
}

/* re.match of FRONT key BACK at the start of the path. */
static int match_around(const char *front, const char *key, const char *back, const char *path,
                        int64_t *number)
{
    str_buf b = {0};
    str_printf(&b, "%s%s%s", front, key, back);
    int r = str_ok(&b) == FT_OK ? match_at(b.data, path, PCRE2_ANCHORED | PCRE2_UTF, number) : -2;
    str_free(&b);
    return r;
}

/* A name, which nearly every key of a pattern is, needs no regex, of which an adapter may bring any number: "." stands for
 * any character, and what is before the name ends in one. 1, 0; −1: it is a regex, or not sure. */
static int match_name(const char *key, const char *path)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    const size_t n = strlen(key), m = strlen(path);
    if (n == 0 || strspn(key, plain) != n || strspn(path, plain) != m) return -1;
    if (n > m || (n < m && path[m - n - 1] != '.')) return 0;
    for (size_t i = 0; i < n; i++)
        if (key[i] != '.' && key[i] != path[m - n + i]) return 0;
    return 1;
}

int pe_match_pattern(const char *key, const char *path)
{
    const int named = match_name(key, path);
    if (named >= 0) return named;
    return match_around("(.*\\.)?(", key, ")$", path, NULL);
}

int pe_match_inside(const char *key, const char *path)
{
    return match_around("(^|.*\\.)", key, "($|\\..*)", path, NULL);
}

int pe_match_layer(const char *pattern, const char *path, int64_t *layer)
{
    if (!pattern) return match_around(".*?\\.[^.]*", "", "\\.(?P<idx>\\d+)\\.", path, layer);
    return match_around("(?:^|.*?\\.)", pattern, "\\.(?P<idx>\\d+)\\.", path, layer);
}

bool pe_match_suffix(const char *entry, const char *path)
{
    size_t n = strlen(entry), m = strlen(path);
    return n <= m && strcmp(path + m - n, entry) == 0 && (n == m || path[m - n - 1] == '.');
}

bool pe_list_has(const cJSON *list, const char *path,
                 bool (*match)(const char *entry, const char *path))
{
    const cJSON *e;
    if (cJSON_IsString(list)) return match(list->valuestring, path);
    if (!cJSON_IsArray(list)) return false;
    cJSON_ArrayForEach(e, list)
    {
        if (cJSON_IsString(e) && match(e->valuestring, path)) return true;
    }
    return false;
}
