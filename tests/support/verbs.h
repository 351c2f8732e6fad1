/* verbs.h – what tests of verbs share: sinks for what they say, looks into JSON, and configs with one key changed. */
#ifndef FT_TEST_VERBS_H
#define FT_TEST_VERBS_H

#include "support.h"

#include "ft/cfg.h"

/* Of a tool_sink: ctx is a str_buf; what comes is forgotten. */
ft_status test_append(void *ctx, const char *text, size_t n);
ft_status test_drop(void *ctx, const char *text, size_t n);

/* The first line of text (that of n bytes: all of them) as JSON, the caller's; ends the test where it is none. */
cJSON *test_json_line(const char *text);
cJSON *test_json(const char *text, size_t n);
double test_number(const cJSON *o, const char *key);

/* Appends the members of o, but `key` as value (JSON), or without it where value is NULL: no braces. */
void test_put_members(str_buf *s, const cJSON *o, const char *key, const char *value);
/* The object of file `from` into file `to`, one key changed so. */
void test_change_key(const char *from, const char *to, const char *key, const char *value);
/* The text of file `from` into file `to`, with `new` in the place where `old` first stands; it has to. */
void test_change_text(const char *from, const char *to, const char *old, const char *new);
#endif
