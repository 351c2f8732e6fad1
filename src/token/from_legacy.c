/* from_legacy.c – folders without a tokenizer.json: a SentencePiece tokenizer.model, or the vocab.json and merges.txt
 * of GPT-2 and Qwen.  Both are turned into the text of a tokenizer.json, which then takes the ordinary way.
 * A class of transformers may shift ids or set steps of its own, so only those are read whose rules are known. */
#include "token_private.h"

#include <stdio.h>

#define MAX_FILE ((size_t)1 << 28)

/* --- protobuf ------------------------------------------------------------------------------------------------ */
typedef struct wire { /* a message, read field by field */
    const uint8_t *p, *end;
    bool bad;
} wire;
typedef struct field {
    uint64_t number, value; /* value: of a varint or a fixed 32/64 */
    wire sub;               /* of a length-delimited one */
} field;

static uint64_t varint(wire *w)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (w->p == w->end) break;
        uint8_t b = *w->p++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) return v;
    }
    w->bad = true;
    return 0;
}

static uint64_t fixed(wire *w, size_t n)
{
    uint64_t v = 0;
    if ((size_t)(w->end - w->p) < n) {
        w->bad = true;
        return 0;
    }
    for (size_t i = 0; i < n; i++) v |= (uint64_t)w->p[i] << (8 * i);
    w->p += n;
    return v;
}

static bool next_field(wire *w, field *f)
{
    if (w->bad || w->p == w->end) return false;
    uint64_t tag = varint(w);
    *f = (field){.number = tag >> 3};
    switch (tag & 7) {
    case 0:
        f->value = varint(w);
        break;
    case 1:
        f->value = fixed(w, 8);
        break;
    case 5:
        f->value = fixed(w, 4);
        break;
    case 2: {
        uint64_t n = varint(w);
        if (w->bad || n > (uint64_t)(w->end - w->p)) {
            w->bad = true;
            break;
        }
        f->sub = (wire){.p = w->p, .end = w->p + n};
        w->p += n;
        break;
    }
    default:
        w->bad = true;
    }
    return !w->bad;
}

/* --- tokenizer.model ------------------------------------------------------------------------------------------- */
typedef struct spm {
    int64_t n;
    uint64_t type; /* 1 unigram, 2 BPE */
    bool byte_fallback, dummy_prefix, squeeze;
    int64_t unk, bos, eos;
    wire charsmap;
} spm;

static void read_trainer(spm *s, wire w)
{
    field f;
    while (next_field(&w, &f)) {
        switch (f.number) {
        case 3:
            s->type = f.value;
            break;
        case 35:
            s->byte_fallback = f.value != 0;
            break;
        case 40:
            s->unk = (int32_t)f.value;
            break;
        case 41:
            s->bos = (int32_t)f.value;
            break;
        case 42:
            s->eos = (int32_t)f.value;
            break;
        default:
            break;
        }
    }
}

static void read_normalizer(spm *s, wire w)
{
    field f;
    while (next_field(&w, &f)) {
        if (f.number == 2) s->charsmap = f.sub;
        if (f.number == 3) s->dummy_prefix = f.value != 0;
        if (f.number == 4) s->squeeze = f.value != 0;
    }
}

static ft_status read_piece(tok_tokenizer *t, wire w, int64_t id, const char *path)
{
    field f;
    const uint8_t *text = w.p;
    size_t n = 0;
    t->types[id] = TK_TYPE_NORMAL;
    while (next_field(&w, &f)) {
        if (f.number == 1) {
            text = f.sub.p;
            n = text ? (size_t)(f.sub.end - f.sub.p) : 0;
        } else if (f.number == 2) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&t->scores[id], &bits, sizeof bits);
        } else if (f.number == 3) {
            t->types[id] = (int64_t)f.value;
        }
    }
    FT_CHECK(!w.bad && t->scores[id] == t->scores[id] && utf8_valid((const char *)text, n),
             FT_EDATA, "%s: piece %lld is damaged", path, (long long)id);
    char *copy = arena_strn(t->mem, text ? (const char *)text : "", n);
    if (!copy) return FT_EMEM;
    FT_CHECK(tk_vocab_id(&t->model.vocab, copy, n) < 0, FT_EDATA,
             "%s: piece %lld, %s, is there twice", path, (long long)id, ft_show(copy, n));
    return tk_vocab_put(&t->model.vocab, (tk_span){copy, n}, id);
}

static ft_status read_model(tok_tokenizer *t, spm *s, const uint8_t *data, size_t len,
                            const char *path)
{
    wire w = {.p = data, .end = data + len};
    field f;
    while (next_field(&w, &f)) {
        if (f.number == 1) s->n++;
        if (f.number == 2 && f.sub.p) read_trainer(s, f.sub);
        if (f.number == 3 && f.sub.p) read_normalizer(s, f.sub);
    }
    FT_CHECK(!w.bad && s->n > 0, FT_EDATA, "%s: not a SentencePiece model", path);
    FT_CHECK(s->n <= TK_MAX_ID, FT_EDATA, "%s: too many pieces", path);
    FT_CHECK(s->type == 1 || s->type == 2, FT_EDATA,
             "%s: SentencePiece models of type %llu are not supported (unigram and BPE are)", path,
             (unsigned long long)s->type);
    FT_CHECK(s->unk >= 0 && s->unk < s->n, FT_EDATA, "%s: the unknown piece is not in the model",
             path);
    FT_TRY(tk_vocab_open(&t->model.vocab, t->mem, s->n));
    t->types = arena_get(t->mem, (size_t)s->n * sizeof *t->types);
    t->scores = arena_get(t->mem, (size_t)s->n * sizeof *t->scores);
    t->n_types = s->n;
    if (!t->types || !t->scores) return FT_EMEM;
    w = (wire){.p = data, .end = data + len};
    for (int64_t id = 0; next_field(&w, &f);) {
        if (f.number == 1) FT_TRY(read_piece(t, f.sub, id++, path));
    }
    return FT_OK;
}

static ft_status base64(str_buf *out, wire w)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (; w.p < w.end; w.p += 3) {
        size_t n = (size_t)(w.end - w.p);
        uint32_t v =
            (uint32_t)w.p[0] << 16 | (n > 1 ? (uint32_t)w.p[1] << 8 : 0) | (n > 2 ? w.p[2] : 0);
        str_addc(out, digits[v >> 18]);
        str_addc(out, digits[v >> 12 & 63]);
        str_addc(out, n > 1 ? digits[v >> 6 & 63] : '=');
        str_addc(out, n > 2 ? digits[v & 63] : '=');
        if (n < 3) break;
    }
    return str_ok(out);
}

#define SQUEEZE(to)                                                                                \
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"" to "\"}"
/* Normalizers in front of what the kind needs by itself, as one JSON text. */
static ft_status normalizers(tok_tokenizer *t, const spm *s)
{
    str_buf json = {0};
    str_adds(&json, "{\"type\":\"Sequence\",\"normalizers\":[");
    if (s->charsmap.p && s->charsmap.end - s->charsmap.p > 4) {
        str_adds(&json, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");
        ft_status rc = base64(&json, s->charsmap);
        str_adds(&json, "\"},");
        if (rc != FT_OK) {
            str_free(&json);
            return rc;
        }
    }
    if (s->squeeze && s->type == 2) {
        str_adds(&json,
                 "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}," SQUEEZE(" ") ",");
    } else if (s->squeeze) {
        str_adds(&json, "{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}," SQUEEZE(
                            "▁") ",");
    }
    if (t->json_normalizer) {
        str_adds(&json, t->json_normalizer);
    } else if (json.len && json.data[json.len - 1] == ',') {
        json.data[--json.len] = 0;
    }
    str_adds(&json, "]}");
    ft_status rc = str_ok(&json);
    if (rc == FT_OK) t->json_normalizer = arena_strn(t->mem, json.data, json.len);
    str_free(&json);
    return rc == FT_OK && !t->json_normalizer ? FT_EMEM : rc;
}

/* The structures that write.c makes a tokenizer.json of. */
static ft_status convert(tok_tokenizer *t, spm *s, const tk_old_files *old)
{
    tk_model *m = &t->model;
    m->kind = &tk_model_kinds[s->type == 2 ? 0 : 3];
    m->unk = (int32_t)s->unk;
    m->byte_fallback = s->byte_fallback;
    t->add_space_prefix = old->prefix < 0 ? s->dummy_prefix : old->prefix == 1;
    if (s->type == 2) {
        m->unk_text = m->vocab.by_id[s->unk];
        m->fuse_unk = true;
        tk_llama_components(t, old->legacy);
        FT_TRY(tk_merges_from_scores(t));
    } else {
        char *space =
            arena_printf(t->mem,
                         "{\"type\":\"Metaspace\",\"replacement\":\"▁\",\"prepend_scheme\":"
                         "\"%s\",\"split\":true}",
                         t->add_space_prefix ? "always" : "never");
        m->score = arena_get(t->mem, (size_t)s->n * sizeof *m->score);
        if (!m->score || !space) return FT_EMEM;
        for (int64_t i = 0; i < s->n; i++) m->score[i] = (double)t->scores[i];
        t->json_pretokenizer = t->json_decoder = space;
    }
    bool plain =
        s->type == 2 && !s->squeeze && (!s->charsmap.p || s->charsmap.end - s->charsmap.p <= 4);
    if (!plain) FT_TRY(normalizers(t, s));
    tk_added *list = arena_get(t->mem, (size_t)s->n * sizeof *list);
    int64_t n = 0;
    if (!list) return FT_EMEM;
    for (int64_t id = 0; id < s->n; id++) {
        int64_t type = t->types[id];
        if (type != TK_TYPE_CONTROL && type != TK_TYPE_USER && type != TK_TYPE_UNKNOWN) continue;
        list[n++] = (tk_added){
            .text = m->vocab.by_id[id], .id = (int32_t)id, .special = type != TK_TYPE_USER};
    }
    m->vocab.entries = s->n;
    FT_TRY(tk_added_open(&t->added, list, n, m, &t->normalizers, t->mem, "tokenizer.model"));
    FT_TRY(tk_finish(t, "tokenizer.model"));
    t->bos = s->bos >= 0 && s->bos < s->n ? (int32_t)s->bos : -1;
    t->eos = s->eos >= 0 && s->eos < s->n ? (int32_t)s->eos : -1;
    /* Llama, Mistral and Gemma begin with BOS, T5 and its kin end with EOS */
    return tk_set_bos_eos(t, s->type == 2, s->type == 1);
}

static ft_status from_spm(const char *path, const tk_old_files *old, char **text, size_t *len)
{
    char *data = NULL;
    size_t n;
    spm s = {.type = 1, .dummy_prefix = true, .squeeze = true, .bos = 1, .eos = 2};
    tok_tokenizer *t = NULL;
    str_buf json = {0}, config = {0};
    FT_TRY(file_read(&data, &n, path, MAX_FILE));
    ft_status rc = FT_EMEM;
    t = ft_alloc(1, sizeof *t);
    if (t) {
        t->bos = t->eos = t->pad = t->unk = -1;
        rc = arena_open(&t->mem, "a SentencePiece model", (size_t)512 << 20);
    }
    if (rc == FT_OK) rc = read_model(t, &s, (const uint8_t *)data, n, path);
    if (rc == FT_OK) rc = convert(t, &s, old);
    if (rc == FT_OK) rc = tok_write_json(t, &json, &config);
    if (rc == FT_OK) {
        *text = json.data;
        *len = json.len;
    } else {
        str_free(&json);
    }
    str_free(&config);
    ft_free(data);
    tok_close(t);
    return rc;
}

/* --- vocab.json and merges.txt ----------------------------------------------------------------------------------- */
#define BYTE_LEVEL                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"

/* The presets set no space in front of a text. */
static void add_steps(str_buf *out, const char *json, bool prefix)
{
    static const char key[] = "\"add_prefix_space\":";
    const char *at = prefix ? strstr(json, key) : NULL;
    size_t n = at ? (size_t)(at - json) + strlen(key) : 0;
    str_add(out, json, n);
    str_adds(out, at ? "true" : "");
    str_adds(out, json + n + (at ? strlen("false") : 0));
}

static ft_status from_lists(const char *vocab_path, const char *merges_path,
                            const tk_old_files *old, char **text, size_t *len)
{
    const tk_preset *steps = tk_preset_find(old->preset);
    str_buf out = {0};
    char *vocab = NULL;
    size_t n;
    line_reader *r = NULL;
    const char *line;
    bool first = true;
    ft_status rc = file_read(&vocab, &n, vocab_path, MAX_FILE);
    if (rc != FT_OK) return rc;
    str_printf(&out, "{\"version\":\"1.0\",\"normalizer\":%s,\"pre_tokenizer\":",
               steps->normalizer ? steps->normalizer : "null");
    add_steps(&out, steps->pretokenizer, old->prefix == 1);
    str_adds(&out, ",\"decoder\":" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\",\"vocab\":");
    str_add(&out, vocab, n);
    str_adds(&out, ",\"merges\":[");
    rc = lines_open(&r, merges_path);
    while (rc == FT_OK && (rc = lines_next(r, &line, &n)) == FT_OK) {
        if (n == 0 || (n >= 8 && memcmp(line, "#version", 8) == 0)) continue;
        str_adds(&out, first ? "" : ",");
        str_json(&out, line, n);
        first = false;
    }
    if (r) lines_close(r);
    ft_free(vocab);
    str_adds(&out, "]}}");
    if (rc == FT_END) rc = str_ok(&out);
    if (rc != FT_OK) {
        str_free(&out);
        return rc;
    }
    *text = out.data;
    *len = out.len;
    return FT_OK;
}

ft_status tk_legacy_json(const char *dir, arena *mem, const tk_old_files *old, char **text,
                         size_t *len)
{
    const char *spm_path = path_join(mem, dir, "tokenizer.model");
    const char *vocab = path_join(mem, dir, "vocab.json"),
               *merges = path_join(mem, dir, "merges.txt");
    if (!spm_path || !vocab || !merges) return FT_EMEM;
    path_kind kind[3];
    bool adapter;
    FT_TRY(path_look(spm_path, &kind[0]));
    FT_TRY(path_look(vocab, &kind[1]));
    FT_TRY(path_look(merges, &kind[2]));
    FT_TRY(io_is_adapter(dir, &adapter));
    bool pieces = kind[0] == PATH_FILE, lists = kind[1] == PATH_FILE && kind[2] == PATH_FILE;
    FT_CHECK(pieces || lists || !adapter, FT_ENOINPUT,
             "%s: is an adapter that holds no tokenizer; name its base as the model", dir);
    FT_CHECK(pieces || lists, FT_ENOINPUT,
             "%s: no tokenizer.json, tokenizer.model, or vocab.json with merges.txt; is this the "
             "folder of a model?",
             dir);
    FT_CHECK(pieces ? old->pieces : old->preset != NULL, FT_EDATA,
             "%s: %s of a %s cannot be read; make a tokenizer.json of it with transformers: "
             "AutoTokenizer.from_pretrained(…).save_pretrained(…)",
             dir, pieces ? "tokenizer.model" : "vocab.json and merges.txt",
             old->class_name ? ft_shows(old->class_name) : "tokenizer of this model_type");
    if (pieces) return from_spm(spm_path, old, text, len);
    if (!old->class_name) {
        log_warn("%s: no file names the class of vocab.json and merges.txt; read as GPT-2's", dir);
    }
    return from_lists(vocab, merges, old, text, len);
}
