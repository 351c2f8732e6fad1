/* keys.c – every key of a config.json, and what becomes of it.
 *
 * A config is often written by hand from another family's, and transformers' class then passes over what it does not
 * know. Keys that change the numbers in some family are refused here where this program does not compute them: a
 * model that its author scaled must not be trained unscaled without a word. Source: the configuration classes of
 * transformers 4.57 and 5.24. */
#include "model_private.h"

#include <string.h>

#define SCALE "no family of ft scales so; the model would compute other numbers than its author's"
#define BLOCK "no family of ft has such blocks"
#define DROPOUT                                                                                    \
    "the base is trained without dropout (an adapter may have its own: method.lora_dropout)"
#define RESULT "concerns what a call returns"
#define DRAW "how answers are drawn is said by the flags of generate"
#define TASK "of heads for other tasks"
#define NOTE "a record of how the file was made"
#define SPEED "how it is computed, not what"
#define TOKENS "the tokenizer's business"
#define CLASS "the class of this family does not read it"

/* clang-format off */
static const js_key config_keys[] = {
    /* read outside the tables of keys */
    {"model_type", JS_READ, 0, 0}, {"architectures", JS_READ, 0, 0}, {"layer_types", JS_READ, 0, 0},
    {"rope_theta", JS_READ, 0, 0}, {"rope_scaling", JS_READ, 0, 0}, {"rope_parameters", JS_READ, 0, 0},
    {"original_max_position_embeddings", JS_READ, 0, 0},
    {"quantization_config", JS_READ, 0, 0}, {"initializer_range", JS_READ, 0, 0},
    {"torch_dtype", JS_READ, 0, 0}, {"dtype", JS_READ, 0, 0}, {"pad_token_id", JS_READ, 0, 0},
    {"bos_token_id", JS_READ, 0, 0}, {"eos_token_id", JS_READ, 0, 0}, {"tokenizer_class", JS_READ, 0, 0},
    /* of the families of ft, where another one's config has them: the class decides */
    {"sliding_window", JS_WARN, 0, "the family has no windows; all tokens are attended to"},
    {"use_sliding_window", JS_IDLE, 0, CLASS}, {"max_window_layers", JS_IDLE, 0, CLASS},
    {"attention_bias", JS_IDLE, 0, CLASS}, {"mlp_bias", JS_IDLE, 0, CLASS}, {"head_dim", JS_IDLE, 0, CLASS},
    {"num_key_value_heads", JS_IDLE, 0, CLASS}, {"scale_attn_weights", JS_IDLE, 0, CLASS},
    {"scale_attn_by_inverse_layer_idx", JS_IDLE, 0, CLASS}, {"hidden_act", JS_IDLE, 0, CLASS},
    {"activation_function", JS_IDLE, 0, CLASS}, {"rms_norm_eps", JS_IDLE, 0, CLASS},
    {"layer_norm_epsilon", JS_IDLE, 0, CLASS}, {"layer_norm_eps", JS_IDLE, 0, CLASS},
    {"intermediate_size", JS_IDLE, 0, CLASS}, {"n_inner", JS_IDLE, 0, CLASS},
    /* other sizes and positions */
    {"partial_rotary_factor", JS_ONLY, "1", "rotary embedding of a part of each head is not computed"},
    {"rotary_pct", JS_ONLY, "1", "rotary embedding of a part of each head is not computed"},
    {"rotary_dim", JS_ONLY, 0, "rotary embedding of a part of each head is not computed"},
    {"rope_interleaved", JS_ONLY, "false", "rotary pairs are the halves of a head"},
    {"rope_local_base_freq", JS_ONLY, 0, "one base serves all layers"},
    {"no_rope_layers", JS_ONLY, 0, BLOCK}, {"no_rope_layer_interval", JS_ONLY, 0, BLOCK},
    {"alibi", JS_ONLY, "false", BLOCK}, {"position_embedding_type", JS_ONLY, "\"absolute\"|\"rope\"", BLOCK},
    {"attention_chunk_size", JS_ONLY, 0, BLOCK}, {"attn_temperature_tuning", JS_ONLY, "false|0", BLOCK},
    {"n_ctx", JS_IDLE, 0, "older name of n_positions"}, {"seq_length", JS_IDLE, 0, NOTE},
    {"max_sequence_length", JS_IDLE, 0, NOTE}, {"model_max_length", JS_IDLE, 0, NOTE},
    /* scales of other families */
    {"embedding_multiplier", JS_ONLY, "1", SCALE}, {"attention_multiplier", JS_ONLY, 0, SCALE},
    {"residual_multiplier", JS_ONLY, "1", SCALE}, {"logits_scaling", JS_ONLY, "1", SCALE},
    {"logit_scale", JS_ONLY, "1", SCALE}, {"logits_scale", JS_ONLY, "1", SCALE},
    {"lm_head_multiplier", JS_ONLY, "1", SCALE}, {"key_multiplier", JS_ONLY, "1", SCALE},
    {"attention_in_multiplier", JS_ONLY, "1", SCALE}, {"attention_out_multiplier", JS_ONLY, "1", SCALE},
    {"mlp_multipliers", JS_ONLY, 0, SCALE}, {"scale_emb", JS_ONLY, "1", SCALE},
    {"scale_depth", JS_ONLY, 0, SCALE}, {"dim_model_base", JS_ONLY, 0, SCALE},
    {"scale_embedding", JS_ONLY, "false", SCALE}, {"embedding_scale", JS_ONLY, "1", SCALE},
    {"mup_attn_multiplier", JS_ONLY, "1", SCALE}, {"mup_embedding_multiplier", JS_ONLY, "1", SCALE},
    {"mup_use_scaling", JS_ONLY, "false", SCALE}, {"mup_width_multiplier", JS_ONLY, "1", SCALE},
    {"attn_logit_softcapping", JS_ONLY, 0, SCALE}, {"final_logit_softcapping", JS_ONLY, 0, SCALE},
    {"logit_cap", JS_ONLY, 0, SCALE}, {"query_pre_attn_scalar", JS_ONLY, 0, SCALE},
    {"clip_qkv", JS_ONLY, 0, SCALE}, {"qkv_clip", JS_ONLY, 0, SCALE},
    {"attention_scaling", JS_ONLY, 0, SCALE}, {"residual_scale", JS_ONLY, "1", SCALE},
    /* blocks of other families */
    {"bias", JS_ONLY, "false", "say attention_bias and mlp_bias, if the family has them"},
    {"use_bias", JS_ONLY, "false", "say attention_bias and mlp_bias, if the family has them"},
    {"use_qk_norm", JS_ONLY, "false", BLOCK}, {"qk_layernorm", JS_ONLY, "false", BLOCK},
    {"use_parallel_residual", JS_ONLY, "false", BLOCK}, {"parallel_attn", JS_ONLY, "false", BLOCK},
    {"attention_sink", JS_ONLY, "false|0", BLOCK}, {"attn_output_gate", JS_ONLY, "false", BLOCK},
    {"num_experts", JS_ONLY, "0|1", BLOCK}, {"num_local_experts", JS_ONLY, "0|1", BLOCK},
    {"n_routed_experts", JS_ONLY, "0|1", BLOCK}, {"moe_intermediate_size", JS_ONLY, "0", BLOCK},
    {"kv_lora_rank", JS_ONLY, "0", BLOCK}, {"q_lora_rank", JS_ONLY, "0", BLOCK},
    {"num_nextn_predict_layers", JS_WARN, "0", "further layers that predict later tokens are not used"},
    {"mtp_num_hidden_layers", JS_WARN, "0", "further layers that predict later tokens are not used"},
    {"add_cross_attention", JS_ONLY, "false", BLOCK}, {"cross_attention_hidden_size", JS_ONLY, 0, BLOCK},
    {"is_encoder_decoder", JS_ONLY, "false", BLOCK}, {"tie_encoder_decoder", JS_ONLY, "false", BLOCK},
    {"is_decoder", JS_IDLE, 0, "all families are decoders"}, {"pruned_heads", JS_ONLY, 0, BLOCK},
    {"vision_config", JS_ONLY, 0, BLOCK}, {"audio_config", JS_ONLY, 0, BLOCK},
    {"use_mrope", JS_ONLY, "false", BLOCK},
    /* weights */
    {"quantization", JS_ONLY, 0, "weights quantised by MLX cannot be read; use the unquantised folder or a GGUF"},
    {"compression_config", JS_ONLY, 0, "compressed weights cannot be read; use the unquantised folder or a GGUF"},
    {"sparsity_config", JS_ONLY, 0, "compressed weights cannot be read; use the unquantised folder or a GGUF"},
    {"auto_map", JS_WARN, 0, "code of the folder is never run; the family of model_type is computed"},
    {"classifier_dropout", JS_IDLE, 0, TASK},
    /* without effect */
    {"use_cache", JS_IDLE, 0, SPEED}, {"pretraining_tp", JS_IDLE, 0, SPEED},
    {"reorder_and_upcast_attn", JS_IDLE, 0, SPEED}, {"attn_implementation", JS_IDLE, 0, SPEED},
    {"_attn_implementation", JS_IDLE, 0, SPEED}, {"_attn_implementation_autoset", JS_IDLE, 0, SPEED},
    {"_flash_attn_2_enabled", JS_IDLE, 0, SPEED}, {"use_flash_attention_2", JS_IDLE, 0, SPEED},
    {"use_flash_attn", JS_IDLE, 0, SPEED}, {"cache_implementation", JS_IDLE, 0, SPEED},
    {"chunk_size_feed_forward", JS_IDLE, 0, SPEED}, {"gradient_checkpointing", JS_IDLE, 0, SPEED},
    {"torchscript", JS_IDLE, 0, SPEED}, {"use_bfloat16", JS_IDLE, 0, SPEED},
    {"output_attentions", JS_IDLE, 0, RESULT}, {"output_hidden_states", JS_IDLE, 0, RESULT},
    {"return_dict", JS_IDLE, 0, RESULT}, {"use_return_dict", JS_IDLE, 0, RESULT}, {"keys_to_ignore_at_inference", JS_IDLE, 0, RESULT},
    {"id2label", JS_IDLE, 0, TASK}, {"label2id", JS_IDLE, 0, TASK}, {"num_labels", JS_IDLE, 0, TASK},
    {"problem_type", JS_IDLE, 0, TASK}, {"finetuning_task", JS_IDLE, 0, TASK}, {"task_specific_params", JS_IDLE, 0, TASK},
    {"summary_activation", JS_IDLE, 0, TASK}, {"summary_first_dropout", JS_IDLE, 0, TASK},
    {"summary_proj_to_labels", JS_IDLE, 0, TASK}, {"summary_type", JS_IDLE, 0, TASK}, {"summary_use_proj", JS_IDLE, 0, TASK},
    {"decoder_start_token_id", JS_IDLE, 0, TASK}, {"prefix", JS_IDLE, 0, TASK},
    {"sep_token_id", JS_IDLE, 0, TOKENS}, {"unk_token_id", JS_IDLE, 0, TOKENS}, {"cls_token_id", JS_IDLE, 0, TOKENS},
    {"mask_token_id", JS_IDLE, 0, TOKENS}, {"image_token_id", JS_IDLE, 0, TOKENS},
    {"_name_or_path", JS_IDLE, 0, NOTE}, {"name_or_path", JS_IDLE, 0, NOTE}, {"transformers_version", JS_IDLE, 0, NOTE},
    {"_commit_hash", JS_IDLE, 0, NOTE}, {"unsloth_version", JS_IDLE, 0, NOTE}, {"unsloth_fixed", JS_IDLE, 0, NOTE},
    {"transformers.js_config", JS_IDLE, 0, NOTE}, {"is_llama_config", JS_IDLE, 0, NOTE}, {"model_name", JS_IDLE, 0, NOTE},
    /* answers, which older files describe here */
    {"do_sample", JS_IDLE, 0, DRAW}, {"temperature", JS_IDLE, 0, DRAW}, {"top_k", JS_IDLE, 0, DRAW}, {"top_p", JS_IDLE, 0, DRAW},
    {"typical_p", JS_IDLE, 0, DRAW}, {"repetition_penalty", JS_IDLE, 0, DRAW}, {"length_penalty", JS_IDLE, 0, DRAW},
    {"diversity_penalty", JS_IDLE, 0, DRAW}, {"no_repeat_ngram_size", JS_IDLE, 0, DRAW},
    {"encoder_no_repeat_ngram_size", JS_IDLE, 0, DRAW}, {"max_length", JS_IDLE, 0, DRAW}, {"min_length", JS_IDLE, 0, DRAW},
    {"max_new_tokens", JS_IDLE, 0, DRAW}, {"num_beams", JS_IDLE, 0, DRAW}, {"num_beam_groups", JS_IDLE, 0, DRAW},
    {"num_return_sequences", JS_IDLE, 0, DRAW}, {"early_stopping", JS_IDLE, 0, DRAW}, {"output_scores", JS_IDLE, 0, DRAW},
    {"return_dict_in_generate", JS_IDLE, 0, DRAW}, {"remove_invalid_values", JS_IDLE, 0, DRAW},
    {"bad_words_ids", JS_IDLE, 0, DRAW}, {"suppress_tokens", JS_IDLE, 0, DRAW}, {"begin_suppress_tokens", JS_IDLE, 0, DRAW},
    {"forced_bos_token_id", JS_IDLE, 0, DRAW}, {"forced_eos_token_id", JS_IDLE, 0, DRAW},
    {"exponential_decay_length_penalty", JS_IDLE, 0, DRAW},
    {0},
};

/* what concerns training alone */
static const js_key dropout_rows[] = {
    {"attention_dropout", JS_WARN, "0", DROPOUT}, {"attn_pdrop", JS_WARN, "0", DROPOUT},
    {"embd_pdrop", JS_WARN, "0", DROPOUT}, {"resid_pdrop", JS_WARN, "0", DROPOUT},
    {"hidden_dropout", JS_WARN, "0", DROPOUT}, {"hidden_dropout_prob", JS_WARN, "0", DROPOUT},
    {"resid_dropout", JS_WARN, "0", DROPOUT}, {"embed_dropout", JS_WARN, "0", DROPOUT},
    {"dropout", JS_WARN, "0", DROPOUT}, {"layerdrop", JS_WARN, "0", DROPOUT},
};

/* of rope_scaling and rope_parameters */
static const js_key rope_rows[] = {
    {"rope_type", JS_READ, 0, 0}, {"type", JS_READ, 0, 0}, {"rope_theta", JS_READ, 0, 0}, {"factor", JS_READ, 0, 0},
    {"low_freq_factor", JS_READ, 0, 0}, {"high_freq_factor", JS_READ, 0, 0},
    {"original_max_position_embeddings", JS_READ, 0, 0}, {"max_position_embeddings", JS_IDLE, 0, NOTE},
    {"beta_fast", JS_READ, 0, 0}, {"beta_slow", JS_READ, 0, 0}, {"attention_factor", JS_READ, 0, 0},
    {"mscale", JS_READ, 0, 0}, {"mscale_all_dim", JS_READ, 0, 0}, {"truncate", JS_READ, 0, 0},
    {"finetuned", JS_IDLE, 0, NOTE},
    {"partial_rotary_factor", JS_ONLY, "1", "rotary embedding of a part of each head is not computed"},
    {"alpha", JS_ONLY, 0, "this form of scaling is not computed"},
    {"short_factor", JS_READ, 0, 0}, {"long_factor", JS_READ, 0, 0},
    {"mrope_section", JS_ONLY, 0, "positions in several dimensions are not computed"},
    {"full_attention", JS_ONLY, 0, "one form of rotary embedding serves all layers"},
    {"sliding_attention", JS_ONLY, 0, "one form of rotary embedding serves all layers"},
    {0},
};
/* clang-format on */

/* Rows for what frame and parts read, as the family calls it, before the table. */
static ft_status known_keys(const model *m, arena *mem, js_key **out)
{
    size_t n = FT_COUNT_OF(config_keys) + FT_COUNT_OF(dropout_rows), k = 0;
    for (const model_key *key = model_frame_keys; key->name; key++) n++;
    for (int i = 0; i < m->n_use; i++) {
        for (const model_key *key = m->use[i].row->keys; key->name; key++) n++;
    }
    js_key *rows = *out = arena_get(mem, n * sizeof *rows);
    if (!rows) return FT_EMEM;
    for (int i = -1; i < m->n_use; i++) {
        const model_key *key = i < 0 ? model_frame_keys : m->use[i].row->keys;
        for (; key->name; key++) {
            const char *name = family_key(m->family, key).hf;
            if (name) rows[k++] = (js_key){name, JS_READ, NULL, NULL};
        }
    }
    for (size_t i = 0; i < FT_COUNT_OF(dropout_rows); i++) {
        rows[k] = dropout_rows[i];
        if (!m->trained) rows[k].use = JS_IDLE;
        k++;
    }
    memcpy(rows + k, config_keys, sizeof config_keys);
    return FT_OK;
}

/* layer_types is read by families with several kinds of layers, and by attention with windows. */
static ft_status check_layer_types(const model *m, const js_doc *d)
{
    const cJSON *e;
    if (m->family->block[1].part[0]) return FT_OK;
    for (int i = 0; i < m->n_use; i++) {
        const model_key *window = family_find_key(m->use[i].row->keys, "window");
        if (window && family_key(m->family, window).hf) return FT_OK;
    }
    cJSON_ArrayForEach(e, js_get(d->root, "layer_types"))
    {
        const char *type = cJSON_GetStringValue(e);
        if (type && strcmp(type, "full_attention") == 0) continue;
        return js_fail(d, e, FT_EDATA, "layer_types", "the family %s has \"full_attention\" only",
                       m->family->model_type);
    }
    return FT_OK;
}

ft_status model_check_keys(const model *m, const js_doc *d)
{
    static const char *const ropes[] = {"rope_scaling", "rope_parameters"};
    js_key *rows;
    size_t mark = arena_mark(m->mem);
    ft_status rc = known_keys(m, m->mem, &rows);
    if (rc == FT_OK) rc = js_check_keys(d, d->root, rows, FT_EDATA);
    arena_reset(m->mem, mark);
    for (size_t i = 0; rc == FT_OK && i < FT_COUNT_OF(ropes); i++) {
        const cJSON *o = js_get(d->root, ropes[i]);
        if (!o || cJSON_IsNull(o)) continue;
        if (!cJSON_IsObject(o)) return js_fail(d, o, FT_EDATA, ropes[i], "must be an object");
        rc = js_check_keys(d, o, rope_rows, FT_EDATA);
    }
    return rc == FT_OK ? check_layer_types(m, d) : rc;
}
