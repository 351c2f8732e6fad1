/* presets.c – steps written as tokenizer.json has them: the pre-tokenizers that GGUF files name in
 * tokenizer.ggml.pre, and those of LlamaTokenizer.
 *
 * The same rows read a GGUF, write its tokenizer.json, and find the name for a tokenizer.json on the way back.
 * Where llama.cpp approximates, the row is what the original models use. */
#include "token_private.h"

#define SPLIT(regex)                                                                               \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex                                          \
    "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define BYTES(regex)                                                                               \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_"              \
    "regex\":" regex "}"
#define DIGITS(single) "{\"type\":\"Digits\",\"individual_digits\":" single "}"
#define SEQ(steps) "{\"type\":\"Sequence\",\"pretokenizers\":[" steps "]}"
#define NFC "{\"type\":\"NFC\"}"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define REST_SLASH                                                                                 \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define LLAMA3 CONTRACTIONS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}" REST
#define QWEN2 CONTRACTIONS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}" REST
#define QWEN35                                                                                     \
    CONTRACTIONS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{L}\\\\p{M}]+|\\\\p{N}| "                   \
                 "?[^\\\\s\\\\p{L}\\\\p{M}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!"   \
                 "\\\\S)|\\\\s+"
#define UPPER "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWER "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define CASED(tail)                                                                                \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "*" LOWER "+" tail                                      \
    "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "+" LOWER "*" tail
#define O200K CASED(CONTRACTIONS "?") "|\\\\p{N}{1,3}" REST_SLASH
#define TEKKEN CASED("") "|\\\\p{N}" REST_SLASH
/* Cased letters as DeepSeek-LLM lists them; escapes, because some of them do not survive normalisation. */
#define DEEPSEEK_LETTERS                                                                           \
    "\\\\s?["                                                                                      \
    "A-Za-z\\u00b5\\u00c0-\\u00d6\\u00d8-\\u00f6\\u00f8-\\u01ba\\u01bc-\\u01bf"                    \
    "\\u01c4-\\u0293\\u0295-\\u02af\\u0370-\\u0373\\u0376\\u0377\\u037b-\\u037d\\u037f"            \
    "\\u0386\\u0388-\\u038a\\u038c\\u038e-\\u03a1\\u03a3-\\u03f5\\u03f7-\\u0481"                   \
    "\\u048a-\\u052f\\u0531-\\u0556\\u10a0-\\u10c5\\u13a0-\\u13f5\\u13f8-\\u13fd"                  \
    "\\u1c90-\\u1cba\\u1cbd-\\u1cbf\\u1d00-\\u1d2b\\u1d6b-\\u1d77\\u1d79-\\u1d9a"                  \
    "\\u1e00-\\u1f15\\u1f18-\\u1f1d\\u1f20-\\u1f45\\u1f48-\\u1f4d\\u1f50-\\u1f57\\u1f59"           \
    "\\u1f5b\\u1f5d\\u1f5f-\\u1f7d\\u1f80-\\u1fb4\\u1fb6-\\u1fbc\\u1fbe\\u1fc2-\\u1fc4"            \
    "\\u1fc6-\\u1fcc\\u1fd0-\\u1fd3\\u1fd6-\\u1fdb\\u1fe0-\\u1fec\\u1ff2-\\u1ff4"                  \
    "\\u1ff6-\\u1ffc\\u2102\\u2107\\u210a-\\u2113\\u2115\\u2119-\\u211d\\u2124\\u2126"             \
    "\\u2128\\u212a-\\u212d\\u212f-\\u2134\\u2139\\u213c-\\u213f\\u2145-\\u2149\\u214e"            \
    "\\u2183\\u2184\\u2c00-\\u2c7b\\u2c7e-\\u2ce4\\u2ceb-\\u2cee\\u2cf2\\u2cf3"                    \
    "\\ua640-\\ua66d\\ua680-\\ua69b\\ua722-\\ua76f\\ua771-\\ua787\\ua78b-\\ua78e"                  \
    "\\uab70-\\uabbf\\ufb00-\\ufb06\\ufb13-\\ufb17\\uff21-\\uff3a\\uff41-\\uff5a"                  \
    "\\ud801\\udc00-\\ud801\\udc4f\\ud801\\udcb0-\\ud801\\udcd3"                                   \
    "\\ud801\\udcd8-\\ud801\\udcfb\\ud803\\udc80-\\ud803\\udcb2"                                   \
    "\\ud803\\udcc0-\\ud803\\udcf2\\ud806\\udca0-\\ud806\\udcdf"                                   \
    "\\ud83a\\udd00-\\ud83a\\udd43"                                                                \
    "]+"
#define DEEPSEEK_CJK "[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-\\ud7ff]+"
#define DEEPSEEK_V3                                                                                \
    "[!\\\"#$%&'()*+,\\\\-./"                                                                      \
    ":;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+|[^\\\\r\\\\n\\\\p{L}\\\\p{P}\\\\p{S}]?["           \
    "\\\\p{L}\\\\p{M}]+| "                                                                         \
    "?[\\\\p{P}\\\\p{S}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

#define ISOLATED(regex) SEQ(SPLIT(regex) "," BYTES("false"))
#define STARCODER SEQ(DIGITS("true") "," BYTES("true"))
#define FALCON                                                                                     \
    SEQ("{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}," BYTES("true") "," DIGITS(        \
        "false") "," SPLIT("[0-9][0-9][0-9]"))
#define DEEPSEEK_LLM                                                                               \
    SEQ(SPLIT("[\\r\\n]") "," SPLIT(DEEPSEEK_LETTERS) "," SPLIT(                                   \
        "\\\\s?[!-/"                                                                               \
        ":-~\\uff01-\\uff0f\\uff1a-"                                                               \
        "\\uff5e\\u2018-\\u201f\\u3000-"                                                           \
        "\\u3002]+") "," SPLIT("\\\\s+$") "," SPLIT(DEEPSEEK_CJK) "," DIGITS("true") "," BYTES("f" \
                                                                                               "a" \
                                                                                               "l" \
                                                                                               "s" \
                                                                                               "e"))
#define DEEPSEEK_CODER                                                                             \
    SEQ(SPLIT("[\\r\\n]") "," SPLIT("\\\\s?\\\\p{L}+") "," SPLIT("\\\\s?\\\\p{P}+") "," SPLIT(     \
        DEEPSEEK_CJK) "," DIGITS("true") "," BYTES("false"))
#define DEEPSEEK3                                                                                  \
    SEQ(SPLIT("\\\\p{N}{1,3}") "," SPLIT(                                                          \
        "[\\u4e00-\\u9fa5\\u3040-\\u309f\\u30a0-\\u30ff]+") "," SPLIT(DEEPSEEK_V3) "," BYTES("fal" \
                                                                                             "s"   \
                                                                                             "e"))
#define BLOOM SEQ(SPLIT(" ?[^(\\\\s|[.,!?…。，、।۔،])]+") "," BYTES("false"))

const tk_preset tk_presets[] = {
    {"gpt-2", NULL, BYTES("true"), false, false},
    {"llama-bpe", NULL, ISOLATED(LLAMA3), true, true},
    {"qwen2", NFC, ISOLATED(QWEN2), false, false},
    {"stablelm2", NULL, ISOLATED(QWEN2), false, false},
    {"qwen35", NFC, ISOLATED(QWEN35), false, false},
    {"smollm", NULL, STARCODER, false, false},
    {"starcoder", NULL, STARCODER, false, false},
    {"refact", NULL, STARCODER, false, false},
    {"command-r", NFC, STARCODER, false, false},
    {"codeshell", NULL, STARCODER, false, false},
    {"exaone", NULL, STARCODER, false, false},
    {"minerva-7b", NULL, STARCODER, false, false},
    {"gpt-4o", NULL, ISOLATED(O200K), false, false},
    {"llama4", NULL, ISOLATED(O200K), false, false},
    {"tekken", NULL, ISOLATED(TEKKEN), true, true},
    {"falcon", NULL, FALCON, false, false},
    {"deepseek-llm", NULL, DEEPSEEK_LLM, false, false},
    {"deepseek-coder", NULL, DEEPSEEK_CODER, false, false},
    {"deepseek-v3", NULL, DEEPSEEK3, false, false},
    {"deepseek-r1-qwen", NULL, ISOLATED(QWEN2), false, false},
    {"llama3", NULL, ISOLATED(LLAMA3), true, true},
    {"llama-v3", NULL, ISOLATED(LLAMA3), true, true},
    {"falcon3", NULL, ISOLATED(LLAMA3), true, true},
    {"falcon-h1", NULL, ISOLATED(LLAMA3), true, true},
    {"pixtral", NULL, ISOLATED(LLAMA3), true, true},
    {"lfm2", NULL, ISOLATED(LLAMA3), true, true},
    {"dbrx", NULL, ISOLATED(LLAMA3), false, false},
    {"smaug-bpe", NULL, ISOLATED(LLAMA3), false, false},
    {"chatglm-bpe", NULL, ISOLATED(LLAMA3), false, false},
    {"glm4", NULL, ISOLATED(LLAMA3), false, false},
    {"megrez", NULL, ISOLATED(QWEN2), false, false},
    {"hunyuan", NULL, ISOLATED(QWEN2), false, false},
    {"hunyuan-dense", NULL, DEEPSEEK3, false, false},
    {"grok-2", NULL, ISOLATED(QWEN2), false, false},
    {"mpt", NFC, BYTES("true"), false, false},
    {"olmo", NFC, BYTES("true"), false, false},
    {"phi-2", NULL, BYTES("true"), false, false},
    {"jina-es", NULL, BYTES("true"), false, false},
    {"jina-de", NULL, BYTES("true"), false, false},
    {"jina-v2-es", NULL, BYTES("true"), false, false},
    {"jina-v2-de", NULL, BYTES("true"), false, false},
    {"jais", NULL, BYTES("true"), false, false},
    {"trillion", NULL, BYTES("true"), false, false},
    {"gigachat", NULL, BYTES("true"), false, false},
    {"a.x-4.0", NULL, BYTES("true"), false, false},
    {"mellum", NULL, BYTES("true"), false, false},
    {"modern-bert", NFC, BYTES("true"), false, false},
    {"granite-docling", NULL, BYTES("true"), false, false},
    {"bloom", NULL, BLOOM, false, false},
    {"default", NULL, BYTES("true"), false, false},
};
const int tk_n_presets = (int)FT_COUNT_OF(tk_presets);

const tk_preset *tk_preset_find(const char *pre)
{
    for (int i = 0; i < tk_n_presets; i++) {
        if (strcmp(tk_presets[i].pre, pre) == 0) return &tk_presets[i];
    }
    return NULL;
}

bool tk_preset_is(const tk_ops *pretokenizers, const char *pre)
{
    arena *mem;
    tk_ops ops = {0};
    const tk_preset *p = tk_preset_find(pre);
    if (!p || arena_open(&mem, "preset", (size_t)16 << 20) != FT_OK) return false;
    bool same = tk_ops_text(&ops, mem, p->pretokenizer, TK_SPLIT) == FT_OK &&
                tk_ops_equal(&ops, pretokenizers);
    tk_ops_close(&ops);
    arena_close(mem);
    return same;
}

/* --- LlamaTokenizer ------------------------------------------------------------------------------------------- */
#define REPLACE(from, to)                                                                          \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" from "\"},\"content\":\"" to "\"}"
#define BYTE_FUSE "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"

void tk_llama_components(tok_tokenizer *t, bool legacy)
{
    static const char norm_prefix[] =
        "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
        "\"prepend\":\"▁\"}," REPLACE(" ", "▁") "]}";
    static const char norm_plain[] = REPLACE(" ", "▁");
    static const char first[] = "{\"type\":\"Metaspace\",\"replacement\":\"▁\",\"prepend_"
                                "scheme\":\"first\",\"split\":false}";
    static const char decode_prefix[] = "{\"type\":\"Sequence\",\"decoders\":[" REPLACE(
        "▁", " ") "," BYTE_FUSE ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}";
    static const char decode_plain[] =
        "{\"type\":\"Sequence\",\"decoders\":[" REPLACE("▁", " ") "," BYTE_FUSE "]}";
    t->json_decoder = t->add_space_prefix ? decode_prefix : decode_plain;
    t->json_pretokenizer = NULL;
    if (!t->add_space_prefix) {
        t->json_normalizer = norm_plain;
    } else if (legacy) {
        t->json_normalizer = norm_prefix;
    } else {
        t->json_normalizer = NULL;
        t->json_pretokenizer = first;
    }
}

ft_status tk_parse_components(tok_tokenizer *t)
{
    FT_TRY(tk_ops_text(&t->normalizers, t->mem, t->json_normalizer, TK_NORMALIZE));
    FT_TRY(tk_ops_text(&t->pretokenizers, t->mem, t->json_pretokenizer, TK_SPLIT));
    return tk_ops_text(&t->decoders, t->mem, t->json_decoder, TK_DECODE);
}
