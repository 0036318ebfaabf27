SRCS_test_noise := $(addprefix ../../agent/,tunnel/noise.c wire/wg.c)
LIBS_test_noise := -lcrypto -lsodium
