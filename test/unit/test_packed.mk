SRCS_test_packed := ../../extension/packed.c
CFLAGS_test_packed := -I../../extension
