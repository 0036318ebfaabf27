PROBE_DIR := ../../agent
SRCS_test_probe := $(addprefix $(PROBE_DIR)/,loop.c tunnel/relay.c wire/derp.c wire/wsframe.c wire/stun.c)
LIBS_test_probe := -ljansson -lssl -lcrypto -lsodium -lpthread
