/* judge_forms.c – what scores make of completions, a row each: the line with its scores, pairs, labelled completions, the best
 * one. Completions to a list of messages are messages too. */
#include <math.h>
#include <string.h>

#include "judge_private.h"

#define THRESHOLD 0.5 /* of `unpaired`, where none is given */

/* --- pieces ---------------------------------------------------------------------------------------------------------- */

static void put_prompt(str_buf *out, const judge_line *l)
{
    str_addc(out, '{');
    tool_json_key(out, "prompt");
    js_print(out, l->prompt, false);
}

static void put_completion(str_buf *out, const char *key, const judge_line *l, int i)
{
    const bool text = cJSON_IsString(l->prompt);
    tool_json_key(out, key);
    if (!text) str_adds(out, "[{\"role\":\"assistant\",\"content\":");
    tool_json_text(out, l->whole[i], strlen(l->whole[i]));
    if (!text) str_adds(out, "}]");
}

/* First of the largest (way 1) or smallest (way −1) scores; −1: none has one. */
static int extreme(const judge_line *l, int way)
{
    int at = -1;
    for (int i = 0; i < l->n; i++)
        if (!isnan(l->score[i]) && (at < 0 || way * l->score[i] > way * l->score[at])) at = i;
    return at;
}

/* --- the line itself ------------------------------------------------------------------------------------------------- */

static ft_status scores(judge *j, const judge_line *l, str_buf *out)
{
    str_addc(out, '{');
    for (const cJSON *e = l->doc.root->child; e; e = e->next) {
        if (strcmp(e->string, "scores") == 0) continue;
        tool_json_key(out, e->string);
        js_print(out, e, false);
    }
    tool_json_key(out, "scores");
    str_addc(out, '[');
    for (int i = 0; i < l->n; i++) {
        if (i) str_addc(out, ',');
        tool_json_number(out, l->score[i]);
        j->kept += l->part[i] != NULL;
        j->dropped += l->part[i] == NULL;
    }
    str_adds(out, "]}\n");
    return FT_OK;
}

/* --- pairs ------------------------------------------------------------------------------------------------------------ */

static void pair(judge *j, const judge_line *l, int w, int r, str_buf *out)
{
    const double margin = w >= 0 && r >= 0 ? l->score[w] - l->score[r] : 0;
    if (!(margin > 0) || margin < j->opt->min_margin) {
        j->dropped++;
        return;
    }
    put_prompt(out, l);
    put_completion(out, "chosen", l, w);
    put_completion(out, "rejected", l, r);
    tool_json_key(out, "margin");
    tool_json_number(out, margin);
    str_adds(out, "}\n");
    j->kept++;
}

static void best_worst(judge *j, const judge_line *l, str_buf *out)
{
    pair(j, l, extreme(l, 1), extreme(l, -1), out);
}

/* Against one of those below it. */
static void best_random(judge *j, const judge_line *l, str_buf *out)
{
    const int best = extreme(l, 1);
    int64_t below = 0, pick;
    int r = -1;
    for (int i = 0; i < l->n; i++) below += best >= 0 && l->score[i] < l->score[best];
    pick = below ? (int64_t)(rng_u64(rng_key(j->opt->seed, l->number, 0), 0) % (uint64_t)below) : 0;
    for (int i = 0; below && i < l->n && r < 0; i++)
        if (l->score[i] < l->score[best] && pick-- == 0) r = i;
    pair(j, l, best, r, out);
}

static void all_pairs(judge *j, const judge_line *l, str_buf *out)
{
    for (int a = 0; a < l->n; a++) {
        for (int b = a + 1; b < l->n; b++) {
            if (isnan(l->score[a]) || isnan(l->score[b])) continue;
            const bool first = l->score[a] >= l->score[b];
            pair(j, l, first ? a : b, first ? b : a, out);
        }
    }
}

static const struct {
    const char *name;
    void (*make)(judge *j, const judge_line *l, str_buf *out);
} ways[] = {{"best-worst", best_worst}, {"best-random", best_random}, {"all", all_pairs}};
const char *const tool_judge_pairs[] = {"best-worst", "best-random", "all", NULL};

static ft_status preference(judge *j, const judge_line *l, str_buf *out)
{
    for (size_t i = 0; i < FT_COUNT_OF(ways); i++)
        if (strcmp(j->opt->pairs ? j->opt->pairs : ways[0].name, ways[i].name) == 0)
            ways[i].make(j, l, out);
    return FT_OK;
}

/* --- single completions ------------------------------------------------------------------------------------------------ */

static ft_status unpaired(judge *j, const judge_line *l, str_buf *out)
{
    const double limit = isnan(j->opt->threshold) ? THRESHOLD : j->opt->threshold;
    for (int i = 0; i < l->n; i++) {
        j->dropped += isnan(l->score[i]) != 0;
        if (isnan(l->score[i])) continue;
        put_prompt(out, l);
        put_completion(out, "completion", l, i);
        tool_json_key(out, "label");
        str_adds(out, l->score[i] >= limit ? "true}\n" : "false}\n");
        j->kept++;
    }
    return FT_OK;
}

static ft_status completion(judge *j, const judge_line *l, str_buf *out)
{
    const int best = extreme(l, 1);
    if (best < 0 || l->score[best] < j->opt->threshold) {
        j->dropped++;
        return FT_OK;
    }
    put_prompt(out, l);
    put_completion(out, "completion", l, best);
    str_adds(out, "}\n");
    j->kept++;
    return FT_OK;
}

static const judge_form forms[] = {{"scores", scores},
                                   {"preference", preference},
                                   {"unpaired", unpaired},
                                   {"completion", completion}};
const char *const tool_judge_forms[] = {"scores", "preference", "unpaired", "completion", NULL};

const judge_form *judge_form_by_name(const char *name)
{
    for (size_t i = 1; i < FT_COUNT_OF(forms); i++)
        if (strcmp(forms[i].name, name) == 0) return &forms[i];
    return &forms[0];
}
