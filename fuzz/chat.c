/* A chat template, NUL, records of conversations: they are rendered and masked as training does it. An empty template: one of
 * those by name, which the first record's length picks. */
#include "data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fz_input in = {data, size, false};
    const uint8_t *part;
    size_t n;
    char source[1000];
    if (fz_start()) fz_must(tok_open(&fz_tok, fz_root("data/tiny")));
    fz_part(&in, &part, &n);
    int names = 0;
    while (chat_names[names]) names++;
    const char *given = n ? fz_put("t.jinja", part, n) : chat_names[size % (size_t)names];
    const char *path = fz_put("d.jsonl", in.p, in.left);
    ft_status rc = chat_use(fz_tok, given);
    if (rc == FT_OK) rc = chat_open(&fz_template, fz_tok);
    fz_status(rc);
    if (rc != FT_OK) return 0;
    snprintf(source, sizeof source, "{\"path\":\"%s\",\"format\":\"%s\"}", path,
             size & 8 ? "sharegpt" : "messages");
    const char *how[] = {"max_length=128",
                         size & 16 ? "assistant_only_loss=true" : "on_loss=\"warn\""};
    fz_data(source, how, FT_COUNT_OF(how));
    chat_close(fz_template);
    fz_template = NULL;
    return 0;
}
