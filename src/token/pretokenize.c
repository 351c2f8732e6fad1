/* pretokenize.c – the pre-tokenizers: text in pieces → text in smaller pieces, sometimes rewritten. */
#include "token_private.h"

/* Pieces change, the text does not. */
static void share_text(const tk_text *in, tk_text *out)
{
    out->s = in->s;
    out->n = in->n;
}

/* A step that writes text begins it anew once what it wrote before is handed on. */
static str_buf *fresh_text(tk_text *out)
{
    if (out->n_pieces == 0) str_clear(&out->own);
    return &out->own;
}

/* --- splitting by matches ------------------------------------------------------------------------------------ */
typedef struct cutter {
    tk_text *out;
    const tk_piece *piece;
    tk_behavior how;
    bool had_match, have; /* have: `from … to` waits to be written */
    size_t from, to;
} cutter;

static void cut_write(cutter *c, size_t from, size_t to)
{
    size_t into = from - c->piece->from;
    uint32_t head = into < c->piece->head ? c->piece->head - (uint32_t)into : 0;
    tk_add_piece(c->out, from, to, -1, head);
}

static void cut_flush(cutter *c)
{
    if (c->have) cut_write(c, c->from, c->to);
    c->have = false;
}

/* The next stretch: a match or the text between two. Together they cover the piece. */
static void cut(cutter *c, size_t from, size_t to, bool match)
{
    bool extend = false;
    switch (c->how) {
    case TK_REMOVED:
        if (!match) cut_write(c, from, to);
        return;
    case TK_ISOLATED:
        cut_write(c, from, to);
        return;
    case TK_CONTIGUOUS:
        extend = match == c->had_match;
        break;
    case TK_MERGED_WITH_PREVIOUS:
        extend = match && !c->had_match;
        break;
    case TK_MERGED_WITH_NEXT: /* what waits is a match */
        if (!match && c->have) {
            c->have = false;
            cut_write(c, c->from, to);
        } else if (!match) {
            cut_write(c, from, to);
        } else {
            cut_flush(c);
            c->from = from;
            c->to = to;
            c->have = true;
        }
        return;
    }
    if (extend && c->have) {
        c->to = to;
    } else {
        cut_flush(c);
        c->from = from;
        c->to = to;
        c->have = true;
    }
    c->had_match = match;
}

static ft_status split_regex(const tk_regex *re, tk_behavior how, bool invert, const char *s,
                             const tk_piece *p, tk_text *out, tk_steps *steps)
{
    cutter c = {.out = out, .piece = p, .how = how};
    tk_find f;
    size_t last = p->from, start, end;
    FT_TRY(tk_find_open(&f, re, s + p->from, p->to - p->from, steps));
    ft_status rc = FT_OK;
    while (out->rc == FT_OK && (rc = tk_find_next(&f, &start, &end)) == FT_OK) {
        start += p->from;
        end += p->from;
        if (last != start) cut(&c, last, start, invert);
        cut(&c, start, end, !invert);
        last = end;
    }
    tk_find_close(&f);
    FT_TRY(out->rc);
    if (rc != FT_END) return rc;
    if (last != p->to) cut(&c, last, p->to, invert);
    cut_flush(&c);
    return FT_OK;
}

static void split_class(uint32_t classes, tk_behavior how, const char *s, const tk_piece *p,
                        tk_text *out)
{
    cutter c = {.out = out, .piece = p, .how = how};
    size_t last = p->from;
    for (size_t i = p->from; i < p->to;) {
        int32_t cp;
        size_t len = (size_t)utf8_next(s + i, p->to - i, &cp);
        if (tk_flags(cp) & classes) {
            if (last != i) cut(&c, last, i, false);
            cut(&c, i, i + len, true);
            last = i + len;
        }
        i += len;
    }
    if (last != p->to) cut(&c, last, p->to, false);
    cut_flush(&c);
}

static ft_status done(const tk_text *out)
{
    return out->own.failed ? str_ok(&out->own) : out->rc;
}

static ft_status each_class(uint32_t classes, tk_behavior how, const tk_text *in, tk_text *out)
{
    share_text(in, out);
    for (size_t i = 0; i < in->n_pieces; i++) {
        const tk_piece *p = &in->piece[i];
        if (p->id >= 0) {
            tk_add_piece(out, p->from, p->to, p->id, 0);
        } else {
            split_class(classes, how, out->s, p, out);
        }
    }
    return done(out);
}

static ft_status run_split(const tk_op *op, tk_text *in, tk_text *out)
{
    share_text(in, out);
    for (size_t i = 0; i < in->n_pieces; i++) {
        const tk_piece *p = &in->piece[i];
        if (p->id >= 0) {
            tk_add_piece(out, p->from, p->to, p->id, 0);
        } else {
            FT_TRY(
                split_regex(op->re, (tk_behavior)op->num[0], op->on[0], out->s, p, out, in->steps));
        }
    }
    return done(out);
}

static ft_status run_digits(const tk_op *op, tk_text *in, tk_text *out)
{
    return each_class(TK_NUMERIC, op->on[0] ? TK_ISOLATED : TK_CONTIGUOUS, in, out);
}
static ft_status run_punctuation(const tk_op *op, tk_text *in, tk_text *out)
{
    return each_class(TK_PUNCT, (tk_behavior)op->num[0], in, out);
}
static ft_status run_whitespace_split(const tk_op *op, tk_text *in, tk_text *out)
{
    (void)op;
    return each_class(TK_SPACE, TK_REMOVED, in, out);
}

static ft_status cut_punctuation(void *ctx, tk_text *words)
{
    return each_class(TK_PUNCT, TK_ISOLATED, words, ctx);
}

static ft_status run_bert(const tk_op *op, tk_text *in, tk_text *out)
{
    tk_text words = {.next = cut_punctuation, .ctx = out};
    (void)op;
    ft_status rc = each_class(TK_SPACE, TK_REMOVED, in, &words);
    if (rc == FT_OK) rc = tk_hand_on(&words);
    tk_text_free(&words);
    return rc;
}

/* \w+|[^\w\s]+ of the regex crate: runs of word characters and runs of the rest, white space removed */
static ft_status run_whitespace(const tk_op *op, tk_text *in, tk_text *out)
{
    (void)op;
    share_text(in, out);
    for (size_t i = 0; i < in->n_pieces; i++) {
        const tk_piece *p = &in->piece[i];
        if (p->id >= 0) {
            tk_add_piece(out, p->from, p->to, p->id, 0);
            continue;
        }
        cutter c = {.out = out, .piece = p};
        size_t from = p->from;
        int last = -1; /* class of the open run: 0 other, 1 word, −1 none */
        for (size_t at = p->from; at < p->to;) {
            int32_t cp;
            size_t len = (size_t)utf8_next(out->s + at, p->to - at, &cp);
            uint32_t flags = tk_flags(cp);
            int now = flags & TK_RWORD ? 1 : flags & TK_SPACE ? -1 : 0;
            if (now != last) {
                if (last >= 0) cut_write(&c, from, at);
                from = at;
                last = now;
            }
            at += len;
        }
        if (last >= 0) cut_write(&c, from, p->to);
    }
    return done(out);
}

/* A piece begins where a script does; what stands before the first one is lost, as in the library. */
static ft_status run_unicode_scripts(const tk_op *op, tk_text *in, tk_text *out)
{
    (void)op;
    share_text(in, out);
    for (size_t i = 0; i < in->n_pieces; i++) {
        const tk_piece *p = &in->piece[i];
        if (p->id >= 0) {
            tk_add_piece(out, p->from, p->to, p->id, 0);
            continue;
        }
        cutter c = {.out = out, .piece = p};
        size_t from = p->from;
        int last = 0;
        for (size_t at = p->from; at < p->to;) {
            int32_t cp;
            size_t len = (size_t)utf8_next(out->s + at, p->to - at, &cp);
            int script = tk_script(cp);
            if (script && script != last) {
                if (last) cut_write(&c, from, at);
                from = at;
                last = script;
            }
            at += len;
        }
        if (last) cut_write(&c, from, p->to);
    }
    return done(out);
}

static ft_status run_fixed_length(const tk_op *op, tk_text *in, tk_text *out)
{
    share_text(in, out);
    for (size_t i = 0; i < in->n_pieces; i++) {
        const tk_piece *p = &in->piece[i];
        if (p->id >= 0) {
            tk_add_piece(out, p->from, p->to, p->id, 0);
            continue;
        }
        cutter c = {.out = out, .piece = p};
        size_t from = p->from;
        int64_t count = 0;
        for (size_t at = p->from; at < p->to;) {
            int32_t cp;
            at += (size_t)utf8_next(out->s + at, p->to - at, &cp);
            if (++count == op->num[0]) {
                cut_write(&c, from, at);
                from = at;
                count = 0;
            }
        }
        if (from < p->to) cut_write(&c, from, p->to);
    }
    return done(out);
}

/* --- those that rewrite the text -------------------------------------------------------------------------------- */
static ft_status write_alphabet(void *ctx, tk_text *words)
{
    tk_text *out = ctx;
    for (size_t k = 0; k < words->n_pieces && out->rc == FT_OK; k++) {
        const tk_piece *q = &words->piece[k];
        const size_t from = fresh_text(out)->len;
        tk_bytes_to_alphabet(&out->own, words->s + q->from, q->to - q->from);
        tk_own_text(out);
        tk_add_piece(out, from, out->own.len, -1, q->head ? 1 : 0);
    }
    return done(out);
}

static ft_status run_bytelevel(const tk_op *op, tk_text *in, tk_text *out)
{
    tk_text words = {.next = write_alphabet,
                     .ctx = out}; /* in `text`, the input with spaces added */
    str_buf text = {0};
    ft_status rc = FT_OK;
    for (size_t i = 0; i < in->n_pieces; i++) {
        const tk_piece *p = &in->piece[i];
        if (p->id >= 0) {
            tk_add_piece(out, 0, 0, p->id, 0);
            continue;
        }
        tk_piece whole = *p;
        words.s = in->s;
        if (op->on[0] && in->s[p->from] != ' ') {
            str_clear(&text);
            str_addc(&text, ' ');
            str_add(&text, in->s + p->from, p->to - p->from);
            FT_TRY_OUT(str_ok(&text));
            words.s = text.data;
            whole =
                (tk_piece){.from = 0, .to = text.len, .id = -1, .head = p->head ? p->head + 1 : 0};
        }
        if (op->on[2]) {
            FT_TRY_OUT(split_regex(op->re, TK_ISOLATED, false, words.s, &whole, &words, in->steps));
        } else {
            tk_add_piece(&words, whole.from, whole.to, -1, whole.head);
        }
        FT_TRY_OUT(tk_hand_on(&words));
    }
    rc = done(out);
out:
    str_free(&text);
    tk_text_free(&words);
    return rc;
}

static bool begins_with(const char *s, size_t n, tk_span what)
{
    return n >= what.n && memcmp(s, what.s, what.n) == 0;
}

/* Words, each with the space in front of it, as text of `out`. */
ft_status tk_metaspace_split(const tk_op *op, tk_text *in, tk_text *out)
{
    for (size_t i = 0; i < in->n_pieces && out->rc == FT_OK; i++) {
        const tk_piece *p = &in->piece[i];
        if (p->id >= 0) {
            tk_add_piece(out, 0, 0, p->id, 0);
            continue;
        }
        const char *s = in->s + p->from;
        const size_t n = p->to - p->from;
        str_buf *text = fresh_text(out);
        size_t from = text->len;
        uint32_t head = p->head ? 1 : 0;
        /* a replaced space belongs to the same character as before */
        bool has = n && (s[0] == ' ' || begins_with(s, n, op->a));
        bool add = !has && (op->num[0] == 0 || (op->num[0] == 1 && p->head > 0));
        if (add) str_add(text, op->a.s, op->a.n);
        for (size_t k = 0; k < n && out->rc == FT_OK;) {
            const bool space = s[k] == ' ', mark = space || begins_with(s + k, n - k, op->a);
            if (op->on[0] && mark && text->len > from) {
                tk_own_text(out);
                tk_add_piece(out, from, text->len, -1, head);
                head = 0;
                from = fresh_text(out)->len;
            }
            if (mark)
                str_add(text, op->a.s, op->a.n);
            else
                str_addc(text, s[k]);
            k += mark && !space ? op->a.n : 1;
        }
        tk_own_text(out);
        FT_TRY(done(out));
        tk_add_piece(out, from, text->len, -1, head);
    }
    return done(out);
}

/* --- fields -------------------------------------------------------------------------------------------------------- */
static ft_status parse_behavior(tk_op *op, const tk_src *src, const cJSON *o, const char *def)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name = NULL;
    FT_TRY(js_get_str(src->doc, o, "behavior", def, &name));
    for (size_t i = 0; name && i < FT_COUNT_OF(names); i++) {
        if (strcmp(names[i], name) == 0) {
            op->num[0] = (int64_t)i;
            return FT_OK;
        }
    }
    return js_fail(src->doc, o, FT_EDATA, "behavior", "%s is not a behavior",
                   name ? ft_shows(name) : "nothing");
}

static ft_status parse_split(tk_op *op, const tk_src *src, const cJSON *o)
{
    FT_TRY(parse_behavior(op, src, o, NULL));
    FT_TRY(tk_parse_bool(src, o, "invert", -1, &op->on[0]));
    return tk_parse_pattern(op, src, o);
}
static ft_status parse_punctuation(tk_op *op, const tk_src *src, const cJSON *o)
{
    return parse_behavior(op, src, o, "Isolated");
}
static ft_status parse_digits(tk_op *op, const tk_src *src, const cJSON *o)
{
    return tk_parse_bool(src, o, "individual_digits", -1, &op->on[0]);
}
static ft_status parse_fixed_length(tk_op *op, const tk_src *src, const cJSON *o)
{
    return js_get_int(src->doc, o, "length", 5, 1, INT32_MAX, &op->num[0]);
}
static ft_status parse_delimiter(tk_op *op, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_text(src, o, "delimiter", NULL, &op->a));
    op->num[0] = TK_REMOVED;
    return tk_regex_literal(&op->re, op->a);
}

ft_status tk_parse_bytelevel(tk_op *op, const tk_src *src, const cJSON *o)
{
    static const char gpt2[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    bool unused;
    FT_TRY(tk_parse_bool(src, o, "add_prefix_space", -1, &op->on[0]));
    FT_TRY(tk_parse_bool(src, o, "trim_offsets", 1, &unused));
    FT_TRY(tk_parse_bool(src, o, "use_regex", 1, &op->on[2]));
    return tk_regex_open(&op->re, (tk_span){gpt2, sizeof gpt2 - 1});
}

/* a: replacement; num[0]: scheme 0 always, 1 first, 2 never; on[0]: split */
ft_status tk_parse_metaspace(tk_op *op, const tk_src *src, const cJSON *o)
{
    static const char *const schemes[] = {"always", "first", "never"};
    const char *scheme = NULL;
    bool prefix = true;
    FT_TRY(tk_parse_text(src, o, "replacement", NULL, &op->a));
    int32_t cp;
    if (op->a.n == 0 || (size_t)utf8_next(op->a.s, op->a.n, &cp) != op->a.n || cp < 0) {
        return js_fail(src->doc, o, FT_EDATA, "replacement", "must be one character");
    }
    FT_TRY(js_get_str(src->doc, o, "prepend_scheme", "always", &scheme));
    op->num[0] = -1;
    for (int i = 0; i < 3; i++) {
        if (strcmp(scheme, schemes[i]) == 0) op->num[0] = i;
    }
    if (op->num[0] < 0) {
        return js_fail(src->doc, o, FT_EDATA, "prepend_scheme", "%s is not a scheme",
                       ft_shows(scheme));
    }
    FT_TRY(tk_parse_bool(src, o, "add_prefix_space", 1, &prefix));
    if (!prefix) {
        if (js_get(o, "prepend_scheme") && op->num[0] != 2) {
            return js_fail(src->doc, o, FT_EDATA, "add_prefix_space",
                           "contradicts prepend_scheme %s", scheme);
        }
        op->num[0] = 2;
    }
    return tk_parse_bool(src, o, "split", 1, &op->on[0]);
}

const tk_kind tk_pretokenizers[] = {
    {.name = "ByteLevel", .parse = tk_parse_bytelevel, .split = run_bytelevel},
    {.name = "Split", .parse = parse_split, .split = run_split},
    {.name = "Metaspace", .parse = tk_parse_metaspace, .split = tk_metaspace_split},
    {.name = "Digits", .parse = parse_digits, .split = run_digits},
    {.name = "Punctuation", .parse = parse_punctuation, .split = run_punctuation},
    {.name = "Whitespace", .split = run_whitespace},
    {.name = "WhitespaceSplit", .split = run_whitespace_split},
    {.name = "BertPreTokenizer", .split = run_bert},
    {.name = "CharDelimiterSplit", .parse = parse_delimiter, .split = run_split},
    {.name = "UnicodeScripts", .split = run_unicode_scripts},
    {.name = "FixedLength", .parse = parse_fixed_length, .split = run_fixed_length},
    {.name = NULL},
};
