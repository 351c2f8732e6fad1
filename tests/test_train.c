/* test_train.c – whole runs of a two-layer model: the same bytes over threads, micro-batches and interruptions; refusals,
 * damaged checkpoints, best values, plans. */
#include "train_fixture.h"

#include "../src/train/train_private.h"

#include "ft/kernel.h"

#include <unistd.h>

static int setup(void **state)
{
    (void)state;
    write_train_files();
    write_tokens("other.jsonl", 7, 3);
    write_config("lora.json", "{\"type\":\"lora\",\"r\":4,\"lora_dropout\":0.1}");
    write_config("full.json", "{\"type\":\"full\"}");
    return 0;
}

/* --- tests ---------------------------------------------------------------------------------------------------------- */
static void a_run_learns_and_leaves_its_files(void **state)
{
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors",
                                        "log.jsonl",           "time.jsonl",
                                        "summary.json",        "config.resolved.json"};
    (void)state;
    const char *ref = reference_run();
    for (size_t i = 0; i < FT_COUNT_OF(files); i++)
        assert_true(file_exists(test_path(in(ref, files[i]))));
    assert_int_equal(count_steps(ref), 10);
    assert_false(file_exists(test_path(in(ref, ".lock"))));
    assert_true(number_in(ref, "summary.json", "last_loss", NULL, NULL) <
                number_in(ref, "summary.json", "first_loss", NULL, NULL));
    assert_true(number_in(ref, "summary.json", "eval", "eval", "change") < 0);
    assert_true(number_in(ref, "summary.json", "steps", NULL, NULL) == 10);
    char *log = test_read_file(test_path(in(ref, "log.jsonl")), NULL);
    assert_true(str_starts(strchr(log, '\n') + 1, "{\"step\":1,\"epoch\":0.2,\"loss\":"));
    assert_non_null(strstr(log, "\"eval_loss\":"));
    assert_null(strstr(log, "seconds"));
}

static void the_resolved_config_gives_the_same_run(void **state)
{
    (void)state;
    assert_ok(train((job){.config = in(reference_run(), "config.resolved.json"), .out = "again"}));
    assert_same_file("again", "ref", "adapter_model.safetensors");
    assert_same_file("again", "ref", "log.jsonl");
    char *text = test_read_file(test_path("again/config.resolved.json"), NULL), dir[600];
    snprintf(dir, sizeof dir, "\"dir\": \"%s\"", test_path("again"));
    assert_non_null(strstr(text, dir)); /* the folder it stands in, not that of the config */
}

static void threads_and_micro_batches_change_no_bit(void **state)
{
    (void)state;
    assert_any_split_gives(reference_run());
}

static void resuming_anywhere_changes_no_bit(void **state)
{
    (void)state;
    reference_run();
    for (int k = 1; k <= 10; k++) {
        copy_run("ref", "resumed", k);
        assert_ok(train((job){.out = "resumed", .resume = true}));
        assert_same_run("resumed", "ref");
    }
    copy_run("ref", "resumed", 0); /* no checkpoint yet: afresh */
    assert_ok(train((job){.out = "resumed", .resume = true}));
    assert_same_run("resumed", "ref");
}

static void resuming_with_another_split_changes_no_bit(void **state)
{
    (void)state;
    reference_run();
    for (int k = 2; k <= 8; k += 3) {
        copy_run("ref", "split", k);
        pool_close();
        assert_ok(pool_open(1 + k % 3));
        assert_ok(
            train((job){.out = "split", .resume = true, .set = {"train.micro_batch_size=3"}}));
        assert_same_run("split", "ref");
    }
}

static void full_training_resumes_to_the_same_bits(void **state)
{
    static const char *const precision[] = {"train.precision=f32", "train.precision=bf16"};
    char command[512];
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(precision); i++) {
        assert_ok(train((job){.config = "full.json",
                              .out = "full",
                              .force = true,
                              .set = {"train.keep_checkpoints=9", precision[i]}}));
        snprintf(command, sizeof command,
                 "cd '%s' && rm -rf f2 && cp -r full f2 && cd f2 && rm -rf summary.json "
                 "model.safetensors checkpoints/step-10 checkpoints/step-8 checkpoints/step-6",
                 test_dir());
        assert_int_equal(system(command), 0);
        assert_ok(train((job){.config = "full.json",
                              .out = "f2",
                              .resume = true,
                              .set = {"train.micro_batch_size=2", precision[i]}}));
        assert_same_file("f2", "full", "model.safetensors");
        assert_same_file("f2", "full", "log.jsonl");
    }
}

static void a_folder_with_a_run_is_not_overwritten(void **state)
{
    (void)state;
    reference_run();
    assert_fails(train((job){.out = "ref"}), FT_EEXIST, "--resume");
    assert_ok(train((job){.out = "ref", .resume = true})); /* complete: nothing to do */
    assert_int_equal(count_steps("ref"), 10);
    test_write_file(test_path("adapter_model.safetensors"), "x", 1);
    char dir[512];
    snprintf(dir, sizeof dir, "%s", test_dir());
    str_buf result = {0};
    train_options o = {.config = test_path("lora.json"), .out = dir, .resume = true};
    assert_fails(train_run(&o, &result), FT_EEXIST, "no run to resume");
    unlink(test_path("adapter_model.safetensors"));
}

static void a_locked_folder_is_refused_with_the_pid(void **state)
{
    int fd;
    char pid[32];
    (void)state;
    assert_ok(dir_make(test_path("locked")));
    assert_ok(dir_lock(test_path("locked"), &fd));
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    assert_fails(train((job){.out = "locked"}), FT_EEXIST, pid);
    dir_unlock(test_path("locked"), fd);
    assert_ok(train((job){.out = "locked", .set = {"train.max_steps=1"}}));
}

static void a_changed_config_is_refused_with_all_differences(void **state)
{
    (void)state;
    reference_run();
    copy_run("ref", "changed", 6);
    job j = {.out = "changed",
             .resume = true,
             .set = {"method.r=8", "optim.learning_rate=0.001", "train.batch_size=4"}};
    assert_fails(train(j), FT_ECONFIG, "method.r: 4 -> 8");
    assert_non_null(strstr(ft_error(), "optim.learning_rate: 0.01 -> 0.001"));
    assert_non_null(strstr(ft_error(), "train.batch_size: 8 -> 4"));
    /* pace may change */
    assert_ok(train((job){
        .out = "changed",
        .resume = true,
        .set = {"train.log_every=1", "train.keep_checkpoints=3", "train.checkpoint_every=5"}}));
    assert_same_run("changed", "ref");
}

/* run.json as a version would have left it that did not know this key. */
static void forget_key(const char *run, const char *key)
{
    js_doc d;
    char *text, path[64], hex[65];
    str_buf out = {0};
    sha256_state sha;
    snprintf(path, sizeof path, "%s/checkpoints/run.json", run);
    assert_ok(train_sealed_read(&d, &text, test_path(path)));
    cJSON *data = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(d.root, "config"), "data");
    assert_non_null(js_get(data, key));
    cJSON_DeleteItemFromObjectCaseSensitive(data, key);
    cJSON_Delete(cJSON_DetachItemViaPointer(d.root, d.root->child->prev)); /* the seal */
    js_print(&out, d.root, false);
    out.len--; /* the brace comes after the seal */
    sha256_init(&sha);
    sha256_add(&sha, out.data, out.len);
    sha256_hex(&sha, hex);
    str_printf(&out, ",\n  \"seal\": \"%s\"\n}\n", hex);
    test_write_file(test_path(path), out.data, out.len);
    str_free(&out);
    js_close(&d);
    ft_free(text);
}

static void a_key_of_a_later_version_counts_as_its_default(void **state)
{
    (void)state;
    reference_run();
    copy_run("ref", "older", 6);
    forget_key("older", "window_tokens");
    assert_fails(train((job){.out = "older", .resume = true, .set = {"data.window_tokens=64"}}),
                 FT_ECONFIG, "data.window_tokens: absent -> 64");
    assert_ok(train((job){.out = "older", .resume = true}));
    assert_same_run("older", "ref");
}

static void changed_data_and_base_are_refused(void **state)
{
    (void)state;
    reference_run();
    copy_run("ref", "moved", 6);
    assert_fails(train((job){.out = "moved", .resume = true, .set = {"data.max_length=12"}}),
                 FT_ECONFIG, "data.max_length");
    write_tokens("train.jsonl", 38, 1);
    ft_status rc = train((job){.out = "moved", .resume = true});
    write_tokens("train.jsonl", 37, 1);
    assert_int_equal(rc, FT_EDATA);
    assert_non_null(strstr(ft_error(), "the data"));
    test_write_file(test_path("model.json"), train_model_json, strlen(train_model_json) - 1);
    str_buf wider = {0};
    str_printf(&wider, "%.*s,\"attention_bias\":false}", (int)strlen(train_model_json) - 1,
               train_model_json);
    test_write_file(test_path("model.json"), wider.data, wider.len);
    str_free(&wider);
    rc = train((job){.out = "moved", .resume = true});
    test_write_file(test_path("model.json"), train_model_json, strlen(train_model_json));
    assert_int_equal(rc, FT_EDATA);
    assert_non_null(strstr(ft_error(), "the base model"));
}

static void flip(const char *path, size_t at)
{
    size_t n;
    char *text = test_read_file(path, &n);
    text[at % n] ^= 0x10;
    test_write_file(path, text, n);
}

static void damaged_checkpoints_are_passed_over(void **state)
{
    static const char *const files[] = {"params.safetensors", "optimizer.safetensors", "state.json",
                                        "manifest.json"};
    (void)state;
    reference_run();
    for (size_t i = 0; i < FT_COUNT_OF(files); i++) {
        copy_run("ref", "damaged", 7);
        flip(test_path(in("damaged/checkpoints/step-7", files[i])), 97 * (i + 1));
        assert_ok(train((job){.out = "damaged", .resume = true}));
        assert_same_run("damaged", "ref");
        assert_true(number_in("damaged", "summary.json", "resumed_from", NULL, NULL) == 6);
    }
    copy_run("ref", "damaged", 7); /* cut short */
    assert_int_equal(truncate(test_path("damaged/checkpoints/step-7/params.safetensors"), 200), 0);
    assert_int_equal(truncate(test_path("damaged/checkpoints/step-6/manifest.json"), 100), 0);
    assert_ok(train((job){.out = "damaged", .resume = true}));
    assert_same_run("damaged", "ref");
    assert_true(number_in("damaged", "summary.json", "resumed_from", NULL, NULL) == 5);
}

static void shell(const char *words)
{
    char command[2048];
    snprintf(command, sizeof command, "cd '%s' && %s", test_dir(), words);
    assert_int_equal(system(command), 0);
}

/* Checkpoints that nobody can go on from are told of, and stay as they are until --force. */
static void checkpoints_are_never_lost_unasked(void **state)
{
    static const struct {
        const char *how, *says;
        bool anew; /* without --resume, too, where no run is known */
        ft_status code;
    } cases[] = {
        {"rm checkpoints/run.json", "put it back", true, FT_EEXIST},
        {"rm -f checkpoints/run.json *.json*", "put it back", true, FT_EEXIST},
        {"truncate -s 100 checkpoints/step-*/params.safetensors", "no checkpoint is whole", false,
         FT_EDATA},
        {"truncate -s 100 checkpoints/step-*/manifest.json", "no checkpoint is whole", false,
         FT_EDATA},
        {"rm checkpoints/step-*/manifest.json", "no checkpoint is whole", false, FT_EDATA},
        {"rm checkpoints/step-*/state.json", "is missing, though the manifest lists it", false,
         FT_EDATA},
        {"for f in checkpoints/step-*/params.safetensors; do rm $f && mkdir $f; done",
         "is a folder, not a file", false, FT_EDATA},
        {"for f in checkpoints/step-*/optimizer.safetensors; do printf x | "
         "dd of=$f bs=1 seek=300 conv=notrunc status=none; done",
         "damaged: its SHA-256", false, FT_EDATA},
    };
    char words[512];
    (void)state;
    reference_run();
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        copy_run("ref", "kept", 4);
        snprintf(words, sizeof words, "(cd kept && %s) && rm -rf before && cp -r kept before",
                 cases[i].how);
        shell(words);
        assert_fails(train((job){.out = "kept", .resume = true}), cases[i].code, cases[i].says);
        assert_non_null(strstr(ft_error(), "step 4"));
        assert_non_null(strstr(ft_error(), "method.init_from"));
        if (cases[i].anew) assert_fails(train((job){.out = "kept"}), FT_EEXIST, cases[i].says);
        shell("diff -r kept/checkpoints before/checkpoints");
        assert_ok(train((job){.out = "kept", .force = true}));
        assert_same_run("kept", "ref");
    }
    copy_run("ref", "kept", 0);
    shell("mkdir kept/checkpoints/step-9"); /* nothing is in it to lose */
    assert_ok(train((job){.out = "kept", .resume = true}));
    assert_same_run("kept", "ref");
}

static int changed_lines;
static void count_changed(void *ctx, log_level level, const char *line)
{
    (void)ctx, (void)level;
    changed_lines += strstr(line, "no longer those that were written") != NULL;
}

static void a_log_that_was_changed_is_told(void **state)
{
    (void)state;
    reference_run();
    log_set_sink(count_changed, NULL);
    copy_run("ref", "told", 6);
    assert_ok(train((job){.out = "told", .resume = true}));
    assert_same_run("told", "ref");
    assert_int_equal(changed_lines, 0);
    copy_run("ref", "told", 6);
    flip(test_path("told/log.jsonl"), 130);
    assert_ok(train((job){.out = "told", .resume = true}));
    assert_int_equal(changed_lines, 1);
    assert_same_file("told", "ref", "adapter_model.safetensors");
    copy_run("ref", "told2", 6); /* a line that is none is left out of the tables */
    shell("sed -i '2s/:/;/' told2/log.jsonl");
    assert_ok(train((job){.out = "told2", .resume = true, .set = {"output.csv=true"}}));
    assert_int_equal(changed_lines, 2);
    log_set_sink(NULL, NULL);
    char *table = test_read_file(test_path("told2/log.csv"), NULL);
    assert_non_null(strstr(table, "\n10,"));
}

static void foreign_and_half_made_folders_are_never_chosen(void **state)
{
    char command[1024];
    (void)state;
    reference_run();
    assert_ok(train((job){.out = "foreign", .set = {"optim.learning_rate=0.5"}}));
    copy_run("ref", "strays", 4);
    snprintf(command, sizeof command,
             "cd '%s' && mkdir strays/checkpoints/step-999 && cp -r foreign/checkpoints/step-10 "
             "strays/checkpoints/"
             " && cp -r strays/checkpoints/step-4 strays/checkpoints/step-5.tmp"
             " && cp -r strays/checkpoints/step-4 strays/checkpoints/step-0007"
             " && cp -r strays/checkpoints/step-4 strays/checkpoints/step-8",
             test_dir());
    assert_int_equal(system(command), 0);
    assert_ok(train((job){.out = "strays", .resume = true}));
    assert_same_run("strays", "ref");
    assert_true(number_in("strays", "summary.json", "resumed_from", NULL, NULL) == 4);
    assert_false(dir_exists(test_path("strays/checkpoints/step-5.tmp")));
}

static void rotation_keeps_the_newest(void **state)
{
    (void)state;
    assert_ok(train(
        (job){.out = "rotated", .set = {"train.checkpoint_every=1", "train.keep_checkpoints=3"}}));
    for (int k = 1; k <= 10; k++) {
        char name[64];
        snprintf(name, sizeof name, "rotated/checkpoints/step-%d", k);
        assert_int_equal(dir_exists(test_path(name)), k > 7);
    }
}

static void more_steps_go_on_from_a_complete_run(void **state)
{
    (void)state;
    job j = {.out = "longer", .set = {"train.max_steps=4", "optim.lr_scheduler_type=constant"}};
    assert_ok(train(j));
    j.resume = true;
    j.set[0] = "train.max_steps=10";
    assert_ok(train(j));
    assert_true(number_in("longer", "summary.json", "resumed_from", NULL, NULL) == 4);
    assert_ok(train((job){.out = "longer2", .set = {"optim.lr_scheduler_type=constant"}}));
    assert_same_run("longer",
                    "longer2"); /* step 4 was the last one, and evaluated, only for a while */
    j.set[0] = "train.max_steps=9";
    assert_fails(train(j), FT_ECONFIG, "10 are done");
    j = (job){.out = "epochs", .set = {"train.epochs=1", "optim.lr_scheduler_type=constant"}};
    assert_ok(train(j));
    j.resume = true;
    j.set[0] = "train.epochs=2";
    assert_ok(train(j));
    assert_same_run("epochs", "longer2");
    j.set[0] = "train.max_steps=10"; /* the same steps by another key */
    assert_ok(train(j));
    j = (job){.out = "linear", .set = {"train.max_steps=4"}};
    assert_ok(train(j));
    j.resume = true;
    j.set[0] = "train.max_steps=10";
    assert_fails(train(j), FT_ECONFIG, "optim.lr_scheduler_type \"linear\" depend");
    assert_fails(train(j), FT_ECONFIG, "method.init_from");
}

/* Schedules of continued pretraining: more steps of the constant phase, and an annealing branched off it; a run that annealed
 * already goes on from before that. Each is the one run with the longer config, to the byte. */
static void a_schedule_branches_where_no_rate_changes(void **state)
{
    (void)state;
    job j = {.set = {"optim.lr_scheduler_type=infinite", "train.max_steps=6",
                     "optim.warmup_steps=1", "optim.cooldown_steps=2", "optim.anneal_steps=0",
                     "train.keep_checkpoints=9"}};
    job whole = j;
    whole.out = "whole";
    whole.set[1] = "train.max_steps=10";
    whole.set[4] = "optim.anneal_steps=4";
    assert_ok(train(whole));
    j.out = "phase"; /* 6 steps of the constant phase, then 4 that anneal */
    assert_ok(train(j));
    j = whole;
    j.out = "phase";
    j.resume = true;
    assert_ok(train(j));
    assert_same_run("phase", "whole");
    assert_true(number_in("phase", "summary.json", "resumed_from", NULL, NULL) == 6);
    j.out = "annealed"; /* the last 2 of 6 steps annealed: step 4 is where 10 steps branch off */
    j.resume = false;
    j.set[1] = "train.max_steps=6";
    j.set[4] = "optim.anneal_steps=2";
    assert_ok(train(j));
    j.resume = true;
    j.set[1] = "train.max_steps=10";
    j.set[4] = "optim.anneal_steps=4";
    assert_ok(train(j));
    assert_same_run("annealed", "whole");
    assert_true(number_in("annealed", "summary.json", "resumed_from", NULL, NULL) == 4);
    j.set[5] = "optim.start_lr=1e-5"; /* the first step would have had another rate */
    j.set[1] = "train.max_steps=12";
    assert_fails(train(j), FT_ECONFIG, "optim.start_lr: absent -> 1e-05");
}

static void a_time_limit_saves_and_resumes(void **state)
{
    (void)state;
    reference_run();
    ft_status rc = FT_ETIME;
    int rounds = 0;
    char limit[64]; /* it counts from the start, so each part has a little more */
    for (; rc == FT_ETIME && rounds < 400; rounds++) {
        snprintf(limit, sizeof limit, "train.max_seconds=%g", 0.01 * (1 + rounds));
        rc = train((job){.out = "limited", .resume = true, .set = {limit}});
    }
    assert_int_equal(rc, FT_OK);
    assert_true(rounds > 1);
    assert_same_run("limited", "ref");
}

static void divergence_stops_before_the_update(void **state)
{
    (void)state;
    assert_fails(
        train((job){.out = "nan", .set = {"optim.learning_rate=1e30", "train.checkpoint_every=1"}}),
        FT_EDIVERGED, "step 2");
    assert_false(file_exists(test_path("nan/adapter_model.safetensors")));
}

static void the_best_values_become_the_result(void **state)
{
    (void)state;
    /* A rate that grows far too high: the first evaluations are the best ones. */
    job j = {.out = "best",
             .set = {"train.keep_best=true", "train.eval_every=1", "optim.learning_rate=100",
                     "optim.warmup_steps=10", "train.patience=3", "train.checkpoint_every=100"}};
    ft_status rc = train(j);
    if (rc == FT_EDIVERGED) fail_msg("diverged: %s", ft_error());
    assert_int_equal(rc, FT_OK);
    double best = number_in("best", "summary.json", "best", "step", NULL), lowest = 1e30;
    double steps = number_in("best", "summary.json", "steps", NULL, NULL);
    int step = 0, lowest_step = 0;
    const char *log = test_read_file(test_path("best/log.jsonl"), NULL);
    log = strchr(log, '\n'); /* step 0 is no candidate */
    for (const char *p = log; (p = strstr(p, "\"eval_loss\":")); p++) {
        double loss = strtod(p + strlen("\"eval_loss\":"), NULL);
        step++;
        if (loss < lowest) lowest_step = step;
        if (loss < lowest) lowest = loss;
    }
    assert_true(best == lowest_step && steps == step && best < steps);
    if (steps < 10) assert_true(steps == best + 3); /* patience */
    char name[128];
    snprintf(name, sizeof name, "best/checkpoints/step-%d/params.safetensors", (int)best);
    arena *mem;
    st_file values, result;
    assert_ok(arena_open(&mem, "test", 1 << 24));
    assert_ok(st_open(&values, test_path(name), mem));
    assert_ok(st_open(&result, test_path("best/adapter_model.safetensors"), mem));
    assert_int_equal(values.n, result.n);
    for (int64_t i = 0; i < result.n; i++) {
        bool found = false; /* names in PEFT's file carry its prefix */
        for (int64_t k = 0; k < values.n && !found; k++)
            found =
                values.tensor[k].bytes == result.tensor[i].bytes &&
                memcmp(values.tensor[k].data, result.tensor[i].data, result.tensor[i].bytes) == 0;
        assert_true(found);
    }
    st_close(&values);
    st_close(&result);
    arena_close(mem);
}

static void several_sources_are_told_apart(void **state)
{
    char sources[2][1024];
    (void)state;
    snprintf(sources[0], sizeof sources[0],
             "data.train=[{\"path\":\"%s\",\"format\":\"tokens\",\"name\":\"new\"},"
             "{\"path\":\"%s\",\"format\":\"tokens\",\"name\":\"old\"}]",
             test_path("train.jsonl"), test_path("other.jsonl"));
    snprintf(sources[1], sizeof sources[1],
             "data.eval=[{\"path\":\"%s\",\"format\":\"tokens\",\"name\":\"old\"},"
             "{\"path\":\"%s\",\"format\":\"tokens\",\"name\":\"new\"}]",
             test_path("other.jsonl"), test_path("eval.jsonl"));
    assert_ok(train((job){.out = "sources", .set = {"train.max_steps=3", sources[0], sources[1]}}));
    char *log = test_read_file(test_path("sources/log.jsonl"), NULL);
    assert_non_null(strstr(log, "\"source_tokens\":{\"new\":"));
    assert_non_null(strstr(log, "\"eval_loss.old\":"));
    assert_non_null(strstr(log, "\"eval_tokens.new\":"));
    assert_false(isnan(number_in("sources", "summary.json", "eval", "old", "change")));
}

static void all_mistakes_are_listed_at_once(void **state)
{
    static const char text[] =
        "{\"model\":{\"pat\":\"x\"},\"method\":{\"type\":\"lorra\"},\"data\":{\"max_length\":-1},"
        "\"optim\":{\"lr_scheduler_type\":\"cosin\"},\"train\":{\"keep_best\":true,\"epochs\":0},"
        "\"outpt\":{}}";
    static const char *const wanted[] = {"\"path\"",        "\"lora\"",   "data.train",
                                         "data.max_length", "\"cosine\"", "train.epochs",
                                         "train.keep_best", "\"output\""};
    (void)state;
    test_write_file(test_path("bad.json"), text, strlen(text));
    str_buf result = {0};
    train_options o = {.config = test_path("bad.json")};
    assert_int_equal(train_run(&o, &result), FT_ECONFIG);
    for (size_t i = 0; i < FT_COUNT_OF(wanted); i++) {
        if (!strstr(ft_error(), wanted[i])) fail_msg("%s is not among:\n%s", wanted[i], ft_error());
    }
    size_t lines = 1; /* a line each: what is misspelled is not missing as well */
    for (const char *p = ft_error(); *p; p++) lines += *p == '\n';
    assert_int_equal(lines, FT_COUNT_OF(wanted));
    assert_int_equal(train_check(&o, &result), FT_ECONFIG);
    str_free(&result);
}

static void check_reports_and_writes_nothing(void **state)
{
    static const char *const memory[] = {"weights_bytes",   "trainable_bytes",   "gradients_bytes",
                                         "optimizer_bytes", "activations_bytes", "workspace_bytes",
                                         "total_bytes"};
    str_buf r = {0};
    js_doc d;
    (void)state;
    train_options o = {
        .config = test_path("lora.json"), .out = test_path("unwritten"), .json = true};
    assert_ok(train_check(&o, &r));
    assert_false(dir_exists(test_path("unwritten")));
    assert_ok(js_parse(&d, r.data, r.len, "report", 1, JS_STRICT, FT_EDATA));
    double total = 0;
    for (size_t i = 0; i < FT_COUNT_OF(memory); i++) {
        const cJSON *v = js_get(js_get(d.root, "memory"), memory[i]);
        assert_true(cJSON_IsNumber(v) && v->valuedouble > 0);
        total += i < 6 ? v->valuedouble : -v->valuedouble;
    }
    assert_true(total == 0);
    const cJSON *source = js_get(js_get(d.root, "data"), "train")->child;
    assert_true(js_get(source, "samples")->valuedouble == 37);
    js_close(&d);
    str_free(&r);
}

/* Samples that fit alone, joined to rows that do not: positions of GPT-2 come from a table. */
static void joined_rows_must_fit_the_positions(void **state)
{
    static const char gpt2[] =
        "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\",\"vocab_size\":64,"
        "\"n_embd\":32,\"n_layer\":1,\"n_head\":4,\"n_positions\":32}";
    char set[600];
    (void)state;
    test_write_file(test_path("gpt2.json"), gpt2, strlen(gpt2));
    snprintf(set, sizeof set, "model.from_config=%s", test_path("gpt2.json"));
    job j = {.out = "joined", .set = {set, "train.max_steps=1"}};
    assert_ok(train(j)); /* 20 tokens at most */
    j.out = "joined2";
    j.set[2] = "data.packing=concat";
    assert_fails(train(j), FT_ECONFIG, "data.max_length: a sequence has up to");
    assert_false(dir_exists(test_path("joined2")));
    train_options o = {
        .config = test_path("lora.json"), .sets = j.set, .n_sets = 3, .out = test_path("joined2")};
    str_buf report = {0};
    assert_fails(train_check(&o, &report), FT_ECONFIG, "the model has 32 positions");
    str_free(&report);
    j.set[3] = "data.max_length=32";
    assert_ok(train(j));
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    assert_ok(dir_make(test_path("cgroup")));
    test_write_file(test_path("cgroup/memory.max"), "4000000\n", 8);
    setenv("FT_CGROUP_ROOT", test_path("cgroup"), 1);
    ft_status rc = train((job){.out = "small"});
    unsetenv("FT_CGROUP_ROOT");
    assert_int_equal(rc, FT_EMEM);
    assert_non_null(strstr(ft_error(), "memory.max"));
    assert_false(dir_exists(test_path("small")));
}

/* Ids need no tokenizer, whether the base without one is a folder or a .gguf. */
static void a_base_without_a_tokenizer_trains_on_ids(void **state)
{
    char base[300], file[300];
    model *m;
    (void)state;
    snprintf(base, sizeof base, "model={\"path\": \"%s\"}", test_path("bare"));
    snprintf(file, sizeof file, "model={\"path\": \"%s\"}", test_path("bare.gguf"));
    static const char *const once = "train.max_steps=1";
    assert_ok(train((job){.config = "full.json", .out = "bare", .set = {once}}));
    assert_int_equal(unlink(test_path("bare/tokenizer.json")), 0);
    assert_int_equal(unlink(test_path("bare/tokenizer_config.json")), 0);
    assert_ok(model_open(&m, &(model_options){.path = test_path("bare")}));
    assert_ok(model_save(m, test_path("bare.gguf"), NULL));
    model_close(m);
    assert_ok(train((job){.out = "by-folder", .set = {base, once}}));
    assert_ok(train((job){.out = "by-file", .set = {file, once}}));
    assert_same_file("by-folder", "by-file", "adapter_model.safetensors");
    const char *const words = "data.train.format=text";
    assert_fails(train((job){.out = "words", .set = {file, once, words}}), FT_ENOINPUT,
                 "need a tokenizer, and the model has none");
}

/* Its config has none of the keys that PEFT got later: they are off, in a config that says so, too. */
static void an_older_adapter_is_gone_on_from(void **state)
{
    (void)state;
    reference_run();
    shell("mkdir older && cp ref/adapter_* older && sed -i -e '/_pattern\"/d; /exclude_modules/d; "
          "/\"bias\"/d; /use_rslora/d; /layers_to/d' -e 's/.*use_dora.*/\"auto_mapping\": null/' "
          "-e '/auto_mapping.*,/d' older/adapter_config.json");
    char from[600];
    snprintf(from, sizeof from, "method.init_from=%s", test_path("older"));
    job j = {.out = "on", .set = {from, "train.max_steps=1"}};
    assert_ok(train(j));
    assert_ok(train((job){.config = in("on", "config.resolved.json"), .out = "on2"}));
    assert_same_run("on2", "on");
    j.set[2] = "method.use_rslora=true";
    assert_fails(train(j), FT_ECONFIG, "method.use_rslora: differs");
}

/* Under a seal that holds, as who sends a run may have made it. */
static void counts_of_a_state_are_counts(void **state)
{
    static const char *const wrong[] = {"-1", "0.5", "1e300", "9007199254740992"};
    static const char head[] =
        "{\"step\":1,\"tokens\":9,\"supervised\":5,\"first_loss\":6,\"last_loss\":null,"
        "\"best_loss\":null,\"best_step\":0,\"bad_evals\":0,\"finished\":false,\"pending\":false,"
        "\"record_step\":0,\"record_loss\":0,\"record_rate\":0,\"record_grad_norm\":0,"
        "\"record_tokens\":0,\"record_supervised\":0,\"seconds\":1,\"log_bytes\":0,"
        "\"time_bytes\":0,\"eval_first\":[],\"eval_last\":[],\"step_sources\":[3],";
    arena *mem;
    train_state s;
    (void)state;
    assert_ok(arena_open(&mem, "test", 1 << 20));
    assert_ok(train_state_init(&s, 1, 0, 0, mem));
    for (size_t i = 0; i <= FT_COUNT_OF(wrong); i++) {
        str_buf text = {0};
        const bool last = i == FT_COUNT_OF(wrong);
        str_printf(&text, "%s\"source_tokens\":[%s]", head, last ? "7" : wrong[i]);
        assert_ok(train_sealed_write(test_path("state.json"), &text));
        if (last)
            assert_ok(train_state_read(&s, NULL, test_path("state.json")));
        else
            assert_fails(train_state_read(&s, NULL, test_path("state.json")), FT_EDATA,
                         "which is no count");
        str_free(&text);
    }
    assert_true(s.source_tokens[0] == 7 && s.step_sources[0] == 3);
    arena_close(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_learns_and_leaves_its_files),
        cmocka_unit_test(counts_of_a_state_are_counts),
        cmocka_unit_test(an_older_adapter_is_gone_on_from),
        cmocka_unit_test(the_resolved_config_gives_the_same_run),
        cmocka_unit_test(threads_and_micro_batches_change_no_bit),
        cmocka_unit_test(resuming_anywhere_changes_no_bit),
        cmocka_unit_test(resuming_with_another_split_changes_no_bit),
        cmocka_unit_test(full_training_resumes_to_the_same_bits),
        cmocka_unit_test(a_folder_with_a_run_is_not_overwritten),
        cmocka_unit_test(a_locked_folder_is_refused_with_the_pid),
        cmocka_unit_test(a_changed_config_is_refused_with_all_differences),
        cmocka_unit_test(a_key_of_a_later_version_counts_as_its_default),
        cmocka_unit_test(changed_data_and_base_are_refused),
        cmocka_unit_test(damaged_checkpoints_are_passed_over),
        cmocka_unit_test(checkpoints_are_never_lost_unasked),
        cmocka_unit_test(a_log_that_was_changed_is_told),
        cmocka_unit_test(foreign_and_half_made_folders_are_never_chosen),
        cmocka_unit_test(rotation_keeps_the_newest),
        cmocka_unit_test(more_steps_go_on_from_a_complete_run),
        cmocka_unit_test(a_schedule_branches_where_no_rate_changes),
        cmocka_unit_test(a_time_limit_saves_and_resumes),
        cmocka_unit_test(divergence_stops_before_the_update),
        cmocka_unit_test(the_best_values_become_the_result),
        cmocka_unit_test(several_sources_are_told_apart),
        cmocka_unit_test(all_mistakes_are_listed_at_once),
        cmocka_unit_test(check_reports_and_writes_nothing),
        cmocka_unit_test(joined_rows_must_fit_the_positions),
        cmocka_unit_test(a_base_without_a_tokenizer_trains_on_ids),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    if (kn_init() != FT_OK || pool_open(2) != FT_OK) return 1;
    int failed = cmocka_run_group_tests(tests, setup, NULL);
    pool_close();
    return failed;
}
