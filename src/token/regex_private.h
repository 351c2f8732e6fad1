/* regex_private.h – the program that regex.c makes of a pattern and regex_run.c executes. */
#ifndef FT_REGEX_PRIVATE_H
#define FT_REGEX_PRIVATE_H

#include "token_private.h"

#define RX_MAX_NOT 4
typedef struct rx_set {        /* a set of characters */
    uint64_t ascii[2];         /* membership of 0–127, negation applied */
    uint32_t any;              /* members: characters with one of these classes, */
    uint32_t none[RX_MAX_NOT]; /* characters with none of the classes of one of these masks, */
    int n_none;
    int32_t *range; /* and these ranges: first, last, first, last … */
    int n_range, cap_range;
    bool negated;
} rx_set;

typedef enum rx_op {
    RX_SET,   /* one character of set x */
    RX_SPAN,  /* min … max characters of set x, greedy; mode 1: possessive */
    RX_SPLIT, /* go to x, on failure to y */
    RX_JUMP,  /* go to x */
    RX_LOOK,  /* the program at the next instruction must match here (mode 1: must not); go to x */
    RX_ATOM, /* match the program at the next instruction, keep its end, forget its choices; go to x */
    RX_BOL,
    RX_EOL,
    RX_BOT,
    RX_EOT,
    RX_EOT_NL, /* \Z */
    RX_WORD,   /* \b; mode 1: \B */
    RX_DONE
} rx_op;
typedef struct rx_inst {
    uint8_t op, mode;
    int32_t x, y;
    int32_t min, max; /* max −1: no bound */
} rx_inst;

struct tk_regex {
    rx_inst *code;
    int n_code, cap_code;
    rx_set *set;
    int n_set, cap_set;
    bool first_known;
    uint64_t first[4];    /* bytes a match can begin with, when first_known */
    struct rx_lead *lead; /* [n_code] what the ways of a split can begin with */
    void *pcre;           /* pcre2_code, for what the own engine does not do */
    tk_span pattern;
    char *pattern_own;
};
/* Of the two ways x and y of a split: bytes that can come next. All where that is not known. */
typedef struct rx_lead {
    uint64_t x[4], y[4];
} rx_lead;
typedef struct rx_frame {
    int32_t pc;
    bool span; /* pos may step back to low */
    size_t pos, low;
} rx_frame;

/* ² ³ ¹ ¼ ½ ¾: word characters for \w and \b, but not for [\w] */
extern const int32_t rx_word_extra[3][2];
bool rx_has(const rx_set *s, int32_t cp);
void rx_set_ready(rx_set *s);
/* So many steps more of the text; 65 past its limit. */
FT_MUST_USE ft_status rx_spend(const tk_find *f, uint64_t steps);
FT_MUST_USE ft_status rx_parse(tk_regex *re, tk_span pattern, bool *unsupported);
FT_MUST_USE ft_status rx_pcre_open(tk_regex *re);
FT_MUST_USE ft_status rx_pcre_search(tk_find *f, size_t *start, size_t *end);
FT_MUST_USE ft_status rx_pcre_find_open(tk_find *f);
void rx_pcre_find_close(tk_find *f);
void rx_pcre_close(tk_regex *re);
#endif
