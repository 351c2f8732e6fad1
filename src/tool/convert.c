/* convert.c – `ft convert`: a model from one format into another, opened again before it is given its name (an adapter:
 * convert_adapter.c). */
#include <string.h>

#include "tool_private.h"

typedef struct conversion {
    const tool_convert_options *opt;
    io_target target;
    model_watched watched;
    const dt_type *type; /* of what no quantiser takes */
    const model_quant *quant;
    void *quant_cfg;
    model *from, *to;
    arena *mem;
    inf_plan plan;
    const char *template; /* of the Modelfile, by its name; NULL: none */
} conversion;

/* Opening checks every tensor's name and shape against the config; what is left is that nothing was lost. */
static ft_status check_written(conversion *c)
{
    FT_TRY(model_open(&c->to,
                      &(model_options){.path = c->target.temp, .unread = true, .end = MODEL_ANY}));
    FT_CHECK(model_count(c->to) == model_count(c->from), FT_EINTERNAL,
             "%s: %lld parameters were written of %lld", ft_shows(c->target.temp),
             (long long)model_count(c->to), (long long)model_count(c->from));
    return FT_OK;
}

static void report_modelfile(const conversion *c, str_buf *s)
{
    tool_json_key(s, "modelfile");
    tool_json_text(s, c->target.beside, strlen(c->target.beside));
    tool_json_key(s, "template");
    if (c->template)
        tool_json_text(s, c->template, strlen(c->template));
    else
        str_adds(s, "null");
}

static ft_status report(const conversion *c, str_buf *s)
{
    size_t bytes = model_bytes(c->to);
    const model_mix *mix = model_mix_by_name(c->opt->type);
    const char *type = c->quant ? model_quant_output(c->quant) : mix ? mix->name : c->type->name;
    if (c->opt->json) {
        str_adds(s, "{\"out\":");
        tool_json_text(s, c->opt->out, strlen(c->opt->out));
        str_printf(s, ",\"type\":\"%s\",\"tensors\":%lld,\"parameters\":%lld,\"bytes\":%zu", type,
                   (long long)c->to->weights.n, (long long)model_count(c->to), bytes);
        if (c->opt->modelfile) report_modelfile(c, s);
        str_adds(s, "}\n");
        tool_json_memory(s, &c->plan);
    } else {
        str_printf(s, "%s: %lld tensors, %lld parameters, %s, %zu bytes\n", ft_shows(c->opt->out),
                   (long long)c->to->weights.n, (long long)model_count(c->to), type, bytes);
    }
    return str_ok(s);
}

static ft_status open_target(conversion *c)
{
    const io_input in[] = {{.what = "the model", .path = c->opt->model}};
    FT_TRY(io_target_open(&c->target, c->opt->out, c->opt->force, in, 1, c->mem));
    if (!c->opt->modelfile) return FT_OK;
    return io_target_beside(&c->target, "Modelfile", io_modelfile, "a Modelfile that ft wrote");
}

static ft_status write_modelfile(conversion *c)
{
    str_buf s = {0};
    const bool gguf = str_ends(c->target.path, ".gguf");
    ft_status rc =
        tool_modelfile(&s, c->from, gguf ? path_base(c->target.path) : NULL, c->mem, &c->template);
    if (rc == FT_OK) rc = file_write(c->target.beside_temp, s.data, s.len);
    str_free(&s);
    return rc;
}

static ft_status run(conversion *c, str_buf *text)
{
    FT_TRY(open_target(c));
    FT_TRY(tool_output_quant(c->opt->type, c->target.path, c->opt->quant, c->opt->n_quant, c->mem,
                             &c->quant, &c->quant_cfg));
    if (!c->quant) FT_TRY(tool_output_type(c->opt->type, c->target.path, &c->type));
    FT_TRY(model_check_links(c->opt->model, c->opt->follow_links));
    FT_TRY(model_watch(&c->watched, c->opt->model, c->mem));
    FT_TRY(model_open(&c->from, &(model_options){.path = c->opt->model, .end = MODEL_ANY}));
    FT_TRY(tool_tell_steps(c->opt->model, c->mem));
    bool gguf = str_ends(c->target.path, ".gguf");
    if (!c->type) c->type = c->from->has_blocks && gguf ? &dt_f16 : c->from->dtype;
    const model_save_options save = {.type = c->quant ? NULL : c->type,
                                     .mix = model_mix_by_name(c->opt->type),
                                     .quant = c->quant,
                                     .quant_cfg = c->quant_cfg,
                                     .as_given = true,
                                     .allow_nonfinite = c->opt->allow_nonfinite};
    const double bytes = model_saved_bytes(c->from, c->target.path, &save);
    FT_TRY(tool_check_space(bytes, &c->target));
    /* what was written is looked at without its values, but for codes */
    const double mapped = c->quant ? bytes : 0;
    FT_TRY(tool_plan_conversion(&c->plan, c->from,
                                tool_saving_bytes(c->from, c->target.path, &save), (size_t)mapped));
    FT_TRY(tool_save(c->from, c->target.temp, &save));
    FT_TRY(check_written(c));
    if (c->opt->modelfile) FT_TRY(write_modelfile(c));
    FT_TRY(file_inputs_check());
    FT_TRY(report(c, text)); /* before the rename: a failure leaves nothing */
    return io_target_commit(&c->target);
}

/* A folder that is both is a model, unless a base is given. */
static ft_status is_adapter(const tool_convert_options *opt, bool *is)
{
    return opt->base ? io_is_adapter(opt->model, is) : io_is_adapter_alone(opt->model, is);
}

ft_status tool_convert(const tool_convert_options *opt, const tool_sink *out)
{
    conversion c = {.opt = opt};
    bool adapter;
    FT_TRY(is_adapter(opt, &adapter));
    if (adapter) return tool_convert_adapter(opt, out);
    FT_CHECK(!opt->base, FT_EUSAGE, "--base: is of an adapter, and %s is none",
             ft_shows(opt->model));
    FT_TRY(arena_open(&c.mem, "conversion", (size_t)64 << 20));
    str_buf text = {0};
    ft_status rc = run(&c, &text);
    if (rc == FT_OK) rc = tool_put(out, &text);
    str_free(&text);
    model_close(c.to);
    model_close(c.from);
    model_watched_close(&c.watched);
    io_target_close(&c.target);
    arena_close(c.mem);
    return rc;
}
