# Read where llama.cpp's own CMake project begins: without its chat helpers, half of the build, which we never load.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)
