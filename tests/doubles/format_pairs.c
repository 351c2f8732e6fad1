/* format_pairs.c – the double of a format that gives pairs: "better" and "worse" after a "prompt", by the tokens of each
 * for itself; "margin" is the value, what stands under "answer" goes along. */
#include "data/data_private.h"

#include <string.h>

static ft_status side(data_item *it, const char *prompt, const char *key)
{
    const cJSON *text = js_get(it->rec, key);
    int64_t from = it->ids.n;
    if (!cJSON_IsString(text)) return js_fail(it->doc, it->rec, FT_EDATA, key, "must be a string");
    FT_TRY(tok_encode(it->d->tok, prompt, strlen(prompt), false, &it->ids));
    int64_t begin = it->ids.n;
    FT_TRY(tok_encode(it->d->tok, text->valuestring, strlen(text->valuestring), false, &it->ids));
    int32_t *labels = ft_realloc(it->labels, (size_t)it->ids.n + 1, sizeof *labels);
    if (!labels) return FT_EMEM;
    for (int64_t i = from; i < it->ids.n; i++) labels[i] = i < begin ? DATA_IGNORE : it->ids.id[i];
    it->labels = labels;
    return tok_ids_push(&it->seq, (int32_t)(it->ids.n - from));
}

static ft_status pairs(data_item *it)
{
    const cJSON *prompt = js_get(it->rec, "prompt"), *margin = js_get(it->rec, "margin");
    const cJSON *answer = js_get(it->rec, "answer");
    const char *p = cJSON_IsString(prompt) ? prompt->valuestring : "";
    FT_TRY(side(it, p, "better"));
    FT_TRY(side(it, p, "worse"));
    it->all = true;
    it->value = cJSON_IsNumber(margin) ? margin->valuedouble : 0;
    if (!cJSON_IsString(answer)) return FT_OK;
    str_buf extra = {0};
    str_adds(&extra, "{\"answer\":");
    str_json(&extra, answer->valuestring, strlen(answer->valuestring));
    str_addc(&extra, '}');
    it->extra = extra.data;
    return str_ok(&extra);
}

static const char *const keys[] = {"better", "worse", NULL};
static const char *const reads[] = {"prompt", "margin", "answer", NULL};
extern const data_format data_format_pairs;
const data_format data_format_pairs = {
    .name = "pairs",
    .keys = keys,
    .render = pairs,
    .reads = reads,
    .gives = DATA_PAIRS,
    .help = "which of two answers is better",
    .example = "{\"prompt\": \"a\", \"better\": \"b\", \"worse\": \"c\"}"};
