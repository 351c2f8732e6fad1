/* golden.h – the tiny models of tests/golden/families as Hugging Face folders, and what a model computes. */
#ifndef FT_TEST_GOLDEN_H
#define FT_TEST_GOLDEN_H

#include "ft/model.h"

/* Writes config.json and model.safetensors of a case into a folder of the test's (once) and returns its path. The weights
 * are not stored in the tree: they follow the rule of scripts/oracle.py from names and shapes. */
const char *golden_model(const char *name);
/* Logits of n tokens, n at most 64; of the ids 0 … 11. */
float *golden_logits_of(model *m, const int32_t *ids, int n);
float *golden_first_logits(model *m);
/* The last product of a model of two layers. */
const nn_param *golden_last_down(const model *m);
/* Logits of 16 fixed tokens; *n: how many. */
float *golden_logits(const model_options *opt, int64_t *n);
/* Both models give the same logits, but for `limit`. */
void same_logits(const model_options *a, const model_options *b, double limit);
#endif
