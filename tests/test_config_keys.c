/* test_config_keys.c – keys of a config.json that this program does not compute: refused by name, told, or idle, and
 * never passed over. The model is a golden one, its config with one more key. */
#include "golden.h"
#include "support.h"

#include "ft/model.h"

static char warned[4000];

static void hear(void *ctx, log_level level, const char *line)
{
    (void)ctx;
    size_t n = strlen(warned);
    if (level == LOG_WARN) snprintf(warned + n, sizeof warned - n, "%s\n", line);
}

/* Opens the family's model, for training or for use, with `more` (members, as JSON) in its config. */
static bool trained = true;
static ft_status open_with(const char *family, const char *more)
{
    char path[600];
    size_t n;
    model *m = NULL;
    snprintf(path, sizeof path, "families/%s/config.json", family);
    char *text = test_read_file(golden_path(path), &n);
    const char *dir = golden_model(family);
    snprintf(path, sizeof path, "%s/config.json", dir);
    while (n && text[n - 1] != '}') n--;
    str_buf s = {0};
    str_add(&s, text, n - 1);
    str_printf(&s, ",%s}", more);
    test_write_file(path, s.data, s.len);
    str_free(&s);
    warned[0] = 0;
    log_set_sink(hear, NULL);
    ft_status rc = model_open(&m, &(model_options){.path = dir, .trained = trained});
    log_set_sink(NULL, NULL);
    model_close(m);
    return rc;
}

static void keys_that_change_numbers_are_refused(void **state)
{
    static const char *const bad[][2] = {
        {"attention_multiplier", "\"attention_multiplier\": 0.015"},
        {"embedding_multiplier", "\"embedding_multiplier\": 12"},
        {"logits_scaling", "\"logits_scaling\": 8.0"},
        {"residual_multiplier", "\"residual_multiplier\": 0.22"},
        {"scale_emb", "\"scale_emb\": 12"},
        {"dim_model_base", "\"dim_model_base\": 256"},
        {"final_logit_softcapping", "\"final_logit_softcapping\": 30.0"},
        {"attn_logit_softcapping", "\"attn_logit_softcapping\": 50.0"},
        {"query_pre_attn_scalar", "\"query_pre_attn_scalar\": 256"},
        {"logit_scale", "\"logit_scale\": 0.0625"},
        {"partial_rotary_factor", "\"partial_rotary_factor\": 0.5"},
        {"no_rope_layers", "\"no_rope_layers\": [1, 1, 0]"},
        {"num_local_experts", "\"num_local_experts\": 8"},
        {"clip_qkv", "\"clip_qkv\": 8.0"},
        {"is_encoder_decoder", "\"is_encoder_decoder\": true"},
        {"quantization", "\"quantization\": {\"bits\": 4, \"group_size\": 64}"},
        {"compression_config", "\"compression_config\": {\"format\": \"x\"}"},
        {"mrope_section", "\"rope_scaling\": {\"type\": \"default\", \"mrope_section\": [1, 1]}"},
        {"alpha", "\"rope_scaling\": {\"type\": \"dynamic\", \"alpha\": 1000, \"factor\": 1}"},
        {"rope_type", "\"rope_scaling\": {\"rope_type\": \"su\"}"},
        {"long_factor",
         "\"rope_scaling\": {\"rope_type\": \"longrope\", \"short_factor\": [1, 1, 1, 1]}"},
        {"rope_scaling", "\"rope_scaling\": \"linear\""},
        {"layer_types", "\"layer_types\": [\"sliding_attention\", \"full_attention\"]"},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(bad); i++) {
        ft_status rc = open_with("llama", bad[i][1]);
        if (rc != FT_EDATA || !strstr(ft_error(), bad[i][0]) || !strstr(ft_error(), "config.json:"))
            fail_msg("%s: status %d %s", bad[i][1], (int)rc, ft_error());
        ft_error_forget();
    }
}

static void neutral_values_are_fine(void **state)
{
    static const char *const good[] = {
        "\"attention_multiplier\": null, \"embedding_multiplier\": 1.0, \"logits_scaling\": 1",
        "\"final_logit_softcapping\": null, \"partial_rotary_factor\": 1.0, \"pruned_heads\": {}",
        "\"num_experts\": 0, \"is_encoder_decoder\": false, \"compression_config\": null",
        "\"attention_dropout\": 0.0, \"sliding_window\": null, \"auto_map\": {}",
        "\"rope_scaling\": null, \"layer_types\": [\"full_attention\", \"full_attention\"]",
        ("\"use_cache\": false, \"temperature\": 0.6, \"id2label\": {\"0\": \"x\"}, "
         "\"pretraining_tp\": 2"),
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(good); i++) {
        ft_status rc = open_with("llama", good[i]);
        if (rc != FT_OK || warned[0]) fail_msg("%s: %s %s", good[i], ft_error(), warned);
    }
}

static void what_is_not_done_is_told(void **state)
{
    static const char *const told[][2] = {
        {"attention_dropout", "\"attention_dropout\": 0.1"},
        {"auto_map", "\"auto_map\": {\"AutoModel\": \"x.Y\"}"},
        {"sliding_window", "\"sliding_window\": 64"},
        {"num_nextn_predict_layers", "\"num_nextn_predict_layers\": 1"},
        {"keys brand_new, another", "\"brand_new\": 1, \"another\": [2]"},
        {"rope_new", "\"rope_scaling\": {\"type\": \"default\", \"rope_new\": 1}"},
    };
    (void)state;
    for (size_t i = 0; i < FT_COUNT_OF(told); i++) {
        ft_status rc = open_with("llama", told[i][1]);
        if (rc != FT_OK || !strstr(warned, told[i][0]))
            fail_msg("%s: status %d %s\n%s", told[i][1], (int)rc, ft_error(), warned);
    }
    assert_ok(open_with("gpt2", "\"dropout\": 0.1"));
    assert_non_null(strstr(warned, "dropout"));
    trained = false; /* where nothing is trained, dropout is no matter */
    assert_ok(open_with("gpt2", "\"dropout\": 0.1"));
    assert_ok(open_with("llama", told[0][1]));
    assert_string_equal(warned, "");
    trained = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys_that_change_numbers_are_refused),
                                       cmocka_unit_test(neutral_values_are_fine),
                                       cmocka_unit_test(what_is_not_done_is_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
