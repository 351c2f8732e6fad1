/* qat_file.c – the steps of qat.safetensors, for who quantises the folder's weights by them. */
#include "method_private.h"

#include <string.h>

struct pe_steps {
    pe_file *file;
};

ft_status pe_steps_open(pe_steps **out, const char *dir)
{
    path_kind kind;
    *out = NULL;
    FT_TRY(path_look_in(dir, PE_QAT_FILE, &kind));
    if (kind != PATH_FILE) return FT_OK;
    pe_steps *s = ft_alloc(1, sizeof *s);
    if (!s) return FT_EMEM;
    ft_status rc = pe_file_open_named(&s->file, dir, PE_QAT_FILE);
    if (rc != FT_OK)
        pe_steps_close(s);
    else
        *out = s;
    return rc;
}

void pe_steps_close(pe_steps *s)
{
    if (!s) return;
    pe_file_close(s->file);
    ft_free(s);
}

ft_status pe_steps_get(pe_steps *s, const char *path, int64_t out, int64_t groups, float *step,
                       bool *found)
{
    str_buf key = {0};
    *found = false;
    str_printf(&key, "%s.weight_scale", path);
    FT_TRY(str_ok(&key));
    const io_tensor *t = pe_file_find(s->file, key.data);
    str_free(&key);
    *found = t && t->type == &dt_f32 && t->nd == 2 && t->dim[0] == out && t->dim[1] == groups;
    return *found ? pe_file_values(s->file, t, step) : FT_OK;
}
