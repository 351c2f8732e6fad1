/* room.c – outputs that cannot be written at once: a disk that is full for a moment, bytes that came back other than they
 * went; and the notes of what was written.
 *
 * A full disk often has room again soon, since somebody is told of it: work of hours is worth a minute. */
#include "ft/io.h"
#include "io_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool impatient;
static file_notes *notes;
static enum { NOTHING, DAMAGED, FULL } last; /* of the file that was given up */

double file_retry_seconds(void)
{
    const char *text = getenv("FT_TEST_RETRY_SECONDS");
    const double seconds = text ? strtod(text, NULL) : 20.0;
    return seconds >= 0 ? seconds : 20.0;
}

bool file_patience(bool on)
{
    const bool before = !impatient;
    impatient = !on;
    return before;
}

int io_open(const char *path, int flags)
{
    int fd;
    do fd = open(path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

bool io_synced(int fd)
{
    int failed;
    do failed = fsync(fd);
    while (failed && errno == EINTR);
    return !failed || errno == EINVAL || errno == EROFS;
}

bool io_is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

bool io_wait_for_room(const char *path, int *tries)
{
    const int error = errno;
    if (!io_is_full(error) || impatient || *tries >= FILE_RETRIES || ft_stop_came()) return false;
    ++*tries;
    log_warn("%s: the disk is full; trying again in %.0f s (%d of %d)", path, file_retry_seconds(),
             *tries, FILE_RETRIES);
    const bool waited = ft_wait(file_retry_seconds());
    errno = error;
    return waited;
}

/* --- once more ----------------------------------------------------------------------------------------------------- */
void io_note_damage(void)
{
    last = DAMAGED;
}

void io_note_full(int error)
{
    if (io_is_full(error)) last = FULL;
}

bool file_out_again(ft_status rc, int *tries)
{
    const bool damaged = last == DAMAGED, full = last == FULL;
    last = NOTHING;
    if (rc != FT_EIO || impatient || ft_stop_came()) return false;
    if (damaged && *tries == 0) {
        ++*tries;
        log_warn("%s; it is written once more", ft_error());
        return true;
    }
    if (!full || *tries >= FILE_RETRIES) return false;
    ++*tries;
    log_warn("%s; trying again in %.0f s (%d of %d)", ft_error(), file_retry_seconds(), *tries,
             FILE_RETRIES);
    return ft_wait(file_retry_seconds());
}

/* --- notes --------------------------------------------------------------------------------------------------------- */
void file_notes_begin(file_notes *t)
{
    *t = (file_notes){0};
    notes = t;
}

void file_notes_end(file_notes *t)
{
    if (notes == t) notes = NULL;
    for (int64_t i = 0; i < t->n; i++) ft_free(t->note[i].path);
    ft_free(t->note);
    *t = (file_notes){0};
}

const file_note *file_notes_find(const file_notes *t, const char *path)
{
    for (int64_t i = t->n; i-- > 0;)
        if (strcmp(t->note[i].path, path) == 0) return &t->note[i];
    return NULL;
}

ft_status io_note_written(const char *path, size_t bytes, const char sha256[65])
{
    if (!notes) return FT_OK;
    if (notes->n == notes->cap) {
        const int64_t cap = notes->cap ? 2 * notes->cap : 16;
        file_note *more = ft_realloc(notes->note, (size_t)cap, sizeof *more);
        if (!more) return FT_EMEM;
        notes->note = more;
        notes->cap = cap;
    }
    file_note *n = &notes->note[notes->n];
    *n = (file_note){.path = ft_strdup(path), .bytes = bytes};
    if (!n->path) return FT_EMEM;
    memcpy(n->sha256, sha256, sizeof n->sha256);
    notes->n++;
    return FT_OK;
}
