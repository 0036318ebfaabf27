LIBS_test_net := -lhttp_parser -lssl -lcrypto -lpthread
