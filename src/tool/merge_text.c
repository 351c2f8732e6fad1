/* merge_text.c – a model by a recipe that the program itself has made: candidates of a search, and models with layers dropped. */
#include "tool_private.h"

#include "ft/merge.h"

static ft_status merge_into(const char *recipe, const char *dir, const io_target *t, arena *mem)
{
    cfg_doc d;
    merge_recipe r;
    merge_job *job = NULL;
    FT_TRY(cfg_open_yaml(&d, recipe, NULL, 0, mem));
    d.js.name = NULL; /* a file that nobody wrote is not told of */
    ft_status rc = merge_read(&r, &d, NULL);
    if (rc == FT_OK) rc = cfg_done(&d);
    if (rc == FT_OK) rc = merge_open(&job, &r, dir);
    if (rc == FT_OK) {
        const model_save_options save = merge_save_options(job, str_ends(t->path, ".gguf"));
        rc = tool_save(merge_result(job), t->temp, &save);
    }
    merge_close(job);
    cfg_close(&d);
    return rc;
}

ft_status tool_merge_text(const str_buf *recipe, const io_target *t, arena *mem)
{
    const char *dir = path_join(mem, t->work, IO_TARGET_MERGED);
    const char *path = dir ? path_join(mem, dir, "merge_recipe.json") : NULL;
    if (!path) return FT_EMEM;
    FT_TRY(dir_remove(dir));
    FT_TRY(dir_make(dir));
    FT_TRY(file_write(path, recipe->data, recipe->len));
    return merge_into(path, dir, t, mem);
}
