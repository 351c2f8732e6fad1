/* bitfit.c – BitFit (Ben Zaken et al. 2022): biases are trained, nothing else.
 *
 *   y = x Wᵀ + b, W frozen
 *
 * Which ones is said by terms: those of the reference implementation as far as decoders have them (query, key, value,
 * attention_output, mlp and its parts, norm), or names of the model's own modules. Where the model has no bias and its
 * class in transformers has a key that gives it one, a zero bias is added (nn_overlay.bias), together with the others that
 * come with the same key. A matrix of q, k and v together has one bias: terms that mean a part of it freeze the rest.
 *
 * The result is a model folder, or with save "delta" the biases alone: whole values by the names of the model, under the
 * file names of adapters, so that --adapter, merge-adapter and init_from take it. */
#include "ft/method.h"
#include "method_private.h"

#include <stdio.h>
#include <string.h>

typedef struct bitfit_cfg {
    const cJSON *bias_terms;
    bool add_missing_biases;
    const char *save;
} bitfit_cfg;

#define DELTA "delta"
#define AT(member) offsetof(bitfit_cfg, member)
static const char *const results[] = {"model", DELTA, NULL};
static const cfg_field fields[] = {
    {.key = "bias_terms",
     .type = CFG_JSON,
     .offset = AT(bias_terms),
     .def = "\"all\"",
     .help = "\"all\", or a list of query, key, value, attention_output, mlp, mlp_gate, mlp_up, "
             "mlp_down, norm, and names of modules"},
    {.key = "add_missing_biases",
     .type = CFG_BOOL,
     .offset = AT(add_missing_biases),
     .def = "true",
     .help = "zero biases are added where the model has none and its class can hold them"},
    {.key = "save",
     .type = CFG_ENUM,
     .offset = AT(save),
     .def = "\"model\"",
     .choices = results,
     .help =
         "a model folder in the base's dtype (bf16 where it has blocks) with its biases in f32, "
         "or the biases alone, for --adapter and merge-adapter"},
    CFG_END};

/* config.json is not among them, as with full. */
static const char *const files[] = {"model.safetensors",         "model.safetensors.index.json",
                                    "model-*.safetensors",       "adapter_config.json",
                                    "adapter_model.safetensors", NULL};

#define ROLE(r) (1u << (r))
static const struct {
    const char *name;
    unsigned roles;
} terms[] = {
    {"query", ROLE(NN_Q) | ROLE(NN_QKV)},
    {"key", ROLE(NN_K) | ROLE(NN_QKV)},
    {"value", ROLE(NN_V) | ROLE(NN_QKV)},
    {"attention_output", ROLE(NN_O)},
    {"mlp", ROLE(NN_GATE) | ROLE(NN_UP) | ROLE(NN_DOWN)},
    {"mlp_gate", ROLE(NN_GATE)},
    {"mlp_up", ROLE(NN_UP)},
    {"mlp_down", ROLE(NN_DOWN)},
    {"norm", ROLE(NN_NORM)},
};
enum { N_PARTS = 3, WHOLE = (1 << N_PARTS) - 1 }; /* query, key and value of one bias */

/* --- the config ------------------------------------------------------------------------------------------------ */
static const char *term_at(const cJSON *v, int i)
{
    return cJSON_IsArray(v) ? cJSON_GetStringValue(cJSON_GetArrayItem(v, i)) : NULL;
}

static bool is_word_all(const char *name, const char *unused)
{
    (void)unused;
    return strcmp(name, "all") == 0;
}

/* "all", or a list with it. */
static bool is_all(const cJSON *v)
{
    return pe_list_has(v, "", is_word_all);
}

static bool is_terms(const cJSON *v)
{
    const cJSON *e;
    if (cJSON_IsString(v)) return is_all(v);
    if (!cJSON_IsArray(v)) return false;
    cJSON_ArrayForEach(e, v)
    {
        if (!cJSON_IsString(e) || !*e->valuestring) return false;
    }
    return v->child != NULL;
}

static void check(cfg_doc *d, const cJSON *object, void *ctx)
{
    static const char *const settled[] = {"bias_terms", "add_missing_biases", NULL};
    bitfit_cfg *c = ctx;
    pe_check_json(d, c->bias_terms, "bias_terms", is_terms,
                  "must be \"all\" or a list of terms and names of modules");
    pe_check_init_from(d, object, settled, NULL);
}

/* --- biases that there are, or could be ---------------------------------------------------------------------------- */
typedef struct spot {
    const char *module;
    nn_role role;
    nn_site *s;      /* NULL: of a norm */
    nn_param *p;     /* NULL: the model has none here */
    const char *key; /* of config.json that would give it one; NULL: none would */
    unsigned parts;  /* of those that a bias for q, k and v is made of: to be trained */
} spot;

typedef struct spots {
    spot *at; /* in the order of the model's parameters */
    int64_t n;
} spots;

static bool is_linear(const nn_site *s)
{
    return s->role != NN_EMBED && s->role != NN_POSITION && s->role != NN_HEAD;
}

static ft_status find_spots(pe_ctx *c, spots *out)
{
    model *m = c->m;
    int64_t k = 0;
    *out = (spots){.at = arena_get(c->mem, (size_t)m->n_param * sizeof *out->at)};
    if (!out->at) return FT_EMEM;
    for (int64_t i = 0; i < m->n_param; i++) {
        nn_param *p = &m->param[i];
        nn_site *s = k < m->n_site && p == m->site[k].w ? &m->site[k++] : NULL;
        spot one = {.s = s};
        if (s) {
            one = (spot){s->path, s->role, s, s->b, model_bias_key(m, s), 0};
            if (!s->b && !(is_linear(s) && one.key)) one.key = NULL;
            if (!s->b && !is_linear(s)) continue;
            if (s->b) i++; /* its bias comes next */
        } else if (str_ends(p->name, ".bias")) {
            one.module = arena_strn(c->mem, p->name, strlen(p->name) - strlen(".bias"));
            one.role = NN_NORM;
            one.p = p;
            if (!one.module) return FT_EMEM;
        } else {
            continue;
        }
        out->at[out->n++] = one;
    }
    return FT_OK;
}

/* There is a bias, or one may be added. */
static bool is_open(const pe_ctx *c, const spot *s)
{
    return s->p || (s->key && ((const bitfit_cfg *)c->cfg)->add_missing_biases);
}

/* --- which of them ---------------------------------------------------------------------------------------------------- */
static int find_term(const char *name)
{
    for (int i = 0; i < (int)FT_COUNT_OF(terms); i++)
        if (strcmp(terms[i].name, name) == 0) return i;
    return -1;
}

/* A module, or one around it, ends with the name: "q_proj", "self_attn", "layers.0". */
static bool is_inside(const char *name, const char *module)
{
    size_t n = strlen(name);
    for (const char *at = module; (at = strstr(at, name)); at++) {
        bool begins = at == module || at[-1] == '.', ends = !at[n] || at[n] == '.';
        if (begins && ends) return true;
    }
    return false;
}

/* The parts of this bias that a term means; 0: none. */
static unsigned meant(const char *name, const spot *s)
{
    int term = find_term(name);
    if (term < 0) return is_inside(name, s->module) ? WHOLE : 0;
    if (!(terms[term].roles & ROLE(s->role))) return 0;
    return s->role == NN_QKV ? 1u << term : WHOLE;
}

static const char *last_word(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* The last word of a module; NULL where an earlier spot ends with the same one. */
static const char *new_word(const spots *all, int64_t i)
{
    const char *word = last_word(all->at[i].module);
    for (int64_t k = 0; k < i; k++)
        if (strcmp(last_word(all->at[k].module), word) == 0) return NULL;
    return word;
}

/* The terms that would do, and the last words of modules, each once: "query, key, q_proj, …". */
static void list_open(const pe_ctx *c, const spots *all, str_buf *out)
{
    for (size_t t = 0; t < FT_COUNT_OF(terms); t++) {
        bool whole = true, any = false;
        for (int64_t i = 0; i < all->n; i++) {
            if (!meant(terms[t].name, &all->at[i])) continue;
            any = true;
            whole = whole && is_open(c, &all->at[i]);
        }
        if (any && whole) str_printf(out, "%s%s", out->len ? ", " : "", terms[t].name);
    }
    for (int64_t i = 0; i < all->n; i++) {
        const char *word = is_open(c, &all->at[i]) ? new_word(all, i) : NULL;
        if (word) str_printf(out, "%s%s", out->len ? ", " : "", word);
    }
}

/* 78 with what there is; why ends where the list begins. */
static ft_status refuse(const pe_ctx *c, const spots *all, const char *why)
{
    str_buf list = {0};
    list_open(c, all, &list);
    ft_status rc = ft_fail(FT_ECONFIG, "method.bias_terms: %s; %s%s", why,
                           list.len ? "possible here: " : "use another method, as lora",
                           list.len ? list.data : "");
    str_free(&list);
    return rc;
}

/* Why a model has no bias at all to train. */
static ft_status nothing_open(const pe_ctx *c, const spots *all)
{
    const char *family = model_family_name(c->m);
    for (int64_t i = 0; i < all->n; i++) {
        FT_CHECK(!all->at[i].key, FT_ECONFIG,
                 "method.bias_terms: this %s model has no biases; zero ones are added with "
                 "method.add_missing_biases true",
                 family);
    }
    char why[160];
    snprintf(why, sizeof why,
             "a %s model has no biases, and transformers' class of it has no place for any",
             family);
    return refuse(c, all, why);
}

static ft_status choose_term(pe_ctx *c, const spots *all, const char *name)
{
    const bitfit_cfg *cfg = c->cfg;
    const char *family = model_family_name(c->m);
    char why[400];
    bool known = false, found = false;
    for (int64_t i = 0; i < all->n; i++) {
        spot *s = &all->at[i];
        unsigned parts = meant(name, s);
        known = known || parts;
        if (!parts || (!is_open(c, s) && !cfg->add_missing_biases)) continue;
        snprintf(why, sizeof why,
                 "\"%s\": transformers' class of a %s model has no place for a bias of \"%s\"",
                 ft_shows(name), family, s->module);
        if (!is_open(c, s)) return refuse(c, all, why);
        snprintf(why, sizeof why, "\"%s\": \"%s\" has one bias for query, key and value together",
                 ft_shows(name), s->module);
        if (parts != WHOLE && s->s->out != N_PARTS * s->s->in) return refuse(c, all, why);
        s->parts |= parts;
        found = true;
    }
    if (found) return FT_OK;
    if (known)
        snprintf(why, sizeof why,
                 "\"%s\": this %s model has no such biases, and method.add_missing_biases is false",
                 ft_shows(name), family);
    else
        snprintf(why, sizeof why, "\"%s\" is neither a term nor a module of this %s model",
                 ft_shows(name), family);
    return refuse(c, all, why);
}

static ft_status choose(pe_ctx *c, const spots *all)
{
    const bitfit_cfg *cfg = c->cfg;
    const char *name;
    bool any = false;
    for (int64_t i = 0; i < all->n; i++) {
        spot *s = &all->at[i];
        any = any || is_open(c, s);
        if (is_all(cfg->bias_terms) && is_open(c, s)) s->parts = WHOLE;
    }
    if (!any) return nothing_open(c, all);
    for (int i = 0; (name = term_at(cfg->bias_terms, i)); i++)
        if (!is_word_all(name, NULL)) FT_TRY(choose_term(c, all, name));
    return FT_OK;
}

/* --- attaching ---------------------------------------------------------------------------------------------------------- */
/* Biases of which a part is trained: c->priv. */
typedef struct partial {
    nn_param *p;
    unsigned parts;
    struct partial *next;
} partial;

static ft_status train_bias(pe_ctx *c, const spot *s)
{
    const char *name = arena_printf(c->mem, "%s.bias", s->module);
    nn_param *p;
    if (!name) return FT_EMEM;
    if (s->p) {
        FT_TRY(nn_train_copy(&c->store, &c->over, s->p));
        p = *pe_own(c, s->p);
    } else {
        FT_TRY(nn_new_param(&c->store, name, s->s->out, 0, &p));
        p->hyper.decay_ratio = 0;
        c->over.bias[s->s->index] = p;
    }
    if (s->parts != WHOLE) {
        partial *part = arena_get(c->mem, sizeof *part);
        if (!part) return FT_EMEM;
        *part = (partial){p, s->parts, c->priv};
        c->priv = part;
    }
    return pe_add_entry(c, p, name, false);
}

/* A bias that stays zero: the key that makes room for its neighbours makes room for it. */
static ft_status zero_bias(pe_ctx *c, const spot *s)
{
    nn_param *p = arena_get(c->mem, sizeof *p);
    float *zeros = arena_get(c->mem, (size_t)s->s->out * sizeof *zeros);
    const char *name = arena_printf(c->mem, "%s.bias", s->module);
    if (!p || !zeros || !name) return FT_EMEM;
    *p = (nn_param){.name = name,
                    .file_type = &dt_f32,
                    .t = {.type = &dt_f32, .nd = 1, .dim = {s->s->out}, .data = zeros}};
    c->over.bias[s->s->index] = p;
    return FT_OK;
}

static bool is_added(const pe_ctx *c, const spots *all, const char *key)
{
    for (int64_t i = 0; i < all->n; i++) {
        const spot *s = &all->at[i];
        if (s->parts && !s->p && c->over.bias[s->s->index] && strcmp(s->key, key) == 0) return true;
    }
    return false;
}

static ft_status attach(pe_ctx *c)
{
    const bitfit_cfg *cfg = c->cfg;
    spots all;
    if (strcmp(cfg->save, DELTA) == 0) c->result = PE_DELTA;
    FT_TRY(find_spots(c, &all));
    FT_TRY(choose(c, &all));
    for (int64_t i = 0; i < all.n; i++)
        if (all.at[i].parts) FT_TRY(train_bias(c, &all.at[i]));
    nn_param *head = c->m->head->w;
    if (pe_trains_head(c, head)) FT_TRY(pe_train_head(c, head, head->name));
    for (int64_t i = 0; i < all.n; i++) {
        const spot *s = &all.at[i];
        if (!s->parts && !s->p && s->key && is_added(c, &all, s->key)) FT_TRY(zero_bias(c, s));
    }
    return FT_OK;
}

/* What is frozen of a bias has no gradient: no rule moves it, and the norm knows nothing of it. */
static double gradients(pe_ctx *c)
{
    for (const partial *f = c->priv; f; f = f->next) {
        int64_t n = f->p->t.dim[0] / N_PARTS;
        for (int k = 0; k < N_PARTS; k++)
            if (!(f->parts & 1u << k)) memset(f->p->t.grad + k * n, 0, (size_t)n * sizeof(float));
    }
    return 0;
}

/* --- files ------------------------------------------------------------------------------------------------------------------ */
static ft_status save(const pe_ctx *c, const char *dir)
{
    const bitfit_cfg *cfg = c->cfg;
    model_save_options whole = {.over = &c->over, .exact_vectors = c->method->exact_vectors};
    if (c->result != PE_DELTA) return model_save(c->m, dir, &whole);
    cJSON *own = cJSON_CreateObject();
    cJSON_AddBoolToObject(own, "add_missing_biases", cfg->add_missing_biases);
    pe_put_json(own, "bias_terms", cfg->bias_terms);
    return pe_save_files(c, own, dir);
}

static ft_status load_config(pe_ctx *c, const js_doc *d)
{
    static const pe_key keys[] = {{"bias_terms", NULL}, {"add_missing_biases", NULL}, {NULL, NULL}};
    bitfit_cfg *cfg = c->cfg;
    FT_TRY(pe_check_keys(d, keys));
    cfg->bias_terms = js_get(d->root, "bias_terms");
    if (!is_terms(cfg->bias_terms))
        return js_fail(d, cfg->bias_terms ? cfg->bias_terms : d->root, FT_EDATA, "bias_terms",
                       "must be \"all\" or a list of terms and names of modules");
    return js_get_bool(d, d->root, "add_missing_biases", true, &cfg->add_missing_biases);
}

static ft_status load(pe_ctx *c)
{
    return pe_read_tensors(c);
}

/* Nothing is left to compute: what was trained stands in the overlay whole. */
static ft_status fold(const pe_ctx *c, const nn_site *s, float *w, float *b)
{
    (void)c, (void)s, (void)w, (void)b;
    return FT_OK;
}

const pe_method pe_bitfit = {
    .name = "bitfit",
    .help = "trains biases only; the result is a model folder, or the biases alone",
    .about = "Biases (and with terms norms) alone are trained: a few thousand values. Take it for "
             "small data and a light change of manner, on families whose layers have biases "
             "(GPT-2, Qwen2); others are given some.",
    .paper = "Ben Zaken et al. 2022, BitFit: Simple Parameter-efficient Fine-tuning for "
             "Transformer-based Masked Language-models",
    .example = "{\"type\": \"bitfit\"}",
    .fields = fields,
    .cfg_size = sizeof(bitfit_cfg),
    .peft_type = "BITFIT",
    .result = PE_MODEL,
    .exact_vectors = true,
    .files = files,
    .learning_rate = 1e-3, /* of the reference implementation's script */
    .check = check,
    .attach = attach,
    .gradients = gradients,
    .save = save,
    .load_config = load_config,
    .load = load,
    .fold = fold,
};
