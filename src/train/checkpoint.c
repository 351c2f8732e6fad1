/* checkpoint.c – checkpoints that survive a crash at any instruction.
 *
 * A checkpoint is made as step-N.tmp: each file is written, synced, read back and renamed inside it; manifest.json, which
 * holds size and SHA-256 of what was handed over of the others (never of what the disk gave back) and what run they belong
 * to, comes last; then the folder is synced, renamed to step-N and its parent synced, and only then are older ones removed.
 * So a folder called step-N is whole, and at every moment the last good one is still there. The newest is the one with the
 * highest step *of this run*: folders of other runs, half-made and damaged ones are passed over. */
#include "train_private.h"

#include "ft/kernel.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES "params.safetensors"
#define STATES "optimizer.safetensors"
#define STATE "state.json"
#define ARRAYS "objective.safetensors"
#define MANIFEST "manifest.json"
static const char *const files[] = {VALUES, STATES, STATE, ARRAYS};
enum { FORMAT = 1 };

/* Of these, ARRAYS is there where the objective keeps any. */
static size_t n_files(const train_session *s)
{
    return FT_COUNT_OF(files) - (s->cfg.objective->state == NULL);
}

static const char *checkpoint_dir(arena *mem, const char *out, int64_t step)
{
    return arena_printf(mem, "%s/checkpoints/step-%lld", out, (long long)step);
}

/* The files of one checkpoint. */
typedef struct names {
    const char *dir, *values, *states, *state, *arrays, *manifest;
} names;

static ft_status name_files(arena *mem, const char *dir, names *n)
{
    if (!dir) return FT_EMEM;
    *n = (names){
        .dir = dir,
        .values = arena_printf(mem, "%s/" VALUES, dir),
        .states = arena_printf(mem, "%s/" STATES, dir),
        .state = arena_printf(mem, "%s/" STATE, dir),
        .arrays = arena_printf(mem, "%s/" ARRAYS, dir),
        .manifest = arena_printf(mem, "%s/" MANIFEST, dir),
    };
    return n->values && n->states && n->state && n->arrays && n->manifest ? FT_OK : FT_EMEM;
}

/* --- values and states as named tensors ------------------------------------------------------------------------------ */
typedef struct tensor_list {
    st_decl *decl;
    const void **data; /* those that are loaded are the run's own, and written to */
    int64_t n;
} tensor_list;

static ft_status new_list(const train_session *s, int64_t most, tensor_list *t)
{
    t->n = 0;
    t->decl = arena_get(s->batch, (size_t)(most + 1) * sizeof *t->decl);
    t->data = arena_get(s->batch, (size_t)(most + 1) * sizeof *t->data);
    return t->decl && t->data ? FT_OK : FT_EMEM;
}

static void add_param(tensor_list *t, const nn_param *p)
{
    st_decl *d = &t->decl[t->n];
    *d = (st_decl){.name = p->name, .type = p->t.type, .nd = p->t.nd};
    for (int i = 0; i < p->t.nd; i++) d->dim[i] = p->t.dim[i];
    t->data[t->n++] = p->t.data;
}

/* Trained values and the method's states, which belong to them: views, nothing is copied. */
static ft_status list_values(const train_session *s, tensor_list *t)
{
    const nn_store *p = &s->pe->store;
    FT_TRY(new_list(s, p->n + p->n_state, t));
    for (int64_t i = 0; i < p->n; i++) add_param(t, p->param[i]);
    for (int64_t i = 0; i < p->n_state; i++) add_param(t, p->state[i]);
    return FT_OK;
}

/* What the update rule keeps, as TENSOR.STATE ("….weight.exp_avg"). */
static ft_status list_states(const train_session *s, tensor_list *t)
{
    const opt_optimizer *o = s->optimizer;
    opt_state state[OPT_MAX_STATES];
    FT_TRY(new_list(s, o->store->n * OPT_MAX_STATES, t));
    for (int64_t i = 0; i < o->store->n; i++) {
        const nn_param *p = o->store->param[i];
        int n = o->rule->states(o->own, &p->t, state);
        for (int k = 0; k < n; k++) {
            const char *name = arena_printf(s->batch, "%s.%s", p->name, state[k].name);
            if (!name) return FT_EMEM;
            t->decl[t->n] = (st_decl){.name = name, .type = state[k].type, .nd = state[k].nd};
            for (int j = 0; j < state[k].nd; j++) t->decl[t->n].dim[j] = state[k].dim[j];
            t->data[t->n++] = o->state[i][k];
        }
    }
    return FT_OK;
}

/* What the objective keeps; views. */
static ft_status list_arrays(train_session *s, tensor_list *t)
{
    nn_arrays a = {.mem = s->batch};
    *t = (tensor_list){0};
    if (!s->cfg.objective->state) return FT_OK;
    FT_TRY(s->cfg.objective->state(&s->objective, &a));
    FT_TRY(new_list(s, a.n, t));
    for (int64_t i = 0; i < a.n; i++) {
        const nn_array *x = &a.array[i];
        t->decl[i] = (st_decl){.name = x->name, .type = x->type, .nd = x->nd};
        for (int k = 0; k < x->nd; k++) t->decl[i].dim[k] = x->dim[k];
        t->data[t->n++] = x->data;
    }
    return FT_OK;
}

static int64_t decl_count(const st_decl *d)
{
    int64_t n = 1;
    for (int i = 0; i < d->nd; i++) n *= d->dim[i];
    return n;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */
/* A checkpoint never holds a NaN or an Inf. */
static ft_status check_finite(const train_session *s, const tensor_list *t)
{
    for (int64_t i = 0; i < t->n; i++) {
        const st_decl *d = &t->decl[i];
        if (dt_find_nonfinite(d->type, t->data[i], decl_count(d)) < 0) continue;
        return ft_fail(FT_EDIVERGED,
                       "step %lld: %s is not finite after the update; nothing was saved",
                       (long long)s->state.step, ft_shows(t->decl[i].name));
    }
    return FT_OK;
}

static void add_text(str_buf *out, const char *key, const char *value)
{
    str_printf(out, ",\n  \"%s\": ", key);
    str_json(out, value, strlen(value));
}

/* By what was handed over when it was written. */
static ft_status add_file(str_buf *out, const file_notes *notes, const char *name, const char *path,
                          bool first)
{
    const file_note *n = file_notes_find(notes, path);
    FT_CHECK(n, FT_EINTERNAL, "%s: is not of this checkpoint", path);
    str_printf(out, "%s\n    {\"name\": ", first ? "" : ",");
    str_json(out, name, strlen(name));
    str_printf(out, ", \"bytes\": %zu, \"sha256\": \"%s\"}", n->bytes, n->sha256);
    return FT_OK;
}

static bool is_own(const char *name)
{
    for (size_t i = 0; i < FT_COUNT_OF(files); i++)
        if (strcmp(files[i], name) == 0) return true;
    return false;
}

/* The files of the run, then those of the adapter or model that the folder is too. What somebody else has put there meanwhile
 * (a copy that a backup makes, a file that NFS keeps) is none of them. */
static ft_status write_manifest(const train_session *s, const names *n, const file_notes *notes)
{
    const char *const paths[] = {n->values, n->states, n->state, n->arrays};
    const char **entries;
    int64_t count;
    str_buf out = {0};
    ft_status rc = FT_OK;
    FT_TRY(dir_list(n->dir, s->batch, &entries, &count));
    str_printf(&out, "{\n  \"format\": %d,\n  \"step\": %lld", FORMAT, (long long)s->state.step);
    add_text(&out, "run_id", s->run_id);
    add_text(&out, "version", FT_VERSION);
    add_text(&out, "kernel", kn_core_name(s->tape->precision));
    add_text(&out, "config_sha256", s->config_sha);
    add_text(&out, "data_sha256", s->data_sha);
    add_text(&out, "base_sha256", s->base_sha);
    str_adds(&out, ",\n  \"files\": [");
    for (size_t i = 0; i < n_files(s); i++)
        FT_TRY_OUT(add_file(&out, notes, files[i], paths[i], i == 0));
    for (int64_t i = 0; i < count; i++) {
        const char *path = path_join(s->batch, n->dir, entries[i]);
        FT_GUARD(path, FT_EMEM, "out of memory");
        path_kind kind;
        FT_TRY_OUT(path_look(path, &kind));
        const bool foreign = !io_known(entries[i]) && !file_notes_find(notes, path);
        if (!is_own(entries[i]) && !foreign && kind == PATH_FILE)
            FT_TRY_OUT(add_file(&out, notes, entries[i], path, false));
    }
    str_adds(&out, "\n  ]");
    rc = train_sealed_write(n->manifest, &out);
out:
    str_free(&out);
    return rc;
}

/* From a file's mapping, a piece at a time: a checkpoint of full training is larger than the model, and may not become
 * resident beside it. */
#define PIECE ((size_t)128 << 10)
static void take_bytes(void *ours, const void *mapped, size_t n)
{
    for (size_t at = 0; at < n; at += PIECE) {
        size_t some = n - at < PIECE ? n - at : PIECE;
        const uint8_t *from = (const uint8_t *)mapped + at;
        memcpy((uint8_t *)ours + at, from, some);
        file_map_forget(from, some);
    }
}

static ft_status write_list(const char *path, const tensor_list *t)
{
    return st_write_all(path, t->decl, t->data, t->n, NULL, 0);
}

static ft_status write_state(const train_session *s, const char *path)
{
    str_buf places = {0};
    ft_status rc = data_places(s->train, &places);
    if (rc == FT_OK) rc = train_state_write(&s->state, &places, path);
    str_free(&places);
    return rc;
}

/* dir: under which name the folder will be found */
static ft_status write_files(train_session *s, const names *n, const char *dir,
                             const tensor_list *values, const tensor_list *states,
                             const tensor_list *arrays, const file_notes *notes)
{
    FT_TRY(dir_make(n->dir));
    FT_TRY(write_list(n->values, values));
    FT_TRY(write_list(n->states, states));
    if (s->cfg.objective->state) FT_TRY(write_list(n->arrays, arrays));
    s->state.seconds = train_elapsed(s);
    FT_TRY(write_state(s, n->state));
    FT_TRY(train_folder_save(s, n->dir, dir));
    FT_TRY(train_write_resolved(s, n->dir));
    FT_TRY(write_manifest(s, n, notes));
    return dir_sync(n->dir);
}

static ft_status prune(const train_session *s);

static ft_status save(train_session *s)
{
    tensor_list values, states, arrays;
    names tmp;
    arena *mem = s->batch;
    FT_TRY(
        file_inputs_check()); /* of a base that was changed it would be the first that is wrong */
    FT_TRY(list_values(s, &values));
    FT_TRY(list_states(s, &states));
    FT_TRY(list_arrays(s, &arrays));
    FT_TRY(check_finite(s, &values));
    FT_TRY(check_finite(s, &states));
    FT_TRY(check_finite(s, &arrays));
    FT_TRY(train_log_sync(s));
    const char *dir = checkpoint_dir(mem, s->out, s->state.step);
    if (!dir) return FT_EMEM;
    FT_TRY(name_files(mem, arena_printf(mem, "%s.tmp", dir), &tmp));
    FT_TRY(train_place_remove(tmp.dir, mem));
    file_notes notes;
    file_notes_begin(&notes);
    ft_status rc = write_files(s, &tmp, dir, &values, &states, &arrays, &notes);
    file_notes_end(&notes);
    /* What stands there can only be one that was found damaged, or another run's. */
    if (rc == FT_OK) rc = train_place_remove(dir, mem);
    path_kind kind = PATH_NONE;
    if (rc == FT_OK) rc = path_look(dir, &kind);
    if (rc == FT_OK && kind != PATH_NONE)
        rc = ft_fail(FT_EEXIST, "%s: is in the way, and no run made it; move it away", dir);
    if (rc == FT_OK) rc = dir_rename(tmp.dir, dir);
    if (rc != FT_OK) {
        ft_error_keep(true);
        if (train_place_remove(tmp.dir, mem) != FT_OK) log_warn("%s: cannot be removed", tmp.dir);
        ft_error_keep(false);
        return rc;
    }
    s->saved_step = s->state.step;
    return prune(s);
}

ft_status train_checkpoint_save(train_session *s, bool patient)
{
    arena_reset(s->batch, 0);
    ft_stop_hold(true);
    const bool before = file_patience(patient);
    ft_status rc = save(s);
    file_patience(before);
    ft_stop_hold(false);
    FT_TRY(rc);
    arena_reset(s->batch, 0);
    log_info("step %lld: checkpoint saved", (long long)s->state.step);
    train_stop_notes(s);
    return FT_OK;
}

/* --- finding -------------------------------------------------------------------------------------------------------------- */
/* N of "step-N", −1 for any other name. */
static int64_t step_of(const char *name)
{
    if (strncmp(name, "step-", 5) != 0 || !isdigit((unsigned char)name[5])) return -1;
    if (name[5] == '0' && name[6]) return -1;
    char *end;
    long long n = strtoll(name + 5, &end, 10);
    return *end || n > (long long)1e15 ? -1 : (int64_t)n;
}

ft_status train_checkpoint_file(const char *path, int64_t bytes, const char *sha256)
{
    path_kind kind;
    int64_t size;
    char hex[65];
    FT_TRY(path_look(path, &kind));
    FT_CHECK(kind != PATH_NONE, FT_EDATA, "%s: is missing, though the manifest lists it", path);
    FT_TRY(path_size(path, &size));
    if (size < 0) { /* the opener says what it is instead of a file */
        const ft_status rc = file_sha256(path, hex);
        if (rc == FT_OK) return ft_fail(FT_EDATA, "%s: was no file", path);
        return rc == FT_ENOINPUT ? FT_EDATA : rc;
    }
    FT_CHECK(bytes < 0 || size == bytes, FT_EDATA, "%s: %lld bytes where %lld were written", path,
             (long long)size, (long long)bytes);
    if (!sha256) return FT_OK;
    FT_TRY(file_sha256(path, hex));
    FT_CHECK(strcmp(hex, sha256) == 0, FT_EDATA, "%s: damaged: its SHA-256 is not the manifest's",
             path);
    return FT_OK;
}

static ft_status check_file(const js_doc *d, const cJSON *entry, const char *dir, train_depth depth,
                            arena *mem)
{
    const char *name = NULL, *want = NULL;
    int64_t bytes = -1;
    FT_TRY(js_get_str(d, entry, "name", NULL, &name));
    FT_TRY(js_get_str(d, entry, "sha256", NULL, &want));
    FT_TRY(js_get_int(d, entry, "bytes", -1, -1, INT64_MAX, &bytes));
    FT_CHECK(name && want && !strchr(name, '/'), FT_EDATA, "%s: an entry of \"files\" is not whole",
             d->name);
    const char *path = arena_printf(mem, "%s/%s", dir, name);
    if (!path) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(path, &kind));
    if (!is_own(name) && kind == PATH_NONE) return FT_OK; /* somebody took it away */
    const ft_status rc = train_checkpoint_file(path, bytes, depth == TRAIN_SIZES ? NULL : want);
    return rc == FT_EPERM && !is_own(name) ? FT_EDATA : rc; /* a run goes on without it */
}

ft_status train_checkpoint_facts(const train_session *s, int64_t step, arena *mem, int64_t *rates,
                                 int64_t *best)
{
    js_doc d;
    char *text;
    names n;
    FT_TRY(name_files(mem, checkpoint_dir(mem, s->out, step), &n));
    FT_TRY(train_sealed_read(&d, &text, n.state));
    ft_status rc = js_get_int(&d, d.root, "rates", -1, 0, INT64_MAX, rates);
    if (rc == FT_OK) rc = js_get_int(&d, d.root, "best_step", 0, 0, INT64_MAX, best);
    js_close(&d);
    ft_free(text);
    return rc;
}

ft_status train_checkpoint_check(const train_session *s, int64_t step, train_depth depth,
                                 arena *mem)
{
    js_doc d;
    char *text;
    const char *run = NULL;
    int64_t format = 0, at = -1;
    int n = 0;
    names at_step;
    FT_TRY(name_files(mem, checkpoint_dir(mem, s->out, step), &at_step));
    FT_TRY(train_sealed_read(&d, &text, at_step.manifest));
    ft_status rc = FT_OK;
    FT_TRY_OUT(js_get_str(&d, d.root, "run_id", NULL, &run));
    if (!run || (s->run_id[0] && strcmp(run, s->run_id) != 0)) {
        rc = FT_END;
        goto out;
    }
    FT_TRY_OUT(js_get_int(&d, d.root, "format", 0, 0, INT64_MAX, &format));
    FT_TRY_OUT(js_get_int(&d, d.root, "step", -1, -1, INT64_MAX, &at));
    FT_GUARD(format == FORMAT, FT_EDATA, "%s: format %lld, this version reads %d", d.name,
             (long long)format, FORMAT);
    FT_GUARD(at == step, FT_EDATA, "%s: belongs to step %lld", d.name, (long long)at);
    const cJSON *list = js_get(d.root, "files"), *entry;
    cJSON_ArrayForEach(entry, list)
    {
        const char *name = NULL;
        FT_TRY_OUT(js_get_str(&d, entry, "name", NULL, &name));
        const bool own = !name || is_own(name);
        if (!own && depth != TRAIN_ALL_BYTES) continue;
        FT_TRY_OUT(check_file(&d, entry, at_step.dir, depth, mem));
        n += own;
    }
    FT_GUARD(n == (int)n_files(s), FT_EDATA, "%s: lists %d files of a run", d.name, n);
out:
    js_close(&d);
    ft_free(text);
    return rc;
}

/* Is there anything of a checkpoint in the folder? */
static ft_status look_held(const train_session *s, int64_t step, arena *mem, bool *held)
{
    names n;
    FT_TRY(name_files(mem, checkpoint_dir(mem, s->out, step), &n));
    const char *const paths[] = {n.values, n.states, n.state, n.manifest};
    *held = false;
    for (size_t i = 0; i < FT_COUNT_OF(paths) && !*held; i++) {
        path_kind kind;
        FT_TRY(path_look(paths[i], &kind));
        *held = kind == PATH_FILE;
    }
    return FT_OK;
}

static int by_falling_step(const void *a, const void *b)
{
    int64_t x = ((const train_found *)a)->step, y = ((const train_found *)b)->step;
    return x < y ? 1 : x > y ? -1 : 0;
}

ft_status train_checkpoint_list(const train_session *s, arena *mem, train_found **out, int64_t *n)
{
    const char **list, *dir = arena_printf(mem, "%s/checkpoints", s->out);
    int64_t count;
    *out = NULL;
    *n = 0;
    if (!dir) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(dir, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_list(dir, mem, &list, &count));
    *out = arena_get(mem, (size_t)(count + 1) * sizeof **out);
    if (!*out) return FT_EMEM;
    for (int64_t i = 0; i < count; i++) {
        train_found f = {.step = step_of(list[i])};
        if (f.step < 0) continue;
        ft_status rc = train_checkpoint_check(s, f.step, TRAIN_SIZES, mem);
        if (rc == FT_END) continue;
        if (rc == FT_EMEM) return rc;
        f.valid = rc == FT_OK;
        f.why = rc == FT_OK ? "" : arena_str(mem, ft_error());
        FT_TRY(look_held(s, f.step, mem, &f.held));
        (*out)[(*n)++] = f;
    }
    if (*n > 0) qsort(*out, (size_t)*n, sizeof **out, by_falling_step);
    return FT_OK;
}

/* --- removing -------------------------------------------------------------------------------------------------------------- */
/* Out of sight first, so that a removal that is cut short leaves no half checkpoint under a final name. */
static ft_status remove_one(const train_session *s, int64_t step)
{
    const char *dir = checkpoint_dir(s->batch, s->out, step);
    const char *tmp = dir ? arena_printf(s->batch, "%s.tmp", dir) : NULL;
    if (!tmp) return FT_EMEM;
    FT_TRY(train_place_remove(tmp, s->batch));
    FT_TRY(dir_rename(dir, tmp));
    return train_place_remove(tmp, s->batch);
}

/* Keeps the newest, never fewer than two, the best one, and the one this process started from. */
static ft_status prune(const train_session *s)
{
    train_found *found;
    int64_t n, keep = s->cfg.train.keep_checkpoints, seen = 0;
    if (keep < 2) keep = 2;
    FT_TRY(train_checkpoint_list(s, s->batch, &found, &n));
    for (int64_t i = 0; i < n; i++) {
        if (!found[i].valid || seen++ < keep) continue;
        bool best = s->cfg.train.keep_best && found[i].step == s->state.best_step;
        if (best || found[i].step == s->resumed_from) continue;
        FT_TRY(remove_one(s, found[i].step));
    }
    return FT_OK;
}

static ft_status remove_entry(const train_session *s, const char *dir, const char *name)
{
    const char *path = arena_printf(s->batch, "%s/%s", dir, name);
    const char *left;
    return path ? io_clear_part(path, s->batch, &left) : FT_EMEM;
}

ft_status train_checkpoint_clean(const train_session *s)
{
    const char **list, *dir = arena_printf(s->batch, "%s/checkpoints", s->out);
    int64_t n;
    if (!dir) return FT_EMEM;
    path_kind kind;
    FT_TRY(path_look(dir, &kind));
    if (kind != PATH_FOLDER) return FT_OK;
    FT_TRY(dir_list(dir, s->batch, &list, &n));
    for (int64_t i = 0; i < n; i++) {
        if (str_starts(list[i], "step-") && str_ends(list[i], ".tmp"))
            FT_TRY(remove_entry(s, dir, list[i]));
    }
    return FT_OK;
}

/* --- loading -------------------------------------------------------------------------------------------------------------- */
static bool same_shape(const io_tensor *x, const st_decl *d)
{
    bool same = x->nd == d->nd;
    for (int i = 0; same && i < d->nd; i++) same = x->dim[i] == d->dim[i];
    return same;
}

/* Every tensor of the list from the file, no more and no fewer; all that does not fit is named. */
static ft_status load_file(const train_session *s, const char *path, const tensor_list *t)
{
    st_file f;
    str_buf wrong = {0};
    int64_t bad = 0;
    FT_TRY(st_open(&f, path, s->batch));
    for (int64_t i = 0; i < t->n; i++) {
        const io_tensor *x = st_find(&f, t->decl[i].name);
        bool typed = x && x->type == t->decl[i].type;
        if (typed && same_shape(x, &t->decl[i])) {
            take_bytes((void *)(uintptr_t)t->data[i], x->data, x->bytes);
            continue;
        }
        if (bad++ < 5)
            str_printf(&wrong, "%s\"%s\" %s", bad > 1 ? ", " : "", ft_shows(t->decl[i].name),
                       !x      ? "is missing"
                       : typed ? "has another shape"
                               : "has another type");
    }
    ft_status rc = FT_OK;
    if (bad > 0)
        rc = ft_fail(FT_EDATA, "%s: %lld tensors do not fit this run: %s%s", path, (long long)bad,
                     wrong.data ? wrong.data : "", bad > 5 ? ", ..." : "");
    else if (f.n != t->n)
        rc = ft_fail(FT_EDATA, "%s: holds %lld tensors, this run has %lld", path, (long long)f.n,
                     (long long)t->n);
    str_free(&wrong);
    st_close(&f);
    return rc;
}

/* The objective takes what it knows by name; their shapes are the file's. */
static ft_status load_arrays(train_session *s, const char *path)
{
    st_file f;
    nn_arrays a = {.loading = true, .mem = s->mem};
    if (!s->cfg.objective->state) return FT_OK;
    FT_TRY(st_open(&f, path, s->batch));
    a.array = arena_get(s->batch, (size_t)(f.n + 1) * sizeof *a.array);
    ft_status rc = a.array ? FT_OK : FT_EMEM;
    for (int64_t i = 0; rc == FT_OK && i < f.n; i++) {
        const io_tensor *x = &f.tensor[i];
        if (x->nd > TN_MAX_DIMS) continue;
        nn_array *to = &a.array[a.n++];
        *to = (nn_array){.name = x->name, .type = x->type, .nd = x->nd, .data = x->data};
        for (int k = 0; k < x->nd; k++) to->dim[k] = x->dim[k];
    }
    if (rc == FT_OK) rc = s->cfg.objective->state(&s->objective, &a);
    st_close(&f);
    return rc;
}

/* Another kernel gives other last bits: the run goes on, but says so. */
static ft_status warn_of_kernel(const names *n, const char *now)
{
    js_doc d;
    char *text;
    const char *kernel = "?";
    FT_TRY(train_sealed_read(&d, &text, n->manifest));
    ft_status rc = js_get_str(&d, d.root, "kernel", "?", &kernel);
    if (rc == FT_OK && strcmp(kernel, now) != 0)
        log_warn("%s was written by kernel %s, this machine runs %s: the last bits of the result "
                 "will differ from an undisturbed run's",
                 n->dir, ft_shows(kernel), now);
    js_close(&d);
    ft_free(text);
    return rc;
}

ft_status train_checkpoint_load(train_session *s, int64_t step, bool values_only)
{
    tensor_list values, states;
    names n;
    arena_reset(s->batch, 0);
    FT_TRY(name_files(s->batch, checkpoint_dir(s->batch, s->out, step), &n));
    FT_TRY(list_values(s, &values));
    FT_TRY(load_file(s, n.values, &values));
    if (values_only) return FT_OK;
    FT_TRY(list_states(s, &states));
    FT_TRY(load_file(s, n.states, &states));
    FT_TRY(load_arrays(s, n.arrays));
    FT_TRY(train_state_read(&s->state, s->train, n.state));
    return warn_of_kernel(&n, kn_core_name(s->tape->precision));
}
