SRCS_fuzz_context = ../../agent/serve/context.c ../../agent/serve/gitdiff.c ../../agent/serve/edit.c
LIBS_fuzz_context = -lyaml -ljansson
