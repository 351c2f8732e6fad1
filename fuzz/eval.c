/* Data of a task of `ft eval`: byte 0 picks the task, byte 1 how answers are compared and how results are shown. */
#include "use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const tasks[] = {
        "perplexity", "loss", "multiple_choice", "generate", "hellaswag", "winogrande", "piqa",
        "arc",        "mmlu", "lambada",         "gsm8k"};
    static const char *const match[] = {"exact", "contains", "regex", "last_number"};
    fz_start();
    if (size < 2) return 0;
    const char *task = tasks[data[0] % FT_COUNT_OF(tasks)];
    bool text = strcmp(task, "perplexity") == 0 && data[1] & 2;
    tool_eval_options o = {.json = data[1] & 1, .model = fz_model(), .task = task};
    o.data = fz_put(text ? "t.txt" : data[1] & 8 ? "t.csv" : "t.jsonl", data + 2, size - 2);
    if (strcmp(task, "generate") == 0) {
        o.match = match[data[1] / 16 % 4];
        o.max_new_tokens = 2;
    }
    if (strcmp(task, "perplexity") == 0) {
        o.max_length = 16;
        o.stride = 8;
    }
    fz_status(tool_eval(&o, &fz_out));
    return 0;
}
