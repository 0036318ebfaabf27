LIBS_test_gateway_reply = -lh2o-evloop -lpq -lssl -lcrypto
CFLAGS_test_gateway_reply = -isystem $(shell pg_config --includedir)
