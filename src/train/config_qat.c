/* config_qat.c – model.qat: a type, and the keys of its row beside it. */
#include "train_private.h"

static void list_types(str_buf *out)
{
    for (int i = 0; pe_qat_at(i); i++) str_printf(out, "%s%s", i ? ", " : "", pe_qat_at(i)->name);
}

/* What it goes with. */
static void check(train_config *c, const cJSON *at)
{
    cfg_doc *d = &c->doc;
    const pe_method *method = c->method;
    if (method && method->quantization)
        cfg_fail(
            d, at, "model.qat",
            "does not go with method.type \"%s\", whose base is quantised already; use \"lora\"",
            method->name);
    else if (c->model.quant)
        cfg_fail(d, at, "model.qat",
                 "does not go with model.quantization: a base in codes has no numbers to round; "
                 "keep one of them");
    else if (method && !method->qat)
        cfg_fail(d, at, "model.qat",
                 "goes with method.type \"full\" and those that add low-rank products (lora, "
                 "loraplus, dora, lorafa, adalora, lora_drop, lotr, vera), not with \"%s\"",
                 method->name);
    else if (method && method->result != PE_MODEL && c->method_head->keep_zeros)
        cfg_fail(
            d, at, "model.qat",
            "does not go with method.keep_zeros over \"%s\", which makes one weight of base and "
            "adapter; use method.type \"full\"",
            method->name);
}

ft_status train_read_qat(train_config *c, arena *mem)
{
    static const char *const also[] = {"type", NULL};
    const cJSON *q = c->model.qat_keys, *type = cJSON_IsObject(q) ? js_get(q, "type") : NULL;
    if (!q || cJSON_IsNull(q)) return FT_OK;
    const pe_qat_row *row = cJSON_IsString(type) ? pe_qat_by_name(type->valuestring) : NULL;
    if (!row) {
        str_buf known = {0};
        list_types(&known);
        cfg_fail(&c->doc, type ? type : q, type ? "model.qat.type" : "model.qat",
                 "must be an object with a \"type\" that this build knows (%s)",
                 known.data ? known.data : "");
        str_free(&known);
        return FT_OK;
    }
    void *cfg = arena_get(mem, row->cfg_size + 1);
    if (!cfg) return FT_EMEM;
    c->model.qat = (pe_qat_use){.row = row, .cfg = cfg};
    FT_TRY(cfg_read(&c->doc, q, "model.qat", row->fields, cfg, also));
    if (row->check) row->check(&c->doc, q, cfg);
    check(c, q);
    return FT_OK;
}
