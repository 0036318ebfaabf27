LIBS_test_ws := -lhttp_parser -lssl -lcrypto -lsodium -lpthread
