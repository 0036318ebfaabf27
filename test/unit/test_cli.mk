SRCS_test_cli := ../../agent/cli/json.c
LIBS_test_cli := -lssh -ljansson
