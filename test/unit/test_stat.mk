STAT_DIR := ../../agent
LIBS_test_stat := -ljansson -lm
