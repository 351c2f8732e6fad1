/* A run of two steps that goes on from its first checkpoint after one of its files was replaced. Byte 0 picks the file, whether
 * what guards it is made anew for it (a seal for the JSON, a manifest that knows the others), and the run: the bit of 64 is one
 * that samples completions, of which the second step is made, too. Where nothing is made anew, the damage is noticed: the run is
 * refused, or its result is that of the undisturbed run to the byte. Without further bytes the file stays as it is. */
#include "fuzz.h"

#include "train/train_private.h"

#define STEP "run/checkpoints/step-1"
enum { MOST = 40 };
static struct run {
    struct kept {
        char name[200];
        char *text;
        size_t n;
    } kept[MOST];
    int n_kept;
    char *wanted;
    size_t wanted_len;
} runs[2];

static void keep_folder(struct run *u, const char *dir)
{
    const char **names;
    int64_t n;
    arena *mem = fz_arena();
    fz_must(dir_list(fz_path(dir), mem, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        struct kept *k = &u->kept[u->n_kept];
        snprintf(k->name, sizeof k->name, "%s/%s", dir, names[i]);
        path_kind kind;
        fz_must(path_look(fz_path(k->name), &kind));
        if (kind != PATH_FILE) continue;
        FZ_CHECK(++u->n_kept < MOST);
        fz_must(file_read(&k->text, &k->n, fz_path(k->name), (size_t)1 << 30));
    }
}

static ft_status train(bool samples, bool resume)
{
    static const char judged[] = "objective.rewards=[{\"type\":\"length\","
                                 "\"max_completion_len\":3,\"soft_punish_cache\":1}]";
    static const char *const sets[] = {
        "train.max_steps=2",           "train.checkpoint_every=1",
        "train.keep_checkpoints=2",    "method.r=1",
        "data.max_length=16",          "train.batch_size=2",
        "objective.type=grpo",         judged,
        "objective.num_generations=2", "objective.max_completion_length=3",
        "objective.num_iterations=2",  "objective.beta=0.1"};
    const char *data = fz_path("d.jsonl");
    train_options o = {.given = {.model = fz_model(), .method = "lora", .data = &data, .n_data = 1},
                       .sets = sets,
                       .n_sets = samples ? FT_COUNT_OF(sets) : 6,
                       .out = fz_path("run"),
                       .resume = resume};
    str_buf result = {0};
    ft_status rc = train_run(&o, &result);
    str_free(&result);
    return rc;
}

static void put_back(const struct run *u)
{
    fz_must(dir_remove(fz_path("run")));
    fz_must(dir_make(fz_path(STEP)));
    for (int i = 0; i < u->n_kept; i++) fz_put(u->kept[i].name, u->kept[i].text, u->kept[i].n);
}

static void make_run(bool samples)
{
    struct run *u = &runs[samples];
    fz_must(dir_remove(fz_path("run")));
    fz_must(train(samples, false));
    fz_must(
        file_read(&u->wanted, &u->wanted_len, fz_path("run/adapter_model.safetensors"), 1u << 30));
    keep_folder(u, "run");
    keep_folder(u, "run/checkpoints");
    keep_folder(u, STEP);
    int n = 0; /* what a run that was killed after step 1 has not */
    for (int i = 0; i < u->n_kept; i++) {
        const char *name = u->kept[i].name;
        bool result = strstr(name, "run/adapter") || strstr(name, "run/summary") ||
                      strstr(name, "run/token") || strstr(name, ".lock");
        if (result)
            ft_free(u->kept[i].text);
        else
            u->kept[n++] = u->kept[i];
    }
    u->n_kept = n;
    put_back(u);
    fz_must(train(samples, true)); /* undisturbed it goes on */
}

static void make_runs(void)
{
    static const char data[] = "{\"prompt\":\"One warm\",\"completion\":\" day.\"}\n"
                               "{\"prompt\":\"Two\",\"completion\":\" cold nights.\"}\n"
                               "{\"prompt\":\"A\",\"completion\":\" fox ran.\"}\n";
    fz_put("d.jsonl", data, sizeof data - 1);
    make_run(false);
    make_run(true);
}

static const char *reseal(const char *path, const uint8_t *body, size_t n)
{
    str_buf b = {0};
    str_add(&b, (const char *)body, n);
    fz_must(train_sealed_write(path, &b));
    str_free(&b);
    return path;
}

/* The manifest with size and hash of the file as it is now. */
static void tell_manifest(const char *name)
{
    js_doc d;
    char *text, hex[65];
    str_buf b = {0};
    fz_must(train_sealed_read(&d, &text, fz_path(STEP "/manifest.json")));
    cJSON *entry;
    cJSON_DeleteItemFromObjectCaseSensitive(d.root, "seal");
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(d.root, "files"))
    {
        if (strcmp(js_get(entry, "name")->valuestring, name) != 0) continue;
        char path[300];
        snprintf(path, sizeof path, STEP "/%s", name);
        fz_must(file_sha256(fz_path(path), hex));
        cJSON_SetValuestring(cJSON_GetObjectItemCaseSensitive(entry, "sha256"), hex);
        int64_t bytes;
        fz_must(path_size(fz_path(path), &bytes));
        cJSON_SetNumberValue(cJSON_GetObjectItemCaseSensitive(entry, "bytes"), (double)bytes);
    }
    js_print(&b, d.root, false);
    reseal(fz_path(STEP "/manifest.json"), (const uint8_t *)b.data, b.len - 1);
    str_free(&b);
    js_close(&d);
    ft_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"checkpoints/step-1/manifest.json",
                                        "checkpoints/step-1/state.json",
                                        "checkpoints/step-1/params.safetensors",
                                        "checkpoints/step-1/optimizer.safetensors",
                                        "checkpoints/run.json",
                                        "log.jsonl",
                                        "checkpoints/step-1/objective.safetensors"};
    if (fz_start()) make_runs();
    if (size < 1) return 0;
    int which = data[0] % 64 % 7;
    bool anew = data[0] & 128, samples = data[0] & 64;
    const struct run *u = &runs[samples];
    char path[200];
    snprintf(path, sizeof path, "run/%s", names[which]);
    put_back(u);
    if (size == 1)
        anew = false;
    else if (anew && which != 2 && which != 3 && which < 5)
        reseal(fz_path(path), data + 1, size - 1);
    else
        fz_put(path, data + 1, size - 1);
    if (anew && ((which > 0 && which < 4) || which == 6)) tell_manifest(path_base(path));
    ft_status rc = train(samples, true);
    if (rc != FT_EEXIST) fz_status(rc);
    if (rc != FT_OK || anew) return 0;
    char *got = NULL;
    size_t n;
    fz_must(file_read(&got, &n, fz_path("run/adapter_model.safetensors"), 1u << 30));
    if (n != u->wanted_len || memcmp(got, u->wanted, n) != 0) {
        fprintf(stderr, "another result after damage to %s\n", path);
        abort();
    }
    ft_free(got);
    return 0;
}
