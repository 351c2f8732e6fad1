/* fetch.c – `ft fetch`: files of a repository of a Hugging Face endpoint into a folder.
 *
 * First all is asked that can be refused: the list, the names, what stands in the folder, the room on the disk. Then the files
 * come, hashed as they arrive. A file that is there and whole is hashed and left alone; a part goes on where it ends. A file
 * that has come is synced and read back before it gets its name, in pieces, while others come. */
#include "fetch_private.h"
#include "tool_private.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, SLICE = 16, BAR = 20 };
#define HUB "https://huggingface.co"

typedef struct fetching {
    const tool_fetch_options *opt;
    const tool_sink *out;
    arena *mem;
    const char *dir; /* opt->out without slashes at its end */
    fetch_net net;
    fetch_repo repo;
    fetch_place place;
    uint8_t *buffer;                                  /* [CHUNK] */
    int64_t files, fetched, bytes;                    /* done */
    int64_t want_files, want_bytes, have_bytes, came; /* of the files at work; came: in this run */
    double begun, shown, told;
    const char *now; /* path of the last file that got bytes */
} fetching;

typedef struct item { /* a file on its way */
    fetching *x;
    fetch_file *f;
    fetch_job job;
    char part[FETCH_PART];
    int fd;
    int64_t have;    /* bytes in the part, hashed */
    int64_t counted; /* of them in have_bytes */
    bool looked;     /* the part was hashed as an earlier run left it */
    bool resumed;    /* such bytes are in the file */
    bool replaces, synced;
    bool unsure;  /* something stands in its place, and may be it: its hash is not stated yet */
    int64_t back; /* bytes read back */
    sha256_state sha, back_sha;
    sha1_state git;
    char sha256[65];
} item;

/* --- what is told ----------------------------------------------------------------------------------------------------- */

static ft_status tell_file(fetching *x, const fetch_file *f, int64_t size, const char *sha256,
                           const char *status)
{
    str_buf s = {0};
    x->files++;
    x->bytes += size;
    x->fetched += strcmp(status, "present") != 0;
    if (!x->opt->json) {
        log_info("%s: %s, %s", ft_shows(f->path), ft_bytes_text((size_t)size),
                 strcmp(status, "present") == 0 ? "there and whole" : status);
        return FT_OK;
    }
    str_adds(&s, "{\"path\":");
    str_json(&s, f->path, strlen(f->path));
    str_printf(&s, ",\"size\":%lld,\"sha256\":\"%s\",\"status\":\"%s\"}\n", (long long)size, sha256,
               status);
    ft_status rc = tool_put(x->out, &s);
    str_free(&s);
    return rc;
}

static void show(void *ctx)
{
    fetching *x = ctx;
    char bar[BAR + 1], line[400];
    const double now = ft_seconds();
    if (now - x->shown < 0.1 || x->want_bytes <= 0) return;
    x->shown = now;
    const double share = (double)x->have_bytes / (double)x->want_bytes;
    const int full = share < 1 ? (int)(share * BAR) : BAR;
    const double rate = now > x->begun ? (double)x->came / (now - x->begun) : 0;
    const double rest = rate > 0 ? (double)(x->want_bytes - x->have_bytes) / rate : 0;
    const int64_t left = rest > 0 && rest < 1e7 ? (int64_t)rest : 0;
    for (int i = 0; i < BAR; i++) bar[i] = i < full ? '#' : '-';
    bar[BAR] = '\0';
    snprintf(line, sizeof line,
             "%s  file %lld of %lld  %s of %s  %s/s  [%s] %d %%  left %lld:%02d:%02d",
             x->now ? ft_shows(x->now) : "",
             (long long)(x->files + 1 < x->want_files ? x->files + 1 : x->want_files),
             (long long)x->want_files, ft_bytes_text((size_t)x->have_bytes),
             ft_bytes_text((size_t)x->want_bytes), ft_bytes_text((size_t)rate), bar,
             (int)(100 * share), (long long)(left / 3600), (int)(left / 60 % 60), (int)(left % 60));
    if (now - x->told < 30) {
        log_progress("%s", line);
        return;
    }
    log_info("%s", line);
    x->told = now;
}

/* --- hashes ------------------------------------------------------------------------------------------------------------ */

static void hash_begin(sha256_state *sha, sha1_state *git, int64_t size)
{
    char head[40];
    const int n = snprintf(head, sizeof head, "blob %lld", (long long)size);
    sha256_init(sha);
    sha1_init(git);
    sha1_add(git, head, (size_t)n + 1); /* and its NUL */
}

/* Of what stands in a file; FT_OK with fewer bytes where it ends earlier. */
static ft_status hash_file(fetching *x, int fd, const char *path, int64_t bytes, bool with_git,
                           sha256_state *sha, sha1_state *git, int64_t *done)
{
    *done = 0;
    while (*done < bytes) {
        FT_TRY(ft_stop());
        const size_t room = bytes - *done < CHUNK ? (size_t)(bytes - *done) : CHUNK;
        const ssize_t n = pread(fd, x->buffer, room, (off_t)*done);
        if (n < 0 && ft_again()) continue;
        if (n < 0)
            return ft_fail_errno(FT_EIO, "%s/%s: cannot be read", x->place.dir, ft_shows(path));
        if (n == 0) break;
        sha256_add(sha, x->buffer, (size_t)n);
        if (with_git) sha1_add(git, x->buffer, (size_t)n);
        *done += n;
        if (ft_seconds() - x->shown < 0.1) continue;
        x->shown = ft_seconds();
        log_progress("%s: looking whether it is whole  %.0f %%", ft_shows(path),
                     100 * (double)*done / (double)bytes);
    }
    return FT_OK;
}

static bool is_right(const fetch_file *f, const char *sha256, const char *git)
{
    return f->sha256[0] ? strcmp(f->sha256, sha256) == 0 : strcmp(f->git, git) == 0;
}

/* --- what is there ----------------------------------------------------------------------------------------------------- */

/* May the file be replaced by another of its name? One of a model may, and its words in the folder of a model; what may be
 * somebody's own only when that is said. */
static bool may_replace(const fetching *x, const char *path)
{
    struct stat sb;
    const bool beside =
        !x->repo.dataset && (fstatat(x->place.fd, "config.json", &sb, 0) == 0 ||
                             fstatat(x->place.fd, "adapter_config.json", &sb, 0) == 0);
    return x->opt->force || (!x->repo.dataset && fetch_is_model_file(path, !beside));
}

/* What stands in the place of a file whose hash is known; *whole: it is that file. */
static ft_status compare(fetching *x, const fetch_file *f, int fd, bool *whole)
{
    sha256_state sha;
    sha1_state git;
    char hex[65], blob[41];
    struct stat sb;
    int64_t n;
    *whole = false;
    if (fstat(fd, &sb) == 0 && (f->size < 0 || (int64_t)sb.st_size == f->size)) {
        hash_begin(&sha, &git, (int64_t)sb.st_size);
        FT_TRY(hash_file(x, fd, f->path, (int64_t)sb.st_size, !f->sha256[0], &sha, &git, &n));
        sha256_hex(&sha, hex);
        sha1_hex(&git, blob);
        *whole = n == (int64_t)sb.st_size && is_right(f, hex, blob);
    }
    if (*whole) return tell_file(x, f, (int64_t)sb.st_size, hex, "present");
    FT_CHECK(may_replace(x, f->path), FT_EEXIST,
             "%s/%s: is there, and is another file than that of %s; move it away, or write over it "
             "with --force",
             x->place.dir, ft_shows(f->path), x->repo.id);
    log_info("%s/%s: is not the file that %s has, and is fetched again", x->place.dir,
             ft_shows(f->path), x->repo.id);
    return FT_OK;
}

/* *whole: a file that need not come. Else *there: something else stands in its place. */
static ft_status look(fetching *x, const fetch_file *f, bool *whole, bool *there)
{
    int fd;
    *whole = false;
    FT_TRY(fetch_place_look(&x->place, f->path, &fd));
    *there = fd >= 0;
    if (fd < 0) return FT_OK;
    ft_status rc = FT_OK;
    if (f->sha256[0] || f->git[0]) rc = compare(x, f, fd, whole);
    close(fd);
    return rc;
}

/* --- a file that comes ----------------------------------------------------------------------------------------------- */

static void count(item *it)
{
    it->x->have_bytes += it->have - it->counted;
    it->counted = it->have;
}

/* Nothing of it is there. */
static ft_status from_start(item *it)
{
    it->have = 0;
    it->resumed = false;
    it->synced = false;
    it->looked = true;
    count(it);
    hash_begin(&it->sha, &it->git, it->f->size);
    while (ftruncate(it->fd, 0) != 0)
        if (errno != EINTR)
            return ft_fail_errno(FT_EIO, "%s/%s: cannot be cut", it->x->place.dir, it->part);
    return FT_OK;
}

/* Hashes what an earlier run, or an attempt of another length than we remember, has left. */
static ft_status go_on(item *it, int64_t size)
{
    hash_begin(&it->sha, &it->git, it->f->size);
    it->have = 0;
    FT_TRY(hash_file(it->x, it->fd, it->f->path, size, !it->f->sha256[0], &it->sha, &it->git,
                     &it->have));
    it->looked = it->resumed = true;
    count(it);
    return FT_OK;
}

static ft_status file_begin(fetch_job *j, int64_t *from, bool *whole)
{
    item *it = j->ctx;
    const fetch_file *f = it->f;
    int64_t size;
    it->synced = false;
    FT_TRY(fetch_part_open(&it->x->place, it->part, &it->fd, &size));
    if (!it->looked || size != it->have) {
        if (size > 0 && size <= f->size)
            FT_TRY(go_on(it, size));
        else
            FT_TRY(from_start(it));
    }
    *from = it->have;
    *whole = it->have > 0 && it->have == f->size;
    return FT_OK;
}

/* What the list did not state. */
static void learn(item *it, const fetch_answer *a)
{
    fetch_file *f = it->f;
    const size_t n = strlen(a->etag);
    const bool hex = strspn(a->etag, "0123456789abcdef") == n;
    const int64_t before = f->size > 0 ? f->size : 0;
    if (!f->sha256[0] && hex && n == 64) {
        memcpy(f->sha256, a->etag, 65);
        if (a->linked_size >= 0) f->size = a->linked_size;
    } else if (!f->sha256[0] && !f->git[0] && hex && n == 40) {
        memcpy(f->git, a->etag, 41);
    }
    if (f->size < 0) f->size = a->linked_size;
    if (f->size < 0 && a->status == 200) f->size = a->length;
    if (f->size < 0 && a->status == 206) f->size = a->total;
    if (f->size > 0) it->x->want_bytes += f->size - before;
    if (f->size >= 0 && it->have == 0) hash_begin(&it->sha, &it->git, f->size);
}

static ft_status file_first(fetch_job *j, const fetch_answer *a, fetch_verdict *v)
{
    item *it = j->ctx;
    bool whole, there;
    learn(it, a);
    if (!it->unsure || (!it->f->sha256[0] && !it->f->git[0])) return FT_OK;
    it->unsure = false;
    FT_TRY(look(it->x, it->f, &whole, &there));
    if (whole) *v = FETCH_NEEDLESS;
    return FT_OK;
}

static ft_status file_head(fetch_job *j, const fetch_answer *a, fetch_verdict *v)
{
    item *it = j->ctx;
    learn(it, a);
    FT_CHECK(it->f->size >= 0, FT_EDATA, "%s: the server states no size of it", j->what);
    FT_CHECK(it->f->sha256[0] || it->f->git[0], FT_EDATA,
             "%s: the server states no hash of it, so it cannot be checked", j->what);
    if (a->status == 200 && it->have > 0) FT_TRY(from_start(it));
    const bool range = a->status == 206;
    if (range && (a->from != it->have || (a->total >= 0 && a->total != it->f->size))) {
        snprintf(j->why, sizeof j->why, "the server sends another part of it than was asked for");
        *v = FETCH_WRONG;
    } else if (a->length > it->f->size - it->have) {
        snprintf(j->why, sizeof j->why, "the server sends %lld bytes where %lld are stated",
                 (long long)(a->length + it->have), (long long)it->f->size);
        *v = FETCH_WRONG;
    }
    return FT_OK;
}

static ft_status file_data(fetch_job *j, const void *data, size_t n, fetch_verdict *v)
{
    item *it = j->ctx;
    const char *p = data;
    if ((int64_t)n > it->f->size - it->have) {
        snprintf(j->why, sizeof j->why, "the server sends more than the %lld bytes that are stated",
                 (long long)it->f->size);
        *v = FETCH_WRONG;
        return FT_OK;
    }
    for (size_t done = 0; done < n;) {
        const ssize_t put = pwrite(it->fd, p + done, n - done, (off_t)it->have);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0 && (errno == ENOSPC || errno == EDQUOT))
            return ft_fail(FT_EIO,
                           "%s/%s: cannot be written: the disk is full; free space and run the "
                           "same command again, it goes on from there",
                           it->x->place.dir, ft_shows(it->f->path));
        if (put <= 0)
            return ft_fail_errno(FT_EIO, "%s/%s: cannot be written", it->x->place.dir,
                                 ft_shows(it->f->path));
        sha256_add(&it->sha, p + done, (size_t)put);
        if (!it->f->sha256[0]) sha1_add(&it->git, p + done, (size_t)put);
        it->have += put;
        it->x->came += put;
        done += (size_t)put;
    }
    it->x->now = it->f->path;
    count(it);
    return FT_OK;
}

/* All of it has come: is it what was stated? Then it goes to the disk. */
static ft_status check(item *it, fetch_verdict *v)
{
    char git[41];
    sha256_state sha = it->sha;
    sha1_state blob = it->git;
    int failed;
    sha256_hex(&sha, it->sha256);
    sha1_hex(&blob, git);
    if (!is_right(it->f, it->sha256, git)) {
        snprintf(it->job.why, sizeof it->job.why, "its %s is %s where %s is stated",
                 it->f->sha256[0] ? "SHA-256" : "Git id", it->f->sha256[0] ? it->sha256 : git,
                 it->f->sha256[0] ? it->f->sha256 : it->f->git);
        *v = FETCH_WRONG;
        return FT_OK;
    }
    do failed = fsync(it->fd);
    while (failed && errno == EINTR);
    if (failed && errno != EINVAL && errno != EROFS) {
        const bool full = errno == ENOSPC || errno == EDQUOT;
        return full ? ft_fail(FT_EIO, "%s/%s: cannot be written: the disk is full",
                              it->x->place.dir, ft_shows(it->f->path))
                    : ft_fail_errno(FT_EIO, "%s/%s: cannot be written to disk", it->x->place.dir,
                                    ft_shows(it->f->path));
    }
    (void)posix_fadvise(it->fd, 0, 0,
                        POSIX_FADV_DONTNEED); /* so that the disk is read, if it can be */
    it->synced = true;
    it->back = 0;
    sha256_init(&it->back_sha);
    *v = FETCH_BUSY;
    return FT_OK;
}

static ft_status read_back(item *it, fetch_verdict *v)
{
    char hex[65];
    for (int i = 0; i < SLICE && it->back < it->have; i++) {
        const ssize_t n = pread(it->fd, it->x->buffer, CHUNK, (off_t)it->back);
        if (n < 0 && ft_again()) continue;
        if (n < 0)
            return ft_fail_errno(FT_EIO, "%s/%s: cannot be read back", it->x->place.dir,
                                 ft_shows(it->f->path));
        if (n == 0) break;
        sha256_add(&it->back_sha, it->x->buffer, (size_t)n);
        it->back += n;
        *v = FETCH_BUSY;
    }
    if (*v == FETCH_BUSY) return FT_OK;
    sha256_hex(&it->back_sha, hex);
    if (it->back == it->have && strcmp(hex, it->sha256) == 0) return FT_OK;
    fetch_part_remove(&it->x->place, it->part);
    return ft_fail(FT_EIO,
                   "%s/%s: read back, it differs from what was written; is the disk failing?",
                   it->x->place.dir, ft_shows(it->f->path));
}

static ft_status file_end(fetch_job *j, fetch_verdict *v)
{
    item *it = j->ctx;
    if (it->have < it->f->size) {
        snprintf(j->why, sizeof j->why, "%lld of %lld bytes came", (long long)it->have,
                 (long long)it->f->size);
        *v = FETCH_SHORT;
        return FT_OK;
    }
    if (!it->synced) return check(it, v);
    FT_TRY(read_back(it, v));
    if (*v == FETCH_BUSY) return FT_OK;
    FT_TRY(fetch_part_put(&it->x->place, it->part, it->f->path, it->replaces));
    return tell_file(it->x, it->f, it->have, it->sha256, it->resumed ? "resumed" : "fetched");
}

static void file_restart(fetch_job *j)
{
    item *it = j->ctx;
    fetch_part_remove(&it->x->place, it->part);
    if (it->fd >= 0) close(it->fd);
    it->fd = -1;
    it->have = 0;
    it->looked = it->resumed = false;
    count(it);
}

static void file_leave(fetch_job *j)
{
    item *it = j->ctx;
    if (it->fd >= 0 && it->have == 0) fetch_part_remove(&it->x->place, it->part);
    if (it->fd >= 0) close(it->fd);
    it->fd = -1;
}

static const fetch_sink file_sink = {file_begin, file_first,   file_head, file_data,
                                     file_end,   file_restart, file_leave};

/* --- all of them ----------------------------------------------------------------------------------------------------- */

static ft_status check_room(const fetching *x, item *const *it, int64_t n)
{
    int64_t need = 0;
    struct stat sb;
    for (int64_t i = 0; i < n; i++) {
        const fetch_file *f = it[i]->f;
        if (f->size > 0 && need < INT64_MAX / 2) need += f->size;
        if (fstatat(x->place.fd, it[i]->part, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(sb.st_mode))
            need -= (int64_t)sb.st_blocks * 512 < f->size ? (int64_t)sb.st_blocks * 512 : 0;
    }
    const size_t room = dir_free_space(x->place.dir);
    FT_CHECK(need <= 0 || (size_t)need <= room, FT_EIO,
             "%s: the disk is full: %s are still to come, and %s are free", x->place.dir,
             ft_bytes_text((size_t)need), ft_bytes_text(room));
    return FT_OK;
}

static ft_status add_item(fetching *x, fetch_file *f, bool replaces, item **out)
{
    item *it = arena_get(x->mem, sizeof *it);
    if (!it) return FT_EMEM;
    *it = (item){.x = x, .f = f, .fd = -1, .replaces = replaces};
    it->job = (fetch_job){.sink = &file_sink, .ctx = it, .kind = "file"};
    it->job.what = arena_printf(x->mem, "%s of %s", ft_shows(f->path), x->repo.id);
    it->job.url = fetch_file_url(&x->repo, f->path, x->mem);
    if (!it->job.what || !it->job.url) return FT_EMEM;
    fetch_part_name(it->part, &x->repo, f);
    it->unsure = replaces && !f->sha256[0] && !f->git[0];
    *out = it;
    return FT_OK;
}

/* All files that are wanted and were not dealt with yet. */
static ft_status fetch_wanted(fetching *x)
{
    fetch_repo *r = &x->repo;
    int64_t n = 0;
    item **it = arena_get(x->mem, (size_t)r->n * sizeof(item *));
    fetch_job **job = arena_get(x->mem, (size_t)r->n * sizeof(fetch_job *));
    if (!it || !job) return FT_EMEM;
    for (int64_t i = 0; i < r->n; i++) {
        fetch_file *f = &r->file[i];
        bool whole, there;
        if (!f->wanted || f->listed) continue;
        f->listed = true;
        x->want_files++;
        FT_TRY(look(x, f, &whole, &there));
        if (whole) continue;
        FT_TRY(add_item(x, f, there, &it[n]));
        job[n] = &it[n]->job;
        if (f->size > 0) x->want_bytes += f->size;
        n++;
    }
    FT_TRY(check_room(x, it, n));
    if (n == 0) return FT_OK;
    x->net.tick = show;
    x->net.tick_ctx = x;
    return fetch_run(&x->net, job, n, (int)x->opt->parallel);
}

/* Every file that may come, before any does. */
static ft_status look_for_links(const fetching *x, bool weights)
{
    const fetch_repo *r = &x->repo;
    for (int64_t i = 0; i < r->n; i++) {
        const fetch_file *f = &r->file[i];
        int fd;
        if (!f->wanted && !(weights && str_ends(f->path, ".safetensors"))) continue;
        FT_TRY(fetch_place_look(&x->place, f->path, &fd));
        if (fd >= 0) close(fd);
    }
    return FT_OK;
}

static ft_status fetch_indexed(fetching *x, const fetch_file *index)
{
    char *text;
    size_t len;
    const char *name = path_join(x->mem, x->place.dir, index->path);
    if (!name) return FT_EMEM;
    FT_TRY(file_read(&text, &len, name, (size_t)256 << 20));
    ft_status rc = fetch_pick_indexed(&x->repo, text, len, name);
    ft_free(text);
    return rc == FT_OK ? fetch_wanted(x) : rc;
}

/* --- the end ----------------------------------------------------------------------------------------------------------- */

/* The command that one would go on with: with what is there now. */
static ft_status tell_next(const fetching *x)
{
    const fetch_repo *r = &x->repo;
    str_buf *s = x->opt->next;
    const fetch_file *weights = NULL, *data = NULL, *adapter = NULL;
    if (!s) return FT_OK;
    for (int64_t i = 0; i < r->n; i++) {
        const fetch_file *f = &r->file[i];
        if (!f->wanted) continue;
        if (strcmp(f->path, "adapter_config.json") == 0) adapter = f;
        if ((str_ends(f->path, ".safetensors") && !strchr(f->path, '/')) ||
            (str_ends(f->path, ".gguf") && !weights))
            weights = f;
        if (!data || f->size > data->size) data = f;
    }
    const bool one_file = !r->dataset && weights && str_ends(weights->path, ".gguf");
    const bool trains = weights && !adapter;
    const fetch_file *named = r->dataset ? data : one_file ? weights : NULL;
    const char *path = named ? path_join(x->mem, x->dir, named->path) : x->dir;
    if (!path) return FT_EMEM;
    if (r->dataset) {
        str_adds(s, "ft data ");
        str_shell(s, path, true);
        str_adds(s, " --model MODEL");
        return str_ok(s);
    }
    str_adds(s, trains ? "ft init --model " : "ft inspect ");
    str_shell(s, path, !trains);
    if (trains) str_adds(s, " --data FILE");
    return str_ok(s);
}

static ft_status tell_all(const fetching *x)
{
    str_buf s = {0};
    const double seconds = ft_seconds() - x->begun;
    if (x->opt->json) {
        str_adds(&s, "{\"commit\":");
        str_json(&s, x->repo.commit, strlen(x->repo.commit));
        str_printf(&s, ",\"files\":%lld,\"bytes\":%lld,\"seconds\":", (long long)x->files,
                   (long long)x->bytes);
        str_double(&s, round(seconds * 1000) / 1000);
        str_adds(&s, "}\n");
    } else {
        str_printf(&s, "%s: %lld file%s of %s at commit %s, %s", x->dir, (long long)x->files,
                   x->files == 1 ? "" : "s", x->repo.id, x->repo.commit,
                   ft_bytes_text((size_t)x->bytes));
        if (x->fetched < x->files)
            str_printf(&s, "; %lld of them were there", (long long)(x->files - x->fetched));
        str_adds(&s, "\n");
    }
    ft_status rc = tool_put(x->out, &s);
    str_free(&s);
    return rc == FT_OK ? tell_next(x) : rc;
}

static ft_status work(fetching *x)
{
    const tool_fetch_options *o = x->opt;
    const char *endpoint = getenv("HF_ENDPOINT"), *token = getenv("HF_TOKEN");
    const fetch_file *index;
    path_kind kind;
    if (!endpoint || !endpoint[0]) endpoint = HUB;
    size_t n = strlen(endpoint);
    while (n > 0 && endpoint[n - 1] == '/') n--;
    x->repo.dataset = o->dataset;
    FT_TRY(fetch_repo_name(&x->repo, o->name, x->mem));
    FT_CHECK(o->out[0], FT_EUSAGE, "--out: an empty path");
    FT_TRY(path_look(o->out, &kind));
    FT_CHECK(kind == PATH_FOLDER || kind == PATH_NONE, FT_EEXIST,
             "%s: is a file, and a folder is to be made; choose another --out", ft_shows(o->out));
    FT_TRY(dir_may_make(o->out));
    endpoint = arena_strn(x->mem, endpoint, n);
    for (n = strlen(o->out); n > 1 && o->out[n - 1] == '/';) n--;
    x->dir = arena_strn(x->mem, o->out, n);
    x->buffer = arena_raw(x->mem, CHUNK);
    if (!endpoint || !x->buffer || !x->dir) return FT_EMEM;
    x->net.page = fetch_repo_page(&x->repo, endpoint, x->mem);
    if (!x->net.page) return FT_EMEM;
    FT_TRY(fetch_net_open(&x->net, endpoint, token));
    if (x->net.in_the_clear)
        log_warn("HF_TOKEN goes to %s unencrypted: its address begins with http", endpoint);
    log_info("%s from %s", x->repo.id, ft_shows(endpoint));
    FT_TRY(fetch_repo_list(&x->repo, &x->net, x->mem));
    FT_TRY(fetch_pick(&x->repo, o->include, o->n_include, &index));
    FT_TRY(fetch_place_open(&x->place, x->dir, x->mem));
    FT_TRY(look_for_links(x, index != NULL));
    FT_TRY(fetch_wanted(x));
    if (index) FT_TRY(fetch_indexed(x, index));
    fetch_parts_tidy(&x->place, &x->repo);
    return tell_all(x);
}

ft_status tool_fetch(const tool_fetch_options *opt, const tool_sink *out)
{
    fetching x = {.opt = opt, .out = out, .place = {.fd = -1, .lock = -1}};
    x.begun = x.told = ft_seconds();
    FT_TRY(arena_open(&x.mem, "fetch", (size_t)2 << 30));
    ft_status rc = work(&x);
    if (rc == FT_ESIGNAL)
        rc = ft_fail(FT_ESIGNAL, "%s; what came is kept, and the same command goes on from there",
                     ft_stop_came() == 15 ? "stopped by SIGTERM" : "stopped by SIGINT");
    ft_error_keep(true);
    fetch_place_close(&x.place);
    fetch_net_close(&x.net);
    map_free(&x.repo.index);
    ft_error_keep(false);
    arena_close(x.mem);
    return rc;
}
