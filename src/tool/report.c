/* report.c – the verb: runs are read, their page is written whole or not at all. */
#include <string.h>

#include "report_private.h"

/* A page of an earlier report may be written over, and no file that runs hold. */
static ft_status check_place(const char *path)
{
    const char *name = path_base(path);
    FT_CHECK(path[0], FT_EUSAGE, "--out: an empty path");
    FT_TRY(io_out_file(path, io_report, "a report"));
    FT_CHECK(!io_known(name) || strcmp(name, "report.html") == 0, FT_EEXIST,
             "%s: is the name of a file of runs and models; give the page another", ft_shows(path));
    return FT_OK;
}

ft_status tool_report(const tool_report_options *opt, const tool_sink *out)
{
    arena *mem = NULL;
    str_buf page = {0}, said = {0};
    report_run *run = NULL;
    int n = 0;
    ft_status rc;
    FT_TRY(arena_open(&mem, "report", (size_t)64 << 20));
    run = ft_alloc((size_t)opt->n_dirs, sizeof *run);
    FT_GUARD(run, FT_EMEM, "out of memory");
    const char *path = opt->out ? opt->out : path_join(mem, opt->dirs[0], "report.html");
    FT_GUARD(path, FT_EMEM, "out of memory");
    for (int i = 0; i < opt->n_dirs; i++) FT_TRY_OUT(report_run_look(opt->dirs[i]));
    FT_TRY_OUT(check_place(path));
    for (; n < opt->n_dirs; n++) {
        rc = report_run_read(&run[n], opt->dirs[n], mem);
        if (rc == FT_OK) continue;
        n++;
        goto out;
    }
    FT_TRY_OUT(report_html(&page, run, n));
    FT_TRY_OUT(str_ok(&page));
    FT_TRY_OUT(file_write(path, page.data, page.len));
    if (opt->json) {
        str_adds(&said, "{\"out\":");
        tool_json_text(&said, path, strlen(path));
        str_printf(&said, ",\"runs\":%d,\"bytes\":%zu}\n", n, page.len);
    } else {
        str_printf(&said, "%s: %d run%s\n", ft_shows(path), n, n == 1 ? "" : "s");
    }
    rc = str_ok(&said);
    if (rc == FT_OK) rc = out->put(out->ctx, said.data, said.len);
out:
    for (int i = 0; run && i < n; i++) report_run_free(&run[i]);
    ft_free(run);
    str_free(&page);
    str_free(&said);
    arena_close(mem);
    return rc;
}
