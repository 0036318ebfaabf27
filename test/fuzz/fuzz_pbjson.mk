SRCS_fuzz_pbjson := ../../agent/wire/proto/agent.pb-c.c ../../agent/wire/proto/tailnet.pb-c.c ../../agent/wire/proto/wellknown.pb-c.c
CFLAGS_fuzz_pbjson := -isystem ../../agent/wire/proto -Wno-unused-parameter
LIBS_fuzz_pbjson := -lprotobuf-c -ljansson -lm
