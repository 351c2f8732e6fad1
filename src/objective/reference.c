/* reference.c – opens what a policy is held to: the base without the adapter, which costs no second copy, the adapter as it
 * was loaded, or another model or adapter. Of full training the base's own values stay mapped. */
#include "reference.h"

#include "ft/io.h"

#include <string.h>

static ft_status open_model(obj_reference *r, const obj_ctx *c, const char *path, int64_t longest,
                            size_t *bytes)
{
    const model_options mo = {.path = path};
    FT_TRY(model_open(&r->model, &mo));
    const model_dims *its = &r->model->d;
    FT_CHECK(c->m->d.vocab_size == its->vocab_size, FT_EDATA,
             "%s: the reference has a vocabulary of %lld tokens, the model of %lld: both must read "
             "the same ids",
             ft_shows(path), (long long)its->vocab_size, (long long)c->m->d.vocab_size);
    FT_CHECK(!r->model->position || longest <= its->max_position, FT_EDATA,
             "%s: the reference has %lld positions, a sequence has up to %lld tokens; lower "
             "data.max_length",
             ft_shows(path), (long long)its->max_position, (long long)longest);
    *bytes += model_bytes(r->model);
    return FT_OK;
}

static ft_status open_adapter(obj_reference *r, const obj_ctx *c, const char *path, size_t *bytes)
{
    FT_TRY(pe_open_adapter(&r->adapter, c->m, path));
    r->over = &r->adapter->over;
    const nn_store *s = &r->adapter->store;
    *bytes += (size_t)(s->count + s->state_count + s->derived_count) * sizeof(float);
    return FT_OK;
}

ft_status obj_reference_open(obj_reference *r, const obj_ctx *c, const char *told, int64_t longest,
                             size_t *bytes)
{
    path_kind kind;
    *r = (obj_reference){0};
    if (told ? strcmp(told, "base") == 0 : !c->init_from) return FT_OK;
    if (!told) return open_adapter(r, c, c->init_from, bytes);
    const char *config = path_join(c->mem, told, "adapter_config.json");
    if (!config) return FT_EMEM;
    FT_TRY(path_look(config, &kind));
    return kind == PATH_FILE ? open_adapter(r, c, told, bytes)
                             : open_model(r, c, told, longest, bytes);
}

void obj_reference_close(obj_reference *r)
{
    pe_close(r->adapter);
    model_close(r->model);
    *r = (obj_reference){0};
}
