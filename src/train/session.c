/* session.c – opening everything a run needs, in the order in which mistakes are cheapest to find: config, tokenizer,
 * model, data, then values and memory. Nothing here writes. */
#include "train_private.h"

#include "ft/kernel.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void train_add_word(str_buf *s, const char *word, bool first)
{
    str_addc(s, ' ');
    str_shell(s, word, first);
}

static void add_option(str_buf *s, const char *name, const char *value)
{
    if (!value) return;
    str_addc(s, ' ');
    str_adds(s, name);
    train_add_word(s, value, false);
}

void train_add_command(str_buf *text, const train_options *opt)
{
    str_adds(text, "ft train");
    if (opt->config) train_add_word(text, opt->config, true);
    add_option(text, "--model", opt->given.model);
    add_option(text, "--method", opt->given.method);
    for (int i = 0; i < opt->given.n_data; i++) add_option(text, "--data", opt->given.data[i]);
    add_option(text, "--eval", opt->given.eval);
    add_option(text, "--out", opt->out);
    for (int i = 0; i < opt->n_sets; i++) add_option(text, "--set", opt->sets[i]);
    if (opt->follow_links) str_adds(text, " --follow-links");
}

ft_status train_session_command(train_session *s, bool anew)
{
    str_buf text = {0};
    train_add_command(&text, s->opt);
    str_adds(&text, anew ? " --force" : " --resume");
    ft_status rc = str_ok(&text);
    s->command = rc == FT_OK ? arena_str(s->mem, text.data) : NULL;
    str_free(&text);
    return rc != FT_OK ? rc : s->command ? FT_OK : FT_EMEM;
}

static ft_status hash_config(train_session *s)
{
    str_buf text = {0};
    sha256_state sha;
    ft_status rc = train_config_identity(s->resolved, &text);
    sha256_init(&sha);
    if (rc == FT_OK) sha256_add(&sha, text.data ? text.data : "", text.len);
    sha256_hex(&sha, s->config_sha);
    str_free(&text);
    return rc;
}

ft_status train_session_config(train_session *s, const train_options *opt)
{
    *s = (train_session){.opt = opt, .lock = -1, .resumed_from = -1};
    s->saved_step = -1;
    s->config_name = opt->config ? opt->config : "the options";
    s->started = s->shown = ft_seconds();
    FT_TRY(arena_open(&s->mem, "the run", (size_t)256 << 20));
    FT_TRY(arena_open(&s->batch, "batches", (size_t)1 << 30));
    FT_TRY(train_config_open(&s->cfg, opt, s->mem));
    s->out = opt->out ? opt->out : s->cfg.output.dir;
    FT_TRY(train_config_resolved(&s->resolved, &s->cfg, s->out));
    FT_TRY(hash_config(s));
    return train_session_command(s, false);
}

/* The template of the adapter that is gone on from, where the model has another one; else NULL. */
static ft_status adapters_template(const train_session *s, const char **out)
{
    enum { LONGEST = 16 << 20 };
    const char *from = s->cfg.method_head->init_from;
    char *text = NULL;
    size_t len;
    int n = 0;
    const char *path = from ? path_join(s->mem, from, "chat_template.jinja") : NULL;
    if (from && !path) return FT_EMEM;
    path_kind kind;
    if (!path || !s->tok) return FT_OK;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&text, &len, path, LONGEST));
    const tok_named *own = tok_chat_templates(s->tok, &n);
    while (n > 0 && strcmp(own->name, "default") != 0) own++, n--;
    if (n == 0 || strcmp(own->text, text) != 0) *out = path;
    ft_free(text);
    return FT_OK;
}

/* data.chat_template, else what the adapter that is gone on from was trained with, else the model's. */
static ft_status use_template(train_session *s)
{
    const char *given = s->cfg.data.chat_template;
    int n;
    if (!given) FT_TRY(adapters_template(s, &given));
    if (given) FT_TRY(chat_use(s->tok, given));
    s->other_template = given != NULL;
    return s->tok && tok_chat_templates(s->tok, &n) ? chat_open(&s->chat, s->tok) : FT_OK;
}

static ft_status open_tokenizer(train_session *s)
{
    const char *path = s->cfg.model.tokenizer ? s->cfg.model.tokenizer : s->cfg.model.path;
    if (!path) return use_template(s); /* from_config over the `tokens` format */
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    const bool there = kind == PATH_FOLDER || kind == PATH_FILE;
    FT_TRY(model_watch(&s->watched, path, s->mem));
    ft_status rc = tok_open(&s->tok, path);
    /* `tokens` sources need none; others say so */
    if (rc == FT_ENOINPUT && there) {
        ft_error_clear();
        return use_template(s);
    }
    FT_TRY(rc);
    return use_template(s);
}

ft_status train_open_model(const train_session *s, bool weights, model **out)
{
    model_options mo = {.path = s->cfg.model.path,
                        .from_config = s->cfg.model.path ? NULL : s->cfg.model.from_config,
                        .seed = (uint64_t)s->cfg.train.seed,
                        .no_weights = !weights,
                        .may_be_bare = !weights,
                        .weights_of = s->m,
                        .trained = true,
                        .end = s->cfg.objective->scores ? MODEL_NEW_REWARD : MODEL_TOKENS,
                        .make = s->cfg.model.quant,
                        .make_cfg = s->cfg.model.quant_cfg};
    FT_TRY(model_open(out, &mo));
    if ((*out)->scores && s->tok) model_pad_with(*out, tok_pad(s->tok), tok_eos(s->tok));
    return FT_OK;
}

/* Rounding a matrix on load that is then trained as a copy, and written as such, loses values and saves nothing. Blocks of
 * a GGUF are all there is of it: these may be trained on. */
static ft_status check_quantised(const train_session *s, const model *m, const pe_ctx *pe)
{
    const model_cfg *c = &s->cfg.model;
    if (!c->quant || pe->method->result != PE_MODEL) return FT_OK;
    for (int64_t i = 0; i < m->n_param; i++) {
        const nn_param *p = &m->param[i];
        bool coded = p->t.type->read || p->t.type->block > 1;
        FT_CHECK(
            !pe->over.own[i] || !coded || p->t.type == p->file_type, FT_ECONFIG,
            "%s: model.quantization \"%s\" rounds \"%s\", of which method.type \"%s\" trains and "
            "saves a copy in full; leave model.quantization out, or train an adapter "
            "(method.type \"lora\")",
            s->config_name, c->quant->type, p->name, pe->method->name);
    }
    return FT_OK;
}

/* Whole codes (GPTQ, AWQ) and weights that are rounded where they are read (BitNet, online) are a frozen base: what a model
 * folder would hold of them are no longer its values. */
static ft_status check_codes(const train_session *s, const model *m)
{
    const pe_method *method = s->cfg.method;
    for (int64_t i = 0; method->result == PE_MODEL && i < m->n_param; i++) {
        const nn_param *p = &m->param[i];
        FT_CHECK(dt_code_bits(p->t.type) == 0, FT_EDATA,
                 "%s: \"%s\" is in codes of %d bits, and the result of method.type \"%s\" is a "
                 "model of floats; make floats of the base with `ft convert --type bf16`, or train "
                 "an adapter (method.type \"lora\")",
                 ft_shows(m->path), ft_shows(p->name), dt_code_bits(p->t.type), method->name);
        FT_CHECK(p->t.type != &dt_ternary, FT_EDATA,
                 "%s: \"%s\" is in ternary codes, and the result of method.type \"%s\" is a model "
                 "of floats; train the folder that they were packed from, with model.qat "
                 "{\"type\": \"bitnet\"}, or train an adapter (method.type \"lora\")",
                 ft_shows(m->path), ft_shows(p->name), method->name);
        FT_CHECK(p->t.type != &dt_fake, FT_EDATA,
                 "%s: \"%s\" is rounded where it is read (quantization_config bitnet, online), and "
                 "method.type \"%s\" would train what it is rounded to; train with model.qat "
                 "{\"type\": \"bitnet\"}, or train an adapter (method.type \"lora\")",
                 ft_shows(m->path), ft_shows(p->name), method->name);
    }
    return FT_OK;
}

ft_status train_attach_method(const train_session *s, model *m, pe_ctx **out)
{
    const pe_start with = {.seed = (uint64_t)s->cfg.train.seed,
                           .base_name = s->cfg.base_name,
                           .load_dir = s->cfg.method_head->init_from,
                           .keep_zeros = s->cfg.method_head->keep_zeros,
                           .tok = s->tok,
                           .steps = s->total_steps,
                           .samples = data_epoch_length(s->train),
                           .batch_size = s->cfg.train.batch_size,
                           .qat = s->cfg.model.qat.row ? &s->cfg.model.qat : NULL};
    /* The folder of a run of this kind: its weights are the numbers that were trained. */
    if (with.qat && with.qat->row->config) model_unround(m);
    FT_TRY(check_codes(s, m));
    FT_TRY(pe_attach(out, s->cfg.method, s->cfg.method_cfg, m, &with));
    return check_quantised(s, m, *out);
}

static bool refers(const train_config *c)
{
    const obj_objective *o = c->objective;
    return o->refers ? o->refers(c->objective_cfg) : o->reference;
}

bool train_leaves(const train_session *s, const model *m, const nn_overlay *over, int64_t i)
{
    const nn_param *p = &m->param[i];
    if (!over->own || !over->own[i] || refers(&s->cfg)) return false;
    if (m->d.tied && p == m->head->w) return false; /* counted as the embedding */
    return !m->d.tied || p != m->embed->w || over->own[m->head->w->index];
}

ft_status train_open_objective(const train_session *s, model *m, pe_ctx *pe, bool weights,
                               obj_ctx *out)
{
    *out = (obj_ctx){.row = s->cfg.objective,
                     .cfg = s->cfg.objective_cfg,
                     .m = m,
                     .tuned = &pe->over,
                     .tok = s->tok,
                     .store = &pe->store,
                     .tape = s->tape,
                     .mem = s->mem,
                     .step_mem = s->batch,
                     .seed = (uint64_t)s->cfg.train.seed,
                     .init_from = s->cfg.method_head->init_from,
                     .train = s->train,
                     .eval = s->eval,
                     .batch_size = s->cfg.train.batch_size,
                     .max_length = s->cfg.data.max_length,
                     .epoch_batches = s->epoch_steps / s->reuse,
                     .dir = weights ? s->out : NULL,
                     .calm = s->cfg.objective->calm,
                     .unbroken = s->cfg.objective->unbroken,
                     .artifact = s->cfg.objective->artifact};
    return obj_open(out, weights);
}

/* ", of objective.type …" for what sources give, of the first that learns from it. */
static const char *taken_by(unsigned gives, char *out, size_t size)
{
    const obj_objective *o;
    out[0] = '\0';
    for (int i = 0; (o = obj_at(i)) && !out[0]; i++)
        if (o->wants & gives)
            snprintf(out, size, "; those are for objective.type \"%s\" and its like", o->name);
    return out;
}

/* What the objective asks for against what the sources give. */
static ft_status check_wants(const train_session *s, const data_set *d, const char *key)
{
    static const struct {
        unsigned bit;
        const char *what;
    } kinds[] = {{DATA_ROLLOUTS, "completions that were sampled before"},
                 {DATA_TOKENS, "tokens to learn"},
                 {DATA_PAIRS, "pairs of a chosen and a rejected answer"},
                 {DATA_LABELLED, "answers labelled good or bad"},
                 {DATA_TRIPLES, "pairs with a reference answer"},
                 {DATA_PROMPTS, "prompts"}};
    const obj_objective *row = s->cfg.objective;
    const char *wanted = "", *given = "";
    for (size_t i = 0; i < FT_COUNT_OF(kinds); i++)
        if (row->wants & kinds[i].bit) wanted = kinds[i].what; /* the last: the most */
    for (int k = 0; k < data_sources(d); k++) {
        const data_source_stats *t = data_stats(d, k);
        for (size_t i = 0; i < FT_COUNT_OF(kinds); i++)
            if ((t->gives & kinds[i].bit) && !*given) given = kinds[i].what;
        char others[100];
        FT_CHECK((row->wants & t->gives) || s->any_data, FT_ECONFIG,
                 "%s: %s: %s (format %s) gives %s; objective.type \"%s\" wants %s%s",
                 s->config_name, key, ft_shows(t->path), t->format, given, row->name, wanted,
                 taken_by(t->gives, others, sizeof others));
    }
    FT_CHECK(row->unit == OBJ_TOKENS || !cJSON_IsString(s->cfg.data.packing), FT_ECONFIG,
             "%s: data.packing: \"concat\" joins samples, which objective.type \"%s\" must tell "
             "apart",
             s->config_name, row->name);
    return FT_OK;
}

/* Samples of an evaluation are not joined. */
int64_t train_positions(const train_session *s, const data_set *d)
{
    return data_longest_sequence(d, d == s->eval ? 1 : s->cfg.train.batch_size);
}

static ft_status check_data(train_session *s, const data_set *d, const char *key)
{
    const model_dims *dims = &s->m->d;
    int64_t longest = train_positions(s, d);
    FT_TRY(check_wants(s, d, key));
    FT_CHECK(data_max_id(d) < dims->vocab_size, FT_EDATA,
             "%s: token id %d does not exist in the model, whose vocabulary has %lld; do the "
             "tokenizer and the model belong together?",
             key, data_max_id(d), (long long)dims->vocab_size);
    FT_CHECK(!s->m->position || longest <= dims->max_position, FT_ECONFIG,
             "%s: data.max_length: a sequence has up to %lld tokens, the model has %lld positions; "
             "lower data.max_length",
             s->config_name, (long long)longest, (long long)dims->max_position);
    if (!s->m->position && dims->max_position > 0 && longest > dims->max_position)
        log_warn("%s: a sequence has %lld tokens, the model was made for %lld", key,
                 (long long)longest, (long long)dims->max_position);
    return FT_OK;
}

/* One hash over both sets: a resumed run may change neither. */
static ft_status hash_data(train_session *s)
{
    sha256_state sha;
    char hex[65];
    sha256_init(&sha);
    FT_TRY(data_sha256(s->train, hex));
    sha256_add(&sha, hex, 64);
    if (s->eval) {
        FT_TRY(data_sha256(s->eval, hex));
        sha256_add(&sha, hex, 64);
    }
    sha256_hex(&sha, s->data_sha);
    return FT_OK;
}

/* Lines of a file of completions that stand for each sample of a batch; 0: data.train is read. */
static int64_t replays(const train_session *s)
{
    const obj_objective *o = s->cfg.objective;
    return o->replays ? o->replays(s->cfg.objective_cfg) : 0;
}

/* Completions for all steps are there, and each line has one. */
static ft_status check_replay(const train_session *s)
{
    const data_source_stats *t = data_stats(s->train, 0);
    const int64_t need = (s->total_steps + s->reuse - 1) / s->reuse * s->drawn;
    FT_CHECK(t->gives == DATA_ROLLOUTS, FT_EDATA,
             "%s: is of format %s; objective.rollouts wants lines with prompt_ids and "
             "completion_ids",
             ft_shows(t->path), t->format);
    FT_CHECK(t->dropped == 0, FT_EDATA,
             "%s: the prompts of %lld lines fill data.max_length, which leaves none of their "
             "completions; raise it",
             ft_shows(t->path), (long long)t->dropped);
    FT_CHECK(t->truncated == 0, FT_EDATA,
             "%s: data.max_length cuts %lld completions that are replayed; raise it",
             ft_shows(t->path), (long long)t->truncated);
    FT_CHECK(t->samples >= need, FT_EDATA,
             "%s: %lld steps need %lld completions (%lld a batch), it holds %lld",
             ft_shows(t->path), (long long)s->total_steps, (long long)need, (long long)s->drawn,
             (long long)t->samples);
    return FT_OK;
}

/* Batches of an epoch: as the completions that are replayed tell, or as there are samples. */
static ft_status epoch_batches(train_session *s, int64_t *out)
{
    const int64_t n = data_epoch_length(s->train);
    data_sample first;
    *out = (n + s->drawn - 1) / s->drawn;
    if (replays(s) == 0) return FT_OK;
    FT_TRY(data_get(s->train, 0, &first, s->batch));
    *out = first.value >= 1 ? (int64_t)first.value : n > s->drawn ? n / s->drawn : 1;
    return FT_OK;
}

static ft_status count_steps(train_session *s)
{
    const obj_objective *o = s->cfg.objective;
    const loop_cfg *t = &s->cfg.train;
    int64_t batches;
    s->reuse = o->reuse ? o->reuse(s->cfg.objective_cfg) : 1;
    s->drawn = t->batch_size * (replays(s) > 0 ? replays(s) : 1);
    FT_TRY(epoch_batches(s, &batches));
    s->epoch_steps = batches * s->reuse;
    s->total_steps =
        t->max_steps > 0 ? t->max_steps : (int64_t)ceil(t->epochs * (double)s->epoch_steps);
    return replays(s) > 0 ? check_replay(s) : FT_OK;
}

/* Steps against the schedule. Where `ft check` read a sample of a text, their number is an estimate: then it is only told. */
static ft_status check_steps(const train_session *s)
{
    bool whole = true;
    for (int i = 0; i < data_sources(s->train); i++)
        whole = whole && data_stats(s->train, i)->whole;
    ft_status rc = opt_check_steps(s->cfg.optim, s->total_steps, s->config_name);
    if (rc == FT_OK || whole || s->cfg.train.max_steps > 0) return rc;
    log_warn("%s (the number of steps is an estimate)", ft_error());
    ft_error_clear();
    return FT_OK;
}

ft_status train_session_open(train_session *s, bool weights, bool look)
{
    data_cfg *d = &s->cfg.data;
    const loop_cfg *t = &s->cfg.train;
    FT_TRY(train_stop());
    FT_TRY(open_tokenizer(s));
    FT_TRY(train_stop());
    FT_TRY(train_open_model(s, weights, &s->m));
    FT_TRY(train_samples_open(s));
    FT_TRY(train_stop());
    d->vocab_size = s->m->d.vocab_size;
    d->count_first = s->cfg.method->virtual_predict;
    d->wants = s->any_data ? 0 : replays(s) > 0 ? DATA_ROLLOUTS : s->cfg.objective->wants;
    d->key = replays(s) > 0 ? "objective.rollouts" : NULL;
    d->uncut = s->cfg.objective->scores;
    d->seed = (uint64_t)t->seed;
    d->count = t->max_steps == 0; /* the steps follow from the tokens */
    d->look = look;
    d->tokenizer_key = s->cfg.model.path ? NULL : "model.tokenizer";
    FT_TRY(data_open(&s->train, &s->cfg.doc, d->train, d, s->tok, s->chat, true));
    FT_TRY(train_stop());
    d->count = true;
    d->wants = s->any_data ? 0 : s->cfg.objective->wants;
    d->key = NULL;
    if (d->eval) FT_TRY(data_open(&s->eval, &s->cfg.doc, d->eval, d, s->tok, s->chat, false));
    if (d->eval_split > 0) FT_TRY(data_open_held(&s->eval, s->train, d));
    FT_TRY(train_stop());
    FT_TRY(check_data(s, s->train, replays(s) > 0 ? "objective.rollouts" : "data.train"));
    if (s->eval) FT_TRY(check_data(s, s->eval, d->eval ? "data.eval" : "data.eval_split"));
    train_warn(s);
    FT_TRY(hash_data(s));
    FT_TRY(count_steps(s));
    FT_TRY(check_steps(s));
    FT_TRY(obj_names_of(s->cfg.objective, s->cfg.objective_cfg, s->train, s->mem, &s->metrics,
                        &s->n_own));
    ft_give_back(); /* what reading took: a run is long */
    return train_state_init(&s->state, data_sources(s->train), s->eval ? data_sources(s->eval) : 0,
                            s->n_own + pe_metrics(s->cfg.method), s->mem);
}

static ft_status hash_base(train_session *s)
{
    sha256_state sha;
    if (!s->cfg.model.from_config) {
        log_busy("reading the weights of %s", ft_shows(s->cfg.base_name));
        const ft_status rc = io_weights_sha256(&s->m->weights, s->base_sha);
        log_idle();
        return rc;
    }
    sha256_init(&sha);
    sha256_add(&sha, s->m->config, strlen(s->m->config));
    sha256_hex(&sha, s->base_sha);
    return FT_OK;
}

ft_status train_session_attach(train_session *s)
{
    size_t states, small;
    FT_TRY(train_attach_method(s, s->m, &s->pe));
    for (int64_t i = 0; i < s->m->n_param; i++)
        if (train_leaves(s, s->m, &s->pe->over, i)) model_drop_values(s->m, i);
    FT_TRY(ag_open(&s->tape, SIZE_MAX / 4)); /* a plan that is a little short never stops a run */
    ag_expect(s->tape, &s->plan.rooms);
    s->tape->precision = kn_precision_of(s->cfg.train.precision);
    FT_TRY(train_open_objective(s, s->m, s->pe, true, &s->objective));
    states = opt_bytes(s->cfg.rule, s->cfg.rule_cfg, &s->pe->store);
    small = (size_t)s->pe->store.n * OPT_MAX_STATES * sizeof(void *) + ((size_t)1 << 20);
    FT_TRY(arena_open_flat(&s->states, "optimizer states", states + small));
    FT_TRY(opt_open(&s->optimizer, s->cfg.rule, s->cfg.optim, s->cfg.rule_cfg, &s->pe->store,
                    s->total_steps, s->states));
    FT_TRY(train_stop());
    return hash_base(s);
}

void train_session_close(train_session *s)
{
    train_log_close(s);
    train_samples_close(s);
    obj_close(&s->objective);
    ag_close(s->tape);
    pe_close(s->pe);
    data_close(s->eval);
    data_close(s->train);
    model_close(s->m);
    chat_close(s->chat);
    tok_close(s->tok);
    model_watched_close(&s->watched);
    cJSON_Delete(s->resolved);
    train_config_close(&s->cfg);
    if (s->lock >= 0) dir_unlock(s->out, s->lock); /* after the last file */
    arena_close(s->states);
    arena_close(s->batch);
    arena_close(s->mem);
}
