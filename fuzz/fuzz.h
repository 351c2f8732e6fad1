/* fuzz.h – what all targets share: a folder in memory for the files that an input becomes, readers that touch every byte
 * of what was accepted, and what must be true of a failure: a status that bad input may have, with a message of one or more
 * plain lines.
 *
 * A target is one file, fuzz/NAME.c, that defines LLVMFuzzerTestOneInput; README.md says how to add one.
 * FT_FUZZ_ROOT: the tree that data/tiny is read from (default: the one it was built in). FT_FUZZ_TMP: where the folder
 * is made; default /dev/shm, or TMPDIR or /tmp where that cannot be written to. */
#ifndef FT_FUZZ_H
#define FT_FUZZ_H

#include "ft/io.h"
#include "ft/model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is promised of every input. */
#define FZ_CHECK(cond)                                                                             \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static char fz_dir[256];
static volatile unsigned fz_sum;

static inline void fz_touch(const void *data, size_t n)
{
    const uint8_t *p = data;
    unsigned s = fz_sum;
    for (size_t i = 0; i < n; i++) s ^= (s << 1) ^ p[i];
    fz_sum = s;
}

/* What is told goes to the eye: it is read here, and holds no control characters either. */
static inline void fz_plain(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (((unsigned char)*p < 0x20 && *p != '\n') || *p == 0x7f) {
            fprintf(stderr, "raw control character %d in: %s\n", *p, text);
            abort();
        }
    }
}

static inline void fz_sink(void *ctx, log_level level, const char *line)
{
    (void)ctx, (void)level;
    fz_plain(line);
}

static inline void fz_end(void)
{
    if (dir_remove(fz_dir) != FT_OK) fprintf(stderr, "%s stays: %s\n", fz_dir, ft_error());
}

/* At the beginning of every input. True: it is the first. */
static inline bool fz_start(void)
{
    const char *tmp = getenv("FT_FUZZ_TMP");
    ft_error_forget(); /* of the input before */
    if (fz_dir[0]) return false;
    if (!tmp) tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    snprintf(fz_dir, sizeof fz_dir, "%s/ft-fuzz-%ld", tmp ? tmp : "/tmp", (long)getpid());
    FZ_CHECK(mkdir(fz_dir, 0700) == 0 || errno == EEXIST);
    atexit(fz_end);
    log_set_sink(fz_sink, NULL);
    return true;
}

/* In a ring of 8. */
static inline const char *fz_path(const char *name)
{
    static char ring[8][600];
    static int next;
    char *p = ring[next++ % 8];
    snprintf(p, sizeof ring[0], "%s/%s", fz_dir, name);
    return p;
}

static inline const char *fz_root(const char *name)
{
    static char ring[4][600];
    static int next;
    const char *root = getenv("FT_FUZZ_ROOT");
    char *p = ring[next++ % 4];
    snprintf(p, sizeof ring[0], "%s/%s", root ? root : FT_SOURCE_DIR, name);
    return p;
}

/* What stands before the first input must work. */
static inline void fz_must(ft_status rc)
{
    if (rc == FT_OK) return;
    fprintf(stderr, "the target cannot begin: %s\n", ft_error());
    abort();
}

static inline const char *fz_put(const char *name, const void *data, size_t n)
{
    const char *p = fz_path(name);
    int fd = open(p, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || (n > 0 && write(fd, data, n) != (ssize_t)n)) abort();
    close(fd);
    return p;
}

static inline void fz_copy(const char *from, const char *to)
{
    char *text = NULL;
    size_t n;
    fz_must(file_read(&text, &n, from, (size_t)1 << 30));
    fz_put(to, text, n);
    ft_free(text);
}

/* One arena for all inputs, empty again for each. */
static inline arena *fz_arena(void)
{
    static arena *mem;
    if (!mem) fz_must(arena_open(&mem, "fuzz", (size_t)1 << 28));
    arena_reset(mem, 0);
    return mem;
}

/* The input on the heap with nothing behind it, so that a read past its end is seen. */
static inline char *fz_exact(const void *data, size_t n)
{
    char *copy = malloc(n ? n : 1);
    if (!copy) abort();
    if (n > 0) memcpy(copy, data, n);
    return copy;
}

/* The same as a string. */
static inline char *fz_string(const void *data, size_t n)
{
    char *copy = malloc(n + 1);
    if (!copy) abort();
    if (n > 0) memcpy(copy, data, n);
    copy[n] = '\0';
    return copy;
}

/* Inputs of several files: the part before the next NUL byte. False: nothing is left. */
typedef struct fz_input {
    const uint8_t *p;
    size_t left;
    bool ended;
} fz_input;
static inline bool fz_part(fz_input *in, const uint8_t **part, size_t *n)
{
    if (in->ended) return false;
    const uint8_t *nul = in->left ? memchr(in->p, 0, in->left) : NULL;
    *part = in->p;
    *n = nul ? (size_t)(nul - in->p) : in->left;
    in->ended = !nul;
    in->p += *n + (nul != NULL);
    in->left -= *n + (nul != NULL);
    return true;
}

/* A failure has a class that bad input may have, and a message. */
static inline void fz_status(ft_status rc)
{
    if (rc == FT_OK || rc == FT_END) return;
    const char *e = ft_error();
    bool known = rc == FT_EDATA || rc == FT_ECONFIG || rc == FT_ENOINPUT || rc == FT_EMEM ||
                 rc == FT_EUSAGE || rc == FT_EGATE || rc == FT_EDIVERGED || rc == FT_EPERM;
    if (!known || !e[0]) {
        fprintf(stderr, "status %d, message \"%s\"\n", (int)rc, e);
        abort();
    }
    fz_plain(e);
    ft_error_forget();
}

/* A folder of a model of 5,000 weights with the tokenizer of data/tiny; its path. */
static inline const char *fz_model(void)
{
    static const char config[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":640,"
        "\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":1,"
        "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"max_position_embeddings\":64,"
        "\"rms_norm_eps\":1e-05,\"tie_word_embeddings\":true,\"hidden_act\":\"silu\","
        "\"bos_token_id\":0,\"eos_token_id\":[0,2],\"pad_token_id\":0,\"torch_dtype\":\"float32\"}";
    static char dir[300];
    if (dir[0]) return dir;
    snprintf(dir, sizeof dir, "%s/model", fz_dir);
    mkdir(dir, 0700);
    model *m = NULL;
    model_options o = {.from_config = fz_put("model/config.json", config, sizeof config - 1),
                       .seed = 1};
    model_save_options save = {0};
    fz_must(model_open(&m, &o));
    fz_must(model_save(m, dir, &save));
    model_close(m);
    fz_copy(fz_root("data/tiny/tokenizer.json"), "model/tokenizer.json");
    fz_copy(fz_root("data/tiny/tokenizer_config.json"), "model/tokenizer_config.json");
    fz_copy(fz_root("data/tiny/generation_config.json"), "model/generation_config.json");
    return dir;
}
#endif
