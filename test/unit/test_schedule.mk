LIBS_test_schedule := -ljansson
