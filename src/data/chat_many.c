/* chat_many.c – where the turns of a long conversation stand, without rendering the conversation once for each.
 *
 * chat_mask.c finds a turn by rendering what stands before it, which takes turns times text. Here the conversation is
 * rendered once with marks around all contents; without them it must be the same text. A turn's begin and end lie at fixed
 * distances from such contents, with the same text between: what the template writes around a turn of its shape (the same
 * roles beside it, the same members). The distances are those of turns that were found by rendering: the first few of a
 * shape, then at every doubling, and the last ones of the conversation, which templates treat in their own way. One that
 * contradicts makes its shape unknown, from the first turn on. */
#include "chat_turns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 64, LEARNED = 4, LAST = 8 };

typedef struct place { /* an end of a turn, seen from a content */
    int64_t off;       /* its place less that of the content's end */
    size_t text, n;    /* what stands between, where it was learned */
} place;

typedef struct shape {
    char *key;
    int64_t seen, learned;
    bool used; /* a turn was placed by it */
    bool odd;  /* turns of it contradict each other */
    place begin, end;
} shape;

struct turns_many {
    int64_t *from, *to; /* [turns] of the contents in the whole rendering; −1: not known */
    bool *whole;        /* [turns] the reasoning in front is printed too */
    map_table index;
    shape *shape;
    int64_t n, cap;
};

/* --- one rendering with marks ------------------------------------------------------------------------------------- */
static bool white(char c)
{
    return c && strchr(" \t\r\n", c);
}

/* A content: from … to without white space at its ends, and `answer`, where what stands behind its reasoning begins. */
typedef struct parts {
    size_t from, answer, to, n;
} parts;

static parts parts_of(const char *s)
{
    parts p = {.n = strlen(s)};
    p.to = p.n;
    while (p.from < p.to && white(s[p.from])) p.from++;
    while (p.to > p.from && white(s[p.to - 1])) p.to--;
    p.answer = p.from;
    for (const char *q = s + p.from; (q = strstr(q, "</think>")); q += 8)
        p.answer = (size_t)(q + 8 - s);
    while (p.answer < p.to && white(s[p.answer])) p.answer++;
    return p;
}

/* The content marked inside of its white space, which templates trim, and behind the reasoning, which they cut off; where
 * they look at how a content begins, behind it alone (inner). NULL: out of memory. */
static char *marked(const char *s, int i, bool inner)
{
    str_buf out = {0};
    const parts p = parts_of(s);
    const size_t from = p.answer, to = p.to;
    str_add(&out, s, p.from);
    if (!inner && p.answer > p.from) str_printf(&out, TURNS_MARK "%d[" TURNS_MARK, i);
    str_add(&out, s + p.from, from - p.from);
    str_printf(&out, TURNS_MARK "%d<" TURNS_MARK, i);
    str_add(&out, s + from, to - from);
    str_printf(&out, TURNS_MARK "%d>" TURNS_MARK, i);
    str_adds(&out, s + to);
    char *fit = out.failed ? NULL : ft_realloc(out.data, out.len + 1, 1);
    if (!fit) str_free(&out);
    return fit;
}

/* There is text behind its reasoning. */
static bool says(const char *s)
{
    const parts p = parts_of(s);
    return p.answer < p.to;
}

/* Contents change places with marked ones while the conversation is rendered: a copy of many short turns would take several
 * times their text. own[turns]: those of the record, NULL where none is marked. */
static bool mark_contents(const turns *t, bool learned_only, bool inner, char **own)
{
    int i = 0;
    for (cJSON *m = t->messages->child; m; m = m->next, i++) {
        cJSON *content = cJSON_GetObjectItemCaseSensitive(m, "content");
        const char *s = cJSON_GetStringValue(content);
        if (!s || !says(s) || (learned_only && !data_turns_supervised(t, i, m))) continue;
        char *with = marked(s, i, inner);
        if (!with) return false;
        own[i] = content->valuestring;
        content->valuestring = with;
    }
    return true;
}

static void unmark_contents(const turns *t, char **own)
{
    cJSON *m = t->messages->child ? t->messages->child->prev : NULL; /* cJSON: the last */
    for (int i = t->n - 1; i >= 0;
         m = m->prev, i--) { /* backwards: two messages may have one content */
        if (!own[i]) continue;
        cJSON *content = cJSON_GetObjectItemCaseSensitive(m, "content");
        ft_free(content->valuestring);
        content->valuestring = own[i];
    }
}

/* Takes the marks out of the rendering, noting where they stood; false where the rest is not the whole rendering. */
static bool read_marks(turns *t, const str_buf *marked)
{
    const size_t mark = strlen(TURNS_MARK);
    size_t at = 0, plain = 0;
    while (at < marked->len) {
        const char *hit = memmem(marked->data + at, marked->len - at, TURNS_MARK, mark);
        size_t n = hit ? (size_t)(hit - marked->data) - at : marked->len - at;
        if (n > t->full.len - plain || memcmp(marked->data + at, t->full.data + plain, n) != 0)
            return false;
        plain += n;
        at += n;
        if (!hit) break;
        char *end;
        long i = strtol(marked->data + at + mark, &end, 10);
        if (i < 0 || i >= t->n || !*end || !strchr("[<>", *end) ||
            strncmp(end + 1, TURNS_MARK, mark) != 0)
            return false;
        int64_t *from = &t->many->from[i];
        if (*end == '>') t->many->to[i] = (int64_t)plain;
        if (*end == '[' || (*end == '<' && *from < 0)) *from = (int64_t)plain;
        if (*end == '[') t->many->whole[i] = true;
        at = (size_t)(end + 1 + mark - marked->data);
    }
    return plain == t->full.len;
}

static bool find_contents(turns *t, bool learned_only, bool inner)
{
    str_buf out = {0};
    ft_status rc = FT_EMEM;
    char **own = ft_alloc((size_t)t->n, sizeof *own);
    for (int i = 0; i < t->n; i++) {
        t->many->from[i] = t->many->to[i] = -1;
        t->many->whole[i] = false;
    }
    if (own && mark_contents(t, learned_only, inner, own))
        rc = chat_render(t->it->d->chat, t->in, &out, NULL);
    if (own) unmark_contents(t, own);
    ft_free(own);
    bool same = rc == FT_OK && read_marks(t, &out);
    if (rc != FT_OK && rc != FT_EDATA) t->rc = rc;
    for (int i = 0; i < t->n; i++)
        if (!same || t->many->from[i] < 0 || t->many->to[i] < t->many->from[i])
            t->many->from[i] = t->many->to[i] = -1;
    str_free(&out);
    return same;
}

ft_status data_many_open(turns *t)
{
    int i = 0, learned = 0;
    for (const cJSON *m = t->messages->child; m; m = m->next)
        learned += data_turns_supervised(t, i++, m);
    if (learned <= FEW) return FT_OK;
    t->many = ft_alloc(1, sizeof *t->many);
    if (!t->many) return FT_EMEM;
    t->many->from = ft_alloc((size_t)t->n, sizeof *t->many->from);
    t->many->to = ft_alloc((size_t)t->n, sizeof *t->many->to);
    t->many->whole = ft_alloc((size_t)t->n, sizeof *t->many->whole);
    if (!t->many->from || !t->many->to || !t->many->whole) return FT_EMEM;
    bool found = false;
    for (int way = 0; way < 4 && !found && t->rc == FT_OK; way++)
        found = find_contents(t, way & 2, way & 1);
    ft_error_clear();
    return t->rc;
}

void data_many_close(turns *t)
{
    turns_many *k = t->many;
    if (!k) return;
    for (int64_t i = 0; i < k->n; i++) ft_free(k->shape[i].key);
    ft_free(k->shape);
    map_free(&k->index);
    ft_free(k->from);
    ft_free(k->to);
    ft_free(k->whole);
    ft_free(k);
    t->many = NULL;
}

/* --- shapes --------------------------------------------------------------------------------------------------------- */
static void add_role(str_buf *key, const cJSON *m)
{
    const char *role = m ? cJSON_GetStringValue(js_get(m, "role")) : NULL;
    str_printf(key, "%s|", role ? role : "-");
}

static shape *shape_of(turns *t, int i, const cJSON *m)
{
    turns_many *k = t->many;
    str_buf key = {0};
    int64_t at;
    add_role(&key, i > 0 ? m->prev : NULL);
    add_role(&key, m->next);
    str_printf(&key, "%d%d", t->many->from[i] >= 0, js_get(m, "tool_calls") != NULL);
    for (const cJSON *v = m->child; v; v = v->next)
        str_printf(&key, "|%s:%d", v->string, v->type & 0xff);
    const char *s = cJSON_GetStringValue(js_get(m, "content"));
    if (s) { /* a template may trim it or not */
        parts p = parts_of(s);
        str_printf(&key, "|%d%d|", t->many->whole[i], p.answer > p.from);
        str_add(&key, s, p.from);
        str_adds(&key, "|");
        str_add(&key, s + p.to, p.n - p.to);
    }
    if (str_ok(&key) != FT_OK) goto fail;
    if (map_get(&k->index, key.data, key.len, &at)) {
        str_free(&key);
        return &k->shape[at];
    }
    if (k->n == k->cap) {
        int64_t cap = k->cap ? 2 * k->cap : 16;
        shape *bigger = ft_realloc(k->shape, (size_t)cap, sizeof *bigger);
        if (!bigger) goto fail;
        k->shape = bigger;
        k->cap = cap;
    }
    if (map_put(&k->index, key.data, key.len, k->n) != FT_OK) goto fail;
    k->shape[k->n] = (shape){.key = key.data};
    return &k->shape[k->n++];
fail:
    str_free(&key);
    t->rc = FT_EMEM;
    return NULL;
}

/* The contents' ends that a turn is seen from: its own, or its neighbours' where it has none or calls stand behind it. */
static bool anchors(const turns *t, int i, const cJSON *m, int64_t *begin, int64_t *end)
{
    const turns_many *k = t->many;
    const bool own = k->from[i] >= 0;
    *begin = own ? k->from[i] : i > 0 ? k->to[i - 1] : -1;
    *end = own && !js_get(m, "tool_calls") ? k->to[i] : i + 1 < t->n ? k->from[i + 1] : -1;
    return *begin >= 0 && *end >= 0;
}

static place place_of(int64_t at, int64_t anchor)
{
    int64_t off = at - anchor;
    return (place){off, (size_t)(off < 0 ? at : anchor), (size_t)(off < 0 ? -off : off)};
}

/* Does the same text stand there? */
static bool fits(const turns *t, place p, int64_t anchor, int64_t *at)
{
    int64_t from = p.off < 0 ? anchor + p.off : anchor;
    if (from < 0 || (size_t)from > t->full.len || p.n > t->full.len - (size_t)from) return false;
    *at = anchor + p.off;
    return !p.n || memcmp(t->full.data + from, t->full.data + p.text, p.n) == 0;
}

bool data_many_span(turns *t, int i, const cJSON *m, size_t *begin, size_t *end)
{
    int64_t a, b, from, to;
    if (!t->many || !anchors(t, i, m, &a, &b)) return false;
    shape *s = shape_of(t, i, m);
    if (!s || s->odd) return false;
    const int64_t seen = s->seen++;
    if (s->learned < LEARNED || (seen & (seen - 1)) == 0 || i >= t->n - LAST) return false;
    if (!fits(t, s->begin, a, &from) || !fits(t, s->end, b, &to)) return false;
    *begin = (size_t)from;
    *end = (size_t)to;
    s->used = true;
    return true;
}

bool data_many_learn(turns *t, int i, const cJSON *m, size_t begin, size_t end)
{
    int64_t a, b, from, to;
    if (!t->many || i >= t->n - LAST || !anchors(t, i, m, &a, &b)) return true;
    shape *s = shape_of(t, i, m);
    if (!s || s->odd) return true;
    bool known = s->learned++ > 0 && fits(t, s->begin, a, &from) && fits(t, s->end, b, &to);
    if (known && (from != (int64_t)begin || to != (int64_t)end)) {
        s->odd = true;
        return !s->used;
    }
    if (!known && !s->used) {
        s->begin = place_of((int64_t)begin, a);
        s->end = place_of((int64_t)end, b);
    }
    return true;
}
