SRCS_test_pbjson := ../../agent/wire/proto/agent.pb-c.c ../../agent/wire/proto/tailnet.pb-c.c ../../agent/wire/proto/wellknown.pb-c.c
CFLAGS_test_pbjson := -isystem ../../agent/wire/proto -Wno-unused-parameter -Wno-missing-braces
LIBS_test_pbjson := -lprotobuf-c -ljansson -lm
