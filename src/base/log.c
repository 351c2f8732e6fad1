/* log.c – messages on their way to the sink that the program installed. */
#include "ft/base.h"

#include <stdio.h>

static log_sink sink;
static void *sink_ctx;

void log_set_sink(log_sink new_sink, void *ctx)
{
    sink = new_sink;
    sink_ctx = ctx;
}

static void emit(log_level level, const char *fmt, va_list ap)
{
    char line[1024];
    if (!sink) return;
    vsnprintf(line, sizeof line, fmt, ap);
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
