/* convert_adapter.c – `ft convert` of a PEFT folder: the low-rank changes as a LoRA file of llama.cpp, which adds them to
 * the base's .gguf. What such a file cannot say is refused, with merge-adapter as the way. */
#include <string.h>

#include "tool_private.h"

typedef struct lora_file {
    const tool_convert_options *opt;
    io_target target;
    const char *base;
    const dt_type *type;
    model *m;
    pe_ctx *adapter;
    model_lora_told told;
    inf_plan plan;
    arena *mem;
} lora_file;

static ft_status choose_type(const char *name, const char *path, const dt_type **type)
{
    *type = &dt_f32;
    if (!name) return FT_OK;
    const ft_status rc = tool_output_type(name, path, type);
    if (rc == FT_OK && (*type)->block == 1) return FT_OK;
    ft_error_clear(); /* it lists the types of a model */
    return ft_fail(rc == FT_EMEM ? rc : FT_EUSAGE,
                   "--type: a LoRA of llama.cpp is written in f32, f16 or bf16, not in \"%s\"",
                   ft_shows(name));
}

static ft_status check_options(lora_file *c)
{
    const tool_convert_options *o = c->opt;
    FT_CHECK(
        str_ends(c->target.path, ".gguf"), FT_EUSAGE,
        "--out: an adapter becomes one file for llama.cpp, X.gguf; a model of base and adapter "
        "is made by merge-adapter");
    FT_CHECK(o->n_quant == 0, FT_EUSAGE, "--double-quant and --block-size: are of a model");
    FT_CHECK(!o->modelfile, FT_EUSAGE, "--modelfile: is of a model, not of an adapter");
    FT_CHECK(!o->allow_nonfinite, FT_EUSAGE, "--allow-nonfinite: is of a model, not of an adapter");
    return choose_type(o->type, c->target.path, &c->type);
}

/* Factors are all that the file can hold. */
static ft_status check_changes(const lora_file *c)
{
    const pe_ctx *a = c->adapter;
    const char *what = pe_replaces(a);
    FT_CHECK(a->method->low_rank || a->method->fold, FT_EDATA,
             "%s: is an adapter of method %s, which changes no weights: neither is it a LoRA, nor "
             "has merge-adapter something to fold; use it as it is, with --adapter",
             ft_shows(c->opt->model), a->method->name);
    FT_CHECK(a->method->low_rank, FT_EDATA,
             "%s: is an adapter of method %s, no LoRA; fold it into the model with merge-adapter "
             "and convert that",
             ft_shows(c->opt->model), a->method->name);
    FT_CHECK(!a->keep_zeros, FT_EDATA,
             "%s: keeps the zeros of its base (ft_method.json), which a LoRA of llama.cpp cannot "
             "say; fold it into the model with merge-adapter and convert that",
             ft_shows(c->opt->model));
    FT_CHECK(!what, FT_EDATA,
             "%s: holds \"%s\" in the place of the base's (modules_to_save, a bias, tokens), which "
             "has no place in a LoRA of llama.cpp; fold it into the model with merge-adapter and "
             "convert that",
             ft_shows(c->opt->model), ft_shows(what));
    return FT_OK;
}

static ft_status open_both(lora_file *c)
{
    int64_t rows;
    FT_TRY(model_open(&c->m, &(model_options){.path = c->base}));
    FT_TRY(pe_adapter_vocabulary(c->opt->model, c->m, &rows));
    FT_TRY(model_resize_vocabulary(c->m, rows));
    FT_TRY(pe_open_adapter(&c->adapter, c->m, c->opt->model));
    FT_TRY(tool_tell_steps(c->opt->model, c->mem));
    return check_changes(c);
}

static bool change_at(void *ctx, const nn_site *s, model_low_rank *out)
{
    const pe_ctx *a = ctx;
    return a->method->low_rank(a, s, out);
}

/* Two copies at most of what is written: of B with a factor, of a piece of the file. */
static ft_status plan(lora_file *c)
{
    const size_t values = nn_store_bytes(&c->adapter->store), room = dir_free_space(c->target.path);
    const size_t bytes = values / sizeof(float) * (size_t)c->type->bytes;
    FT_CHECK(room == SIZE_MAX || bytes < room, FT_EIO,
             "%s: needs about %s, but the disk has %s left", ft_shows(c->target.path),
             ft_bytes_text(bytes), ft_bytes_text(room));
    c->plan.values = values;
    return tool_plan_conversion(&c->plan, c->m, 2 * values + arena_peak(c->m->mem), bytes);
}

/* What was written, as a reader finds it. */
static ft_status check_written(lora_file *c, size_t *bytes, int64_t *values)
{
    io_weights w = {0};
    double alpha = 0;
    ft_status rc = io_weights_open(&w, c->target.temp, c->mem);
    *bytes = 0;
    *values = 0;
    if (rc == FT_OK) rc = gguf_num(w.gguf, "adapter.lora.alpha", 0, &alpha);
    if (rc == FT_OK && (w.n != c->told.tensors || (float)alpha != c->told.alpha))
        rc = ft_fail(FT_EINTERNAL, "%s: %lld tensors were written of %lld",
                     ft_shows(c->target.temp), (long long)w.n, (long long)c->told.tensors);
    for (int64_t i = 0; rc == FT_OK && i < w.n; i++) {
        *bytes += w.tensor[i].bytes;
        *values += w.tensor[i].dim[0] * w.tensor[i].dim[1];
    }
    io_weights_close(&w);
    return rc;
}

static ft_status report(const lora_file *c, size_t bytes, int64_t values, str_buf *s)
{
    const tool_convert_options *o = c->opt;
    const double alpha = (double)c->told.alpha;
    if (!o->json) {
        str_printf(s, "%s: a LoRA for llama.cpp: %lld modules, alpha %g, %s, %zu bytes\n",
                   ft_shows(o->out), (long long)c->told.tensors / 2, alpha, c->type->name, bytes);
        return str_ok(s);
    }
    str_adds(s, "{\"out\":");
    tool_json_text(s, o->out, strlen(o->out));
    str_adds(s, ",\"adapter\":");
    tool_json_text(s, o->model, strlen(o->model));
    str_adds(s, ",\"base\":");
    tool_json_text(s, c->base, strlen(c->base));
    str_printf(s, ",\"type\":\"%s\",\"tensors\":%lld,\"parameters\":%lld,\"bytes\":%zu",
               c->type->name, (long long)c->told.tensors, (long long)values, bytes);
    tool_json_key(s, "alpha");
    tool_json_number(s, alpha);
    str_adds(s, "}\n");
    tool_json_memory(s, &c->plan);
    return str_ok(s);
}

/* llama.cpp adds it to the .gguf of its base, which may have to be made first. */
static ft_status tell_next(const lora_file *c)
{
    str_buf *s = c->opt->next;
    const bool there = str_ends(c->base, ".gguf");
    if (!s) return FT_OK;
    if (!there) {
        str_adds(s, "ft convert ");
        str_shell(s, c->base, true);
        str_adds(s, " --out MODEL.gguf, then ");
    }
    str_adds(s, "llama-cli -m ");
    str_shell(s, there ? c->base : "MODEL.gguf", false);
    str_adds(s, " --lora ");
    str_shell(s, c->opt->out, false);
    return str_ok(s);
}

static ft_status run(lora_file *c, str_buf *text)
{
    const tool_convert_options *o = c->opt;
    size_t bytes;
    int64_t values;
    c->base = o->base;
    if (!c->base) FT_TRY(tool_adapter_base(o->model, c->mem, &c->base));
    const io_input in[] = {{.what = "the adapter", .path = o->model},
                           {.what = "the base", .path = c->base}};
    FT_TRY(io_target_open(&c->target, o->out, o->force, in, FT_COUNT_OF(in), c->mem));
    FT_TRY(check_options(c));
    FT_TRY(open_both(c));
    FT_TRY(plan(c));
    const model_lora lora = {.at = change_at, .ctx = c->adapter, .name = o->model, .type = c->type};
    FT_TRY(model_save_lora(c->m, c->target.temp, &lora, &c->told));
    FT_TRY(check_written(c, &bytes, &values));
    FT_TRY(file_inputs_check());
    FT_TRY(tell_next(c));
    FT_TRY(report(c, bytes, values, text)); /* before the rename: a failure leaves nothing */
    return io_target_commit(&c->target);
}

ft_status tool_convert_adapter(const tool_convert_options *opt, const tool_sink *out)
{
    lora_file c = {.opt = opt};
    str_buf text = {0};
    FT_TRY(arena_open(&c.mem, "conversion", (size_t)64 << 20));
    ft_status rc = run(&c, &text);
    if (rc == FT_OK) rc = tool_put(out, &text);
    str_free(&text);
    if (c.adapter) pe_close(c.adapter);
    model_close(c.m);
    io_target_close(&c.target);
    arena_close(c.mem);
    return rc;
}
