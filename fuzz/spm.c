/* tokenizer.model (SentencePiece) in a folder without a tokenizer.json. */
#include "tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tok_tokenizer *t = NULL;
    if (fz_start()) {
        static const char config[] = "{\"tokenizer_class\":\"LlamaTokenizer\"}";
        fz_put("tokenizer_config.json", config, sizeof config - 1);
    }
    fz_put("tokenizer.model", data, size);
    ft_status rc = tok_open(&t, fz_dir);
    fz_status(rc);
    if (rc == FT_OK) fz_tokenizer(t, FZ_TEXT, sizeof FZ_TEXT - 1, true);
    tok_close(t);
    return 0;
}
