/* verb_bench.c – `ft bench [CONFIG]`: what this machine can do, and how much of it a training step uses. */
#include "cli.h"

#include "ft/kernel.h"
#include "ft/train.h"

typedef struct bench_flags {
    int64_t steps;
    double seconds;
} bench_flags;
static const cfg_field flags[] = {{"steps", CFG_INT, offsetof(bench_flags, steps), .def = "5",
                                   .low = 1, .high = 1e6, .help = "measured optimizer steps"},
                                  {"seconds", CFG_FLOAT, offsetof(bench_flags, seconds), .def = "1",
                                   .low = 0.01, .high = 600, .help = "spent on each ceiling"},
                                  CFG_END};

static cJSON *ceiling_json(double gflops, double bandwidth)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *o = cJSON_AddObjectToObject(root, "ceiling");
    cJSON_AddNumberToObject(o, "f32_gflops", gflops);
    cJSON_AddNullToObject(o, "bf16_gflops"); /* no bf16 products in this build */
    cJSON_AddNumberToObject(root, "memory_bandwidth_bytes_per_s", bandwidth);
    cJSON_AddStringToObject(root, "core", kn_core_name());
    cJSON_AddNumberToObject(root, "threads", pool_threads());
    return root;
}

static void add_steps(cJSON *root, const train_bench_result *r, double ceiling)
{
    cJSON_AddNumberToObject(root, "tokens_per_s", r->tokens_per_s);
    cJSON_AddNumberToObject(root, "tokens_per_step", r->tokens_per_step);
    cJSON *step = cJSON_AddObjectToObject(root, "step");
    cJSON_AddNumberToObject(step, "data", r->data);
    cJSON_AddNumberToObject(step, "forward", r->forward);
    cJSON_AddNumberToObject(step, "backward", r->backward);
    cJSON_AddNumberToObject(step, "optimizer", r->optimizer);
    cJSON_AddNumberToObject(root, "flop_per_token", r->flop_per_token);
    cJSON_AddNumberToObject(root, "gflops", r->gflops);
    cJSON_AddNumberToObject(root, "share_of_ceiling", ceiling > 0 ? r->gflops / ceiling : 0);
    cJSON_AddNumberToObject(root, "trainable_parameters", (double)r->trainable);
    cJSON_AddNumberToObject(root, "planned_bytes", (double)r->planned_bytes);
    cJSON_AddNumberToObject(root, "peak_rss_bytes", (double)r->peak_rss_bytes);
}

static ft_status print_steps(const train_bench_result *r, double ceiling)
{
    FT_TRY(cli_printf("step      %.3f s: data %.3f, forward %.3f, backward %.3f, optimizer %.3f\n",
                      r->data + r->forward + r->backward + r->optimizer, r->data, r->forward,
                      r->backward, r->optimizer));
    FT_TRY(cli_printf(
        "speed     %.0f tokens/s, %.1f GFLOP/s, %.0f %% of the ceiling (%.3g GFLOP a token)\n",
        r->tokens_per_s, r->gflops, ceiling > 0 ? 100 * r->gflops / ceiling : 0,
        r->flop_per_token * 1e-9));
    return cli_printf("memory    %.0f MiB at most, %.0f MiB planned\n",
                      (double)r->peak_rss_bytes / (1 << 20), (double)r->planned_bytes / (1 << 20));
}

static ft_status run(const cli_call *c)
{
    const bench_flags *f = c->opt;
    train_bench_result r = {0};
    train_options opt = {
        .config = c->n_arg > 0 ? c->arg[0] : NULL, .sets = c->sets, .n_sets = c->n_sets};
    FT_TRY(cli_precision_set(c, &opt.sets, &opt.n_sets));
    /* Steps first: the buffers of the ceilings would count in their peak memory. */
    if (opt.config) FT_TRY(train_bench(&opt, (int)f->steps, &r));
    double gflops = kn_bench_gemm_gflops(f->seconds), bandwidth = kn_bench_bandwidth(f->seconds);
    if (c->json) {
        cJSON *root = ceiling_json(gflops, bandwidth);
        if (opt.config) add_steps(root, &r, gflops);
        ft_status rc = root ? cli_out_json(root) : FT_EMEM;
        cJSON_Delete(root);
        return rc;
    }
    FT_TRY(cli_printf("core      %s, %d threads\n", kn_core_name(), pool_threads()));
    FT_TRY(cli_printf("ceiling   f32 products %.0f GFLOP/s, memory %.1f GB/s\n", gflops,
                      bandwidth * 1e-9));
    return opt.config ? print_steps(&r, gflops) : FT_OK;
}

const cli_verb verb_bench = {
    .name = "bench",
    .help = "the machine's ceiling, and what a config makes of it",
    .usage = "[CONFIG] [--steps N]",
    .flags = flags,
    .opt_size = sizeof(bench_flags),
    .max_args = 1,
    .needs = CLI_MODEL | CLI_CONFIG,
    .run = run,
};
