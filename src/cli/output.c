/* output.c – what the program says: results on stdout, messages and progress on stderr. */
#include "cli.h"

#include "ft/tool.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <utf8proc.h>

#define CLEAR "\r\x1b[K" /* to the start of the line, which is cleared */

/* What stands on the terminal. */
static struct {
    bool quiet, live;  /* live: progress may be drawn */
    bool json;         /* a program listens: nothing turns */
    bool colours;      /* of messages */
    const char *color; /* --color; NULL: auto */
    atomic_bool drawn; /* a progress line stands on the terminal */
} sink;

/* What every thread that writes there holds, but for signal handlers. */
static pthread_mutex_t screen = PTHREAD_MUTEX_INITIALIZER;

/* What is being done, for who waits longer than a second (spinner). */
static struct {
    pthread_cond_t wake;
    pthread_t thread;
    bool runs, on, quit;
    double next, ended; /* when it is drawn; when the last one was done */
    char text[256];
} busy;

/* --- stdout ----------------------------------------------------------------------------------------- */
enum { OUT_BYTES = 1 << 16 };
static char out_data[OUT_BYTES];
static size_t out_len;
static bool out_failed; /* reported; later results are dropped */

/* Writes all of it; false with errno set. A terminal or pipe in non-blocking mode is waited for. */
static bool write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            if (poll(&wait, 1, -1) < 0 && !ft_again()) return false;
            continue;
        }
        if (done < 0 && ft_again()) continue;
        if (done < 0) return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

static void clear_line(void)
{
    pthread_mutex_lock(&screen);
    if (sink.drawn) sink.drawn = !write_all(STDERR_FILENO, CLEAR, sizeof CLEAR - 1);
    pthread_mutex_unlock(&screen);
}

ft_status cli_flush(void)
{
    size_t n = out_len;
    out_len = 0;
    clear_line();
    if (n == 0 || out_failed) return FT_OK;
    if (write_all(STDOUT_FILENO, out_data, n)) return FT_OK;
    out_failed = true;
    return ft_fail_errno(FT_EIO, "standard output: cannot write the results");
}

static ft_status buffer(const char *text, size_t n)
{
    while (n > 0) {
        size_t part = OUT_BYTES - out_len < n ? OUT_BYTES - out_len : n;
        memcpy(out_data + out_len, text, part);
        out_len += part;
        text += part;
        n -= part;
        if (out_len == OUT_BYTES) FT_TRY(cli_flush());
    }
    return FT_OK;
}

/* --- what may stand there ------------------------------------------------------------------------------ */
static enum { AS_NAMES, AS_TEXT, AS_JSON, AS_IT_IS } results;

void cli_results_are(int needs, bool json)
{
    const bool seen = isatty(STDOUT_FILENO);
    results = json || needs & CLI_JSON ? AS_JSON
              : needs & CLI_COLOUR     ? AS_IT_IS
              : needs & CLI_TEXT       ? (seen ? AS_TEXT : AS_IT_IS)
                                       : AS_NAMES;
}

/* JSON has its own escapes for what stands below a space, and no other place for these than a string. */
static bool passes(int32_t cp)
{
    if (cp < 0) return results == AS_JSON; /* part of a character; JSON that we write is valid */
    if (!utf8_unsafe(cp)) return true;
    return cp == '\n' || cp == '\t' || (results == AS_JSON && cp < 0x20);
}

static ft_status out_escaped(const char *text, size_t bytes, int32_t cp)
{
    char code[32];
    if (results != AS_JSON) {
        const char *shown = ft_show(text, bytes);
        return buffer(shown, strlen(shown));
    }
    if (cp < 0x10000)
        snprintf(code, sizeof code, "\\u%04x", (unsigned)cp);
    else
        snprintf(code, sizeof code, "\\u%04x\\u%04x", 0xd800u + ((unsigned)(cp - 0x10000) >> 10),
                 0xdc00u + ((unsigned)(cp - 0x10000) & 0x3ff));
    return buffer(code, strlen(code));
}

ft_status cli_out(const char *text, size_t n)
{
    size_t from = 0;
    if (results == AS_IT_IS) return buffer(text, n);
    for (size_t i = 0; i < n;) {
        int32_t cp;
        const size_t bytes = (size_t)utf8_next(text + i, n - i, &cp);
        if (!passes(cp)) {
            FT_TRY(buffer(text + from, i - from));
            FT_TRY(out_escaped(text + i, bytes, cp));
            from = i + bytes;
        }
        i += bytes;
    }
    return buffer(text + from, n - from);
}

ft_status cli_put(void *unused, const char *text, size_t n)
{
    (void)unused;
    return cli_out(text, n);
}

ft_status cli_put_now(void *unused, const char *text, size_t n)
{
    (void)unused;
    FT_TRY(cli_out(text, n));
    return cli_flush();
}

ft_status cli_outs(const char *text)
{
    return cli_out(text, strlen(text));
}

ft_status cli_printf(const char *fmt, ...)
{
    str_buf s = {0};
    va_list ap;
    va_start(ap, fmt);
    str_vprintf(&s, fmt, ap);
    va_end(ap);
    ft_status rc = str_ok(&s);
    if (rc == FT_OK) rc = cli_out(s.data ? s.data : "", s.len);
    str_free(&s);
    return rc;
}

ft_status cli_out_json(const cJSON *node)
{
    str_buf s = {0};
    js_print(&s, node, false);
    str_addc(&s, '\n');
    ft_status rc = str_ok(&s);
    if (rc == FT_OK) rc = cli_out(s.data, s.len);
    str_free(&s);
    return rc == FT_OK ? cli_flush() : rc;
}

/* --- stderr ------------------------------------------------------------------------------------------- */
/* A line on its way, in memory that is there already: that memory has run out is told, too. */
typedef struct message {
    char data[12 << 10];
    size_t n;
    bool lost; /* it could not be written: there is nobody left to tell */
} message;

static void send(message *m)
{
    if (m->n && !m->lost) m->lost = !write_all(STDERR_FILENO, m->data, m->n);
    m->n = 0;
}

static void add(message *m, const char *text, size_t n)
{
    for (size_t part; n > 0; text += part, n -= part) {
        if (m->n == sizeof m->data) send(m);
        part = sizeof m->data - m->n < n ? sizeof m->data - m->n : n;
        memcpy(m->data + m->n, text, part);
        m->n += part;
    }
}

/* The line with nothing in it that moves a cursor or turns text around. */
static void add_safe(message *m, const char *line, size_t n)
{
    for (size_t i = 0; i < n;) {
        int32_t cp;
        size_t len = (size_t)utf8_next(line + i, n - i, &cp);
        if (cp >= 0x20 && cp < 0x7f) {
            add(m, line + i, 1);
        } else {
            const char *shown =
                ft_show(line + i, len); /* one character, escaped where it must be */
            add(m, shown, strlen(shown));
        }
        i += len;
    }
}

static void say(const char *before, const char *line, size_t n, const char *after)
{
    message m;
    m.n = 0;
    m.lost = false;
    pthread_mutex_lock(&screen);
    if (sink.drawn) add(&m, CLEAR, sizeof CLEAR - 1);
    add(&m, before, strlen(before));
    add_safe(&m, line, n);
    add(&m, after, strlen(after));
    send(&m);
    if (!m.lost) sink.drawn = false;
    pthread_mutex_unlock(&screen);
}

static size_t terminal_width(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col : 80;
}

/* Columns that text takes, and in *fit the bytes that take `width` of them at most. */
static size_t columns(const char *text, size_t n, size_t width, size_t *fit)
{
    size_t sum = 0;
    *fit = 0;
    for (size_t i = 0; i < n;) {
        int32_t cp;
        size_t len = (size_t)utf8_next(text + i, n - i, &cp);
        sum += cp < 0 ? 1 : (size_t)utf8proc_charwidth(cp);
        i += len;
        if (sum <= width) *fit = i;
    }
    return sum;
}

/* The line in `width` columns: details go from the left; of the last one, which is the time left, its word ("left "). The
 * last column stays free, unless it is what that time needs. */
static void draw(const char *line, size_t width)
{
    message safe = {.n = 0}, m = {.n = 0};
    size_t fit = 0;
    add_safe(&safe, line, strnlen(line, sizeof safe.data / 8));
    safe.data[safe.n] = '\0';
    const char *at = safe.data, *next;
    while (columns(at, strlen(at), width - 1, &fit) >= width && (next = strstr(at, "  ")))
        at = next + 2;
    const char *word = strrchr(at, ' ');
    const bool is_time =
        word && word[1 + strspn(word + 1, "0123456789:")] == 0 && strchr(word, ':');
    if (fit < strlen(at) && is_time) {
        at = word + 1;
        columns(at, strlen(at), width, &fit);
    }
    add(&m, CLEAR, sizeof CLEAR - 1);
    add(&m, at, fit);
    send(&m);
    sink.drawn = !m.lost || sink.drawn;
}

/* --- what takes a while ------------------------------------------------------------------------------- */

/* Until `when` of ft_seconds; the lock is held before and after. */
static void sleep_until(double when)
{
    const struct timespec t = {.tv_sec = (time_t)when,
                               .tv_nsec = (long)((when - floor(when)) * 1e9)};
    pthread_cond_timedwait(&busy.wake, &screen, &t);
}

static void *spinner(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&screen);
    for (unsigned turn = 0; !busy.quit;) {
        if (!busy.on) {
            pthread_cond_wait(&busy.wake, &screen);
        } else if (ft_seconds() < busy.next) {
            sleep_until(busy.next);
        } else {
            char line[sizeof busy.text + 4];
            snprintf(line, sizeof line, "%c %s", "|/-\\"[turn++ % 4], busy.text);
            draw(line, terminal_width());
            busy.next = ft_seconds() + 0.125;
        }
    }
    pthread_mutex_unlock(&screen);
    return NULL;
}

/* It takes no signal: those are for the threads that do the work. Without memory for it nothing turns. */
static void start_spinner(void)
{
    enum { STACK_BYTES = 256 << 10 };
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_condattr_t clock;
    if (pthread_condattr_init(&clock) != 0) return;
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    const bool fine = pthread_cond_init(&busy.wake, &clock) == 0;
    pthread_condattr_destroy(&clock);
    if (!fine || pthread_attr_init(&attr) != 0) return;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    busy.runs = pthread_create(&busy.thread, &attr, spinner, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
}

/* Under the lock. What begins where something else has just ended goes on with its second. */
static void be_busy(const char *line)
{
    const double now = ft_seconds();
    if (!line[0]) {
        if (busy.on && sink.drawn) sink.drawn = !write_all(STDERR_FILENO, CLEAR, sizeof CLEAR - 1);
        busy.ended = now;
        busy.on = false;
        return;
    }
    snprintf(busy.text, sizeof busy.text, "%s", line);
    if (!busy.on && now - busy.ended > 0.25) busy.next = now + 1;
    busy.on = true;
    if (!busy.runs) start_spinner();
    if (busy.runs) pthread_cond_signal(&busy.wake);
}

void cli_sink_close(void)
{
    pthread_mutex_lock(&screen);
    be_busy("");
    busy.quit = true;
    const bool runs = busy.runs;
    if (runs) pthread_cond_signal(&busy.wake);
    pthread_mutex_unlock(&screen);
    if (runs) pthread_join(busy.thread, NULL);
    busy.runs = false;
}

/* --- messages ----------------------------------------------------------------------------------------- */
#define RED "\x1b[1;31m"
#define YELLOW "\x1b[1;33m"
#define PLAIN "\x1b[0m"

static const char *error_word(void)
{
    return sink.colours ? RED "ft: error:" PLAIN " " : "ft: error: ";
}

static void on_log(void *ctx, log_level level, const char *line)
{
    static const char *const warning[] = {"ft: warning: ", YELLOW "ft: warning:" PLAIN " "};
    (void)ctx;
    if (sink.quiet) return;
    if (level == LOG_WARN || level == LOG_INFO) {
        say(level == LOG_WARN ? warning[sink.colours] : "", line, strlen(line), "\n");
    } else if (sink.live && !(level == LOG_BUSY && sink.json)) {
        pthread_mutex_lock(&screen);
        if (level == LOG_BUSY) {
            be_busy(line);
        } else {
            busy.on = false; /* it tells more */
            draw(line, terminal_width());
        }
        pthread_mutex_unlock(&screen);
    }
}

const char *cli_data(const char *path)
{
    return path && strcmp(path, "-") == 0 ? NULL : path;
}

enum { NEXT = 900 }; /* a longer command is no help, and messages end somewhere */

ft_status cli_next(const cli_call *c, const char *command)
{
    FT_TRY(cli_flush());
    if (command && !c->json && strlen(command) <= NEXT) log_info("next: %s", command);
    return FT_OK;
}

ft_status cli_next_words(const cli_call *c, const char *const *words)
{
    str_buf text = {0};
    str_adds(&text, "ft");
    for (; *words; words++) {
        str_addc(&text, ' ');
        str_shell(&text, *words, false);
    }
    ft_status rc = str_ok(&text);
    if (rc == FT_OK) rc = cli_next(c, text.data);
    str_free(&text);
    return rc;
}

ft_status cli_next_measure(const cli_call *c, const char *result, bool adapter)
{
    bool scores;
    FT_TRY(tool_scores(result, c->mem, &scores));
    const char *of = adapter ? "--adapter" : "--model";
    return cli_next_words(c, scores ? (const char *[]){"score", of, result, "--data", "LINES", NULL}
                                    : (const char *[]){"eval", of, result, "--task", "perplexity",
                                                       "--data", "FILE", NULL});
}

static volatile sig_atomic_t error_said;

/* In a signal handler: nothing but writes. */
void cli_stop_told(const char *note, bool error)
{
    const int kept = errno;
    if (error ? error_said : sink.quiet) return;
    const char *const part[] = {sink.drawn ? CLEAR : "", error ? error_word() : "", note, "\n"};
    for (size_t i = 0; i < FT_COUNT_OF(part); i++)
        if (write(STDERR_FILENO, part[i], strlen(part[i])) < 0) break;
    errno = kept;
}

/* The same: the last words. */
void cli_fault_told(const char *line)
{
    const char *const part[] = {sink.drawn ? CLEAR : "", error_word(), line, "\n"};
    for (size_t i = 0; i < FT_COUNT_OF(part); i++)
        if (write(STDERR_FILENO, part[i], strlen(part[i])) < 0) break;
}

/* Is it a terminal that knows colours, and how a line is cleared? */
static bool can_show(int fd)
{
    const char *term = getenv("TERM");
    return isatty(fd) && term && term[0] && strcmp(term, "dumb") != 0;
}

bool cli_colour(int fd)
{
    const char *plain = getenv("NO_COLOR");
    if (sink.color && strcmp(sink.color, "auto") != 0) return strcmp(sink.color, "always") == 0;
    return can_show(fd) && !(plain && plain[0]);
}

void cli_sink_install(const char *color, bool quiet, bool json)
{
    sink.color = color;
    sink.quiet = quiet;
    sink.json = json;
    sink.colours = cli_colour(STDERR_FILENO);
    sink.live = can_show(STDERR_FILENO) && sink.colours;
    log_set_sink(on_log, NULL);
}

void cli_error(const char *lines)
{
    error_said = 1;
    if (!lines[0]) lines = "failed without a message";
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        say(error_word(), lines, n, "\n");
        lines += n + (lines[n] == '\n');
    }
}
