/* trie.c – byte strings to numbers, and where they stand in a text: added tokens, pieces of a Unigram model.
 * Children stand in one hash table keyed (node, byte); the first byte, where most searches end, has an array.
 *
 * A text is never searched from each of its places anew, which would take the longest entry times its length: links lead
 * from a node to the one of its longest end that is a node too (Aho and Corasick 1975), so one pass finds what ends at
 * each place, and a pass from the right over entries turned round what begins there. */
#include "token_private.h"

FT_WRAPS static size_t slot_of(const tk_trie *t, uint64_t key)
{
    uint64_t h = key * 0x9e3779b97f4a7c15u;
    size_t mask = t->cap - 1;
    size_t i = (size_t)(h >> 32) & mask;
    while (t->key[i] && t->key[i] != key) i = (i + 1) & mask;
    return i;
}

static ft_status grow_table(tk_trie *t)
{
    tk_trie bigger = *t;
    bigger.cap = t->cap ? t->cap * 2 : 256;
    bigger.key = ft_alloc(bigger.cap, sizeof *bigger.key);
    bigger.child = ft_alloc(bigger.cap, sizeof *bigger.child);
    if (!bigger.key || !bigger.child) {
        ft_free(bigger.key);
        ft_free(bigger.child);
        return FT_EMEM;
    }
    for (size_t i = 0; i < t->cap; i++) {
        if (!t->key[i]) continue;
        size_t at = slot_of(&bigger, t->key[i]);
        bigger.key[at] = t->key[i];
        bigger.child[at] = t->child[i];
    }
    ft_free(t->key);
    ft_free(t->child);
    *t = bigger;
    return FT_OK;
}

static ft_status new_node(tk_trie *t, int32_t *node)
{
    if (t->nodes == t->nodes_cap) {
        size_t cap = t->nodes_cap ? t->nodes_cap * 2 : 256;
        FT_CHECK(cap <= INT32_MAX / 2, FT_EDATA, "the vocabulary is too large for its index");
        int32_t *value = ft_realloc(t->value, cap, sizeof *value);
        if (!value) return FT_EMEM;
        t->value = value;
        t->nodes_cap = cap;
    }
    t->value[t->nodes] = -1;
    *node = (int32_t)t->nodes++;
    return FT_OK;
}

ft_status tk_trie_open(tk_trie *t)
{
    *t = (tk_trie){0};
    for (int i = 0; i < 256; i++) t->root[i] = -1;
    int32_t root;
    FT_TRY(new_node(t, &root));
    return grow_table(t);
}

int32_t tk_trie_step(const tk_trie *t, int32_t node, unsigned char byte)
{
    if (node == 0) return t->root[byte];
    size_t at = slot_of(t, ((uint64_t)node << 8 | byte) + 1);
    return t->key[at] ? t->child[at] : -1;
}

ft_status tk_trie_put(tk_trie *t, const char *s, size_t n, int32_t value)
{
    int32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)s[i];
        int32_t next = tk_trie_step(t, node, byte);
        if (next < 0) {
            FT_TRY(new_node(t, &next));
            if (node == 0) {
                t->root[byte] = next;
            } else {
                if ((t->count + 1) * 4 > t->cap * 3) FT_TRY(grow_table(t));
                size_t at = slot_of(t, ((uint64_t)node << 8 | byte) + 1);
                t->key[at] = ((uint64_t)node << 8 | byte) + 1;
                t->child[at] = next;
                t->count++;
            }
        }
        node = next;
    }
    t->value[node] = value;
    return FT_OK;
}

ft_status tk_trie_put_reversed(tk_trie *t, const char *s, size_t n, int32_t value)
{
    char *turned = ft_alloc(n + 1, 1);
    if (!turned) return FT_EMEM;
    for (size_t i = 0; i < n; i++) turned[i] = s[n - 1 - i];
    ft_status rc = tk_trie_put(t, turned, n, value);
    ft_free(turned);
    return rc;
}

/* --- links ----------------------------------------------------------------------------------------------------- */
typedef struct branch { /* how a node is reached */
    int32_t parent;
    int32_t depth;
    unsigned char byte;
} branch;

static int32_t follow(const tk_trie *t, int32_t node, unsigned char byte)
{
    for (;;) {
        int32_t next = tk_trie_step(t, node, byte);
        if (next >= 0) return next;
        if (node == 0) return 0;
        node = t->fail[node];
    }
}

/* Nodes by depth: a link leads to a node of less depth. A parent has a smaller number than its children. */
static void by_depth(branch *b, size_t n, size_t *count, int32_t *order)
{
    for (size_t i = 1; i < n; i++) {
        b[i].depth = b[b[i].parent].depth + 1;
        count[b[i].depth + 1]++;
    }
    for (size_t d = 1; d <= n; d++) count[d] += count[d - 1];
    for (size_t i = 1; i < n; i++) order[count[b[i].depth]++] = (int32_t)i;
}

static void set_links(tk_trie *t, branch *b, size_t *count, int32_t *order)
{
    for (size_t i = 0; i < t->cap; i++) {
        if (!t->key[i]) continue;
        b[t->child[i]].parent = (int32_t)((t->key[i] - 1) >> 8);
        b[t->child[i]].byte = (unsigned char)(t->key[i] - 1);
    }
    by_depth(b, t->nodes, count, order);
    t->out[0] = -1;
    for (size_t i = 0; i + 1 < t->nodes; i++) {
        int32_t k = order[i];
        t->fail[k] = b[k].parent ? follow(t, t->fail[b[k].parent], b[k].byte) : 0;
        t->out[k] = t->value[k] >= 0 ? k : t->out[t->fail[k]];
    }
}

ft_status tk_trie_link(tk_trie *t)
{
    size_t n = t->nodes;
    t->fail = ft_alloc(n, sizeof *t->fail);
    t->out = ft_alloc(n, sizeof *t->out);
    branch *b = ft_alloc(n, sizeof *b);
    size_t *count = ft_alloc(n + 2, sizeof *count);
    int32_t *order = ft_alloc(n, sizeof *order);
    bool ok = t->fail && t->out && b && count && order;
    if (ok) set_links(t, b, count, order);
    ft_free(b);
    ft_free(count);
    ft_free(order);
    return ok ? FT_OK : FT_EMEM;
}

int32_t tk_trie_follow(const tk_trie *t, int32_t node, unsigned char byte)
{
    return node == 0 ? (t->root[byte] < 0 ? 0 : t->root[byte]) : follow(t, node, byte);
}

void tk_trie_close(tk_trie *t)
{
    ft_free(t->key);
    ft_free(t->child);
    ft_free(t->value);
    ft_free(t->fail);
    ft_free(t->out);
    *t = (tk_trie){0};
}
