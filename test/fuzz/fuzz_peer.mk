LIBS_fuzz_peer := -lsodium -lcrypto
