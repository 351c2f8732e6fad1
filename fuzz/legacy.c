/* A folder without a tokenizer.json: byte 0 picks the class that reads it; vocab.json, NUL, merges.txt, NUL,
 * tokenizer_config.json in the place of the one that names the class. */
#include "tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const classes[] = {"GPT2Tokenizer", "Qwen2Tokenizer", "RobertaTokenizer",
                                          "BertTokenizer"};
    tok_tokenizer *t = NULL;
    const uint8_t *part = data;
    char config[100];
    size_t n = 0;
    fz_start();
    if (size < 1) return 0;
    fz_input in = {data + 1, size - 1, false};
    fz_part(&in, &part, &n);
    fz_put("vocab.json", part, n);
    if (!fz_part(&in, &part, &n)) n = 0;
    fz_put("merges.txt", part, n);
    if (fz_part(&in, &part, &n)) {
        fz_put("tokenizer_config.json", part, n);
    } else {
        snprintf(config, sizeof config, "{\"tokenizer_class\":\"%s\"}", classes[data[0] % 4]);
        fz_put("tokenizer_config.json", config, strlen(config));
    }
    ft_status rc = tok_open(&t, fz_dir);
    fz_status(rc);
    if (rc == FT_OK) fz_tokenizer(t, FZ_TEXT, sizeof FZ_TEXT - 1, true);
    tok_close(t);
    return 0;
}
