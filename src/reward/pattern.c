/* pattern.c – patterns that are searched for in what a model wrote.
 *
 * They come from data files and configs, so PCRE2 runs under limits: a pattern that backtracks without end is an error, not
 * a hang. */
#include "ft/reward.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MATCH_STEPS 10000000u
#define MATCH_DEPTH 100000u
#define MATCH_HEAP_KIB 65536u

struct rw_pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
    char *text; /* for messages */
};

void rw_pattern_close(rw_pattern *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    pcre2_match_data_free(p->data);
    pcre2_match_context_free(p->limits);
    ft_free(p->text);
    ft_free(p);
}

static ft_status compile(rw_pattern *p, const char *pattern, bool whole, ft_status status)
{
    PCRE2_UCHAR why[256] = "";
    int error;
    PCRE2_SIZE at;
    const uint32_t how = PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF |
                         (whole ? PCRE2_DOTALL | PCRE2_ANCHORED | PCRE2_ENDANCHORED : 0);
    p->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, how, &error, &at, NULL);
    if (p->code) return FT_OK;
    pcre2_get_error_message(error, why, sizeof why);
    return ft_fail(error == PCRE2_ERROR_HEAP_FAILED ? FT_EMEM : status,
                   "regex \"%s\": %s at character %zu", ft_shows(pattern), (const char *)why,
                   (size_t)at + 1);
}

ft_status rw_pattern_open(rw_pattern **out, const char *pattern, bool whole, ft_status status)
{
    rw_pattern *p = ft_alloc(1, sizeof *p);
    if (!p) return FT_EMEM;
    ft_status rc = compile(p, pattern, whole, status);
    if (rc != FT_OK) goto out;
    p->data = pcre2_match_data_create_from_pattern(p->code, NULL);
    p->limits = pcre2_match_context_create(NULL);
    p->text = ft_strdup(pattern);
    FT_GUARD(p->data && p->limits && p->text, FT_EMEM, "out of memory");
    pcre2_set_match_limit(p->limits, MATCH_STEPS);
    pcre2_set_depth_limit(p->limits, MATCH_DEPTH);
    pcre2_set_heap_limit(p->limits, MATCH_HEAP_KIB);
    *out = p;
    return FT_OK;
out:
    rw_pattern_close(p);
    return rc;
}

ft_status rw_pattern_match(const rw_pattern *p, const char *text, size_t n, bool *hit)
{
    PCRE2_UCHAR why[256] = "";
    int found = pcre2_match(p->code, (PCRE2_SPTR)text, n, 0, 0, p->data, p->limits);
    *hit = found >= 0;
    if (found >= 0 || found == PCRE2_ERROR_NOMATCH) return FT_OK;
    pcre2_get_error_message(found, why, sizeof why);
    return ft_fail(found == PCRE2_ERROR_NOMEMORY ? FT_EMEM : FT_EDATA,
                   "regex \"%s\": %s; simplify the pattern", ft_shows(p->text), (const char *)why);
}
