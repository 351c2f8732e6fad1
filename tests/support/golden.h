/* golden.h – the tiny models of tests/golden/families as Hugging Face folders. */
#ifndef FT_TEST_GOLDEN_H
#define FT_TEST_GOLDEN_H

/* Writes config.json and model.safetensors of a case into a folder of the test's (once) and returns its path. The weights
 * are not stored in the tree: they follow the rule of scripts/oracle.py from names and shapes. */
const char *golden_model(const char *name);
#endif
