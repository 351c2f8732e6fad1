/* method.c – the registry of merge methods. */
#include <string.h>

#include "merge_private.h"

#define X(name) &merge_##name,
static const merge_method *const methods[] = {
#include "merges.def"
};
#undef X

const merge_method *merge_method_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(methods) ? methods[i] : NULL;
}

const merge_method *merge_method_by_name(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(methods); i++)
        if (strcmp(methods[i]->name, name) == 0) return methods[i];
    return NULL;
}

const char *merge_method_name_at(int i)
{
    return merge_method_at(i) ? merge_method_at(i)->name : NULL;
}
