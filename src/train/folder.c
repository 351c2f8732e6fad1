/* folder.c – what a result, and every checkpoint, leaves for others to open: the method's files, and beside an adapter all
 * that it needs to stand alone: tokenizer, chat template, model card.
 *
 * A checkpoint has these files beside its own, so it is an adapter or a model wherever one is named. */
#include "train_private.h"

#include <string.h>

/* The folder or .gguf that the tokenizer of the run comes from; NULL: it has none. */
static const char *tokenizer_path(const train_session *s)
{
    if (!s->tok) return NULL;
    return s->cfg.model.tokenizer ? s->cfg.model.tokenizer : s->cfg.model.path;
}

/* NAME of additional_chat_templates/NAME.jinja */
static bool is_file_name(const char *name)
{
    return name[0] && name[0] != '.' && !strchr(name, '/') && utf8_valid(name, strlen(name));
}

static ft_status write_template(const tok_named *t, const char *dir, arena *mem)
{
    const char *path = path_join(mem, dir, "chat_template.jinja");
    if (strcmp(t->name, "default") != 0) {
        const char *more = path_join(mem, dir, "additional_chat_templates");
        if (!is_file_name(t->name)) return FT_OK; /* tokenizer_config.json has it */
        if (!more) return FT_EMEM;
        FT_TRY(dir_make(more));
        path = arena_printf(mem, "%s/%s.jinja", more, t->name);
    }
    return path ? file_write(path, t->text, strlen(t->text)) : FT_EMEM;
}

/* What the run rendered by, as chat_template.jinja. */
static ft_status save_templates(const train_session *s, const char *dir)
{
    int n = 0;
    const tok_named *t = s->tok ? tok_chat_templates(s->tok, &n) : NULL;
    size_t mark = arena_mark(s->batch);
    ft_status rc = FT_OK;
    if (s->other_template) rc = model_save_template(dir, t->text);
    for (int i = 0; i < n && rc == FT_OK && !s->other_template; i++)
        rc = write_template(&t[i], dir, s->batch);
    arena_reset(s->batch, mark);
    return rc;
}

static ft_status save_tokenizer(const train_session *s, const char *dir)
{
    const char *from = tokenizer_path(s);
    if (!from) return FT_OK;
    ft_status rc = model_save_tokenizer(from, dir);
    if (rc == FT_EDATA) { /* of a .gguf with tokens that no tokenizer.json can hold */
        log_warn("%s: the adapter's folder has no tokenizer", ft_error());
        ft_error_clear();
        return FT_OK;
    }
    return rc == FT_OK ? save_templates(s, dir) : rc;
}

ft_status train_folder_save(train_session *s, const char *dir, const char *name)
{
    const bool whole = s->pe->result == PE_MODEL;
    FT_TRY(train_before_step(s));
    FT_TRY(pe_save(s->pe, dir));
    if (s->cfg.objective->save) FT_TRY(s->cfg.objective->save(&s->objective, dir));
    /* a model made from a config alone does not know its tokenizer: the run does */
    if (whole && !s->cfg.model.path && s->cfg.model.tokenizer)
        FT_TRY(model_save_side_files(s->cfg.model.tokenizer, dir));
    if (whole) return save_templates(s, dir);
    FT_TRY(save_tokenizer(s, dir));
    return train_card_write(s, dir, name);
}

/* --- for the plan ---------------------------------------------------------------------------------------------------- */
size_t train_folder_text(const train_session *s)
{
    const char *from = tokenizer_path(s);
    size_t templates = 0;
    int n;
    if (!from) return 0;
    const tok_named *t = tok_chat_templates(s->tok, &n);
    for (int i = 0; i < n; i++) templates += strlen(t[i].text);
    if (str_ends(from, ".gguf")) return (size_t)tok_size(s->tok) * TOKEN_TEXT + 2 * templates;
    return model_tokenizer_bytes(from) + templates;
}
