LIBS_test_chat_sigv4 = -lsodium
