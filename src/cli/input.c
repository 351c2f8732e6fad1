/* input.c – stdin by lines, for verbs that answer line by line: it returns a line as soon as it is there,
 * and a request to stop does not wait for the next one. */
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 16 << 20, POLL_MS = 200 };

/* More bytes behind data[len]; end is set where there are none. */
static ft_status fill(cli_input *in)
{
    if (in->cap - in->len < 4096) {
        size_t cap = in->cap ? 2 * in->cap : 1 << 16;
        char *more = ft_realloc(in->data, cap, 1);
        if (!more) return FT_EMEM;
        in->data = more;
        in->cap = cap;
    }
    for (;;) {
        struct pollfd wait = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&wait, 1, POLL_MS);
        FT_CHECK(!ft_stop_signal(), FT_ESIGNAL,
                 "stopped by a signal at line %lld of standard input", (long long)in->line + 1);
        if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
        ssize_t got = read(STDIN_FILENO, in->data + in->len, in->cap - in->len);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        FT_CHECK(got >= 0, FT_EIO, "standard input: cannot read: %s", strerror(errno));
        in->len += (size_t)got;
        in->end = got == 0;
        return FT_OK;
    }
}

ft_status cli_line(cli_input *in, const char **text, size_t *len)
{
    size_t seen = 0;
    for (;;) {
        const char *start = in->data ? in->data + in->at : NULL;
        size_t have = in->len - in->at;
        const char *stop = have > seen ? memchr(start + seen, '\n', have - seen) : NULL;
        if (stop || (in->end && have > 0)) {
            size_t n = stop ? (size_t)(stop - start) : have;
            in->at += n + (stop != NULL);
            in->line++;
            *text = start;
            *len = stop && n > 0 && start[n - 1] == '\r' ? n - 1 : n;
            return FT_OK;
        }
        if (in->end) return FT_END;
        FT_CHECK(have < LINE_BYTES, FT_EDATA, "standard input:%lld: a line longer than %d MiB",
                 (long long)in->line + 1, LINE_BYTES >> 20);
        seen = have;
        if (in->at > 0) {
            memmove(in->data, start, have);
            in->len = have;
            in->at = 0;
        }
        FT_TRY(fill(in));
    }
}

void cli_input_close(cli_input *in)
{
    ft_free(in->data);
    *in = (cli_input){0};
}
