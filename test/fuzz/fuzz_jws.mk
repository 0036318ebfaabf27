SRCS_fuzz_jws := ../../extension/jws.c
CFLAGS_fuzz_jws := -I../../extension
LIBS_fuzz_jws := -lsodium -lcrypto
