/* test_dtype.c – storage formats: 16-bit floats against their definition for every value, packing
 * against ggml's reference quantiser, unpacking against tables made by
 * scripts/make_golden_dtypes.py. */
#include "support.h"

#include "ft/tensor.h"

/* ggml's own output for the input of golden_input(): type and block in hex. */
static const struct {
    const char *type, *hex;
    double rms; /* bound on the root mean square error of the block */
} golden[] = {
    {"q8_0", "cc1fbbde01368ade480f8125beec1859ba7e5fd33008b5988fd09f3616e0c24271ab", 0.003},
    {"q4_0", "bc2fe456b89b31161d5920ba94674acef43f", 0.05},
    {"q4_1", "1d30bcbbd355a88b31151c5820ba946649bde33f", 0.05},
    {"q5_0", "bc2bccb20d66c7ac6017713c29a2407538cd838be75f", 0.03},
    {"q5_1", "f72bbcbbccb20d66b7ab5016613b28a1406428cd828ad75f", 0.03},
    {"iq4_nl", "1b20e345c89c31151d4920cba3563adef32f", 0.06},
    {"q2_k",
     "ffccbcdcdeeeebffffeceeccdccdcb5ae5fd868af46d1e5aec3e61555ac3b5a3abed6642dca4bc51a412f6f11d569"
     "3"
     "087a5979156442ebd22eca89867bd56aa61618788e1fac545fa1b9d1a2c32945388f292f2c",
     0.2},
    {"q3_k",
     "fab8ffbfca907515f83122b7f50ffadbfecf0c51db0d6f592d006c2d7784e88366933431c1a306d87151ae8499be1"
     "2"
     "6f15dd0ed0fe4b7f326fa2ffb54e8e345778b4b0f09d411ba6cc96c7117b7b560da54dc8f963a9c4c7ae9f0e7f3a7"
     "b"
     "368d117778a88b8367700cc3c3f027a1",
     0.1},
    {"q4_k",
     "8a181124fefbfafffcfcfdfebccafc2453f5678a70f5dbb8e0f92356a82c732e9cd45a07e331c104620a5825c36b2"
     "d"
     "929cbe6070cf4c07569a1f4b3736b27e9b8ae97841e6a99e659c24dece06368500a8a78676600abe1bd7ac9579be3"
     "4"
     "ab586892b0c8fcc140de13a404163bb443a14d363c062951e9b517b290824ec6597825579ea154bc9797cbcdf7caf"
     "3"
     "49823f",
     0.05},
    {"q5_k",
     "22141724fefefffffdfcfdffccdfff287c2e610b4c16f3933eb7a49073897c5d1f6ee5b13aecceb0cce18dcc92618"
     "9"
     "62a7fbc016e1fbb861e0f448bd525af75f2bbaa501e673a20ac416a24c98c84d35598de001bf990ebc553e977f8d8"
     "4"
     "0c3724f2f191fd714dea3848ecad0d6d2b10525f0efec0066f28b04a3bf46f7959b3c2347092fb9291af374a192e6"
     "8"
     "7a97539b7d5a0d54a2d37a2f7430049d8ca3f05aa02e43a969303f888cfe95e693045f",
     0.03},
    {"q6_k",
     "df48f0ed03c832745129101b56766f0f965d333eb54ddf5d2b11bad9c1ce6117ab01c70d52201872a26136e804160"
     "1"
     "7556f8f531fdef85d16883c65814ca491764be5dac814c6d4ff0840679ae937205d50821b4f6d5121e0e84425c409"
     "5"
     "8f06adfb22ef49901dd598da67dfbdbf8cf60888af5c702c8d89ebe61fcd35a0dd0588c17ab6c841236690025d296"
     "6"
     "ff889fa8ee6541dfa3bf52b711f5f21f14900bba99f9d5e4822b12de0b4946bb11ab66eaa44072a34068631c052d1"
     "d"
     "3f9578c4846e7b857c86808384868677847a6c7c1c8c",
     0.02},
};

static float *golden_input(void)
{
    float *x = test_alloc(256 * sizeof *x);
    uint32_t s = 1;
    for (int i = 0; i < 256; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)((int32_t)(s >> 8) - 8388608) / 8388608.0f;
    }
    return x;
}

static size_t from_hex(uint8_t *out, const char *hex)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned v = 0;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        out[i] = (uint8_t)v;
    }
    return n;
}

static void blocks_agree_with_ggml(void **state)
{
    (void)state;
    const float *x = golden_input();
    for (size_t i = 0; i < FT_COUNT_OF(golden); i++) {
        const dt_type *t = dt_by_name(golden[i].type);
        uint8_t want[256], got[256];
        float y[256];
        assert_non_null(t);
        assert_int_equal(from_hex(want, golden[i].hex), t->bytes);
        if (t->pack) {
            t->pack(got, x, t->block);
            assert_memory_equal(got, want, t->bytes);
        }
        t->unpack(y, want, t->block);
        double rms = rel_l2(y, x, t->block) * 0.577;
        if (!(rms < golden[i].rms)) fail_msg("%s: error %g", t->name, rms);
    }
}

/* Blocks of any bytes, [n] values. */
static void check_unpacked(const st_file *f, const dt_type *t, int n)
{
    char name[64];
    float *got = test_alloc((size_t)n * sizeof *got);
    snprintf(name, sizeof name, "%s.blocks", t->name);
    const io_tensor *blocks = golden_tensor(f, name);
    snprintf(name, sizeof name, "%s.values", t->name);
    const float *want = golden_f32(f, name, n);
    t->unpack(got, blocks->data, n);
    for (int k = 0; k < n; k++) /* which NaN it is depends on the hardware */
        if (memcmp(&got[k], &want[k], sizeof got[k]) != 0 && !(isnan(got[k]) && isnan(want[k])))
            fail_msg("%s: element %d: %a, not %a", t->name, k, (double)got[k], (double)want[k]);
}

static void check_packed(const st_file *f, const dt_type *t, const float *input, int n)
{
    char name[64];
    snprintf(name, sizeof name, "%s.packed", t->name);
    const io_tensor *want = golden_tensor(f, name);
    uint8_t *got = test_alloc(want->bytes);
    t->pack(got, input, n);
    for (int i = 0; i < n / t->block; i++)
        if (memcmp(got + i * t->bytes, (const char *)want->data + i * t->bytes, (size_t)t->bytes) !=
            0)
            fail_msg("%s: block %d is another", t->name, i);
}

static void random_blocks_agree_with_ggml(void **state)
{
    (void)state;
    enum { N = 2048 };
    const st_file *f = golden_open("dtypes.safetensors");
    const float *input = golden_f32(f, "pack.input", N);
    int unpacked = 0, packed = 0;
    for (int i = 0; dt_at(i); i++) {
        const dt_type *t = dt_at(i);
        if (t->block == 1 || t->gguf_id < 0 || t->gguf_id >= 34) continue;
        check_unpacked(f, t, N);
        unpacked++;
        if (!t->pack || t->block == 256) continue;
        check_packed(f, t, input, N);
        packed++;
    }
    assert_int_equal(unpacked, 12);
    assert_int_equal(packed, 5);
}

static void super_blocks_agree_with_ggml(void **state)
{
    (void)state;
    enum { N = 20 * 256 };
    static const char *const types[] = {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "tq1_0", "tq2_0"};
    const st_file *f = golden_open("kquants.safetensors");
    const float *input = golden_f32(f, "pack.input", N);
    for (size_t i = 0; i < FT_COUNT_OF(types); i++) {
        check_packed(f, dt_by_name(types[i]), input, N);
        if (types[i][0] == 't') check_unpacked(f, dt_by_name(types[i]), 2 * 256);
    }
}

static void blocks_need_no_alignment(void **state)
{
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(golden); i++) {
        const dt_type *t = dt_by_name(golden[i].type);
        uint8_t at0[512], at1[512];
        float a[512], b[512];
        from_hex(at0, golden[i].hex);
        memcpy(at0 + t->bytes, at0, (size_t)t->bytes);
        memcpy(at1 + 1, at0, 2 * (size_t)t->bytes);
        t->unpack(a, at0, 2 * t->block);
        t->unpack(b, at1 + 1, 2 * t->block);
        assert_memory_equal(a, b, 2 * sizeof(float) * (size_t)t->block);
        assert_memory_equal(a, a + t->block, sizeof(float) * (size_t)t->block);
    }
}

static void f16_unpacks_every_value(void **state)
{
    (void)state;
    for (int h = 0; h < 65536; h++) {
        uint16_t v = (uint16_t)h;
        float got;
        dt_f16.unpack(&got, &v, 1);
        int e = h >> 10 & 31, m = h & 1023;
        double want = e == 31  ? (m ? (double)NAN : (double)INFINITY)
                      : e == 0 ? ldexp(m, -24)
                               : ldexp(1024 + m, e - 25);
        if (h & 0x8000) want = -want;
        if (isnan(want)) {
            assert_true(isnan(got));
            continue;
        }
        assert_true((double)got == want && !signbit(got) == !signbit(want));
        uint16_t back;
        dt_f16.pack(&back, &got, 1);
        assert_int_equal(back, v);
    }
}

static uint32_t bits(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static float of_bits(uint32_t u)
{
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

/* Checks that `got` is the value nearest to `v` among the finite neighbours, ties to the even
 * code. */
static void check_nearest(const dt_type *t, float v, uint16_t max_finite)
{
    uint16_t got;
    float g;
    t->pack(&got, &v, 1);
    t->unpack(&g, &got, 1);
    if (isnan(v)) {
        assert_true(isnan(g));
        return;
    }
    assert_int_equal(got >> 15, signbit(v) ? 1 : 0);
    uint16_t low = got & 0x7fff;
    double a = fabs((double)v), here = fabs((double)g);
    for (int step = -1; step <= 1; step += 2) {
        if (low == 0 && step < 0) continue;
        uint16_t other = (uint16_t)(low + step);
        float o;
        if (low > max_finite && step > 0) continue;
        t->unpack(&o, &other, 1);
        double there = (double)o;
        /* infinity stands for the next value of the grid */
        float below;
        uint16_t top = max_finite, top1 = (uint16_t)(max_finite - 1);
        t->unpack(&below, &top1, 1);
        float top_v;
        t->unpack(&top_v, &top, 1);
        double beyond = 2 * (double)top_v - (double)below;
        double h = isinf(here) ? beyond : here, th = isinf(there) ? beyond : there;
        double dh = fabs(a - h), dt = fabs(a - th);
        if (isinf(here) && a >= beyond) continue;
        assert_true(dh < dt || (dh == dt && (low & 1) == 0));
    }
}

static void half_floats_round_to_nearest_even(void **state)
{
    (void)state;
    static const uint32_t edge[] = {0x477fefff, 0x477ff000, 0x477ff001, 0x387fffff, 0x38800000,
                                    0x33000000, 0x33000001, 0x32ffffff, 0x33800000, 0x33c00000,
                                    0x00000001, 0x7f800000, 0x7f800001, 0x7fc00000, 0xffffffff,
                                    0x7f7fffff, 0x7f7f8000, 0x7f7f7fff, 0x80000000, 0x3f808000};
    for (size_t i = 0; i < FT_COUNT_OF(edge) + 200000; i++) {
        uint32_t u = i < FT_COUNT_OF(edge) ? edge[i] : (uint32_t)test_u64(1, i);
        if (i % 3 == 0 && i >= FT_COUNT_OF(edge)) u = (u & 0x8fffffff) | 0x30000000; /* near f16 */
        check_nearest(&dt_f16, of_bits(u), 0x7bff);
        check_nearest(&dt_bf16, of_bits(u), 0x7f7f);
    }
}

static void bf16_is_the_upper_half(void **state)
{
    (void)state;
    for (int h = 0; h < 65536; h++) {
        uint16_t v = (uint16_t)h, back;
        float got;
        dt_bf16.unpack(&got, &v, 1);
        assert_int_equal(bits(got), (uint32_t)h << 16);
        dt_bf16.pack(&back, &got, 1);
        if (isnan(got))
            assert_int_equal(back, v | 0x40);
        else
            assert_int_equal(back, v);
    }
}

static void packing_survives_odd_blocks(void **state)
{
    (void)state;
    static const float odd[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-42f, 3.4e38f, -3.4e38f};
    for (int i = 0; dt_at(i); i++) {
        const dt_type *t = dt_at(i);
        if (!t->pack || t->block == 1) continue;
        for (size_t k = 0; k < FT_COUNT_OF(odd); k++) {
            float x[DT_BLOCK_MAX], y[DT_BLOCK_MAX];
            uint8_t block[512];
            for (int j = 0; j < DT_BLOCK_MAX; j++) x[j] = j == 5 ? odd[k] : 0;
            t->pack(block, x, DT_BLOCK_MAX);
            t->unpack(y, block, DT_BLOCK_MAX);
            if (!isfinite(x[5]) || fabsf(x[5]) > 1e38f) {
                bool finite = true;
                for (int j = 0; j < DT_BLOCK_MAX; j++) finite = finite && isfinite(y[j]);
                assert_false(finite); /* a poisoned block stays visible */
                assert_true(dt_find_nonfinite(t, block, DT_BLOCK_MAX) >= 0);
            } else if (fabsf(x[5]) < 1.0f) {
                for (int j = 0; j < DT_BLOCK_MAX; j++) assert_true(y[j] == 0);
            }
        }
    }
}

/* --- the contract of a row, over all rows ------------------------------------------------------------------ */

enum { CONTRACT_VALUES = 3 * DT_BLOCK_MAX };

/* Packed values where the row packs; else random blocks, whatever numbers they are. */
static uint8_t *contract_blocks(const dt_type *t, const float *x)
{
    size_t bytes = 0;
    assert_true(CONTRACT_VALUES % t->block == 0 && dt_bytes(t, CONTRACT_VALUES, &bytes));
    uint8_t *data = (uint8_t *)test_alloc(bytes + 1) + 1; /* no alignment is promised */
    for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)test_u64(11, i);
    if (t->pack) t->pack(data, x, CONTRACT_VALUES);
    return data;
}

static void every_row_packs_what_it_unpacks(void **state)
{
    (void)state;
    const float *x = test_uniform(10, CONTRACT_VALUES, -1.0f, 1.0f);
    float *y = test_alloc(CONTRACT_VALUES * sizeof *y);
    int tried = 0;
    for (int i = 0; dt_at(i); i++) {
        const dt_type *t = dt_at(i);
        if (!t->pack) continue;
        assert_non_null(t->unpack);
        uint8_t *data = contract_blocks(t, x);
        t->unpack(y, data, CONTRACT_VALUES);
        /* half a step of 2^bits over the range, with room for scales that are rounded themselves */
        double bits = 8.0 * t->bytes / t->block;
        double bound = t->block > 1 ? exp2(1.5 - bits) : t->bytes == 2 ? 0x1p-8 : 0.0;
        if (!(rel_l2(y, x, CONTRACT_VALUES) <= bound))
            print_error("%s: error %g, at most %g\n", t->name, rel_l2(y, x, CONTRACT_VALUES),
                        bound);
        assert_true(rel_l2(y, x, CONTRACT_VALUES) <= bound);
        if (t->block == 1) { /* what was stored comes back to the bit */
            size_t bytes = (size_t)CONTRACT_VALUES * (size_t)t->bytes;
            uint8_t *again = test_alloc(bytes);
            t->pack(again, y, CONTRACT_VALUES);
            assert_memory_equal(again, data, bytes);
        }
        tried++;
    }
    assert_true(tried >= 9);
}

/* dt_read of any piece gives the bits of unpack of the whole. */
static void every_row_reads_at_any_alignment(void **state)
{
    (void)state;
    const float *x = test_uniform(12, CONTRACT_VALUES, -1.0f, 1.0f);
    float *all = test_alloc(CONTRACT_VALUES * sizeof *all);
    float *got = test_alloc((CONTRACT_VALUES + 1) * sizeof *got);
    int tried = 0;
    for (int i = 0; dt_at(i); i++) {
        const dt_type *t = dt_at(i);
        if (!t->unpack) continue;
        const dt_data src = {contract_blocks(t, x), NULL};
        t->unpack(all, src.data, CONTRACT_VALUES);
        for (int k = 0; k < 400; k++) {
            int64_t first = (int64_t)(test_u64(13, (uint64_t)k) % CONTRACT_VALUES);
            int64_t n =
                (int64_t)(test_u64(14, (uint64_t)k) % (uint64_t)(CONTRACT_VALUES - first + 1));
            if (k % 4 == 0) n %= 5;
            if (k % 8 == 1) first = first / t->block * t->block;
            got[n] = 12345.0f;
            dt_read(t, got, &src, first, n);
            assert_memory_equal(got, all + first, (size_t)n * sizeof *got);
            assert_true(got[n] == 12345.0f);
        }
        tried++;
    }
    assert_true(tried >= 16);
}

static void table_is_consistent(void **state)
{
    (void)state;
    int n = 0;
    for (; dt_at(n); n++) {
        const dt_type *t = dt_at(n);
        assert_ptr_equal(dt_by_name(t->name), t);
        if (t->st_name) assert_ptr_equal(dt_by_st(t->st_name), t);
        if (t->gguf_id >= 0) assert_ptr_equal(dt_by_gguf(t->gguf_id), t);
        assert_true(t->block > 0 && t->block <= DT_BLOCK_MAX && t->bytes > 0);
        assert_true(!t->unpack || !t->read);
    }
    assert_true(n >= 20);
    assert_null(dt_at(-1));
    assert_null(dt_by_name("q9"));
    assert_null(dt_by_st("f32"));
    assert_null(dt_by_gguf(-1));
    assert_null(dt_by_gguf(4));

    size_t bytes;
    assert_true(dt_bytes(dt_by_name("q4_k"), 512, &bytes) && bytes == 288);
    assert_true(dt_bytes(&dt_bf16, 0, &bytes) && bytes == 0);
    assert_false(dt_bytes(dt_by_name("q4_k"), 255, &bytes));
    assert_false(dt_bytes(&dt_f32, -1, &bytes));
    assert_true(dt_bytes(&dt_f32, INT64_MAX / 4, &bytes));
    assert_false(dt_bytes(dt_by_name("f64"), INT64_MAX / 2, &bytes));
}

static void rows_follow_the_permutation(void **state)
{
    (void)state;
    float x[6] = {0, 1, 2, 3, 4, 5}, y[4];
    const int32_t row_of[3] = {2, 0, 1};
    const tn_tensor t = {.type = &dt_f32, .nd = 2, .dim = {3, 2}, .data = x, .row_of = row_of};
    tn_unpack_rows(y, &t, 0, 2);
    assert_true(y[0] == 4 && y[1] == 5 && y[2] == 0 && y[3] == 1);
    assert_ptr_equal(tn_row(&t, 2), x + 2);
    tn_tensor plain = t;
    plain.row_of = NULL;
    tn_unpack_rows(y, &plain, 1, 2);
    assert_true(y[0] == 2 && y[3] == 5);

    const tn_tensor cube = {.type = &dt_f32, .nd = 3, .dim = {2, 3, 4}};
    assert_true(tn_count(&cube) == 24 && tn_cols(&cube) == 4 && tn_rows(&cube) == 6);
    const tn_tensor scalar = {.type = &dt_f32, .nd = 0};
    assert_true(tn_count(&scalar) == 1 && tn_cols(&scalar) == 1 && tn_rows(&scalar) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_agree_with_ggml),
        cmocka_unit_test(random_blocks_agree_with_ggml),
        cmocka_unit_test(super_blocks_agree_with_ggml),
        cmocka_unit_test(blocks_need_no_alignment),
        cmocka_unit_test(f16_unpacks_every_value),
        cmocka_unit_test(half_floats_round_to_nearest_even),
        cmocka_unit_test(bf16_is_the_upper_half),
        cmocka_unit_test(packing_survives_odd_blocks),
        cmocka_unit_test(every_row_packs_what_it_unpacks),
        cmocka_unit_test(every_row_reads_at_any_alignment),
        cmocka_unit_test(table_is_consistent),
        cmocka_unit_test(rows_follow_the_permutation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
