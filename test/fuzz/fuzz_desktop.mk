SRCS_fuzz_desktop = $(addprefix ../../agent/serve/,rfb.c deskaction.c keysym.c)
LIBS_fuzz_desktop = -ljansson
