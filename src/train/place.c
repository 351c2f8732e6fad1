/* place.c – the output folder of a run, before it is written to: is it apart from what the run reads, may it be written,
 * and is what stands there this run's?
 *
 * Names that a run writes stand in one table (io_known). A file of such a name that no run made is not written over without
 * --force; a link, or a folder where a file belongs, never. Whatever else stands in the folder stays as it is. */
#include "train_private.h"

#include <string.h>
#include <unistd.h>

/* Written before the result: from then on files of its names are the run's. */
#define BEGUN "checkpoints/result-begun"
#define SUMMARY "summary.json"
#define FORMER_SUMMARY IO_FORMER "/" SUMMARY

enum { INPUTS = 64 };

/* The files and folders that keys of the objective name: a reference, a value head, rollouts. */
static int list_paths(const train_config *c, io_input *in)
{
    int n = 0;
    for (const cfg_field *f = c->objective_rows; f && f->key && n < INPUTS / 2; f++) {
        if (f->type != CFG_PATH) continue;
        const char *path = *(const char *const *)((const char *)c->objective_head + f->offset);
        const char *const *word = f->choices;
        while (path && word && *word && strcmp(*word, path) != 0) word++;
        if (path && !(word && *word)) in[n++] = (io_input){f->key, path, true};
    }
    const obj_objective *o = c->objective;
    for (int i = 0; o && o->reads && n < INPUTS - 8; i++) {
        const char *path = o->reads(c->objective_cfg, i);
        if (!path) break;
        in[n++] = (io_input){"objective.rewards", path, true};
    }
    return n;
}

/* What the run reads besides its data. */
static int list_inputs(train_session *s, io_input in[INPUTS])
{
    const train_config *c = &s->cfg;
    const cJSON *prompts = c->train.sample_prompts;
    int n = 0;
    in[n++] = (io_input){"the config", s->opt->config, true};
    in[n++] = (io_input){"the model", c->model.path, false};
    in[n++] = (io_input){"the model's config", c->model.from_config, true};
    in[n++] = (io_input){"the tokenizer", c->model.tokenizer, false};
    in[n++] = (io_input){"the adapter", c->method_head ? c->method_head->init_from : NULL, false};
    in[n++] = (io_input){"the chat template", c->data.chat_template, true};
    if (cJSON_IsString(prompts))
        in[n++] = (io_input){"the file of prompts",
                             cfg_path(&s->cfg.doc, prompts, prompts->valuestring), true};
    return n + list_paths(c, in + n);
}

ft_status train_place_check(train_session *s)
{
    io_input in[INPUTS];
    const char *misfit;
    const int n = list_inputs(s, in);
    FT_TRY(io_out_check(s->out, in, n));
    FT_TRY(dir_may_make(s->out));
    for (int i = 0; i < n; i++) /* what lies beside them is copied beside the result */
        if (!in[i].may_lie_in) FT_TRY(model_check_links(in[i].path, s->opt->follow_links));
    path_kind kind;
    FT_TRY(path_look(s->out, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(io_misfit(s->out, s->mem, &misfit));
    FT_CHECK(!misfit, FT_EEXIST,
             "%s: \"%s\" is a name that a run writes, and is a link or of another kind there; move "
             "it away, or choose another folder with --out",
             s->out, ft_shows(misfit));
    return s->opt->force && !s->opt->resume ? io_may_move(s->out, s->mem) : FT_OK;
}

/* A config that lies in the folder is what its run began with: to go on with it changes nothing. */
static ft_status read_by(train_session *s, const char *path, const char **what)
{
    io_input in[INPUTS];
    const int n = list_inputs(s, in);
    bool is = false;
    *what = NULL;
    for (int i = 0; i < n; i++) {
        if (!in[i].path || !in[i].may_lie_in || (i == 0 && s->opt->resume)) continue;
        FT_TRY(io_same_place(in[i].path, path, &is));
        if (is) {
            *what = in[i].what;
            return FT_OK;
        }
    }
    FT_TRY(data_reads_file(s->train, path, &is));
    if (!is && s->eval) FT_TRY(data_reads_file(s->eval, path, &is));
    if (is) *what = "data";
    return FT_OK;
}

ft_status train_place_inputs(train_session *s)
{
    const char **names;
    int64_t n;
    path_kind kind;
    FT_TRY(path_look(s->out, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_list(s->out, s->mem, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        if (!io_known(names[i])) continue;
        const char *path = path_join(s->mem, s->out, names[i]), *what;
        if (!path) return FT_EMEM;
        FT_TRY(read_by(s, path, &what));
        FT_CHECK(!what, FT_EEXIST,
                 "%s: is %s that the run reads, and a run writes a file of that name; move it, or "
                 "choose another folder with --out",
                 path, what);
    }
    return FT_OK;
}

/* --- what of it is this run's ----------------------------------------------------------------------------------------- */
ft_status train_place_first(const train_session *s, unsigned of, const char **first)
{
    static const char *const telling[] = {"summary.json", "log.jsonl", "config.json"};
    const char **names;
    int64_t n;
    *first = NULL;
    path_kind kind;
    FT_TRY(path_look(s->out, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_list(s->out, s->mem, &names, &n));
    for (size_t k = 0; k <= FT_COUNT_OF(telling); k++)
        for (int64_t i = 0; i < n && !*first; i++) {
            const bool told = k == FT_COUNT_OF(telling) || strcmp(names[i], telling[k]) == 0;
            /* checkpoints of others stay beside those of the run */
            if (told && io_known(names[i]) & of && strcmp(names[i], "checkpoints") != 0)
                *first = names[i];
        }
    return FT_OK;
}

static ft_status result_is_ours(const train_session *s, bool *ours)
{
    path_kind begun, summary;
    FT_TRY(path_look_in(s->out, BEGUN, &begun));
    FT_TRY(path_look_in(s->out, SUMMARY, &summary));
    *ours = begun == PATH_FILE || summary == PATH_FILE;
    return FT_OK;
}

ft_status train_place_resumed(const train_session *s)
{
    const char *first;
    bool ours;
    FT_TRY(result_is_ours(s, &ours));
    if (ours) return FT_OK;
    FT_TRY(train_place_first(s, IO_OF_RESULT, &first));
    FT_CHECK(!first, FT_EEXIST,
             "%s: holds %s, which this run writes at its end and did not make; move it away, or "
             "--force starts anew and writes over it",
             s->out, first);
    return FT_OK;
}

ft_status train_place_begin(const train_session *s)
{
    const char *begun = path_join(s->mem, s->out, BEGUN);
    return begun ? file_write(begun, "", 0) : FT_EMEM;
}

/* --- removing --------------------------------------------------------------------------------------------------------- */
/* A finished run whose checkpoints are gone has only its summary to tell whose it is. */
static ft_status is_finished(const train_session *s, path_kind run, bool *finished)
{
    static const char *const heads[] = {"{\n  \"run_id\": \"", NULL};
    const char *path = path_join(s->mem, s->out, SUMMARY);
    int64_t bytes = 0;
    path_kind summary;
    if (!path) return FT_EMEM;
    FT_TRY(path_look(path, &summary));
    *finished = summary == PATH_FILE;
    if (!*finished || run == PATH_FILE) return FT_OK;
    FT_TRY(path_size(path, &bytes));
    *finished = bytes > 0 && io_begins(path, heads);
    return FT_OK;
}

/* The summary moves, and goes, last: with it .former is whole, and without it what is in there is a part of what stands in
 * the folder. An older former run makes room for a newer one that was finished. */
static ft_status set_aside(const train_session *s, const char *former)
{
    path_kind older;
    const char *left;
    FT_TRY(path_look_in(s->out, FORMER_SUMMARY, &older));
    if (older != PATH_NONE) FT_TRY(io_clear_part(former, s->mem, &left));
    return io_move(s->out, former, s->mem);
}

ft_status train_place_wipe(const train_session *s)
{
    const char *left, *former = path_join(s->mem, s->out, IO_FORMER),
                      *checkpoints = path_join(s->mem, s->out, "checkpoints");
    path_kind run, aside;
    bool ours, finished;
    if (!former || !checkpoints) return FT_EMEM;
    FT_TRY(result_is_ours(s, &ours));
    FT_TRY(path_look_in(s->out, TRAIN_RUN, &run));
    FT_TRY(is_finished(s, run, &finished));
    if (finished) FT_TRY(set_aside(s, former));
    FT_TRY(path_look(former, &aside));
    if (run == PATH_FILE && !finished)
        return io_clear(s->out, IO_OF_RUN | (ours ? IO_OF_RESULT : 0), s->mem, &left);
    /* its identity is in .former */
    return aside == PATH_FOLDER ? io_clear_part(checkpoints, s->mem, &left) : FT_OK;
}

/* --- the former run --------------------------------------------------------------------------------------------------- */
ft_status train_place_restore(const train_session *s)
{
    const char *former = path_join(s->mem, s->out, IO_FORMER);
    path_kind aside, whole, summary;
    if (!former) return FT_EMEM;
    FT_TRY(path_look(former, &aside));
    FT_TRY(path_look_in(s->out, FORMER_SUMMARY, &whole));
    FT_TRY(path_look_in(s->out, SUMMARY, &summary));
    if (aside != PATH_FOLDER || whole != PATH_NONE || summary != PATH_FILE) return FT_OK;
    FT_TRY(io_move(former, s->out, s->mem));
    rmdir(former);
    return FT_OK;
}

void train_place_settle(const train_session *s)
{
    const bool before = ft_error_starved();
    const char *left, *former = path_join(s->mem, s->out, IO_FORMER);
    if (former && io_clear_part(former, s->mem, &left) == FT_OK) return;
    log_warn("%s; the former result there is no longer needed", ft_error());
    ft_error_forget_since(before);
    ft_error_clear();
}

void train_place_tell(const train_session *s)
{
    const char *former = path_join(s->mem, s->out, FORMER_SUMMARY);
    if (former && access(former, F_OK) == 0)
        log_warn("the former result is in %s/" IO_FORMER, s->out);
}

/* What others put there is set aside: the name is needed. */
ft_status train_place_remove(const char *dir, arena *mem)
{
    const char *left;
    FT_TRY(io_clear_part(dir, mem, &left));
    for (int i = 1;; i++) {
        path_kind kind;
        FT_TRY(path_look(dir, &kind));
        if (kind != PATH_FOLDER) return FT_OK;
        const char *aside = arena_printf(mem, "%s.others-%d", dir, i);
        if (!aside) return FT_EMEM;
        FT_TRY(path_look(aside, &kind));
        if (kind != PATH_NONE) continue;
        FT_TRY(dir_rename(dir, aside));
        log_warn("%s: holds what is not of a checkpoint, and was kept", aside);
    }
}
