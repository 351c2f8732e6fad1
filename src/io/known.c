/* known.c – what belongs in a folder of results: every file that ft writes, and those that transformers and PEFT give the
 * folder of a model or an adapter.
 *
 * Whatever is to be replaced or removed is looked up here first. A name alone says little: what bears it must be the file
 * or the folder that it should be, and a link is neither. Files that any folder may hold (README.md, LICENSE) are ours to
 * remove only beside one that tells what the folder is. */
#include "io_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum place { NOWHERE, RESULT, TEMPLATES, CHECKPOINTS, STEP, EVENTS } place;
/* Beside IO_OF_RUN, IO_OF_RESULT: the folder is one of a model, an adapter or a run; what says that a result is whole. */
enum { TELLS = 8, WHOLE = 16 };
const char *const io_modelfile[] = {"# Modelfile by ft convert", NULL};
const char *const io_report[] = {"<!doctype html>\n<!-- ft report -->\n", NULL};

/* Others write files of these names too: ours begin so. */
static const struct {
    const char *name;
    const char *const *heads;
} headed[] = {{"Modelfile", io_modelfile}, {"report.html", io_report}};

/* name: '#' is a number, '*' any text. holds: it is a folder of such files. */
static const struct {
    place in;
    const char *name;
    unsigned what;
    place holds;
} known[] = {
    {RESULT, "config.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "generation_config.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "model.safetensors", IO_OF_RESULT | TELLS, NOWHERE},
    {RESULT, "model-#-of-#.safetensors", IO_OF_RESULT | TELLS, NOWHERE},
    {RESULT, "model.safetensors.index.json", IO_OF_RESULT | TELLS, NOWHERE},
    {RESULT, "adapter_config.json", IO_OF_RESULT | TELLS, NOWHERE},
    {RESULT, "adapter_model.safetensors", IO_OF_RESULT | TELLS, NOWHERE},
    {RESULT, "prompt_encoder.safetensors", IO_OF_RESULT, NOWHERE},
    {RESULT, "lotr.safetensors", IO_OF_RESULT, NOWHERE},
    {RESULT, "qat.safetensors", IO_OF_RESULT, NOWHERE},
    {RESULT, "value_head.safetensors", IO_OF_RESULT, NOWHERE},
    {RESULT, "lora_drop.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "ft_method.json", IO_OF_RESULT, NOWHERE},              /* PE_METHOD_FILE */
    {RESULT, "adapter.safetensors", IO_OF_RESULT | TELLS, NOWHERE}, /* of the adapters library */
    {RESULT, "merge_recipe.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "best_recipe.json", IO_OF_RESULT | TELLS, NOWHERE},
    {RESULT, "evolve.jsonl", IO_OF_RESULT | TELLS, NOWHERE},
    {RESULT, "evolve_config.json", IO_OF_RESULT | TELLS, NOWHERE}, /* whose scores these are */
    {RESULT, "compress.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "compress_config.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "quantize_config.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "blocks.json", TELLS,
     NOWHERE}, /* OUT.blocks: what a quantisation that goes on has done */
    {RESULT, "block-#.safetensors", 0, NOWHERE},
    {RESULT, "stream.tmp", 0, NOWHERE},
    {RESULT, "README.md", IO_OF_RESULT, NOWHERE},
    {RESULT, "Modelfile", IO_OF_RESULT, NOWHERE},
    {RESULT, "tokenizer.json", IO_OF_RESULT | TELLS, NOWHERE},
    {RESULT, "tokenizer_config.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "special_tokens_map.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "added_tokens.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "tokenizer.model", IO_OF_RESULT | TELLS, NOWHERE},
    {RESULT, "vocab.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "merges.txt", IO_OF_RESULT, NOWHERE},
    {RESULT, "chat_template.jinja", IO_OF_RESULT, NOWHERE},
    {RESULT, "chat_template.json", IO_OF_RESULT, NOWHERE},
    {RESULT, "additional_chat_templates", IO_OF_RESULT, TEMPLATES},
    {TEMPLATES, "*.jinja", IO_OF_RESULT, NOWHERE},

    {RESULT, ".lock", 0, NOWHERE},  /* held by whoever works in the folder */
    {RESULT, IO_FORMER, 0, RESULT}, /* a finished run, until a new one in its place is whole */
    {RESULT, "config.resolved.json", IO_OF_RUN, NOWHERE},
    {RESULT, "log.jsonl", IO_OF_RUN, NOWHERE},
    {RESULT, "time.jsonl", IO_OF_RUN, NOWHERE},
    {RESULT, "samples.jsonl", IO_OF_RUN, NOWHERE},
    {RESULT, "rollouts.jsonl", IO_OF_RUN, NOWHERE},
    {RESULT, "log.csv", IO_OF_RUN, NOWHERE},
    {RESULT, "summary.json", IO_OF_RUN | WHOLE, NOWHERE},
    {RESULT, "merges.jsonl", IO_OF_RUN, NOWHERE},
    {RESULT, "rewards.stderr", IO_OF_RUN, NOWHERE}, /* of programs that judge: RW_ERRORS */
    {RESULT, "report.html", IO_OF_RUN, NOWHERE},
    {RESULT, "tensorboard", IO_OF_RUN, EVENTS},
    {EVENTS, "events.out.tfevents.*.ft", IO_OF_RUN, NOWHERE},
    {RESULT, "checkpoints", IO_OF_RUN, CHECKPOINTS},
    {CHECKPOINTS, "run.json", IO_OF_RUN | TELLS, NOWHERE},
    {CHECKPOINTS, "result-begun", IO_OF_RUN, NOWHERE},
    {CHECKPOINTS, "step-#", IO_OF_RUN, STEP},
    {CHECKPOINTS, "step-#.tmp", IO_OF_RUN, STEP},
    {STEP, "params.safetensors", IO_OF_RUN, NOWHERE},
    {STEP, "optimizer.safetensors", IO_OF_RUN, NOWHERE},
    {STEP, "objective.safetensors", IO_OF_RUN, NOWHERE},
    {STEP, "state.json", IO_OF_RUN, NOWHERE},
    {STEP, "manifest.json", IO_OF_RUN, NOWHERE},
    {STEP, "config.resolved.json", IO_OF_RUN, NOWHERE},

    {RESULT, ".fetch-*.part", 0, NOWHERE}, /* of ft fetch: what came of a file so far */

    /* of others; training states of theirs are not in the list */
    {RESULT, "pytorch_model.bin", TELLS, NOWHERE},
    {RESULT, "pytorch_model-#-of-#.bin", TELLS, NOWHERE},
    {RESULT, "pytorch_model.bin.index.json", TELLS, NOWHERE},
    {RESULT, "adapter_model.bin", TELLS, NOWHERE},
    {RESULT, "pytorch_adapter.bin", TELLS, NOWHERE},
    {RESULT, "head_config.json", 0, NOWHERE},
    {RESULT, "model_head.safetensors", 0, NOWHERE},
    {RESULT, "pytorch_model_head.bin", 0, NOWHERE},
    {RESULT, "training_args.bin", 0, NOWHERE},
    {RESULT, "vocab.txt", 0, NOWHERE},
    {RESULT, "spiece.model", TELLS, NOWHERE},
    {RESULT, "sentencepiece.bpe.model", TELLS, NOWHERE},
    {RESULT, "preprocessor_config.json", 0, NOWHERE},
    {RESULT, "processor_config.json", 0, NOWHERE},
    {RESULT, "LICENSE", 0, NOWHERE},
    {RESULT, "LICENSE.txt", 0, NOWHERE},
    {RESULT, "LICENSE.md", 0, NOWHERE},
    {RESULT, "USE_POLICY.md", 0, NOWHERE},
    {RESULT, ".gitattributes", 0, NOWHERE},
};

static bool fits(const char *pattern, const char *name, size_t n)
{
    const char *end = name + n;
    for (; *pattern; pattern++) {
        if (*pattern == '*') {
            const size_t rest = strlen(pattern + 1);
            return (size_t)(end - name) >= rest && memcmp(end - rest, pattern + 1, rest) == 0;
        }
        if (name == end || (*pattern == '#' ? !isdigit((unsigned char)*name) : *pattern != *name))
            return false;
        if (*pattern == '#')
            while (name + 1 < end && isdigit((unsigned char)name[1])) name++;
        name++;
    }
    return name == end;
}

/* The row of a name; −1: there is none. A file is written as NAME.tmp first. */
static int find(place in, const char *name, bool *temporary)
{
    const size_t n = strlen(name);
    *temporary = false;
    for (int pass = 0; pass < 2; pass++) {
        if (pass && !str_ends(name, ".tmp")) break;
        for (size_t i = 0; i < FT_COUNT_OF(known); i++) {
            if (pass && known[i].holds != NOWHERE) continue;
            const bool here = known[i].in == in ||
                              (in == STEP && known[i].in == RESULT && known[i].what & IO_OF_RESULT);
            if (!here || !fits(known[i].name, name, pass ? n - 4 : n)) continue;
            *temporary = pass;
            return (int)i;
        }
    }
    return -1;
}

unsigned io_known(const char *name)
{
    bool temporary;
    const int row = find(RESULT, name, &temporary);
    return row < 0 ? 0 : known[row].what & (IO_OF_RUN | IO_OF_RESULT);
}

/* '*' of a head stands for text inside a line. */
static bool begins(const char *text, const char *head)
{
    for (;;) {
        const char *star = strchr(head, '*');
        const size_t n = star ? (size_t)(star - head) : strlen(head);
        if (strncmp(text, head, n) != 0) return false;
        if (!star) return true;
        text += n;
        head = star + 1;
        const size_t next = strcspn(head, "*"), line = strcspn(text, "\n");
        size_t at = 0;
        while (at <= line && strncmp(text + at, head, next) != 0) at++;
        if (at > line) return false;
        text += at;
    }
}

bool io_begins(const char *path, const char *const *heads)
{
    char text[1024] = {0};
    int fd;
    if (ft_open(&fd, path, NULL) != FT_OK) {
        ft_error_clear();
        return false;
    }
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    bool fit = n == 0;
    for (; n > 0 && *heads && !fit; heads++) fit = begins(text, *heads);
    return fit;
}

enum { FOREIGN = -1, GONE = -2 };

static const char *const *heads_of(int row)
{
    for (size_t k = 0; k < FT_COUNT_OF(headed); k++)
        if (strcmp(known[row].name, headed[k].name) == 0) return headed[k].heads;
    return NULL;
}

/* The row of an entry that is what its name says. */
static ft_status look_up(place in, const char *path, const char *name, int *row, bool *temporary)
{
    struct stat sb;
    bool there;
    *row = GONE;
    FT_TRY(io_look_link(path, &sb, &there));
    if (!there) return FT_OK;
    *row = FOREIGN;
    const int i = find(in, name, temporary);
    if (i < 0 || (known[i].holds == NOWHERE ? !S_ISREG(sb.st_mode) : !S_ISDIR(sb.st_mode)))
        return FT_OK;
    const char *const *heads = heads_of(i);
    if (!heads || io_begins(path, heads)) *row = i;
    return FT_OK;
}

/* --- looking ---------------------------------------------------------------------------------- */

static ft_status look_through(place in, const char *dir, const char *below, arena *a, bool *tells,
                              const char **foreign)
{
    const char **names;
    int64_t n;
    FT_TRY(dir_list(dir, a, &names, &n));
    for (int64_t i = 0; i < n && !*foreign; i++) {
        bool temporary;
        int row;
        const char *path = path_join(a, dir, names[i]), *shown = path_join(a, below, names[i]);
        if (!path || !shown) return FT_EMEM;
        FT_TRY(look_up(in, path, names[i], &row, &temporary));
        if (row == GONE) continue;
        if (row == FOREIGN)
            *foreign = shown;
        else if (known[row].holds != NOWHERE)
            FT_TRY(look_through(known[row].holds, path, shown, a, tells, foreign));
        else if (known[row].what & TELLS && !temporary)
            *tells = true;
    }
    return FT_OK;
}

ft_status io_foreign(const char *dir, bool whole, arena *a, const char **foreign)
{
    const char **names;
    int64_t n;
    bool tells = false;
    *foreign = NULL;
    FT_TRY(look_through(RESULT, dir, "", a, &tells, foreign));
    if (*foreign || tells || !whole) return FT_OK;
    FT_TRY(dir_list(dir, a, &names, &n));
    if (n > 0) *foreign = names[0];
    return FT_OK;
}

ft_status io_misfit(const char *dir, arena *a, const char **name)
{
    const char **names;
    int64_t n;
    bool temporary;
    *name = NULL;
    FT_TRY(dir_list(dir, a, &names, &n));
    for (int64_t i = 0; i < n && !*name; i++) {
        int row;
        const char *path = path_join(a, dir, names[i]);
        if (!path) return FT_EMEM;
        FT_TRY(look_up(RESULT, path, names[i], &row, &temporary));
        const int named = find(RESULT, names[i], &temporary);
        if (row == FOREIGN && named >= 0 && !heads_of(named)) *name = names[i];
    }
    return FT_OK;
}

/* --- removing --------------------------------------------------------------------------------- */

static ft_status clear(place in, const char *dir, unsigned of, arena *a, const char **left);

/* What tells what the folder is goes last, so that a removal that is cut short can be gone on with: at the very end the
 * identity of a run, and its summary. */
enum { PASSES = 3 };
static int pass_of(int row)
{
    if (known[row].holds == CHECKPOINTS || known[row].what & WHOLE) return 2;
    return known[row].what & TELLS ? 1 : 0;
}

static ft_status clear_one(place in, const char *dir, const char *name, unsigned of, int pass,
                           arena *a, const char **left)
{
    int row;
    bool temporary;
    const char *path = path_join(a, dir, name);
    if (!path) return FT_EMEM;
    FT_TRY(look_up(in, path, name, &row, &temporary));
    if (row == GONE) return FT_OK;
    if (row == FOREIGN || (of && !(known[row].what & of))) {
        if (!*left && pass == PASSES - 1) *left = path;
        return FT_OK;
    }
    if (pass_of(row) != pass) return FT_OK;
    if (known[row].holds != NOWHERE) return clear(known[row].holds, path, 0, a, left);
    if (unlink(path) != 0 && errno != ENOENT)
        return ft_fail_errno(FT_EIO, "%s: cannot be removed", path);
    return FT_OK;
}

static ft_status clear(place in, const char *dir, unsigned of, arena *a, const char **left)
{
    const char **names;
    int64_t n;
    FT_TRY(dir_list(dir, a, &names, &n));
    for (int pass = 0; pass < PASSES; pass++)
        for (int64_t i = 0; i < n; i++) FT_TRY(clear_one(in, dir, names[i], of, pass, a, left));
    if (of || rmdir(dir) == 0 || errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST)
        return FT_OK;
    return ft_fail_errno(FT_EIO, "%s: cannot be removed", dir);
}

ft_status io_clear(const char *dir, unsigned of, arena *a, const char **left)
{
    *left = NULL;
    path_kind kind;
    FT_TRY(path_look(dir, &kind));
    return kind == PATH_FOLDER ? clear(RESULT, dir, of, a, left) : FT_OK;
}

ft_status io_clear_part(const char *path, arena *a, const char **left)
{
    static const place places[] = {RESULT, CHECKPOINTS};
    struct stat sb;
    bool there;
    *left = NULL;
    FT_TRY(io_look_link(path, &sb, &there));
    if (!there) return FT_OK;
    for (size_t i = 0; i < FT_COUNT_OF(places); i++) {
        bool temporary;
        const int row = find(places[i], path_base(path), &temporary);
        if (row < 0 || known[row].holds == NOWHERE || !S_ISDIR(sb.st_mode)) continue;
        return clear(known[row].holds, path, 0, a, left);
    }
    *left = path;
    return FT_OK;
}

/* --- moving ----------------------------------------------------------------------------------- */

static ft_status may_move(place in, const char *dir, arena *a)
{
    const char **names;
    int64_t n;
    FT_TRY(dir_may_make(dir));
    FT_TRY(dir_list(dir, a, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        bool temporary;
        int row;
        const char *path = path_join(a, dir, names[i]);
        if (!path) return FT_EMEM;
        FT_TRY(look_up(in, path, names[i], &row, &temporary));
        if (row >= 0 && known[row].holds != NOWHERE) FT_TRY(may_move(known[row].holds, path, a));
    }
    return FT_OK;
}

ft_status io_may_move(const char *dir, arena *a)
{
    return may_move(RESULT, dir, a);
}

static ft_status move(place in, const char *dir, const char *to, bool last, arena *a);

static ft_status move_one(place in, const char *dir, const char *to, const char *name, bool last,
                          arena *a, bool *moved)
{
    int row;
    bool temporary;
    const char *path = path_join(a, dir, name), *there = path_join(a, to, name);
    if (!path || !there) return FT_EMEM;
    FT_TRY(look_up(in, path, name, &row, &temporary));
    if (row < 0 || !(known[row].what & (IO_OF_RUN | IO_OF_RESULT)) || known[row].holds == STEP)
        return FT_OK;
    if (known[row].holds != NOWHERE) return move(known[row].holds, path, there, last, a);
    if (last != (known[row].what & WHOLE && !temporary)) return FT_OK;
    if (!*moved) FT_TRY(dir_make(to));
    *moved = true;
    if (rename(path, there) == 0) return FT_OK;
    return ft_fail_errno(FT_EIO, "%s: cannot be moved to %s", path, to);
}

static ft_status move(place in, const char *dir, const char *to, bool last, arena *a)
{
    const char **names;
    int64_t n;
    bool moved = false;
    FT_TRY(dir_list(dir, a, &names, &n));
    for (int64_t i = 0; i < n; i++) FT_TRY(move_one(in, dir, to, names[i], last, a, &moved));
    if (!moved) return FT_OK;
    FT_TRY(dir_sync(to));
    FT_TRY(dir_sync(dir));
    if (in != RESULT) rmdir(dir); /* what others put there stays */
    return FT_OK;
}

ft_status io_move(const char *dir, const char *to, arena *a)
{
    FT_TRY(move(RESULT, dir, to, false, a));
    return move(RESULT, dir, to, true, a);
}
