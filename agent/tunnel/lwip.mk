# lwIP compiled from Debian's source package with our options (lwip/lwipopts.h);
# Debian's own build has a 64 KiB window, and only a shared library.
# tunnel/lwip/get unpacks it to .build/lwip-<version>; it needs the network once.

LWIP_DIR   := $(BUILD)/lwip
LWIP_READY := $(LWIP_DIR)/.ready
LWIP_OUT   := $(LWIP_DIR)/$(if $(SANITIZE),checked,release)
LWIP_SRC   := core/def core/inet_chksum core/init core/ip core/mem core/memp core/netif core/pbuf \
	core/raw core/tcp core/tcp_in core/tcp_out core/ipv6/icmp6 core/ipv6/inet6 core/ipv6/ip6 \
	core/ipv6/ip6_addr core/ipv6/ip6_frag core/ipv6/nd6
LWIP_OBJS  := $(patsubst %,$(LWIP_OUT)/lwip_%.o,$(notdir $(LWIP_SRC)))
LWIP_INC   := -Itunnel/lwip -isystem $(LWIP_DIR)/src/include
CFLAGS_netstack := $(LWIP_INC)

lwip: $(LWIP_OBJS)

$(LWIP_READY):
	@tunnel/lwip/get $(LWIP_DIR)

$(LWIP_OUT)/lwip_%.o: $(LWIP_READY) tunnel/lwip/lwipopts.h tunnel/lwip/arch/cc.h
	@mkdir -p $(LWIP_OUT)
	$(if $(V),,@echo "  CC lwip/$*.c";)$(CC) -std=gnu17 -g $(CODE) -fPIE -w -D_GNU_SOURCE $(LWIP_INC) \
		-c -o $@ $(firstword $(wildcard $(LWIP_DIR)/src/core/$*.c $(LWIP_DIR)/src/core/ipv6/$*.c))

# For the units: lwIP with sanitizers, beside an agent that was built without.
.PHONY: lwip-checked
lwip-checked: $(LWIP_READY)
	@mkdir -p $(LWIP_DIR)/checked
	@for f in $(LWIP_SRC); do $(CC) -std=gnu17 -g $(CHECKED) -w -D_GNU_SOURCE $(LWIP_INC) \
		-c -o $(LWIP_DIR)/checked/unit_$$(basename $$f).o $(LWIP_DIR)/src/$$f.c || exit 1; done
	@rm -f $(LWIP_DIR)/checked/liblwip.a && ar rcs $(LWIP_DIR)/checked/liblwip.a $(LWIP_DIR)/checked/unit_*.o
