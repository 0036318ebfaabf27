SRCS_fuzz_edit = ../../agent/serve/edit.c
