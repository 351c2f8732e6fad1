/* Records of answers that are compared, judged or sampled, as the objectives ask for them. Byte 0: what is asked for, and the bit
 * of 32: without a chat template; byte 1: the format, a .jsonl or a .json (a list). The rest is the file. */
#include "data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned wants[] = {DATA_PAIRS, DATA_TRIPLES, DATA_LABELLED, DATA_PROMPTS,
                                     DATA_ROLLOUTS};
    static const char *const formats[] = {"auto", "preference", "unpaired", "prompt", "rollouts"};
    static const char *const names[] = {"d.jsonl", "d.json"};
    char source[1000];
    if (fz_start()) fz_data_start();
    if (size < 2) return 0;
    fz_untold = data[0] & 32;
    fz_wants = wants[data[0] % 32 % FT_COUNT_OF(wants)];
    const char *path = fz_put(names[data[1] & 1], data + 2, size - 2);
    snprintf(source, sizeof source, "{\"path\":\"%s\",\"format\":\"%s\"}", path,
             formats[data[1] / 2 % FT_COUNT_OF(formats)]);
    const char *how[] = {"max_length=64"};
    fz_data(source, how, FT_COUNT_OF(how));
    unlink(path);
    return 0;
}
