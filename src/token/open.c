/* open.c – a tokenizer by the kind of its file: a folder or a GGUF.  It stands above the loaders, which share
 * what tokenizer.c has and never come back here. */
#include "token_private.h"

ft_status tok_open(tok_tokenizer **out, const char *model_path)
{
    tok_tokenizer *t = ft_alloc(1, sizeof *t);
    *out = NULL;
    if (!t) return FT_EMEM;
    t->bos = t->eos = t->pad = t->unk = t->model.unk = -1;
    ft_status rc = arena_open(&t->mem, "the tokenizer", (size_t)512 << 20);
    if (rc == FT_OK) {
        rc = dir_exists(model_path) ? tk_load_folder(t, model_path) : tk_load_gguf(t, model_path);
    }
    if (rc != FT_OK) {
        tok_close(t);
        return rc;
    }
    *out = t;
    return FT_OK;
}
