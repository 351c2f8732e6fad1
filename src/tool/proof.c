/* proof.c – do two models compute the same? The same tokens through both, every logit compared.
 *
 * A reward is one number: of it the chance that the text is preferred to one of reward 0 stands for the probabilities.
 *
 * The texts are varied on purpose (prose, code, numbers, dialogue, other scripts, a list): a wrong scale or a missing
 * layer shows on any of them, a broken tokenizer or a changed head on some. */
#include <math.h>
#include <string.h>

#include "tool_private.h"

static const char *const texts[] = {
    "The old lighthouse keeper climbed the stairs every evening, lit the lamp, and wrote one line "
    "in his journal.",
    "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    "
    "return a\n",
    "Question: A train leaves at 9:45 and arrives at 12:10. How long does the journey take?\n"
    "Answer: 2 hours and 25 minutes.",
    "User: My order #48213 has not arrived yet. Can you help?\nAssistant: I am sorry to hear that. "
    "Let me look it up.",
    "Zwei mal drei macht vier. L'\xc3\xa9t\xc3\xa9 fut tr\xc3\xa8s chaud. "
    "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
    "1. Flour, 250 g\n2. Sugar, 100 g\n3. Butter, 125 g\n4. One egg\n",
};

enum {
    PROOF_TOKENS = 48, /* of each text at most: 200 to 300 tokens in all */
    MIN_TOKENS = 16,
    ROWS = 8 /* logits of this many positions are held at once */
};

typedef struct prover {
    tool_model *a, *b;
    int64_t vocab, out_n; /* ids; logits of a position */
    float *la, *lb;       /* [ROWS, out_n] */
    tool_proof *out;
    double kl, nll[2];
    int64_t agree;
} prover;

/* --- one position -------------------------------------------------------------------------------------------- */

static int64_t arg_max(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* Logits [n] of both. next: the token that follows; < 0: none */
static void compare(prover *p, const float *a, const float *b, int64_t n, int32_t next)
{
    double lse_a = inf_lse(a, n), lse_b = inf_lse(b, n), kl = 0;
    if (kn_find_nonfinite(a, n) >= 0 || kn_find_nonfinite(b, n) >= 0) p->out->poisoned = true;
    for (int64_t i = 0; i < n; i++) {
        double logit = fabs((double)a[i] - (double)b[i]);
        double pa = (double)a[i] - lse_a, pb = (double)b[i] - lse_b;
        kl += exp(pa) * (pa - pb);
        if (logit > p->out->max_logit_diff) p->out->max_logit_diff = logit;
        if (fabs(pa - pb) > p->out->max_logprob_diff) p->out->max_logprob_diff = fabs(pa - pb);
    }
    p->kl += kl > 0 ? kl : 0;
    if (next >= 0) {
        p->nll[0] += lse_a - (double)a[next];
        p->nll[1] += lse_b - (double)b[next];
        p->out->scored++;
    }
    p->agree += arg_max(a, n) == arg_max(b, n);
    p->out->tokens++;
}

static void compare_row(prover *p, int64_t row, int32_t next)
{
    const float *a = p->la + row * p->out_n, *b = p->lb + row * p->out_n;
    const float ra[2] = {a[0], 0}, rb[2] = {b[0], 0};
    if (p->out_n > 1)
        compare(p, a, b, p->out_n, next);
    else
        compare(p, ra, rb, 2, -1);
}

/* --- one text --------------------------------------------------------------------------------------------------- */

static ft_status compare_text(prover *p, const int32_t *id, int64_t n)
{
    nn_run ra, rb;
    tn_tensor *ha, *hb;
    int64_t rows[ROWS];
    FT_TRY(inf_hidden(&p->a->inf, id, n, &ra, &ha));
    FT_TRY(inf_hidden(&p->b->inf, id, n, &rb, &hb));
    for (int64_t at = 0; at < n; at += ROWS) {
        int64_t k = n - at < ROWS ? n - at : ROWS;
        for (int64_t i = 0; i < k; i++) rows[i] = at + i;
        FT_TRY(model_logits(p->a->m, &ra, ha, rows, k, p->la, false));
        FT_TRY(model_logits(p->b->m, &rb, hb, rows, k, p->lb, false));
        for (int64_t i = 0; i < k; i++) compare_row(p, i, at + i + 1 < n ? id[at + i + 1] : -1);
    }
    return FT_OK;
}

/* Does the adapter change anything? The last position of one text, with and without it. */
static ft_status measure_effect(prover *p, const int32_t *id, int64_t n)
{
    nn_run run;
    tn_tensor *h;
    int64_t last = n - 1;
    if (!p->a->adapter) return FT_OK;
    inf_ctx base = p->a->inf;
    base.over = NULL;
    FT_TRY(inf_hidden(&base, id, n, &run, &h));
    FT_TRY(model_logits(p->a->m, &run, h, &last, 1, p->la, false));
    FT_TRY(inf_hidden(&p->a->inf, id, n, &run, &h));
    FT_TRY(model_logits(p->a->m, &run, h, &last, 1, p->lb, false));
    for (int64_t i = 0; i < p->out_n; i++) {
        double d = fabs((double)p->la[i] - (double)p->lb[i]);
        if (d > p->out->effect || isnan(d)) p->out->effect = d;
        if (isnan(d)) break; /* and stays */
    }
    return FT_OK;
}

/* Without a tokenizer, ids spread over the vocabulary. */
static ft_status fixed_ids(const prover *p, size_t text, tok_ids *ids)
{
    for (int64_t i = 0; i < 24; i++) {
        uint64_t v = rng_u64(0x70726f6f66u, text * 1000 + (uint64_t)i); /* "proof" */
        FT_TRY(tok_ids_push(ids, (int32_t)(v % (uint64_t)p->vocab)));
    }
    return FT_OK;
}

static ft_status run_texts(prover *p)
{
    ft_status rc = FT_OK;
    int64_t longest = p->a->m->d.max_position;
    for (size_t i = 0; i < FT_COUNT_OF(texts) && rc == FT_OK; i++) {
        tok_ids ids = {0};
        rc =
            p->a->tok ? tool_encode(p->a, texts[i], strlen(texts[i]), &ids) : fixed_ids(p, i, &ids);
        if (ids.n > PROOF_TOKENS) ids.n = PROOF_TOKENS;
        if (longest > 0 && ids.n > longest) ids.n = longest;
        log_progress("proof: text %zu of %zu", i + 1, FT_COUNT_OF(texts));
        if (rc == FT_OK) rc = ft_stop();
        if (rc == FT_OK && i == 0 && ids.n > 0) rc = measure_effect(p, ids.id, ids.n);
        if (rc == FT_OK && ids.n > 0) rc = compare_text(p, ids.id, ids.n);
        tok_ids_free(&ids);
    }
    return rc;
}

ft_status tool_plan_proof(tool_model *a)
{
    const size_t logits = 2 * (size_t)(ROWS * a->m->head->out) * sizeof(float);
    a->plan.tapes = 2;
    a->plan.beside = logits + a->opened; /* the other has its own tokenizer and tables */
    return inf_plan_for(&a->inf, &(inf_shape){.rows = PROOF_TOKENS, .seqs = 1, .wanted = ROWS});
}

ft_status tool_prove(tool_model *a, tool_model *b, tool_proof *out)
{
    prover p = {.a = a, .b = b, .vocab = a->m->d.vocab_size, .out_n = a->m->head->out, .out = out};
    ft_status rc;
    *out = (tool_proof){0};
    FT_CHECK(b->m->d.vocab_size == p.vocab, FT_EDATA,
             "the two models have vocabularies of %lld and %lld", (long long)p.vocab,
             (long long)b->m->d.vocab_size);
    FT_CHECK(b->m->head->out == p.out_n, FT_EINTERNAL, "the two models have other heads");
    p.la = ft_alloc((size_t)(ROWS * p.out_n), sizeof *p.la);
    p.lb = ft_alloc((size_t)(ROWS * p.out_n), sizeof *p.lb);
    FT_TRY_OUT(p.la && p.lb ? FT_OK : FT_EMEM);
    FT_TRY_OUT(run_texts(&p));
    FT_GUARD(out->tokens >= MIN_TOKENS, FT_EINTERNAL, "a proof over %lld tokens is none",
             (long long)out->tokens);
    out->mean_kl = out->poisoned ? HUGE_VAL : p.kl / (double)out->tokens;
    for (int i = 0; i < 2; i++)
        out->perplexity[i] = out->poisoned ? HUGE_VAL : exp(p.nll[i] / (double)out->scored);
    out->top1_agreement = (double)p.agree / (double)out->tokens;
out:
    ft_free(p.la);
    ft_free(p.lb);
    return rc;
}
