/* tensorboard.c – a file of events that TensorBoard reads.
 *
 * The file is a row of records (TFRecord): length, a masked CRC-32C of it, the bytes, a masked CRC-32C of them. Each is a
 * tensorflow.Event in the encoding of protocol buffers: wall_time (1, double), step (2, varint), file_version (3) of the
 * first one, summary (5) of the others: values (1) of tag (1) and simple_value (2, float). */
#include "train_private.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ENDING ".ft" /* tells our files from those of others in the folder */

/* --- records ------------------------------------------------------------------------------------------------------------ */
/* CRC-32C (Castagnoli), reflected. A few hundred bytes a step: no table is worth its place. */
static uint32_t crc32c(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    return ~crc;
}

static void put_le(str_buf *out, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) str_addc(out, (char)(v >> 8 * i & 0xff));
}

static void put_crc(str_buf *out, const void *data, size_t n)
{
    const uint32_t crc = crc32c(data, n);
    put_le(out, ((crc >> 15) | (crc << 17)) + 0xa282ead8u, 4);
}

static ft_status put_record(file_log *to, const str_buf *event)
{
    str_buf out = {0};
    FT_TRY(str_ok(event));
    put_le(&out, event->len, 8);
    if (!out.failed) put_crc(&out, out.data, 8);
    str_add(&out, event->data, event->len);
    put_crc(&out, event->data, event->len);
    ft_status rc = str_ok(&out);
    if (rc == FT_OK) rc = file_log_add(to, out.data, out.len);
    str_free(&out);
    return rc;
}

/* --- messages ------------------------------------------------------------------------------------------------------------ */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_varint(str_buf *out, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) str_addc(out, (char)((v & 0x7f) | 0x80));
    str_addc(out, (char)v);
}

static void put_key(str_buf *out, int field, int type)
{
    put_varint(out, (uint64_t)(field << 3 | type));
}

static void put_bytes(str_buf *out, int field, const char *data, size_t n)
{
    put_key(out, field, BYTES);
    put_varint(out, n);
    str_add(out, data, n);
}

static void put_wall(str_buf *event, double wall_time)
{
    uint64_t bits;
    memcpy(&bits, &wall_time, sizeof bits);
    put_key(event, 1, FIXED64);
    put_le(event, bits, 8);
}

static void put_scalar(str_buf *summary, const char *front, const char *name, float v)
{
    str_buf value = {0}, tag = {0};
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    str_printf(&tag, "%s%s", front, name);
    if (!tag.failed) put_bytes(&value, 1, tag.data, tag.len);
    put_key(&value, 2, FIXED32);
    put_le(&value, bits, 4);
    if (!value.failed) put_bytes(summary, 1, value.data, value.len);
    summary->failed = summary->failed || value.failed || tag.failed;
    str_free(&value);
    str_free(&tag);
}

/* Keys of the log; "eval_loss." of each source besides. */
static void put_values(str_buf *summary, const cJSON *line)
{
    static const char *const keys[] = {"loss", "learning_rate", "grad_norm"};
    for (const cJSON *v = line->child; v; v = v->next) {
        if (!cJSON_IsNumber(v)) continue;
        for (size_t i = 0; i < FT_COUNT_OF(keys); i++)
            if (strcmp(v->string, keys[i]) == 0)
                put_scalar(summary, "train/", keys[i], (float)v->valuedouble);
        if (strcmp(v->string, "eval_loss") == 0 || str_starts(v->string, "eval_loss."))
            put_scalar(summary, "eval/", v->string + strlen("eval_"), (float)v->valuedouble);
    }
}

ft_status train_tb_line(file_log *out, double wall_time, const cJSON *line)
{
    str_buf event = {0}, summary = {0};
    const cJSON *step = js_get(line, "step");
    put_wall(&event, wall_time);
    put_key(&event, 2, VARINT);
    put_varint(&event, cJSON_IsNumber(step) ? (uint64_t)step->valuedouble : 0);
    put_values(&summary, line);
    ft_status rc = str_ok(&summary);
    if (summary.len > 0) put_bytes(&event, 5, summary.data, summary.len);
    if (rc == FT_OK && summary.len > 0) rc = put_record(out, &event);
    str_free(&event);
    str_free(&summary);
    return rc;
}

/* --- the file --------------------------------------------------------------------------------------------------------------- */
static bool is_ours(const char *name)
{
    return str_starts(name, "events.out.tfevents.") && str_ends(name, ENDING);
}

static const char *new_name(arena *mem, const char *dir)
{
    char host[65] = "";
    if (gethostname(host, sizeof host - 1) != 0 || strchr(host, '/')) host[0] = 0;
    return arena_printf(mem, "%s/events.out.tfevents.%010lld.%s" ENDING, dir, (long long)time(NULL),
                        host[0] ? host : "host");
}

/* The one that is there; without, a new one. Others of ours would have the same steps again. */
static ft_status find_file(const char *dir, arena *mem, const char **path)
{
    const char **names;
    int64_t n;
    *path = NULL;
    FT_TRY(dir_make(dir));
    FT_TRY(dir_list(dir, mem, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        if (!is_ours(names[i])) continue;
        const char *one = path_join(mem, dir, names[i]);
        if (!one) return FT_EMEM;
        if (*path && unlink(one) != 0) return ft_fail_errno(FT_EIO, "%s: cannot be removed", one);
        if (!*path) *path = one;
    }
    if (!*path) *path = new_name(mem, dir);
    return *path ? FT_OK : FT_EMEM;
}

ft_status train_tb_open(file_log **out, const char *dir, arena *mem)
{
    static const char version[] = "brain.Event:2";
    str_buf event = {0};
    const char *path;
    FT_TRY(find_file(dir, mem, &path));
    FT_TRY(file_log_open(out, path, 0));
    put_wall(&event, (double)time(NULL));
    put_bytes(&event, 3, version, sizeof version - 1);
    ft_status rc = put_record(*out, &event);
    str_free(&event);
    return rc;
}
