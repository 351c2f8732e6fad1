/* target.c – what merge-adapter and convert may write, and whether there is room for it. */
#include <stdio.h>
#include <string.h>

#include "tool_private.h"

/* Is it a type of a model's numbers that can be written? */
static bool is_output(const dt_type *t)
{
    const bool number = t->block > 1 || t == &dt_f32 || t == &dt_f16 || t == &dt_bf16;
    return t->pack && number;
}

const char *tool_type_at(int i)
{
    for (int k = 0; dt_at(k); k++)
        if (is_output(dt_at(k)) && (dt_at(k)->gguf_id >= 0 || dt_at(k)->st_name) && i-- == 0)
            return dt_at(k)->name;
    for (int k = 0; model_mix_at(k); k++)
        if (!dt_by_name(model_mix_at(k)->name) && i-- == 0) return model_mix_at(k)->name;
    return model_quant_output_at(i) ? model_quant_output(model_quant_output_at(i)) : NULL;
}

ft_status tool_output_type(const char *name, const char *path, const dt_type **type)
{
    static const char *const long_names[][2] = {
        {"float32", "f32"}, {"float16", "f16"}, {"bfloat16", "bf16"}};
    bool gguf = str_ends(path, ".gguf");
    str_buf known = {0};
    *type = NULL;
    if (!name) return FT_OK;
    for (size_t i = 0; i < FT_COUNT_OF(long_names); i++)
        if (strcmp(name, long_names[i][0]) == 0) name = long_names[i][1];
    bool place_elsewhere = false;
    for (int i = 0; dt_at(i); i++) {
        const dt_type *t = dt_at(i);
        bool fits = gguf ? t->gguf_id >= 0 : t->st_name != NULL;
        if (!is_output(t)) continue;
        if (strcmp(t->name, name) == 0) {
            if (fits) *type = t;
            place_elsewhere = !fits;
        }
        if (fits) str_printf(&known, "%s%s", known.len ? ", " : "", t->name);
    }
    for (int i = 0; model_mix_at(i); i++) {
        const model_mix *mix = model_mix_at(i);
        const bool named = strcmp(mix->name, name) == 0;
        if (dt_by_name(mix->name)) continue; /* told already */
        if (gguf) str_printf(&known, ", %s", mix->name);
        if (named && gguf) *type = dt_by_name(mix->base);
        if (named && !gguf) place_elsewhere = true;
    }
    for (int i = 0; !gguf && model_quant_output_at(i); i++)
        str_printf(&known, ", %s", model_quant_output(model_quant_output_at(i)));
    ft_status rc =
        *type ? FT_OK
              : ft_fail(FT_EUSAGE, "--type: \"%s\" %s; a %s holds %s", ft_shows(name),
                        place_elsewhere ? "has no place there" : "cannot be written",
                        gguf ? ".gguf" : "Hugging Face folder", known.data ? known.data : "");
    str_free(&known);
    return rc;
}

static const model_quant *output_quant(const char *name)
{
    for (int i = 0; name && model_quant_output_at(i); i++)
        if (strcmp(model_quant_output(model_quant_output_at(i)), name) == 0)
            return model_quant_output_at(i);
    return NULL;
}

ft_status tool_output_quant(const char *name, const char *path, const char *const *sets, int n,
                            arena *mem, const model_quant **quant, void **cfg)
{
    const model_quant *q = output_quant(name);
    cfg_doc d;
    *quant = NULL;
    *cfg = NULL;
    FT_CHECK((q && q->make_fields) || n == 0, FT_EUSAGE,
             "--double-quant and --block-size: are of --type nf4 and fp4");
    if (!q) return FT_OK;
    FT_CHECK(!str_ends(path, ".gguf"), FT_EUSAGE,
             "--type: \"%s\" has no place in a .gguf; write a folder, or use q4_k and its like",
             name);
    *quant = q;
    if (!q->make_fields) return FT_OK;
    *cfg = arena_get(mem, q->make_size + 1);
    if (!*cfg) return FT_EMEM;
    FT_TRY(cfg_open_empty(&d, sets, n, mem));
    d.flags = true;
    ft_status rc = cfg_read(&d, d.js.root, "", q->make_fields, *cfg, NULL);
    if (rc == FT_OK && q->check) q->check(&d, d.js.root, "", *cfg);
    if (rc == FT_OK) rc = cfg_done(&d) == FT_ECONFIG ? FT_EUSAGE : cfg_done(&d);
    cfg_close(&d);
    return rc;
}

ft_status tool_target_told(io_target *t, const char *name, const char *const *heads,
                           const char *what)
{
    const char *stem = path_base(t->path);
    if (str_ends(stem, ".gguf"))
        name = arena_printf(t->mem, "%.*s.%s", (int)(strlen(stem) - strlen(".gguf")), stem, name);
    return name ? io_target_beside(t, name, heads, what) : FT_EMEM;
}

ft_status tool_save(model *m, const char *path, const model_save_options *save)
{
    const ft_status rc = model_save(m, path, save);
    if (rc == FT_OK || rc == FT_EDATA) FT_TRY(file_inputs_check());
    return rc;
}

ft_status tool_tell_steps(const char *dir, arena *mem)
{
    pe_note note;
    FT_TRY(pe_note_read(&note, dir, mem));
    if (note.qat)
        log_warn("%s: was trained with model.qat, whose steps (" PE_QAT_FILE
                 ", ft_method.json) are not taken into the result: it computes without them",
                 ft_shows(dir));
    pe_note_close(&note);
    return FT_OK;
}

ft_status tool_check_space(double need, const io_target *t)
{
    const size_t room = dir_free_space(t->path);
    FT_CHECK(room == SIZE_MAX || need < (double)room, FT_EIO,
             "%s: needs about %s, but the disk has %s left", ft_shows(t->path),
             ft_bytes_text((size_t)need), ft_bytes_text(room));
    return FT_OK;
}
