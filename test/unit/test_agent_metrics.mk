CFLAGS_test_agent_metrics = -isystem ../../agent/wire/proto
LIBS_test_agent_metrics = -lprotobuf-c -lpthread -ljansson
