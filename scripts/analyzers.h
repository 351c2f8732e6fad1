/* analyzers.h – what scripts/check-analyzers.sh puts before every source: facts of functions that an analyzer does not see
 * into, so that it does not follow paths that are none. */
#ifdef CPPCHECK
#define cJSON_ArrayForEach(e, a) for (e = (a) ? (a)->child : 0; e; e = e->next)
#else
#include "ft/base.h"

#include <cjson/cJSON.h>

/* NULL is of no type, and is told apart by a look at the node. */
static inline int analyzer_is(const cJSON *node, int type)
{
    return node && (node->type & 0xff & type) != 0;
}
#define cJSON_IsArray(node) analyzer_is(node, cJSON_Array)
#define cJSON_IsBool(node) analyzer_is(node, cJSON_True | cJSON_False)
#define cJSON_IsNull(node) analyzer_is(node, cJSON_NULL)
#define cJSON_IsNumber(node) analyzer_is(node, cJSON_Number)
#define cJSON_IsObject(node) analyzer_is(node, cJSON_Object)
#define cJSON_IsString(node) analyzer_is(node, cJSON_String)
#define cJSON_IsTrue(node) analyzer_is(node, cJSON_True)
#define cJSON_IsFalse(node) analyzer_is(node, cJSON_False)

/* A failure is never FT_OK. */
static inline ft_status analyzer_failed(ft_status status)
{
    if (status == FT_OK) __builtin_unreachable();
    return status;
}
#undef ft_fail
#undef ft_fail_more
#undef ft_fail_again
#undef ft_fail_errno
#define ft_fail(...) analyzer_failed(ft_fail(__VA_ARGS__))
#define ft_fail_more(...) analyzer_failed(ft_fail_more(__VA_ARGS__))
#define ft_fail_again(...) analyzer_failed(ft_fail_again(__VA_ARGS__))
#define ft_fail_errno(...) analyzer_failed(ft_fail_errno(__VA_ARGS__))
#endif
