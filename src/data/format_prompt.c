/* format_prompt.c – records of what is asked: `prompt`, which a model answers while it trains, and `rollouts`, answers that
 * were given before, by their tokens.
 *
 * Whatever else a record holds goes along for the rewards, as the text of a JSON object. */
#include "data_private.h"

#include <math.h>
#include <string.h>

#define MOST_BATCHES 1e9 /* of an epoch */

static ft_status no_memory(void)
{
    return ft_fail(FT_EMEM, "out of memory");
}

static bool listed(const char *const *keys, const char *key)
{
    while (*keys && strcmp(*keys, key) != 0) keys++;
    return *keys != NULL;
}

/* The record but the keys that are listed. */
static ft_status note_record(data_item *it, const char *const *but)
{
    str_buf s = {0};
    for (const cJSON *v = it->rec->child; v; v = v->next) {
        if (listed(but, v->string)) continue;
        str_addc(&s, s.len ? ',' : '{');
        str_json(&s, v->string, strlen(v->string));
        str_addc(&s, ':');
        js_print(&s, v, false);
    }
    str_adds(&s, s.len ? "}" : "{}");
    it->extra = s.data;
    return str_ok(&s);
}

/* --- prompt ------------------------------------------------------------------------------------------------------ */
static ft_status turns(data_item *it, const cJSON *prompt)
{
    if (!it->d->chat)
        return data_fail(it, prompt, "prompt",
                         "is a list of messages, and the model has no chat template; add "
                         "chat_template.jinja to its folder, or give the text itself");
    cJSON *list = cJSON_CreateArray(), *tools = NULL;
    ft_status rc = list ? data_turn_list(it, prompt, false, list) : no_memory();
    it->chat = true;
    if (rc == FT_OK && !list->child) rc = data_fail(it, prompt, "prompt", "has no message");
    if (rc == FT_OK) rc = data_read_tools(it, &tools);
    if (rc == FT_OK) rc = data_chat_ids(it, list, tools, true, &it->ids);
    cJSON_Delete(tools);
    cJSON_Delete(list);
    return rc;
}

static ft_status prompt(data_item *it)
{
    static const char *const none[] = {NULL};
    const cJSON *v = js_get(it->rec, "prompt");
    const bool pair = (!v || cJSON_IsNull(v)) && data_has_pair(it->rec);
    if (!v && !pair) return data_fail(it, it->rec, "prompt", "is missing in this prompt record");
    if (!pair && !cJSON_IsString(v) && !cJSON_IsArray(v))
        return data_fail(it, v, "prompt", "must be a string or a list of messages");
    FT_TRY(pair                ? data_pair_prompt(it)
           : cJSON_IsString(v) ? data_prompt_ids(it, v->valuestring)
                               : turns(it, v));
    if (it->ids.n == 0)
        return data_fail(it, pair ? it->rec : v, "prompt",
                         "is no token at all: there is nothing to continue");
    return note_record(it, none);
}

/* Pairs have a prompt in whatever form, which serves where prompts are asked for. */
static bool is_prompt(const cJSON *rec, bool asked)
{
    return js_get(rec, "prompt") || (asked && data_has_pair(rec));
}

/* --- rollouts ---------------------------------------------------------------------------------------------------- */
static ft_status read_ids(data_item *it, const char *key)
{
    const cJSON *list = js_get(it->rec, key), *v;
    const int64_t size = it->d->vocab_size;
    if (!cJSON_IsArray(list))
        return data_fail(it, list ? list : it->rec, key, "must be a list of token ids");
    if (!list->child) return data_fail(it, list, key, "is empty");
    cJSON_ArrayForEach(v, list)
    {
        const double f = cJSON_IsNumber(v) ? v->valuedouble : -1;
        if (!(f >= 0 && f < (double)size && f == floor(f)))
            return data_fail(it, v, key, "must be token ids below %lld", (long long)size);
        FT_TRY(tok_ids_push(&it->ids, (int32_t)f));
    }
    return FT_OK;
}

static ft_status check_worth(const data_item *it)
{
    const cJSON *all = js_get(it->rec, "rewards"), *v;
    const cJSON *finished = js_get(it->rec, "finished");
    FT_TRY(data_want_number(it, js_get(it->rec, "reward"), "reward"));
    if (all && !cJSON_IsNull(all) && !cJSON_IsObject(all))
        return data_fail(it, all, "rewards", "must be an object of numbers");
    cJSON_ArrayForEach(v, all) FT_TRY(data_want_number(it, v, "rewards"));
    if (finished && !cJSON_IsBool(finished))
        return data_fail(it, finished, "finished", "must be true or false");
    return FT_OK;
}

/* By token, or made again of the ids. */
static const char *const not_kept[] = {
    "prompt_ids", "completion_ids", "completion", "logprobs", "ref_logprobs",
    "values",     "advantages",     "returns",    "batch",    "group",
    "sample",     "advantage",      NULL};

static ft_status rollouts(data_item *it)
{
    const cJSON *epoch = js_get(it->rec, "epoch_batches");
    FT_TRY(read_ids(it, "prompt_ids"));
    const int64_t n = it->ids.n;
    FT_TRY(read_ids(it, "completion_ids"));
    FT_TRY(check_worth(it));
    it->value = cJSON_IsNumber(epoch) ? epoch->valuedouble : 0;
    const bool whole = it->value >= 1 && it->value <= MOST_BATCHES && it->value == floor(it->value);
    if (epoch && !cJSON_IsNull(epoch) && !whole)
        return data_fail(it, epoch, "epoch_batches", "must be a whole number from 1 to 1e9");
    FT_TRY(data_learn(it, n, it->ids.n)); /* of what is asked nothing is */
    return note_record(it, not_kept);
}

/* --- the rows ------------------------------------------------------------------------------------------------------ */
static const char *const k_prompt[] = {"prompt", NULL}, *const j_prompt[] = {
                                                            "tools", "chat_template_kwargs", NULL};
static const char *const t_prompt[] = {"prompt",        "chosen",   "rejected",
                                       "conversations", "messages", NULL};
static const char *const k_rollouts[] = {"prompt_ids", "completion_ids", NULL};
static const char *const j_rollouts[] = {"prompt_ids", "completion_ids", "reward", "rewards",
                                         "finished",   "epoch_batches",  NULL};

const data_format data_format_prompt = {
    .name = "prompt",
    .keys = k_prompt,
    .fits = is_prompt,
    .render = prompt,
    .gives = DATA_PROMPTS,
    .json = j_prompt,
    .turns = t_prompt,
    .help = "nothing: it is what the model answers while it trains, a text or a list of messages; "
            "of a preference record what its answers answer. The other keys are the rewards' "
            "(answer).",
    .example = "{\"prompt\": \"What is 2 + 2?\", \"answer\": \"4\"}"};
const data_format data_format_rollouts = {
    .name = "rollouts",
    .keys = k_rollouts,
    .render = rollouts,
    .gives = DATA_ROLLOUTS,
    .json = j_rollouts,
    .help = "the completions, as objective.rollouts replays them: lines of rollouts.jsonl, or of "
            "another program. reward, or rewards by name, may stand beside the ids.",
    .example = "{\"prompt_ids\": [5, 6, 7], \"completion_ids\": [8, 2], \"reward\": 1}"};
