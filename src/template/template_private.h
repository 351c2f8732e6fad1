/* template_private.h – the inside of the chat template interpreter, shared by its files.
 *
 * lex → parse → a tree in the template's arena; rendering walks the tree with values that live in an arena
 * of the call, so one template may be rendered by several threads. A template is somebody else's program:
 * work, memory, output and nesting are bounded, and nothing outside the given variables can be reached.
 * The semantics are Jinja2's in the sandbox transformers uses, which are Python's: values print, compare,
 * index and fail as Python objects do. */
#ifndef FT_TEMPLATE_PRIVATE_H
#define FT_TEMPLATE_PRIVATE_H

#include "ft/template.h"

#define TPL_MAX_DEPTH 400          /* nested expressions, blocks and macro calls */
#define TPL_MAX_WORK 40000000      /* units: one per node, item or 16 bytes of text made */
#define TPL_MAX_OUTPUT (32u << 20) /* bytes */
#define TPL_MAX_MEMORY                                                                             \
    (60u << 20) /* bytes of values; an arena beyond 64 MiB would take huge pages */
#define TPL_KEEP_MEMORY                                                                            \
    (1u << 20)               /* bytes; the arena of a rendering that took no more serves the next */
#define TPL_MAX_DIGITS 512   /* of a number in JSON: cfg's limit */
#define TPL_MAX_RANGE 100000 /* as Jinja's sandbox */

/* --- values ---------------------------------------------------------------------------------------- */
typedef enum tpl_type {
    TV_UNDEF,
    TV_NONE,
    TV_BOOL,
    TV_INT,
    TV_BIG, /* a whole number beyond 64 bits: printed and compared, not calculated with */
    TV_FLOAT,
    TV_STR,
    TV_LIST,
    TV_TUPLE,
    TV_ITER, /* a generator or iterator: no length, always true, used up by one pass */
    TV_RANGE,
    TV_VIEW, /* VIEW: what keys(), values() and items() give */
    TV_DICT,
    TV_NS,
    TV_MACRO,
    TV_LOOP,
    TV_FUNC,
    TV_METHOD,
    TV_CYCLER,
    TV_JOINER
} tpl_type;

typedef struct tpl_list tpl_list;
typedef struct tpl_dict tpl_dict;
typedef struct tpl_macro tpl_macro;
typedef struct tpl_loop tpl_loop;
typedef struct tpl_bound tpl_bound;
typedef struct tpl_func tpl_func;

typedef struct tpl_val {
    uint8_t t;
    uint8_t
        flag;  /* STR: made by |safe, so + escapes the other side; UNDEF: refused by the sandbox */
    int64_t n; /* STR: bytes; UNDEF: bytes of its name; BIG: characters */
    union {
        bool b;
        int64_t i;
        double f;
        const char *s; /* STR: UTF-8, not terminated; UNDEF: its name or NULL; BIG: its digits */
        tpl_list *l;   /* LIST TUPLE ITER RANGE VIEW CYCLER JOINER */
        tpl_dict *d;   /* DICT NS */
        tpl_macro *m;
        tpl_loop *loop;
        const tpl_func *fn;
        tpl_bound *bound;
    };
} tpl_val;

struct tpl_list {
    tpl_val *v;
    int64_t n, cap;
    int64_t pos;         /* ITER, CYCLER, JOINER: items already given */
    int64_t start, step; /* RANGE, for printing */
    const char *kind;    /* VIEW: dict_keys …; ITER: generator */
};
struct tpl_dict { /* insertion order is kept */
    tpl_val *k, *v;
    int64_t n, cap;
};

typedef struct tpl_ctx tpl_ctx;
typedef struct tpl_node tpl_node;

typedef struct tpl_kw {
    const char *name; /* NUL-terminated */
    tpl_val v;
} tpl_kw;
typedef struct tpl_args {
    tpl_val *v;
    int n;
    tpl_kw *kw;
    int n_kw;
} tpl_args;

/* A row of filters, tests, methods and globals. params: names separated by spaces, for keywords and for the
 * count of arguments (the value itself is not among them); the first `need` are required. b: the arguments in
 * the order of params, absent ones as tpl_absent tells. params "*": any arguments, read from a. */
#define TPL_MAX_PARAMS 6
typedef tpl_val (*tpl_fn)(tpl_ctx *c, tpl_val self, const tpl_val *b, const tpl_args *a);
struct tpl_func {
    const char *name;
    tpl_fn fn;
    const char *params;
    int need;
    uint32_t types; /* methods: bit per tpl_type of self */
};
struct tpl_bound {
    tpl_val self;
    const tpl_func *fn;
};

/* --- tree ---------------------------------------------------------------------------------------------- */
typedef enum tpl_kind {
    /* expressions */
    TN_CONST,
    TN_NAME,
    TN_LIST,
    TN_TUPLE,
    TN_DICT,
    TN_NOT,
    TN_AND,
    TN_OR,
    TN_IF_EXPR,
    TN_COMPARE,
    TN_ARITH,
    TN_CONCAT,
    TN_NEG,
    TN_POS,
    TN_ATTR,
    TN_ITEM,
    TN_SLICE,
    TN_CALL,
    TN_FILTER,
    TN_TEST,
    /* statements */
    TN_TEXT,
    TN_PRINT,
    TN_IF,
    TN_FOR,
    TN_SET,
    TN_SET_BLOCK,
    TN_MACRO,
    TN_CALL_BLOCK,
    TN_FILTER_BLOCK,
    TN_WITH,
    TN_SCOPE,
    TN_GENERATION,
    TN_BREAK,
    TN_CONTINUE,
    TN_UNSUPPORTED,
    TN_NS_ATTR,
    TN_KINDS
} tpl_kind;

typedef struct tpl_body {
    tpl_node **v;
    int n;
} tpl_body;
typedef struct tpl_keyword {
    const char *name;
    tpl_node *value;
} tpl_keyword;

struct tpl_node {
    uint8_t kind;
    uint8_t op; /* ARITH: + - * / f(loor) % p(ow); COMPARE: see tpl_cmp in `ops` */
    int line;
    const char *name; /* interned: equal names have equal pointers */
    tpl_val val;      /* CONST, TEXT */
    tpl_node *a, *b, *c;
    tpl_body list;        /* items, positional arguments, operands; DICT: key, value, key, value */
    tpl_body body, other; /* statements; other: the else part */
    tpl_keyword
        *kw; /* keyword arguments; MACRO, CALL_BLOCK: parameters with defaults (value or NULL) */
    int n_kw;
    uint8_t *ops;           /* COMPARE: one tpl_cmp per operand */
    tpl_node *star, *star2; /* *args and **kwargs of a call */
    const tpl_func *fn;     /* FILTER, TEST */
    bool catch_varargs, catch_kwargs, recursive;
};
typedef enum tpl_cmp { TC_EQ, TC_NE, TC_LT, TC_LE, TC_GT, TC_GE, TC_IN, TC_NOT_IN } tpl_cmp;

struct tpl_template {
    arena *mem;
    const char *name;
    tpl_body body;
    const char **names; /* interned */
    int n_names, cap_names;
    ft_spare *arenas; /* of renderings that are done */
};

/* --- rendering -------------------------------------------------------------------------------------------- */
typedef struct tpl_var {
    const char *name; /* interned */
    tpl_val v;
} tpl_var;
typedef struct tpl_frame {
    struct tpl_frame *up; /* lexical */
    tpl_var *var;
    int n, cap;
} tpl_frame;
struct tpl_macro {
    const tpl_node *node;
    tpl_frame *frame; /* where it was defined */
    const char *name;
};
struct tpl_loop {
    tpl_list items;
    int64_t index; /* from 0 */
    int64_t depth;
    tpl_val changed;
    bool has_changed;
    const tpl_node *node; /* of a recursive loop, else NULL */
    tpl_frame *frame;
};

struct tpl_ctx {
    const tpl_template *t;
    const cJSON *vars;
    arena *mem;
    char *chunk; /* small allocations are cut from blocks of the arena */
    size_t left;
    tpl_frame *root, *frame;
    ft_status rc; /* sticky: after a failure every evaluation returns at once */
    int64_t work;
    int depth, line;
    enum { TPL_GO, TPL_BREAK, TPL_CONTINUE } flow;
    str_buf *out, *root_out;
    tpl_spans *spans; /* may be NULL */
};

/* lex.c, parse.c */
typedef enum tpl_token {
    TT_END,
    TT_TEXT,
    TT_BLOCK,
    TT_BLOCK_END,
    TT_VAR,
    TT_VAR_END,
    TT_NAME,
    TT_STR,
    TT_INT,
    TT_FLOAT,
    TT_OP
} tpl_token;
typedef struct tpl_tok {
    uint8_t type;
    int line;
    const char *s; /* NAME: interned; STR, TEXT: the value; OP: the operator */
    size_t n;
    int64_t i;
    double f;
} tpl_tok;
/* All tokens of the source, in the template's arena, TT_END last. */
FT_MUST_USE ft_status tpl_lex(tpl_template *t, const char *text, size_t len, tpl_tok **out,
                              int64_t *n);
FT_MUST_USE ft_status tpl_parse(tpl_template *t, const tpl_tok *tok);
const char *tpl_intern(tpl_template *t, const char *s, size_t n); /* NULL: out of memory */

/* value.c. Functions that make something return TV_UNDEF after a failure: look at c->rc. */
tpl_val tpl_fail(tpl_ctx *c, const char *fmt, ...) FT_PRINTF(2, 3);
void *tpl_get(tpl_ctx *c, size_t bytes);  /* zeroed, 8-byte aligned; NULL: c->rc is set */
bool tpl_work(tpl_ctx *c, int64_t units); /* false once the limit is passed */
static inline tpl_val tpl_none(void)
{
    return (tpl_val){.t = TV_NONE};
}
static inline tpl_val tpl_undef(void)
{
    return (tpl_val){.t = TV_UNDEF};
}
static inline tpl_val tpl_bool(bool b)
{
    return (tpl_val){.t = TV_BOOL, .b = b};
}
static inline tpl_val tpl_int(int64_t i)
{
    return (tpl_val){.t = TV_INT, .i = i};
}
static inline tpl_val tpl_float(double f)
{
    return (tpl_val){.t = TV_FLOAT, .f = f};
}
static inline tpl_val tpl_strn(const char *s, size_t n) /* refers to s */
{
    return (tpl_val){.t = TV_STR, .n = (int64_t)n, .s = s};
}
tpl_val tpl_copy(tpl_ctx *c, const char *s, size_t n);
tpl_val tpl_buf(tpl_ctx *c, str_buf *b); /* a string of b's contents; frees b */
tpl_val tpl_list_new(tpl_ctx *c, tpl_type t, int64_t cap);
void tpl_list_add(tpl_ctx *c, tpl_list *l, tpl_val v);
tpl_val tpl_dict_new(tpl_ctx *c, int64_t cap);
void tpl_dict_set(tpl_ctx *c, tpl_dict *d, tpl_val k, tpl_val v);
bool tpl_dict_get(tpl_ctx *c, const tpl_dict *d, tpl_val k, tpl_val *v);
tpl_val tpl_from_json(tpl_ctx *c, const cJSON *j);
bool tpl_is_str(tpl_val v, const char *text);
bool tpl_truth(tpl_val v);
bool tpl_number(tpl_val v, double *f);   /* bool, int or float */
bool tpl_integer(tpl_val v, int64_t *i); /* bool or int */
double tpl_big(tpl_val v);               /* size of a BIG */
bool tpl_equal(tpl_ctx *c, tpl_val a, tpl_val b);
int tpl_order(tpl_ctx *c, tpl_val a, tpl_val b); /* −1 0 1; fails on types without an order */
bool tpl_contains(tpl_ctx *c, tpl_val item, tpl_val in);
tpl_val tpl_undef_error(tpl_ctx *c, tpl_val v); /* what using it gives */
tpl_val tpl_arith(tpl_ctx *c, int op, tpl_val a, tpl_val b);
int64_t tpl_length(tpl_ctx *c, tpl_val v);
bool tpl_iterable(tpl_val v);
/* All items of an iterable; an ITER is used up. The list must not be changed. */
tpl_list tpl_items(tpl_ctx *c, tpl_val v);
const char *tpl_type_name(tpl_val v);                                /* as Python calls it */
tpl_val tpl_attr(tpl_ctx *c, tpl_val v, const char *name, size_t n); /* v.name */
tpl_val tpl_item(tpl_ctx *c, tpl_val v, tpl_val key);                /* v[key] */
tpl_val tpl_slice(tpl_ctx *c, tpl_val v, tpl_val from, tpl_val to, tpl_val step);
int64_t tpl_chars(const char *s, int64_t n);                 /* code points */
int64_t tpl_offset(const char *s, int64_t n, int64_t chars); /* byte offset of a code point */

/* print.c: Python's str and repr, json.dumps, % and format */
void tpl_str(tpl_ctx *c, str_buf *out, tpl_val v);
void tpl_repr(tpl_ctx *c, str_buf *out, tpl_val v);
tpl_val tpl_to_str(tpl_ctx *c, tpl_val v); /* str(v); strings unchanged */
void tpl_repr_float(str_buf *out, double f);
tpl_val tpl_json(tpl_ctx *c, tpl_val v,
                 const tpl_val arg[4]); /* ensure_ascii indent separators sort_keys */
tpl_val tpl_percent(tpl_ctx *c, tpl_val fmt, tpl_val args);
tpl_val tpl_format(tpl_ctx *c, tpl_val fmt, const tpl_args *a);

/* str.c, filter.c, func.c */
const tpl_func *tpl_find_method(tpl_val self, const char *name, size_t n);
const tpl_func *tpl_find_filter(const char *name, size_t n);
const tpl_func *tpl_find_test(const char *name, size_t n);
const tpl_func *tpl_find_global(const char *name);
const tpl_func *tpl_find_helper(tpl_val self, const char *name,
                                size_t n); /* of loops and cyclers */
/* A row with a name of n bytes; NULL. */
const tpl_func *tpl_row(const tpl_func *rows, size_t count, const char *name, size_t n);
#define TPL_ABSENT 2 /* flag of TV_UNDEF: this parameter was not given */
static inline bool tpl_absent(tpl_val v)
{
    return v.t == TV_UNDEF && v.flag == TPL_ABSENT;
}
/* Binds the arguments and calls the row. */
tpl_val tpl_apply(tpl_ctx *c, const tpl_func *fn, tpl_val self, const tpl_args *a);
tpl_val tpl_strip(tpl_ctx *c, tpl_val s, tpl_val chars, int sides); /* 1 left, 2 right */
tpl_val tpl_replace(tpl_ctx *c, tpl_val s, tpl_val from, tpl_val to, int64_t count);
tpl_val tpl_splitlines(tpl_ctx *c, tpl_val s);
tpl_val tpl_case(tpl_ctx *c, tpl_val s, char mode); /* u l t(itle of |title) T(itle of str) c s */
bool tpl_space(int32_t cp);                         /* str.isspace */

/* eval.c */
tpl_val tpl_eval(tpl_ctx *c, const tpl_node *n);
void tpl_exec(tpl_ctx *c, const tpl_body *b);
tpl_val tpl_call(tpl_ctx *c, tpl_val callee, const tpl_args *a);
#endif
