/* from_folder.c – a tokenizer from a Hugging Face folder: tokenizer.json, or older files made into one, and what the
 * files beside it change.
 *
 * The order is transformers': steps and vocabulary, then what tokenizer_config.json says of the steps, then added
 * tokens (tokenizer.json's, those of added_tokens_decoder or else of added_tokens.json, named special ones), then ids.
 * special_tokens_map.json and added_tokens.json are only read where tokenizer_config.json has no
 * added_tokens_decoder, and then the map wins over the config.
 * Where releases 4.57 and 5.24 give the same ids from a key, so does ft. Where they differ in the steps of a text,
 * tokenizer.json counts, as llama.cpp has it too, and a warning says so. Which tokens are added, and in which order, is
 * as in 5.24: 4.57 knows no names of a model's own, and stops at a list of extra_special_tokens. */
#include "token_private.h"

#include <stdlib.h>

#define MAX_FILE ((size_t)1 << 30)

/* --- classes ------------------------------------------------------------------------------------------------- */
/* What a class of transformers does beyond the files. */
typedef struct class_row {
    const char *name, *type;           /* without "Fast"; model_type that stands for it, NULL */
    const char *bos, *eos, *unk, *pad; /* names where the config has none */
    const char *preset; /* of vocab.json and merges.txt; NULL: not read for this class */
    bool byte_prefix;   /* add_prefix_space is false unless said, whatever the file says */
    bool piece_prefix;  /* add_prefix_space and legacy rebuild the steps of tokenizer.json */
    bool flags;         /* 4.x makes the post-processor of add_bos_token and add_eos_token */
    bool pieces;        /* tokenizer.model is read for this class */
} class_row;
#define END "<|endoftext|>"
/* clang-format off */
static const class_row classes[] = {
    {"GPT2Tokenizer", "gpt2", END, END, END, NULL, "gpt-2", .byte_prefix = true},
    {"CodeGenTokenizer", NULL, END, END, END, NULL, "gpt-2", .byte_prefix = true},
    {"Qwen2Tokenizer", "qwen2", NULL, END, END, END, "qwen2", .flags = false},
    {"Qwen2Tokenizer", "qwen3", NULL, END, END, END, "qwen2", .flags = false},
    {"LlamaTokenizer", NULL, "<s>", "</s>", "<unk>", NULL, NULL, .piece_prefix = true, .flags = true, .pieces = true},
    {"CodeLlamaTokenizer", NULL, "<s>", "</s>", "<unk>", NULL, NULL, .piece_prefix = true, .pieces = true},
    {"GemmaTokenizer", NULL, "<bos>", "<eos>", "<unk>", "<pad>", NULL, .flags = true, .pieces = true},
    {"T5Tokenizer", NULL, NULL, "</s>", "<unk>", "<pad>", NULL, .pieces = true},
    {"GPTNeoXTokenizer", NULL, END, END, END, NULL, NULL, .flags = true},
    {"CohereTokenizer", NULL, "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>", "<PAD>", NULL, .flags = true},
    /* the generic ones: what the files say */
    {"PreTrainedTokenizer", NULL, NULL, NULL, NULL, NULL, "gpt-2", .pieces = true},
    {"TokenizersBackend", NULL, NULL, NULL, NULL, NULL, "gpt-2", .pieces = true},
};
/* clang-format on */

/* --- the files beside it ---------------------------------------------------------------------------------------- */
enum { CONFIG, SPECIALS, MODEL, GENERATION, ADDED, N_SIDES };
static const char *const side_names[N_SIDES] = {"tokenizer_config.json", "special_tokens_map.json",
                                                "config.json", "generation_config.json",
                                                "added_tokens.json"};
/* config.json is the model's: its reader knows the keys; every key of added_tokens.json is a token. */
static const js_key *const side_keys[N_SIDES] = {
    [CONFIG] = tk_config_keys, [SPECIALS] = tk_special_keys, [GENERATION] = tk_generation_keys};

typedef struct side { /* one optional JSON file */
    char *text;
    size_t len;
    js_doc doc;
} side;

typedef struct folder {
    tok_tokenizer *t;
    const char *dir;
    side s[N_SIDES];
    const char *class_name; /* without "Fast"; NULL: not said */
    const class_row *class;
    bool old;     /* made of files older than tokenizer.json */
    bool decoder; /* tokenizer_config.json has added_tokens_decoder */
    tk_added_list added;
    map_table index;   /* text of an added token → place in the list */
    map_table special; /* texts that the files call special */
    int32_t free_id;   /* above the ids of added tokens */
} folder;

static ft_status side_open(folder *f, int i)
{
    side *s = &f->s[i];
    const char *path = path_join(f->t->mem, f->dir, side_names[i]);
    if (!path) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&s->text, &s->len, path, MAX_FILE));
    FT_TRY(
        js_parse(&s->doc, s->text, s->len, path, 1, JS_ALLOW_NONFINITE | JS_BIG_NUMBERS, FT_EDATA));
    if (!cJSON_IsObject(s->doc.root)) {
        return js_fail(&s->doc, s->doc.root, FT_EDATA, NULL, "must be an object");
    }
    return side_keys[i] ? js_check_keys(&s->doc, s->doc.root, side_keys[i], FT_EDATA) : FT_OK;
}

static void side_close(side *s)
{
    js_close(&s->doc);
    ft_free(s->text);
    *s = (side){0};
}

static const cJSON *get(const folder *f, int i, const char *key)
{
    const cJSON *v = f->s[i].doc.root ? js_get(f->s[i].doc.root, key) : NULL;
    return cJSON_IsNull(v) ? NULL : v;
}

static ft_status get_bool(const folder *f, const char *key, int *out) /* −1: not said */
{
    bool v = false;
    *out = -1;
    if (!get(f, CONFIG, key)) return FT_OK;
    FT_TRY(js_get_bool(&f->s[CONFIG].doc, f->s[CONFIG].doc.root, key, false, &v));
    *out = v;
    return FT_OK;
}

/* *out stays where the file does not say. */
static ft_status get_text(const folder *f, int file, const char *key, const char **out)
{
    return get(f, file, key) ? js_get_str(&f->s[file].doc, f->s[file].doc.root, key, NULL, out)
                             : FT_OK;
}

static ft_status find_class(folder *f)
{
    const char *name = NULL, *type = NULL;
    FT_TRY(get_text(f, MODEL, "model_type", &type));
    FT_TRY(get_text(f, MODEL, "tokenizer_class", &name));
    FT_TRY(get_text(f, CONFIG, "tokenizer_class", &name));
    if (name) {
        size_t n = strlen(name) - (str_ends(name, "Fast") ? 4 : 0);
        f->class_name = arena_strn(f->t->mem, name, n);
        if (!f->class_name) return FT_EMEM;
    }
    for (size_t i = 0; i < FT_COUNT_OF(classes) && !f->class; i++) {
        const char *want = name ? classes[i].name : classes[i].type;
        const char *have = name ? f->class_name : type;
        if (want && have && strcmp(want, have) == 0) f->class = &classes[i];
    }
    if (f->class) f->class_name = f->class->name;
    return FT_OK;
}

/* --- steps ----------------------------------------------------------------------------------------------------- */
static bool is_step(const tk_ops *ops, int i, const char *name)
{
    return i >= 0 && i < ops->n && strcmp(ops->op[i].kind->name, name) == 0;
}

static bool has_step(const tk_ops *ops, const char *name)
{
    for (int i = 0; i < ops->n; i++) {
        if (is_step(ops, i, name)) return true;
    }
    return false;
}

static bool piece_prefix(const tok_tokenizer *t) /* ▁ is put in front of a text */
{
    for (int i = 0; i < t->pretokenizers.n; i++) {
        if (is_step(&t->pretokenizers, i, "Metaspace") && t->pretokenizers.op[i].num[0] != 2)
            return true;
    }
    return has_step(&t->normalizers, "Prepend");
}

/* Where ▁ is put: 0 in front of every piece, 1 of the text, 2 nowhere; −1: other steps, as those of the legacy form. */
static int piece_scheme(const tok_tokenizer *t)
{
    const tk_ops *norm = &t->normalizers, *split = &t->pretokenizers;
    if (norm->n == 1 && split->n == 0 && is_step(norm, 0, "Replace")) return 2;
    bool one = norm->n == 0 && split->n == 1 && is_step(split, 0, "Metaspace");
    return one && !split->op[0].on[0] ? (int)split->op[0].num[0] : -1;
}

/* The steps that releases from 5 on make of the two keys. */
static void warn_pieces(const folder *f, int prefix, int legacy, const char *what)
{
    if (piece_scheme(f->t) == (prefix == 0 ? 2 : legacy == 1 ? 0 : 1)) return;
    log_warn("%s: legacy: releases of transformers differ in spaces at the start of texts and "
             "behind special tokens: 5.x builds other steps than the %s; the latter count",
             f->dir, what);
}

/* LlamaTokenizer builds its steps from two keys. With legacy false a leading space is not doubled by the prefix. Releases
 * from 5 on build them always, earlier ones where add_prefix_space is said. */
static ft_status piece_steps(folder *f, int prefix, int legacy)
{
    tok_tokenizer *t = f->t;
    bool rebuild = prefix == 0 ? piece_prefix(t) : prefix == 1 && (legacy == 0 || !piece_prefix(t));
    if (rebuild) {
        tk_ops_close(&t->normalizers);
        tk_ops_close(&t->pretokenizers);
        tk_ops_close(&t->decoders);
        t->add_space_prefix = prefix == 1;
        tk_llama_components(t, legacy != 0);
        FT_TRY(tk_parse_components(t));
    }
    warn_pieces(f, prefix, legacy,
                rebuild ? "ones add_prefix_space asks for" : "ones of tokenizer.json");
    return FT_OK;
}

static ft_status byte_steps(folder *f, int prefix)
{
    tk_ops *ops = &f->t->pretokenizers;
    tk_op *last = &ops->op[ops->n - 1];
    bool always = f->class && f->class->byte_prefix;
    bool want = prefix >= 0 ? prefix : always ? false : last->on[0];
    if (want == last->on[0]) return FT_OK;
    if (ops->n > 1 || !always) {
        log_warn("%s: add_prefix_space: %s has no effect %s; tokenizer.json counts",
                 f->s[CONFIG].doc.name, want ? "true" : "false",
                 ops->n > 1 ? "on a pre_tokenizer of several steps" : "with this tokenizer_class");
        return FT_OK;
    }
    last->on[0] = want;
    return FT_OK;
}

/* A class that normalises, by its name or by the model_type that newer releases take it from, beside a tokenizer.json
 * that does not. */
static void warn_normalizer(const folder *f)
{
    const char *type = cJSON_GetStringValue(get(f, MODEL, "model_type"));
    if (f->old || f->t->normalizers.n) return;
    for (size_t i = 0; i < FT_COUNT_OF(classes); i++) {
        const class_row *c = &classes[i];
        bool by_type = type && c->type && strcmp(type, c->type) == 0;
        const tk_preset *p = c->preset ? tk_preset_find(c->preset) : NULL;
        if ((c != f->class && !by_type) || !p || !p->normalizer) continue;
        log_warn("%s: tokenizer.json has no normalizer, but %s normalises texts in some releases "
                 "of transformers (%s); tokenizer.json counts",
                 f->dir, c->name, p->normalizer);
        return;
    }
}

/* What tokenizer_config.json says of the steps of tokenizer.json. */
static ft_status follow_steps(folder *f)
{
    tok_tokenizer *t = f->t;
    const js_doc *d = &f->s[CONFIG].doc;
    int prefix, legacy, lower, mistral, split;
    FT_TRY(get_bool(f, "add_prefix_space", &prefix));
    FT_TRY(get_bool(f, "legacy", &legacy));
    FT_TRY(get_bool(f, "do_lower_case", &lower));
    FT_TRY(get_bool(f, "fix_mistral_regex", &mistral));
    FT_TRY(get_bool(f, "split_special_tokens", &split));
    t->added.plain_special = split == 1;
    warn_normalizer(f);
    if (lower == 1 && !has_step(&t->normalizers, "Lowercase") &&
        !has_step(&t->normalizers, "BertNormalizer")) {
        return js_fail(d, get(f, CONFIG, "do_lower_case"), FT_EDATA, "do_lower_case",
                       "true, but the normalizer of tokenizer.json changes no case; put a "
                       "Lowercase step there, or set the key to false");
    }
    if (mistral == 1 && !tk_preset_is(&t->pretokenizers, "tekken")) {
        return js_fail(d, get(f, CONFIG, "fix_mistral_regex"), FT_EDATA, "fix_mistral_regex",
                       "the pattern of tokenizer.json is not the mended one; save the tokenizer "
                       "once more with transformers");
    }
    if (f->old) { /* made so */
        if (f->class && f->class->piece_prefix)
            warn_pieces(f, prefix, legacy, "ones of 4.x, made of tokenizer.model");
        return FT_OK;
    }
    if (is_step(&t->pretokenizers, t->pretokenizers.n - 1, "ByteLevel"))
        return byte_steps(f, prefix);
    if (f->class && f->class->piece_prefix) return piece_steps(f, prefix, legacy);
    if (prefix >= 0 && prefix != piece_prefix(t)) {
        log_warn("%s: add_prefix_space: %s has no effect with this tokenizer_class; tokenizer.json "
                 "counts",
                 d->name, prefix ? "true" : "false");
    }
    return FT_OK;
}

/* --- added tokens -------------------------------------------------------------------------------------------------- */
/* "<s>", {"content": "<s>", …} or null. */
static const char *token_text(const cJSON *v)
{
    return cJSON_GetStringValue(cJSON_IsObject(v) ? js_get(v, "content") : v);
}

static tk_added *find_added(const folder *f, const char *text)
{
    int64_t at;
    return map_get(&f->index, text, strlen(text), &at) ? &f->added.tok[at] : NULL;
}

/* Makes token i of the list known by its text. */
static ft_status enter(folder *f, int64_t i)
{
    const tk_added *t = &f->added.tok[i];
    if (f->free_id <= t->id) f->free_id = t->id + 1;
    return map_put(&f->index, t->text.s, t->text.n, i);
}

static int by_stated_id(const void *a, const void *b)
{
    const tk_added *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Puts the tokens from `first` on, in the order of their ids; those that are there already with these flags go. */
static ft_status settle(folder *f, int64_t first)
{
    tk_added_list *l = &f->added;
    int64_t kept = first, at;
    if (l->n > first) {
        qsort(l->tok + first, (size_t)(l->n - first), sizeof *l->tok, by_stated_id);
    }
    for (int64_t i = first; i < l->n; i++) {
        const tk_added *t = &l->tok[i];
        if (map_get(&f->index, t->text.s, t->text.n, &at)) {
            const tk_added *old = &l->tok[at];
            if (old->single_word == t->single_word && old->lstrip == t->lstrip &&
                old->rstrip == t->rstrip && old->normalized == t->normalized &&
                old->special == t->special)
                continue;
        }
        l->tok[kept] = *t;
        FT_TRY(enter(f, kept++));
    }
    l->n = kept;
    return FT_OK;
}

static ft_status stated_id(const js_doc *d, const cJSON *node, double v, int32_t *out)
{
    if (!(v >= 0 && v <= TK_MAX_ID && v == (double)(int32_t)v)) {
        return js_fail(d, node, FT_EDATA, node->string, "is not an id from 0 to %d", TK_MAX_ID);
    }
    *out = (int32_t)v;
    return FT_OK;
}

/* added_tokens_decoder: {"id": {content, …}}. */
static ft_status add_from_decoder(folder *f, const cJSON *o)
{
    const cJSON *item;
    const js_doc *d = &f->s[CONFIG].doc;
    int64_t first = f->added.n;
    cJSON_ArrayForEach(item, o)
    {
        tk_added t = {0};
        char *end;
        double id = strtod(item->string, &end);
        FT_TRY(stated_id(d, item, *end || !*item->string ? -1 : id, &t.id));
        FT_TRY(tk_parse_added(&t, &(tk_src){d, f->t->mem}, item));
        FT_TRY(tk_added_push(&f->added, &t));
    }
    return settle(f, first);
}

static int by_id(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* added_tokens.json: {token: id}. An id that tokenizer.json gives to another token is that token's. */
static ft_status add_from_file(folder *f)
{
    const cJSON *item;
    const js_doc *d = &f->s[ADDED].doc;
    int64_t first = f->added.n;
    int32_t *taken = arena_get(f->t->mem, (size_t)(first + 1) * sizeof *taken);
    if (!taken) return FT_EMEM;
    for (int64_t i = 0; i < first; i++) taken[i] = f->added.tok[i].id;
    qsort(taken, (size_t)first, sizeof *taken, by_id);
    cJSON_ArrayForEach(item, d->root)
    {
        tk_added t = {0};
        size_t n = strlen(item->string);
        FT_TRY(stated_id(d, item, cJSON_IsNumber(item) ? item->valuedouble : -1, &t.id));
        if (find_added(f, item->string) ||
            bsearch(&t.id, taken, (size_t)first, sizeof *taken, by_id))
            continue;
        t.text = (tk_span){arena_strn(f->t->mem, item->string, n), n};
        t.special = map_get(&f->special, item->string, n, NULL);
        t.normalized = !t.special;
        if (!t.text.s) return FT_EMEM;
        FT_TRY(tk_added_push(&f->added, &t));
    }
    return settle(f, first);
}

/* A token with a name: it becomes special, and an added token where it is none. `known`: only where the vocabulary
 * has it. */
static ft_status add_special(folder *f, const js_doc *d, const cJSON *v, const char *text,
                             bool known)
{
    tok_tokenizer *t = f->t;
    tk_added a = {.special = true}, *old = text ? find_added(f, text) : NULL;
    if (!text || !*text) return FT_OK;
    if (old) {
        old->special = true;
        return FT_OK;
    }
    size_t n = strlen(text);
    a.id = tk_vocab_id(&t->model.vocab, text, n);
    if (a.id < 0 && known) return FT_OK;
    if (a.id < 0) { /* the next free one, as the rule will have it */
        a.id = (int32_t)t->model.vocab.entries;
        if (a.id < f->free_id) a.id = f->free_id;
    }
    if (cJSON_IsObject(v)) {
        int32_t id = a.id;
        FT_TRY(tk_parse_added(&a, &(tk_src){d, t->mem}, v));
        a.id = id;
        a.special = true;
    } else {
        a.text = (tk_span){arena_strn(t->mem, text, n), n};
        if (!a.text.s) return FT_EMEM;
    }
    FT_TRY(tk_added_push(&f->added, &a));
    return enter(f, f->added.n - 1);
}

/* --- names ------------------------------------------------------------------------------------------------------------ */
static const char *const standard[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};
#define EXTRA "extra_special_tokens"
#define ADDITIONAL "additional_special_tokens"
#define SPECIFIC "model_specific_special_tokens"
static const char *const lists[] = {EXTRA, ADDITIONAL, SPECIFIC};

/* The value of a name, and the file it stands in: the map's before the config's where the map is read at all. */
static const cJSON *named(const folder *f, const char *key, int *file)
{
    const cJSON *v = f->decoder ? NULL : get(f, SPECIALS, key);
    *file = v ? SPECIALS : CONFIG;
    return v ? v : get(f, CONFIG, key);
}

static ft_status add_name(folder *f, const js_doc *d, const char *key, const cJSON *v)
{
    const char *text = token_text(v);
    if (!text) {
        return js_fail(d, v, FT_EDATA, key, "must be a text, or an object with content");
    }
    FT_TRY(add_special(f, d, v, text, false));
    return tk_add_named(&f->t->names, f->t->mem, key, text);
}

static const char *class_name_of(const class_row *c, size_t i)
{
    const char *const names[] = {c->bos, c->eos, c->unk, NULL, c->pad, NULL, NULL};
    return names[i];
}

static ft_status add_standard(folder *f)
{
    for (size_t i = 0; i < FT_COUNT_OF(standard); i++) {
        int file;
        const cJSON *v = named(f, standard[i], &file);
        if (v) FT_TRY(add_name(f, &f->s[file].doc, standard[i], v));
        bool null = f->s[CONFIG].doc.root && js_get(f->s[CONFIG].doc.root, standard[i]);
        const char *text = f->class && !v && !null ? class_name_of(f->class, i) : NULL;
        if (!text) continue;
        FT_TRY(add_special(f, NULL, NULL, text, !f->old));
        if (find_added(f, text)) FT_TRY(tk_add_named(&f->t->names, f->t->mem, standard[i], text));
    }
    return FT_OK;
}

static bool is_standard(const char *key)
{
    for (size_t i = 0; i < FT_COUNT_OF(standard); i++)
        if (strcmp(standard[i], key) == 0) return true;
    return false;
}

/* Names of the model's own: "image_token": "<image>" (texts), or an object, in tokenizer_config.json of a saved
 * AddedToken. */
static ft_status add_own_names(folder *f, int file, bool texts, bool *any)
{
    const js_doc *d = &f->s[file].doc;
    const cJSON *item;
    cJSON_ArrayForEach(item, d->root)
    {
        if (cJSON_IsNull(item) || cJSON_IsBool(item) || cJSON_IsString(item) != texts ||
            !str_ends(item->string, "_token") || is_standard(item->string))
            continue;
        if (cJSON_IsObject(item) && file == CONFIG && !js_get(item, "__type")) {
            log_warn("%s: %s: is no token without \"__type\": \"AddedToken\"", d->name,
                     ft_shows(item->string));
            continue;
        }
        FT_TRY(add_name(f, d, item->string, item));
        *any = true;
    }
    return FT_OK;
}

/* The members of an object of names, {"image_token": "<image>"}. */
static ft_status add_names_of(folder *f, int file, const char *key, bool *any)
{
    const cJSON *item, *o = get(f, file, key);
    if (o && !cJSON_IsObject(o) && (!cJSON_IsArray(o) || strcmp(key, SPECIFIC) == 0))
        return js_fail(&f->s[file].doc, o, FT_EDATA, key, "must be an object of tokens");
    if (!cJSON_IsObject(o)) return FT_OK;
    cJSON_ArrayForEach(item, o)
    {
        FT_TRY(add_name(f, &f->s[file].doc, item->string, item));
        *any = true;
    }
    return FT_OK;
}

static ft_status add_list(folder *f, int file, const char *key)
{
    const js_doc *d = &f->s[file].doc;
    const cJSON *item, *v = get(f, file, key);
    if (v && !cJSON_IsArray(v) && (!cJSON_IsObject(v) || strcmp(key, EXTRA) != 0))
        return js_fail(d, v, FT_EDATA, key, "must be a list of tokens");
    if (!cJSON_IsArray(v)) return FT_OK;
    cJSON_ArrayForEach(item, v)
    {
        if (!token_text(item)) return js_fail(d, item, FT_EDATA, key, "must be a list of tokens");
        FT_TRY(add_special(f, d, item, token_text(item), false));
    }
    return FT_OK;
}

/* Lists of further special tokens. additional_… is the older name of extra_…, and read where that has nothing; the
 * map's only where the config has neither. */
static ft_status add_lists(folder *f)
{
    const cJSON *root = f->s[CONFIG].doc.root, *extra = get(f, CONFIG, EXTRA), *item;
    bool named = cJSON_IsObject(extra), empty = !extra || !extra->child;
    bool said = root && (js_get(root, ADDITIONAL) || (js_get(root, EXTRA) && !named));
    FT_TRY(add_list(f, CONFIG, EXTRA));
    if (empty || named) FT_TRY(add_list(f, CONFIG, ADDITIONAL));
    if (f->decoder) return FT_OK;
    FT_TRY(add_list(f, SPECIALS, EXTRA));
    if (!said) return add_list(f, SPECIALS, ADDITIONAL);
    cJSON_ArrayForEach(item, get(f, SPECIALS, ADDITIONAL))
    {
        const char *text = token_text(item);
        if (!text || find_added(f, text)) continue;
        log_warn("%s: %s: %s is not read beside the list of tokenizer_config.json; it is not a "
                 "token",
                 f->s[SPECIALS].doc.name, ADDITIONAL, ft_shows(text));
    }
    return FT_OK;
}

/* New ids are given in this order: names whose value is an object, or that the map has, other names, lists. */
static ft_status add_others(folder *f)
{
    bool any = false, objects = false;
    FT_TRY(add_own_names(f, CONFIG, false, &objects));
    if (!f->decoder) FT_TRY(add_own_names(f, SPECIALS, false, &objects));
    if (!f->decoder) FT_TRY(add_own_names(f, SPECIALS, true, &objects));
    FT_TRY(add_own_names(f, CONFIG, true, &any));
    FT_TRY(add_names_of(f, CONFIG, EXTRA, &any));
    if (!any) FT_TRY(add_names_of(f, CONFIG, SPECIFIC, &any));
    if (!f->decoder) FT_TRY(add_names_of(f, SPECIALS, EXTRA, &any));
    return add_lists(f);
}

/* The texts that names and lists of the files call special. */
static ft_status gather_special(folder *f)
{
    int file;
    const cJSON *item;
    for (size_t i = 0; i < FT_COUNT_OF(standard); i++) {
        const char *s = token_text(named(f, standard[i], &file));
        if (s) FT_TRY(map_put(&f->special, s, strlen(s), 1));
    }
    for (int k = CONFIG; k <= SPECIALS; k++) {
        for (size_t i = 0; i < FT_COUNT_OF(lists); i++) {
            cJSON_ArrayForEach(item, get(f, k, lists[i]))
            {
                const char *s = token_text(item);
                if (s) FT_TRY(map_put(&f->special, s, strlen(s), 1));
            }
        }
    }
    return FT_OK;
}

/* What stands in a file that is not read, and nowhere else. */
static void warn_unread(const folder *f)
{
    const cJSON *item;
    if (!f->decoder) return;
    for (size_t i = 0; i < FT_COUNT_OF(standard); i++) {
        const char *said = token_text(get(f, SPECIALS, standard[i]));
        const char *counts = tk_named_text(&f->t->names, standard[i]);
        if (!said || (counts && strcmp(said, counts) == 0)) continue;
        log_warn("%s: %s is %s here and %s in tokenizer_config.json, which counts (it has "
                 "added_tokens_decoder)",
                 f->s[SPECIALS].doc.name, standard[i], ft_shows(said),
                 counts ? ft_shows(counts) : "nothing");
    }
    cJSON_ArrayForEach(item, f->s[ADDED].doc.root)
    {
        if (find_added(f, item->string)) continue;
        log_warn("%s: %s is not among the added_tokens_decoder of tokenizer_config.json, which "
                 "counts; it is not a token",
                 f->s[ADDED].doc.name, ft_shows(item->string));
    }
}

static ft_status collect_added(folder *f)
{
    const cJSON *decoder = get(f, CONFIG, "added_tokens_decoder");
    f->decoder = decoder != NULL;
    if (decoder && !cJSON_IsObject(decoder)) {
        return js_fail(&f->s[CONFIG].doc, decoder, FT_EDATA, "added_tokens_decoder",
                       "must be an object of ids");
    }
    for (int64_t i = 0; i < f->added.n; i++) FT_TRY(enter(f, i));
    FT_TRY(gather_special(f));
    FT_TRY(decoder ? add_from_decoder(f, decoder) : add_from_file(f));
    FT_TRY(add_standard(f));
    FT_TRY(add_others(f));
    warn_unread(f);
    return FT_OK;
}

/* --- ids ---------------------------------------------------------------------------------------------------------------- */
static int32_t named_id(const tok_tokenizer *t, const char *key)
{
    const char *text = tk_named_text(&t->names, key);
    return text ? tok_id(t, text, strlen(text)) : -1;
}

/* Appends an id, or a list of them; −1 and ids beyond the vocabulary stand for none. */
static ft_status ids_of(const folder *f, int file, const char *key, int64_t *out, int *n)
{
    const js_doc *d = &f->s[file].doc;
    const cJSON *v = get(f, file, key), *item = cJSON_IsArray(v) ? v->child : v;
    int k = 0;
    for (; item; item = item == v ? NULL : item->next) {
        double id = item->valuedouble;
        if (!cJSON_IsNumber(item) || !(id >= INT32_MIN && id <= INT32_MAX) || id != (int32_t)id)
            return js_fail(d, item, FT_EDATA, key, "must be an id, or a list of ids");
        if (k++ == TK_MAX_STOPS)
            return js_fail(d, v, FT_EDATA, key, "more than %d ids", TK_MAX_STOPS);
        out[(*n)++] = (int64_t)id;
    }
    return FT_OK;
}

static ft_status first_id(const folder *f, const char *key, int32_t *out)
{
    int64_t ids[2 * TK_MAX_STOPS];
    int n = 0;
    FT_TRY(ids_of(f, MODEL, key, ids, &n));
    FT_TRY(ids_of(f, GENERATION, key, ids, &n));
    if (*out < 0 && n && ids[0] >= 0 && ids[0] < f->t->size) *out = (int32_t)ids[0];
    return FT_OK;
}

/* add_bos_token and add_eos_token: followed where there is no tokenizer.json, and by classes that make their own
 * post-processor of them. */
static ft_status follow_flags(folder *f)
{
    tok_tokenizer *t = f->t;
    int bos, eos;
    FT_TRY(get_bool(f, "add_bos_token", &bos));
    FT_TRY(get_bool(f, "add_eos_token", &eos));
    bool has_bos = f->old ? t->post.n_before > 0 : tok_adds_bos(t);
    bool has_eos = t->post.n_after > 0 && (f->old || t->post.after[t->post.n_after - 1] == t->eos);
    bool want_bos = bos >= 0 ? bos == 1 && t->bos >= 0 : has_bos;
    bool want_eos = eos >= 0 ? eos == 1 && t->eos >= 0 : has_eos;
    if (f->old && bos < 0 && has_bos && f->class && f->class->piece_prefix)
        log_warn("%s: add_bos_token is not said: releases of transformers differ, 5.x puts no "
                 "bos_token in front of a text; it is put, as 4.x does",
                 f->dir);
    if (!f->old && want_bos == has_bos && want_eos == has_eos) return FT_OK;
    bool follow = f->old || (f->class && f->class->flags);
    if (!f->old) {
        log_warn("%s: add_bos_token and add_eos_token contradict the post-processor of "
                 "tokenizer.json; %s",
                 f->s[CONFIG].doc.name, follow ? "the flags are followed" : "the latter counts");
    }
    return follow ? tk_set_bos_eos(t, want_bos, want_eos) : FT_OK;
}

static ft_status special_ids(folder *f)
{
    tok_tokenizer *t = f->t;
    int64_t ids[2 * TK_MAX_STOPS];
    int n = 0;
    t->bos = named_id(t, "bos_token");
    t->eos = named_id(t, "eos_token");
    t->pad = named_id(t, "pad_token");
    t->unk = named_id(t, "unk_token");
    FT_TRY(first_id(f, "bos_token_id", &t->bos));
    FT_TRY(first_id(f, "eos_token_id", &t->eos));
    FT_TRY(first_id(f, "pad_token_id", &t->pad));
    /* files without names: what the post-processor puts around a text */
    if (t->bos < 0 && t->post.n_before == 1) t->bos = t->post.before[0];
    if (t->eos < 0 && t->post.n_after == 1) t->eos = t->post.after[0];
    FT_TRY(tk_read_templates(t, f->dir, &f->s[CONFIG].doc));
    tk_add_stop(t, t->eos);
    FT_TRY(ids_of(f, MODEL, "eos_token_id", ids, &n));
    FT_TRY(ids_of(f, GENERATION, "eos_token_id", ids, &n));
    for (int i = 0; i < n; i++) tk_add_stop(t, ids[i]);
    tk_template_stops(t);
    return follow_flags(f);
}

/* --- all together ------------------------------------------------------------------------------------------------------- */
static ft_status old_json(folder *f)
{
    tok_tokenizer *t = f->t;
    int prefix, legacy;
    FT_TRY(get_bool(f, "add_prefix_space", &prefix));
    FT_TRY(get_bool(f, "legacy", &legacy));
    tk_old_files old = {.prefix = prefix,
                        .legacy = legacy != 0,
                        .class_name = f->class_name,
                        .preset = f->class        ? f->class->preset
                                  : f->class_name ? NULL
                                                  : "gpt-2",
                        .pieces = f->class ? f->class->pieces : !f->class_name};
    f->old = true;
    return tk_legacy_json(f->dir, t->mem, &old, &t->own_json, &t->own_json_len);
}

static ft_status load(folder *f)
{
    tok_tokenizer *t = f->t;
    const char *path = path_join(t->mem, f->dir, "tokenizer.json");
    if (!path) return FT_EMEM;
    for (int i = 0; i < N_SIDES; i++) FT_TRY(side_open(f, i));
    FT_TRY(find_class(f));
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (kind == PATH_FILE)
        FT_TRY(text_read(&t->own_json, &t->own_json_len, path, MAX_FILE));
    else
        FT_TRY(old_json(f));
    FT_TRY(tk_parse_json(t, t->own_json, t->own_json_len, path, &f->added));
    FT_TRY(follow_steps(f));
    FT_TRY(collect_added(f));
    FT_TRY(tk_finish_added(t, &f->added, path));
    FT_TRY(special_ids(f));
    t->beside = f->old || (!f->decoder && (f->s[ADDED].doc.root || f->s[SPECIALS].doc.root));
    t->own_config = f->s[CONFIG].text;
    t->own_config_len = f->s[CONFIG].len;
    f->s[CONFIG].text = NULL;
    return FT_OK;
}

ft_status tk_load_folder(tok_tokenizer *t, const char *dir)
{
    folder f = {.t = t, .dir = dir};
    ft_status rc = load(&f);
    ft_free(f.added.tok);
    map_free(&f.index);
    map_free(&f.special);
    for (int i = 0; i < N_SIDES; i++) side_close(&f.s[i]);
    return rc;
}
