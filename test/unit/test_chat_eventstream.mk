LIBS_test_chat_eventstream = -lz
