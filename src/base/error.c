/* error.c – the error record of a thread, and names made safe for a terminal.
 *
 * A failing function records one sentence and returns a status; only the program prints it. Parsers of
 * configs append further lines so that one run lists every mistake. */
#include "base_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RECORD_BYTES 8192
static _Thread_local char record[RECORD_BYTES];
static _Thread_local size_t record_len;
static _Thread_local int keeping;
static _Thread_local bool starved;     /* the record is of memory that was not given */
static _Thread_local char origin[160]; /* debug builds: where the record was made */

/* A line break that a name brings along is escaped: only those of ft_fail_more part lines. */
static void append(const char *fmt, va_list ap)
{
    static _Thread_local char text[RECORD_BYTES];
    vsnprintf(text, sizeof text, fmt, ap);
    for (const char *p = text; *p && record_len + sizeof "\\x0a" < RECORD_BYTES; p++) {
        if (*p == '\n') {
            memcpy(record + record_len, "\\x0a", 4);
            record_len += 4;
        } else {
            record[record_len++] = *p;
        }
    }
    record[record_len] = 0;
}

static void append_text(const char *fmt, ...) FT_PRINTF(1, 2);
static void append_text(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    append(fmt, ap);
    va_end(ap);
}

/* The first failure is the one to tell. */
static bool stays(void)
{
    return starved || (keeping > 0 && record_len > 0);
}

/* What fails while a refusal of memory is on record is a consequence of it. */
static bool is_kept(ft_status *status)
{
    if (starved) *status = FT_EMEM;
    return stays();
}

bool ft_error_starved(void)
{
    return starved;
}

void ft_error_keep(bool keep)
{
    keeping += keep ? 1 : -1;
}

/* An arena that reached its own limit says so, and is none. */
static bool is_refusal(const char *text)
{
    return strstr(text, "out of memory") && !strstr(text, "its limit");
}

/* With the limit that memory ran into. */
static void note_refusal(const char *fmt)
{
    if (!is_refusal(fmt)) return;
    starved = true;
    const ft_grant g = ft_memory_ask(&(ft_need){.bytes = ft_rss()});
    if (g.limit == SIZE_MAX) return;
    append_text("; it needs more than the %s in use, %s grants %s", ft_bytes_text(g.need), g.name,
                ft_bytes_text(g.limit));
}

ft_status(ft_fail)(ft_status status, const char *fmt, ...)
{
    va_list ap;
    if (is_kept(&status)) return status;
    record_len = 0;
    va_start(ap, fmt);
    append(fmt, ap);
    va_end(ap);
    if (status == FT_EMEM) note_refusal(fmt);
    return status;
}

ft_status(ft_fail_again)(ft_status status, const char *told)
{
    if (!told) return ft_fail(FT_EMEM, "out of memory for a message");
    if (is_kept(&status) || told == record) return status;
    record_len = strnlen(told, RECORD_BYTES - 1);
    memmove(record, told, record_len);
    record[record_len] = 0;
    starved = status == FT_EMEM && is_refusal(record);
    return status;
}

ft_status(ft_fail_more)(ft_status status, const char *fmt, ...)
{
    va_list ap;
    if (is_kept(&status)) return status;
    if (record_len > 0 && record_len + 1 < RECORD_BYTES) record[record_len++] = '\n';
    va_start(ap, fmt);
    append(fmt, ap);
    va_end(ap);
    return status;
}

ft_status(ft_fail_errno)(ft_status status, const char *fmt, ...)
{
    static const struct {
        int error;
        ft_status status;
    } classes[] = {
        {ENOENT, FT_ENOINPUT}, {ENOTDIR, FT_ENOINPUT}, {EACCES, FT_EPERM}, {EPERM, FT_EPERM},
        {EROFS, FT_EPERM},     {ENOMEM, FT_EMEM},      {EMFILE, FT_EMEM},  {ENFILE, FT_EMEM},
    };
    int error = errno;
    va_list ap;
    for (size_t i = 0; i < FT_COUNT_OF(classes); i++) {
        if (classes[i].error == error) status = classes[i].status;
    }
    if (error == EINTR && ft_stop_came()) status = FT_ESIGNAL;
    if (is_kept(&status)) return status;
    record_len = 0;
    va_start(ap, fmt);
    append(fmt, ap);
    va_end(ap);
    append_text(": %s", strerror(error));
    return status;
}

const char *ft_error(void)
{
    return record_len > 0 ? record : "";
}

void ft_error_clear(void)
{
    if (!starved) ft_error_forget();
}

void ft_error_forget(void)
{
    record_len = 0;
    record[0] = 0;
    origin[0] = 0;
    starved = false;
}

const char *ft_error_origin(void)
{
    return record_len > 0 ? origin : "";
}

#ifdef FT_DEBUG
void ft_error_at(const char *file, int line, const char *function)
{
    const char *tree = strstr(file, "src/");
    if (stays()) return;
    int error = errno; /* ft_fail_errno reads it next */
    snprintf(origin, sizeof origin, "%s:%d %s", tree ? tree : file, line, function);
    errno = error;
}
#endif

/* C0/C1 controls, DEL, bidi marks and isolates, tags; invalid bytes (-1) too. */
bool utf8_unsafe(int32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x061c || cp == 0x200e || cp == 0x200f ||
           (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069) || cp == 0xfeff ||
           (cp >= 0xe0000 && cp < 0xe0080);
}

const char *ft_show(const char *text, size_t n)
{
    enum { RING = 8, SHOWN = 80, ROOM = SHOWN + 16 };
    static _Thread_local char ring[RING][ROOM];
    static _Thread_local int next;
    char *out = ring[next++ % RING];
    size_t len = 0;

    for (size_t i = 0; i < n;) {
        int32_t cp;
        int bytes = utf8_next(text + i, n - i, &cp);
        char piece[16];
        if (cp < 0)
            snprintf(piece, sizeof piece, "\\x%02x", (unsigned char)text[i]);
        else if (utf8_unsafe(cp))
            snprintf(piece, sizeof piece, cp < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)cp);
        else
            snprintf(piece, sizeof piece, "%.*s", bytes, text + i);
        size_t add = strlen(piece);
        if (len + add > SHOWN) {
            memcpy(out + len, "...", 4);
            return out;
        }
        memcpy(out + len, piece, add);
        len += add;
        i += (size_t)bytes;
    }
    out[len] = 0;
    return out;
}

const char *ft_shows(const char *text)
{
    return text ? ft_show(text, strlen(text)) : "(null)";
}

const char *ft_bytes_text(size_t bytes)
{
    static _Thread_local char ring[12][24];
    static _Thread_local unsigned next;
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    char *out = ring[next++ % FT_COUNT_OF(ring)];
    double v = (double)bytes;
    size_t u = 0;
    for (; v >= 1024 && u + 1 < FT_COUNT_OF(units); u++) v /= 1024;
    snprintf(out, sizeof ring[0], u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, units[u]);
    return out;
}
