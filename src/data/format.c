/* format.c – the forms a record may have, one row each: the keys it is known by and how it becomes tokens. */
#include "data_private.h"

#include <math.h>
#include <string.h>

static ft_status want_string(const data_item *it, const cJSON *o, const char *key, const char **out)
{
    const cJSON *v = js_get(o, key);
    *out = "";
    if (!v) return data_fail(it, o, key, "is missing in this %s record", it->format->name);
    if (!cJSON_IsString(v)) return data_fail(it, v, key, "must be a string");
    *out = v->valuestring;
    return FT_OK;
}

ft_status data_want_number(const data_item *it, const cJSON *v, const char *key)
{
    if (!v || cJSON_IsNull(v) || (cJSON_IsNumber(v) && fabs(v->valuedouble) <= DATA_MOST_NUMBER))
        return FT_OK;
    return data_fail(it, v, key, "must be a number between -1e9 and 1e9");
}

static ft_status optional_string(const data_item *it, const cJSON *o, const char *key,
                                 const char **out)
{
    *out = "";
    if (!js_get(o, key) || cJSON_IsNull(js_get(o, key))) return FT_OK;
    return want_string(it, o, key, out);
}

static ft_status out_of_memory(bool failed)
{
    return failed ? ft_fail(FT_EMEM, "out of memory") : FT_OK;
}

static bool is_blank(const char *s)
{
    return !s[strspn(s, " \t\r\n\f\v")];
}

/* --- prompt and completion as plain text -------------------------------------------------------------- */
/* A text that begins with BOS where the tokenizer adds one: it stands there once. */
static bool doubled_bos(const tok_tokenizer *tok, tok_ids *ids)
{
    const int32_t bos = tok_bos(tok);
    if (ids->n < 2 || bos < 0 || ids->id[0] != bos || ids->id[1] != bos || !tok_adds_bos(tok))
        return false;
    memmove(ids->id, ids->id + 1, (size_t)--ids->n * sizeof *ids->id);
    return true;
}

ft_status data_plain_ids(const tok_tokenizer *tok, const char *text, size_t n, bool close,
                         tok_ids *out)
{
    const int32_t eos = tok_eos(tok);
    FT_TRY(tok_encode(tok, text ? text : "", n, true, out));
    doubled_bos(tok, out);
    bool ends = out->n > 0 && out->id[out->n - 1] == eos;
    return close && eos >= 0 && !ends ? tok_ids_push(out, eos) : FT_OK;
}

/* With BOS where the tokenizer adds one; an EOS that it adds too would end what is to be gone on with. */
ft_status data_prompt_ids(data_item *it, const char *text)
{
    const tok_tokenizer *tok = it->d->tok;
    const int32_t eos = tok_eos(tok);
    const char *end = eos >= 0 ? tok_text(tok, eos) : NULL;
    FT_TRY(data_plain_ids(tok, text, strlen(text), false, &it->ids));
    if (it->ids.n > 0 && it->ids.id[it->ids.n - 1] == eos && !(end && str_ends(text, end)))
        it->ids.n--;
    return FT_OK;
}

/* Both are tokenised as one text. The prompt's tokens are those it has in common with the text on its own, so a
 * token that spans the border belongs to the completion. */
static ft_status plain(data_item *it, const char *prompt, const char *completion)
{
    const tok_tokenizer *tok = it->d->tok;
    str_buf text = {0};
    tok_match head;
    int32_t eos = tok_eos(tok);
    ft_status rc;
    str_adds(&text, prompt);
    size_t n = text.len;
    str_adds(&text, completion);
    FT_TRY_OUT(str_ok(&text));
    FT_TRY_OUT(tok_encode(tok, text.data ? text.data : "", text.len, true, &it->ids));
    FT_TRY_OUT(tok_compare(tok, text.data ? text.data : "", n, true, &it->ids, &head));
    int64_t k = head.same;
    it->empty = is_blank(completion);
    bool closed = head.n > 0 && eos >= 0 && head.last == eos; /* by the post-processor */
    it->merged = k < head.n - closed;
    if (doubled_bos(tok, &it->ids)) k -= k > 0; /* the text had it */
    if (k == it->ids.n && k && it->ids.id[k - 1] == eos && !*completion) k--;
    if (eos >= 0 && (k == it->ids.n || it->ids.id[it->ids.n - 1] != eos)) {
        FT_TRY_OUT(tok_ids_push(&it->ids, eos));
    }
    rc = data_learn(it, it->d->completion_only ? k : 0, it->ids.n);
out:
    str_free(&text);
    return rc;
}

/* --- messages ------------------------------------------------------------------------------------------------ */
ft_status data_read_tools(const data_item *it, cJSON **out)
{
    const cJSON *tools = js_get(it->rec, "tools");
    js_doc doc = {0};
    *out = NULL;
    if (!tools || cJSON_IsNull(tools)) return FT_OK;
    const cJSON *from = tools;
    if (cJSON_IsString(tools)) {
        if (!tools->valuestring[strspn(tools->valuestring, " \n\t")]) return FT_OK;
        const ft_status parsed = js_parse(&doc, tools->valuestring, strlen(tools->valuestring),
                                          "tools", 1, JS_BIG_NUMBERS, FT_EDATA);
        if (parsed == FT_EDATA) return data_fail(it, tools, "tools", "is text that is not JSON");
        FT_TRY(parsed);
        from = doc.root;
    }
    ft_status rc = FT_OK;
    if (!cJSON_IsArray(from))
        rc = data_fail(it, tools, "tools", "must be a list");
    else if (!(*out = cJSON_CreateArray()))
        rc = out_of_memory(true);
    for (const cJSON *f = from->child; rc == FT_OK && f; f = f->next) {
        cJSON *copy = cJSON_Duplicate(f, true), *item = copy;
        if (!cJSON_IsObject(f)) {
            rc = data_fail(it, tools, "tools", "a tool must be an object");
            cJSON_Delete(copy);
            break;
        }
        if (copy && cJSON_IsObject(f) && !js_get(f, "type") && js_get(f, "name")) {
            item = cJSON_CreateObject();
            const bool named = item && cJSON_AddStringToObject(item, "type", "function");
            if (!named) cJSON_Delete(copy);
            if (!named || !js_add(item, "function", copy)) rc = out_of_memory(true);
        }
        if (!item || !cJSON_AddItemToArray(*out, item)) rc = out_of_memory(true);
    }
    js_close(&doc);
    if (rc != FT_OK) {
        cJSON_Delete(*out);
        *out = NULL;
    }
    return rc;
}

/* "history" of LLaMA-Factory: pairs of what the user said and what was answered, before the turns of the record. */
static ft_status add_history(const data_item *it, cJSON *list)
{
    const cJSON *history = js_get(it->rec, "history"), *pair;
    if (!history || cJSON_IsNull(history)) return FT_OK;
    if (!cJSON_IsArray(history))
        return data_fail(it, history, "history", "must be a list of pairs of texts");
    cJSON_ArrayForEach(pair, history)
    {
        const cJSON *said = cJSON_IsArray(pair) ? pair->child : NULL;
        const cJSON *answer = said ? said->next : NULL;
        if (!cJSON_IsString(said) || !cJSON_IsString(answer) || answer->next) {
            return data_fail(it, pair, "history",
                             "an entry must be two texts: what was said and what was answered");
        }
        if (!data_turn_add(list, "user", said->valuestring) ||
            !data_turn_add(list, "assistant", answer->valuestring)) {
            return out_of_memory(true);
        }
    }
    return FT_OK;
}

ft_status data_turns_before(const data_item *it, cJSON *list, const cJSON *first)
{
    const char *system;
    FT_TRY(optional_string(it, it->rec, "system", &system));
    if (*system && data_turn_is_system(it, first)) {
        return data_fail(
            it, js_get(it->rec, "system"), "system",
            "the conversation begins with a system turn already; leave one of them out");
    }
    if (*system && !data_turn_add(list, "system", system)) return out_of_memory(true);
    return add_history(it, list);
}

/* What a conversation would lose without a word. */
static ft_status refuse_unknown(const data_item *it)
{
    static const struct {
        const char *key, *why;
    } rows[] = {{"functions", "the older form of tools; write the list under \"tools\""},
                {"images", "pictures cannot be shown to a model of text"},
                {"videos", "films cannot be shown to a model of text"},
                {"audios", "sounds cannot be played to a model of text"}};
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) {
        const cJSON *v = js_get(it->rec, rows[i].key);
        bool some = cJSON_IsArray(v) ? v->child != NULL : cJSON_IsString(v) && *v->valuestring;
        if (some) return data_fail(it, v, rows[i].key, "%s", rows[i].why);
    }
    return FT_OK;
}

/* Renders `list` (taken over) with the tools and the variables of the record. */
static ft_status chat_sample(data_item *it, const cJSON *node, cJSON *list, int first)
{
    cJSON *tools = NULL;
    const cJSON *vars = js_get(it->rec, "chat_template_kwargs");
    ft_status rc = refuse_unknown(it);
    if (rc == FT_OK) rc = data_read_tools(it, &tools);
    if (rc == FT_OK && !list->child) rc = data_fail(it, node, NULL, "an empty conversation");
    chat_input in = {
        .messages = list, .tools = tools, .vars = vars && !cJSON_IsNull(vars) ? vars : NULL};
    if (rc == FT_OK) rc = data_render_chat(it, node, &in, first);
    cJSON_Delete(tools);
    cJSON_Delete(list);
    return rc;
}

static ft_status messages(data_item *it)
{
    const cJSON *from = js_get(it->rec, "messages");
    cJSON *list = cJSON_CreateArray();
    if (!list) return out_of_memory(true);
    if (!from) from = js_get(it->rec, "conversations");
    ft_status rc = data_turns_before(it, list, from ? from->child : NULL);
    if (rc == FT_OK) {
        rc = from ? data_turn_list(it, from, false, list)
                  : data_fail(it, it->rec, "messages", "is missing in this record");
    }
    if (rc == FT_OK) return chat_sample(it, from, list, 0);
    cJSON_Delete(list);
    return rc;
}

static ft_status completion(data_item *it)
{
    const char *prompt, *answer;
    const cJSON *p = js_get(it->rec, "prompt"), *c = js_get(it->rec, "completion");
    if (cJSON_IsArray(p) && cJSON_IsArray(c)) { /* conversations in two parts */
        cJSON *list = cJSON_CreateArray();
        ft_status rc = list ? data_turn_list(it, p, false, list) : out_of_memory(true);
        if (rc == FT_OK) rc = data_turn_list(it, c, false, list);
        if (rc == FT_OK)
            return chat_sample(it, p, list, it->d->completion_only ? cJSON_GetArraySize(p) : 0);
        cJSON_Delete(list);
        return rc;
    }
    FT_TRY(want_string(it, it->rec, "prompt", &prompt));
    FT_TRY(want_string(it, it->rec, "completion", &answer));
    return plain(it, prompt, answer);
}

/* Stanford's two prompts. */
static const char with_input[] = "Below is an instruction that describes a task, paired with an "
                                 "input that provides further context. "
                                 "Write a response that appropriately completes the request.\n\n"
                                 "### Instruction:\n%s\n\n### Input:\n%s\n\n### Response:";
static const char without_input[] = "Below is an instruction that describes a task. "
                                    "Write a response that appropriately completes the request.\n\n"
                                    "### Instruction:\n%s\n\n### Response:";

/* What Stanford's prompts have no place for. */
static ft_status no_turns(const data_item *it)
{
    static const char *const keys[] = {"system", "history", "tools"};
    for (size_t i = 0; i < FT_COUNT_OF(keys); i++) {
        const cJSON *v = js_get(it->rec, keys[i]);
        bool empty = !v || cJSON_IsNull(v) || (cJSON_IsArray(v) && !v->child) ||
                     (cJSON_IsString(v) && !*v->valuestring);
        if (empty) continue;
        return data_fail(
            it, v, keys[i],
            "needs a chat template, and the model has none: add chat_template.jinja to "
            "its folder, or leave the key out");
    }
    return FT_OK;
}

ft_status data_alpaca_text(const data_item *it, str_buf *out)
{
    const char *instruction, *input;
    FT_TRY(want_string(it, it->rec, "instruction", &instruction));
    FT_TRY(optional_string(it, it->rec, "input", &input));
    FT_TRY(no_turns(it));
    if (*input)
        str_printf(out, with_input, instruction, input);
    else
        str_printf(out, without_input, instruction);
    return str_ok(out);
}

ft_status data_alpaca_turns(const data_item *it, cJSON *list)
{
    const char *instruction, *input;
    str_buf s = {0};
    FT_TRY(want_string(it, it->rec, "instruction", &instruction));
    FT_TRY(optional_string(it, it->rec, "input", &input));
    FT_TRY(data_turns_before(it, list, NULL));
    str_adds(&s, instruction);
    if (*input) str_printf(&s, "\n\n%s", input);
    ft_status rc = out_of_memory(s.failed || !data_turn_own(list, "user", s.data ? s.data : ""));
    str_free(&s);
    return rc;
}

static ft_status alpaca(data_item *it)
{
    const char *output;
    str_buf s = {0};
    ft_status rc;
    FT_TRY(want_string(it, it->rec, "instruction", &output)); /* in the order of the keys */
    FT_TRY(want_string(it, it->rec, "output", &output));
    if (!it->d->chat) {
        rc = data_alpaca_text(it, &s);
        if (rc == FT_OK) rc = plain(it, s.data, output);
        str_free(&s);
        return rc;
    }
    cJSON *list = cJSON_CreateArray();
    rc = list ? data_alpaca_turns(it, list) : FT_EMEM;
    if (rc == FT_OK && !data_turn_add(list, "assistant", output)) rc = out_of_memory(true);
    if (rc == FT_OK) return chat_sample(it, it->rec, list, 0);
    cJSON_Delete(list);
    return rc;
}

static ft_status sharegpt(data_item *it)
{
    const cJSON *turns = js_get(it->rec, "conversations");
    if (!cJSON_IsArray(turns)) {
        return data_fail(it, turns ? turns : it->rec, "conversations", "must be a list of turns");
    }
    cJSON *list = cJSON_CreateArray();
    ft_status rc = list ? data_turns_before(it, list, turns->child) : out_of_memory(true);
    if (rc == FT_OK) rc = data_turn_list(it, turns, true, list);
    if (rc == FT_OK) return chat_sample(it, turns, list, 0);
    cJSON_Delete(list);
    return rc;
}

/* --- tokens and text --------------------------------------------------------------------------------------------- */
static ft_status read_id(const data_item *it, const cJSON *v, const char *key, bool label,
                         int32_t *out)
{
    double f = cJSON_IsNumber(v) ? v->valuedouble : -1;
    int64_t size = it->d->vocab_size;
    bool ignored = label && f == DATA_IGNORE;
    if (!ignored && !(f >= 0 && f < (double)size && f == floor(f))) {
        return data_fail(it, v, key, "must be a token id below %lld%s", (long long)size,
                         label ? ", or -100" : "");
    }
    *out = (int32_t)f;
    return FT_OK;
}

/* Labels under another name would make every token one to learn. */
static ft_status no_near_labels(const data_item *it)
{
    static const char *const names[] = {"labels", "label", "label_ids", "lm_labels", NULL};
    for (const cJSON *k = it->rec->child; k; k = k->next) {
        if (strcmp(k->string, "input_ids") != 0 && cfg_nearest(k->string, names))
            return data_fail(
                it, k, k->string,
                "is not read; labels are named \"labels\", and without them every token "
                "would be learned");
    }
    return FT_OK;
}

/* Sequences that follow one another in the record, as TRL's packing names them. */
static ft_status read_lengths(data_item *it)
{
    const cJSON *list = js_get(it->rec, "seq_lengths");
    int64_t sum = 0;
    if (!list) return FT_OK;
    if (!cJSON_IsArray(list))
        return data_fail(it, list, "seq_lengths", "must be a list of lengths");
    for (const cJSON *v = list->child; v; v = v->next) {
        double n = cJSON_IsNumber(v) ? v->valuedouble : 0;
        if (!(n >= 1 && n <= (double)(it->ids.n - sum) && n == floor(n)))
            return data_fail(it, v, "seq_lengths",
                             "must be lengths of 1 and more that add up to the %lld input_ids",
                             (long long)it->ids.n);
        sum += (int64_t)n;
        FT_TRY(tok_ids_push(&it->seq, (int32_t)n));
    }
    if (sum != it->ids.n)
        return data_fail(it, list, "seq_lengths", "add up to %lld, there are %lld input_ids",
                         (long long)sum, (long long)it->ids.n);
    return FT_OK;
}

static ft_status tokens(data_item *it)
{
    const cJSON *ids = js_get(it->rec, "input_ids"), *labels = js_get(it->rec, "labels");
    int64_t n = 0;
    int32_t id;
    if (!cJSON_IsArray(ids)) {
        return data_fail(it, ids ? ids : it->rec, "input_ids", "must be a list of token ids");
    }
    if (!labels) FT_TRY(no_near_labels(it));
    if (labels && !cJSON_IsArray(labels)) {
        return data_fail(it, labels, "labels", "must be a list of token ids or -100");
    }
    for (const cJSON *v = ids->child; v; v = v->next) {
        FT_TRY(read_id(it, v, "input_ids", false, &id));
        FT_TRY(tok_ids_push(&it->ids, id));
    }
    if (!labels) FT_TRY(data_learn(it, 0, it->ids.n));
    it->labels = labels ? ft_alloc((size_t)it->ids.n + 1, sizeof *it->labels) : NULL;
    if (labels && !it->labels) return FT_EMEM;
    for (const cJSON *v = labels ? labels->child : NULL; v; v = v->next, n++) {
        if (n >= it->ids.n) break;
        FT_TRY(read_id(it, v, "labels", true, &it->labels[n]));
    }
    if (labels && cJSON_GetArraySize(labels) != it->ids.n) {
        return data_fail(it, labels, "labels", "has %d entries for %lld input_ids",
                         cJSON_GetArraySize(labels), (long long)it->ids.n);
    }
    if (labels) FT_TRY(data_learn_labels(it));
    return read_lengths(it);
}

static ft_status text(data_item *it)
{
    const char *s;
    FT_TRY(want_string(it, it->rec, "text", &s));
    it->empty = is_blank(s);
    return data_encode_text(it->d->tok, s, strlen(s), true, &it->ids);
}

/* --- the rows ------------------------------------------------------------------------------------------------------ */
static const char *const k_tokens[] = {"input_ids", NULL}, *const r_tokens[] = {
                                                               "labels", "seq_lengths", NULL};
static const char *const j_tokens[] = {"input_ids", "labels", "seq_lengths", NULL};
static const char *const k_messages[] = {"messages", NULL};
static const char *const k_sharegpt[] = {"conversations", NULL};
static const char *const r_turns[] = {"system", "history", NULL};
static const char *const j_turns[] = {"messages", "conversations",        "tools",
                                      "history",  "chat_template_kwargs", NULL};
static const char *const k_completion[] = {"prompt", "completion", NULL};
static const char *const k_alpaca[] = {"instruction", "output", NULL};
static const char *const r_alpaca[] = {"input", "system", "history", NULL};
static const char *const k_text[] = {"text", NULL};

const data_format data_format_tokens = {
    .name = "tokens",
    .keys = k_tokens,
    .render = tokens,
    .reads = r_tokens,
    .gives = DATA_TOKENS,
    .json = j_tokens,
    .help =
        "the labels that are not -100; without labels every token. seq_lengths, if it is there, "
        "says how many tokens each of several sequences has.",
    .example = "{\"input_ids\": [5, 6, 7, 8], \"labels\": [-100, -100, 7, 8]}"};
const data_format data_format_messages = {
    .name = "messages",
    .keys = k_messages,
    .render = messages,
    .reads = r_turns,
    .gives = DATA_TOKENS,
    .json = j_turns,
    .help = "the turns of the assistant, with what ends them; a turn of \"weight\": 0 is not. "
            "data.assistant_only_loss false: the whole conversation. \"system\", \"history\" and "
            "\"tools\" may stand beside the turns.",
    .example = "{\"messages\": [{\"role\": \"user\", \"content\": \"What is 2 + 2?\"}, "
               "{\"role\": \"assistant\", \"content\": \"It is 4.\"}]}"};
const data_format data_format_sharegpt = {
    .name = "sharegpt",
    .keys = k_sharegpt,
    .render = sharegpt,
    .reads = r_turns,
    .gives = DATA_TOKENS,
    .json = j_turns,
    .help =
        "the turns of \"gpt\", as the assistant's of messages; \"roles\" of a source names other "
        "speakers.",
    .example = "{\"conversations\": [{\"from\": \"human\", \"value\": \"What is 2 + 2?\"}, "
               "{\"from\": \"gpt\", \"value\": \"It is 4.\"}]}"};
const data_format data_format_completion = {
    .name = "completion",
    .keys = k_completion,
    .render = completion,
    .gives = DATA_TOKENS,
    .help = "the completion, and the token that ends a text. data.completion_only_loss false: the "
            "prompt too. Both are plain text, or both lists of turns as in messages.",
    .example = "{\"prompt\": \"Question: what is 2 + 2?\\nAnswer:\", \"completion\": \" 4\"}"};
const data_format data_format_alpaca = {
    .name = "alpaca",
    .keys = k_alpaca,
    .render = alpaca,
    .reads = r_alpaca,
    .gives = DATA_TOKENS,
    .json = j_turns,
    .help =
        "the output: the answer to a user's turn of instruction and input where there is a chat "
        "template, else the completion of Stanford's prompt. input may be empty or missing.",
    .example = "{\"instruction\": \"Add the numbers.\", \"input\": \"2 and 2\", \"output\": "
               "\"4\"}"};
const data_format data_format_text = {
    .name = "text",
    .keys = k_text,
    .render = text,
    .gives = DATA_TOKENS,
    .help = "every token. Documents follow one another in rows of data.max_length and do not see "
            "each other; a .txt file is of this format as it is.",
    .example = "{\"text\": \"Two and two are four. Four and four are eight.\"}"};
