/* Strict JSON: byte 0 picks the flags. What is accepted prints, and the print is accepted and prints the same. */
#include "fuzz.h"

static void walk(const js_doc *d, const cJSON *v, int depth)
{
    int64_t line;
    int col, n = 0;
    js_where(d, v, &line, &col);
    FZ_CHECK(line >= 1 && col >= 1 && depth <= 64);
    if (cJSON_IsString(v)) fz_touch(v->valuestring, strlen(v->valuestring) + 1);
    for (const cJSON *c = v->child; c && n < 200; c = c->next, n++) walk(d, c, depth + 1);
}

static void ask(const js_doc *d)
{
    const char *s;
    int64_t i;
    double f;
    bool t;
    if (!cJSON_IsObject(d->root)) return;
    fz_status(js_get_str(d, d->root, "a", NULL, &s));
    fz_status(js_get_int(d, d->root, "a", 0, INT64_MIN, INT64_MAX, &i));
    fz_status(js_get_num(d, d->root, "a", 0, &f));
    fz_status(js_get_bool(d, d->root, "a", false, &t));
}

static void print_again(const js_doc *d, js_flags flags, bool indent)
{
    str_buf a = {0}, b = {0};
    js_doc again = {0};
    js_print(&a, d->root, indent);
    if (str_ok(&a) == FT_OK && !(flags & (JS_NUL | JS_ALLOW_NONFINITE))) {
        fz_must(js_parse(&again, a.data, a.len, "print", 1, flags, FT_EDATA));
        js_print(&b, again.root, indent);
        if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0) {
            fprintf(stderr, "prints differ\n%s\n%s\n", a.data, b.data);
            abort();
        }
        js_close(&again);
    }
    str_free(&a);
    str_free(&b);
}

static void members(const char *text, size_t n)
{
    str_buf s = {0};
    str_add(&s, text, n);
    js_set_member(&s, "a", "[1]");
    js_set_member(&s, "new", "2");
    js_drop_member(&s, "b");
    js_drop_member(&s, "a");
    str_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    js_flags flags = data[0] & 15;
    js_doc d = {0};
    char *text = fz_exact(data + 1, size - 1);
    ft_status rc = js_parse(&d, text, size - 1, "x.json", 1, flags, FT_EDATA);
    fz_status(rc);
    if (rc == FT_OK) {
        if (!(flags & JS_NO_POSITIONS) && size < 4096) walk(&d, d.root, 0);
        ask(&d);
        print_again(&d, flags, size & 1);
        if (cJSON_IsObject(d.root)) members(text, size - 1);
    }
    js_close(&d);
    free(text);
    return 0;
}
