/* Lines for `ft judge`: byte 0 picks how completions are judged, byte 1 what is made of the scores; the template of the question,
 * NUL, the lines. What is said of a line is a line of JSON. */
#include "use.h"

#include <math.h>

static str_buf told;

static ft_status keep(void *ctx, const char *text, size_t n)
{
    (void)ctx;
    str_add(&told, text, n);
    return str_ok(&told);
}

static void look(void)
{
    char *rest = NULL;
    for (char *line = told.len ? strtok_r(told.data, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest)) {
        js_doc d = {0};
        fz_must(js_parse(&d, line, strlen(line), "told", 1, JS_BIG_NUMBERS, FT_EDATA));
        FZ_CHECK(cJSON_IsObject(d.root) && (js_get(d.root, "scores") || js_get(d.root, "prompt")));
        js_close(&d);
    }
    str_clear(&told);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const labels[] = {NULL, "1,2", "1, 5,-2.5", "good,bad"};
    static const char *const match[] = {"exact", "contains", "regex", "last_number"};
    static const tool_sink sink = {keep, NULL};
    const uint8_t *template;
    size_t n;
    fz_start();
    if (size < 2) return 0;
    fz_input in = {data + 2, size - 2, false};
    const char *method = tool_judge_methods[1 + data[0] % 3]; /* reward: what score is for */
    bool matches = strcmp(method, "match") == 0;
    const char *to = tool_judge_forms[data[1] % 4];
    bool pairs = strcmp(to, "preference") == 0;
    fz_part(&in, &template, &n);
    tool_judge_options o = {.method = method,
                            .to = to,
                            .match = matches ? match[data[0] / 4 % 4] : NULL,
                            .template = matches ? NULL : fz_put("t.txt", template, n),
                            .labels = matches ? NULL : labels[data[0] / 4 % 4],
                            .chat = !matches && data[0] & 64,
                            .response_marker = data[0] & 128 ? "x" : NULL,
                            .pairs = pairs ? tool_judge_pairs[data[1] / 4 % 3] : NULL,
                            .min_margin = pairs && data[1] & 64 ? 0.25 : (double)NAN,
                            .threshold = (double)NAN,
                            .data = fz_put("j.jsonl", in.p, in.left)};
    fz_must(tool_judge_check(&o));
    ft_status rc = tool_judge(fz_opened(), &o, &sink);
    fz_status(rc);
    if (rc == FT_OK) look();
    str_clear(&told);
    return 0;
}
