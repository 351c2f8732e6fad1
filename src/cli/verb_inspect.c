/* verb_inspect.c – what a model, adapter, checkpoint, safetensors or GGUF file holds, and whether it is whole.
 *
 * Whole means: every file that should be there is, every tensor lies inside its file and files have the size
 * their headers promise, JSON files parse, a checkpoint's files have the checksums of its manifest. */
#include "cli.h"

#include "ft/io.h"
#include "ft/token.h"
#include "ft/tool.h"
#include "ft/train.h"

#include <stdio.h>
#include <string.h>

enum { JSON_BYTES = 64 << 20 };

typedef struct options {
    bool no_tensors;
} options;
static const cfg_field flags[] = {{"no_tensors", CFG_BOOL, offsetof(options, no_tensors),
                                   .def = "false", .help = "leave out the list of tensors"},
                                  CFG_END};

typedef struct report {
    const cli_call *call;
    arena *mem;
    const char *path;
    cJSON *facts; /* in the order they were found */
    bool failed;  /* out of memory for one of them */
    const io_tensor *tensor;
    int64_t n;
    io_weights weights; /* what is open: tensors point into it */
    st_file st;
} report;

/* The one way for an item to get into the facts, or an object of them: what finds no memory is not left out unseen. */
static cJSON *put(report *r, cJSON *object, const char *key, cJSON *item)
{
    if (js_add(object, key, item)) return item;
    r->failed = true;
    return NULL;
}

static void fact(report *r, const char *key, const char *value)
{
    put(r, r->facts, key, cJSON_CreateString(value));
}

static void count(report *r, const char *key, double value)
{
    put(r, r->facts, key, cJSON_CreateNumber(value));
}

/* --- tensors ------------------------------------------------------------------------------------------ */
/* Of a model or adapter that is not whole: one line, whoever left it so. A matrix of an adapter may be empty: of rank 0,
 * where AdaLoRA kept nothing of a module. */
static ft_status check_empty(const report *r, bool rank_0)
{
    int64_t n = 0;
    const char *first = NULL;
    for (int64_t i = 0; i < r->n; i++) {
        if (r->tensor[i].bytes > 0 || (rank_0 && r->tensor[i].nd == 2)) continue;
        if (n++ == 0) first = r->tensor[i].name;
    }
    return n == 0 ? FT_OK
                  : ft_fail(FT_EDATA,
                            "%s: %lld of %lld tensors hold no values (the first is \"%s\"), as "
                            "DeepSpeed ZeRO-3 leaves them when the weights are not gathered on "
                            "saving; make the whole of them with its zero_to_fp32.py",
                            r->path, (long long)n, (long long)r->n, ft_shows(first));
}

/* Tensors, parameters, bytes, and how many tensors have which type. */
static ft_status tensor_facts(report *r, const io_tensor *tensor, int64_t n)
{
    double parameters = 0, bytes = 0;
    size_t n_types = 0;
    while (dt_at((int)n_types)) n_types++;
    int64_t *of_type = arena_get(r->mem, n_types * sizeof *of_type);
    if (!of_type) return FT_EMEM;
    for (int64_t i = 0; i < n; i++) {
        double elements = 1;
        for (int k = 0; k < tensor[i].nd; k++) elements *= (double)tensor[i].dim[k];
        parameters += elements;
        bytes += (double)tensor[i].bytes;
        for (int t = 0; dt_at(t); t++) of_type[t] += dt_at(t) == tensor[i].type;
    }
    count(r, "tensors", (double)n);
    count(r, "parameters", parameters);
    count(r, "bytes", bytes);
    cJSON *types = put(r, r->facts, "types", cJSON_CreateObject());
    for (int t = 0; dt_at(t); t++)
        if (of_type[t]) put(r, types, dt_at(t)->name, cJSON_CreateNumber((double)of_type[t]));
    r->tensor = tensor;
    r->n = n;
    return FT_OK;
}

/* Of the numbers in matrices the share that is exactly 0, as pruning leaves it. */
static void zeros_fact(report *r)
{
    double zeros = 0, all = 0;
    for (int64_t i = 0; i < r->n; i++) {
        const io_tensor *t = &r->tensor[i];
        int64_t n = 1;
        for (int k = 0; k < t->nd; k++) n *= t->dim[k];
        const int64_t found = t->nd >= 2 ? dt_count_zeros(t->type, t->data, n) : -1;
        if (found < 0) continue;
        zeros += (double)found;
        all += (double)n;
    }
    if (all > 0) count(r, "zeros", zeros / all);
}

static ft_status weights_facts(report *r, const char *path)
{
    io_weights *w = &r->weights;
    FT_TRY(io_weights_open(w, path, r->mem));
    fact(r, "format", w->gguf ? "gguf" : "safetensors");
    if (!w->gguf) count(r, "files", w->n_shards);
    FT_TRY(tensor_facts(r, w->tensor, w->n));
    zeros_fact(r);
    return check_empty(r, false);
}

/* --- GGUF ------------------------------------------------------------------------------------------------ */
static cJSON *gguf_value(const report *r, const gguf_file *f, const gguf_kv *kv, const char *key)
{
    const char *text = NULL;
    char list[64];
    int64_t i = 0;
    double v = 0;
    bool b = false;
    if (kv->type == GGUF_ARR) {
        snprintf(list, sizeof list, "[%llu values]", (unsigned long long)kv->count);
        return cJSON_CreateString(list);
    }
    if (kv->type == GGUF_STR) {
        if (gguf_text(f, key, r->mem, &text) != FT_OK || !text) return NULL;
        return cJSON_CreateString(ft_shows(text));
    }
    if (kv->type == GGUF_BOOL)
        return gguf_bool(f, key, false, &b) == FT_OK ? cJSON_CreateBool(b) : NULL;
    if (kv->type == GGUF_F32 || kv->type == GGUF_F64)
        return gguf_num(f, key, 0, &v) == FT_OK ? cJSON_CreateNumber(v) : NULL;
    return gguf_int(f, key, 0, INT64_MIN, INT64_MAX, &i) == FT_OK ? cJSON_CreateNumber((double)i)
                                                                  : NULL;
}

/* How many modules it changes, and by which ranks. */
static void lora_facts(report *r)
{
    int64_t modules = 0, low = 0, high = 0;
    for (int64_t i = 0; i < r->n; i++) {
        const io_tensor *t = &r->tensor[i];
        if (!str_ends(t->name, ".lora_b")) continue;
        const int64_t rank = t->dim[t->nd - 1];
        if (modules == 0 || rank < low) low = rank;
        if (rank > high) high = rank;
        modules++;
    }
    count(r, "modules", (double)modules);
    if (low == high) count(r, "r", (double)low);
    if (low == high) return;
    count(r, "r_min", (double)low);
    count(r, "r_max", (double)high);
}

static ft_status inspect_gguf(report *r)
{
    ft_status rc = io_weights_open(&r->weights, r->path, r->mem);
    path_kind kind = PATH_NONE;
    ft_error_keep(true);
    if (rc == FT_ENOINPUT && path_look(r->path, &kind) == FT_OK && kind == PATH_FILE)
        rc = FT_EDATA; /* a part is missing: not whole */
    ft_error_keep(false);
    FT_TRY(rc);
    const gguf_file *f = r->weights.gguf;
    const char *type = NULL;
    if (gguf_text(f, "general.type", r->mem, &type) != FT_OK) ft_error_clear();
    const bool lora = type && strcmp(type, "adapter") == 0;
    fact(r, "kind", lora ? "LoRA adapter for llama.cpp" : "GGUF file");
    fact(r, "format", "gguf");
    count(r, "version", f->version);
    if (r->weights.n_parts) count(r, "parts", r->weights.n_parts + 1);
    FT_TRY(tensor_facts(r, r->weights.tensor, r->weights.n));
    if (!lora) zeros_fact(r);
    if (lora) lora_facts(r);
    cJSON *meta = put(r, r->facts, "metadata", cJSON_CreateObject());
    for (int64_t i = 0; i < f->n_kv; i++) {
        const char *key = arena_strn(r->mem, f->kv[i].key.s, f->kv[i].key.n);
        if (!key) return FT_EMEM;
        cJSON *value = gguf_value(r, f, &f->kv[i], key);
        if (value) put(r, meta, ft_shows(key), value);
    }
    if (js_whole() != FT_OK) r->failed = true;
    ft_error_clear(); /* a value that did not print is left out, not a failure */
    return FT_OK;
}

static ft_status inspect_safetensors(report *r)
{
    st_file *f = &r->st;
    FT_TRY(st_open(f, r->path, r->mem));
    fact(r, "kind", "safetensors file");
    fact(r, "format", "safetensors");
    FT_TRY(tensor_facts(r, f->tensor, f->n));
    cJSON *meta = f->n_meta ? put(r, r->facts, "metadata", cJSON_CreateObject()) : NULL;
    for (int i = 0; i < f->n_meta; i++)
        put(r, meta, ft_shows(f->meta[2 * i]), cJSON_CreateString(ft_shows(f->meta[2 * i + 1])));
    return FT_OK;
}

/* --- folders --------------------------------------------------------------------------------------------- */
static ft_status has(const report *r, const char *name, bool *out)
{
    path_kind kind;
    FT_TRY(path_look_in(r->path, name, &kind));
    *out = kind == PATH_FILE;
    return FT_OK;
}

/* Opens a JSON file of the folder; the text lives in *text. */
static ft_status open_json(const report *r, const char *name, js_doc *doc, char **text)
{
    size_t len;
    const char *path = path_join(r->mem, r->path, name);
    if (!path) return FT_EMEM;
    FT_TRY(file_read(text, &len, path, JSON_BYTES));
    ft_status rc = js_parse(doc, *text, len, path, 1, JS_ALLOW_NONFINITE, FT_EDATA);
    if (rc != FT_OK) {
        ft_free(*text);
        *text = NULL;
    }
    return rc;
}

/* Copies scalar members of a JSON file into the facts: keys separated by spaces. */
static ft_status json_facts(report *r, const char *name, const char *keys)
{
    js_doc doc;
    char *text, key[64];
    FT_TRY(open_json(r, name, &doc, &text));
    for (const char *p = keys; *p;) {
        size_t n = strcspn(p, " ");
        snprintf(key, sizeof key, "%.*s", (int)n, p);
        const cJSON *node = js_get(doc.root, key);
        if (cJSON_IsString(node))
            fact(r, key, ft_shows(node->valuestring));
        else if (cJSON_IsNumber(node))
            count(r, key, node->valuedouble);
        else if (cJSON_IsBool(node))
            put(r, r->facts, key, cJSON_CreateBool(cJSON_IsTrue(node)));
        else if (node && !cJSON_IsNull(node))
            put(r, r->facts, key, cJSON_Duplicate(node, true));
        p += n + (p[n] == ' ');
    }
    js_close(&doc);
    ft_free(text);
    return FT_OK;
}

static ft_status tokenizer_facts(report *r)
{
    tok_tokenizer *t;
    int templates;
    bool has_one;
    FT_TRY(tok_in_folder(r->path, &has_one));
    if (!has_one) return FT_OK;
    FT_TRY(tok_open(&t, r->path));
    count(r, "tokens", (double)tok_size(t));
    put(r, r->facts, "chat_template", cJSON_CreateBool(tok_chat_templates(t, &templates) != NULL));
    tok_close(t);
    return FT_OK;
}

static ft_status says_quantised(const report *r, bool *says)
{
    js_doc doc;
    char *text;
    FT_TRY(open_json(r, "config.json", &doc, &text));
    *says = cJSON_IsObject(js_get(doc.root, "quantization_config"));
    js_close(&doc);
    ft_free(text);
    return FT_OK;
}

/* A folder in a quantiser's codes: by whom, and the numbers that its tensors stand for. What does not open is told by its
 * tensors alone. */
static ft_status quantised_facts(report *r)
{
    model *m = NULL;
    bool says;
    FT_TRY(says_quantised(r, &says));
    if (!says) return FT_OK;
    if (model_open(&m, &(model_options){.path = r->path, .end = MODEL_ANY}) != FT_OK) {
        if (ft_error_starved()) return FT_EMEM;
        log_warn("%s", ft_error());
        ft_error_clear();
        return FT_OK;
    }
    if (m->quant) fact(r, "quant_method", m->quant->method);
    cJSON *n = cJSON_CreateNumber((double)model_count(m));
    if (!js_put(r->facts, "parameters", n)) r->failed = true;
    model_close(m);
    return FT_OK;
}

static ft_status inspect_model(report *r)
{
    bool scores;
    FT_TRY(tool_scores(r->path, r->mem, &scores));
    fact(r, "kind", scores ? "sequence classifier" : "model");
    FT_TRY(json_facts(
        r, "config.json",
        "model_type hidden_size num_hidden_layers num_attention_heads num_key_value_heads "
        "intermediate_size vocab_size max_position_embeddings tie_word_embeddings torch_dtype"));
    if (scores) FT_TRY(json_facts(r, "config.json", "id2label pad_token_id"));
    FT_TRY(weights_facts(r, r->path));
    FT_TRY(quantised_facts(r));
    return tokenizer_facts(r);
}

/* What it is, and that no verb takes it. */
static ft_status inspect_mlx(report *r)
{
    const char *weights = path_join(r->mem, r->path, "adapters.safetensors");
    if (!weights) return FT_EMEM;
    fact(r, "kind", "mlx-lm adapter");
    FT_TRY(json_facts(r, "adapter_config.json", "fine_tune_type num_layers model lora_parameters"));
    log_warn("%s: is an mlx-lm adapter; %s", ft_shows(r->path), PE_MLX_REMEDY);
    FT_TRY(st_open(&r->st, weights, r->mem));
    fact(r, "format", "safetensors");
    return tensor_facts(r, r->st.tensor, r->st.n);
}

/* Whose it is. */
static ft_status look_at_adapter(const report *r, bool *mlx, const pe_format **format)
{
    js_doc doc;
    char *text;
    FT_TRY(open_json(r, "adapter_config.json", &doc, &text));
    const char *type = pe_adapter_type(&doc);
    *mlx = pe_is_mlx(&doc);
    *format = type && strcmp(type, PE_ADAPTERS) == 0 ? &pe_format_adapters : &pe_format_peft;
    js_close(&doc);
    ft_free(text);
    return FT_OK;
}

static ft_status inspect_adapter(report *r)
{
    st_file *f = &r->st;
    const pe_format *format;
    bool mlx, sound, pickle;
    FT_TRY(look_at_adapter(r, &mlx, &format));
    if (mlx) return inspect_mlx(r);
    const char *weights = path_join(r->mem, r->path, format->tensors);
    if (!weights) return FT_EMEM;
    fact(r, "kind", "adapter");
    FT_TRY(json_facts(
        r, "adapter_config.json",
        format == &pe_format_peft
            ? "peft_type task_type base_model_name_or_path r lora_alpha lora_dropout bias "
              "use_rslora target_modules modules_to_save num_virtual_tokens prefix_projection "
              "encoder_reparameterization_type prompt_tuning_init prompt_tuning_init_text "
              "bias_terms"
            : "name model_name model_type model_class hidden_size version config"));
    FT_TRY(has(r, path_base(weights), &sound));
    FT_TRY(has(r, format->pickle, &pickle));
    FT_CHECK(sound || !pickle, FT_EDATA,
             "%s: the adapter is a pickle (%s), which is never read; save it with %s", r->path,
             format->pickle, format->safe);
    FT_TRY(st_open(f, weights, r->mem));
    fact(r, "format", "safetensors");
    FT_TRY(tensor_facts(r, f->tensor, f->n));
    return check_empty(r, true);
}

/* --- checkpoints -------------------------------------------------------------------------------------------- */
/* One file of a manifest: its size and checksum. */
static ft_status check_file(const char *dir, const js_doc *doc, const cJSON *entry,
                            const char *name, arena *mem, int64_t *size)
{
    int64_t bytes;
    const char *wanted;
    if (strchr(name, '/') || name[0] == '.')
        return js_fail(doc, entry, FT_EDATA, name, "is not the plain name of a file");
    const char *path = path_join(mem, dir, name);
    if (!path) return FT_EMEM;
    FT_TRY(js_get_int(doc, entry, "bytes", -1, 0, INT64_MAX, &bytes));
    FT_TRY(js_get_str(doc, entry, "sha256", NULL, &wanted));
    FT_TRY(train_checkpoint_file(path, bytes, wanted));
    return path_size(path, size);
}

static ft_status check_manifest(const char *dir, arena *mem, int *files, double *bytes)
{
    js_doc doc;
    char *text;
    const cJSON *entry;
    ft_status rc = FT_OK;
    const char *path = path_join(mem, dir, "manifest.json");
    if (!path) return FT_EMEM;
    FT_TRY(train_sealed_read(&doc, &text, path));
    const cJSON *list = js_get(doc.root, "files");
    *files = 0;
    *bytes = 0;
    if (!list) rc = js_fail(&doc, doc.root, FT_EDATA, "files", "the list of files is missing");
    cJSON_ArrayForEach(entry, list)
    {
        const char *name = entry->string;
        if (!name) rc = js_get_str(&doc, entry, "name", NULL, &name);
        if (rc == FT_OK && !name) rc = js_fail(&doc, entry, FT_EDATA, "name", "is missing");
        int64_t size = 0;
        if (rc == FT_OK) rc = check_file(dir, &doc, entry, name, mem, &size);
        if (rc != FT_OK) break;
        ++*files;
        *bytes += (double)size;
    }
    js_close(&doc);
    ft_free(text);
    return rc;
}

static ft_status inspect_checkpoint(report *r)
{
    int files;
    double bytes;
    fact(r, "kind", "checkpoint");
    FT_TRY(json_facts(r, "manifest.json",
                      "format step run_id version kernel config_sha256 data_sha256 base_sha256"));
    FT_TRY(check_manifest(r->path, r->mem, &files, &bytes));
    count(r, "files", files);
    count(r, "bytes", bytes);
    return FT_OK;
}

/* The checkpoints of a run: which of them are whole. A broken one is not a broken run. */
static ft_status list_checkpoints(report *r)
{
    const char *dir = path_join(r->mem, r->path, "checkpoints"), **names;
    int64_t n;
    if (!dir) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(dir, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_list(dir, r->mem, &names, &n));
    cJSON *list = put(r, r->facts, "checkpoints", cJSON_CreateObject());
    for (int64_t i = 0; i < n; i++) {
        int files;
        double bytes;
        const char *path = path_join(r->mem, dir, names[i]);
        if (!path) return FT_EMEM;
        FT_TRY(path_look(path, &kind));
        if (kind != PATH_FOLDER) continue;
        ft_status rc = check_manifest(path, r->mem, &files, &bytes);
        if (rc == FT_EMEM) return rc;
        put(r, list, ft_shows(names[i]), cJSON_CreateString(rc == FT_OK ? "whole" : ft_error()));
        ft_error_clear();
    }
    return FT_OK;
}

static ft_status inspect_folder(report *r)
{
    static const struct {
        const char *file;
        ft_status (*inspect)(report *r);
    } kinds[] = {
        {"manifest.json", inspect_checkpoint}, /* which is an adapter or a model besides */
        {"adapter_config.json", inspect_adapter},
        {"config.json", inspect_model},
    };
    bool found = false;
    for (size_t i = 0; i < FT_COUNT_OF(kinds) && !found; i++) {
        FT_TRY(has(r, kinds[i].file, &found));
        if (found) FT_TRY(kinds[i].inspect(r));
    }
    path_kind runs;
    FT_TRY(path_look_in(r->path, "checkpoints", &runs));
    FT_CHECK(
        found || runs == PATH_FOLDER, FT_EDATA,
        "%s: holds no adapter_config.json, config.json or manifest.json; is this a model folder?",
        r->path);
    if (!found) fact(r, "kind", "unfinished run");
    return list_checkpoints(r);
}

/* --- printing ------------------------------------------------------------------------------------------------- */
static ft_status print_value(const cJSON *node)
{
    str_buf s = {0};
    if (cJSON_IsString(node))
        str_adds(&s, ft_shows(node->valuestring));
    else
        js_print(&s, node, false);
    ft_status rc = str_ok(&s);
    if (rc == FT_OK) rc = cli_printf("%s\n", s.data ? s.data : "");
    str_free(&s);
    return rc;
}

static ft_status print_facts(const report *r)
{
    FT_TRY(cli_printf("%s\n", r->path));
    for (const cJSON *f = r->facts->child; f; f = f->next) {
        if (!cJSON_IsObject(f)) {
            FT_TRY(cli_printf("  %-24s ", f->string));
            FT_TRY(print_value(f));
            continue;
        }
        FT_TRY(cli_printf("  %s\n", f->string));
        for (const cJSON *m = f->child; m; m = m->next) {
            FT_TRY(cli_printf("    %-32s ", m->string));
            FT_TRY(print_value(m));
        }
    }
    return FT_OK;
}

static ft_status print_tensor(const report *r, const io_tensor *t)
{
    str_buf shape = {0};
    ft_status rc = FT_OK;
    for (int k = 0; k < t->nd; k++)
        str_printf(&shape, "%s%lld", k ? "," : "", (long long)t->dim[k]);
    rc = str_ok(&shape);
    const char *dims = shape.data ? shape.data : "";
    if (rc == FT_OK && !r->call->json) {
        rc =
            cli_printf("  %-56s %-8s [%s] %zu\n", ft_shows(t->name), t->type->name, dims, t->bytes);
    } else if (rc == FT_OK) {
        str_buf name = {0};
        str_json(&name, t->name, strlen(t->name));
        rc = str_ok(&name);
        if (rc == FT_OK)
            rc = cli_printf("{\"tensor\":%s,\"type\":\"%s\",\"shape\":[%s],\"bytes\":%zu}\n",
                            name.data, t->type->name, dims, t->bytes);
        str_free(&name);
    }
    str_free(&shape);
    return rc;
}

static ft_status print_report(const report *r)
{
    const options *o = r->call->opt;
    FT_TRY(r->call->json ? cli_out_json(r->facts) : print_facts(r));
    if (o->no_tensors) return FT_OK;
    if (!r->call->json && r->n) FT_TRY(cli_outs("tensors\n"));
    for (int64_t i = 0; i < r->n; i++) FT_TRY(print_tensor(r, &r->tensor[i]));
    return FT_OK;
}

static bool begins_with(const char *path, const char *magic)
{
    file_map m;
    if (file_map_open(&m, path) != FT_OK) return false;
    bool same = m.size >= strlen(magic) && memcmp(m.data, magic, strlen(magic)) == 0;
    file_map_close(&m);
    return same;
}

static ft_status run(const cli_call *c)
{
    report r = {.call = c, .path = c->arg[0]};
    ft_status rc;
    /* Headers of a large model with its shards: names and shapes, some hundred bytes a tensor. */
    FT_TRY(arena_open(&r.mem, "inspect", (size_t)512 << 20));
    r.facts = cJSON_CreateObject();
    FT_GUARD(r.facts, FT_EMEM, "out of memory");
    if (c->json) fact(&r, "path", r.path);
    path_kind kind;
    FT_TRY_OUT(path_look(r.path, &kind));
    if (kind == PATH_FOLDER)
        rc = inspect_folder(&r);
    else if (kind != PATH_NONE)
        rc = str_ends(r.path, ".gguf") || begins_with(r.path, "GGUF") ? inspect_gguf(&r)
                                                                      : inspect_safetensors(&r);
    else
        rc = io_model_exists(r.path);
    if (rc != FT_OK) goto out;
    put(&r, r.facts, "whole", cJSON_CreateBool(true));
    FT_GUARD(!r.failed, FT_EMEM, "out of memory");
    rc = print_report(&r);
out:
    io_weights_close(&r.weights);
    st_close(&r.st);
    cJSON_Delete(r.facts);
    arena_close(r.mem);
    return rc;
}

const cli_verb verb_inspect = {
    .name = "inspect",
    .help = "what a model, adapter, checkpoint, safetensors or GGUF file holds, and whether it is "
            "whole",
    .usage = "PATH [--no-tensors] [--json]",
    .more = "What is not whole is exit 65 with the reason.\n"
            "With --json the first line has the facts, each further line a tensor.\n",
    .example = "ft inspect model",
    .flags = flags,
    .opt_size = sizeof(options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
