/* The tokenizer inside a .gguf, alone; and written into another one. */
#include "tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tok_tokenizer *t = NULL;
    fz_start();
    ft_status rc = tok_open(&t, fz_put("a.gguf", data, size));
    fz_status(rc);
    if (rc != FT_OK) return 0;
    fz_tokenizer(t, FZ_TEXT, sizeof FZ_TEXT - 1, true);
    fz_chat(t);
    tok_close(t);
    return 0;
}
