SRCS_test_coordinator := ../../agent/wire/proto/tailnet.pb-c.c ../../agent/wire/proto/wellknown.pb-c.c
CFLAGS_test_coordinator := -isystem ../../agent/wire/proto -Wno-unused-parameter
LIBS_test_coordinator := -lprotobuf-c -lpthread
