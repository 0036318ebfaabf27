SRCS_fuzz_packed := ../../extension/packed.c
CFLAGS_fuzz_packed := -I../../extension
