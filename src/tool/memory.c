/* memory.c – what a verb plans to take in memory, told in its JSON and looked at before anything large is made. */
#include "tool_private.h"

void tool_json_memory(str_buf *line, const inf_plan *p)
{
    const size_t later = p->unread ? 0 : p->later;
    const struct {
        const char *key;
        size_t bytes;
    } rows[] = {{"weights_bytes", p->weights + later},
                {"trainable_bytes", p->values},
                {"gradients_bytes", 0},
                {"optimizer_bytes", 0},
                {"activations_bytes", p->activations},
                {"cache_bytes", p->cache},
                {"workspace_bytes", p->workspace},
                {"total_bytes", p->total},
                {"mapped_bytes", p->mapped + later},
                {"limit_bytes", p->grant.limit}};
    const bool ends = line->len > 1 && str_ends(line->data, "}\n");
    if (ends) line->len -= 2;
    tool_json_key(line, "memory");
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++)
        str_printf(line, "%c\"%s\":%zu", i ? ',' : '{', rows[i].key, rows[i].bytes);
    str_printf(line, ",\"limit\":\"%s\"}", p->grant.name);
    if (ends) str_adds(line, "}\n");
}

/* Bytes that its tokenizer takes while it is made anew, by the kinds of what it is read from and written to (measured: a
 * byte of tokenizer.json 11, a token of a .gguf 260 or 130). */
static size_t tokenizer_bytes(const model *m, const char *out)
{
    const bool gguf = str_ends(out, ".gguf");
    if (m->from_gguf) return (size_t)m->d.vocab_size * (gguf ? 130 : 260);
    return model_tokenizer_bytes(m->path) * (gguf ? 11 : 1);
}

size_t tool_saving_bytes(const model *m, const char *out, const model_save_options *save)
{
    enum { FILES = 3 << 19 }; /* buffers of the files */
    size_t bytes = FILES + model_save_bytes(m, save) + tokenizer_bytes(m, out) + arena_peak(m->mem);
    if (save->quant) bytes += (size_t)pool_threads() * ((size_t)2 << 20);
    return bytes;
}

ft_status tool_plan_conversion(inf_plan *p, model *m, size_t saving, size_t written)
{
    const inf_ctx c = {.m = m, .plan = p};
    p->apart = saving;
    p->later = written;
    p->unread = true;
    return inf_plan_for(&c, &(inf_shape){0});
}
