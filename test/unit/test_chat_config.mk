LIBS_test_chat_config = -ljansson
