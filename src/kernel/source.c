/* source.c – where the rows of a matrix operand come from: plain floats, packed blocks, blocks with values beside them,
 * pages of a cache. */
#include "kern.h"

#include <string.h>

void kern_src_of(kern_src *s, const kn_mat *w)
{
    *s = (kern_src){.unpack = w->type->unpack,
                    .read = w->type->read,
                    .data = w->data,
                    .side = w->side,
                    .cols = w->cols,
                    .row_bytes = (size_t)(w->cols / w->type->block) * (size_t)w->type->bytes,
                    .row_of = w->row_of,
                    .block = w->type->read ? 1 : w->type->block,
                    .bytes = w->type->bytes};
    for (const kern_format *f = kern->format; f->name; f++) {
        if (strcmp(f->name, w->type->name) != 0) continue;
        s->unpack = f->unpack;
        s->few = f->few[0] && (!f->few_fit || f->few_fit(w->side, w->cols)) ? f->few : NULL;
        if (f->read) s->read = f->read;
        s->halves = f->halves;
    }
    if (w->type == &dt_f32) s->few = kern->few;
    s->bf16 = w->type == &dt_bf16;
    s->plain = w->type == &dt_f32 && (uintptr_t)w->data % sizeof(float) == 0;
}

void kern_src_pages(kern_src *s, const float *const *page, int64_t page_rows, int64_t column,
                    int64_t ld)
{
    kern_src_f32(s, NULL, ld);
    s->page = page;
    s->page_rows = page_rows;
    s->column = column;
}

void kern_src_f32(kern_src *s, const float *data, int64_t ld)
{
    *s = (kern_src){.unpack = dt_f32.unpack,
                    .data = (const char *)data,
                    .cols = ld,
                    .row_bytes = (size_t)ld * sizeof(float),
                    .block = 1,
                    .bytes = sizeof(float),
                    .plain = true,
                    .few = kern->few};
}
