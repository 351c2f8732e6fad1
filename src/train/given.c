/* given.c – what the command line says beside a config, or in the place of one: --model, --method, --data and --eval put
 * their values where the config has them, so that everything after this is as if it had been written there. */
#include "train_private.h"

#include <string.h>

/* The text of a path, or a source written as JSON. */
static ft_status read_source(const char *flag, const char *text, cJSON **out)
{
    js_doc doc = {0};
    const char *start = text + strspn(text, " \t\n");
    *out = NULL;
    FT_CHECK(text[0], FT_EUSAGE, "%s: an empty path", flag);
    if (*start != '{' && *start != '[') {
        FT_CHECK(utf8_valid(text, strlen(text)), FT_EUSAGE, "%s: the path is not valid UTF-8",
                 flag);
        *out = cJSON_CreateString(text);
        return *out ? FT_OK : FT_EMEM;
    }
    FT_TRY(js_parse(&doc, text, strlen(text), flag, 1, JS_NO_POSITIONS, FT_EUSAGE));
    *out = doc.root;
    doc.root = NULL;
    js_close(&doc);
    return FT_OK;
}

static ft_status put_sources(cfg_doc *d, const char *key, const char *flag, const char *const *v,
                             int n)
{
    cJSON *list = NULL, *one = NULL;
    if (n == 0) return FT_OK;
    if (n > 1 && !(list = cJSON_CreateArray())) return FT_EMEM;
    for (int i = 0; i < n; i++) {
        ft_status rc = read_source(flag, v[i], &one);
        if (rc == FT_OK && list && !cJSON_AddItemToArray(list, one)) rc = FT_EMEM;
        if (rc != FT_OK) {
            cJSON_Delete(list);
            return rc;
        }
    }
    return cfg_put(d, key, flag, list ? list : one);
}

static ft_status put_text(cfg_doc *d, const char *key, const char *flag, const char *text)
{
    if (!text) return FT_OK;
    FT_CHECK(utf8_valid(text, strlen(text)), FT_EUSAGE, "%s: the value is not valid UTF-8", flag);
    cJSON *value = cJSON_CreateString(text);
    return value ? cfg_put(d, key, flag, value) : FT_EMEM;
}

ft_status train_given_put(cfg_doc *d, const train_given *g)
{
    if (g->model) { /* another model: not one made of a config.json, nor its tokenizer */
        FT_TRY(cfg_drop(d, "model.from_config"));
        FT_TRY(cfg_drop(d, "model.tokenizer"));
    }
    FT_TRY(put_text(d, "model.path", "--model", g->model));
    FT_TRY(put_text(d, "method.type", "--method", g->method));
    FT_TRY(put_sources(d, "data.train", "--data", g->data, g->n_data));
    if (g->eval) FT_TRY(cfg_drop(d, "data.eval_split"));
    return put_sources(d, "data.eval", "--eval", &g->eval, g->eval != NULL);
}

bool train_given_any(const train_given *g)
{
    return g->model || g->method || g->eval || g->n_data > 0;
}
