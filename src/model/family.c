/* family.c – the registry of families, and the keys of a part as a family has them. */
#include "model_private.h"

#include <string.h>

#define X(name) &family_##name,
static const model_family *const families[] = {
#include "families.def"
};
#undef X

const model_family *family_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(families) ? families[i] : NULL;
}

const model_family *family_by_type(const char *model_type)
{
    for (size_t i = 0; model_type && i < FT_COUNT_OF(families); i++) {
        if (strcmp(families[i]->model_type, model_type) == 0) return families[i];
    }
    return NULL;
}

const model_family *family_by_gguf(const char *arch)
{
    for (size_t i = 0; arch && i < FT_COUNT_OF(families); i++) {
        if (strcmp(families[i]->gguf_arch, arch) == 0) return families[i];
    }
    return NULL;
}

void family_list(str_buf *out)
{
    for (size_t i = 0; i < FT_COUNT_OF(families); i++)
        str_printf(out, "%s%s", i ? ", " : "", families[i]->model_type);
}

const char *model_family_name(const model *m)
{
    return m->family->model_type;
}

model_key family_key(const model_family *f, const model_key *key)
{
    model_key k = *key;
    for (const model_key_as *as = f->keys; as->name; as++) {
        if (strcmp(as->name, k.name) != 0) continue;
        k.hf = as->hf;
        k.def = as->def;
    }
    return k;
}

const model_key *family_find_key(const model_key *keys, const char *name)
{
    for (; keys->name; keys++)
        if (strcmp(keys->name, name) == 0) return keys;
    return NULL;
}

void family_expand(str_buf *out, const char *pattern, int layer, int expert)
{
    for (const char *s = pattern; *s; s++) {
        if (s[0] == '%' && (s[1] == 'd' || s[1] == 'e'))
            str_printf(out, "%d", *++s == 'd' ? layer : expert);
        else
            str_addc(out, *s);
    }
}
