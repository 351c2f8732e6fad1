/* write.c – a tokenizer as the files of a Hugging Face folder. What was read from such files goes back as it was. */
#include "token_private.h"

ft_status tok_write_json(const tok_tokenizer *t, str_buf *tokenizer_json, str_buf *tokenizer_config)
{
    if (t->own_json) {
        str_add(tokenizer_json, t->own_json, t->own_json_len);
        if (t->own_config) str_add(tokenizer_config, t->own_config, t->own_config_len);
        FT_TRY(str_ok(tokenizer_json));
        return str_ok(tokenizer_config);
    }
    return ft_fail(FT_EDATA, "a tokenizer of a GGUF cannot be written");
}
ft_status tok_write_gguf(const tok_tokenizer *t, gguf_writer *w, int64_t vocab_size)
{
    (void)t, (void)w, (void)vocab_size;
    return ft_fail(FT_EDATA, "this tokenizer cannot be written as GGUF");
}
