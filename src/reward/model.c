/* model.c – the reward that a reward model (a sequence classifier of one label, with or without an adapter) gives prompt and
 * completion: it reads their ids, and so has the policy's vocabulary. */
#include "reward_private.h"

#include "ft/method.h"
#include "ft/model.h"

#include <string.h>

typedef struct model_cfg {
    rw_head head;
    const char *path, *adapter;
} model_cfg;

#define AT(member) offsetof(model_cfg, member)
static const cfg_field fields[] = {
    RW_HEAD_ROWS,
    {.key = "path",
     .type = CFG_PATH,
     .offset = AT(path),
     .required = true,
     .help = "reward model: a folder of a sequence classifier, or the base of its adapter"},
    {.key = "adapter",
     .type = CFG_PATH,
     .offset = AT(adapter),
     .help = "PEFT adapter folder of a reward model"},
    CFG_END};

typedef struct held {
    model *m;
    pe_ctx *adapter;
    inf_ctx inf;
} held;

static ft_status open_model(held *h, const rw_one *r)
{
    const model_cfg *c = r->cfg;
    const model *policy = r->c->policy;
    bool scores = false;
    if (c->adapter) FT_TRY(pe_adapter_scores(c->adapter, &scores));
    const model_options mo = {
        .path = c->path, .end = scores ? MODEL_NEW_REWARD : MODEL_REWARD, .no_weights = r->c->dry};
    FT_TRY(model_open(&h->m, &mo));
    FT_CHECK(h->m->d.vocab_size == policy->d.vocab_size, FT_EDATA,
             "%s: the reward model has a vocabulary of %lld tokens, the model of %lld: both must "
             "read the same ids",
             ft_shows(c->path), (long long)h->m->d.vocab_size, (long long)policy->d.vocab_size);
    if (scores && r->c->tok) model_pad_with(h->m, tok_pad(r->c->tok), tok_eos(r->c->tok));
    r->c->bytes += model_bytes(h->m);
    if (!c->adapter) return FT_OK;
    FT_TRY(pe_open_adapter(&h->adapter, h->m, c->adapter));
    const nn_store *s = &h->adapter->store;
    r->c->bytes += (size_t)(s->count + s->state_count + s->derived_count) * sizeof(float);
    return FT_OK;
}

static ft_status open(rw_one *r)
{
    held *h = r->priv = arena_get(r->c->mem, sizeof *h);
    if (!h) return FT_EMEM;
    FT_TRY(open_model(h, r));
    h->inf =
        (inf_ctx){.m = h->m, .over = h->adapter ? &h->adapter->over : NULL, .tape = r->c->tape};
    return FT_OK;
}

static ft_status text_of(const held *h, const model_cfg *c, const rw_item *it, bool dry,
                         tok_ids *out)
{
    const int64_t n = it->n_prompt + it->n_ids, most = h->m->d.max_position;
    const int64_t room = most > 0 ? most - nn_virtual(h->inf.over) : n;
    const int32_t some = h->m->pad_token == 0; /* no padding, which would not be run */
    for (int64_t i = 0; dry && i < n && i < room; i++) FT_TRY(tok_ids_push(out, some));
    if (dry) return FT_OK; /* of what is longer a run tells, should there be any */
    FT_CHECK(n <= room, FT_EDATA,
             "%s: the reward model has %lld positions, line %lld has %lld tokens",
             ft_shows(c->path), (long long)most, (long long)it->line, (long long)n);
    for (int64_t i = 0; i < it->n_prompt; i++) FT_TRY(tok_ids_push(out, it->prompt[i]));
    for (int64_t i = 0; i < it->n_ids; i++) FT_TRY(tok_ids_push(out, it->ids[i]));
    return FT_OK;
}

static ft_status judge(rw_one *r, const rw_item *item, int64_t n, double *out)
{
    const held *h = r->priv;
    tok_ids *ids = ft_alloc((size_t)n + 1, sizeof *ids);
    ft_status rc = ids ? FT_OK : FT_EMEM;
    for (int64_t i = 0; rc == FT_OK && i < n; i++)
        rc = text_of(h, r->cfg, &item[i], r->c->dry, &ids[i]);
    if (rc == FT_OK) rc = inf_reward(&h->inf, ids, n, out);
    for (int64_t i = 0; ids && i < n; i++) tok_ids_free(&ids[i]);
    ft_free(ids);
    return rc;
}

static void close(rw_one *r)
{
    held *h = r->priv;
    if (!h) return;
    pe_close(h->adapter);
    model_close(h->m);
}

const rw_reward rw_reward_model = {.name = "model",
                                   .help = "what a reward model says of prompt and completion",
                                   .fields = fields,
                                   .cfg_size = sizeof(model_cfg),
                                   .passes = true,
                                   .open = open,
                                   .judge = judge,
                                   .close = close};
