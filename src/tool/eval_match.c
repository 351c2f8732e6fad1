/* eval_match.c – comparing what a model wrote with the answer: rows by name.
 *
 * Patterns come from data files, so PCRE2 runs under limits: a pattern that backtracks without end is an error,
 * not a hang. */
#include <stdlib.h>
#include <string.h>

#include "tool_private.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MATCH_STEPS 10000000u
#define MATCH_DEPTH 100000u
#define MATCH_HEAP_KIB 65536u

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void strip(const char **s, size_t *n)
{
    while (*n > 0 && is_space((*s)[0])) (*s)++, (*n)--;
    while (*n > 0 && is_space((*s)[*n - 1])) (*n)--;
}

static ft_status exact(const char *output, size_t n, const char *answer, bool *hit)
{
    size_t m = strlen(answer);
    strip(&output, &n);
    strip(&answer, &m);
    *hit = n == m && memcmp(output, answer, n) == 0;
    return FT_OK;
}

static ft_status contains(const char *output, size_t n, const char *answer, bool *hit)
{
    size_t m = strlen(answer);
    strip(&answer, &m);
    *hit = m == 0 || (n >= m && memmem(output, n, answer, m) != NULL);
    return FT_OK;
}

static ft_status search(const pcre2_code *code, const char *text, size_t n, const char *pattern,
                        bool *hit)
{
    PCRE2_UCHAR why[256] = "";
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    ft_status rc = FT_OK;
    if (!data || !limits) {
        rc = ft_fail(FT_EMEM, "out of memory");
        goto out;
    }
    pcre2_set_match_limit(limits, MATCH_STEPS);
    pcre2_set_depth_limit(limits, MATCH_DEPTH);
    pcre2_set_heap_limit(limits, MATCH_HEAP_KIB);
    int found = pcre2_match(code, (PCRE2_SPTR)text, n, 0, 0, data, limits);
    *hit = found >= 0;
    if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
        pcre2_get_error_message(found, why, sizeof why);
        rc =
            ft_fail(found == PCRE2_ERROR_NOMEMORY ? FT_EMEM : FT_EDATA,
                    "regex \"%s\": %s; simplify the pattern", ft_shows(pattern), (const char *)why);
    }
out:
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
    return rc;
}

static ft_status regex(const char *output, size_t n, const char *answer, bool *hit)
{
    PCRE2_UCHAR why[256] = "";
    int error;
    PCRE2_SIZE at;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)answer, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &at, NULL);
    if (!code) {
        pcre2_get_error_message(error, why, sizeof why);
        return ft_fail(error == PCRE2_ERROR_HEAP_FAILED ? FT_EMEM : FT_EDATA,
                       "regex \"%s\": %s at character %zu", ft_shows(answer), (const char *)why,
                       (size_t)at + 1);
    }
    ft_status rc = search(code, output, n, answer, hit);
    pcre2_code_free(code);
    return rc;
}

/* --- numbers ------------------------------------------------------------------------------------------------ */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* One number at s: digits, thousands commas (each before three digits), a fraction. Its length, 0 when there is none. */
static size_t number_at(const char *s, size_t n, double *value)
{
    char text[64];
    size_t i = 0, k = 0;
    while (i < n && (is_digit(s[i]) || s[i] == ',')) {
        if (s[i] == ',') {
            bool three =
                i + 3 < n && is_digit(s[i + 1]) && is_digit(s[i + 2]) && is_digit(s[i + 3]);
            if (!three || (i + 4 < n && is_digit(s[i + 4]))) break;
        } else if (k < sizeof text - 34) {
            text[k++] = s[i];
        }
        i++;
    }
    if (k == 0) return 0;
    if (i + 1 < n && s[i] == '.' && is_digit(s[i + 1])) {
        text[k++] = s[i++];
        for (; i < n && is_digit(s[i]); i++)
            if (k < sizeof text - 1) text[k++] = s[i];
    }
    text[k] = '\0';
    *value = strtod(text, NULL);
    return i;
}

static bool last_number_of(const char *s, size_t n, double *value)
{
    bool found = false;
    for (size_t i = 0; i < n;) {
        double v;
        size_t k = is_digit(s[i]) ? number_at(s + i, n - i, &v) : 0;
        if (k == 0) {
            i++;
            continue;
        }
        /* A minus is a sign unless it stands between two operands: "5-3" ends with 3. */
        size_t before = i;
        while (before > 0 && (s[before - 1] == '$' || s[before - 1] == ' ')) before--;
        bool minus = before > 0 && s[before - 1] == '-' && before == i - (i > 0 && s[i - 1] == '$');
        char left = minus && before > 1 ? s[before - 2] : ' ';
        bool operand = is_digit(left) || (left >= 'a' && left <= 'z') ||
                       (left >= 'A' && left <= 'Z') || left == ')';
        *value = minus && !operand ? -v : v;
        found = true;
        i += k;
    }
    return found;
}

static ft_status last_number(const char *output, size_t n, const char *answer, bool *hit)
{
    double want, got;
    FT_CHECK(last_number_of(answer, strlen(answer), &want), FT_EDATA,
             "match last_number: the answer \"%s\" holds no number", ft_shows(answer));
    *hit = last_number_of(output, n, &got) && got == want;
    return FT_OK;
}

static const tool_match rows[] = {
    {"exact", exact}, {"contains", contains}, {"regex", regex}, {"last_number", last_number}};
const char *const tool_match_names[] = {"exact", "contains", "regex", "last_number", NULL};

const tool_match *tool_match_by_name(const char *name)
{
    for (size_t i = 0; name && i < FT_COUNT_OF(rows); i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}
