SRCS_fuzz_hcl := $(addprefix ../../gateway/provisioner/,template.c $(notdir $(wildcard ../../gateway/provisioner/hcl_*.c)) provider.c initscript.c archive.c)
LIBS_fuzz_hcl := -ljansson -larchive -lpcre2-8 -lcrypto -lm
