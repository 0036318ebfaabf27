LIBS_test_boundary_proxy := -lhttp_parser -lyaml
