LIBS_test_proxy = -lhttp_parser
