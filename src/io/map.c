/* map.c – mapped files: whole, or pieces of them: the beginning all the time, others while they are used.
 *
 * A model that is quantised on load is read once, tensor by tensor, and may be larger than the address space that is
 * granted. The file stays open, so its bytes stay what they are whatever becomes of its name, as those of a mapping do. */
#include "io_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct piece {
    struct piece *next;
    const uint8_t *base;
    size_t from, bytes; /* of the file; from: a multiple of the page */
    int64_t users;
    ft_mapped *mapped;
} piece;

struct file_pieces {
    int fd;
    size_t head; /* bytes that are mapped at the beginning */
    char *path;
    piece *first; /* the youngest; the last one is the head */
};

/* A mapping takes as much address space as the file is long. */
static ft_status cannot(const char *path, size_t bytes)
{
    if (errno != ENOMEM) return ft_fail_errno(FT_EIO, "%s: cannot be mapped", path);
    const ft_grant g = ft_memory_ask(&(ft_need){.address = bytes});
    return ft_fail(FT_EMEM, "%s: cannot be mapped: it needs %s of address space, %s grants %s",
                   path, ft_bytes_text(bytes), g.name, ft_bytes_text(g.limit));
}

ft_status file_map_open(file_map *m, const char *path)
{
    static const uint8_t nothing[1];
    struct stat sb;
    ft_status rc = FT_OK;

    *m = (file_map){.data = nothing};
    int fd;
    FT_TRY(ft_open(&fd, path, NULL));
    if (fstat(fd, &sb) != 0) {
        rc = ft_fail_errno(FT_EIO, "%s: cannot be read", path);
        goto out;
    }
    if (sb.st_size > 0) {
        void *data = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            rc = cannot(path, (size_t)sb.st_size);
            goto out;
        }
        *m = (file_map){.data = data, .size = (size_t)sb.st_size};
        rc = io_watch_map(m, fd, path);
        if (rc != FT_OK) file_map_close(m);
    }
out:
    close(fd);
    return rc;
}

/* There already, or mapped now. */
static ft_status add_piece(file_pieces *p, size_t at, size_t bytes, piece **out)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), from = at / page * page;
    for (piece *q = p->first; q; q = q->next) {
        if (q->from != from || q->bytes != bytes + (at - from)) continue;
        q->users++;
        *out = q;
        return FT_OK;
    }
    piece *one = ft_alloc(1, sizeof *one);
    if (!one) return FT_EMEM;
    one->from = from;
    one->bytes = bytes + (at - from);
    one->users = 1;
    void *base = mmap(NULL, one->bytes, PROT_READ, MAP_PRIVATE, p->fd, (off_t)from);
    one->base = base;
    if (base != MAP_FAILED) one->mapped = ft_mapped_add(base, one->bytes, p->path);
    if (!one->mapped) {
        ft_status rc = base == MAP_FAILED ? cannot(p->path, one->bytes) : FT_EMEM;
        if (base != MAP_FAILED) munmap(base, one->bytes);
        ft_free(one);
        return rc;
    }
    one->next = p->first;
    p->first = *out = one;
    return FT_OK;
}

static void drop(piece *one)
{
    ft_mapped_drop(one->mapped);
    munmap((void *)(uintptr_t)one->base, one->bytes);
    ft_free(one);
}

static void close_pieces(file_pieces *p)
{
    for (piece *next, *one = p->first; one; one = next) {
        next = one->next;
        drop(one);
    }
    close(p->fd);
    ft_free(p->path);
    ft_free(p);
}

void file_map_close(file_map *m)
{
    file_watch_close(m->watch);
    if (m->pieces)
        close_pieces(m->pieces);
    else if (m->size > 0)
        munmap((void *)(uintptr_t)m->data, m->size);
    *m = (file_map){0};
}

void file_map_forget(const void *data, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)data;
    const uintptr_t first = (at + page - 1) / page * page, end = (at + bytes) / page * page;
    if (end > first) (void)madvise((void *)first, end - first, MADV_DONTNEED); /* only a hint */
}

size_t io_map_head(const file_map *m)
{
    return m->pieces ? m->pieces->head : m->size;
}

ft_status io_map_read(const file_map *m, void *out, size_t n, size_t at)
{
    uint8_t *to = out;
    while (n > 0) {
        const ssize_t got = pread(m->pieces->fd, to, n, (off_t)at);
        if (got < 0 && ft_again()) continue;
        if (got < 0) return ft_fail_errno(FT_EIO, "%s: cannot be read", m->pieces->path);
        FT_CHECK(got > 0, FT_EIO,
                 "%s: was cut while it was in use; put it back whole and run again",
                 m->pieces->path);
        to += got;
        at += (size_t)got;
        n -= (size_t)got;
    }
    return FT_OK;
}

ft_status io_map_more(file_map *m, size_t bytes)
{
    file_pieces *p = m->pieces;
    piece *one;
    if (!p || bytes <= p->head) return FT_OK;
    if (bytes > m->size) bytes = m->size;
    while (p->first) {
        piece *next = p->first->next;
        drop(p->first);
        p->first = next;
    }
    FT_TRY(add_piece(p, 0, bytes, &one));
    m->data = one->base;
    p->head = bytes;
    return FT_OK;
}

ft_status io_map_open_head(file_map *m, const char *path, size_t bytes)
{
    static const uint8_t nothing[1];
    struct stat sb;
    int fd;
    *m = (file_map){.data = nothing};
    FT_TRY(ft_open(&fd, path, NULL));
    file_pieces *p = ft_alloc(1, sizeof *p);
    if (!p) {
        close(fd);
        return FT_EMEM;
    }
    m->pieces = p;
    p->fd = fd;
    p->path = ft_strdup(path);
    ft_status rc = p->path ? FT_OK : FT_EMEM;
    if (rc == FT_OK && fstat(fd, &sb) != 0) rc = ft_fail_errno(FT_EIO, "%s: cannot be read", path);
    if (rc == FT_OK) m->size = (size_t)sb.st_size;
    if (rc == FT_OK && m->size > 0) rc = io_map_more(m, bytes);
    if (rc == FT_OK && m->size > 0) rc = io_watch_map(m, fd, path);
    if (rc != FT_OK) file_map_close(m);
    return rc;
}

int64_t io_pieces_ranges(const file_map *m, ft_range *out)
{
    int64_t n = 0;
    if (!m->pieces) {
        if (out) *out = (ft_range){m->data, m->size};
        return m->size > 0;
    }
    for (const piece *one = m->pieces->first; one; one = one->next, n++)
        if (out) out[n] = (ft_range){one->base, one->bytes};
    return n;
}

ft_status io_tensor_map(const io_tensor *t, const void **data)
{
    piece *one;
    *data = t->data;
    if (t->data || t->bytes == 0) return FT_OK;
    FT_CHECK(t->map->pieces, FT_EINTERNAL, "%s: tensor \"%s\" has no values", t->file,
             ft_shows(t->name));
    FT_TRY(add_piece(t->map->pieces, t->at, t->bytes, &one));
    *data = one->base + (one->bytes - t->bytes);
    return FT_OK;
}

void io_tensor_unmap(const io_tensor *t, const void *data)
{
    if (t->data || !data) return;
    for (piece **at = &t->map->pieces->first; *at; at = &(*at)->next) {
        piece *one = *at;
        if (one->base + (one->bytes - t->bytes) != data || one->bytes < t->bytes) continue;
        if (--one->users > 0) return;
        *at = one->next;
        drop(one);
        return;
    }
}
