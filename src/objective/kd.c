/* kd.c – distillation (Hinton et al. 2015) with the divergences of GKD (Agarwal et al. 2023): at every supervised token, S the
 * student's distribution and T the teacher's,
 *
 *   kd_alpha · D(T, S) − kd_ce_alpha · log S(label)
 *
 * D is KL(T‖S) at beta 0, KL(S‖T) at beta 1, else beta KL(T‖M) + (1 − beta) KL(S‖M) with M = (1 − beta) S + beta T; the logits of
 * both are divided by `temperature` in D, which is not multiplied by its square. The teacher may be of any shape that has
 * the student's vocabulary.
 *
 * In a share of steps, `lmbda`, the student writes the completions itself that it is then corrected on: a pure function of seed,
 * step, place in the step and token. Such a run records what every step trains on, and replays it from that file. */
#include "rollouts.h"

#include <string.h>

typedef struct kd_cfg {
    const char *teacher, *teacher_adapter, *rollouts;
    double beta, temperature, kd_alpha, kd_ce_alpha, lmbda;
    int64_t max_completion_length;
} kd_cfg;

typedef struct kd {
    obj_other teacher;
    size_t cache;      /* bytes of keys and values while the student writes; 0: it never does */
    const obj_step *s; /* the step at hand, for its lines */
} kd;

#define AT(member) offsetof(kd_cfg, member)
static const cfg_field fields[] = {
    {.key = "teacher",
     .type = CFG_PATH,
     .offset = AT(teacher),
     .required = true,
     .help = "model that is learned from, of the same vocabulary: a folder, a .gguf, or an adapter "
             "on the same base"},
    {.key = "teacher_adapter",
     .type = CFG_PATH,
     .offset = AT(teacher_adapter),
     .help = "adapter of the teacher"},
    {.key = "beta",
     .type = CFG_FLOAT,
     .offset = AT(beta),
     .def = "0.5",
     .low = 0,
     .high = 1,
     .help = "0: KL of teacher to student (forward); 1: of student to teacher (reverse); between: "
             "the generalised Jensen-Shannon divergence"},
    {.key = "temperature",
     .type = CFG_FLOAT,
     .offset = AT(temperature),
     .def = "1",
     .low = 0,
     .high = 1e3,
     .low_open = true,
     .help = "divides the logits of both in the divergence"},
    {.key = "kd_alpha",
     .type = CFG_FLOAT,
     .offset = AT(kd_alpha),
     .def = "1",
     .low = 0,
     .high = 1e6,
     .help = "weight of the divergence"},
    {.key = "kd_ce_alpha",
     .type = CFG_FLOAT,
     .offset = AT(kd_ce_alpha),
     .def = "0",
     .low = 0,
     .high = 1e6,
     .help = "weight of the cross-entropy of the labels"},
    {.key = "lmbda",
     .type = CFG_FLOAT,
     .offset = AT(lmbda),
     .def = "0",
     .low = 0,
     .high = 1,
     .help = "share of steps whose completions the student writes, at `temperature`"},
    {.key = "max_completion_length",
     .type = CFG_INT,
     .offset = AT(max_completion_length),
     .def = "512",
     .low = 1,
     .high = 1e6,
     .help = "their tokens at most; data.max_length bounds prompt and completion"},
    {.key = "rollouts",
     .type = CFG_PATH,
     .offset = AT(rollouts),
     .help = "rollouts.jsonl to replay in place of data.train and of writing"},
    CFG_END};

enum { KD_LOSS, CE_LOSS };
static const char *const metrics[] = {"kd_loss", "ce_loss", NULL};

static void check(cfg_doc *d, const cJSON *object, void *cfg)
{
    const kd_cfg *c = cfg;
    if (c->kd_alpha == 0 && c->kd_ce_alpha == 0)
        cfg_fail(d, js_get(object, "kd_alpha"), "objective.kd_alpha",
                 "and kd_ce_alpha are both 0: nothing is learned");
}

/* --- completions of the student's own ------------------------------------------------------------------------------ */
#define WRITE_KEY 0x6b64u /* identity of these steps' random numbers: "kd" */

/* Tokens of the first sequence before the first supervised one, at least its first. */
static int64_t prompt_of(const data_sample *d)
{
    int64_t n = 1;
    while (n < d->seq_len[0] && d->labels[n] == DATA_IGNORE) n++;
    return n < d->seq_len[0] ? n : d->seq_len[0];
}

/* Tokens that may follow so many. */
static int64_t room_after(const obj_ctx *c, int64_t prompt)
{
    const kd_cfg *cfg = c->cfg;
    const kd *k = c->priv;
    int64_t most = c->max_length;
    const int64_t mine = c->m->d.max_position - nn_virtual(c->tuned),
                  its = k->teacher.m->d.max_position - nn_virtual(k->teacher.over);
    if (c->m->position && mine < most) most = mine;
    if (k->teacher.m->position && its < most) most = its;
    return most - prompt < cfg->max_completion_length ? most - prompt : cfg->max_completion_length;
}

/* The prompt and what was written after it. */
static ft_status join(const obj_ctx *c, const data_sample *d, int64_t prompt, const inf_answer *a,
                      data_sample *out)
{
    const int64_t n = prompt + a->ids.n;
    int32_t *ids = arena_get(c->step_mem, (2 * (size_t)n + 1) * sizeof *ids);
    if (!ids) return FT_EMEM;
    int32_t *labels = ids + n, *len = labels + n;
    memcpy(ids, d->ids, (size_t)prompt * sizeof *ids);
    memcpy(ids + prompt, a->ids.id, (size_t)a->ids.n * sizeof *ids);
    for (int64_t i = 0; i < n; i++) labels[i] = i < prompt ? DATA_IGNORE : ids[i];
    *len = (int32_t)n;
    *out = *d;
    out->ids = ids;
    out->labels = labels;
    out->seq_len = len;
    out->len = out->whole = n;
    out->n_seq = 1;
    return FT_OK;
}

/* All of them together, in f32, as `ft generate` would. A prompt that leaves no room stays with the data's completion. */
static ft_status write_answers(obj_ctx *c, const obj_step *s, inf_answer *a)
{
    const kd_cfg *cfg = c->cfg;
    const kd *k = c->priv;
    const kn_precision before = c->tape->precision;
    const inf_ctx with = {.m = c->m, .over = c->tuned, .tape = c->tape, .cache_limit = k->cache};
    tok_ids *prompt = arena_get(c->step_mem, (size_t)s->n * sizeof *prompt);
    inf_sampling *how = arena_get(c->step_mem, (size_t)s->n * sizeof *how);
    if (!prompt || !how) return FT_EMEM;
    for (int i = 0; i < s->n; i++) {
        const int64_t n = prompt_of(&s->sample[i]), room = room_after(c, n);
        prompt[i] = (tok_ids){.id = (int32_t *)(uintptr_t)s->sample[i].ids, .n = n};
        how[i] = INF_SAMPLING_DEFAULT;
        how[i].temperature = cfg->temperature;
        how[i].max_new = room > 0 ? room : 1;
        how[i].seed = rng_key(c->seed, WRITE_KEY, (uint64_t)s->step);
        how[i].first = (uint64_t)i;
        how[i].stop = tok_stops(c->tok, &how[i].n_stop);
    }
    c->tape->precision = KN_F32;
    const ft_status rc = inf_generate_own(&with, prompt, how, s->n, 1, NULL, NULL, a);
    c->tape->precision = before;
    return rc;
}

static ft_status student_writes(obj_ctx *c, obj_step *s)
{
    data_sample *out = arena_get(c->step_mem, (size_t)s->n * sizeof *out);
    inf_answer *a = ft_alloc((size_t)s->n, sizeof *a);
    ft_status rc = out && a ? write_answers(c, s, a) : FT_EMEM;
    for (int i = 0; rc == FT_OK && i < s->n; i++) {
        const int64_t prompt = prompt_of(&s->sample[i]);
        out[i] = s->sample[i];
        if (room_after(c, prompt) > 0) rc = join(c, &s->sample[i], prompt, &a[i], &out[i]);
    }
    if (a) inf_answers_free(a, s->n);
    ft_free(a);
    if (rc == FT_OK) s->sample = out;
    return rc;
}

/* --- what is replayed, and recorded --------------------------------------------------------------------------------- */
/* Targets that are not simply the completion stand beside the ids. */
static ft_status replayed(const obj_ctx *c, data_sample *d)
{
    js_doc r = {0};
    const char *text = d->extra ? d->extra : "{}";
    ft_status rc =
        js_parse(&r, text, strlen(text), d->path, (int)d->line, JS_BIG_NUMBERS, FT_EDATA);
    const cJSON *list = rc == FT_OK ? js_get(r.root, "labels") : NULL, *v;
    int32_t *labels = arena_get(c->step_mem, (size_t)d->len * sizeof *labels);
    int64_t n = 0;
    if (rc == FT_OK && !labels) rc = FT_EMEM;
    if (rc == FT_OK && list) {
        cJSON_ArrayForEach(v, list)
        {
            const bool good = cJSON_IsNumber(v) && v->valuedouble < (double)c->m->d.vocab_size;
            if (good && n < d->len) labels[n] = v->valuedouble < 0 ? DATA_IGNORE : v->valueint;
            n += good ? 1 : d->len + 1;
        }
        d->labels = labels;
        if (n != d->len)
            rc = ft_fail(FT_EDATA,
                         "%s:%lld: labels: must be an id below the vocabulary, or -100, "
                         "for each of prompt_ids and completion_ids",
                         ft_shows(d->path), (long long)d->line);
    }
    js_close(&r);
    return rc;
}

static ft_status prepare(obj_ctx *c, obj_step *s)
{
    const kd_cfg *cfg = c->cfg;
    kd *k = c->priv;
    k->s = NULL;
    if (s->step < 0 || (cfg->lmbda == 0 && !cfg->rollouts)) return FT_OK;
    for (int i = 0; cfg->rollouts && i < s->n; i++) FT_TRY(replayed(c, &s->sample[i]));
    const uint64_t key = rng_key(c->seed, WRITE_KEY, UINT64_MAX);
    if (!cfg->rollouts && rng_uniform(key, (uint64_t)s->step) < cfg->lmbda)
        FT_TRY(student_writes(c, s));
    obj_step *kept = arena_get(c->step_mem, sizeof *kept);
    if (!kept) return FT_EMEM;
    *kept = *s;
    k->s = kept;
    return FT_OK;
}

static ft_status add_line(const obj_ctx *c, const obj_step *s, int i, str_buf *out)
{
    const data_sample *d = &s->sample[i];
    const int64_t prompt = prompt_of(d);
    bool plain = true;
    for (int64_t t = 0; t < d->len; t++)
        plain = plain && d->labels[t] == (t < prompt ? DATA_IGNORE : d->ids[t]);
    str_printf(out, "{\"batch\":%lld,\"group\":%d,\"sample\":0", (long long)s->step + 1, i);
    obj_roll_add_ids(out, "prompt_ids", d->ids, prompt);
    obj_roll_add_ids(out, "completion_ids", d->ids + prompt, d->len - prompt);
    if (!plain) obj_roll_add_ids(out, "labels", d->labels, d->len);
    FT_TRY(obj_roll_add_text(c->tok, d->ids + prompt, d->len - prompt, out));
    str_printf(out, ",\"finished\":%s,\"epoch_batches\":%lld}\n",
               obj_roll_ends(c->tok, d->ids[d->len - 1]) ? "true" : "false",
               (long long)c->epoch_batches);
    return str_ok(out);
}

static ft_status lines(obj_ctx *c, str_buf *out)
{
    const kd *k = c->priv;
    for (int i = 0; k->s && i < k->s->n; i++) FT_TRY(add_line(c, k->s, i, out));
    return FT_OK;
}

static int64_t replays(const void *cfg)
{
    return ((const kd_cfg *)cfg)->rollouts ? 1 : 0;
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */
/* What the student's writing takes; without weights, for the plan, its passes too. */
static ft_status measure_writing(obj_ctx *c, bool weights, inf_room *out)
{
    ag_tape *dry = NULL;
    if (!weights) FT_TRY(ag_open(&dry, 0));
    const inf_ctx with = {.m = c->m, .over = c->tuned, .tape = dry};
    const ft_status rc = inf_generate_room(&with, c->batch_size, 1,
                                           data_longest_sequence(c->train, 1), c->max_length, out);
    ag_close(dry);
    return rc;
}

/* Positions for what the student writes after the longest prompt. */
static ft_status check_written(const obj_ctx *c, bool tell)
{
    const kd_cfg *cfg = c->cfg;
    int64_t longest = 1;
    for (int64_t i = 0; i < data_count(c->train); i++) {
        const size_t mark = arena_mark(c->step_mem);
        data_sample d;
        FT_TRY(data_get(c->train, i, &d, c->step_mem));
        const int64_t prompt = prompt_of(&d);
        if (prompt > longest) longest = prompt;
        arena_reset(c->step_mem, mark);
    }
    return obj_roll_positions(c, longest, cfg->max_completion_length, tell);
}

/* Lines of rollouts.jsonl, were all completions as long as they may be. */
static size_t line_bytes(const obj_ctx *c)
{
    enum { REST = 160 };
    const kd_cfg *cfg = c->cfg;
    int64_t longest = data_longest_sequence(c->train, 1);
    if (cfg->lmbda > 0) longest += cfg->max_completion_length;
    if (longest > c->max_length) longest = c->max_length;
    return (size_t)c->batch_size *
           ((size_t)longest * (obj_roll_id_bytes(c->m->d.vocab_size) + OBJ_ROLL_TEXT) + REST);
}

static ft_status open(obj_ctx *c, bool weights)
{
    const kd_cfg *cfg = c->cfg;
    kd *k = c->priv = arena_get(c->mem, sizeof *k);
    if (!k) return FT_EMEM;
    FT_TRY(obj_other_open(c, "the teacher", cfg->teacher, cfg->teacher_adapter,
                          cfg->lmbda > 0 ? c->max_length : 0, weights, &k->teacher));
    c->bytes += k->teacher.bytes;
    c->unbroken = cfg->lmbda > 0 || cfg->rollouts;
    c->as_drawn = !c->unbroken;
    if (!c->unbroken) c->artifact = NULL;
    c->batch_line_bytes = c->artifact ? line_bytes(c) : 0;
    if (cfg->lmbda == 0 || cfg->rollouts) return FT_OK;
    FT_CHECK(c->tok, FT_ECONFIG,
             "objective.lmbda: the student writes completions, and the model has no tokenizer to "
             "say what ends them");
    FT_TRY(check_written(c, !weights));
    inf_room room;
    FT_TRY(measure_writing(c, weights, &room));
    k->cache = room.cache;
    c->bytes += room.cache + room.logits;
    c->passes = room.activations;
    c->made = (obj_made){1, cfg->max_completion_length};
    return FT_OK;
}

static void close(obj_ctx *c)
{
    kd *k = c->priv;
    if (k) obj_other_close(&k->teacher);
}

/* --- the loss ---------------------------------------------------------------------------------------------------------- */
static void add(obj_metric *m, double value)
{
    m->sum += value;
    m->weight++;
}

static tn_tensor *loss(obj_ctx *c, nn_run *r, const data_batch *b, double units, obj_stats *stats)
{
    const kd_cfg *cfg = c->cfg;
    const kd *k = c->priv;
    const size_t n = (size_t)r->supervised + 1;
    float *logprob = ag_meta(r->t, n * sizeof *logprob), *apart = ag_meta(r->t, n * sizeof *apart);
    ag_score s = {.label = r->label,
                  .logprob = logprob,
                  .other = {.beta = (float)cfg->beta,
                            .temperature = (float)cfg->temperature,
                            .own = (float)cfg->kd_ce_alpha,
                            .weight = (float)cfg->kd_alpha,
                            .divergence = apart}};
    if (!logprob || !apart || !obj_other_see(&k->teacher, r, b, &s.other)) return NULL;
    tn_tensor *h = model_hidden(c->m, r);
    s.head = model_head(c->m, r);
    tn_tensor *sum = ag_cross_entropy(r->t, h, &s, units > 0 ? (float)(1.0 / units) : 0.0f);
    if (r->t->status != FT_OK) return NULL;
    for (int64_t i = 0; i < r->supervised && !r->t->dry; i++) {
        const double far = (double)apart[i], ce = -(double)logprob[i];
        stats->loss += cfg->kd_alpha * far + cfg->kd_ce_alpha * ce;
        add(&stats->metric[KD_LOSS], far);
        add(&stats->metric[CE_LOSS], ce);
    }
    stats->units += (double)r->supervised;
    stats->tokens += r->supervised;
    return sum;
}

const obj_objective obj_kd = {
    .name = "kd",
    .help = "the distributions of a teacher at every supervised token (distillation, GKD)",
    .fields = fields,
    .example = "{\"type\": \"kd\", \"teacher\": \"teacher\"}",
    .cfg_size = sizeof(kd_cfg),
    .wants = DATA_TOKENS | DATA_ROLLOUTS,
    .unit = OBJ_TOKENS,
    .calm = true,
    .metrics = metrics,
    .telling = "kd_loss",
    .artifact = "rollouts.jsonl",
    .check = check,
    .open = open,
    .close = close,
    .replays = replays,
    .prepare = prepare,
    .loss = loss,
    .lines = lines,
};
