/* go_template.c – the chat templates of the table (chat_names) as Ollama writes them: Go's text/template over .Messages, and
 * over .System, .Prompt and .Response where a program gives no messages.
 *
 * What they render is what the table's template renders where an answer is asked for, but that Go has no way to trim: contents
 * stand as they are. Ollama puts the tokenizer's BOS in front of a text by itself. */
#include <stdio.h>
#include <string.h>

#include "tool_private.h"

/* In the texts below, taken for what the model has: */
#define BOS "\1" /* at the very beginning; nothing where the tokenizer adds it */
#define EOS "\2"
#define AGAIN "\3"  /* BOS of a later turn */
#define NONE "\4"   /* the row's `none`, where a conversation without a system message gets one */
#define SYSTEM "\5" /* the text of that message */

/* Every turn alike, whatever its role. */
#define TURNS(begin, open, mid, close, ask)                                                        \
    .go = begin NONE "{{ if .Messages }}{{ range .Messages }}" open "{{ .Role }}" mid              \
                     "{{ .Content }}" close "{{ end }}" ask "{{ else }}{{ if .System }}" open      \
                     "system" mid "{{ .System }}" close "{{ end }}" open "user" mid                \
                     "{{ .Prompt }}" close ask "{{ .Response }}{{ if .Response }}" close           \
                     "{{ end }}{{ end }}",                                                         \
    .none = "{{ if not .System }}" open "system" mid SYSTEM close "{{ end }}"

/* What an answer is asked for with, or it and what stands around it. */
#define REPLY(ask, open, close)                                                                    \
    "{{ if not .Response }}" ask "{{ else }}" open "{{ .Response }}" close "{{ end }}"

/* Turns of user and assistant: what stands before the user's words, in a conversation and alone, and so on. */
#define PAIRS(set, before, alone, after, open, close, ask)                                         \
    "{{ if .Messages }}" set "{{ range .Messages }}{{ if eq .Role \"user\" }}" before              \
    "{{ .Content }}" after "{{ else if eq .Role \"assistant\" }}" open "{{ .Content }}" close      \
    "{{ end }}{{ end }}" ask "{{ else }}" alone "{{ .Prompt }}" after                              \
    REPLY(ask, open, close) "{{ end }}"

/* The system message goes into the first turn of the user. again: in front of the later ones. */
#define WITH_SYSTEM(again, user, sys, sys_end, after, open, close, ask)                            \
    .go = BOS PAIRS("{{ $later := false }}",                                                       \
                    again user "{{ if not $later }}{{ if $.System }}" sys                          \
                               "{{ $.System }}" sys_end NONE                                       \
                               "{{ end }}{{ $later = true }}{{ end }}",                            \
                    user "{{ if .System }}" sys "{{ .System }}" sys_end NONE "{{ end }}", after,   \
                    open, close, ask),                                                             \
    .none = "{{ else }}" sys SYSTEM sys_end

/* It stands before all turns, or another text does. */
#define BEHIND(sys_end, user, after, open, close, ask)                                             \
    .go = "{{ if .System }}{{ .System }}{{ else }}" SYSTEM                                         \
          "{{ end }}" sys_end PAIRS("", user, user, after, open, close, ask)

static const struct row {
    const char *name, *go, *none;
    const char *system; /* of who brings none, in the table's own template */
} rows[] = {
    {.name = "chatml", TURNS("", "<|im_start|>", "\n", "<|im_end|>\n", "<|im_start|>assistant\n")},
    {.name = "llama2",
     WITH_SYSTEM("{{ if $later }}" AGAIN "{{ end }}", "[INST] ", "<<SYS>>\n", "\n<</SYS>>\n\n",
                 " [/INST]", " ", " " EOS, "")},
    {.name = "llama3",
     TURNS(BOS, "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>",
           "<|start_header_id|>assistant<|end_header_id|>\n\n")},
    {.name = "mistral", WITH_SYSTEM("", "[INST] ", "", "\n\n", "[/INST]", " ", EOS, "")},
    {.name = "gemma",
     WITH_SYSTEM("", "<start_of_turn>user\n", "", "\n\n", "<end_of_turn>\n",
                 "<start_of_turn>model\n", "<end_of_turn>\n", "<start_of_turn>model\n")},
    {.name = "phi3", TURNS("", "<|", "|>\n", "<|end|>\n", "<|assistant|>\n")},
    {.name = "zephyr", TURNS("", "<|", "|>\n", EOS "\n", "<|assistant|>\n")},
    {.name = "alpaca",
     BEHIND("\n\n", "### Instruction:\n", "\n\n", "### Response:\n", EOS "\n\n", "### Response:\n"),
     .system = "Below is an instruction that describes a task. Write a response that appropriately "
               "completes the request."},
    {.name = "vicuna",
     BEHIND("", " USER: ", "", " ASSISTANT: ", EOS, " ASSISTANT:"),
     .system = "A chat between a curious user and an artificial intelligence assistant. The "
               "assistant gives helpful, detailed, and polite answers to the user's questions."},
};

/* Characters that Ollama's reader of Modelfiles drops: those that do not print, but for line feeds. */
static bool is_dropped(int32_t c)
{
    static const int32_t ranges[][2] = {{0x00, 0x09},     {0x0b, 0x1f},     {0x7f, 0xa0},
                                        {0xad, 0xad},     {0x1680, 0x1680}, {0x2000, 0x200f},
                                        {0x2028, 0x202f}, {0x205f, 0x206f}, {0x3000, 0x3000},
                                        {0xe000, 0xf8ff}, {0xfeff, 0xfeff}, {0xfff0, 0xfffb}};
    for (size_t i = 0; i < FT_COUNT_OF(ranges); i++)
        if (c >= ranges[i][0] && c <= ranges[i][1]) return true;
    return c >= 0xe0000;
}

/* A text that stands for itself, in a template and between three quotes. */
static void put_literal(str_buf *out, const char *text)
{
    static const char *const special[][2] = {{"{", "{{ \"{\" }}"},
                                             {"\"\"\"", "{{ \"\\\"\\\"\\\"\" }}"}};
    for (const char *p = text; *p;) {
        size_t k = 0;
        while (k < FT_COUNT_OF(special) && !str_starts(p, special[k][0])) k++;
        if (k < FT_COUNT_OF(special)) {
            str_adds(out, special[k][1]);
            p += strlen(special[k][0]);
            continue;
        }
        int32_t c;
        const int n = utf8_next(p, strlen(p), &c);
        if (n > 0 && !is_dropped(c))
            str_add(out, p, (size_t)n);
        else
            str_printf(out, "{{ \"\\U%08x\" }}", n > 0 ? (unsigned)c : 0xfffdU);
        p += n > 0 ? n : 1;
    }
}

static void put(str_buf *out, const struct row *r, const char *text, const tool_go_words *w)
{
    const char *system = w->system ? w->system : r->system;
    for (const char *p = text; *p; p++) {
        if (*p == BOS[0])
            put_literal(out, w->adds_bos ? "" : w->bos);
        else if (*p == AGAIN[0])
            put_literal(out, w->bos);
        else if (*p == EOS[0])
            put_literal(out, w->eos);
        else if (*p == SYSTEM[0])
            put_literal(out, system ? system : "");
        else if (*p != NONE[0])
            str_addc(out, *p);
        else if (w->system)
            put(out, r, r->none, w);
    }
}

bool tool_go_template(str_buf *out, const char *name, const tool_go_words *w)
{
    for (size_t i = 0; i < FT_COUNT_OF(rows); i++) {
        if (strcmp(rows[i].name, name) != 0) continue;
        put(out, &rows[i], rows[i].go, w);
        return true;
    }
    return false;
}
