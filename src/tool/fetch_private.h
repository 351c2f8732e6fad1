/* fetch_private.h – what the files of `ft fetch` share: the library that speaks HTTP, transfers with their retries, what a
 * repository holds, which of it is wanted, and the folder it is put into.
 *
 * The server is hostile: what it states is checked before it is believed, what it sends is counted and hashed. */
#ifndef FT_FETCH_PRIVATE_H
#define FT_FETCH_PRIVATE_H

#include "ft/io.h"

#include <curl/curl.h>

/* --- fetch_curl.c: libcurl, opened when it is first needed ------------------------------------------------ */
#define FETCH_CURL(X)                                                                              \
    X(global_init)                                                                                 \
    X(free)                                                                                        \
    X(easy_init)                                                                                   \
    X(easy_cleanup)                                                                                \
    X(easy_setopt)                                                                                 \
    X(easy_getinfo)                                                                                \
    X(easy_strerror)                                                                               \
    X(slist_append)                                                                                \
    X(slist_free_all)                                                                              \
    X(multi_init)                                                                                  \
    X(multi_cleanup)                                                                               \
    X(multi_add_handle)                                                                            \
    X(multi_remove_handle)                                                                         \
    X(multi_perform)                                                                               \
    X(multi_poll)                                                                                  \
    X(multi_info_read)                                                                             \
    X(url)                                                                                         \
    X(url_cleanup)                                                                                 \
    X(url_set)                                                                                     \
    X(url_get)
typedef struct fetch_curl { /* curl_NAME without curl_ */
#define X(name) __typeof__(curl_##name) *name;
    FETCH_CURL(X)
#undef X
} fetch_curl;
/* 71 naming the package where there is none. */
FT_MUST_USE ft_status fetch_curl_open(const fetch_curl **out);

/* --- fetch_net.c: transfers ---------------------------------------------------------------------------------- */
typedef struct fetch_answer {
    int status;
    int64_t length;      /* Content-Length, −1: not stated */
    int64_t from, total; /* Content-Range, −1: not stated */
    int64_t linked_size; /* X-Linked-Size of the first answer, −1 */
    char etag[80];       /* X-Linked-Etag, else ETag, of the first answer, without quotes; "" */
} fetch_answer;

typedef enum fetch_verdict {
    FETCH_GOOD,
    FETCH_BUSY,    /* of end: to be called again */
    FETCH_SHORT,   /* fewer bytes than there are: again, a few times, from where it stands */
    FETCH_WRONG,   /* not what was stated: once more from the start, then 65 */
    FETCH_NEEDLESS /* it is there already */
} fetch_verdict;

/* Where the bytes of a job go. A failing status ends the whole run; a verdict that is not good has its reason in why. */
typedef struct fetch_job fetch_job;
typedef struct fetch_sink {
    /* Before each attempt: from which byte on; whole: nothing is missing, and end is called at once. */
    ft_status (*begin)(fetch_job *j, int64_t *from, bool *whole);
    ft_status (*first)(fetch_job *j, const fetch_answer *a, fetch_verdict *v); /* redirect or not */
    ft_status (*head)(fetch_job *j, const fetch_answer *a, fetch_verdict *v);  /* of the content */
    ft_status (*data)(fetch_job *j, const void *data, size_t n, fetch_verdict *v);
    ft_status (*end)(fetch_job *j, fetch_verdict *v);
    void (*restart)(fetch_job *j); /* what came is of no use */
    void (*leave)(fetch_job *j);   /* the attempt is over */
} fetch_sink;

typedef struct fetch_flight fetch_flight;
struct fetch_job {
    const fetch_sink *sink;
    void *ctx;
    const char *what; /* for messages: "config.json of org/name" */
    const char *kind; /* what a 404 says is not there: "file" */
    const char *url;
    char why[300];
    char *link; /* URL of Link: rel="next", owned; NULL: none */
    /* the engine's */
    int tries, wrong;
    int64_t fresh; /* bytes since it last failed */
    double when;   /* clock, not before */
    enum { FETCH_WAITS, FETCH_FLIES, FETCH_ENDS, FETCH_OVER } state;
    fetch_flight *flight;
};

typedef struct fetch_net {
    const fetch_curl *curl;
    CURLM *multi;
    const char *endpoint; /* without a slash at the end */
    const char *page;     /* of the repository, for people */
    char *scheme, *host, *port;
    struct curl_slist *token; /* the header; NULL: none */
    bool has_token, reached;
    bool in_the_clear;       /* the token, to another machine */
    void (*tick)(void *ctx); /* now and then; may be NULL */
    void *tick_ctx;
} fetch_net;
/* 64: the endpoint or the token cannot be one. */
FT_MUST_USE ft_status fetch_net_open(fetch_net *n, const char *endpoint, const char *token);
void fetch_net_close(fetch_net *n);
/* Does all jobs, so many at once, in their order. The first that fails for good ends it. */
FT_MUST_USE ft_status fetch_run(fetch_net *n, fetch_job *const *job, int64_t jobs, int parallel);
/* A text of at most so many bytes. link as in the job, owned by the caller; may be NULL. */
FT_MUST_USE ft_status fetch_text(fetch_net *n, const char *url, const char *what, const char *kind,
                                 size_t limit, str_buf *out, char **link);

/* --- fetch_hub.c: what a repository holds ------------------------------------------------------------------- */
typedef struct fetch_file {
    const char *path;
    int64_t size;    /* −1: not stated yet */
    char sha256[65]; /* "": none */
    char git[41];    /* id of the blob, of what is not in LFS; "": none */
    bool wanted, listed;
} fetch_file;
typedef struct fetch_repo {
    const char *id, *revision; /* org/name, main */
    bool dataset;
    const char *commit;
    const char *url;  /* of the commit's files, with a slash at the end */
    fetch_file *file; /* [n] by path */
    int64_t n;
    map_table index;
} fetch_repo;
/* org/name[@revision]; 64. */
FT_MUST_USE ft_status fetch_repo_name(fetch_repo *r, const char *word, arena *mem);
/* The page of the repository at the endpoint. */
const char *fetch_repo_page(const fetch_repo *r, const char *endpoint, arena *mem);
/* Commit and files: by the answer after the revision, or pages of the tree. */
FT_MUST_USE ft_status fetch_repo_list(fetch_repo *r, fetch_net *net, arena *mem);
fetch_file *fetch_repo_find(const fetch_repo *r, const char *path);
const char *fetch_file_url(const fetch_repo *r, const char *path, arena *mem);

/* --- fetch_list.c: answers of the API -------------------------------------------------------------------------- */
typedef struct fetch_list {
    fetch_repo *r; /* files are added; the commit by an answer that is no tree */
    arena *mem;
    const char *what; /* for messages */
    int64_t cap;
    bool whole; /* each file has size and hash */
} fetch_list;
FT_MUST_USE ft_status fetch_list_read(fetch_list *l, bool tree, const char *text, size_t len);
/* In the order of their paths: every one may stand in a folder, and none in the way of another; else 65. */
FT_MUST_USE ft_status fetch_list_check(fetch_repo *r);

/* --- fetch_pick.c: which of it is wanted ---------------------------------------------------------------------- */
/* Marks them. *index: the index of weights, whose files are to be added once it is there; NULL: none. */
FT_MUST_USE ft_status fetch_pick(fetch_repo *r, const char *const *include, int n_include,
                                 const fetch_file **index);
/* Is it a file of a model by its name, so that another one in its place is one, too? bare: words and terms are. */
bool fetch_is_model_file(const char *path, bool bare);
/* Marks the files that the index names: of a text that is checked. */
FT_MUST_USE ft_status fetch_pick_indexed(fetch_repo *r, const char *text, size_t len,
                                         const char *name);

/* --- fetch_place.c: the folder --------------------------------------------------------------------------------- */
typedef struct fetch_place {
    const char *dir;
    int fd, lock;
    bool made; /* by this run */
    arena *mem;
} fetch_place;
FT_MUST_USE ft_status fetch_place_open(fetch_place *p, const char *dir, arena *mem);
void fetch_place_close(fetch_place *p); /* a folder that was made for nothing goes */
/* 65 where the path leads through a link, 73 where a folder or a device is in the way, or a file where a folder belongs. *fd:
 * what is there, to read; −1: nothing. */
FT_MUST_USE ft_status fetch_place_look(const fetch_place *p, const char *path, int *fd);
/* The name of the part of a file: that of another content has another one. */
enum { FETCH_PART = 80 };
void fetch_part_name(char out[FETCH_PART], const fetch_repo *r, const fetch_file *f);
FT_MUST_USE ft_status fetch_part_open(const fetch_place *p, const char *part, int *fd,
                                      int64_t *size);
void fetch_part_remove(const fetch_place *p, const char *part);
/* A whole part, synced, under its name. replace: in the place of what stands there. */
FT_MUST_USE ft_status fetch_part_put(const fetch_place *p, const char *part, const char *path,
                                     bool replace);
/* Removes parts of this repository that are of no file that it holds. */
void fetch_parts_tidy(const fetch_place *p, const fetch_repo *r);
#endif
