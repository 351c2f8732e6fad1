/* tokenizer.json, NUL, the text to encode (none: a fixed one). */
#include "tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fz_input in = {data, size, false};
    tok_tokenizer *t = NULL;
    const uint8_t *json;
    size_t n;
    fz_start();
    fz_part(&in, &json, &n);
    fz_put("tokenizer.json", json, n);
    ft_status rc = tok_open(&t, fz_dir);
    fz_status(rc);
    if (rc != FT_OK) return 0;
    if (in.ended)
        fz_tokenizer(t, FZ_TEXT, sizeof FZ_TEXT - 1, true);
    else
        fz_tokenizer(t, (const char *)in.p, in.left, size & 1);
    tok_close(t);
    return 0;
}
