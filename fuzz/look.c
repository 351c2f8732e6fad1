/* What `ft data` says of a file: byte 0 its name, byte 1 the samples and what is asked. What --out writes is read again as the
 * same number of tokens. */
#include "fuzz.h"

#include "ft/train.h"

static int64_t tokens_of(const char *report)
{
    js_doc d = {0};
    int64_t n = 0;
    fz_must(js_parse(&d, report, strlen(report), "report", 1, JS_NO_POSITIONS, FT_EDATA));
    const cJSON *set = js_get(d.root, "tokens");
    if (cJSON_IsNumber(set)) n = (int64_t)set->valuedouble;
    js_close(&d);
    return n;
}

static ft_status look(const char *path, const train_look_options *how, bool json, str_buf *out)
{
    static const char *const sets[] = {"data.max_length=64"};
    train_options o = {.given = {.model = fz_model(), .data = &path, .n_data = 1},
                       .sets = sets,
                       .n_sets = 1,
                       .json = json,
                       .force = true};
    return train_look(&o, how, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"d.jsonl", "d.txt", "d.csv", "d.json"};
    str_buf a = {0}, b = {0};
    fz_start();
    if (size < 2) return 0;
    const char *path = fz_put(names[data[0] % 4], data + 2, size - 2), *out = fz_path("out.jsonl");
    train_look_options how = {
        .samples = data[1] % 4, .colour = false, .out = data[1] & 32 ? out : NULL};
    ft_status rc = look(path, &how, data[1] & 64, &a);
    fz_status(rc);
    if (rc == FT_OK && !(data[1] & 64) && a.len) fz_plain(a.data);
    if (rc == FT_OK && data[1] & 32 && data[1] & 64) {
        how.out = NULL;
        fz_must(look(out, &how, true, &b));
        FZ_CHECK(tokens_of(a.data) == tokens_of(b.data));
    }
    unlink(path);
    unlink(out);
    str_free(&a);
    str_free(&b);
    return 0;
}
