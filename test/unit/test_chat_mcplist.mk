LIBS_test_chat_mcplist = -ljansson
