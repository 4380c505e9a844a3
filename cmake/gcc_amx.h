/* Included before every C++ source of llama.cpp that GCC compiles.
 *
 * GCC's headers (12, and others) do not tell the compiler that these instructions read memory: of the 64 bytes of
 * `ldtilecfg` it knows 8, of a tile none. It then leaves out the stores before them, and the process ends with a
 * segmentation fault or computes with old values.
 */
#if defined(__x86_64__) && defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

struct yuegguf_tile_config {
    unsigned char bytes[64];
};

static inline __attribute__((always_inline)) void yuegguf_tile_loadconfig(const void * config) {
    __asm__ volatile("ldtilecfg %0" : : "m"(*(const struct yuegguf_tile_config *) config) : "memory");
}

#define YUEGGUF_TILE_LOAD(instruction, tile, base, stride)                                    \
    __asm__ volatile(instruction " (%0,%1,1), %%tmm" #tile                                    \
                     : : "r"((const void *) (base)), "r"((long) (stride)) : "memory")

#define _tile_loadconfig(config) yuegguf_tile_loadconfig(config)
#undef _tile_loadd
#define _tile_loadd(tile, base, stride) YUEGGUF_TILE_LOAD("tileloadd", tile, base, stride)
#undef _tile_stream_loadd
#define _tile_stream_loadd(tile, base, stride) YUEGGUF_TILE_LOAD("tileloaddt1", tile, base, stride)
#endif
