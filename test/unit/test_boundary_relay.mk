SRCS_test_boundary_relay := ../../agent/boundary/frame.c ../../agent/wire/proto/agent.pb-c.c ../../agent/wire/proto/boundary.pb-c.c ../../agent/wire/proto/tailnet.pb-c.c ../../agent/wire/proto/wellknown.pb-c.c
CFLAGS_test_boundary_relay := -isystem ../../agent/wire/proto -Wno-unused-parameter -Wno-missing-braces
LIBS_test_boundary_relay := -lprotobuf-c -lsodium -lpthread
