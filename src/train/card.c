/* card.c – README.md of an adapter: a model card as PEFT's, with a head that the hub reads, what the adapter was trained on
 * and how, its losses, and how to use it.
 *
 * Names come from files of others: they stand in code spans, where Markdown means nothing, and in quoted scalars of YAML. */
#include "train_private.h"

#include <math.h>
#include <string.h>

/* A code span, also in a cell of a table. */
static void code(str_buf *out, const char *text)
{
    str_addc(out, '`');
    for (; *text; text++) {
        if (*text == '|') str_addc(out, '\\');
        str_addc(out, *text == '`' || (unsigned char)*text < 0x20 ? ' ' : *text);
    }
    str_addc(out, '`');
}

static bool is_plain(const char *text)
{
    static const char usual[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./";
    bool word = false; /* a number, or true, would be another type */
    for (const char *p = text; *p; p++) word = word || *p == '/' || *p == '_';
    return word && text[0] != '-' && text[0] != '.' && strspn(text, usual) == strlen(text);
}

/* A scalar of YAML: JSON's strings are. */
static void scalar(str_buf *out, const char *front, const char *text)
{
    str_buf all = {0};
    str_printf(&all, "%s%s", front, text);
    if (!all.failed && is_plain(all.data) && !front[0])
        str_adds(out, all.data);
    else if (!all.failed)
        str_json(out, all.data, all.len);
    out->failed = out->failed || all.failed;
    str_free(&all);
}

static void put_head(const train_session *s, str_buf *out)
{
    const bool peft = s->pe->result == PE_ADAPTER;
    str_adds(out, "---\nbase_model: ");
    scalar(out, "", s->cfg.base_name);
    str_printf(out, "\nlibrary_name: %s\npipeline_tag: text-%s\ntags:\n- ",
               peft ? pe_format_of(s->cfg.method)->tag : "ft",
               s->m->scores ? "classification" : "generation");
    scalar(out, "base_model:adapter:", s->cfg.base_name);
    str_printf(out, "\n- %s\n- transformers\n- ft\n---\n\n", s->cfg.method->name);
}

/* --- what it was trained on, and how --------------------------------------------------------------------------------- */
static void put_sources(const data_set *d, const char *what, str_buf *out)
{
    for (int i = 0; d && i < data_sources(d); i++) {
        const data_source_stats *t = data_stats(d, i);
        str_printf(out, "| %s | ", what);
        code(out, t->name);
        str_printf(out, " (%s): %lld records, %.0f tokens |\n", t->format, (long long)t->records,
                   data_tokens(d, i));
    }
}

static bool is_listed(const char *key, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(key, *list) == 0) return true;
    return false;
}

/* Paths of this machine, pace and place: nobody else's business. */
static const char *const hidden[] = {
    "train",         "eval",      "init_from",        "log_every",        "eval_every",
    "eval_on_start", "keep_best", "checkpoint_every", "keep_checkpoints", "sample_prompts",
    "max_seconds",   NULL};

/* The keys of a section that say something else than their defaults, and those that are always told, in one cell. */
static void put_section(const train_session *s, const char *key, str_buf *out)
{
    static const char *const always[] = {"type",          "r",
                                         "lora_alpha",    "target_modules",
                                         "learning_rate", "lr_scheduler_type",
                                         "max_length",    "batch_size",
                                         "seed",          NULL};
    const cfg_field *rows = train_config_rows(&s->cfg, key);
    int n = 0;
    str_printf(out, "| %s | ", key);
    for (const cJSON *v = js_get(s->resolved, key)->child; v; v = v->next) {
        str_buf value = {0};
        if (is_listed(v->string, hidden)) continue;
        if (!is_listed(v->string, always) && cfg_is_default(rows, v)) continue;
        js_print(&value, v, false);
        str_printf(out, "%s%s ", n++ ? ", " : "", v->string);
        code(out, value.data ? value.data : "");
        out->failed = out->failed || value.failed;
        str_free(&value);
    }
    str_adds(out, " |\n");
}

static void put_training(const train_session *s, str_buf *out)
{
    static const char *const sections[] = {"method", "objective", "optim", "train", "data"};
    const train_state *st = &s->state;
    str_adds(out, "## Training\n\n| | |\n|---|---|\n| base | ");
    code(out, s->cfg.base_name);
    str_adds(out, " |\n");
    put_sources(s->train, "training data", out);
    put_sources(s->eval, "evaluation data", out);
    for (size_t i = 0; i < FT_COUNT_OF(sections); i++) put_section(s, sections[i], out);
    str_printf(out,
               "| steps | %lld of %lld, %.4g epochs, %lld tokens, %lld of them learned |\n"
               "| made by | ft %s |\n\n",
               (long long)st->step, (long long)s->total_steps,
               (double)st->step / (double)s->epoch_steps, (long long)st->tokens,
               (long long)st->supervised, FT_VERSION);
}

static void put_loss(str_buf *out, double v)
{
    if (isfinite(v))
        str_printf(out, " %.4f |", v);
    else
        str_adds(out, " |");
}

static void put_losses(const train_session *s, str_buf *out)
{
    const train_state *st = &s->state;
    str_adds(out, "## Losses\n\n| | first | last |\n|---|---|---|\n| training |");
    put_loss(out, st->first_loss);
    put_loss(out, st->last_loss);
    str_addc(out, '\n');
    for (int i = 0; i < st->n_evals; i++) {
        str_adds(out, "| evaluation: ");
        code(out, data_stats(s->eval, i)->name);
        str_adds(out, " |");
        put_loss(out, st->eval_first[i]);
        put_loss(out, st->eval_last[i]);
        str_addc(out, '\n');
    }
    if (s->cfg.train.keep_best && st->best_step > 0)
        str_printf(out,
                   "\nThe values are those of step %lld, with the lowest loss of evaluation.\n",
                   (long long)st->best_step);
    str_addc(out, '\n');
}

/* --- how to use it ------------------------------------------------------------------------------------------------------ */
/* The library is laid over transformers' own class of the base. */
static void put_adapters(const train_session *s, const char *name, str_buf *out)
{
    str_adds(out, "With adapters:\n\n```python\nimport adapters\n"
                  "from transformers import AutoModelForCausalLM\n\n"
                  "model = AutoModelForCausalLM.from_pretrained(");
    str_json(out, s->cfg.base_name, strlen(s->cfg.base_name));
    str_printf(out,
               ")\nadapters.init(model)\n"
               "model.load_adapter(%s, set_active=True, use_safetensors=True)\n```\n\n",
               name);
}

static void put_peft(const train_session *s, const char *name, str_buf *out)
{
    const char *end = s->m->scores ? "SequenceClassification" : "CausalLM";
    str_buf quoted = {0};
    if (s->pe->result != PE_ADAPTER) {
        str_adds(out,
                 "PEFT does not know this method; `ft merge-adapter` makes a model of it.\n\n");
        return;
    }
    str_json(&quoted, name, strlen(name)); /* a string of Python too */
    if (!quoted.failed && pe_format_of(s->cfg.method) == &pe_format_adapters)
        put_adapters(s, quoted.data, out);
    else if (!quoted.failed)
        str_printf(out,
                   "With PEFT:\n\n```python\nfrom peft import AutoPeftModelFor%s\n"
                   "from transformers import AutoTokenizer\n\n"
                   "model = AutoPeftModelFor%s.from_pretrained(%s%s)\n"
                   "tokenizer = AutoTokenizer.from_pretrained(%s)\n```\n\n",
                   end, end, quoted.data, s->m->scores ? ", num_labels=1" : "", quoted.data);
    out->failed = out->failed || quoted.failed;
    str_free(&quoted);
}

/* Does `ft convert` make a LoRA of llama.cpp of it? */
static bool is_lora_file(const train_session *s)
{
    const pe_ctx *pe = s->pe;
    model_low_rank low;
    bool can = pe->method->low_rank && !pe_replaces(pe);
    for (int64_t i = 0; can && i < s->m->n_site; i++)
        can = !pe->method->low_rank(pe, &s->m->site[i], &low) ||
              !model_lora_refuses(s->m, &s->m->site[i]);
    return can;
}

static void put_llama_cpp(const train_session *s, const char *name, str_buf *out)
{
    if (is_lora_file(s)) {
        str_adds(out, "With llama.cpp, beside the .gguf of its base (`ft convert BASE --out "
                      "base.gguf` makes one):\n\n```sh\nft convert");
        train_add_word(out, name, true);
        str_adds(out, " --out adapter.gguf\nllama-cli -m base.gguf --lora adapter.gguf\n```\n\n"
                      "or folded into it:\n\n```sh\nft merge-adapter");
    } else {
        str_adds(out, "With llama.cpp, folded into its base:\n\n```sh\nft merge-adapter");
    }
    train_add_word(out, name, true);
    str_adds(out, " --out model.gguf\nllama-cli -m model.gguf\n```\n\n"
                  "The base is looked for where it was named in training; `--model` (of "
                  "merge-adapter and convert: `--base`) names another place.\n");
}

static void put_use(const train_session *s, const char *name, str_buf *out)
{
    const bool scores = s->m->scores;
    str_printf(out, "## Use\n\nWith ft:\n\n```sh\nft %s --adapter", scores ? "score" : "generate");
    train_add_word(out, name, true);
    str_printf(out, "%s\n```\n\n",
               scores    ? " --data lines.jsonl"
               : s->chat ? " --chat --prompt \"...\""
                         : " --prompt \"...\"");
    put_peft(s, name, out);
    if (scores) {
        str_adds(out, "With llama.cpp: not at all; a reward model has no place in a .gguf.\n");
        return;
    }
    if (!s->cfg.method->fold) {
        str_printf(out, "With llama.cpp: not at all; no weight can take in what %s trains.\n",
                   s->cfg.method->name);
        return;
    }
    put_llama_cpp(s, name, out);
}

ft_status train_card_write(const train_session *s, const char *dir, const char *name)
{
    str_buf out = {0}, path = {0};
    put_head(s, &out);
    str_adds(&out, "# ");
    code(&out, path_base(name));
    str_printf(&out, "\n\nAn adapter (%s) for ", s->cfg.method->name);
    code(&out, s->cfg.base_name);
    str_adds(&out, ".\n\n");
    put_training(s, &out);
    put_losses(s, &out);
    put_use(s, name, &out);
    str_printf(&path, "%s/README.md", dir);
    ft_status rc = str_ok(&out);
    if (rc == FT_OK) rc = str_ok(&path);
    if (rc == FT_OK) rc = file_write(path.data, out.data, out.len);
    str_free(&out);
    str_free(&path);
    return rc;
}
