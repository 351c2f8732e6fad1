/* Lines for `ft score`; byte 0 picks its options. */
#include "use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fz_start();
    if (size < 1) return 0;
    tool_score_options o = {.data = fz_put("s.jsonl", data + 1, size - 1),
                            .per_token = data[0] & 1,
                            .keep_going = data[0] & 2,
                            .top = data[0] & 4 ? 3 : 0};
    fz_status(tool_score_lines(fz_opened(), &o, &fz_out));
    return 0;
}
