SRCS_test_context := ../../agent/serve/edit.c
LIBS_test_context := -lyaml -ljansson
