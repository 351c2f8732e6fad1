/* tok.h – what a tokenizer that was accepted must do: ids within its bounds, text back from them, a tokenizer.json of it, and
 * a .gguf that gives a tokenizer again, or a reason why there is none. */
#ifndef FT_FUZZ_TOK_H
#define FT_FUZZ_TOK_H

#include "fuzz.h"

#include "ft/template.h"

static inline void fz_as_gguf(const tok_tokenizer *t)
{
    gguf_writer *w = NULL;
    tok_tokenizer *again = NULL;
    if (tok_size(t) >= 100000) return;
    fz_must(gguf_write_open(&w, fz_path("b.gguf")));
    ft_status rc = tok_write_gguf(t, w, tok_size(t) + 1);
    fz_status(rc);
    if (rc != FT_OK) {
        gguf_write_abort(w);
        return;
    }
    fz_must(gguf_write_header(w));
    fz_must(gguf_write_close(w));
    fz_status(tok_open(&again, fz_path("b.gguf")));
    tok_close(again);
}

static inline void fz_tokenizer(tok_tokenizer *t, const char *text, size_t n, bool special)
{
    tok_ids ids = {0};
    str_buf s = {0}, json = {0}, config = {0};
    char *exact = fz_exact(text, n);
    ft_status rc = tok_encode(t, exact, n, special, &ids);
    fz_status(rc);
    for (int64_t i = 0; rc == FT_OK && i < ids.n; i++) {
        FZ_CHECK(ids.id[i] >= 0 && ids.id[i] < tok_size(t));
        const char *name = tok_text(t, ids.id[i]);
        if (name) fz_touch(name, strlen(name));
    }
    if (rc == FT_OK) {
        fz_status(tok_decode(t, ids.id, ids.n, &s));
        FZ_CHECK(!s.len || utf8_valid(s.data, s.len));
        str_clear(&s);
        fz_status(tok_decode_bytes(t, ids.id, ids.n, &s));
    }
    fz_status(tok_write_json(t, &json, &config));
    fz_as_gguf(t);
    free(exact);
    tok_ids_free(&ids);
    str_free(&s);
    str_free(&json);
    str_free(&config);
}

/* Its chat template, if it has one, with two turns. */
static inline void fz_chat(const tok_tokenizer *t)
{
    static const char turns[] = "[{\"role\":\"user\",\"content\":\"hi\"},"
                                "{\"role\":\"assistant\",\"content\":\"yo\"}]";
    chat *c = NULL;
    js_doc d = {0};
    str_buf out = {0};
    ft_status rc = chat_open(&c, t);
    fz_status(rc);
    if (rc != FT_OK) return;
    fz_must(js_parse(&d, turns, sizeof turns - 1, "turns", 1, JS_STRICT, FT_EDATA));
    chat_input in = {.messages = d.root, .add_generation_prompt = true};
    fz_status(chat_render(c, &in, &out, NULL));
    str_free(&out);
    js_close(&d);
    chat_close(c);
}

#define FZ_TEXT "Hello  w\xc3\xb6rld\n<s>x</s> \xff 12345 it's\t\xe4\xb8\xad\xef\xac\x81 [UNK]"
#endif
