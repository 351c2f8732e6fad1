/* eval_loss.c – the mean loss of the tokens that training over the same data would learn, with its masks: what a run logs as
 * eval_loss, of any model.
 *
 * Losses are added in the order of samples and tokens, so the figure does not depend on how they are batched. */
#include <math.h>
#include <string.h>

#include "eval_private.h"

#define AT(field) offsetof(eval_task, field)
static const char *const on_loss[] = {"error", "warn", "drop", NULL};
static const cfg_field fields[] = {
    EVAL_FIELDS,
    {.key = "data",
     .type = CFG_JSON,
     .offset = AT(sources),
     .required = true,
     .choices = eval_shapes,
     .help = "a source or a list of sources, as data.train of a training config"},
    {.key = "max_length",
     .type = CFG_INT,
     .offset = AT(max_length),
     .def = "1024",
     .low = 2,
     .high = 1 << 24,
     .help = "longest sample in tokens; longer ones are cut at the end"},
    {.key = "completion_only_loss",
     .type = CFG_BOOL,
     .offset = AT(completion_only_loss),
     .def = "true",
     .help = "of completions, not of their prompts"},
    {.key = "assistant_only_loss",
     .type = CFG_BOOL,
     .offset = AT(assistant_only_loss),
     .def = "true",
     .help = "of the turns of the assistant, not of the rest of a conversation"},
    EVAL_TEMPLATE,
    {.key = "on_loss",
     .type = CFG_ENUM,
     .offset = AT(on_loss),
     .def = "\"error\"",
     .choices = on_loss,
     .help = "text of a turn that counts, or tools, that the chat template does not print: an "
             "error, a warning, or the record is left out"},
    CFG_END};

static const char *const of_source[] = {"loss", "tokens", NULL};

/* With several sources each has a loss of its own. */
static ft_status check(eval_task *task)
{
    const char *const *name;
    int n, k = 0;
    FT_TRY(data_names(task->doc, task->sources, "tasks.data", task->mem, &name, &n));
    if (n < 2) return FT_OK;
    while (task->kind->metrics[k]) k++;
    const char **all = arena_get(task->mem, (size_t)(k + 2 * n + 1) * sizeof *all);
    if (!all) return FT_EMEM;
    memcpy(all, task->kind->metrics, (size_t)k * sizeof *all);
    for (int i = 0; i < n; i++) {
        if (!name[i]) continue; /* a mistake, recorded */
        for (const char *const *m = of_source; *m; m++)
            if (!(all[k++] = arena_printf(task->mem, "%s.%s", *m, name[i]))) return FT_EMEM;
    }
    task->metrics = all;
    return FT_OK;
}

typedef struct sum {
    double loss;
    int64_t tokens;
} sum;

typedef struct pass { /* samples that are scored together */
    tool_model *t;
    eval_task *task;
    data_set *set;
    arena *mem;
    data_sample *sample; /* [INF_PASS_TOKENS], n of them */
    sum *of;             /* of each */
    int n;
    sum source;
} pass;

static ft_status not_finite(const pass *p, const data_batch *b, const data_sample *x)
{
    str_buf where = {0};
    ft_status rc = inf_find_nonfinite(&p->t->inf, &b->in, &where);
    if (rc == FT_OK)
        rc = ft_fail(FT_EDIVERGED, "%s:%lld: the loss is not a finite number: %s",
                     ft_shows(data_stats(p->set, x->source)->path), (long long)x->line, where.data);
    str_free(&where);
    return rc;
}

/* The losses of a pass, in the order of its rows, to the samples whose tokens they are of. */
static ft_status take_losses(pass *p, const data_batch *b, const nn_run *r, const float *logprob)
{
    int64_t row = 0, at = 0;
    bool first = p->t->inf.over && p->t->inf.over->virtual_predict;
    for (int q = 0; q < b->in.n_seq; q++) {
        sum *of = &p->of[b->seq_slot[q]];
        int64_t n = first && b->in.first[q] >= 0;
        for (int32_t i = 0; i < b->in.len[q]; i++) n += b->in.label[row++] >= 0;
        of->tokens += n;
        p->source.tokens += n;
        for (; n > 0; n--, at++) {
            of->loss -= (double)logprob[at];
            p->source.loss -= (double)logprob[at];
        }
        if (!isfinite(of->loss)) return not_finite(p, b, &p->sample[b->seq_slot[q]]);
    }
    return at == r->supervised ? FT_OK
                               : ft_fail(FT_EINTERNAL, "%lld of %lld losses belong to a sample",
                                         (long long)at, (long long)r->supervised);
}

static ft_status score(pass *p)
{
    data_batch b;
    nn_run r;
    ag_tape *tape = p->t->inf.tape;
    int32_t *slot = arena_get(p->mem, (size_t)p->n * sizeof *slot);
    if (!slot) return FT_EMEM;
    for (int i = 0; i < p->n; i++) slot[i] = i;
    const data_micro all = {.slot = slot, .row = slot, .n = p->n};
    FT_TRY(data_batch_make(p->sample, &all, 0, &b, p->mem));
    const inf_shape shape = {.rows = b.in.tokens, .seqs = b.in.n_seq, .scored = b.in.tokens};
    FT_TRY(inf_plan_for(&p->t->inf, &shape));
    ag_reset(tape);
    FT_TRY(nn_run_open(&r, tape, &b.in, p->t->inf.over, 0));
    float *logprob = ag_meta(tape, (size_t)(r.supervised + 1) * sizeof *logprob);
    if (!logprob) return tape->status;
    tn_tensor *hidden = model_hidden(p->t->m, &r);
    FT_TRY(tape->status);
    model_loss(p->t->m, &r, hidden, 0.0f, logprob, NULL);
    FT_TRY(tape->status);
    return take_losses(p, &b, &r, logprob);
}

static ft_status put_samples(const pass *p)
{
    str_buf s = {0};
    ft_status rc = FT_OK;
    for (int i = 0; rc == FT_OK && p->task->samples && i < p->n; i++) {
        const data_sample *x = &p->sample[i];
        const char *name = data_stats(p->set, x->source)->name;
        eval_sample_open(&s, p->task, x->line, NULL);
        if (x->extra) { /* {"id": …} */
            str_addc(&s, ',');
            str_add(&s, x->extra + 1, strlen(x->extra) - 2);
        }
        tool_json_key(&s, "source");
        str_json(&s, name, strlen(name));
        tool_json_key(&s, "loss");
        tool_json_number(&s, p->of[i].loss / (double)p->of[i].tokens);
        tool_json_key(&s, "tokens");
        str_printf(&s, "%lld", (long long)p->of[i].tokens);
        rc = eval_sample_put(p->task, &s);
    }
    str_free(&s);
    return rc;
}

/* The next samples of a source, from *at to `end`. */
static ft_status run_pass(pass *p, int64_t *at, int64_t end)
{
    size_t mark = arena_mark(p->mem);
    int64_t rows = 0, ahead = nn_virtual(p->t->inf.over);
    FT_TRY(ft_stop());
    p->sample = arena_get(p->mem, INF_PASS_TOKENS * sizeof *p->sample);
    p->of = arena_get(p->mem, INF_PASS_TOKENS * sizeof *p->of);
    if (!p->sample || !p->of) return FT_EMEM;
    for (p->n = 0; *at < end && p->n < INF_PASS_TOKENS; ++*at) {
        data_sample *x = &p->sample[p->n];
        FT_TRY(data_get(p->set, *at, x, p->mem));
        rows += x->len + x->n_seq * ahead;
        if (p->n > 0 && rows > INF_PASS_TOKENS) break;
        p->n++;
    }
    FT_TRY(score(p));
    FT_TRY(put_samples(p));
    arena_reset(p->mem, mark);
    return FT_OK;
}

static ft_status run_sources(pass *p)
{
    eval_task *task = p->task;
    int n = data_sources(p->set);
    sum *of = arena_get(task->mem, (size_t)n * sizeof *of);
    sum all = {0};
    if (!of) return FT_EMEM;
    for (int i = 0; i < n; i++) {
        const data_source_stats *st = data_stats(p->set, i);
        p->source = (sum){0};
        for (int64_t at = st->first, end = st->first + st->samples; at < end;) {
            FT_TRY(run_pass(p, &at, end));
            log_progress("%s: %lld of %lld samples", task->name, (long long)at,
                         (long long)data_count(p->set));
        }
        of[i] = p->source;
        all.loss += of[i].loss;
        all.tokens += of[i].tokens;
    }
    double mean = all.loss / (double)all.tokens;
    FT_TRY(eval_add(task, "loss", mean));
    FT_TRY(eval_add(task, "perplexity", exp(mean)));
    FT_TRY(eval_count(task, "tokens", all.tokens));
    FT_TRY(eval_count(task, "samples", data_count(p->set)));
    const char *const *name = task->metrics;
    while (*name && !str_starts(*name, "loss.")) name++;
    for (int i = 0; *name && i < n; i++, name += 2) {
        FT_TRY(eval_add(task, name[0], of[i].loss / (double)of[i].tokens));
        FT_TRY(eval_count(task, name[1], of[i].tokens));
    }
    return FT_OK;
}

static ft_status check_set(const pass *p)
{
    const model_dims *d = &p->t->m->d;
    int64_t longest = data_longest_sequence(p->set, 1) + nn_virtual(p->t->inf.over);
    for (int i = 0; i < data_sources(p->set); i++) {
        const data_source_stats *st = data_stats(p->set, i);
        FT_CHECK(st->gives == DATA_TOKENS, FT_ECONFIG,
                 "task %s: %s: format %s has no tokens to learn, so no loss", p->task->name,
                 ft_shows(st->path), st->format);
    }
    FT_CHECK(data_max_id(p->set) < d->vocab_size, FT_EDATA,
             "task %s: token id %d does not exist in the model, whose vocabulary has %lld",
             p->task->name, (int)data_max_id(p->set), (long long)d->vocab_size);
    FT_CHECK(!p->t->m->position || longest <= d->max_position, FT_ECONFIG,
             "task %s: max_length: a sequence has up to %lld tokens, the model has %lld positions",
             p->task->name, (long long)longest, (long long)d->max_position);
    return FT_OK;
}

static ft_status run(tool_model *t, eval_task *task)
{
    pass p = {.t = t, .task = task};
    const nn_overlay *over = t->inf.over;
    const chat *template = NULL;
    const data_cfg cfg = {.max_length = task->max_length,
                          .window_tokens = CFG_AUTO,
                          .completion_only_loss = task->completion_only_loss,
                          .assistant_only_loss = task->assistant_only_loss,
                          .on_loss = task->on_loss,
                          .vocab_size = t->m->d.vocab_size,
                          .count_first = over && over->virtual_predict,
                          .count = true,
                          .limit = task->limit,
                          .key = "tasks.data",
                          .ids = task->samples != NULL};
    FT_TRY(tool_chat(t, &template));
    FT_TRY(arena_open(&p.mem, "samples of a pass", (size_t)1 << 32));
    ft_status rc = data_open(&p.set, task->doc, task->sources, &cfg, t->tok, template, false);
    if (rc == FT_OK) rc = check_set(&p);
    if (rc == FT_OK) rc = run_sources(&p);
    data_close(p.set);
    arena_close(p.mem);
    return rc;
}

static const char *const metrics[] = {"loss", "perplexity", "tokens", "samples", NULL};
const eval_kind eval_loss = {
    .name = "loss",
    .help = "of the tokens that training would learn, with its masks",
    .example = "{\"prompt\": \"Question: what is 2 + 2?\\nAnswer:\", \"completion\": \" 4\"}",
    .fields = fields,
    .metrics = metrics,
    .of_source = of_source,
    .ids = true,
    .check = check,
    .run = run,
};
