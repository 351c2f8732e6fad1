/* evolve_data.c – the files that a search reads for each of its candidates: they are looked for before the first one. */
#include <glob.h>
#include <string.h>

#include "evolve_private.h"

static ft_status look_for_pattern(const char *path)
{
    glob_t found = {0};
    const int rc = glob(path, GLOB_NOESCAPE, NULL, &found);
    globfree(&found);
    FT_CHECK(rc != GLOB_NOSPACE, FT_EMEM, "%s: no memory for the files that fit", ft_shows(path));
    FT_CHECK(rc == 0, FT_ENOINPUT, "%s: no file fits this pattern", ft_shows(path));
    return FT_OK;
}

static ft_status look_for_path(const char *path)
{
    path_kind kind;
    if (!path) return FT_EMEM;
    FT_TRY(path_look(path, &kind));
    if (kind == PATH_NONE && strpbrk(path, "*?[")) return look_for_pattern(path);
    return kind == PATH_FOLDER ? FT_OK : io_data_exists(path);
}

static ft_status look_for_source(const eval_task *task, const cJSON *source)
{
    const cJSON *path = cJSON_IsObject(source) ? js_get(source, "path") : source;
    if (!cJSON_IsString(path)) return FT_OK; /* told where it is read */
    return look_for_path(cfg_path(task->doc, path, path->valuestring));
}

ft_status evolve_data_exists(const eval_task *task)
{
    const cJSON *all = js_get(task->node, "data"), *source;
    FT_CHECK(data_reads_input(all) == 0, FT_ECONFIG,
             "task %s: data: standard input (\"-\") can be read once, and a search reads it for "
             "each candidate; give a file",
             ft_shows(task->name));
    if (!cJSON_IsArray(all)) return look_for_source(task, all);
    cJSON_ArrayForEach(source, all) FT_TRY(look_for_source(task, source));
    return FT_OK;
}
