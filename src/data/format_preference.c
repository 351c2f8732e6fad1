/* format_preference.c – records of judged answers: `preference`, one answer rather than another, and `unpaired`, answers that
 * are good or not. Forms of TRL, of hh-rlhf (a prompt is what two texts begin with), and of LLaMA-Factory.
 *
 * A record becomes a sequence for each answer: the prompt, not learned, and the answer. Their border is TRL's: the tokens that
 * the prompt alone, and the prompt with each of the answers, have in common. */
#include "data_private.h"

#include <string.h>

enum { CHOSEN, REJECTED, GOLD, SIDES };

/* What a record says: text and texts, or turns and turns. */
typedef struct sides {
    data_item *it;
    const char *key[SIDES]; /* of the record */
    int n;
    str_buf prompt;
    const char *text[SIDES];
    cJSON *before, *turns[SIDES]; /* NULL: it is text */
} sides;

static void close_sides(sides *x)
{
    str_free(&x->prompt);
    cJSON_Delete(x->before);
    for (int k = 0; k < SIDES; k++) cJSON_Delete(x->turns[k]);
}

static ft_status no_memory(void)
{
    return ft_fail(FT_EMEM, "out of memory");
}

static bool is_given(const cJSON *v)
{
    return v && !cJSON_IsNull(v);
}

static const cJSON *member(const sides *x, int k)
{
    return js_get(x->it->rec, x->key[k]);
}

/* --- tokens ---------------------------------------------------------------------------------------------------- */
static ft_status text_ids(const sides *x, int k, tok_ids *out)
{
    str_buf whole = {0};
    str_add(&whole, x->prompt.data ? x->prompt.data : "", x->prompt.len);
    if (k >= 0) str_adds(&whole, x->text[k]);
    ft_status rc = str_ok(&whole);
    if (rc == FT_OK) rc = data_plain_ids(x->it->d->tok, whole.data, whole.len, k >= 0, out);
    str_free(&whole);
    return rc;
}

static ft_status chat_ids(const sides *x, int k, const cJSON *tools, tok_ids *out)
{
    cJSON *list = cJSON_CreateArray();
    bool ok = list != NULL;
    for (int half = 0; half < 2; half++) {
        const cJSON *from = half == 0 ? x->before : k >= 0 ? x->turns[k] : NULL;
        for (const cJSON *m = from ? from->child : NULL; ok && m; m = m->next)
            ok = cJSON_AddItemReferenceToArray(list, (cJSON *)(uintptr_t)m);
    }
    ft_status rc = ok ? FT_OK : no_memory();
    if (rc == FT_OK && list->child) rc = data_chat_ids(x->it, list, tools, k < 0, out);
    cJSON_Delete(list);
    return rc;
}

static int64_t in_common(const tok_ids *a, const tok_ids *b, int64_t most)
{
    int64_t k = 0;
    while (k < most && k < a->n && k < b->n && a->id[k] == b->id[k]) k++;
    return k;
}

static ft_status add_sequence(data_item *it, const tok_ids *ids)
{
    for (int64_t i = 0; i < ids->n; i++) FT_TRY(tok_ids_push(&it->ids, ids->id[i]));
    return tok_ids_push(&it->seq, (int32_t)ids->n);
}

static ft_status encode(const sides *x, const cJSON *tools)
{
    data_item *it = x->it;
    tok_ids prompt = {0};
    ft_status rc = x->before ? chat_ids(x, -1, tools, &prompt) : text_ids(x, -1, &prompt);
    int64_t border = prompt.n, at = 0;
    for (int k = 0; rc == FT_OK && k < x->n; k++) {
        tok_ids side = {0};
        rc = x->before ? chat_ids(x, k, tools, &side) : text_ids(x, k, &side);
        border = in_common(&prompt, &side, border);
        if (rc == FT_OK) rc = add_sequence(it, &side);
        tok_ids_free(&side);
    }
    it->merged = border < prompt.n;
    for (int k = 0; rc == FT_OK && k < x->n; at += it->seq.id[k++])
        rc = data_learn(it, at + border, at + it->seq.id[k]);
    tok_ids_free(&prompt);
    return rc;
}

/* What is asked, without an answer. */
static ft_status encode_prompt(const sides *x, const cJSON *tools)
{
    data_item *it = x->it;
    if (x->before) return chat_ids(x, -1, tools, &it->ids);
    return data_prompt_ids(it, x->prompt.data ? x->prompt.data : "");
}

static ft_status render(const sides *x, ft_status (*as)(const sides *x, const cJSON *tools))
{
    data_item *it = x->it;
    cJSON *tools = NULL;
    if (!x->before) return as(x, NULL);
    if (!it->d->chat)
        return data_fail(it, it->rec, NULL,
                         "the model has no chat template, so conversations cannot be rendered; add "
                         "chat_template.jinja to its folder, or give the texts themselves");
    it->chat = true;
    FT_TRY(data_read_tools(it, &tools));
    ft_status rc = as(x, tools);
    cJSON_Delete(tools);
    return rc;
}

/* --- text ------------------------------------------------------------------------------------------------------ */
/* hh-rlhf: the prompt is what the texts begin with, up to the last whole character; a space before the place where they part
 * goes to the answers. */
static size_t common_text(const sides *x)
{
    const char *a = x->text[CHOSEN], *b = x->text[REJECTED];
    size_t n = 0;
    while (a[n] && a[n] == b[n]) n++;
    while (n > 0 && ((unsigned char)a[n] & 0xC0) == 0x80) n--;
    if (n > 0 && (a[n] || b[n]) && a[n - 1] == ' ') n--;
    return n;
}

static ft_status text_sides(sides *x)
{
    const data_item *it = x->it;
    const cJSON *prompt = js_get(it->rec, "prompt");
    for (int k = 0; k < x->n; k++) x->text[k] = member(x, k)->valuestring;
    if (js_get(it->rec, "instruction")) return data_alpaca_text(it, &x->prompt);
    if (cJSON_IsString(prompt)) {
        str_adds(&x->prompt, prompt->valuestring);
        return str_ok(&x->prompt);
    }
    if (x->n < 2)
        return data_fail(it, it->rec, "prompt", "is missing in this %s record", it->format->name);
    const size_t n = common_text(x);
    str_add(&x->prompt, x->text[CHOSEN], n);
    for (int k = 0; k < x->n; k++) {
        if (k < GOLD || strncmp(x->text[k], x->text[CHOSEN], n) == 0) x->text[k] += n;
    }
    return str_ok(&x->prompt);
}

/* --- turns ----------------------------------------------------------------------------------------------------- */
/* An answer as a list of turns, as one turn, or as the text of one. */
static ft_status read_turns(sides *x, int k, bool share)
{
    const cJSON *v = member(x, k);
    cJSON *list = x->turns[k] = cJSON_CreateArray(), *one = NULL;
    if (!list) return no_memory();
    if (cJSON_IsString(v))
        return data_turn_add(list, "assistant", v->valuestring) ? FT_OK : no_memory();
    if (cJSON_IsObject(v)) {
        one = cJSON_CreateArray();
        if (!one || !cJSON_AddItemReferenceToArray(one, (cJSON *)(uintptr_t)v)) {
            cJSON_Delete(one);
            return no_memory();
        }
    }
    ft_status rc = data_turn_list(x->it, one ? one : v, share, list);
    cJSON_Delete(one);
    if (rc == FT_OK && !list->child)
        rc = data_fail(x->it, v, x->key[k], "has no message: there is nothing to judge");
    return rc;
}

/* Without a prompt it is the turns that the answers begin with; of each at least one is left. */
static ft_status common_turns(sides *x)
{
    for (;;) {
        bool same = true;
        const cJSON *first = x->turns[CHOSEN]->child;
        for (int k = 0; k < x->n; k++)
            same = same && x->turns[k]->child && x->turns[k]->child->next &&
                   cJSON_Compare(first, x->turns[k]->child, true);
        if (!same) return FT_OK;
        if (!cJSON_AddItemToArray(x->before, cJSON_DetachItemFromArray(x->turns[CHOSEN], 0)))
            return no_memory();
        for (int k = 1; k < x->n; k++) cJSON_DeleteItemFromArray(x->turns[k], 0);
    }
}

static ft_status turn_sides(sides *x)
{
    const data_item *it = x->it;
    const cJSON *prompt = js_get(it->rec, "prompt"), *talk = js_get(it->rec, "conversations");
    if (!talk) talk = js_get(it->rec, "messages");
    const cJSON *from = prompt ? prompt : talk;
    x->before = cJSON_CreateArray();
    if (!x->before) return no_memory();
    if (js_get(it->rec, "instruction")) {
        FT_TRY(data_alpaca_turns(it, x->before));
    } else {
        FT_TRY(data_turns_before(it, x->before, from ? from->child : NULL));
        if (cJSON_IsString(prompt)) {
            if (!data_turn_add(x->before, "user", prompt->valuestring)) return no_memory();
        } else if (from) {
            FT_TRY(data_turn_list(it, from, talk == from, x->before));
        }
    }
    for (int k = 0; k < x->n; k++) FT_TRY(read_turns(x, k, talk != NULL));
    return from || js_get(it->rec, "instruction") || x->n < 2 ? FT_OK : common_turns(x);
}

/* Texts with texts, messages with messages. */
static ft_status check_forms(const sides *x)
{
    const data_item *it = x->it;
    const cJSON *prompt = js_get(it->rec, "prompt");
    for (int k = 0; k < x->n; k++) {
        const cJSON *v = member(x, k);
        if (!is_given(v))
            return data_fail(it, it->rec, x->key[k], "is missing in this %s record",
                             it->format->name);
        if (!cJSON_IsString(v) && !cJSON_IsArray(v) && !cJSON_IsObject(v))
            return data_fail(it, v, x->key[k], "must be a string or a list of messages");
        if (cJSON_IsString(v) != cJSON_IsString(member(x, 0)))
            return data_fail(it, v, x->key[k],
                             "is %s, and %s is not: texts go with texts, messages with messages",
                             cJSON_IsString(v) ? "text" : "a list of messages", x->key[0]);
    }
    if (is_given(prompt) && !cJSON_IsString(prompt) && !cJSON_IsArray(prompt))
        return data_fail(it, prompt, "prompt", "must be a string or a list of messages");
    if (is_given(prompt) && cJSON_IsString(prompt) != cJSON_IsString(member(x, 0)))
        return data_fail(it, prompt, "prompt",
                         "is %s, and %s is not: texts go with texts, messages with messages",
                         cJSON_IsString(prompt) ? "text" : "a list of messages", x->key[0]);
    return FT_OK;
}

/* Records of LLaMA-Factory have a template's turns around texts. */
static bool is_talk(const sides *x)
{
    const cJSON *rec = x->it->rec;
    return !cJSON_IsString(member(x, 0)) || js_get(rec, "conversations") ||
           js_get(rec, "messages") || (js_get(rec, "instruction") && x->it->d->chat);
}

static ft_status read_sides(sides *x)
{
    FT_TRY(check_forms(x));
    return is_talk(x) ? turn_sides(x) : text_sides(x);
}

/* --- what goes along ------------------------------------------------------------------------------------------- */
/* Numbers of the record for the objective, as an object. */
static ft_status note_numbers(data_item *it, const char *const *keys)
{
    str_buf s = {0};
    for (; *keys; keys++) {
        const cJSON *v = js_get(it->rec, *keys);
        const ft_status rc = data_want_number(it, v, *keys);
        if (rc != FT_OK) str_free(&s);
        FT_TRY(rc);
        if (!is_given(v)) continue;
        str_printf(&s, "%s\"%s\":%.17g", s.len ? "," : "{", *keys, v->valuedouble);
    }
    if (!s.len) return FT_OK;
    str_addc(&s, '}');
    it->extra = s.data;
    return str_ok(&s);
}

static ft_status pair_sides(data_item *it, sides *x)
{
    *x = (sides){.it = it, .key = {"chosen", "rejected", "reference"}, .n = 2};
    if (it->d->wants & DATA_TRIPLES) x->n = 3;
    return read_sides(x);
}

static bool is_same(const data_item *it)
{
    const int32_t *n = it->seq.id;
    return n[CHOSEN] == n[REJECTED] &&
           memcmp(it->ids.id, it->ids.id + n[CHOSEN], (size_t)n[CHOSEN] * sizeof *n) == 0;
}

static ft_status preference(data_item *it)
{
    static const char *const numbers[] = {"ref_chosen_logps", "ref_rejected_logps", NULL};
    const cJSON *margin = js_get(it->rec, "margin");
    sides x;
    FT_TRY(data_want_number(it, margin, "margin"));
    it->value = is_given(margin) ? margin->valuedouble : 0;
    it->all = true;
    ft_status rc = pair_sides(it, &x);
    if (rc == FT_OK) rc = render(&x, encode);
    if (rc == FT_OK) it->same = is_same(it);
    if (rc == FT_OK) rc = note_numbers(it, numbers);
    close_sides(&x);
    return rc;
}

ft_status data_pair_prompt(data_item *it)
{
    sides x;
    ft_status rc = pair_sides(it, &x);
    if (rc == FT_OK && !x.before && !*x.text[CHOSEN] && !*x.text[REJECTED])
        rc = data_fail(it, it->rec, "chosen",
                       "and rejected are one text, so what they answer cannot be told");
    if (rc == FT_OK) rc = render(&x, encode_prompt);
    close_sides(&x);
    return rc;
}

bool data_has_pair(const cJSON *rec)
{
    return js_get(rec, "chosen") && js_get(rec, "rejected");
}

/* One side alone is a pair with a side missing, where pairs are asked for. */
static bool is_pair(const cJSON *rec, bool asked)
{
    return data_has_pair(rec) || (asked && (js_get(rec, "chosen") || js_get(rec, "rejected")));
}

/* --- answers by themselves --------------------------------------------------------------------------------------- */
/* The last turn is what is judged. */
static ft_status last_turn(sides *x)
{
    const data_item *it = x->it;
    const cJSON *talk = js_get(it->rec, "messages");
    if (!talk) talk = js_get(it->rec, "conversations");
    if (!talk)
        return data_fail(it, it->rec, "completion", "is missing in this %s record",
                         it->format->name);
    x->before = cJSON_CreateArray();
    x->turns[0] = cJSON_CreateArray();
    if (!x->before || !x->turns[0]) return no_memory();
    FT_TRY(data_turns_before(it, x->before, talk->child));
    FT_TRY(data_turn_list(it, talk, !js_get(it->rec, "messages"), x->before));
    const int n = cJSON_GetArraySize(x->before);
    const cJSON *role = n < 2 ? NULL : js_get(cJSON_GetArrayItem(x->before, n - 1), "role");
    if (!cJSON_IsString(role) || strcmp(role->valuestring, "assistant") != 0)
        return data_fail(it, talk, NULL,
                         "must end with an answer of the assistant, which the label "
                         "judges, after what it answers");
    cJSON *last = cJSON_DetachItemFromArray(x->before, n - 1);
    return cJSON_AddItemToArray(x->turns[0], last) ? FT_OK : no_memory();
}

static ft_status read_label(data_item *it)
{
    const char *key = js_get(it->rec, "label") ? "label" : "kto_tag";
    const cJSON *v = js_get(it->rec, key);
    if (!v) return data_fail(it, it->rec, "label", "is missing in this unpaired record");
    if (!cJSON_IsBool(v)) return data_fail(it, v, key, "must be true or false");
    it->value = cJSON_IsTrue(v);
    return FT_OK;
}

/* LLaMA-Factory's alpaca form: an answer to an instruction. */
static bool is_instruction(const cJSON *rec)
{
    return js_get(rec, "instruction") && js_get(rec, "output");
}

static ft_status unpaired(data_item *it)
{
    static const char *const numbers[] = {"ref_logps", "ref_KL_logps", NULL};
    sides x = {.it = it, .key = {"completion"}, .n = 1};
    ft_status rc = FT_OK;
    if (is_instruction(it->rec)) x.key[0] = "output";
    const bool pair = data_has_pair(it->rec), talk = !js_get(it->rec, x.key[0]);
    if (pair)
        it->all = it->apart = true;
    else
        rc = read_label(it);
    if (rc == FT_OK) rc = pair ? pair_sides(it, &x) : talk ? last_turn(&x) : read_sides(&x);
    if (rc == FT_OK) rc = render(&x, encode);
    if (rc == FT_OK && !pair) rc = note_numbers(it, numbers);
    close_sides(&x);
    return rc;
}

/* A label of another kind than true and false is wrong where labels are asked for, and else a key like others. */
static bool is_unpaired(const cJSON *rec, bool asked)
{
    const cJSON *label = js_get(rec, "label") ? js_get(rec, "label") : js_get(rec, "kto_tag");
    const bool answer = js_get(rec, "completion") || js_get(rec, "messages") ||
                        js_get(rec, "conversations") || is_instruction(rec);
    return data_has_pair(rec) || (answer && (asked ? label != NULL : cJSON_IsBool(label)));
}

/* --- the rows ------------------------------------------------------------------------------------------------------ */
static const char *const k_preference[] = {"chosen", "rejected", NULL};
static const char *const r_preference[] = {
    "prompt",  "reference", "margin",           "instruction",        "input",         "system",
    "history", "tools",     "ref_chosen_logps", "ref_rejected_logps", "conversations", NULL};
static const char *const j_preference[] = {
    "tools",    "history", "conversations",    "chat_template_kwargs",
    "messages", "margin",  "ref_chosen_logps", "ref_rejected_logps",
    NULL};
static const char *const t_preference[] = {"prompt", "chosen", "rejected", "reference", NULL};
static const char *const k_unpaired[] = {"label", NULL};
static const char *const r_unpaired[] = {"kto_tag",  "prompt",      "completion",    "chosen",
                                         "rejected", "messages",    "conversations", "system",
                                         "history",  "instruction", "input",         "output",
                                         "tools",    "ref_logps",   "ref_KL_logps",  NULL};
static const char *const j_unpaired[] = {
    "tools", "history", "conversations", "chat_template_kwargs", "messages",
    "label", "kto_tag", "ref_logps",     "ref_KL_logps",         NULL};
static const char *const t_unpaired[] = {"prompt", "completion", "chosen", "rejected", NULL};

const data_format data_format_preference = {
    .name = "preference",
    .keys = k_preference,
    .fits = is_pair,
    .render = preference,
    .reads = r_preference,
    .gives = DATA_PAIRS | DATA_TRIPLES,
    .json = j_preference,
    .turns = t_preference,
    .help =
        "which of two answers is better: the tokens of each after the prompt. Texts, or lists of "
        "messages; without a prompt it is what both begin with. Also instruction (and input) "
        "or conversations with chosen and rejected; margin and reference may stand beside them.",
    .example =
        "{\"prompt\": \"What is 2 + 2?\", \"chosen\": \" It is 4.\", \"rejected\": \" Fish.\"}"};
const data_format data_format_unpaired = {
    .name = "unpaired",
    .keys = k_unpaired,
    .fits = is_unpaired,
    .render = unpaired,
    .reads = r_unpaired,
    .gives = DATA_LABELLED,
    .json = j_unpaired,
    .turns = t_unpaired,
    .help =
        "whether an answer is good (label, or kto_tag): its tokens after the prompt. Or messages "
        "that end with it, or instruction (and input) with output; a preference record is two of "
        "them.",
    .example = "{\"prompt\": \"What is 2 + 2?\", \"completion\": \" It is 4.\", \"label\": true}"};
