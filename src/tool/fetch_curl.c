/* fetch_curl.c – libcurl, opened when a transfer first needs it: all else runs where it is not installed. */
#include "fetch_private.h"

#include <dlfcn.h>

ft_status fetch_curl_open(const fetch_curl **out)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};
    static const struct {
        const char *name;
        size_t at;
    } wanted[] = {
#define X(name) {"curl_" #name, offsetof(fetch_curl, name)},
        FETCH_CURL(X)
#undef X
    };
    static fetch_curl lib;
    static bool open;
    *out = open ? &lib : NULL;
    if (open) return FT_OK;
    void *so = NULL;
    for (size_t i = 0; i < FT_COUNT_OF(names) && !so; i++)
        so = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    FT_CHECK(so, FT_EMEM,
             "ft fetch needs libcurl (%s), which this system does not have; install the package "
             "libcurl4",
             names[0]);
    for (size_t i = 0; i < FT_COUNT_OF(wanted); i++) {
        void *at = dlsym(so, wanted[i].name);
        FT_CHECK(at, FT_EMEM, "libcurl has no %s; a libcurl4 of version 7.66 or later is needed",
                 wanted[i].name);
        *(void **)(void *)((char *)&lib + wanted[i].at) = at;
    }
    FT_CHECK(lib.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK, FT_EMEM, "libcurl does not start");
    open = true;
    *out = &lib;
    return FT_OK;
}
