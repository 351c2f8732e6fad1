/* lines.c – JSON lines from a file or from standard input, and small helpers for writing JSON.
 *
 * Standard input is read here and not through stdio because a harness may send one line and wait for its answer
 * before it sends the next: the reader must be able to tell whether another line is already there. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "tool_private.h"

#define LINE_CAP ((size_t)16 << 20)
#define POLL_MS                                                                                    \
    200 /* a signal restarts a read, so the flag is looked at this often while waiting */

struct tool_lines {
    line_reader *file; /* NULL: standard input */
    char *path;
    char *data; /* bytes read and not yet returned: [at, len) */
    size_t at, len, cap;
    int64_t number;
    bool ended;
};

ft_status tool_go_on(void)
{
    FT_CHECK(!ft_stop_signal(), FT_ESIGNAL, "stopped by a signal");
    return FT_OK;
}

ft_status tool_lines_open(tool_lines **out, const char *path)
{
    ft_status rc = FT_OK;
    tool_lines *l = ft_alloc(1, sizeof *l);
    *out = NULL;
    if (!l) return FT_EMEM;
    if (path) {
        l->path = ft_strdup(path);
        rc = l->path ? lines_open(&l->file, path) : FT_EMEM;
    }
    if (rc != FT_OK)
        tool_lines_close(l);
    else
        *out = l;
    return rc;
}

void tool_lines_close(tool_lines *l)
{
    if (!l) return;
    if (l->file) lines_close(l->file);
    ft_free(l->path);
    ft_free(l->data);
    ft_free(l);
}

const char *tool_lines_name(const tool_lines *l)
{
    return l->path ? l->path : "standard input";
}

int64_t tool_lines_number(const tool_lines *l)
{
    return l->number;
}

static bool whole_line(const tool_lines *l)
{
    return l->len > l->at && memchr(l->data + l->at, '\n', l->len - l->at) != NULL;
}

bool tool_lines_ready(const tool_lines *l)
{
    if (l->file || l->ended || whole_line(l)) return true;
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static ft_status fill(tool_lines *l)
{
    if (l->at > 0) {
        memmove(l->data, l->data + l->at, l->len - l->at);
        l->len -= l->at;
        l->at = 0;
    }
    if (l->len == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 65536;
        char *data = ft_realloc(l->data, cap, 1);
        if (!data) return FT_EMEM;
        l->data = data;
        l->cap = cap;
    }
    for (;;) {
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&p, 1, POLL_MS);
        FT_TRY(tool_go_on());
        if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
        ssize_t n = read(STDIN_FILENO, l->data + l->len, l->cap - l->len);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return ft_fail_errno(FT_EIO, "standard input: cannot be read");
        l->len += (size_t)n;
        l->ended = n == 0;
        return FT_OK;
    }
}

static ft_status next_stdin(tool_lines *l, const char **text, size_t *len)
{
    size_t seen = 0;
    for (;;) {
        size_t have = l->len - l->at;
        const char *start = l->data ? l->data + l->at : "";
        const char *end = have > seen ? memchr(start + seen, '\n', have - seen) : NULL;
        if (end || (l->ended && have > 0)) {
            size_t n = end ? (size_t)(end - start) : have;
            l->at += n + (end != NULL);
            l->number++;
            if (end && n > 0 && start[n - 1] == '\r') n--;
            *text = start;
            *len = n;
            return FT_OK;
        }
        if (l->ended) return FT_END;
        FT_CHECK(have <= LINE_CAP, FT_EDATA, "standard input:%lld: line of more than 16 MiB",
                 (long long)(l->number + 1));
        seen = have;
        FT_TRY(fill(l));
    }
}

static bool is_blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

ft_status tool_lines_next(tool_lines *l, const char **text, size_t *len)
{
    do {
        ft_status rc = l->file ? lines_next(l->file, text, len) : next_stdin(l, text, len);
        if (rc != FT_OK) return rc;
        if (l->file) l->number = lines_number(l->file);
    } while (is_blank(*text, *len));
    return FT_OK;
}

/* --- JSON ------------------------------------------------------------------------------------------------ */

ft_status tool_string(const js_doc *d, const cJSON *o, const char *key, const char **text,
                      size_t *len)
{
    FT_TRY(js_get_str(d, o, key, NULL, text));
    *len = *text ? js_nul((char *)(uintptr_t)*text, strlen(*text)) : 0;
    return FT_OK;
}

void tool_json_text(str_buf *out, const char *text, size_t n)
{
    if (utf8_valid(text, n)) {
        str_json(out, text, n);
        return;
    }
    str_buf clean = {0};
    for (size_t i = 0; i < n;) {
        int32_t c;
        int k = utf8_next(text + i, n - i, &c);
        if (c < 0)
            str_adds(&clean, "\xef\xbf\xbd");
        else
            str_add(&clean, text + i, (size_t)k);
        i += (size_t)k;
    }
    if (clean.failed) out->failed = true;
    str_json(out, clean.data ? clean.data : "", clean.len);
    str_free(&clean);
}

void tool_json_number(str_buf *out, double v)
{
    if (isfinite(v))
        str_double(out, v);
    else
        str_adds(out, "null");
}

void tool_json_key(str_buf *out, const char *key)
{
    if (out->len > 0 && out->data[out->len - 1] != '{') str_addc(out, ',');
    str_json(out, key, strlen(key));
    str_addc(out, ':');
}

ft_status tool_put(const tool_sink *out, const str_buf *text)
{
    FT_TRY(str_ok(text));
    return text->len > 0 ? out->put(out->ctx, text->data, text->len) : FT_OK;
}
