/* A pattern, NUL, a module's path: PEFT's rules of which module a pattern means; names as the regexes that
 * they are. */
#include "fuzz.h"

#include "ft/method.h"

static void known(int r)
{
    FZ_CHECK(r >= -2 && r <= 1 && (r >= 0 || ft_error()[0]));
    if (r < 0) fz_plain(ft_error());
    ft_error_forget();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fz_input in = {data, size, false};
    const uint8_t *part;
    size_t n;
    int64_t layer = 0;
    fz_part(&in, &part, &n);
    char *pattern = fz_string(part, n);
    bool given = fz_part(&in, &part, &n);
    char *path = given ? fz_string(part, n) : fz_string("model.layers.11.self_attn.q_proj", 32);
    known(pe_match_full(pattern, path));
    known(pe_match_pattern(pattern, path));
    /* a plain name goes without a regex: as with one */
    char *regex = malloc(strlen(pattern) + 3);
    FZ_CHECK(regex);
    sprintf(regex, "(%s)", pattern);
    if (!pattern[strcspn(pattern, "\\()[]{}|?*+^$#")])
        FZ_CHECK(pe_match_pattern(pattern, path) == pe_match_pattern(regex, path));
    ft_error_forget();
    free(regex);
    known(pe_match_inside(pattern, path));
    known(pe_match_layer(pattern, path, &layer));
    known(pe_match_layer(NULL, path, &layer));
    (void)pe_match_suffix(pattern, path);
    free(pattern);
    free(path);
    return 0;
}
