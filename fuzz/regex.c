/* A pattern of a tokenizer, NUL, a text (none: a fixed one): matches are in order, within the text, and end. */
#include "fuzz.h"

#include "token/token_private.h"

enum { STEPS = 2000000 }; /* a text may have more: so many inputs a second are worth more here */

/* Both engines, and not only their refusals: a match, and then the end. */
static void find_known(void)
{
    static const char *const patterns[] = {"b+|a+", "(a+)\\1"}; /* the own one; PCRE2's */
    for (size_t i = 0; i < FT_COUNT_OF(patterns); i++) {
        tk_steps steps = tk_steps_of(5);
        tk_regex *re;
        tk_find f;
        size_t a, b;
        fz_must(tk_regex_open(&re, (tk_span){patterns[i], strlen(patterns[i])}));
        fz_must(tk_find_open(&f, re, " aaaa", 5, &steps));
        fz_must(tk_find_next(&f, &a, &b));
        FZ_CHECK(a == 1 && b == 5 && tk_find_next(&f, &a, &b) == FT_END);
        tk_find_close(&f);
        tk_regex_close(re);
    }
}

static void find(const tk_regex *re, const char *text, size_t len)
{
    tk_steps steps = {.bytes = len, .limit = STEPS};
    tk_find f = {0};
    size_t a, b, last = 0, count = 0;
    ft_status rc = tk_find_open(&f, re, text, len, &steps);
    fz_status(rc);
    if (rc != FT_OK) return;
    while ((rc = tk_find_next(&f, &a, &b)) == FT_OK) {
        FZ_CHECK(last <= a && a <= b && b <= len && ++count <= len + 2);
        last = b;
    }
    fz_status(rc);
    tk_find_close(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char fixed[] = "aaaa bb\xc3\xa4 12\n\n it's";
    fz_input in = {data, size, false};
    tk_regex *re = NULL;
    const uint8_t *pattern;
    size_t n;
    if (fz_start()) find_known();
    fz_part(&in, &pattern, &n);
    char *exact = fz_exact(pattern, n);
    char *text = in.ended ? fz_exact(fixed, sizeof fixed - 1) : fz_exact(in.p, in.left);
    ft_status rc = tk_regex_open(&re, (tk_span){exact, n});
    fz_status(rc);
    if (rc == FT_OK) {
        find(re, text, in.ended ? sizeof fixed - 1 : in.left);
        tk_regex_close(re);
    }
    free(exact);
    free(text);
    return 0;
}
