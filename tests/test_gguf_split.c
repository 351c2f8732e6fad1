/* test_gguf_split.c – a GGUF in parts opens whole by its first part and computes what the single file does; other parts,
 * missing ones, and parts that are not of one model are refused with the name that helps. */
#include "golden.h"
#include "support.h"

#include "ft/model.h"

#include <unistd.h>

enum { PARTS = 3 };

static const char *part_path(const char *stem, int i, int n)
{
    return test_path(arena_printf(test_mem, "%s-%05d-of-%05d.gguf", stem, i + 1, n));
}

typedef struct split {
    int no, count;       /* as the part says */
    int64_t all;         /* split.tensors.count, −1: left out */
    bool meta;           /* the model's keys */
    int64_t first, last; /* tensors [first, last) of the whole */
} split;

static void write_part(const char *path, const gguf_file *whole, split s)
{
    gguf_writer *w;
    assert_ok(gguf_write_open(&w, path));
    for (int64_t i = 0; s.meta && i < whole->n_kv; i++) gguf_put_copy(w, &whole->kv[i]);
    gguf_put_int(w, "split.no", GGUF_U16, s.no);
    gguf_put_int(w, "split.count", GGUF_U16, s.count);
    if (s.all >= 0) gguf_put_int(w, "split.tensors.count", GGUF_I32, s.all);
    for (int64_t i = s.first; i < s.last; i++) {
        const io_tensor *t = &whole->tensor[i];
        gguf_put_tensor(w, t->name, t->type, t->nd, t->dim);
    }
    assert_ok(gguf_write_header(w));
    for (int64_t i = s.first; i < s.last; i++)
        assert_ok(gguf_write(w, whole->tensor[i].data, whole->tensor[i].bytes));
    assert_ok(gguf_write_close(w));
}

/* The golden llama as one GGUF and as three parts, the first of them without tensors. */
static const char *whole_and_parts(const char *stem)
{
    const char *path = test_path(arena_printf(test_mem, "%s.gguf", stem));
    model *m = NULL;
    gguf_file f;
    assert_ok(model_open(&m, &(model_options){.path = golden_model("llama")}));
    assert_ok(model_save(m, path, NULL));
    model_close(m);
    assert_ok(gguf_open(&f, path, test_mem));
    for (int i = 0; i < PARTS; i++)
        write_part(part_path(stem, i, PARTS), &f,
                   (split){.no = i,
                           .count = PARTS,
                           .all = f.n,
                           .meta = i == 0,
                           .first = i == 2 ? 7 : 0,
                           .last = i == 0   ? 0
                                   : i == 1 ? 7
                                            : f.n});
    gguf_close(&f);
    return path;
}

static void save(const char *from, const char *to)
{
    model *m = NULL;
    assert_ok(model_open(&m, &(model_options){.path = from}));
    assert_ok(model_save(m, to, NULL));
    model_close(m);
}

static void assert_same_file(const char *a, const char *b)
{
    size_t n, k;
    char *x = test_read_file(a, &n), *y = test_read_file(b, &k);
    assert_int_equal(n, k);
    assert_memory_equal(x, y, n);
}

static void parts_are_one_model(void **state)
{
    (void)state;
    const char *whole = whole_and_parts("m"), *first = part_path("m", 0, PARTS);
    io_weights w;
    assert_ok(io_weights_open(&w, first, test_mem));
    assert_int_equal(w.n_parts, PARTS - 1);
    assert_string_equal(io_find(&w, "output_norm.weight")->file, part_path("m", 2, PARTS));
    io_weights_close(&w);
    /* joined again it is the single file, and the folders made of both are the same */
    save(first, test_path("joined.gguf"));
    assert_same_file(test_path("joined.gguf"), whole);
    save(first, test_path("a"));
    save(whole, test_path("b"));
    assert_same_file(test_path("a/model.safetensors"), test_path("b/model.safetensors"));
    assert_same_file(test_path("a/config.json"), test_path("b/config.json"));
}

/* The checksum is that of the lines sha256sum prints for the parts. */
static void parts_have_a_checksum(void **state)
{
    (void)state;
    io_weights w;
    sha256_state sha;
    char hex[65], want[65];
    whole_and_parts("s");
    sha256_init(&sha);
    for (int i = 0; i < PARTS; i++) {
        const char *path = part_path("s", i, PARTS);
        assert_ok(file_sha256(path, hex));
        const char *line = arena_printf(test_mem, "%s  %s\n", hex, path_base(path));
        sha256_add(&sha, line, strlen(line));
    }
    sha256_hex(&sha, want);
    assert_ok(io_weights_open(&w, part_path("s", 0, PARTS), test_mem));
    assert_ok(io_weights_sha256(&w, hex));
    assert_string_equal(hex, want);
    io_weights_close(&w);
}

static void open_fails(const char *path, ft_status status, const char *text)
{
    io_weights w;
    assert_fails(io_weights_open(&w, path, test_mem), status, text);
}

static void refusals_name_the_file_that_helps(void **state)
{
    (void)state;
    whole_and_parts("r");
    const char *first = part_path("r", 0, PARTS);
    open_fails(part_path("r", 1, PARTS), FT_EDATA, "number 2; name the first one: ");
    open_fails(part_path("r", 2, PARTS), FT_EDATA, path_base(first));
    gguf_file f;
    assert_fails(gguf_open(&f, part_path("r", 2, PARTS), test_mem), FT_EDATA, path_base(first));

    assert_int_equal(rename(part_path("r", 1, PARTS), test_path("aside")), 0);
    open_fails(first, FT_ENOINPUT, "r-00002-of-00003.gguf: is missing, one of 3 parts");
    assert_int_equal(symlink("gone", part_path("r", 1, PARTS)), 0);
    open_fails(first, FT_ENOINPUT,
               "r-00002-of-00003.gguf: is a link to gone, which does not exist");
    assert_int_equal(unlink(part_path("r", 1, PARTS)), 0);
    assert_int_equal(symlink(test_path("aside"), part_path("r", 1, PARTS)), 0);
    io_weights w;
    assert_ok(io_weights_open(&w, first, test_mem));
    io_weights_close(&w);

    assert_int_equal(rename(first, test_path("renamed.gguf")), 0);
    open_fails(test_path("renamed.gguf"), FT_EDATA, "must end in -00001-of-00003.gguf");
    assert_int_equal(rename(part_path("r", 2, PARTS), test_path("later.gguf")), 0);
    open_fails(test_path("later.gguf"), FT_EDATA, "number 3; name the first one");
}

/* Parts of two models, or in the wrong places, or with tensors twice or lacking. */
static void parts_must_be_of_one_model(void **state)
{
    (void)state;
    gguf_file f;
    const char *whole = whole_and_parts("x"), *first = part_path("x", 0, PARTS);
    assert_ok(gguf_open(&f, whole, test_mem));
    static const struct {
        int no, count;
        int64_t first, last;
        const char *text;
    } cases[] = {
        {1, 3, 0, 7, NULL},
        {2, 3, 0, 7, "says that it is part 3 of 3, its name says 2 of 3"},
        {1, 4, 0, 7, "says that it is part 2 of 4, its name says 2 of 3"},
        {1, 3, 0, 6, "tensors, the first of them says"},
        {1, 3, 0, 8, "stands in"},
        {0, 1, 0, 7, "says that it is part 1 of 1"},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        io_weights w;
        write_part(part_path("x", 1, PARTS), &f,
                   (split){.no = cases[i].no,
                           .count = cases[i].count,
                           .all = -1,
                           .first = cases[i].first,
                           .last = cases[i].last});
        if (cases[i].text) {
            open_fails(first, FT_EDATA, cases[i].text);
            continue;
        }
        assert_ok(io_weights_open(&w, first, test_mem));
        io_weights_close(&w);
    }
    gguf_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_one_model),
        cmocka_unit_test(parts_have_a_checksum),
        cmocka_unit_test(refusals_name_the_file_that_helps),
        cmocka_unit_test(parts_must_be_of_one_model),
    };
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
