LIBS_fuzz_outbound = -ljansson -lsodium
