LIBS_fuzz_pty := -ljansson
