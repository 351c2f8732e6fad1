/* template.h – chat templates: the Jinja they are written in, and the messages of a model put through its own.
 *
 * The semantics are Jinja2's in the sandbox that transformers uses, which are Python's. A template is somebody
 * else's program: work, memory, output and nesting are bounded, and nothing outside the given variables can be
 * reached. Rendering is thread-safe. */
#ifndef FT_TEMPLATE_H
#define FT_TEMPLATE_H

#include "ft/base.h"
#include "ft/cfg.h"
#include "ft/io.h"
#include "ft/token.h"

typedef struct tpl_template tpl_template;
FT_MUST_USE ft_status tpl_open(tpl_template **out, const char *text, size_t len, const char *name);
void tpl_close(tpl_template *t);
/* Where `{% generation %}` blocks stand in the output: byte ranges [from, to), in order. */
typedef struct tpl_span {
    int64_t from, to;
} tpl_span;
typedef struct tpl_spans {
    tpl_span *v; /* ft_alloc'ed; start with { 0 }, release with ft_free(v) */
    int64_t n, cap;
} tpl_spans;
/* vars: an object of the variables in scope, NULL: none. spans (may be NULL) are appended to. raise_exception, an
 * unsupported construct, or a limit (steps, output, depth) is 65. */
FT_MUST_USE ft_status tpl_render_spans(const tpl_template *t, const cJSON *vars, str_buf *out,
                                       tpl_spans *spans);

/* Renders messages as transformers' apply_chat_template does it, with the templates of the tokenizer: "tool_use" where
 * a list of tools is given (empty too) and there is one of that name, "default" otherwise. Variables: messages, tools,
 * documents, add_generation_prompt and the named special tokens (bos_token …). A record's null members are left out. */
typedef struct chat chat;
/* The tokenizer has the template `given` from here on: a name of the table (named.c), else the path of a Jinja file; NULL:
 * its own again. What it writes as special tokens and the tokenizer has not is text, which one warning tells. */
FT_MUST_USE ft_status chat_use(tok_tokenizer *t, const char *given);
/* The names, and the template of one and whose it is (NULL: there is none). */
extern const char *const chat_names[]; /* NULL-terminated */
const char *chat_named(const char *name);
const char *chat_named_help(const char *name);
typedef struct chat_input {
    const cJSON *messages;      /* list of objects, at least one */
    const cJSON *tools;         /* list of schemas; NULL: none given */
    const cJSON *vars;          /* object of further variables ("enable_thinking"); they win over those of the
                                   tokenizer. A name that is an argument of the call is 65. NULL: none */
    bool add_generation_prompt;
} chat_input;
/* From a line of JSON: the members messages, tools (a list or null) and chat_template_kwargs of `record`. */
FT_MUST_USE ft_status chat_read(chat_input *in, const js_doc *d, const cJSON *record);
/* The same where the messages stand under another key. */
FT_MUST_USE ft_status chat_read_key(chat_input *in, const js_doc *d, const cJSON *record, const char *key);
FT_MUST_USE ft_status chat_open(chat **out, const tok_tokenizer *t); /* 65: the model has no template */
void chat_close(chat *c);
/* spans (may be NULL): of {% generation %} blocks. 65 where the list of templates has no default for this input. */
FT_MUST_USE ft_status chat_render(const chat *c, const chat_input *in, str_buf *out, tpl_spans *spans);
#endif
