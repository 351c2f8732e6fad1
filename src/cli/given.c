/* given.c – what `ft train` and `ft check` take in the place of a config, or to override one. */
#include "cli.h"
#include "given.h"

#include "ft/io.h"

#include <string.h>
#include <unistd.h>

/* A list of records, or a config: both may end in .json. What cannot be read is told where it is opened. */
static bool holds_object(const char *path)
{
    char text[4096];
    int fd;
    if (ft_open(&fd, path, NULL) != FT_OK) {
        ft_error_clear();
        return true;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return text[strspn(text, " \t\r\n")] == '{';
}

/* A word behind --data that is one more file of it, as a shell's * gives them. */
bool cli_is_data(const char *word)
{
    return data_holds_of(word) != DATA_HOLDS_OTHER &&
           (!str_ends(word, ".json") || !holds_object(word));
}

ft_status cli_check_method(const char *name)
{
    if (!name || pe_by_name(name)) return FT_OK;
    const char *near = cfg_nearest(name, pe_names());
    FT_CHECK(!near, FT_EUSAGE, "--method: \"%s\" is unknown; did you mean \"%s\"?", ft_shows(name),
             near);
    return ft_fail(FT_EUSAGE, "--method: \"%s\" is unknown; ft help method lists them",
                   ft_shows(name));
}

ft_status cli_given_read(const cli_call *c, train_options *opt)
{
    const cli_given *g = c->opt;
    const char **data = arena_get(c->mem, (size_t)(g->data.n + c->n_arg + 1) * sizeof *data);
    train_given *out = &opt->given;
    if (!data) return FT_EMEM;
    *opt = (train_options){.sets = c->sets,
                           .n_sets = c->n_sets,
                           .out = g->out,
                           .resume = g->resume,
                           .force = c->force,
                           .follow_links = g->follow_links,
                           .json = c->json};
    *out = (train_given){.model = g->model, .method = g->method, .eval = g->eval, .data = data};
    for (int i = 0; i < g->data.n; i++) data[out->n_data++] = g->data.v[i];
    for (int i = 0; i < c->n_arg; i++) {
        if (strcmp(c->behind[i], "data") == 0 && cli_is_data(c->arg[i])) {
            data[out->n_data++] = c->arg[i];
            continue;
        }
        /* behind --eval it is hardly meant to be trained on */
        FT_CHECK(g->data.n == 0 || !cli_is_data(c->arg[i]), FT_EUSAGE,
                 "%s: a data file that is not behind --data; write --data before it%s",
                 ft_shows(c->arg[i]),
                 strcmp(c->behind[i], "eval") == 0
                     ? ", or several for evaluation as data.eval of a "
                       "config (--set 'data.eval=[...]')"
                     : "");
        FT_CHECK(!opt->config, FT_EUSAGE, "%s: unexpected argument; usage: ft %s %s",
                 ft_shows(c->arg[i]), c->verb->name, c->verb->usage);
        opt->config = c->arg[i];
    }
    FT_CHECK(opt->config || (g->model && out->n_data > 0) || c->n_sets > 0, FT_EUSAGE,
             "%s is missing; usage: ft %s %s",
             !g->model && !out->n_data ? "CONFIG, or --model and --data"
             : g->model                ? "--data"
                                       : "--model",
             c->verb->name, c->verb->usage);
    return cli_check_method(g->method);
}
