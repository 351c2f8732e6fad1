/* A .csv (byte 0 even) or a .tsv with a header; the other bits of byte 0 pick a format and its columns. */
#include "data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {
        "\"auto\"",
        "\"completion\"",
        "\"messages\"",
        "\"completion\",\"columns\":{\"prompt\":\"a.b\",\"completion\":\"c\"}",
        "\"text\",\"columns\":{\"text\":\"a\"}",
        "\"tokens\"",
        "\"alpaca\""};
    char source[1000];
    if (fz_start()) fz_data_start();
    if (size < 1) return 0;
    const char *path = fz_put(data[0] & 1 ? "d.tsv" : "d.csv", data + 1, size - 1);
    snprintf(source, sizeof source, "{\"path\":\"%s\",\"format\":%s%s}", path,
             formats[data[0] / 2 % 7], data[0] & 64 ? ",\"split\":\"[1:-1]\"" : "");
    const char *how[] = {"max_length=64", data[0] & 128 ? "eval_split=0.5" : "shuffle=false"};
    fz_data(source, how, FT_COUNT_OF(how));
    unlink(path);
    return 0;
}
