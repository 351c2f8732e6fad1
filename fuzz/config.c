/* A training config (byte 0 even: .json, odd: .jsonc), NUL, then --set strings with a NUL between them. Parsing, checks, the
 * resolved config, which must be a valid config that resolves to itself, and the identity of a run. "a" is an adapter's folder. */
#include "fuzz.h"

#include "train/train_private.h"

enum { SETS = 6 };

static void resolve(const train_config *c, arena *mem)
{
    str_buf text = {0}, id = {0}, diff = {0};
    train_config again = {0};
    cJSON *r;
    fz_must(train_config_resolved(&r, c, fz_path("out")));
    js_print(&text, r, true);
    fz_status(train_config_identity(r, &id));
    FZ_CHECK(train_config_differences(c, r, r, &diff) == 0 && !diff.len);
    train_options o = {.config = fz_put("resolved.json", text.data, text.len)};
    if (train_config_open(&again, &o, mem) != FT_OK) {
        fprintf(stderr, "the resolved config is refused: %s\n%s\n", ft_error(), text.data);
        abort();
    }
    train_config_close(&again);
    cJSON_Delete(r);
    str_free(&text);
    str_free(&id);
    str_free(&diff);
}

/* "a", for method.init_from. */
static void put_adapter(void)
{
    static const char config[] = "{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"target_"
                                 "modules\":[\"q_proj\",\"v_proj\"]}";
    mkdir(fz_path("a"), 0700);
    fz_put("a/adapter_config.json", config, sizeof config - 1);
    fz_put("a/adapter_model.safetensors", "", 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *set[SETS] = {NULL};
    const uint8_t *part;
    size_t n;
    if (fz_start()) put_adapter();
    if (size < 1) return 0;
    fz_input in = {data + 1, size - 1, false};
    arena *mem = fz_arena();
    fz_part(&in, &part, &n);
    train_config c = {0};
    train_options o = {.config = fz_put(data[0] & 1 ? "c.jsonc" : "c.json", part, n)};
    for (; o.n_sets < SETS && fz_part(&in, &part, &n); o.n_sets++)
        set[o.n_sets] = fz_string(part, n);
    o.sets = (const char *const *)set;
    ft_status rc = train_config_open(&c, &o, mem);
    fz_status(rc);
    if (rc == FT_OK) resolve(&c, mem);
    train_config_close(&c);
    for (int i = 0; i < SETS; i++) free(set[i]);
    return 0;
}
