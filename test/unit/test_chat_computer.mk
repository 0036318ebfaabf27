LIBS_test_chat_computer := -ljansson
