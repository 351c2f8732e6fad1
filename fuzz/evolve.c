/* A search for a recipe. Byte 0 even: the genome, as YAML, and the recipe that numbers make of it, which must be one that is
 * read; odd: evolve.jsonl of a search of two evaluations that goes on with it. */
#include "use.h"

#include "tool/evolve_private.h"

static void read_recipe(const str_buf *text, arena *mem)
{
    merge_recipe r;
    cfg_doc d;
    fz_must(cfg_open_yaml(&d, fz_put("made.json", text->data, text->len), NULL, 0, mem));
    fz_must(merge_read(&r, &d, NULL));
    if (cfg_done(&d) != FT_OK) {
        fprintf(stderr, "the recipe is refused: %s\n%s\n", ft_error(), text->data);
        abort();
    }
    cfg_close(&d);
}

/* As if of a model of four layers. */
static void read_genome(const uint8_t *data, size_t size)
{
    arena *mem = fz_arena();
    cfg_doc d;
    genome g;
    str_buf text = {0};
    ft_status rc = cfg_open_yaml(&d, fz_put("g.yml", data, size), NULL, 0, mem);
    fz_status(rc);
    if (rc != FT_OK) return;
    fz_must(evolve_genome_read(&g, &d, d.js.root, mem));
    rc = cfg_done(&d);
    fz_status(rc);
    g.n_layer = 4;
    g.groups = g.granularity > 0 ? g.n_layer / g.granularity : 1;
    if (rc == FT_OK && g.groups > 0 && (g.granularity == 0 || g.n_layer % g.granularity == 0) &&
        evolve_genome_size(&g) <= 512) {
        double x[512];
        evolve_genome_start(&g, size & 1, 1, x);
        rc = evolve_genome_recipe(&g, x, size & 2 ? "float16" : NULL, 3, &text);
        fz_status(rc);
        if (rc == FT_OK) read_recipe(&text, mem);
    }
    str_free(&text);
    cfg_close(&d);
}

/* Of a search that was begun once, so that the folder says whose scores they are. */
static void go_on(const uint8_t *data, size_t size)
{
    static bool begun;
    char recipe[2000];
    const int n = snprintf(recipe, sizeof recipe,
                           "{\"genome\":{\"models\":[\"%s\"],\"merge_method\":\"linear\"},"
                           "\"tasks\":[{\"name\":\"p\",\"type\":\"loss\",\"metric\":\"loss\","
                           "\"data\":\"%s\"}],\"max_fevals\":2}",
                           fz_model(), fz_path("d.jsonl"));
    static const char record[] = "{\"prompt\":\"One\",\"completion\":\" day\"}\n";
    fz_put("d.jsonl", record, sizeof record - 1);
    tool_recipe_options o = {
        .recipe = fz_put("r.json", recipe, (size_t)n), .out = fz_path("found"), .force = true};
    if (!begun) fz_must(tool_merge(&o, &fz_out));
    begun = true;
    fz_put("found/evolve.jsonl", data, size);
    o.resume = true;
    fz_status(tool_merge(&o, &fz_out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fz_start();
    if (size < 1) return 0;
    if (data[0] & 1)
        go_on(data + 1, size - 1);
    else
        read_genome(data + 1, size - 1);
    return 0;
}
