/* bytes.h – the bytes of a file as they are without its compression, shared by what reads text. */
#ifndef FT_IO_BYTES_H
#define FT_IO_BYTES_H

#include "io_private.h"

enum { IO_BYTES_INPUT = 64 << 10 }; /* read at a time */

typedef struct io_packing io_packing; /* a row of bytes.c */

typedef struct io_bytes {
    const char *path; /* for messages */
    int fd;
    int64_t size;              /* of the file when it was opened */
    const io_packing *packing; /* NULL: plain */
    void *decoder;             /* of the packing */
    bool inside;               /* of a member of the compressed data */
    bool ended;
    uint8_t *in;        /* NULL: standard input */
    size_t at, have;    /* unread part of `in` */
    const char *failed; /* what is wrong behind the bytes handed out so far; NULL: nothing */
    int64_t line;       /* complete lines handed out, for messages */
    int64_t given;      /* bytes handed out */
    int64_t unpacked;   /* given, and what was given before a seek back */
    bool keeps;         /* seeks: the last bytes that were unpacked stay at hand */
    uint8_t *kept;
    int64_t kept_from; /* the first of them, at most so many */
} io_bytes;

/* `name` must live as long as `s`. */
FT_MUST_USE ft_status io_bytes_open(io_bytes *s, const char *path, const char *name);
/* Up to `room` bytes; *n = 0 at the end. */
FT_MUST_USE ft_status io_bytes_read(io_bytes *s, void *out, size_t room, size_t *n);
/* The next byte is that of this offset. What is compressed is read up to there, unless it was unpacked not long ago. */
FT_MUST_USE ft_status io_bytes_seek(io_bytes *s, int64_t offset);
bool io_bytes_wait(const io_bytes *s);  /* the next bytes, or the end, may have to be waited for */
bool io_bytes_ready(const io_bytes *s); /* they are there */
void io_bytes_close(io_bytes *s);
#endif
