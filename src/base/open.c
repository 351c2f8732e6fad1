/* open.c – opening a file to read it.
 *
 * Every file of a user is opened here. Only regular files are read: opening or reading a pipe may wait for ever, and a
 * device may act when it is touched. Standard input is read elsewhere, as standard input. */
#include "ft/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* NULL: it is a regular file. */
static const char *what_else(mode_t mode)
{
    if (S_ISREG(mode)) return NULL;
    if (S_ISDIR(mode)) return "is a folder, not a file";
    if (S_ISFIFO(mode))
        return "is a pipe, not a file; write what it gives into a file (data may come through "
               "standard input, as -)";
    return S_ISSOCK(mode) ? "is a socket, not a file" : "is a device, not a file";
}

/* A link that leads nowhere is told as such. */
static ft_status cannot_open(const char *path, const char *name)
{
    char target[PATH_MAX];
    const int error = errno;
    const ssize_t n = error == ENOENT ? readlink(path, target, sizeof target) : -1;
    if (n > 0)
        return ft_fail(FT_ENOINPUT,
                       "%s: is a link to %s, which does not exist; is the download complete?", name,
                       ft_show(target, (size_t)n));
    errno = error;
    return ft_fail_errno(FT_EIO, "%s: cannot be opened", name);
}

ft_status ft_open(int *fd, const char *path, const char *name)
{
    struct stat sb;
    *fd = -1;
    if (!name) name = path;
    if (stat(path, &sb) != 0) return cannot_open(path, name);
    const char *else_ = what_else(sb.st_mode);
    FT_CHECK(!else_, FT_EDATA, "%s: %s", name, else_);
    /* it may have become something else since: then O_NONBLOCK keeps us from waiting for the other end of a pipe */
    int got;
    do got = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (got < 0 && errno == EINTR);
    if (got < 0) return cannot_open(path, name);
    ft_status rc = FT_OK;
    if (fstat(got, &sb) != 0)
        rc = ft_fail_errno(FT_EIO, "%s: cannot be opened", name);
    else if (!S_ISREG(sb.st_mode))
        rc = ft_fail(FT_EDATA, "%s: is no longer a file", name);
    if (rc != FT_OK) {
        close(got);
        return rc;
    }
    *fd = got;
    return FT_OK;
}
