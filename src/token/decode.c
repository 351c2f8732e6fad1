/* decode.c – the decoders: a list of token texts → a list of texts. */
#include "token_private.h"

static ft_status done(const tk_list *out)
{
    FT_CHECK(!out->failed, FT_EMEM, "out of memory for %zu tokens", out->n);
    return str_ok(&out->text);
}

static void add_bytes(tk_span t, str_buf *out)
{
    char chunk[64];
    size_t used = 0, before = out->len;
    for (size_t k = 0; k < t.n;) {
        int32_t cp;
        k += (size_t)utf8_next(t.s + k, t.n - k, &cp);
        int byte = tk_char_byte(cp);
        if (byte < 0) { /* not of the alphabet: the token stands for its own text */
            if (!out->failed) out->len = before;
            str_add(out, t.s, t.n);
            return;
        }
        if (used == sizeof chunk) {
            str_add(out, chunk, used);
            used = 0;
        }
        chunk[used++] = (char)byte;
    }
    str_add(out, chunk, used);
}

static ft_status run_bytelevel(const tk_op *op, const tk_list *in, tk_list *out)
{
    str_buf bytes = {0};
    (void)op;
    for (size_t i = 0; i < in->n; i++) add_bytes(tk_list_get(in, i), &bytes);
    ft_status rc = str_ok(&bytes);
    if (out->raw) {
        str_add(&out->text, bytes.data, bytes.len);
    } else {
        tk_add_lossy(&out->text, bytes.data, bytes.len);
    }
    tk_list_cut(out);
    str_free(&bytes);
    return rc == FT_OK ? done(out) : rc;
}

static void flush_bytes(str_buf *bytes, tk_list *out)
{
    if (bytes->len == 0) return;
    if (out->raw || utf8_valid(bytes->data, bytes->len)) {
        tk_list_add(out, bytes->data, bytes->len);
    } else {
        for (size_t i = 0; i < bytes->len; i++) tk_list_add(out, "\xef\xbf\xbd", 3);
    }
    str_clear(bytes);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Rust's parser takes "+5" for a number of two digits. */
static int byte_of(tk_span t)
{
    if (t.n != 6 || memcmp(t.s, "<0x", 3) != 0 || t.s[5] != '>') return -1;
    int a = t.s[3] == '+' ? 0 : hex_digit(t.s[3]), b = hex_digit(t.s[4]);
    return a < 0 || b < 0 ? -1 : a * 16 + b;
}

static ft_status run_byte_fallback(const tk_op *op, const tk_list *in, tk_list *out)
{
    str_buf bytes = {0};
    (void)op;
    for (size_t i = 0; i < in->n; i++) {
        tk_span t = tk_list_get(in, i);
        int byte = byte_of(t);
        if (byte >= 0) {
            str_addc(&bytes, (char)byte);
        } else {
            flush_bytes(&bytes, out);
            tk_list_add(out, t.s, t.n);
        }
    }
    flush_bytes(&bytes, out);
    ft_status rc = str_ok(&bytes);
    str_free(&bytes);
    return rc == FT_OK ? done(out) : rc;
}

static ft_status run_fuse(const tk_op *op, const tk_list *in, tk_list *out)
{
    (void)op;
    tk_list_add(out, in->text.data, in->text.len);
    return done(out);
}

static size_t char_at(tk_span t, size_t at, tk_span c)
{
    return t.n - at >= c.n && memcmp(t.s + at, c.s, c.n) == 0 ? c.n : 0;
}

static ft_status run_strip(const tk_op *op, const tk_list *in, tk_list *out)
{
    for (size_t i = 0; i < in->n; i++) {
        tk_span t = tk_list_get(in, i);
        size_t from = 0, to = t.n;
        for (int64_t k = 0; k < op->num[0] && char_at(t, from, op->a); k++) from += op->a.n;
        for (int64_t k = 0; k < op->num[1] && to >= from + op->a.n; k++) {
            if (!char_at(t, to - op->a.n, op->a)) break;
            to -= op->a.n;
        }
        tk_list_add(out, t.s + from, to - from);
    }
    return done(out);
}

static ft_status run_replace(const tk_op *op, const tk_list *in, tk_list *out)
{
    for (size_t i = 0; i < in->n; i++) {
        FT_TRY(tk_replace(op, tk_list_get(in, i), &out->text, NULL, in->steps));
        tk_list_cut(out);
    }
    return done(out);
}

static ft_status run_metaspace(const tk_op *op, const tk_list *in, tk_list *out)
{
    for (size_t i = 0; i < in->n; i++) {
        tk_span t = tk_list_get(in, i);
        for (size_t k = 0; k < t.n;) {
            if (char_at(t, k, op->a)) {
                if (i > 0 || op->num[0] == 2) str_addc(&out->text, ' ');
                k += op->a.n;
            } else {
                str_addc(&out->text, t.s[k++]);
            }
        }
        tk_list_cut(out);
    }
    return done(out);
}

/* All occurrences of `what` from left to right. */
static void replace_all(str_buf *out, tk_span t, const char *what, const char *with)
{
    size_t n = strlen(what), at = 0;
    while (n && t.n - at >= n) {
        const char *hit = memmem(t.s + at, t.n - at, what, n);
        if (!hit) break;
        str_add(out, t.s + at, (size_t)(hit - (t.s + at)));
        str_adds(out, with);
        at = (size_t)(hit - t.s) + n;
    }
    str_add(out, t.s + at, t.n - at);
}

/* The English clean-up of WordPiece and CTC. */
static void clean_up(str_buf *s, str_buf *tmp)
{
    static const char *const pairs[][2] = {{" .", "."},     {" ?", "?"},           {" !", "!"},
                                           {" ,", ","},     {" ' ", "'"},          {" n't", "n't"},
                                           {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},
                                           {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < FT_COUNT_OF(pairs); i++) {
        str_clear(tmp);
        replace_all(tmp, (tk_span){s->data, s->len}, pairs[i][0], pairs[i][1]);
        str_buf swap = *s;
        *s = *tmp;
        *tmp = swap;
    }
}

static ft_status run_wordpiece(const tk_op *op, const tk_list *in, tk_list *out)
{
    str_buf word = {0}, tmp = {0};
    for (size_t i = 0; i < in->n; i++) {
        tk_span t = tk_list_get(in, i);
        str_clear(&word);
        if (i > 0 && t.n >= op->a.n && memcmp(t.s, op->a.s, op->a.n) == 0) {
            str_add(&word, t.s + op->a.n, t.n - op->a.n);
        } else {
            if (i > 0) str_addc(&word, ' ');
            str_add(&word, t.s, t.n);
        }
        if (op->on[0]) clean_up(&word, &tmp);
        tk_list_add(out, word.data, word.len);
    }
    ft_status rc = str_ok(tmp.failed ? &tmp : &word);
    str_free(&word);
    str_free(&tmp);
    return rc == FT_OK ? done(out) : rc;
}

static ft_status run_bpe(const tk_op *op, const tk_list *in, tk_list *out)
{
    for (size_t i = 0; i < in->n; i++) {
        replace_all(&out->text, tk_list_get(in, i), op->a.s, i + 1 == in->n ? "" : " ");
        tk_list_cut(out);
    }
    return done(out);
}

static ft_status run_ctc(const tk_op *op, const tk_list *in, tk_list *out)
{
    str_buf word = {0}, tmp = {0};
    for (size_t i = 0; i < in->n; i++) {
        tk_span t = tk_list_get(in, i);
        if (i > 0 && tk_same(t, tk_list_get(in, i - 1))) continue;
        str_clear(&word);
        replace_all(&word, t, op->a.s, "");
        if (op->on[0]) {
            clean_up(&word, &tmp);
            str_clear(&tmp);
            replace_all(&tmp, (tk_span){word.data, word.len}, op->b.s, " ");
            str_buf swap = word;
            word = tmp;
            tmp = swap;
        }
        if (word.len) tk_list_add(out, word.data, word.len);
    }
    ft_status rc = str_ok(&word);
    str_free(&word);
    str_free(&tmp);
    return rc == FT_OK ? done(out) : rc;
}

static ft_status parse_strip(tk_op *op, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_text(src, o, "content", NULL, &op->a));
    int32_t cp;
    if (op->a.n == 0 || (size_t)utf8_next(op->a.s, op->a.n, &cp) != op->a.n) {
        return js_fail(src->doc, o, FT_EDATA, "content", "must be one character");
    }
    FT_TRY(js_get_int(src->doc, o, "start", 0, 0, INT32_MAX, &op->num[0]));
    return js_get_int(src->doc, o, "stop", 0, 0, INT32_MAX, &op->num[1]);
}
static ft_status parse_replace(tk_op *op, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_text(src, o, "content", NULL, &op->a));
    return tk_parse_pattern(op, src, o);
}
static ft_status parse_wordpiece(tk_op *op, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_text(src, o, "prefix", "##", &op->a));
    return tk_parse_bool(src, o, "cleanup", 1, &op->on[0]);
}
static ft_status parse_bpe(tk_op *op, const tk_src *src, const cJSON *o)
{
    return tk_parse_text(src, o, "suffix", "</w>", &op->a);
}
static ft_status parse_ctc(tk_op *op, const tk_src *src, const cJSON *o)
{
    FT_TRY(tk_parse_text(src, o, "pad_token", "<pad>", &op->a));
    FT_TRY(tk_parse_text(src, o, "word_delimiter_token", "|", &op->b));
    return tk_parse_bool(src, o, "cleanup", 1, &op->on[0]);
}

const tk_kind tk_decoders[] = {
    {.name = "ByteLevel", .parse = tk_parse_bytelevel, .decode = run_bytelevel, .bytes = add_bytes},
    {.name = "ByteFallback", .decode = run_byte_fallback},
    {.name = "Fuse", .decode = run_fuse},
    {.name = "Strip", .parse = parse_strip, .decode = run_strip},
    {.name = "Replace", .parse = parse_replace, .decode = run_replace},
    {.name = "Metaspace", .parse = tk_parse_metaspace, .decode = run_metaspace},
    {.name = "WordPiece", .parse = parse_wordpiece, .decode = run_wordpiece},
    {.name = "BPEDecoder", .parse = parse_bpe, .decode = run_bpe},
    {.name = "CTC", .parse = parse_ctc, .decode = run_ctc},
    {.name = NULL},
};
