/* config.c – the seven sections of a training config: tables, cross-field checks, the resolved config, and which keys a
 * resumed run may change.
 *
 * "method", "objective" and "optim" pick a row by their type; that row's keys stand beside `type` in the same object, so both
 * tables are joined into one before reading. */
#include "train_private.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const prompt_shapes[] = {"path", "list of prompts", NULL};
static const char *const precisions[] = {"auto", "f32", "bf16", NULL};

#define M(k) .key = #k, .offset = offsetof(model_cfg, k)
static const cfg_field model_rows[] = {
    {M(path), .type = CFG_PATH, .help = "Hugging Face folder or .gguf file"},
    {M(from_config), .type = CFG_PATH,
     .help = "config.json: random weights, to train from scratch"},
    {M(tokenizer), .type = CFG_PATH,
     .help = "tokenizer folder, with from_config; not needed where all data is of format tokens"},
    {M(name), .type = CFG_STR,
     .help = "what an adapter calls its base, such as its name on a hub; default: the path as "
             "written"},
    {M(quantization), .type = CFG_JSON,
     .help = "of the frozen base: none, or an object with a type (ft help model.quantization)"},
    {.key = "qat",
     .type = CFG_JSON,
     .offset = offsetof(model_cfg, qat_keys),
     .help = "quantisation that training simulates: an object with a type (ft help model.qat)"},
    CFG_END,
};
#undef M

/* Bounds of counts only keep sums and products of int64 safe. */
#define L(k, t, d, lo, hi)                                                                         \
    .key = #k, .offset = offsetof(loop_cfg, k), .type = t, .def = d, .low = lo, .high = hi
static const cfg_field loop_rows[] = {
    {L(epochs, CFG_FLOAT, "1", 0, 1e6), .low_open = true, .help = "passes over the data"},
    {L(max_steps, CFG_INT, "0", 0, 1e12), .help = "optimizer steps; 0: by epochs"},
    {L(batch_size, CFG_INT, "8", 1, 1e6), .help = "samples of an optimizer step"},
    {L(micro_batch_size, CFG_AUTO_INT, "\"auto\"", 1, 1e6),
     .help = "samples of a forward pass; changes memory, never a bit of the result"},
    {.key = "precision",
     .type = CFG_ENUM,
     .offset = offsetof(loop_cfg, precision),
     .def = "\"auto\"",
     .choices = precisions,
     .help = "what operands of matrix products are rounded to while training, sums and evaluations "
             "stay "
             "in f32; auto: bf16 where the CPU has fast instructions for it"},
    {.key = "gradient_checkpointing",
     .type = CFG_AUTO_BOOL,
     .offset = offsetof(loop_cfg, gradient_checkpointing),
     .def = "\"auto\"",
     .help = "recompute activations to save memory, to the same bits; auto: where it is needed"},
    {L(neftune_noise_alpha, CFG_FLOAT, "0", 0, 1e9),
     .help = "noise on the embeddings while training: alpha / sqrt(tokens of the sample x width)"},
    {L(seed, CFG_INT, "42", 0, 9007199254740991.0), .help = "of order, dropout and new weights"},
    {L(log_every, CFG_INT, "1", 1, 1e12), .help = "steps from one line of log.jsonl to the next"},
    {L(eval_every, CFG_INT, "0", 0, 1e12), .help = "steps between evaluations; 0: at the end only"},
    {L(eval_on_start, CFG_BOOL, "true", 0, 0), .help = "an evaluation before step 1"},
    {L(checkpoint_every, CFG_INT, "0", 0, 1e12), .help = "steps; 0: every 10 minutes"},
    {L(keep_checkpoints, CFG_INT, "2", 1, 1e6), .help = "the newest ones that stay; at least 2 do"},
    {.key = "sample_prompts",
     .type = CFG_JSON,
     .offset = offsetof(loop_cfg, sample_prompts),
     .choices = prompt_shapes,
     .help = "after each evaluation the greedy answers go to samples.jsonl; a text is a user turn "
             "where the model has a template, {\"prompt\"} stands as it is"},
    {L(sample_max_new_tokens, CFG_INT, "128", 1, 1e6), .help = "of an answer to sample_prompts"},
    {.key = "keep_best",
     .type = CFG_BOOL,
     .offset = offsetof(loop_cfg, keep_best),
     .def = "false",
     .help = "the values with the lowest eval_loss become the result: of several eval sources the "
             "mean over all their supervised tokens together"},
    {L(patience, CFG_INT, "0", 0, 1e9),
     .help = "evaluations without gain before stopping; 0: never"},
    {L(max_seconds, CFG_FLOAT, "0", 0, 1e12),
     .help = "from the start of the program; then save and end with exit code 75; 0: no limit"},
    CFG_END,
};
#undef L

static const cfg_field output_rows[] = {
    {.key = "dir", .type = CFG_PATH, .offset = offsetof(output_cfg, dir), .help = "output folder"},
    {.key = "tensorboard",
     .type = CFG_BOOL,
     .offset = offsetof(output_cfg, tensorboard),
     .def = "false",
     .help = "losses, rate and norm as event files too, in OUT/tensorboard"},
    {.key = "csv",
     .type = CFG_BOOL,
     .offset = offsetof(output_cfg, csv),
     .def = "false",
     .help = "the log as log.csv too"},
    CFG_END,
};

/* `choices` of the type rows are the registries' names: filled in where the rows are joined. */
static const cfg_field method_head_rows[] = {
    {.key = "type",
     .type = CFG_ENUM,
     .offset = offsetof(method_head, type),
     .def = "\"lora\"",
     .help = "what is trained (ft help method TYPE)"},
    {.key = "init_from",
     .type = CFG_PATH,
     .offset = offsetof(method_head, init_from),
     .help = "PEFT adapter folder to continue from"},
    {.key = "keep_zeros",
     .type = CFG_BOOL,
     .offset = offsetof(method_head, keep_zeros),
     .help = "linear weights that are exactly 0 in the base stay so (full and the LoRA family)"},
    CFG_END,
};
static const cfg_field objective_head_rows[] = {
    {.key = "type",
     .type = CFG_ENUM,
     .offset = offsetof(objective_head, type),
     .def = "\"sft\"",
     .help = "the loss"},
    CFG_END,
};

const train_section train_sections[] = {
    {"model", model_rows, "the base model"},
    {"method", method_head_rows, "what is trained"},
    {"data", data_fields, "training and evaluation data"},
    {"objective", objective_head_rows, "the loss"},
    {"optim", opt_fields, "update rule and learning rate"},
    {"train", loop_rows, "the loop"},
    {"output", output_rows, "where the result goes"},
    {NULL, NULL, NULL},
};

/* --- sections that pick a row by type ------------------------------------------------------------------------ */
static size_t count_rows(const cfg_field *rows)
{
    size_t n = 0;
    while (rows && rows[n].key) n++;
    return n;
}

/* Head rows (`type` among `names`) and the rows of the type, moved behind the head, in one table. */
static cfg_field *join_rows(arena *mem, const cfg_field *head, const char *const *names,
                            const cfg_field *rows, size_t head_size)
{
    size_t n = count_rows(head), more = count_rows(rows);
    cfg_field *all = arena_get(mem, (n + more + 1) * sizeof *all);
    if (!all) return NULL;
    for (size_t i = 0; i < n; i++) {
        all[i] = head[i];
        if (strcmp(all[i].key, "type") == 0) all[i].choices = names;
    }
    for (size_t i = 0; i < more; i++) {
        all[n + i] = rows[i];
        all[n + i].offset += head_size;
    }
    return all;
}

/* Floats without a default are NAN until someone gives them: 0 is a value. */
static void absent_floats(const cfg_field *rows, void *out)
{
    for (; rows->key; rows++) {
        if (rows->type == CFG_FLOAT && !rows->def)
            *(double *)((char *)out + rows->offset) = (double)NAN;
    }
}

/* The type as written, the default when it is absent, NULL when it is not a string (reported by cfg_read). */
static const char *type_of(const cJSON *object, const char *def)
{
    const cJSON *type = cJSON_IsObject(object) ? js_get(object, "type") : NULL;
    return !type ? def : cJSON_IsString(type) ? type->valuestring : NULL;
}

/* An object of an unknown type: only its type is read, and its other keys are nobody's mistake. */
static ft_status read_type_only(cfg_doc *d, const cJSON *object, const char *path,
                                const cfg_field *head, void *out)
{
    enum { MOST = 64 };
    const char *also[MOST + 1] = {0};
    int n = 0;
    const cJSON *first = cJSON_IsObject(object) ? object->child : NULL;
    for (const cJSON *node = first; node && n < MOST; node = node->next) also[n++] = node->string;
    return cfg_read(d, object, path, head, out, also);
}

/* Bytes kept for the head of a section, so that what follows is aligned. */
enum { HEAD = 64, OPTIM_HEAD = (sizeof(opt_cfg) + 63) / 64 * 64 };
_Static_assert(sizeof(method_head) <= HEAD && sizeof(objective_head) <= HEAD, "heads fit");

static void check_keeps(train_config *c, const cJSON *at)
{
    if (c->method->quantization)
        cfg_fail(&c->doc, at, "method.keep_zeros",
                 "does not go with method.type \"%s\": a quantised base has no weights that are "
                 "exactly 0; use \"lora\"",
                 c->method->name);
    else if (!pe_keeps(c->method))
        cfg_fail(&c->doc, at, "method.keep_zeros",
                 "goes with method.type \"full\" and those that change weights by factors (lora, "
                 "loraplus, dora, lorafa, adalora, lora_drop, lotr, delta_lora, vera), not "
                 "with \"%s\"",
                 c->method->name);
}

static ft_status read_method(train_config *c, arena *mem)
{
    const cJSON *object = js_get(c->doc.js.root, "method");
    const char *type = type_of(object, "lora");
    c->method = type ? pe_by_name(type) : NULL;
    size_t size = c->method ? c->method->cfg_size : 0;
    c->method_head = arena_get(mem, HEAD + size);
    c->method_rows =
        join_rows(mem, method_head_rows, pe_names(), c->method ? c->method->fields : NULL, HEAD);
    if (!c->method_head || !c->method_rows) return FT_EMEM;
    c->method_cfg = (char *)c->method_head + HEAD;
    absent_floats(c->method_rows, c->method_head);
    if (!c->method)
        return read_type_only(&c->doc, object, "method", c->method_rows, c->method_head);
    FT_TRY(cfg_read(&c->doc, object, "method", c->method_rows, c->method_head, NULL));
    if (c->method_head->init_from && !c->method->load)
        cfg_fail(&c->doc, js_get(object, "init_from"), "method.init_from",
                 "%s has no adapter to continue from; give the folder as model.path",
                 c->method->name);
    if (c->method_head->keep_zeros) check_keeps(c, js_get(object, "keep_zeros"));
    pe_check_init_type(&c->doc, object, c->method);
    if (c->method->check) c->method->check(&c->doc, object, c->method_cfg);
    return FT_OK;
}

static ft_status read_objective(train_config *c, arena *mem)
{
    const cJSON *object = js_get(c->doc.js.root, "objective");
    const char *type = type_of(object, "sft");
    c->objective = type ? obj_by_name(type) : NULL;
    size_t size = c->objective ? c->objective->cfg_size : 0;
    c->objective_head = arena_get(mem, HEAD + size);
    c->objective_rows = join_rows(mem, objective_head_rows, obj_names(),
                                  c->objective ? c->objective->fields : NULL, HEAD);
    if (!c->objective_head || !c->objective_rows) return FT_EMEM;
    c->objective_cfg = (char *)c->objective_head + HEAD;
    absent_floats(c->objective_rows, c->objective_head);
    if (!c->objective)
        return read_type_only(&c->doc, object, "objective", c->objective_rows, c->objective_head);
    FT_TRY(cfg_read(&c->doc, object, "objective", c->objective_rows, c->objective_head, NULL));
    if (c->objective->check) c->objective->check(&c->doc, object, c->objective_cfg);
    return FT_OK;
}

static bool says_none(const cJSON *q)
{
    return !q || cJSON_IsNull(q) || (cJSON_IsString(q) && strcmp(q->valuestring, "none") == 0);
}

/* Nothing said: what the method wants. "none" said: it must want nothing. */
static ft_status implied_quantization(train_config *c)
{
    const cJSON *q = c->model.quantization;
    const char *type = c->method ? c->method->quantization : NULL;
    if (!type) return FT_OK;
    if (q && !cJSON_IsNull(q)) {
        cfg_fail(
            &c->doc, q, "model.quantization",
            "\"none\" goes with another method: %s trains on a quantised base; leave the key out, "
            "or use method.type \"lora\"",
            c->method->name);
        return FT_OK;
    }
    c->implied = cJSON_CreateObject();
    if (!cJSON_AddStringToObject(c->implied, "type", type)) return FT_EMEM;
    c->model.quantization = c->implied;
    return FT_OK;
}

/* model.quantization: a type, and the keys of its row beside it. */
static ft_status read_quantization(train_config *c, arena *mem)
{
    static const char *const also[] = {"type", NULL};
    if (says_none(c->model.quantization)) FT_TRY(implied_quantization(c));
    const cJSON *q = c->model.quantization;
    if (says_none(q)) return FT_OK;
    const char *type = type_of(q, NULL);
    const model_quant *row = type ? model_quant_by_type(type) : NULL;
    if (!row) {
        str_buf known = {0};
        model_quant_list(&known, true);
        cfg_fail(&c->doc, q, "model.quantization",
                 "must be \"none\" or an object with a \"type\" that this build quantises to on "
                 "loading (%s); a .gguf base keeps its own blocks",
                 known.data ? known.data : "there is none");
        str_free(&known);
        return FT_OK;
    }
    c->model.quant = row;
    c->model.quant_cfg = arena_get(mem, row->make_size + 1);
    if (!c->model.quant_cfg) return FT_EMEM;
    absent_floats(row->make_fields, c->model.quant_cfg);
    FT_TRY(cfg_read(&c->doc, q, "model.quantization", row->make_fields, c->model.quant_cfg, also));
    if (row->check) row->check(&c->doc, q, "model.quantization", c->model.quant_cfg);
    return FT_OK;
}

/* --- checks across keys ------------------------------------------------------------------------------------------ */
static void check_model(train_config *c, arena *mem)
{
    cfg_doc *d = &c->doc;
    const cJSON *root = d->js.root, *object = js_get(root, "model");
    const cJSON *at = object ? object : root;
    const model_cfg *m = &c->model;
    if (!m->path && !m->from_config && !cfg_is_wrong(d, "model.from_config"))
        cfg_missing(d, at, "model.path",
                    "this key is required (a folder or a .gguf file), or model.from_config");
    if (m->path && m->from_config)
        cfg_fail(d, js_get(object, "from_config"), "model.from_config",
                 "model.path is given too; keep one of them");
    const bool told = ft_error()[0];
    bool bare = true;
    ft_error_keep(true);
    if (m->path && m->tokenizer && model_is_bare(m->path, mem, &bare) != FT_OK) {
        bare = true; /* why it cannot be looked at is told when it is opened */
        if (!told) ft_error_clear();
    }
    ft_error_keep(false);
    if (!bare)
        cfg_fail(d, js_get(object, "tokenizer"), "model.tokenizer",
                 "goes with model.from_config only: a model brings its own tokenizer");
}

static void check_loop(train_config *c)
{
    cfg_doc *d = &c->doc;
    const cJSON *object = js_get(d->js.root, "train"), *at = object ? object : d->js.root;
    const loop_cfg *t = &c->train;
    bool eval = c->data.eval || c->data.eval_split > 0 || cfg_is_wrong(d, "data.eval");
    const bool asks = t->sample_prompts && !cJSON_IsNull(t->sample_prompts);
    if (!eval && !asks)
        cfg_idle(d, object, "train", loop_rows, "eval_every",
                 "without evaluation data (data.eval, data.eval_split) or train.sample_prompts");
    if (!asks)
        cfg_idle(d, object, "train", loop_rows, "sample_max_new_tokens",
                 "without train.sample_prompts");
    if (t->keep_best && !eval)
        cfg_fail(d, at, "train.keep_best", "needs evaluation data; add data.eval");
    if (t->patience > 0 && !eval)
        cfg_fail(d, at, "train.patience", "needs evaluation data; add data.eval");
    if (eval && (t->keep_best || t->patience > 0) && t->eval_every == 0 &&
        !cfg_is_wrong(d, "train.eval_every"))
        cfg_fail(d, at, t->keep_best ? "train.keep_best" : "train.patience",
                 "needs evaluations during the run; set train.eval_every");
}

/* Objectives that hold to a reference train without dropout. */
static void check_dropout(train_config *c)
{
    static const char *const keys[] = {"lora_dropout", "dropout"};
    const obj_objective *o = c->objective;
    const cJSON *method = js_get(c->doc.js.root, "method");
    bool calm = o && o->calm;
    for (const cfg_field *r = o ? o->fields : NULL; r && r->key; r++)
        if (strcmp(r->key, "disable_dropout") == 0)
            calm = *(const bool *)((const char *)c->objective_cfg + r->offset);
    for (size_t i = 0; calm && c->method && i < FT_COUNT_OF(keys); i++)
        cfg_idle(&c->doc, method, "method", c->method->fields, keys[i],
                 "with objective.type \"%s\", which trains without dropout", o->name);
}

/* A file of completions takes the place of data.train: it is read as such, in its order. */
static void use_rollouts(train_config *c)
{
    const obj_objective *o = c->objective;
    const cJSON *object = js_get(c->doc.js.root, "data");
    if (!o || !o->replays || o->replays(c->objective_cfg) == 0) return;
    c->data.train = js_get(js_get(c->doc.js.root, "objective"), "rollouts");
    c->data.shuffle = false;
    if (c->data.eval_split > 0)
        cfg_fail(&c->doc, js_get(object, "eval_split"), "data.eval_split",
                 "there is no data.train to hold records out of: objective.rollouts is replayed");
}

static void check_data(train_config *c)
{
    const cJSON *object = js_get(c->doc.js.root, "data");
    if (!c->data.train)
        cfg_missing(&c->doc, object ? object : c->doc.js.root, "data.train",
                    "this key is required: a source, or a list of sources");
    if (c->data.eval && c->data.eval_split > 0)
        cfg_fail(&c->doc, js_get(object, "eval_split"), "data.eval_split",
                 "data.eval is given too; keep one of them");
    if (data_reads_input(c->data.train) > 0 && data_reads_input(c->data.eval) > 0)
        cfg_fail(&c->doc, js_get(object, "eval"), "data.eval", "\"-\" is in data.train already");
}

static ft_status check_prompts(train_config *c)
{
    static const cfg_field no_rows[] = { CFG_END };
    static const char *const keys[] = {"prompt", "messages", "tools", "chat_template_kwargs", NULL};
    const cJSON *v = c->train.sample_prompts, *one;
    if (v && !cJSON_IsString(v) && !cJSON_IsArray(v))
        cfg_fail(&c->doc, v, "train.sample_prompts", "must be a path, or a list of prompts");
    if (!cJSON_IsArray(v)) return FT_OK;
    cJSON_ArrayForEach(one, v)
    {
        if (!cJSON_IsObject(one)) continue; /* what it is, train_samples_open looks at */
        FT_TRY(cfg_read(&c->doc, one, "train.sample_prompts", no_rows, NULL, keys));
        const cJSON *prompt = js_get(one, "prompt");
        if (prompt && js_get(one, "messages"))
            cfg_fail(&c->doc, prompt, "train.sample_prompts.prompt", "not together with messages");
    }
    return FT_OK;
}

static void check_output(train_config *c, const train_options *opt)
{
    const cJSON *object = js_get(c->doc.js.root, "output");
    const char *dir = opt->out ? opt->out : c->output.dir;
    if (!dir)
        cfg_missing(&c->doc, object ? object : c->doc.js.root, "output.dir",
                    "this key is required, unless --out names the folder");
    else if (str_ends(dir, ".gguf"))
        cfg_fail(
            &c->doc, js_get(object, "dir"), "output.dir",
            "a run writes a folder, and a name with .gguf at its end is read as a file; choose "
            "another, then `ft convert` or `ft merge-adapter` writes a .gguf");
}

static void put_defaults(cfg_field *rows, const pe_default *d)
{
    for (; d && d->key; d++) {
        for (cfg_field *f = rows; f->key; f++)
            if (strcmp(f->key, d->key) == 0) f->def = d->value;
    }
}

/* The objective's where it has one. */
static double default_rate(const train_config *c)
{
    const obj_objective *o = c->objective;
    const bool adapter = c->method && c->method->result == PE_ADAPTER;
    const double own = !o ? 0 : adapter ? o->adapter_rate : o->learning_rate;
    return own > 0 ? own : c->method ? c->method->learning_rate : 2e-4;
}

static ft_status read_optim(train_config *c, arena *mem)
{
    const cJSON *object = js_get(c->doc.js.root, "optim");
    const char *type = type_of(object, "adamw");
    int before = c->doc.errors;
    c->rule = type ? opt_rule_by_name(type) : NULL;
    c->optim = arena_get(mem, OPTIM_HEAD + (c->rule ? c->rule->cfg_size : 0));
    cfg_field *rows =
        join_rows(mem, opt_fields, opt_rule_names(), c->rule ? c->rule->fields : NULL, OPTIM_HEAD);
    c->optim_rows = rows;
    if (!c->optim || !rows) return FT_EMEM;
    c->rule_cfg = (char *)c->optim + OPTIM_HEAD;
    put_defaults(rows, c->method ? c->method->optim : NULL);
    absent_floats(c->optim_rows, c->optim);
    if (c->rule)
        FT_TRY(cfg_read(&c->doc, object, "optim", c->optim_rows, c->optim, NULL));
    else
        FT_TRY(read_type_only(&c->doc, object, "optim", c->optim_rows, c->optim));
    if (c->rule && c->rule->check && c->doc.errors == before)
        c->rule->check(&c->doc, object, c->optim, c->rule_cfg);
    if (isnan(c->optim->learning_rate)) c->optim->learning_rate = default_rate(c);
    if (c->doc.errors == before) opt_check(&c->doc, object, c->optim);
    return FT_OK;
}

static void set_base_name(train_config *c)
{
    const cJSON *object = js_get(c->doc.js.root, "model");
    const cJSON *node =
        cJSON_IsObject(object) ? js_get(object, c->model.path ? "path" : "from_config") : NULL;
    if (!c->model.name) c->model.name = cJSON_IsString(node) ? node->valuestring : "";
    c->base_name = c->model.name;
}

/* A reward model has a head beside what the method trains, and no tokens to say. */
static void check_scores(train_config *c)
{
    cfg_doc *d = &c->doc;
    if (!c->objective || !c->objective->scores) return;
    if (c->method && !pe_keeps_head(c->method))
        cfg_fail(d, js_get(js_get(d->js.root, "method"), "type"), "method.type",
                 "\"%s\" has no place for the head of a reward model, which objective.type \"%s\" "
                 "trains; use lora or its like, bitfit or full",
                 c->method->name, c->objective->name);
    if (c->train.sample_prompts && !cJSON_IsNull(c->train.sample_prompts))
        cfg_fail(d, c->train.sample_prompts, "train.sample_prompts",
                 "objective.type \"%s\" trains a model that answers with a number, not with "
                 "tokens",
                 c->objective->name);
}

static bool has_row(const cfg_field *rows, const char *key)
{
    for (; rows && rows->key; rows++)
        if (strcmp(rows->key, key) == 0) return true;
    return false;
}

/* The section that has a key of this name, of whichever type; NULL. */
static const char *section_of(const char *key)
{
    for (const train_section *s = train_sections; s->key; s++)
        if (has_row(s->rows, key) && strcmp(key, "type") != 0) return s->key;
    for (int i = 0; pe_at(i); i++)
        if (has_row(pe_at(i)->fields, key)) return "method";
    for (int i = 0; opt_rule_at(i); i++)
        if (has_row(opt_rule_at(i)->fields, key)) return "optim";
    for (int i = 0; obj_at(i); i++)
        if (has_row(obj_at(i)->fields, key)) return "objective";
    return NULL;
}

bool train_key_meant(const char *key, cfg_meaning *out)
{
    const train_word *word = train_word_of(key);
    const char *own = word ? NULL : section_of(key);
    *out = (cfg_meaning){.why = word ? word->why : NULL};
    if (word && word->ours) snprintf(out->path, sizeof out->path, "%s", word->ours);
    if (own) snprintf(out->path, sizeof out->path, "%s.%s", own, key);
    return word || own;
}

ft_status train_config_open(train_config *c, const train_options *opt, arena *mem)
{
    static const char *keys[FT_COUNT_OF(train_sections)];
    static const cfg_field none[] = { CFG_END };
    *c = (train_config){0};
    FT_TRY(opt->config ? cfg_open(&c->doc, opt->config, NULL, 0, mem)
                       : cfg_open_empty(&c->doc, NULL, 0, mem));
    FT_TRY(train_given_put(&c->doc, &opt->given));
    FT_TRY(cfg_set(&c->doc, opt->sets, opt->n_sets));
    cfg_doc *d = &c->doc;
    const cJSON *root = d->js.root;
    d->meant = train_key_meant;
    for (size_t i = 0; train_sections[i].key; i++) keys[i] = train_sections[i].key;
    FT_TRY(cfg_read(d, root, "", none, c, keys));
    FT_TRY(cfg_read(d, js_get(root, "model"), "model", model_rows, &c->model, NULL));
    FT_TRY(read_method(c, mem));
    FT_TRY(read_quantization(c, mem));
    FT_TRY(train_read_qat(c, mem));
    absent_floats(data_fields, &c->data);
    FT_TRY(cfg_read(d, js_get(root, "data"), "data", data_fields, &c->data, NULL));
    FT_TRY(read_objective(c, mem));
    FT_TRY(read_optim(c, mem));
    FT_TRY(cfg_read(d, js_get(root, "train"), "train", loop_rows, &c->train, NULL));
    FT_TRY(cfg_read(d, js_get(root, "output"), "output", output_rows, &c->output, NULL));
    if (!opt->config && !c->output.dir) c->output.dir = "out";
    check_model(c, mem);
    use_rollouts(c);
    check_data(c);
    check_loop(c);
    check_dropout(c);
    FT_TRY(check_prompts(c));
    check_scores(c);
    check_output(c, opt);
    set_base_name(c);
    return cfg_done(d);
}

void train_config_close(train_config *c)
{
    if (c->doc.sets) cfg_close(&c->doc);
    cJSON_Delete(c->implied);
    c->implied = NULL;
}

/* --- the resolved config --------------------------------------------------------------------------------------------- */
/* Values that cfg_resolve takes for absent: floats without a default that are 0. */
static void add_zeros(cJSON *object, const cfg_field *rows, const void *values)
{
    for (; rows->key; rows++) {
        if (rows->type == CFG_FLOAT && !rows->def &&
            *(const double *)((const char *)values + rows->offset) == 0)
            cJSON_AddNumberToObject(object, rows->key, 0);
    }
}

/* A config while every default is filled in; the first failure stays. */
typedef struct resolving {
    const train_config *c;
    cJSON *root;
    ft_status rc;
} resolving;

static void resolve(resolving *r, cJSON *object, const cfg_field *rows, const void *values)
{
    if (r->rc == FT_OK && object) r->rc = cfg_resolve(object, rows, values);
}

static cJSON *section(resolving *r, const char *key, const cfg_field *rows, const void *values)
{
    cJSON *object = cJSON_AddObjectToObject(r->root, key);
    if (!object) return NULL;
    resolve(r, object, rows, values);
    add_zeros(object, rows, values);
    return object;
}

/* Makes the paths of a source list absolute: a string, an object with `path`, or a list of either. `from` is the node the
 * copy was made of, which knows the folder its path is relative to. */
static ft_status absolute_sources(cfg_doc *d, const cJSON *from, cJSON *copy)
{
    if (cJSON_IsArray(copy)) {
        const cJSON *source = from->child;
        for (cJSON *node = copy->child; node && source; node = node->next, source = source->next)
            FT_TRY(absolute_sources(d, source, node));
    } else if (cJSON_IsObject(copy)) {
        cJSON *path = cJSON_GetObjectItemCaseSensitive(copy, "path");
        if (path) return absolute_sources(d, js_get(from, "path"), path);
    } else if (cJSON_IsString(copy) && !data_reads_input(copy)) {
        str_buf text = {0};
        const char *path = cfg_path(d, from, from->valuestring);
        ft_status rc = path ? cfg_absolute(&text, path) : FT_EMEM;
        if (rc == FT_OK && !cJSON_SetValuestring(copy, text.data)) rc = FT_EMEM;
        str_free(&text);
        return rc;
    }
    return FT_OK;
}

static void resolve_sources(resolving *r, cJSON *data, const char *key, const cJSON *from)
{
    cJSON *copy = cJSON_GetObjectItemCaseSensitive(data, key);
    cfg_doc doc = r->c->doc; /* cfg_path only reads it */
    if (r->rc == FT_OK && copy && from) r->rc = absolute_sources(&doc, from, copy);
}

/* The node of a path; NULL where it is a list, whose texts are none. */
static const cJSON *prompts_file(const train_config *c)
{
    return cJSON_IsString(c->train.sample_prompts) ? c->train.sample_prompts : NULL;
}

ft_status train_config_resolved(cJSON **out, const train_config *c, const char *dir)
{
    const output_cfg output = {.dir = dir};
    resolving r = {.c = c, .root = cJSON_CreateObject()};
    *out = NULL;
    if (!r.root) return FT_EMEM;
    cJSON *base = section(&r, "model", model_rows, &c->model);
    cJSON *quant = base ? cJSON_GetObjectItemCaseSensitive(base, "quantization") : NULL;
    if (c->model.quant) resolve(&r, quant, c->model.quant->make_fields, c->model.quant_cfg);
    cJSON *qat = base ? cJSON_GetObjectItemCaseSensitive(base, "qat") : NULL;
    if (c->model.qat.row) resolve(&r, qat, c->model.qat.row->fields, c->model.qat.cfg);
    cJSON *method = section(&r, "method", c->method_rows, c->method_head);
    if (method && c->method_head->init_from)
        pe_leave_to_adapter(method, js_get(c->doc.js.root, "method"), c->method_head->init_from);
    cJSON *data = section(&r, "data", data_fields, &c->data);
    if (data) {
        resolve_sources(&r, data, "train", c->data.train);
        resolve_sources(&r, data, "eval", c->data.eval);
    }
    section(&r, "objective", c->objective_rows, c->objective_head);
    section(&r, "optim", c->optim_rows, c->optim);
    cJSON *train = section(&r, "train", loop_rows, &c->train);
    if (train) resolve_sources(&r, train, "sample_prompts", prompts_file(c));
    section(&r, "output", output_rows, &output);
    if (r.rc == FT_OK) r.rc = js_whole();
    if (r.rc == FT_OK)
        *out = r.root;
    else
        cJSON_Delete(r.root);
    return r.rc;
}

/* --- what a resumed run may not change ---------------------------------------------------------------------------------- */
/* Keys that a resumed run may change: pace and place. Data and base are compared by their content, not by name. */
static const char *const free_keys[] = {
    "model.name",
    "model.path",
    "model.from_config",
    "model.tokenizer",
    "method.init_from",
    "data.train",
    "data.eval",
    "data.chat_template",
    "objective.rollouts",
    "data.max_unpacked_bytes",
    "train.max_steps",
    "train.epochs",
    "train.micro_batch_size",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.max_seconds",
    "train.keep_best",
    "train.patience",
    "train.eval_on_start",
    "train.sample_prompts",
    "train.sample_max_new_tokens",
    "output.dir",
    "output.tensorboard",
    "output.csv",
};

static bool is_free(const char *section_key, const char *key)
{
    size_t n = strlen(section_key);
    for (size_t i = 0; i < FT_COUNT_OF(free_keys); i++) {
        if (strncmp(free_keys[i], section_key, n) == 0 && free_keys[i][n] == '.' &&
            strcmp(free_keys[i] + n + 1, key) == 0)
            return true;
    }
    return false;
}

ft_status train_config_identity(const cJSON *resolved, str_buf *out)
{
    for (const cJSON *s = resolved->child; s; s = s->next) {
        for (const cJSON *v = s->child; v; v = v->next) {
            if (is_free(s->string, v->string)) continue;
            str_printf(out, "%s.%s=", s->string, v->string);
            js_print(out, v, false);
            str_addc(out, '\n');
        }
    }
    return str_ok(out);
}

static void value_text(str_buf *out, const cJSON *v)
{
    if (v)
        js_print(out, v, false);
    else
        str_adds(out, "absent");
}

const cfg_field *train_config_rows(const train_config *c, const char *section)
{
    if (strcmp(section, "method") == 0) return c->method_rows;
    if (strcmp(section, "objective") == 0) return c->objective_rows;
    if (strcmp(section, "optim") == 0) return c->optim_rows;
    for (size_t i = 0; train_sections[i].key; i++)
        if (strcmp(train_sections[i].key, section) == 0) return train_sections[i].rows;
    return NULL;
}

/* Keys of one section that were there before and are not now, or the other way round, or say something else. A key at its
 * default says what a version without it did. */
static int section_differences(const cfg_field *rows, const cJSON *before, const cJSON *now,
                               bool schedule, str_buf *out)
{
    int n = 0;
    for (int added = 0; added < 2; added++) {
        const cJSON *a = added ? now : before, *b = added ? before : now;
        for (const cJSON *v = a ? a->child : NULL; v; v = v->next) {
            const cJSON *w = b ? js_get(b, v->string) : NULL;
            if (is_free(a->string, v->string) || (added && (w || cfg_is_default(rows, v))))
                continue;
            bool shape = strcmp(a->string, "optim") == 0 && opt_of_schedule(v->string);
            if (shape != schedule || (w && cJSON_Compare(v, w, true))) continue;
            str_printf(out, "%s%s.%s: ", out->len ? "; " : "", a->string, v->string);
            value_text(out, added ? w : v);
            str_adds(out, " -> ");
            value_text(out, added ? v : w);
            n++;
        }
    }
    return n;
}

int train_config_differences(const train_config *c, const cJSON *before, const cJSON *now,
                             str_buf *out)
{
    int n = 0;
    for (size_t i = 0; train_sections[i].key; i++) {
        const char *key = train_sections[i].key;
        n += section_differences(train_config_rows(c, key), js_get(before, key), js_get(now, key),
                                 false, out);
    }
    return n;
}

int train_schedule_differences(const train_config *c, const cJSON *before, const cJSON *now,
                               str_buf *out)
{
    return section_differences(c->optim_rows, js_get(before, "optim"), js_get(now, "optim"), true,
                               out);
}
