/* An adapter folder on a small model. Byte 0 picks: adapter_config.json, NUL, the tensors (by PEFT's name and by that of the
 * adapters library); the config beside sound tensors; or the tensors beside a sound config. What is accepted is finite. */
#include "fuzz.h"

#include "ft/method.h"
#include "ft/train.h"

static model *base;

/* A sound adapter of the base: one step of training. */
static void make_adapter(void)
{
    static const char *const sets[] = {"train.max_steps=1", "method.r=2", "data.max_length=32"};
    const char *text = fz_root("data/completion.jsonl");
    train_options o = {.given = {.model = fz_model(), .method = "lora", .data = &text, .n_data = 1},
                       .sets = sets,
                       .n_sets = 3,
                       .out = fz_path("sound")};
    str_buf result = {0};
    model_options m = {.path = fz_model()};
    fz_must(train_run(&o, &result));
    str_free(&result);
    fz_must(model_open(&base, &m));
    mkdir(fz_path("a"), 0700);
}

static void put_tensors(const fz_input *in)
{
    fz_put("a/adapter_model.safetensors", in->p, in->left);
    fz_put("a/adapter.safetensors", in->p, in->left);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pe_ctx *c = NULL;
    const uint8_t *part;
    size_t n;
    if (fz_start()) make_adapter();
    if (size < 1) return 0;
    fz_input in = {data + 1, size - 1, false};
    if (data[0] % 3 == 2) {
        fz_copy(fz_path("sound/adapter_config.json"), "a/adapter_config.json");
        put_tensors(&in);
    } else {
        fz_part(&in, &part, &n);
        fz_put("a/adapter_config.json", part, n);
        if (data[0] % 3 == 0)
            put_tensors(&in);
        else
            fz_copy(fz_path("sound/adapter_model.safetensors"), "a/adapter_model.safetensors");
    }
    int64_t rows;
    fz_status(pe_adapter_vocabulary(fz_path("a"), base, &rows));
    ft_status rc = pe_open_adapter(&c, base, fz_path("a"));
    fz_status(rc);
    if (rc == FT_OK) fz_touch(c->store.w, (size_t)c->store.count * sizeof(float));
    pe_close(c);
    return 0;
}
