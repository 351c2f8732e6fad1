/* pty.c – pty SCRIPT COMMAND…: runs a command on a terminal of its own (80 × 24), types what a script says and waits for
 * what it expects.  What the terminal showed goes to stdout; the exit status is the command's (128 + signal), 124 where
 * something expected did not come.  A line of the script:
 *
 *   expect TEXT     waits until TEXT stands behind what was expected before
 *   send TEXT       types it; \n \r \t \e \\ \xHH as in C
 *   size COLUMNS    of the window, from now on
 *   pause MS
 *   signal NUMBER   to the command
 *   nothing MS      nothing may be shown for so long
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { WAIT_MS = 30000, SCREEN = 1 << 20 };

static char screen[SCREEN + 1];
static size_t shown, matched;
static int terminal;
static pid_t child;

static int give_up(const char *what, const char *text)
{
    fwrite(screen, 1, shown, stdout);
    fprintf(stderr, "pty: %s: %s\n", what, text);
    kill(child, SIGKILL);
    return 124;
}

/* Reads what comes within ms; false at the end of the terminal, or when nothing came. */
static bool read_some(int ms)
{
    struct pollfd p = {.fd = terminal, .events = POLLIN};
    if (poll(&p, 1, ms) <= 0) return false;
    ssize_t n = read(terminal, screen + shown, SCREEN - shown);
    if (n <= 0) return false;
    shown += (size_t)n;
    return true;
}

static bool expect(const char *text)
{
    for (;;) {
        screen[shown] = 0;
        char *at = memmem(screen + matched, shown - matched, text, strlen(text));
        if (at) {
            matched = (size_t)(at - screen) + strlen(text);
            return true;
        }
        if (!read_some(WAIT_MS)) return false;
    }
}

/* The escapes of C, in place; the length. */
static size_t unescape(char *s)
{
    static const char names[] = "nrte\\", codes[] = "\n\r\t\033\\";
    char *to = s;
    for (char *p = s; *p; p++) {
        const char *name = *p == '\\' && p[1] ? strchr(names, p[1]) : NULL;
        char *end = p;
        if (name) {
            *to++ = codes[name - names];
            p++;
        } else if (p[0] == '\\' && p[1] == 'x') {
            char hex[3] = {p[2], p[2] ? p[3] : 0, 0};
            *to++ = (char)strtol(hex, &end, 16);
            p += 1 + (end - hex);
        } else {
            *to++ = *p;
        }
    }
    *to = 0;
    return (size_t)(to - s);
}

static bool resize(int columns)
{
    struct winsize w = {.ws_row = 24, .ws_col = (unsigned short)columns};
    return ioctl(terminal, TIOCSWINSZ, &w) == 0;
}

static int one_step(char *line)
{
    char *text = line + strcspn(line, " ");
    if (*text) *text++ = 0;
    int number = atoi(text);
    if (strcmp(line, "expect") == 0) {
        unescape(text);
        if (!expect(text)) return give_up("did not come", text);
    } else if (strcmp(line, "send") == 0) {
        size_t n = unescape(text);
        if (write(terminal, text, n) != (ssize_t)n) return give_up("cannot type", text);
    } else if (strcmp(line, "size") == 0) {
        if (!resize(number)) return give_up("cannot resize", text);
    } else if (strcmp(line, "pause") == 0) {
        usleep((useconds_t)number * 1000);
    } else if (strcmp(line, "signal") == 0) {
        kill(child, number);
    } else if (strcmp(line, "nothing") == 0) {
        if (read_some(number)) return give_up("something came", text);
    } else if (line[0] && line[0] != '#') {
        return give_up("no such step", line);
    }
    return 0;
}

static int open_terminal(char *const *command)
{
    terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0 || !resize(80)) return -1;
    const char *name = ptsname(terminal);
    child = fork();
    if (child != 0) return child;
    setsid();
    int fd = open(name, O_RDWR);
    if (fd < 0 || ioctl(fd, TIOCSCTTY, 0) != 0) _exit(125);
    for (int i = 0; i < 3; i++) dup2(fd, i);
    if (fd > 2) close(fd);
    execvp(command[0], command);
    _exit(127);
}

int main(int argc, char **argv)
{
    static char line[1 << 16];
    FILE *script = argc > 2 ? fopen(argv[1], "r") : NULL;
    int rc = 0, status;
    if (!script || open_terminal(argv + 2) < 0) {
        fprintf(stderr, "usage: pty SCRIPT COMMAND…\n");
        return 125;
    }
    while (rc == 0 && fgets(line, sizeof line, script)) {
        line[strcspn(line, "\n")] = 0;
        rc = one_step(line);
    }
    fclose(script);
    if (rc != 0) return rc;
    while (read_some(WAIT_MS)) {
    }
    for (int i = 0; waitpid(child, &status, WNOHANG) == 0; i++) {
        if (i == WAIT_MS / 10) return give_up("has not ended", argv[2]);
        usleep(10000);
    }
    fwrite(screen, 1, shown, stdout);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
