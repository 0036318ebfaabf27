LIBS_test_chat_mcpwire = -ljansson -lcurl
