/* A config of ft quantize (byte 0 even) or ft prune, NUL, then --set strings with a NUL between them. Reading, checks, which
 * modules are chosen, and what a run that goes on is known by: the same keys again. */
#include "fuzz.h"

#include "tool/compressing.h"

enum { SETS = 3 };

static void look(const compress_config *c)
{
    static const char *const paths[] = {"model.layers.0.self_attn.q_proj",
                                        "model.layers.11.mlp.down_proj"};
    str_buf id = {0};
    js_doc d = {0};
    fz_must(compress_identity(c, &id));
    fz_must(js_parse(&d, id.data, id.len, "identity", 1, JS_STRICT, FT_EDATA));
    FZ_CHECK(cJSON_IsObject(js_get(d.root, c->opt->kind->section)));
    for (size_t i = 0; i < FT_COUNT_OF(paths); i++) {
        nn_site s = {.path = paths[i]};
        (void)compress_is_chosen((void *)(uintptr_t)c, &s);
    }
    ft_error_forget(); /* of a pattern that takes too long */
    js_close(&d);
    str_free(&id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *set[SETS] = {NULL};
    const uint8_t *part;
    size_t n;
    compress_config c;
    fz_start();
    if (size < 1) return 0;
    fz_input in = {data + 1, size - 1, false};
    arena *mem = fz_arena();
    fz_part(&in, &part, &n);
    tool_compress_options o = {.kind = data[0] & 1 ? &tool_prune : &tool_quantize,
                               .config = fz_put("c.json", part, n),
                               .out = fz_path("out")};
    for (; o.n_sets < SETS && fz_part(&in, &part, &n); o.n_sets++)
        set[o.n_sets] = fz_string(part, n);
    o.sets = (const char *const *)set;
    ft_status rc = compress_config_open(&c, &o, mem);
    fz_status(rc);
    if (rc == FT_OK) look(&c);
    cfg_close(&c.doc);
    for (int i = 0; i < SETS; i++) free(set[i]);
    return 0;
}
