/* given.c – what stands at a path that was given as a model, an adapter or data, when it is not that: each is told by what
 * it is, with the way out. */
#include "io_private.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A name on a hub: "org/name", or an address. */
static bool hub_name(const char *path)
{
    const char *slash = strchr(path, '/');
    if (strstr(path, "://")) return true;
    if (!slash || slash == path || !slash[1] || strchr(slash + 1, '/')) return false;
    if (path[0] == '.' || path[0] == '~' || strchr(slash + 1, '.') == slash + 1) return false;
    for (const char *p = path; *p; p++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./", *p))
            return false;
    return true;
}

/* FT_OK where something stands there, or nothing does; 77 where that cannot be told. */
static ft_status may_look(const char *dir, const char *name)
{
    char path[PATH_MAX]; /* without memory: its want would be taken for a file that is not there */
    struct stat sb;
    const int n = snprintf(path, sizeof path, "%s%s%s", dir, name ? "/" : "", name ? name : "");
    if (n < (int)sizeof path && stat(path, &sb) != 0 && errno != ENOENT && errno != ENOTDIR)
        return ft_fail_errno(FT_ENOINPUT, "%s: cannot be looked at", ft_shows(path));
    return FT_OK;
}

static bool has(const char *dir, const char *name)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path &&
           file_is_there(path);
}

bool io_is_adapter(const char *dir)
{
    return has(dir, "adapter_config.json");
}

bool io_is_adapter_alone(const char *dir)
{
    return io_is_adapter(dir) && !has(dir, "config.json");
}

static ft_status nothing_there(const char *path, const char *what, const char *needed)
{
    FT_CHECK(!hub_name(path), FT_ENOINPUT,
             "%s: no such folder here; if this is a name on a model hub, download the %s first "
             "(git clone, or a hub's own downloader) and give the folder it lies in",
             ft_shows(path), what);
    return ft_fail(FT_ENOINPUT, "%s: no such %s; %s is needed", ft_shows(path), what, needed);
}

/* A file that is given in place of its folder; a GGUF, a pickle and a link to nowhere are told on opening. */
static ft_status check_file(const char *path)
{
    static const char *const ends[] = {".safetensors", ".json", ".model", ".jinja", ".txt"};
    for (size_t i = 0; i < FT_COUNT_OF(ends); i++) {
        FT_CHECK(!str_ends(path, ends[i]), FT_ENOINPUT,
                 "%s: is one file of a model; give the folder it lies in, or a .gguf file",
                 ft_shows(path));
    }
    return FT_OK;
}

ft_status io_model_exists(const char *path)
{
    FT_TRY(may_look(path, NULL));
    FT_TRY(may_look(path, "config.json"));
    if (dir_exists(path)) return FT_OK;
    if (file_is_there(path)) return check_file(path);
    return nothing_there(path, "model", "a Hugging Face folder or a .gguf file");
}

ft_status io_adapter_exists(const char *path)
{
    FT_TRY(may_look(path, NULL));
    FT_TRY(may_look(path, "adapter_config.json"));
    if (!dir_exists(path)) {
        const bool file = file_is_there(path);
        FT_CHECK(!file || !str_ends(path, ".gguf"), FT_ENOINPUT,
                 "%s: is a .gguf; as an adapter ft takes the PEFT folder that such a file is made "
                 "from (ft convert), llama.cpp the .gguf (--lora)",
                 ft_shows(path));
        FT_CHECK(!file, FT_ENOINPUT,
                 "%s: is a file; an adapter is the folder that holds its adapter_config.json",
                 ft_shows(path));
        return nothing_there(path, "adapter", "a PEFT adapter folder");
    }
    if (io_is_adapter(path)) return FT_OK;
    FT_CHECK(
        !has(path, "config.json"), FT_ENOINPUT,
        "%s: is a model, not an adapter: it holds no adapter_config.json; give it as the model "
        "(--model; --base of merge-adapter)",
        ft_shows(path));
    return ft_fail(FT_ENOINPUT, "%s: holds no adapter_config.json; a PEFT adapter folder is needed",
                   ft_shows(path));
}

ft_status io_data_exists(const char *path)
{
    FT_TRY(may_look(path, NULL));
    FT_CHECK(!dir_exists(path), FT_ENOINPUT,
             "%s: is a folder; give the files in it that hold the data (.jsonl, .json, .csv, .tsv "
             "or .txt)",
             ft_shows(path));
    if (file_is_there(path)) return FT_OK;
    FT_CHECK(!hub_name(path), FT_ENOINPUT,
             "%s: no such file here; if this is a name on a data hub, download the data set first "
             "(git clone, or a hub's own downloader) and give its .jsonl, .json, .csv, .tsv or "
             ".txt files",
             ft_shows(path));
    return ft_fail(FT_ENOINPUT, "%s: no such file", ft_shows(path));
}
