/* template.h – chat templates: the Jinja they are written in, and the messages of a model put through its own.
 *
 * The semantics are Jinja2's in the sandbox that transformers uses, which are Python's. A template is somebody
 * else's program: work, memory, output and nesting are bounded, and nothing outside the given variables can be
 * reached. Rendering is thread-safe. */
#ifndef FT_TEMPLATE_H
#define FT_TEMPLATE_H

#include "ft/base.h"
#include "ft/cfg.h"
#include "ft/token.h"

typedef struct tpl_template tpl_template;
FT_MUST_USE ft_status tpl_open(tpl_template **out, const char *text, size_t len, const char *name);
void tpl_close(tpl_template *t);
/* vars: an object of the variables in scope. raise_exception, an unsupported construct, or a limit (steps,
 * output, depth) is 65. */
FT_MUST_USE ft_status tpl_render(const tpl_template *t, const cJSON *vars, str_buf *out);

/* Where `{% generation %}` blocks stand in the output: byte ranges [from, to), in order. */
typedef struct tpl_span {
    int64_t from, to;
} tpl_span;
typedef struct tpl_spans {
    tpl_span *v; /* ft_alloc'ed; start with { 0 }, release with ft_free(v) */
    int64_t n, cap;
} tpl_spans;
FT_MUST_USE ft_status tpl_render_spans(const tpl_template *t, const cJSON *vars, str_buf *out,
                                       tpl_spans *spans);

/* Renders messages as transformers' apply_chat_template does: variables messages, tools (NULL: none),
 * add_generation_prompt, bos_token, eos_token, … of the tokenizer. 65 where the model has no template. */
typedef struct chat chat;
FT_MUST_USE ft_status chat_open(chat **out, const tok_tokenizer *t);
void chat_close(chat *c);
FT_MUST_USE ft_status chat_render(const chat *c, const cJSON *messages, const cJSON *tools,
                                  bool add_generation_prompt, str_buf *out);
/* The same with the spans of generation blocks (none: the template has none, or none was reached). */
FT_MUST_USE ft_status chat_render_spans(const chat *c, const cJSON *messages, const cJSON *tools,
                                        bool add_generation_prompt, str_buf *out, tpl_spans *spans);
#endif
