/* kd.c – distillation (Hinton et al. 2015) with the divergences of GKD (Agarwal et al. 2023): at every supervised token, S the
 * student's distribution and T the teacher's,
 *
 *   kd_alpha · D(T, S) − kd_ce_alpha · log S(label)
 *
 * D is KL(T‖S) at beta 0, KL(S‖T) at beta 1, else beta KL(T‖M) + (1 − beta) KL(S‖M) with M = (1 − beta) S + beta T; the logits of
 * both are divided by `temperature` in D, which is not multiplied by its square. The teacher may be of any shape that has
 * the student's vocabulary. */
#include "other.h"

typedef struct kd_cfg {
    const char *teacher, *teacher_adapter;
    double beta, temperature, kd_alpha, kd_ce_alpha;
} kd_cfg;

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

static ft_status open(obj_ctx *c, bool weights)
{
    const kd_cfg *cfg = c->cfg;
    obj_other *teacher = c->priv = arena_get(c->mem, sizeof *teacher);
    if (!teacher) return FT_EMEM;
    FT_TRY(obj_other_open(c, "the teacher", cfg->teacher, cfg->teacher_adapter, weights, teacher));
    c->bytes += teacher->bytes;
    return FT_OK;
}

static void close(obj_ctx *c)
{
    if (c->priv) obj_other_close(c->priv);
}

static void add(obj_metric *m, double value)
{
    m->sum += value;
    m->weight++;
}

static tn_tensor *loss(obj_ctx *c, nn_run *r, const data_batch *b, double units, obj_stats *stats)
{
    const kd_cfg *cfg = c->cfg;
    const size_t n = (size_t)r->supervised + 1;
    float *logprob = ag_meta(r->t, n * sizeof *logprob), *apart = ag_meta(r->t, n * sizeof *apart);
    ag_score s = {.label = r->label,
                  .logprob = logprob,
                  .other = {.beta = (float)cfg->beta,
                            .temperature = (float)cfg->temperature,
                            .own = (float)cfg->kd_ce_alpha,
                            .weight = (float)cfg->kd_alpha,
                            .divergence = apart}};
    if (!logprob || !apart || !obj_other_see(c->priv, r, b, &s.other)) return NULL;
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
    .cfg_size = sizeof(kd_cfg),
    .wants = DATA_TOKENS,
    .unit = OBJ_TOKENS,
    .calm = true,
    .metrics = metrics,
    .check = check,
    .open = open,
    .close = close,
    .loss = loss,
};
