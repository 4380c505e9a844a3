# Read where llama.cpp's own CMake project begins.

# without its chat helpers, half of the build, which we never load
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)

# with AMX instructions that read what was stored before them, see gcc_amx.h
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/gcc_amx.h\">")
endif()
