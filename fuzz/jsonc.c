/* A .jsonc: what is plain JSON already stays as it is to the byte, what is taken out leaves every line where it was. */
#include "fuzz.h"

#include "cfg/cfg_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    js_doc strict = {0}, d = {0};
    char *text = fz_string(data, size), *copy = fz_string(data, size);
    size_t n = size;
    fz_start();
    bool plain = js_parse(&strict, copy, size, "x.json", 1, JS_STRICT, FT_ECONFIG) == FT_OK;
    ft_error_forget();
    ft_status rc = cfg_jsonc(text, &n, "x.jsonc");
    fz_status(rc);
    FZ_CHECK(n <= size);
    FZ_CHECK(!plain || (rc == FT_OK && n == size && memcmp(text, data, n) == 0));
    if (rc == FT_OK) {
        int64_t before = 0, after = 0;
        for (size_t i = 0; i < size; i++) before += data[i] == '\n';
        for (size_t i = 0; i < n; i++) after += text[i] == '\n';
        FZ_CHECK(before == after);
        fz_status(js_parse(&d, text, n, "x.jsonc", 1, JS_STRICT, FT_ECONFIG));
    }
    js_close(&d);
    js_close(&strict);
    free(text);
    free(copy);
    return 0;
}
