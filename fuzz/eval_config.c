/* A config of `ft eval`, on data that lies beside it as mc.jsonl, g.jsonl and t.txt. It names the files that samples go to, so an
 * input that could name one elsewhere is passed over. */
#include "use.h"

static void make_data(void)
{
    static const char choices[] = "{\"query\":\"a\",\"choices\":[\"b\",\"c\"],\"gold\":0}\n";
    static const char answers[] = "{\"prompt\":\"One\",\"answer\":\"a\"}\n";
    fz_put("mc.jsonl", choices, sizeof choices - 1);
    fz_put("g.jsonl", answers, sizeof answers - 1);
    fz_put("t.txt", "One warm day.\n", 14);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fz_start();
    char *text = fz_string(data, size), model[700];
    bool leads_out = memchr(data, '/', size) || strcasestr(text, "\\u");
    free(text);
    if (leads_out) return 0;
    make_data();
    snprintf(model, sizeof model, "model.path=%s", fz_model());
    const char *sets[] = {model};
    tool_eval_options o = {
        .config = fz_put("e.json", data, size), .sets = sets, .n_sets = 1, .json = size & 1};
    fz_status(tool_eval(&o, &fz_out));
    return 0;
}
