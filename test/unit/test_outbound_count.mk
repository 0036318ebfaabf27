LIBS_test_outbound_count = -ljansson
