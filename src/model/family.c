/* family.c – model families as rows: names, config keys, defaults, traits.
 *
 * Sources: the configuration classes of transformers and the tensor names of its checkpoints; GGUF names of
 * llama.cpp's converter. A new family that fits the traits is one row here and nothing else. */
#include "model_private.h"

#include <math.h>
#include <string.h>

/* clang-format off */
static const model_name llama_names[] = {
    { T_EMBED,      "model.embed_tokens",                        "token_embd" },
    { T_Q,          "model.layers.%d.self_attn.q_proj",          "blk.%d.attn_q" },
    { T_K,          "model.layers.%d.self_attn.k_proj",          "blk.%d.attn_k" },
    { T_V,          "model.layers.%d.self_attn.v_proj",          "blk.%d.attn_v" },
    { T_O,          "model.layers.%d.self_attn.o_proj",          "blk.%d.attn_output" },
    { T_Q_NORM,     "model.layers.%d.self_attn.q_norm",          "blk.%d.attn_q_norm" },
    { T_K_NORM,     "model.layers.%d.self_attn.k_norm",          "blk.%d.attn_k_norm" },
    { T_GATE,       "model.layers.%d.mlp.gate_proj",             "blk.%d.ffn_gate" },
    { T_UP,         "model.layers.%d.mlp.up_proj",               "blk.%d.ffn_up" },
    { T_DOWN,       "model.layers.%d.mlp.down_proj",             "blk.%d.ffn_down" },
    { T_NORM1,      "model.layers.%d.input_layernorm",           "blk.%d.attn_norm" },
    { T_NORM2,      "model.layers.%d.post_attention_layernorm",  "blk.%d.ffn_norm" },
    { T_FINAL_NORM, "model.norm",                                "output_norm" },
    { T_HEAD,       "lm_head",                                   "output" },
    { T_HEAD, NULL, NULL }
};
static const model_name gpt2_names[] = {
    { T_EMBED,      "transformer.wte",                "token_embd" },
    { T_POSITION,   "transformer.wpe",                "position_embd" },
    { T_NORM1,      "transformer.h.%d.ln_1",          "blk.%d.attn_norm" },
    { T_QKV,        "transformer.h.%d.attn.c_attn",   "blk.%d.attn_qkv" },
    { T_O,          "transformer.h.%d.attn.c_proj",   "blk.%d.attn_output" },
    { T_NORM2,      "transformer.h.%d.ln_2",          "blk.%d.ffn_norm" },
    { T_UP,         "transformer.h.%d.mlp.c_fc",      "blk.%d.ffn_up" },
    { T_DOWN,       "transformer.h.%d.mlp.c_proj",    "blk.%d.ffn_down" },
    { T_FINAL_NORM, "transformer.ln_f",               "output_norm" },
    { T_HEAD,       "lm_head",                        "output" },
    { T_HEAD, NULL, NULL }
};
#define LLAMA_KEYS                                                                                                     \
    .prefix = "model.", .names = llama_names, .k_hidden = "hidden_size", .k_layers = "num_hidden_layers",              \
    .k_heads = "num_attention_heads", .k_inter = "intermediate_size", .k_max_pos = "max_position_embeddings",          \
    .k_eps = "rms_norm_eps", .k_act = "hidden_act", .act = "silu", .hidden = 4096, .layers = 32, .heads = 32
static const model_family families[] = {
    { .model_type = "llama", .hf_arch = "LlamaForCausalLM", .gguf_arch = "llama", LLAMA_KEYS,
      .traits = FAM_GATED | FAM_BIAS_KEYS | FAM_GGUF_PERMUTED, .vocab = 32000, .inter = 11008, .max_pos = 2048,
      .eps = 1e-6, .window = WINDOW_NONE },
    { .model_type = "mistral", .hf_arch = "MistralForCausalLM", .gguf_arch = "llama", LLAMA_KEYS,
      .traits = FAM_GATED | FAM_NO_BIAS | FAM_GGUF_PERMUTED, .vocab = 32000, .inter = 14336, .kv_heads = 8,
      .max_pos = 131072, .eps = 1e-6, .window = WINDOW_ALL, .window_size = 4096 },
    { .model_type = "qwen2", .hf_arch = "Qwen2ForCausalLM", .gguf_arch = "qwen2", LLAMA_KEYS,
      .traits = FAM_GATED | FAM_QKV_BIAS, .vocab = 151936, .inter = 22016, .kv_heads = 32, .max_pos = 32768, .eps = 1e-6,
      .window = WINDOW_FROM_LAYER, .window_size = 4096 },
    { .model_type = "qwen3", .hf_arch = "Qwen3ForCausalLM", .gguf_arch = "qwen3", LLAMA_KEYS,
      .traits = FAM_GATED | FAM_QK_NORM | FAM_BIAS_KEYS, .vocab = 151936, .inter = 22016, .kv_heads = 32, .head_dim = 128,
      .max_pos = 32768, .eps = 1e-6, .window = WINDOW_FROM_LAYER, .window_size = 4096 },
    { .model_type = "gpt2", .hf_arch = "GPT2LMHeadModel", .gguf_arch = "gpt2", .prefix = "transformer.",
      .names = gpt2_names, .traits = FAM_LAYER_NORM | FAM_LEARNED_POS | FAM_CONV1D | FAM_FUSED_QKV | FAM_ALL_BIAS,
      .k_hidden = "n_embd", .k_layers = "n_layer", .k_heads = "n_head", .k_inter = "n_inner", .k_max_pos = "n_positions",
      .k_eps = "layer_norm_epsilon", .k_act = "activation_function", .act = "gelu_new", .vocab = 50257, .hidden = 768,
      .layers = 12, .heads = 12, .max_pos = 1024, .eps = 1e-5, .tied = true, .window = WINDOW_NONE },
};
/* clang-format on */

const model_family *family_by_type(const char *model_type)
{
    for (size_t i = 0; model_type && i < FT_COUNT_OF(families); i++) {
        if (strcmp(families[i].model_type, model_type) == 0) return &families[i];
    }
    return NULL;
}

const model_family *family_by_gguf(const char *arch)
{
    for (size_t i = 0; arch && i < FT_COUNT_OF(families); i++) {
        if (strcmp(families[i].gguf_arch, arch) == 0) return &families[i];
    }
    return NULL;
}

void family_list(str_buf *out)
{
    for (size_t i = 0; i < FT_COUNT_OF(families); i++)
        str_printf(out, "%s%s", i ? ", " : "", families[i].model_type);
}

const char *model_family_name(const model *m)
{
    return m->family->model_type;
}
