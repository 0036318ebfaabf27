LIBS_fuzz_proxy = -lhttp_parser
