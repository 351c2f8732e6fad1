/* method_file.c – ft_method.json: what a result needs to be known of how it was trained, and no format of others has a place
 * for. PEFT does not read it. */
#include "ft/method.h"
#include "method_private.h"

static const js_key keys[] = {
    {"keep_zeros", JS_READ, NULL, NULL},
    {"qat", JS_READ, NULL, NULL},
    {NULL, JS_IDLE, NULL, NULL},
};

static ft_status parse(pe_note *n, const char *path)
{
    size_t len;
    FT_TRY(file_read(&n->text, &len, path, (size_t)1 << 20));
    FT_TRY(js_parse(&n->doc, n->text, len, path, 1, JS_STRICT, FT_EDATA));
    const cJSON *root = n->doc.root, *qat = js_get(root, "qat");
    FT_CHECK(cJSON_IsObject(root), FT_EDATA, "%s: not a JSON object", ft_shows(path));
    FT_TRY(js_check_keys(&n->doc, root, keys, FT_EDATA));
    FT_TRY(js_get_bool(&n->doc, root, "keep_zeros", false, &n->keep_zeros));
    if (qat && !cJSON_IsNull(qat) && !cJSON_IsObject(qat))
        return js_fail(&n->doc, qat, FT_EDATA, "qat", "must be an object");
    n->qat = cJSON_IsObject(qat) ? qat : NULL;
    return FT_OK;
}

ft_status pe_note_read(pe_note *n, const char *dir, arena *mem)
{
    path_kind folder, kind;
    *n = (pe_note){0};
    FT_TRY(path_look(dir, &folder));
    if (folder != PATH_FOLDER) return FT_OK; /* a .gguf has none beside it */
    const char *path = path_join(mem, dir, PE_METHOD_FILE);
    if (!path) return FT_EMEM;
    FT_TRY(path_look(path, &kind));
    return kind == PATH_FILE ? parse(n, path) : FT_OK;
}

void pe_note_close(pe_note *n)
{
    js_close(&n->doc);
    ft_free(n->text);
    *n = (pe_note){0};
}

ft_status pe_note_write(bool keep_zeros, const cJSON *qat, const char *dir)
{
    str_buf path = {0}, text = {0};
    str_printf(&path, "%s/" PE_METHOD_FILE, dir);
    if (keep_zeros) str_adds(&text, "{\"keep_zeros\": true");
    if (qat) {
        str_adds(&text, keep_zeros ? ", \"qat\": " : "{\"qat\": ");
        js_print(&text, qat, false);
    }
    str_adds(&text, "}\n");
    ft_status rc = str_ok(&path);
    if (rc == FT_OK) rc = str_ok(&text);
    if (rc == FT_OK) rc = file_write(path.data, text.data, text.len);
    str_free(&path);
    str_free(&text);
    return rc;
}

ft_status pe_read_method(pe_ctx *c, const char *dir)
{
    pe_note n;
    ft_status rc = pe_note_read(&n, dir, c->mem);
    c->keep_zeros = c->keep_zeros || n.keep_zeros;
    pe_note_close(&n);
    return rc;
}
