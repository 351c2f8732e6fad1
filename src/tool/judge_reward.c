/* judge_reward.c – the reward of prompt and completion by a reward model: what `ft score` says of them. */
#include "judge_private.h"

#include <string.h>

/* prompt and completion as a record of their own; the completion of a list of messages is a message too. */
static cJSON *record_of(const judge_line *l, const char *part)
{
    cJSON *o = cJSON_CreateObject(), *list;
    bool ok = o && js_refer(o, "prompt", l->prompt);
    if (ok && cJSON_IsString(l->prompt)) {
        ok = cJSON_AddStringToObject(o, "completion", part) != NULL;
    } else if (ok) {
        list = cJSON_AddArrayToObject(o, "completion");
        ok = list && tool_add_turn(list, "assistant", part);
    }
    if (!ok) cJSON_Delete(o);
    return ok ? o : NULL;
}

static ft_status ids_of(judge *j, const judge_line *l, const char *part, tok_ids *out)
{
    js_doc d = l->doc; /* for messages: they name the line */
    d.root = record_of(l, part);
    if (!d.root) return ft_fail(FT_EMEM, "out of memory");
    d.pos = NULL;
    ft_status rc = tool_reward_ids(j->t, &d, out);
    const int64_t most = j->t->m->d.max_position - nn_virtual(j->t->inf.over);
    if (rc == FT_OK && j->t->m->d.max_position > 0 && out->n > most)
        rc = js_fail(&d, NULL, FT_EDATA, "completions",
                     "%lld tokens with the prompt, more than the model can hold (%lld)",
                     (long long)out->n, (long long)most);
    cJSON_Delete(d.root);
    return rc;
}

static ft_status judge_one(judge *j, judge_line *l)
{
    tok_ids *ids = ft_alloc((size_t)l->n, sizeof *ids);
    double *reward = ft_alloc((size_t)l->n, sizeof *reward);
    ft_status rc = ids && reward ? FT_OK : FT_EMEM;
    int64_t n = 0, k = 0;
    for (int i = 0; rc == FT_OK && i < l->n; i++)
        if (l->part[i]) rc = ids_of(j, l, l->part[i], &ids[n++]);
    if (rc == FT_OK) rc = inf_reward(&j->t->inf, ids, n, reward);
    for (int i = 0; rc == FT_OK && i < l->n; i++)
        if (l->part[i]) l->score[i] = reward[k++];
    for (int64_t i = 0; i < n; i++) tok_ids_free(&ids[i]);
    ft_free(ids);
    ft_free(reward);
    return rc;
}

static ft_status score(judge *j)
{
    for (int i = 0; i < j->n; i++) FT_TRY(judge_one(j, &j->line[i]));
    return FT_OK;
}

const judge_method judge_reward = {
    .name = "reward", .model = true, .rewards = true, .score = score};
