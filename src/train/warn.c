/* warn.c – what is allowed and hardly meant: one line each. */
#include "train_private.h"

/* As the rule has it, unless the method is trained with such rates: a prompt has rows as large as they are few. */
static void high_rate(const train_session *s)
{
    double rate = s->cfg.optim->learning_rate, high = s->cfg.rule->high_rate, usual = high / 10;
    if (s->cfg.method->learning_rate > usual) usual = s->cfg.method->learning_rate;
    if (high > 0 && rate >= 10 * usual)
        log_warn("optim.learning_rate: %g is unusually high for %s; up to %g is usual", rate,
                 s->cfg.optim->type, usual);
}

/* Asked for, and not done: the base stays as its maker quantised it. */
static void own_blocks(const train_session *s)
{
    const model *m = s->m;
    if (s->cfg.model.quant && !s->cfg.implied && m->made && arena_peak(m->made) == 0)
        log_warn("model.quantization: %s is in blocks or codes of its own and keeps them",
                 ft_shows(m->path));
}

void train_warn(const train_session *s)
{
    const loop_cfg *t = &s->cfg.train;
    int64_t samples = data_epoch_length(s->train);
    high_rate(s);
    own_blocks(s);
    if (t->batch_size > samples)
        log_warn("train.batch_size: a step takes %lld samples, and there are only %lld",
                 (long long)t->batch_size, (long long)samples);
    if (pool_threads() > ft_cpus())
        log_warn("--threads: %d threads share %d cores; more than there are cores is slower",
                 pool_threads(), ft_cpus());
}

void train_told(const data_source_stats *d, str_buf *out)
{
    for (int i = 0; i < d->n_unread; i++)
        str_printf(out, "%s\"%s\" (%lld records)",
                   i ? ", " : ", keys that are not read: ", ft_shows(d->unread[i].key),
                   (long long)d->unread[i].records);
    if (d->lost) str_printf(out, ", %lld with text that is not printed", (long long)d->lost);
    if (d->duplicates) str_printf(out, ", %lld duplicates", (long long)d->duplicates);
    if (d->empty) str_printf(out, ", %lld with an empty answer", (long long)d->empty);
}

static void lost_text(const data_set *d)
{
    const bool before = ft_error_starved();
    for (int i = 0; d && i < data_sources(d); i++) {
        const data_source_stats *st = data_stats(d, i);
        str_buf s = {0};
        train_told(st, &s);
        if (s.len && !s.failed)
            log_warn("%s: of %lld records%s", ft_shows(st->name), (long long)st->records, s.data);
        str_free(&s);
    }
    ft_error_forget_since(before);
}

void train_warn_data(const train_session *s)
{
    lost_text(s->train);
    lost_text(s->eval);
}
