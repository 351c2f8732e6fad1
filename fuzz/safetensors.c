/* A .safetensors file: every tensor lies in the file and has the bytes that its shape wants. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    st_file f = {0};
    fz_start();
    ft_status rc = st_open(&f, fz_put("a.safetensors", data, size), fz_arena());
    fz_status(rc);
    if (rc != FT_OK) return 0;
    for (int64_t i = 0; i < f.n; i++) {
        const io_tensor *t = &f.tensor[i];
        size_t bytes, count = 1;
        for (int k = 0; k < t->nd; k++) count *= (size_t)t->dim[k];
        FZ_CHECK(dt_bytes(t->type, (int64_t)count, &bytes) && bytes == t->bytes);
        fz_touch(t->data, t->bytes);
        fz_touch(t->name, strlen(t->name));
        FZ_CHECK(st_find(&f, t->name) == t);
    }
    for (int i = 0; i < 2 * f.n_meta; i++) fz_touch(f.meta[i], strlen(f.meta[i]));
    st_close(&f);
    return 0;
}
