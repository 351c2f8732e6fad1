/* verb_fetch.c – `ft fetch`: a model or a data set from a Hugging Face endpoint. */
#include "cli.h"

#include "ft/tool.h"

typedef struct options {
    const char *out;
    bool dataset;
    cfg_list include;
    int64_t parallel;
} options;

#define AT(field) offsetof(options, field)
static const cfg_field flags[] = {
    {"out", CFG_PATH, AT(out), .required = true,
     .help = "folder for the files; what is there and whole is not fetched again"},
    {"dataset", CFG_BOOL, AT(dataset), .def = "false",
     .help = "a data set: its .jsonl, .json, .csv, .tsv and .txt files, packed ones too"},
    {"include", CFG_LIST, AT(include),
     .help = "files by a pattern over their paths, in place of the usual ones (* crosses /)"},
    {"parallel", CFG_INT, AT(parallel), .def = "4", .low = 1, .high = 64, .help = "files at once"},
    CFG_END};

static const cli_env env[] = {
    {"HF_ENDPOINT", "of fetch: another hub than https://huggingface.co"},
    {"HF_TOKEN", "of fetch: who asks; it is sent to that hub alone"},
    {"https_proxy, http_proxy, no_proxy", "of fetch: as for curl"},
    {"CURL_CA_BUNDLE, SSL_CERT_FILE", "of fetch: authorities in another file than the system's"},
    {NULL, NULL}};

static ft_status run(const cli_call *c)
{
    const options *o = c->opt;
    str_buf next = {0};
    const tool_fetch_options opt = {.name = c->arg[0],
                                    .out = o->out,
                                    .dataset = o->dataset,
                                    .include = o->include.v,
                                    .n_include = o->include.n,
                                    .parallel = o->parallel,
                                    .force = c->force,
                                    .json = c->json,
                                    .next = &next};
    ft_status rc = tool_fetch(&opt, &(tool_sink){.put = cli_put_now});
    if (rc == FT_OK) rc = cli_next(c, next.data);
    str_free(&next);
    return rc;
}

const cli_verb verb_fetch = {
    .name = "fetch",
    .help = "a model or a data set from a Hugging Face hub",
    .usage = "[--dataset] ORG/NAME[@REVISION] --out DIR [--include GLOB]... [--parallel N]",
    .more = "Takes what ft reads: config, tokenizer, safetensors or the one .gguf, README and "
            "license. A file\nappears under its name once it is whole and its hash is right; what "
            "was cut short goes on where it\nended when the same command runs again. HF_ENDPOINT "
            "names another hub than huggingface.co, HF_TOKEN\nis sent to that hub alone; "
            "https_proxy, no_proxy and CURL_CA_BUNDLE hold as for curl. Needs libcurl\n(package "
            "libcurl4).\n",
    .flags = flags,
    .env = env,
    .example = "ft fetch HuggingFaceTB/SmolLM2-135M-Instruct --out model",
    .does = "or a model of yours",
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .needs = CLI_WORDS,
    .run = run,
};
