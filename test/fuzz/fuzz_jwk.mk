SRCS_fuzz_jwk := ../../extension/jwkey.c
CFLAGS_fuzz_jwk := -I../../extension
LIBS_fuzz_jwk := -lsodium -lcrypto
