/* Prompts for `ft generate`: byte 0 picks the options; the rest is lines of JSON, or (bit 7) a prompt as it is. Bit 6: a
 * conversation, a turn a line. */
#include "use.h"

static ft_status talk(const tool_generate_options *o, char *text)
{
    tool_talk *k = NULL;
    char *rest = NULL;
    ft_status rc = tool_talk_open(&k, fz_opened(), o);
    int turns = 0;
    for (char *line = strtok_r(text, "\n", &rest); rc == FT_OK && line && turns < 4; turns++) {
        rc = line[0] == '\t' && tool_talk_has_turns(k) ? tool_talk_system(k, line + 1)
                                                       : tool_talk_say(k, line, &fz_out);
        line = strtok_r(NULL, "\n", &rest);
    }
    if (k && turns > 1) tool_talk_reset(k);
    tool_talk_close(k);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const stop[] = {".", "on"};
    fz_start();
    if (size < 1) return 0;
    char *text = fz_string(data + 1, size - 1);
    tool_generate_options o = {.json = data[0] & 1,
                               .chat = data[0] & 2,
                               .samples = data[0] & 8 ? 2 : 0,
                               .stream = data[0] & 16,
                               .sampling = INF_SAMPLING_DEFAULT};
    o.sampling.max_new = 3;
    o.sampling.logprobs = o.samples > 0;
    if (data[0] & 4) {
        o.sampling.temperature = 0.7;
        o.sampling.top_k = 5;
        o.sampling.top_p = 0.5;
    }
    if (data[0] & 32) {
        o.stop = stop;
        o.n_stop = 2;
    }
    if (data[0] & 128)
        o.prompt = text;
    else
        o.data = fz_put("p.jsonl", data + 1, size - 1);
    ft_status rc = tool_generate_check(&o);
    if (rc == FT_OK) {
        bool turns = data[0] & 64 && !o.samples;
        o.prompt = turns ? NULL : o.prompt;
        rc = turns ? talk(&o, text) : tool_generate_lines(fz_opened(), &o, &fz_out);
    }
    fz_status(rc);
    free(text);
    return 0;
}
