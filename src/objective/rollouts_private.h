/* rollouts_private.h – what the files of rollouts share. */
#ifndef FT_OBJECTIVE_ROLLOUTS_PRIVATE_H
#define FT_OBJECTIVE_ROLLOUTS_PRIVATE_H

#include "rollouts.h"

/* --- rollouts_make.c: completions, and what they are worth ------------------------------------------------------------- */
/* Fills b, in mem, with completions of the step's prompts: sampled, or those that the samples hold. */
FT_MUST_USE ft_status obj_roll_make(roll *p, const obj_step *s, roll_batch *b, arena *mem);
/* Their rewards, by the judges or as the records say. */
FT_MUST_USE ft_status obj_roll_reward(roll *p, roll_batch *b, arena *mem);
/* Tokens of a sample before its first supervised one; has it one at all? */
int64_t obj_roll_prompt(const data_sample *d);
/* Tokens that may follow a prompt of so many. */
int64_t obj_roll_room(const roll *p, int64_t prompt);
/* The text of a completion without special tokens. */
FT_MUST_USE ft_status obj_roll_text(const roll *p, const roll_one *x, str_buf *out);
/* The record's `answer` as texts, a NULL behind them, in mem; NULL: it has none. *listed: it has a list. */
FT_MUST_USE ft_status obj_roll_answers(const data_sample *d, arena *mem, const char *const **out,
                                       bool *listed);
/* `extra` of a sample; js_close in any case. */
FT_MUST_USE ft_status obj_roll_record(const data_sample *d, js_doc *out);
/* What the record says that its completion is worth: the sum in *reward, and each [n_rewards], NAN where it is not told.
 * *known false: it says nothing. */
FT_MUST_USE ft_status obj_roll_worth(const roll *p, const data_sample *d, double *each,
                                     double *reward, bool *known);
/* Fills p->room; dry NULL: without what passes take. */
FT_MUST_USE ft_status obj_roll_measure(roll *p, ag_tape *dry);
/* What sampling and judging take, for the plan, on a dry tape. */
FT_MUST_USE ft_status obj_roll_plan(roll *p, ag_tape *dry);
#endif
