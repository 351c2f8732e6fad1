/* model.safetensors.index.json beside two good shards: tensors come from those two alone. */
#include "fuzz.h"

static void make_shards(void)
{
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}";
    char b[200] = {0};
    uint64_t n = sizeof header - 1;
    memcpy(b, &n, 8);
    memcpy(b + 8, header, n);
    memcpy(b + 8 + n, "wxyz", 4);
    fz_put("x-1.safetensors", b, 12 + n);
    b[10] = 'b';
    fz_put("x-2.safetensors", b, 12 + n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    io_weights w = {0};
    if (fz_start()) make_shards();
    fz_put("model.safetensors.index.json", data, size);
    ft_status rc = io_weights_open(&w, fz_dir, fz_arena());
    fz_status(rc);
    if (rc != FT_OK) return 0;
    for (int64_t i = 0; i < w.n; i++) {
        FZ_CHECK(w.tensor[i].bytes == 4 && memcmp(w.tensor[i].data, "wxyz", 4) == 0);
    }
    char hex[65];
    fz_must(io_weights_sha256(&w, hex));
    io_weights_close(&w);
    return 0;
}
