/* evolve.c – `ft merge` of a recipe with a genome: the numbers of a recipe are searched for by CMA-ES, each candidate merged,
 * evaluated on the tasks and forgotten; the best is the result.
 *
 * evolve.jsonl gets a line an evaluation. A search that goes on reads the scores from it instead of evaluating again, and
 * draws what it would have drawn, so the file is the same whether a search was cut short or not. The folder is taken, and what
 * lies there removed, once the first candidate is evaluated: what is wrong with a recipe is told by then. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "evolve_private.h"

#define MADE_BY "evolve_config.json" /* in the folder: whose scores evolve.jsonl holds */

typedef struct goal { /* of a task */
    double weight;
    const char *metric;
    bool lower; /* less is better */
} goal;

typedef struct evolution {
    const tool_recipe_options *opt;
    eval_config e; /* the document, and the tasks */
    const cJSON *genome_node;
    const char *dtype;
    int64_t max_fevals, population, seed;
    double sigma;
    bool random_init;
    genome g;
    goal *goal;
    cma search;
    io_target target; /* its work folder holds candidates; it is never committed */
    int lock;         /* of the output folder */
    file_log *log;
    str_buf identity; /* of MADE_BY */
    char *former;     /* text of evolve.jsonl so far, and where its next line begins */
    size_t former_len, former_at;
    int64_t done; /* evaluations */
    double best_score, *best;
    bool fresh; /* the candidate that lies there is the best */
    arena *mem;
} evolution;

#define AT(field) offsetof(evolution, field)
static const cfg_field fields[] = {
    {"genome", CFG_JSON, AT(genome_node), .required = true, .help = "what is searched"},
    {"tasks", CFG_JSON, AT(e.tasks), .required = true, .help = "tasks of ft eval"},
    {"max_fevals", CFG_INT, AT(max_fevals), .def = "100", .low = 1, .high = 1e6,
     .help = "evaluations"},
    {"sigma0", CFG_FLOAT, AT(sigma), .def = "0.16666666666666666", .low = 0, .high = 1e3,
     .low_open = true, .help = "the first step"},
    {"population_size", CFG_INT, AT(population), .def = "0", .low = 0, .high = 10000,
     .help = "evaluations of a generation; 0: 4 + 3 ln of the numbers"},
    {"seed", CFG_INT, AT(seed), .def = "0", .low = 0, .high = 9007199254740991.0,
     .help = "of what is drawn, and of random masks"},
    {"random_init", CFG_BOOL, AT(random_init), .def = "false",
     .help = "start from uniform numbers"},
    {"dtype", CFG_STR, AT(dtype), .help = "as in a recipe"},
    CFG_END};

/* --- reading ------------------------------------------------------------------------------------------------------ */

static bool is_lower(const char *metric)
{
    for (int i = 0; tool_metric_at(i); i++)
        if (strcmp(tool_metric_at(i)->name, metric) == 0) return tool_metric_at(i)->lower;
    return false;
}

static void read_goal(evolution *v, const eval_task *task, goal *to)
{
    static const char *const usual[] = {"nll", "acc", "accuracy"};
    cfg_doc *d = &v->e.doc;
    const cJSON *weight = js_get(task->node, "weight"), *metric = js_get(task->node, "metric");
    *to = (goal){.weight = 1};
    if (!task->metrics) return;
    if (weight && !cJSON_IsNumber(weight))
        cfg_fail(d, weight, "tasks.weight", "must be a number");
    else if (weight)
        to->weight = weight->valuedouble;
    if (metric && !cJSON_IsString(metric)) cfg_fail(d, metric, "tasks.metric", "must be a name");
    for (int i = 0; task->metrics[i]; i++) {
        const char *name = task->metrics[i];
        for (size_t k = 0; k < FT_COUNT_OF(usual) && !metric; k++)
            if (!to->metric && strcmp(name, usual[k]) == 0) to->metric = name;
        if (cJSON_IsString(metric) && strcmp(name, metric->valuestring) == 0) to->metric = name;
    }
    if (!to->metric)
        cfg_fail(d, metric ? metric : task->node, "tasks.metric", "%s has no such metric",
                 task->name);
    else
        to->lower = is_lower(to->metric);
}

/* Whatever the search will open is there. */
static ft_status look_for_inputs(const evolution *v)
{
    const merge_recipe *r = v->g.refs;
    for (int i = 0; i < r->n_ref; i++) {
        FT_TRY(io_model_exists(r->ref[i].path));
        if (r->ref[i].adapter) FT_TRY(io_adapter_exists(r->ref[i].adapter));
    }
    for (int i = 0; i < v->e.n_task; i++) FT_TRY(evolve_data_exists(&v->e.task[i]));
    return FT_OK;
}

static ft_status read_config(evolution *v)
{
    static const char *const also[] = {"weight", "metric", NULL};
    const tool_recipe_options *opt = v->opt;
    cfg_doc *d = &v->e.doc;
    FT_TRY(cfg_open_yaml(d, opt->recipe, opt->sets, opt->n_sets, v->mem));
    v->e.mem = v->mem;
    v->e.also = also;
    FT_TRY(cfg_read(d, d->js.root, "", fields, v, NULL));
    if (v->population == 1) /* there is no better half of one */
        cfg_fail(d, js_get(d->js.root, "population_size"), "population_size",
                 "must be 2 or more, or 0");
    merge_read_dtype(d, "dtype", v->dtype);
    FT_TRY(eval_tasks_read(&v->e));
    v->goal = arena_get(v->mem, (size_t)(v->e.n_task + 1) * sizeof *v->goal);
    if (!v->goal) return FT_EMEM;
    for (int i = 0; i < v->e.n_task; i++) read_goal(v, &v->e.task[i], &v->goal[i]);
    FT_TRY(evolve_genome_read(&v->g, d, v->genome_node, v->mem));
    FT_TRY(cfg_done(d));
    FT_TRY(look_for_inputs(v));
    FT_TRY(evolve_genome_layers(&v->g));
    const int n = evolve_genome_size(&v->g);
    FT_CHECK(n <= 512, FT_ECONFIG, "genome: %d numbers are more than 512; take larger groups", n);
    return FT_OK;
}

/* --- the output --------------------------------------------------------------------------------------------------- */

static ft_status open_log(evolution *v)
{
    const char *path = path_join(v->mem, v->target.path, "evolve.jsonl");
    if (!path) return FT_EMEM;
    if (v->opt->resume) FT_TRY(file_read(&v->former, &v->former_len, path, (size_t)1 << 30));
    while (v->former_len > 0 && v->former[v->former_len - 1] != '\n') v->former_len--;
    return file_log_open(&v->log, path, (int64_t)v->former_len);
}

/* What a search goes on with must be there before anything is made. */
static ft_status look_for_log(const evolution *v)
{
    path_kind kind;
    if (!v->opt->resume) return FT_OK;
    FT_TRY(path_look_in(v->opt->out, "evolve.jsonl", &kind));
    FT_CHECK(kind == PATH_FILE, FT_ENOINPUT,
             "%s: no search to go on with; start one without --resume", ft_shows(v->opt->out));
    return FT_OK;
}

/* Whom the folder is taken from, and that it may be. */
static ft_status look_at_output(evolution *v)
{
    const merge_recipe *r = v->g.refs;
    io_input *in = arena_get(v->mem, (size_t)(2 * r->n_ref + 1) * sizeof *in);
    int n = 0;
    if (!in) return FT_EMEM;
    in[n++] = (io_input){.what = "the recipe", .path = v->opt->recipe, .may_lie_in = false};
    for (int i = 0; i < r->n_ref; i++) {
        in[n++] = (io_input){.what = "a model of the recipe", .path = r->ref[i].path};
        in[n++] = (io_input){.what = "an adapter of the recipe", .path = r->ref[i].adapter};
    }
    FT_CHECK(!str_ends(v->opt->out, ".gguf"), FT_EUSAGE,
             "--out: a search needs a folder; ft convert makes a .gguf of the result");
    FT_TRY(look_for_log(v));
    FT_TRY(io_target_open(&v->target, v->opt->out, v->opt->force || v->opt->resume, in, n, v->mem));
    return dir_may_make(v->target.path);
}

static ft_status check_same(const evolution *v, const char *path)
{
    path_kind kind;
    char *text;
    size_t n;
    FT_TRY(path_look(path, &kind));
    FT_CHECK(kind == PATH_FILE, FT_EEXIST,
             "%s: has no " MADE_BY " that tells whose scores evolve.jsonl holds; start anew with "
             "--force",
             ft_shows(v->target.path));
    FT_TRY(file_read(&text, &n, path, (size_t)16 << 20));
    const bool same = n == v->identity.len && memcmp(text, v->identity.data, n) == 0;
    ft_free(text);
    FT_CHECK(same, FT_ECONFIG,
             "%s: was begun with another recipe, other models or other data; undo this (max_fevals "
             "may differ), or start anew with --force",
             ft_shows(v->target.path));
    return FT_OK;
}

static ft_status take_output(evolution *v)
{
    const char *made_by = path_join(v->mem, v->target.path, MADE_BY);
    if (!made_by) return FT_EMEM;
    FT_TRY(dir_make(v->target.path));
    FT_TRY(dir_lock(v->target.path, &v->lock));
    FT_TRY(v->opt->resume ? check_same(v, made_by)
                          : file_write(made_by, v->identity.data, v->identity.len));
    return open_log(v);
}

/* The first line of a new search is known. That takes a while, in which somebody else may have come. */
static ft_status begin(evolution *v)
{
    const char *left;
    bool there;
    FT_TRY(io_out_there(v->target.path, &there));
    FT_CHECK(v->opt->force || !there, FT_EEXIST,
             "%s: was made while the first candidate was evaluated; choose another --out",
             ft_shows(v->target.path));
    FT_TRY(io_out_result(v->target.path, v->mem));
    FT_TRY(io_clear(v->target.path, 0, v->mem, &left));
    return take_output(v);
}

/* --- a candidate -------------------------------------------------------------------------------------------------- */

static ft_status make(evolution *v, const double *x)
{
    str_buf text = {0};
    const size_t mark = arena_mark(v->mem);
    FT_TRY(dir_remove(v->target.temp));
    ft_status rc = evolve_genome_recipe(&v->g, x, v->dtype, v->seed, &text);
    if (rc == FT_OK) rc = tool_merge_text(&text, &v->target, v->mem);
    str_free(&text);
    if (rc == FT_ECONFIG) { /* of a recipe that is made of it */
        const char *told = arena_printf(v->mem, "%s: %s", ft_shows(v->opt->recipe), ft_error());
        rc = ft_fail_again(rc, told);
    }
    arena_reset(v->mem, mark);
    return rc;
}

static bool needs_tokenizer(const evolution *v)
{
    for (int i = 0; i < v->e.n_task; i++)
        if (!v->e.task[i].kind->ids) return true;
    return false;
}

/* The tasks on the candidate; their metrics go into the line. */
static ft_status evaluate(evolution *v, str_buf *line, double *score)
{
    tool_model *t;
    const size_t mark = arena_mark(v->mem);
    str_buf metrics = {0};
    *score = 0;
    FT_TRY(tool_open(&t, v->target.temp, NULL, needs_tokenizer(v), v->opt->precision));
    ft_status rc = FT_OK;
    for (int i = 0; rc == FT_OK && i < v->e.n_task; i++) {
        eval_task *task = &v->e.task[i];
        const goal *g = &v->goal[i];
        task->result = (eval_result){0};
        rc = tool_use_chat(t, task->chat_template);
        if (rc == FT_OK) rc = task->kind->run(t, task);
        if (rc != FT_OK) break;
        const double value = eval_value(&task->result, g->metric);
        *score += g->weight * (g->lower ? -value : value);
        str_adds(&metrics, ",");
        const char *key = arena_printf(v->mem, "%s.%s", task->name, g->metric);
        if (key) str_json(&metrics, key, strlen(key));
        line->failed = line->failed || !key;
        str_addc(&metrics, ':');
        tool_json_number(&metrics, value);
        task->result = (eval_result){0};
    }
    tool_close(t);
    str_adds(line, ",\"score\":");
    tool_json_number(line, *score);
    if (metrics.data) str_adds(line, metrics.data);
    line->failed = line->failed || metrics.failed;
    str_free(&metrics);
    arena_reset(v->mem, mark);
    return rc;
}

/* --- the search ---------------------------------------------------------------------------------------------------- */

/* The next line of a search that goes on, if it has one: it must be of the same numbers. */
static ft_status recall(evolution *v, const str_buf *begin, double *score, bool *known)
{
    const char *line = v->former ? v->former + v->former_at : NULL;
    const char *end = line && v->former_at < v->former_len
                          ? memchr(line, '\n', v->former_len - v->former_at)
                          : NULL;
    js_doc d;
    *known = end;
    if (!end) return FT_OK;
    FT_CHECK((size_t)(end - line) > begin->len && memcmp(line, begin->data, begin->len) == 0,
             FT_EDATA, "%s/evolve.jsonl: line %lld is of another recipe; start anew with --force",
             ft_shows(v->target.path), (long long)v->done);
    FT_TRY(js_parse(&d, line, (size_t)(end - line), "evolve.jsonl", v->done, JS_STRICT, FT_EDATA));
    const cJSON *s = js_get(d.root, "score");
    const bool told = cJSON_IsNumber(s) || cJSON_IsNull(s); /* null: it was no number */
    *score = cJSON_IsNumber(s) ? s->valuedouble : -(double)INFINITY;
    js_close(&d);
    FT_CHECK(told, FT_EDATA, "%s/evolve.jsonl: line %lld has no score; start anew with --force",
             ft_shows(v->target.path), (long long)v->done);
    v->former_at += (size_t)(end - line) + 1;
    return FT_OK;
}

static ft_status score_of(evolution *v, int64_t generation, const double *x, double *score)
{
    str_buf line = {0};
    bool known = false;
    v->done++;
    str_printf(&line, "{\"evaluation\":%lld,\"generation\":%lld,\"genotype\":", (long long)v->done,
               (long long)generation);
    for (int i = 0; i < evolve_genome_size(&v->g); i++) {
        str_adds(&line, i ? "," : "[");
        str_double(&line, x[i]);
    }
    str_addc(&line, ']');
    ft_status rc = str_ok(&line);
    if (rc == FT_OK) rc = recall(v, &line, score, &known);
    if (rc == FT_OK && !known) {
        rc = make(v, x);
        if (rc == FT_OK) rc = evaluate(v, &line, score);
        str_adds(&line, "}\n");
        if (rc == FT_OK) rc = str_ok(&line);
        if (rc == FT_OK && !v->log) rc = begin(v);
        if (rc == FT_OK) rc = file_log_add(v->log, line.data, line.len);
    }
    str_free(&line);
    if (rc != FT_OK) return rc;
    if (!isfinite(*score)) *score = -DBL_MAX;
    v->fresh = !known && (v->done == 1 || *score > v->best_score);
    if (v->done == 1 || *score > v->best_score) {
        v->best_score = *score;
        memcpy(v->best, x, (size_t)evolve_genome_size(&v->g) * sizeof *x);
    }
    log_info("evaluation %lld of %lld: score %.6g, best %.6g", (long long)v->done,
             (long long)v->max_fevals, *score, v->best_score);
    return ft_stop();
}

static ft_status generation(evolution *v, double *x, double *cost)
{
    cma *c = &v->search;
    const int d = c->d;
    for (int k = 0; k < c->lambda; k++) {
        if (v->done == v->max_fevals) return FT_OK;
        evolve_cma_sample(c, k, x + k * d);
        FT_TRY(score_of(v, c->generation, x + k * d, &cost[k]));
        cost[k] = -cost[k];
    }
    return evolve_cma_tell(c, x, cost);
}

static ft_status search(evolution *v)
{
    const int d = evolve_genome_size(&v->g);
    double *start = arena_get(v->mem, (size_t)d * sizeof *start), score;
    v->best = arena_get(v->mem, (size_t)d * sizeof *start);
    if (!start || !v->best) return FT_EMEM;
    evolve_genome_start(&v->g, v->random_init, (uint64_t)v->seed, start);
    FT_TRY(evolve_cma_open(&v->search, d, start, v->sigma, (int)v->population, (uint64_t)v->seed,
                           v->mem));
    double *x = arena_get(v->mem, (size_t)(v->search.lambda * d) * sizeof *x);
    double *cost = arena_get(v->mem, (size_t)v->search.lambda * sizeof *cost);
    if (!x || !cost) return FT_EMEM;
    FT_TRY(score_of(v, 0, start, &score));
    while (v->done < v->max_fevals) FT_TRY(generation(v, x, cost));
    return FT_OK;
}

/* --- the result ---------------------------------------------------------------------------------------------------- */

static ft_status finish(evolution *v)
{
    str_buf text = {0};
    if (!v->fresh) FT_TRY(make(v, v->best));
    const char *path = path_join(v->mem, v->target.temp, "best_recipe.json");
    if (!path) return FT_EMEM;
    ft_status rc = evolve_genome_recipe(&v->g, v->best, v->dtype, v->seed, &text);
    if (rc == FT_OK) rc = file_write(path, text.data, text.len);
    str_free(&text);
    if (rc == FT_OK) rc = file_log_sync(v->log);
    return rc == FT_OK ? io_move(v->target.temp, v->target.path, v->mem) : rc;
}

static ft_status report(const evolution *v, str_buf *s)
{
    if (v->opt->json) {
        str_adds(s, "{\"out\":");
        tool_json_text(s, v->opt->out, strlen(v->opt->out));
        str_printf(s, ",\"evaluations\":%lld,\"best_score\":", (long long)v->done);
        tool_json_number(s, v->best_score);
        str_adds(s, "}\n");
    } else {
        str_printf(s, "%s: the best of %lld evaluations, score %.6g\n", ft_shows(v->opt->out),
                   (long long)v->done, v->best_score);
    }
    return str_ok(s);
}

ft_status tool_evolve(const tool_recipe_options *opt, const tool_sink *out)
{
    evolution *v = ft_alloc(1, sizeof *v);
    str_buf text = {0};
    if (!v) return FT_EMEM;
    *v = (evolution){.opt = opt, .lock = -1};
    ft_status rc = arena_open(&v->mem, "a search", (size_t)1 << 32);
    if (rc == FT_OK) rc = read_config(v);
    if (rc == FT_OK) rc = look_at_output(v);
    if (rc == FT_OK) rc = evolve_identity(v->g.refs, &v->e, opt->precision, &v->identity);
    if (rc == FT_OK && opt->resume) rc = take_output(v);
    if (rc == FT_OK) rc = search(v);
    if (rc == FT_OK) rc = finish(v);
    if (rc == FT_OK) rc = report(v, &text);
    if (rc == FT_OK) rc = tool_put(out, &text);
    str_free(&text);
    file_log_close(v->log);
    if (v->lock >= 0) dir_unlock(v->target.path, v->lock);
    io_target_close(&v->target);
    ft_free(v->former);
    str_free(&v->identity);
    cfg_close(&v->e.doc);
    arena_close(v->mem);
    ft_free(v);
    return rc;
}
