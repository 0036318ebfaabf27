LIBS_test_outbound = -ljansson -lsodium
