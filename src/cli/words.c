/* words.c – what other programs call our verbs and options. For messages only. */
#include "cli.h"

#include <string.h>

typedef struct word {
    const char *theirs, *ours;
} word;

static const word verb_words[] = {
    {"export", "merge-adapter"}, {"fuse", "merge-adapter"}, {"finetune", "train"},
    {"fine-tune", "train"},      {"sft", "train"},          {"fit", "train"},
    {"pretrain", "train"},       {"lora", "train"},         {"chat", "generate"},
    {"infer", "generate"},       {"inference", "generate"}, {"run", "generate"},
    {"predict", "generate"},     {"complete", "generate"},  {"download", "fetch"},
    {"pull", "fetch"},           {"evaluate", "eval"},      {"test", "eval"},
    {"perplexity", "eval"},      {"validate", "check"},     {"quantise", "quantize"},
    {"gptq", "quantize"},        {"show", "inspect"},       {"info", "inspect"},
    {"encode", "tokenize"},      {"dataset", "data"},       {"new", "init"},
    {"template", "init"},
};

/* Options, by the words on the line; ours without dashes, of whichever verb has it. */
static const word option_words[] = {
    {"output", "out"},
    {"output-dir", "out"},
    {"output-file", "out"},
    {"outfile", "out"},
    {"save-dir", "out"},
    {"save-path", "out"},
    {"model-name-or-path", "model"},
    {"model-name", "model"},
    {"model-path", "model"},
    {"base-model", "base"},
    {"base-model", "model"},
    {"base", "model"},
    {"model", "base"},
    {"dataset", "data"},
    {"dataset-path", "data"},
    {"train-file", "data"},
    {"train-data", "data"},
    {"adapter-path", "adapter"},
    {"adapter-name-or-path", "adapter"},
    {"lora", "adapter"},
    {"max-tokens", "max-new-tokens"},
    {"max-length", "max-new-tokens"},
    {"n-predict", "max-new-tokens"},
    {"temp", "temperature"},
    {"repeat-penalty", "repetition-penalty"},
    {"tasks", "task"},
    {"resume-from-checkpoint", "resume"},
    {"overwrite", "force"},
    {"overwrite-output-dir", "force"},
    {"outtype", "type"},
    {"quantization", "type"},
    {"nthreads", "threads"},
    {"n-threads", "threads"},
    {"num-threads", "threads"},
};

static const char *find(const word *words, size_t n, const char *theirs, const char *const *names)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(words[i].theirs, theirs) != 0) continue;
        for (int j = 0; names[j]; j++)
            if (strcmp(names[j], words[i].ours) == 0) return names[j];
    }
    return NULL;
}

const char *cli_verb_meant(const char *theirs, const char *const *names)
{
    return find(verb_words, FT_COUNT_OF(verb_words), theirs, names);
}

const char *cli_option_meant(const char *theirs, const char *const *names)
{
    return find(option_words, FT_COUNT_OF(option_words), theirs, names);
}
