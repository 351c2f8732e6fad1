/* A Jinja template, with variables of every kind; spans lie in the output, and the output is bounded. */
#include "fuzz.h"

#include "ft/template.h"

static const char vars[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"You are.\"},{\"role\":\"user\",\"content\":"
    "\"h\\u00e4i <b>\"},{\"role\":\"assistant\",\"content\":\"yo\\n\",\"tool_calls\":[{\"type\":"
    "\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1,\"b\":[1.5,null,true]}}}]}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}}}],\"add_generation_prompt\":true,"
    "\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"n\":3,\"f\":2.5,\"s\":\"a,b c\",\"l\":[3,1,2],"
    "\"d\":{\"k\":\"v\",\"z\":0}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static js_doc d;
    tpl_template *t = NULL;
    str_buf out = {0};
    tpl_spans sp = {0};
    if (!d.root) fz_must(js_parse(&d, vars, sizeof vars - 1, "vars", 1, JS_STRICT, FT_EDATA));
    char *text = fz_exact(data, size);
    ft_status rc = tpl_open(&t, text, size, "x.jinja");
    fz_status(rc);
    if (rc == FT_OK) {
        rc = tpl_render_spans(t, d.root, &out, &sp);
        fz_status(rc);
        FZ_CHECK(out.len <= (64u << 20));
        for (int64_t i = 0; rc == FT_OK && i < sp.n; i++) {
            const tpl_span *v = &sp.v[i];
            FZ_CHECK(0 <= v->from && v->from <= v->to && v->to <= (int64_t)out.len);
        }
        if (rc == FT_OK && out.len) fz_touch(out.data, out.len);
    }
    str_free(&out);
    ft_free(sp.v);
    tpl_close(t);
    free(text);
    return 0;
}
