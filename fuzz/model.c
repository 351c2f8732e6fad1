/* A model's folder. Byte 0 picks: config.json beside sound weights; config.json alone, as model.from_config; or config.json,
 * NUL, model.safetensors (without the NUL there are no weights). */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model *m = NULL;
    const uint8_t *part;
    size_t n;
    if (fz_start()) {
        mkdir(fz_path("m"), 0700);
        (void)fz_model();
    }
    if (size < 1) return 0;
    fz_input in = {data + 1, size - 1, false};
    fz_part(&in, &part, &n);
    const char *path = fz_put("m/config.json", part, n);
    bool alone = data[0] % 3 == 1;
    if (data[0] % 3 == 2 && in.ended)
        unlink(fz_path("m/model.safetensors"));
    else if (data[0] % 3 == 2)
        fz_put("m/model.safetensors", in.p, in.left);
    else if (!alone)
        fz_copy(fz_path("model/model.safetensors"), "m/model.safetensors");
    model_options o = {.seed = 1, .no_weights = alone, .trained = data[0] & 128};
    if (alone)
        o.from_config = path;
    else
        o.path = fz_path("m");
    ft_status rc = model_open(&m, &o);
    fz_status(rc);
    if (rc == FT_OK) {
        (void)model_count(m);
        (void)model_bytes(m);
    }
    model_close(m);
    return 0;
}
