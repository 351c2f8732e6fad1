/* test_reward.c – rewards by their rows, lists of a config with their mistakes, and programs that judge: what they are told,
 * how they are kept, and how they fail. */
#include "support.h"

#include "ft/model.h"
#include "ft/reward.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct judged {
    cfg_doc doc;
    rw_list *list;
    rw_ctx ctx;
    rw_set *set;
} judged;

/* The list of a config {"r": REWARDS, "w": WEIGHTS}. */
static ft_status read_list(judged *j, const char *config)
{
    const char *path = test_path("rewards.json");
    test_write_file(path, config, strlen(config));
    *j = (judged){.ctx = {.mem = test_mem, .dir = test_dir()}};
    assert_ok(cfg_open(&j->doc, path, NULL, 0, test_mem));
    ft_error_forget();
    assert_ok(rw_read(&j->list, &j->doc, js_get(j->doc.js.root, "r"), js_get(j->doc.js.root, "w"),
                      "objective.rewards"));
    return cfg_done(&j->doc);
}

static void open_set(judged *j, const char *rewards)
{
    str_buf s = {0};
    str_printf(&s, "{\"r\":%s}", rewards);
    assert_ok(read_list(j, s.data));
    assert_ok(rw_open(&j->set, j->list, &j->ctx));
    str_free(&s);
}

static void close_set(judged *j)
{
    rw_close(j->set);
    cfg_close(&j->doc);
}

static rw_item item_of(const char *text, const char *answer, int64_t line)
{
    static const char *kept[64][2];
    static int n;
    const char **answers = kept[n++ % 64];
    answers[0] = answer;
    return (rw_item){.text = text,
                     .answers = answer ? answers : NULL,
                     .tokens = 5,
                     .finished = true,
                     .line = line};
}

static void rows_judge(void **state)
{
    (void)state;
    const struct {
        const char *reward, *text, *answer;
        double value;
    } cases[] = {
        {"\"exact\"", " 42\n", "42", 1},
        {"{\"type\":\"exact\"}", "4 2", "42", 0},
        {"\"contains\"", "it is 42.", "42", 1},
        {"\"last_number\"", "3 and 1,000.50", "#### 1000.5", 1},
        {"\"regex\"", "abc 12", "[0-9]+$", 1},
        {"\"format\"", "<think>a\nb</think>\nc", NULL, 1},
        {"\"format\"", "<think></think>", NULL, 1},
        {"\"format\"", " <think>a</think>b", NULL, 0},
        {"\"format\"", "<think>a<think>b</think>c", NULL, 0},
        {"\"format\"", "<think>a</think>b<think>c</think>", NULL, 0},
        {"\"format\"", "<think>a", NULL, 0},
        {"{\"type\":\"format\",\"pattern\":\"a.*b|c\"}", "a\nb", NULL, 1},
        {"{\"type\":\"format\",\"pattern\":\"a.*b|c\"}", "a\nbd", NULL, 0},
        {"{\"type\":\"format\",\"pattern\":\"a.*b|c\"}", "c", NULL, 1},
        {"{\"type\":\"format\",\"pattern\":\"a.*b|c\"}", "cc", NULL, 0},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        judged j;
        open_set(&j, cases[i].reward);
        const rw_item it = item_of(cases[i].text, cases[i].answer, 1);
        double out = -7;
        assert_int_equal(rw_wants_answer(j.list), cases[i].answer != NULL);
        assert_ok(rw_judge(j.set, &it, 1, &out));
        if (out != cases[i].value) print_error("%s: %s\n", cases[i].reward, cases[i].text);
        assert_true(out == cases[i].value);
        close_set(&j);
    }
}

static void length_falls(void **state)
{
    (void)state;
    judged j;
    open_set(&j, "[{\"type\":\"length\",\"max_completion_len\":20,\"soft_punish_cache\":5}]");
    const int64_t tokens[] = {1, 15, 16, 18, 20, 21};
    const double want[] = {0, 0, -0.2, -0.6, -1, -1};
    rw_item it[6];
    double out[6];
    for (int i = 0; i < 6; i++) {
        it[i] = item_of("", NULL, i + 1);
        it[i].tokens = tokens[i];
    }
    assert_ok(rw_judge(j.set, it, 6, out));
    for (int i = 0; i < 6; i++) assert_true(out[i] == want[i]);
    close_set(&j);
}

static void several_stand_side_by_side(void **state)
{
    (void)state;
    judged j;
    assert_ok(read_list(&j,
                        "{\"r\":[\"exact\",{\"type\":\"contains\",\"name\":\"in\",\"weight\":2},"
                        "{\"type\":\"exact\",\"name\":\"again\"}],\"w\":[1,0.5,-3]}"));
    assert_int_equal(rw_count(j.list), 3);
    assert_string_equal(rw_name(j.list, 0), "exact");
    assert_string_equal(rw_name(j.list, 1), "in");
    assert_true(rw_weight(j.list, 1) == 0.5 && rw_weight(j.list, 2) == -3);
    assert_ok(rw_open(&j.set, j.list, &j.ctx));
    const rw_item it[] = {item_of("a b", "b", 1), item_of("b", "b", 2)};
    double out[6];
    assert_ok(rw_judge(j.set, it, 2, out));
    const double want[] = {0, 1, 0, 1, 1, 1};
    assert_memory_equal(out, want, sizeof want);
    const rw_item none = item_of("a", NULL, 7);
    assert_fails(rw_judge(j.set, &none, 1, out), FT_EDATA, "line 7: no \"answer\"");
    close_set(&j);
}

/* A reward model of random head: its reward of prompt and completion, whatever stands beside them. */
static void model_rewards(void **state)
{
    (void)state;
    int32_t ids[] = {5, 60, 7, 8, 99};
    const tok_ids text = {.id = ids, .n = 5};
    model *m, *policy;
    ag_tape *tape;
    judged j;
    double want, out[2];
    str_buf config = {0};
    assert_ok(ag_open(&tape, (size_t)1 << 30));
    assert_ok(model_open(&policy, &(model_options){.path = source_path("data/tiny")}));
    assert_ok(model_open(
        &m,
        &(model_options){.path = source_path("data/tiny"), .end = MODEL_NEW_REWARD, .seed = 3}));
    assert_ok(model_save(m, test_path("rm"), &(model_save_options){0}));
    model_close(m); /* as the file has it */
    assert_ok(model_open(&m, &(model_options){.path = test_path("rm"), .end = MODEL_REWARD}));
    assert_ok(inf_reward(&(inf_ctx){.m = m, .tape = tape}, &text, 1, &want));
    assert_ok(read_list(&j, "{\"r\":[{\"type\":\"model\",\"path\":\"rm\"}]}"));
    j.ctx.policy = policy;
    j.ctx.tape = tape;
    assert_ok(rw_open(&j.set, j.list, &j.ctx));
    rw_item it[] = {item_of("", NULL, 1), item_of("", NULL, 2)};
    for (int i = 0; i < 2; i++) {
        it[i].prompt = ids;
        it[i].n_prompt = 2;
        it[i].ids = ids + 2;
        it[i].n_ids = i == 0 ? 1 : 3;
    }
    assert_ok(rw_judge(j.set, it, 2, out));
    assert_true(out[1] == want && out[0] != want && want != 0);
    assert_true(j.ctx.bytes > 0);
    close_set(&j);
    str_printf(&config, "{\"r\":[{\"type\":\"model\",\"path\":\"%s\"}]}", source_path("data/tiny"));
    assert_ok(read_list(&j, config.data));
    j.ctx.policy = policy;
    assert_fails(rw_open(&j.set, j.list, &j.ctx), FT_EDATA, "data/tiny");
    cfg_close(&j.doc);
    str_free(&config);
    model_close(m);
    model_close(policy);
    ag_close(tape);
}

static void mistakes_are_told(void **state)
{
    (void)state;
    const struct {
        const char *config, *told;
    } cases[] = {
        {"{\"r\":[]}", "at least one"},
        {"{\"r\":[\"exat\"]}", "did you mean \"exact\""},
        {"{\"r\":[{\"weight\":1}]}", "type must be one of"},
        {"{\"r\":[7]}", "name or an object"},
        {"{\"r\":[\"exact\",\"exact\"]}", "two rewards are called \"exact\""},
        {"{\"r\":[{\"type\":\"exact\",\"name\":\"a/b\"}]}", "letters"},
        {"{\"r\":[{\"type\":\"exact\",\"pattern\":\"a\"}]}", "objective.rewards.pattern"},
        {"{\"r\":[{\"type\":\"format\",\"pattern\":\"(\"}]}", "objective.rewards.pattern: regex"},
        {"{\"r\":[{\"type\":\"length\"}]}", "max_completion_len: this key is required"},
        {"{\"r\":[\"length\"]}", "required"},
        {"{\"r\":[{\"type\":\"length\",\"max_completion_len\":3,\"soft_punish_cache\":4}]}",
         "soft_punish_cache"},
        {"{\"r\":[\"exact\"],\"w\":[1,2]}", "objective.reward_weights: must be a list of 1 number"},
        {"{\"r\":[\"exact\"],\"w\":[\"a\"]}", "objective.reward_weights: must be a number"},
        {"{\"r\":[\"exact\"],\"w\":[1e300]}", "objective.reward_weights: must be a number between"},
        {"{\"r\":[{\"type\":\"exact\",\"weight\":1e300}]}", "objective.rewards.weight"},
        {"{\"r\":[{\"type\":\"command\",\"argv\":[]}]}", "objective.rewards.argv"},
        {"{\"r\":[{\"type\":\"command\",\"argv\":\"./judge\"}]}", "list of words"},
        {"{\"r\":[{\"type\":\"command\",\"argv\":[\"a\",1]}]}", "each word must be a string"},
        {"{\"r\":[{\"type\":\"command\",\"argv\":[\"\"]}]}", "no name"},
        {"{\"r\":[\"command\"]}", "argv: this key is required"},
        {"{\"r\":[{\"type\":\"command\",\"argv\":[\"a\"],\"timeout\":0}]}", "timeout"},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        judged j;
        print_message("%s\n", cases[i].config);
        assert_fails(read_list(&j, cases[i].config), FT_ECONFIG, cases[i].told);
        cfg_close(&j.doc);
    }
}

/* --- programs ---------------------------------------------------------------------------------------------------- */

static void script(const char *name, const char *text)
{
    const char *path = test_path(name);
    unlink(path);
    test_write_file(path, text, strlen(text));
    assert_int_equal(chmod(path, 0755), 0);
}

static void open_command(judged *j, const char *name, const char *keys)
{
    str_buf s = {0};
    str_printf(&s, "[{\"type\":\"command\",\"argv\":[\"./%s\"]%s}]", name, keys);
    open_set(j, s.data);
    str_free(&s);
}

static void children_are_gone(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* neither one that runs nor a zombie */
}

/* What it reads, its descriptors, where its standard error goes. */
static void program_is_told(void **state)
{
    (void)state;
    judged j;
    script("judge", "#!/bin/sh\nls /proc/$$/fd > fds\necho started >&2\nn=0\n"
                    "while IFS= read -r line; do printf '%s\\n' \"$line\" >> asked; n=$((n+1)); "
                    "echo \" $n.5e0 \"; done\n");
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(test_dir()), 0);
    unlink(test_path(RW_ERRORS));
    const int open_here = dup(1); /* not to be inherited, though nothing says so */
    open_command(&j, "judge", "");
    rw_item it[] = {item_of("a\n\"b\"", "x", 1), item_of("\xc3\xa9", NULL, 2)};
    it[0].extra = "{\"prompt\": [1],\n \"key\":true,\"answer\":\"y\"}";
    it[1].prompt_text = "P";
    it[1].finished = false;
    double out[2];
    assert_ok(rw_judge(j.set, it, 2, out));
    assert_true(out[0] == 1.5 && out[1] == 2.5);
    assert_ok(rw_judge(j.set, it, 1, out));
    assert_true(out[0] == 3.5); /* it is the same one */
    close_set(&j);
    children_are_gone();
    close(open_here);
    assert_int_equal(chdir(before), 0);
    char *asked = test_read_file(test_path("asked"), NULL);
    const char *want =
        "{\"prompt\": [1],  \"key\":true,\"completion\":"
        "\"a\\n\\\"b\\\"\",\"answer\":\"x\",\"tokens\":5,\"finished\":true}\n"
        "{\"prompt\":\"P\",\"completion\":\"\xc3\xa9\",\"tokens\":5,\"finished\":false}\n";
    if (strncmp(asked, want, strlen(want)) != 0) print_error("%s\n", asked);
    assert_memory_equal(asked, want, strlen(want));
    char *fds = test_read_file(test_path("fds"), NULL);
    print_message("%s", fds);
    for (char *at = fds; *at; at = strchr(at, '\n') + 1)
        assert_true(atoi(at) <= 2 || atoi(at) >= 10); /* a shell keeps its script above 9 */
    assert_string_equal(test_read_file(test_path(RW_ERRORS), NULL), "started\n");
}

/* Any of a list of answers is right; a program sees the list as the record has it. */
static void several_answers(void **state)
{
    (void)state;
    judged j;
    const char *const answers[] = {"7", "42", NULL}, *const words[] = {"7", "many", NULL};
    rw_item it[] = {item_of("42", NULL, 1), item_of("8", NULL, 2), item_of("7", NULL, 3)};
    double out[3];
    for (int i = 0; i < 3; i++) it[i].answers = answers;
    open_set(&j, "[\"exact\"]");
    assert_ok(rw_judge(j.set, it, 3, out));
    assert_true(out[0] == 1 && out[1] == 0 && out[2] == 1);
    assert_ok(rw_check_answers(j.list, words));
    close_set(&j);
    open_set(&j, "[\"last_number\"]");
    assert_fails(rw_check_answers(j.list, words), FT_EDATA, "\"many\" holds no number");
    close_set(&j);
    script("lists", "#!/bin/sh\nread -r a\necho \"$a\" > seen\necho 1\n");
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(test_dir()), 0);
    open_command(&j, "lists", "");
    it[0].extra = "{\"answer\":[\"7\",\"42\"]}";
    it[0].listed = true;
    assert_ok(rw_judge(j.set, it, 1, out));
    close_set(&j);
    assert_int_equal(chdir(before), 0);
    assert_string_equal(
        test_read_file(test_path("seen"), NULL),
        "{\"answer\":[\"7\",\"42\"],\"completion\":\"42\",\"tokens\":5,\"finished\":true}\n");
}

/* Far more than both pipes hold, to one that reads everything before it answers, and to one that answers much. */
static void pipes_may_be_full(void **state)
{
    (void)state;
    enum { N = 2000, LONG = 200 };
    judged j;
    rw_item *it = test_alloc(N * sizeof *it);
    double *out = test_alloc(N * sizeof *out);
    for (int i = 0; i < N; i++) {
        char *text = test_alloc(LONG);
        snprintf(text, LONG, "%0*d", LONG - 1, i + 1);
        it[i] = item_of(text, NULL, i + 1);
    }
    script("late", "#!/bin/sh\nhead -n 2000 > /dev/null\nseq 2000\n");
    script("wide", "#!/bin/sh\npad=$(printf %900s)\n"
                   "exec sed -u \"s/.*completion\\\":\\\"0*\\([0-9]*\\).*/\\1$pad/\"\n");
    const char *const names[] = {"late", "wide"};
    for (int k = 0; k < 2; k++) {
        open_command(&j, names[k], ",\"timeout\":60");
        assert_ok(rw_judge(j.set, it, N, out));
        for (int i = 0; i < N; i++) assert_true(out[i] == i + 1);
        close_set(&j);
    }
    children_are_gone();
}

static void program_is_started_again(void **state)
{
    (void)state;
    judged j;
    const rw_item it[] = {item_of("a", NULL, 1), item_of("b", NULL, 2), item_of("c", NULL, 3)};
    double out[3] = {0};
    script("once", "#!/bin/sh\nread -r line\necho start >> starts\necho 4\n");
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(test_dir()), 0);
    open_command(&j, "once", "");
    assert_ok(rw_judge(j.set, it, 1, out));
    usleep(50000); /* it is dead by now */
    assert_ok(rw_judge(j.set, it, 3, out));
    assert_true(out[0] == 4 && out[1] == 4 && out[2] == 4);
    close_set(&j);
    assert_string_equal(test_read_file(test_path("starts"), NULL), "start\nstart\nstart\nstart\n");
    assert_int_equal(chdir(before), 0);
    children_are_gone();
}

static void program_fails(void **state)
{
    (void)state;
    const struct {
        const char *text, *keys, *told;
    } cases[] = {
        {"exit 3", "", "line 11: "},
        {"exit 3", "", "ended with exit code 3 without an answer; what it says is in"},
        {"kill -9 $$", "", "was ended by signal 9"},
        {"while read -r a; do case $a in *'\"b\"'*) exit 5;; esac; echo 1; done", "", "line 12: "},
        {"read -r a; echo one", "", "answers \"one\", which is no number"},
        {"read -r a; echo 1e300", "", "answers \"1e300\", which is no number up to 1e9"},
        {"read -r a; echo nan", "", "no number"},
        {"read -r a; echo 1e999", "", "no number"},
        {"read -r a; echo", "", "no number"},
        {"read -r a; echo 0x10", "", "no number"},
        {"read -r a; echo 1 2", "", "no number"},
        {"read -r a; printf 1", "", "without an answer"},
        {"read -r a; echo 1; sleep 20", ",\"timeout\":0.3", "line 12: "},
        {"read -r a; sleep 20 & sleep 20", ",\"timeout\":0.3", "takes too long"},
        {"read -r a; printf '1\\n2\\n3\\n'; sleep 20", "", "more lines than it is asked"},
        {"exec >&-; sleep 20", "", "without an answer"},
    };
    for (size_t i = 0; i < FT_COUNT_OF(cases); i++) {
        judged j;
        const rw_item it[] = {item_of("a", NULL, 11), item_of("b", NULL, 12)};
        double out[2];
        str_buf text = {0};
        str_printf(&text, "#!/bin/sh\n%s\n", cases[i].text);
        script("bad", text.data);
        str_free(&text);
        print_message("%s\n", cases[i].text);
        open_command(&j, "bad", cases[i].keys);
        const double begin = ft_seconds();
        assert_fails(rw_judge(j.set, it, 2, out), FT_EIO, cases[i].told);
        close_set(&j);
        assert_true(ft_seconds() - begin < 4);
        children_are_gone();
    }
}

/* What it says meanwhile would be taken for the next answer. */
static void program_says_too_much(void **state)
{
    (void)state;
    judged j;
    const rw_item it = item_of("a", NULL, 3);
    double out;
    script("more", "#!/bin/sh\nread -r a\necho 1\nsleep 0.05\necho 2\nread -r b\nsleep 20\n");
    open_command(&j, "more", "");
    assert_ok(rw_judge(j.set, &it, 1, &out));
    usleep(300000);
    assert_fails(rw_judge(j.set, &it, 1, &out), FT_EIO, "line 3: ");
    close_set(&j);
    children_are_gone();
}

static void program_cannot_start(void **state)
{
    (void)state;
    judged j;
    test_write_file(test_path("plain"), "1\n", 2);
    chmod(test_path("plain"), 0644);
    assert_ok(read_list(&j, "{\"r\":[{\"type\":\"command\",\"argv\":[\"./plain\"]}]}"));
    assert_fails(rw_open(&j.set, j.list, &j.ctx), FT_EIO, "Permission denied");
    cfg_close(&j.doc);
    chmod(test_path("plain"),
          0755); /* text that no interpreter is named in: no shell is asked to try */
    assert_ok(read_list(&j, "{\"r\":[{\"type\":\"command\",\"argv\":[\"./plain\"]}]}"));
    const rw_item it = {.text = "", .tokens = 3};
    double out = 1;
    assert_ok(rw_open(&j.set, j.list, &j.ctx));
    assert_fails(rw_judge(j.set, &it, 1, &out), FT_EIO, "plain: cannot be started");
    close_set(&j);
    assert_ok(read_list(&j, "{\"r\":[{\"type\":\"command\",\"argv\":[\"no-such-judge\"]}]}"));
    assert_fails(rw_open(&j.set, j.list, &j.ctx), FT_ENOINPUT, "in no folder of PATH");
    cfg_close(&j.doc);
    assert_ok(read_list(&j, "{\"r\":[{\"type\":\"command\",\"argv\":[\"true\"]}]}"));
    j.ctx.dry = true; /* for a plan nothing is started */
    assert_ok(rw_open(&j.set, j.list, &j.ctx));
    assert_ok(rw_judge(j.set, &it, 1, &out));
    assert_true(out == 0);
    close_set(&j);
    children_are_gone();
}

/* What it has started ends with it, though it ignores the end of its input. */
static void group_ends(void **state)
{
    (void)state;
    judged j;
    script("deaf", "#!/bin/sh\ntrap '' TERM PIPE\nsleep 300 &\necho $! > other\n"
                   "while :; do read -r a && echo 1 || sleep 1; done\n");
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(test_dir()), 0);
    open_command(&j, "deaf", "");
    const rw_item it = item_of("a", NULL, 1);
    double out;
    assert_ok(rw_judge(j.set, &it, 1, &out));
    const double begin = ft_seconds();
    close_set(&j);
    assert_true(ft_seconds() - begin < 2);
    const pid_t other = atoi(test_read_file(test_path("other"), NULL));
    assert_true(other > 1);
    bool alive = true;
    for (int i = 0; alive && i < 100; i++) {
        char path[64], status[64] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", (int)other);
        FILE *f = fopen(path, "r");
        if (f && fgets(status, sizeof status, f)) alive = strstr(status, ") Z") == NULL;
        alive = alive && f;
        if (f) fclose(f);
        usleep(10000);
    }
    assert_false(alive);
    assert_int_equal(chdir(before), 0);
    children_are_gone();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_judge),
        cmocka_unit_test(length_falls),
        cmocka_unit_test(several_stand_side_by_side),
        cmocka_unit_test(model_rewards),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(program_is_told),
        cmocka_unit_test(several_answers),
        cmocka_unit_test(pipes_may_be_full),
        cmocka_unit_test(program_is_started_again),
        cmocka_unit_test(program_fails),
        cmocka_unit_test(program_says_too_much),
        cmocka_unit_test(program_cannot_start),
        cmocka_unit_test(group_ends),
    };
    signal(SIGPIPE, SIG_IGN); /* as the program does */
    return cmocka_run_group_tests(tests, test_open_arena, test_close_arena);
}
