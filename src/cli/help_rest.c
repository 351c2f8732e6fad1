/* help_rest.c – words of `ft help` that are neither verb, topic nor key of a training config: keys of a config of ft eval,
 * bounds of its gates, options. From the tables that read them. */
#include "help.h"

#include "ft/tool.h"

#include <string.h>

/* "max_new_tokens" is "max-new-tokens", too. */
static bool same(const char *key, const char *word)
{
    for (; *key && *word; key++, word++)
        if (*key != *word && !(*key == '_' && *word == '-')) return false;
    return !*key && !*word;
}

/* "samples", "model.path" */
static int eval_rows(str_buf *out, const cfg_field *rows, const char *word)
{
    const size_t n = strcspn(word, ".");
    for (; rows && rows->key; rows++) {
        cfg_field one[] = { *rows, CFG_END };
        if (strlen(rows->key) != n || memcmp(rows->key, word, n) != 0) continue;
        if (word[n]) return eval_rows(out, rows->sub, word + n + 1);
        str_adds(out, "the config of ft eval – ft help eval has all of it\n");
        cfg_help(out, one, "");
        return 1;
    }
    return 0;
}

/* "stride", "tasks.stride": of each task that has it. */
static int task_rows(str_buf *out, const char *word)
{
    tool_task t;
    int found = 0;
    if (str_starts(word, "tasks.")) word += strlen("tasks.");
    for (int i = 0; tool_task_at(i, &t); i++) {
        for (const cfg_field *r = t.fields; r && r->key; r++) {
            cfg_field one[] = { *r, CFG_END };
            if (!same(r->key, word)) continue;
            str_printf(out, "%s – a task of ft eval (ft help eval %s)\n", t.name, t.name);
            cfg_help(out, one, "");
            found++;
        }
    }
    return found;
}

static int bounds(str_buf *out, const char *word)
{
    tool_bound b;
    if (str_starts(word, "gates.")) word += strlen("gates.");
    for (int i = 0; tool_bound_at(i, &b); i++) {
        if (strcmp(b.name, word) != 0) continue;
        str_printf(out, "%s – a bound of a metric: %s (ft help gates)\n", b.name, b.help);
        return 1;
    }
    return 0;
}

static int options(str_buf *out, const char *word)
{
    int found = 0;
    const cli_verb *v;
    for (int i = 0; (v = cli_verb_at(i)); i++)
        for (const cfg_field *r = v->flags; r && r->key; r++) {
            if (!same(r->key, word)) continue;
            str_printf(out, "an option of ft %s\n", v->name);
            cli_help_flag(out, r);
            found++;
        }
    for (const cfg_field *r = cli_global_rows(); r->key; r++) {
        if (!same(r->key, word)) continue;
        str_adds(out, "an option of every verb that it fits\n");
        cli_help_flag(out, r);
        found++;
    }
    return found;
}

int cli_help_rest(str_buf *out, const char *word)
{
    int found = eval_rows(out, tool_eval_fields, word);
    found += task_rows(out, word);
    found += bounds(out, word);
    return found + options(out, word);
}

/* --- for the nearest of them ------------------------------------------------------------------------------------ */

int cli_help_rest_words(const char **names, int room)
{
    int n = 0;
    tool_task t;
    tool_bound b;
    const cli_verb *v;
    for (const cfg_field *r = tool_eval_fields; r->key && n < room; r++) names[n++] = r->key;
    for (int i = 0; tool_task_at(i, &t); i++)
        for (const cfg_field *r = t.fields; r && r->key && n < room; r++) names[n++] = r->key;
    for (int i = 0; tool_bound_at(i, &b) && n < room; i++) names[n++] = b.name;
    for (int i = 0; (v = cli_verb_at(i)); i++)
        for (const cfg_field *r = v->flags; r && r->key && n < room; r++) names[n++] = r->key;
    return n;
}
