/* stream.c – room for the stream: memory, or a file of the work folder where there is not enough of it. The file has no name
 * any more once it is open, so that nothing is left of it. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "compress_private.h"

static ft_status map_file(cmp_walk *w, size_t bytes)
{
    const char *path = path_join(w->mem, w->o.dir, "stream.tmp");
    if (!path) return FT_EMEM;
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return ft_fail_errno(FT_EIO, "%s: cannot be made", path);
    unlink(path);
    /* room now: a disk that is full later would end the program */
    const bool room = posix_fallocate(fd, 0, (off_t)bytes) == 0;
    void *at = room ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    FT_CHECK(at != MAP_FAILED, FT_EIO,
             "%s: %s for the activations of a block neither fit into memory nor here",
             ft_shows(w->o.dir), ft_bytes_text(bytes));
    w->stream = at;
    w->mapped = bytes;
    return FT_OK;
}

ft_status cmp_stream_open(cmp_walk *w, bool in_file)
{
    const size_t cols = (size_t)w->m->d.hidden_size;
    if (in_file) return map_file(w, (size_t)w->tokens * cols * sizeof(float));
    w->stream = ft_alloc((size_t)w->tokens * cols, sizeof *w->stream);
    return w->stream ? FT_OK : FT_EMEM;
}

void cmp_stream_close(cmp_walk *w)
{
    if (w->mapped > 0)
        munmap(w->stream, w->mapped);
    else
        ft_free(w->stream);
    w->stream = NULL;
    w->mapped = 0;
}
