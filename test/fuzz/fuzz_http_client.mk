LIBS_fuzz_http_client := -lhttp_parser -lssl -lcrypto -lpthread
