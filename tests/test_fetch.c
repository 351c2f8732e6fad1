/* test_fetch.c – what `ft fetch` rests on that no server is needed for: SHA-1, names of repositories, what an index picks.
 * Transfers are tested by cli_fetch.sh. */
#include "support.h"

#include "../src/tool/fetch_private.h"

static void sha1_of_the_standard(void **state)
{
    static const struct {
        const char *text;
        int times;
        const char *hex;
    } known[] = {{"", 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
                 {"abc", 1, "a9993e364706816aba3e25717850c26c9cd0d89d"},
                 {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
                  "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
                 {"aaaaaaaaaa", 100000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f"}};
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(known); i++) {
        sha1_state s;
        char hex[41];
        sha1_init(&s);
        for (int n = 0; n < known[i].times; n++) sha1_add(&s, known[i].text, strlen(known[i].text));
        sha1_hex(&s, hex);
        assert_string_equal(hex, known[i].hex);
    }
}

/* `git hash-object` of a file that holds "hello\n"; whatever the pieces. */
static void sha1_in_pieces(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 14; piece++) {
        static const char blob[] = "blob 6\0hello\n";
        sha1_state s;
        char hex[41];
        sha1_init(&s);
        for (size_t at = 0; at < sizeof blob - 1; at += piece)
            sha1_add(&s, blob + at, sizeof blob - 1 - at < piece ? sizeof blob - 1 - at : piece);
        sha1_hex(&s, hex);
        assert_string_equal(hex, "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}

static void names_of_repositories(void **state)
{
    static const struct {
        const char *word, *id, *revision; /* id NULL: none */
    } words[] = {{"org/name", "org/name", "main"},
                 {"Org-1/na.me_2", "Org-1/na.me_2", "main"},
                 {"org/name@v1.0", "org/name", "v1.0"},
                 {"org/name@refs/pr/1", "org/name", "refs/pr/1"},
                 {"org/name@a@b", "org/name", "a@b"},
                 {"name", NULL, NULL},
                 {"", NULL, NULL},
                 {"/name", NULL, NULL},
                 {"org/", NULL, NULL},
                 {"org/name/x", NULL, NULL},
                 {"org/name@", NULL, NULL},
                 {"../name", NULL, NULL},
                 {"org/..", NULL, NULL},
                 {"-o/name", NULL, NULL},
                 {"org/na me", NULL, NULL},
                 {"org/n\nme", NULL, NULL},
                 {"org/n?me", NULL, NULL},
                 {"https://hub/org/name", NULL, NULL}};
    arena *mem;
    (void)state;
    assert_int_equal(arena_open(&mem, "names", 1 << 20), FT_OK);
    for (size_t i = 0; i < FT_COUNT_OF(words); i++) {
        fetch_repo r = {0};
        const ft_status rc = fetch_repo_name(&r, words[i].word, mem);
        assert_int_equal(rc, words[i].id ? FT_OK : FT_EUSAGE);
        if (!words[i].id) continue;
        assert_string_equal(r.id, words[i].id);
        assert_string_equal(r.revision, words[i].revision);
    }
    arena_close(mem);
}

static void urls_of_files(void **state)
{
    arena *mem;
    (void)state;
    assert_int_equal(arena_open(&mem, "urls", 1 << 20), FT_OK);
    const fetch_repo r = {.url = "http://h/o/n/resolve/c/"};
    assert_string_equal(fetch_file_url(&r, "a/b c%?#&\xc3\xa9~.json", mem),
                        "http://h/o/n/resolve/c/a/b%20c%25%3F%23%26%C3%A9~.json");
    arena_close(mem);
}

/* One answer, read and checked. */
static ft_status list(fetch_repo *r, arena *mem, bool tree, const char *text)
{
    fetch_list l = {.r = r, .mem = mem, .what = "org/name@main"};
    *r = (fetch_repo){.id = "org/name", .commit = "c"};
    ft_status rc = fetch_list_read(&l, tree, text, strlen(text));
    return rc == FT_OK ? fetch_list_check(r) : rc;
}

static void what_a_server_lists(void **state)
{
    static const char answer[] =
        "{\"sha\": \"abc\", \"big\": 1e400, \"siblings\": [{\"rfilename\": \"b/c.json\"},"
        "{\"rfilename\": \"a\", \"size\": 3, \"blobId\": "
        "\"ABCDEF0123456789abcdef0123456789abcdef01\"},"
        "{\"rfilename\": \"d\", \"size\": 134, \"blobId\": "
        "\"abcdef0123456789abcdef0123456789abcdef01\","
        " \"lfs\": {\"size\": 9007199254740992, \"sha256\": "
        "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}}]}";
    arena *mem;
    fetch_repo r;
    (void)state;
    assert_int_equal(arena_open(&mem, "list", 1 << 20), FT_OK);
    assert_int_equal(list(&r, mem, false, answer), FT_OK);
    assert_int_equal(r.n, 3);
    assert_string_equal(r.commit, "abc");
    assert_string_equal(r.file[0].path, "a");
    assert_int_equal(r.file[0].size, 3);
    assert_string_equal(r.file[0].git, "abcdef0123456789abcdef0123456789abcdef01");
    assert_int_equal(fetch_repo_find(&r, "b/c.json")->size, -1);
    assert_int_equal(r.file[2].size, (int64_t)1 << 53);
    assert_string_equal(r.file[2].git, ""); /* the blob is a pointer */
    assert_memory_equal(r.file[2].sha256, "0123456789abcdef0123456789abcdef", 32);
    map_free(&r.index);
    arena_close(mem);
}

static void what_a_server_may_not_list(void **state)
{
    static const struct {
        bool tree;
        const char *text;
    } bad[] = {
        {false, ""},
        {false, "<html>"},
        {false, "[]"},
        {false, "{}"},
        {false, "{\"sha\": 1}"},
        {false, "{\"sha\": \"\"}"},
        {false, "{\"sha\": \"a/b\"}"},
        {false, "{\"sha\": \"a\", \"siblings\": [1]}"},
        {false, "{\"sha\": \"a\", \"siblings\": [{\"rfilename\": 1}]}"},
        {false, "{\"sha\": \"a\", \"siblings\": [{\"rfilename\": \"a\"}, {\"rfilename\": \"a\"}]}"},
        {false,
         "{\"sha\": \"a\", \"siblings\": [{\"rfilename\": \"a/b/c\"}, {\"rfilename\": \"a\"}]}"},
        {true, "{}"},
        {true, "[{\"path\": \"..\"}]"},
        {true, "[{\"path\": \"a/..\"}]"},
        {true, "[{\"path\": \"a\\\\b\"}]"},
        {true, "[{\"path\": \"a\\u0000b\"}]"},
        {true, "[{\"path\": \".GIT/config\"}]"},
        {true, "[{\"path\": \"/\"}]"},
        {true, "[{\"path\": \"\"}]"},
        {true, "[{\"type\": \"file\"}]"},
        {true, "[{\"path\": \"a\"}"},
    };
    arena *mem;
    (void)state;
    assert_int_equal(arena_open(&mem, "list", 1 << 20), FT_OK);
    for (size_t i = 0; i < FT_COUNT_OF(bad); i++) {
        fetch_repo r;
        const ft_status rc = list(&r, mem, bad[i].tree, bad[i].text);
        if (rc != FT_EDATA) fail_msg("%s: %d", bad[i].text, (int)rc);
        map_free(&r.index);
    }
    arena_close(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha1_of_the_standard),  cmocka_unit_test(sha1_in_pieces),
        cmocka_unit_test(names_of_repositories), cmocka_unit_test(urls_of_files),
        cmocka_unit_test(what_a_server_lists),   cmocka_unit_test(what_a_server_may_not_list)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
