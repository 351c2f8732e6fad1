/* amx_tiles.h – the tile instructions of kern_amx.c in C, for machines without them: the state of a thread's eight
 * tiles, and what Intel's manual gives as each instruction's operation. What would be a fault of the CPU (tiles used
 * without a configuration, shapes that do not fit, a tile that does not exist) is an assertion. */
#ifndef AMX_TILES_H
#define AMX_TILES_H

#include "../../src/kernel/kern_bf16.h"

extern const kern_dot amx_emulated; /* kern_amx.c by these */
/* True while this thread has tiles configured: after the calls of a task it has none. */
bool amx_in_use(void);

#define KERN_AMX amx_emulated
#define TILE_CONFIGURE(config) amx_configure(config)
#define TILE_RELEASE() amx_release()
#define TILE_ZERO(t) amx_zero(t)
#define TILE_LOAD(t, p, ld) amx_load(t, p, ld)
#define TILE_STORE(t, p, ld) amx_store(t, p, ld)
#define TILE_DOT(c, a, b) amx_dot(c, a, b)

void amx_configure(const void *config);
void amx_release(void);
void amx_zero(int tile);
void amx_load(int tile, const void *from, int64_t ld);
void amx_store(int tile, void *to, int64_t ld);
void amx_dot(int c, int a, int b);
#endif
