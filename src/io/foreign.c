/* foreign.c – recognises files of other formats, above all pickles, by their first bytes.
 *
 * A pickle is a program: it is refused under any name and never looked into. */
#include "ft/io.h"
#include "io_private.h"

#include <string.h>

#define PICKLE "is a PyTorch pickle, which can run code; it is never read"
#define SAFE_REMEDY "save the model with safe_serialization=True (safetensors) and use that"

static const struct {
    const char *magic;
    size_t n;
    const char *what, *remedy;
} foreign[] = {
    {"PK\3\4", 4, PICKLE, SAFE_REMEDY}, /* torch.save since 1.6: a zip archive around a pickle */
    {"\x80\2", 2, PICKLE, SAFE_REMEDY}, /* PROTO opcode, protocols 2 to 5 */
    {"\x80\3", 2, PICKLE, SAFE_REMEDY},
    {"\x80\4", 2, PICKLE, SAFE_REMEDY},
    {"\x80\5", 2, PICKLE, SAFE_REMEDY},
    {"GGUF", 4, "is a GGUF file", "name it .gguf"},
    {"lmgg", 4, "is an old ggml file", "convert the original model to GGUF again"},
    {"fmgg", 4, "is an old ggml file", "convert the original model to GGUF again"},
    {"tjgg", 4, "is an old ggml file", "convert the original model to GGUF again"},
    {"\x89HDF\r\n\x1a\n", 8, "is an HDF5 file", "use the safetensors version of the model"},
    {"version https://git-lfs", 23, "is a Git LFS pointer, not the file itself",
     "run git lfs pull"},
    {"<!DOCTYPE", 9, "is a web page, not a model", "download it again"},
    {"<html", 5, "is a web page, not a model", "download it again"},
};

ft_status io_refuse_foreign(const char *path, const file_map *map)
{
    for (size_t i = 0; i < FT_COUNT_OF(foreign); i++) {
        if (map->size < foreign[i].n || memcmp(map->data, foreign[i].magic, foreign[i].n) != 0)
            continue;
        return ft_fail(FT_EDATA, "%s: %s; %s", path, foreign[i].what, foreign[i].remedy);
    }
    return FT_OK;
}

ft_status io_refuse_pickle_name(const char *path)
{
    static const char *const suffixes[] = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"};
    for (size_t i = 0; i < FT_COUNT_OF(suffixes); i++)
        if (str_ends(path, suffixes[i]))
            return ft_fail(FT_EDATA, "%s: " PICKLE "; " SAFE_REMEDY, path);
    return FT_OK;
}
