/* Files that a run left, as `ft report` shows them: byte 0 says which of them stand before the others, parts with a NUL between
 * them. The page holds no control characters, and no markup that a file brought. */
#include "fuzz.h"

#include "tool/report_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {
        "log.jsonl",    "time.jsonl",           "samples.jsonl",       "merges.jsonl",
        "summary.json", "config.resolved.json", "checkpoints/run.json"};
    enum { FILES = FT_COUNT_OF(names) };
    report_run r;
    str_buf page = {0};
    char at[40];
    if (fz_start()) {
        mkdir(fz_path("run"), 0700);
        mkdir(fz_path("run/checkpoints"), 0700);
    }
    if (size < 1) return 0;
    fz_input in = {data + 1, size - 1, false};
    for (size_t i = 0; i < FILES; i++) {
        const uint8_t *part;
        size_t n;
        snprintf(at, sizeof at, "run/%s", names[(i + data[0]) % FILES]);
        if (fz_part(&in, &part, &n) && n > 0)
            fz_put(at, part, n);
        else
            unlink(fz_path(at));
    }
    const char *dir = fz_path("run");
    ft_status rc = report_run_read(&r, dir, fz_arena());
    fz_status(rc);
    if (rc == FT_OK) {
        fz_must(report_html(&page, &r, 1));
        for (const char *p = page.data; *p; p++)
            FZ_CHECK(((unsigned char)*p >= 0x20 && *p != 0x7f) || *p == '\n' || *p == '\t');
        FZ_CHECK(utf8_valid(page.data, page.len) && !strstr(page.data, "<x>"));
    }
    report_run_free(&r);
    str_free(&page);
    return 0;
}
