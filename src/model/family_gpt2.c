/* family_gpt2.c – GPT-2: learned positions, LayerNorm, one matrix for q | k | v, linear weights stored [I, O].
 *
 * Sources: GPT2Config and the tensor names of transformers' checkpoints; GGUF names of llama.cpp's converter. */
#include "model_private.h"

/* clang-format off */
static const model_name names[] = {
    { "embed",         "transformer.wte",                "token_embd" },
    { "position",      "transformer.wpe",                "position_embd" },
    { "norm1",         "transformer.h.%d.ln_1",          "blk.%d.attn_norm" },
    { "attention.qkv", "transformer.h.%d.attn.c_attn",   "blk.%d.attn_qkv" },
    { "attention.o",   "transformer.h.%d.attn.c_proj",   "blk.%d.attn_output" },
    { "norm2",         "transformer.h.%d.ln_2",          "blk.%d.ffn_norm" },
    { "mlp.up",        "transformer.h.%d.mlp.c_fc",      "blk.%d.ffn_up" },
    { "mlp.down",      "transformer.h.%d.mlp.c_proj",    "blk.%d.ffn_down" },
    { "norm",          "transformer.ln_f",               "output_norm" },
    { "head",          "lm_head",                        "output" },
    { 0 }
};
static const model_key_as keys[] = {
    { "vocab", "vocab_size", "50257" }, { "hidden", "n_embd", "768" }, { "layers", "n_layer", "12" },
    { "positions", "n_positions", "1024" }, { "eps", "layer_norm_epsilon", "1e-5" },
    { "tied", "tie_word_embeddings", "true" }, { "pad_row", NULL, "-1" },
    { "heads", "n_head", "12" }, { "kv_heads", NULL, "0" }, { "head_dim", NULL, "0" }, { "rope", NULL, "false" },
    { "scaled", "scale_attn_weights", "true" }, { "scale_by_layer", "scale_attn_by_inverse_layer_idx", "false" },
    { "inner", "n_inner", "0" }, { "act", "activation_function", "gelu_new" },
    { "qkv_bias", NULL, "true" }, { "o_bias", NULL, "true" }, { "ff_bias", NULL, "true" },
    { 0 }
};
const model_family family_gpt2 = {
    .model_type = "gpt2", .hf_arch = "GPT2LMHeadModel", .gguf_arch = "gpt2", .prefix = "transformer.",
    .names = names, .keys = keys, .norm = &norm_layer, .block = {{.part = {&part_attention, &part_mlp}}},
    .in_out = true, .scaled_init = true
};
/* clang-format on */
