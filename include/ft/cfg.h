/* cfg.h – strict JSON, and option tables that parse, default, check, print and document themselves.
 *
 * A module that has options owns a table of cfg_field; there is no per-key code. The same rows give
 * parsing, --set, the resolved config, `ft help` and `ft schema`. */
#ifndef FT_CFG_H
#define FT_CFG_H

#include "ft/base.h"
#include <cjson/cJSON.h>

/* --- strict JSON ----------------------------------------------------------------------------------
 * Our own scanner checks the text (UTF-8, no BOM, no comments, no trailing comma, no duplicate keys,
 * no \u0000, number syntax, range and 2^53, depth ≤ 64, at most 2^24 values, nothing after the end)
 * and remembers where each value stands; cJSON builds the tree. Errors: "NAME:LINE:COL: what". */
typedef struct js_doc {
    cJSON *root;
    const char *name; /* for messages; not owned */
    const char *text; /* not owned: must live as long as positions are asked for */
    size_t len;
    uint32_t *pos; /* offset of every value in document order */
    size_t n_pos;
    int64_t line0; /* line number of the first line (JSONL), normally 1 */
    int64_t col0;  /* characters of that line before the text, normally 0 */
    bool at_keys;  /* members stand where their keys do (YAML), not their values */
} js_doc;
typedef enum js_flags {
    JS_STRICT = 0,
    JS_ALLOW_NONFINITE = 1, /* NaN, Infinity, -Infinity as 4.x transformers writes them */
    JS_NO_POSITIONS = 2,    /* large data files: positions only for scan errors; text is not kept */
    JS_BIG_NUMBERS = 4, /* numbers that no double holds (ids of 64 bits in data lines) keep their
                               digits in valuestring; js_print writes them so, js_get_* refuse them */
    JS_NUL = 8, /* \u0000 is allowed and becomes the bytes C0 80, which are in no other text */
    JS_RECORD = 16 /* one of many: its tree takes twice its bytes and 56 MiB at most, else it fails */
} js_flags;
/* `status` is the class of a mistake: FT_ECONFIG for a config, FT_EDATA for data and models. */
FT_MUST_USE ft_status js_parse(js_doc *out, const char *text, size_t len, const char *name,
                               int64_t line0, js_flags flags, ft_status status);
/* The same for a part of a text, which `col0` characters of its line stand before. */
FT_MUST_USE ft_status js_parse_at(js_doc *out, const char *text, size_t len, const char *name,
                                  int64_t line0, int64_t col0, js_flags flags, ft_status status);
/* The same tree from YAML 1.1, of the kind that recipes are written in: one document without anchors, aliases, tags and
 * merge keys, which are refused. Plain words are null, booleans (true, yes, on …) and decimal numbers as in YAML, also 1e-4;
 * all others are strings. */
FT_MUST_USE ft_status js_parse_yaml(js_doc *out, const char *text, size_t len, const char *name,
                                    ft_status status);
void js_close(js_doc *doc);
/* Turns the C0 80 of JS_NUL into NUL characters, in place; the new length. */
size_t js_nul(char *text, size_t n);
/* Line and column (from 1) of a node of this document. */
void js_where(const js_doc *doc, const cJSON *node, int64_t *line, int *col);
/* ft_fail with "NAME:LINE:COL: KEY: " in front; key may be NULL. */
ft_status js_fail(const js_doc *doc, const cJSON *node, ft_status status, const char *key,
                  const char *fmt, ...) FT_PRINTF(5, 6);

/* Case-sensitive getters for model files (config.json …); an absent or null key gives `def`. A present
 * value of the wrong type is a failure that names file, line and key. */
FT_MUST_USE ft_status js_get_int(const js_doc *d, const cJSON *o, const char *key, int64_t def,
                                 int64_t low, int64_t high, int64_t *out);
FT_MUST_USE ft_status js_get_num(const js_doc *d, const cJSON *o, const char *key, double def,
                                 double *out);
FT_MUST_USE ft_status js_get_bool(const js_doc *d, const cJSON *o, const char *key, bool def,
                                  bool *out);
FT_MUST_USE ft_status js_get_str(const js_doc *d, const cJSON *o, const char *key, const char *def,
                                 const char **out); /* lives in the document */
/* A number that was written with a point or an exponent: 1.0 is not 1 where numbers become text again (a
 * private bit of cJSON's type, which cJSON_IsNumber and the like ignore). */
#define JS_FLOAT_BIT (1 << 16)
static inline bool js_is_float(const cJSON *node)
{
    return node && (node->type & JS_FLOAT_BIT) != 0;
}
static inline const cJSON *js_get(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}
/* Trees are made by many small calls, each of which may fail. This is FT_EMEM when one did on this thread, and the record of
 * it stands: for who reads a tree that was made. js_print fails its text then, so what is printed is whole. */
FT_MUST_USE ft_status js_whole(void);
/* Takes `value` over as a member: the last one (js_add, which does not look for another of that name), or in the place of
 * the one of that name (js_put). false, and value is gone: there is no value, no object or no memory. cJSON's own leave
 * what was not taken to the caller, and 1.7.15's that replaces leaves a member without a name when memory fails.
 * js_refer: js_add of a node that stays where it is. */
bool js_add(cJSON *object, const char *key, cJSON *value);
bool js_put(cJSON *object, const char *key, cJSON *value);
bool js_refer(cJSON *object, const char *key, const cJSON *node);
/* Prints a tree as compact JSON (floats shortest that read back), or indented by 2. */
void js_print(str_buf *out, const cJSON *node, bool indent);
/* In the text of a valid JSON object: sets a top-level member to a JSON value (a new one comes last), or takes it out.
 * Nothing else of the text changes. */
void js_set_member(str_buf *text, const char *key, const char *value);
void js_drop_member(str_buf *text, const char *key);

/* --- keys of files that other programs write ---------------------------------------------------------
 * A table per file says what becomes of each key, so that none is passed over in silence. A key of no row is told in
 * a warning and then left alone: formats grow with every release of their writers, most new keys mean nothing
 * here, and refusing them would refuse tomorrow's models for a label. */
typedef enum js_use {
    JS_READ,    /* the reader of the file asks for it */
    JS_IDLE,    /* changes nothing that ft computes; why says so */
    JS_ONLY,    /* right only with a value of `values` (null, "", [] and {} always are): others are refused */
    JS_WARN     /* not done here, and the rest stays right: a warning for values not of `values` */
} js_use;
typedef struct js_key {
    const char *key; /* "*_token": any key that ends so; rows before it win */
    js_use use;
    const char *values; /* JSON scalars, "|" between them: "false", "1|\"silu\"" */
    const char *why;    /* JS_ONLY and JS_WARN: what is not done, and the remedy */
} js_key;
/* Goes through the members of `o`, rows in order up to key NULL. JS_ONLY fails with `status`, naming line and key. One
 * warning names all unknown keys of the file. */
FT_MUST_USE ft_status js_check_keys(const js_doc *d, const cJSON *o, const js_key *rows,
                                    ft_status status);

/* --- option tables ---------------------------------------------------------------------------------- */
typedef enum cfg_type {
    CFG_BOOL,  /* bool */
    CFG_INT,   /* int64_t */
    CFG_FLOAT, /* double */
    CFG_STR,   /* const char *; NULL when absent and no default */
    CFG_PATH,  /* const char *, made relative to the config file's folder (or the current one from
                   the command line); one of `choices`, where there are any, is that word and no path */
    CFG_ENUM,  /* const char *, one of `choices` */
    CFG_JSON,  /* const cJSON *: any value, read by the module (lists of sources, patterns) with
                   cfg_fail for its mistakes; `choices` may name the shapes for the help text */
    CFG_AUTO_INT,  /* int64_t, or CFG_AUTO for the string "auto" */
    CFG_AUTO_BOOL, /* int: 0, 1, or −1 for "auto" */
    CFG_TABLE,     /* a nested object: `sub` rows, the struct embedded at `offset` */
    CFG_LIST       /* cfg_list: an option of a verb that may be repeated; in no config */
} cfg_type;
typedef struct cfg_list {
    const char *const *v; /* [n] as given, in order */
    int n;
} cfg_list;
#define CFG_AUTO INT64_MIN
typedef struct cfg_field {
    const char *key;
    cfg_type type;
    size_t offset;
    const char *def;  /* default as JSON text ("8", "\"linear\""); NULL: absent */
    double low, high; /* inclusive bounds of numbers when low < high; low_open: > low */
    bool low_open, required;
    const char *const *choices;  /* NULL-terminated, for CFG_ENUM */
    const struct cfg_field *sub; /* for CFG_TABLE; of a CFG_JSON that is a string, an object of these keys, or a list
                                    of either: for help and schema */
    const char *help;            /* one line */
    /* For help and completion, of a CFG_STR or CFG_LIST: it may name a file; or one of these names (NULL past the end),
       which are a registry's. */
    bool file;
    const char *(*value)(int i);
} cfg_field;
#define CFG_END                                                                                    \
    {                                                                                              \
        .key = NULL                                                                                \
    }

/* What a key that no table has may have meant: the path of a key of ours, or "" where there is none; why: what more there is
 * to say (NULL: nothing). False: no idea. */
typedef struct cfg_meaning {
    char path[80];
    const char *why;
} cfg_meaning;
typedef bool cfg_meant(const char *key, cfg_meaning *out);

/* A parsed config: the document, the overrides, and the folder paths are relative to. */
typedef struct cfg_doc {
    js_doc js;
    arena *mem;      /* strings and structs live here */
    const char *dir; /* folder of the file ("" = current) */
    int errors;      /* mistakes recorded so far (at most 20 are listed) */
    void *sets;      /* which nodes came from --set (private) */
    cfg_meant *meant; /* set by the opener, after opening: asked about unknown keys of the root and its sections; NULL */
    bool flags;      /* set by the opener: those are flags of a verb, `--block-size` for block_size */
} cfg_doc;

/* Reads a config file (of a .jsonc, comments and trailing commas are passed over) and applies `--set a.b=value` strings in order (the value is JSON when it parses
 * as JSON, else a string). Missing file 66; syntax 78. */
FT_MUST_USE ft_status cfg_open(cfg_doc *d, const char *path, const char *const *sets, int n_sets,
                               arena *mem);
/* The same, and what ends in .yml or .yaml is YAML. */
FT_MUST_USE ft_status cfg_open_yaml(cfg_doc *d, const char *path, const char *const *sets,
                                    int n_sets, arena *mem);
/* A config without a file, made of --set strings alone (verbs that take flags). */
FT_MUST_USE ft_status cfg_open_empty(cfg_doc *d, const char *const *sets, int n_sets, arena *mem);
/* A --set in words: its keys (between dots, or ["…"]), its path as written, and the text of its value; of mem. 64 where it
 * is none. */
FT_MUST_USE ft_status cfg_set_words(const char *set, arena *mem, const char *const **keys, int *n,
                                    const char **path, const char **value);
/* More --set strings, after those of opening. */
FT_MUST_USE ft_status cfg_set(cfg_doc *d, const char *const *sets, int n_sets);
/* Sets the value at a path of keys ("model.path"), as an option of the verb gave it: messages name the option ("--model"),
 * and paths are relative to the current folder. The value is the call's. cfg_drop: takes out what is there. */
FT_MUST_USE ft_status cfg_put(cfg_doc *d, const char *path, const char *flag, cJSON *value);
FT_MUST_USE ft_status cfg_drop(cfg_doc *d, const char *path);
void cfg_close(cfg_doc *d);
/* Fills `out` from `object` (NULL: all defaults) by `rows`. `path` is the key of the object ("optim").
 * Mistakes (unknown key with the nearest name, wrong type, out of range, missing) are recorded with
 * ft_fail_more and counted in d->errors; parsing goes on, so one run lists them all: the caller
 * finishes with cfg_done. Keys listed in `also` (NULL-terminated, may be NULL) are known to someone else.
 * FT_EMEM, or what cfg_fatal was told: members are missing, also those with a default. */
FT_MUST_USE ft_status cfg_read(cfg_doc *d, const cJSON *object, const char *path,
                               const cfg_field *rows, void *out, const char *const *also);
/* Records one mistake at a node ("FILE:LINE:COL: KEY: …"). */
void cfg_fail(cfg_doc *d, const cJSON *node, const char *key, const char *fmt, ...) FT_PRINTF(4, 5);
/* The same for a key that is not there; silent where a mistake of that key, or of a table it stands in, is recorded
 * already: one mistake gives one line. */
void cfg_missing(cfg_doc *d, const cJSON *node, const char *key, const char *fmt, ...)
    FT_PRINTF(4, 5);
/* A mistake of the key, or of a table it stands in, is recorded: checks across keys leave it alone. */
bool cfg_is_wrong(const cfg_doc *d, const char *key);
/* Warns that `key`, one of the rows, has no effect, and why (fmt: "with loss_type …"), where the object of this section has it
 * from a file or a --set, and with another value than its default. */
void cfg_idle(cfg_doc *d, const cJSON *object, const char *section, const cfg_field *rows,
              const char *key, const char *fmt, ...) FT_PRINTF(6, 7);
/* Records that something failed which is no mistake of the file: memory, or a look at what it names. The first one stays, its
 * message in ft_error, and mistakes are recorded no more. */
void cfg_fatal(cfg_doc *d, ft_status status);
/* FT_OK; the status of cfg_fatal; FT_EMEM where memory was refused; or FT_ECONFIG when mistakes were recorded. */
FT_MUST_USE ft_status cfg_done(const cfg_doc *d);
/* A path value made relative as described above; `from` is the node it stands in. */
const char *cfg_path(cfg_doc *d, const cJSON *from, const char *value);
/* Appends `path` as it is from the root on, by the current folder; FT_EIO and the like where that cannot be told. */
FT_MUST_USE ft_status cfg_absolute(str_buf *out, const char *path);
/* Adds every row with its value (defaults filled in) to `object`: the resolved config. Members of rows
 * without a default that are 0, NULL, NAN or CFG_AUTO count as absent. Paths are written absolute, so
 * that the resolved config is valid wherever it is put. On failure keys are missing. */
FT_MUST_USE ft_status cfg_resolve(cJSON *object, const cfg_field *rows, const void *values);
/* A member of a resolved object that is what its row gives where the key is absent. */
bool cfg_is_default(const cfg_field *rows, const cJSON *v);
/* Help lines ("  key  type  default  help"), and JSON Schema properties of a table (out of memory: parts are
 * missing and ft_error() has the message). */
void cfg_help(str_buf *out, const cfg_field *rows, const char *prefix);
void cfg_schema(cJSON *properties, const cfg_field *rows);
/* Nearest of `names` (NULL-terminated) to `word` by edit distance; NULL when none is near. */
const char *cfg_nearest(const char *word, const char *const *names);
#endif
