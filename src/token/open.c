/* open.c – a tokenizer by the kind of its file: a folder or a GGUF.  It stands above the loaders, which share
 * what tokenizer.c has and never come back here. */
#include "token_private.h"

#include <stdio.h>
#include <string.h>

ft_status tok_open(tok_tokenizer **out, const char *model_path)
{
    path_kind kind;
    *out = NULL;
    FT_TRY(io_model_exists(model_path));
    FT_TRY(path_look(model_path, &kind));
    tok_tokenizer *t = ft_alloc(1, sizeof *t);
    if (!t) return FT_EMEM;
    t->bos = t->eos = t->pad = t->unk = t->model.unk = -1;
    ft_status rc = arena_open(&t->mem, "the tokenizer", (size_t)512 << 20);
    log_busy("reading the tokenizer of %s", ft_shows(model_path));
    if (rc == FT_OK) {
        rc = kind == PATH_FOLDER ? tk_load_folder(t, model_path) : tk_load_gguf(t, model_path);
    }
    log_idle();
    if (rc != FT_OK) {
        tok_close(t);
        return rc;
    }
    *out = t;
    return FT_OK;
}

ft_status tok_in_folder(const char *dir, bool *is)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json"};
    *is = false;
    for (size_t i = 0; i < FT_COUNT_OF(names) && !*is; i++) {
        path_kind kind;
        FT_TRY(path_look_in(dir, names[i], &kind));
        *is = kind == PATH_FILE;
    }
    return FT_OK;
}

/* The id, where it means the same token in both; −1. */
static int32_t shared(const tok_tokenizer *t, const tok_tokenizer *of, int32_t id)
{
    const char *a = id >= 0 ? tok_text(t, id) : NULL, *b = id >= 0 ? tok_text(of, id) : NULL;
    return a && b && strcmp(a, b) == 0 ? id : -1;
}

static ft_status fill_in(tok_tokenizer *t, const tok_tokenizer *of)
{
    if (t->bos < 0) t->bos = shared(t, of, of->bos);
    if (t->eos < 0) t->eos = shared(t, of, of->eos);
    if (t->pad < 0) t->pad = shared(t, of, of->pad);
    for (int i = 0; i < of->n_stops; i++) {
        if (shared(t, of, of->stops[i]) >= 0) tk_add_stop(t, of->stops[i]);
    }
    for (int i = 0; i < of->names.n; i++) {
        const tok_named *v = &of->names.v[i];
        if (tk_named_text(&t->names, v->name) || tok_id(t, v->text, strlen(v->text)) < 0) continue;
        FT_TRY(tk_add_named(&t->names, t->mem, v->name, v->text));
    }
    if (t->templates.n) return FT_OK;
    for (int i = 0; i < of->templates.n; i++) {
        const tok_named *v = &of->templates.v[i];
        FT_TRY(tk_add_named(&t->templates, t->mem, v->name, v->text));
    }
    tk_template_stops(t);
    return FT_OK;
}

ft_status tok_open_over(tok_tokenizer **out, const char *path, const char *model_path)
{
    tok_tokenizer *of = NULL;
    path_kind kind;
    bool has = true;
    FT_TRY(path_look(model_path, &kind));
    if (kind == PATH_FOLDER) FT_TRY(tok_in_folder(model_path, &has));
    FT_TRY(tok_open(out, path));
    if (!has) return FT_OK;
    ft_status rc = tok_open(&of, model_path);
    if (rc == FT_OK) rc = fill_in(*out, of);
    tok_close(of);
    if (!of && (rc == FT_EDATA || rc == FT_ENOINPUT)) { /* none, or one that ft does not read */
        ft_error_clear();
        return FT_OK;
    }
    if (rc == FT_OK) return FT_OK;
    tok_close(*out);
    *out = NULL;
    return rc;
}
