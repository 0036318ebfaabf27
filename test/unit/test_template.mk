SRCS_test_template := $(addprefix ../../gateway/provisioner/,$(notdir $(wildcard ../../gateway/provisioner/hcl_*.c)) provider.c initscript.c archive.c)
LIBS_test_template := -ljansson -larchive -lpcre2-8 -lcrypto -lm
