/* given.c – what stands at a path that was given as a model, an adapter or data, when it is not that: each is told by what
 * it is, with the way out. */
#include "io_private.h"

#include <stdio.h>
#include <string.h>

#define HUB_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

/* A name on a hub: "org/name", or an address. */
static bool hub_name(const char *path)
{
    const char *slash = strchr(path, '/');
    if (strstr(path, "://")) return true;
    if (!slash || slash == path || !slash[1] || strchr(slash + 1, '/')) return false;
    if (path[0] == '.' || path[0] == '~' || strchr(slash + 1, '.') == slash + 1) return false;
    return path[strspn(path, HUB_LETTERS "/@")] == '\0';
}

/* The command that fetches it: of an address the last two names. */
static const char *fetch_command(const char *path, const char *option, char out[400])
{
    const char *end = path + strlen(path), *from, *name;
    while (end > path && end[-1] == '/') end--;
    for (name = end; name > path && name[-1] != '/';) name--;
    for (from = name > path ? name - 1 : name; from > path && from[-1] != '/';) from--;
    const size_t n = (size_t)(end - from), bare = strcspn(name, "@/");
    if (from < name - 1 && bare > 0 && n < 150 && strspn(from, HUB_LETTERS "/@") >= n)
        snprintf(out, 400, "ft fetch %s%.*s --out %.*s", option, (int)n, from, (int)bare, name);
    else
        snprintf(out, 400, "ft fetch %sORG/NAME --out DIR", option);
    return out;
}

/* A file of that name, or a link that leads nowhere. */
static ft_status has(const char *dir, const char *name, bool *out)
{
    path_kind kind;
    FT_TRY(path_look_in(dir, name, &kind));
    *out = kind == PATH_FILE || kind == PATH_LOST;
    return FT_OK;
}

ft_status io_is_adapter(const char *dir, bool *is)
{
    return has(dir, "adapter_config.json", is);
}

ft_status io_is_adapter_alone(const char *dir, bool *is)
{
    bool model;
    FT_TRY(has(dir, "config.json", &model));
    FT_TRY(io_is_adapter(dir, is));
    *is = *is && !model;
    return FT_OK;
}

static ft_status nothing_there(const char *path, const char *what, const char *needed)
{
    char text[400];
    FT_CHECK(!hub_name(path), FT_ENOINPUT,
             "%s: no such folder here; if this is a name on a model hub, get the %s with: %s, and "
             "give that folder",
             ft_shows(path), what, fetch_command(path, "", text));
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

/* A folder without a result, but with checkpoints. */
static ft_status check_ended(const char *path, const char *missing)
{
    path_kind runs;
    FT_TRY(path_look_in(path, "checkpoints", &runs));
    FT_CHECK(runs != PATH_FOLDER, FT_ENOINPUT,
             "%s: holds no %s: its run has not ended, or something of it is gone; go on with it "
             "(ft train … --resume), or give one of its checkpoints (%s/checkpoints/step-N)",
             ft_shows(path), missing, ft_shows(path));
    return FT_OK;
}

ft_status io_model_exists(const char *path)
{
    path_kind kind;
    bool config, adapter = false;
    FT_TRY(path_look(path, &kind));
    if (kind == PATH_FOLDER) {
        FT_TRY(has(path, "config.json", &config)); /* may it be looked into? */
        if (!config) FT_TRY(io_is_adapter(path, &adapter));
        return config || adapter
                   ? FT_OK
                   : check_ended(path, "config.json"); /* an adapter is told on opening it */
    }
    if (kind != PATH_NONE) return check_file(path);
    return nothing_there(path, "model", "a Hugging Face folder or a .gguf file");
}

ft_status io_adapter_exists(const char *path)
{
    path_kind kind;
    bool is, model;
    FT_TRY(path_look(path, &kind));
    if (kind == PATH_NONE) return nothing_there(path, "adapter", "a PEFT adapter folder");
    FT_CHECK(kind == PATH_FOLDER || !str_ends(path, ".gguf"), FT_ENOINPUT,
             "%s: is a .gguf; as an adapter ft takes the PEFT folder that such a file is made "
             "from (ft convert), llama.cpp the .gguf (--lora)",
             ft_shows(path));
    FT_CHECK(kind == PATH_FOLDER, FT_ENOINPUT,
             "%s: is a file; an adapter is the folder that holds its adapter_config.json",
             ft_shows(path));
    FT_TRY(io_is_adapter(path, &is));
    if (is) return FT_OK;
    FT_TRY(has(path, "config.json", &model));
    if (!model) FT_TRY(check_ended(path, "adapter_config.json"));
    FT_CHECK(
        !model, FT_ENOINPUT,
        "%s: is a model, not an adapter: it holds no adapter_config.json; give it as the model "
        "(--model; --base of merge-adapter)",
        ft_shows(path));
    return ft_fail(FT_ENOINPUT, "%s: holds no adapter_config.json; a PEFT adapter folder is needed",
                   ft_shows(path));
}

ft_status io_data_exists(const char *path)
{
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    FT_CHECK(kind != PATH_FOLDER, FT_ENOINPUT,
             "%s: is a folder; give the files in it that hold the data (.jsonl, .json, .csv, .tsv "
             "or .txt)",
             ft_shows(path));
    if (kind != PATH_NONE) return FT_OK;
    char text[400];
    FT_CHECK(!hub_name(path), FT_ENOINPUT,
             "%s: no such file here; if this is a name on a data hub, get the data set with: %s, "
             "and give its files",
             ft_shows(path), fetch_command(path, "--dataset ", text));
    return ft_fail(FT_ENOINPUT, "%s: no such file", ft_shows(path));
}
