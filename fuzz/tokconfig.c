/* The files beside a sound tokenizer.json: byte 0 picks which of them the input is. */
#include "tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json",
                                        "config.json", "generation_config.json",
                                        "chat_template.jinja"};
    tok_tokenizer *t = NULL;
    if (fz_start()) fz_copy(fz_root("data/tiny/tokenizer.json"), "tokenizer.json");
    if (size < 1) return 0;
    const char *path = fz_put(names[data[0] % FT_COUNT_OF(names)], data + 1, size - 1);
    ft_status rc = tok_open(&t, fz_dir);
    fz_status(rc);
    if (rc == FT_OK) {
        fz_tokenizer(t, "Hello <|im_start|>", 18, true);
        fz_chat(t);
        tok_close(t);
    }
    unlink(path);
    return 0;
}
