/* eval_gate.c – bounds of results, absolute or against the untuned model: a row a bound; and the metrics that they bound. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval_private.h"

/* --- the bounds --------------------------------------------------------------------------------------------- */

static bool holds_min(double value, double base, double limit, bool lower)
{
    (void)base, (void)lower;
    return value >= limit;
}

static void missed_min(str_buf *out, double value, double base, double limit, bool lower)
{
    (void)base, (void)lower;
    str_printf(out, "%.6g is below the minimum %.6g", value, limit);
}

static bool holds_max(double value, double base, double limit, bool lower)
{
    (void)base, (void)lower;
    return value <= limit;
}

static void missed_max(str_buf *out, double value, double base, double limit, bool lower)
{
    (void)base, (void)lower;
    str_printf(out, "%.6g is above the maximum %.6g", value, limit);
}

static bool holds_increase(double value, double base, double limit, bool lower)
{
    (void)lower;
    return value - base <= limit;
}

static void missed_increase(str_buf *out, double value, double base, double limit, bool lower)
{
    (void)lower;
    str_printf(out, "%.6g is %.6g more than the base's %.6g, max_increase is %.6g", value,
               value - base, base, limit);
}

static double gain(double value, double base, bool lower)
{
    return lower ? base - value : value - base;
}

static bool holds_gain(double value, double base, double limit, bool lower)
{
    return gain(value, base, lower) >= limit;
}

static void missed_gain(str_buf *out, double value, double base, double limit, bool lower)
{
    str_printf(out, "%.6g gains %.6g over the base's %.6g, min_gain is %.6g", value,
               gain(value, base, lower), base, limit);
}

static bool holds_ratio(double value, double base, double limit, bool lower)
{
    (void)lower;
    return value <= limit * base;
}

static void missed_ratio(str_buf *out, double value, double base, double limit, bool lower)
{
    (void)lower;
    str_printf(out, "%.6g is %.6g times the base's %.6g, max_ratio is %.6g", value, value / base,
               base, limit);
}

static const eval_bound bounds[] = {
    {"min", false, "value >= x", holds_min, missed_min},
    {"max", false, "value <= x", holds_max, missed_max},
    {"max_increase", true, "value - base <= x", holds_increase, missed_increase},
    {"min_gain", true,
     "value - base >= x; where less is better, base - value >= x (x may be negative)", holds_gain,
     missed_gain},
    {"max_ratio", true, "value <= x * base", holds_ratio, missed_ratio}};

bool tool_bound_at(int i, tool_bound *out)
{
    if (i < 0 || i >= (int)FT_COUNT_OF(bounds)) return false;
    *out = (tool_bound){bounds[i].name, bounds[i].help, bounds[i].relative};
    return true;
}

/* --- metrics ------------------------------------------------------------------------------------------------ */

static const tool_metric metrics[] = {
    {"loss", "mean cross-entropy of the supervised tokens, in nats; an eval_loss of training",
     true},
    {"nll", "mean negative log-probability of a token, in nats", true},
    {"perplexity", "e^nll, e^loss; of lambada e to the mean of its last words", true},
    {"bits_per_byte", "the same in bits for each byte of the text", true},
    {"tokens", "that were scored", false},
    {"samples", "that the data has", false},
    {"acc",
     "share of questions whose right choice is the likeliest; of lambada that greedy "
     "decoding gives",
     false},
    {"acc_norm", "the same by log-probability for each character of a choice", false},
    {"acc_bytes", "the same for each byte of its UTF-8", false},
    {"accuracy", "share of answers that match", false},
    {"exact_match", "the same, by the name that gsm8k has for it", false},
    {"n", "records", false},
};

const tool_metric *tool_metric_at(int i)
{
    return i >= 0 && i < (int)FT_COUNT_OF(metrics) ? &metrics[i] : NULL;
}

/* Of which less is better; those of one source of several are named behind them. */
static bool is_lower(const char *metric)
{
    const size_t n = strcspn(metric, ".");
    for (size_t i = 0; i < FT_COUNT_OF(metrics); i++)
        if (strlen(metrics[i].name) == n && memcmp(metrics[i].name, metric, n) == 0)
            return metrics[i].lower;
    return false;
}

/* --- reading ------------------------------------------------------------------------------------------------ */

static const char *metric_of(const eval_task *task, const char *name)
{
    for (int i = 0; task->kind && task->metrics[i]; i++)
        if (strcmp(task->metrics[i], name) == 0) return task->metrics[i];
    return NULL;
}

/* TASK.METRIC, where both may have dots: the longest name of a task that leaves a metric of it, else the longest name. */
static eval_task *find_task(const eval_config *e, const char *key, const char **metric)
{
    eval_task *best = NULL;
    size_t longest = 0;
    *metric = NULL;
    for (int i = 0; i < e->n_task; i++) {
        eval_task *task = &e->task[i];
        size_t n = task->name ? strlen(task->name) : 0;
        if (!task->name || strncmp(key, task->name, n) != 0 || key[n] != '.') continue;
        const char *found = metric_of(task, key + n + 1);
        if (best && (found ? *metric && n < longest : *metric || n < longest)) continue;
        best = task;
        longest = n;
        *metric = found;
    }
    return best;
}

static void no_metric(eval_config *e, const cJSON *node, const eval_task *task)
{
    str_buf known = {0};
    const char *name = node->string + strlen(task->name) + 1;
    for (int i = 0; task->metrics[i]; i++)
        str_printf(&known, "%s%s", i ? ", " : "", ft_shows(task->metrics[i]));
    const char *near = cfg_nearest(name, task->metrics);
    cfg_fail(&e->doc, node, "gates", "\"%s\": a %s task has no such result%s%s%s; it has %s",
             ft_shows(node->string), task->kind->name, near ? "; did you mean \"" : "",
             near ? ft_shows(near) : "", near ? "\"?" : "", known.data ? known.data : "");
    str_free(&known);
}

static void read_bound(eval_config *e, const cJSON *node, const eval_gate *of)
{
    for (size_t i = 0; i < FT_COUNT_OF(bounds); i++) {
        if (strcmp(node->string, bounds[i].name) != 0) continue;
        if (!cJSON_IsNumber(node)) {
            cfg_fail(&e->doc, node, node->string, "must be a number");
            return;
        }
        eval_gate *g = &e->gate[e->n_gate++];
        *g = *of;
        g->bound = &bounds[i];
        g->limit = node->valuedouble;
        return;
    }
    str_buf known = {0};
    for (size_t i = 0; i < FT_COUNT_OF(bounds); i++)
        str_printf(&known, "%s%s", i ? ", " : "", bounds[i].name);
    cfg_fail(&e->doc, node, ft_shows(node->string), "unknown key; a gate has %s",
             known.data ? known.data : "");
    str_free(&known);
}

static void read_gate(eval_config *e, const cJSON *node)
{
    eval_gate g = {.key = node->string};
    const cJSON *bound;
    if (!cJSON_IsObject(node)) {
        cfg_fail(&e->doc, node, "gates", "\"%s\": a gate is an object of bounds, as {\"min\": 0.5}",
                 ft_shows(node->string));
        return;
    }
    g.task = find_task(e, node->string, &g.metric);
    if (!g.task) {
        cfg_fail(&e->doc, node, "gates", "\"%s\": no such task; a gate is named TASK.METRIC",
                 ft_shows(node->string));
        return;
    }
    if (!g.task->kind) return;
    if (!g.metric) no_metric(e, node, g.task);
    if (!node->child) cfg_fail(&e->doc, node, "gates", "a gate needs a bound: min, max, …");
    cJSON_ArrayForEach(bound, node) read_bound(e, bound, &g);
}

ft_status eval_gates_read(eval_config *e)
{
    const cJSON *node;
    int n = 0;
    if (!e->gates || cJSON_IsNull(e->gates)) return FT_OK;
    if (!cJSON_IsObject(e->gates)) {
        cfg_fail(&e->doc, e->gates, "gates", "must be an object");
        return FT_OK;
    }
    cJSON_ArrayForEach(node, e->gates) n += cJSON_GetArraySize(node);
    e->gate = arena_get(e->mem, (size_t)(n + 1) * sizeof *e->gate);
    if (!e->gate) return FT_EMEM;
    cJSON_ArrayForEach(node, e->gates) read_gate(e, node);
    return FT_OK;
}

/* --- judging ------------------------------------------------------------------------------------------------ */

void eval_gates_judge(eval_config *e)
{
    for (int i = 0; i < e->n_gate; i++) {
        eval_gate *g = &e->gate[i];
        g->value = eval_value(&g->task->result, g->metric);
        g->base = eval_value(&g->task->base, g->metric);
        /* what is no number passes no bound */
        g->pass = isfinite(g->value) && (!g->bound->relative || isfinite(g->base)) &&
                  g->bound->holds(g->value, g->base, g->limit, is_lower(g->metric));
    }
}

void eval_gate_missed(str_buf *out, const eval_gate *g)
{
    g->bound->missed(out, g->value, g->base, g->limit, is_lower(g->metric));
}
