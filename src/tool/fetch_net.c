/* fetch_net.c – transfers: several at once, each with its redirects, its waits and its further attempts.
 *
 * Redirects are followed here and not by libcurl, since the token may go to the endpoint's scheme, host and port alone, and
 * once a chain has left them, not even back to them. URLs are taken apart by libcurl's own parser, so that what is compared
 * is what is asked. Time counts against a silent server only while we wait for it, not while we hash or write. */
#include "fetch_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    RETRIES = 5,
    HOPS = 10,
    HEADER_BYTES = 256 << 10, /* of one answer with its redirects */
    IDLE_BODY = 64 << 10,     /* of an answer that is no content; more of it is not read */
    CONNECT_SECONDS = 30,
    LONGEST_WAIT = 300, /* s that a server may ask us to wait */
    AFRESH = 64 << 20   /* so many bytes in one attempt, and the attempts are counted anew */
};

struct fetch_flight { /* one attempt */
    fetch_net *net;
    fetch_job *job;
    CURL *easy;
    char *url, *location, *link;
    bool may_ask; /* with the token */
    bool flying;
    int hops;
    int64_t from;
    fetch_answer a;
    bool linked; /* a.etag is X-Linked-Etag */
    bool begun;  /* the header of the answer at hand is whole */
    bool taken;  /* the sink knows it */
    size_t header_bytes, dropped;
    char code[32], said[160]; /* X-Error-Code, X-Error-Message */
    double idle;              /* s that nothing came */
    ft_status rc;
    fetch_verdict verdict;
    char error[CURL_ERROR_SIZE];
};

/* --- the net ---------------------------------------------------------------------------------------------------- */

static bool printable(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || (unsigned char)*s > '~') return false;
    return true;
}

/* Parts of an address, by libcurl. *is: it is one. FT_EMEM alone is a failure, here and in resolve. */
static ft_status take_apart(const fetch_net *n, const char *url, char **scheme, char **host,
                            char **port, bool *is)
{
    const fetch_curl *c = n->curl;
    CURLU *u = c->url();
    *scheme = *host = *port = NULL;
    CURLUcode rc = u ? c->url_set(u, CURLUPART_URL, url, 0) : CURLUE_OUT_OF_MEMORY;
    if (rc == CURLUE_OK) rc = c->url_get(u, CURLUPART_SCHEME, scheme, 0);
    if (rc == CURLUE_OK) rc = c->url_get(u, CURLUPART_HOST, host, 0);
    if (rc == CURLUE_OK) rc = c->url_get(u, CURLUPART_PORT, port, CURLU_DEFAULT_PORT);
    c->url_cleanup(u);
    *is = rc == CURLUE_OK;
    return rc == CURLUE_OUT_OF_MEMORY ? ft_fail(FT_EMEM, "out of memory for an address") : FT_OK;
}

static void free_parts(const fetch_net *n, char *scheme, char *host, char *port)
{
    n->curl->free(scheme);
    n->curl->free(host);
    n->curl->free(port);
}

ft_status fetch_net_open(fetch_net *n, const char *endpoint, const char *token)
{
    bool is;
    str_buf line = {0};
    FT_CHECK(str_starts(endpoint, "http://") || str_starts(endpoint, "https://"), FT_EUSAGE,
             "HF_ENDPOINT: \"%s\" must begin with https:// or http://", ft_shows(endpoint));
    FT_CHECK(printable(endpoint) && !strpbrk(endpoint, "?#@"), FT_EUSAGE,
             "HF_ENDPOINT: \"%s\" must be scheme, host, port and path alone; a token goes into "
             "HF_TOKEN",
             ft_shows(endpoint));
    FT_CHECK(!token || printable(token), FT_EUSAGE,
             "HF_TOKEN: holds a character that no token has");
    n->endpoint = endpoint;
    FT_TRY(fetch_curl_open(&n->curl));
    FT_TRY(take_apart(n, endpoint, &n->scheme, &n->host, &n->port, &is));
    FT_CHECK(is, FT_EUSAGE, "HF_ENDPOINT: \"%s\" is no address", ft_shows(endpoint));
    n->multi = n->curl->multi_init();
    if (!n->multi) return ft_fail(FT_EMEM, "out of memory");
    n->has_token = token && token[0];
    if (!n->has_token) return FT_OK;
    n->in_the_clear = strcmp(n->scheme, "http") == 0 && strcasecmp(n->host, "localhost") != 0 &&
                      !str_starts(n->host, "127.") && strcmp(n->host, "[::1]") != 0;
    str_printf(&line, "Authorization: Bearer %s", token);
    FT_TRY(str_ok(&line));
    n->token = n->curl->slist_append(NULL, line.data);
    str_free(&line);
    return n->token ? FT_OK : ft_fail(FT_EMEM, "out of memory");
}

void fetch_net_close(fetch_net *n)
{
    if (!n->curl) return;
    free_parts(n, n->scheme, n->host, n->port);
    n->curl->slist_free_all(n->token);
    if (n->multi) n->curl->multi_cleanup(n->multi);
    *n = (fetch_net){0};
}

/* --- what comes ---------------------------------------------------------------------------------------------------- */

/* The value of a header of this name, without the spaces around it. */
static bool header(const char *line, size_t n, const char *name, const char **value, size_t *len)
{
    const size_t k = strlen(name);
    if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':') return false;
    const char *from = line + k + 1, *end = line + n;
    while (from < end && (*from == ' ' || *from == '\t')) from++;
    while (end > from && (unsigned char)end[-1] <= ' ') end--;
    *value = from;
    *len = (size_t)(end - from);
    return true;
}

/* A number and what is behind it; −1: none, or more than a file can have. */
static int64_t number(const char **p, const char *end)
{
    int64_t v = -1;
    for (; *p < end && **p >= '0' && **p <= '9'; ++*p) {
        if (v > INT64_MAX / 20) return -1;
        v = (v < 0 ? 0 : v) * 10 + (**p - '0');
    }
    return v;
}

static void read_range(fetch_answer *a, const char *v, const char *end)
{
    if (end - v < 6 || strncasecmp(v, "bytes ", 6) != 0) return;
    v += 6;
    a->from = number(&v, end);
    while (v < end && *v != '/') v++;
    if (v < end) v++;
    a->total = number(&v, end);
}

static void read_etag(fetch_answer *a, const char *v, size_t n)
{
    if (n > 2 && memcmp(v, "W/", 2) == 0) v += 2, n -= 2;
    if (n > 1 && v[0] == '"' && v[n - 1] == '"') v++, n -= 2;
    snprintf(a->etag, sizeof a->etag, "%.*s", (int)(n < sizeof a->etag ? n : 0), v);
    for (char *c = a->etag; *c; c++) /* hashes are compared in lower case */
        if (*c >= 'A' && *c <= 'F') *c = (char)(*c - 'A' + 'a');
}

/* <URL>; rel="next", among others. */
static void read_link(fetch_flight *f, const char *v, const char *end)
{
    while (v < end) {
        const char *from = memchr(v, '<', (size_t)(end - v));
        const char *to = from ? memchr(from, '>', (size_t)(end - from)) : NULL;
        if (!to) return;
        const char *next = memchr(to, '<', (size_t)(end - to));
        for (const char *p = to; p + 8 <= (next ? next : end); p++) {
            const bool quoted = strncasecmp(p, "rel=\"next", 9 < end - p ? 9 : 8) == 0;
            if (!quoted && strncasecmp(p, "rel=next", 8) != 0) continue;
            ft_free(f->link);
            f->link = ft_alloc((size_t)(to - from), 1);
            if (!f->link) f->rc = FT_EMEM;
            if (f->link) memcpy(f->link, from + 1, (size_t)(to - from - 1));
            return;
        }
        v = next ? next : end;
    }
}

static void read_header(fetch_flight *f, const char *line, size_t n)
{
    const char *v;
    size_t len;
    fetch_answer *a = &f->a;
    if (header(line, n, "content-length", &v, &len)) {
        a->length = number(&v, v + len);
    } else if (header(line, n, "content-range", &v, &len)) {
        read_range(a, v, v + len);
    } else if (header(line, n, "location", &v, &len)) {
        ft_free(f->location);
        f->location = ft_alloc(len + 1, 1);
        if (!f->location) f->rc = FT_EMEM;
        if (f->location) memcpy(f->location, v, len);
    } else if (header(line, n, "link", &v, &len)) {
        read_link(f, v, v + len);
    } else if (header(line, n, "x-error-code", &v, &len)) {
        snprintf(f->code, sizeof f->code, "%.*s", (int)(len < sizeof f->code ? len : 0), v);
    } else if (header(line, n, "x-error-message", &v, &len)) {
        snprintf(f->said, sizeof f->said, "%s", ft_show(v, len));
    } else if (f->hops == 0 && header(line, n, "x-linked-size", &v, &len)) {
        a->linked_size = number(&v, v + len);
    } else if (f->hops == 0 && header(line, n, "x-linked-etag", &v, &len)) {
        read_etag(a, v, len);
        f->linked = true;
    } else if (f->hops == 0 && !f->linked && header(line, n, "etag", &v, &len)) {
        read_etag(a, v, len);
    }
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
    fetch_flight *f = ctx;
    const size_t n = size * count;
    ft_written(line, n);
    f->idle = 0;
    f->net->reached = true;
    f->header_bytes += n;
    if (f->header_bytes > HEADER_BYTES) {
        snprintf(f->error, sizeof f->error, "its header does not end");
        return 0;
    }
    if (n > 9 && memcmp(line, "HTTP/", 5) == 0) {
        const char *v = memchr(line, ' ', n);
        if (v) v++;
        const int64_t status = v ? number(&v, line + n) : 0;
        f->a.status = status > 0 && status < 1000 ? (int)status : 0;
        f->a.length = f->a.from = f->a.total = -1;
        f->code[0] = f->said[0] = '\0';
        f->begun = false;
        ft_free(f->location);
        ft_free(f->link);
        f->location = f->link = NULL;
    } else if (!f->begun) {
        f->begun = n == 0 || line[0] == '\r' || line[0] == '\n';
        if (!f->begun) read_header(f, line, n);
    }
    return n;
}

static bool welcome(const fetch_flight *f)
{
    return f->rc == FT_OK && f->verdict == FETCH_GOOD;
}

/* The sink may say no: then nothing more is read. */
static bool take_first(fetch_flight *f)
{
    if (f->hops == 0 && welcome(f)) f->rc = f->job->sink->first(f->job, &f->a, &f->verdict);
    return welcome(f);
}

static bool take_answer(fetch_flight *f)
{
    if (f->taken) return true;
    f->taken = true;
    if (take_first(f)) f->rc = f->job->sink->head(f->job, &f->a, &f->verdict);
    return welcome(f);
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    fetch_flight *f = ctx;
    const size_t n = size * count;
    ft_written(data, n);
    f->idle = 0;
    if (f->a.status != 200 && f->a.status != 206) {
        f->dropped += n;
        return f->dropped > IDLE_BODY ? 0 : n;
    }
    if (!take_answer(f)) return 0;
    f->job->fresh += (int64_t)n;
    f->rc = f->job->sink->data(f->job, data, n, &f->verdict);
    return welcome(f) ? n : 0;
}

/* --- an attempt -------------------------------------------------------------------------------------------------- */

/* An address, relative to the one that was asked last; of libcurl's memory. *url NULL: it is none. */
static ft_status resolve(const fetch_flight *f, const char *to, char **url)
{
    const fetch_curl *c = f->net->curl;
    CURLU *u = c->url();
    CURLUcode rc = u ? CURLUE_OK : CURLUE_OUT_OF_MEMORY;
    *url = NULL;
    if (rc == CURLUE_OK && f->url) rc = c->url_set(u, CURLUPART_URL, f->url, 0);
    if (rc == CURLUE_OK) rc = c->url_set(u, CURLUPART_URL, to, CURLU_URLENCODE);
    if (rc == CURLUE_OK) rc = c->url_get(u, CURLUPART_URL, url, 0);
    c->url_cleanup(u);
    return rc == CURLUE_OUT_OF_MEMORY ? ft_fail(FT_EMEM, "out of memory for an address") : FT_OK;
}

/* At the next address; what may be asked there. */
static ft_status aim(fetch_flight *f, const char *to)
{
    const fetch_net *n = f->net;
    char *url, *scheme = NULL, *host = NULL, *port = NULL;
    bool web = false;
    ft_status rc = resolve(f, to, &url);
    const bool was_safe = f->url && str_starts(f->url, "https:");
    if (rc == FT_OK && url) rc = take_apart(n, url, &scheme, &host, &port, &web);
    if (rc != FT_OK) goto out;
    web = web && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    FT_GUARD(web, FT_EDATA, "%s: the server sends us to \"%s\", which is no http or https address",
             f->job->what, ft_shows(to));
    FT_GUARD(!was_safe || strcmp(scheme, "https") == 0, FT_EDATA,
             "%s: the server sends us from https to \"%s\"; that is not followed", f->job->what,
             ft_shows(url));
    f->may_ask = f->may_ask && strcmp(scheme, n->scheme) == 0 && strcasecmp(host, n->host) == 0 &&
                 strcmp(port, n->port) == 0;
    ft_free(f->url);
    f->url = ft_strdup(url);
    if (!f->url) rc = FT_EMEM;
out:
    n->curl->free(url);
    free_parts(n, scheme, host, port);
    return rc;
}

static ft_status start(fetch_flight *f)
{
    const fetch_net *n = f->net;
    const fetch_curl *c = n->curl;
    f->begun = f->taken = false;
    f->dropped = 0;
    f->idle = 0;
    f->error[0] = '\0';
    const bool fine =
        c->easy_setopt(f->easy, CURLOPT_URL, f->url) == CURLE_OK &&
        c->easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->may_ask ? n->token : NULL) == CURLE_OK &&
        c->multi_add_handle(n->multi, f->easy) == CURLM_OK;
    f->flying = fine;
    return fine ? FT_OK : ft_fail(FT_EMEM, "libcurl: a transfer cannot be set up");
}

/* Authorities in another file than the library's own, by the names that other programs know. */
static const char *authorities(void)
{
    static const char *const names[] = {"CURL_CA_BUNDLE", "SSL_CERT_FILE"};
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        const char *path = getenv(names[i]);
        if (path && path[0]) return path;
    }
    return NULL;
}

static bool set_up(fetch_flight *f)
{
    const fetch_curl *c = f->net->curl;
    CURL *e = f->easy;
    char range[40];
    bool fine = true;
#define SET(option, value) fine = fine && c->easy_setopt(e, option, value) == CURLE_OK
    SET(CURLOPT_USERAGENT, "ft/" FT_VERSION);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_BUFFERSIZE, 256L << 10);
    SET(CURLOPT_ERRORBUFFER, f->error);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, f);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, f);
    SET(CURLOPT_PRIVATE, f);
    if (authorities()) SET(CURLOPT_CAINFO, authorities());
    if (f->from > 0) {
        snprintf(range, sizeof range, "%lld-", (long long)f->from);
        SET(CURLOPT_RANGE, range);
    }
#undef SET
    return fine;
}

static void land(fetch_flight *f)
{
    const fetch_net *n = f->net;
    if (f->flying) n->curl->multi_remove_handle(n->multi, f->easy);
    if (f->easy) n->curl->easy_cleanup(f->easy);
    f->job->flight = NULL;
    ft_free(f->url);
    ft_free(f->location);
    ft_free(f->link);
    ft_free(f);
}

static ft_status launch(fetch_net *n, fetch_job *j)
{
    bool whole = false;
    int64_t from = 0;
    FT_TRY(j->sink->begin(j, &from, &whole));
    j->state = FETCH_ENDS;
    if (whole) return FT_OK;
    j->state = FETCH_FLIES;
    fetch_flight *f = ft_alloc(1, sizeof *f);
    if (!f) return FT_EMEM;
    *f = (fetch_flight){.net = n, .job = j, .may_ask = n->has_token, .from = from};
    f->a = (fetch_answer){.length = -1, .from = -1, .total = -1, .linked_size = -1};
    j->flight = f;
    f->easy = n->curl->easy_init();
    FT_CHECK(f->easy && set_up(f), FT_EMEM, "libcurl: a transfer cannot be set up");
    FT_TRY(aim(f, j->url));
    return start(f);
}

/* --- its end ----------------------------------------------------------------------------------------------------- */

/* Once more, after a pause that doubles; asked: s that the server wants us to wait. */
static ft_status again(fetch_job *j, double asked)
{
    double pause = file_retry_seconds() / 40;
    j->sink->leave(j);
    if (j->fresh >= AFRESH) j->tries = 0;
    j->fresh = 0;
    FT_CHECK(j->tries < RETRIES, FT_EIO,
             "%s: %s; tried %d times; the same command goes on from what has come", j->what, j->why,
             j->tries + 1);
    FT_CHECK(asked <= LONGEST_WAIT, FT_EIO,
             "%s: %s, and asks us to wait for %.0f s; run the same command again then", j->what,
             j->why, asked);
    for (int i = 0; i < j->tries; i++) pause *= 2;
    if (asked > pause) pause = asked;
    j->tries++;
    log_info("%s: %s; trying again in %.1f s (%d of %d)", j->what, j->why, pause, j->tries,
             RETRIES);
    j->when = ft_seconds() + pause;
    j->state = FETCH_WAITS;
    return FT_OK;
}

static ft_status judge(fetch_job *j, fetch_verdict v)
{
    if (v == FETCH_SHORT) return again(j, 0);
    if (v == FETCH_NEEDLESS) {
        j->sink->leave(j);
        j->state = FETCH_OVER;
        return FT_OK;
    }
    j->sink->restart(j);
    j->sink->leave(j);
    FT_CHECK(j->wrong++ == 0, FT_EDATA, "%s: %s, twice; nothing of it was kept", j->what, j->why);
    log_info("%s: %s; once more from the start", j->what, j->why);
    j->when = 0;
    j->state = FETCH_WAITS;
    return FT_OK;
}

/* No answer, or one that was cut. */
static ft_status cut(fetch_net *n, fetch_job *j, CURLcode code, const char *error)
{
    const char *text = ft_shows(error[0] ? error : n->curl->easy_strerror(code));
    switch ((int)code) {
    case CURLE_OUT_OF_MEMORY:
        return ft_fail(FT_EMEM, "%s: out of memory", j->what);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return ft_fail(FT_EIO,
                       "%s: %s; the server is not believed (CURL_CA_BUNDLE names the file of "
                       "further authorities)",
                       j->what, text);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        FT_CHECK(n->reached, FT_EIO,
                 "%s: %s cannot be reached: %s; is there a network? (HF_ENDPOINT, https_proxy)",
                 j->what, ft_shows(n->endpoint), text);
        break;
    default:
        break;
    }
    snprintf(j->why, sizeof j->why, "%s", text);
    return again(j, 0);
}

static ft_status denied(const fetch_net *n, const fetch_flight *f)
{
    const fetch_job *j = f->job;
    char said[200] = "";
    if (f->said[0]) snprintf(said, sizeof said, "; the server says: %s", f->said);
    FT_CHECK(strcmp(f->code, "GatedRepo") != 0 && !strcasestr(f->said, "gated"), FT_EPERM,
             "%s: is gated: accept its conditions at %s, and set HF_TOKEN to a token of that "
             "account%s",
             j->what, n->page, said);
    FT_CHECK(n->has_token, FT_EPERM,
             "%s: the server wants to know who asks (%d); set HF_TOKEN to a token that may read "
             "it; where it is gated, accept its conditions at %s first%s",
             j->what, f->a.status, n->page, said);
    return ft_fail(FT_EPERM,
                   "%s: HF_TOKEN may not read it (%d); is the token right? Where it is gated, "
                   "accept its conditions at %s%s",
                   j->what, f->a.status, n->page, said);
}

static ft_status missing(const fetch_net *n, const fetch_flight *f)
{
    static const struct {
        const char *code, *what;
    } kinds[] = {{"RepoNotFound", "repository"},
                 {"RevisionNotFound", "revision"},
                 {"EntryNotFound", "file"}};
    const char *kind = f->job->kind;
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++)
        if (strcmp(f->code, kinds[i].code) == 0) kind = kinds[i].what;
    return ft_fail(FT_ENOINPUT, "%s: no such %s at %s; is the name right?%s", f->job->what, kind,
                   ft_shows(n->endpoint),
                   strncmp(kind, "repo", 4) != 0 ? ""
                   : n->has_token ? " A private one is there only for whose token may read it"
                                  : " A private one needs HF_TOKEN");
}

static ft_status refused(fetch_net *n, const fetch_flight *f)
{
    fetch_job *j = f->job;
    const int status = f->a.status;
    curl_off_t wait = 0;
    if (str_ends(f->code, "NotFound")) return missing(n, f);
    if (status == 401 || status == 403) return denied(n, f);
    if (status == 404 || status == 410) return missing(n, f);
    snprintf(j->why, sizeof j->why, "the server answers %d%s%s", status, f->said[0] ? ", " : "",
             f->said);
    if (status == 416) { /* there is less of it than came before */
        j->sink->restart(j);
        return again(j, 0);
    }
    FT_CHECK(status == 408 || status == 429 || status / 100 == 5, FT_EIO, "%s: %s", j->what,
             j->why);
    if (n->curl->easy_getinfo(f->easy, CURLINFO_RETRY_AFTER, &wait) != CURLE_OK) wait = 0;
    ft_written(&wait, sizeof wait);
    return again(j, (double)wait);
}

static ft_status hop(fetch_flight *f)
{
    fetch_job *j = f->job;
    FT_CHECK(++f->hops <= HOPS, FT_EIO, "%s: more than %d redirects, the last to \"%s\"", j->what,
             HOPS, ft_shows(f->location));
    FT_TRY(aim(f, f->location));
    return start(f);
}

static ft_status keep_link(const fetch_flight *f)
{
    char *url = NULL;
    if (f->link) FT_TRY(resolve(f, f->link, &url));
    ft_free(f->job->link);
    f->job->link = url ? ft_strdup(url) : NULL;
    FT_CHECK(!f->link || url, FT_EDATA, "%s: the next page is at \"%s\", which is no address",
             f->job->what, ft_shows(f->link));
    f->net->curl->free(url);
    return f->job->link || !f->link ? FT_OK : FT_EMEM;
}

/* What comes of an attempt whose transfer is over. */
static ft_status finish(fetch_net *n, fetch_flight *f, CURLcode code)
{
    fetch_job *j = f->job;
    const int status = f->begun ? f->a.status : 0;
    n->curl->multi_remove_handle(n->multi, f->easy);
    f->flying = false;
    if (code == CURLE_OUT_OF_MEMORY && f->header_bytes > 0 && !f->begun) { /* says libcurl of it */
        code = CURLE_WEIRD_SERVER_REPLY;
        snprintf(f->error, sizeof f->error, "a line of its header does not end");
    }
    const bool moved = status / 100 == 3 && status != 304 && f->location;
    if ((status == 200 || status == 206) && code == CURLE_OK) take_answer(f);
    if (moved) take_first(f);
    ft_status rc = f->rc;
    if (rc != FT_OK) return rc;
    if (f->verdict == FETCH_GOOD && moved) return hop(f);
    if (f->verdict != FETCH_GOOD) {
        rc = judge(j, f->verdict);
    } else if ((status == 200 || status == 206) && code == CURLE_OK) {
        rc = keep_link(f);
        j->state = FETCH_ENDS;
    } else if (status >= 300) {
        rc = refused(n, f);
    } else {
        rc = cut(n, j, code == CURLE_OK ? CURLE_WEIRD_SERVER_REPLY : code, f->error);
    }
    land(f);
    return rc;
}

/* --- all of them --------------------------------------------------------------------------------------------------- */

static ft_status end(fetch_job *j)
{
    fetch_verdict v = FETCH_GOOD;
    FT_TRY(j->sink->end(j, &v));
    if (v == FETCH_BUSY) return FT_OK;
    if (v != FETCH_GOOD) return judge(j, v);
    j->sink->leave(j);
    j->state = FETCH_OVER;
    return FT_OK;
}

/* *soon: s until something is to be done. */
static ft_status step(fetch_net *n, fetch_job *j, double *soon)
{
    const double left = j->when - ft_seconds();
    if (j->state == FETCH_WAITS && left <= 0) return launch(n, j);
    if (j->state == FETCH_WAITS && left < *soon) *soon = left;
    if (j->state != FETCH_ENDS) return FT_OK;
    *soon = 0;
    return end(j);
}

static ft_status collect(fetch_net *n)
{
    int running, left;
    CURLMsg *m;
    FT_CHECK(n->curl->multi_perform(n->multi, &running) == CURLM_OK, FT_EMEM,
             "libcurl: transfers cannot go on");
    while ((m = n->curl->multi_info_read(n->multi, &left))) {
        char *at = NULL;
        ft_written(m, sizeof *m);
        if (m->msg != CURLMSG_DONE) continue;
        const CURLcode code = m->data.result;
        n->curl->easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &at);
        ft_written(&at, sizeof at);
        FT_TRY(finish(n, (fetch_flight *)(void *)at, code));
    }
    return FT_OK;
}

/* Waits for something to come; who has been silent for too long is cut. */
static ft_status wait_for(fetch_net *n, fetch_job *const *active, int count, double soon)
{
    const double limit = 1.5 * file_retry_seconds(), from = ft_seconds();
    int ready;
    n->curl->multi_poll(n->multi, NULL, 0, (int)(soon * 1000) + (soon > 0), &ready);
    const double waited = ft_seconds() - from;
    for (int i = 0; i < count; i++) {
        fetch_flight *f = active[i]->flight;
        if (!f || !f->flying || (f->idle += waited) <= limit) continue;
        snprintf(f->error, sizeof f->error, "nothing came for %.0f s", limit);
        FT_TRY(finish(n, f, CURLE_OPERATION_TIMEDOUT));
    }
    return FT_OK;
}

ft_status fetch_run(fetch_net *n, fetch_job *const *job, int64_t jobs, int parallel)
{
    ft_status rc = FT_OK;
    int count = 0;
    int64_t next = 0;
    fetch_job **active = ft_alloc((size_t)parallel, sizeof(fetch_job *));
    if (!active) return FT_EMEM;
    while (next < jobs || count > 0) {
        double soon = 0.2;
        FT_TRY_OUT(ft_stop());
        while (count < parallel && next < jobs) active[count++] = job[next++];
        FT_TRY_OUT(collect(n));
        for (int i = 0; i < count; i++) FT_TRY_OUT(step(n, active[i], &soon));
        for (int i = 0; i < count;) {
            if (active[i]->state != FETCH_OVER) {
                i++;
                continue;
            }
            active[i] = active[--count];
            soon = 0;
        }
        if (n->tick) n->tick(n->tick_ctx);
        FT_TRY_OUT(wait_for(n, active, count, soon));
    }
out:
    for (int i = 0; i < count; i++) {
        if (active[i]->flight) land(active[i]->flight);
        active[i]->sink->leave(active[i]);
    }
    ft_free(active);
    return rc;
}

/* --- a text -------------------------------------------------------------------------------------------------------- */
typedef struct text {
    str_buf *out;
    size_t limit;
} text;

static ft_status text_begin(fetch_job *j, int64_t *from, bool *whole)
{
    const text *t = j->ctx;
    (void)from, (void)whole;
    str_clear(t->out);
    return FT_OK;
}

static ft_status text_head(fetch_job *j, const fetch_answer *a, fetch_verdict *v)
{
    (void)j, (void)a, (void)v;
    return FT_OK;
}

static ft_status text_data(fetch_job *j, const void *data, size_t n, fetch_verdict *v)
{
    const text *t = j->ctx;
    (void)v;
    FT_CHECK(n <= t->limit - t->out->len, FT_EDATA, "%s: the answer is longer than %s", j->what,
             ft_bytes_text(t->limit));
    str_add(t->out, data, n);
    return str_ok(t->out);
}

static ft_status text_end(fetch_job *j, fetch_verdict *v)
{
    (void)j, (void)v;
    return FT_OK;
}

static void text_nothing(fetch_job *j)
{
    (void)j;
}

ft_status fetch_text(fetch_net *n, const char *url, const char *what, const char *kind,
                     size_t limit, str_buf *out, char **link)
{
    static const fetch_sink sink = {text_begin, text_head,    text_head,   text_data,
                                    text_end,   text_nothing, text_nothing};
    text t = {out, limit};
    fetch_job j = {.sink = &sink, .ctx = &t, .what = what, .kind = kind, .url = url};
    fetch_job *const all[] = {&j};
    ft_status rc = fetch_run(n, all, 1, 1);
    if (rc == FT_OK && link) {
        *link = j.link;
        j.link = NULL;
    }
    ft_free(j.link);
    return rc;
}
