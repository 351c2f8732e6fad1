/* fetch_pick.c – which files of a repository are wanted: those that ft reads of a model or a data set, with what says where
 * they come from and under which licence, or those that were asked for. */
#include "fetch_private.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#define INDEX "model.safetensors.index.json"

/* In the top folder. */
static const char *const model_files[] = {"config.json",
                                          "generation_config.json",
                                          "tokenizer*",
                                          "special_tokens_map.json",
                                          "added_tokens.json",
                                          "vocab.*",
                                          "merges.txt",
                                          "chat_template*",
                                          "adapter_config.json",
                                          "README.md",
                                          "LICENSE*",
                                          NULL};
static const char *const words[] = {"README.md", "LICENSE*", NULL};
/* Anywhere. */
static const char *const data_files[] = {"*.jsonl",   "*.json",     "*.csv",       "*.tsv",
                                         "*.txt",     "*.jsonl.gz", "*.json.gz",   "*.csv.gz",
                                         "*.tsv.gz",  "*.txt.gz",   "*.jsonl.zst", "*.json.zst",
                                         "*.csv.zst", "*.tsv.zst",  "*.txt.zst",   NULL};

static bool fits(const char *path, const char *const *patterns)
{
    for (; *patterns; patterns++)
        if (fnmatch(*patterns, path, 0) == 0) return true;
    return false;
}

static bool on_top(const fetch_file *f)
{
    return !strchr(f->path, '/');
}

static int64_t want(fetch_repo *r, const char *const *patterns, bool top)
{
    int64_t n = 0;
    for (int64_t i = 0; i < r->n; i++) {
        fetch_file *f = &r->file[i];
        if ((top && !on_top(f)) || !fits(f->path, patterns)) continue;
        f->wanted = true;
        n++;
    }
    return n;
}

bool fetch_is_model_file(const char *path, bool bare)
{
    static const char *const weights[] = {"*.safetensors", "*.safetensors.index.json", "*.gguf",
                                          NULL};
    if (fits(path, weights)) return true;
    return !strchr(path, '/') && fits(path, model_files) && (!bare || !fits(path, words));
}

/* How many files end so; one of them. */
static int64_t count(const fetch_repo *r, const char *end, const char **one)
{
    int64_t n = 0;
    for (int64_t i = 0; i < r->n; i++) {
        if (!str_ends(r->file[i].path, end)) continue;
        *one = r->file[i].path;
        n++;
    }
    return n;
}

static void clear(fetch_repo *r)
{
    for (int64_t i = 0; i < r->n; i++) r->file[i].wanted = false;
}

/* --- models ------------------------------------------------------------------------------------------------------------ */

/* Parts of a split one belong together. */
static bool one_model(const fetch_file *a, const fetch_file *b)
{
    const size_t dir = (size_t)(path_base(a->path) - a->path);
    return dir == (size_t)(path_base(b->path) - b->path) && memcmp(a->path, b->path, dir) == 0 &&
           gguf_same_model(a->path, path_base(b->path));
}

static ft_status several(const fetch_repo *r)
{
    str_buf s = {0};
    const char *first = NULL;
    for (int64_t i = 0; i < r->n && s.len < 6000; i++) {
        const fetch_file *f = &r->file[i];
        if (!str_ends(f->path, ".gguf")) continue;
        str_printf(&s, "%s%s", first ? ", " : "", ft_shows(f->path));
        if (f->size >= 0) str_printf(&s, " (%s)", ft_bytes_text((size_t)f->size));
        if (!first) first = f->path;
    }
    ft_status rc = str_ok(&s);
    if (rc == FT_OK)
        rc = ft_fail(FT_EUSAGE,
                     "%s: has several .gguf files, and no safetensors; choose with --include, as "
                     "--include '%s': %s",
                     r->id, ft_shows(first), s.data);
    str_free(&s);
    return rc;
}

static ft_status pick_gguf(fetch_repo *r)
{
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt"};
    const fetch_file *first = NULL;
    const char *one = NULL;
    for (int64_t i = 0; i < r->n; i++) {
        fetch_file *f = &r->file[i];
        if (!str_ends(f->path, ".gguf")) continue;
        if (first && !one_model(first, f)) {
            clear(r);
            return several(r);
        }
        first = f;
        f->wanted = true;
    }
    if (first) return FT_OK;
    clear(r);
    for (size_t i = 0; i < FT_COUNT_OF(pickles) && !one; i++) count(r, pickles[i], &one);
    FT_CHECK(!one, FT_ENOINPUT,
             "%s: has no weights that ft reads (.safetensors, .gguf); it has %s, a pickle: look "
             "for a safetensors version, or a branch with one (%s@refs/pr/N)",
             r->id, ft_shows(one), r->id);
    return ft_fail(FT_ENOINPUT,
                   "%s: has no weights that ft reads: no .safetensors in its top folder and no "
                   ".gguf; --include takes other files",
                   r->id);
}

static ft_status pick_model(fetch_repo *r, const fetch_file **index)
{
    static const char *const weights[] = {"*.safetensors", NULL};
    want(r, model_files, true);
    fetch_file *f = fetch_repo_find(r, INDEX);
    if (f) {
        f->wanted = true;
        *index = f;
        return FT_OK;
    }
    return want(r, weights, true) > 0 ? FT_OK : pick_gguf(r);
}

ft_status fetch_pick_indexed(fetch_repo *r, const char *text, size_t len, const char *name)
{
    js_doc d;
    ft_status rc = FT_OK;
    const cJSON *v;
    FT_TRY(js_parse(&d, text, len, name, 1, JS_NO_POSITIONS | JS_BIG_NUMBERS, FT_EDATA));
    const cJSON *map = js_get(d.root, "weight_map");
    FT_GUARD(cJSON_IsObject(map) && map->child, FT_EDATA, "%s: has no weight_map; is it whole?",
             name);
    cJSON_ArrayForEach(v, map)
    {
        FT_GUARD(cJSON_IsString(v), FT_EDATA, "%s: weight_map: \"%s\" names no file", name,
                 ft_shows(v->string));
        fetch_file *f = fetch_repo_find(r, v->valuestring);
        FT_GUARD(f, FT_ENOINPUT, "%s: names \"%s\", which %s does not have at this revision", name,
                 ft_shows(v->valuestring), r->id);
        f->wanted = true;
    }
out:
    js_close(&d);
    return rc;
}

/* --- the rest ---------------------------------------------------------------------------------------------------------- */

static ft_status pick_data(fetch_repo *r)
{
    const char *one = NULL;
    const int64_t n = want(r, data_files, false);
    const int64_t parquet = count(r, ".parquet", &one);
    want(r, words, true);
    if (n > 0) return FT_OK;
    clear(r);
    FT_CHECK(parquet == 0, FT_ENOINPUT,
             "%s: holds Parquet alone (%lld files, as %s), which ft does not read; have it written "
             "as .jsonl (in Python: datasets.load_dataset(\"%s\", split=\"train\")"
             ".to_json(\"train.jsonl\"))",
             r->id, (long long)parquet, ft_shows(one), r->id);
    return ft_fail(FT_ENOINPUT,
                   "%s: holds no .jsonl, .json, .csv, .tsv or .txt file; --include takes others",
                   r->id);
}

static ft_status pick_included(fetch_repo *r, const char *const *include, int n)
{
    int64_t all = 0;
    for (int i = 0; i < n; i++) {
        const char *const one[] = {include[i], NULL};
        const int64_t found = want(r, one, false);
        if (found == 0 && n > 1)
            log_warn("--include %s: no file of %s fits", ft_shows(include[i]), r->id);
        all += found;
    }
    FT_CHECK(all > 0, FT_ENOINPUT, "--include %s: none of the %lld files of %s fits, as %s",
             ft_shows(include[0]), (long long)r->n, r->id, ft_shows(r->file[r->n - 1].path));
    return FT_OK;
}

ft_status fetch_pick(fetch_repo *r, const char *const *include, int n_include,
                     const fetch_file **index)
{
    *index = NULL;
    if (n_include > 0) return pick_included(r, include, n_include);
    return r->dataset ? pick_data(r) : pick_model(r, index);
}
