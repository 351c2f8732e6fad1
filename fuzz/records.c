/* Records in every format. Byte 0: the format; byte 1: a .jsonl, a .json (a list) or a .txt; byte 2: how it is packed, whether
 * windows are made of it, what is lost; of byte 0 the bit of 32: without a chat template. The rest is the file. */
#include "data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"auto",   "text",     "completion", "messages",
                                          "alpaca", "sharegpt", "tokens"};
    static const char *const names[] = {"d.jsonl", "d.json", "d.txt"};
    static const char *const packing[] = {"packing=false", "packing=true", "packing=\"concat\""};
    static const char *const lost[] = {"on_loss=\"error\"", "on_loss=\"warn\"", "on_loss=\"drop\""};
    char source[1000];
    if (fz_start()) fz_data_start();
    if (size < 3) return 0;
    fz_untold = data[0] & 32;
    const char *path = fz_put(names[data[1] % 3], data + 3, size - 3);
    snprintf(source, sizeof source, "{\"path\":\"%s\",\"format\":\"%s\"%s}", path,
             formats[data[0] % FT_COUNT_OF(formats)],
             data[0] & 64 ? ",\"document_separator\":\"\\n\\n\"" : "");
    const char *how[] = {"max_length=64", packing[data[2] % 3], lost[data[2] / 3 % 3],
                         data[2] & 64 ? "window_tokens=256" : "window_tokens=\"auto\"",
                         data[2] & 128 ? "completion_only_loss=false" : "assistant_only_loss=true"};
    fz_data(source, how, FT_COUNT_OF(how));
    unlink(path);
    return 0;
}
