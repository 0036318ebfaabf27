LIBS_test_wire := -lsodium
