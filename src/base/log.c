/* log.c – messages on their way to the sink that the program installed.
 *
 * A file may be read more than once in a command (for the plan, then for the run); its warning is told once. */
#include "ft/base.h"

#include <stdatomic.h>
#include <stdio.h>

enum { TOLD = 64 };

static log_sink sink;
static void *sink_ctx;
static _Atomic uint64_t told[TOLD]; /* of the last warnings */
static atomic_uint n_told;

void log_set_sink(log_sink new_sink, void *ctx)
{
    sink = new_sink;
    sink_ctx = ctx;
    for (int i = 0; i < TOLD; i++) told[i] = 0;
}

static bool told_before(const char *line)
{
    uint64_t key = rng_key_text(0, line);
    for (int i = 0; i < TOLD; i++) {
        if (told[i] == key) return true;
    }
    told[n_told++ % TOLD] = key;
    return false;
}

static void emit(log_level level, const char *fmt, va_list ap)
{
    char line[1024];
    if (!sink) return;
    vsnprintf(line, sizeof line, fmt, ap);
    if (level == LOG_WARN && told_before(line)) return;
    sink(sink_ctx, level, line);
}

void log_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_WARN, fmt, ap);
    va_end(ap);
}

void log_info(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_INFO, fmt, ap);
    va_end(ap);
}

void log_progress(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_PROGRESS, fmt, ap);
    va_end(ap);
}

void log_busy(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_BUSY, fmt, ap);
    va_end(ap);
}

void log_idle(void)
{
    if (sink) sink(sink_ctx, LOG_BUSY, "");
}
