/* state.c – the counters of a run as a file, and sealed JSON: text that carries its own SHA-256.
 *
 * Numbers are written so that they read back bit for bit; a NAN (nothing measured yet) is null. */
#include "train_private.h"

#include <math.h>
#include <string.h>

/* --- sealed JSON ------------------------------------------------------------------------------------------------ */
#define SEAL_HEAD ",\n  \"seal\": \""
#define SEAL_TAIL "\"\n}\n"
enum { SEAL_BYTES = sizeof SEAL_HEAD - 1 + 64 + sizeof SEAL_TAIL - 1, SEALED_LIMIT = 64 << 20 };

static void make_seal(const char *text, size_t n, char out[SEAL_BYTES + 1])
{
    sha256_state sha;
    char hex[65];
    sha256_init(&sha);
    sha256_add(&sha, text, n);
    sha256_hex(&sha, hex);
    memcpy(out, SEAL_HEAD, sizeof SEAL_HEAD - 1);
    memcpy(out + sizeof SEAL_HEAD - 1, hex, 64);
    memcpy(out + sizeof SEAL_HEAD - 1 + 64, SEAL_TAIL, sizeof SEAL_TAIL);
}

ft_status train_sealed_write(const char *path, str_buf *body)
{
    char seal[SEAL_BYTES + 1];
    FT_TRY(str_ok(body));
    make_seal(body->data, body->len, seal);
    str_adds(body, seal);
    FT_TRY(str_ok(body));
    return file_write(path, body->data, body->len);
}

ft_status train_sealed_read(js_doc *doc, char **text, const char *path)
{
    char seal[SEAL_BYTES + 1];
    size_t n;
    *doc = (js_doc){0};
    *text = NULL;
    FT_TRY(file_read(text, &n, path, SEALED_LIMIT));
    bool whole = n > SEAL_BYTES;
    if (whole) {
        make_seal(*text, n - SEAL_BYTES, seal);
        whole = memcmp(*text + n - SEAL_BYTES, seal, SEAL_BYTES) == 0;
    }
    ft_status rc = whole ? js_parse(doc, *text, n, path, 1, JS_STRICT, FT_EDATA)
                         : ft_fail(FT_EDATA, "%s: damaged: its seal does not fit its text", path);
    if (rc == FT_OK && !cJSON_IsObject(doc->root))
        rc = ft_fail(FT_EDATA, "%s: not a JSON object", path);
    if (rc == FT_OK) return FT_OK;
    js_close(doc);
    ft_free(*text);
    *text = NULL;
    return rc;
}

/* --- the rates ---------------------------------------------------------------------------------------------------------- */
/* 52 bits: a number of JSON holds them. */
int64_t train_rates_add(int64_t hash, double rate)
{
    uint64_t bits;
    if (hash < 0) return hash;
    memcpy(&bits, &rate, sizeof bits);
    return (int64_t)(rng_key((uint64_t)hash, bits, 0) >> 12);
}

/* --- the fields ------------------------------------------------------------------------------------------------------ */
typedef enum kind { INT, NUM, BOOL } kind;
#define S(k, t)                                                                                    \
    {                                                                                              \
#k, t, offsetof(train_state, k)                                                            \
    }
#define R(k, t)                                                                                    \
    {                                                                                              \
        "record_" #k, t, offsetof(train_state, record.k)                                           \
    }
static const struct {
    const char *key;
    kind type;
    size_t offset;
} fields[] = {
    S(step, INT),      S(tokens, INT),    S(supervised, INT), S(first_loss, NUM),
    S(last_loss, NUM), S(best_loss, NUM), S(best_step, INT),  S(bad_evals, INT),
    S(finished, BOOL), S(pending, BOOL),  R(step, INT),       R(loss, NUM),
    R(rate, NUM),      R(grad_norm, NUM), R(tokens, INT),     R(supervised, INT),
    S(seconds, NUM),   S(log_bytes, INT), S(time_bytes, INT),
};
#undef S
#undef R

ft_status train_state_init(train_state *s, int n_sources, int n_evals, int n_metrics, arena *mem)
{
    *s = (train_state){.n_sources = n_sources, .n_evals = n_evals, .n_metrics = n_metrics};
    s->first_loss = s->last_loss = s->best_loss = (double)NAN;
    s->source_tokens = arena_get(mem, (size_t)n_sources * sizeof *s->source_tokens);
    s->step_sources = arena_get(mem, (size_t)n_sources * sizeof *s->step_sources);
    s->eval_first = arena_get(mem, (size_t)(n_evals + 1) * sizeof *s->eval_first);
    s->eval_last = arena_get(mem, (size_t)(n_evals + 1) * sizeof *s->eval_last);
    s->metric = arena_get(mem, (size_t)(n_metrics + 1) * sizeof *s->metric);
    if (!s->source_tokens || !s->step_sources || !s->eval_first || !s->eval_last || !s->metric)
        return FT_EMEM;
    for (int i = 0; i < n_evals; i++) s->eval_first[i] = s->eval_last[i] = (double)NAN;
    return FT_OK;
}

static void add_double(str_buf *out, double v)
{
    if (isfinite(v))
        str_double(out, v);
    else
        str_adds(out, "null");
}

static void add_ints(str_buf *out, const char *key, const int64_t *v, int n)
{
    str_printf(out, ",\n  \"%s\": [", key);
    for (int i = 0; i < n; i++) str_printf(out, "%s%lld", i ? ", " : "", (long long)v[i]);
    str_addc(out, ']');
}

static void add_doubles(str_buf *out, const char *key, const double *v, int n)
{
    str_printf(out, ",\n  \"%s\": [", key);
    for (int i = 0; i < n; i++) {
        if (i) str_adds(out, ", ");
        add_double(out, v[i]);
    }
    str_addc(out, ']');
}

ft_status train_state_write(const train_state *s, const str_buf *places, const char *path)
{
    str_buf out = {0};
    for (size_t i = 0; i < FT_COUNT_OF(fields); i++) {
        const void *at = (const char *)s + fields[i].offset;
        str_printf(&out, "%s\n  \"%s\": ", i ? "," : "{", fields[i].key);
        if (fields[i].type == INT)
            str_printf(&out, "%lld", (long long)*(const int64_t *)at);
        else if (fields[i].type == NUM)
            add_double(&out, *(const double *)at);
        else
            str_adds(&out, *(const bool *)at ? "true" : "false");
    }
    str_printf(&out, ",\n  \"sample_bytes\": %lld", (long long)s->sample_bytes);
    if (s->artifact_bytes > 0)
        str_printf(&out, ",\n  \"artifact_bytes\": %lld", (long long)s->artifact_bytes);
    if (s->rates >= 0) str_printf(&out, ",\n  \"rates\": %lld", (long long)s->rates);
    if (s->log_hash >= 0) str_printf(&out, ",\n  \"log_hash\": %lld", (long long)s->log_hash);
    add_ints(&out, "source_tokens", s->source_tokens, s->n_sources);
    add_ints(&out, "step_sources", s->step_sources, s->n_sources);
    add_doubles(&out, "eval_first", s->eval_first, s->n_evals);
    add_doubles(&out, "eval_last", s->eval_last, s->n_evals);
    if (s->n_metrics > 0) add_doubles(&out, "metrics", s->metric, s->n_metrics);
    str_adds(&out, ",\n  \"places\": ");
    str_add(&out, places->data, places->len);
    ft_status rc = train_sealed_write(path, &out);
    str_free(&out);
    return rc;
}

static bool is_count(double v)
{
    return v >= 0 && v < 0x1p53 && v == floor(v);
}

static ft_status read_list(const js_doc *d, const char *key, int n, int64_t *ints, double *doubles)
{
    const cJSON *list = js_get(d->root, key), *node = cJSON_IsArray(list) ? list->child : NULL;
    FT_CHECK(cJSON_IsArray(list) && cJSON_GetArraySize(list) == n, FT_EDATA,
             "%s: \"%s\" does not have %d entries", d->name, key, n);
    for (int i = 0; i < n; i++, node = node->next) {
        FT_CHECK(cJSON_IsNumber(node) || (doubles && cJSON_IsNull(node)), FT_EDATA,
                 "%s: \"%s\" holds what is no number", d->name, key);
        FT_CHECK(!ints || is_count(node->valuedouble), FT_EDATA,
                 "%s: \"%s\" holds %g, which is no count", d->name, key, node->valuedouble);
        if (ints) ints[i] = (int64_t)node->valuedouble;
        if (doubles) doubles[i] = cJSON_IsNull(node) ? (double)NAN : node->valuedouble;
    }
    return FT_OK;
}

static ft_status read_fields(train_state *s, const js_doc *d)
{
    for (size_t i = 0; i < FT_COUNT_OF(fields); i++) {
        void *at = (char *)s + fields[i].offset;
        const char *key = fields[i].key;
        FT_CHECK(js_get(d->root, key), FT_EDATA, "%s: \"%s\" is missing", d->name, key);
        if (fields[i].type == INT)
            FT_TRY(js_get_int(d, d->root, key, 0, 0, INT64_MAX, at));
        else if (fields[i].type == NUM)
            FT_TRY(js_get_num(d, d->root, key, (double)NAN, at));
        else
            FT_TRY(js_get_bool(d, d->root, key, false, at));
    }
    /* not in older ones */
    FT_TRY(js_get_int(d, d->root, "rates", -1, 0, INT64_MAX, &s->rates));
    FT_TRY(js_get_int(d, d->root, "sample_bytes", 0, 0, INT64_MAX, &s->sample_bytes));
    FT_TRY(js_get_int(d, d->root, "artifact_bytes", 0, 0, INT64_MAX, &s->artifact_bytes));
    FT_TRY(js_get_int(d, d->root, "log_hash", -1, 0, INT64_MAX, &s->log_hash));
    FT_TRY(read_list(d, "source_tokens", s->n_sources, s->source_tokens, NULL));
    FT_TRY(read_list(d, "step_sources", s->n_sources, s->step_sources, NULL));
    FT_TRY(read_list(d, "eval_first", s->n_evals, NULL, s->eval_first));
    FT_TRY(read_list(d, "eval_last", s->n_evals, NULL, s->eval_last));
    return s->n_metrics > 0 ? read_list(d, "metrics", s->n_metrics, NULL, s->metric) : FT_OK;
}

ft_status train_state_read(train_state *s, data_set *d, const char *path)
{
    js_doc doc;
    char *text;
    FT_TRY(train_sealed_read(&doc, &text, path));
    ft_status rc = read_fields(s, &doc);
    const cJSON *places = js_get(doc.root, "places");
    if (rc == FT_OK && places) rc = data_places_restore(d, &doc, places);
    js_close(&doc);
    ft_free(text);
    return rc;
}
