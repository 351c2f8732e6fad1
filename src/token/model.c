/* model.c – the kinds of models, and what all of them release. */
#include "token_private.h"

void tk_model_close(tk_model *m)
{
    map_free(&m->vocab.index);
    ft_free(m->merge);
    ft_free(m->pairs);
    tk_trie_close(&m->trie);
    tk_trie_close(&m->more);
}

void tk_scratch_free(tk_scratch *x)
{
    ft_free(x->sym);
    ft_free(x->heap);
    ft_free(x->best);
    str_free(&x->text);
}

const tk_model_kind tk_model_kinds[] = {
    {"BPE", tk_bpe_parse, tk_bpe_encode},
    {"WordPiece", tk_wordpiece_parse, tk_wordpiece_encode},
    {"WordLevel", tk_wordlevel_parse, tk_wordlevel_encode},
    {"Unigram", tk_unigram_parse, tk_unigram_encode},
    {NULL, NULL, NULL},
};
