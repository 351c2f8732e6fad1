/* data.h – a source of data from reading to batches, as training takes it: every id and label lies in the vocabulary, and
 * a batch holds what its samples hold. */
#ifndef FT_FUZZ_DATA_H
#define FT_FUZZ_DATA_H

#include "fuzz.h"

#include "ft/data.h"

static tok_tokenizer *fz_tok;
static chat *fz_template;
static bool fz_untold;    /* the model has no template */
static unsigned fz_wants; /* data_gives of the objective */

/* The tokenizer of data/tiny, with its chat template. */
static inline void fz_data_start(void)
{
    fz_must(tok_open(&fz_tok, fz_root("data/tiny")));
    fz_must(chat_open(&fz_template, fz_tok));
}

static inline void fz_sample(const data_sample *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->len; i++) {
        FZ_CHECK(s->ids[i] >= 0 && s->ids[i] < tok_size(fz_tok));
        FZ_CHECK(s->labels[i] < tok_size(fz_tok));
        FZ_CHECK(s->labels[i] >= 0 || s->labels[i] == DATA_IGNORE);
    }
    for (int i = 0; i < s->n_seq; i++) n += s->seq_len[i];
    FZ_CHECK(n == s->len);
    if (s->extra) fz_touch(s->extra, strlen(s->extra));
}

static inline void fz_steps(data_set *d, const data_cfg *opt, arena *mem)
{
    data_sample s[4];
    data_step step;
    data_batch b;
    data_split how = {.micro_samples = 3};
    int n = 0;
    if (cJSON_IsString(opt->packing)) how.row_tokens = opt->max_length;
    for (int64_t k = 0; k < 2; k++) {
        ft_status rc = data_take(d, 1, k, 4, s, &n, mem);
        fz_status(rc);
        if (rc != FT_OK) return;
        int64_t tokens = 0, got = 0;
        for (int i = 0; i < n; i++) fz_sample(&s[i]);
        for (int i = 0; i < n; i++) tokens += s[i].len;
        fz_must(data_step_plan(s, n, &how, &step, mem));
        for (int i = 0; i < step.n_micro; i++) {
            fz_must(data_batch_make(s, &step.micro[i], 7, &b, mem));
            got += b.in.tokens;
        }
        FZ_CHECK(got == tokens && step.tokens == tokens);
    }
}

static inline void fz_set(data_set *d, const data_cfg *opt, arena *mem)
{
    char hex[65];
    str_buf s = {0};
    int64_t n = data_count(d);
    data_sample one;
    fz_status(data_sha256(d, hex));
    for (int64_t i = 0; i < n && i < 8; i++) {
        size_t mark = arena_mark(mem);
        ft_status rc = data_get(d, i, &one, mem);
        fz_status(rc);
        if (rc == FT_OK) fz_sample(&one);
        arena_reset(mem, mark);
    }
    fz_steps(d, opt, mem);
    if (n > 0) fz_status(data_show(d, 0, &s));
    if (n > 0) cJSON_Delete(data_show_json(d, 0));
    if (s.len) fz_plain(s.data);
    str_free(&s);
}

/* source: JSON text of data.train; how: further --set strings of the data table. */
static inline void fz_data(const char *source, const char *const *how, int n_how)
{
    arena *mem = fz_arena();
    const char *sets[8] = {NULL};
    char train[1200];
    cfg_doc doc = {0};
    data_cfg opt = {0};
    data_set *d = NULL;
    snprintf(train, sizeof train, "train=%s", source);
    sets[0] = train;
    for (int i = 0; i < n_how && i < 7; i++) sets[1 + i] = how[i];
    fz_must(cfg_open_empty(&doc, sets, 1 + n_how, mem));
    fz_must(cfg_read(&doc, doc.js.root, "", data_fields, &opt, NULL));
    opt.vocab_size = tok_size(fz_tok);
    opt.seed = 1;
    opt.wants = fz_wants;
    fz_must(cfg_done(&doc));
    ft_status rc =
        data_open(&d, &doc, opt.train, &opt, fz_tok, fz_untold ? NULL : fz_template, true);
    fz_status(rc);
    if (rc == FT_OK) fz_set(d, &opt, mem);
    data_close(d);
    cfg_close(&doc);
}
#endif
