SRCS_test_schedule := ../../agent/cli/output.c ../../agent/cli/json.c
LIBS_test_schedule := -ljansson
