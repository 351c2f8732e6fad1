/* merge.c – `ft merge`: whole models as one by a recipe, opened again before the result is given its name. */
#include <string.h>

#include "evolve_private.h"

typedef struct merging {
    const tool_recipe_options *opt;
    cfg_doc doc;
    merge_recipe recipe;
    merge_job *job;
    io_target target;
    model_watched watched;
    file_watch *recipe_watch;
    model *written;
    inf_plan plan;
    str_buf text; /* of the recipe, as it was understood */
    arena *mem;
} merging;

static const char *const heads[] = {"{\n  \"merge_method\": ", NULL};

static ft_status read_recipe(merging *m)
{
    const tool_recipe_options *opt = m->opt;
    FT_TRY(cfg_open_yaml(&m->doc, opt->recipe, opt->sets, opt->n_sets, m->mem));
    FT_TRY(merge_read(&m->recipe, &m->doc, NULL));
    FT_TRY(cfg_done(&m->doc));
    return merge_print(&m->recipe, &m->text);
}

static ft_status open_target(merging *m)
{
    const merge_recipe *r = &m->recipe;
    io_input *in = arena_get(m->mem, (size_t)(2 * r->n_ref + 1) * sizeof *in);
    int n = 0;
    if (!in) return FT_EMEM;
    in[n++] = (io_input){.what = "the recipe", .path = m->opt->recipe, .may_lie_in = false};
    for (int i = 0; i < r->n_ref; i++) {
        in[n++] = (io_input){.what = "a model of the recipe", .path = r->ref[i].path};
        in[n++] = (io_input){.what = "an adapter of the recipe", .path = r->ref[i].adapter};
    }
    FT_TRY(io_target_open(&m->target, m->opt->out, m->opt->force, in, n, m->mem));
    return tool_target_told(&m->target, "merge_recipe.json", heads, "a recipe that ft wrote");
}

/* Of what is copied; that of models and adapters that lend values is mapped, and watched so. */
static ft_status watch(merging *m)
{
    for (int i = 0; i < m->recipe.n_ref; i++) {
        const merge_ref *ref = &m->recipe.ref[i];
        FT_TRY(model_check_links(ref->path, m->opt->follow_links));
        FT_TRY(model_check_links(ref->adapter, m->opt->follow_links));
        if (m->watched.n > 32) continue; /* files of so many models are enough */
        FT_TRY(model_watch(&m->watched, ref->path, m->mem));
        FT_TRY(model_watch(&m->watched, ref->adapter, m->mem));
    }
    return file_watch_open(&m->recipe_watch, m->opt->recipe, FILE_DONE);
}

/* Opening checks every tensor's name and shape against the config; what is left is that nothing was lost. */
static ft_status check_written(merging *m)
{
    const int64_t n = model_count(merge_result(m->job));
    FT_TRY(model_open(&m->written,
                      &(model_options){.path = m->target.temp, .end = MODEL_ANY, .unread = true}));
    FT_CHECK(model_count(m->written) == n, FT_EINTERNAL, "%s: %lld parameters were written of %lld",
             ft_shows(m->target.temp), (long long)model_count(m->written), (long long)n);
    return FT_OK;
}

static ft_status report(const merging *m, str_buf *s)
{
    const model *w = m->written;
    const size_t bytes = model_bytes(w);
    if (m->opt->json) {
        FT_TRY(merge_lines(m->job, s));
        str_adds(s, "{\"out\":");
        tool_json_text(s, m->opt->out, strlen(m->opt->out));
        str_printf(s, ",\"merge_method\":\"%s\",\"layers\":%lld,\"vocab_size\":%lld",
                   m->recipe.method->name, (long long)w->d.n_layer, (long long)w->d.vocab_size);
        str_printf(s, ",\"tensors\":%lld,\"parameters\":%lld,\"bytes\":%zu}\n",
                   (long long)w->weights.n, (long long)model_count(w), bytes);
        tool_json_memory(s, &m->plan);
    } else {
        str_printf(s, "%s: %s of %d models, %lld tensors, %lld parameters, %zu bytes\n",
                   ft_shows(m->opt->out), m->recipe.method->name, m->recipe.n_ref,
                   (long long)w->weights.n, (long long)model_count(w), bytes);
    }
    return str_ok(s);
}

static ft_status run(merging *m, str_buf *text)
{
    const bool gguf = str_ends(m->opt->out, ".gguf");
    FT_TRY(read_recipe(m));
    for (int i = 0; i < m->recipe.n_ref; i++) {
        FT_TRY(io_model_exists(m->recipe.ref[i].path));
        FT_TRY(tool_tell_steps(m->recipe.ref[i].path, m->mem));
        if (m->recipe.ref[i].adapter) FT_TRY(io_adapter_exists(m->recipe.ref[i].adapter));
    }
    FT_TRY(open_target(m));
    FT_TRY(watch(m));
    const char *dir = path_join(m->mem, m->target.work, IO_TARGET_MERGED);
    if (!dir) return FT_EMEM;
    FT_TRY(merge_open(&m->job, &m->recipe, dir));
    const model_save_options save = merge_save_options(m->job, gguf);
    model *made = merge_result(m->job);
    FT_TRY(tool_check_space(model_saved_bytes(made, m->target.path, &save), &m->target));
    const size_t saving = tool_saving_bytes(made, m->target.path, &save) + merge_bytes(m->job);
    FT_TRY(tool_plan_conversion(&m->plan, merge_donor(m->job), saving, 0));
    FT_TRY(tool_save(made, m->target.temp, &save));
    FT_TRY(check_written(m));
    FT_TRY(file_write(m->target.beside_temp, m->text.data, m->text.len));
    FT_TRY(file_inputs_check());
    FT_TRY(report(m, text)); /* before the rename: a failure leaves nothing */
    return io_target_commit(&m->target);
}

/* Is it a recipe to be searched for? */
static ft_status has_genome(const tool_recipe_options *opt, bool *has)
{
    cfg_doc d;
    arena *mem;
    bool adapter;
    *has = false;
    FT_TRY(io_is_adapter(opt->recipe, &adapter));
    FT_CHECK(!adapter, FT_EUSAGE, "%s: is an adapter, no recipe; ft merge-adapter folds it",
             ft_shows(opt->recipe));
    FT_TRY(arena_open(&mem, "a recipe", (size_t)1 << 30));
    const ft_status rc = cfg_open_yaml(&d, opt->recipe, opt->sets, opt->n_sets, mem);
    if (rc == FT_OK) *has = js_get(d.js.root, "genome");
    if (rc == FT_OK) cfg_close(&d);
    arena_close(mem);
    return rc;
}

ft_status tool_merge(const tool_recipe_options *opt, const tool_sink *out)
{
    merging m = {.opt = opt};
    str_buf text = {0};
    bool searches;
    FT_TRY(has_genome(opt, &searches));
    if (searches) return tool_evolve(opt, out);
    FT_CHECK(!opt->resume, FT_EUSAGE,
             "--resume: a merge is done at once; only a search by a "
             "recipe with a genome goes on");
    FT_TRY(arena_open(&m.mem, "a merge", (size_t)1 << 30));
    ft_status rc = run(&m, &text);
    if (rc == FT_OK) rc = tool_put(out, &text);
    str_free(&text);
    str_free(&m.text);
    model_close(m.written);
    merge_close(m.job);
    file_watch_close(m.recipe_watch);
    model_watched_close(&m.watched);
    io_target_close(&m.target);
    cfg_close(&m.doc);
    arena_close(m.mem);
    return rc;
}
