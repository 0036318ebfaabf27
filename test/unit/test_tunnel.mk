TUNNEL_DIR := ../../agent
LWIP_SRC_DIR := ../../.build/lwip
SRCS_test_tunnel := $(addprefix $(TUNNEL_DIR)/,loop.c $(addprefix tunnel/,tunnel.c address.c region.c ping.c dial.c netstack.c relay.c peer.c noise.c) \
	$(addprefix wire/,derp.c wsframe.c disco.c wg.c))
CFLAGS_test_tunnel := -I$(TUNNEL_DIR)/tunnel/lwip -isystem $(LWIP_SRC_DIR)/src/include
LIBS_test_tunnel := $(LWIP_SRC_DIR)/checked/liblwip.a -lssl -lcrypto -lsodium -lpthread
test_tunnel: | $(LWIP_SRC_DIR)/checked/liblwip.a
$(LWIP_SRC_DIR)/checked/liblwip.a:
	@$(MAKE) --no-print-directory -C $(TUNNEL_DIR) lwip-checked
