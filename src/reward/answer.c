/* answer.c – 1 where a completion agrees with the record's answer, or one of its answers, else 0: a reward for each way to compare them. */
#include "reward_private.h"

#include <string.h>

static const cfg_field fields[] = {RW_HEAD_ROWS, CFG_END};

static ft_status judge(rw_one *r, const rw_item *item, int64_t n, double *out)
{
    const rw_match *m = rw_match_by_name(r->row->name);
    for (int64_t i = 0; i < n; i++) {
        bool hit = false;
        for (int k = 0; item[i].answers[k] && !hit; k++)
            FT_TRY(m->match(item[i].text, strlen(item[i].text), item[i].answers[k], &hit));
        out[i] = hit;
    }
    return FT_OK;
}

#define ROW(id, what)                                                                              \
    const rw_reward rw_reward_##id = {.name = #id,                                                 \
                                      .help = what,                                                \
                                      .fields = fields,                                            \
                                      .cfg_size = sizeof(rw_head),                                 \
                                      .answer = true,                                              \
                                      .judge = judge}
ROW(exact, "1 for the answer itself, but for space around it");
ROW(contains, "1 for a completion that the answer stands in");
ROW(last_number, "1 where the last number is the answer's");
ROW(regex, "1 where the answer, a pattern, is found");
