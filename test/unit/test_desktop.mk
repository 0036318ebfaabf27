SRCS_test_desktop := ../../agent/serve/rfb.c ../../agent/serve/keysym.c
LIBS_test_desktop := -ljansson -lz -lcrypto
