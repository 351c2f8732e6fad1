/* verb_bench.c – `ft bench [CONFIG]`: what this machine can do, how much of it a training step uses, and where its time
 * goes. */
#include "cli.h"

#include "ft/kernel.h"
#include "ft/train.h"

#include <string.h>

typedef struct bench_flags {
    int64_t steps;
    double seconds;
} bench_flags;
static const cfg_field flags[] = {{"steps", CFG_INT, offsetof(bench_flags, steps), .def = "5",
                                   .low = 1, .high = 1e6, .help = "measured optimizer steps"},
                                  {"seconds", CFG_FLOAT, offsetof(bench_flags, seconds), .def = "1",
                                   .low = 0.01, .high = 600, .help = "spent on each ceiling"},
                                  CFG_END};

/* --- ceilings ------------------------------------------------------------------------------------------------ */
enum { MAX_ROWS = 3 * (TRAIN_BENCH_SHAPES + 1) };
static const char *const precisions[] = {"f32", "bf16"}; /* a column each */
enum { PRECISIONS = FT_COUNT_OF(precisions) };           /* by kn_precision */
static const char *const forms[KN_FORMS] = {"y = x W'", "dx = dy W", "dW = dy' x"};
static const char *const form_keys[KN_FORMS] = {"y", "dx", "dw"};

typedef struct product {
    kn_shape shape;
    kn_form form;
    double rate[PRECISIONS]; /* GFLOP/s; 0: no memory */
} product;

typedef struct ceilings {
    product row[MAX_ROWS];
    int n;
    double best[PRECISIONS], memory, memory_alone;
} ceilings;

static ft_status measure(ceilings *c, const train_bench_result *r, double seconds)
{
    /* Without a config: the square, and the shapes of a small model's feed-forward. */
    static const kn_shape shapes[] = {{1024, 1024, 1024}, {1024, 1536, 576}, {1024, 576, 1536}};
    const int n = r->shapes > 0 ? 1 + r->shapes : (int)FT_COUNT_OF(shapes);
    for (int i = 0; i < n; i++) {
        const kn_shape s = r->shapes == 0 || i == 0 ? shapes[i] : r->shape[i - 1];
        for (kn_form f = 0; f < (r->trains_weights ? KN_FORM_DW : KN_FORM_DX) + 1; f++)
            c->row[c->n++] = (product){.shape = s, .form = f};
    }
    for (int p = 0; p < PRECISIONS; p++) {
        for (int i = 0; i < c->n; i++) {
            product *q = &c->row[i];
            FT_TRY(ft_stop());
            q->rate[p] = kn_bench_gemm((kn_precision)p, q->form, &q->shape, seconds / c->n);
            if (q->rate[p] > c->best[p]) c->best[p] = q->rate[p];
        }
    }
    c->memory_alone = kn_bench_bandwidth(seconds / 2, true);
    FT_TRY(ft_stop());
    c->memory = kn_bench_bandwidth(seconds / 2, false);
    return FT_OK;
}

/* null: not measured. */
static void add_rate(cJSON *o, const char *key, double rate)
{
    if (rate > 0)
        cJSON_AddNumberToObject(o, key, rate);
    else
        cJSON_AddNullToObject(o, key);
}
static const char *const gflops[PRECISIONS] = {"f32_gflops", "bf16_gflops"};

static void add_ceilings(cJSON *root, const ceilings *c)
{
    cJSON *o = cJSON_AddObjectToObject(root, "ceiling");
    for (int p = 0; p < PRECISIONS; p++) add_rate(o, gflops[p], c->best[p]);
    add_rate(root, "memory_bandwidth_bytes_per_s", c->memory);
    add_rate(root, "memory_bandwidth_1_thread_bytes_per_s", c->memory_alone);
    cJSON *list = cJSON_AddArrayToObject(root, "rates");
    for (int i = 0; i < c->n; i++) {
        const product *q = &c->row[i];
        cJSON *e = cJSON_CreateObject();
        cJSON_AddStringToObject(e, "form", form_keys[q->form]);
        cJSON_AddNumberToObject(e, "rows", (double)q->shape.rows);
        cJSON_AddNumberToObject(e, "out", (double)q->shape.out);
        cJSON_AddNumberToObject(e, "in", (double)q->shape.in);
        for (int p = 0; p < PRECISIONS; p++) add_rate(e, gflops[p], q->rate[p]);
        cJSON_AddItemToArray(list, e);
    }
}

static ft_status print_rate(double rate)
{
    return rate > 0 ? cli_printf(" %8.0f", rate) : cli_printf(" %8s", "-");
}

static ft_status print_ceilings(const ceilings *c)
{
    if (c->memory > 0)
        FT_TRY(cli_printf("memory    %.1f GB/s read by one thread, %.1f by all\n\n",
                          c->memory_alone * 1e-9, c->memory * 1e-9));
    else
        FT_TRY(cli_outs("memory    not measured: there is no room for what would be read\n\n"));
    FT_TRY(cli_printf("%-10s %24s", "GFLOP/s", "tokens x out x in"));
    for (int p = 0; p < PRECISIONS; p++) FT_TRY(cli_printf(" %8s", precisions[p]));
    FT_TRY(cli_outs("\n"));
    for (int i = 0; i < c->n; i++) {
        const product *q = &c->row[i];
        FT_TRY(cli_printf("%-10s %8lld x %5lld x %5lld", forms[q->form], (long long)q->shape.rows,
                          (long long)q->shape.out, (long long)q->shape.in));
        for (int p = 0; p < PRECISIONS; p++) FT_TRY(print_rate(q->rate[p]));
        FT_TRY(cli_outs("\n"));
    }
    FT_TRY(cli_printf("%-35s", "ceiling: the best of them"));
    for (int p = 0; p < PRECISIONS; p++) FT_TRY(print_rate(c->best[p]));
    return cli_outs("\n");
}

/* --- the step, by part ------------------------------------------------------------------------------------------ */
typedef struct part {
    const char *key, *name;
    double forward, backward, seconds; /* the last: what is neither, or both */
} part;
enum { OPTIMIZER = AG_PARTS, PARTS };

/* Every second of the step is in one of them: the rest is what the others leave of the clock. */
static void split(part out[PARTS], const train_bench_result *r)
{
    static const part empty[PARTS] = {[AG_REST] = {.key = "rest", .name = "rest"},
                                      [AG_PRODUCTS] = {.key = "products", .name = "products"},
                                      [AG_ATTENTION] = {.key = "attention", .name = "attention"},
                                      [AG_LOSS] = {.key = "loss", .name = "head and loss"},
                                      [OPTIMIZER] = {.key = "optimizer", .name = "optimizer"}};
    part *rest = &out[AG_REST];
    memcpy(out, empty, sizeof empty);
    for (int i = 0; i < r->clock.n; i++) {
        part *p = &out[r->clock.row[i].op->part];
        p->forward += r->clock.row[i].forward;
        p->backward += r->clock.row[i].backward;
    }
    out[OPTIMIZER].seconds = r->optimizer;
    rest->seconds = r->seconds;
    for (int i = 0; i < PARTS; i++) {
        if (i != AG_REST) out[i].seconds += out[i].forward + out[i].backward;
        if (i != AG_REST) rest->seconds -= out[i].seconds;
    }
}

/* Of the rest, what no op took: reading the batch, and what stands between the ops. */
static double outside_ops(const part parts[PARTS], const train_bench_result *r)
{
    const part *rest = &parts[AG_REST];
    return rest->seconds - rest->forward - rest->backward - r->data;
}

static void add_parts(cJSON *root, const train_bench_result *r)
{
    part parts[PARTS];
    split(parts, r);
    cJSON *step = cJSON_AddObjectToObject(root, "step");
    cJSON_AddNumberToObject(step, "seconds", r->seconds);
    for (int i = 0; i < PARTS; i++) cJSON_AddNumberToObject(step, parts[i].key, parts[i].seconds);
    cJSON_AddNumberToObject(step, "data", r->data);
    cJSON_AddNumberToObject(step, "forward", r->forward);
    cJSON_AddNumberToObject(step, "backward", r->backward);
    cJSON *ops = cJSON_AddArrayToObject(root, "ops");
    for (int i = 0; i < r->clock.n; i++) {
        cJSON *e = cJSON_CreateObject();
        cJSON_AddStringToObject(e, "op", r->clock.row[i].op->name);
        cJSON_AddStringToObject(e, "part", parts[r->clock.row[i].op->part].key);
        cJSON_AddNumberToObject(e, "forward", r->clock.row[i].forward);
        cJSON_AddNumberToObject(e, "backward", r->clock.row[i].backward);
        cJSON_AddItemToArray(ops, e);
    }
    cJSON_AddNumberToObject(root, "outside_ops", outside_ops(parts, r));
}

static void add_steps(cJSON *root, const train_bench_result *r, double ceiling)
{
    cJSON_AddNumberToObject(root, "tokens_per_s", r->tokens_per_s);
    cJSON_AddNumberToObject(root, "tokens_per_step", r->tokens_per_step);
    add_parts(root, r);
    cJSON_AddStringToObject(root, "precision", precisions[r->precision]);
    cJSON_AddNumberToObject(root, "flop_per_token", r->flop_per_token);
    cJSON_AddNumberToObject(root, "gflops", r->gflops);
    cJSON_AddNumberToObject(root, "share_of_ceiling", ceiling > 0 ? r->gflops / ceiling : 0);
    cJSON_AddNumberToObject(root, "trainable_parameters", (double)r->trainable);
    cJSON_AddNumberToObject(root, "planned_bytes", (double)r->planned_bytes);
    cJSON_AddNumberToObject(root, "peak_rss_bytes", (double)r->peak_rss_bytes);
}

static ft_status print_line(const char *indent, const char *name, double forward, double backward,
                            double seconds, double whole)
{
    FT_TRY(cli_printf("%s%-*s", indent, 17 - (int)strlen(indent), name));
    if (forward + backward > 0)
        FT_TRY(cli_printf(" %9.4f %9.4f", forward, backward));
    else
        FT_TRY(cli_printf(" %9s %9s", "", ""));
    return cli_printf(" %9.4f %6.1f %%\n", seconds, 100 * seconds / whole);
}

/* The ops of a part, where there are several. */
static ft_status print_ops(ag_part part_of, const train_bench_result *r)
{
    int n = 0;
    for (int i = 0; i < r->clock.n; i++) n += r->clock.row[i].op->part == part_of;
    for (int i = 0; i < r->clock.n && n > 1; i++) {
        const double f = r->clock.row[i].forward, b = r->clock.row[i].backward;
        if (r->clock.row[i].op->part != part_of) continue;
        FT_TRY(print_line("  ", r->clock.row[i].op->name, f, b, f + b, r->seconds));
    }
    return FT_OK;
}

static ft_status print_steps(const train_bench_result *r, double ceiling)
{
    static const int order[PARTS] = {AG_PRODUCTS, AG_ATTENTION, AG_LOSS, OPTIMIZER, AG_REST};
    part parts[PARTS];
    split(parts, r);
    FT_TRY(cli_printf("\n%-17s %9s %9s %9s %8s\n", "seconds a step", "forward", "backward", "sum",
                      "share"));
    for (int i = 0; i < PARTS; i++) {
        const part *p = &parts[order[i]];
        FT_TRY(print_line("", p->name, p->forward, p->backward, p->seconds, r->seconds));
        if (order[i] < AG_PARTS) FT_TRY(print_ops((ag_part)order[i], r));
    }
    FT_TRY(print_line("  ", "data", 0, 0, r->data, r->seconds));
    FT_TRY(print_line("  ", "between ops", 0, 0, outside_ops(parts, r), r->seconds));
    FT_TRY(print_line("", "step", r->forward, r->backward, r->seconds, r->seconds));
    FT_TRY(cli_printf("\nspeed     %.0f tokens/s, %.1f GFLOP/s, %.0f %% of the %s ceiling (%.3g "
                      "GFLOP a token)\n",
                      r->tokens_per_s, r->gflops, ceiling > 0 ? 100 * r->gflops / ceiling : 0,
                      precisions[r->precision], r->flop_per_token * 1e-9));
    return cli_printf("peak      %.0f MiB, %.0f MiB planned\n",
                      (double)r->peak_rss_bytes / (1 << 20), (double)r->planned_bytes / (1 << 20));
}

static ft_status report(const cli_call *c, const ceilings *top, const train_bench_result *r)
{
    if (!c->json) {
        FT_TRY(cli_facts_print());
        FT_TRY(print_ceilings(top));
        return r->steps > 0 ? print_steps(r, top->best[r->precision]) : FT_OK;
    }
    cJSON *root = cJSON_CreateObject();
    cli_facts_json(root);
    add_ceilings(root, top);
    if (r->steps > 0) add_steps(root, r, top->best[r->precision]);
    ft_status rc = root ? cli_out_json(root) : FT_EMEM;
    cJSON_Delete(root);
    return rc;
}

static ft_status run(const cli_call *c)
{
    const bench_flags *f = c->opt;
    train_bench_result r = {0};
    ceilings top = {0};
    train_options opt = {
        .config = c->n_arg > 0 ? c->arg[0] : NULL, .sets = c->sets, .n_sets = c->n_sets};
    FT_TRY(cli_precision_set(c, &opt.sets, &opt.n_sets));
    /* Steps first: the buffers of the ceilings would count in their peak memory. */
    if (opt.config) FT_TRY(train_bench(&opt, (int)f->steps, &r));
    FT_TRY(measure(&top, &r, f->seconds));
    return report(c, &top, &r);
}

const cli_verb verb_bench = {
    .name = "bench",
    .help = "the machine's ceilings, what a config makes of them, and where a step's time goes",
    .usage = "[CONFIG] [--steps N] [--seconds S]",
    .example = "ft bench run.json",
    .flags = flags,
    .opt_size = sizeof(bench_flags),
    .max_args = 1,
    .needs = CLI_MODEL | CLI_CONFIG,
    .run = run,
};
