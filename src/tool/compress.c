/* compress.c – `ft quantize` and `ft prune`: a walk over the blocks with calibration data, opened again before the result is given
 * its name.
 *
 * What is done of the blocks lies in OUT.blocks until the result is there: a run that was cut short goes on with it. What it was
 * made by, config, data and model, is told there (blocks.json), and in the result's folder (compress_config.json): one that goes
 * on, or finds itself done, is of the same. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compressing.h"

#define BLOCKS "blocks.json"
#define TOLD "compress.json"
#define MADE_BY "compress_config.json"

static const char *const heads[] = {"[\n{\"name\":", "{\"scores\":", NULL}; /* of compress.json */

typedef struct compressing {
    const tool_compress_options *opt;
    compress_config cfg;
    io_target target;
    model_watched watched;
    file_watch *config_watch;
    tool_model *t;
    data_set *set;
    arena *mem;
    const tok_ids *sample; /* [n_samples] */
    int64_t n_samples;
    const char *blocks; /* the folder of what is done */
    int lock;           /* of it; −1: none */
    bool ours;          /* what lies there is of this run */
    str_buf identity;   /* what it is made by */
    cmp_walk *walk;
    model *written;
    double started;
} compressing;

/* --- samples ------------------------------------------------------------------------------------------------------- */
static ft_status open_set(compressing *c, int64_t limit)
{
    const chat *template = NULL;
    const data_cfg cfg = {.max_length = c->cfg.max_length,
                          .window_tokens = CFG_AUTO,
                          .on_loss = "warn",
                          .vocab_size = c->t->m->d.vocab_size,
                          .limit = limit,
                          .wants = DATA_TOKENS | DATA_PROMPTS | DATA_LABELLED,
                          .plain = true,
                          .key = "calibration.data"};
    FT_TRY(tool_chat(c->t, &template));
    return data_open(&c->set, &c->cfg.doc, c->cfg.data, &cfg, c->t->tok, template, true);
}

/* Are its first samples those that there would be without a limit of records? */
static bool is_enough(const compressing *c, int64_t limit)
{
    int64_t left = c->cfg.samples;
    for (int i = 0; i < data_sources(c->set) && left > 0; i++) {
        const data_source_stats *s = data_stats(c->set, i);
        if (s->samples < left && s->records >= limit) return false;
        left -= s->samples;
    }
    return true;
}

/* No more records are read than are needed. */
static ft_status open_data(compressing *c)
{
    for (int64_t limit = c->cfg.samples;; limit *= 8) {
        FT_TRY(open_set(c, limit));
        if (is_enough(c, limit)) return FT_OK;
        data_close(c->set);
        c->set = NULL;
    }
}

static ft_status check_set(const compressing *c)
{
    for (int i = 0; i < data_sources(c->set); i++) {
        const data_source_stats *s = data_stats(c->set, i);
        FT_CHECK(s->gives & (DATA_TOKENS | DATA_PROMPTS | DATA_LABELLED), FT_ECONFIG,
                 "calibration.data: %s: records of format %s are several sequences each; take "
                 "texts, conversations or tokens",
                 ft_shows(s->path), s->format);
    }
    FT_CHECK(data_max_id(c->set) < c->t->m->d.vocab_size, FT_EDATA,
             "calibration.data: token id %d does not exist in the model, whose vocabulary has %lld",
             (int)data_max_id(c->set), (long long)c->t->m->d.vocab_size);
    return FT_OK;
}

static ft_status take_samples(compressing *c)
{
    const model_dims *d = &c->t->m->d;
    int64_t most = c->cfg.max_length;
    if (!cmp_reads(c->cfg.method, c->cfg.cfg)) return FT_OK;
    if (c->t->m->position && d->max_position < most) most = d->max_position;
    c->cfg.max_length = most;
    FT_TRY(open_data(c));
    FT_TRY(check_set(c));
    const int64_t all = data_count(c->set), n = all < c->cfg.samples ? all : c->cfg.samples;
    tok_ids *sample = arena_get(c->mem, (size_t)(n + 1) * sizeof *sample);
    if (!sample) return FT_EMEM;
    for (int64_t i = 0; i < n; i++) {
        data_sample s;
        FT_TRY(data_get(c->set, i, &s, c->mem));
        const int64_t len = s.len < most ? s.len : most;
        int32_t *ids = arena_get(c->mem, (size_t)(len + 1) * sizeof *ids);
        if (!ids) return FT_EMEM;
        memcpy(ids, s.ids, (size_t)len * sizeof *ids);
        sample[i] = (tok_ids){.id = ids, .n = len};
    }
    c->sample = sample;
    c->n_samples = n;
    if (n < c->cfg.samples)
        log_info("calibration.data: %lld samples of %lld that were asked for", (long long)n,
                 (long long)c->cfg.samples);
    return FT_OK;
}

/* --- what is done already ------------------------------------------------------------------------------------------------ */
static ft_status identity(compressing *c)
{
    str_buf *out = &c->identity;
    sha256_state sha;
    char data[65], base[65];
    sha256_init(&sha);
    for (int64_t i = 0; i < c->n_samples; i++) {
        sha256_add(&sha, &c->sample[i].n, sizeof c->sample[i].n);
        sha256_add(&sha, c->sample[i].id, (size_t)c->sample[i].n * sizeof(int32_t));
    }
    sha256_hex(&sha, data);
    FT_TRY(io_weights_sha256(&c->t->m->weights, base));
    str_printf(out, "{\"data_sha256\":\"%s\",\"base_sha256\":\"%s\",\"config\":", data, base);
    FT_TRY(compress_identity(&c->cfg, out));
    str_adds(out, "}\n");
    return str_ok(out);
}

/* A folder of ours, empty but for the identity. */
static ft_status begin_blocks(compressing *c)
{
    const char *left, *path = path_join(c->mem, c->blocks, BLOCKS);
    if (!path) return FT_EMEM;
    FT_TRY(io_clear(c->blocks, 0, c->mem, &left));
    FT_TRY(dir_make(c->blocks));
    FT_TRY(dir_lock(c->blocks, &c->lock));
    c->ours = true;
    return file_write(path, c->identity.data, c->identity.len);
}

/* Is it by the same, as `file` of a folder says? */
static ft_status check_same(const compressing *c, const char *dir, const char *file)
{
    char *text;
    size_t n;
    const char *path = path_join(c->mem, dir, file);
    if (!path) return FT_EMEM;
    FT_TRY(file_read(&text, &n, path, (size_t)16 << 20));
    const bool same = n == c->identity.len && memcmp(text, c->identity.data, n) == 0;
    ft_free(text);
    FT_CHECK(same, FT_ECONFIG,
             "%s: was begun with another config, other data or another model; undo this, or start "
             "anew with --force",
             ft_shows(dir));
    return FT_OK;
}

static ft_status go_on(compressing *c)
{
    FT_TRY(dir_lock(c->blocks, &c->lock));
    FT_TRY(check_same(c, c->blocks, BLOCKS));
    c->ours = true;
    return FT_OK;
}

static ft_status open_blocks(compressing *c)
{
    path_kind there, begun;
    const char *foreign = NULL;
    c->blocks = arena_printf(c->mem, "%s.blocks", c->target.path);
    if (!c->blocks) return FT_EMEM;
    FT_TRY(path_look(c->blocks, &there));
    FT_TRY(path_look_in(c->blocks, BLOCKS, &begun));
    if (there == PATH_FOLDER) FT_TRY(io_foreign(c->blocks, false, c->mem, &foreign));
    FT_CHECK(!foreign && (there == PATH_FOLDER || there == PATH_NONE), FT_EEXIST,
             "%s: is needed for what is done, and holds something else; move it away",
             ft_shows(c->blocks));
    FT_CHECK(begun != PATH_FILE || c->opt->resume || c->opt->force, FT_EEXIST,
             "%s: holds what a run that was cut short has done; go on with --resume, or start anew "
             "with --force",
             ft_shows(c->blocks));
    return c->opt->resume && begun == PATH_FILE ? go_on(c) : begin_blocks(c);
}

static ft_status block_is_done(const compressing *c, int layer, bool *done)
{
    char name[40];
    path_kind there;
    snprintf(name, sizeof name, "block-%d.safetensors", layer);
    FT_TRY(path_look_in(c->blocks, name, &there));
    *done = there == PATH_FILE;
    return FT_OK;
}

/* Kept where the run can go on. */
static void close_blocks(compressing *c, ft_status rc)
{
    const bool stays = rc != FT_OK && rc != FT_EDIVERGED; /* again it would end so */
    const char *left;
    bool any = false;
    if (c->lock < 0) return;
    ft_error_keep(true);
    for (int i = 0; stays && c->t && i < c->t->m->d.n_layer && !any; i++)
        if (block_is_done(c, i, &any) != FT_OK) any = false;
    dir_unlock(c->blocks, c->lock);
    if (any)
        log_info("%s: holds what is done; --resume goes on with it", ft_shows(c->blocks));
    else if (c->ours && io_clear(c->blocks, 0, c->mem, &left) != FT_OK)
        log_warn("%s: could not be removed", ft_shows(c->blocks));
    ft_error_keep(false);
}

/* --- the result --------------------------------------------------------------------------------------------------------- */
static void put_number(str_buf *s, const char *key, double v)
{
    tool_json_key(s, key);
    tool_json_number(s, v);
}

static void put_told(const compressing *c, str_buf *s, const cmp_told *t)
{
    str_adds(s, "{\"name\":");
    str_json(s, t->name, strlen(t->name));
    put_number(s, "error", t->error);
    if (c->opt->kind == &tool_prune) put_number(s, "sparsity", t->sparsity);
    str_addc(s, '}');
}

static void put_dropped(const cmp_dropped *d, str_buf *s)
{
    str_adds(s, "{\"scores\":[");
    for (int i = 0; i < d->n_score; i++) {
        if (i > 0) str_addc(s, ',');
        tool_json_number(s, d->score[i]);
    }
    str_adds(s, "],\"dropped\":[");
    for (int i = 0; i < d->n; i++) str_printf(s, "%s%d", i > 0 ? "," : "", d->layer[i]);
    str_adds(s, "]}");
}

/* Tensors that were changed; with whole layers dropped none was. */
static int64_t told_of(const compressing *c, const cmp_told **told)
{
    const int64_t n = cmp_told_of(c->walk, told);
    return c->cfg.method->drop ? 0 : n;
}

/* between: ",\n" of a list, "\n" of lines */
static void put_all(const compressing *c, str_buf *s, const char *between)
{
    const cmp_told *told;
    const int64_t n = told_of(c, &told);
    if (c->cfg.method->drop) put_dropped(cmp_dropped_of(c->walk), s);
    for (int64_t i = 0; i < n; i++) {
        put_told(c, s, &told[i]);
        if (i + 1 < n) str_adds(s, between);
    }
}

static ft_status write_in(const compressing *c, const char *name, const str_buf *text)
{
    const char *path = path_join(c->mem, c->target.temp, name);
    return path ? file_write(path, text->data, text->len) : FT_EMEM;
}

/* The same object as in config.json, for who reads a file of its own. */
static ft_status write_quantize_config(const compressing *c, const model_save_options *save)
{
    str_buf text = {0};
    if (!save->quant || strcmp(save->quant->method, "gptq") != 0) return FT_OK;
    save->quant->writer->config(save->quant_cfg, c->t->m->dtype, &text);
    str_addc(&text, '\n');
    ft_status rc = str_ok(&text);
    if (rc == FT_OK) rc = write_in(c, "quantize_config.json", &text);
    str_free(&text);
    return rc;
}

static ft_status write_told(const compressing *c)
{
    str_buf text = {0};
    const bool list = !c->cfg.method->drop;
    if (list) str_adds(&text, "[\n");
    put_all(c, &text, ",\n");
    str_adds(&text, list ? "\n]\n" : "\n");
    ft_status rc = str_ok(&text);
    if (rc == FT_OK) rc = file_write(c->target.beside_temp, text.data, text.len);
    str_free(&text);
    return rc;
}

/* The layers that stay, by the merge of a recipe that stacks them. */
static ft_status save_layers(compressing *c)
{
    const cmp_dropped *d = cmp_dropped_of(c->walk);
    const int n = (int)c->t->m->d.n_layer;
    char path[PATH_MAX];
    str_buf text = {0};
    if (!realpath(c->cfg.model, path))
        return ft_fail_errno(FT_EIO, "%s: cannot be looked at", ft_shows(c->cfg.model));
    str_adds(&text, "{\"merge_method\": \"passthrough\", \"slices\": [");
    for (int from = 0, k = 0; from < n;) { /* runs between those that go */
        const int to = k < d->n ? d->layer[k] : n;
        if (to > from) {
            str_adds(&text, text.data[text.len - 1] == '[' ? "" : ", ");
            str_adds(&text, "{\"sources\": [{\"model\": ");
            str_json(&text, path, strlen(path));
            str_printf(&text, ", \"layer_range\": [%d, %d]}]}", from, to);
        }
        from = to + 1;
        k++;
    }
    str_adds(&text, "]}\n");
    ft_status rc = str_ok(&text);
    if (rc == FT_OK) rc = tool_merge_text(&text, &c->target, c->mem);
    str_free(&text);
    return rc;
}

/* Opening checks every tensor's name and shape against the config. */
static ft_status check_written(compressing *c)
{
    FT_TRY(model_open(&c->written,
                      &(model_options){.path = c->target.temp, .end = MODEL_ANY, .unread = true}));
    const int64_t layers = c->t->m->d.n_layer - cmp_dropped_of(c->walk)->n;
    FT_CHECK(c->written->d.n_layer == layers, FT_EINTERNAL, "%s: has %lld layers of %lld",
             ft_shows(c->target.temp), (long long)c->written->d.n_layer, (long long)layers);
    if (c->cfg.method->drop) return FT_OK;
    FT_CHECK(model_count(c->written) == model_count(c->t->m), FT_EINTERNAL,
             "%s: %lld parameters were written of %lld", ft_shows(c->target.temp),
             (long long)model_count(c->written), (long long)model_count(c->t->m));
    return FT_OK;
}

static ft_status save(compressing *c)
{
    model_save_options how = {0};
    if (c->cfg.method->drop) {
        FT_TRY(save_layers(c));
    } else {
        FT_TRY(cmp_save_options(c->walk, c->cfg.kept, c->cfg.n_kept, &how));
        FT_TRY(tool_save(c->t->m, c->target.temp, &how));
    }
    if (!str_ends(c->target.path, ".gguf")) {
        FT_TRY(write_quantize_config(c, &how));
        FT_TRY(write_in(c, MADE_BY, &c->identity));
    }
    FT_TRY(write_told(c));
    FT_TRY(check_written(c));
    return file_inputs_check();
}

static ft_status report(const compressing *c, str_buf *s)
{
    const cmp_told *told, all = cmp_told_all(c->walk);
    const int64_t n = told_of(c, &told);
    const cmp_dropped *d = cmp_dropped_of(c->walk);
    const double seconds = ft_seconds() - c->started;
    if (c->opt->json) {
        put_all(c, s, "\n");
        str_printf(s, "%s{\"tensors\":%lld", n > 0 || d->n > 0 ? "\n" : "", (long long)n);
        put_number(s, "error", all.error);
        put_number(s, "sparsity", all.sparsity);
        put_number(s, "seconds", seconds);
        str_adds(s, "}\n");
        tool_json_memory(s, &c->t->plan);
    } else if (c->cfg.method->drop) {
        str_printf(s, "%s: layers", ft_shows(c->target.path));
        for (int i = 0; i < d->n; i++) str_printf(s, "%s%d", i > 0 ? ", " : " ", d->layer[i]);
        str_printf(s, " of %lld are gone, %lld tokens, %.1f s\n", (long long)c->t->m->d.n_layer,
                   (long long)cmp_tokens(c->walk), seconds);
    } else {
        str_printf(s, "%s: %s, %lld tensors, %lld tokens, error %.4g", ft_shows(c->target.path),
                   c->cfg.method->name, (long long)n, (long long)cmp_tokens(c->walk), all.error);
        if (c->opt->kind == &tool_prune) str_printf(s, ", %.4g of them 0", all.sparsity);
        str_printf(s, ", %.1f s\n", seconds);
    }
    return str_ok(s);
}

/* --- the run ----------------------------------------------------------------------------------------------------------- */
static ft_status open_target(compressing *c)
{
    const io_input in[] = {{.what = "the config", .path = c->opt->config, .may_lie_in = false},
                           {.what = "the model", .path = c->cfg.model}};
    FT_CHECK(!c->cfg.method->writes || !str_ends(c->cfg.dir, ".gguf"), FT_EUSAGE,
             "%s: codes of %s have no place in a .gguf; write a folder", ft_shows(c->cfg.dir),
             c->cfg.method->writes);
    FT_TRY(io_target_open(&c->target, c->cfg.dir, c->opt->force, in, FT_COUNT_OF(in), c->mem));
    return tool_target_told(&c->target, TOLD, heads, "what ft told of a model");
}

static ft_status check_base(const compressing *c)
{
    const model *m = c->t->m;
    FT_CHECK(!m->quant && !m->has_blocks, FT_EDATA,
             "%s: is quantised already; take the model that it was made from", ft_shows(m->path));
    return FT_OK;
}

static ft_status open_inputs(compressing *c)
{
    const char *path = c->cfg.model;
    FT_TRY(model_check_links(path, c->opt->follow_links));
    FT_TRY(model_watch(&c->watched, path, c->mem));
    FT_TRY(file_watch_open(&c->config_watch, c->opt->config, FILE_DONE));
    FT_TRY(tool_open(&c->t, path, NULL, TOOL_ANY, NULL));
    FT_TRY(check_base(c));
    FT_TRY(compress_check_names(&c->cfg, c->t->m));
    if (!c->cfg.method->steps) FT_TRY(tool_tell_steps(path, c->mem));
    return take_samples(c);
}

static ft_status open_walk(compressing *c)
{
    const model_save_options how = {0};
    const cmp_options o = {.inf = &c->t->inf,
                           .method = c->cfg.method,
                           .cfg = c->cfg.cfg,
                           .chosen = compress_is_chosen,
                           .ctx = &c->cfg,
                           .sample = c->sample,
                           .n_samples = c->n_samples,
                           .dir = c->blocks};
    nn_site *const *site;
    c->t->plan.apart = tool_saving_bytes(c->t->m, c->target.path, &how);
    FT_TRY(cmp_walk_open(&c->walk, &o));
    FT_CHECK(cmp_chosen(c->walk, &site) > 0, FT_ECONFIG,
             "%s: no layer is chosen: all linear layers of %s are left out", c->opt->config,
             ft_shows(c->cfg.model));
    return FT_OK;
}

/* A run that is gone on with may have been done already: its result stands there, and is whole. */
static ft_status is_complete(const compressing *c, bool *is)
{
    path_kind told, made_by;
    *is = false;
    if (!c->opt->resume || c->opt->force) return FT_OK;
    FT_TRY(path_look_in(c->cfg.dir, TOLD, &told));
    FT_TRY(path_look_in(c->cfg.dir, MADE_BY, &made_by));
    FT_CHECK(told != PATH_FILE || made_by == PATH_FILE, FT_EEXIST,
             "%s: is a result, but has no " MADE_BY
             " that tells what it was made by; --force makes "
             "it anew",
             ft_shows(c->cfg.dir));
    *is = told == PATH_FILE;
    return FT_OK;
}

/* On the disk, most: the result, and beside it the blocks that are not there yet, a byte a code. */
static ft_status disk_bytes(const compressing *c, double *all)
{
    const model *m = c->t->m;
    const model_save_options how = {0};
    const double each = (double)m->dtype->bytes / (double)m->dtype->block;
    model_packed_cfg packed = {0};
    *all = model_saved_bytes(m, c->target.path, &how);
    if (c->cfg.method->writes) c->cfg.method->packed(c->cfg.cfg, &packed);
    for (int64_t i = 0; i < m->n_site && !c->cfg.method->drop; i++) {
        const nn_site *s = &m->site[i];
        const double n = (double)s->out * (double)s->in;
        bool done;
        if (s->layer < 0 || !compress_is_chosen((void *)(uintptr_t)&c->cfg, s)) continue;
        FT_TRY(block_is_done(c, s->layer, &done));
        if (packed.bits > 0) *all += n * ((double)packed.bits / 8 - each);
        if (!done) *all += packed.bits > 0 ? n : n * each;
    }
    return FT_OK;
}

static ft_status make(compressing *c, str_buf *text)
{
    double bytes;
    FT_TRY(open_blocks(c));
    FT_TRY(disk_bytes(c, &bytes));
    FT_TRY(tool_check_space(bytes, &c->target));
    FT_TRY(open_walk(c));
    FT_TRY(cmp_walk_run(c->walk));
    FT_TRY(save(c));
    FT_TRY(report(c, text)); /* before the rename: a failure leaves nothing */
    return io_target_commit(&c->target);
}

static ft_status run(compressing *c, str_buf *text)
{
    bool complete;
    FT_TRY(compress_config_open(&c->cfg, c->opt, c->mem));
    FT_TRY(io_model_exists(c->cfg.model));
    FT_TRY(is_complete(c, &complete));
    if (!complete) FT_TRY(open_target(c));
    FT_TRY(open_inputs(c));
    FT_TRY(identity(c));
    if (!complete) return make(c, text);
    FT_TRY(check_same(c, c->cfg.dir, MADE_BY));
    log_info("%s: is complete; --force makes it anew", ft_shows(c->cfg.dir));
    return FT_OK;
}

ft_status tool_compress(const tool_compress_options *opt, const tool_sink *out)
{
    compressing c = {.opt = opt, .lock = -1, .started = ft_seconds()};
    str_buf text = {0};
    FT_TRY(arena_open(&c.mem, "a compression", (size_t)1 << 34));
    ft_status rc = run(&c, &text);
    if (rc == FT_OK && text.len > 0) rc = tool_put(out, &text);
    str_free(&text);
    str_free(&c.identity);
    model_close(c.written);
    cmp_walk_close(c.walk);
    close_blocks(&c, rc);
    data_close(c.set);
    tool_close(c.t);
    file_watch_close(c.config_watch);
    model_watched_close(&c.watched);
    io_target_close(&c.target);
    cfg_close(&c.cfg.doc);
    arena_close(c.mem);
    return rc;
}
