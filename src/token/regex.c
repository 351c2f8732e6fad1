/* regex.c – compiles the patterns of pre-tokenizers.
 *
 * The patterns in tokenizer files use a small language: classes with \p{…}, alternation, groups, quantifiers
 * (possessive too), look-ahead, (?i:…). An engine of our own for it has the reference's exact classes (Unicode 16,
 * also where PCRE2 is older), keeps one backtracking entry for a whole run of characters, never recurses on the
 * input and counts its steps. What it does not know (look-behind, back-references, …) goes to PCRE2. */
#include "regex_private.h"

#define MAX_DEPTH 32
#define MAX_CODE 20000
#define MAX_NODES 8192

typedef enum node_type {
    N_SET,
    N_CAT,
    N_ALT,
    N_REPEAT,
    N_LOOK,
    N_ATOM,
    N_ASSERT,
    N_EMPTY
} node_type;
typedef struct node {
    node_type type;
    int kid, next; /* first child, next sibling; −1 */
    int x;         /* set, assertion, sign */
    int min, max, mode;
} node;
typedef struct parser {
    tk_regex *re;
    const char *s;
    size_t n, pos;
    node *nodes;
    int n_nodes;
    int depth;
    bool fold, dotall;
    bool unsupported;
    ft_status rc;
} parser;

/* Gives up: PCRE2's turn. Parsing unwinds by the flag. */
static int give_up(parser *p)
{
    p->unsupported = true;
    return 0;
}

static int new_node(parser *p, node_type type)
{
    if (p->n_nodes == MAX_NODES) return give_up(p);
    p->nodes[p->n_nodes] = (node){.type = type, .kid = -1, .next = -1};
    return p->n_nodes++;
}

static int new_set(parser *p)
{
    tk_regex *re = p->re;
    if (re->n_set == re->cap_set) {
        int cap = re->cap_set ? re->cap_set * 2 : 16;
        rx_set *bigger = ft_realloc(re->set, (size_t)cap, sizeof *bigger);
        if (!bigger) {
            p->rc = FT_EMEM;
            return give_up(p);
        }
        re->set = bigger;
        re->cap_set = cap;
    }
    re->set[re->n_set] = (rx_set){0};
    return re->n_set++;
}

static void add_range(parser *p, int set, int32_t first, int32_t last)
{
    rx_set *s = &p->re->set[set];
    if (s->n_range == s->cap_range) {
        int cap = s->cap_range ? s->cap_range * 2 : 4;
        int32_t *bigger = ft_realloc(s->range, (size_t)cap * 2, sizeof *bigger);
        if (!bigger) {
            p->rc = FT_EMEM;
            give_up(p);
            return;
        }
        s->range = bigger;
        s->cap_range = cap;
    }
    s->range[2 * s->n_range] = first;
    s->range[2 * s->n_range + 1] = last;
    s->n_range++;
}

/* The same under (?i): letters of ASCII with their other case and the two characters beyond ASCII that fold to
 * one. Other letters are left to PCRE2. */
static void add_folded(parser *p, int set, int32_t first, int32_t last)
{
    add_range(p, set, first, last);
    if (!p->fold) return;
    for (int32_t c = 'a'; c <= 'z'; c++) {
        bool low = c >= first && c <= last, up = c - 32 >= first && c - 32 <= last;
        if (!low && !up) continue;
        add_range(p, set, c, c);
        add_range(p, set, c - 32, c - 32);
        if (c == 's') add_range(p, set, 0x17f, 0x17f);
        if (c == 'k') add_range(p, set, 0x212a, 0x212a);
    }
    if (last >= 0x80) give_up(p);
}

static void add_none(parser *p, int set, uint32_t mask)
{
    rx_set *s = &p->re->set[set];
    if (s->n_none == RX_MAX_NOT) {
        give_up(p);
        return;
    }
    s->none[s->n_none++] = mask;
}

static const struct {
    const char *name;
    uint32_t mask;
} properties[] = {
    {"L", TK_L},      {"Lu", TK_LU},    {"Ll", TK_LL},   {"Lt", TK_LT},     {"Lm", TK_LM},
    {"Lo", TK_LO},    {"M", TK_M},      {"Mn", TK_MN},   {"N", TK_N},       {"Nd", TK_ND},
    {"Nl", TK_NL},    {"No", TK_NO},    {"P", TK_P},     {"S", TK_S},       {"Z", TK_Z},
    {"C", TK_C},      {"Letter", TK_L}, {"Han", TK_HAN}, {"Word", TK_WORD}, {"Space", TK_SPACE},
    {"Digit", TK_ND},
};

/* \p{Name}, \P{Name}, \p{^Name}: mask and sign. pos stands after the p. */
static uint32_t property(parser *p, bool *negated)
{
    if (p->pos >= p->n || p->s[p->pos] != '{') return (uint32_t)give_up(p);
    size_t from = ++p->pos;
    while (p->pos < p->n && p->s[p->pos] != '}') p->pos++;
    if (p->pos == p->n) return (uint32_t)give_up(p);
    size_t len = p->pos++ - from;
    const char *name = p->s + from;
    if (len && name[0] == '^') {
        *negated = !*negated;
        name++;
        len--;
    }
    for (size_t i = 0; i < FT_COUNT_OF(properties); i++) {
        if (strlen(properties[i].name) != len || memcmp(properties[i].name, name, len) != 0)
            continue;
        if (p->fold && (properties[i].mask == TK_LU || properties[i].mask == TK_LL ||
                        properties[i].mask == TK_LT)) {
            break;
        }
        return properties[i].mask;
    }
    return (uint32_t)give_up(p);
}

static int32_t hex(parser *p, size_t digits, bool braces)
{
    int32_t v = 0;
    size_t got = 0;
    if (braces) p->pos++;
    while (p->pos < p->n && got < digits) {
        char c = p->s[p->pos];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) break;
        if (v > 0x10ffff) return give_up(p); /* braces hold as many digits as one likes */
        v = v * 16 + d;
        p->pos++;
        got++;
    }
    if (braces) {
        if (p->pos >= p->n || p->s[p->pos] != '}') return give_up(p);
        p->pos++;
    }
    if (got == 0 || v > 0x10ffff) return give_up(p);
    return v;
}

/* After a backslash: either a class, added to `set` (returns −1), or one character. */
static int32_t escape(parser *p, int set)
{
    if (p->pos >= p->n) return give_up(p);
    char c = p->s[p->pos];
    static const struct {
        char c;
        uint32_t mask;
    } classes[] = {{'s', TK_SPACE}, {'d', TK_ND}, {'w', TK_WORD}};
    for (size_t i = 0; i < FT_COUNT_OF(classes); i++) {
        if (c == classes[i].c) {
            p->pos++;
            p->re->set[set].any |= classes[i].mask;
            return -1;
        }
        if (c == classes[i].c - 32) {
            p->pos++;
            add_none(p, set, classes[i].mask);
            return -1;
        }
    }
    if (c == 'p' || c == 'P') {
        bool negated = c == 'P';
        p->pos++;
        uint32_t mask = property(p, &negated);
        if (p->unsupported) return -1;
        if (negated) {
            add_none(p, set, mask);
        } else {
            p->re->set[set].any |= mask;
        }
        return -1;
    }
    if (c == 'h') {
        p->pos++;
        add_range(p, set, '0', '9');
        add_range(p, set, 'a', 'f');
        add_range(p, set, 'A', 'F');
        return -1;
    }
    static const char from[] = "nrtfvae0", to[] = "\n\r\t\f\v\a\033";
    const char *at = strchr(from, c);
    if (c && at) {
        p->pos++;
        if (c == '0' && p->pos < p->n && p->s[p->pos] >= '0' && p->s[p->pos] <= '7') give_up(p);
        return c == '0' ? 0 : to[at - from];
    }
    if (c == 'x') {
        p->pos++;
        bool braces = p->pos < p->n && p->s[p->pos] == '{';
        return hex(p, braces ? 8 : 2, braces);
    }
    if (c == 'u') {
        p->pos++;
        return hex(p, 4, false);
    }
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        return give_up(p);
    }
    int32_t cp;
    p->pos += (size_t)utf8_next(p->s + p->pos, p->n - p->pos, &cp);
    return cp >= 0 ? cp : give_up(p);
}

static void class_body(parser *p, int set);

/* Inside [...]: one character, or −1 when a class was added. A nested [...] is a union. */
static int32_t class_item(parser *p, int set)
{
    if (p->s[p->pos] == '\\') {
        p->pos++;
        return escape(p, set);
    }
    if (p->s[p->pos] == '[') {
        p->pos++;
        if (p->pos >= p->n || p->s[p->pos] == ':' || p->s[p->pos] == '^') return give_up(p);
        if (++p->depth > MAX_DEPTH) return give_up(p);
        class_body(p, set);
        p->depth--;
        return -1;
    }
    if (p->s[p->pos] == '&' && p->pos + 1 < p->n && p->s[p->pos + 1] == '&') {
        return give_up(p); /* intersection */
    }
    int32_t cp;
    p->pos += (size_t)utf8_next(p->s + p->pos, p->n - p->pos, &cp);
    return cp >= 0 ? cp : give_up(p);
}

static void class_body(parser *p, int set)
{
    for (bool first = true;; first = false) {
        if (p->unsupported || p->pos >= p->n || (first && p->s[p->pos] == ']')) {
            give_up(p);
            return;
        }
        if (p->s[p->pos] == ']') break;
        int32_t low = class_item(p, set);
        if (p->unsupported) return;
        bool range = p->pos + 1 < p->n && p->s[p->pos] == '-' && p->s[p->pos + 1] != ']';
        int32_t high = low;
        if (range) {
            if (low < 0) give_up(p);
            p->pos++;
            high = p->unsupported ? -1 : class_item(p, set);
            if (high < low) give_up(p);
        }
        if (low >= 0) add_folded(p, set, low, high);
    }
    p->pos++;
}

static int parse_class(parser *p)
{
    int set = new_set(p);
    if (p->unsupported) return 0;
    bool negated = p->pos < p->n && p->s[p->pos] == '^';
    if (negated) p->pos++;
    class_body(p, set);
    if (p->unsupported) return 0;
    p->re->set[set].negated = negated;
    int id = new_node(p, N_SET);
    if (!p->unsupported) p->nodes[id].x = set;
    return id;
}

static int parse_alternatives(parser *p);

static int parse_group(parser *p)
{
    bool fold = p->fold, dotall = p->dotall;
    node_type wrap = N_EMPTY;
    int sign = 0;
    if (++p->depth > MAX_DEPTH) return give_up(p);
    if (p->pos < p->n && p->s[p->pos] == '?') {
        p->pos++;
        char c = p->pos < p->n ? p->s[p->pos++] : 0;
        if (c == '=' || c == '!') {
            wrap = N_LOOK;
            sign = c == '!';
        } else if (c == '>') {
            wrap = N_ATOM;
        } else if (c == 'i' || c == 'm') {
            if (p->pos >= p->n || p->s[p->pos++] != ':') return give_up(p);
            if (c == 'i') p->fold = true;
            if (c == 'm') p->dotall = true;
        } else if (c != ':') {
            return give_up(p);
        }
    }
    int kid = parse_alternatives(p);
    if (p->unsupported || p->pos >= p->n || p->s[p->pos] != ')') return give_up(p);
    p->pos++;
    p->depth--;
    p->fold = fold;
    p->dotall = dotall;
    if (wrap == N_EMPTY) return kid;
    int id = new_node(p, wrap);
    if (p->unsupported) return 0;
    p->nodes[id].kid = kid;
    p->nodes[id].x = sign;
    return id;
}

static int assertion(parser *p, rx_op op, int mode)
{
    int id = new_node(p, N_ASSERT);
    if (p->unsupported) return 0;
    p->nodes[id].x = (int)op;
    p->nodes[id].mode = mode;
    return id;
}

static int set_node(parser *p, int set)
{
    int id = new_node(p, N_SET);
    if (!p->unsupported) p->nodes[id].x = set;
    return id;
}

static int parse_atom(parser *p)
{
    char c = p->s[p->pos];
    if (c == '(') {
        p->pos++;
        return parse_group(p);
    }
    if (c == '[') {
        p->pos++;
        return parse_class(p);
    }
    if (c == '^' || c == '$') {
        p->pos++;
        return assertion(p, c == '^' ? RX_BOL : RX_EOL, 0);
    }
    if (c == '*' || c == '+' || c == '?' || c == '{') return give_up(p);
    if (c == '\\' && p->pos + 1 < p->n) {
        static const struct {
            char c;
            rx_op op;
            int mode;
        } asserts[] = {{'A', RX_BOT, 0},
                       {'z', RX_EOT, 0},
                       {'Z', RX_EOT_NL, 0},
                       {'b', RX_WORD, 0},
                       {'B', RX_WORD, 1}};
        for (size_t i = 0; i < FT_COUNT_OF(asserts); i++) {
            if (p->s[p->pos + 1] != asserts[i].c) continue;
            p->pos += 2;
            return assertion(p, asserts[i].op, asserts[i].mode);
        }
    }
    int set = new_set(p);
    if (p->unsupported) return 0;
    int32_t cp;
    if (c == '\\' && p->pos + 1 < p->n && (p->s[p->pos + 1] == 'w' || p->s[p->pos + 1] == 'W')) {
        rx_set *word = &p->re->set[set];
        word->any = TK_WORD;
        word->negated = p->s[p->pos + 1] == 'W';
        for (int i = 0; i < 3; i++) add_range(p, set, rx_word_extra[i][0], rx_word_extra[i][1]);
        p->pos += 2;
        return set_node(p, set);
    }
    if (c == '\\') {
        p->pos++;
        cp = escape(p, set);
    } else if (c == '.') {
        p->pos++;
        p->re->set[set].negated = true;
        if (!p->dotall) add_range(p, set, '\n', '\n');
        return set_node(p, set);
    } else {
        p->pos += (size_t)utf8_next(p->s + p->pos, p->n - p->pos, &cp);
        if (cp < 0) return give_up(p);
    }
    if (p->unsupported) return 0;
    if (cp >= 0) add_folded(p, set, cp, cp);
    return set_node(p, set);
}

static bool number(parser *p, int *out)
{
    size_t start = p->pos;
    int v = 0;
    while (p->pos < p->n && p->s[p->pos] >= '0' && p->s[p->pos] <= '9' && v < 10000) {
        v = v * 10 + (p->s[p->pos++] - '0');
    }
    *out = v;
    return p->pos > start;
}

/* {m}, {m,}, {,n}, {m,n} */
static bool braces(parser *p, int *min, int *max)
{
    p->pos++;
    bool low = number(p, min);
    if (!low) *min = 0;
    *max = *min;
    bool high = false;
    if (p->pos < p->n && p->s[p->pos] == ',') {
        p->pos++;
        high = number(p, max);
        if (!high) *max = -1;
    } else if (!low) {
        return false;
    }
    if ((!low && !high) || p->pos >= p->n || p->s[p->pos] != '}') return false;
    p->pos++;
    return *min <= 1000 && *max <= 1000 && (*max < 0 || *max >= *min);
}

/* Can it match the empty string? Loops over such things are left to PCRE2. */
static bool nullable(const parser *p, int id)
{
    const node *x = &p->nodes[id];
    bool all = true;
    switch (x->type) {
    case N_SET:
        return false;
    case N_REPEAT:
        return x->min == 0 || nullable(p, x->kid);
    case N_ALT:
        for (int k = x->kid; k >= 0; k = p->nodes[k].next) {
            if (nullable(p, k)) return true;
        }
        return false;
    case N_CAT:
        for (int k = x->kid; k >= 0 && all; k = p->nodes[k].next) all = nullable(p, k);
        return all;
    case N_ATOM:
        return nullable(p, x->kid);
    default:
        return true;
    }
}

static int parse_piece(parser *p)
{
    int id = parse_atom(p);
    while (!p->unsupported && p->pos < p->n && strchr("*+?{", p->s[p->pos]) && p->s[p->pos]) {
        char c = p->s[p->pos];
        int min = c == '+', max = c == '?' ? 1 : -1, mode = 0;
        bool interval = c == '{';
        if (interval) {
            if (!braces(p, &min, &max)) return give_up(p);
        } else {
            p->pos++;
        }
        if (p->pos < p->n && p->s[p->pos] == '?' && !(interval && min == max)) {
            mode = 1; /* lazy; Ruby reads x{n}? as (?:x{n})? */
            p->pos++;
        } else if (!interval && p->pos < p->n && p->s[p->pos] == '+') {
            mode = 2; /* possessive; after {m,n} Oniguruma reads a plus as one more quantifier */
            p->pos++;
        }
        node_type kind = p->nodes[id].type;
        if (kind == N_LOOK || kind == N_ASSERT || kind == N_EMPTY) return give_up(p);
        if (max < 0 && nullable(p, id)) return give_up(p);
        int repeat = new_node(p, N_REPEAT);
        if (p->unsupported) return 0;
        p->nodes[repeat].kid = id;
        p->nodes[repeat].min = min;
        p->nodes[repeat].max = max;
        p->nodes[repeat].mode = mode;
        id = repeat;
    }
    return id;
}

static int parse_sequence(parser *p)
{
    int cat = new_node(p, N_CAT), last = -1;
    while (!p->unsupported && p->pos < p->n && p->s[p->pos] != '|' && p->s[p->pos] != ')') {
        int kid = parse_piece(p);
        if (p->unsupported) return 0;
        /* a group comes back as a node that may already be linked to nothing: wrap keeps links single */
        int link = new_node(p, N_CAT);
        if (p->unsupported) return 0;
        p->nodes[link].kid = kid;
        if (last < 0) {
            p->nodes[cat].kid = link;
        } else {
            p->nodes[last].next = link;
        }
        last = link;
    }
    return cat;
}

static int parse_alternatives(parser *p)
{
    int alt = new_node(p, N_ALT), last = -1;
    for (;;) {
        int kid = parse_sequence(p);
        if (p->unsupported) return 0;
        if (last < 0) {
            p->nodes[alt].kid = kid;
        } else {
            p->nodes[last].next = kid;
        }
        last = kid;
        if (p->pos >= p->n || p->s[p->pos] != '|') return alt;
        p->pos++;
    }
}

/* --- code ------------------------------------------------------------------------------------------------- */
static int emit(parser *p, rx_inst inst)
{
    tk_regex *re = p->re;
    if (re->n_code >= MAX_CODE) return give_up(p);
    if (re->n_code == re->cap_code) {
        int cap = re->cap_code ? re->cap_code * 2 : 64;
        rx_inst *bigger = ft_realloc(re->code, (size_t)cap, sizeof *bigger);
        if (!bigger) {
            p->rc = FT_EMEM;
            return give_up(p);
        }
        re->code = bigger;
        re->cap_code = cap;
    }
    re->code[re->n_code] = inst;
    return re->n_code++;
}

static void gen(parser *p, int id);

/* The set of a node that matches exactly one character, −1 otherwise. */
static int single_set(const parser *p, int id)
{
    for (;;) {
        const node *x = &p->nodes[id];
        if (x->type == N_SET) return x->x;
        if ((x->type != N_CAT && x->type != N_ALT) || x->kid < 0 || p->nodes[x->kid].next >= 0) {
            return -1;
        }
        id = x->kid;
    }
}

static void gen_split(parser *p, int *at, bool lazy)
{
    *at = emit(p, (rx_inst){.op = RX_SPLIT, .mode = lazy});
}

/* Where a split goes: into the loop body or past it, the preferred one first. */
static void aim(parser *p, int at, int body, int out)
{
    rx_inst *i = &p->re->code[at];
    i->x = i->mode ? out : body;
    i->y = i->mode ? body : out;
}

static void gen_repeat(parser *p, const node *x)
{
    int set = single_set(p, x->kid);
    if (set >= 0 && x->mode != 1) {
        emit(p, (rx_inst){
                    .op = RX_SPAN, .mode = x->mode == 2, .x = set, .min = x->min, .max = x->max});
        return;
    }
    int atom = -1;
    if (x->mode == 2) atom = emit(p, (rx_inst){.op = RX_ATOM});
    for (int i = 0; i < x->min && !p->unsupported; i++) gen(p, x->kid);
    if (x->max < 0) {
        int at;
        gen_split(p, &at, x->mode == 1);
        gen(p, x->kid);
        emit(p, (rx_inst){.op = RX_JUMP, .x = at});
        if (!p->unsupported) aim(p, at, at + 1, p->re->n_code);
    } else {
        int at[1000], n = x->max - x->min;
        for (int i = 0; i < n && !p->unsupported; i++) {
            gen_split(p, &at[i], x->mode == 1);
            gen(p, x->kid);
        }
        for (int i = 0; i < n && !p->unsupported; i++) aim(p, at[i], at[i] + 1, p->re->n_code);
    }
    if (atom >= 0) {
        emit(p, (rx_inst){.op = RX_DONE});
        if (!p->unsupported) p->re->code[atom].x = p->re->n_code;
    }
}

static void gen_alternatives(parser *p, const node *x)
{
    int jump = -1; /* chain of jumps to the end, linked through x */
    for (int k = x->kid; k >= 0 && !p->unsupported; k = p->nodes[k].next) {
        bool more = p->nodes[k].next >= 0;
        int at = -1;
        if (more) gen_split(p, &at, false);
        gen(p, k);
        if (more) {
            jump = emit(p, (rx_inst){.op = RX_JUMP, .x = jump});
            if (!p->unsupported) aim(p, at, at + 1, p->re->n_code);
        }
    }
    while (jump >= 0 && !p->unsupported) {
        int before = p->re->code[jump].x;
        p->re->code[jump].x = p->re->n_code;
        jump = before;
    }
}

static void gen(parser *p, int id)
{
    const node *x = &p->nodes[id];
    if (p->unsupported) return;
    switch (x->type) {
    case N_SET:
        emit(p, (rx_inst){.op = RX_SET, .x = x->x});
        break;
    case N_CAT:
        for (int k = x->kid; k >= 0; k = p->nodes[k].next) gen(p, k);
        break;
    case N_ALT:
        gen_alternatives(p, x);
        break;
    case N_REPEAT:
        gen_repeat(p, x);
        break;
    case N_LOOK:
    case N_ATOM: {
        int at =
            emit(p, (rx_inst){.op = x->type == N_LOOK ? RX_LOOK : RX_ATOM, .mode = (uint8_t)x->x});
        gen(p, x->kid);
        emit(p, (rx_inst){.op = RX_DONE});
        if (!p->unsupported) p->re->code[at].x = p->re->n_code;
        break;
    }
    case N_ASSERT:
        emit(p, (rx_inst){.op = (uint8_t)x->x, .mode = (uint8_t)x->mode});
        break;
    case N_EMPTY:
        break;
    }
}

ft_status rx_parse(tk_regex *re, tk_span pattern, bool *unsupported)
{
    parser p = {.re = re, .s = pattern.s, .n = pattern.n};
    p.nodes = ft_alloc(MAX_NODES, sizeof *p.nodes);
    if (!p.nodes) return FT_EMEM;
    int root = parse_alternatives(&p);
    if (!p.unsupported && p.pos < p.n) give_up(&p); /* a stray parenthesis */
    if (!p.unsupported) gen(&p, root);
    if (!p.unsupported) emit(&p, (rx_inst){.op = RX_DONE});
    for (int i = 0; i < re->n_set && !p.unsupported; i++) rx_set_ready(&re->set[i]);
    *unsupported = p.unsupported;
    ft_free(p.nodes);
    return p.rc;
}
