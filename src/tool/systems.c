/* systems.c – system turns from a file, a text a line: personas by which one prompt gives answers of many kinds (Chan et al.
 * 2024, Scaling Synthetic Data Creation with 1,000,000,000 Personas). Which one a line has is a pure function of the seed and
 * the line's number. */
#include <string.h>

#include "tool_private.h"

ft_status tool_systems_read(tool_generate_options *opt, const char *path, arena *mem)
{
    enum { LIMIT = 64 << 20 };
    char *text;
    size_t len;
    FT_TRY(text_read(&text, &len, path, LIMIT));
    char *copy = arena_strn(mem, text, len);
    ft_free(text);
    if (!copy) return FT_EMEM;
    FT_CHECK(utf8_valid(copy, len) && !memchr(copy, 0, len), FT_EDATA,
             "%s: is not UTF-8 text: a system turn stands on each line", ft_shows(path));
    int most = 1, n = 0;
    for (size_t i = 0; i < len; i++) most += copy[i] == '\n';
    const char **list = arena_get(mem, (size_t)most * sizeof *list);
    if (!list) return FT_EMEM;
    for (char *line = copy, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        size_t used = strlen(line);
        if (used > 0 && line[used - 1] == '\r') line[--used] = 0;
        if (!lines_blank(line, used)) list[n++] = line;
    }
    FT_CHECK(n > 0, FT_EDATA, "%s: is empty: a system turn stands on each line", ft_shows(path));
    opt->systems = list;
    opt->n_systems = n;
    return FT_OK;
}

int tool_systems_turns(const tool_generate_options *opt)
{
    return opt->cross ? opt->n_systems : 1;
}

const char *tool_systems_turn(const tool_generate_options *opt, uint64_t line, int k)
{
    if (opt->n_systems == 0) return opt->system;
    if (opt->cross) return opt->systems[k];
    const uint64_t key = rng_key(opt->sampling.seed, 0x73797374656du, line); /* "system" */
    return opt->systems[(int)(rng_uniform(key, 0) * opt->n_systems)];
}
