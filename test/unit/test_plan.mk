LIBS_test_plan := -ljansson
