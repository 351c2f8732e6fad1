/* judge_private.h – what the files of `ft judge` share: a line with its completions, ways to judge them, forms to write them in. */
#ifndef FT_JUDGE_PRIVATE_H
#define FT_JUDGE_PRIVATE_H

#include "tool_private.h"

enum { JUDGE_ROUND = 32, JUDGE_LABELS = 64 }; /* lines that are judged together; labels at most */

typedef struct judge_line {
    char *text; /* of the record, which doc points into */
    js_doc doc;
    const cJSON *prompt; /* a string, or a list of messages */
    int n;               /* completions */
    const char **whole;  /* [n] as they stand */
    const char **part;   /* [n] what is judged; NULL: left out */
    double *score;       /* [n]; NAN: left out */
    uint64_t number;     /* among the lines of the data, from 0 */
} judge_line;

typedef struct judge_method judge_method;
typedef struct judge_form judge_form;
typedef struct judge {
    tool_model *t; /* NULL: the method needs none */
    const tool_judge_options *opt;
    const tool_sink *sink;
    const judge_method *method;
    const judge_form *form;
    file_out *file; /* NULL: the sink */
    judge_line line[JUDGE_ROUND];
    int n;
    int64_t lines, completions, left_out, kept, dropped;
    /* of methods that ask a model for labels */
    char *template, *words; /* words: the labels, cut into */
    const char *label[JUDGE_LABELS];
    int labels;
} judge;

struct judge_method {
    const char *name;
    bool model, rewards;          /* it asks one; and that is a reward model */
    const char *const *holes;     /* of its template, NULL-terminated; NULL: it has none */
    const char *const *must_hold; /* those that a template must have */
    const char *labels;           /* where none are given; NULL: it has none */
    ft_status (*open)(judge *j);  /* mistakes of the options; may be NULL */
    ft_status (*score)(judge *j); /* of all lines of the round, of what is not left out */
};
extern const judge_method judge_reward, judge_match, judge_pairwise, judge_rating;

struct judge_form {
    const char *name;
    ft_status (*write)(judge *j, const judge_line *l, str_buf *out);
};
const judge_form *judge_form_by_name(const char *name);
/* The prompt as a text: the words of a single turn, else each turn behind its role. */
FT_MUST_USE ft_status judge_prompt(const judge_line *l, str_buf *out);
#endif
