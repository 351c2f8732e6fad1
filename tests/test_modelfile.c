/* test_modelfile.c – Modelfiles for Ollama: what stands in them, and their Go templates, run by a small interpreter of what
 * they use, against what the model's own template renders. */
#include "support.h"
#include "verbs.h"

#include "ft/tool.h"

/* --- Go's text/template, as far as it is used ---------------------------------------------------------------- */

typedef struct turn {
    const char *role, *content;
} turn;
typedef struct go {
    const turn *turns; /* n of them */
    int n;
    const char *system, *prompt, *response;
    bool later; /* $later */
    str_buf out;
} go;

static bool is(const char *action, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(action, word, n) == 0;
}

static const char *value(const go *g, const turn *dot, const char *a, size_t n)
{
    const struct {
        const char *name, *value;
    } fields[] = {{".System", g->system},
                  {"$.System", g->system},
                  {".Prompt", g->prompt},
                  {".Response", g->response},
                  {".Role", dot->role},
                  {".Content", dot->content},
                  {".Messages", g->n > 0 ? "yes" : ""},
                  {"$later", g->later ? "yes" : ""}};
    for (size_t i = 0; i < FT_COUNT_OF(fields); i++)
        if (is(a, n, fields[i].name)) return fields[i].value ? fields[i].value : "";
    print_error("no field %.*s\n", (int)n, a);
    fail();
    return "";
}

static bool truth(const go *g, const turn *dot, const char *a, size_t n)
{
    if (n > 4 && memcmp(a, "not ", 4) == 0) return !value(g, dot, a + 4, n - 4)[0];
    if (n > 9 && memcmp(a, "eq .Role ", 9) == 0) {
        const char *role = value(g, dot, ".Role", 5);
        return strlen(role) == n - 11 && memcmp(role, a + 10, n - 11) == 0;
    }
    return value(g, dot, a, n)[0];
}

static void put_string(str_buf *out, const char *a, size_t n)
{
    for (size_t i = 1; i + 1 < n; i++) {
        if (a[i] == '\\' && a[i + 1] == 'U') {
            const unsigned c = (unsigned)strtoul(a + i + 2, NULL, 16);
            assert_true(c >= 0x80 && c < 0x800); /* what the tests have */
            str_addc(out, (char)(0xc0 | c >> 6));
            str_addc(out, (char)(0x80 | (c & 0x3f)));
            i += 9;
        } else {
            if (a[i] == '\\') i++;
            str_addc(out, a[i]);
        }
    }
}

/* The next action from p on; text before it goes out. NULL: the end. */
static const char *next(go *g, const char *p, bool live, const char **a, size_t *n)
{
    const char *open = strstr(p, "{{"), *close = open ? strstr(open, "}}") : NULL;
    if (live) str_add(&g->out, p, open ? (size_t)(open - p) : strlen(p));
    if (!open) return NULL;
    assert_non_null(close);
    *a = open + 2 + strspn(open + 2, " ");
    *n = (size_t)(close - *a);
    while (*n > 0 && (*a)[*n - 1] == ' ') --*n;
    return close + 2;
}

/* From p to the "end" or "else" that belongs to it, which is left in *a, *n. */
static const char *run(go *g, const char *p, const turn *dot, bool live, const char **a, size_t *n);

static const char *branch(go *g, const char *p, const turn *dot, bool live, const char *a, size_t n)
{
    bool done = false;
    while (!is(a, n, "end")) { /* a is "if X", "else if X" or "else" */
        const bool last = is(a, n, "else");
        const size_t skip = last ? 0 : a[0] == 'e' ? strlen("else if ") : strlen("if ");
        const bool take = live && !done && (last || truth(g, dot, a + skip, n - skip));
        p = run(g, p, dot, take, &a, &n);
        assert_non_null(p);
        done = done || take;
    }
    return p;
}

static const char *run(go *g, const char *p, const turn *dot, bool live, const char **a, size_t *n)
{
    while ((p = next(g, p, live, a, n))) {
        const char *act = *a;
        const size_t len = *n;
        if (is(act, len, "end") || (len >= 4 && memcmp(act, "else", 4) == 0)) return p;
        if (len > 3 && memcmp(act, "if ", 3) == 0) {
            p = branch(g, p, dot, live, act, len);
        } else if (is(act, len, "range .Messages")) {
            const char *body = p;
            for (int i = 0; i < (live && g->n > 0 ? g->n : 1); i++)
                p = run(g, body, g->n > 0 ? &g->turns[i] : dot, live && g->n > 0, a, n);
            assert_true(p && is(*a, *n, "end"));
        } else if (!live) {
            continue;
        } else if (act[0] == '"') {
            put_string(&g->out, act, len);
        } else if (len > 9 && memcmp(act, "$later ", 7) == 0) {
            g->later = memcmp(act + len - 4, "true", 4) == 0;
        } else {
            str_adds(&g->out, value(g, dot, act, len));
        }
    }
    return NULL;
}

static const char *go_render(const char *text, const turn *turns, int n, const char *system,
                             const char *prompt)
{
    static const turn nobody;
    const char *a;
    size_t len;
    go g = {.turns = turns, .n = n, .system = system, .prompt = prompt};
    assert_null(run(&g, text, &nobody, true, &a, &len));
    char *copy = test_alloc(g.out.len + 1);
    if (g.out.len) memcpy(copy, g.out.data, g.out.len);
    str_free(&g.out);
    return copy;
}

/* --- models -------------------------------------------------------------------------------------------------- */

/* data/tiny with a template and settings of its own. */
static const char *model_with(const char *jinja, bool adds_bos, const char *generation)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json"};
    static const char processor[] =
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
        "\"<|endoftext|>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{"
        "\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<|endoftext|>\":{\"id\":"
        "\"<|endoftext|>\",\"ids\":[0],\"tokens\":[\"<|endoftext|>\"]}}}";
    static const char settings[] =
        "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"bos_token\":\"<|endoftext|>\","
        "\"eos_token\":\"<|im_end|>\"}";
    const char *dir = test_path("model");
    char path[600], from[600];
    size_t n;
    assert_ok(dir_remove(dir));
    assert_ok(dir_make(dir));
    for (size_t i = 0; i < FT_COUNT_OF(files); i++) {
        snprintf(from, sizeof from, "data/tiny/%s", files[i]);
        char *text = test_read_file(source_path(from), &n);
        char *at = strstr(files[i], "tokenizer") ? strstr(text, "\"post_processor\"") : NULL;
        str_buf s = {0};
        if (at && adds_bos) {
            const char *end = strstr(at, "\"decoder\""); /* the member behind it */
            assert_non_null(end);
            str_add(&s, text, (size_t)(at - text));
            str_printf(&s, "%s,%s", processor, end);
        } else {
            str_add(&s, text, n);
        }
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        test_write_file(path, s.data, s.len);
        str_free(&s);
    }
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    test_write_file(path, settings, sizeof settings - 1);
    snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
    test_write_file(path, jinja, strlen(jinja));
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    if (generation) test_write_file(path, generation, strlen(generation));
    return dir;
}

/* The Modelfile beside the .gguf of a model, and the name of its template in *name ("null": none). */
static char *modelfile(const char *folder, char name[32])
{
    str_buf out = {0};
    const tool_convert_options opt = {.model = folder,
                                      .out = test_path("of_it.gguf"),
                                      .force = true,
                                      .json = true,
                                      .modelfile = true};
    assert_ok(tool_convert(&opt, &(tool_sink){test_append, &out}));
    const char *at = strstr(out.data, "\"template\":");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "\"template\":%*[\"]%31[a-z0-9]", name), at[11] == '"' ? 1 : 0);
    if (at[11] != '"') snprintf(name, 32, "null");
    str_free(&out);
    return test_read_file(test_path("Modelfile"), NULL);
}

static char *template_of(char *file)
{
    char *at = strstr(file, "\nTEMPLATE \"\"\"");
    assert_non_null(at);
    at += strlen("\nTEMPLATE \"\"\"");
    char *end = strstr(at, "\"\"\"");
    assert_non_null(end);
    assert_string_equal(end, "\"\"\"\n"); /* the last line */
    *end = '\0';
    return at;
}

/* What the model's template renders where an answer is asked for, without the BOS that the tokenizer adds. */
static char *jinja_render(const char *folder, const turn *turns, int n, const char *bos)
{
    tok_tokenizer *t;
    chat *c;
    js_doc d;
    str_buf json = {0}, out = {0};
    for (int i = 0; i < n; i++) {
        str_printf(&json, "%s{\"role\":\"%s\",\"content\":", i ? "," : "[", turns[i].role);
        str_json(&json, turns[i].content, strlen(turns[i].content));
        str_addc(&json, '}');
    }
    str_addc(&json, ']');
    assert_ok(tok_open(&t, folder));
    assert_ok(chat_open(&c, t));
    assert_ok(js_parse(&d, json.data, json.len, "", 1, JS_NO_POSITIONS, FT_EDATA));
    assert_ok(chat_render(c, &(chat_input){.messages = d.root, .add_generation_prompt = true}, &out,
                          NULL));
    const size_t skip = str_starts(out.data, bos) ? strlen(bos) : 0;
    char *copy = test_alloc(out.len + 1);
    memcpy(copy, out.data + skip, out.len - skip);
    js_close(&d);
    chat_close(c);
    tok_close(t);
    str_free(&json);
    str_free(&out);
    return copy;
}

static void check_same(const char *folder, const char *go_text, bool adds_bos)
{
    static const turn talks[][6] = {
        {{"user", "Hi {{x}}"}},
        {{"system", "Be\n\nbrief."}, {"user", "a \"b\""}},
        {{"user", "a"}, {"assistant", "b"}, {"user", "c"}},
        {{"system", "s"},
         {"user", "a"},
         {"assistant", "b\nc"},
         {"user", "d"},
         {"assistant", "e"},
         {"user", "f"}},
    };
    const char *bos = adds_bos ? "<|endoftext|>" : "\n none";
    for (size_t i = 0; i < FT_COUNT_OF(talks); i++) {
        int n = 0;
        while (n < 6 && talks[i][n].role) n++;
        const char *system = strcmp(talks[i][0].role, "system") == 0 ? talks[i][0].content : "";
        const char *want = jinja_render(folder, talks[i], n, bos);
        assert_string_equal(go_render(go_text, talks[i], n, system, ""), want);
        if (n <= 2) /* as who gives no messages sees it */
            assert_string_equal(go_render(go_text, NULL, 0, system, talks[i][n - 1].content), want);
    }
}

/* --- tests ---------------------------------------------------------------------------------------------------- */

static void every_name_renders_in_go(void **state)
{
    (void)state;
    for (int i = 0; chat_names[i]; i++) {
        for (int adds = 0; adds < 2; adds++) {
            char name[32];
            const char *folder = model_with(chat_named(chat_names[i]), adds, NULL);
            char *file = modelfile(folder, name);
            assert_string_equal(name, chat_names[i]);
            check_same(folder, template_of(file), adds);
        }
    }
}

/* A system message of the model's own, where none is given. */
static void own_system_messages_go_along(void **state)
{
    (void)state;
    static const char *const own[] = {"You are \\\"Tiny\\\".", "One {{x}}\\n\\ntwo\\u00a0 three"};
    for (int i = 0; chat_names[i]; i++) {
        for (size_t k = 0; k < FT_COUNT_OF(own); k++) {
            char name[32];
            str_buf jinja = {0};
            str_printf(&jinja,
                       "{%% if messages[0]['role'] != 'system' %%}{%% set messages = [{'role': "
                       "'system', 'content': \"%s\"}] + messages %%}{%% endif %%}%s",
                       own[k], chat_named(chat_names[i]));
            const char *folder = model_with(jinja.data, k > 0, NULL);
            char *file = modelfile(folder, name);
            assert_string_equal(name, chat_names[i]);
            check_same(folder, template_of(file), k > 0);
            str_free(&jinja);
        }
    }
}

static void other_templates_are_told(void **state)
{
    (void)state;
    static const char *const others[] = {
        "{% for m in messages %}[{{ m.role }}]: {{ m.content }}\n{% endfor %}",
        "{{ raise_exception('no') }}",
        ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | upper }}<|im_end|>\n"
         "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"),
    };
    for (size_t i = 0; i < FT_COUNT_OF(others); i++) {
        char name[32];
        const char *file = modelfile(model_with(others[i], false, NULL), name);
        assert_string_equal(name, "null");
        assert_null(strstr(file, "\nTEMPLATE"));
        assert_non_null(strstr(file, "\n# No TEMPLATE: "));
    }
}

static void parameters_are_those_of_the_model(void **state)
{
    (void)state;
    static const struct {
        const char *generation, *lines;
    } cases[] = {
        {"{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95, \"min_p\": "
         "0.05, "
         "\"repetition_penalty\": 1.1, \"max_new_tokens\": 512, \"typical_p\": 0.9}",
         "PARAMETER temperature 0.6\nPARAMETER top_k 20\nPARAMETER top_p 0.95\nPARAMETER min_p "
         "0.05\n"
         "PARAMETER repeat_penalty 1.1\nPARAMETER num_predict 512\n"},
        {"{\"do_sample\": false, \"temperature\": 0.6, \"repetition_penalty\": 1}",
         "PARAMETER temperature 0\nPARAMETER repeat_penalty 1\n"},
        {"{\"temperature\": null, \"top_k\": \"x\", \"top_p\": 0.5}", "PARAMETER top_p 0.5\n"},
        {"{\"eos_token_id\": 0}", ""},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        char name[32], want[600];
        const char *file =
            modelfile(model_with(chat_named("chatml"), false, cases[i].generation), name);
        const char *last = NULL;
        for (const char *p = file; (p = strstr(p, "PARAMETER stop ")); p++) last = p;
        assert_non_null(last);
        assert_non_null(strstr(file, "\nFROM ./of_it.gguf\n"));
        assert_non_null(strstr(file, "\nPARAMETER stop \"<|im_end|>\"\n"));
        snprintf(want, sizeof want, "%s# the chat template", cases[i].lines);
        assert_true(str_starts(strchr(last, '\n') + 1, want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_renders_in_go),
        cmocka_unit_test(own_system_messages_go_along),
        cmocka_unit_test(other_templates_are_told),
        cmocka_unit_test(parameters_are_those_of_the_model),
    };
    return cmocka_run_group_tests_name("modelfile", tests, NULL, NULL);
}
