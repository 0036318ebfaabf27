SRCS_test_boundary := ../../agent/wire/proto/agent.pb-c.c ../../agent/wire/proto/boundary.pb-c.c ../../agent/wire/proto/tailnet.pb-c.c ../../agent/wire/proto/wellknown.pb-c.c
CFLAGS_test_boundary := -isystem ../../agent/wire/proto -Wno-unused-parameter -Wno-missing-braces
LIBS_test_boundary := -lprotobuf-c
