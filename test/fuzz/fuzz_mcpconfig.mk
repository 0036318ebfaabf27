SRCS_fuzz_mcpconfig = ../../agent/serve/mcpconfig.c
LIBS_fuzz_mcpconfig = -ljansson
