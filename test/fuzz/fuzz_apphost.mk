LIBS_fuzz_apphost := -lcrypto
