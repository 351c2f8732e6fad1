/* classifier.c – sequence classifiers of one label, which reward models are: a family's layers with a head [1, hidden_size] in
 * the place of the one over the vocabulary.
 *
 *   r = score · h,  h after the last norm, at the last token of a sequence that is not pad_token_id
 * Source: LlamaForSequenceClassification and its like in transformers. Such a head is drawn, trained, saved and replaced by an
 * adapter as any other parameter is; what differs is its name and shape, and some members of config.json. */
#include "model_private.h"

#include <stdio.h>
#include <string.h>

#define KIND "ForSequenceClassification"

const model_name model_score_name = {"head", "score", "cls.output"};

static const char *architecture(const cJSON *root)
{
    const char *arch = cJSON_GetStringValue(cJSON_GetArrayItem(js_get(root, "architectures"), 0));
    return arch ? arch : "";
}

/* transformers' number of labels: of the names, else as given, else two. */
static int64_t labels(const cJSON *root)
{
    const cJSON *names = js_get(root, "id2label"), *n = js_get(root, "num_labels");
    if (cJSON_IsObject(names)) return cJSON_GetArraySize(names);
    if (!cJSON_IsNumber(n)) return 2;
    return n->valuedouble >= 0 && n->valuedouble < 1e9 ? (int64_t)n->valuedouble : -1;
}

static ft_status check_labels(const js_doc *d)
{
    const char *key = js_get(d->root, "id2label") ? "id2label" : "num_labels";
    const int64_t n = labels(d->root);
    if (n == 1) return FT_OK;
    return js_fail(d, js_get(d->root, key), FT_EDATA, key,
                   "%s has %lld labels (num_labels); ft knows classifiers of one, whose logit is a "
                   "reward",
                   ft_shows(architecture(d->root)), (long long)n);
}

ft_status model_read_end(model *m, const js_doc *d, model_end end)
{
    const char *arch = architecture(d->root);
    const bool is = str_ends(arch, KIND);
    FT_CHECK(!is || end != MODEL_TOKENS, FT_EDATA,
             "%s: is a sequence classifier (%s), a reward model: it gives texts a number and no "
             "tokens; ft score, rewards of type model and objective.type \"reward\" read it",
             ft_shows(m->path), ft_shows(arch));
    FT_CHECK(is || end != MODEL_REWARD, FT_EDATA,
             "%s: is no reward model (%s); one is a folder of a sequence classifier, as "
             "objective.type \"reward\" makes it",
             ft_shows(m->path), arch[0] ? ft_shows(arch) : "a language model");
    m->scores = is || end == MODEL_NEW_REWARD;
    if (!m->scores) return FT_OK;
    if (is) FT_TRY(check_labels(d));
    m->new_head = end == MODEL_NEW_REWARD;
    m->d.tied = false;
    m->pad_token = -1;
    if (cJSON_IsNull(js_get(d->root, "pad_token_id"))) return FT_OK;
    return js_get_int(d, d->root, "pad_token_id", -1, -1, MAX_DIM, &m->pad_token);
}

int64_t model_reward_row(const model *m, const int32_t *id, int64_t n)
{
    int64_t last = n - 1;
    while (last > 0 && id[last] == m->pad_token) last--;
    return last;
}

void model_pad_with(model *m, int32_t pad, int32_t eos)
{
    m->pad_token = pad >= 0 ? pad : eos;
}

/* LlamaForCausalLM → LlamaForSequenceClassification */
static void put_architecture(const model *m, str_buf *out)
{
    const char *of = m->family->hf_arch, *end = strstr(of, "ForCausalLM");
    char text[96];
    if (!end) end = strstr(of, "LMHeadModel");
    snprintf(text, sizeof text, "[\n    \"%.*s" KIND "\"\n  ]", (int)(end - of), of);
    js_set_member(out, "architectures", text);
}

void model_put_labels(const model *m, const cJSON *root, str_buf *out)
{
    char number[32];
    const cJSON *pad = js_get(root, "pad_token_id");
    const bool is = str_ends(architecture(root), KIND);
    if (!is) put_architecture(m, out);
    if (!is || labels(root) != 1 || !js_get(root, "id2label")) {
        js_set_member(out, "id2label", "{\n    \"0\": \"LABEL_0\"\n  }");
        js_set_member(out, "label2id", "{\n    \"LABEL_0\": 0\n  }");
        if (js_get(root, "num_labels")) js_drop_member(out, "num_labels");
    }
    if (m->pad_token < 0 || (cJSON_IsNumber(pad) && pad->valuedouble == (double)m->pad_token))
        return;
    snprintf(number, sizeof number, "%lld", (long long)m->pad_token);
    js_set_member(out, "pad_token_id", number);
}
