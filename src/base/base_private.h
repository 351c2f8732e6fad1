/* base_private.h – what the files of this module share. */
#ifndef FT_BASE_PRIVATE_H
#define FT_BASE_PRIVATE_H

#include "ft/base.h"

/* One more request for memory: is it the one, or of those, that FT_TEST_FAIL_AT names? */
bool ft_told_to_fail(void);

#endif
