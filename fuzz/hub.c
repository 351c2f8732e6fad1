/* What a hub's API answers, and an index of weights: byte 0 says of what kind (bit 0: a page of the tree; bit 1: a data set),
 * the answer stands before a NUL byte, the index behind it. Every path that is accepted may stand in a folder, once, and
 * nothing is wanted but what is listed. */
#include "fuzz.h"

#include "tool/fetch_private.h"

static void look(const fetch_repo *r)
{
    for (int64_t i = 0; i < r->n; i++) {
        const fetch_file *f = &r->file[i];
        const char *p = f->path;
        FZ_CHECK(f->size >= -1 && (strlen(f->sha256) == 64 || !f->sha256[0]));
        FZ_CHECK(fetch_repo_find(r, p) == f);
        FZ_CHECK(p[0] && p[0] != '/' && !str_ends(p, "/") && !strstr(p, "//") && !strchr(p, '\\'));
        FZ_CHECK(!str_starts(p, "../") && !str_ends(p, "/..") && strcmp(p, "..") != 0);
        FZ_CHECK(!strstr(p, "/../") && !strstr(p, "/./") && strcmp(p, ".") != 0);
        FZ_CHECK(i == 0 || strcmp(r->file[i - 1].path, p) < 0);
        for (; *p; p++) FZ_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
    }
}

static int64_t wanted(const fetch_repo *r)
{
    int64_t n = 0;
    for (int64_t i = 0; i < r->n; i++) n += r->file[i].wanted;
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fz_input in = {.p = data + 1, .left = size - 1};
    const uint8_t *answer, *names;
    size_t n, n_names;
    const fetch_file *index;
    fz_start();
    if (size < 1 || !fz_part(&in, &answer, &n)) return 0;
    fetch_repo r = {.id = "org/name", .commit = "c", .url = "http://h/", .dataset = data[0] & 2};
    fetch_list l = {.r = &r, .mem = fz_arena(), .what = "org/name@main"};
    char *text = fz_exact(answer, n);
    ft_status rc = fetch_list_read(&l, data[0] & 1, text, n);
    if (rc == FT_OK) rc = fetch_list_check(&r);
    fz_status(rc);
    if (rc == FT_OK) {
        look(&r);
        rc = fetch_pick(&r, NULL, 0, &index);
        fz_status(rc);
        FZ_CHECK(rc == FT_OK ? wanted(&r) > 0 : wanted(&r) == 0);
        if (rc == FT_OK && fz_part(&in, &names, &n_names)) {
            char *map = fz_exact(names, n_names);
            fz_status(fetch_pick_indexed(&r, map, n_names, "index"));
            free(map);
        }
    }
    map_free(&r.index);
    free(text);
    return 0;
}
