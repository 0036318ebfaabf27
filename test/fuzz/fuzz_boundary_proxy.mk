LIBS_fuzz_boundary_proxy := -lhttp_parser -lyaml
