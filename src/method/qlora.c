/* qlora.c – QLoRA (Dettmers et al. 2023): LoRA on a frozen base of four bits. The base is what is its own: where the config
 * says no model.quantization it is nf4, double quantised, unless its layers have blocks already (a .gguf, a folder that
 * bitsandbytes quantised). All else is lora.c's, files included. */
#include "ft/method.h"
#include "lora_private.h"

static const cfg_field fields[] = {
    PE_LORA_FIELDS,
    CFG_END,
};

const pe_method pe_qlora = {
    .name = "qlora",
    .help =
        "LoRA on a base quantised to nf4, or in the blocks it has; the result is a PEFT adapter",
    .quantization = "nf4",
    .fields = fields,
    .cfg_size = sizeof(lora_cfg),
    .peft_type = "LORA",
    .result = PE_ADAPTER,
    .files = pe_adapter_files,
    .learning_rate = 2e-4,
    .check = pe_lora_check,
    .attach = pe_lora_attach,
    .hooks = {.post = pe_lora_post, .embed = pe_lora_embed},
    .save = pe_lora_save,
    .load_config = pe_lora_load_config,
    .load = pe_load_adapter,
    .fold = pe_lora_fold,
};
