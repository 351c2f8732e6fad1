/* match.c – comparing what a model wrote with the answer: rows by name. */
#include "ft/reward.h"

#include <stdlib.h>
#include <string.h>

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

static ft_status regex(const char *output, size_t n, const char *answer, bool *hit)
{
    rw_pattern *p;
    FT_TRY(rw_pattern_open(&p, answer, false, FT_EDATA));
    ft_status rc = rw_pattern_match(p, output, n, hit);
    rw_pattern_close(p);
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

static const rw_match rows[] = {
    {"exact", exact}, {"contains", contains}, {"regex", regex}, {"last_number", last_number}};
const char *const rw_match_names[] = {"exact", "contains", "regex", "last_number", NULL};

const rw_match *rw_match_by_name(const char *name)
{
    for (size_t i = 0; name && i < FT_COUNT_OF(rows); i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}
