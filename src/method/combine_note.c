/* combine_note.c – what the adapters of a combination say of the base that they are added to, ft_method.json and the steps of
 * model.qat: it is the same of all, or they have no sum, and it goes along with the result. */
#include <string.h>

#include "method_private.h"

/* "" where there is none: model.qat of type bitnet has no steps. */
static ft_status steps_sha256(const char *dir, arena *mem, char hex[65])
{
    path_kind kind;
    const char *path = path_join(mem, dir, PE_QAT_FILE);
    hex[0] = 0;
    if (!path) return FT_EMEM;
    FT_TRY(path_look(path, &kind));
    return kind == PATH_NONE ? FT_OK : file_sha256(path, hex);
}

static ft_status check(const pe_combine *how, int i, const pe_note *first, const pe_note *note,
                       arena *mem)
{
    char hex[2][65];
    FT_CHECK(note->keep_zeros == first->keep_zeros, FT_EDATA,
             "%s: %s (" PE_METHOD_FILE "), and %s %s; such adapters are not combined: merge one of "
             "them, and give the result as the base",
             ft_shows(how->dir[i]), note->keep_zeros ? "keeps zeros of the base" : "keeps no zeros",
             ft_shows(how->dir[0]), note->keep_zeros ? "does not" : "does");
    bool same = !note->qat == !first->qat;
    if (same && note->qat) {
        FT_TRY(steps_sha256(how->dir[0], mem, hex[0]));
        FT_TRY(steps_sha256(how->dir[i], mem, hex[1]));
        same = cJSON_Compare(note->qat, first->qat, true) && strcmp(hex[0], hex[1]) == 0;
    }
    FT_CHECK(
        same, FT_EDATA,
        "%s and %s are of bases that are rounded in different ways (model.qat of " PE_METHOD_FILE
        ", " PE_QAT_FILE "); such adapters are not combined",
        ft_shows(how->dir[0]), ft_shows(how->dir[i]));
    return FT_OK;
}

ft_status pe_combine_notes_check(const pe_combine *how, arena *mem)
{
    pe_note first, note;
    ft_status rc = pe_note_read(&first, how->dir[0], mem);
    for (int i = 1; rc == FT_OK && i < how->n; i++) {
        rc = pe_note_read(&note, how->dir[i], mem);
        if (rc == FT_OK) rc = check(how, i, &first, &note, mem);
        pe_note_close(&note);
    }
    pe_note_close(&first);
    return rc;
}

static ft_status write(const pe_note *n, const char *from, const char *to, arena *mem)
{
    path_kind kind = PATH_NONE;
    const char *steps = path_join(mem, from, PE_QAT_FILE), *copy = path_join(mem, to, PE_QAT_FILE);
    if (!steps || !copy) return FT_EMEM;
    if (n->qat) FT_TRY(path_look(steps, &kind));
    if (kind != PATH_NONE) FT_TRY(file_copy(steps, copy));
    return n->keep_zeros || n->qat ? pe_note_write(n->keep_zeros, n->qat, to) : FT_OK;
}

ft_status pe_combine_note_write(const pe_combine *how, const char *dir, arena *mem)
{
    pe_note n;
    ft_status rc = pe_note_read(&n, how->dir[0], mem);
    if (rc == FT_OK) rc = write(&n, how->dir[0], dir, mem);
    pe_note_close(&n);
    return rc;
}
