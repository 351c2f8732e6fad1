/* merge.c – the tensors of the result, one after another: which tensors of the models stand at its place, with which
 * parameters, and their values as they are saved. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ft/template.h"
#include "merge_private.h"

enum { MOST_LAYERS = 4096 };
struct merge_job {
    merge_recipe *r;
    const char *dir;
    int donor; /* the model whose config and types the result has */
    model *result;
    merge_vocab *vocab; /* NULL: rows are the models' own */
    char *template;     /* NULL: the tokenizer's */
    double *square;     /* [n_param] of the tensors that were written */
    merge_tensor now;   /* the tensor at hand */
    int64_t at;         /* its parameter; −1: none is open */
    merge_input in[MERGE_MODELS];
};

/* --- models ---------------------------------------------------------------------------------------------------- */

static ft_status open_adapter(merge_ref *ref)
{
    int64_t rows;
    FT_TRY(pe_adapter_vocabulary(ref->adapter, ref->m, &rows));
    FT_TRY(model_resize_vocabulary(ref->m, rows));
    FT_TRY(pe_open_adapter(&ref->pe, ref->m, ref->adapter));
    const nn_overlay *over = &ref->pe->over;
    bool adds = false;
    for (int64_t i = 0; over->bias && i < ref->m->n_site; i++) adds = adds || over->bias[i];
    FT_TRY(pe_qat_open(&ref->qat, ref->adapter, ref->m, &ref->pe->over));
    pe_qat_fix(ref->qat);
    FT_CHECK(ref->pe->method->fold && !adds && over->virtual_tokens == 0, FT_EDATA,
             "%s: an adapter of method %s %s; it cannot be part of a merge", ft_shows(ref->adapter),
             ref->pe->method->name,
             adds ? "adds biases that its base has no place for" : "has no weights to fold");
    ref->how = (model_save_options){.over = over, .fold = pe_folder(ref->pe)};
    return FT_OK;
}

static ft_status open_ref(merge_ref *ref)
{
    if (ref->m) return FT_OK;
    FT_TRY(io_model_exists(ref->path));
    FT_TRY(model_open(
        &ref->m, &(model_options){.path = ref->path, .end = MODEL_ANY, .unread = !ref->adapter}));
    return ref->adapter ? open_adapter(ref) : FT_OK;
}

static ft_status open_models(merge_job *j)
{
    merge_recipe *r = j->r;
    for (int i = 0; i < r->n_slice; i++)
        for (int k = 0; k < r->slice[i].n; k++)
            FT_TRY(open_ref(&r->ref[r->slice[i].source[k].ref]));
    FT_TRY(open_ref(&r->ref[j->donor]));
    const model *donor = r->ref[j->donor].m;
    for (int i = 0; i < r->n_ref; i++)
        FT_CHECK(!r->ref[i].m || r->ref[i].m->family == donor->family, FT_EDATA,
                 "%s is a %s model, %s a %s model; models of one family are merged",
                 ft_shows(r->ref[i].text), model_family_name(r->ref[i].m),
                 ft_shows(r->ref[j->donor].text), model_family_name(donor));
    return FT_OK;
}

/* Two ends that an adapter has made different. */
static bool is_tied(const merge_ref *ref)
{
    const nn_overlay *over = ref->pe ? &ref->pe->over : NULL;
    const model *m = ref->m;
    if (!m->d.tied) return false;
    return !over || (!nn_slot_of(over, m->embed) && !nn_slot_of(over, m->head) &&
                     nn_value_of(over, m->embed->w)->data == nn_value_of(over, m->head->w)->data);
}

static bool all_tied(const merge_recipe *r)
{
    bool tied = true;
    for (int i = 0; i < r->n_ref; i++) tied = tied && (!r->ref[i].m || is_tied(&r->ref[i]));
    return tied;
}

/* --- layers ---------------------------------------------------------------------------------------------------- */

static void find_layers(merge_recipe *r, merge_slice *s)
{
    for (int k = 0; k < s->n; k++) {
        merge_source *of = &s->source[k];
        const int64_t has = r->ref[of->ref].m->d.n_layer;
        if (of->to < 0) of->to = has;
        if (of->to > has)
            cfg_fail(r->doc, of->node, "layer_range", "%s has %lld layers, 0 to %lld",
                     ft_shows(r->ref[of->ref].text), (long long)has, (long long)(has - 1));
        if (of->to - of->from != s->source[0].to - s->source[0].from)
            cfg_fail(r->doc, of->node, "models",
                     "%s gives %lld layers, %s %lld: sources of a "
                     "slice have the same number; take a part of them with slices",
                     ft_shows(r->ref[of->ref].text), (long long)(of->to - of->from),
                     ft_shows(r->ref[s->source[0].ref].text),
                     (long long)(s->source[0].to - s->source[0].from));
    }
    s->first = r->n_layer;
    s->layers = s->source[0].to - s->source[0].from;
    r->n_layer += s->layers;
}

static ft_status find_slices(merge_recipe *r)
{
    r->n_layer = 0;
    for (int i = 0; i < r->n_slice; i++) find_layers(r, &r->slice[i]);
    FT_TRY(cfg_done(r->doc));
    FT_CHECK(r->n_layer <= MOST_LAYERS, FT_ECONFIG, "slices: %lld layers are more than %d",
             (long long)r->n_layer, MOST_LAYERS);
    return FT_OK;
}

static const merge_slice *slice_of(const merge_recipe *r, int64_t layer)
{
    const merge_slice *s = r->slice;
    while (layer >= s->first + s->layers) s++;
    return s;
}

/* The donor's layer at the place of one of the result, or one that is there. */
static int donor_layer(const merge_job *j, int64_t layer)
{
    const merge_slice *s = slice_of(j->r, layer);
    const int64_t last = j->r->ref[j->donor].m->d.n_layer - 1;
    int64_t from = s->source[0].from;
    for (int k = 0; k < s->n; k++)
        if (s->source[k].ref == j->donor) from = s->source[k].from;
    from += layer - s->first;
    return (int)(from < last ? from : last);
}

/* --- the model that is made -------------------------------------------------------------------------------------- */

static ft_status write_config(merge_job *j)
{
    merge_recipe *r = j->r;
    const model *donor = r->ref[j->donor].m;
    int *layer = arena_get(r->mem, (size_t)r->n_layer * sizeof *layer);
    const char *path = path_join(r->mem, j->dir, "config.json");
    str_buf text = {0};
    if (!layer || !path) return FT_EMEM;
    for (int64_t i = 0; i < r->n_layer; i++) layer[i] = donor_layer(j, i);
    ft_status rc =
        model_config_shape(donor, layer, r->n_layer,
                           j->vocab ? j->vocab->rows : donor->d.vocab_size, !all_tied(r), &text);
    if (rc == FT_OK && j->vocab) rc = merge_vocab_config(j->vocab, r, j->donor, &text);
    if (rc == FT_OK) rc = file_write(path, text.data, text.len);
    str_free(&text);
    return rc;
}

/* Each tensor is stored as the donor has it, unless that is codes or blocks. */
static void copy_types(merge_job *j)
{
    const model *donor = j->r->ref[j->donor].m;
    j->result->dtype = donor->dtype;
    for (int64_t i = 0; i < j->result->n_param; i++) {
        nn_param *p = &j->result->param[i];
        const int layer = model_param_layer(j->result, i);
        const int64_t k =
            model_param_like(donor, layer < 0 ? -1 : donor_layer(j, layer), j->result, i);
        const bool keeps = !donor->from_gguf && !donor->has_blocks && k >= 0;
        p->file_type = keeps ? donor->param[k].file_type : donor->dtype;
    }
}

/* Tensors that the result would lack, as the biases of one of the models. */
static ft_status check_lost(const merge_job *j, const merge_ref *ref)
{
    const model *m = ref->m, *made = j->result;
    for (int64_t i = 0; m && i < m->n_param; i++) {
        int layer = model_param_layer(m, i);
        if (layer >= made->d.n_layer) layer = 0;
        FT_CHECK(model_param_like(made, layer, m, i) >= 0, FT_EDATA,
                 "%s: has a tensor \"%s\", and %s has none like it; models of one shape are merged",
                 ft_shows(ref->text), ft_shows(m->param[i].name),
                 ft_shows(j->r->ref[j->donor].text));
    }
    return FT_OK;
}

static ft_status open_result(merge_job *j)
{
    FT_TRY(write_config(j));
    FT_TRY(model_open(&j->result, &(model_options){.path = j->dir,
                                                   .end = MODEL_ANY,
                                                   .no_weights = true,
                                                   .may_be_bare = true}));
    copy_types(j);
    j->square = arena_get(j->r->mem, (size_t)j->result->n_param * sizeof *j->square);
    return j->square ? FT_OK : FT_EMEM;
}

/* --- the chat template ------------------------------------------------------------------------------------------- */

/* That of most models; of equally many the first one's. */
static ft_status most_common(merge_job *j)
{
    const merge_recipe *r = j->r;
    char *text[MERGE_MODELS] = {NULL};
    int best = 0, k;
    ft_status rc = FT_OK;
    for (int i = 0; rc == FT_OK && i < r->n_ref; i++) {
        bool has = true;
        tok_tokenizer *t;
        const tok_named *v;
        if (!str_ends(r->ref[i].path, ".gguf")) rc = tok_in_folder(r->ref[i].path, &has);
        if (rc != FT_OK || !has) continue;
        rc = tok_open(&t, r->ref[i].path);
        if (rc != FT_OK) break;
        v = tok_chat_templates(t, &k);
        if (k > 0) text[i] = ft_strdup(v->text);
        if (k > 0 && !text[i]) rc = FT_EMEM;
        tok_close(t);
    }
    for (int i = 0; rc == FT_OK && i < r->n_ref; i++) {
        int same = 0;
        for (k = 0; k < r->n_ref; k++) same += text[i] && text[k] && strcmp(text[i], text[k]) == 0;
        if (same <= best) continue;
        best = same;
        j->template = arena_str(r->mem, text[i]);
        if (!j->template) rc = FT_EMEM;
    }
    for (int i = 0; i < r->n_ref; i++) ft_free(text[i]);
    return rc;
}

static ft_status find_template(merge_job *j)
{
    const merge_recipe *r = j->r;
    const char *given = r->chat_template;
    if (!given) return FT_OK;
    if (strcmp(given, "auto") == 0) return most_common(j);
    const char *named = chat_named(given);
    FT_CHECK(named || strchr(given, '{'), FT_ECONFIG,
             "chat_template: \"%s\" is auto, no name that ft help templates lists, and no template",
             ft_shows(given));
    j->template = arena_str(r->mem, named ? named : given);
    return j->template ? FT_OK : FT_EMEM;
}

/* --- a tensor ---------------------------------------------------------------------------------------------------- */

static ft_status missing_value(const merge_job *j, const merge_param *p, const char *tensor,
                               int ref)
{
    return ft_fail(FT_ECONFIG, "%s: %s: missing; %s needs it%s%s (for \"%s\")",
                   ft_shows(j->r->doc->js.name ? j->r->doc->js.name : "the recipe"), p->name,
                   j->r->method->name, ref < 0 ? "" : " of ",
                   ref < 0 ? "" : ft_shows(j->r->ref[ref].text), ft_shows(tensor));
}

/* Parameters of the method, shared ones into to, or those of one input. */
static ft_status find_values(const merge_job *j, const cJSON *const *map, int n, bool shared,
                             int ref, bool is_base, const char *tensor, double t, double *to)
{
    const merge_param *p = j->r->method->params;
    for (int i = 0; p && p[i].name; i++) {
        to[i] = p[i].def;
        if ((p[i].scope == MERGE_SHARED) != shared) continue;
        if (is_base && p[i].scope == MERGE_OTHERS) continue;
        if (!merge_look_up(map, n, &p[i], tensor, t, &to[i]) && isnan(p[i].def))
            return missing_value(j, &p[i], tensor, ref);
    }
    return FT_OK;
}

static void shape_of(const nn_param *p, int64_t *rows, int64_t *cols)
{
    const bool vector = p->t.nd == 1, turned = p->hf_turned && !vector;
    *rows = vector ? 1 : p->t.dim[turned];
    *cols = vector ? p->t.dim[0] : p->t.dim[!turned];
}

static bool has_tokens(const model *m, int64_t i)
{
    const nn_param *p = &m->param[i];
    return p == m->embed->w || (p == m->head->w && !m->scores);
}

/* The tensor of a model at the place of parameter i. */
static ft_status find_input(merge_job *j, int64_t i, const merge_source *s, int64_t layer,
                            merge_input *in)
{
    merge_ref *ref = &j->r->ref[s->ref];
    const model *made = j->result;
    const nn_param *p = &made->param[i];
    int64_t rows, cols, want_rows, want_cols;
    *in = (merge_input){.ref = s->ref, .label = ref->text, .m = ref->m, .how = &ref->how};
    in->param = model_param_like(ref->m, (int)layer, made, i);
    if (p == made->head->w && !is_tied(ref)) in->param = ref->m->head->w->index;
    FT_CHECK(in->param >= 0, FT_EDATA, "%s: has no tensor like \"%s\", which the others have",
             ft_shows(ref->text), ft_shows(p->name));
    shape_of(&ref->m->param[in->param], &rows, &cols);
    shape_of(p, &want_rows, &want_cols);
    FT_CHECK(cols == want_cols && (rows == want_rows || (j->vocab && has_tokens(made, i))),
             FT_EDATA,
             "%s: tensor \"%s\" is [%lld, %lld], of %s [%lld, %lld]; models of one shape "
             "are merged",
             ft_shows(ref->text), ft_shows(p->name), (long long)rows, (long long)cols,
             ft_shows(j->r->ref[j->donor].text), (long long)want_rows, (long long)want_cols);
    return FT_OK;
}

/* Which slice parameter i belongs to, its layer there (−1: none), and how far down it is. */
static const merge_slice *place_of(const merge_job *j, int64_t i, int64_t *layer, double *t)
{
    const merge_recipe *r = j->r;
    const model *m = j->result;
    const nn_param *p = &m->param[i];
    const int at = model_param_layer(m, i);
    *layer = -1;
    *t = 0;
    if (at < 0) {
        const bool before = p == m->embed->w || (m->position && p == m->position->w);
        return before ? &r->slice[0] : &r->slice[r->n_slice - 1];
    }
    const merge_slice *s = slice_of(r, at);
    *layer = at - s->first;
    *t = s->layers > 1 ? (double)*layer / (double)(s->layers - 1) : 1;
    return s;
}

/* What tensor i is made of: into j->now. */
static ft_status find_tensor(merge_job *j, int64_t i)
{
    const merge_recipe *r = j->r;
    const nn_param *p = &j->result->param[i];
    merge_tensor *t = &j->now;
    int64_t layer;
    double depth;
    const char *what;
    const merge_slice *s = place_of(j, i, &layer, &depth);
    *t = (merge_tensor){.method = r->method,
                        .name = p->name,
                        .in = j->in,
                        .n = s->n,
                        .base = -1,
                        .cast = r->cast,
                        .seed = (uint64_t)r->seed,
                        .mem = t->mem,
                        .vocab = has_tokens(j->result, i) ? j->vocab : NULL};
    shape_of(p, &t->rows, &t->cols);
    for (int k = 0; k < s->n; k++) {
        const merge_source *of = &s->source[k];
        merge_input *in = &t->in[k];
        if (of->ref == s->base) t->base = k;
        FT_TRY(find_input(j, i, of, layer < 0 ? -1 : of->from + layer, in));
        const char *name = p == j->result->head->w ? p->name : in->m->param[in->param].name;
        FT_TRY(find_values(j, (const cJSON *[]){of->parameters, s->parameters, r->parameters}, 3,
                           false, of->ref, t->base == k, name, depth, in->value));
    }
    FT_TRY(find_values(j, (const cJSON *[]){s->parameters, r->parameters}, 2, true, -1, false,
                       t->name, depth, t->value));
    what = r->method->check ? r->method->check(t) : NULL;
    FT_CHECK(!what, FT_ECONFIG, "parameters: %s (for \"%s\")", what, ft_shows(t->name));
    return FT_OK;
}

/* --- values ------------------------------------------------------------------------------------------------------ */

static void close_tensor(merge_job *j)
{
    if (j->at >= 0) merge_tensor_close(&j->now);
    j->at = -1;
}

static ft_status rows_of(void *ctx, int64_t i, int64_t row0, int64_t n, float *out)
{
    merge_job *j = ctx;
    if (j->at != i) {
        close_tensor(j);
        FT_TRY(find_tensor(j, i));
        FT_TRY(merge_tensor_open(&j->now));
        j->at = i;
    }
    if (row0 == 0) j->square[i] = 0;
    const ft_status rc = merge_mix(&j->now, row0, n, out, &j->square[i]);
    if (rc != FT_OK || row0 + n == j->now.rows) close_tensor(j);
    return rc;
}

/* --- the job ----------------------------------------------------------------------------------------------------- */

static ft_status open_all(merge_job *j)
{
    merge_recipe *r = j->r;
    j->donor = r->base >= 0 ? r->base : r->slice[0].source[0].ref;
    FT_TRY(open_models(j));
    FT_TRY(find_slices(r));
    FT_TRY(dir_make(j->dir));
    FT_TRY(merge_vocab_open(&j->vocab, r, j->donor, j->dir));
    FT_TRY(open_result(j));
    FT_TRY(find_template(j));
    for (int i = 0; i < r->n_ref; i++) FT_TRY(check_lost(j, &r->ref[i]));
    for (int64_t i = 0; i < j->result->n_param; i++) FT_TRY(find_tensor(j, i));
    return FT_OK;
}

ft_status merge_open(merge_job **out, merge_recipe *r, const char *dir)
{
    merge_job *j = ft_alloc(1, sizeof *j);
    *out = NULL;
    if (!j) return FT_EMEM;
    *j = (merge_job){.r = r, .dir = dir, .at = -1};
    ft_status rc = arena_open(&j->now.mem, "a tensor", (size_t)1 << 32);
    if (rc == FT_OK) rc = open_all(j);
    if (rc != FT_OK)
        merge_close(j);
    else
        *out = j;
    return rc;
}

void merge_close(merge_job *j)
{
    if (!j) return;
    close_tensor(j);
    model_close(j->result);
    for (int i = 0; i < j->r->n_ref; i++) {
        pe_qat_close(j->r->ref[i].qat);
        pe_close(j->r->ref[i].pe);
        model_close(j->r->ref[i].m);
        j->r->ref[i].qat = NULL;
        j->r->ref[i].pe = NULL;
        j->r->ref[i].m = NULL;
    }
    arena_close(j->now.mem);
    ft_free(j);
}

model *merge_result(merge_job *j)
{
    return j->result;
}

model *merge_donor(const merge_job *j)
{
    return j->r->ref[j->donor].m;
}

model_save_options merge_save_options(merge_job *j, bool gguf)
{
    const model *donor = merge_donor(j);
    const dt_type *type = j->r->out ? j->r->out : j->r->cast;
    if (!type && gguf) type = donor->has_blocks ? &dt_f16 : donor->dtype;
    return (model_save_options){.source = {.rows = rows_of, .ctx = j, .name = j->r->doc->js.name},
                                .type = type,
                                .template = j->template};
}

/* The largest tensor of each model, as it is mapped, or read and folded; tiles of every thread; counts of a method. */
size_t merge_bytes(const merge_job *j)
{
    size_t sum = 0, most;
    for (int r = 0; r < j->r->n_ref; r++) {
        const model *m = j->r->ref[r].m;
        most = 0;
        for (int64_t i = 0; m && i < m->n_param; i++) {
            size_t bytes = 0;
            if (!dt_bytes(m->param[i].t.type, tn_count(&m->param[i].t), &bytes)) bytes = 0;
            if (j->r->ref[r].pe || m->param[i].hf_turned)
                bytes = 2 * sizeof(float) * (size_t)tn_count(&m->param[i].t);
            most = bytes > most ? bytes : most;
        }
        sum += most;
    }
    const size_t tile = (size_t)1 << 18, counts = (size_t)1 << 19; /* 64 Ki floats, 64 Ki counts */
    return sum + (size_t)pool_threads() * ((size_t)(2 * j->r->n_ref + 1) * tile + counts);
}

ft_status merge_lines(const merge_job *j, str_buf *out)
{
    for (int64_t i = 0; i < j->result->n_param; i++) {
        int64_t layer;
        double depth;
        const char *name = j->result->param[i].name;
        const merge_slice *s = place_of(j, i, &layer, &depth);
        if (j->result->d.tied && &j->result->param[i] == j->result->head->w) continue;
        str_adds(out, "{\"name\":");
        str_json(out, name, strlen(name));
        for (int k = 0; k < s->n; k++) {
            const char *text = j->r->ref[s->source[k].ref].text;
            str_adds(out, k ? "," : ",\"models\":[");
            str_json(out, text, strlen(text));
        }
        str_adds(out, "],\"norm\":");
        str_double(out, sqrt(j->square[i]));
        str_adds(out, "}\n");
    }
    return str_ok(out);
}
