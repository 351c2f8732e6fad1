/* write.c – a tokenizer as the files of a Hugging Face folder. What was read from such files goes back as it was;
 * what came from a GGUF is written from the tables it was made of. */
#include "token_private.h"

static void text_field(str_buf *out, const char *key, const char *text)
{
    str_printf(out, ",\n  \"%s\": ", key);
    if (text) {
        str_json(out, text, strlen(text));
    } else {
        str_adds(out, "null");
    }
}

static void span_json(str_buf *out, tk_span s)
{
    str_json(out, s.s, s.n);
}

/* The added token of an id; NULL. */
static const tk_added *added_of(const tok_tokenizer *t, int64_t id)
{
    int64_t at;
    if (id < 0 || id >= t->size || !t->text[id].s ||
        !map_get(&t->added.index, t->text[id].s, t->text[id].n, &at))
        return NULL;
    return t->added.tok[at].id == id ? &t->added.tok[at] : NULL;
}

bool tok_added_at(const tok_tokenizer *t, int32_t id, tok_added *out)
{
    const tk_added *a = added_of(t, id);
    if (!a) return false;
    *out = (tok_added){a->text.s, a->text.n,     a->single_word, a->lstrip,
                       a->rstrip, a->normalized, a->special};
    return true;
}

static void write_one(str_buf *out, int64_t id, const tok_added *a, bool first)
{
    str_printf(out, "%s\n    {\"id\": %lld, \"content\": ", first ? "" : ",", (long long)id);
    str_json(out, a->text, a->n);
    str_printf(out,
               ", \"single_word\": %s, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": %s, "
               "\"special\": %s}",
               a->single_word ? "true" : "false", a->lstrip ? "true" : "false",
               a->rstrip ? "true" : "false", a->normalized ? "true" : "false",
               a->special ? "true" : "false");
}

/* Those with an id below a bound, and others, whose ids are the library's: the next ones. */
static void write_added(const tok_tokenizer *t, int64_t below, const tok_added *more, int64_t n,
                        str_buf *out)
{
    int64_t next = t->model.vocab.entries;
    tok_added a;
    str_addc(out, '[');
    bool first = true;
    for (int64_t id = 0; id < t->size && id < below; id++) {
        if (!tok_added_at(t, (int32_t)id, &a)) continue;
        next += tk_vocab_id(&t->model.vocab, a.text, a.n) < 0;
        write_one(out, id, &a, first);
        first = false;
    }
    for (int64_t i = 0; i < n; i++) {
        write_one(out, next++, &more[i], first);
        first = false;
    }
    str_adds(out, first ? "]" : "\n  ]");
}

static void write_special(const tok_tokenizer *t, str_buf *out, int32_t id, bool *first)
{
    str_adds(out, *first ? "" : ", ");
    *first = false;
    span_json(out, t->text[id]);
    str_adds(out, ": {\"id\": ");
    span_json(out, t->text[id]);
    str_printf(out, ", \"ids\": [%d], \"tokens\": [", id);
    span_json(out, t->text[id]);
    str_adds(out, "]}");
}

static void template_side(const tok_tokenizer *t, str_buf *out, const char *seq, int type)
{
    for (int i = 0; i < t->post.n_before; i++) {
        str_adds(out, "{\"SpecialToken\": {\"id\": ");
        span_json(out, t->text[t->post.before[i]]);
        str_printf(out, ", \"type_id\": %d}}, ", type);
    }
    str_printf(out, "{\"Sequence\": {\"id\": \"%s\", \"type_id\": %d}}", seq, type);
    for (int i = 0; i < t->post.n_after; i++) {
        str_adds(out, ", {\"SpecialToken\": {\"id\": ");
        span_json(out, t->text[t->post.after[i]]);
        str_printf(out, ", \"type_id\": %d}}", type);
    }
}

static void write_post(const tok_tokenizer *t, str_buf *out)
{
    bool first = true;
    if (t->post.n_before + t->post.n_after == 0) {
        str_adds(out, "null");
        return;
    }
    str_adds(out, "{\"type\": \"TemplateProcessing\", \"single\": [");
    template_side(t, out, "A", 0);
    str_adds(out, "], \"pair\": [");
    template_side(t, out, "A", 0);
    str_adds(out, ", ");
    template_side(t, out, "B", 1);
    str_adds(out, "], \"special_tokens\": {");
    for (int i = 0; i < t->post.n_before; i++) write_special(t, out, t->post.before[i], &first);
    for (int i = 0; i < t->post.n_after; i++) {
        bool seen = false;
        for (int k = 0; k < t->post.n_before; k++) seen |= t->post.before[k] == t->post.after[i];
        if (!seen) write_special(t, out, t->post.after[i], &first);
    }
    str_adds(out, "}}");
}

static ft_status write_unigram(const tok_tokenizer *t, str_buf *out)
{
    const tk_model *m = &t->model;
    str_printf(out,
               "{\n    \"type\": \"Unigram\",\n    \"unk_id\": %d,\n    \"byte_fallback\": %s,\n"
               "    \"vocab\": [",
               m->unk, m->byte_fallback ? "true" : "false");
    for (int64_t id = 0; id < m->vocab.size; id++) {
        tk_span s = m->vocab.by_id[id];
        FT_CHECK(utf8_valid(s.s, s.n), FT_EDATA, "token %lld, %s, is not UTF-8", (long long)id,
                 ft_show(s.s, s.n));
        str_adds(out, id ? ",\n      [" : "\n      [");
        span_json(out, s);
        str_adds(out, ", ");
        str_double(out, m->score[id]);
        str_addc(out, ']');
    }
    str_adds(out, "\n    ]\n  }");
    return FT_OK;
}

static ft_status write_model(const tok_tokenizer *t, str_buf *out)
{
    const tk_model *m = &t->model;
    if (m->score) return write_unigram(t, out);
    str_adds(out, "{\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": ");
    if (m->unk_text.s) {
        span_json(out, m->unk_text);
    } else {
        str_adds(out, "null");
    }
    str_printf(out,
               ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
               "    \"fuse_unk\": %s,\n    \"byte_fallback\": %s,\n    \"ignore_merges\": %s,\n"
               "    \"vocab\": {",
               m->fuse_unk ? "true" : "false", m->byte_fallback ? "true" : "false",
               m->ignore_merges ? "true" : "false");
    bool first = true;
    for (int64_t id = 0; id < m->vocab.size; id++) {
        tk_span s = m->vocab.by_id[id];
        if (!s.s || tk_vocab_id(&m->vocab, s.s, s.n) != id) continue;
        FT_CHECK(utf8_valid(s.s, s.n), FT_EDATA,
                 "token %lld, %s, is not UTF-8: it cannot stand in a tokenizer.json", (long long)id,
                 ft_show(s.s, s.n));
        str_adds(out, first ? "\n      " : ",\n      ");
        span_json(out, s);
        str_printf(out, ": %lld", (long long)id);
        first = false;
    }
    str_adds(out, "\n    },\n    \"merges\": [");
    for (int64_t i = 0; i < m->n_pairs; i++) {
        str_adds(out, i ? ",\n      [" : "\n      [");
        span_json(out, m->vocab.by_id[m->pairs[i].left]);
        str_adds(out, ", ");
        span_json(out, m->vocab.by_id[m->pairs[i].right]);
        str_addc(out, ']');
    }
    str_adds(out, "\n    ]\n  }");
    return FT_OK;
}

static ft_status write_tokenizer(const tok_tokenizer *t, str_buf *out)
{
    str_adds(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"
                  "  \"added_tokens\": ");
    write_added(t, t->size, NULL, 0, out);
    str_printf(out, ",\n  \"normalizer\": %s,\n  \"pre_tokenizer\": %s,\n  \"post_processor\": ",
               t->json_normalizer ? t->json_normalizer : "null",
               t->json_pretokenizer ? t->json_pretokenizer : "null");
    write_post(t, out);
    str_printf(out,
               ",\n  \"decoder\": %s,\n  \"model\": ", t->json_decoder ? t->json_decoder : "null");
    FT_TRY(write_model(t, out));
    str_adds(out, "\n}\n");
    return str_ok(out);
}

/* One template is a text; several, or one that is not the default, are a list. */
static void write_templates(const tok_tokenizer *t, str_buf *out)
{
    const tok_named *v = t->templates.v;
    if (t->templates.n == 1 && strcmp(v[0].name, "default") == 0) {
        str_json(out, v[0].text, strlen(v[0].text));
        return;
    }
    for (int i = 0; i < t->templates.n; i++) {
        str_adds(out, i ? ", {\"name\": " : "[{\"name\": ");
        str_json(out, v[i].name, strlen(v[i].name));
        str_adds(out, ", \"template\": ");
        str_json(out, v[i].text, strlen(v[i].text));
        str_addc(out, '}');
    }
    str_addc(out, ']');
}

static bool is_name(const char *name) /* one that needs no escapes */
{
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] ==
           0;
}

static ft_status write_config(const tok_tokenizer *t, str_buf *out)
{
    static const char *const first[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
    bool eos = t->post.n_after > 0 && t->post.after[t->post.n_after - 1] == t->eos;
    str_printf(out, "{\n  \"add_bos_token\": %s,\n  \"add_eos_token\": %s",
               tok_adds_bos(t) ? "true" : "false", eos ? "true" : "false");
    text_field(out, "bos_token", tk_named_text(&t->names, "bos_token"));
    if (t->templates.n) {
        str_adds(out, ",\n  \"chat_template\": ");
        write_templates(t, out);
    }
    str_adds(out, ",\n  \"clean_up_tokenization_spaces\": false");
    text_field(out, "eos_token", tk_named_text(&t->names, "eos_token"));
    /* the number that transformers writes for "no limit" */
    str_adds(out, ",\n  \"model_max_length\": 1000000000000000019884624838656");
    text_field(out, "pad_token", tk_named_text(&t->names, "pad_token"));
    text_field(out, "tokenizer_class", "PreTrainedTokenizerFast");
    text_field(out, "unk_token", tok_text(t, t->unk));
    for (int i = 0; i < t->names.n; i++) {
        const tok_named *v = &t->names.v[i];
        bool written = false;
        for (size_t k = 0; k < FT_COUNT_OF(first); k++)
            written = written || strcmp(v->name, first[k]) == 0;
        if (!written && is_name(v->name)) text_field(out, v->name, v->text);
    }
    str_adds(out, "\n}\n");
    return str_ok(out);
}

/* Sets a member to what `value` holds, and empties that. */
static void set_part(str_buf *out, const char *key, str_buf *value)
{
    if (!value->failed && value->data) js_set_member(out, key, value->data);
    out->failed = out->failed || value->failed;
    str_clear(value);
}

/* A config as it was read. A chat template that stood in its own file is put in, because some readers look for it here
 * first; so are names that stood in special_tokens_map.json. */
static ft_status copy_config(const tok_tokenizer *t, str_buf *out)
{
    str_buf value = {0};
    str_add(out, t->own_config, t->own_config_len);
    if (t->templates.n && !memmem(t->own_config, t->own_config_len, "\"chat_template\"", 15)) {
        write_templates(t, &value);
        set_part(out, "chat_template", &value);
    }
    for (int i = 0; t->beside && i < t->names.n; i++) {
        const tok_named *v = &t->names.v[i];
        if (!is_name(v->name)) continue;
        str_json(&value, v->text, strlen(v->text));
        set_part(out, v->name, &value);
    }
    str_free(&value);
    return str_ok(out);
}

/* The file as it was read, with what the files beside it said of added tokens and of the post-processor. */
static ft_status copy_tokenizer(const tok_tokenizer *t, str_buf *out)
{
    str_buf value = {0};
    str_add(out, t->own_json, t->own_json_len);
    if (t->beside) {
        write_added(t, t->size, NULL, 0, &value);
        set_part(out, "added_tokens", &value);
        write_post(t, &value);
        set_part(out, "post_processor", &value);
    }
    str_free(&value);
    return str_ok(out);
}

ft_status tok_write_json(const tok_tokenizer *t, str_buf *tokenizer_json, str_buf *tokenizer_config)
{
    FT_TRY(t->own_json ? copy_tokenizer(t, tokenizer_json) : write_tokenizer(t, tokenizer_json));
    return t->own_config ? copy_config(t, tokenizer_config) : write_config(t, tokenizer_config);
}

ft_status tok_write_more(const tok_tokenizer *t, int64_t below, const tok_added *more, int64_t n,
                         str_buf *tokenizer_json, str_buf *tokenizer_config)
{
    str_buf list = {0};
    FT_TRY(tok_write_json(t, tokenizer_json, tokenizer_config));
    write_added(t, below, more, n, &list);
    set_part(tokenizer_json, "added_tokens", &list);
    str_free(&list);
    return str_ok(tokenizer_json);
}
