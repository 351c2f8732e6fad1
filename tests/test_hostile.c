/* test_hostile.c – malformed safetensors and GGUF files, one fault each: every one is refused with
 * the right status and a message that names the file, and what is accepted can be read to its last
 * byte.
 *
 * Runs under the sanitizers too: there an access outside the mapping or an overflow ends the
 * program. */
#include "support.h"

#include <fcntl.h>
#include <unistd.h>

static size_t mem_start;

static int setup(void **state)
{
    if (test_open_arena(state) != 0) return -1;
    mem_start = arena_mark(test_mem);
    return 0;
}

/* --- reading a file to the last byte ---------------------------------------------------------- */

static unsigned sum_bytes(const void *data, size_t n)
{
    const uint8_t *p = data;
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++) sum += p[i];
    return sum;
}

static ft_status read_st(const char *path, unsigned *sum)
{
    st_file f;
    FT_TRY(st_open(&f, path, test_mem));
    for (int64_t i = 0; i < f.n; i++) *sum += sum_bytes(f.tensor[i].data, f.tensor[i].bytes);
    for (int i = 0; i < 2 * f.n_meta; i++) *sum += sum_bytes(f.meta[i], strlen(f.meta[i]));
    st_close(&f);
    return FT_OK;
}

static ft_status read_gguf(const char *path, unsigned *sum)
{
    gguf_file f;
    FT_TRY(gguf_open(&f, path, test_mem));
    for (int64_t i = 0; i < f.n; i++) *sum += sum_bytes(f.tensor[i].data, f.tensor[i].bytes);
    for (int64_t i = 0; i < f.n_kv; i++) {
        const gguf_kv *kv = &f.kv[i];
        const char *key = arena_strn(test_mem, kv->key.s, kv->key.n), *text;
        int64_t v, n, *ints;
        double num;
        float *floats;
        bool flag;
        ft_status rc[] = {gguf_int(&f, key, 0, INT64_MIN, INT64_MAX, &v),
                          gguf_num(&f, key, 0, &num),
                          gguf_bool(&f, key, false, &flag),
                          gguf_text(&f, key, test_mem, &text),
                          gguf_ints(&f, key, test_mem, &ints, &n),
                          gguf_floats(&f, key, test_mem, &floats, &n)};
        for (size_t k = 0; k < FT_COUNT_OF(rc); k++)
            assert_true(rc[k] == FT_OK || rc[k] == FT_EDATA);
        for (uint64_t k = 0; kv->strs && k < kv->count; k++)
            *sum += sum_bytes(kv->strs[k].s, kv->strs[k].n);
    }
    gguf_close(&f);
    return FT_OK;
}

typedef ft_status (*read_fn)(const char *path, unsigned *sum);

/* The file is refused with a message of one line that begins with its path, holds `text` and no raw
 * control character. */
static void refused(read_fn read, const char *path, const char *text)
{
    unsigned sum = 0;
    ft_error_forget();
    ft_status rc = read(path, &sum);
    arena_reset(test_mem, mem_start);
    if (rc != FT_EDATA || !str_starts(ft_error(), path) || !strstr(ft_error(), text))
        fail_msg("expected \"%s\", got status %d: %s", text, (int)rc, ft_error());
    for (const char *p = ft_error(); *p; p++) assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void accepted(read_fn read, const char *path)
{
    unsigned sum = 0;
    assert_ok(read(path, &sum));
    arena_reset(test_mem, mem_start);
}

/* Whatever the bytes are: success, or a failure that names the file. */
static void survived(read_fn read, const char *path, const void *data, size_t n)
{
    unsigned sum = 0;
    test_write_file(path, data, n);
    ft_error_forget();
    ft_status rc = read(path, &sum);
    arena_reset(test_mem, mem_start);
    if (rc != FT_OK && (rc != FT_EDATA || !str_starts(ft_error(), path)))
        fail_msg("status %d: %s", (int)rc, ft_error());
}

/* Every truncation, every flipped bit, and random damage of a sound file. */
static void damage(read_fn read, const char *path, const uint8_t *good, size_t n, size_t needed)
{
    uint8_t *copy = test_alloc(n + 64);
    test_write_file(path, good, n);
    accepted(read, path);
    for (size_t cut = 0; cut < needed; cut++) {
        test_write_file(path, good, cut);
        refused(read, path, "");
    }
    for (size_t bit = 0; bit < 8 * n; bit++) {
        memcpy(copy, good, n);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        survived(read, path, copy, n);
    }
    for (uint64_t k = 0; k < 4000; k++) {
        static const uint64_t odd[] = {0,
                                       1,
                                       0x7f,
                                       0xff,
                                       1u << 31,
                                       UINT32_MAX,
                                       UINT64_MAX,
                                       INT64_MAX,
                                       UINT64_C(1) << 62,
                                       UINT64_C(1) << 63};
        memcpy(copy, good, n);
        for (uint64_t i = 0; i <= test_u64(k, 0) % 3; i++) {
            size_t at = test_u64(k, 3 * i + 1) % n, width = (size_t)1 << test_u64(k, 3 * i + 2) % 4;
            uint64_t v = odd[test_u64(k, 3 * i + 3) % FT_COUNT_OF(odd)];
            memcpy(copy + at, &v, width < n - at ? width : n - at);
        }
        survived(read, path, copy, n);
    }
}

/* --- safetensors ------------------------------------------------------------------------------ */

static void put_st(const char *path, const char *header, size_t header_len, size_t data_len)
{
    uint8_t *file = test_alloc(8 + header_len + data_len);
    uint64_t n = header_len;
    memcpy(file, &n, 8);
    memcpy(file + 8, header, header_len);
    for (size_t i = 0; i < data_len; i++) file[8 + header_len + i] = (uint8_t)i;
    test_write_file(path, file, 8 + header_len + data_len);
}

#define T(name, fields) "\"" name "\":{" fields "}"
#define F4(name, begin, end)                                                                       \
    T(name, "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" begin "," end "]")
#define SHAPE(dtype, dims, end)                                                                    \
    "{" T("t", "\"dtype\":\"" dtype "\",\"shape\":[" dims "],\"data_offsets\":[0," end "]") "}"

static const struct {
    const char *header;
    size_t data;
    const char *message; /* NULL: sound */
} st_cases[] = {
    {"{" F4("t", "0", "4") "}", 4, NULL},
    {"{}", 0, NULL},
    {"\t\n{}\r ", 0, NULL},
    {"{\"__metadata__\":{}}", 0, NULL},
    {"{" F4("t", "0", "4") "}", 5, "belong to no tensor"},
    {"{" F4("t", "0", "4") "}", 3, "ends 1 bytes after"},
    {"{" F4("t", "0", "4") "}", 0, "ends 4 bytes after"},
    {"{}", 1, "belong to no tensor"},
    {"", 0, "no '{'"},
    {"   ", 0, "no '{'"},
    {"[]", 0, "no '{'"},
    {"{", 0, "no '\"'"},
    {"{" F4("t", "0", "4"), 4, "no '}'"},
    {"{" F4("t", "0", "4") ",}", 4, "no '\"'"},
    {"{," F4("t", "0", "4") "}", 4, "no '\"'"},
    {"{" F4("t", "0", "4") "}x", 4, "text after the end"},
    {"{" F4("t", "0", "4") "}{}", 4, "text after the end"},
    {"{" F4("t", "0", "4") "}\0", 4, NULL}, /* strlen: the NUL is not part of it */
    {"{\"t\" {}}", 0, "no ':'"},
    {"{\"t\":{}}", 0, "no \"dtype\""},
    {"{\"t\":[]}", 0, "no '{'"},
    {"{\"t\":null}", 0, "no '{'"},
    {"{'t':{}}", 0, "no '\"'"},
    {"{" T("t", "\"shape\":[1],\"data_offsets\":[0,4]") "}", 4, "no \"dtype\""},
    {"{" T("t", "\"dtype\":\"F32\",\"data_offsets\":[0,4]") "}", 4, "no \"shape\""},
    {"{" T("t", "\"dtype\":\"F32\",\"shape\":[1]") "}", 4, "no \"data_offsets\""},
    {"{" T("t", "\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]") "}", 4,
     "\"dtype\" stands twice"},
    {"{" T("t", "\"dtype\":\"F32\",\"shape\":[1],\"x\":1,\"data_offsets\":[0,4]") "}", 4,
     "unknown key \"x\""},
    {"{" F4("t", "0", "4") "," F4("t", "4", "8") "}", 8, "\"t\": stands twice"},
    {"{" F4("t", "0", "4") "," F4("\\u0074", "4", "8") "}", 8, "\"t\": stands twice"},
    {"{" F4("a", "0", "4") "," F4("b", "0", "4") "}", 4, "overlaps"},
    {"{" F4("a", "0", "4") "," F4("b", "2", "6") "}", 6, "overlaps"},
    {"{" F4("a", "0", "4") "," F4("b", "5", "9") "}", 9, "hole"},
    {"{" F4("a", "1", "5") "}", 5, "hole"},
    {"{" F4("a", "4", "0") "}", 4, "backwards"},
    {"{" F4("a", "0", "5") "}", 5, "need 4 bytes, data_offsets give 5"},
    {"{" F4("a", "0", "3") "}", 3, "need 4 bytes"},
    {"{" F4("a", "18446744073709551612", "18446744073709551616") "}", 4, "beyond 64 bits"},
    {"{" F4("a", "18446744073709551611", "18446744073709551615") "}", 4, "hole"},
    {"{" F4("a", "-4", "0") "}", 4, "unsigned integer"},
    {"{" F4("a", "0", "4.0") "}", 4, "unsigned integer"},
    {"{" F4("a", "0", "4e0") "}", 4, "unsigned integer"},
    {"{" F4("a", "0", "04") "}", 4, "leading zero"},
    {"{" F4("a", "0", "\"4\"") "}", 4, "unsigned integer"},
    {"{" F4("a", "0", "+4") "}", 4, "unsigned integer"},
    {"{" T("t", "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]") "}", 4, "no ','"},
    {"{" T("t", "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]") "}", 4, "no ']'"},
    {"{" T("t", "\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,4]") "}", 4, "no '['"},
    {SHAPE("F32", "2,18446744073709551614", "16"), 16, "dimension beyond"},
    {SHAPE("F32", "4294967296,4294967296", "16"), 16, "elements than can be counted"},
    {SHAPE("F32", "4611686018427387904", "0"), 0, "bytes than can be counted"},
    {SHAPE("U8", "9223372036854775807,2", "0"), 0, "elements than can be counted"},
    {SHAPE("F32", "-1", "4"), 4, "unsigned integer"},
    {SHAPE("F32", "1.0", "4"), 4, "unsigned integer"},
    {SHAPE("F32", "1,", "4"), 4, "unsigned integer"},
    {SHAPE("F32", "[1]", "4"), 4, "unsigned integer"},
    {SHAPE("U8", "1,1,1,1,1,1,1,1", "1"), 1, NULL},
    {SHAPE("U8", "1,1,1,1,1,1,1,1,1", "1"), 1, "more than 8 dimensions"},
    {SHAPE("F32", "0", "0"), 0, NULL},
    {SHAPE("F32", "", "4"), 4, NULL},
    {SHAPE("f32", "1", "4"), 4, "dtype \"f32\" is not supported"},
    {SHAPE("F4", "2", "1"), 1, "dtype \"F4\" is not supported"},
    {SHAPE("Q8_0", "32", "34"), 34, "not supported"},
    {SHAPE("", "1", "4"), 4, "not supported"},
    {SHAPE("F32F32F32F32F32F32", "1", "4"), 4, "not supported"},
    {"{" F4("\\x41", "0", "4") "}", 4, "unknown escape"},
    {"{" F4("\\u00", "0", "4") "}", 4, "hex digits"},
    {"{" F4("\\u00g0", "0", "4") "}", 4, "hex digits"},
    {"{" F4("\\u+041", "0", "4") "}", 4, "hex digits"},
    {"{" F4("\\u0000", "0", "4") "}", 4, "NUL"},
    {"{" F4("\\ud800", "0", "4") "}", 4, "surrogate"},
    {"{" F4("\\ud800\\u0041", "0", "4") "}", 4, "surrogate"},
    {"{" F4("\\udc00", "0", "4") "}", 4, "surrogate"},
    {"{" F4("\\ud83d\\ude00", "0", "4") "}", 4, NULL},
    {"{" F4("\\\"\\\\\\/\\b\\f\\n\\r\\t", "0", "4") "}", 4, NULL},
    {"{" F4("\n", "0", "4") "}", 4, "control character"},
    {"{" F4("\x1b[31m", "0", "4") "}", 4, "control character"},
    {"{" F4("\xff", "0", "4") "}", 4, "UTF-8"},
    {"{" F4("\xc0\xaf", "0", "4") "}", 4, "UTF-8"},
    {"{" F4("\xed\xa0\x80", "0", "4") "}", 4, "UTF-8"},
    {"{" F4("a\\u001b[2J\\u202e", "0", "5") "}", 5, "need 4 bytes"}, /* shown escaped */
    {"\xef\xbb\xbf{}", 0, "no '{'"},
    {"{/**/}", 0, "no '\"'"},
    {"{\"abc", 0, "unfinished string"},
    {"{\"abc\\", 0, "unfinished string"},
    {"{\"abc\\u00", 0, "unfinished \\u"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "not a string"},
    {"{\"__metadata__\":{\"a\":null}}", 0, "not a string"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "not a string"},
    {"{\"__metadata__\":[]}", 0, "no '{'"},
    {"{\"__metadata__\":{\"a\":\"b\"},\"__metadata__\":{}}", 0, "second __metadata__"},
    {"{\"__metadata__\":{\"a\"}}", 0, "no ':'"},
    {"{\"__metadata__\":{\"a\":\"b\",}}", 0, "no '\"'"},
    {"{\"__metadata__\":{\"a\":\"b\\u0000\"}}", 0, "NUL"},
};

static void malformed_safetensors(void **state)
{
    (void)state;
    const char *path = test_path("bad.safetensors");
    for (size_t i = 0; i < FT_COUNT_OF(st_cases); i++) {
        put_st(path, st_cases[i].header, strlen(st_cases[i].header), st_cases[i].data);
        if (st_cases[i].message)
            refused(read_st, path, st_cases[i].message);
        else
            accepted(read_st, path);
    }
}

static void safetensors_header_length(void **state)
{
    (void)state;
    const char *path = test_path("length.safetensors");
    static const struct {
        uint64_t n;
        const char *message;
    } cases[] = {
        {3, "does not fit"},
        {100000000, "does not fit"},
        {100000001, "beyond the limit"},
        {UINT64_MAX, "beyond"},
        {UINT64_MAX - 7, "beyond"},
        {UINT64_C(1) << 63, "beyond"},
        {0, "no '{'"},
        {1, "no '\"'"},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        uint8_t file[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        memcpy(file, &cases[i].n, 8);
        test_write_file(path, file, 10);
        refused(read_st, path, cases[i].message);
    }
    for (size_t n = 0; n < 8; n++) {
        test_write_file(path, "\2\0\0\0\0\0\0", n);
        refused(read_st, path, "too few");
    }
    test_write_file(path, "GGUF\3\0\0\0\0\0\0\0", 12);
    refused(read_st, path, "is a GGUF file");
}

static void damaged_safetensors(void **state)
{
    (void)state;
    size_t n;
    const char *path = test_path("damaged.safetensors");
    const char *header =
        "{\"__metadata__\":{\"k\":\"v\\n\"}," F4("a", "0", "4") "," F4("\\u0062", "4", "8") "}";
    put_st(path, header, strlen(header), 8);
    const uint8_t *good = (const uint8_t *)test_read_file(path, &n);
    damage(read_st, path, good, n, n);
}

/* --- GGUF ------------------------------------------------------------------------------------- */

/* Builds a file from words: m magic, 1:N 2:N 4:N 8:N integers, s:TEXT a string with its length,
 * r:TEXT raw text, z:N zeros, x:N bytes 'x', p padding to 32. */
static size_t build(uint8_t *out, size_t room, const char *recipe)
{
    size_t n = 0;
    memset(out, 0, room);
    for (const char *p = recipe; *p;) {
        size_t len = strcspn(p, " ");
        const char *arg = p + 2;
        uint64_t v = len > 2 ? strtoull(arg, NULL, 0) : 0;
        size_t text = len > 2 ? len - 2 : 0;
        switch (*p) {
        case 'm':
            memcpy(out + n, "GGUF", 4);
            n += 4;
            break;
        case 's':
            v = text;
            memcpy(out + n, &v, 8);
            n += 8;
            memcpy(out + n, arg, text);
            n += text;
            break;
        case 'r':
            memcpy(out + n, arg, text);
            n += text;
            break;
        case 'x':
            memset(out + n, 'x', v);
            n += v;
            break;
        case 'z':
            n += v;
            break;
        case 'p':
            n = (n + 31) / 32 * 32;
            break;
        default:
            memcpy(out + n, &v, (size_t)(*p - '0'));
            n += (size_t)(*p - '0');
        }
        assert_true(n < room);
        p += len + (p[len] == ' ');
    }
    return n;
}

#define H(tensors, keys) "m 4:3 8:" tensors " 8:" keys " "
#define AS(type) "s:general.alignment 4:" type " "
#define X16 "s:t 4:1 8:4 4:0 8:0" /* f32 [4] at 0 */

static const struct {
    const char *recipe, *message; /* NULL: sound */
} gguf_cases[] = {
    {H("0", "0"), NULL},
    {"m 4:2 8:0 8:0", NULL},
    {H("1", "1") "s:a 4:4 4:7 " X16 " p z:16", NULL},
    {"", "not a GGUF"},
    {"r:GGU", "not a GGUF"},
    {"r:GGUG 4:3 8:0 8:0", "not a GGUF"},
    {"r:lmgg 4:3 8:0 8:0", "old ggml"},
    {"m", "4 bytes needed"},
    {"m 4:0 8:0 8:0", "version 0"},
    {"m 4:1 8:0 8:0", "version 1"},
    {"m 4:4 8:0 8:0", "version 4"},
    {"m 4:0x03000000 8:0 8:0", "big-endian"},
    {"m 4:3", "8 bytes needed"},
    {"m 4:3 8:0 4:0", "8 bytes needed"},
    /* counts (CVE-2024-23605, CVE-2024-21836) */
    {H("0", "1"), "1 keys"},
    {H("0", "-1"), "18446744073709551615 keys"},
    {H("0", "0x8000000000000000"), "keys where"},
    {H("0", "0x0200000000000001") "z:64", "keys where"},
    {H("1", "0"), "1 tensors"},
    {H("-1", "0") "z:64", "tensors where"},
    {H("0x0100000000000001", "0") "z:64", "tensors where"},
    {H("2", "0") X16 " p z:16", "without a name"},
    {H("0", "2") "s:a 4:4 4:7 z:12", "empty key"},
    /* keys and strings (CVE-2024-23496) */
    {H("0", "1") "8:-1 z:20", "a string of 18446744073709551615 bytes"},
    {H("0", "1") "8:21 x:20", "a string of 21 bytes where 20"},
    {H("0", "1") "8:65536 x:65536 4:0 1:0", "beyond the limit of 65535"},
    {H("0", "1") "8:65535 x:65535 4:0 1:0", NULL},
    {H("0", "1") "s: 4:0 z:9", "empty key"},
    {H("0", "2") "s:a 4:0 1:1 s:a 4:0 1:1", "\"a\": the key stands twice"},
    {H("0", "1") "s:a 4:13 z:9", "\"a\": a value of type 13"},
    {H("0", "1") "s:a 4:-1 z:9", "a value of type 4294967295"},
    {H("0", "1") "s:abcdefgh 4:10 4:0", "8 bytes needed where 4"},
    {H("0", "1") "s:a 4:7 1:2", "neither 0 nor 1"},
    {H("0", "1") "s:a 4:8 8:-1", "a string of 18446744073709551615"},
    {H("0", "1") "s:a 4:8 8:1048577 x:1048577", "beyond the limit of 1048576"},
    {H("0", "1") "s:a 4:8 8:1048576 x:1048576", NULL},
    {H("0", "1") "s:tokenizer.huggingface.json 4:8 8:1048577 x:1048577", NULL},
    {H("0", "1") "s:\x1b[31m\xff 4:13 z:9", "\\x1b[31m\\xff"},
    /* arrays (CVE-2024-21825; 43 bytes that made a reader loop) */
    {H("0", "1") "s:a 4:9 4:9 8:0", "elements of type 9"},
    {H("0", "1") "s:a 4:9 4:13 8:0", "elements of type 13"},
    {H("0", "1") "s:a 4:9 4:4 8:-1", "elements where"},
    {H("0", "1") "s:a 4:9 4:4 8:0x4000000000000001 4:0", "elements where"},
    {H("0", "1") "s:a 4:9 4:4 8:2 4:0", "an array of 2 elements where 4"},
    {H("0", "1") "s:a 4:9 4:0 8:0x8000000000000000", "elements where"},
    {H("0", "1") "s:a 4:9 4:8 8:0x2000000000000000 8:0", "strings where"},
    {H("0", "1") "s:a 4:9 4:8 8:2 s:x", "strings where"},
    {H("0", "1") "s:a 4:9 4:8 8:2 s:abcdefgh", "8 bytes needed where 0"},
    {H("0", "1") "s:a 4:9 4:8 8:1 8:9 r:abcdefgh", "a string of 9 bytes where 8"},
    {H("0", "1") "s:a 4:9 4:8 8:1 8:1048577 x:1048577", "beyond the limit"},
    {H("0", "1") "s:a 4:9 4:7 8:2 1:1 1:3", "neither 0 nor 1"},
    {H("0", "1") "s:a 4:9 4:8 8:0", NULL},
    {H("0", "1") "s:a 4:9 4:10 8:2 8:-1 8:5", NULL},
    /* alignment */
    {H("0", "1") AS("4") "4:0", "alignment of 0"},
    {H("0", "1") AS("4") "4:4", "alignment of 4"},
    {H("0", "1") AS("4") "4:24", "alignment of 24"},
    {H("0", "1") AS("4") "4:8192", "alignment of 8192"},
    {H("0", "1") AS("4") "4:0x80000000", "alignment of"},
    {H("0", "1") AS("10") "8:32", "32-bit unsigned"},
    {H("0", "1") AS("8") "s:32", "32-bit unsigned"},
    {H("0", "1") AS("4") "4:8", NULL},
    {H("0", "1") AS("4") "4:4096", NULL},
    {H("1", "1") AS("4") "4:4096 " X16 " p z:16", "after the end of the file"},
    /* tensors */
    {H("1", "0") "s: 4:1 8:4 4:0 8:0 p z:16", "without a name"},
    {H("1", "0") "8:64 x:64 4:1 8:4 4:0 8:0 p z:16", "beyond the limit of 63"},
    {H("1", "0") "8:63 x:63 4:1 8:4 4:0 8:0 p z:16", NULL},
    {H("1", "0") "8:3 r:a 1:0 r:b 4:1 8:4 4:0 8:0 p z:16", "NUL"},
    {H("2", "0") X16 " s:t 4:1 8:4 4:0 8:32 p z:48", "\"t\": the tensor stands twice"},
    {H("1", "0") "s:t 4:5 8:1 8:1 8:1 8:1 8:1 4:0 8:0 p z:16", "5 dimensions"},
    {H("1", "0") "s:t 4:4 8:1 8:1 8:1 8:1 4:0 8:0 p z:16", NULL},
    {H("1", "0") "s:t 4:-1 z:64", "4294967295 dimensions"},
    {H("1", "0") "s:t 4:0 4:0 8:0 p z:16", NULL}, /* a scalar */
    {H("1", "0") "s:t 4:2 8:4 8:0 4:0 8:0 p z:16", "dimension of 0"},
    {H("1", "0") "s:t 4:1 8:-4 4:0 8:0 p z:16", "elements than can be counted"},
    {H("1", "0") "s:t 4:2 8:0x100000000 8:0x100000000 4:0 8:0 p z:16",
     "elements than can be counted"},
    {H("1", "0") "s:t 4:2 8:0x100000001 8:0xffffffff 4:0 8:0 p z:16",
     "elements than can be counted"},
    {H("1", "0") "s:t 4:1 8:0x4000000000000004 4:0 8:0 p z:16", "bytes than can be counted"},
    {H("1", "0") "s:t 4:1 8:0x3fffffffffffffff 4:0 8:0 p z:16", "bytes than can be counted"},
    {H("2", "0") "s:a 4:1 8:0x2000000000000000 4:0 8:0 s:b 4:1 8:0x2000000000000000 4:0 "
                 "8:0x8000000000000000 p z:16",
     "bytes than can be counted"},
    {H("1", "0") "s:t 4:1 8:5 4:0 8:0 p z:16", "after the end of the file"},
    {H("1", "0") "s:t 4:1 8:4 4:0 8:0 p z:15", "after the end of the file"},
    {H("1", "0") X16, "after the end of the file"},
    {H("1", "0") "s:t 4:1 8:32 4:4 8:0 p z:64", "type 4 does not exist"},
    {H("1", "0") "s:t 4:1 8:32 4:43 8:0 p z:64", "type 43 does not exist"},
    {H("1", "0") "s:t 4:1 8:32 4:-1 8:0 p z:64", "type 4294967295"},
    {H("1", "0") "s:t 4:1 8:32 4:256 8:0 p z:64", "type 256"},
    {H("1", "0") "s:t 4:1 8:256 4:16 8:0 p z:66", "IQ2_XXS cannot be read"},
    {H("1", "0") "s:t 4:1 8:33 4:8 8:0 p z:70", "whole blocks of 32"},
    {H("1", "0") "s:t 4:2 8:16 8:2 4:8 8:0 p z:34", "whole blocks of 32"},
    {H("1", "0") "s:t 4:1 8:128 4:12 8:0 p z:144", "whole blocks of 256"},
    {H("1", "0") "s:t 4:2 8:32 8:2 4:8 8:0 p z:68", NULL},
    /* places (CVE-2026-7482) */
    {H("1", "0") "s:t 4:1 8:4 4:0 8:32 p z:64", "offset 32 instead of 0"},
    {H("1", "0") "s:t 4:1 8:4 4:0 8:-32 p z:64", "offset 18446744073709551584"},
    {H("2", "0") X16 " s:u 4:1 8:4 4:0 8:0 p z:48", "offset 0 instead of 32"},
    {H("2", "0") X16 " s:u 4:1 8:4 4:0 8:16 p z:48", "offset 16 instead of 32"},
    {H("2", "0") X16 " s:u 4:1 8:4 4:0 8:64 p z:99", "offset 64 instead of 32"},
    {H("2", "0") X16 " s:u 4:1 8:4 4:0 8:32 p z:48", NULL},
    {H("2", "0") X16 " s:u 4:1 8:4 4:0 8:32 p z:47", "\"u\": its data ends after"},
};

static void malformed_gguf(void **state)
{
    (void)state;
    const char *path = test_path("bad.gguf");
    size_t room = 2 << 20;
    uint8_t *file = test_alloc(room);
    for (size_t i = 0; i < FT_COUNT_OF(gguf_cases); i++) {
        size_t n = build(file, room, gguf_cases[i].recipe);
        test_write_file(path, file, n);
        if (gguf_cases[i].message)
            refused(read_gguf, path, gguf_cases[i].message);
        else
            accepted(read_gguf, path);
    }
}

static void damaged_gguf(void **state)
{
    (void)state;
    uint8_t file[1024];
    size_t n =
        build(file, sizeof file,
              H("2", "7") "s:a 4:4 4:7 s:b 4:8 s:text s:c 4:9 4:8 8:2 s:x s:yz s:d 4:9 4:5 8:2 4:1 "
                          "4:-2 s:e 4:7 1:1 s:f 4:12 8:0 s:general.alignment 4:4 4:32 " X16
                          " s:q 4:2 8:32 8:1 4:8 8:32 p z:66");
    damage(read_gguf, test_path("damaged.gguf"), file, n, n);
}

/* --- size ------------------------------------------------------------------------------------- */

static void huge_sparse_files_are_refused_at_once(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        size_t n;
        read_fn read;
    } cases[] = {
        {"\xff\xff\xff\xff\xff\0\0\0", 8, read_st},
        {"\0\xe1\xf5\5\0\0\0\0", 8, read_st}, /* 100,000,000: a header of zeros */
        {"\0\xe1\xf5\5\0\0\0\0{", 9, read_st},
        {"\2\0\0\0\0\0\0\0{}", 10, read_st},
        {"GGUF\3\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1", 21, read_gguf},
        {"GGUF\3\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, read_gguf},
        {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 24, read_gguf},
        {"", 0, read_gguf},
        {"", 0, read_st},
    };
    const char *path = test_path("sparse");
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        test_write_file(path, cases[i].head, cases[i].n);
        if (truncate(path, (off_t)40 << 30) != 0) skip();
        size_t before = ft_rss();
        double start = ft_seconds();
        refused(cases[i].read, path, "");
        assert_true(ft_seconds() - start < 2.0); /* the goal is 0.5 s; test machines are busy */
        assert_true(ft_rss() < before + ((size_t)64 << 20));
        unlink(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_safetensors),
        cmocka_unit_test(safetensors_header_length),
        cmocka_unit_test(damaged_safetensors),
        cmocka_unit_test(malformed_gguf),
        cmocka_unit_test(damaged_gguf),
        cmocka_unit_test(huge_sparse_files_are_refused_at_once),
    };
    return cmocka_run_group_tests(tests, setup, test_close_arena);
}
