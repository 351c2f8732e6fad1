/* combine.c – several adapters as one, for merge-adapter: into a folder that it then folds, or that is the result. The
 * folder has the tokenizer and the templates of the first adapter that brings them, as one that `train` wrote. */
#include <string.h>

#include "tool_private.h"

ft_status tool_combine_check(const pe_combine *c)
{
    FT_CHECK(c->n == 1 || !(pe_combine_reads(c->type) & PE_COMBINE_DENSITY) || c->density > 0,
             FT_EUSAGE,
             "--density: \"%s\" keeps a share of the values, and wants it, above 0 and at most 1",
             c->type);
    return FT_OK;
}

/* Each by itself, so that what does not fit is told by its name. */
static ft_status check_fit(const pe_combine *c, const char *base)
{
    for (int i = 0; i < c->n; i++) {
        tool_model *t = NULL;
        FT_TRY(tool_open(&t, base, c->dir[i], false, NULL));
        tool_close(t);
    }
    return FT_OK;
}

static ft_status copy_tokenizer(const pe_combine *c, const char *dir)
{
    path_kind kind = PATH_NONE;
    bool has = false;
    for (int i = 0; i < c->n && !has; i++) {
        FT_TRY(tok_in_folder(c->dir[i], &has));
        if (!has) FT_TRY(path_look_in(c->dir[i], "chat_template.jinja", &kind));
        has = has || kind == PATH_FILE;
        if (has) FT_TRY(model_save_tokenizer(c->dir[i], dir));
    }
    return FT_OK;
}

ft_status tool_combine(const pe_combine *c, const char *base, const char *dir, pe_combined *made)
{
    if (base) FT_TRY(check_fit(c, base));
    FT_TRY(dir_make(dir));
    FT_TRY(pe_combine_adapters(c, dir, made));
    return copy_tokenizer(c, dir);
}

void tool_combine_json(str_buf *s, const pe_combine *c, const pe_combined *made)
{
    for (int i = 0; i < c->n; i++) {
        if (i == 0) tool_json_key(s, "adapters");
        str_addc(s, i ? ',' : '[');
        tool_json_text(s, c->dir[i], strlen(c->dir[i]));
    }
    str_addc(s, ']');
    for (int i = 0; i < c->n; i++) {
        if (i == 0) tool_json_key(s, "weights");
        str_addc(s, i ? ',' : '[');
        tool_json_number(s, c->weight[i]);
    }
    str_addc(s, ']');
    tool_json_key(s, "combination_type");
    tool_json_text(s, c->type, strlen(c->type));
    str_printf(s, ",\"r\":%lld,\"modules\":%lld", (long long)made->rank, (long long)made->modules);
}

static void report(const tool_merge_options *opt, const pe_combined *made, str_buf *s)
{
    const pe_combine *c = opt->combine;
    if (!opt->json) {
        str_printf(s, "%s: %d adapter%s in one (%s): rank %lld on %lld modules, scale 1\n",
                   ft_shows(opt->out), c->n, c->n == 1 ? "" : "s", c->type, (long long)made->rank,
                   (long long)made->modules);
        return;
    }
    str_addc(s, '{');
    tool_json_key(s, "out");
    tool_json_text(s, opt->out, strlen(opt->out));
    tool_combine_json(s, c, made);
    str_adds(s, "}\n");
}

static ft_status write(const tool_merge_options *opt, io_target *target, model_watched *watched,
                       str_buf *text, arena *mem)
{
    const pe_combine *c = opt->combine;
    pe_combined made;
    io_input *in = arena_get(mem, (size_t)c->n * sizeof *in);
    if (!in) return FT_EMEM;
    FT_CHECK(!str_ends(opt->out, ".gguf"), FT_EUSAGE,
             "--out: an adapter is a folder; ft convert makes a .gguf of it");
    for (int i = 0; i < c->n; i++) {
        in[i] = (io_input){.what = "an adapter", .path = c->dir[i]};
        FT_TRY(io_adapter_exists(c->dir[i]));
        FT_TRY(model_check_links(c->dir[i], opt->follow_links));
        FT_TRY(model_watch(watched, c->dir[i], mem));
    }
    FT_TRY(io_target_open(target, opt->out, opt->force, in, c->n, mem));
    FT_TRY(tool_combine(c, NULL, target->temp, &made));
    FT_TRY(file_inputs_check());
    report(opt, &made, text); /* before the rename: a failure leaves nothing */
    FT_TRY(str_ok(text));
    return io_target_commit(target);
}

ft_status tool_combine_only(const tool_merge_options *opt, const tool_sink *out)
{
    arena *mem = NULL;
    io_target target = {0};
    model_watched watched = {0};
    str_buf text = {0};
    FT_TRY(arena_open(&mem, "combination", (size_t)64 << 20));
    ft_status rc = write(opt, &target, &watched, &text, mem);
    if (rc == FT_OK) rc = tool_put(out, &text);
    str_free(&text);
    model_watched_close(&watched);
    io_target_close(&target);
    arena_close(mem);
    return rc;
}
