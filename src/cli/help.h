/* help.h – the parts of `ft help`: keys of the config (help_keys.c) and topics (help_topics.c). */
#ifndef FT_CLI_HELP_H
#define FT_CLI_HELP_H

#include "cli.h"

/* --- help_keys.c ------------------------------------------------------------------------------------------ */
/* Keys of a training config: a section, a type of one, or a key by its path or its last words. How many were found. */
int cli_help_key(str_buf *out, const char *key, const cli_table *tables, int n, arena *mem);
/* The section of that name, if there is one, behind what else the word says. */
void cli_help_section(str_buf *out, const char *word, const cli_table *tables, int n, arena *mem);

/* --- help_rest.c: keys of a config of ft eval, bounds of gates, options --------------------------------------- */
int cli_help_rest(str_buf *out, const char *word);     /* how many were found */
int cli_help_rest_words(const char **names, int room); /* all of them; how many */
void cli_help_flag(str_buf *out, const cfg_field *r);  /* flags.c: the line of an option */

/* --- help_topics.c ---------------------------------------------------------------------------------------- */
/* What a word of `ft help` may be beside verbs and keys: a topic, or an entry of one (a format, a task, a template). */
typedef struct cli_topic {
    const char *name, *help;
    /* entry NULL: all of it */
    ft_status (*print)(str_buf *out, const char *entry, arena *mem);
    const char *(*entry)(int i); /* names of the entries, NULL past the end; NULL: it has none */
} cli_topic;
const cli_topic *cli_topic_at(int i); /* NULL past the end */
/* The topic of quantisers and pruners: help_compress.c */
FT_MUST_USE ft_status cli_compress_print(str_buf *out, const char *entry, arena *mem);
const char *cli_compress_name(int i);
/* Appends what topics say of a word, or of an entry of the topic `of` (NULL: of any); how many they are. */
FT_MUST_USE ft_status cli_help_topic(str_buf *out, const char *of, const char *word, int *found,
                                     arena *mem);

/* --- help_man.c, help_shell.c: files for other programs ------------------------------------------------------ */
/* The page of a verb, or of the program (word NULL). */
FT_MUST_USE ft_status cli_man(str_buf *out, const char *word, arena *mem);
extern const char *const cli_shells[]; /* NULL-terminated */
FT_MUST_USE ft_status cli_completion(str_buf *out, const char *shell, arena *mem);
#endif
