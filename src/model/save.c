/* save.c – writing a model: the format is told by the path. */
#include "save_private.h"

ft_status model_save(model *m, const char *path, const model_save_options *opt)
{
    static const model_save_options defaults;
    save_plan p;
    FT_CHECK(!opt || !opt->quant || !str_ends(path, ".gguf"), FT_EUSAGE,
             "type %s has no place in a .gguf; write a folder, or use q4_k and its like",
             model_quant_output(opt->quant) ? model_quant_output(opt->quant) : opt->quant->method);
    FT_CHECK(!m->scores || !str_ends(path, ".gguf"), FT_EUSAGE,
             "%s: a reward model has no place in a .gguf; write a folder", ft_shows(path));
    ft_status rc = save_plan_open(&p, m, opt ? opt : &defaults);
    if (rc == FT_OK) rc = str_ends(path, ".gguf") ? save_gguf(&p, path) : save_folder(&p, path);
    save_plan_close(&p);
    return rc;
}
