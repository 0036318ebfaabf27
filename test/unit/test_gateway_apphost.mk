LIBS_test_gateway_apphost := -lcrypto
