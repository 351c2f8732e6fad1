/* train_fixture.h – whole runs of a two-layer model in the temporary folder of the test program, and options of a method.
 *
 * Names of files and folders are relative to that folder. */
#ifndef FT_TEST_TRAIN_FIXTURE_H
#define FT_TEST_TRAIN_FIXTURE_H

#include "support.h"

#include "ft/train.h"

extern const char train_model_json[];
/* model.json, train.jsonl (37 samples) and eval.jsonl (9). */
void write_train_files(void);
/* n samples of 5 to 20 tokens that count up by 3; the first two are not supervised. */
void write_tokens(const char *name, int n, uint64_t seed);
/* method: its object. Batches of 8 with a short last one, two epochs: 10 steps; evaluation and checkpoints on. */
void write_config(const char *name, const char *method);

typedef struct job {
    const char *config, *out;
    bool resume, force, json;
    const char *set[6];
} job;
ft_status train(job j); /* config NULL: lora.json */

/* The undisturbed run of lora.json that others are compared with, every checkpoint kept: its folder. */
const char *reference_run(void);

/* "DIR/NAME", in a ring of buffers. */
const char *in(const char *dir, const char *name);
void assert_same_file(const char *a, const char *b, const char *name);
void assert_same_run(const char *a, const char *b); /* adapter and log */
/* Threads, micro-batches and checkpointing leave no mark: lora.json gives the run in `dir` again. */
void assert_any_split_gives(const char *dir);
/* A copy of a run as it stood after step `last_step`: without its result and later checkpoints. */
void copy_run(const char *from, const char *to, int last_step);
int count_steps(const char *dir); /* lines of log.jsonl after that of step 0 */
/* A number of a JSON file; b and c may be NULL. NAN: not there. */
double number_in(const char *dir, const char *file, const char *a, const char *b, const char *c);
/* A method's struct, in mem, filled from a JSON object; close d. */
void *method_options(const pe_method *method, const char *json, cfg_doc *d, arena *mem);
#endif
