/* tensors.c – where the values of a parameter stand in the files of a model, and their loan for a while. */
#include "model_private.h"

#include <stdio.h>
#include <string.h>

/* A name of a folder, with or without the family's prefix. */
static const io_tensor *find(const model *m, const char *name)
{
    const char *prefix = m->family->prefix;
    char other[512];
    const io_tensor *t = io_find(&m->weights, name);
    if (!t && str_starts(name, prefix)) t = io_find(&m->weights, name + strlen(prefix));
    if (!t) {
        snprintf(other, sizeof other, "%s%s", prefix, name);
        t = io_find(&m->weights, other);
    }
    return t;
}

const io_tensor *model_find_tensor(const model *m, int64_t i, const char *suffix)
{
    char name[512];
    if (m->from_gguf) return io_find(&m->weights, m->info[i].gguf_name);
    snprintf(name, sizeof name, "%s%s", m->param[i].name, suffix);
    return find(m, name);
}

int model_module_length(const model *m, int64_t i)
{
    const char *name = m->param[i].name;
    return (int)(strlen(name) - (str_ends(name, ".weight") ? strlen(".weight") : 0));
}

const io_tensor *model_find_beside(const model *m, int64_t i, const char *suffix)
{
    char name[512];
    if (m->from_gguf) return NULL;
    snprintf(name, sizeof name, "%.*s%s", model_module_length(m, i), m->param[i].name, suffix);
    return find(m, name);
}

const char *model_param_file(const model *m, int64_t i)
{
    const io_tensor *t = m->weights.n > 0 ? model_find_tensor(m, i, "") : NULL;
    return t ? t->file : m->path;
}

/* One expert's part of a tensor [experts, …]; else the tensor. */
bool model_part_of(const model *m, int64_t i, const io_tensor *t, io_tensor *part)
{
    const model_tensor *info = &m->info[i];
    *part = *t;
    if (!m->from_gguf || info->experts == 0) return true;
    if (t->nd < 2 || t->dim[0] != info->experts) return false;
    part->nd = t->nd - 1;
    memmove(part->dim, part->dim + 1, (size_t)part->nd * sizeof *part->dim);
    part->bytes = t->bytes / (size_t)info->experts;
    part->at = t->at + part->bytes * (size_t)info->expert;
    if (t->data) part->data = (const uint8_t *)t->data + part->bytes * (size_t)info->expert;
    return true;
}

bool model_misaligned(const io_tensor *t, const void *data)
{
    return t->type->block == 1 && (uintptr_t)data % (size_t)t->type->bytes != 0;
}

ft_status model_lend(model *m, int64_t i, model_lent *l)
{
    const io_tensor *t = model_find_tensor(m, i, "");
    tn_tensor *to = &m->param[i].t;
    *l = (model_lent){0};
    if (to->data || !t) return FT_OK;
    FT_CHECK(model_part_of(m, i, t, &l->t), FT_EINTERNAL, "%s: parts", ft_shows(t->name));
    FT_TRY(io_tensor_map(&l->t, &l->mapped));
    to->data = (void *)(uintptr_t)l->mapped;
    if (!model_misaligned(&l->t, l->mapped)) return FT_OK;
    to->data = l->copy = ft_alloc(l->t.bytes, 1);
    if (l->copy) memcpy(l->copy, l->mapped, l->t.bytes);
    return l->copy ? FT_OK : FT_EMEM;
}

void model_lend_end(model *m, int64_t i, model_lent *l)
{
    void *const given = l->copy ? l->copy : (void *)(uintptr_t)l->mapped;
    if (given && m->param[i].t.data == given) m->param[i].t.data = NULL;
    if (l->mapped) io_tensor_unmap(&l->t, l->mapped);
    ft_free(l->copy);
    *l = (model_lent){0};
}
