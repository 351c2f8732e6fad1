/* qlora.c – QLoRA (Dettmers et al. 2023): LoRA on a frozen base of four bits. The base is what is its own: where the config
 * says no model.quantization it is nf4, double quantised, unless its layers have blocks already (a .gguf, a folder that
 * bitsandbytes quantised). All else is lora.c's, files included. */
#include "ft/method.h"
#include "lora_private.h"

static const cfg_field fields[] = {
    PE_LORA_FIELDS,
    PE_DORA_FIELD("false"),
    CFG_END,
};

const pe_method pe_qlora = {
    .name = "qlora",
    .help =
        "LoRA on a base quantised to nf4, or in the blocks it has; the result is a PEFT adapter",
    .quantization = "nf4",
    .about =
        "LoRA on a base in four bits: nf4, or the blocks of a .gguf. Take it where the model does "
        "not fit in memory otherwise; it costs time to unpack and a little of the result.",
    .paper = "Dettmers et al. 2023, QLoRA: Efficient Finetuning of Quantized LLMs",
    .example = "{\"type\": \"qlora\", \"r\": 16, \"lora_alpha\": 32}",
    .fields = fields,
    .cfg_size = sizeof(lora_cfg),
    PE_LORA_ROW,
    .attach = pe_lora_attach,
    .before_step = pe_lora_before_step,
};
