/* verb_merge_adapter.c – folds an adapter, or several as one, into its base, with proof. */
#include "cli.h"

#include "ft/tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *out, *base, *type, *weights, *combination, *majority;
    double tolerance, density;
    int64_t svd_rank, seed;
    bool follow_links, adapter_only, keep_zeros;
} options;

static const char *const majorities[] = {"total", "frequency", NULL};

static const char *combination_at(int i)
{
    const char *const *names = pe_combine_types();
    while (i-- > 0 && *names) names++;
    return *names;
}

#define AT(field) offsetof(options, field)
static const cfg_field flags[] = {
    {"out", CFG_PATH, AT(out), .required = true, .help = "folder, or a file ending in .gguf"},
    {"base", CFG_PATH, AT(base),
     .help = "base model; default: base_model_name_or_path of the adapter"},
    {"type", CFG_STR, AT(type), .value = tool_type_at,
     .help = "f32, f16, bf16; in a folder also nf4 and fp4, in a .gguf also q8_0 and other blocks; "
             "default: the base's, from blocks bf16 (f16 in a .gguf)"},
    {"tolerance", CFG_FLOAT, AT(tolerance), .low = 0, .high = 1e9,
     .help = "mean KL in nats between adapter-on and merged; default 0.01 for f32, f16 and bf16, "
             "none for blocks"},
    {"weights", CFG_STR, AT(weights),
     .help = "of several adapters: a number each, commas between them; default: 1 each"},
    {"combination_type", CFG_STR, AT(combination), .value = combination_at,
     .help = "of several adapters: how they become one; cat (the default) is their exact sum"},
    {"density", CFG_FLOAT, AT(density), .low = 0, .high = 1, .low_open = true,
     .help = "of the types that prune: the share of values that is kept"},
    {"majority_sign_method", CFG_ENUM, AT(majority), .choices = majorities,
     .help = "of ties: the sign of the sum of the values (total, the default), or of the sum of "
             "their signs"},
    {"svd_rank", CFG_INT, AT(svd_rank), .low = 1, .high = 65536,
     .help = "of the types in svd: rank of the result; default: the largest of the adapters'"},
    {"seed", CFG_INT, AT(seed), .low = 0, .high = 9007199254740991.0,
     .help = "of what dare drops; default 42"},
    {"adapter_only", CFG_BOOL, AT(adapter_only), .def = "false",
     .help = "the result is the adapter that they make together; no base is needed"},
    {"keep_zeros", CFG_BOOL, AT(keep_zeros), .def = "false",
     .help = "weights of a pruned base that are 0 stay so, whatever the adapter says"},
    CLI_FOLLOW_LINKS(AT(follow_links)),
    CFG_END};

/* "1,0.5,-2": as many as there are adapters. */
static ft_status read_weights(const cli_call *c, const char *text, double *weight)
{
    int n = 0;
    for (const char *at = text; at; n++) {
        const size_t len = strcspn(at, ",");
        const char *word = arena_strn(c->mem, at, len);
        char *end;
        if (!word) return FT_EMEM;
        const double v = strtod(word, &end);
        FT_CHECK(len > 0 && !*end && isfinite(v), FT_EUSAGE, "--weights: \"%s\" must be a number",
                 ft_shows(word));
        if (n < c->n_arg) weight[n] = v;
        at = at[len] ? at + len + 1 : NULL;
    }
    FT_CHECK(n == c->n_arg, FT_EUSAGE, "--weights: %d for %d adapters", n, c->n_arg);
    return FT_OK;
}

static ft_status check_combination(const char *type)
{
    const char *const *names = pe_combine_types();
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], type) == 0) return FT_OK;
    const char *near = cfg_nearest(type, names);
    FT_CHECK(!near, FT_EUSAGE, "--combination-type: \"%s\" is unknown; did you mean \"%s\"?",
             ft_shows(type), near);
    return ft_fail(FT_EUSAGE,
                   "--combination-type: \"%s\" is unknown; ft help merge-adapter lists "
                   "the types",
                   ft_shows(type));
}

/* What was given and the type does not read: it would make no difference. */
static ft_status check_read(const cli_call *c, const char *type)
{
    const options *o = c->opt;
    const struct {
        unsigned read;
        const char *flag;
        bool given;
    } all[] = {{PE_COMBINE_DENSITY, "--density", !isnan(o->density)},
               {PE_COMBINE_MAJORITY, "--majority-sign-method", o->majority != NULL},
               {PE_COMBINE_SVD_RANK, "--svd-rank", o->svd_rank != CFG_AUTO},
               {PE_COMBINE_SEED, "--seed", o->seed != CFG_AUTO}};
    const unsigned read = c->n_arg > 1 ? pe_combine_reads(type) : 0;
    for (size_t i = 0; i < FT_COUNT_OF(all); i++) {
        if (!all[i].given || read & all[i].read) continue;
        FT_CHECK(c->n_arg > 1, FT_EUSAGE, "%s: is of several adapters, and this is one",
                 all[i].flag);
        return ft_fail(FT_EUSAGE, "%s: --combination-type %s does not read it", all[i].flag, type);
    }
    return FT_OK;
}

/* An adapter alone is no model, and nothing is proved. */
static ft_status check_alone(const cli_call *c)
{
    const options *o = c->opt;
    FT_CHECK(!o->type, FT_EUSAGE, "--type: is of a model; --adapter-only writes f32");
    FT_CHECK(!o->keep_zeros, FT_EUSAGE,
             "--keep-zeros: is of a model; give it when the adapter that --adapter-only writes is "
             "merged");
    FT_CHECK(isnan(o->tolerance), FT_EUSAGE,
             "--tolerance: is of a proof; --adapter-only makes no model to prove");
    FT_CHECK(!c->precision, FT_EUSAGE,
             "--precision: is of a proof; --adapter-only makes no model to prove");
    return FT_OK;
}

/* *out NULL: one adapter, as it is. */
static ft_status combination(const cli_call *c, const pe_combine **out)
{
    const options *o = c->opt;
    pe_combine *how = arena_get(c->mem, sizeof *how);
    double *weight = arena_get(c->mem, (size_t)c->n_arg * sizeof *weight);
    *out = NULL;
    if (!how || !weight) return FT_EMEM;
    for (int i = 0; i < c->n_arg; i++) weight[i] = 1;
    *how = (pe_combine){.dir = c->arg,
                        .weight = weight,
                        .n = c->n_arg,
                        .type = o->combination ? o->combination : "cat",
                        .density = isnan(o->density) ? 0 : o->density,
                        .frequency = o->majority && strcmp(o->majority, "frequency") == 0,
                        .svd_rank = o->svd_rank == CFG_AUTO ? 0 : o->svd_rank,
                        .seed = o->seed == CFG_AUTO ? 42 : (uint64_t)o->seed,
                        .base_name = o->base};
    FT_TRY(check_combination(how->type));
    FT_TRY(check_read(c, how->type));
    if (o->weights) FT_TRY(read_weights(c, o->weights, weight));
    FT_TRY(tool_combine_check(how));
    if (c->n_arg > 1 || o->weights || o->combination || o->adapter_only) *out = how;
    return FT_OK;
}

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    tool_merge_options opt = {
        .adapter = c->arg[0],
        .out = o->out,
        .base = o->base,
        .type = o->type,
        .tolerance = isnan(o->tolerance) ? -1 : o->tolerance,
        .adapter_only = o->adapter_only,
        .keep_zeros = o->keep_zeros,
        .follow_links = o->follow_links,
        .force = c->force,
        .precision = c->precision,
        .json = c->json,
    };
    if (o->adapter_only) FT_TRY(check_alone(c));
    FT_TRY(combination(c, &opt.combine));
    FT_TRY(tool_merge_adapter(&opt, &(tool_sink){.put = cli_put}));
    return cli_next_measure(c, o->out, o->adapter_only);
}

const cli_verb verb_merge_adapter = {
    .name = "merge-adapter",
    .help = "fold an adapter, or several, into its base and prove it",
    .usage = "ADAPTER… --out PATH [--base MODEL] [--type T] [--tolerance X] [--weights W,…]",
    .more =
        "The result is read back and compared with base and adapter on fixed texts; above the\n"
        "tolerance nothing is left behind and the exit code is 81. Into blocks or codes the sum\n"
        "is rounded again: perplexity and logits are then told with the adapter on, merged as\n"
        "numbers, and as written (\"damage\" of --json).\n\n"
        "Several LoRA folders first become one, as PEFT's add_weighted_adapter makes it (its\n"
        "names of the types): cat stacks their factors, which is exact; linear adds them, ties,\n"
        "dare_linear, dare_ties and magnitude_prune prune them before (all of one rank); the\n"
        "types in svd do so with the products and keep their largest singular values.\n",
    .example = "ft merge-adapter out --out merged",
    .does = "folded in, and proved",
    .flags = flags,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 64,
    .needs = CLI_MODEL,
    .run = run,
};
