/* normalize.c – the normalizers.
 *
 * Beside the text goes `head`: how many leading bytes still stem from the first character of the whole input. Only
 * the pre-tokenizer Metaspace with scheme "first" asks for it; it is what a step makes of those bytes alone. */
#include "token_private.h"

#include <utf8proc.h>

static ft_status run_nfc(const tk_op *op, tk_span in, str_buf *out)
{
    (void)op;
    return tk_normal_form(TK_NFC, in.s, in.n, out);
}
static ft_status run_nfd(const tk_op *op, tk_span in, str_buf *out)
{
    (void)op;
    return tk_normal_form(TK_NFD, in.s, in.n, out);
}
static ft_status run_nfkc(const tk_op *op, tk_span in, str_buf *out)
{
    (void)op;
    return tk_normal_form(TK_NFKC, in.s, in.n, out);
}
static ft_status run_nfkd(const tk_op *op, tk_span in, str_buf *out)
{
    (void)op;
    return tk_normal_form(TK_NFKD, in.s, in.n, out);
}

static ft_status lower(tk_span in, str_buf *out)
{
    for (size_t i = 0; i < in.n;) {
        int32_t cp;
        int len = utf8_next(in.s + i, in.n - i, &cp);
        char text[4];
        if (cp == 0x130) {
            str_add(out, "i\xcc\x87", 3);
        } else if (cp >= 0) {
            str_add(out, text, (size_t)utf8_put(text, tk_lower(cp)));
        } else {
            str_add(out, in.s + i, 1);
        }
        i += (size_t)len;
    }
    return str_ok(out);
}

static ft_status run_lowercase(const tk_op *op, tk_span in, str_buf *out)
{
    (void)op;
    return lower(in, out);
}

static ft_status run_prepend(const tk_op *op, tk_span in, str_buf *out)
{
    if (in.n) str_add(out, op->a.s, op->a.n);
    str_add(out, in.s, in.n);
    return str_ok(out);
}

static uint32_t within(size_t from, size_t to, size_t limit)
{
    return (uint32_t)((to < limit ? to : limit) - (from < limit ? from : limit));
}

ft_status tk_replace(const tk_op *op, tk_span in, str_buf *out, uint32_t *head, tk_steps *steps)
{
    tk_find f;
    size_t start, end, last = 0;
    uint32_t left = head ? *head : 0, made = 0;
    if (in.n == 0) return FT_OK; /* even a pattern that matches nothing does nothing here */
    FT_TRY(tk_find_open(&f, op->re, in.s, in.n, steps));
    ft_status rc;
    while ((rc = tk_find_next(&f, &start, &end)) == FT_OK) {
        made += within(last, start, left);
        /* the new text belongs to the last character before it, one that it replaces as a rule */
        if (left && end <= left) made += (uint32_t)op->a.n;
        str_add(out, in.s + last, start - last);
        str_add(out, op->a.s, op->a.n);
        last = end;
    }
    tk_find_close(&f);
    if (rc != FT_END) return rc;
    if (head) *head = made + within(last, in.n, left);
    str_add(out, in.s + last, in.n - last);
    return str_ok(out);
}

/* Copies the characters that have none of the classes. */
static void keep_without(uint32_t classes, tk_span in, str_buf *out)
{
    for (size_t i = 0; i < in.n;) {
        int32_t cp;
        int len = utf8_next(in.s + i, in.n - i, &cp);
        if (!(tk_flags(cp) & classes)) str_add(out, in.s + i, (size_t)len);
        i += (size_t)len;
    }
}

static ft_status run_strip_accents(const tk_op *op, tk_span in, str_buf *out)
{
    (void)op;
    keep_without(TK_MARK, in, out);
    return str_ok(out);
}

static ft_status run_strip(const tk_op *op, tk_span in, str_buf *out)
{
    size_t from = 0, to = in.n;
    int32_t cp;
    while (op->on[0] && from < to) {
        int len = utf8_next(in.s + from, to - from, &cp);
        if (!(tk_flags(cp) & TK_SPACE)) break;
        from += (size_t)len;
    }
    while (op->on[1] && to > from) {
        size_t prev = tk_prev(in.s, to);
        utf8_next(in.s + prev, to - prev, &cp);
        if (!(tk_flags(cp) & TK_SPACE)) break;
        to = prev;
    }
    str_add(out, in.s + from, to - from);
    return str_ok(out);
}

static bool nmt_drops(int32_t c)
{
    return (c >= 1 && c <= 8) || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f || c == 0x8f ||
           c == 0x9f;
}
static bool nmt_is_space(int32_t c)
{
    return c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
           c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
}
static ft_status run_nmt(const tk_op *op, tk_span in, str_buf *out)
{
    (void)op;
    for (size_t i = 0; i < in.n;) {
        int32_t cp;
        int len = utf8_next(in.s + i, in.n - i, &cp);
        if (nmt_is_space(cp)) {
            str_addc(out, ' ');
        } else if (!nmt_drops(cp)) {
            str_add(out, in.s + i, (size_t)len);
        }
        i += (size_t)len;
    }
    return str_ok(out);
}

static ft_status run_bytelevel(const tk_op *op, tk_span in, str_buf *out)
{
    (void)op;
    tk_bytes_to_alphabet(out, in.s, in.n);
    return str_ok(out);
}

/* --- Precompiled ------------------------------------------------------------------------------------------
 * A double array and a block of NUL-terminated replacements. The library looks at grapheme clusters of up to five
 * bytes first and takes the shortest prefix that is an entry. */
static bool charsmap_find(const tk_charsmap *m, const char *s, size_t n, tk_span *out)
{
    if (m->n_units == 0) return false;
    size_t pos = 0;
    uint32_t unit = m->unit[0];
    pos ^= (size_t)(unit >> 10) << ((unit & 0x200) >> 6);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == 0) return false;
        pos ^= c;
        if (pos >= m->n_units) return false;
        unit = m->unit[pos];
        if ((unit & 0x800000ffu) != c) return false;
        pos ^= (size_t)(unit >> 10) << ((unit & 0x200) >> 6);
        if (!(unit & 0x100)) continue;
        if (pos >= m->n_units) return false;
        size_t at = m->unit[pos] & 0x7fffffffu;
        if (at >= m->n_text) return false;
        const char *end = memchr(m->text + at, 0, m->n_text - at);
        *out = (tk_span){m->text + at, end ? (size_t)(end - (m->text + at)) : m->n_text - at};
        return true;
    }
    return false;
}

/* End of the grapheme cluster that begins at `from`; stray bytes stand alone. */
static size_t cluster_end(const char *s, size_t n, size_t from)
{
    int32_t last, cp, state = 0;
    size_t at = from + (size_t)utf8_next(s + from, n - from, &last);
    if (last < 0) return at;
    while (at < n) {
        int len = utf8_next(s + at, n - at, &cp);
        if (cp < 0 || utf8proc_grapheme_break_stateful(last, cp, &state)) break;
        last = cp;
        at += (size_t)len;
    }
    return at;
}

static ft_status run_precompiled(const tk_op *op, tk_span in, str_buf *out)
{
    tk_span to;
    for (size_t i = 0; i < in.n;) {
        size_t end = cluster_end(in.s, in.n, i);
        if (end - i < 6 && charsmap_find(&op->map, in.s + i, end - i, &to)) {
            str_add(out, to.s, to.n);
            i = end;
            continue;
        }
        while (i < end) {
            int32_t cp;
            size_t len = (size_t)utf8_next(in.s + i, in.n - i, &cp);
            if (charsmap_find(&op->map, in.s + i, len, &to)) {
                str_add(out, to.s, to.n);
            } else {
                str_add(out, in.s + i, len);
            }
            i += len;
        }
    }
    return str_ok(out);
}

static ft_status charsmap_open(tk_charsmap *m, arena *mem, const uint8_t *data, size_t n)
{
    FT_CHECK(n >= 4, FT_EDATA, "precompiled_charsmap: %zu bytes is too short", n);
    uint32_t size = (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
                    (uint32_t)data[3] << 24;
    FT_CHECK(size <= n - 4 && size % 4 == 0, FT_EDATA,
             "precompiled_charsmap: a trie of %u bytes does not fit into %zu", size, n);
    m->n_units = size / 4;
    uint32_t *unit = arena_get(mem, size + 4u);
    char *text = arena_strn(mem, (const char *)data + 4 + size, n - 4 - size);
    if (!unit || !text) return FT_EMEM;
    for (size_t i = 0; i < m->n_units; i++) {
        const uint8_t *p = data + 4 + 4 * i;
        unit[i] =
            (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    }
    m->unit = unit;
    m->text = text;
    m->n_text = n - 4 - size;
    return FT_OK;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static ft_status parse_precompiled(tk_op *op, const tk_src *src, const cJSON *o)
{
    const char *text = NULL;
    FT_TRY(js_get_str(src->doc, o, "precompiled_charsmap", NULL, &text));
    if (!text) return js_fail(src->doc, o, FT_EDATA, "precompiled_charsmap", "missing");
    size_t n = strlen(text), got = 0;
    while (n && text[n - 1] == '=') n--;
    uint8_t *data = ft_alloc(n + 1, 1);
    if (!data) return FT_EMEM;
    uint32_t bits = 0;
    int have = 0;
    ft_status rc = FT_OK;
    for (size_t i = 0; i < n; i++) {
        int d = base64_digit(text[i]);
        if (d < 0) {
            rc = js_fail(src->doc, o, FT_EDATA, "precompiled_charsmap", "is not base64");
            break;
        }
        bits = bits << 6 | (uint32_t)d;
        if ((have += 6) >= 8) data[got++] = (uint8_t)(bits >> (have -= 8));
    }
    if (rc == FT_OK) rc = charsmap_open(&op->map, src->mem, data, got);
    ft_free(data);
    return rc;
}

/* --- BertNormalizer ---------------------------------------------------------------------------------------- */
static bool is_chinese(int32_t c)
{
    static const int32_t range[][2] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df},
                                       {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf},
                                       {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
    for (size_t i = 0; i < FT_COUNT_OF(range); i++) {
        if (c >= range[i][0] && c <= range[i][1]) return true;
    }
    return false;
}

static void bert_clean(bool clean, bool chinese, tk_span in, str_buf *out)
{
    for (size_t i = 0; i < in.n;) {
        int32_t cp;
        int len = utf8_next(in.s + i, in.n - i, &cp);
        uint32_t flags = tk_flags(cp);
        bool control = cp != '\t' && cp != '\n' && cp != '\r' && (flags & TK_BERT_OTHER);
        if (clean && (cp == 0 || cp == 0xfffd || control)) {
            /* dropped */
        } else if (clean && (flags & TK_SPACE)) {
            str_addc(out, ' ');
        } else if (chinese && is_chinese(cp)) {
            str_addc(out, ' ');
            str_add(out, in.s + i, (size_t)len);
            str_addc(out, ' ');
        } else {
            str_add(out, in.s + i, (size_t)len);
        }
        i += (size_t)len;
    }
}

static ft_status run_bert(const tk_op *op, tk_span in, str_buf *out)
{
    str_buf a = {0}, b = {0}, c = {0};
    ft_status rc = FT_OK;
    bert_clean(op->on[0], op->on[1], in, &a);
    FT_TRY_OUT(str_ok(&a));
    if (op->on[2]) {
        FT_TRY_OUT(tk_normal_form(TK_NFD, a.data, a.len, &b));
        keep_without(TK_BERT_MN, (tk_span){b.data, b.len}, &c);
        FT_TRY_OUT(str_ok(&c));
        str_buf swap = a;
        a = c;
        c = swap;
    }
    if (op->on[3]) {
        rc = lower((tk_span){a.data, a.len}, out);
    } else {
        str_add(out, a.data, a.len);
        rc = str_ok(out);
    }
out:
    str_free(&a);
    str_free(&b);
    str_free(&c);
    return rc;
}

static ft_status parse_bert(tk_op *op, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_bool(src, o, "clean_text", -1, &op->on[0]));
    FT_TRY(tk_parse_bool(src, o, "handle_chinese_chars", -1, &op->on[1]));
    FT_TRY(tk_parse_bool(src, o, "lowercase", -1, &op->on[3]));
    return tk_parse_bool(src, o, "strip_accents", op->on[3], &op->on[2]);
}

static ft_status parse_strip(tk_op *op, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_bool(src, o, "strip_left", -1, &op->on[0]));
    return tk_parse_bool(src, o, "strip_right", -1, &op->on[1]);
}
static ft_status parse_prepend(tk_op *op, const tk_src *src, const cJSON *o)
{
    return tk_parse_text(src, o, "prepend", NULL, &op->a);
}
static ft_status parse_replace(tk_op *op, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_text(src, o, "content", NULL, &op->a));
    return tk_parse_pattern(op, src, o);
}

const tk_kind tk_normalizers[] = {
    {.name = "NFC", .normalize = run_nfc},
    {.name = "NFD", .normalize = run_nfd},
    {.name = "NFKC", .normalize = run_nfkc},
    {.name = "NFKD", .normalize = run_nfkd},
    {.name = "Lowercase", .normalize = run_lowercase},
    {.name = "Prepend", .parse = parse_prepend, .normalize = run_prepend},
    {.name = "Replace", .parse = parse_replace},
    {.name = "Strip", .parse = parse_strip, .normalize = run_strip},
    {.name = "StripAccents", .normalize = run_strip_accents},
    {.name = "Nmt", .normalize = run_nmt},
    {.name = "Precompiled", .parse = parse_precompiled, .normalize = run_precompiled},
    {.name = "BertNormalizer", .parse = parse_bert, .normalize = run_bert},
    {.name = "ByteLevel", .normalize = run_bytelevel},
    {.name = NULL},
};

/* What becomes of the first *head bytes of `in`, of which `out` was made. */
static ft_status follow_head(const tk_op *op, tk_span in, const str_buf *out, uint32_t *head)
{
    str_buf alone = {0};
    int32_t cp;
    tk_op left = *op;
    if (op->kind->normalize == run_strip) left.on[1] = false; /* its right end is not the text's */
    FT_TRY(op->kind->normalize(&left, (tk_span){in.s, *head}, &alone));
    uint32_t n = (uint32_t)alone.len;
    str_free(&alone);
    /* composed with a mark behind it, a first character grows */
    bool kept =
        n || op->kind->normalize == run_precompiled; /* what it drops in front is still counted */
    if (kept && out->len) {
        uint32_t first = (uint32_t)utf8_next(out->data, out->len, &cp);
        if (first > n) n = first;
    }
    *head = n < out->len ? n : (uint32_t)out->len;
    return FT_OK;
}

static ft_status one_step(const tk_op *op, tk_span in, str_buf *out, uint32_t *head,
                          tk_steps *steps)
{
    if (!op->kind->normalize) return tk_replace(op, in, out, head, steps);
    if (!head || *head == 0) return op->kind->normalize(op, in, out);
    FT_TRY(op->kind->normalize(op, in, out));
    return follow_head(op, in, out, head);
}

ft_status tk_normalize(const tk_ops *ops, tk_span in, str_buf *out, uint32_t *head, tk_steps *steps)
{
    str_buf x[2] = {{0}, {0}};
    ft_status rc = FT_OK;
    if (ops->n == 1 && out->len == 0) return one_step(&ops->op[0], in, out, head, steps);
    for (int i = 0; i < ops->n && rc == FT_OK; i++) {
        str_buf *to = &x[i & 1];
        str_clear(to);
        rc = one_step(&ops->op[i], in, to, head, steps);
        in = (tk_span){to->data, to->len};
    }
    if (rc == FT_OK) {
        str_add(out, in.s, in.n);
        rc = str_ok(out);
    }
    str_free(&x[0]);
    str_free(&x[1]);
    return rc;
}
