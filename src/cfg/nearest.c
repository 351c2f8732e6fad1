/* nearest.c – the name somebody probably meant: edit distance with transpositions.
 *
 * Costs are in halves of an edit: another case, or '-' for '_', is half a slip. */
#include "ft/cfg.h"

#include <stdlib.h>
#include <string.h>

enum { WORD = 64 };

static int lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c == '-' ? '_' : c;
}

static int substitution(char a, char b)
{
    if (a == b) return 0;
    return lower((unsigned char)a) == lower((unsigned char)b) ? 1 : 2;
}

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Optimal string alignment distance in half edits; lengths below WORD. */
static int distance(const char *a, size_t na, const char *b, size_t nb)
{
    int rows[3][WORD + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= nb; j++) last[j] = 2 * (int)j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = 2 * (int)i;
        for (size_t j = 1; j <= nb; j++) {
            now[j] =
                min3(last[j] + 2, now[j - 1] + 2, last[j - 1] + substitution(a[i - 1], b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 2 < now[j])
                now[j] = before[j - 2] + 2;
        }
        int *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[nb];
}

const char *cfg_nearest(const char *word, const char *const *names)
{
    const char *best = NULL;
    int best_distance = 0;
    size_t n = strlen(word);
    if (n >= WORD) return NULL;
    for (; *names; names++) {
        size_t len = strlen(*names);
        if (len >= WORD) continue;
        int allowed = len < 6 ? 2 : 2 * (int)(len / 3);
        int d = distance(word, n, *names, len);
        if (d > allowed || (best && d >= best_distance)) continue;
        best = *names;
        best_distance = d;
    }
    return best;
}
