/* named.c – chat templates that are called by a name: those that data sets and their models are usually written in.
 *
 * They stand here as the Jinja that is written beside what was trained with them, for transformers and llama.cpp. All text is
 * in strings, so that settings of white space do not matter; special tokens that a tokenizer has not are nothing.
 * Where a template has no turn for a system message, it goes into the first user's, and one that has no such turn to go to
 * is an error: nothing is lost in silence. */
#include "ft/template.h"

#include <string.h>

/* `system`, none where there is none, and the turns after it. */
#define SYSTEM                                                                                     \
    "{% set ns = namespace(system=none) %}"                                                        \
    "{% if messages[0]['role'] == 'system' %}"                                                     \
    "{% set ns.system = messages[0]['content'] %}{% set turns = messages[1:] %}"                   \
    "{% else %}{% set turns = messages %}{% endif %}"
#define TURNS "{% for message in turns %}"
#define USER "{% if message['role'] == 'user' %}"
#define ASSISTANT "{% elif message['role'] == 'assistant' %}"
/* of the loop; placed: the system message has gone into a user's turn */
#define OTHERS(name)                                                                               \
    "{% else %}{{ raise_exception('" name                                                          \
    ": there is no place for a turn of role ' + message['role']) }}{% endif %}{% endfor %}"
#define PLACED(name)                                                                               \
    "{% if turns and ns.system is not none %}{{ raise_exception('" name                            \
    ": the system message goes into the first turn of the user, and there is none') }}"            \
    "{% endif %}"
#define ASK(text) "{% if add_generation_prompt %}{{ " text " }}{% endif %}"

/* A turn of calls alone has none. */
#define CONTENT "message['content'] | default('', true)"

static const struct {
    const char *name, *help, *text;
} rows[] = {
    {"chatml", "Qwen, SmolLM2 and many others",
     "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
     "" CONTENT " "
     "+ '<|im_end|>\\n' }}{% endfor %}" ASK("'<|im_start|>assistant\\n'")},
    {"llama2", "Llama 2 chat",
     SYSTEM TURNS USER
     "{{ bos_token }}{{ '[INST] ' }}"
     "{% if ns.system is not none %}{{ '<<SYS>>\\n' + ns.system | trim + '\\n<</SYS>>\\n\\n' }}"
     "{% set ns.system = none %}{% endif %}"
     "{{ " CONTENT " | trim + ' [/INST]' }}" ASSISTANT "{{ ' ' + " CONTENT
     " | trim + ' ' }}{{ eos_token }}" OTHERS("llama2") PLACED("llama2")},
    {"llama3", "Llama 3 and later",
     "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
     "'<|end_header_id|>\\n\\n' + " CONTENT " | trim + '<|eot_id|>' }}{% endfor %}" ASK(
         "'<|start_header_id|>assistant<|end_header_id|>\\n\\n'")},
    {"mistral", "Mistral and Mixtral instruct",
     SYSTEM "{{ bos_token }}" TURNS USER "{{ '[INST] ' }}"
            "{% if ns.system is not none %}{{ ns.system + '\\n\\n' }}"
            "{% set ns.system = none %}{% endif %}"
            "{{ " CONTENT " + '[/INST]' }}" ASSISTANT "{{ ' ' + " CONTENT
            " }}{{ eos_token }}" OTHERS("mistral") PLACED("mistral")},
    {"gemma", "Gemma",
     SYSTEM "{{ bos_token }}" TURNS USER "{{ '<start_of_turn>user\\n' }}"
            "{% if ns.system is not none %}{{ ns.system | trim + '\\n\\n' }}"
            "{% set ns.system = none %}{% endif %}"
            "{{ " CONTENT " | trim + '<end_of_turn>\\n' }}" ASSISTANT
            "{{ '<start_of_turn>model\\n' + " CONTENT " | trim + '<end_of_turn>\\n' }}" OTHERS(
                "gemma") PLACED("gemma") ASK("'<start_of_turn>model\\n'")},
    {"phi3", "Phi-3",
     "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + " CONTENT " + "
     "'<|end|>\\n' }}{% endfor %}" ASK("'<|assistant|>\\n'")},
    {"zephyr", "Zephyr and TinyLlama chat",
     "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + " CONTENT " }}"
     "{{ eos_token }}{{ '\\n' }}{% endfor %}" ASK("'<|assistant|>\\n'")},
    {"alpaca", "Stanford's instructions",
     SYSTEM "{% if ns.system is none %}{{ 'Below is an instruction that describes a task. Write a "
            "response that appropriately completes the request.' }}{% else %}{{ ns.system }}"
            "{% endif %}{{ '\\n\\n' }}" TURNS USER "{{ '### Instruction:\\n' + " CONTENT
            " + '\\n\\n' }}" ASSISTANT "{{ '### Response:\\n' + " CONTENT
            " }}{{ eos_token }}{{ '\\n\\n' }}" OTHERS("alpaca") ASK("'### Response:\\n'")},
    {"vicuna", "Vicuna",
     SYSTEM "{% if ns.system is none %}{{ \"A chat between a curious user and an artificial "
            "intelligence assistant. The assistant gives helpful, detailed, and polite answers to "
            "the user's questions.\" }}{% else %}{{ ns.system }}{% endif %}" TURNS USER
            "{{ ' USER: ' + " CONTENT " }}" ASSISTANT "{{ ' ASSISTANT: ' + " CONTENT
            " }}{{ eos_token }}" OTHERS("vicuna") ASK("' ASSISTANT:'")},
};
const char *const chat_names[] = {"chatml", "llama2", "llama3", "mistral", "gemma",
                                  "phi3",   "zephyr", "alpaca", "vicuna",  NULL};

const char *chat_named_help(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++)
        if (strcmp(rows[i].name, name) == 0) return rows[i].help;
    return NULL;
}

const char *chat_named(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++)
        if (strcmp(rows[i].name, name) == 0) return rows[i].text;
    return NULL;
}

/* --- special tokens that are none ----------------------------------------------------------------------------- */

/* Length of what is written as a special token at p: <|name|>, or one of a few names in angle brackets; 0: nothing is. */
static size_t special_at(const char *p)
{
    static const char *const others[] = {"<start_of_turn>", "<end_of_turn>", "<s>", "</s>",
                                         "<bos>",           "<eos>"};
    enum { LONGEST = 48 };
    if (p[0] == '<' && p[1] == '|') {
        size_t n = 2 + strcspn(p + 2, "|<>'\"\\ \n{}");
        return n > 2 && n < LONGEST && p[n] == '|' && p[n + 1] == '>' ? n + 2 : 0;
    }
    for (size_t i = 0; i < FT_COUNT_OF(others); i++)
        if (str_starts(p, others[i])) return strlen(others[i]);
    return 0;
}

static ft_status note_unknown(const tok_tokenizer *t, const char *text, size_t n, str_buf *list)
{
    tok_ids ids = {0};
    str_buf shown = {0};
    ft_status rc = tok_encode(t, text, n, false, &ids);
    str_printf(&shown, "%s", ft_show(text, n));
    if (rc == FT_OK) rc = str_ok(&shown);
    if (rc == FT_OK && ids.n != 1 && !(list->data && strstr(list->data, shown.data)))
        str_printf(list, "%s%s", list->len ? ", " : "", shown.data);
    tok_ids_free(&ids);
    str_free(&shown);
    return rc;
}

/* A conversation through the template, for the tokens whose names it puts together. */
static ft_status try_out(const tok_tokenizer *t, str_buf *out)
{
    static const char talk[] = "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\","
                               "\"content\":\"U\"},{\"role\":\"assistant\",\"content\":\"A\"}]";
    js_doc d;
    chat *c;
    FT_TRY(chat_open(&c, t));
    ft_status rc = js_parse(&d, talk, sizeof talk - 1, "", 1, JS_NO_POSITIONS, FT_EINTERNAL);
    if (rc == FT_OK) {
        rc = chat_render(c, &(chat_input){.messages = d.root, .add_generation_prompt = true}, out,
                         NULL);
        js_close(&d);
        if (rc == FT_EDATA) { /* it wants other messages: told where it is used */
            ft_error_clear();
            rc = FT_OK;
        }
    }
    chat_close(c);
    return rc;
}

static ft_status warn_unknown(const tok_tokenizer *t, const char *given, const char *text)
{
    str_buf list = {0}, tried = {0};
    ft_status rc = try_out(t, &tried);
    const char *const texts[] = {text, tried.data ? tried.data : ""};
    for (size_t k = 0; k < FT_COUNT_OF(texts); k++) {
        for (const char *p = texts[k]; rc == FT_OK && *p;) {
            size_t n = special_at(p);
            if (n > 0) rc = note_unknown(t, p, n, &list);
            p += n > 0 ? n : 1;
        }
    }
    if (rc == FT_OK) rc = str_ok(&list);
    if (rc == FT_OK && list.len > 0)
        log_warn("chat template %s: %s: no tokens of the model; they are tokenised as text",
                 ft_shows(given), list.data);
    str_free(&list);
    str_free(&tried);
    return rc;
}

/* --- in use --------------------------------------------------------------------------------------------------- */

static ft_status unknown(const char *given)
{
    str_buf names = {0};
    const char *near = cfg_nearest(given, chat_names);
    for (int i = 0; chat_names[i]; i++) str_printf(&names, "%s%s", i ? ", " : "", chat_names[i]);
    ft_status rc = str_ok(&names);
    if (rc == FT_OK)
        rc = ft_fail(FT_ENOINPUT, "chat template %s: no such file, and none of the names %s%s%s%s",
                     ft_shows(given), names.data, near ? "; did you mean \"" : "", near ? near : "",
                     near ? "\"?" : "");
    str_free(&names);
    return rc;
}

static ft_status read_given(const char *given, char **text)
{
    enum { LONGEST = 16 << 20 };
    size_t n;
    path_kind kind;
    FT_TRY(path_look(given, &kind));
    if (kind == PATH_NONE) return unknown(given);
    FT_TRY(file_read(text, &n, given, LONGEST));
    if (strlen(*text) == n && utf8_valid(*text, n)) return FT_OK;
    ft_free(*text);
    *text = NULL;
    return ft_fail(FT_EDATA, "chat template %s: this is no text in UTF-8", ft_shows(given));
}

ft_status chat_use(tok_tokenizer *t, const char *given)
{
    char *text = NULL;
    FT_CHECK(t, FT_EDATA, "a chat template needs a tokenizer, and the model has none");
    if (!given) return tok_use_template(t, NULL, NULL);
    const char *named = chat_named(given);
    if (!named) FT_TRY(read_given(given, &text));
    ft_status rc = tok_use_template(t, named ? named : text, named ? NULL : given);
    if (rc == FT_OK) rc = warn_unknown(t, given, named ? named : text);
    ft_free(text);
    return rc;
}
