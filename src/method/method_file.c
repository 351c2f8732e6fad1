/* method_file.c – ft_method.json: what a result needs to be known of how it was trained, and no format of others has a place
 * for. PEFT does not read it. */
#include "ft/method.h"
#include "method_private.h"

static const js_key keys[] = {
    {"keep_zeros", JS_READ, NULL, NULL},
    {"qat", JS_IDLE, NULL, NULL}, /* of the folder of a model */
    {NULL, JS_IDLE, NULL, NULL},
};

static ft_status read_keys(pe_ctx *c, const js_doc *d)
{
    bool keeps;
    FT_CHECK(cJSON_IsObject(d->root), FT_EDATA, "%s: not a JSON object", ft_shows(d->name));
    FT_TRY(js_check_keys(d, d->root, keys, FT_EDATA));
    FT_TRY(js_get_bool(d, d->root, "keep_zeros", false, &keeps));
    c->keep_zeros = c->keep_zeros || keeps;
    return FT_OK;
}

ft_status pe_read_method(pe_ctx *c, const char *dir)
{
    js_doc d = {0};
    char *text;
    size_t len;
    path_kind kind;
    const char *path = path_join(c->mem, dir, PE_METHOD_FILE);
    if (!path) return FT_EMEM;
    FT_TRY(path_look(path, &kind));
    if (kind != PATH_FILE) return FT_OK;
    FT_TRY(file_read(&text, &len, path, (size_t)1 << 20));
    ft_status rc = js_parse(&d, text, len, path, 1, JS_STRICT, FT_EDATA);
    if (rc == FT_OK) rc = read_keys(c, &d);
    js_close(&d);
    ft_free(text);
    return rc;
}

ft_status pe_save(const pe_ctx *c, const char *dir)
{
    static const char text[] = "{\"keep_zeros\": true}\n";
    str_buf path = {0};
    FT_TRY(c->method->save(c, dir));
    if (!c->keep_zeros) return FT_OK;
    str_printf(&path, "%s/" PE_METHOD_FILE, dir);
    ft_status rc = str_ok(&path);
    if (rc == FT_OK) rc = file_write(path.data, text, sizeof text - 1);
    str_free(&path);
    return rc;
}
