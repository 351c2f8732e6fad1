/* A recipe of ft merge (byte 0 even: .yml, odd: .json), NUL, then --set strings with a NUL between them. Reading, checks, and
 * the recipe that is printed, which must be read again and print the same; YAML that is a tree must be one as JSON, too. */
#include "fuzz.h"

#include "merge/merge_private.h"

enum { SETS = 3 };

static void print_again(const merge_recipe *r, arena *mem)
{
    merge_recipe again;
    cfg_doc d;
    str_buf text = {0}, other = {0};
    fz_must(merge_print(r, &text));
    const char *path = fz_put("again.json", text.data, text.len);
    fz_must(cfg_open_yaml(&d, path, NULL, 0, mem));
    fz_must(merge_read(&again, &d, NULL));
    if (cfg_done(&d) != FT_OK) {
        fprintf(stderr, "the printed recipe is refused: %s\n%s\n", ft_error(), text.data);
        abort();
    }
    fz_must(merge_print(&again, &other));
    FZ_CHECK(text.len == other.len && memcmp(text.data, other.data, text.len) == 0);
    cfg_close(&d);
    str_free(&text);
    str_free(&other);
}

/* A value for each parameter of each source, somewhere in the middle of the layers. */
static void look_up(const merge_recipe *r)
{
    double v;
    for (int i = 0; i < r->n_slice; i++) {
        const merge_slice *s = &r->slice[i];
        for (int k = 0; k < s->n; k++) {
            const cJSON *const map[] = {s->source[k].parameters, s->parameters, r->parameters};
            for (const merge_param *p = r->method->params; p && p->name; p++)
                if (merge_look_up(map, 3, p, "layers.0.mlp.up_proj.weight", k & 1 ? 0.75 : 0, &v))
                    FZ_CHECK(v == v);
        }
    }
}

static void as_json(const uint8_t *p, size_t n)
{
    js_doc d, j;
    str_buf s = {0};
    char *text = fz_string(p, n);
    ft_status rc = js_parse_yaml(&d, text, n, "r.yml", FT_ECONFIG);
    fz_status(rc);
    if (rc == FT_OK) {
        js_print(&s, d.root, false);
        fz_must(str_ok(&s));
        fz_must(js_parse(&j, s.data, s.len, "r.json", 1, JS_STRICT, FT_ECONFIG));
        js_close(&j);
        js_close(&d);
    }
    str_free(&s);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *set[SETS] = {NULL};
    const uint8_t *part;
    size_t n;
    int n_sets = 0;
    cfg_doc d;
    merge_recipe r;
    fz_start();
    if (size < 1) return 0;
    fz_input in = {data + 1, size - 1, false};
    arena *mem = fz_arena();
    fz_part(&in, &part, &n);
    if (!(data[0] & 1)) as_json(part, n);
    const char *path = fz_put(data[0] & 1 ? "r.json" : "r.yml", part, n);
    for (; n_sets < SETS && fz_part(&in, &part, &n); n_sets++) set[n_sets] = fz_string(part, n);
    ft_status rc = cfg_open_yaml(&d, path, (const char *const *)set, n_sets, mem);
    if (rc == FT_OK) {
        rc = merge_read(&r, &d, NULL);
        if (rc == FT_OK) rc = cfg_done(&d);
        fz_status(rc);
        if (rc == FT_OK) look_up(&r);
        if (rc == FT_OK) print_again(&r, mem);
        cfg_close(&d);
    } else {
        fz_status(rc);
    }
    for (int i = 0; i < SETS; i++) free(set[i]);
    return 0;
}
