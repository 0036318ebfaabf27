LIBS_test_mcpconfig = -ljansson
