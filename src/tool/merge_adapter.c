/* merge_adapter.c – `ft merge-adapter`: folds an adapter into its base, reads back what was written, and lets it stand only
 * when it computes what base and adapter computed together.
 *
 * Into blocks or codes the sum of base and adapter is rounded again. What that costs is told apart from what merging costs:
 * the sum is first written as numbers, proved, and removed. */
#include <math.h>
#include <string.h>

#include "tool_private.h"

/* Mean KL in nats between adapter-on and merged: bf16 rounding alone gives about 1e-4, a lost layer 0.1 and more. */
#define DEFAULT_TOLERANCE 0.01

typedef struct merge {
    const tool_merge_options *opt;
    io_target target;
    model_watched watched;
    const dt_type *type; /* of the output's matrices, but for those that quant codes */
    const model_quant *quant;
    void *quant_cfg;
    tool_proof unrounded; /* of the sum as numbers; only where it is rounded again */
    const char *adapter;  /* that is folded: the one given, or a folder of what several make */
    pe_combined made;     /* of several */
    const char *base, *tokenizer; /* tokenizer: the adapter, where it has another one; NULL */
    const char *template;         /* the adapter's, which stands there without a tokenizer; NULL */
    tool_model *on;               /* base with adapter */
    tool_model *merged;           /* what was written */
    tool_proof proof;
    double tolerance; /* < 0: none */
    arena *mem;
} merge;

static void put_number(str_buf *s, const char *key, double v)
{
    tool_json_key(s, key);
    tool_json_number(s, v);
}

static void put_text(str_buf *s, const char *key, const char *v)
{
    tool_json_key(s, key);
    tool_json_text(s, v, strlen(v));
}

static bool rounds(const merge *m)
{
    return m->quant || m->type->block > 1;
}

static const char *type_name(const merge *m)
{
    const model_mix *mix = model_mix_by_name(m->opt->type);
    return m->quant ? model_quant_output(m->quant) : mix ? mix->name : m->type->name;
}

/* What each step does to the model: as numbers on the texts of the proof, against base and adapter. */
typedef struct damage {
    const char *name, *type;
    double perplexity, max_logit_diff, mean_kl;
} damage;

static int damages(const merge *m, damage d[3])
{
    const tool_proof *last = &m->proof, *first = rounds(m) ? &m->unrounded : last;
    int n = 0;
    d[n++] = (damage){"adapter", NULL, last->perplexity[0], 0, 0};
    d[n++] = (damage){"merged", rounds(m) ? m->on->m->dtype->name : type_name(m),
                      first->perplexity[1], first->max_logit_diff, first->mean_kl};
    if (rounds(m))
        d[n++] = (damage){"requantised", type_name(m), last->perplexity[1], last->max_logit_diff,
                          last->mean_kl};
    return n;
}

static void damage_json(const merge *m, str_buf *s)
{
    damage d[3];
    int n = damages(m, d);
    tool_json_key(s, "damage");
    for (int i = 0; i < n; i++) {
        str_adds(s, i ? ",{" : "[{");
        put_text(s, "name", d[i].name);
        if (d[i].type) put_text(s, "type", d[i].type);
        put_number(s, "perplexity", d[i].perplexity);
        put_number(s, "max_logit_diff", d[i].max_logit_diff);
        put_number(s, "mean_kl", d[i].mean_kl);
        str_addc(s, '}');
    }
    str_addc(s, ']');
}

static void damage_text(const merge *m, str_buf *s)
{
    damage d[3];
    int n = damages(m, d);
    str_printf(s, "perplexity over %lld tokens: %s %.5g", (long long)m->proof.scored, d[0].name,
               d[0].perplexity);
    for (int i = 1; i < n; i++)
        str_printf(s, ", %s (%s) %.5g: max |logit difference| %.3g, mean KL %.3g", d[i].name,
                   d[i].type, d[i].perplexity, d[i].max_logit_diff, d[i].mean_kl);
    str_addc(s, '\n');
}

static void report_json(const merge *m, bool passed, str_buf *s)
{
    const tool_proof *p = &m->proof;
    str_addc(s, '{');
    put_text(s, "out", m->opt->out);
    if (m->opt->combine)
        tool_combine_json(s, m->opt->combine, &m->made);
    else
        put_text(s, "adapter", m->opt->adapter);
    put_text(s, "base", m->base);
    put_text(s, "type", type_name(m));
    tool_json_key(s, "proof");
    str_addc(s, '{');
    tool_json_key(s, "tokens");
    str_printf(s, "%lld", (long long)p->tokens);
    put_number(s, "max_logit_diff", p->max_logit_diff);
    put_number(s, "max_logprob_diff", p->max_logprob_diff);
    put_number(s, "mean_kl", p->mean_kl);
    put_number(s, "top1_agreement", p->top1_agreement);
    tool_json_key(s, "scored_tokens");
    str_printf(s, "%lld", (long long)p->scored);
    put_number(s, "adapter_effect", p->effect);
    put_number(s, "tolerance", m->tolerance >= 0 ? m->tolerance : HUGE_VAL);
    tool_json_key(s, "passed");
    str_adds(s, passed ? "true" : "false");
    str_addc(s, '}');
    damage_json(m, s);
    tool_json_memory(s, &m->on->plan);
    str_adds(s, "}\n");
}

static void report_text(const merge *m, bool passed, str_buf *s)
{
    const tool_proof *p = &m->proof;
    str_printf(s,
               "proof over %lld tokens: max |logit difference| %.3g, max |log-probability "
               "difference| %.3g, mean KL %.3g nats, top-1 agreement %.2f %%\n",
               (long long)p->tokens, p->max_logit_diff, p->max_logprob_diff, p->mean_kl,
               100 * p->top1_agreement);
    if (rounds(m) || m->on->m->has_blocks) damage_text(m, s);
    if (m->tolerance < 0)
        str_printf(s, "the difference is the damage of rounding to %s; no limit was asked for\n",
                   type_name(m));
    if (passed) str_printf(s, "%s: merged in %s\n", ft_shows(m->opt->out), type_name(m));
}

static ft_status report(const merge *m, bool passed, str_buf *s)
{
    if (m->opt->json)
        report_json(m, passed, s);
    else
        report_text(m, passed, s);
    return str_ok(s);
}

static void note(const merge *m)
{
    str_buf line = {0};
    file_log *log = NULL;
    path_kind run, noted;
    if (m->opt->combine) return; /* of no one run */
    static const char *const heads[] = {"{\"out\":\"*\",\"adapter\":\"*,\"proof\":{", NULL};
    const char *path = path_join(m->mem, m->opt->adapter, "merges.jsonl");
    if (!path || path_look_in(m->opt->adapter, "summary.json", &run) != FT_OK) {
        ft_error_clear();
        return;
    }
    if (run != PATH_FILE) return;
    if (path_look(path, &noted) != FT_OK || (noted != PATH_NONE && !io_begins(path, heads))) {
        ft_error_clear(); /* of others: it stays as it is */
        return;
    }
    report_json(m, true, &line);
    const bool patience = file_patience(false);
    ft_status rc = str_ok(&line);
    if (rc == FT_OK) rc = file_log_open(&log, path, -1);
    if (rc == FT_OK) rc = file_log_add(log, line.data, line.len);
    if (rc == FT_OK) rc = file_log_sync(log);
    file_log_close(log);
    file_patience(patience);
    str_free(&line);
    if (rc != FT_OK && rc != FT_EPERM)
        log_warn("the proof is not noted beside the adapter: %s", ft_error());
    ft_error_clear();
}

/* A run keeps the proofs of what was merged from it, for ft report. What cannot be noted harms no result. */
static void note_proof(const merge *m)
{
    const bool before = ft_error_starved();
    note(m);
    ft_error_forget_since(before);
}

/* The adapters that were given; *n: their number. */
static const char *const *given(const merge *m, int *n)
{
    const pe_combine *c = m->opt->combine;
    *n = c ? c->n : 1;
    return c ? c->dir : &m->opt->adapter;
}

/* The run that made the adapter noted the SHA-256 of its base: another base of the same shape fits and is wrong. */
static ft_status check_base(const merge *m, const char *adapter)
{
    char *text, hex[65];
    size_t len;
    js_doc d;
    const char *path = path_join(m->mem, adapter, "summary.json");
    path_kind kind;
    if (!path) return FT_EMEM;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&text, &len, path, (size_t)16 << 20));
    ft_status rc = js_parse(&d, text, len, path, 1, JS_NO_POSITIONS, FT_EDATA);
    if (rc == FT_OK) {
        const cJSON *base = js_get(js_get(d.root, "sha256"), "base");
        if (cJSON_IsString(base)) rc = io_weights_sha256(&m->on->m->weights, hex);
        if (rc == FT_OK && cJSON_IsString(base) && strcmp(base->valuestring, hex) != 0)
            log_warn("%s: is not the file this adapter was trained on (%s/summary.json has another "
                     "SHA-256); it fits, but does it belong?",
                     ft_shows(m->base), ft_shows(adapter));
        js_close(&d);
    }
    ft_free(text);
    return rc;
}

static bool same_text(const str_buf *a, const str_buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static bool same_templates(const tok_tokenizer *a, const tok_tokenizer *b)
{
    int n, k;
    const tok_named *x = tok_chat_templates(a, &n), *y = tok_chat_templates(b, &k);
    bool same = n == k;
    for (int i = 0; same && i < n; i++)
        same = strcmp(x[i].name, y[i].name) == 0 && strcmp(x[i].text, y[i].text) == 0;
    return same;
}

static ft_status same_tokenizer(const tok_tokenizer *a, const tok_tokenizer *b, bool *same)
{
    str_buf json[2] = {{0}, {0}}, config[2] = {{0}, {0}};
    ft_status rc = tok_write_json(a, &json[0], &config[0]);
    if (rc == FT_OK) rc = tok_write_json(b, &json[1], &config[1]);
    *same = rc == FT_OK && same_text(&json[0], &json[1]) && same_text(&config[0], &config[1]) &&
            same_templates(a, b);
    for (int i = 0; i < 2; i++) {
        str_free(&json[i]);
        str_free(&config[i]);
    }
    return rc;
}

/* Most often the tokenizer beside an adapter is the base's: then the result has it as the base has it, which is more than a
 * copy in another form can say. */
static ft_status choose_tokenizer(merge *m)
{
    tok_tokenizer *own = NULL, *base = NULL;
    bool same = false;
    if (m->on->chat_template) {
        int n;
        m->template = tok_chat_templates(m->on->tok, &n)->text;
    }
    bool beside;
    FT_TRY(tok_in_folder(m->adapter, &beside));
    if (!beside) return FT_OK;
    ft_status rc = tok_open(&own, m->adapter);
    if (rc == FT_OK) rc = tok_open(&base, m->base);
    if (rc == FT_OK) rc = same_tokenizer(own, base, &same);
    tok_close(own);
    tok_close(base);
    if (rc != FT_OK && rc != FT_EDATA && rc != FT_ENOINPUT) return rc;
    ft_error_clear(); /* the base has none, or one that ft does not read */
    m->tokenizer = same ? NULL : m->adapter;
    return FT_OK;
}

static void save_options(const merge *m, const dt_type *type, const model_quant *quant,
                         model_save_options *out)
{
    model_fold fold = pe_folder(m->on->adapter);
    fold.name = m->opt->combine ? "the adapters" : m->adapter;
    *out = (model_save_options){.over = &m->on->adapter->over,
                                .type = quant ? NULL : type,
                                .mix = type == m->type ? model_mix_by_name(m->opt->type) : NULL,
                                .quant = quant,
                                .quant_cfg = m->quant_cfg,
                                .exact_vectors = m->on->adapter->method->exact_vectors,
                                .fold = fold,
                                .tokenizer = m->tokenizer,
                                .template = m->template};
}

/* The sum is written, then mapped beside the base and run side by side with it. */
static ft_status plan(merge *m)
{
    const dt_type *numbers = m->on->m->dtype;
    model_save_options save, unrounded_save;
    double unrounded = 0;
    save_options(m, m->type, m->quant, &save);
    save_options(m, numbers, NULL, &unrounded_save);
    const double bytes = model_saved_bytes(m->on->m, m->target.path, &save);
    FT_TRY(tool_check_space(bytes, &m->target));
    if (rounds(m)) unrounded = model_saved_bytes(m->on->m, "", &unrounded_save);
    m->on->plan.apart = tool_saving_bytes(m->on->m, m->target.path, &save);
    m->on->plan.gemm = true;
    m->on->plan.later = (size_t)(bytes > unrounded ? bytes : unrounded);
    return tool_plan_proof(m->on);
}

static ft_status open_inputs(merge *m)
{
    const tool_merge_options *opt = m->opt;
    int n;
    const char *const *adapter = given(m, &n);
    FT_TRY(model_check_links(m->base, opt->follow_links));
    FT_TRY(model_watch(&m->watched, m->base, m->mem));
    for (int i = 0; i < n; i++) {
        FT_TRY(model_check_links(adapter[i], opt->follow_links));
        FT_TRY(model_watch(&m->watched, adapter[i], m->mem));
    }
    m->adapter = opt->adapter;
    if (opt->combine) {
        m->adapter = path_join(m->mem, m->target.work, IO_TARGET_ADAPTER);
        if (!m->adapter) return FT_EMEM;
        FT_TRY(tool_combine(opt->combine, m->base, m->adapter, &m->made));
    }
    FT_TRY(tool_open(&m->on, m->base, m->adapter, TOOL_ANY, opt->precision));
    pe_qat_fix(m->on->qat);
    return FT_OK;
}

/* A pruned base is none any more where a change is added to its zeros. */
static void tell_zeros(const merge *m)
{
    double most, all;
    pe_zeros_lost(m->on->adapter, &most, &all);
    if (most > 0.1)
        log_warn(
            "%s: %.1f %% of the weights that the adapter changes are 0, and will not be in the "
            "merged model; --keep-zeros leaves them 0",
            ft_shows(m->base), 100 * all);
}

static ft_status open_on(merge *m)
{
    const tool_merge_options *opt = m->opt;
    int n;
    const char *const *adapter = given(m, &n);
    FT_TRY(open_inputs(m));
    FT_CHECK(m->on->adapter->method->fold, FT_EDATA,
             "%s: an adapter of method %s has no weights to fold; use it as it is, with --adapter",
             ft_shows(opt->adapter), m->on->adapter->method->name);
    if (opt->keep_zeros)
        FT_TRY(pe_keep_zeros(m->on->adapter));
    else
        tell_zeros(m);
    m->on->plan.values = pe_values_bytes(m->on->adapter);
    for (int i = 0; i < n; i++) FT_TRY(check_base(m, adapter[i]));
    FT_TRY(choose_tokenizer(m));
    FT_TRY(tool_output_quant(opt->type, m->target.path, NULL, 0, m->mem, &m->quant, &m->quant_cfg));
    if (!m->quant) FT_TRY(tool_output_type(opt->type, m->target.path, &m->type));
    bool gguf = str_ends(m->target.path, ".gguf");
    if (!m->type) m->type = m->on->m->has_blocks && gguf ? &dt_f16 : m->on->m->dtype;
    if (m->quant && m->quant->writer->fits) { /* before anything is written to prove it */
        model_save_options save;
        save_options(m, NULL, m->quant, &save);
        FT_TRY(m->quant->writer->fits(m->on->m, &save));
    }
    m->tolerance = opt->tolerance;
    if (m->tolerance < 0 && !rounds(m)) m->tolerance = DEFAULT_TOLERANCE;
    return plan(m);
}

/* Writes the sum to `path` and compares it with base and adapter. */
static ft_status prove(merge *m, const char *path, const dt_type *type, const model_quant *quant,
                       tool_proof *proof)
{
    model_save_options save;
    save_options(m, type, quant, &save);
    FT_TRY(tool_save(m->on->m, path, &save));
    FT_TRY(tool_open(&m->merged, path, NULL, TOOL_ANY | (m->on->tok ? TOOL_TOKENIZER : 0),
                     m->opt->precision));
    return tool_prove(m->on, m->merged, proof);
}

static ft_status prove_numbers(merge *m)
{
    const dt_type *type = m->on->m->dtype;
    const char *path = path_join(m->mem, m->target.work, "numbers"), *left;
    if (!path) return FT_EMEM;
    model_save_options save;
    save_options(m, type, NULL, &save);
    FT_TRY(tool_check_space(model_saved_bytes(m->on->m, path, &save), &m->target));
    FT_TRY(prove(m, path, type, NULL, &m->unrounded));
    tool_close(m->merged);
    m->merged = NULL;
    return io_clear(path, 0, m->mem, &left);
}

static ft_status write_and_prove(merge *m)
{
    if (rounds(m)) FT_TRY(prove_numbers(m));
    FT_TRY(prove(m, m->target.temp, m->type, m->quant, &m->proof));
    FT_CHECK(isfinite(m->proof.effect), FT_EDIVERGED,
             "%s: the adapter's own logits are not finite numbers", ft_shows(m->opt->adapter));
    FT_CHECK(!m->proof.poisoned && !m->unrounded.poisoned, FT_EDIVERGED,
             "%s: not written: logits of base and adapter, or of the merged model, are NaN or Inf, "
             "so that nothing is proved",
             ft_shows(m->opt->out));
    if (m->proof.effect == 0)
        log_warn("%s: the adapter changes nothing: its output is the base's",
                 ft_shows(m->opt->adapter));
    return FT_OK;
}

static ft_status open_target(merge *m)
{
    const tool_merge_options *opt = m->opt;
    int n;
    const char *const *adapter = given(m, &n);
    io_input *in = arena_get(m->mem, ((size_t)n + 1) * sizeof *in);
    if (!in) return FT_EMEM;
    for (int i = 0; i < n; i++) {
        FT_TRY(io_adapter_exists(adapter[i]));
        in[i] = (io_input){.what = n > 1 ? "an adapter" : "the adapter", .path = adapter[i]};
    }
    m->base = opt->base;
    if (!m->base) FT_TRY(tool_adapter_base(opt->adapter, m->mem, &m->base));
    in[n] = (io_input){.what = "the base", .path = m->base};
    return io_target_open(&m->target, opt->out, opt->force, in, n + 1, m->mem);
}

/* No type and no tolerance is the remedy where the form of the output has lost it. */
static ft_status check_window(const merge *m)
{
    const int64_t window = m->on->m->d.window;
    FT_CHECK(window == 0 || m->merged->m->d.window == window, FT_EGATE,
             "%s: not written: a mean KL of %.3g nats, more than the tolerance of %.3g: a .gguf of "
             "this family has no sliding window, and that of %s is %lld tokens; write a folder",
             ft_shows(m->opt->out), m->proof.mean_kl, m->tolerance, ft_shows(m->base),
             (long long)window);
    return FT_OK;
}

static ft_status run(merge *m, str_buf *text)
{
    FT_TRY(open_target(m));
    FT_TRY(open_on(m));
    FT_TRY(write_and_prove(m));
    FT_TRY(file_inputs_check());
    bool passed = m->tolerance < 0 || m->proof.mean_kl <= m->tolerance;
    FT_TRY(report(m, passed, text)); /* before the rename: a failure leaves nothing */
    if (passed) {
        FT_TRY(io_target_commit(&m->target));
        note_proof(m);
    }
    if (!passed) FT_TRY(check_window(m));
    FT_CHECK(passed, FT_EGATE,
             "%s: not written: the merged model differs from base and adapter by a mean KL of %.3g "
             "nats, more than the tolerance of %.3g; use --type f32, or raise --tolerance",
             ft_shows(m->opt->out), m->proof.mean_kl, m->tolerance);
    return FT_OK;
}

ft_status tool_merge_adapter(const tool_merge_options *opt, const tool_sink *out)
{
    merge m = {.opt = opt};
    if (opt->combine && opt->adapter_only) return tool_combine_only(opt, out);
    FT_TRY(arena_open(&m.mem, "merge", (size_t)64 << 20));
    str_buf text = {0};
    ft_status rc = run(&m, &text);
    if (rc == FT_OK || rc == FT_EGATE) { /* a proof that failed is told too */
        ft_status told = tool_put(out, &text);
        if (rc == FT_OK) rc = told;
    }
    str_free(&text);
    tool_close(m.merged);
    tool_close(m.on);
    model_watched_close(&m.watched);
    io_target_close(&m.target);
    arena_close(m.mem);
    return rc;
}
