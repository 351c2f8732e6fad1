/* judge_match.c – 1 where a completion agrees with the line's answer, or one of its answers, else 0. */
#include "judge_private.h"

#include <string.h>

static ft_status compare(const rw_match *m, const judge_line *l, const cJSON *answer, int i,
                         bool *hit)
{
    str_buf number = {0};
    const char *want = answer->valuestring;
    if (cJSON_IsNumber(answer)) {
        js_print(&number, answer, false);
        want = number.data;
    }
    if (!want || !(cJSON_IsString(answer) || cJSON_IsNumber(answer))) {
        str_free(&number);
        return js_fail(&l->doc, answer, FT_EDATA, "answer", "must be a text or a list of texts");
    }
    ft_status rc = m->match(l->part[i], strlen(l->part[i]), want, hit);
    str_free(&number);
    if (rc != FT_EDATA) return rc;
    char *why = ft_strdup(ft_error());
    if (why) js_fail(&l->doc, answer, rc, "answer", "%s", why);
    ft_free(why);
    return rc;
}

static ft_status judge_one(const rw_match *m, judge_line *l)
{
    const cJSON *answer = js_get(l->doc.root, "answer");
    const bool list = cJSON_IsArray(answer);
    if (!answer || (list && !answer->child))
        return js_fail(&l->doc, answer ? answer : l->doc.root, FT_EDATA, "answer",
                       answer ? "an empty list: nothing is right" : "missing");
    for (int i = 0; i < l->n; i++) {
        bool hit = false;
        if (!l->part[i]) continue;
        for (const cJSON *e = list ? answer->child : answer; e && !hit; e = list ? e->next : NULL)
            FT_TRY(compare(m, l, e, i, &hit));
        l->score[i] = hit;
    }
    return FT_OK;
}

static ft_status score(judge *j)
{
    const rw_match *m = rw_match_by_name(j->opt->match);
    for (int i = 0; i < j->n; i++) FT_TRY(judge_one(m, &j->line[i]));
    return FT_OK;
}

const judge_method judge_match = {.name = "match", .score = score};
