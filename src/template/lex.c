/* lex.c – template source to tokens, with Jinja's rules of white space (trim_blocks and
 * lstrip_blocks on, as transformers sets them).
 *
 * All of the source is cut at once: the rules of white space look back at the text before a tag and forward
 * past its end, which is easy here and awkward in a parser that pulls tokens. */
#include "template_private.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    tpl_template *t;
    const char *s; /* newlines normalised to \n, one final newline removed */
    size_t len, pos;
    int line;
    bool line_start; /* the last match ended with a newline (or nothing came before) */
    tpl_tok *tok;
    int64_t n, cap;
    char nest[TPL_MAX_DEPTH]; /* open brackets */
    int depth;
} lexer;

static ft_status lex_fail(const lexer *x, const char *what)
{
    return ft_fail(FT_EDATA, "%s:%d: chat template: %s", x->t->name, x->line, what);
}

static ft_status push(lexer *x, tpl_tok tok)
{
    if (x->n == x->cap) {
        int64_t cap = x->cap ? 2 * x->cap : 256;
        tpl_tok *v = arena_raw(x->t->mem, (size_t)cap * sizeof *v);
        if (!v) return FT_EMEM;
        if (x->n) memcpy(v, x->tok, (size_t)x->n * sizeof *v);
        x->tok = v;
        x->cap = cap;
    }
    tok.line = x->line;
    x->tok[x->n++] = tok;
    return FT_OK;
}

static ft_status normalise(lexer *x, const char *text, size_t len)
{
    char *s = arena_raw(x->t->mem, len + 1);
    size_t n = 0;
    if (!s) return FT_EMEM;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '\r') {
            s[n++] = text[i];
            continue;
        }
        s[n++] = '\n';
        if (i + 1 < len && text[i + 1] == '\n') i++;
    }
    if (n && s[n - 1] == '\n') n--;
    s[n] = 0;
    x->s = s;
    x->len = n;
    return FT_OK;
}

static size_t space_end(const lexer *x, size_t p)
{
    int32_t cp;
    while (p < x->len) {
        int k = utf8_next(x->s + p, x->len - p, &cp);
        if (cp < 0 || !tpl_space(cp)) break;
        p += (size_t)k;
    }
    return p;
}

static size_t space_start(const lexer *x, size_t from, size_t p)
{
    while (p > from) {
        size_t q = p - 1;
        int32_t cp;
        while (q > from && ((unsigned char)x->s[q] & 0xC0) == 0x80) q--;
        utf8_next(x->s + q, p - q, &cp);
        if (cp < 0 || !tpl_space(cp)) break;
        p = q;
    }
    return p;
}

static void advance(lexer *x, size_t to)
{
    for (size_t i = x->pos; i < to; i++) x->line += x->s[i] == '\n';
    if (to > x->pos) x->line_start = x->s[to - 1] == '\n';
    x->pos = to;
}

/* Text before a tag at `tag`, whose sign is - + or 0; `block`: not a {{. */
static ft_status text_before(lexer *x, size_t tag, char sign, bool block)
{
    size_t end = tag;
    if (sign == '-') {
        end = space_start(x, x->pos, tag);
    } else if (sign != '+' && block) {
        size_t line = tag;
        while (line > x->pos && x->s[line - 1] != '\n') line--;
        if ((line > x->pos || x->line_start) && space_start(x, line, tag) == line) end = line;
    }
    if (end > x->pos) {
        FT_TRY(push(x, (tpl_tok){.type = TT_TEXT, .s = x->s + x->pos, .n = end - x->pos}));
    }
    advance(x, tag);
    return FT_OK;
}

/* Position after an end mark at p ("%}", "+%}", "-%}"), 0 when there is none. trim: one newline goes too. */
static size_t end_mark(const lexer *x, size_t p, const char *mark, bool plus, bool trim)
{
    if (x->len - p >= 3 && x->s[p] == '-' && !memcmp(x->s + p + 1, mark, 2)) {
        return space_end(x, p + 3);
    }
    if (plus && x->len - p >= 3 && x->s[p] == '+' && !memcmp(x->s + p + 1, mark, 2)) return p + 3;
    if (x->len - p < 2 || memcmp(x->s + p, mark, 2) != 0) return 0;
    p += 2;
    return trim && p < x->len && x->s[p] == '\n' ? p + 1 : p;
}

static bool word_at(const lexer *x, size_t p, const char *word)
{
    size_t n = strlen(word);
    return x->len - p >= n && !memcmp(x->s + p, word, n);
}

/* After "{%" at `tag`: the position after "raw %}", or 0 when this is another tag. */
static size_t raw_begin(const lexer *x, size_t tag)
{
    size_t p = tag + 2;
    if (p < x->len && (x->s[p] == '-' || x->s[p] == '+')) p++;
    p = space_end(x, p);
    if (!word_at(x, p, "raw")) return 0;
    p = space_end(x, p + 3);
    return end_mark(x, p, "%}", false, false);
}

static ft_status raw_block(lexer *x)
{
    for (size_t p = x->pos; p + 1 < x->len; p++) {
        if (x->s[p] != '{' || x->s[p + 1] != '%') continue;
        size_t q = p + 2, end;
        char sign = 0;
        if (q < x->len && (x->s[q] == '-' || x->s[q] == '+')) sign = x->s[q++];
        q = space_end(x, q);
        if (!word_at(x, q, "endraw")) continue;
        end = end_mark(x, space_end(x, q + 6), "%}", true, true);
        if (!end) continue;
        FT_TRY(text_before(x, p, sign, true));
        advance(x, end);
        return FT_OK;
    }
    if (x->pos == x->len) return FT_OK;
    return lex_fail(x, "missing end of raw block");
}

static ft_status comment(lexer *x)
{
    for (size_t p = x->pos; p < x->len; p++) {
        size_t end = end_mark(x, p, "#}", true, true);
        if (end) {
            advance(x, end);
            return FT_OK;
        }
    }
    if (x->pos == x->len) return FT_OK; /* nothing was opened, as the reference sees it */
    return lex_fail(x, "missing end of comment");
}

/* --- inside tags ------------------------------------------------------------------------------------ */
/* cp: −1 where it is beyond Unicode. */
static int hex_digits(const char *s, size_t n, int want, int32_t *cp)
{
    uint32_t v = 0;
    if (n < (size_t)want) return 0;
    for (int i = 0; i < want; i++) {
        int c = (unsigned char)s[i];
        if (!isxdigit(c)) return 0;
        v = v * 16 + (uint32_t)(isdigit(c) ? c - '0' : (c | 32) - 'a' + 10);
    }
    *cp = v > 0x10FFFF ? -1 : (int32_t)v;
    return want;
}

/* One escape at s (after the backslash), as Python's unicode-escape; 0: not one. */
static size_t escape(const char *s, size_t n, char *out, size_t *len)
{
    static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    int32_t cp, low;
    size_t used;
    if (s[0] == '\n') return 1;
    for (size_t i = 0; i + 1 < sizeof plain; i += 2) {
        if (s[0] != plain[i]) continue;
        out[(*len)++] = plain[i + 1];
        return 1;
    }
    if (s[0] >= '0' && s[0] <= '7') {
        cp = 0;
        for (used = 0; used < 3 && used < n && s[used] >= '0' && s[used] <= '7'; used++) {
            cp = cp * 8 + s[used] - '0';
        }
    } else {
        int want = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
        if (!want || !hex_digits(s + 1, n - 1, want, &cp)) return 0;
        used = (size_t)want + 1;
        if (cp >= 0xD800 && cp < 0xDC00 && n >= used + 6 && s[used] == '\\' && s[used + 1] == 'u' &&
            hex_digits(s + used + 2, 4, 4, &low) && low >= 0xDC00 && low < 0xE000) {
            cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
            used += 6;
        }
    }
    if (cp < 0 || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) return 0;
    *len += (size_t)utf8_put(out + *len, cp);
    return used;
}

static ft_status string(lexer *x)
{
    char quote = x->s[x->pos];
    size_t end = x->pos + 1, n = 0;
    while (end < x->len && x->s[end] != quote) end += x->s[end] == '\\' ? 2 : 1;
    if (end >= x->len) return lex_fail(x, "missing end of string");

    char *out = arena_raw(x->t->mem, end - x->pos + 4);
    if (!out) return FT_EMEM;
    for (size_t p = x->pos + 1; p < end;) {
        if (x->s[p] != '\\') {
            out[n++] = x->s[p++];
            continue;
        }
        size_t used = escape(x->s + p + 1, end - p - 1, out, &n);
        if (!used) {
            if (strchr("xuUN", x->s[p + 1])) return lex_fail(x, "bad escape in a string");
            out[n++] = '\\';
        }
        p += 1 + used;
    }
    FT_TRY(push(x, (tpl_tok){.type = TT_STR, .s = out, .n = n}));
    advance(x, end + 1);
    return FT_OK;
}

static size_t digits_end(const lexer *x, size_t p)
{
    while (p < x->len &&
           (isdigit((unsigned char)x->s[p]) ||
            (x->s[p] == '_' && p + 1 < x->len && isdigit((unsigned char)x->s[p + 1])))) {
        p++;
    }
    return p;
}

static ft_status number(lexer *x)
{
    size_t end = digits_end(x, x->pos), p = end;
    bool real = false, after_dot = x->pos && x->s[x->pos - 1] == '.';
    char text[64];
    size_t n = 0;
    int base = 10;
    tpl_tok tok = {.type = TT_INT};

    if (!after_dot) {
        if (p + 1 < x->len && x->s[p] == '.' && isdigit((unsigned char)x->s[p + 1])) {
            end = p = digits_end(x, p + 1);
            real = true;
        }
        if (p < x->len && (x->s[p] | 32) == 'e') {
            size_t q = p + 1;
            if (q < x->len && (x->s[q] == '+' || x->s[q] == '-')) q++;
            if (q < x->len && isdigit((unsigned char)x->s[q])) {
                end = digits_end(x, q);
                real = true;
            }
        }
    }
    if (!real && x->s[x->pos] == '0' && x->pos + 1 < x->len) {
        int mark = x->s[x->pos + 1] | 32;
        base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
        if (base != 10) {
            end = x->pos + 2;
            while (end < x->len && (isxdigit((unsigned char)x->s[end]) || x->s[end] == '_')) end++;
        }
    }
    for (p = x->pos + (base != 10 ? 2 : 0); p < end; p++) {
        if (x->s[p] == '_') continue;
        if (n + 1 >= sizeof text) return lex_fail(x, "number too long");
        text[n++] = x->s[p];
    }
    text[n] = 0;
    if (real) {
        tok.type = TT_FLOAT;
        tok.f = strtod(text, NULL);
    } else {
        char *stop;
        if (n > 19) return lex_fail(x, "number too large");
        tok.i = strtoll(text, &stop, base);
        if (*stop || !n) return lex_fail(x, "bad number");
        if (base == 10 && n > 1 && text[0] == '0' && tok.i) return lex_fail(x, "bad number");
    }
    FT_TRY(push(x, tok));
    advance(x, end);
    return FT_OK;
}

static bool name_char(char ch, bool first)
{
    unsigned char c = (unsigned char)ch;
    return c == '_' || c >= 0x80 || isalpha(c) || (!first && isdigit(c));
}

static ft_status name(lexer *x)
{
    size_t end = x->pos;
    while (end < x->len && name_char(x->s[end], end == x->pos)) end++;
    const char *s = tpl_intern(x->t, x->s + x->pos, end - x->pos);
    if (!s) return FT_EMEM;
    FT_TRY(push(x, (tpl_tok){.type = TT_NAME, .s = s, .n = end - x->pos}));
    advance(x, end);
    return FT_OK;
}

static ft_status operator(lexer *x)
{
    static const char *const ops[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";", NULL};
    for (int i = 0; ops[i]; i++) {
        if (!word_at(x, x->pos, ops[i])) continue;
        char c = ops[i][0];
        if (strchr("([{", c)) {
            if (x->depth == TPL_MAX_DEPTH) return lex_fail(x, "brackets nested too deeply");
            x->nest[x->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (strchr(")]}", c)) {
            if (!x->depth || x->nest[--x->depth] != c) return lex_fail(x, "brackets do not match");
        }
        FT_TRY(push(x, (tpl_tok){.type = TT_OP, .s = ops[i], .n = strlen(ops[i])}));
        advance(x, x->pos + strlen(ops[i]));
        return FT_OK;
    }
    return ft_fail(FT_EDATA, "%s:%d: chat template: unexpected character %s", x->t->name, x->line,
                   ft_show(x->s + x->pos, 1));
}

static ft_status inside(lexer *x, bool block)
{
    x->depth = 0;
    while (x->pos < x->len) {
        size_t end = x->depth ? 0 : end_mark(x, x->pos, block ? "%}" : "}}", block, block);
        if (end) {
            FT_TRY(push(x, (tpl_tok){.type = block ? TT_BLOCK_END : TT_VAR_END}));
            advance(x, end);
            return FT_OK;
        }
        end = space_end(x, x->pos);
        char c = x->s[x->pos];
        if (end > x->pos) {
            advance(x, end);
        } else if (isdigit((unsigned char)c)) {
            FT_TRY(number(x));
        } else if (name_char(c, true)) {
            FT_TRY(name(x));
        } else if (c == '"' || c == '\'') {
            FT_TRY(string(x));
        } else {
            FT_TRY(operator(x));
        }
    }
    return lex_fail(x, block ? "missing %}" : "missing }}");
}

ft_status tpl_lex(tpl_template *t, const char *text, size_t len, tpl_tok **out, int64_t *n)
{
    lexer x = {.t = t, .line = 1, .line_start = true};
    FT_TRY(normalise(&x, text, len));
    while (x.pos < x.len) {
        const char *brace = x.s + x.pos;
        while ((brace = memchr(brace, '{', x.len - (size_t)(brace - x.s))) &&
               (brace + 1 >= x.s + x.len || !strchr("{%#", brace[1]))) {
            brace++;
        }
        if (!brace) {
            FT_TRY(push(&x, (tpl_tok){.type = TT_TEXT, .s = x.s + x.pos, .n = x.len - x.pos}));
            break;
        }
        size_t tag = (size_t)(brace - x.s), raw = brace[1] == '%' ? raw_begin(&x, tag) : 0;
        char sign = tag + 2 < x.len && strchr("-+", brace[2]) ? brace[2] : 0;
        FT_TRY(text_before(&x, tag, sign, brace[1] != '{'));
        if (raw) {
            advance(&x, raw);
            FT_TRY(raw_block(&x));
            continue;
        }
        advance(&x, tag + 2 + (sign != 0));
        if (brace[1] == '#') {
            FT_TRY(comment(&x));
            continue;
        }
        FT_TRY(push(&x, (tpl_tok){.type = brace[1] == '%' ? TT_BLOCK : TT_VAR}));
        FT_TRY(inside(&x, brace[1] == '%'));
    }
    FT_TRY(push(&x, (tpl_tok){.type = TT_END}));
    *out = x.tok;
    *n = x.n;
    return FT_OK;
}
