/* seeds.c – first inputs of every target, made of what is in the tree: configs, data, golden files, and a few lines that stand
 * here. `seeds OUT` writes OUT/TARGET/sNNNN; the forms of inputs are those that the targets' first comments say. */
#include "fuzz.h"

#include <dirent.h>
#include <glob.h>
#include <zlib.h>

int main(int argc, char **argv);

static const char *out_dir;
static arena *mem;

static void put(const char *target, const void *data, size_t n)
{
    static struct {
        const char *target;
        int n;
    } count[40];
    int i = 0;
    while (count[i].target && strcmp(count[i].target, target) != 0) i++;
    count[i].target = target;
    fz_must(dir_make(arena_printf(mem, "%s/%s", out_dir, target)));
    const char *path = arena_printf(mem, "%s/%s/s%04d", out_dir, target, count[i].n++);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) abort();
}

static void put_buf(const char *target, const str_buf *s)
{
    put(target, s->data ? s->data : "", s->len);
}

/* Bytes in front, as a string of \x escapes in C: no NUL among them but those of n. */
static void put_with(const char *target, const char *head, size_t n_head, const void *data,
                     size_t n)
{
    str_buf s = {0};
    str_add(&s, head, n_head);
    str_add(&s, data, n);
    put_buf(target, &s);
    str_free(&s);
}
#define PUT(target, head, data, n) put_with(target, head, sizeof(head) - 1, data, n)
#define PUTS(target, text) put(target, text, sizeof(text) - 1)

static char *slurp(const char *path, size_t *n)
{
    char *text = NULL;
    fz_must(text_read(&text, n, path, (size_t)64 << 20));
    return text;
}

/* Files of the tree by a pattern, `each` for those of at most so many bytes. */
static void files(const char *pattern, size_t most,
                  void (*each)(const char *path, char *text, size_t n))
{
    glob_t g;
    if (glob(fz_root(pattern), 0, NULL, &g) != 0) {
        fprintf(stderr, "seeds: %s: nothing there\n", pattern);
        exit(1);
    }
    for (size_t i = 0; i < g.gl_pathc; i++) {
        size_t n;
        char *text = slurp(g.gl_pathv[i], &n);
        if (n <= most) each(g.gl_pathv[i], text, n);
        ft_free(text);
    }
    globfree(&g);
}

/* Lines of a file of JSON, parsed. */
static void records(const char *name, void (*each)(const js_doc *d))
{
    line_reader *r;
    const char *line;
    size_t n;
    fz_must(lines_open(&r, fz_root(name)));
    while (lines_next(r, &line, &n) == FT_OK) {
        js_doc d = {0};
        char *copy = fz_string(line, n);
        fz_must(js_parse(&d, copy, n, name, 1, JS_NUL | JS_BIG_NUMBERS, FT_EDATA));
        each(&d);
        js_close(&d);
        free(copy);
    }
    lines_close(r);
}

static const char *text_of(const cJSON *o, const char *key)
{
    const cJSON *v = js_get(o, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* --- JSON and configs ------------------------------------------------------------------------------------------------ */
static void json_file(const char *path, char *text, size_t n)
{
    (void)path;
    PUT("json", "\x01", text, n);
    PUT("json", "\x0e", text, n);
}

static void config_file(const char *path, char *text, size_t n)
{
    json_file(path, text, n);
    PUT("config", "\x00", text, n);
    PUT("config", "\x01// note\n", text, n);
    PUT("jsonc", "/* a\n */ ", text, n);
    PUT("eval_config", "", text, n);
}

static void configs(void)
{
    static const char full[] =
        "{\"model\":{\"path\":\"data/"
        "tiny\",\"quantization\":null},\"method\":{\"type\":\"lora\",\"r\":4,"
        "\"lora_alpha\":8,\"lora_dropout\":0.1,\"target_modules\":\"all-linear\",\"modules_to_"
        "save\":"
        "[\"lm_head\"],\"rank_pattern\":{\"q_proj\":2},\"alpha_pattern\":{\"^a.*$\":3},"
        "\"layers_to_transform\":[0,1],\"layers_pattern\":\"layers\",\"use_rslora\":true,"
        "\"init_lora_weights\":true,\"bias\":\"none\"},\"data\":{\"train\":[{\"path\":\"a.jsonl\","
        "\"weight\":1,\"name\":\"a\",\"limit\":5,\"split\":\"[:10%]\",\"columns\":{\"prompt\":"
        "\"q\"},"
        "\"roles\":{\"user\":[\"human\"]}},{\"path\":\"b.txt\",\"weight\":2.5,"
        "\"document_separator\":\"\\n\"}],\"eval\":\"c.csv\",\"packing\":\"concat\",\"shuffle\":"
        "false},"
        "\"objective\":{\"type\":\"sft\"},\"optim\":{\"type\":\"adamw\",\"learning_rate\":1e-4,"
        "\"lr_scheduler_type\":\"rewarm\",\"warmup_ratio\":0.1,\"min_lr\":1e-6},\"train\":{"
        "\"epochs\":1.5,"
        "\"batch_size\":4,\"micro_batch_size\":\"auto\",\"keep_best\":true,\"patience\":2,\"eval_"
        "every\":1,"
        "\"max_seconds\":10,\"sample_prompts\":[\"One\",{\"messages\":[]}]},\"output\":{\"dir\":"
        "\"o\"}}";
    static const char sets[] =
        "\0method.type=full\0data.train=[\"x\"]\0train[\"epochs\"]=2\0optim.type=lion";
    static const char eval[] =
        "{\"tasks\":[{\"name\":\"a\",\"type\":\"multiple_choice\",\"data\":\"mc.jsonl\",\"limit\":"
        "1},"
        "{\"name\":\"b\",\"type\":\"generate\",\"data\":\"g.jsonl\",\"match\":\"regex\","
        "\"max_new_tokens\":2},{\"name\":\"c\",\"type\":\"perplexity\",\"data\":\"t.txt\","
        "\"max_length\":8,\"stride\":4}],\"gates\":{\"a.acc\":{\"min\":0.1,\"max\":1},"
        "\"c.perplexity\":{\"max_increase\":2}},\"samples\":\"s.jsonl\"}";
    str_buf s = {0};
    files("configs/*.json", 20000, config_file);
    files("data/tiny/*config.json", 20000, json_file);
    str_addc(&s, '\0');
    str_add(&s, full, sizeof full - 1);
    str_add(&s, sets, sizeof sets - 1);
    put_buf("config", &s);
    str_free(&s);
    PUTS("eval_config", eval);
    PUTS("hub",
         "\x10{\"sha\":\"abc\",\"siblings\":[{\"rfilename\":\"config.json\",\"size\":3,\"blobId\":"
         "\"0123456789abcdef0123456789abcdef01234567\"},{\"rfilename\":\"m-1.safetensors\",\"lfs\":"
         "{\"size\":4}},{\"rfilename\":\"model.safetensors.index.json\"}]}\0{\"weight_map\":"
         "{\"a\":\"m-1.safetensors\"}}");
    PUTS("hub", "\x11[{\"path\":\"a/b.gguf\",\"size\":1,\"oid\":\"x\"},{\"path\":\"a\",\"type\":"
                "\"directory\"},{\"path\":\"a/b-00001-of-00002.gguf\"}]");
    PUTS("hub", "\x13[{\"path\":\"data/a.jsonl.gz\"},{\"path\":\"a\\u0001\"},{\"path\":\"../b\"}]");
    PUTS("json", "\x04{\"a\":1e308,\"b\":[-0.0,1.5e-7,9007199254740992]}");
    PUTS("json", "\x08\"\\ud83d\\ude00\\u0000\"");
    PUTS("json", "\x01[NaN,Infinity,-Infinity]");
    PUTS("json", "\x04[12345678901234567890123]");
    PUTS("json", "\x02{\"a\":\"x\",\"a\":1}");
    PUTS("recipe",
         "\2merge_method: ties\nbase_model: a\nmodels:\n- model: b+c\n  parameters: {weight: 1e-1,"
         " density: [0.5, 1]}\n- model: {model: {path: d}, lora: e}\n  parameters:\n"
         "    weight: [{filter: mlp, value: 2}, {value: 1}]\nparameters: {lambda: 0.5, normalize: "
         "no}\n"
         "dtype: bfloat16\ntokenizer:\n  source: union\n  pad_to_multiple_of: 8\n  tokens:\n"
         "    \"<x>\": {source: b, force: true}\n    y: {source: {kind: model_token, model: b, "
         "token_id: 3}}\n");
    PUTS("recipe",
         "\2merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [0, 2]}]\n"
         "- sources:\n  - model: a\n    layer_range: [1, 2]\n    parameters: {scale: 0.5}\n");
    PUTS("recipe",
         "\1{\"merge_method\": \"slerp\", \"base_model\": \"a\", \"models\": [{\"model\": \"a\"},"
         " {\"model\": \"b\"}], \"parameters\": {\"t\": [0, 1]}}\0seed=4\0out_dtype=float16");
    PUTS("jsonc", "{\"a\": [1, 2,], // x\r\n \"b\": \"//\", /* \xc3\xa4 */}\n");
}

/* --- tensors ------------------------------------------------------------------------------------------------------------ */
static void tensor_file(const char *path, char *text, size_t n)
{
    (void)path;
    put("safetensors", text, n);
}

static void model_config(const char *path, char *text, size_t n)
{
    size_t n_weights;
    PUT("model", "\x00", text, n);
    PUT("model", "\x81", text, n);
    const char *weights = arena_printf(mem, "%s/model.safetensors", path_dir(mem, path));
    path_kind kind;
    if (path_look(weights, &kind) != FT_OK || kind != PATH_FILE) return;
    char *w = slurp(weights, &n_weights);
    str_buf s = {0};
    str_addc(&s, 2);
    str_add(&s, text, n);
    str_addc(&s, '\0');
    str_add(&s, w, n_weights);
    if (s.len < 40000) put_buf("model", &s);
    str_free(&s);
    ft_free(w);
}

static void adapter_config(const char *path, char *text, size_t n)
{
    size_t n_weights;
    char *w =
        slurp(arena_printf(mem, "%s/adapter_model.safetensors", path_dir(mem, path)), &n_weights);
    str_buf s = {0};
    PUT("adapter", "\x01", text, n);
    PUT("adapter", "\x02", w, n_weights);
    str_addc(&s, 0);
    str_add(&s, text, n);
    str_addc(&s, '\0');
    str_add(&s, w, n_weights);
    if (s.len < 8000) put_buf("adapter", &s);
    str_free(&s);
    ft_free(w);
}

static void tensors(void)
{
    const char *dir = fz_model();
    size_t n;
    char *text;
    model *m = NULL;
    model_options o = {.path = dir};
    model_save_options save = {0};
    static const char *const types[] = {"f32", "q8_0", "q4_1"};
    files("tests/golden/bitfit/*.safetensors", 3000, tensor_file);
    files("tests/golden/peft/*/adapter/adapter_model.safetensors", 3000, tensor_file);
    files("tests/golden/families/*/config.json", 4000, model_config);
    files("tests/golden/bnb/*/config.json", 4000, model_config);
    files("tests/golden/packed/*/config.json", 4000, model_config);
    files("tests/golden/bitnet/*/config.json", 4000, model_config);
    files("tests/golden/peft/*/adapter/adapter_config.json", 4000, adapter_config);
    text = slurp(arena_printf(mem, "%s/model.safetensors", dir), &n);
    put("safetensors", text, n);
    ft_free(text);
    fz_must(model_open(&m, &o));
    for (size_t i = 0; i < FT_COUNT_OF(types); i++) {
        const char *path = fz_path("seed.gguf");
        save.type = dt_by_name(types[i]);
        if (!save.type || model_save(m, path, &save) != FT_OK) {
            ft_error_forget();
            continue;
        }
        char *g = NULL;
        fz_must(file_read(&g, &n, path, (size_t)1 << 24));
        put("gguf", g, n);
        if (i == 0) put("gguf_tok", g, n);
        ft_free(g);
    }
    model_close(m);
    PUTS("index", "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":\"x-1.safetensors\","
                  "\"b\":\"x-2.safetensors\"}}");
    PUTS("index", "{\"weight_map\":{\"a\":\"../x-1.safetensors\"}}");
}

/* Blocks of 256 want rows of 256: a model that is narrow everywhere else, without a tokenizer. */
static void wide_blocks(void)
{
    static const char config[] =
        "{\"model_type\":\"llama\",\"vocab_size\":16,\"hidden_size\":256,\"intermediate_size\":8,"
        "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"head_dim\":8,"
        "\"max_position_embeddings\":64,\"tie_word_embeddings\":true}";
    static const char *const types[] = {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "tq1_0", "tq2_0"};
    model *m = NULL;
    model_options o = {.from_config = fz_put("wide.json", config, sizeof config - 1), .seed = 1};
    fz_must(model_open(&m, &o));
    for (size_t i = 0; i < FT_COUNT_OF(types); i++) {
        model_save_options save = {.type = dt_by_name(types[i])};
        char *g = NULL;
        size_t n;
        fz_must(model_save(m, fz_path("wide.gguf"), &save));
        fz_must(file_read(&g, &n, fz_path("wide.gguf"), (size_t)1 << 24));
        put("gguf", g, n);
        ft_free(g);
    }
    model_close(m);
}

/* --- tokenizers --------------------------------------------------------------------------------------------------------- */
static void patterns(const cJSON *v)
{
    static const char text[] = "\0it's 12 Ab\n\n\xe4\xb8\xad x";
    const char *p = text_of(v, "Regex");
    str_buf s = {0};
    if (p) {
        str_adds(&s, p);
        str_add(&s, text, sizeof text - 1);
        put_buf("regex", &s);
    }
    str_free(&s);
    for (const cJSON *c = v->child; c; c = c->next) patterns(c);
}

static void tokenizer_file(const char *path, char *text, size_t n)
{
    static int seen;
    js_doc d = {0};
    str_buf s = {0};
    static const char *const texts[] = {"Hello  w\xc3\xb6rld\n<s>x</s>",
                                        "it's 12345\t\xe4\xb8\xad \xef\xac\x81",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaa"};
    (void)path;
    str_add(&s, text, n);
    str_addc(&s, '\0');
    str_adds(&s, texts[seen++ % 3]);
    put_buf("tokenizer", &s);
    str_free(&s);
    if (js_parse(&d, text, n, "t", 1, JS_NUL | JS_NO_POSITIONS, FT_EDATA) == FT_OK)
        patterns(d.root);
    ft_error_forget();
    js_close(&d);
}

static void folder_case(const js_doc *d)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json",
                                        "config.json", "generation_config.json",
                                        "chat_template.jinja"};
    const cJSON *all = js_get(d->root, "files");
    const char *base = text_of(d->root, "base");
    size_t nv, nm;
    for (size_t i = 0; i < FT_COUNT_OF(names); i++) {
        const char *t = text_of(all, names[i]);
        char head = (char)i;
        if (t) put_with("tokconfig", &head, 1, t, strlen(t));
        if (!t || i > 0 || !base || strcmp(base, "lists") != 0) continue;
        char *v = slurp(fz_root("tests/golden/folders/lists/vocab.json"), &nv);
        char *m = slurp(fz_root("tests/golden/folders/lists/merges.txt"), &nm);
        str_buf s = {0};
        str_addc(&s, 0);
        str_add(&s, v, nv);
        str_addc(&s, 0);
        str_add(&s, m, nm);
        str_addc(&s, 0);
        str_adds(&s, t);
        put_buf("legacy", &s);
        str_free(&s);
        ft_free(v);
        ft_free(m);
    }
}

static void spm_file(const char *path, char *text, size_t n)
{
    (void)path;
    put("spm", text, n);
}

static void tokenizers(void)
{
    static const char *const more[] = {"(?<=a)b",           "(a+)+$",
                                       "(?i:\\bfoo\\b)",    "[^\\s\\p{L}\\p{N}]++",
                                       "(?>a|ab)c",         "\\p{Han}{1,3}(?!\\S)",
                                       "(?:a|b)*?c",        "[a-z&&[^b]]",
                                       "x{2,5}+",           "\\K(?=a)",
                                       "(?=(?!a))",         "\\Ga|^\\Z",
                                       "(a|b|c|d){0,200}e", "\\x{41}|\\u0042|[[:alpha:]]"};
    files("tests/golden/tokenizers/*.json.gz", 20000, tokenizer_file);
    files("data/tiny/tokenizer.json", 60000, tokenizer_file);
    records("tests/golden/folders/cases.jsonl", folder_case);
    files("tests/golden/folders/pieces/tokenizer.model", 60000, spm_file);
    for (size_t i = 0; i < FT_COUNT_OF(more); i++) put("regex", more[i], strlen(more[i]));
    PUTS("tokconfig", "\0{\"added_tokens_decoder\":{\"5\":{\"content\":\"<z>\",\"special\":true},"
                      "\"700\":{\"content\":\"q\",\"lstrip\":true}},\"tokenizer_class\":"
                      "\"LlamaTokenizer\",\"add_bos_token\":true,\"add_eos_token\":true,\"chat_"
                      "template\":[{\"name\":\"default\",\"template\":\"{{ messages }}\"}]}");
    PUTS("tokconfig", "\3{\"eos_token_id\":[0,2,1e300,-1,1.5],\"bos_token_id\":7}");
    PUTS("match", ".*\\.(q|k)_proj\0model.layers.11.self_attn.q_proj");
    PUTS("match", ".*layers\\.[0-5]\\..*\0model.layers.5.self_attn.q_proj");
    PUTS("match", "layers\0model.layers.5.mlp");
    PUTS("match", "(?!x).*");
    PUTS("match", "(a|aa)+$");
    PUTS("match", "q_proj");
}

/* --- templates and records --------------------------------------------------------------------------------------------- */
static void template_case(const js_doc *d)
{
    static const char turns[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
        "\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]}\n";
    const char *t = text_of(d->root, "t");
    static int seen;
    str_buf s = {0};
    if (!t || strlen(t) > 8000) return;
    put("template", t, strlen(t));
    if (strlen(t) < 200 && seen++ % 8) return;
    str_adds(&s, t);
    str_addc(&s, 0);
    str_adds(&s, turns);
    put_buf("chat", &s);
    str_free(&s);
}

/* The first lines of a file of the tree. */
static str_buf head_of(const char *name, int lines)
{
    line_reader *r;
    const char *line;
    size_t n;
    str_buf s = {0};
    fz_must(lines_open(&r, fz_root(name)));
    while (lines-- > 0 && lines_next(r, &line, &n) == FT_OK) {
        str_add(&s, line, n);
        str_addc(&s, '\n');
    }
    lines_close(r);
    return s;
}

static void pack_seed(const str_buf *s)
{
    uint8_t out[20000];
    z_stream z = {.next_in = (uint8_t *)s->data,
                  .avail_in = (uInt)s->len,
                  .next_out = out + 1,
                  .avail_out = sizeof out - 1};
    put_with("packed", "\x08", 1, s->data, s->len);
    put_with("packed", "\x09", 1, s->data, s->len);
    if (deflateInit2(&z, 9, Z_DEFLATED, 31, 8, 0) != Z_OK || deflate(&z, Z_FINISH) != Z_STREAM_END)
        abort();
    out[0] = 0;
    put("packed", out, sizeof out - z.avail_out);
    deflateEnd(&z);
}

static void data_records(void)
{
    static const struct {
        const char *name;
        char format, kind;
    } all[] = {{"data/text/tiny.txt", 1, 2},        {"data/completion.jsonl", 2, 0},
               {"data/text/tiny.chat.jsonl", 3, 0}, {"data/alpaca.jsonl", 4, 0},
               {"data/sharegpt.jsonl", 5, 0},       {"data/tokens.jsonl", 6, 0},
               {"data/text/manual.jsonl", 0, 0}};
    for (size_t i = 0; i < FT_COUNT_OF(all); i++) {
        str_buf s = head_of(all[i].name, all[i].format == 6 ? 1 : 3), list = {0};
        char head[3] = {all[i].format, all[i].kind, (char)i};
        put_with("records", head, 3, s.data, s.len);
        head[0] = 0;
        head[2] = (char)(64 + i);
        put_with("records", head, 3, s.data, s.len);
        char look[2] = {all[i].kind == 2, (char)(98 + i % 2)};
        put_with("look", look, 2, s.data, s.len);
        if (s.len < 18000) pack_seed(&s);
        if (all[i].kind == 0) {
            head[0] = all[i].format;
            head[1] = 1;
            str_addc(&list, '[');
            str_add(&list, s.data, s.len - 1);
            for (size_t k = 0; k < list.len; k++)
                if (list.data[k] == '\n') list.data[k] = ',';
            str_addc(&list, ']');
            put_with("records", head, 3, list.data, list.len);
        }
        if (all[i].format == 3) put_with("chat", "", 1, s.data, s.len);
        str_free(&s);
        str_free(&list);
    }
    PUTS("records",
         "\3\0\0{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
         "\"content\":[{\"type\":\"text\",\"text\":\"q\"}]},{\"role\":\"assistant\",\"content\":"
         "\"a\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":"
         "\"tool\",\"content\":\"r\"}],\"tools\":[{}],\"chat_template_kwargs\":{\"x\":1}}\n");
    PUTS("records",
         "\6\0\0{\"input_ids\":[1,2,3,4],\"labels\":[-100,2,3,4],\"seq_lengths\":[2,2]}\n");
    /* keys of each form that few records have; with a template, and without */
    static const struct {
        char format;
        const char *line;
    } forms[] = {
        {3, "{'messages':[{'role':'user','content':'q'},{'role':'assistant','content':'a'}],'tools'"
            ":'[{}]'}"},
        {3, "{'messages':[{'role':'user','content':'q'},{'role':'assistant','content':'a'}],'tools'"
            ":'x'}"},
        {3, "{'messages':[{'role':'user','content':'q'},{'role':'assistant','content':'a'}],'tools'"
            ":[1]}"},
        {3, "{'messages':[{'role':'system','content':'s'},{'role':'user','content':'q'},{'role':"
            "'assistant','content':'a','reasoning_content':'r','weight':0}],'system':'t'}"},
        {3, "{'messages':[{'role':'user','content':'q'},{'role':'assistant','content':'a','train':"
            "false},"
            "{'role':'user','content':'q'},{'role':'assistant','content':'b'}]}"},
        {3, "{'messages':'[{\\'role\\':\\'user\\',\\'content\\':\\'q\\'}]'}"},
        {2, "{'prompt':[{'role':'user','content':'q'}],'completion':[{'role':'assistant','content':"
            "'a'}]}"},
        {2, "{'prompt':'q','completion':[{'role':'assistant','content':'a'}]}"},
        {2, "{'prompt':'','completion':'a','id':7}"},
        {4, "{'instruction':'i','input':'n','output':'o','system':'s','history':[['a','b'],['c','d'"
            "]]}"},
        {4, "{'instruction':'i','output':'o','history':[['a']]}"},
        {4, "{'instruction':'i','output':'o','history':'h'}"},
        {4, "{'instruction':'i','input':'','output':'o','tools':[{'name':'f'}]}"},
        {5, "{'conversations':[{'from':'human','value':'q'},{'from':'gpt','value':'a'}],'system':'"
            "s'}"},
        {5, "{'conversations':[{'from':'system','value':'s'},{'from':'human','value':'q'},{'from':"
            "'function_call','value':'{}'},{'from':'observation','value':'r'},{'from':'gpt','value'"
            ":'a'}],"
            "'tools':'[]'}"},
        {6, "{'input_ids':[1,2,3],'seq_lengths':[1,1]}"},
        {6, "{'input_ids':[1,2,3],'seq_lengths':[0,3]}"},
        {6, "{'input_ids':[1,2,3],'seq_lengths':'x','labels':[1]}"},
        {6, "{'input_ids':[1,2,3],'labels':'x'}"},
        {6, "{'input_ids':[1,2,3],'attention_mask':[1,1,0],'position_ids':[0,1,2]}"},
        {1, "{'text':'a','id':'x','meta':{'k':1}}"}};
    for (size_t i = 0; i < FT_COUNT_OF(forms); i++)
        for (char plain = 0; plain < 64; plain += 35) { /* 35: the bit of 32, the same format */
            str_buf s = {0};
            char head[3] = {(char)(forms[i].format + plain), 0, (char)(i * 29)};
            for (const char *c = forms[i].line; *c; c++) str_addc(&s, *c == '\'' ? '"' : *c);
            str_addc(&s, '\n');
            put_with("records", head, 3, s.data, s.len);
            str_free(&s);
        }
    PUTS("csv", "\0prompt,completion\n\"a \"\"b\"\"\",c\nd,\"e\nf\"\n");
    PUTS("csv", "\1prompt\tcompletion\na\tb\n");
    PUTS("csv", "\6\xef\xbb\xbf"
                "a,c\r\n\"{\"\"b\"\":\"\"x\"\"}\",y\r\n");
    PUTS("csv", "\4messages\n\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"q\"\"},{"
                "\"\"role\"\":\"\"assistant\"\",\"\"content\"\":\"\"a\"\"}]\"\n");
    PUTS("csv", "\x0cinstruction,input,output\na,,b\nc,d,e\n");
}

/* --- what is done with a model ---------------------------------------------------------------------------------------- */
static void hub_case(const js_doc *d)
{
    static const char *const tasks[] = {
        "perplexity", "loss", "multiple_choice", "generate", "hellaswag", "winogrande", "piqa",
        "arc",        "mmlu", "lambada",         "gsm8k"};
    const char *type = text_of(d->root, "type");
    str_buf s = {0};
    for (size_t i = 0; type && i < FT_COUNT_OF(tasks); i++) {
        if (strcmp(tasks[i], type) != 0) continue;
        str_addc(&s, (char)i);
        str_addc(&s, 0);
        int n = 0;
        for (const cJSON *r = js_get(d->root, "records")->child; r && n < 2; r = r->next, n++) {
            js_print(&s, r, false);
            str_addc(&s, '\n');
        }
        put_buf("eval", &s);
    }
    str_free(&s);
}

static void uses(void)
{
    static const char *const lines[] = {
        "{\"context\":\"One warm\",\"continuation\":\" day\"}",
        "{\"id\":[1,{\"a\":null}],\"text\":\"Two cold nights.\"}",
        "{\"tokens\":[1,2,3],\"start\":2}",
        "{\"context\":\"\",\"continuation\":\"x \"}",
        "{\"prompt\":\"Hi\",\"temperature\":0.5,\"seed\":3,\"stop\":[\"a\"],\"max_new_tokens\":2}",
        "\"Hi there\"",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"system\":\"s\",\"tools\":null}",
        "{\"text\":\"\"}",
        "{\"tokens\":[]}"};
    for (int i = 0; i < 16; i++) {
        char head[1] = {(char)i};
        str_buf s = {0};
        str_printf(&s, "%s\n%s\n", lines[i % 9], lines[(i + 1) % 9]);
        put_with("score", head, 1, s.data, s.len);
        head[0] = (char)(i * 11);
        put_with("generate", head, 1, s.data, s.len);
        str_free(&s);
    }
    PUTS("generate", "\x80"
                     "One warm day");
    PUTS("generate", "\x46"
                     "hi\n\tsystem\nthere\n");
    PUTS("eval", "\0\2One warm day the fox ran.\nTwo cold nights. One warm day the fox ran.");
    PUTS("eval", "\1\0{\"prompt\":\"One\",\"completion\":\" day\"}\n");
    PUTS("eval", "\2\0{\"query\":\"One warm\",\"choices\":[\" day\",\" "
                 "night\"],\"gold\":1}\n{\"query\":\"x\",\"choices\":[\"a\"],\"gold\":0}\n");
    PUTS("eval", "\3\x20{\"prompt\":\"The number "
                 "is\",\"answer\":\"42\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                 "\"answer\":\"^a.*\"}\n");
    PUTS("eval", "\3\x30{\"prompt\":\"The number is\",\"answer\":\"42\"}\n");
    PUTS("eval", "\2\x08query,choices,gold\nOne,\"[\"\"a\"\",\"\"b\"\"]\",0\n");
    records("tests/golden/eval/hub.jsonl", hub_case);
}

/* The form of every file of a run; the hashes are those of no run. */
static void checkpoints(void)
{
    static const char manifest[] = "{\"format\":1,\"step\":1,\"run_id\":\"00\",\"files\":[{"
                                   "\"name\":\"state.json\",\"bytes\":1,\"sha256\":\"00\"}]";
    static const char run[] =
        "{\"format\":1,\"run_id\":\"00\",\"base_name\":\"x\",\"data_sha256\":\"\",\"base_sha256\":"
        "\"\",\"config\":{\"method\":{\"type\":\"full\"},\"train\":{\"epochs\":1}}";
    static const char state[] =
        "{\"step\":1,\"tokens\":10,\"supervised\":5,\"rates\":1,\"first_loss\":6.1,\"last_loss\":"
        "null,\"best_loss\":null,\"best_step\":0,\"bad_evals\":0,\"finished\":false,\"pending\":"
        "true,\"seconds\":1,\"log_bytes\":0,\"time_bytes\":0,\"source_tokens\":[3],\"step_"
        "sources\":[3],\"eval_first\":[],\"eval_last\":[],\"metrics\":[]";
    PUT("checkpoint", "\x80", manifest, sizeof manifest - 1);
    PUT("checkpoint", "\x84", run, sizeof run - 1);
    PUT("checkpoint", "\x81", state, sizeof state - 1);
    PUT("checkpoint", "\x00", manifest, sizeof manifest - 1);
    PUT("checkpoint", "\x05", "{\"step\":1}\n", 11);
}

int main(int argc, char **argv)
{
    if (argc != 2) return fprintf(stderr, "usage: seeds OUT\n"), 64;
    out_dir = argv[1];
    fz_start();
    fz_must(arena_open(&mem, "seeds", (size_t)1 << 28));
    configs();
    tensors();
    wide_blocks();
    tokenizers();
    records("tests/golden/templates.jsonl", template_case);
    data_records();
    uses();
    checkpoints();
    arena_close(mem);
    return 0;
}
