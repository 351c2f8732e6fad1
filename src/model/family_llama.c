/* family_llama.c – Llama and those that differ from it by keys: Mistral, Qwen2, Qwen3.
 *
 * Sources: the configuration classes of transformers and the tensor names of its checkpoints; GGUF names of llama.cpp's
 * converter. */
#include "model_private.h"

/* clang-format off */
static const model_name names[] = {
    { "embed",            "model.embed_tokens",                        "token_embd" },
    { "attention.q",      "model.layers.%d.self_attn.q_proj",          "blk.%d.attn_q" },
    { "attention.k",      "model.layers.%d.self_attn.k_proj",          "blk.%d.attn_k" },
    { "attention.v",      "model.layers.%d.self_attn.v_proj",          "blk.%d.attn_v" },
    { "attention.o",      "model.layers.%d.self_attn.o_proj",          "blk.%d.attn_output" },
    { "attention.q_norm", "model.layers.%d.self_attn.q_norm",          "blk.%d.attn_q_norm" },
    { "attention.k_norm", "model.layers.%d.self_attn.k_norm",          "blk.%d.attn_k_norm" },
    { "glu.gate",         "model.layers.%d.mlp.gate_proj",             "blk.%d.ffn_gate" },
    { "glu.up",           "model.layers.%d.mlp.up_proj",               "blk.%d.ffn_up" },
    { "glu.down",         "model.layers.%d.mlp.down_proj",             "blk.%d.ffn_down" },
    { "norm1",            "model.layers.%d.input_layernorm",           "blk.%d.attn_norm" },
    { "norm2",            "model.layers.%d.post_attention_layernorm",  "blk.%d.ffn_norm" },
    { "norm",             "model.norm",                                "output_norm" },
    { "head",             "lm_head",                                   "output" },
    { 0 }
};
#define LLAMA_FORM                                                                                                     \
    .prefix = "model.", .names = names, .norm = &norm_rms, .block = {{.part = {&part_attention, &part_glu}}}

static const model_key_as llama_keys[] = {
    { "inner", "intermediate_size", "11008" },
    { "qkv_bias", "attention_bias", "false" }, { "o_bias", "attention_bias", "false" }, { "ff_bias", "mlp_bias", "false" },
    { 0 }
};
const model_family family_llama = {
    .model_type = "llama", .hf_arch = "LlamaForCausalLM", .gguf_arch = "llama", LLAMA_FORM,
    .keys = llama_keys, .gguf_permuted = true
};

static const model_key_as mistral_keys[] = {
    { "inner", "intermediate_size", "14336" }, { "kv_heads", "num_key_value_heads", "8" },
    { "positions", "max_position_embeddings", "131072" },
    { "window", "sliding_window", "4096" }, { "use_window", NULL, "true" },
    { 0 }
};
const model_family family_mistral = {
    .model_type = "mistral", .hf_arch = "MistralForCausalLM", .gguf_arch = "llama", LLAMA_FORM,
    .keys = mistral_keys, .gguf_permuted = true
};

#define QWEN_KEYS                                                                                                      \
    { "vocab", "vocab_size", "151936" }, { "inner", "intermediate_size", "22016" },                                        \
    { "kv_heads", "num_key_value_heads", "32" }, { "positions", "max_position_embeddings", "32768" },                      \
    { "window", "sliding_window", "4096" }, { "use_window", "use_sliding_window", "false" },                               \
    { "window_from", "max_window_layers", "28" }
static const model_key_as qwen2_keys[] = { QWEN_KEYS, { "qkv_bias", NULL, "true" }, { 0 } };
const model_family family_qwen2 = {
    .model_type = "qwen2", .hf_arch = "Qwen2ForCausalLM", .gguf_arch = "qwen2", LLAMA_FORM, .keys = qwen2_keys
};

static const model_key_as qwen3_keys[] = {
    QWEN_KEYS, { "head_dim", "head_dim", "128" }, { "qk_norm", NULL, "true" },
    { "qkv_bias", "attention_bias", "false" }, { "o_bias", "attention_bias", "false" },
    { 0 }
};
const model_family family_qwen3 = {
    .model_type = "qwen3", .hf_arch = "Qwen3ForCausalLM", .gguf_arch = "qwen3", LLAMA_FORM, .keys = qwen3_keys,
    .gguf_no_bias = true
};
/* clang-format on */
