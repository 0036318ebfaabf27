SRCS_fuzz_query := ../../extension/query.c
CFLAGS_fuzz_query := -I../../extension
